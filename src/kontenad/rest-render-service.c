/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "json-util.h"
#include "names.h"
#include "render.h"
#include "rest-render.h"
#include "rest.h"
#include "service-spec.h"
#include "string-util.h"

/* Settings of a service as the reference lists them. What it has and we do not is null or empty. */

#define MIN_HEALTH_DEFAULT 0.8
#define GRACE_SEC_DEFAULT  10U

static const char *const texts[] = { "user", "pid", "stop_signal" };
static const char *const numbers[] = { "memory", "memory_swap", "shm_size", "cpu_shares" };
static const char *const lists[] = { "env", "volumes", "volumes_from", "cap_add", "cap_drop" };

static json_object *find_array(json_object *o, const char *key) {
        json_object *l = NULL;

        (void) json_find_array(o, key, &l, NULL);
        return l;
}

static int add_list(json_object *o, const char *key, json_object *l) {
        return json_add(o, key, l ? json_object_get(l) : json_object_new_array());
}

/* 0 means none in our settings, null in the reference's. */
static int add_number(json_object *o, const char *key, uint64_t n) {
        return n > 0 ? json_add_u64(o, key, n) : json_add_string(o, key, NULL);
}

static int add_cpus(json_object *o, json_object *spec) {
        double cpus = 0;

        (void) json_find_double(spec, "cpus", &cpus, NULL);
        return cpus > 0 ? json_add_double(o, "cpus", cpus) : json_add_string(o, "cpus", NULL);
}

static int add_affinity(json_object *o, const GridRow *g, json_object *spec) {
        static char *const none[] = { NULL };
        json_object *own = find_array(spec, "affinity");

        return own ? add_list(o, "affinity", own)
                   : json_add_strv(o, "affinity", g->default_affinity ?: none);
}

static int add_ports(json_object *o, json_object *spec) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(p, find_array(spec, "ports")) {
                _cleanup_json_ json_object *row = json_object_new_object();
                const char *ip = empty_to_null(json_string_or(p, "ip", "")) ?: "0.0.0.0";
                int r = row ? 0 : -ENOMEM;

                REST_ADD(r, json_add_string(row, "ip", ip));
                REST_ADD(r, json_add_string(row, "protocol", json_string_or(p, "protocol", "tcp")));
                REST_ADD(r, json_add_u64(row, "node_port", json_u64_or(p, "node_port", 0)));
                REST_ADD(r, json_add_u64(row, "container_port", json_u64_or(p, "container_port", 0)));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, "ports", TAKE_PTR(l));
}

static int add_secrets(json_object *o, json_object *spec) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(s, find_array(spec, "secrets")) {
                _cleanup_json_ json_object *row = json_object_new_object();
                const char *secret = json_string_or(s, "secret", "");
                int r = row ? 0 : -ENOMEM;

                REST_ADD(r, json_add_string(row, "secret", secret));
                REST_ADD(r, json_add_string(row, "name", json_string_or(s, "name", secret)));
                REST_ADD(r, json_add_string(row, "type", json_string_or(s, "type", "env")));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, "secrets", TAKE_PTR(l));
}

static int add_links(json_object *o, const GridRow *g, const ServiceRow *s) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(link, find_array(s->spec, "links")) {
                _cleanup_json_ json_object *row = json_object_new_object();
                const char *name = json_object_get_string(link), *slash = strchr(strempty(name), '/');
                _cleanup_free_ char *stack = slash ? strndup(name, (size_t) (slash - name))
                                                   : strdup(s->stack);
                int r = row && stack ? 0 : -ENOMEM;

                if (!name)
                        continue;
                REST_ADD(r, rest_add_id(row, "id", g->name, stack, slash ? slash + 1 : name));
                REST_ADD(r, json_add_string(row, "alias", slash ? slash + 1 : name));
                REST_ADD(r, json_add_string(row, "name", name));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, "links", TAKE_PTR(l));
}

