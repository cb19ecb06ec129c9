/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-token.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "rest-internal.h"
#include "rest-user.h"
#include "string-util.h"

#define NOT_ALLOWED "Operation not allowed"

/* How many: nobody else asks for these. The caller may read the grid by now. */
static int add_counts(RestCall *c, json_object *o, json_object *grid, const char *id) {
        _cleanup_(user_row_list_done) UserRowList users = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        Store *s = rest_master(c)->store;
        uint64_t n_nodes = 0, n_services = 0, n_containers = 0;
        int r;

        (void) json_find_u64(grid, "nodes", &n_nodes, NULL);
        (void) json_find_u64(grid, "services", &n_services, NULL);
        r = store_list_grid_users(s, id, &users);
        if (r >= 0)
                r = store_list_nodes(s, id, &nodes);
        FOREACH_ARRAY(node, nodes.rows, nodes.n) {
                uint32_t n = 0;

                if (r >= 0)
                        r = store_count_instances_of_node(s, (*node)->id, &n);
                n_containers += n;
        }
        if (r >= 0)
                r = json_add_u64(o, "node_count", n_nodes);
        if (r >= 0)
                r = json_add_u64(o, "service_count", n_services);
        if (r >= 0)
                r = json_add_u64(o, "container_count", n_containers);
        return r < 0 ? r : json_add_u64(o, "user_count", users.n);
}

static int add_stats(json_object *o) {
        json_object *stats = json_object_new_object();

        if (stats && json_add_string(stats, "statsd", NULL) < 0) {
                json_object_put(stats);
                return -ENOMEM;
        }
        return json_add(o, "stats", stats);
}

