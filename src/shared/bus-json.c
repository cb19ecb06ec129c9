/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"

#include <math.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define NULL_SIGNATURE SD_BUS_TYPE_SIGNATURE

/* What one conversion may still do. */
typedef struct Budget {
        unsigned depth;
        size_t values;
} Budget;

static int too_much(KError *reterr) {
        return kerror_set(reterr, K_LIMIT_EXCEEDED,
                        "A value on the bus has more than %u levels or more than %u values in it.",
                        JSON_DEPTH_MAX, BUS_JSON_VALUES_MAX);
}

static int spend(Budget *b, KError *reterr) {
        if (b->values == 0)
                return too_much(reterr);
        b->values--;
        return 0;
}

static int bus_error(int r, KError *reterr) {
        return kerror_set_errno(reterr, r == -ENXIO ? -EBADMSG : r, "The message cannot be read: %m");
}

int bus_signature_element(const char *signature) {
        size_t n = 0;

        while (signature[n] == SD_BUS_TYPE_ARRAY)
                n++;

        if (signature[n] == SD_BUS_TYPE_STRUCT_BEGIN || signature[n] == SD_BUS_TYPE_DICT_ENTRY_BEGIN) {
                int depth = 0;

                for (;; n++) {
                        if (signature[n] == '\0')
                                return -EINVAL;
                        if (strchr("({", signature[n]))
                                depth++;
                        else if (strchr(")}", signature[n]) && --depth == 0)
                                return (int) n + 1;
                }
        }

        if (signature[n] == '\0' || !strchr("ybnqiuxtdsogvh", signature[n]))
                return -EINVAL;
        return (int) n + 1;
}

static int read_value(sd_bus_message *m, Budget *b, json_object **ret, KError *reterr);

static int read_integer(sd_bus_message *m, char type, json_object **ret) {
        union {
                uint8_t y;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
        } v;
        json_object *o;
        int r;

        r = sd_bus_message_read_basic(m, type, &v);
        if (r < 0)
                return r;

        switch (type) {
        case SD_BUS_TYPE_BYTE:
                o = json_object_new_int(v.y);
                break;
        case SD_BUS_TYPE_INT16:
                o = json_object_new_int(v.n);
                break;
        case SD_BUS_TYPE_UINT16:
                o = json_object_new_int(v.q);
                break;
        case SD_BUS_TYPE_INT32:
                o = json_object_new_int(v.i);
                break;
        case SD_BUS_TYPE_UINT32:
                o = json_object_new_int64(v.u);
                break;
        case SD_BUS_TYPE_INT64:
                o = json_object_new_int64(v.x);
                break;
        default:
                o = json_object_new_uint64(v.t);
        }
        if (!o)
                return -ENOMEM;

        *ret = o;
        return 0;
}

static int read_dictionary(sd_bus_message *m, Budget *b, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;

        for (;;) {
                _cleanup_json_ json_object *v = NULL;
                const char *key;

                /* Entering by a NULL signature is -ENXIO at the end, not 0. */
                r = sd_bus_message_at_end(m, /* complete= */ false);
                if (r < 0)
                        return bus_error(r, reterr);
                if (r > 0)
                        break;

                r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, NULL);
                if (r < 0)
                        return bus_error(r, reterr);

                r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &key);
                if (r < 0)
                        return bus_error(r, reterr);
                if (json_object_object_get_ex(o, key, NULL))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is given twice.", key);

                r = read_value(m, b, &v, reterr);
                if (r < 0)
                        return r;
                if (json_object_object_add(o, key, v) < 0)
                        return -ENOMEM;
                TAKE_PTR(v);

                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return bus_error(r, reterr);
        }

        *ret = TAKE_PTR(o);
        return 0;
}

