/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operation.h"

#include <utlist.h>

#include "audit.h"
#include "calendar.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define ACTION_READ   "io.kontena.master1.read"
#define ACTION_CHANGE "io.kontena.master1.manage-services"

static const struct {
        const Operation *operations;
        const size_t *n;
} tables[] = {
        { grid_operations, &n_grid_operations },
        { node_operations, &n_node_operations },
        { node_token_operations, &n_node_token_operations },
        { service_operations, &n_service_operations },
        { deploy_operations, &n_deploy_operations },
        { revision_operations, &n_revision_operations },
        { move_operations, &n_move_operations },
        { event_operations, &n_event_operations },
        { status_operations, &n_status_operations },
        { log_operations, &n_log_operations },
        { job_operations, &n_job_operations },
        { vault_operations, &n_vault_operations },
        { registry_operations, &n_registry_operations },
        { image_operations, &n_image_operations },
        { volume_operations, &n_volume_operations },
        { archive_operations, &n_archive_operations },
        { exec_operations, &n_exec_operations },
        { stream_operations, &n_stream_operations },
        { instance_operations, &n_instance_operations },
        { audit_operations, &n_audit_operations },
        { ca_operations, &n_ca_operations },
        { user_operations, &n_user_operations },
        { token_operations, &n_token_operations },
        { member_operations, &n_member_operations },
        { config_operations, &n_config_operations },
        { login_operations, &n_login_operations },
        { admin_code_operations, &n_admin_code_operations },
};

const Operation *operation_by_index(size_t i) {
        FOREACH_ARRAY(t, tables, ELEMENTSOF(tables)) {
                if (i < *t->n)
                        return t->operations + i;
                i -= *t->n;
        }

        return NULL;
}

const Operation *operation_find(const char *name) {
        const Operation *o;

        for (size_t i = 0; (o = operation_by_index(i)); i++)
                if (streq(o->name, name))
                        return o;
        return NULL;
}

const Operation *operation_find_by_method(const char *method) {
        const Operation *o;

        for (size_t i = 0; (o = operation_by_index(i)); i++)
                if (streq_ptr(o->method, method))
                        return o;
        return NULL;
}

static void clear_rows(OperationCall *c) {
        c->grid = grid_row_free(c->grid);
        c->node = node_row_free(c->node);
        c->service = service_row_free(c->service);
        c->deploy = deploy_row_free(c->deploy);
}

static void erase_value(json_object *o, const char *key) {
        json_object *value = NULL;

        if (json_object_object_get_ex(o, key, &value) && json_object_is_type(value, json_type_string))
                erase_memory((char *) (uintptr_t) json_object_get_string(value),
                                (size_t) json_object_get_string_len(value));
}

static void erase_values(json_object *o, const char *key) {
        json_object *values = NULL;

        if (!json_object_object_get_ex(o, key, &values) || !json_object_is_type(values, json_type_object))
                return;
        json_object_object_foreach(values, name, value) {
                (void) value;
                erase_value(values, name);
        }
}

static OperationCall *call_free(OperationCall *c) {
        if (!c)
                return NULL;

        for (const OperationParameter *p = c->operation->parameters; p->name; p++)
                if ((p->type == PARAMETER_SECRET || p->type == PARAMETER_BYTES) && c->parameters)
                        erase_value(c->parameters, p->name);
                else if (p->type == PARAMETER_VALUES && c->parameters)
                        erase_values(c->parameters, p->name);

        if (c->master)
                DL_DELETE(c->master->calls, c);
        clear_rows(c);
        calendar_query_free(c->calendar);
        login_attempt_free(c->login);
        kerror_done(&c->missing);
        json_object_put(c->parameters);
        caller_unref(c->caller);
        free(c);
        return NULL;
}

void operations_abort(Master *m) {
        while (m->calls)
                call_free(m->calls);
}

int call_string(OperationCall *c, const char *key, const char **ret, KError *reterr) {
        const char *s = "";
        int r;

        r = json_find_string(c->parameters, key, &s, reterr);
        if (r < 0)
                return r;
        *ret = s;
        return 0;
}

