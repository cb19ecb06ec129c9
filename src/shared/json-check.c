/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-check.h"

#include <errno.h>
#include <string.h>

#include "macro.h"
#include "string-util.h"

typedef struct Check {
        const char *text;
        size_t size, at, fields;
        unsigned depth, depth_max;
        KError *reterr;
} Check;

static int malformed(Check *c, const char *why) {
        return kerror_set(c->reterr, K_INVALID_ARGUMENT, "JSON text is malformed at byte %zu: %s.", c->at,
                        why);
}

/* What is next, or NUL at the end; a NUL in the text is in no place right, so it need not be told from the end. */
static char next(const Check *c) {
        return c->at < c->size ? c->text[c->at] : '\0';
}

static bool take(Check *c, char what) {
        if (next(c) != what)
                return false;
        c->at++;
        return true;
}

static void skip_space(Check *c) {
        while (next(c) == ' ' || next(c) == '\t' || next(c) == '\r' || next(c) == '\n')
                c->at++;
}

static size_t take_digits(Check *c) {
        size_t from = c->at;

        while (next(c) >= '0' && next(c) <= '9')
                c->at++;
        return c->at - from;
}

static int check_number(Check *c) {
        static const char max[] = "18446744073709551615", min[] = "9223372036854775808";
        bool negative = take(c, '-'), whole = true;
        const char *digits = c->text + c->at, *limit = negative ? min : max;
        size_t n;

        n = take_digits(c);
        if (n == 0)
                return malformed(c, negative ? "a digit was expected" : "a value was expected");
        if (n > 1 && digits[0] == '0')
                return malformed(c, "a number begins with 0");
        if (take(c, '.')) {
                whole = false;
                if (take_digits(c) == 0)
                        return malformed(c, "a digit was expected");
        }
        if (take(c, 'e') || take(c, 'E')) {
                whole = false;
                if (!take(c, '+'))
                        (void) take(c, '-');
                if (take_digits(c) == 0)
                        return malformed(c, "a digit was expected");
        }
        if (whole && (n > strlen(limit) || (n == strlen(limit) && memcmp(digits, limit, n) > 0)))
                return malformed(c, "a whole number has more than 64 bits");
        return 0;
}

static int take_hex4(Check *c, unsigned *ret) {
        unsigned u = 0;

        for (unsigned i = 0; i < 4; i++) {
                static const char hex[] = "0123456789abcdef0123456789ABCDEF";
                const char *p = next(c) == '\0' ? NULL : strchr(hex, next(c));

                if (!p)
                        return malformed(c, "four hexadecimal digits were expected");
                u = u << 4 | ((unsigned) (p - hex) & 15);
                c->at++;
        }
        *ret = u;
        return 0;
}

static int check_escape(Check *c, bool name) {
        unsigned u, low = 0;
        int r;

        if (!take(c, 'u')) {
                if (next(c) == '\0' || !strchr("\"\\/bfnrt", next(c)))
                        return malformed(c, "no such escape");
                c->at++;
                return 0;
        }

        r = take_hex4(c, &u);
        if (r < 0)
                return r;
        if (u == 0 && name)
                return malformed(c, "the name of a field has a NUL in it");
        if (u < 0xd800 || u > 0xdfff)
                return 0;

        if (u >= 0xdc00 || !take(c, '\\') || !take(c, 'u'))
                return malformed(c, "half of a surrogate pair");
        r = take_hex4(c, &low);
        if (r < 0)
                return r;
        return low >= 0xdc00 && low <= 0xdfff ? 0 : malformed(c, "half of a surrogate pair");
}

static int check_string(Check *c, bool name) {
        int r;

        if (!take(c, '"'))
                return malformed(c, name ? "the name of a field was expected, in double quotes"
                                         : "a value was expected");
        for (;;) {
                if (c->at >= c->size)
                        return malformed(c, "a string has no end");
                if ((unsigned char) next(c) < 0x20)
                        return malformed(c, "a control character in a string");
                if (take(c, '"'))
                        return 0;
                if (take(c, '\\')) {
                        r = check_escape(c, name);
                        if (r < 0)
                                return r;
                } else
                        c->at++;
        }
}

static int check_word(Check *c, const char *word) {
        size_t n = strlen(word);

        if (c->size - c->at < n || memcmp(c->text + c->at, word, n) != 0)
                return malformed(c, "a value was expected");
        c->at += n;
        return 0;
}

static int check_value(Check *c);

static int check_field(Check *c) {
        int r;

        r = check_string(c, /* name= */ true);
        if (r < 0)
                return r;
        skip_space(c);
        if (!take(c, ':'))
                return malformed(c, "':' was expected");
        c->fields++;
        return check_value(c);
}

/* A list or an object, whose first character is taken. The recursion is bounded by depth_max. */
static int check_members(Check *c, bool object) {
        char end = object ? '}' : ']';
        int r;

        if (++c->depth > c->depth_max)
                return kerror_set(c->reterr, K_INVALID_ARGUMENT,
                                "JSON text is nested deeper than %u levels.", c->depth_max);
        skip_space(c);
        if (!take(c, end))
                for (;;) {
                        skip_space(c);
                        r = object ? check_field(c) : check_value(c);
                        if (r < 0)
                                return r;
                        if (take(c, end))
                                break;
                        if (!take(c, ','))
                                return malformed(c, object ? "',' or '}' was expected"
                                                           : "',' or ']' was expected");
                }

        c->depth--;
        return 0;
}

/* One value and the space around it. */
static int check_value(Check *c) {
        int r;

        skip_space(c);
        if (take(c, '{'))
                r = check_members(c, /* object= */ true);
        else if (take(c, '['))
                r = check_members(c, /* object= */ false);
        else
                switch (next(c)) {
                case '"':
                        r = check_string(c, /* name= */ false);
                        break;
                case 't':
                        r = check_word(c, "true");
                        break;
                case 'f':
                        r = check_word(c, "false");
                        break;
                case 'n':
                        r = check_word(c, "null");
                        break;
                default:
                        r = check_number(c);
                }
        if (r < 0)
                return r;

        skip_space(c);
        return 0;
}

int json_check(const char *text, size_t size, unsigned depth_max, size_t *ret_fields, KError *reterr) {
        Check c = { .text = text, .size = size, .depth_max = depth_max, .reterr = reterr };
        int r;

        assert(text || size == 0);
        assert(ret_fields);

        if (!utf8_is_valid(text, size))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "JSON text is not valid UTF-8.");

        r = check_value(&c);
        if (r < 0)
                return r;
        if (c.at < size)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "JSON text has something behind its end at byte %zu.", c.at);

        *ret_fields = c.fields;
        return 0;
}