static int render(RestCall *c, json_object *grid, const char *token, json_object **ret) {
        static const char *const same[] = { "name", "initial_size", "subnet", "supernet", "default_affinity",
                "trusted_subnets", NULL };
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *name, *id;
        int r;

        r = o ? json_get_string(grid, "name", &name, NULL) : -ENOMEM;
        if (r >= 0)
                r = json_get_string(grid, "id", &id, NULL);
        if (r >= 0)
                r = json_add_string(o, "id", name);
        if (r >= 0)
                r = rest_copy_fields(o, grid, same);
        if (r >= 0)
                r = json_add_string(o, "token", token);
        if (r >= 0)
                r = add_stats(o);
        if (r >= 0)
                r = add_counts(c, o, grid, id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static void fail(RestCall *c, int r) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (r >= 0 || rest_is_answered(c))
                return;
        (void) kerror_set_errno(&e, r, "The answer cannot be put together: %m.");
        (void) rest_reply_kerror(c, &e);
}

static bool is_member(RestCall *c) {
        const char *grid = rest_segment(c, "grid");

        return caller_user(rest_caller(c)) &&
               role_allows(rest_master(c)->store, caller_user(rest_caller(c)), "member", grid);
}

/* Of members it is not the grid that is closed, but what they want of it. */
static void reply_refusal(RestCall *c, const KError *error, const char *field) {
        if (error->code == K_ACCESS_DENIED && (!rest_segment(c, "grid") || is_member(c)))
                (void) rest_reply_field_error(c, field, NOT_ALLOWED);
        else
                (void) rest_reply_kerror(c, error);
}

/* One grid: its token as well, for who may see that. The grid itself waits in userdata meanwhile. */

static void put_json(void *userdata) {
        json_object_put(userdata);
}

static void on_token(RestCall *c, json_object *result, const KError *error) {
        const char *token = NULL;
        json_object *o;
        int r;

        if (!kerror_is_set(error))
                (void) json_find_string(result, "token", &token, NULL);
        r = render(c, rest_userdata(c), token, &o);
        if (r >= 0)
                r = rest_reply(c, rest_route(c)->status ?: 200, o);
        fail(c, r);
}

static bool may_see_token(RestCall *c, const char *grid) {
        return caller_user(rest_caller(c)) &&
               role_allows(rest_master(c)->store, caller_user(rest_caller(c)), "grid_admin", grid);
}

static void on_grid(RestCall *c, json_object *result, const KError *error) {
        const char *name = NULL;

        if (kerror_is_set(error)) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        rest_set_userdata(c, json_object_get(result), put_json);
        (void) json_find_string(result, "name", &name, NULL);
        if (may_see_token(c, name)) /* who may not is not refused, and so not audited */
                fail(c, rest_call(c, "grid.token", rest_params("grid", name, NULL), on_token));
        else
                on_token(c, NULL, NULL);
}

static int rest_get_grid(RestCall *c, KError *reterr) {
        return rest_call(c, "grid.get", rest_params("grid", rest_segment(c, "grid"), NULL), on_grid);
}

/* All of them, each with its token for who may see that: the reference's client takes it from the list. */
static int reply_grids(RestCall *c, json_object *tokens) {
        _cleanup_json_ json_object *o = json_object_new_object(), *shown = json_object_new_array();
        int r = o && shown ? 0 : -ENOMEM;

        FOREACH_JSON_ARRAY(grid, rest_userdata(c)) {
                const char *name = "", *token = NULL;
                json_object *one;

                (void) json_find_string(grid, "name", &name, NULL);
                (void) (tokens && json_find_string(tokens, name, &token, NULL));
                if (r >= 0)
                        r = render(c, grid, token, &one);
                if (r >= 0)
                        r = json_append(shown, one);
        }
        if (r >= 0)
                r = json_add(o, "grids", TAKE_PTR(shown));
        return r < 0 ? r : rest_reply(c, 200, TAKE_PTR(o));
}

static void on_tokens(RestCall *c, json_object *result, const KError *error) {
        json_object *values = NULL;

        if (!kerror_is_set(error))
                (void) json_find_object(result, "values", &values, NULL);
        fail(c, reply_grids(c, values));
}

static void on_grids(RestCall *c, json_object *result, const KError *error) {
        json_object *grids = NULL;
        bool any = false;

        if (kerror_is_set(error)) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_array(result, "grids", &grids, NULL);
        rest_set_userdata(c, json_object_get(grids), put_json);
        FOREACH_JSON_ARRAY(grid, grids) {
                const char *name = "";

                (void) json_find_string(grid, "name", &name, NULL);
                any = any || may_see_token(c, name);
        }
        fail(c, any ? rest_call(c, "grid.tokens", NULL, on_tokens) : reply_grids(c, NULL));
}

static int rest_list_grids(RestCall *c, KError *reterr) {
        return rest_call(c, "grid.list", NULL, on_grids);
}

/* Create and update */

/* What is not in this master is refused and not forgotten: who sets it relies on it. */
static int refuse_unknown(RestCall *c) {
        json_object *body = rest_body(c), *stats = NULL, *statsd = NULL, *logs = NULL;
        const char *forwarder = "";

        (void) json_find_object(body, "stats", &stats, NULL);
        (void) (stats && json_find_object(stats, "statsd", &statsd, NULL));
        if (statsd)
                return rest_reply_field_error(c, "stats", "This master sends no statistics to statsd");
        (void) json_find_object(body, "logs", &logs, NULL);
        (void) (logs && json_find_string(logs, "forwarder", &forwarder, NULL));
        if (!isempty(forwarder) && !streq(forwarder, "none"))
                return rest_reply_field_error(
                                c, "logs", "This master forwards no logs: they are in the nodes' journals");
        if (json_object_object_get_ex(body, "token", NULL))
                return rest_reply_field_error(c, "token", "Tokens of grids are made by this master");
        return 0;
}

/* 1: answered that one is none. */
static int check_trusted(RestCall *c) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = json_find_strv(rest_body(c), "trusted_subnets", &l, NULL);
        if (r < 0)
                return r;
        STRV_FOREACH(s, l) {
                _cleanup_free_ char *sentence = NULL;
                Ipv4Prefix p;

                if (parse_ipv4_prefix(*s, &p) >= 0)
                        continue;
                sentence = strjoin("Invalid trusted_subnet ", *s);
                if (!sentence)
                        return -ENOMEM;
                r = rest_reply_field_error(c, "trusted_subnets", sentence);
                return r < 0 ? r : 1;
        }
        return 0;
}

static void on_changed(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error)) {
                fail(c, rest_call(c, "grid.get", rest_params("grid", rest_segment(c, "grid"), NULL),
                                        on_grid));
                return;
        }
        reply_refusal(c, error, "user");
}