int call_settings(OperationCall *c, const char *key, const char *const *allowed, json_object **ret,
                KError *reterr) {
        json_object *o = NULL;
        int r;

        r = json_find_object(c->parameters, key, &o, reterr);
        if (r < 0)
                return r;
        if (!o) {
                o = json_object_new_object();
                if (!o)
                        return -ENOMEM;
                if (json_add(c->parameters, key, o) < 0)
                        return -ENOMEM;
        }

        json_object_object_foreach(o, name, value) {
                bool known = false;

                (void) value;
                for (const char *const *a = allowed; *a; a++)
                        known = known || streq(*a, name);
                if (!known)
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "There is no setting '%s' here.", name);
        }

        *ret = o;
        return 0;
}

int labels_validate(char *const *labels, KError *reterr) {
        if (strv_length(labels) > LABELS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are at most %u labels.", LABELS_MAX);

        STRV_FOREACH(l, labels) {
                if (isempty(*l) || (*l)[0] == '=' || strchr(*l, ',') || !string_is_printable(*l))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' is not a label: KEY or KEY=VALUE without commas.", *l);
                if (strlen(*l) > LABEL_LENGTH_MAX)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED, "A label has at most %u bytes.",
                                        LABEL_LENGTH_MAX);
        }

        return 0;
}

/* Step 1: what was asked is well-formed. */

static int check_strings(const OperationParameter *p, json_object *l, KError *reterr) {
        size_t bytes = 0;

        FOREACH_JSON_ARRAY(e, l) {
                size_t n = (size_t) json_object_get_string_len(e);

                if (!json_object_is_type(e, json_type_string) || strlen(json_object_get_string(e)) != n)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' must be a list of strings.",
                                        p->name);
                bytes += n + 1;
        }
        if (json_object_array_length(l) > EXEC_ARGUMENTS_MAX || bytes > EXEC_ARGUMENTS_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "'%s' has at most %u words and %u bytes.",
                                p->name, EXEC_ARGUMENTS_MAX, EXEC_ARGUMENTS_SIZE_MAX);
        return 0;
}

static int check_parameter(const OperationParameter *p, json_object *value, KError *reterr) {
        static const struct {
                json_type type;
                const char *name;
        } types[] = {
                [PARAMETER_STRING] = { json_type_string, "a string" },
                [PARAMETER_BOOL] = { json_type_boolean, "true or false" },
                [PARAMETER_U32] = { json_type_int, "a whole number" },
                [PARAMETER_OBJECT] = { json_type_object, "an object" },
                [PARAMETER_SECRET] = { json_type_string, "a string" },
                [PARAMETER_STRINGS] = { json_type_array, "a list of strings" },
                [PARAMETER_BYTES] = { json_type_string, "bytes" },
                [PARAMETER_VALUES] = { json_type_object, "an object" },
                [PARAMETER_PATH] = { json_type_string, "a path" },
        };

        if (!value)
                return p->required ? kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is missing.", p->name) : 0;
        if (!json_object_is_type(value, types[p->type].type))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' must be %s.", p->name,
                                types[p->type].name);
        if (p->type == PARAMETER_U32 &&
                        (json_object_get_int64(value) < 0 || json_object_get_int64(value) > UINT32_MAX))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is out of range.", p->name);
        if (p->type == PARAMETER_SECRET) {
                size_t n = (size_t) json_object_get_string_len(value);

                if (n > SECRET_SIZE_MAX)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                        "'%s' has %zu bytes, at most %u are possible.", p->name, n,
                                        SECRET_SIZE_MAX);
                if (strlen(json_object_get_string(value)) != n)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has a NUL byte in it.", p->name);
        }
        if (p->type == PARAMETER_STRINGS)
                return check_strings(p, value, reterr);
        if (p->type == PARAMETER_BYTES && (size_t) json_object_get_string_len(value) > STREAM_DATA_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "'%s' has at most %u bytes.", p->name,
                                STREAM_DATA_MAX);
        if (p->type == PARAMETER_PATH) {
                size_t n = (size_t) json_object_get_string_len(value);

                if (n > IMAGE_PATH_MAX || strlen(json_object_get_string(value)) != n)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                        "'%s' has at most %u bytes, none of them NUL.", p->name,
                                        IMAGE_PATH_MAX);
        }
        if (p->type == PARAMETER_STRING) {
                const char *s = json_object_get_string(value);

                if ((size_t) json_object_get_string_len(value) > LABEL_LENGTH_MAX || !string_is_printable(s))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' is too long or has control characters.", p->name);
        }

        return 0;
}

