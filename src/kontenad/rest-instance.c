/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "node-tracker.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest.h"
#include "string-util.h"

/* What there is of one service: instances, containers, its environment, figures. */

static int list_rows(RestCall *c, GridRow **ret_grid, NodeRowList *ret_nodes, InstanceRowList *ret) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        Store *store = rest_master(c)->store;
        int r;

        r = rest_find_service(c, &g, &s);
        if (r >= 0)
                r = store_list_nodes(store, g->id, ret_nodes);
        if (r >= 0)
                r = store_list_instances_of_service(store, s->id, ret);
        if (r < 0)
                return r;

        *ret_grid = TAKE_PTR(g);
        return 0;
}

static int reply_instances(RestCall *c) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_service(c, &g, &s);
        return r < 0 ? r : rest_reply_instances(c, g, s);
}

static int list_instances(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, reply_instances);
}

static int reply_instance(RestCall *c) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = list_rows(c, &g, &nodes, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                json_object *o;

                if (!rest_instance_is_shown(*i) || !streq((*i)->id, strempty(rest_segment(c, "id"))))
                        continue;
                r = rest_render_instance(g, *i, rest_node_by_id(&nodes, (*i)->node_id), &o);
                return r < 0 ? r : rest_reply(c, 200, o);
        }
        return -ENOENT;
}

static int show_instance(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, reply_instance);
}

/* Placing one anew is moving it: to the node that has the fewest, of those that it is not on. */

static void on_moved(RestCall *c, json_object *result, const KError *error) {
        if (error)
                rest_fail(c, error, "instance");
        else
                rest_finish(c, rest_reply_nothing(c, 200));
}

static int move_away(RestCall *c) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_json_ json_object *params = NULL;
        InstanceRow *instance = NULL;
        NodeRow *best = NULL;
        uint32_t fewest = UINT32_MAX;
        int r;

        r = list_rows(c, &g, &nodes, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n)
                if (rest_instance_is_shown(*i) && streq((*i)->id, strempty(rest_segment(c, "id"))))
                        instance = *i;
        if (!instance)
                return -ENOENT;
        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                uint32_t count;

                if (streq_ptr((*n)->id, instance->node_id) || !streq(node_state(*n), "online"))
                        continue;
                r = store_count_instances_of_node(rest_master(c)->store, (*n)->id, &count);
                if (r < 0)
                        return r;
                if (count < fewest) {
                        fewest = count;
                        best = *n;
                }
        }
        if (!best)
                return rest_reply_field_error(
                                c, "instance", "There is no other node that it could be placed on");

        r = rest_service_params(c, &params);
        REST_ADD(r, json_add_u64(params, "instance", instance->number));
        REST_ADD(r, json_add_string(params, "node", best->name));
        return r < 0 ? r : rest_call(c, "instance.move", TAKE_PTR(params), on_moved);
}

static int remove_instance(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, move_away);
}

/* Containers and what is measured of them */

static int reply_containers(RestCall *c) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_service(c, &g, &s);
        return r < 0 ? r : rest_reply_containers(c, g, s, /* all= */ true);
}

static int list_containers(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, reply_containers);
}

static int reply_stats(RestCall *c) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_service(c, &g, &s);
        return r < 0 ? r : rest_reply_stats(c, g, s, NULL);
}

static int service_stats(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, reply_stats);
}

static int service_metrics(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, rest_reply_metrics);
}

/* One entry of the environment more or less: the whole list is written anew. */

