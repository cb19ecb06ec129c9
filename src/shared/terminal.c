/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "terminal.h"

#include <langinfo.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "parse-util.h"
#include "string-util.h"

static int cached_colors = -1, cached_utf8 = -1;
static int raw_fd = -EBADF;
static struct termios raw_before;

static const char *const color_table[_COLOR_MAX] = {
        [COLOR_NONE] = "",
        [COLOR_BOLD] = "\033[0;1;39m",
        [COLOR_DIM] = "\033[0;2;39m",
        [COLOR_RED] = "\033[0;1;31m",
        [COLOR_GREEN] = "\033[0;1;32m",
        [COLOR_YELLOW] = "\033[0;1;33m",
        [COLOR_BLUE] = "\033[0;1;34m",
        [COLOR_MAGENTA] = "\033[0;1;35m",
        [COLOR_CYAN] = "\033[0;1;36m",
};

static const struct {
        const char *utf8, *ascii;
} glyph_table[_GLYPH_MAX] = {
        [GLYPH_DOT] = { "●", "*" },
        [GLYPH_CIRCLE] = { "○", "o" },
        [GLYPH_CROSS] = { "×", "x" },
        [GLYPH_ELLIPSIS] = { "…", "..." },
        [GLYPH_ARROW] = { "→", "->" },
        [GLYPH_BRANCH] = { "├─", "|-" },
        [GLYPH_LAST] = { "└─", "`-" },
};

bool terminal_on(FILE *f) {
        const char *term = getenv("TERM");

        return isatty(fileno(f)) > 0 && !isempty(term) && !streq(term, "dumb");
}

bool terminal_colors(void) {
        if (cached_colors < 0) {
                const char *e = getenv("SYSTEMD_COLORS");

                cached_colors = isempty(e) ? -1 : parse_boolean(e);
                if (cached_colors < 0)
                        cached_colors = isempty(getenv("NO_COLOR")) && terminal_on(stdout);
        }

        return cached_colors > 0;
}

void terminal_set_colors(bool on) {
        cached_colors = on;
}

bool terminal_utf8(void) {
        if (cached_utf8 < 0)
                cached_utf8 = streq(strempty(nl_langinfo(CODESET)), "UTF-8");

        return cached_utf8 > 0;
}

void terminal_set_utf8(bool on) {
        cached_utf8 = on;
}

const char *color_on(Color c) {
        return terminal_colors() && c > COLOR_NONE && c < _COLOR_MAX ? color_table[c] : "";
}

const char *color_off(Color c) {
        return terminal_colors() && c > COLOR_NONE && c < _COLOR_MAX ? "\033[0m" : "";
}

const char *glyph(Glyph g) {
        assert(g < _GLYPH_MAX);

        return terminal_utf8() ? glyph_table[g].utf8 : glyph_table[g].ascii;
}

static unsigned terminal_dimension(const char *variable, bool columns, unsigned fallback) {
        struct winsize w = {};
        const char *e = getenv(variable);
        unsigned n;

        if (e && safe_atou(e, &n) >= 0 && n > 0 && n < 10000)
                return n;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
                return fallback;

        n = columns ? w.ws_col : w.ws_row;
        return n > 0 ? n : fallback;
}

unsigned terminal_columns(void) {
        return terminal_dimension("COLUMNS", true, 80);
}

unsigned terminal_rows(void) {
        return terminal_dimension("LINES", false, 24);
}

int terminal_size(int fd, unsigned *ret_rows, unsigned *ret_columns) {
        struct winsize w;

        if (ioctl(fd, TIOCGWINSZ, &w) < 0)
                return -errno;
        *ret_rows = w.ws_row;
        *ret_columns = w.ws_col;
        return 0;
}

int terminal_raw(int fd) {
        struct termios t;

        if (raw_fd < 0) {
                if (tcgetattr(fd, &raw_before) < 0)
                        return -errno;
                (void) atexit(terminal_raw_end);
                raw_fd = fd;
        }

        t = raw_before;
        cfmakeraw(&t);
        return tcsetattr(raw_fd, TCSANOW, &t) < 0 ? -errno : 0;
}

void terminal_raw_end(void) {
        if (raw_fd < 0)
                return;

        (void) tcsetattr(raw_fd, TCSANOW, &raw_before);
        raw_fd = -EBADF;
}

/* Bytes of the character at s, 1 with *ret = UINT32_MAX for a byte that begins none. */
static size_t utf8_decode(const char *s, uint32_t *ret) {
        const unsigned char *p = (const unsigned char *) s;
        uint32_t c;
        size_t n;

        if (p[0] < 0x80) {
                *ret = p[0];
                return 1;
        }

        n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
        *ret = UINT32_MAX;
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 1;

        c = p[0] & (0xff >> (n + 1));
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 1;
                c = c << 6 | (p[i] & 0x3f);
        }
        if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
                        (c >= 0xd800 && c <= 0xdfff))
                return 1;

        *ret = c;
        return n;
}

typedef struct Range {
        uint32_t first, last;
} Range;