static int read_elements(sd_bus_message *m, Budget *b, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *array = NULL;
        int r;

        array = json_object_new_array();
        if (!array)
                return -ENOMEM;

        for (;;) {
                _cleanup_json_ json_object *v = NULL;

                r = sd_bus_message_at_end(m, /* complete= */ false);
                if (r < 0)
                        return bus_error(r, reterr);
                if (r > 0)
                        break;

                r = read_value(m, b, &v, reterr);
                if (r < 0)
                        return r;
                if (json_object_array_add(array, v) < 0)
                        return -ENOMEM;
                TAKE_PTR(v);
        }

        *ret = TAKE_PTR(array);
        return 0;
}

static int read_container(sd_bus_message *m, char type, const char *contents, Budget *b, json_object **ret,
                KError *reterr) {
        json_object *o = NULL;
        int r;

        if (b->depth == 0)
                return too_much(reterr);

        if (type == SD_BUS_TYPE_ARRAY && contents[0] == SD_BUS_TYPE_DICT_ENTRY_BEGIN &&
                        contents[1] != SD_BUS_TYPE_STRING)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A dictionary on the bus must have strings for keys, not type '%c'.",
                                contents[1]);

        r = sd_bus_message_enter_container(m, type, contents);
        if (r < 0)
                return bus_error(r, reterr);

        b->depth--;
        if (type == SD_BUS_TYPE_VARIANT)
                r = read_value(m, b, &o, reterr);
        else if (contents[0] == SD_BUS_TYPE_DICT_ENTRY_BEGIN)
                r = read_dictionary(m, b, &o, reterr);
        else
                r = read_elements(m, b, &o, reterr);
        b->depth++;
        if (r < 0)
                return r;

        r = sd_bus_message_exit_container(m);
        if (r < 0) {
                json_object_put(o);
                return bus_error(r, reterr);
        }

        *ret = o;
        return 0;
}

static int read_value(sd_bus_message *m, Budget *b, json_object **ret, KError *reterr) {
        const char *contents, *s;
        json_object *o = NULL;
        double d;
        char type;
        int r, v;

        r = spend(b, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return bus_error(r, reterr);
        if (r == 0)
                return -ENXIO;

        switch (type) {

        case SD_BUS_TYPE_ARRAY:
        case SD_BUS_TYPE_STRUCT:
        case SD_BUS_TYPE_VARIANT:
                return read_container(m, type, contents, b, ret, reterr);

        case SD_BUS_TYPE_BOOLEAN:
                r = sd_bus_message_read_basic(m, type, &v);
                if (r >= 0)
                        o = json_object_new_boolean(v);
                break;

        case SD_BUS_TYPE_DOUBLE:
                r = sd_bus_message_read_basic(m, type, &d);
                if (r < 0)
                        break;
                if (!isfinite(d))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "A number on the bus is not finite.");
                o = json_object_new_double(d);
                break;

        case SD_BUS_TYPE_STRING:
        case SD_BUS_TYPE_OBJECT_PATH:
                r = sd_bus_message_read_basic(m, type, &s);
                if (r >= 0)
                        o = json_object_new_string(s);
                break;

        case NULL_SIGNATURE:
                r = sd_bus_message_read_basic(m, type, &s);
                if (r < 0)
                        break;
                if (!isempty(s))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "A value of type 'g' must be empty.");
                *ret = NULL;
                return 0;

        case SD_BUS_TYPE_BYTE:
        case SD_BUS_TYPE_INT16:
        case SD_BUS_TYPE_UINT16:
        case SD_BUS_TYPE_INT32:
        case SD_BUS_TYPE_UINT32:
        case SD_BUS_TYPE_INT64:
        case SD_BUS_TYPE_UINT64:
                r = read_integer(m, type, &o);
                break;

        default:
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "A value of type '%c' is not understood.", type);
        }
        if (r < 0)
                return bus_error(r, reterr);
        if (!o)
                return -ENOMEM;

        *ret = o;
        return 0;
}

int bus_json_read(sd_bus_message *m, json_object **ret, KError *reterr) {
        Budget b = { JSON_DEPTH_MAX, BUS_JSON_VALUES_MAX };

        assert(m);
        assert(ret);

        return read_value(m, &b, ret, reterr);
}

