/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"

#include <json-c/printbuf.h>
#include <math.h>

#include "json-check.h"
#include "kontena-limits.h"
#include "string-util.h"

DEFINE_TRIVIAL_CLEANUP_FUNC(json_tokener *, json_tokener_free);

/* How many fields the objects below o have together. -EDOM: a number that no double holds. */
static int count_fields(json_object *o, size_t *n) {
        int r;

        switch (json_object_get_type(o)) {
        case json_type_double:
                return isfinite(json_object_get_double(o)) ? 0 : -EDOM;
        case json_type_array:
                FOREACH_JSON_ARRAY(e, o) {
                        r = count_fields(e, n);
                        if (r < 0)
                                return r;
                }
                return 0;
        case json_type_object: {
                json_object_object_foreach(o, key, value) {
                        (void) key;
                        (*n)++;
                        r = count_fields(value, n);
                        if (r < 0)
                                return r;
                }
                return 0;
        }
        default:
                return 0;
        }
}

int json_parse(const char *text, size_t size, size_t size_max, json_object **ret, KError *reterr) {
        _cleanup_(json_tokener_freep) json_tokener *tokener = NULL;
        _cleanup_json_ json_object *o = NULL;
        enum json_tokener_error e;
        size_t told, kept = 0;
        int r;

        assert(text || size == 0);
        assert(ret);

        if (size > size_max || size > INT32_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "JSON text of %zu bytes is larger than %zu.",
                                size, size_max);
        r = json_check(text, size, JSON_DEPTH_MAX, &told, reterr);
        if (r < 0)
                return r;

        /* json-c counts the value inside the deepest level as a level. */
        tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
        if (!tokener)
                return -ENOMEM;
        o = json_tokener_parse_ex(tokener, text, (int) size);
        e = json_tokener_get_error(tokener);
        if (e == json_tokener_continue) {
                /* A bare number or literal ends only with the text. */
                o = json_tokener_parse_ex(tokener, "", 1);
                e = json_tokener_get_error(tokener);
        }
        erase_memory(tokener->pb->buf, (size_t) tokener->pb->size); /* of what was last a string */
        if (e != json_tokener_success)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "JSON text is malformed at byte %zu: %s.",
                                json_tokener_get_parse_end(tokener), json_tokener_error_desc(e));

        /* Of two fields of one name the last would win here, and the first elsewhere. */
        r = count_fields(o, &kept);
        if (r < 0)
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "JSON text has a number that is out of range.");
        if (kept != told)
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "JSON text names a field twice in one object.");

        *ret = TAKE_PTR(o);
        return 0;
}

const char *json_text(json_object *o) {
        return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

int json_keep_text(json_object *o) {
        const char *text = json_text(o);
        char *copy;

        copy = text ? strdup(text) : NULL;
        if (!copy)
                return -ENOMEM;

        json_object_set_serializer(o, json_object_userdata_to_json_string, copy, json_object_free_userdata);
        return 0;
}

static char erased; /* its address marks strings that are erased */

static void erase_string(json_object *o, void *userdata) {
        erase_memory((char *) (uintptr_t) json_object_get_string(o), (size_t) json_object_get_string_len(o));
}

static void mark_string(json_object *o) {
        if (json_object_get_userdata(o) != &erased) /* to mark it again would erase it now */
                json_object_set_userdata(o, &erased, erase_string);
}

void json_erase_strings(json_object *o) {
        switch (json_object_get_type(o)) {
        case json_type_string:
                mark_string(o);
                break;
        case json_type_array:
                FOREACH_JSON_ARRAY(e, o)
                        json_erase_strings(e);
                break;
        case json_type_object: {
                json_object_object_foreach(o, key, value) {
                        (void) key;
                        json_erase_strings(value);
                }
                break;
        }
        default:
                break;
        }
}

/* 2: json-c need not copy what it has as userdata, which it could not. */
static int copy_one(json_object *from, json_object *parent, const char *key, size_t i, json_object **ret) {
        int r;

        r = json_c_shallow_copy_default(from, parent, key, i, ret);
        if (r < 1 || json_object_get_userdata(from) != &erased)
                return r;
        mark_string(*ret);
        return 2;
}

int json_copy(json_object *o, json_object **ret) {
        json_object *copy = NULL;

        if (json_object_deep_copy(o, &copy, copy_one) < 0)
                return -ENOMEM;

        *ret = copy;
        return 0;
}

static int find(json_object *o, const char *key, json_type type, const char *type_name, json_object **ret,
                KError *reterr) {
        json_object *v;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "An object with '%s' was expected.", key);
        if (!json_object_object_get_ex(o, key, &v) || !v)
                return 0;
        if (!json_object_is_type(v, type) &&
                        !(type == json_type_double && json_object_is_type(v, json_type_int)))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' must be %s.", key, type_name);

        *ret = v;
        return 1;
}

static int missing(const char *key, KError *reterr) {
        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is missing.", key);
}

static bool has_nul(json_object *s) {
        return strlen(json_object_get_string(s)) != (size_t) json_object_get_string_len(s);
}