static int env_with(json_object *spec, const char *entry, size_t key_length, bool add, json_object **ret) {
        _cleanup_json_ json_object *l = json_object_new_array();
        json_object *env = NULL;

        if (!l)
                return -ENOMEM;
        (void) json_find_array(spec, "env", &env, NULL);
        FOREACH_JSON_ARRAY(e, env) {
                const char *s = strempty(json_object_get_string(e));

                if (strneq(s, entry, key_length) && s[key_length] == '=')
                        continue;
                if (json_append(l, json_object_get(e)) < 0)
                        return -ENOMEM;
        }
        if (add && json_append_string(l, entry) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(l);
        return 0;
}

static int update_env(RestCall *c, const char *entry, size_t key_length, bool add, rest_result_t on_result) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_json_ json_object *params = NULL, *changes = json_object_new_object(), *env = NULL;
        int r;

        r = rest_find_service(c, &g, &s);
        if (r < 0)
                return r;
        r = env_with(s->spec, entry, key_length, add, &env);
        REST_ADD(r, changes ? json_add(changes, "env", TAKE_PTR(env)) : -ENOMEM);
        REST_ADD(r, rest_service_params(c, &params));
        REST_ADD(r, json_add(params, "changes", TAKE_PTR(changes)));
        return r < 0 ? r : rest_call(c, "service.update", TAKE_PTR(params), on_result);
}

/* The reference wraps nothing around the map here. */
static int reply_bare_map(RestCall *c, const char *sentence) {
        _cleanup_json_ json_object *o = json_object_new_object();

        return o && json_add_string(o, "env", sentence) >= 0 ? rest_reply(c, 422, TAKE_PTR(o)) : -ENOMEM;
}

static void on_env_changed(RestCall *c, json_object *result, const KError *error) {
        if (!error)
                rest_finish(c, rest_reply_nothing(c, 200));
        else if (kerror_http_status(error->code) == 422)
                rest_finish(c, reply_bare_map(c, kerror_message(error)));
        else
                rest_fail(c, error, "env");
}

static void on_env_seen(RestCall *c, json_object *result, const KError *error) {
        const char *entry = "";

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_string(rest_body(c), "env", &entry, NULL);
        rest_finish(c, update_env(c, entry, strcspn(entry, "="), /* add= */ true, on_env_changed));
}

static int add_env(RestCall *c, KError *reterr) {
        json_object *params, *value = NULL;
        const char *entry = "";
        int r;

        if (!json_object_object_get_ex(rest_body(c), "env", &value))
                return reply_bare_map(c, "Env is required");
        if (!value)
                return reply_bare_map(c, "Env can't be nil");
        if (!json_object_is_type(value, json_type_string))
                return reply_bare_map(c, "Env isn't a string");
        entry = json_object_get_string(value);
        if (isempty(entry))
                return reply_bare_map(c, "Env can't be blank");
        if (strcspn(entry, "=") == 0 || !strchr(entry, '='))
                return reply_bare_map(c, "Env isn't in the right format");
        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call(c, "service.get", params, on_env_seen);
}

static void on_env_to_remove(RestCall *c, json_object *result, const KError *error) {
        const char *key = strempty(rest_segment(c, "key"));

        if (error)
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, update_env(c, key, strlen(key), /* add= */ false, on_env_changed));
}

static int remove_env(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call(c, "service.get", params, on_env_to_remove);
}

#define S "/v1/services/:grid/:stack/:service"

const RestRoute instance_routes[] = {
        { "GET", S "/instances", .operation = "instance.list", .summary = "Instances of a service",
                        .handler = list_instances },
        { "GET", S "/instances/:id", .operation = "instance.list", .summary = "An instance",
                        .handler = show_instance },
        { "DELETE", S "/instances/:id", .operation = "instance.move", .summary = "Place an instance anew",
                        .handler = remove_instance },
        { "GET", S "/containers", .operation = "instance.list", .summary = "Containers of a service",
                        .handler = list_containers },
        { "POST", S "/envs", .flags = REST_ANY_BODY, .operation = "service.update",
                        .summary = "Add a variable to the environment", .handler = add_env },
        { "DELETE", S "/envs/:key", .operation = "service.update",
                        .summary = "Remove a variable of the environment", .handler = remove_env },
        { "GET", S "/stats", .operation = "instance.list", .summary = "Last sample of each container",
                        .handler = service_stats },
        { "GET", S "/metrics", .operation = "instance.list", .summary = "Averages for each minute",
                        .handler = service_metrics },
};
const size_t n_instance_routes = ELEMENTSOF(instance_routes);
