/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "json-util.h"
#include "node-tracker.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest.h"
#include "string-util.h"

#define TOKEN_MIN 16
#define TOKEN_MAX 256

static const char *const availabilities[] = { "active", "drain", NULL };

static const RestField create_fields[] = {
        { "name", REST_STRING, REST_REQUIRED, .pattern = "^[A-Za-z0-9_][A-Za-z0-9_-]*$" },
        { "token", REST_STRING, .min = TOKEN_MIN, .max = TOKEN_MAX,
                        .summary = "Cannot be chosen here: the master makes one" },
        { "labels", REST_ARRAY, .element = REST_STRING },
        {},
};
static const RestField update_fields[] = {
        { "labels", REST_ARRAY, .element = REST_STRING },
        { "availability", REST_STRING, .options = availabilities },
        {},
};

static int render(RestCall *c, const GridRow *g, const NodeRow *n, json_object **ret) {
        _cleanup_(node_row_list_done) NodeRowList all = {};
        int r;

        r = store_list_nodes(rest_master(c)->store, g->id, &all);
        return r < 0 ? r : rest_render_node(g, n, &all, /* token= */ NULL, ret);
}

/* The name of ":node", which may be an engine's id; unknown ones stay as they are, for the operation to refuse. */
static int node_params(RestCall *c, json_object **ret) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = rest_find_node(c, g, &n);
        if (r < 0 && r != -ENOENT)
                return r;
        r = rest_grid_params(c, &o);
        REST_ADD(r, json_add_string(o, "node", n ? n->name : strempty(rest_segment(c, "node"))));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int find_row(RestCall *c, GridRow **ret_grid, NodeRow **ret) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = rest_find_node(c, g, ret);
        if (r < 0)
                return r;
        *ret_grid = TAKE_PTR(g);
        return 0;
}

static int reply_nodes(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        return r < 0 ? r : rest_reply_nodes(c, g);
}

static int list_nodes(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "node.list", params, reply_nodes);
}

static int reply_node(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        json_object *o;
        int r;

        r = find_row(c, &g, &n);
        if (r >= 0)
                r = render(c, g, n, &o);
        return r < 0 ? r : rest_reply(c, 200, o);
}

static int show_node(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = node_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "node.get", params, reply_node);
}

static int reply_created(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        json_object *o;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = store_find_node(rest_master(c)->store, g->id, rest_body_string(c, "name"), &n);
        if (r >= 0)
                r = render(c, g, n, &o);
        return r < 0 ? r : rest_reply(c, 201, o);
}

static void on_created(RestCall *c, json_object *result, const KError *error) {
        _cleanup_free_ char *text = NULL;

        if (error && error->code == K_ALREADY_EXISTS) {
                text = strprintf("Node with name %s already exists", rest_body_string(c, "name"));
                rest_finish(c, text ? rest_reply_field_error(c, "name", text) : -ENOMEM);
        } else if (error)
                rest_fail(c, error, strstr(kerror_message(error), "label") ? "labels" : "name");
        else
                rest_finish(c, reply_created(c));
}

static int add_settings(RestCall *c, json_object *params) {
        static const char *const keys[] = { "labels", "availability" };
        _cleanup_json_ json_object *settings = json_object_new_object();
        int r = settings ? 0 : -ENOMEM;

        FOREACH_ARRAY(key, keys, ELEMENTSOF(keys)) {
                json_object *v = NULL;

                if (json_object_object_get_ex(rest_body(c), *key, &v) && v)
                        REST_ADD(r, json_add(settings, *key, json_object_get(v)));
        }
        REST_ADD(r, json_add(params, "settings", TAKE_PTR(settings)));
        return r;
}

static int create_node(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL;
        int r;

        if (!isempty(rest_body_string(c, "token")))
                return rest_reply_field_error(c, "token",
                                "Token cannot be chosen: the master makes one, which also names its own "
                                "key");
        r = rest_grid_params(c, &params);
        REST_ADD(r, json_add_string(params, "name", rest_body_string(c, "name")));
        REST_ADD(r, add_settings(c, params));
        return r < 0 ? r : rest_call(c, "node.create", TAKE_PTR(params), on_created);
}

