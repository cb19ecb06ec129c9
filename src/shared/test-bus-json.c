/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include "bus-json.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

/* A message needs a connection, not one that is connected to anything. */
static sd_bus_message *message(void) {
        static sd_bus *bus;
        sd_bus_message *m;

        if (!bus) {
                ASSERT_OK(sd_bus_new(&bus));
                ASSERT_OK(sd_bus_set_address(bus, "unix:path=/nowhere"));
                (void) sd_bus_start(bus);
        }
        ASSERT_OK(sd_bus_message_new_signal(bus, &m, "/a", "b.c", "D"));
        return m;
}

static void seal(sd_bus_message *m) {
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        ASSERT_OK(sd_bus_message_rewind(m, true));
}

static json_object *parse(const char *text) {
        json_object *o;

        ASSERT_OK(json_parse(text, strlen(text), 1024 * 1024, &o, NULL));
        return o;
}

static void test_values_come_back(void **state) {
        static const struct {
                const char *type, *text;
        } table[] = {
                { "a{sv}", "{\"image\":\"nginx\",\"count\":3,\"stateful\":false,\"min_health\":0.5}" },
                { "a{sv}", "{\"env\":[\"A=1\",\"B=\"],\"ports\":[{\"node_port\":80},{\"node_port\":81}],"
                           "\"links\":[]}" },
                { "a{sv}", "{\"reset\":null,\"mixed\":[1,\"a\",null,[true]]}" },
                { "a{sv}", "{\"least\":-9223372036854775808,\"most\":18446744073709551615}" },
                { "aa{sv}", "[{\"a\":1},{}]" },
                { "as", "[\"x\",\"\"]" },
                { "(usv)", "[7,\"x\",{\"deep\":{\"er\":1}}]" },
                { "a{sas}", "{\"k\":[\"v\"]}" },
                { "o", "\"/io/kontena\"" },
                { "x", "-5" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();
                _cleanup_json_ json_object *o = parse(t->text), *back = NULL;

                ASSERT_OK(bus_json_append(m, t->type, o, NULL));
                seal(m);
                ASSERT_STREQ(sd_bus_message_get_signature(m, true), t->type);
                ASSERT_OK(bus_json_read(m, &back, NULL));
                ASSERT_STREQ(json_text(back), json_text(o));
        }
}

static void test_integers_of_any_width_are_read(void **state) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();

        ASSERT_OK(sd_bus_message_append(
                        m, "ynqiuxt", 255, -3, 65535, -70000, 4294967295U, INT64_MIN, UINT64_MAX));
        seal(m);
        for (size_t i = 0; i < 7; i++) {
                static const char *const texts[] = { "255", "-3", "65535", "-70000", "4294967295",
                        "-9223372036854775808", "18446744073709551615" };
                _cleanup_json_ json_object *o = NULL;

                ASSERT_OK(bus_json_read(m, &o, NULL));
                ASSERT_STREQ(json_text(o), texts[i]);
        }
        ASSERT_ERROR(bus_json_read(m, &(json_object *){ NULL }, NULL), ENXIO);
}

static void test_numbers_out_of_range_are_refused(void **state) {
        static const struct {
                const char *type, *text;
        } table[] = {
                { "y", "256" },
                { "y", "-1" },
                { "n", "32768" },
                { "q", "65536" },
                { "i", "2147483648" },
                { "u", "-1" },
                { "u", "4294967296" },
                { "x", "9223372036854775808" },
                { "t", "-1" },
                { "u", "1.5" },
                { "u", "\"1\"" },
                { "b", "1" },
                { "s", "1" },
                { "s", "null" },
                { "o", "\"no path\"" },
                { "as", "[1]" },
                { "as", "{}" },
                { "a{sv}", "[]" },
                { "(ss)", "[\"a\"]" },
                { "(ss)", "[\"a\",\"b\",\"c\"]" },
                { "g", "\"s\"" },
                { "s", "\"a\\u0000b\"" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();
                _cleanup_json_ json_object *o = parse(t->text);
                _cleanup_kerror_ KError e = KERROR_NULL;

                if (bus_json_append(m, t->type, o, &e) >= 0 || e.code != K_INVALID_ARGUMENT)
                        fail_msg("%s as '%s' was taken", t->text, t->type);
        }
}

static void test_types_that_json_lacks_are_refused(void **state) {
        static const struct {
                const char *type;
                double d;
        } table[] = { { "d", __builtin_inf() }, { "g", 0 }, { "a{us}", 0 } };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();
                _cleanup_json_ json_object *o = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;

                if (streq(t->type, "d"))
                        ASSERT_OK(sd_bus_message_append(m, "d", t->d));
                else if (streq(t->type, "g"))
                        ASSERT_OK(sd_bus_message_append(m, "g", "ss"));
                else
                        ASSERT_OK(sd_bus_message_append(m, "a{us}", 1, 7U, "x"));
                seal(m);
                ASSERT_TRUE(bus_json_read(m, &o, &e) < 0);
                ASSERT_EQ(e.code, K_INVALID_ARGUMENT);
        }
}