static int append_value(sd_bus_message *m, const char *type, json_object *value, Budget *b, KError *reterr);

static int wrong(const char *type, json_object *value, KError *reterr) {
        return kerror_set(reterr, K_INVALID_ARGUMENT,
                        "A value of type '%s' was expected on the bus, not %s.", type,
                        value ? json_type_to_name(json_object_get_type(value)) : "null");
}

static int append_integer(sd_bus_message *m, const char *type, json_object *value, KError *reterr) {
        int64_t x;
        uint64_t t;
        int64_t min, max;

        if (!json_object_is_type(value, json_type_int))
                return wrong(type, value, reterr);

        x = json_object_get_int64(value); /* clamps */
        t = json_object_get_uint64(value);

        switch (type[0]) {
        case SD_BUS_TYPE_UINT64:
                if (x < 0)
                        goto range;
                return sd_bus_message_append(m, "t", t);
        case SD_BUS_TYPE_INT64:
                if (x == INT64_MAX && t > INT64_MAX)
                        goto range;
                return sd_bus_message_append(m, "x", x);
        case SD_BUS_TYPE_BYTE:
                min = 0, max = UINT8_MAX;
                break;
        case SD_BUS_TYPE_INT16:
                min = INT16_MIN, max = INT16_MAX;
                break;
        case SD_BUS_TYPE_UINT16:
                min = 0, max = UINT16_MAX;
                break;
        case SD_BUS_TYPE_INT32:
                min = INT32_MIN, max = INT32_MAX;
                break;
        default:
                min = 0, max = UINT32_MAX;
        }
        if (x < min || x > max)
                goto range;

        return sd_bus_message_append(m, (const char[]){ type[0], '\0' }, (int) x);

range:
        return kerror_set(reterr, K_INVALID_ARGUMENT, "The number %s does not fit in type '%s'.",
                        json_text(value), type);
}

static int append_dictionary(
                sd_bus_message *m, const char *entry, json_object *value, Budget *b, KError *reterr) {
        _cleanup_free_ char *types = NULL; /* "{sv}" without its braces */
        int r;

        if (!json_object_is_type(value, json_type_object) || entry[1] != SD_BUS_TYPE_STRING)
                return wrong("a{sv}", value, reterr);

        types = strndup(entry + 1, strlen(entry) - 2);
        if (!types)
                return -ENOMEM;

        json_object_object_foreach(value, key, v) {
                r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, types);
                if (r < 0)
                        return r;
                r = sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, key);
                if (r < 0)
                        return r;
                r = append_value(m, types + 1, v, b, reterr);
                if (r < 0)
                        return r;
                r = sd_bus_message_close_container(m);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int append_struct(
                sd_bus_message *m, const char *types, json_object *value, Budget *b, KError *reterr) {
        size_t i = 0;
        int r;

        for (const char *p = types; *p; i++) {
                _cleanup_free_ char *element = NULL;
                int n = bus_signature_element(p);

                if (n < 0)
                        return n;
                element = strndup(p, (size_t) n);
                if (!element)
                        return -ENOMEM;
                p += n;

                if (i >= json_object_array_length(value))
                        return wrong(types, value, reterr);
                r = append_value(m, element, json_object_array_get_idx(value, i), b, reterr);
                if (r < 0)
                        return r;
        }

        return i == json_object_array_length(value) ? 0 : wrong(types, value, reterr);
}

