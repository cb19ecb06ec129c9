/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit.h"

#include <inttypes.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "string-util.h"

static const char *param(const OperationCall *c, const char *key) {
        const char *s = NULL;

        (void) json_find_string(c->parameters, key, &s, NULL);
        return s;
}

/* "KEY=secret" becomes "KEY": which variables were set is of interest, their values are nobody's business. */
static json_object *without_values(json_object *env) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return NULL;
        FOREACH_JSON_ARRAY(e, env) {
                const char *text = json_object_get_string(e);
                _cleanup_free_ char *key = strndup(strempty(text), strcspn(strempty(text), "="));

                if (!key || json_append(l, json_object_new_string(key)) < 0)
                        return NULL;
        }

        return TAKE_PTR(l);
}

json_object *audit_without_values(json_object *o) {
        _cleanup_json_ json_object *copy = json_object_new_object();

        if (!copy)
                return NULL;

        json_object_object_foreach(o, key, value) {
                json_object *v;

                if (streq(key, "env") && json_object_is_type(value, json_type_array))
                        v = without_values(value);
                else if (json_object_is_type(value, json_type_object))
                        v = audit_without_values(value);
                else
                        v = json_object_get(value);
                if (value && !v)
                        return NULL;
                if (json_object_object_add(copy, key, v) < 0) {
                        json_object_put(v);
                        return NULL;
                }
        }

        return TAKE_PTR(copy);
}

static const char *status(const KError *error) {
        if (!kerror_is_set(error))
                return "success";
        return error->code == K_ACCESS_DENIED || error->code == K_INTERACTIVE_AUTHORIZATION_REQUIRED ||
                                               error->code == K_NOT_AUTHENTICATED
                               ? "denied"
                               : "error";
}

/* Of a command its name and how many words it has: the others may be secret. */
static int shorten(json_object *o, const char *key) {
        _cleanup_json_ json_object *l = json_object_new_array();
        json_object *words = NULL;
        size_t n;
        int r;

        if (!json_object_object_get_ex(o, key, &words) || !json_object_is_type(words, json_type_array))
                return 0;
        n = json_object_array_length(words);
        if (n < 2)
                return 0;
        if (!l)
                return -ENOMEM;
        r = json_append(l, json_object_get(json_object_array_get_idx(words, 0)));
        if (r >= 0) {
                _cleanup_free_ char *rest = strprintf("(%zu more)", n - 1);

                r = rest ? json_append_string(l, rest) : -ENOMEM;
        }
        return r < 0 ? r : json_add(o, key, TAKE_PTR(l));
}

/* A copy, for values are taken out of it. */
static json_object *shown_parameters(const OperationCall *c) {
        json_object *o = audit_without_values(c->parameters);

        for (const OperationParameter *p = c->operation->parameters; o && p->name; p++)
                if (p->type == PARAMETER_SECRET || p->type == PARAMETER_BYTES)
                        json_object_object_del(o, p->name);
                else if (p->type == PARAMETER_STRINGS && shorten(o, p->name) < 0) {
                        json_object_put(o);
                        return NULL;
                }
        return o;
}

json_object *audit_record(const OperationCall *c, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = 0;

        if (!o)
                return NULL;

        if (json_add_u64(o, "time", now_realtime()) < 0 ||
                        json_add_string(o, "operation", c->operation->name) < 0 ||
                        json_add_string(o, "status", status(error)) < 0 ||
                        json_add_string(o, "caller", c->caller->vtable->kind) < 0 ||
                        json_add_string(o, "name", strempty(c->caller->name)) < 0 ||
                        json_add_string(o, "address", strempty(c->caller->address)) < 0 ||
                        json_add(o, "parameters", shown_parameters(c)) < 0)
                return NULL;
        if (c->caller->uid != (uid_t) -1)
                r = json_add_u64(o, "uid", c->caller->uid);
        if (r >= 0 && c->caller->pid > 0)
                r = json_add_u64(o, "pid", (uint64_t) c->caller->pid);
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(o, "error", kerror_bus_name(error->code));
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(o, "message", kerror_message(error));

        return r < 0 ? NULL : TAKE_PTR(o);
}

int audit_set_end(json_object *record, const char *operation, int exit_status, const KError *error) {
        int r;

        r = json_add_u64(record, "time", now_realtime());
        if (r >= 0)
                r = json_add_string(record, "operation", operation);
        if (r >= 0)
                r = json_add_string(record, "status", status(error));
        if (r >= 0 && !kerror_is_set(error))
                r = json_add_i64(record, "exit_status", exit_status);
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(record, "message", kerror_message(error));
        return r;
}

int audit_store(Store *s, json_object *record) {
        return record ? store_add_audit(s, record) : -ENOMEM;
}

static char *field(const char *key, const char *value) {
        return isempty(value) ? NULL : strjoin(key, "=", value);
}

void audit_log(const OperationCall *c, const KError *error) {
        _cleanup_free_ char *operation = NULL, *result = NULL, *grid = NULL, *node = NULL, *service = NULL,
                            *stack = NULL, *name = NULL, *uid = NULL;
        const char *fields[10], *who;
        size_t n = 0;

        operation = field("KONTENA_OPERATION", c->operation->name);
        result = field("KONTENA_STATUS", status(error));
        grid = field("KONTENA_GRID", param(c, "grid") ?: (c->grid ? c->grid->name : NULL));
        node = field("KONTENA_NODE", param(c, "node"));
        stack = field("KONTENA_STACK", param(c, "stack") ?: (c->service ? c->service->stack : NULL));
        service = field("KONTENA_SERVICE", param(c, "service") ?: (c->service ? c->service->name : NULL));
        if (c->caller->uid != (uid_t) -1)
                uid = strprintf("KONTENA_CALLER_UID=%u", c->caller->uid);
        name = field("KONTENA_CALLER", c->caller->name);

        fields[n++] = "KONTENA_AUDIT=1";
        for (size_t i = 0; i < 8; i++) {
                const char *f = ((const char *const[]){
                                operation, result, grid, node, stack, service, uid, name })[i];

                if (f)
                        fields[n++] = f;
        }
        fields[n] = NULL;

        who = strnull(c->caller->name);
        if (!kerror_is_set(error))
                log_struct(LOG_INFO, 0, fields, "'%s' was done for %s.", c->operation->name, who);
        else
                log_struct(LOG_NOTICE, 0, fields, "'%s' was refused to %s: %s", c->operation->name, who,
                                kerror_message(error));
}
