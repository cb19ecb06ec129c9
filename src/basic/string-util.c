/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "string-util.h"

#include <stdio.h>

bool streq_ptr(const char *a, const char *b) {
        if (!a || !b)
                return a == b;
        return streq(a, b);
}

const char *startswith(const char *s, const char *prefix) {
        size_t n = strlen(prefix);

        return strneq(s, prefix, n) ? s + n : NULL;
}

const char *endswith(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && streq(s + n - m, suffix) ? s + n - m : NULL;
}

bool string_in_set(const char *s, ...) {
        va_list ap;
        bool found = false;
        const char *x;

        if (!s)
                return false;

        va_start(ap, s);
        while (!found && (x = va_arg(ap, const char *)))
                found = streq(s, x);
        va_end(ap);

        return found;
}

int free_and_strdup(char **p, const char *s) {
        char *copy = NULL;

        assert(p);

        if (streq_ptr(*p, s))
                return 0;

        if (s) {
                copy = strdup(s);
                if (!copy)
                        return -ENOMEM;
        }

        free(*p);
        *p = copy;
        return 1;
}

char *strvprintf(const char *format, va_list ap) {
        char *s;

        return vasprintf(&s, format, ap) < 0 ? NULL : s;
}

char *strprintf(const char *format, ...) {
        va_list ap;
        char *s;

        va_start(ap, format);
        s = strvprintf(format, ap);
        va_end(ap);

        return s;
}

char *strjoin_real(const char *first, ...) {
        va_list ap;
        size_t n = 0;
        char *joined, *end;

        va_start(ap, first);
        for (const char *s = first; s; s = va_arg(ap, const char *))
                n += strlen(s);
        va_end(ap);

        joined = malloc(n + 1);
        if (!joined)
                return NULL;

        end = joined;
        va_start(ap, first);
        for (const char *s = first; s; s = va_arg(ap, const char *))
                end = stpcpy(end, s);
        va_end(ap);
        *end = '\0';

        return joined;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool utf8_is_valid(const char *s, size_t n) {
        const unsigned char *p = (const unsigned char *) s, *end = p + n;

        while (p < end) {
                uint32_t c = *p, min;
                size_t more;

                if (c < 0x80) {
                        p++;
                        continue;
                }
                if ((c & 0xe0) == 0xc0) {
                        more = 1;
                        min = 0x80;
                        c &= 0x1f;
                } else if ((c & 0xf0) == 0xe0) {
                        more = 2;
                        min = 0x800;
                        c &= 0x0f;
                } else if ((c & 0xf8) == 0xf0) {
                        more = 3;
                        min = 0x10000;
                        c &= 0x07;
                } else
                        return false;

                if ((size_t) (end - p) <= more)
                        return false;
                for (size_t i = 1; i <= more; i++) {
                        if ((p[i] & 0xc0) != 0x80)
                                return false;
                        c = c << 6 | (p[i] & 0x3f);
                }
                if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                        return false;
                p += more + 1;
        }

        return true;
}

bool string_is_printable(const char *s) {
        if (!utf8_is_valid(s, strlen(s)))
                return false;

        for (const unsigned char *p = (const unsigned char *) s; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return false;

        return true;
}

char *utf8_repair(char *s) {
        for (char *p = s; p && *p;) {
                unsigned char c = (unsigned char) *p;
                size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

                if (strnlen(p, n) == n && utf8_is_valid(p, n))
                        p += n;
                else
                        *p++ = '?';
        }
        return s;
}

void erase_memory(void *p, size_t n) {
        if (p && n > 0)
                explicit_bzero(p, n);
}

char *hexmem(const void *p, size_t n) {
        static const char digits[] = "0123456789abcdef";
        const uint8_t *bytes = p;
        char *s;

        s = malloc(n * 2 + 1);
        if (!s)
                return NULL;

        for (size_t i = 0; i < n; i++) {
                s[i * 2] = digits[bytes[i] >> 4];
                s[i * 2 + 1] = digits[bytes[i] & 15];
        }
        s[n * 2] = '\0';

        return s;
}

static int unhexchar(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -EINVAL;
}

int unhexmem(const char *s, void *ret, size_t n) {
        uint8_t *bytes = ret;

        if (strlen(s) != n * 2)
                return -EINVAL;

        for (size_t i = 0; i < n * 2; i++)
                if (unhexchar(s[i]) < 0)
                        return -EINVAL;
        for (size_t i = 0; i < n; i++)
                bytes[i] = (uint8_t) (unhexchar(s[i * 2]) << 4 | unhexchar(s[i * 2 + 1]));

        return 0;
}

char *base32mem(const void *p, size_t n) {
        static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
        const uint8_t *bytes = p;
        uint32_t bits = 0;
        unsigned n_bits = 0;
        char *s, *end;

        s = malloc((n * 8 + 4) / 5 + 1);
        if (!s)
                return NULL;

        end = s;
        for (size_t i = 0; i < n; i++) {
                bits = bits << 8 | bytes[i];
                n_bits += 8;
                while (n_bits >= 5) {
                        n_bits -= 5;
                        *end++ = digits[bits >> n_bits & 31];
                }
        }
        if (n_bits > 0)
                *end++ = digits[bits << (5 - n_bits) & 31];
        *end = '\0';

        return s;
}

char **strv_free(char **l) {
        STRV_FOREACH(s, l)
                free(*s);
        free(l);
        return NULL;
}

size_t strv_length(char *const *l) {
        size_t n = 0;

        STRV_FOREACH(s, l)
                n++;
        return n;
}

bool strv_contains(char *const *l, const char *s) {
        STRV_FOREACH(i, l)
                if (streq(*i, s))
                        return true;
        return false;
}

int strv_consume(char ***l, char *s) {
        size_t n = strv_length(*l);
        char **larger;

        if (!s)
                return -ENOMEM;

        /* Cannot overflow, n are there. And -fanalyzer knows realloc(), but not reallocarray(). */
        larger = realloc(*l, (n + 2) * sizeof(char *));
        if (!larger) {
                free(s);
                return -ENOMEM;
        }

        larger[n] = s;
        larger[n + 1] = NULL;
        *l = larger;
        return 0;
}

int strv_extend(char ***l, const char *s) {
        return strv_consume(l, strdup(s));
}

int strv_extendf(char ***l, const char *format, ...) {
        va_list ap;
        char *s;

        va_start(ap, format);
        s = strvprintf(format, ap);
        va_end(ap);

        return strv_consume(l, s);
}

char **strv_copy(char *const *l) {
        _cleanup_strv_free_ char **copy = NULL;

        copy = new0(char *, 1);
        if (!copy)
                return NULL;

        STRV_FOREACH(s, l)
                if (strv_extend(&copy, *s) < 0)
                        return NULL;

        return TAKE_PTR(copy);
}

int strv_split(const char *s, const char *separators, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        l = new0(char *, 1);
        if (!l)
                return -ENOMEM;

        for (;;) {
                size_t n;

                s += strspn(s, separators);
                n = strcspn(s, separators);
                if (n == 0)
                        break;
                r = strv_consume(&l, strndup(s, n));
                if (r < 0)
                        return r;
                s += n;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

char *strv_join(char *const *l, const char *separator) {
        size_t n = 0;
        char *joined, *end;

        STRV_FOREACH(s, l)
                n += strlen(*s) + strlen(separator);

        joined = malloc(n + 1);
        if (!joined)
                return NULL;

        end = joined;
        STRV_FOREACH(s, l) {
                if (s != l)
                        end = stpcpy(end, separator);
                end = stpcpy(end, *s);
        }
        *end = '\0';

        return joined;
}
