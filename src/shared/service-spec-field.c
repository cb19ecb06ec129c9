/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "service-spec-internal.h"
#include "string-util.h"

int spec_refuse_unknown(
                json_object *o, const char *const *known, size_t n_known, const char *what, KError *reterr) {
        json_object_object_foreach(o, key, value) {
                bool found = false;

                (void) value;
                for (size_t i = 0; i < n_known && !found; i++)
                        found = streq(known[i], key);
                if (!found)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s has no setting '%s'.", what, key);
        }

        return 0;
}

/* A list of strings; a present but empty one is a vector with no entries, so that "cmd": [] can empty the image's. */
int spec_find_list(json_object *o, const char *key, size_t max, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        json_object *array;
        int r;

        r = json_find_array(o, key, &array, reterr);
        if (r <= 0)
                return r;
        if (json_object_array_length(array) > max)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "'%s' has %zu entries, at most %zu are possible.", key,
                                json_object_array_length(array), max);

        l = new0(char *, json_object_array_length(array) + 1);
        if (!l)
                return -ENOMEM;

        FOREACH_JSON_ARRAY(e, array) {
                const char *s;

                if (!json_object_is_type(e, json_type_string))
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "'%s' must be a list of strings.", key);
                s = json_object_get_string(e);
                if (strlen(s) != (size_t) json_object_get_string_len(e))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has a NUL byte in it.", key);
                l[_i_e] = strdup(s);
                if (!l[_i_e])
                        return -ENOMEM;
        }

        *ret = TAKE_PTR(l);
        return 1;
}

/* The same, for lists where no entries and no list mean the same: NULL. */
int spec_find_entries(json_object *o, const char *key, char ***ret, KError *reterr) {
        int r;

        r = spec_find_list(o, key, LIST_ENTRIES_MAX, ret, reterr);
        if (r > 0 && strv_length(*ret) == 0)
                *ret = mfree(*ret);
        return r;
}

int spec_find_copy(json_object *o, const char *key, char **ret, KError *reterr) {
        const char *s;
        int r;

        r = json_find_string(o, key, &s, reterr);
        if (r <= 0 || isempty(s))
                return r;

        *ret = strdup(s);
        return *ret ? 1 : -ENOMEM;
}

int spec_find_number(
                json_object *o, const char *key, uint64_t min, uint64_t max, uint64_t *ret, KError *reterr) {
        uint64_t v;
        int r;

        r = json_find_u64(o, key, &v, reterr);
        if (r <= 0)
                return r;
        if (v < min || v > max)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' must be between %" PRIu64 " and %" PRIu64 ", not %" PRIu64 ".", key,
                                min, max, v);

        *ret = v;
        return 1;
}
