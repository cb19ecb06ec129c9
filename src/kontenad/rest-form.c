/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-form.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "uri.h"

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
                _cleanup_free_ char *name = NULL;
                _cleanup_erase_ char *value = NULL;

                if (next > text) {
                        if (++n_values > REST_FORM_VALUES_MAX)
                                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are more than %u values.",
                                                REST_FORM_VALUES_MAX);
                        r = uri_unescape(text, (size_t) (equals - text), true, &name);
                        if (r >= 0)
                                r = equals < next ? uri_unescape(equals + 1, (size_t) (next - equals - 1),
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