static void on_created(RestCall *c, json_object *result, const KError *error) {
        _cleanup_free_ char *sentence = NULL;
        const char *name = "";

        if (!kerror_is_set(error)) {
                on_grid(c, result, NULL);
                return;
        }
        (void) json_find_string(rest_body(c), "name", &name, NULL);
        if (error->code == K_ALREADY_EXISTS)
                sentence = strjoin("Grid with name ", name, " already exists");
        if (sentence)
                (void) rest_reply_field_error(c, "grid", sentence);
        else if (error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_field_error(c,
                                startswith(kerror_message(error), "The subnet")     ? "subnet"
                                : startswith(kerror_message(error), "The supernet") ? "supernet"
                                                                                    : "grid",
                                kerror_message(error));
        else
                reply_refusal(c, error, "user");
}

/* Calls an operation with the fields of the body that are settings of a grid. */
static int call_with_settings(RestCall *c, const char *operation, const char *const *names,
                json_object *consumed_params, rest_result_t on_result) {
        _cleanup_json_ json_object *params = consumed_params;
        json_object *o;
        int r;

        r = params ? refuse_unknown(c) : -ENOMEM;
        if (r >= 0 && !rest_is_answered(c))
                r = check_trusted(c);
        if (r < 0 || rest_is_answered(c))
                return MIN(r, 0);

        o = json_object_new_object();
        r = json_add(params, "settings", o);
        if (r >= 0)
                r = rest_copy_fields(o, rest_body(c), names);
        return r < 0 ? r : rest_call(c, operation, TAKE_PTR(params), on_result);
}

static int rest_create_grid(RestCall *c, KError *reterr) {
        static const char *const names[] = { "initial_size", "subnet", "supernet", "default_affinity",
                "trusted_subnets", NULL };
        const char *name = NULL;

        (void) json_find_string(rest_body(c), "name", &name, NULL);
        return call_with_settings(c, "grid.create", names, rest_params("name", name, NULL), on_created);
}

static int rest_update_grid(RestCall *c, KError *reterr) {
        static const char *const names[] = { "default_affinity", "trusted_subnets", NULL };

        return call_with_settings(c, "grid.update", names,
                        rest_params("grid", rest_segment(c, "grid"), NULL), on_changed);
}

static void on_removed(RestCall *c, json_object *result, const KError *error) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        GridSummary summary = {};

        if (!kerror_is_set(error)) {
                (void) rest_reply(c, 200, json_object_new_object());
                return;
        }
        if (error->code == K_IN_USE &&
                        store_find_grid(rest_master(c)->store, rest_segment(c, "grid"), &g) >= 0 &&
                        store_summarize_grid(rest_master(c)->store, g->id, &summary) >= 0 &&
                        summary.services + summary.nodes > 0)
                (void) rest_reply_field_error(
                                c, "grid", summary.services > 0 ? "Grid has services" : "Grid has nodes");
        else
                reply_refusal(c, error, "user");
}

static int rest_remove_grid(RestCall *c, KError *reterr) {
        return rest_call(c, "grid.remove", rest_params("grid", rest_segment(c, "grid"), NULL), on_removed);
}

/* Members */

static void on_users(RestCall *c, json_object *result, const KError *error) {
        if (kerror_is_set(error))
                (void) rest_reply_kerror(c, error);
        else
                fail(c, rest_reply_users(c, result));
}

static int rest_list_grid_users(RestCall *c, KError *reterr) {
        return rest_call(c, "grid.list-users", rest_params("grid", rest_segment(c, "grid"), NULL), on_users);
}

static void on_member_added(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                on_users(c, result, NULL);
        else if (error->code == K_NO_SUCH_USER)
                (void) rest_reply_error(c, 404, "User not found");
        else
                reply_refusal(c, error, "grid");
}

static int rest_add_grid_user(RestCall *c, KError *reterr) {
        const char *email = NULL;

        (void) json_find_string(rest_body(c), "email", &email, NULL);
        return rest_call(c, "grid.add-user",
                        rest_params("grid", rest_segment(c, "grid"), "email", email, NULL), on_member_added);
}

