/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "redact.h"

#include <string.h>

#include "json-util.h"
#include "macro.h"
#include "string-util.h"

/* "NAME=value" becomes "NAME"; of what is no text nothing is known, so nothing is shown. */
static int redact_list(json_object *env) {
        size_t n = json_object_array_length(env);

        for (size_t i = 0; i < n; i++) {
                json_object *entry = json_object_array_get_idx(env, i), *s = NULL;

                if (json_object_is_type(entry, json_type_string)) {
                        const char *text = json_object_get_string(entry);

                        s = json_object_new_string_len(text, (int) (strchrnul(text, '=') - text));
                        if (!s)
                                return -ENOMEM;
                }
                if (json_object_array_put_idx(env, i, s) < 0) {
                        json_object_put(s);
                        return -ENOMEM;
                }
        }

        return 0;
}

static int redact_env(json_object *o, const char *key, json_object *env) {
        _cleanup_json_ json_object *names = NULL;

        if (json_object_is_type(env, json_type_array))
                return redact_list(env);

        names = json_object_new_array();
        if (!names)
                return -ENOMEM;
        if (json_object_is_type(env, json_type_object)) {
                json_object_object_foreach(env, name, value) {
                        int r;

                        (void) value;
                        r = json_append_string(names, name);
                        if (r < 0)
                                return r;
                }
        }
        /* Not json_add(): the key is there, and the object is being walked. */
        return json_object_object_add(o, key, TAKE_PTR(names)) < 0 ? -ENOMEM : 0;
}

int json_redact(json_object *o) {
        int r;

        if (json_object_is_type(o, json_type_array)) {
                FOREACH_JSON_ARRAY(element, o) {
                        r = json_redact(element);
                        if (r < 0)
                                return r;
                }
                return 0;
        }
        if (!json_object_is_type(o, json_type_object))
                return 0;

        json_object_object_del(o, "secrets");
        json_object_object_del(o, "sealed");
        json_object_object_foreach(o, key, value) {
                r = streq(key, "env") ? redact_env(o, key, value) : json_redact(value);
                if (r < 0)
                        return r;
        }

        return 0;
}
