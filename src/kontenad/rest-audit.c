/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "rest-internal.h"
#include "rest-render.h"
#include "string-util.h"

#define LIMIT_DEFAULT 500U
#define LIMIT_MAX     3000U

/* The audit as the reference shows it: ours has more, and by our names. */

typedef struct AuditView {
        uint32_t missing;  /* rows that are still wanted */
        json_object *rows; /* newest first */
} AuditView;

static void view_free(void *userdata) {
        AuditView *v = userdata;

        json_object_put(v->rows);
        free(v);
}

static const char *resource_type(const char *operation) {
        static const char *const types[][2] = {
                { "grid.", "Grid" },
                { "service.", "GridService" },
                { "node.", "HostNode" },
                { "instance.", "Container" },
                { "exec.", "Container" },
                { "vault.", "GridSecret" },
                { "user.", "User" },
                { "token.", "AccessToken" },
                { "volume.", "Volume" },
                { "config.", "config" },
                { "registry.", "Registry" },
                { "job.", "GridService" },
        };

        FOREACH_ARRAY(t, types, ELEMENTSOF(types))
                if (startswith(operation, (*t)[0]))
                        return (*t)[1];
        return "Master";
}

static const char *event_name(const char *operation) {
        static const char *const names[][2] = {
                { "grid.add-user", "assign user" },
                { "grid.remove-user", "unassign user" },
                { "grid.remove", "delete" },
                { "node.remove", "remove node" },
                { "service.remove", "delete" },
                { "vault.remove", "delete" },
                { "vault.read", "show" },
                { "vault.write", "update" },
                { "volume.remove", "delete" },
                { "config.set", "modify" },
                { "config.unset", "modify" },
                { "exec.open", "exec" },
                { "instance.inspect", "inspect" },
        };
        const char *dot = strchr(operation, '.');

        FOREACH_ARRAY(n, names, ELEMENTSOF(names))
                if (streq(operation, (*n)[0]))
                        return (*n)[1];
        return dot ? dot + 1 : operation;
}

static const char *resource_name(json_object *row) {
        static const char *const keys[] = { "service", "node", "secret", "volume", "email", "registry",
                "key", "name", "grid" };
        json_object *parameters = NULL;

        (void) json_find_object(row, "parameters", &parameters, NULL);
        FOREACH_ARRAY(key, keys, ELEMENTSOF(keys))
                if (parameters && !isempty(rest_text(parameters, *key)))
                        return rest_text(parameters, *key);
        return empty_to_null(rest_text(row, "grid"));
}

static int add_identity(json_object *o, json_object *row) {
        _cleanup_json_ json_object *who = json_object_new_object();
        const char *name = isempty(rest_text(row, "user")) ? rest_text(row, "name") : rest_text(row, "user");

        if (!who || json_add_string(who, "id", name) < 0 || json_add_string(who, "email", name) < 0)
                return -ENOMEM;
        return json_add(o, "user_identity", TAKE_PTR(who));
}