static int append_container(
                sd_bus_message *m, const char *type, json_object *value, Budget *b, KError *reterr) {
        _cleanup_free_ char *contents = NULL;
        bool array = type[0] == SD_BUS_TYPE_ARRAY;
        int r;

        contents = array ? strdup(type + 1) : strndup(type + 1, strlen(type) - 2);
        if (!contents)
                return -ENOMEM;
        if (contents[0] != SD_BUS_TYPE_DICT_ENTRY_BEGIN && !json_object_is_type(value, json_type_array))
                return wrong(type, value, reterr);

        r = sd_bus_message_open_container(m, array ? SD_BUS_TYPE_ARRAY : SD_BUS_TYPE_STRUCT, contents);
        if (r < 0)
                return r;

        if (!array)
                r = append_struct(m, contents, value, b, reterr);
        else if (contents[0] == SD_BUS_TYPE_DICT_ENTRY_BEGIN)
                r = append_dictionary(m, contents, value, b, reterr);
        else
                FOREACH_JSON_ARRAY(e, value) {
                        r = append_value(m, contents, e, b, reterr);
                        if (r < 0)
                                break;
                }
        if (r < 0)
                return r;

        return sd_bus_message_close_container(m);
}

static bool array_is_all(json_object *array, json_type type) {
        FOREACH_JSON_ARRAY(e, array)
                if (!json_object_is_type(e, type))
                        return false;
        return true;
}

static const char *variant_type(json_object *value) {
        switch (json_object_get_type(value)) {
        case json_type_boolean:
                return "b";
        case json_type_int:
                return json_object_get_int64(value) < 0 ? "x" : "t";
        case json_type_double:
                return "d";
        case json_type_string:
                return "s";
        case json_type_object:
                return "a{sv}";
        case json_type_array:
                return array_is_all(value, json_type_string)   ? "as"
                       : array_is_all(value, json_type_object) ? "aa{sv}"
                                                               : "av";
        default:
                return "g";
        }
}

static int append_value(sd_bus_message *m, const char *type, json_object *value, Budget *b, KError *reterr) {
        const char *s;
        int r;

        r = spend(b, reterr);
        if (r < 0)
                return r;

        switch (type[0]) {

        case SD_BUS_TYPE_VARIANT: {
                const char *t = variant_type(value);

                if (b->depth == 0)
                        return too_much(reterr);
                r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, t);
                if (r < 0)
                        return r;
                b->depth--;
                r = append_value(m, t, value, b, reterr);
                b->depth++;
                if (r < 0)
                        return r;
                return sd_bus_message_close_container(m);
        }

        case SD_BUS_TYPE_ARRAY:
        case SD_BUS_TYPE_STRUCT_BEGIN:
                if (b->depth == 0)
                        return too_much(reterr);
                b->depth--;
                r = append_container(m, type, value, b, reterr);
                b->depth++;
                return r;

        case SD_BUS_TYPE_BOOLEAN:
                if (!json_object_is_type(value, json_type_boolean))
                        return wrong(type, value, reterr);
                return sd_bus_message_append(m, "b", json_object_get_boolean(value));

        case SD_BUS_TYPE_DOUBLE:
                if (!json_object_is_type(value, json_type_double) &&
                                !json_object_is_type(value, json_type_int))
                        return wrong(type, value, reterr);
                return sd_bus_message_append(m, "d", json_object_get_double(value));

        case SD_BUS_TYPE_STRING:
        case SD_BUS_TYPE_OBJECT_PATH:
                if (!json_object_is_type(value, json_type_string))
                        return wrong(type, value, reterr);
                s = json_object_get_string(value);
                if (type[0] == SD_BUS_TYPE_OBJECT_PATH && !sd_bus_object_path_is_valid(s))
                        return wrong(type, value, reterr);
                if (strlen(s) != (size_t) json_object_get_string_len(value))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "A string for the bus has a NUL byte in it.");
                return sd_bus_message_append_basic(m, type[0], s);

        case NULL_SIGNATURE:
                if (value)
                        return wrong(type, value, reterr);
                return sd_bus_message_append_basic(m, type[0], "");

        default:
                return append_integer(m, type, value, reterr);
        }
}

int bus_json_append(sd_bus_message *m, const char *type, json_object *value, KError *reterr) {
        Budget b = { JSON_DEPTH_MAX, BUS_JSON_VALUES_MAX };
        int r;

        assert(m);
        assert(type);

        if (bus_signature_element(type) != (int) strlen(type))
                return -EINVAL;

        r = append_value(m, type, value, &b, reterr);
        return MIN(r, 0);
}
