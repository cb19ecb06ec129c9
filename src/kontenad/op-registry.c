/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry.h"

#include "events.h"
#include "file-util.h"
#include "image-reference.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "op-internal.h"
#include "string-util.h"

/* Both go into one header as "USERNAME:PASSWORD". */
static int username_validate(const char *s, KError *reterr) {
        if (isempty(s))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A user name is needed.");
        if (strchr(s, ':'))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A user name has no ':'.");
        return 0;
}

static int password_validate(const char *s, KError *reterr) {
        if (isempty(s))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A password is needed.");
        if (strlen(s) > REGISTRY_PASSWORD_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A password has at most %u bytes.",
                                REGISTRY_PASSWORD_MAX);
        return 0;
}

static int get_name(OperationCall *c, char **ret, KError *reterr) {
        const char *text;
        int r;

        r = call_string(c, "registry", &text, reterr);
        return r < 0 ? r : registry_name_parse(text, ret, reterr);
}

static int find_registry(OperationCall *c, RegistryRow **ret, KError *reterr) {
        _cleanup_free_ char *name = NULL;
        int r;

        r = get_name(c, &name, reterr);
        if (r < 0)
                return r;
        r = store_find_registry(c->master->store, c->grid->id, name, ret);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_REGISTRY,
                                "Grid '%s' has no credentials for a registry '%s'.", c->grid->name, name);
        return r;
}

static int new_registry(OperationCall *c, const char *name, RegistryRow **ret, KError *reterr) {
        _cleanup_(registry_row_list_done) RegistryRowList all = {};
        _cleanup_(registry_row_freep) RegistryRow *row = NULL;
        int r;

        r = store_list_registries(c->master->store, c->grid->id, &all);
        if (r < 0)
                return r;
        if (all.n >= REGISTRIES_PER_GRID_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Grid '%s' has credentials for %zu registries, more are not possible.",
                                c->grid->name, all.n);
        row = new0(RegistryRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->grid_id = strdup(c->grid->id);
        row->name = strdup(name);
        row->created_at = now_realtime();
        if (!row->id || !row->grid_id || !row->name)
                return -ENOMEM;

        *ret = TAKE_PTR(row);
        return 0;
}

static int set_email(RegistryRow *row, json_object *options, KError *reterr) {
        const char *email = NULL;
        int r;

        r = json_find_string(options, "email", &email, reterr);
        if (r <= 0)
                return r;
        if (strlen(strempty(email)) > LABEL_LENGTH_MAX || !string_is_printable(strempty(email)))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'email' is too long or has control characters.");
        r = free_and_strdup(&row->email, isempty(email) ? NULL : email);
        return MIN(r, 0);
}

/* What is there is replaced: whoever logs in again means the new password. */
static int registry_add(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const allowed[] = { "email", NULL };
        _cleanup_(registry_row_freep) RegistryRow *row = NULL;
        _cleanup_json_ json_object *result = json_object_new_object();
        _cleanup_free_ char *name = NULL;
        const char *username, *password;
        json_object *options;
        bool replaced = true;
        int r;

        if (!result)
                return -ENOMEM;
        r = get_name(c, &name, reterr);
        if (r >= 0)
                r = call_string(c, "username", &username, reterr);
        if (r >= 0)
                r = call_string(c, "password", &password, reterr);
        if (r >= 0)
                r = call_settings(c, "options", allowed, &options, reterr);
        if (r >= 0)
                r = username_validate(username, reterr);
        if (r >= 0)
                r = password_validate(password, reterr);
        if (r < 0)
                return r;

        r = store_find_registry(c->master->store, c->grid->id, name, &row);
        if (r == -ENOENT) {
                replaced = false;
                r = new_registry(c, name, &row, reterr);
        }
        if (r >= 0)
                r = set_email(row, options, reterr);
        if (r >= 0)
                r = free_and_strdup(&row->username, username);
        if (r >= 0)
                r = registry_seal(c->master->keyring, row, password);
        if (r < 0)
                return r;
        row->updated_at = now_realtime();
        r = store_put_registry(c->master->store, row);
        if (r >= 0)
                r = json_add_string(result, "name", row->name);
        if (r >= 0)
                r = json_add_bool(result, "replaced", replaced);
        if (r < 0)
                return r;

        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info", .type = "grid:registry", .grid_id = c->grid->id },
                        "Grid '%s' has %scredentials of user '%s' for registry '%s'.", c->grid->name,
                        replaced ? "new " : "", row->username, row->name);
        *ret = TAKE_PTR(result);
        return 0;
}

static int render(const RegistryRow *row, json_object *array) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "name", row->name);
        if (r >= 0)
                r = json_add_string(o, "username", row->username);
        if (r >= 0)
                r = json_add_string(o, "email", strempty(row->email));
        if (r >= 0)
                r = json_add_u64(o, "created_at", row->created_at);
        if (r >= 0)
                r = json_add_u64(o, "updated_at", row->updated_at);
        return r < 0 ? r : json_append(array, TAKE_PTR(o));
}

static int registry_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *result = json_object_new_object(), *array = json_object_new_array();
        _cleanup_(registry_row_list_done) RegistryRowList l = {};
        int r;

        if (!result || !array)
                return -ENOMEM;
        r = store_list_registries(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n) {
                r = render(*row, array);
                if (r < 0)
                        return r;
        }
        r = json_add(result, "registries", TAKE_PTR(array));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(result);
        return 0;
}

static int registry_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(registry_row_freep) RegistryRow *row = NULL;
        int r;

        r = find_registry(c, &row, reterr);
        if (r >= 0)
                r = store_delete_registry(c->master->store, row->id);
        if (r < 0)
                return r;

        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info", .type = "grid:registry", .grid_id = c->grid->id },
                        "Grid '%s' has no credentials for registry '%s' any more.", c->grid->name,
                        row->name);
        return 0;
}

const Operation registry_operations[] = {
        {
                        .name = "registry.add",
                        .method = "AddRegistry",
                        .action = "io.kontena.master1.manage-registries",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "registry", PARAMETER_STRING, true },
                                        { "username", PARAMETER_STRING, true },
                                        { "password", PARAMETER_SECRET, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "name", "replaced" },
                        .perform = registry_add,
        },
        {
                        .name = "registry.list",
                        .method = "ListRegistries",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "registries" },
                        .perform = registry_list,
        },
        {
                        .name = "registry.remove",
                        .method = "RemoveRegistry",
                        .action = "io.kontena.master1.manage-registries",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "registry", PARAMETER_STRING, true } },
                        .perform = registry_remove,
        },
};
const size_t n_registry_operations = ELEMENTSOF(registry_operations);