static int add_deploy_opts(json_object *o, json_object *spec) {
        _cleanup_json_ json_object *opts = json_object_new_object();
        double min_health = MIN_HEALTH_DEFAULT;
        int r = opts ? 0 : -ENOMEM;

        (void) json_find_double(spec, "min_health", &min_health, NULL);
        REST_ADD(r, add_number(opts, "wait_for_port", json_u64_or(spec, "wait_for_port", 0)));
        REST_ADD(r, json_add_double(opts, "min_health", min_health));
        REST_ADD(r, add_number(opts, "interval", json_u64_or(spec, "interval", 0)));
        REST_ADD(r, json_add(o, "deploy_opts", TAKE_PTR(opts)));
        return r;
}

static int add_hooks(json_object *o, json_object *spec) {
        _cleanup_json_ json_object *l = json_object_new_array();
        json_object *hooks = NULL;

        if (!l)
                return -ENOMEM;
        (void) json_find_object(spec, "hooks", &hooks, NULL);
        for (HookStage stage = 0; hooks && stage < _HOOK_STAGE_MAX; stage++)
                FOREACH_JSON_ARRAY(h, find_array(hooks, hook_stage_to_string(stage))) {
                        _cleanup_json_ json_object *row = json_object_new_object();
                        bool oneshot = false;
                        int r = row ? 0 : -ENOMEM;

                        (void) json_find_bool(h, "oneshot", &oneshot, NULL);
                        REST_ADD(r, json_add_string(row, "name", json_string_or(h, "name", "")));
                        REST_ADD(r, json_add_string(row, "type", hook_stage_to_string(stage)));
                        REST_ADD(r, json_add_string(row, "cmd", json_string_or(h, "cmd", "")));
                        REST_ADD(r, json_add_bool(row, "oneshot", oneshot));
                        REST_ADD(r, json_append(l, TAKE_PTR(row)));
                        if (r < 0)
                                return r;
                }
        return json_add(o, "hooks", TAKE_PTR(l));
}

/* One that runs a command has no port: the reference knows only of such that have. */
static int add_health_check(json_object *o, json_object *spec, const InstanceRowList *instances) {
        _cleanup_json_ json_object *check = NULL, *status = NULL;
        json_object *ours = NULL;
        uint64_t healthy = 0, unhealthy = 0, total = 0;
        const char *protocol;
        int r;

        (void) json_find_object(spec, "health_check", &ours, NULL);
        protocol = ours ? json_string_or(ours, "protocol", "") : "";
        if (isempty(protocol))
                return 0;

        check = json_object_new_object();
        status = json_object_new_object();
        r = check && status ? json_add_string(check, "protocol", protocol) : -ENOMEM;
        REST_ADD(r, rest_add_text(check, "uri",
                                    json_string_or(ours, "uri", streq(protocol, "http") ? "/" : "")));
        REST_ADD(r, add_number(check, "port", json_u64_or(ours, "port", 0)));
        REST_ADD(r, json_add_u64(check, "timeout", json_u64_or(ours, "timeout", 10)));
        REST_ADD(r, json_add_u64(check, "initial_delay", json_u64_or(ours, "initial_delay", 10)));
        REST_ADD(r, json_add_u64(check, "interval", json_u64_or(ours, "interval", 60)));
        REST_ADD(r, json_add(o, "health_check", TAKE_PTR(check)));

        FOREACH_ARRAY(i, instances->rows, instances->n) {
                if (!rest_instance_is_container(*i))
                        continue;
                total++;
                healthy += streq_ptr((*i)->health, "healthy");
                unhealthy += streq_ptr((*i)->health, "unhealthy");
        }
        REST_ADD(r, json_add_u64(status, "healthy", healthy));
        REST_ADD(r, json_add_u64(status, "unhealthy", unhealthy));
        REST_ADD(r, json_add_u64(status, "total", total));
        REST_ADD(r, json_add(o, "health_status", TAKE_PTR(status)));
        return r;
}

static int add_counts(json_object *o, const InstanceRowList *instances) {
        _cleanup_json_ json_object *counts = json_object_new_object();
        uint64_t total = 0, running = 0;
        int r = counts ? 0 : -ENOMEM;

        FOREACH_ARRAY(i, instances->rows, instances->n) {
                if (!rest_instance_is_container(*i))
                        continue;
                total++;
                running += streq((*i)->state, "running");
        }
        REST_ADD(r, json_add_u64(counts, "total", total));
        REST_ADD(r, json_add_u64(counts, "running", running));
        REST_ADD(r, json_add(o, "instance_counts", TAKE_PTR(counts)));
        return r;
}

