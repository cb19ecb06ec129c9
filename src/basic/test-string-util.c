/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "string-util.h"
#include "test.h"

static void test_prefix_and_suffix(void **state) {
        ASSERT_STREQ(startswith("kontena-web", "kontena-"), "web");
        assert_null(startswith("kon", "kontena"));
        ASSERT_STREQ(endswith("web.service", ".service"), ".service");
        assert_null(endswith("ice", ".service"));
}

static void test_utf8_refuses_what_rfc3629_refuses(void **state) {
        static const struct {
                const char *text;
                bool valid;
        } table[] = {
                { "plain", true },
                { "\xc3\xa4", true },     /* ä */
                { "\xe2\x82\xac", true }, /* € */
                { "\xf0\x9f\x90\xb3", true },
                { "\xc0\xaf", false }, /* overlong '/' */
                { "\xe0\x80\xaf", false },
                { "\xed\xa0\x80", false },     /* surrogate */
                { "\xf4\x90\x80\x80", false }, /* above U+10FFFF */
                { "\xc3", false },             /* cut off */
                { "\x80", false },
                { "\xff", false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                ASSERT_EQ(utf8_is_valid(t->text, strlen(t->text)), t->valid);
}

static void test_printable_refuses_control_characters(void **state) {
        ASSERT_TRUE(string_is_printable("web über 1"));
        ASSERT_FALSE(string_is_printable("web\n"));
        ASSERT_FALSE(string_is_printable("\x1b[2J"));
        ASSERT_FALSE(string_is_printable("\x7f"));
}

static void test_hex_round_trip(void **state) {
        static const uint8_t bytes[] = { 0x00, 0x7f, 0xff };
        _cleanup_free_ char *s = hexmem(bytes, sizeof(bytes));
        uint8_t back[3];

        ASSERT_STREQ(s, "007fff");
        ASSERT_OK(unhexmem(s, back, sizeof(back)));
        assert_memory_equal(bytes, back, sizeof(back));
        ASSERT_ERROR(unhexmem("007f", back, sizeof(back)), EINVAL);
        ASSERT_ERROR(unhexmem("007fzz", back, sizeof(back)), EINVAL);
}

/* The vectors of RFC 4648 section 10, lower case and without padding. */
static void test_base32_vectors(void **state) {
        static const char *const vectors[][2] = {
                { "", "" },
                { "f", "my" },
                { "fo", "mzxq" },
                { "foo", "mzxw6" },
                { "foob", "mzxw6yq" },
                { "fooba", "mzxw6ytb" },
                { "foobar", "mzxw6ytboi" },
        };

        for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
                _cleanup_free_ char *s = base32mem(vectors[i][0], strlen(vectors[i][0]));

                ASSERT_STREQ(s, vectors[i][1]);
        }
}

static void test_split_drops_empty_parts(void **state) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *joined = NULL;

        ASSERT_OK(strv_split(",a,,b c,", ",", &l));
        ASSERT_EQ(strv_length(l), 2);
        ASSERT_TRUE(strv_contains(l, "b c"));
        joined = strv_join(l, "/");
        ASSERT_STREQ(joined, "a/b c");
}

static void test_free_and_strdup_tells_change(void **state) {
        _cleanup_free_ char *s = NULL;

        ASSERT_EQ(free_and_strdup(&s, "a"), 1);
        ASSERT_EQ(free_and_strdup(&s, "a"), 0);
        ASSERT_EQ(free_and_strdup(&s, NULL), 1);
        assert_null(s);
}

static void test_utf8_is_repaired(void **state) {
        static const char *const cases[][2] = {
                { "", "" },
                { "plain", "plain" },
                { "\303\244\342\202\254\360\237\230\200", "\303\244\342\202\254\360\237\230\200" },
                { "cut \342\202", "cut ??" },
                { "\344 latin", "? latin" },
                { "\355\240\200x", "???x" },
                { "\303\303\244", "?\303\244" },
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *s = strdup((*c)[0]);

                ASSERT_STREQ(utf8_repair(s), (*c)[1]);
        }
        ASSERT_TRUE(utf8_repair(NULL) == NULL);
}

KONTENA_TESTS(cmocka_unit_test(test_prefix_and_suffix),
                cmocka_unit_test(test_utf8_refuses_what_rfc3629_refuses),
                cmocka_unit_test(test_utf8_is_repaired),
                cmocka_unit_test(test_printable_refuses_control_characters),
                cmocka_unit_test(test_hex_round_trip), cmocka_unit_test(test_base32_vectors),
                cmocka_unit_test(test_split_drops_empty_parts),
                cmocka_unit_test(test_free_and_strdup_tells_change))
