/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit.h"

#include <inttypes.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
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

bool audit_is_refusal(const KError *error) {
        return kerror_is_set(error) &&
               (error->code == K_ACCESS_DENIED || error->code == K_INTERACTIVE_AUTHORIZATION_REQUIRED ||
                               error->code == K_NOT_AUTHENTICATED || error->code == K_INVALID_TOKEN ||
                               error->code == K_TOKEN_EXPIRED);
}

static const char *status(const KError *error) {
        return !kerror_is_set(error) ? "success" : audit_is_refusal(error) ? "denied" : "error";
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

static int keep_keys(json_object *o, const char *key) {
        _cleanup_json_ json_object *l = json_object_new_array();
        json_object *values = NULL;
        int r;

        if (!json_object_object_get_ex(o, key, &values) || !json_object_is_type(values, json_type_object))
                return 0;
        if (!l)
                return -ENOMEM;
        json_object_object_foreach(values, name, value) {
                (void) value;
                r = json_append_string(l, name);
                if (r < 0)
                        return r;
        }
        return json_add(o, key, TAKE_PTR(l));
}

/* Whoever is refused could fill the disk otherwise. */
static int bound(json_object *o) {
        _cleanup_strv_free_ char **large = NULL;
        const char *text = json_text(o);
        size_t n = 0;

        if (!text)
                return -ENOMEM;
        if (strlen(text) <= AUDIT_PARAMETERS_MAX)
                return 0;
        large = new0(char *, OPERATION_PARAMETERS_MAX + 1);
        if (!large)
                return -ENOMEM;
        json_object_object_foreach(o, key, value)
                if (n < OPERATION_PARAMETERS_MAX &&
                                (json_object_is_type(value, json_type_object) ||
                                                json_object_is_type(value, json_type_array))) {
                        large[n] = strdup(key);
                        if (!large[n++])
                                return -ENOMEM;
                }
        STRV_FOREACH(k, large)
                json_object_object_del(o, *k);
        return json_add_bool(o, "shortened", true);
}

/* A copy, for values are taken out of it. */
static json_object *shown_parameters(const OperationCall *c) {
        _cleanup_json_ json_object *o = audit_without_values(c->parameters);

        for (const OperationParameter *p = c->operation->parameters; o && p->name; p++)
                if (p->type == PARAMETER_SECRET || p->type == PARAMETER_BYTES)
                        json_object_object_del(o, p->name);
                else if (p->type == PARAMETER_STRINGS && shorten(o, p->name) < 0)
                        return NULL;
                else if (p->type == PARAMETER_VALUES && keep_keys(o, p->name) < 0)
                        return NULL;

        return !o || bound(o) < 0 ? NULL : TAKE_PTR(o);
}

/* A grid that is made or removed is called "name". */
static const char *grid_of(const OperationCall *c) {
        return param(c, "grid")
                               ?: (c->grid ? c->grid->name
                                                  : startswith(c->operation->name, "grid.")
                                                                  ? param(c, "name")
                                                                  : NULL);
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
                        json_add_string(o, "grid", strempty(grid_of(c))) < 0 ||
                        json_add_u64(o, "duration", c->started > 0 ? now_monotonic() - c->started : 0) < 0 ||
                        json_add(o, "parameters", shown_parameters(c)) < 0)
                return NULL;
        if (c->caller->uid != (uid_t) -1)
                r = json_add_u64(o, "uid", c->caller->uid);
        if (r >= 0 && c->caller->user)
                r = json_add_string(o, "user", c->caller->user);
        if (r >= 0 && c->caller->token)
                r = json_add_string(o, "token", c->caller->token);
        if (r >= 0 && c->caller->user_agent)
                r = json_add_string(o, "user_agent", c->caller->user_agent);
        if (r >= 0 && c->caller->pid > 0)
                r = json_add_u64(o, "pid", (uint64_t) c->caller->pid);
        if (r >= 0 && c->caller->unit)
                r = json_add_string(o, "unit", c->caller->unit);
        if (r >= 0 && c->caller->session)
                r = json_add_string(o, "session", c->caller->session);
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(o, "error", kerror_bus_name(error->code));
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(o, "message", kerror_message(error));

        return r < 0 ? NULL : TAKE_PTR(o);
}

