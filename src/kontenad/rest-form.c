/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-form.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

static bool text_is_valid(const char *s, size_t n) {
        return !memchr(s, '\0', n) && utf8_is_valid(s, n);
}

int rest_unescape(const char *text, size_t size, bool plus, char **ret) {
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

char *rest_escape(const char *text) {
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

int rest_form_parse(const char *text, size_t size, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *end = text + size;
        unsigned n_values = 0;
        int r;

        assert(text || size == 0);
        assert(ret);

        if (!o)
                return -ENOMEM;
        while (text < end) {
                const char *next = memchr(text, '&', (size_t) (end - text)) ?: end;
                const char *equals = memchr(text, '=', (size_t) (next - text)) ?: next;
                _cleanup_free_ char *name = NULL, *value = NULL;

                if (next > text) {
                        if (++n_values > REST_FORM_VALUES_MAX)
                                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are more than %u values.",
                                                REST_FORM_VALUES_MAX);
                        r = rest_unescape(text, (size_t) (equals - text), true, &name);
                        if (r >= 0)
                                r = equals < next ? rest_unescape(equals + 1, (size_t) (next - equals - 1),
                                                                    true, &value)
                                                  : 0;
                        if (r == -EINVAL)
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "A form or a query is malformed or not UTF-8.");
                        if (r < 0)
                                return r;
                        if (!json_object_object_get_ex(o, name, NULL)) {
                                r = json_add_string(o, name, strempty(value));
                                if (r < 0)
                                        return r;
                        }
                }
                text = next < end ? next + 1 : end;
        }

        *ret = TAKE_PTR(o);
        return 0;
}
