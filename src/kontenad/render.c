/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "render.h"

#include <inttypes.h>

#include "job-run.h"
#include "json-util.h"
#include "node-tracker.h"
#include "parse-util.h"
#include "string-util.h"

/* A chain of json_add_*() that stops at the first failure. */
#define ADD(r, call)                                                                                        \
        do {                                                                                                \
                if ((r) >= 0)                                                                               \
                        (r) = (call);                                                                       \
        } while (false)

static int add_text(json_object *o, const char *key, const char *value) {
        return json_add_string(o, key, strempty(value));
}

static int add_list(json_object *o, const char *key, char *const *l) {
        static char *const empty[] = { NULL };

        return json_add_strv(o, key, l ?: empty);
}

uint32_t spec_count(json_object *spec) {
        uint64_t count = 1;

        (void) json_find_u64(spec, "count", &count, NULL);
        return (uint32_t) count;
}

bool spec_is_stateful(json_object *spec) {
        bool stateful = false;

        (void) json_find_bool(spec, "stateful", &stateful, NULL);
        return stateful;
}

char *node_name(Master *m, const char *node_id) {
        char *name;

        if (!node_id || store_get_node_name(m->store, node_id, &name) < 0)
                return strdup("");
        return name;
}

int render_overlay_address(const GridRow *g, const NodeRow *n, char **ret) {
        char *s = strdup(IPV4_TO_STRING(node_overlay_address(g, n->number)));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

int render_grid(Master *m, const GridRow *g, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        GridSummary summary;
        int r;

        if (!o)
                return -ENOMEM;
        r = store_summarize_grid(m->store, g->id, &summary);
        ADD(r, add_text(o, "id", g->id));
        ADD(r, add_text(o, "name", g->name));
        ADD(r, add_text(o, "subnet", g->subnet));
        ADD(r, add_text(o, "supernet", g->supernet));
        ADD(r, add_list(o, "trusted_subnets", g->trusted_subnets));
        ADD(r, add_list(o, "default_affinity", g->default_affinity));
        ADD(r, json_add_u64(o, "initial_size", g->initial_size));
        ADD(r, json_add_u64(o, "nodes", summary.nodes));
        ADD(r, json_add_u64(o, "nodes_online", summary.nodes_online));
        ADD(r, json_add_u64(o, "services", summary.services));
        ADD(r, json_add_u64(o, "created_at", g->created_at));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static uint64_t report_number(json_object *report, const char *group, const char *key) {
        json_object *o = report;

        if (!report || (group && json_find_object(report, group, &o, NULL) <= 0))
                return 0;
        return json_u64_or(o, key, 0);
}

static char *report_runtime(json_object *report) {
        json_object *o = NULL;

        if (!report || json_find_object(report, "runtime", &o, NULL) <= 0)
                return strdup("");
        return strjoin(json_string_or(o, "name", ""), " ", json_string_or(o, "version", ""));
}

/* Older nodes do not say what is available. */
static uint64_t memory_available(json_object *report) {
        uint64_t available = report_number(report, "memory", "available");

        return available > 0 ? available
                             : report_number(report, "memory", "free") +
                                               report_number(report, "memory", "cached") +
                                               report_number(report, "memory", "buffers");
}

/* Whose data the node keeps though nobody names them: "grid/stack/service-1 (ID)". What it says goes to people: nothing but text. */
int node_list_kept(const NodeRow *n, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        json_object *kept = NULL;
        int r;

        if (n->report)
                (void) json_find_array(n->report, "kept", &kept, NULL);
        FOREACH_JSON_ARRAY(k, kept) {
                _cleanup_free_ char *text = NULL;
                const char *id = NULL;
                uint64_t number = 0;

                if (!json_object_is_type(k, json_type_object) || json_find_string(k, "id", &id, NULL) <= 0 ||
                                !id)
                        continue;
                (void) json_find_u64(k, "number", &number, NULL);
                text = strprintf("%s/%s/%s-%" PRIu64 " (%s)", strna(json_string_or(k, "grid", NULL)),
                                strna(json_string_or(k, "stack", NULL)),
                                strna(json_string_or(k, "service", NULL)), number, id);
                if (!text)
                        return -ENOMEM;
                if (!string_is_printable(text))
                        continue;
                r = strv_extend(&l, text);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int render_node(Master *m, const GridRow *g, const NodeRow *n, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *overlay = NULL, *runtime = report_runtime(n->report);
        _cleanup_strv_free_ char **kept = NULL;
        uint32_t instances = 0;
        int r;

        if (!o || !runtime)
                return -ENOMEM;
        r = render_overlay_address(g, n, &overlay);
        ADD(r, node_list_kept(n, &kept));
        ADD(r, store_count_instances_of_node(m->store, n->id, &instances));
        ADD(r, add_text(o, "id", n->id));
        ADD(r, add_text(o, "name", n->name));
        ADD(r, add_text(o, "grid", g->name));
        ADD(r, json_add_u64(o, "number", n->number));
        ADD(r, add_text(o, "state", node_state(n)));
        ADD(r, add_text(o, "availability", node_availability_to_string(n->availability)));
        ADD(r, add_list(o, "labels", n->labels));
        ADD(r, add_text(o, "overlay_address", overlay));
        ADD(r, add_text(o, "private_address", json_string_or(n->report, "private_address", "")));
        ADD(r, add_text(o, "public_address", json_string_or(n->report, "public_address", "")));
        ADD(r, json_add_u64(o, "cpus", report_number(n->report, NULL, "cpus")));
        ADD(r, json_add_u64(o, "memory_total", report_number(n->report, "memory", "total")));
        ADD(r, json_add_u64(o, "memory_available", memory_available(n->report)));
        ADD(r, add_text(o, "version", json_string_or(n->report, "version", "")));
        ADD(r, add_text(o, "os", json_string_or(n->report, "os", "")));
        ADD(r, add_text(o, "kernel", json_string_or(n->report, "kernel", "")));
        ADD(r, add_text(o, "runtime", runtime));
        ADD(r, json_add_u64(o, "instances", instances));
        ADD(r, add_list(o, "kept", kept));
        ADD(r, json_add_u64(o, "last_seen", n->last_seen_at));
        ADD(r, json_add_u64(o, "connected_at", n->connected_at));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* "0.0.0.0:8080:80/tcp" */
static int add_ports(json_object *o, json_object *spec) {
        _cleanup_strv_free_ char **l = NULL;
        json_object *ports = NULL;
        int r;

        (void) json_find_array(spec, "ports", &ports, NULL);
        FOREACH_JSON_ARRAY(p, ports) {
                uint64_t node_port = 0, container_port = 0;

                (void) json_find_u64(p, "node_port", &node_port, NULL);
                (void) json_find_u64(p, "container_port", &container_port, NULL);
                r = strv_extendf(&l, "%s:%u:%u/%s", json_string_or(p, "ip", "0.0.0.0"), (unsigned) node_port,
                                (unsigned) container_port, json_string_or(p, "protocol", "tcp"));
                if (r < 0)
                        return r;
        }

        return add_list(o, "ports", l);
}

/* Between its runs a job has no instances; it is as well as its last run was. */
static int job_problem(Master *m, const ServiceRow *s, char **ret) {
        _cleanup_(run_row_freep) RunRow *run = NULL;
        int r;

        r = run_find(m->store, s->id, 0, &run);
        if (r == -ENOENT || (r >= 0 && !streq(run->state, "failed"))) {
                *ret = NULL;
                return 0;
        }
        if (r < 0)
                return r;
        *ret = strprintf("Run %" PRIu64 " failed: %s.", run->number, strempty(run->reason));
        return *ret ? 0 : -ENOMEM;
}

int service_problem(Master *m, const ServiceRow *s, const ServiceSummary *summary, char **ret) {
        char *p = NULL;
        uint32_t wanted = streq(json_string_or(s->spec, "strategy", "ha"), "daemon") ? summary->instances
                                                                                     : spec_count(s->spec);

        if (service_is_job(s))
                return job_problem(m, s, ret);
        if (s->state == SERVICE_RUNNING && summary->error)
                p = summary->error_restarts > 0
                                    ? strprintf("Instance %u, restarted %" PRIu64 " time%s: %s",
                                                      summary->error_number, summary->error_restarts,
                                                      summary->error_restarts == 1 ? "" : "s",
                                                      summary->error)
                                    : strprintf("Instance %u: %s", summary->error_number, summary->error);
        else if (s->state == SERVICE_RUNNING && !summary->deploying && summary->running < wanted)
                p = summary->waiting
                                    ? strprintf("%u of %u instances are running; instance %u is %s.",
                                                      summary->running, wanted, summary->waiting_number,
                                                      summary->waiting)
                                    : strprintf("%u of %u instances are running.", summary->running, wanted);
        else {
                *ret = NULL;
                return 0;
        }
        if (!p)
                return -ENOMEM;

        *ret = p;
        return 0;
}

int render_service(Master *m, const GridRow *g, const ServiceRow *s, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(service_summary_done) ServiceSummary summary = {};
        _cleanup_free_ char *problem = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = store_summarize_service(m->store, s->id, &summary);
        ADD(r, service_problem(m, s, &summary, &problem));
        ADD(r, add_text(o, "id", s->id));
        ADD(r, add_text(o, "grid", g->name));
        ADD(r, add_text(o, "stack", s->stack));
        ADD(r, add_text(o, "name", s->name));
        ADD(r, add_text(o, "image", json_string_or(s->spec, "image", "")));
        ADD(r, add_text(o, "state", service_state_to_string(s->state)));
        ADD(r, add_text(o, "type", service_is_job(s) ? "job" : "service"));
        ADD(r, json_add_bool(o, "stateful", spec_is_stateful(s->spec)));
        ADD(r, add_text(o, "strategy", json_string_or(s->spec, "strategy", "ha")));
        ADD(r, json_add_u64(o, "count", spec_count(s->spec)));
        ADD(r, json_add_u64(o, "running", summary.running));
        ADD(r, json_add_bool(o, "deploying", summary.deploying));
        ADD(r, json_add_u64(o, "revision", s->revision));
        ADD(r, add_ports(o, s->spec));
        ADD(r, add_text(o, "problem", problem));
        ADD(r, json_add_u64(o, "created_at", s->created_at));
        ADD(r, json_add_u64(o, "updated_at", s->updated_at));
        ADD(r, json_add_u64(o, "deployed_at", s->deployed_at));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int render_instance(Master *m, const GridRow *g, const ServiceRow *service, const InstanceRow *i,
                json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *node = node_name(m, i->node_id), *name = NULL;
        int r = 0;

        name = strprintf("%s-%u", service ? service->name : "", i->number);
        if (!o || !node || !name)
                return -ENOMEM;
        ADD(r, add_text(o, "id", i->id));
        ADD(r, add_text(o, "grid", g->name));
        ADD(r, add_text(o, "stack", service ? service->stack : ""));
        ADD(r, add_text(o, "service", service ? service->name : ""));
        ADD(r, json_add_u64(o, "number", i->number));
        ADD(r, add_text(o, "name", name));
        ADD(r, add_text(o, "node", node));
        ADD(r, add_text(o, "desired", instance_desired_to_string(i->desired)));
        ADD(r, add_text(o, "state", i->state));
        ADD(r, add_text(o, "address", i->address));
        ADD(r, add_text(o, "unit", i->unit));
        ADD(r, json_add_u64(o, "deploy_rev", i->deploy_rev));
        ADD(r, json_add_u64(o, "service_rev", i->service_rev));
        ADD(r, add_text(o, "progress", i->progress));
        ADD(r, add_text(o, "error", i->error));
        ADD(r, json_add_i64(o, "restarts", i->restarts));
        ADD(r, json_add_i64(o, "exit_status", i->exit_status));
        ADD(r, json_add_i64(o, "oom_kills", i->oom_kills));
        ADD(r, json_add_u64(o, "started_at", i->started_at));
        ADD(r, add_text(o, "image_digest", i->image_digest));
        ADD(r, add_text(o, "health", i->health));
        ADD(r, add_text(o, "role", instance_role_to_string(i->role)));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* One that stands stopped until its data are there is not what the step waits for. */
static const char *step_progress(const InstanceRow *i) {
        return i->progress ?: i->desired == INSTANCE_RUNNING ? i->state : NULL;
}

int render_deploy_steps(Master *m, const DeployRow *d, json_object **ret) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;

        FOREACH_ARRAY(step, d->steps, d->n_steps) {
                _cleanup_(instance_row_freep) InstanceRow *i = NULL;
                _cleanup_free_ char *node = node_name(m, (*step)->node_id);
                _cleanup_json_ json_object *o = json_object_new_object();
                /* What became of its instance later is no business of a deploy that has ended. */
                bool open = !DEPLOY_STATE_IS_FINAL(d->state) &&
                            STR_IN_SET((*step)->state, "waiting", "copying", "starting");
                int r = 0;

                if (!o || !node)
                        return -ENOMEM;
                if (open)
                        (void) store_get_instance(m->store, (*step)->instance_id, &i);
                ADD(r, json_add_u64(o, "number", (*step)->number));
                ADD(r, add_text(o, "node", node));
                ADD(r, add_text(o, "state", (*step)->state));
                ADD(r, add_text(o, "progress", i ? step_progress(i) : ""));
                ADD(r, add_text(o, "error", (*step)->error ?: (i ? i->error : NULL)));
                ADD(r, add_text(o, "log_tail", (*step)->log_tail));
                ADD(r, json_append(l, TAKE_PTR(o)));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int render_deploy(Master *m, const GridRow *g, const ServiceRow *service, const DeployRow *d,
                json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *steps = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = render_deploy_steps(m, d, &steps);
        ADD(r, add_text(o, "id", d->id));
        ADD(r, add_text(o, "grid", g->name));
        ADD(r, add_text(o, "stack", service ? service->stack : ""));
        ADD(r, add_text(o, "service", service ? service->name : ""));
        ADD(r, json_add_u64(o, "revision", d->deploy_rev));
        ADD(r, add_text(o, "state", deploy_state_to_string(d->state)));
        ADD(r, add_text(o, "reason", d->reason));
        ADD(r, json_add_bool(o, "force", d->force));
        ADD(r, add_text(o, "kind", d->kind ?: "deploy"));
        ADD(r, add_text(o, "cause", d->cause));
        ADD(r, json_add_u64(o, "service_rev", d->service_rev));
        ADD(r, add_text(o, "image_digest", d->image_digest));
        ADD(r, json_add_u64(o, "created_at", d->created_at));
        ADD(r, json_add_u64(o, "started_at", d->started_at));
        ADD(r, json_add_u64(o, "finished_at", d->finished_at));
        ADD(r, json_add(o, "instances", TAKE_PTR(steps)));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int render_event(Master *m, const EventRow *e, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *node = node_name(m, e->node_id);
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r = 0;

        if (!o || !node)
                return -ENOMEM;
        if (e->grid_id)
                (void) store_get_grid(m->store, e->grid_id, &g);
        ADD(r, json_add_u64(o, "id", e->id));
        ADD(r, json_add_u64(o, "time", e->time));
        ADD(r, add_text(o, "severity", e->severity));
        ADD(r, add_text(o, "type", e->type));
        ADD(r, add_text(o, "message", e->message));
        ADD(r, add_text(o, "grid", g ? g->name : ""));
        ADD(r, add_text(o, "node", node));
        ADD(r, add_text(o, "stack", e->stack));
        ADD(r, add_text(o, "service", e->service));
        ADD(r, json_add_i64(o, "instance", e->instance > 0 ? e->instance : 0));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