static void on_updated(RestCall *c, json_object *result, const KError *error) {
        if (error)
                rest_fail(c, error,
                                strstr(kerror_message(error), "vailability") ? "availability" : "labels");
        else
                rest_finish(c, reply_node(c));
}

static int update_node(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL;
        int r;

        r = node_params(c, &params);
        REST_ADD(r, add_settings(c, params));
        return r < 0 ? r : rest_call(c, "node.update", TAKE_PTR(params), on_updated);
}

static void on_removed(RestCall *c, json_object *result, const KError *error) {
        if (error)
                rest_fail(c, error, "node");
        else
                rest_finish(c, rest_reply_nothing(c, 200));
}

/* What the reference removes without a question is what is offline: its client asks the person, and refuses others itself. */
static int remove_node(RestCall *c, KError *reterr) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_json_ json_object *params = NULL;
        int r;

        r = find_row(c, &g, &n);
        if (r < 0 && r != -ENOENT)
                return r;
        r = node_params(c, &params);
        REST_ADD(r, json_add_bool(params, "force", n && !n->connected));
        return r < 0 ? r : rest_call(c, "node.remove", TAKE_PTR(params), on_removed);
}

/* There is no etcd here: what the grid's names live in is the nodes themselves, well when the node is connected. */
static int reply_health(RestCall *c) {
        _cleanup_json_ json_object *o = json_object_new_object(), *etcd = json_object_new_object();
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_free_ char *time = NULL, *text = NULL;
        int r;

        r = o && etcd ? find_row(c, &g, &n) : -ENOMEM;
        if (r < 0)
                return r;
        if (!n->connected && n->disconnected_at > 0) {
                time = rest_format_time(n->disconnected_at);
                text = time ? strprintf("Websocket disconnected at %s with code 1006: it left", time) : NULL;
                return text ? rest_reply_field_error(c, "connection", text) : -ENOMEM;
        }
        if (!n->connected)
                return rest_reply_field_error(c, "connection", "Websocket is not connected");

        REST_ADD(r, rest_add_id(o, "id", g->name, n->name, NULL));
        REST_ADD(r, json_add_string(o, "name", n->name));
        REST_ADD(r, json_add_u64(o, "node_number", n->number));
        REST_ADD(r, json_add_bool(o, "initial_member", n->number <= g->initial_size));
        REST_ADD(r, json_add_string(o, "status", node_state(n)));
        REST_ADD(r, rest_add_time(o, "connected_at", n->connected_at));
        REST_ADD(r, rest_add_time(o, "disconnected_at", n->disconnected_at));
        REST_ADD(r, json_add_bool(o, "connected", true));
        REST_ADD(r, json_add_bool(etcd, "health", n->report));
        REST_ADD(r, json_add_string(etcd, "error", NULL));
        REST_ADD(r, json_add(o, "etcd_health", TAKE_PTR(etcd)));
        return r < 0 ? r : rest_reply(c, 200, TAKE_PTR(o));
}

static int node_health(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = node_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "node.get", params, reply_health);
}

/* The token of a node. One cannot be chosen: it names its grid and the master's key. */

static const RestField token_fields[] = {
        { "token", REST_STRING, .min = TOKEN_MIN, .max = TOKEN_MAX, .summary = "Cannot be chosen" },
        { "reset_connection", REST_BOOLEAN, .summary = "Cut the machine that is this node now" },
        {},
};

static void on_token(RestCall *c, json_object *result, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *node = "", *token = "";
        int r;

        if (error && error->code == K_NO_SUCH_TOKEN) {
                (void) rest_reply_error(c, 404, "Host node does not have a node token");
                return;
        }
        if (error) {
                rest_fail(c, error, "token");
                return;
        }
        (void) json_find_string(result, "node", &node, NULL);
        (void) json_find_string(result, "token", &token, NULL);
        r = o ? rest_add_id(o, "id", strempty(rest_segment(c, "grid")), node, NULL) : -ENOMEM;
        REST_ADD(r, json_add_string(o, "token", token));
        rest_finish(c, r < 0 ? r : rest_reply(c, 200, TAKE_PTR(o)));
}

