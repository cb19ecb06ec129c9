/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static void test_text_width(void **state) {
        static const struct {
                const char *text;
                size_t width;
        } table[] = {
                { "", 0 }, { "abc", 3 }, { "äöü", 3 }, { "a\xcc\x88", 1 }, /* a and a combining diaeresis */
                { "日本", 4 }, { "●", 1 }, { "\xff\xfe", 2 },              /* not UTF-8 */
                { "a\xe2\x82", 3 },                                        /* cut off */
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                ASSERT_EQ(text_width(t->text), t->width);
}

static void test_text_ellipsize(void **state) {
        static const struct {
                const char *text;
                size_t width;
                const char *result;
        } table[] = {
                { "abcdef", 6, "abcdef" },
                { "abcdef", 5, "abcd…" },
                { "abcdef", 1, "…" },
                { "abcdef", 0, "" },
                { "日本語", 5, "日本…" },
                { "日本語", 4, "日…" },
                { "", 0, "" },
        };

        terminal_set_utf8(true);
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *s = text_ellipsize(t->text, t->width);

                ASSERT_STREQ(s, t->result);
                ASSERT_TRUE(text_width(s) <= t->width);
        }
}

static void test_text_ellipsize_without_utf8(void **state) {
        _cleanup_free_ char *a = NULL, *b = NULL;

        terminal_set_utf8(false);
        a = text_ellipsize("abcdef", 5);
        b = text_ellipsize("abcdef", 2);
        ASSERT_STREQ(a, "ab...");
        ASSERT_STREQ(b, "..");
}

static void test_text_escape(void **state) {
        static const struct {
                const char *text, *line, *lines;
        } table[] = {
                { "plain ä 日", "plain ä 日", "plain ä 日" },
                { "\033[31m", "\\x1b[31m", "\\x1b[31m" },
                { "a\tb\rc", "a b\\x0dc", "a b\\x0dc" },
                { "a\nb", "a\\x0ab", "a\nb" },
                { "\xc2\x9b"
                  "31m",
                                "\\x9b31m", "\\x9b31m" }, /* CSI as one C1 character */
                { "\xe2\x80\xae"
                  "gpj",
                                "\\u202egpj", "\\u202egpj" }, /* right-to-left override */
                { "\xff\x7f", "\\xff\\x7f", "\\xff\\x7f" },
                { "\xed\xa0\x80", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80" }, /* a surrogate */
                { "\xc0\x9b", "\\xc0\\x9b", "\\xc0\\x9b" },               /* ESC, overlong */
                { "\xe2\x82", "\\xe2\\x82", "\\xe2\\x82" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *line = text_escape(t->text, false), *lines = text_escape(t->text, true);

                ASSERT_STREQ(line, t->line);
                ASSERT_STREQ(lines, t->lines);
        }
}

static void test_text_escaper_is_cut_anywhere(void **state) {
        static const char text[] = "plain \xc3\xa4 \xe6\x97\xa5 \xf0\x9f\x98\x80\n\033[31m a\tb\rc \xc2\x9b "
                                   "\xe2\x80\xae \xff\x7f "
                                   "\xed\xa0\x80 \xc0\x9b \xe2\x82 \xf0\x9f\x98 \xe2\x82\xe2\x82\xac "
                                   "\xf0\x9f\xc3\xa4\n\xe2\x82";
        _cleanup_free_ char *whole = text_escape(text, true);
        char escaped[TEXT_ESCAPED_SIZE(sizeof(text))];

        for (size_t a = 0; a < sizeof(text); a++)
                for (size_t b = a; b < sizeof(text); b++) {
                        TextEscaper e = {};
                        size_t n = 0;

                        n += text_escaper_feed(&e, text, a, escaped + n);
                        n += text_escaper_feed(&e, text + a, b - a, escaped + n);
                        n += text_escaper_feed(&e, text + b, sizeof(text) - 1 - b, escaped + n);
                        n += text_escaper_end(&e, escaped + n);
                        escaped[n] = '\0';
                        ASSERT_STREQ(escaped, whole);
                        ASSERT_EQ(text_escaper_end(&e, escaped), 0);
                }
}

static void test_text_escaper_takes_nul(void **state) {
        TextEscaper e = {};
        char escaped[TEXT_ESCAPED_SIZE(8)];
        size_t n;

        n = text_escaper_feed(&e, "a\0b\xe2\0\xf0", 6, escaped);
        ASSERT_EQ(n, strlen("a\\x00b\\xe2\\x00"));
        ASSERT_TRUE(memcmp(escaped, "a\\x00b\\xe2\\x00", n) == 0);
        n = text_escaper_end(&e, escaped);
        ASSERT_TRUE(n == 4 && memcmp(escaped, "\\xf0", 4) == 0);
}

static void test_colors_off_print_nothing(void **state) {
        terminal_set_colors(false);
        for (Color c = 0; c < _COLOR_MAX; c++) {
                ASSERT_STREQ(color_on(c), "");
                ASSERT_STREQ(color_off(c), "");
        }

        terminal_set_colors(true);
        ASSERT_STREQ(color_on(COLOR_NONE), "");
        for (Color c = COLOR_NONE + 1; c < _COLOR_MAX; c++) {
                ASSERT_EQ(color_on(c)[0], '\033');
                ASSERT_STREQ(color_off(c), "\033[0m");
        }
}

static void test_a_terminal_is_put_back(void **state) {
        _cleanup_close_ int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave = -EBADF;
        struct winsize size = { .ws_row = 31, .ws_col = 97 };
        struct termios before, raw, after;
        unsigned rows, columns;

        ASSERT_TRUE(master >= 0 && grantpt(master) >= 0 && unlockpt(master) >= 0);
        slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
        ASSERT_TRUE(slave >= 0 && ioctl(slave, TIOCSWINSZ, &size) >= 0);
        ASSERT_OK(terminal_size(slave, &rows, &columns));
        ASSERT_EQ(rows, 31);
        ASSERT_EQ(columns, 97);

        ASSERT_TRUE(tcgetattr(slave, &before) >= 0);
        ASSERT_OK(terminal_raw(slave));
        ASSERT_OK(terminal_raw(slave)); /* what is put back is what was, not what we made */
        ASSERT_TRUE(tcgetattr(slave, &raw) >= 0);
        ASSERT_FALSE(raw.c_lflag & (ICANON | ECHO | ISIG));
        terminal_raw_end();
        ASSERT_TRUE(tcgetattr(slave, &after) >= 0);
        ASSERT_EQ(after.c_lflag, before.c_lflag);
        ASSERT_EQ(after.c_iflag, before.c_iflag);
        terminal_raw_end();

        ASSERT_ERROR(terminal_raw(-EBADF), EBADF);
        ASSERT_ERROR(terminal_size(-EBADF, &rows, &columns), EBADF);
}

KONTENA_TESTS(cmocka_unit_test(test_text_width), cmocka_unit_test(test_text_ellipsize),
                cmocka_unit_test(test_text_ellipsize_without_utf8), cmocka_unit_test(test_text_escape),
                cmocka_unit_test(test_text_escaper_is_cut_anywhere),
                cmocka_unit_test(test_text_escaper_takes_nul),
                cmocka_unit_test(test_colors_off_print_nothing),
                cmocka_unit_test(test_a_terminal_is_put_back))