static bool in_ranges(uint32_t c, const Range *ranges, size_t n) {
        FOREACH_ARRAY(i, ranges, n)
                if (c >= i->first && c <= i->last)
                        return true;
        return false;
}

static size_t character_width(uint32_t c) {
        static const Range zero[] = {
                { 0x0300, 0x036f },
                { 0x0483, 0x0489 },
                { 0x0591, 0x05bd },
                { 0x0610, 0x061a },
                { 0x064b, 0x065f },
                { 0x0e31, 0x0e31 },
                { 0x0e34, 0x0e3a },
                { 0x1ab0, 0x1aff },
                { 0x1dc0, 0x1dff },
                { 0x200b, 0x200f },
                { 0x20d0, 0x20f0 },
                { 0xfe00, 0xfe0f },
                { 0xfe20, 0xfe2f },
                { 0xfeff, 0xfeff },
                { 0xe0100, 0xe01ef },
        };
        static const Range wide[] = {
                { 0x1100, 0x115f },
                { 0x2e80, 0x303e },
                { 0x3041, 0xa4cf },
                { 0xa960, 0xa97f },
                { 0xac00, 0xd7a3 },
                { 0xf900, 0xfaff },
                { 0xfe30, 0xfe6f },
                { 0xff00, 0xff60 },
                { 0xffe0, 0xffe6 },
                { 0x1f300, 0x1f64f },
                { 0x1f680, 0x1f6ff },
                { 0x1f900, 0x1f9ff },
                { 0x20000, 0x3fffd },
        };

        if (c == UINT32_MAX)
                return 1;
        if (in_ranges(c, zero, ELEMENTSOF(zero)))
                return 0;
        return in_ranges(c, wide, ELEMENTSOF(wide)) ? 2 : 1;
}

size_t text_width(const char *s) {
        size_t w = 0;

        assert(s);

        while (*s) {
                uint32_t c;

                s += utf8_decode(s, &c);
                w += character_width(c);
        }

        return w;
}

char *text_ellipsize(const char *s, size_t width) {
        const char *e = glyph(GLYPH_ELLIPSIS), *p = s;
        size_t we = text_width(e), w = 0;

        assert(s);

        if (text_width(s) <= width)
                return strdup(s);
        if (width < we)
                return strndup("...", width);

        for (;;) {
                uint32_t c;
                size_t n = utf8_decode(p, &c), k = character_width(c);

                if (w + k > width - we)
                        break;
                p += n;
                w += k;
        }

        return strprintf("%.*s%s", (int) (p - s), s, e);
}

static bool character_is_harmful(uint32_t c) {
        return c == UINT32_MAX || c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
               (c >= 0x2066 && c <= 0x2069) || c == 0x2028 || c == 0x2029;
}

/* The character at s, into at most four times its bytes. "\u202e" is six from three, "\x1b" four from one. */
static size_t escape_character(const char *s, bool keep_newlines, char *buffer, size_t *ret_size) {
        uint32_t c;
        size_t l = utf8_decode(s, &c);
        char escaped[8];
        int k;

        *ret_size = l;
        if (c == '\t') {
                buffer[0] = ' ';
                return 1;
        }
        if (!character_is_harmful(c) || (c == '\n' && keep_newlines)) {
                memcpy(buffer, s, l);
                return l;
        }
        if (c != UINT32_MAX && c > 0xff)
                k = snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned) (c & 0xffff));
        else
                k = snprintf(escaped, sizeof(escaped), "\\x%02x",
                                c == UINT32_MAX ? (unsigned char) *s : (unsigned) (c & 0xff));
        memcpy(buffer, escaped, (size_t) k);
        return (size_t) k;
}

char *text_escape(const char *s, bool keep_newlines) {
        _cleanup_free_ char *t = NULL;
        size_t n = strlen(s), k = 0, l;

        if (n > SIZE_MAX / 4 - 1)
                return NULL;
        t = malloc(n * 4 + 1);
        if (!t)
                return NULL;

        for (; *s; s += l)
                k += escape_character(s, keep_newlines, t + k, &l);
        t[k] = '\0';
        return TAKE_PTR(t);
}

static size_t character_size(char first) {
        unsigned char c = (unsigned char) first;

        return c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
}

/* All of it, also what is no character. */
static size_t let_go(TextEscaper *e, char *buffer) {
        size_t k = 0, l;

        for (size_t at = 0; at < e->size; at += l)
                k += escape_character(e->held + at, /* keep_newlines= */ true, buffer + k, &l);
        *e = (TextEscaper){};
        return k;
}

size_t text_escaper_feed(TextEscaper *e, const void *data, size_t n, char *buffer) {
        const char *p = data;
        size_t k = 0;

        for (size_t i = 0; i < n; i++) {
                /* What does not go on ends what is held. */
                if (e->size > 0 && (p[i] & 0xc0) != 0x80)
                        k += let_go(e, buffer + k);
                e->held[e->size++] = p[i];
                if (e->size >= character_size(e->held[0]))
                        k += let_go(e, buffer + k);
        }
        return k;
}

size_t text_escaper_end(TextEscaper *e, char *buffer) {
        return let_go(e, buffer);
}