static int render(json_object *row, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *operation = rest_text(row, "operation"), *grid = empty_to_null(rest_text(row, "grid")),
                   *name = resource_name(row);
        uint64_t time = 0;

        (void) json_find_u64(row, "time", &time, NULL);
        if (!o || rest_add_time(o, "time", time) < 0 || json_add_string(o, "grid", grid) < 0 ||
                        json_add_string(o, "grid_id", grid) < 0 || json_add_string(o, "service", "") < 0 ||
                        json_add_string(o, "resource_type", resource_type(operation)) < 0 ||
                        json_add_string(o, "resource_name", name) < 0 ||
                        json_add_string(o, "resource_id", strempty(name)) < 0 ||
                        json_add_string(o, "event_name", event_name(operation)) < 0 ||
                        json_add_string(o, "event_status", rest_text(row, "status")) < 0 ||
                        json_add_string(o, "source_ip", rest_text(row, "address")) < 0 ||
                        json_add_string(o, "user_agent", empty_to_null(rest_text(row, "user_agent"))) < 0 ||
                        add_identity(o, row) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(o);
        return 0;
}

static int answer(RestCall *c, AuditView *v) {
        _cleanup_json_ json_object *o = json_object_new_object(), *l = json_object_new_array();
        int r;

        if (!o || !l)
                return -ENOMEM;
        for (size_t i = json_object_array_length(v->rows); i > 0; i--) {
                json_object *row;

                r = render(json_object_array_get_idx(v->rows, i - 1), &row);
                if (r >= 0)
                        r = json_append(l, row);
                if (r < 0)
                        return r;
        }
        if (json_add(o, "logs", TAKE_PTR(l)) < 0)
                return -ENOMEM;
        return rest_reply(c, 200, TAKE_PTR(o));
}

static int ask(RestCall *c, uint64_t before);

static void on_rows(RestCall *c, json_object *result, const KError *error) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        AuditView *v = rest_userdata(c);
        json_object *rows = NULL;
        uint64_t first = 0;
        size_t n;
        int r = 0;

        if (kerror_is_set(error)) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_array(result, "rows", &rows, NULL);
        n = rows ? json_object_array_length(rows) : 0;
        for (size_t i = n; i > 0 && r >= 0; i--)
                r = json_append(v->rows, json_object_get(json_object_array_get_idx(rows, i - 1)));
        if (n > 0)
                (void) json_find_u64(json_object_array_get_idx(rows, 0), "id", &first, NULL);
        v->missing -= MIN(v->missing, (uint32_t) n);
        if (r >= 0)
                r = v->missing > 0 && n == AUDIT_LIST_MAX && first > 1 ? ask(c, first) : answer(c, v);
        if (r < 0) {
                (void) kerror_set_errno(&e, r, "The audit cannot be shown: %m.");
                (void) rest_reply_kerror(c, &e);
        }
}

/* Members of a grid may read what concerns it. */
static int ask(RestCall *c, uint64_t before) {
        _cleanup_json_ json_object *params = rest_params("grid", rest_segment(c, "grid"), NULL);
        json_object *filter = json_object_new_object();
        AuditView *v = rest_userdata(c);
        int r;

        r = params ? json_add(params, "filter", filter) : -ENOMEM;
        if (r >= 0)
                r = json_add_u64(filter, "limit", MIN(v->missing, AUDIT_LIST_MAX));
        if (r >= 0 && before > 0)
                r = json_add_u64(filter, "before", before);
        if (r < 0)
                return r;
        return rest_call(c, "audit.list", TAKE_PTR(params), on_rows);
}

static int view_new(RestCall *c) {
        AuditView *v;

        v = new0(AuditView, 1);
        if (!v)
                return -ENOMEM;
        rest_set_userdata(c, v, view_free);
        v->missing = rest_limit(c, LIMIT_DEFAULT, LIMIT_MAX);
        v->rows = json_object_new_array();
        return v->rows ? 0 : -ENOMEM;
}

static int rest_list_audit(RestCall *c, KError *reterr) {
        int r;

        r = view_new(c);
        return r < 0 ? r : ask(c, 0);
}

static const RestField query[] = {
        { .name = "limit", .type = REST_INTEGER, .min = 1, .max = LIMIT_MAX, .summary = "500 without" },
        {},
};

const RestRoute audit_routes[] = {
        { .method = "GET",
                        .pattern = "/v1/audit_logs",
                        .operation = "audit.list",
                        .summary = "Who did what",
                        .query = query,
                        .handler = rest_list_audit },
        { .method = "GET",
                        .pattern = "/v1/grids/:grid/audit_log",
                        .operation = "audit.list",
                        .summary = "Who did what in a grid",
                        .query = query,
                        .handler = rest_list_audit },
};
const size_t n_audit_routes = ELEMENTSOF(audit_routes);