static void on_member_removed(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                on_users(c, result, NULL);
        else if (error->code == K_NO_SUCH_USER)
                (void) rest_reply_error(c, 404, "Not found");
        else if (error->code == K_CONFLICT && strstr(kerror_message(error), "last"))
                (void) rest_reply_field_error(c, "grid", "Cannot remove last user");
        else if (error->code == K_CONFLICT || error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_field_error(c, "user", "Invalid user");
        else
                reply_refusal(c, error, "grid");
}

static int rest_remove_grid_user(RestCall *c, KError *reterr) {
        return rest_call(c, "grid.remove-user",
                        rest_params("grid", rest_segment(c, "grid"), "email", rest_segment(c, "email"),
                                        NULL),
                        on_member_removed);
}

static const char *const forwarders[] = { "fluentd", "none", NULL };
static const RestField statsd_fields[] = {
        { .name = "server", .type = REST_STRING, .flags = REST_REQUIRED },
        { .name = "port", .type = REST_INTEGER, .flags = REST_REQUIRED },
        {},
};
static const RestField stats_fields[] = {
        { .name = "statsd", .type = REST_OBJECT, .fields = statsd_fields },
        {},
};
static const RestField logs_fields[] = {
        { .name = "forwarder", .type = REST_STRING, .flags = REST_REQUIRED, .options = forwarders },
        { .name = "opts", .type = REST_OBJECT },
        {},
};

#define SHARED                                                                                              \
        { .name = "default_affinity",                                                                       \
                .type = REST_ARRAY,                                                                         \
                .element = REST_STRING,                                                                     \
                .max = LIST_ENTRIES_MAX,                                                                    \
                .summary = "Rules for services that have none" },                                           \
                        { .name = "trusted_subnets",                                                        \
                                .type = REST_ARRAY,                                                         \
                                .element = REST_STRING,                                                     \
                                .max = LIST_ENTRIES_MAX,                                                    \
                                .summary = "Networks of machines; replaces the whole list" },               \
                        { .name = "stats", .type = REST_OBJECT, .fields = stats_fields }, {                 \
                .name = "logs", .type = REST_OBJECT, .fields = logs_fields                                  \
        }

static const RestField create_body[] = {
        { .name = "name",
                        .type = REST_STRING,
                        .min = GRID_NAME_MIN,
                        .pattern = "^[A-Za-z0-9_-]+$",
                        .summary = "Without, the master makes one" },
        { .name = "initial_size", .type = REST_INTEGER, .min = 1, .max = 7 },
        { .name = "token", .type = REST_STRING },
        { .name = "subnet", .type = REST_STRING },
        { .name = "supernet", .type = REST_STRING },
        SHARED,
        {},
};
static const RestField update_body[] = { SHARED, {} };
static const RestField member_body[] = {
        { .name = "email", .type = REST_STRING, .flags = REST_REQUIRED },
        {},
};

#define ROUTE(m, p, o, s, h) .method = (m), .pattern = (p), .operation = (o), .summary = (s), .handler = (h)

const RestRoute grid_routes[] = {
        { ROUTE("GET", "/v1/grids", "grid.list", "Grids the caller is a member of", rest_list_grids) },
        { ROUTE("POST", "/v1/grids", "grid.create", "Make a grid", rest_create_grid), .body = create_body,
                        .status = 201 },
        { ROUTE("GET", "/v1/grids/:grid", "grid.get", "One grid", rest_get_grid) },
        { ROUTE("PUT", "/v1/grids/:grid", "grid.update", "Change a grid", rest_update_grid),
                        .body = update_body },
        { ROUTE("DELETE", "/v1/grids/:grid", "grid.remove", "Remove a grid that is empty",
                        rest_remove_grid) },
        { ROUTE("GET", "/v1/grids/:grid/users", "grid.list-users", "Members of a grid",
                        rest_list_grid_users) },
        { ROUTE("POST", "/v1/grids/:grid/users", "grid.add-user", "Make a user a member",
                          rest_add_grid_user),
                        .body = member_body, .status = 201 },
        { ROUTE("DELETE", "/v1/grids/:grid/users/:email", "grid.remove-user", "End a membership",
                        rest_remove_grid_user) },
};
const size_t n_grid_routes = ELEMENTSOF(grid_routes);
