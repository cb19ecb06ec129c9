/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* json-c with bounds and with errors that name the field. */

DEFINE_TRIVIAL_CLEANUP_FUNC(json_object *, json_object_put);
#define _cleanup_json_ _cleanup_(json_object_putp)

/* Parses one whole text of at most size_max bytes and JSON_DEPTH_MAX levels that json_check() finds right. Refuses numbers
 * beyond a double and objects that name a field twice. */
int json_parse(const char *text, size_t size, size_t size_max, json_object **ret, KError *reterr);

/* Compact text, valid while the object lives and is not changed. NULL on lack of memory. */
const char *json_text(json_object *o);
/* For what becomes part of many texts: o may not be changed any more, and wherever it is put, its text is copied, not made anew. */
int json_keep_text(json_object *o);

/* For what has secrets in it: its strings are erased when nobody has them any more. */
void json_erase_strings(json_object *o);
/* Instead of json_object_deep_copy(), which fails at such strings. */
int json_copy(json_object *o, json_object **ret);

/* Field access on an object. "get" demands the field, "find" leaves *ret alone when it is missing or null and then
 * returns 0; a found one returns 1. A wrong type is K_INVALID_ARGUMENT that names the field. Strings and objects
 * are borrowed from o. */
int json_get_string(json_object *o, const char *key, const char **ret, KError *reterr);
int json_find_string(json_object *o, const char *key, const char **ret, KError *reterr);
int json_find_bool(json_object *o, const char *key, bool *ret, KError *reterr);
int json_find_u64(json_object *o, const char *key, uint64_t *ret, KError *reterr);
int json_find_i64(json_object *o, const char *key, int64_t *ret, KError *reterr);
int json_find_double(json_object *o, const char *key, double *ret, KError *reterr);
int json_find_object(json_object *o, const char *key, json_object **ret, KError *reterr);
int json_find_array(json_object *o, const char *key, json_object **ret, KError *reterr);
int json_get_u64(json_object *o, const char *key, uint64_t *ret, KError *reterr);
int json_get_object(json_object *o, const char *key, json_object **ret, KError *reterr);
int json_get_array(json_object *o, const char *key, json_object **ret, KError *reterr);
/* An array of strings into a fresh vector; also missing gives NULL. */
int json_find_strv(json_object *o, const char *key, char ***ret, KError *reterr);

/* For what we wrote ourselves, where a missing field says as much as a value: fallback when o is NULL, or the field is missing
 * or of another type. Strings are borrowed from o. */
const char *json_string_or(json_object *o, const char *key, const char *fallback);
uint64_t json_u64_or(json_object *o, const char *key, uint64_t fallback);

/* Building: -ENOMEM or 0. The value is consumed, also on failure; a NULL value of _add() is lack of memory. */
int json_add(json_object *o, const char *key, json_object *value);
int json_add_string(json_object *o, const char *key, const char *value); /* NULL adds null */
int json_add_bool(json_object *o, const char *key, bool value);
int json_add_u64(json_object *o, const char *key, uint64_t value);
int json_add_i64(json_object *o, const char *key, int64_t value);
int json_add_double(json_object *o, const char *key, double value);
int json_add_strv(json_object *o, const char *key, char *const *l);
/* {key: value} */
int json_wrap(const char *key, json_object *value, json_object **ret);
int json_append(json_object *array, json_object *value);
int json_append_string(json_object *array, const char *value);

#define FOREACH_JSON_ARRAY(element, array)                                                                  \
        for (size_t _i_##element = 0, _n_##element = (array) ? json_object_array_length(array) : 0;         \
                        _i_##element < _n_##element; _i_##element = _n_##element)                           \
                for (json_object * element;                                                                 \
                                _i_##element < _n_##element &&                                              \
                                (element = json_object_array_get_idx((array), _i_##element), true);         \
                                _i_##element++)