int audit_set_end(json_object *record, const char *operation, int exit_status, uint64_t duration,
                const KError *error) {
        int r;

        r = json_add_u64(record, "time", now_realtime());
        if (r >= 0)
                r = json_add_string(record, "operation", operation);
        if (r >= 0)
                r = json_add_string(record, "status", status(error));
        if (r >= 0)
                r = json_add_u64(record, "duration", duration);
        if (r >= 0 && !kerror_is_set(error))
                r = json_add_i64(record, "exit_status", exit_status);
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(record, "error", kerror_bus_name(error->code));
        if (r >= 0 && kerror_is_set(error))
                r = json_add_string(record, "message", kerror_message(error));
        return r;
}

int audit_store(Master *m, json_object *record, AuditMark *ret) {
        return record ? audit_chain_append(m->store, m->keyring, record, ret) : -ENOMEM;
}

/* A field of the journal from one of the record, or of its parameters. */
static const struct {
        const char *field, *key;
        bool parameter;
} journal_fields[] = {
        { "KONTENA_OPERATION", "operation", false },
        { "KONTENA_STATUS", "status", false },
        { "KONTENA_ERROR", "error", false },
        { "KONTENA_GRID", "grid", false },
        { "KONTENA_NODE", "node", true },
        { "KONTENA_STACK", "stack", true },
        { "KONTENA_SERVICE", "service", true },
        { "KONTENA_CALLER", "name", false },
        { "KONTENA_CALLER_UID", "uid", false },
        { "KONTENA_CALLER_USER", "user", false },
        { "KONTENA_CALLER_TOKEN", "token", false },
        { "KONTENA_CALLER_AGENT", "user_agent", false },
        { "KONTENA_CALLER_PID", "pid", false },
        { "KONTENA_CALLER_UNIT", "unit", false },
        { "KONTENA_CALLER_SESSION", "session", false },
        { "KONTENA_CALLER_ADDRESS", "address", false },
        { "KONTENA_DURATION_USEC", "duration", false },
};

static const char *text_of(json_object *o, const char *key) {
        json_object *value = NULL;

        if (!o || !json_object_object_get_ex(o, key, &value) || !value ||
                        json_object_is_type(value, json_type_object) ||
                        json_object_is_type(value, json_type_array))
                return NULL;
        return json_object_get_string(value);
}

/* The anchor is what the chain can be held against when somebody has put back an older database. */
void audit_log(Master *m, json_object *record, const AuditMark *row, const char *sentence) {
        const char *fields[ELEMENTSOF(journal_fields) + 3] = { "KONTENA_AUDIT=1" }, *message, *who,
                                                        *operation;
        _cleanup_strv_free_ char **l = NULL;
        json_object *parameters = NULL;
        size_t n = 0, k = 1;

        if (!record)
                return;
        l = new0(char *, ELEMENTSOF(fields));
        if (!l)
                return;
        (void) json_find_object(record, "parameters", &parameters, NULL);
        FOREACH_ARRAY(f, journal_fields, ELEMENTSOF(journal_fields)) {
                const char *value = text_of(f->parameter ? parameters : record, f->key);

                if (!isempty(value) && (l[n] = strjoin(f->field, "=", value)))
                        fields[k++] = l[n++];
        }
        if (row) {
                _cleanup_free_ char *anchor = audit_anchor_to_string(m->keyring, row);

                if (anchor && (l[n] = strjoin("KONTENA_AUDIT_ANCHOR=", anchor)))
                        fields[k++] = l[n++];
        }
        fields[k] = NULL;

        operation = strna(text_of(record, "operation"));
        who = strnull(text_of(record, "name"));
        message = text_of(record, "message");
        if (sentence)
                log_struct(message ? LOG_NOTICE : LOG_INFO, 0, fields, "%s", sentence);
        else if (!message)
                log_struct(LOG_INFO, 0, fields, "'%s' was done for %s.", operation, who);
        else
                log_struct(LOG_NOTICE, 0, fields, "'%s' was refused to %s: %s", operation, who, message);
}
