/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "json-check.h"
#include "test.h"

static void test_json_to_the_letter(void **state) {
        static const struct {
                const char *text;
                size_t fields;
        } table[] = {
                { "{}", 0 },
                { " {\t\"a\" : 1 ,\r\n\"b\":{\"c\":[]} } ", 3 },
                { "[]", 0 },
                { "[ [ ] , 1 ]", 0 },
                { "\"\"", 0 },
                { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83d\\uDe00\\u0000\xc3\xa9\x7f\"", 0 },
                { "0", 0 },
                { "-0", 0 },
                { "-1.5e+10", 0 },
                { "0.0E-0", 0 },
                { "18446744073709551615", 0 },
                { "-9223372036854775808", 0 },
                { "99999999999999999999.0", 0 },
                { "true", 0 },
                { "[false,null]", 0 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                size_t n = 99;

                if (json_check(t->text, strlen(t->text), 3, &n, &e) < 0 || n != t->fields)
                        fail_msg("'%s': %zu fields, %s", t->text, n, kerror_message(&e));
        }
}

static void test_what_is_no_json_is_said_with_its_place(void **state) {
        static const struct {
                const char *text, *message;
        } table[] = {
                { "", "at byte 0: a value was expected" },
                { "  ", "at byte 2: a value was expected" },
                { "{'a':1}", "at byte 1: the name of a field was expected, in double quotes" },
                { "{\"a\":'b'}", "at byte 5: a value was expected" },
                { "{a:1}", "at byte 1: the name" },
                { "{1:1}", "at byte 1: the name" },
                { "{\"a\"}", "at byte 4: ':' was expected" },
                { "{\"a\":}", "at byte 5: a value was expected" },
                { "{\"a\":1,}", "at byte 7: the name" },
                { "{\"a\":1 \"b\":2}", "at byte 7: ',' or '}' was expected" },
                { "{\"a\":1]", "at byte 6: ',' or '}' was expected" },
                { "{\"a\":1", "at byte 6: ',' or '}' was expected" },
                { "[1,]", "at byte 3: a value was expected" },
                { "[,1]", "at byte 1: a value was expected" },
                { "[1 2]", "at byte 3: ',' or ']' was expected" },
                { "[1", "at byte 2: ',' or ']' was expected" },
                { "]", "at byte 0: a value was expected" },
                { "NaN", "at byte 0: a value was expected" },
                { "Infinity", "at byte 0: a value was expected" },
                { "-Infinity", "at byte 1: a digit was expected" },
                { "[nan]", "at byte 1: a value was expected" },
                { "True", "at byte 0: a value was expected" },
                { "nul", "at byte 0: a value was expected" },
                { "truex", "something behind its end at byte 4" },
                { "{} {}", "something behind its end at byte 3" },
                { "1 /* one */", "something behind its end at byte 2" },
                { "[//\n1]", "at byte 1: a value was expected" },
                { "\v1", "at byte 0: a value was expected" },
                { "+1", "at byte 0: a value was expected" },
                { ".5", "at byte 0: a value was expected" },
                { "01", "at byte 2: a number begins with 0" },
                { "-", "at byte 1: a digit was expected" },
                { "1.", "at byte 2: a digit was expected" },
                { "1e", "at byte 2: a digit was expected" },
                { "1e+", "at byte 3: a digit was expected" },
                { "0x10", "something behind its end at byte 1" },
                { "18446744073709551616", "a whole number has more than 64 bits" },
                { "-9223372036854775809", "a whole number has more than 64 bits" },
                { "100000000000000000000", "a whole number has more than 64 bits" },
                { "\"a", "at byte 2: a string has no end" },
                { "\"a\\", "at byte 3: no such escape" },
                { "\"a\nb\"", "at byte 2: a control character in a string" },
                { "\"\\x41\"", "at byte 2: no such escape" },
                { "\"\\'\"", "at byte 2: no such escape" },
                { "\"\\u12", "at byte 5: four hexadecimal digits were expected" },
                { "\"\\u12g4\"", "at byte 5: four hexadecimal digits were expected" },
                { "\"\\ud800\"", "half of a surrogate pair" },
                { "\"\\ud800\\u0041\"", "half of a surrogate pair" },
                { "\"\\udc00\"", "half of a surrogate pair" },
                { "{\"a\\u0000b\":1}", "the name of a field has a NUL in it" },
                { "\"\xc0\xaf\"", "not valid UTF-8" },
                { "\"\xed\xa0\x80\"", "not valid UTF-8" },
                { "\xef\xbb\xbf{}", "at byte 0: a value was expected" },
                { "[[[[]]]]", "nested deeper than 3 levels" },
                { "[[[{}]]]", "nested deeper than 3 levels" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                size_t n = 99;
                int r = json_check(t->text, strlen(t->text), 3, &n, &e);

                if (r != -EINVAL || n != 99 || !strstr(kerror_message(&e), t->message))
                        fail_msg("'%s': %i, '%s'", t->text, r, kerror_message(&e));
        }
}

static void test_no_byte_behind_the_text_is_read(void **state) {
        static const char *const table[] = { "{\"a\":true", "[1,\"\\ud83d\\ude00\"", "[-1.5e", "\"abc\\",
                "nul" };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                for (size_t n = 0; n <= strlen(*t); n++) {
                        _cleanup_free_ char *exact = malloc(MAX(n, 1U));
                        size_t fields;

                        assert_non_null(exact);
                        memcpy(exact, *t, n);
                        ASSERT_ERROR(json_check(exact, n, 3, &fields, NULL), EINVAL);
                }
}

KONTENA_TESTS(cmocka_unit_test(test_json_to_the_letter),
                cmocka_unit_test(test_what_is_no_json_is_said_with_its_place),
                cmocka_unit_test(test_no_byte_behind_the_text_is_read))