static int add_belonging(json_object *o, const GridRow *g, const ServiceRow *s) {
        _cleanup_json_ json_object *grid = json_object_new_object(), *stack = json_object_new_object();
        _cleanup_free_ char *domain = stack_domain(g->name, s->stack), *dns = NULL;
        int r;

        dns = domain ? strjoin(s->name, ".", domain) : NULL;
        r = grid && stack && dns ? 0 : -ENOMEM;
        REST_ADD(r, json_add_string(grid, "id", g->name));
        REST_ADD(r, rest_add_id(stack, "id", g->name, s->stack, NULL));
        REST_ADD(r, json_add_string(stack, "name", s->stack));
        REST_ADD(r, json_add_string(o, "dns", dns));
        REST_ADD(r, json_add(o, "grid", TAKE_PTR(grid)));
        REST_ADD(r, json_add(o, "stack", TAKE_PTR(stack)));
        return r;
}

static int add_spec(json_object *o, json_object *spec) {
        json_object *cmd = find_array(spec, "cmd");
        bool read_only = false;
        int r = 0;

        (void) json_find_bool(spec, "read_only", &read_only, NULL);
        FOREACH_ARRAY(key, texts, ELEMENTSOF(texts))
                REST_ADD(r, rest_add_text(o, *key, json_string_or(spec, *key, "")));
        FOREACH_ARRAY(key, numbers, ELEMENTSOF(numbers))
                REST_ADD(r, add_number(o, *key, json_u64_or(spec, *key, 0)));
        FOREACH_ARRAY(key, lists, ELEMENTSOF(lists))
                REST_ADD(r, add_list(o, *key, find_array(spec, *key)));
        REST_ADD(r, json_add_string(o, "image", json_string_or(spec, "image", "")));
        REST_ADD(r, json_add_bool(o, "stateful", spec_is_stateful(spec)));
        REST_ADD(r, json_add_bool(o, "read_only", read_only));
        REST_ADD(r, json_add_u64(o, "instances", spec_count(spec)));
        REST_ADD(r, json_add_string(o, "strategy", json_string_or(spec, "strategy", "ha")));
        REST_ADD(r, rest_add_joined(o, spec, "entrypoint", " "));
        REST_ADD(r, cmd ? add_list(o, "cmd", cmd) : json_add_string(o, "cmd", NULL));
        REST_ADD(r, json_add_string(o, "net", json_string_or(spec, "net", "bridge")));
        REST_ADD(r, add_ports(o, spec));
        REST_ADD(r, add_secrets(o, spec));
        REST_ADD(r, add_list(o, "certificates", NULL));
        REST_ADD(r, add_cpus(o, spec));
        REST_ADD(r, json_add_string(o, "log_driver", NULL));
        REST_ADD(r, json_add(o, "log_opts", json_object_new_object()));
        REST_ADD(r, add_deploy_opts(o, spec));
        REST_ADD(r, add_hooks(o, spec));
        REST_ADD(r, json_add_u64(o, "stop_grace_period",
                                    json_u64_or(spec, "stop_grace_period", GRACE_SEC_DEFAULT)));
        return r;
}

int rest_render_service(
                const GridRow *g, const ServiceRow *s, const InstanceRowList *instances, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        REST_ADD(r, rest_add_id(o, "id", g->name, s->stack, s->name));
        REST_ADD(r, json_add_string(o, "name", s->name));
        REST_ADD(r, rest_add_time(o, "created_at", s->created_at));
        REST_ADD(r, rest_add_time(o, "updated_at", MAX(s->created_at, s->updated_at)));
        REST_ADD(r, json_add_string(o, "state", service_state_to_string(s->state)));
        REST_ADD(r, json_add_u64(o, "revision", s->revision));
        REST_ADD(r, json_add_string(o, "stack_revision", NULL));
        REST_ADD(r, add_belonging(o, g, s));
        REST_ADD(r, add_affinity(o, g, s->spec));
        REST_ADD(r, add_spec(o, s->spec));
        REST_ADD(r, add_links(o, g, s));
        REST_ADD(r, add_counts(o, instances));
        REST_ADD(r, add_health_check(o, s->spec, instances));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
