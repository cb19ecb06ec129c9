/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-exec-text.h"

#include <string.h>

#define REPLACEMENT      "\xef\xbf\xbd"
#define REPLACEMENT_SIZE 3U

/* Bytes of the character that p begins with; 0: there is none; -EAGAIN: it may become one. */
static int character(const uint8_t *p, size_t n) {
        uint32_t c, least;
        int length;

        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xc2 && p[0] <= 0xdf) {
                length = 2;
                c = p[0] & 0x1fU;
                least = 0x80;
        } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
                length = 3;
                c = p[0] & 0x0fU;
                least = 0x800;
        } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
                length = 4;
                c = p[0] & 0x07U;
                least = 0x10000;
        } else
                return 0;
        for (int i = 1; i < length; i++) {
                if ((size_t) i >= n)
                        return -EAGAIN;
                if ((p[i] & 0xc0U) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3fU);
        }
        return c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : length;
}

int exec_text_take(ExecText *t, const void *data, size_t size, bool end, json_object **ret) {
        _cleanup_free_ uint8_t *in = NULL;
        _cleanup_free_ char *out = NULL;
        size_t n = t->n_tail + size, used = 0;
        char *p;

        if (n == 0) {
                *ret = NULL;
                return 0;
        }
        in = malloc(n);
        p = out = malloc(n * REPLACEMENT_SIZE);
        if (!in || !out)
                return -ENOMEM;
        memcpy(in, t->tail, t->n_tail);
        if (size > 0)
                memcpy(in + t->n_tail, data, size);

        while (used < n) {
                int length = character(in + used, n - used);

                if (length == -EAGAIN && !end)
                        break;
                if (length > 0) {
                        memcpy(p, in + used, (size_t) length);
                        p += length;
                        used += (size_t) length;
                } else {
                        memcpy(p, REPLACEMENT, REPLACEMENT_SIZE);
                        p += REPLACEMENT_SIZE;
                        used++;
                }
        }
        t->n_tail = n - used; /* at most three */
        memcpy(t->tail, in + used, t->n_tail);
        if (p == out) {
                *ret = NULL;
                return 0;
        }

        *ret = json_object_new_string_len(out, (int) (p - out));
        return *ret ? 0 : -ENOMEM;
}
