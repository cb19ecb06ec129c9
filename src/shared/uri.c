/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "uri.h"

#include <stdlib.h>

#include "string-util.h"

static bool text_is_valid(const char *s, size_t n) {
        return !memchr(s, '\0', n) && utf8_is_valid(s, n);
}

int uri_unescape(const char *text, size_t size, bool plus, char **ret) {
        _cleanup_free_ char *s = NULL;
        size_t n = 0;

        s = malloc(size + 1);
        if (!s)
                return -ENOMEM;
        for (size_t i = 0; i < size; i++)
                if (text[i] == '%') {
                        if (size - i < 3 ||
                                        unhexmem((char[]){ text[i + 1], text[i + 2], '\0' }, s + n, 1) < 0)
                                return -EINVAL;
                        n++;
                        i += 2;
                } else
                        s[n++] = plus && text[i] == '+' ? ' ' : text[i];
        s[n] = '\0';
        if (!text_is_valid(s, n))
                return -EINVAL;

        *ret = TAKE_PTR(s);
        return 0;
}

char *uri_escape(const char *text) {
        static const char digits[] = "0123456789ABCDEF";
        char *s, *p;

        s = p = malloc(strlen(text) * 3 + 1);
        if (!s)
                return NULL;
        for (; *text; text++) {
                unsigned char c = (unsigned char) *text;

                if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                                strchr("-._~", c))
                        *p++ = (char) c;
                else {
                        *p++ = '%';
                        *p++ = digits[c >> 4];
                        *p++ = digits[c & 15];
                }
        }
        *p = '\0';
        return s;
}

int uri_append(char **uri, const char *separator, const char *key, const char *value) {
        _cleanup_erase_ char *escaped = NULL, *old = NULL;
        char *joined;

        escaped = uri_escape(value);
        if (!escaped)
                return -ENOMEM;
        joined = strjoin(strempty(*uri), separator, key, "=", escaped);
        if (!joined)
                return -ENOMEM;

        old = *uri;
        *uri = joined;
        return 0;
}