static int check_parameters(OperationCall *c, KError *reterr) {
        size_t known = 0;

        for (const OperationParameter *p = c->operation->parameters; p->name; p++) {
                json_object *value = NULL;
                int r;

                if (json_object_object_get_ex(c->parameters, p->name, &value))
                        known++;
                r = check_parameter(p, value, reterr);
                if (r < 0)
                        return r;
        }
        if (known == (size_t) json_object_object_length(c->parameters))
                return 0;

        json_object_object_foreach(c->parameters, key, value) {
                bool found = false;

                (void) value;
                for (const OperationParameter *p = c->operation->parameters; p->name; p++)
                        found = found || streq(p->name, key);
                if (!found)
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "There is no parameter '%s' here.", key);
        }

        return 0;
}

/* Step 2: names become rows. */

static int not_found(int r, KError *reterr, KErrorCode code, const char *sentence) {
        if (r == -ENOENT)
                return kerror_set(reterr, code, "%s", sentence);
        return kerror_set_errno(reterr, r, "The store cannot be read: %m.");
}

static int look_up_deploy(OperationCall *c, KError *reterr) {
        const char *id;
        int r;

        r = call_string(c, "deploy", &id, reterr);
        if (r < 0)
                return r;
        r = store_get_deploy(c->master->store, id, &c->deploy);
        if (r >= 0)
                r = store_get_grid(c->master->store, c->deploy->grid_id, &c->grid);
        if (r >= 0) {
                r = store_get_service(c->master->store, c->deploy->service_id, &c->service);
                if (r == -ENOENT)
                        r = 0; /* removed since */
        }
        if (r < 0) {
                _cleanup_free_ char *s = strprintf("No deploy '%s'.", id);

                return not_found(r, reterr, K_NO_SUCH_DEPLOY, strempty(s));
        }

        return 0;
}

static int look_up(OperationCall *c, KError *reterr) {
        const char *grid, *node, *stack, *service;
        unsigned flags = c->operation->flags;
        Store *s = c->master->store;
        int r;

        clear_rows(c);

        if (flags & OPERATION_DEPLOY)
                return look_up_deploy(c, reterr);
        if (!(flags & OPERATION_GRID))
                return 0;

        r = call_string(c, "grid", &grid, reterr);
        if (r < 0)
                return r;
        r = store_find_grid(s, grid, &c->grid);
        if (r < 0) {
                _cleanup_free_ char *sentence = strprintf("No grid '%s'.", grid);

                return not_found(r, reterr, K_NO_SUCH_GRID, strempty(sentence));
        }

        if (flags & OPERATION_NODE) {
                r = call_string(c, "node", &node, reterr);
                if (r < 0)
                        return r;
                r = store_find_node(s, c->grid->id, node, &c->node);
                if (r < 0) {
                        _cleanup_free_ char *sentence = strprintf("No node '%s' in grid '%s'.", node, grid);

                        return not_found(r, reterr, K_NO_SUCH_NODE, strempty(sentence));
                }
        }

        if (flags & OPERATION_SERVICE) {
                r = call_string(c, "stack", &stack, reterr);
                if (r >= 0)
                        r = call_string(c, "service", &service, reterr);
                if (r < 0)
                        return r;
                r = store_find_service(s, c->grid->id, stack, service, &c->service);
                if (r < 0) {
                        _cleanup_free_ char *sentence = strprintf(
                                        "No service '%s' in stack '%s' of grid '%s'.", service, stack, grid);

                        return not_found(r, reterr, K_NO_SUCH_SERVICE, strempty(sentence));
                }
        }

        return 0;
}

/* Steps 4 to 6: perform, audit, answer. */

static const char *const secret_results[] = { "value", "access_token", "refresh_token", "code",
        "invite_code", "location" };

