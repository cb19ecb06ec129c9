/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "master-config.h"
#include "operation.h"
#include "string-util.h"

#define KEY_SALT "server.salt" /* of the original; ours needs none */

static bool matches(const char *key, const char *filter) {
        size_t n = strlen(filter);

        if (n > 0 && filter[n - 1] == '*')
                return strneq(key, filter, n - 1);
        return strstr(key, filter);
}

static int config_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object(), *values = json_object_new_object();
        _cleanup_(config_row_list_done) ConfigRowList l = {};
        const char *filter;
        int r;

        if (!o || !values)
                return -ENOMEM;
        r = call_string(c, "filter", &filter, reterr);
        if (r >= 0)
                r = store_list_config(c->master->store, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n) {
                _cleanup_erase_ char *value = NULL;

                if (streq((*row)->id, KEY_SALT) || !matches((*row)->id, filter))
                        continue;
                r = master_config_get(c->master, (*row)->id, &value);
                if (r == -EBADMSG)
                        return kerror_set(reterr, K_INTERNAL,
                                        "The value of '%s' cannot be opened: the master's key is another.",
                                        (*row)->id);
                if (r >= 0)
                        r = json_add_string(values, (*row)->id, value);
                if (r < 0)
                        return r;
        }
        r = json_add(o, "values", TAKE_PTR(values));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int config_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_erase_ char *value = NULL;
        const char *key;
        int r;

        if (!o)
                return -ENOMEM;
        r = call_string(c, "key", &key, reterr);
        if (r < 0)
                return r;
        r = streq(key, KEY_SALT) ? -ENOENT : master_config_get(c->master, key, &value);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_KEY, "'%s' is not set.", key);
        if (r == -EBADMSG)
                return kerror_set(reterr, K_INTERNAL,
                                "The value of '%s' cannot be opened: the master's key is another.", key);
        if (r >= 0)
                r = json_add_string(o, "key", key);
        if (r >= 0)
                r = json_add_string(o, "value", value);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* Another provider calls people otherwise: who has an account there must not become who had the same one here. */
static bool concerns_login(const char *key) {
        return startswith(key, "oauth2.") || streq(key, "server.root_url");
}

static int clear(OperationCall *c) {
        _cleanup_(config_row_list_done) ConfigRowList l = {};
        int r;

        r = store_list_config(c->master->store, &l);
        FOREACH_ARRAY(row, l.rows, l.n)
                if (r >= 0 && !streq((*row)->id, KEY_SALT))
                        r = store_delete_config(c->master->store, (*row)->id);
        return r;
}

static int set_value(OperationCall *c, const char *key, json_object *value, KError *reterr) {
        int r;

        if (streq(key, KEY_SALT))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' cannot be set.", KEY_SALT);
        if (!value) {
                r = store_delete_config(c->master->store, key);
                return r == -ENOENT ? 0 : r;
        }
        if (json_object_is_type(value, json_type_object) || json_object_is_type(value, json_type_array))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The value of '%s' is not simple.", key);
        if (strlen(json_object_get_string(value)) != (size_t) json_object_get_string_len(value) &&
                        json_object_is_type(value, json_type_string))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The value of '%s' has a NUL byte.", key);
        return master_config_set(c->master, key, json_object_get_string(value), reterr);
}

static int config_set(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(config_row_list_done) ConfigRowList all = {};
        json_object *values = NULL;
        bool replace = false, login;
        int r;

        r = json_get_object(c->parameters, "values", &values, reterr);
        if (r >= 0)
                r = json_find_bool(c->parameters, "replace", &replace, reterr);
        if (r >= 0 && replace)
                r = clear(c);
        if (r < 0)
                return r;
        login = replace;
        json_object_object_foreach(values, key, value) {
                r = set_value(c, key, value, reterr);
                if (r < 0)
                        return r;
                login = login || concerns_login(key);
        }
        r = store_list_config(c->master->store, &all);
        if (r < 0)
                return r;
        if (all.n > CONFIG_KEYS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u keys can be set.", CONFIG_KEYS_MAX);

        return login ? store_forget_external_ids(c->master->store) : 0;
}

static int config_unset(OperationCall *c, json_object **ret, KError *reterr) {
        const char *key;
        int r;

        r = call_string(c, "key", &key, reterr);
        if (r >= 0)
                r = set_value(c, key, NULL, reterr);
        if (r < 0)
                return r;
        return concerns_login(key) ? store_forget_external_ids(c->master->store) : 0;
}

const Operation config_operations[] = {
        {
                        .name = "config.list",
                        .method = "ListConfig",
                        .action = "io.kontena.master1.manage-config",
                        .role = "master_admin",
                        .flags = OPERATION_AUDITED | OPERATION_SECRET,
                        .parameters = { { "filter", PARAMETER_STRING, false } },
                        .results = { "values" },
                        .perform = config_list,
        },
        {
                        .name = "config.get",
                        .method = "GetConfig",
                        .action = "io.kontena.master1.manage-config",
                        .role = "master_admin",
                        .flags = OPERATION_AUDITED | OPERATION_SECRET,
                        .parameters = { { "key", PARAMETER_STRING, true } },
                        .results = { "value" },
                        .perform = config_get,
        },
        {
                        .name = "config.set",
                        .method = "SetConfig",
                        .action = "io.kontena.master1.manage-config",
                        .role = "master_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED,
                        .parameters = { { "values", PARAMETER_VALUES, true },
                                        { "replace", PARAMETER_BOOL, false } },
                        .perform = config_set,
        },
        {
                        .name = "config.unset",
                        .method = "UnsetConfig",
                        .action = "io.kontena.master1.manage-config",
                        .role = "master_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED,
                        .parameters = { { "key", PARAMETER_STRING, true } },
                        .perform = config_unset,
        },
};
const size_t n_config_operations = ELEMENTSOF(config_operations);
