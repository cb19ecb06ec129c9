/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-field.h"

#include <inttypes.h>
#include <regex.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

#define PATTERN_SUBJECT_MAX 4096U /* longer strings fit no pattern of ours */

typedef struct Check {
        unsigned n_errors;
} Check;

static int check_object(Check *c, const RestField *fields, json_object *o, json_object **ret,
                json_object **ret_errors);

char *rest_field_title(const char *name) {
        char *s = strdup(name);
        bool first = true;

        for (char *p = s; p && *p; p++) {
                if (*p == '_')
                        *p = ' ';
                else if (first && *p >= 'a' && *p <= 'z')
                        *p = (char) (*p - 'a' + 'A');
                first = *p == ' ';
        }
        return s;
}

/* A scalar: *ret_reason NULL and *ret set, or what is wrong with it. */

static bool is_unprintable(char c) {
        return ((unsigned char) c < 0x20 && (c == '\0' || !strchr("\t\r\n", c))) || c == 0x7f;
}

/* Each run of what cannot be printed becomes a space, and spaces around it all go. */
static void tidy(char *s, size_t n) {
        size_t length = 0, start = 0;
        bool inside = false;

        for (size_t i = 0; i < n; i++) {
                bool was_inside = inside;

                inside = is_unprintable(s[i]);
                if (!inside)
                        s[length++] = s[i];
                else if (!was_inside)
                        s[length++] = ' ';
        }
        while (length > 0 && strchr(" \t\r\n", s[length - 1]))
                length--;
        while (start < length && strchr(" \t\r\n", s[start]))
                start++;
        memmove(s, s + start, length - start);
        s[length - start] = '\0';
}

static int clean(const RestField *f, const char *text, size_t n, char **ret, const char **ret_reason) {
        char *s;

        if ((f->flags & REST_VERBATIM) && memchr(text, '\0', n)) {
                *ret_reason = "is invalid";
                return 0;
        }
        s = malloc(n + 1);
        if (!s)
                return -ENOMEM;
        memcpy(s, text, n);
        s[n] = '\0';
        if (!(f->flags & REST_VERBATIM))
                tidy(s, n);

        *ret = s;
        return 0;
}

static bool matches(const char *pattern, const char *s) {
        regex_t regex;
        bool yes;

        if (strlen(s) > PATTERN_SUBJECT_MAX || regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
                return false;
        yes = regexec(&regex, s, 0, NULL, 0) == 0;
        regfree(&regex);
        return yes;
}

static int convert_string(const RestField *f, json_object *value, bool bounded, json_object **ret,
                const char **ret_reason) {
        _cleanup_erase_ char *s = NULL;
        const char *text;
        size_t n;
        int r;

        switch (json_object_get_type(value)) {
        case json_type_string:
                n = (size_t) json_object_get_string_len(value);
                break;
        case json_type_int:
        case json_type_double:
        case json_type_boolean:
                n = strlen(json_object_get_string(value));
                break;
        default:
                *ret_reason = "isn't a string";
                return 0;
        }
        text = json_object_get_string(value);
        r = clean(f, text, n, &s, ret_reason);
        if (r < 0 || *ret_reason)
                return r;

        n = strlen(s);
        if (n == 0 && !(f->flags & REST_EMPTY))
                *ret_reason = "can't be blank";
        else if (bounded && f->max > 0 && n > (size_t) f->max)
                *ret_reason = "is too long";
        else if (bounded && f->min > 0 && n < (size_t) f->min && n > 0)
                *ret_reason = "is too short";
        if (f->options && !*ret_reason) {
                *ret_reason = "isn't an option";
                for (const char *const *o = f->options; *o; o++)
                        if (streq(*o, s))
                                *ret_reason = NULL;
        }
        if (f->pattern && !*ret_reason && !(n == 0 && (f->flags & REST_EMPTY)) && !matches(f->pattern, s))
                *ret_reason = "isn't in the right format";
        if (*ret_reason)
                return 0;

        *ret = json_object_new_string(s);
        return *ret ? 0 : -ENOMEM;
}

static int convert_integer(const RestField *f, json_object *value, bool bounded, json_object **ret,
                const char **ret_reason) {
        int64_t n = 0;

        if (json_object_is_type(value, json_type_int))
                n = json_object_get_int64(value);
        else if (!json_object_is_type(value, json_type_string) ||
                        safe_atoi64(json_object_get_string(value), &n) < 0) {
                *ret_reason = "isn't an integer";
                return 0;
        }
        if (bounded && n < f->min && (f->min != 0 || f->max != 0))
                *ret_reason = "is too small";
        else if (bounded && f->max != 0 && n > f->max)
                *ret_reason = "is too big";
        if (*ret_reason)
                return 0;

        *ret = json_object_new_int64(n);
        return *ret ? 0 : -ENOMEM;
}

static int convert_number(
                const RestField *f, json_object *value, json_object **ret, const char **ret_reason) {
        double d = 0;

        if (json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double))
                d = json_object_get_double(value);
        else if (!json_object_is_type(value, json_type_string) ||
                        safe_atod(json_object_get_string(value), &d) < 0) {
                *ret_reason = "is invalid";
                return 0;
        }
        if (!__builtin_isfinite(d))
                *ret_reason = "is invalid";
        else if (d < (double) f->min && (f->min != 0 || f->max != 0))
                *ret_reason = "is too small";
        else if (f->max != 0 && d > (double) f->max)
                *ret_reason = "is too big";
        if (*ret_reason)
                return 0;

        *ret = json_object_new_double(d);
        return *ret ? 0 : -ENOMEM;
}