static void answer(OperationCall *c, json_object *result, const KError *error) {
        uint64_t took = now_monotonic() - c->started;

        log_debug("Operation '%s' for %s took %llu us%s%s", c->operation->name, strnull(c->caller->name),
                        (unsigned long long) took, kerror_is_set(error) ? ": " : ".",
                        kerror_is_set(error) ? kerror_message(error) : "");
        c->done(kerror_is_set(error) ? NULL : result, kerror_is_set(error) ? error : NULL, c->userdata);
        if (result && (c->operation->flags & OPERATION_SECRET)) {
                FOREACH_ARRAY(key, secret_results, ELEMENTSOF(secret_results))
                        erase_value(result, *key);
                erase_values(result, "values");
        }
        call_free(c);
}

/* For what has not changed anything, or was rolled back. Of what is not audited it is audited that it was refused. */
static void audit_apart(OperationCall *c, const KError *error) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_json_ json_object *record = NULL;
        AuditMark row;
        int r;

        if (!(c->operation->flags & OPERATION_AUDITED) && !audit_is_refusal(error))
                return;
        if ((c->operation->flags & OPERATION_OPEN) && kerror_is_set(error) &&
                        error->code == K_LIMIT_EXCEEDED)
                return;

        record = audit_record(c, error);
        r = store_begin(c->master->store, NULL);
        if (r >= 0) {
                t = c->master->store;
                r = audit_store(c->master, record, &row);
        }
        if (r >= 0)
                r = store_commit(c->master->store, NULL);
        audit_log(c->master, record, r < 0 ? NULL : &row, NULL);
        if (r < 0)
                log_debug_errno(r, "The audit of '%s' is in the journal only: %m", c->operation->name);
}

/* error has no code when memory or the store failed without words. */
static void fail(OperationCall *c, int r, KError *error) {
        if (!kerror_is_set(error))
                (void) kerror_set_errno(error, r, "'%s' failed: %m.", c->operation->name);
        audit_apart(c, error);
        answer(c, NULL, error);
}

static void perform_changing(OperationCall *c) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_json_ json_object *result = NULL, *record = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        AuditMark row;
        int r;

        r = store_begin(c->master->store, &error);
        if (r < 0)
                return fail(c, r, &error);
        t = c->master->store;

        r = look_up(c, &error);
        if (r >= 0)
                r = c->operation->perform(c, &result, &error);
        assert(r <= 0); /* a transaction ends before we return to the loop */
        if (r >= 0) {
                record = audit_record(c, NULL);
                r = audit_store(c->master, record, &row);
        }
        if (r < 0)
                store_rollback(t);
        else
                r = store_commit(t, &error);
        t = NULL;
        if (r < 0)
                return fail(c, r, &error);

        audit_log(c->master, record, &row, NULL);
        answer(c, result, NULL);
}

static void perform_reading(OperationCall *c) {
        _cleanup_json_ json_object *result = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = look_up(c, &error);
        if (r >= 0 && !c->only_asked)
                r = c->operation->perform(c, &result, &error);
        if (r < 0)
                return fail(c, r, &error);
        if (r == 0)
                operation_call_finish(c, result, NULL);
}

void operation_call_finish(OperationCall *c, json_object *result, const KError *error) {
        audit_apart(c, error);
        answer(c, result, error);
}

static void perform(OperationCall *c) {
        if (c->operation->prepare && !c->prepared) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                int r;

                c->prepared = true;
                r = c->operation->prepare(c, &error);
                if (r < 0)
                        return fail(c, r, &error);
                if (r > 0)
                        return;
        }

        if (c->operation->flags & OPERATION_CHANGES)
                perform_changing(c);
        else
                perform_reading(c);
}

void operation_call_continue(OperationCall *c, const KError *error) {
        if (!kerror_is_set(error)) {
                perform(c);
                return;
        }
        audit_apart(c, error);
        answer(c, NULL, error);
}

/* Step 3: may the caller? */