static void test_key_given_twice_is_refused(void **state) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(sd_bus_message_append(m, "a{sv}", 2, "count", "u", 1U, "count", "u", 2U));
        seal(m);
        ASSERT_TRUE(bus_json_read(m, &o, &e) < 0);
        ASSERT_TRUE(strstr(kerror_message(&e), "'count' is given twice") != NULL);
}

static void test_depth_is_bounded(void **state) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();
        _cleanup_json_ json_object *o = json_object_new_string("core"), *back = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        /* Sender's side: an av in a variant takes two levels. */
        for (unsigned i = 0; i < JSON_DEPTH_MAX; i++) {
                json_object *outer = json_object_new_array();

                ASSERT_OK(json_append(outer, o));
                o = outer;
        }
        ASSERT_TRUE(bus_json_append(m, "v", o, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        kerror_done(&e);

        /* Reader's side, from somebody who counts differently. */
        m = sd_bus_message_unref(m);
        m = message();
        for (unsigned i = 0; i <= JSON_DEPTH_MAX; i++)
                ASSERT_OK(sd_bus_message_open_container(m, 'v', i < JSON_DEPTH_MAX ? "v" : "s"));
        ASSERT_OK(sd_bus_message_append(m, "s", "core"));
        for (unsigned i = 0; i <= JSON_DEPTH_MAX; i++)
                ASSERT_OK(sd_bus_message_close_container(m));
        seal(m);
        ASSERT_TRUE(bus_json_read(m, &back, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
}

static void test_number_of_values_is_bounded(void **state) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = message();
        _cleanup_json_ json_object *back = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ uint8_t *bytes = calloc(1, BUS_JSON_VALUES_MAX + 1);

        ASSERT_OK(sd_bus_message_append_array(m, 'y', bytes, BUS_JSON_VALUES_MAX + 1));
        seal(m);
        ASSERT_TRUE(bus_json_read(m, &back, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
}

static void test_signatures_are_split(void **state) {
        ASSERT_EQ(bus_signature_element("s"), 1);
        ASSERT_EQ(bus_signature_element("a{sv}s"), 5);
        ASSERT_EQ(bus_signature_element("aa{s(uv)}b"), 9);
        ASSERT_EQ(bus_signature_element("a(ussss)b"), 8);
        ASSERT_ERROR(bus_signature_element(""), EINVAL);
        ASSERT_ERROR(bus_signature_element("a"), EINVAL);
        ASSERT_ERROR(bus_signature_element("a{s"), EINVAL);
        ASSERT_ERROR(bus_signature_element("z"), EINVAL);
}

KONTENA_TESTS(cmocka_unit_test(test_values_come_back), cmocka_unit_test(test_integers_of_any_width_are_read),
                cmocka_unit_test(test_numbers_out_of_range_are_refused),
                cmocka_unit_test(test_types_that_json_lacks_are_refused),
                cmocka_unit_test(test_key_given_twice_is_refused), cmocka_unit_test(test_depth_is_bounded),
                cmocka_unit_test(test_number_of_values_is_bounded),
                cmocka_unit_test(test_signatures_are_split))