static int convert_boolean(json_object *value, json_object **ret, const char **ret_reason) {
        const char *s = json_object_is_type(value, json_type_boolean) ||
                                                        json_object_is_type(value, json_type_int) ||
                                                        json_object_is_type(value, json_type_string)
                                        ? json_object_get_string(value)
                                        : NULL;
        bool yes = s && STR_IN_SET(s, "true", "1");

        if (!yes && !(s && STR_IN_SET(s, "false", "0"))) {
                *ret_reason = "isn't a boolean";
                return 0;
        }
        *ret = json_object_new_boolean(yes);
        return *ret ? 0 : -ENOMEM;
}

static int check_list(Check *c, const RestField *f, json_object *list, json_object **ret,
                json_object **ret_error, const char **ret_reason);

/* One value of a type. *ret set; or *ret_error, an object or a list; or *ret_reason. bounded: min and max are of this value. */
static int check_value(Check *c, const RestField *f, RestType type, bool bounded, json_object *value,
                json_object **ret, json_object **ret_error, const char **ret_reason) {
        switch (type) {
        case REST_STRING:
                return convert_string(f, value, bounded, ret, ret_reason);
        case REST_INTEGER:
                return convert_integer(f, value, bounded, ret, ret_reason);
        case REST_NUMBER:
                return convert_number(f, value, ret, ret_reason);
        case REST_BOOLEAN:
                return convert_boolean(value, ret, ret_reason);
        case REST_ARRAY:
                if (!json_object_is_type(value, json_type_array)) {
                        *ret_reason = "isn't an array";
                        return 0;
                }
                return check_list(c, f, value, ret, ret_error, ret_reason);
        case REST_OBJECT:
                if (!json_object_is_type(value, json_type_object)) {
                        *ret_reason = "isn't a hash";
                        return 0;
                }
                if (f->fields)
                        return check_object(c, f->fields, value, ret, ret_error);
                *ret = json_object_get(value);
                return 0;
        case REST_ANY:
        default:
                *ret = json_object_get(value);
                return 0;
        }
}