static int authorize(OperationCall *c, const char *action, bool interactive, authorize_done_t done) {
        const char *grid = NULL, *node = NULL, *stack = NULL, *service = NULL, *whose = NULL;
        const Operation *o = c->operation;
        AuthorizationRequest q;
        bool own;

        if (o->own)
                (void) json_find_string(c->parameters, o->own, &whose, NULL);
        own = o->own && isempty(whose);

        (void) json_find_string(c->parameters, "grid", &grid, NULL);
        if (!grid && startswith(c->operation->name, "grid."))
                (void) json_find_string(c->parameters, "name", &grid, NULL);
        (void) json_find_string(c->parameters, "node", &node, NULL);
        if (!node && startswith(c->operation->name, "node."))
                (void) json_find_string(c->parameters, "name", &node, NULL);
        (void) json_find_string(c->parameters, "stack", &stack, NULL);
        (void) json_find_string(c->parameters, "service", &service, NULL);
        if (!service && startswith(c->operation->name, "service."))
                (void) json_find_string(c->parameters, "name", &service, NULL);

        q = (AuthorizationRequest){
                .action = own && action == o->action ? o->own_action : action,
                .role = own ? o->own_role : o->role,
                .grid = grid ?: (c->grid ? c->grid->name : NULL),
                .node = node,
                .stack = stack ?: (c->service ? c->service->stack : NULL),
                .service = service ?: (c->service ? c->service->name : NULL),
                .interactive = interactive,
        };

        return c->caller->vtable->authorize(c->caller, &q, done, c);
}

static void on_values_authorized(const KError *denied, void *userdata) {
        OperationCall *c = userdata;

        c->sees_values = !kerror_is_set(denied);
        perform(c);
}

static void on_authorized(const KError *denied, void *userdata) {
        OperationCall *c = userdata;

        if (kerror_is_set(denied)) {
                audit_apart(c, denied);
                answer(c, NULL, denied);
                return;
        }
        if (kerror_is_set(&c->missing)) { /* the question was whether this may be told */
                audit_apart(c, &c->missing);
                answer(c, NULL, &c->missing);
                return;
        }
        if (c->operation->flags & OPERATION_VALUES) { /* who only looks is not asked for a password */
                _cleanup_kerror_ KError error = KERROR_NULL;
                int r;

                r = authorize(c, ACTION_CHANGE, /* interactive= */ false, on_values_authorized);
                if (r < 0)
                        fail(c, r, &error);
                return;
        }

        perform(c);
}

static void begin(Master *m, Caller *caller, const Operation *o, json_object *params, bool interactive,
                bool only_asked, operation_done_t done, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        OperationCall *c;
        int r;

        assert(m);
        assert(caller);
        assert(o);
        assert(done);

        c = new0(OperationCall, 1);
        if (!c) {
                json_object_put(params);
                (void) kerror_set_errno(&error, -ENOMEM, "'%s' failed: %m.", o->name);
                done(NULL, &error, userdata);
                return;
        }
        *c = (OperationCall){
                .master = m,
                .operation = o,
                .caller = caller_ref(caller),
                .parameters = params,
                .interactive = interactive,
                .only_asked = only_asked,
                .done = done,
                .userdata = userdata,
                .started = now_monotonic(),
        };
        DL_APPEND(m->calls, c);

        r = params ? check_parameters(c, &error) : -ENOMEM;
        if (r < 0) {
                if (!kerror_is_set(&error))
                        (void) kerror_set_errno(&error, r, "'%s' failed: %m.", o->name);
                answer(c, NULL, &error); /* nothing was asked for yet that could be audited */
                return;
        }

        r = look_up(c, &c->missing);
        if (r < 0 && !kerror_is_set(&c->missing)) {
                fail(c, r, &error);
                return;
        }

        if (!caller->vtable->authorize || (o->flags & OPERATION_OPEN)) {
                c->sees_values = true;
                if (kerror_is_set(&c->missing)) {
                        audit_apart(c, &c->missing);
                        answer(c, NULL, &c->missing);
                } else
                        perform(c);
                return;
        }

        if (kerror_is_set(&c->missing)) /* no password for a typing error */
                r = authorize(c, ACTION_READ, /* interactive= */ false, on_authorized);
        else
                r = authorize(c, o->action, interactive, on_authorized);
        if (r < 0)
                fail(c, r, &error);
}

void operation_call(Master *m, Caller *caller, const Operation *o, json_object *params, bool interactive,
                operation_done_t done, void *userdata) {
        begin(m, caller, o, params, interactive, /* only_asked= */ false, done, userdata);
}

void operation_ask(Master *m, Caller *caller, const Operation *o, json_object *params, operation_done_t done,
                void *userdata) {
        assert(!(o->flags & (OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_OPEN)) && !o->prepare);

        begin(m, caller, o, params, /* interactive= */ false, /* only_asked= */ true, done, userdata);
}
