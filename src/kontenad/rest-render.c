/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-render.h"

#include <inttypes.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "rest.h"
#include "string-util.h"

int rest_add_id(json_object *o, const char *key, const char *grid, const char *a, const char *b) {
        _cleanup_free_ char *id = b ? strjoin(grid, "/", a, "/", b) : strjoin(grid, "/", a);

        return id ? json_add_string(o, key, id) : -ENOMEM;
}

int rest_add_text(json_object *o, const char *key, const char *value) {
        return json_add_string(o, key, empty_to_null(value));
}

int rest_add_joined(json_object *o, json_object *from, const char *key, const char *separator) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *joined = NULL;
        int r;

        r = json_find_strv(from, key, &l, NULL);
        if (r < 0)
                return r;
        joined = strv_join(l, separator);
        return joined ? rest_add_text(o, key, joined) : -ENOMEM;
}

/* "created" "ongoing" "success" "error": what has ended otherwise is an error to who waits for it. */
static const char *deploy_state(const char *ours) {
        DeployState s = deploy_state_from_string(ours);

        if ((int) s < 0 || s > DEPLOY_ERROR)
                return "error";
        return deploy_state_to_string(s);
}

static const char *step_state(const char *ours) {
        if (STR_IN_SET(ours, "waiting", "skipped"))
                return "created";
        if (STR_IN_SET(ours, "copying", "starting"))
                return "ongoing";
        return streq(ours, "running") ? "success" : "error";
}

static int add_steps(json_object *o, json_object *steps) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(step, steps) {
                const char *state = step_state(rest_text(step, "state")), *error = rest_text(step, "error");
                _cleanup_json_ json_object *row = json_object_new_object();
                int r = row ? 0 : -ENOMEM;

                if (streq(state, "error") && isempty(error))
                        error = "It was not started.";
                REST_ADD(r, json_add_u64(row, "instance_number", rest_number(step, "number")));
                REST_ADD(r, rest_add_text(row, "node", rest_text(step, "node")));
                REST_ADD(r, json_add_string(row, "state", state));
                REST_ADD(r, rest_add_text(row, "error", error));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, "instance_deploys", TAKE_PTR(l));
}

