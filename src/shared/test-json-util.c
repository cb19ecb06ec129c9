/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static int parse(const char *text, json_object **ret, KError *reterr) {
        return json_parse(text, strlen(text), 1000, ret, reterr);
}

static size_t erased;
void __real_erase_memory(void *p, size_t n);
void __wrap_erase_memory(void *p, size_t n);

void __wrap_erase_memory(void *p, size_t n) {
        erased += n;
        __real_erase_memory(p, n);
}

static void test_parse_takes_one_whole_text(void **state) {
        static const struct {
                const char *text;
                bool good;
        } table[] = {
                { "{\"a\":1}", true },
                { " [1, 2] \n", true },
                { "\"x\"", true },
                { "17", true },
                { "", false },
                { "{\"a\":1", false },
                { "{\"a\":1} x", false },
                { "{\"a\":1,}", false },
                { "[1] [2]", false },
                { "{\"a\":\"\xff\"}", false },
                { "nul", false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *o = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;
                int r = parse(t->text, &o, &e);

                if ((r >= 0) != t->good)
                        fail_msg("'%s': %i %s", t->text, r, kerror_message(&e));
                ASSERT_EQ(kerror_is_set(&e), !t->good);
        }
}

static void test_parse_bounds_size_and_depth(void **state) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        char deep[JSON_DEPTH_MAX * 2 + 10];

        memset(deep, '[', JSON_DEPTH_MAX + 2);
        memset(deep + JSON_DEPTH_MAX + 2, ']', JSON_DEPTH_MAX + 2);
        ASSERT_ERROR(json_parse(deep, JSON_DEPTH_MAX * 2 + 4, 1000, &o, &e), EINVAL);
        ASSERT_STREQ(e.message, "JSON text is nested deeper than 32 levels.");
        ASSERT_ERROR(json_parse(deep + 1, JSON_DEPTH_MAX * 2 + 2, 1000, &o, NULL), EINVAL);
        ASSERT_OK(json_parse(deep + 2, JSON_DEPTH_MAX * 2, 1000, &o, NULL));
        o = json_object_put(o) == 1 ? NULL : o;
        kerror_done(&e);
        ASSERT_ERROR(json_parse("[1,2,3]", 7, 6, &o, &e), E2BIG);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
}

static void test_parse_refuses_what_has_two_meanings(void **state) {
        static const struct {
                const char *text, *message;
        } table[] = {
                { "{\"a\":1,\"a\":2}", "JSON text names a field twice in one object." },
                { "[{\"b\":{\"a\":null,\"\\u0061\":null}}]",
                                "JSON text names a field twice in one object." },
                { "{\"n\":[1e999]}", "JSON text has a number that is out of range." },
        };
        _cleanup_json_ json_object *o = NULL;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;

                ASSERT_ERROR(parse(t->text, &o, &e), EINVAL);
                ASSERT_STREQ(e.message, t->message);
        }
        ASSERT_OK(parse("[{\"a\":{\"a\":1}},{\"a\":2}]", &o, NULL));
}

static void test_fields_name_themselves_in_errors(void **state) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_strv_free_ char **l = NULL;
        const char *s = "untouched";
        uint64_t u = 5;

        ASSERT_OK(parse("{\"count\":\"three\",\"n\":-1,\"nothing\":null,\"nul\":\"a\\u0000b\","
                        "\"list\":[\"a\\u0000b\"]}",
                        &o, NULL));
        ASSERT_ERROR(json_find_u64(o, "count", &u, &e), EINVAL);
        ASSERT_STREQ(e.message, "'count' must be a whole number.");
        kerror_done(&e);
        ASSERT_ERROR(json_find_u64(o, "n", &u, &e), EINVAL);
        ASSERT_STREQ(e.message, "'n' must not be negative.");
        kerror_done(&e);
        ASSERT_ERROR(json_get_string(o, "nothing", &s, &e), EINVAL);
        ASSERT_STREQ(e.message, "'nothing' is missing.");
        kerror_done(&e);
        ASSERT_ERROR(json_find_string(o, "nul", &s, &e), EINVAL);
        kerror_done(&e);
        ASSERT_ERROR(json_find_strv(o, "list", &l, &e), EINVAL);
        ASSERT_STREQ(e.message, "'list' has a NUL byte in it.");
        ASSERT_EQ(json_find_string(o, "nothing", &s, NULL), 0);
        ASSERT_STREQ(s, "untouched");
        ASSERT_EQ(u, 5);
}

static void test_kept_text_is_what_others_contain(void **state) {
        static const char text[] = "{\"a\":[1,\"x/\\n\\u0001\"],\"b\":{}}";
        _cleanup_json_ json_object *part = NULL, *whole = NULL, *again = NULL;

        ASSERT_OK(parse(text, &part, NULL));
        ASSERT_OK(json_keep_text(part));
        ASSERT_STREQ(json_text(part), text);
        ASSERT_OK(json_keep_text(part)); /* twice does no harm */

        whole = json_object_new_object();
        ASSERT_TRUE(whole);
        ASSERT_OK(json_add_string(whole, "first", "y"));
        ASSERT_OK(json_add(whole, "part", json_object_get(part)));
        ASSERT_OK(json_add(whole, "same", json_object_get(part)));
        ASSERT_OK(parse(json_text(whole), &again, NULL));
        ASSERT_STREQ(json_text(json_object_object_get(again, "part")), text);
        ASSERT_STREQ(json_text(json_object_object_get(again, "same")), text);
        ASSERT_EQ(json_object_array_length(json_object_object_get(part, "a")), 2); /* can be read as ever */
}

/* Who has a string keeps it, however often it was marked and whatever became of the others. */
static void test_erased_strings_are_whole_while_somebody_has_them(void **state) {
        const char *text = "{\"a\":\"secret\",\"l\":[\"b\",null,{\"c\":\"d\"}],\"n\":1}";
        json_object *o = NULL, *copy = NULL, *a;

        ASSERT_OK(json_parse(text, strlen(text), 1024, &o, NULL));
        json_erase_strings(o);
        ASSERT_STREQ(json_text(o), text);
        json_erase_strings(o);
        ASSERT_STREQ(json_text(o), text);

        ASSERT_OK(json_copy(o, &copy));
        ASSERT_TRUE(json_object_object_get_ex(o, "a", &a));
        json_object_get(a);
        json_object_put(o);
        ASSERT_STREQ(json_text(copy), text);
        ASSERT_STREQ(json_object_get_string(a), "secret");
        erased = 0;
        json_object_put(a);
        ASSERT_EQ(erased, 6);
        json_object_put(copy);
        ASSERT_EQ(erased, 6 + 6 + 1 + 1);
        json_erase_strings(NULL);
}

KONTENA_TESTS(cmocka_unit_test(test_parse_takes_one_whole_text),
                cmocka_unit_test(test_parse_bounds_size_and_depth),
                cmocka_unit_test(test_parse_refuses_what_has_two_meanings),
                cmocka_unit_test(test_fields_name_themselves_in_errors),
                cmocka_unit_test(test_kept_text_is_what_others_contain),
                cmocka_unit_test(test_erased_strings_are_whole_while_somebody_has_them))
