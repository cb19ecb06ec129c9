/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "operation.h"
#include "revision.h"
#include "string-util.h"
#include "vault.h"

static int secret_name_validate(const char *name, KError *reterr) {
        if (isempty(name) || strlen(name) > NAME_LENGTH_MAX ||
                        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") !=
                                        strlen(name) ||
                        name[0] == '.' || name[0] == '-')
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is not a name for a secret: letters, digits, '.', '_' and '-', at "
                                "most %u of them.",
                                name, NAME_LENGTH_MAX);
        return 0;
}

static int find_secret(OperationCall *c, SecretRow **ret, KError *reterr) {
        const char *name;
        int r;

        r = call_string(c, "name", &name, reterr);
        if (r < 0)
                return r;
        r = store_find_secret(c->master->store, c->grid->id, name, ret);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_SECRET, "No secret '%s' in the vault of grid '%s'.",
                                name, c->grid->name);
        return r;
}

static char *service_title(const ServiceRow *s) {
        return streq(s->stack, STACK_NULL) ? strdup(s->name) : strjoin(s->stack, "/", s->name);
}

/* Names of the services that use it. */
static int users_of(const ServiceRowList *services, const char *secret, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;

        FOREACH_ARRAY(s, services->rows, services->n) {
                _cleanup_free_ char *title = NULL;

                if (!vault_is_used_by((*s)->spec, secret))
                        continue;
                title = service_title(*s);
                if (!title || strv_extend(&l, title) < 0)
                        return -ENOMEM;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

/* Who uses it is outdated now: the stateless are deployed again by the rescheduler. */
static int raise_users(OperationCall *c, const char *secret, char ***ret) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_free_ char *author = NULL;
        int r;

        r = store_list_services(c->master->store, c->grid->id, &services);
        if (r < 0)
                return r;
        author = strprintf("secret '%s' changed", secret);
        if (!author)
                return -ENOMEM;
        FOREACH_ARRAY(s, services.rows, services.n) {
                if (!vault_is_used_by((*s)->spec, secret))
                        continue;
                r = revision_add(c->master->store, *s, author);
                if (r < 0)
                        return r;
                (void) events_add(c->master,
                                &(EventInfo){ .severity = "info",
                                                .type = "service:secret",
                                                .grid_id = (*s)->grid_id,
                                                .service_id = (*s)->id },
                                "Secret '%s' of service '%s%s%s' was changed.", secret,
                                streq((*s)->stack, STACK_NULL) ? "" : (*s)->stack,
                                streq((*s)->stack, STACK_NULL) ? "" : "/", (*s)->name);
        }

        return users_of(&services, secret, ret);
}

static int make_secret(OperationCall *c, const char *name, SecretRow **ret, KError *reterr) {
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        _cleanup_(secret_row_list_done) SecretRowList all = {};
        int r;

        r = secret_name_validate(name, reterr);
        if (r < 0)
                return r;
        r = store_list_secrets(c->master->store, c->grid->id, &all);
        if (r < 0)
                return r;
        if (all.n >= SECRETS_PER_GRID_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Grid '%s' has %zu secrets, more are not possible.", c->grid->name, all.n);

        row = new0(SecretRow, 1);
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

static int vault_write(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const options[] = { "only", NULL };
        _cleanup_json_ json_object *result = json_object_new_object();
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        _cleanup_strv_free_ char **users = NULL;
        _cleanup_erase_ char *old = NULL;
        const char *name, *value, *only = "";
        json_object *o;
        int r;

        if (!result)
                return -ENOMEM;
        r = call_string(c, "name", &name, reterr);
        if (r >= 0)
                r = call_string(c, "value", &value, reterr);
        if (r >= 0)
                r = call_settings(c, "options", options, &o, reterr);
        if (r >= 0)
                r = json_find_string(o, "only", &only, reterr);
        if (r < 0)
                return r;
        if (!STR_IN_SET(only, "", "new", "existing"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'only' is neither \"new\" nor \"existing\".");

        r = store_find_secret(c->master->store, c->grid->id, name, &row);
        if (r >= 0 && streq(only, "new"))
                return kerror_set(reterr, K_ALREADY_EXISTS,
                                "There is a secret '%s' in the vault of grid '%s' already.", name,
                                c->grid->name);
        if (r == -ENOENT && streq(only, "existing"))
                return find_secret(c, &row, reterr);
        if (r == -ENOENT)
                r = make_secret(c, name, &row, reterr);
        else if (r >= 0)
                r = vault_open(c->master->keyring, row, &old);
        if (r < 0 && r != -EBADMSG) /* one that cannot be opened any more can be overwritten */
                return r;

        if (!streq_ptr(old, value)) {
                r = vault_seal(c->master->keyring, row, value);
                if (r < 0)
                        return r;
                row->revision++;
                row->updated_at = now_realtime();
                r = store_put_secret(c->master->store, row);
                if (r >= 0)
                        r = raise_users(c, name, &users);
                if (r < 0)
                        return r;
        }

        r = json_add_strv(result, "services", users);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(result);
        return 0;
}

static int render_secret(const SecretRow *row, char *const *users, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "name", row->name) < 0 ||
                        json_add_u64(o, "created_at", row->created_at) < 0 ||
                        json_add_u64(o, "updated_at", row->updated_at) < 0 ||
                        json_add_u64(o, "revision", row->revision) < 0 ||
                        json_add_strv(o, "services", users) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(o);
        return 0;
}

static int vault_read(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_strv_free_ char **users = NULL;
        _cleanup_erase_ char *value = NULL;
        int r;

        r = find_secret(c, &row, reterr);
        if (r < 0)
                return r;
        r = vault_open(c->master->keyring, row, &value);
        if (r == -EBADMSG)
                return kerror_set(reterr, K_INTERNAL,
                                "Secret '%s' cannot be opened: the master's key is another.", row->name);
        if (r >= 0)
                r = store_list_services(c->master->store, c->grid->id, &services);
        if (r >= 0)
                r = users_of(&services, row->name, &users);
        if (r >= 0)
                r = render_secret(row, users, &o);
        if (r >= 0)
                r = json_add_string(o, "value", value);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int vault_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *result = json_object_new_object(), *array = json_object_new_array();
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(secret_row_list_done) SecretRowList l = {};
        int r;

        if (!result || !array)
                return -ENOMEM;
        r = store_list_secrets(c->master->store, c->grid->id, &l);
        if (r >= 0)
                r = store_list_services(c->master->store, c->grid->id, &services);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n) {
                _cleanup_strv_free_ char **users = NULL;
                json_object *o = NULL;

                r = users_of(&services, (*row)->name, &users);
                if (r >= 0)
                        r = render_secret(*row, users, &o);
                if (r >= 0)
                        r = json_append(array, o);
                if (r < 0)
                        return r;
        }
        r = json_add(result, "secrets", TAKE_PTR(array));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(result);
        return 0;
}

static int vault_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        _cleanup_strv_free_ char **users = NULL;
        _cleanup_free_ char *joined = NULL;
        bool force = false;
        int r;

        r = find_secret(c, &row, reterr);
        if (r >= 0)
                r = json_find_bool(c->parameters, "force", &force, reterr);
        if (r >= 0)
                r = store_list_services(c->master->store, c->grid->id, &services);
        if (r >= 0)
                r = users_of(&services, row->name, &users);
        if (r < 0)
                return r;
        if (strv_length(users) > 0 && !force) {
                joined = strv_join(users, ", ");
                return kerror_set(reterr, K_IN_USE, "Secret '%s' is used by: %s.", row->name,
                                strempty(joined));
        }

        return store_delete_secret(c->master->store, row->id);
}

#define SECRET_PARAMETERS                                                                                   \
        { "grid", PARAMETER_STRING, true }, {                                                               \
                "name", PARAMETER_STRING, true                                                              \
        }

const Operation vault_operations[] = {
        {
                        .name = "vault.write",
                        .method = "WriteSecret",
                        .action = "io.kontena.master1.manage-vault",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { SECRET_PARAMETERS, { "value", PARAMETER_SECRET, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "services" },
                        .perform = vault_write,
        },
        {
                        .name = "vault.read",
                        .method = "ReadSecret",
                        .action = "io.kontena.master1.read-vault",
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID | OPERATION_SECRET,
                        .parameters = { SECRET_PARAMETERS },
                        .results = { "" },
                        .perform = vault_read,
        },
        {
                        .name = "vault.list",
                        .method = "ListSecrets",
                        .action = "io.kontena.master1.manage-vault",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "secrets" },
                        .perform = vault_list,
        },
        {
                        .name = "vault.remove",
                        .method = "RemoveSecret",
                        .action = "io.kontena.master1.manage-vault",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { SECRET_PARAMETERS, { "force", PARAMETER_BOOL, false } },
                        .perform = vault_remove,
        },
};
const size_t n_vault_operations = ELEMENTSOF(vault_operations);