int rest_render_deploy(json_object *deploy, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *state = deploy_state(rest_text(deploy, "state")), *reason = rest_text(deploy, "reason");
        json_object *steps = NULL;
        int r = o ? 0 : -ENOMEM;

        (void) json_find_array(deploy, "instances", &steps, NULL);
        if (streq(state, "error") && isempty(reason))
                reason = "The deploy did not succeed.";

        REST_ADD(r, json_add_string(o, "id", rest_text(deploy, "id")));
        REST_ADD(r, rest_add_id(o, "service_id", rest_text(deploy, "grid"), rest_text(deploy, "stack"),
                                    rest_text(deploy, "service")));
        REST_ADD(r, rest_add_time(o, "created_at", rest_number(deploy, "created_at")));
        REST_ADD(r, rest_add_time(o, "queued_at", rest_number(deploy, "created_at")));
        REST_ADD(r, rest_add_time(o, "started_at", rest_number(deploy, "started_at")));
        REST_ADD(r, rest_add_time(o, "finished_at", rest_number(deploy, "finished_at")));
        REST_ADD(r, json_add_string(o, "state", state));
        REST_ADD(r, rest_add_text(o, "reason", reason));
        REST_ADD(r, json_add_u64(o, "instance_count", steps ? json_object_array_length(steps) : 0));
        REST_ADD(r, add_steps(o, steps));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* Zero is what nothing has reported yet. */
static int add_revision(json_object *o, const char *key, uint64_t revision) {
        _cleanup_free_ char *s = NULL;

        if (revision == 0)
                return json_add_string(o, key, NULL);
        s = strprintf("%" PRIu64, revision);
        return s ? json_add_string(o, key, s) : -ENOMEM;
}

static const char *report_text(const NodeRow *n, const char *key) {
        return n && n->report ? rest_text(n->report, key) : "";
}

int rest_render_instance(const GridRow *g, const InstanceRow *i, const NodeRow *n, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *node = NULL;
        int r = o ? 0 : -ENOMEM;

        REST_ADD(r, json_add_string(o, "id", i->id));
        REST_ADD(r, rest_add_time(o, "created_at", i->created_at));
        REST_ADD(r, rest_add_time(o, "updated_at", MAX(i->created_at, i->status_at)));
        REST_ADD(r, json_add_u64(o, "instance_number", i->number));
        REST_ADD(r, json_add_string(o, "desired_state",
                                    i->desired == INSTANCE_RUNNING ? "running" : "stopped"));
        REST_ADD(r, json_add_string(o, "state", i->state ?: "initialized"));
        REST_ADD(r, add_revision(o, "deploy_rev", i->deploy_rev));
        REST_ADD(r, add_revision(o, "rev", i->observed_deploy_rev));
        REST_ADD(r, rest_add_text(o, "error", i->error));
        if (r >= 0 && n) {
                node = json_object_new_object();
                r = node ? rest_add_id(node, "id", g->name, n->name, NULL) : -ENOMEM;
                REST_ADD(r, json_add_string(node, "name", n->name));
                REST_ADD(r, rest_add_text(node, "public_ip", report_text(n, "public_address")));
                REST_ADD(r, json_add(o, "node", TAKE_PTR(node)));
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

bool rest_instance_is_container(const InstanceRow *i) {
        return i->role == INSTANCE_CURRENT && i->desired != INSTANCE_TERMINATED && i->node_id && i->state &&
               !STR_IN_SET(i->state, "pending", "pulling", "creating", "removed");
}

int rest_parse_container_name(const char *name, char **ret_stack, char **ret_service, uint32_t *ret_number) {
        _cleanup_free_ char *stack = NULL, *service = NULL;
        const char *dot = strchr(name, '.'), *dash = strrchr(name, '-'), *begin = dot ? dot + 1 : name;
        unsigned n;

        if (!dash || dash <= begin || dot == name || safe_atou(dash + 1, &n) < 0 || n == 0 || dash[1] == '0')
                return -EINVAL;
        stack = dot ? strndup(name, (size_t) (dot - name)) : strdup(STACK_NULL);
        service = strndup(begin, (size_t) (dash - begin));
        if (!stack || !service)
                return -ENOMEM;

        *ret_stack = TAKE_PTR(stack);
        *ret_service = TAKE_PTR(service);
        *ret_number = n;
        return 0;
}

static const char *container_status(const InstanceRow *i) {
        if (streq(i->state, "restarting"))
                return "restarting";
        if (STR_IN_SET(i->state, "running", "starting", "stopping"))
                return "running";
        return i->oom_kills > 0 && streq(i->state, "failed") ? "oom_killed" : "stopped";
}

static int add_state(json_object *o, const InstanceRow *i) {
        const char *status = container_status(i);
        _cleanup_json_ json_object *state = json_object_new_object();
        int r = state ? 0 : -ENOMEM;

        REST_ADD(r, json_add_string(state, "error", strempty(i->error)));
        REST_ADD(r, json_add_i64(state, "exit_code", MAX(i->exit_status, 0)));
        REST_ADD(r, json_add_i64(state, "pid", MAX(i->pid, 0)));
        REST_ADD(r, json_add_bool(state, "oom_killed", streq(status, "oom_killed")));
        REST_ADD(r, json_add_bool(state, "paused", false));
        REST_ADD(r, json_add_bool(state, "restarting", streq(status, "restarting")));
        REST_ADD(r, json_add_bool(state, "dead", false));
        REST_ADD(r, json_add_bool(state, "running", streq(status, "running")));
        REST_ADD(r, json_add_string(o, "status", status));
        REST_ADD(r, json_add(o, "state", TAKE_PTR(state)));
        return r;
}

static int add_container_node(json_object *o, const GridRow *g, const NodeRow *n) {
        static char *const none[] = { NULL };
        _cleanup_json_ json_object *node = json_object_new_object(), *grid = json_object_new_object();
        _cleanup_free_ char *engine = rest_engine_id(n);
        int r = node && grid ? 0 : -ENOMEM;

        REST_ADD(r, json_add_string(grid, "id", g->name));
        REST_ADD(r, json_add_string(grid, "name", g->name));
        REST_ADD(r, json_add_u64(grid, "initial_size", g->initial_size));
        REST_ADD(r, json_add_string(node, "id", engine));
        REST_ADD(r, json_add_bool(node, "connected", n->connected));
        REST_ADD(r, rest_add_time(node, "last_seen_at", n->last_seen_at));
        REST_ADD(r, json_add_string(node, "name", n->name));
        REST_ADD(r, json_add_strv(node, "labels", n->labels ?: none));
        REST_ADD(r, rest_add_text(node, "public_ip", report_text(n, "public_address")));
        REST_ADD(r, rest_add_text(node, "private_ip", report_text(n, "private_address")));
        REST_ADD(r, json_add_u64(node, "node_number", n->number));
        REST_ADD(r, json_add(node, "grid", TAKE_PTR(grid)));
        REST_ADD(r, json_add(o, "node", TAKE_PTR(node)));
        return r;
}

/* {"80/tcp": [{"node_ip", "node_port"}]} */
static int add_port_bindings(json_object *settings, json_object *spec) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *ports = NULL;
        int r = o ? 0 : -ENOMEM;

        (void) json_find_array(spec, "ports", &ports, NULL);
        FOREACH_JSON_ARRAY(p, ports) {
                _cleanup_json_ json_object *binding = json_object_new_object();
                _cleanup_free_ char *key = NULL;
                const char *protocol = empty_to_null(rest_text(p, "protocol")) ?: "tcp";
                const char *ip = empty_to_null(rest_text(p, "ip")) ?: "0.0.0.0";
                json_object *l;

                key = strprintf("%" PRIu64 "/%s", rest_number(p, "container_port"), protocol);
                if (!binding || !key)
                        return -ENOMEM;
                REST_ADD(r, json_add_string(binding, "node_ip", ip));
                REST_ADD(r, json_add_u64(binding, "node_port", rest_number(p, "node_port")));
                if (r >= 0 && !json_object_object_get_ex(o, key, &l)) {
                        l = json_object_new_array();
                        r = json_add(o, key, l);
                }
                REST_ADD(r, json_append(l, TAKE_PTR(binding)));
                if (r < 0)
                        return r;
        }
        REST_ADD(r, json_add(settings, "ports", TAKE_PTR(o)));
        return r;
}

static int add_network(json_object *o, const GridRow *g, const InstanceRow *i) {
        _cleanup_json_ json_object *settings = json_object_new_object();
        Ipv4Prefix subnet = {};
        int r = settings ? 0 : -ENOMEM;

        (void) parse_ipv4_prefix(strempty(g->subnet), &subnet);
        REST_ADD(r, json_add_string(settings, "bridge", ""));
        REST_ADD(r, json_add_string(settings, "gateway", ""));
        REST_ADD(r, json_add_string(settings, "ip_address", strempty(i->address)));
        REST_ADD(r, json_add_u64(settings, "ip_prefix_len", i->address ? subnet.length : 0));
        REST_ADD(r, json_add_string(settings, "mac_address", ""));
        REST_ADD(r, json_add_string(settings, "port_mapping", NULL));
        REST_ADD(r, add_port_bindings(settings, i->spec));
        REST_ADD(r, json_add(o, "network_settings", TAKE_PTR(settings)));
        return r;
}

static int add_health(json_object *o, const InstanceRow *i) {
        _cleanup_json_ json_object *health = NULL;
        int r;

        if (!i->health || !STR_IN_SET(i->health, "healthy", "unhealthy"))
                return 0;
        health = json_object_new_object();
        r = health ? json_add_string(health, "status", i->health) : -ENOMEM;
        REST_ADD(r, rest_add_time(health, "updated_at", i->status_at));
        REST_ADD(r, json_add(o, "health_status", TAKE_PTR(health)));
        return r;
}

static int add_copy(json_object *o, const char *key, json_object *spec) {
        json_object *value = NULL;

        (void) json_find_array(spec, key, &value, NULL);
        return value ? json_add(o, key, json_object_get(value)) : json_add_string(o, key, NULL);
}

int rest_render_container(const GridRow *g, const ServiceRow *s, const InstanceRow *i, const NodeRow *n,
                json_object **ret) {
        _cleanup_free_ char *name = instance_container_name(s->stack, s->name, i->number), *hostname = NULL,
                            *domain = stack_domain(g->name, s->stack);
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        hostname = strprintf("%s-%u", s->name, i->number);
        r = o && name && domain && hostname ? 0 : -ENOMEM;
        REST_ADD(r, n ? rest_add_id(o, "id", g->name, n->name, name) : json_add_string(o, "id", name));
        REST_ADD(r, json_add_string(o, "name", name));
        REST_ADD(r, json_add_string(o, "container_id", i->id));
        REST_ADD(r, json_add_string(o, "grid_id", g->name));
        if (r >= 0 && n)
                r = add_container_node(o, g, n);
        REST_ADD(r, rest_add_id(o, "service_id", g->name, s->stack, s->name));
        REST_ADD(r, rest_add_time(o, "created_at", i->created_at));
        REST_ADD(r, rest_add_time(o, "updated_at", MAX(i->created_at, i->status_at)));
        REST_ADD(r, i->started_at > 0 ? rest_add_time(o, "started_at", i->started_at)
                                      : json_add_string(o, "started_at", "0001-01-01T00:00:00.000Z"));
        REST_ADD(r, json_add_string(o, "finished_at", "0001-01-01T00:00:00.000Z"));
        REST_ADD(r, json_add_string(o, "deleted_at", NULL));
        REST_ADD(r, add_state(o, i));
        REST_ADD(r, add_revision(o, "deploy_rev", i->observed_deploy_rev));
        REST_ADD(r, add_revision(o, "service_rev", i->observed_service_rev));
        REST_ADD(r, json_add_u64(o, "instance_number", i->number));
        REST_ADD(r, json_add_string(o, "image", rest_text(i->spec, "image")));
        REST_ADD(r, add_copy(o, "cmd", i->spec));
        REST_ADD(r, add_copy(o, "env", i->spec));
        REST_ADD(r, json_add(o, "volumes", json_object_new_array()));
        REST_ADD(r, rest_add_text(o, "ip_address", i->address));
        REST_ADD(r, json_add_string(o, "hostname", hostname));
        REST_ADD(r, json_add_string(o, "domainname", domain));
        REST_ADD(r, add_network(o, g, i));
        REST_ADD(r, add_health(o, i));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