static int show_token(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = node_params(c, &params);
        return r < 0 ? r : rest_call(c, "node.token", params, on_token);
}

static int reset_token(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL;
        bool reset_connection = false;
        int r;

        if (!isempty(rest_body_string(c, "token")))
                return rest_reply_field_error(c, "token",
                                "Token cannot be chosen: the master makes one, which also names its own "
                                "key");
        (void) json_find_bool(rest_body(c), "reset_connection", &reset_connection, NULL);
        r = node_params(c, &params);
        REST_ADD(r, json_add_bool(params, "reset_connection", reset_connection));
        return r < 0 ? r : rest_call(c, "node.reset-token", TAKE_PTR(params), on_token);
}

static void on_token_cleared(RestCall *c, json_object *result, const KError *error) {
        if (error)
                rest_fail(c, error, "token");
        else
                rest_finish(c, rest_reply_nothing(c, 200));
}

static int clear_token(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = node_params(c, &params);
        return r < 0 ? r : rest_call(c, "node.clear-token", params, on_token_cleared);
}

/* Figures */

static int reply_node_stats(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        int r;

        r = find_row(c, &g, &n);
        return r < 0 ? r : rest_reply_stats(c, g, NULL, n);
}

static int node_stats(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = node_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "node.get", params, reply_node_stats);
}

static int node_metrics(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = node_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "node.get", params, rest_reply_metrics);
}

static int reply_grid_stats(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        return r < 0 ? r : rest_reply_stats(c, g, NULL, NULL);
}

static int grid_stats(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, reply_grid_stats);
}

static int grid_metrics(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, rest_reply_metrics);
}

/* By an engine's id alone, which the agents of the reference use: ours have a channel of their own. */
static int node_by_id(RestCall *c, KError *reterr) {
        return rest_reply_error(c, 404, "Not found");
}

#define N "/v1/nodes/:grid/:node"

const RestRoute node_routes[] = {
        { "GET", "/v1/grids/:grid/nodes", .operation = "node.list", .summary = "Nodes of a grid",
                        .handler = list_nodes },
        { "POST", "/v1/grids/:grid/nodes", .operation = "node.create",
                        .summary = "Make a node that is still to join", .body = create_fields,
                        .handler = create_node, .status = 201 },
        { "GET", "/v1/grids/:grid/stats", .operation = "service.list",
                        .summary = "Last sample of each container of a grid", .handler = grid_stats },
        { "GET", "/v1/grids/:grid/metrics", .operation = "service.list",
                        .summary = "Averages of a grid for each minute", .handler = grid_metrics },
        { "GET", N, .operation = "node.get", .summary = "A node", .handler = show_node },
        { "PUT", N, .operation = "node.update", .summary = "Change labels and availability",
                        .body = update_fields, .handler = update_node },
        { "DELETE", N, .operation = "node.remove", .summary = "Remove a node", .handler = remove_node },
        { "GET", N "/health", .operation = "node.get", .summary = "Whether a node is well",
                        .handler = node_health },
        { "GET", N "/token", .operation = "node.token", .summary = "A node's own token",
                        .handler = show_token },
        { "PUT", N "/token", .operation = "node.reset-token", .summary = "Give a node another token",
                        .body = token_fields, .handler = reset_token },
        { "DELETE", N "/token", .operation = "node.clear-token", .summary = "Take a node's token",
                        .body = token_fields, .handler = clear_token },
        { "GET", N "/stats", .operation = "node.get", .summary = "Last sample of each container of a node",
                        .handler = node_stats },
        { "GET", N "/metrics", .operation = "node.get", .summary = "Averages of a node for each minute",
                        .handler = node_metrics },
        { "GET", "/v1/nodes/:id", .flags = REST_ANY_TOKEN, .summary = "For agents of the reference: none",
                        .handler = node_by_id },
        { "PUT", "/v1/nodes/:id", .flags = REST_ANY_TOKEN | REST_ANY_BODY,
                        .summary = "For agents of the reference: none", .handler = node_by_id },
};
const size_t n_node_routes = ELEMENTSOF(node_routes);