int json_find_string(json_object *o, const char *key, const char **ret, KError *reterr) {
        json_object *v;
        int r;

        r = find(o, key, json_type_string, "a string", &v, reterr);
        if (r <= 0)
                return r;
        if (has_nul(v))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has a NUL byte in it.", key);

        *ret = json_object_get_string(v);
        return 1;
}

int json_get_string(json_object *o, const char *key, const char **ret, KError *reterr) {
        int r = json_find_string(o, key, ret, reterr);

        return r == 0 ? missing(key, reterr) : MIN(r, 0);
}

int json_find_bool(json_object *o, const char *key, bool *ret, KError *reterr) {
        json_object *v;
        int r;

        r = find(o, key, json_type_boolean, "true or false", &v, reterr);
        if (r > 0)
                *ret = json_object_get_boolean(v);
        return r;
}

int json_find_i64(json_object *o, const char *key, int64_t *ret, KError *reterr) {
        json_object *v;
        int r;

        r = find(o, key, json_type_int, "a whole number", &v, reterr);
        if (r > 0)
                *ret = json_object_get_int64(v);
        return r;
}

int json_find_u64(json_object *o, const char *key, uint64_t *ret, KError *reterr) {
        json_object *v;
        int r;

        r = find(o, key, json_type_int, "a whole number", &v, reterr);
        if (r <= 0)
                return r;
        if (json_object_get_int64(v) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' must not be negative.", key);

        *ret = json_object_get_uint64(v);
        return 1;
}

int json_get_u64(json_object *o, const char *key, uint64_t *ret, KError *reterr) {
        int r = json_find_u64(o, key, ret, reterr);

        return r == 0 ? missing(key, reterr) : MIN(r, 0);
}

int json_find_double(json_object *o, const char *key, double *ret, KError *reterr) {
        json_object *v;
        double d;
        int r;

        r = find(o, key, json_type_double, "a number", &v, reterr);
        if (r <= 0)
                return r;
        d = json_object_get_double(v);
        if (!isfinite(d))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' must be a finite number.", key);

        *ret = d;
        return 1;
}

int json_find_object(json_object *o, const char *key, json_object **ret, KError *reterr) {
        return find(o, key, json_type_object, "an object", ret, reterr);
}

int json_get_object(json_object *o, const char *key, json_object **ret, KError *reterr) {
        int r = json_find_object(o, key, ret, reterr);

        return r == 0 ? missing(key, reterr) : MIN(r, 0);
}

int json_find_array(json_object *o, const char *key, json_object **ret, KError *reterr) {
        return find(o, key, json_type_array, "a list", ret, reterr);
}

int json_get_array(json_object *o, const char *key, json_object **ret, KError *reterr) {
        int r = json_find_array(o, key, ret, reterr);

        return r == 0 ? missing(key, reterr) : MIN(r, 0);
}

int json_find_strv(json_object *o, const char *key, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        json_object *array;
        int r;

        r = json_find_array(o, key, &array, reterr);
        if (r < 0)
                return r;
        if (r == 0) {
                *ret = NULL;
                return 0;
        }

        FOREACH_JSON_ARRAY(e, array) {
                if (!json_object_is_type(e, json_type_string))
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "'%s' must be a list of strings.", key);
                if (has_nul(e))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has a NUL byte in it.", key);
                r = strv_extend(&l, json_object_get_string(e));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 1;
}

const char *json_string_or(json_object *o, const char *key, const char *fallback) {
        json_object *v;

        return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
                               ? json_object_get_string(v)
                               : fallback;
}

uint64_t json_u64_or(json_object *o, const char *key, uint64_t fallback) {
        uint64_t n = fallback;

        if (json_object_is_type(o, json_type_object))
                (void) json_find_u64(o, key, &n, NULL);
        return n;
}

int json_add(json_object *o, const char *key, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_object_add(o, key, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_add_string(json_object *o, const char *key, const char *value) {
        if (!value)
                return json_object_object_add(o, key, NULL) < 0 ? -ENOMEM : 0;
        return json_add(o, key, json_object_new_string(value));
}

int json_add_bool(json_object *o, const char *key, bool value) {
        return json_add(o, key, json_object_new_boolean(value));
}

int json_add_u64(json_object *o, const char *key, uint64_t value) {
        return json_add(o, key, json_object_new_uint64(value));
}

int json_add_i64(json_object *o, const char *key, int64_t value) {
        return json_add(o, key, json_object_new_int64(value));
}

int json_add_double(json_object *o, const char *key, double value) {
        return json_add(o, key, json_object_new_double(value));
}

int json_add_strv(json_object *o, const char *key, char *const *l) {
        json_object *array;
        int r;

        array = json_object_new_array();
        if (!array)
                return -ENOMEM;
        STRV_FOREACH(s, l) {
                r = json_append_string(array, *s);
                if (r < 0) {
                        json_object_put(array);
                        return r;
                }
        }

        return json_add(o, key, array);
}

int json_wrap(const char *key, json_object *value, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o) {
                json_object_put(value);
                return -ENOMEM;
        }
        r = json_add(o, key, value);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int json_append(json_object *array, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_array_add(array, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_append_string(json_object *array, const char *value) {
        return json_append(array, json_object_new_string(value));
}