static int list_error(Check *c, const RestField *f, size_t i, const char *reason, json_object **errors) {
        _cleanup_free_ char *title = rest_field_title(f->name), *text = NULL;
        json_object *value;

        if (++c->n_errors > REST_FIELD_ERRORS_MAX)
                return 0;
        text = title ? strprintf("%s[%zu] %s", title, i, reason) : NULL;
        value = text ? json_object_new_string(text) : NULL;
        if (!value)
                return -ENOMEM;
        if (json_object_array_put_idx(*errors, i, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

static int check_list(Check *c, const RestField *f, json_object *list, json_object **ret,
                json_object **ret_error, const char **ret_reason) {
        _cleanup_json_ json_object *good = json_object_new_array(), *errors = json_object_new_array();
        size_t n = json_object_array_length(list);
        bool wrong = false;
        int r;

        if (!good || !errors)
                return -ENOMEM;
        if (f->max > 0 && n > (size_t) f->max) {
                *ret_reason = "is too long";
                return 0;
        }

        for (size_t i = 0; i < n && c->n_errors <= REST_FIELD_ERRORS_MAX; i++) {
                json_object *value = json_object_array_get_idx(list, i), *converted = NULL, *nested = NULL;
                const char *reason = NULL;

                if (!value)
                        reason = "can't be nil";
                else {
                        r = check_value(c, f, f->element, false, value, &converted, &nested, &reason);
                        if (r < 0)
                                return r;
                }
                if (reason)
                        r = list_error(c, f, i, reason, &errors);
                else if (nested) {
                        r = json_object_array_put_idx(errors, i, nested) < 0 ? -ENOMEM : 0;
                        if (r < 0)
                                json_object_put(nested);
                } else
                        r = json_append(good, converted);
                if (r < 0)
                        return r;
                wrong = wrong || reason || nested;
        }

        if (wrong) {
                /* One entry for each element, null for good ones. */
                if (json_object_array_length(errors) < n &&
                                json_object_array_put_idx(errors, n - 1, NULL) < 0)
                        return -ENOMEM;
                *ret_error = TAKE_PTR(errors);
        } else
                *ret = TAKE_PTR(good);
        return 0;
}

static int add_reason(Check *c, const RestField *f, const char *reason, json_object *errors) {
        _cleanup_free_ char *title = rest_field_title(f->name), *text = NULL;

        c->n_errors++;
        text = title ? strjoin(title, " ", reason) : NULL;
        return text ? json_add_string(errors, f->name, text) : -ENOMEM;
}

static int check_field(
                Check *c, const RestField *f, json_object *o, json_object *good, json_object *errors) {
        json_object *value = NULL, *converted = NULL, *nested = NULL;
        const char *reason = NULL;
        int r;

        if (!json_object_object_get_ex(o, f->name, &value))
                return f->flags & REST_REQUIRED ? add_reason(c, f, "is required", errors) : 0;
        if (!value) {
                if (f->flags & REST_NULLABLE) {
                        /* null as a value: json_add() takes it for lack of memory */
                        return json_object_object_add(good, f->name, NULL) < 0 ? -ENOMEM : 0;
                }
                return f->flags & REST_REQUIRED ? add_reason(c, f, "can't be nil", errors) : 0;
        }

        r = check_value(c, f, f->type, true, value, &converted, &nested, &reason);
        if (r < 0)
                return r;
        if (reason)
                return add_reason(c, f, reason, errors);
        return nested ? json_add(errors, f->name, nested) : json_add(good, f->name, converted);
}

static int check_object(Check *c, const RestField *fields, json_object *o, json_object **ret,
                json_object **ret_errors) {
        _cleanup_json_ json_object *good = json_object_new_object(), *errors = json_object_new_object();
        int r;

        if (!good || !errors)
                return -ENOMEM;
        for (const RestField *f = fields; f->name; f++) {
                r = check_field(c, f, o, good, errors);
                if (r < 0)
                        return r;
        }

        if (json_object_object_length(errors) > 0)
                *ret_errors = TAKE_PTR(errors);
        else
                *ret = TAKE_PTR(good);
        return 0;
}

int rest_fields_check(const RestField *fields, json_object *body, json_object **ret) {
        json_object *good = NULL, *errors = NULL;
        Check c = {};
        int r;

        assert(fields);
        assert(body);
        assert(ret);

        r = check_object(&c, fields, body, &good, &errors);
        if (r < 0)
                return r;

        *ret = errors ?: good;
        return errors ? 1 : 0;
}
