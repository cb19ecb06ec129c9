/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "json-util.h"
#include "rest-internal.h"
#include "rest-rows.h"
#include "string-util.h"

static bool reply_failure(RestCall *c, const KError *error) {
        if (!kerror_is_set(error))
                return false;
        if (error->code == K_ACCESS_DENIED)
                (void) rest_reply_error(c, 403, "access_denied");
        else
                (void) rest_reply_kerror(c, error);
        return true;
}

static int compare(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int reply_sorted(RestCall *c, json_object *values) {
        _cleanup_json_ json_object *o = json_object_new_object();
        size_t n = (size_t) json_object_object_length(values), i = 0;
        _cleanup_free_ const char **keys = NULL;

        keys = new0(const char *, n + 1);
        if (!o || !keys)
                return -ENOMEM;
        json_object_object_foreach(values, key, value) {
                (void) value;
                keys[i++] = key;
        }
        qsort(keys, n, sizeof(keys[0]), compare);
        for (i = 0; i < n; i++)
                if (json_add(o, keys[i], json_object_get(json_object_object_get(values, keys[i]))) < 0)
                        return -ENOMEM;
        return rest_reply(c, 200, TAKE_PTR(o));
}

static void on_list(RestCall *c, json_object *result, const KError *error) {
        json_object *values = NULL;

        if (reply_failure(c, error))
                return;
        (void) json_find_object(result, "values", &values, NULL);
        rest_finish(c, values ? reply_sorted(c, values) : -ENODATA);
}

static int rest_list_config(RestCall *c, KError *reterr) {
        return rest_call(c, "config.list", rest_params("filter", rest_query(c, "filter"), NULL), on_list);
}

static void on_get(RestCall *c, json_object *result, const KError *error) {
        const char *value = NULL;

        if (kerror_is_set(error) && error->code == K_NO_SUCH_KEY) {
                (void) rest_reply_string(c, 404, "Not found");
                return;
        }
        if (reply_failure(c, error))
                return;
        (void) json_find_string(result, "value", &value, NULL);
        rest_finish(c, rest_reply(c, 200, rest_params(rest_segment(c, "key"), strempty(value), NULL)));
}

static int rest_get_config(RestCall *c, KError *reterr) {
        return rest_call(c, "config.get", rest_params("key", rest_segment(c, "key"), NULL), on_get);
}

static void on_changed(RestCall *c, json_object *result, const KError *error) {
        if (!reply_failure(c, error))
                (void) rest_reply(c, 201, json_object_new_object());
}

static int set(RestCall *c, json_object *values, bool replace) {
        _cleanup_json_ json_object *params = json_object_new_object();
        int r;

        if (!params) {
                json_object_put(values);
                return -ENOMEM;
        }
        r = json_add(params, "values", values);
        if (r >= 0)
                r = json_add_bool(params, "replace", replace);
        return r < 0 ? r : rest_call(c, "config.set", TAKE_PTR(params), on_changed);
}

static int rest_update_config(RestCall *c, KError *reterr) {
        return set(c, json_object_get(rest_body(c)), false);
}

static int rest_replace_config(RestCall *c, KError *reterr) {
        return set(c, json_object_get(rest_body(c)), true);
}

static int rest_clear_config(RestCall *c, KError *reterr) {
        return set(c, json_object_new_object(), true);
}

static int rest_unset_config(RestCall *c, KError *reterr) {
        return rest_call(c, "config.unset", rest_params("key", rest_segment(c, "key"), NULL), on_changed);
}

static const RestField query[] = {
        { .name = "filter", .type = REST_STRING, .summary = "prefix* or a part" },
        {},
};

#define ROUTE(m, p, o, s, h) .method = (m), .pattern = (p), .operation = (o), .summary = (s), .handler = (h)

const RestRoute config_routes[] = {
        { ROUTE("GET", "/v1/config", "config.list", "All settings", rest_list_config), .query = query },
        { ROUTE("PATCH", "/v1/config", "config.set", "Change settings; null removes one",
                          rest_update_config),
                        .status = 201 },
        { ROUTE("PUT", "/v1/config", "config.set", "Replace all settings", rest_replace_config),
                        .status = 201 },
        { ROUTE("DELETE", "/v1/config", "config.set", "Remove all settings", rest_clear_config),
                        .status = 201 },
        { ROUTE("GET", "/v1/config/:key", "config.get", "One setting", rest_get_config) },
        { ROUTE("DELETE", "/v1/config/:key", "config.unset", "Remove a setting", rest_unset_config),
                        .status = 201 },
};
const size_t n_config_routes = ELEMENTSOF(config_routes);
