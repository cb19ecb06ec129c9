/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-run.h"

#include <inttypes.h>
#include <stdarg.h>

#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "ipam.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "node-tracker.h"
#include "placement.h"
#include "scheduler.h"
#include "string-util.h"
#include "volume.h"

/* Failed instances that are named in the reason of a deploy. */
#define FAILURES_NAMED_MAX 5U

typedef struct DeployRun {
        Master *master;
        Store *store;
        DeployRow *deploy; /* borrowed */
        ServiceRow *service;
        GridRow *grid;
        ServiceSpec *spec;
        InstanceRowList instances; /* of the service */
        SchedulerSnapshot snapshot;
        uint64_t now, next;
} DeployRun;

static void deploy_run_done(DeployRun *run) {
        service_row_free(run->service);
        grid_row_free(run->grid);
        service_spec_free(run->spec);
        instance_row_list_done(&run->instances);
        scheduler_snapshot_done(&run->snapshot);
}

static void wake_at(DeployRun *run, uint64_t when) {
        run->next = MIN(run->next, when);
}

/* The row that is "instance number n": not what was moved away. */
static InstanceRow *find_instance(const DeployRun *run, uint32_t number) {
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if ((*i)->number == number && (*i)->desired != INSTANCE_TERMINATED)
                        return *i;
        return NULL;
}

static InstanceRow *find_instance_by_id(const DeployRun *run, const char *id) {
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if (streq_ptr((*i)->id, id))
                        return *i;
        return NULL;
}

static const char *node_name(DeployRun *run, const char *node_id) {
        SchedulerNode *n = placement_find_node(&run->snapshot, node_id);

        return n ? n->name : NULL;
}

static int load(DeployRun *run) {
        int r;

        r = store_get_service(run->store, run->deploy->service_id, &run->service);
        if (r < 0)
                return r;
        r = store_get_grid(run->store, run->service->grid_id, &run->grid);
        if (r < 0)
                return r;
        r = store_list_instances_of_service(run->store, run->service->id, &run->instances);
        if (r < 0)
                return r;
        r = placement_snapshot(run->store, run->grid->id, run->now, &run->snapshot);
        if (r < 0)
                return r;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                SchedulerNode *n = placement_find_node(&run->snapshot, (*s)->node_id);

                if (n)
                        n->placed++;
        }
        return 0;
}

/* Ends the deploy within a transaction of its own. */
static int finish(DeployRun *run, DeployState state, const char *format, ...) _printf_(3, 4);
static int finish(DeployRun *run, DeployState state, const char *format, ...) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_free_ char *reason = NULL;
        DeployRow *d = run->deploy;
        va_list ap;
        int r;

        if (format) {
                va_start(ap, format);
                reason = strvprintf(format, ap);
                va_end(ap);
                if (!reason)
                        return -ENOMEM;
        }

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;

        d->state = state;
        d->finished_at = run->now;
        free(d->reason);
        d->reason = TAKE_PTR(reason);
        r = store_put_deploy(run->store, d);
        if (r < 0)
                return r;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = state == DEPLOY_ERROR ? "error" : "info",
                                        .type = state == DEPLOY_ERROR ? "service:deploy_failed"
                                                                      : "service:deploy",
                                        .grid_id = d->grid_id,
                                        .service_id = d->service_id },
                        "Deploy %" PRIu64 " of %s%s%s ended: %s%s%s", d->deploy_rev,
                        run->service ? run->service->stack : "a removed service", run->service ? "/" : "",
                        run->service ? run->service->name : "", deploy_state_to_string(state),
                        d->reason ? ". " : ".", strempty(d->reason));
        r = store_commit(run->store, NULL);
        if (r < 0)
                return r;

        t = NULL;
        return 0;
}

static int terminate(DeployRun *run, InstanceRow *row) {
        if (!row->node_id)
                return store_delete_instance(run->store, row->id);

        row->desired = INSTANCE_TERMINATED;
        return store_put_instance(run->store, row);
}

/* Everything above the wanted number goes at once, before anything new is started. */
static int terminate_surplus(DeployRun *run, uint32_t wanted) {
        int r;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if ((*i)->number > wanted && (*i)->desired != INSTANCE_TERMINATED) {
                        r = terminate(run, *i);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static int put_waiting_steps(DeployRun *run, uint32_t wanted) {
        int r;

        for (uint32_t n = 1; n <= wanted; n++) {
                r = store_put_deploy_step(run->store, &(DeployStepRow){ .deploy_id = run->deploy->id,
                                                                      .instance_id = (char *) "",
                                                                      .number = n,
                                                                      .state = (char *) "waiting" });
                if (r < 0)
                        return r;
        }
        return 0;
}

static SchedulerRequest make_request(const DeployRun *run, uint32_t number, uint32_t wanted) {
        return (SchedulerRequest){
                .service_id = run->service->id,
                .stack = run->service->stack,
                .service = run->service->name,
                .spec = run->spec,
                .number = number,
                .wanted = wanted,
                .seed = placement_seed(run->deploy->id, 0),
        };
}

/* A node that is away for a moment, as when its daemon is upgraded, is no reason to fail. Does something change when those
 * come back that may? Then the deploy looks again, at the latest when there is no hope left. */
static bool may_wait(DeployRun *run, const SchedulerRequest *q) {
        SchedulerRequest hopeful = *q;
        size_t node;

        hopeful.offline_grace = DEPLOY_NODE_GRACE_USEC;
        if (scheduler_place(&run->snapshot, &hopeful, &node, NULL) < 0)
                return false;

        FOREACH_ARRAY(n, run->snapshot.nodes, run->snapshot.n_nodes)
                if (!n->connected && n->offline_usec < DEPLOY_NODE_GRACE_USEC)
                        wake_at(run, run->now + DEPLOY_NODE_GRACE_USEC - n->offline_usec);
        return true;
}

/* After a start of the master its nodes come back one by one. Nothing is placed before they had time to: else the first
 * one would get everything. */
static bool is_settled(DeployRun *run) {
        uint64_t until;

        if (!run->master->tracker ||
                        node_tracker_is_settled(run->master->tracker, run->grid->id, run->now, &until))
                return true;
        wake_at(run, until);
        return false;
}

/* CREATED becomes ONGOING. Returns 0 when it did not: it has ended, or waits. */
static int begin(DeployRun *run) {
        SchedulerRequest q = make_request(run, 1, 0);
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        DeployRow *d = run->deploy;
        uint32_t wanted;
        size_t node;
        int r;

        wanted = scheduler_wanted(&run->snapshot, &q);
        if (wanted == 0 && may_wait(run, &q))
                return 0;
        if (wanted == 0) {
                r = scheduler_place(&run->snapshot, &q, &node, &error);
                return finish(run, DEPLOY_ERROR, "%s",
                                r < 0 ? kerror_message(&error) : "No node is wanted.");
        }
        if (wanted > DEPLOYED_INSTANCES_MAX)
                return finish(run, DEPLOY_ERROR, "%u instances are wanted, at most %u are possible.", wanted,
                                DEPLOYED_INSTANCES_MAX);

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;

        run->service->state = SERVICE_RUNNING;
        run->service->deploy_rev++;
        run->service->deployed_at = run->now;
        r = store_put_service(run->store, run->service);
        if (r < 0)
                return r;

        d->state = DEPLOY_ONGOING;
        d->deploy_rev = run->service->deploy_rev;
        d->service_rev = run->service->revision;
        d->started_at = run->now;
        r = store_put_deploy(run->store, d);
        if (r >= 0)
                r = put_waiting_steps(run, wanted);
        if (r >= 0)
                r = terminate_surplus(run, wanted);
        if (r < 0)
                return r;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "service:deploy",
                                        .grid_id = d->grid_id,
                                        .service_id = d->service_id },
                        "Deploy %" PRIu64 " of %s/%s started, %u %s.", d->deploy_rev, run->service->stack,
                        run->service->name, wanted, wanted == 1 ? "instance" : "instances");
        r = store_commit(run->store, NULL);
        if (r < 0)
                return r;

        t = NULL;
        return 1;
}

static int end_step(DeployRun *run, DeployStepRow *step, const char *state, const char *error) {
        int r;

        r = free_and_strdup(&step->state, state);
        if (r < 0)
                return r;
        r = free_and_strdup(&step->error, error);
        if (r < 0)
                return r;
        step->finished_at = run->now;

        r = store_put_deploy_step(run->store, step);
        if (r < 0 || !error)
                return r;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = "error",
                                        .type = "service:deploy",
                                        .grid_id = run->deploy->grid_id,
                                        .service_id = run->deploy->service_id,
                                        .node_id = step->node_id,
                                        .instance = step->number },
                        "%s/%s-%u%s%s failed in deploy %" PRIu64 ": %s", run->service->stack,
                        run->service->name, step->number, step->node_id ? " on " : "",
                        step->node_id ? strna(node_name(run, step->node_id)) : "", run->deploy->deploy_rev,
                        error);
        return 0;
}

/* Why the instance of a step under way has failed, or NULL when it has not (yet). *ret_done: it runs. */
static int judge_step(DeployRun *run, DeployStepRow *step, bool *ret_done, char **ret_error) {
        const InstanceRow *row = find_instance_by_id(run, step->instance_id);
        const SchedulerNode *node = row ? placement_find_node(&run->snapshot, row->node_id) : NULL;
        uint64_t deadline = step->started_at + INSTANCE_DEPLOY_TIMEOUT_USEC;
        char *error = NULL;

        *ret_done = false;
        *ret_error = NULL;

        if (!row || row->desired == INSTANCE_TERMINATED)
                error = strdup("It was removed during its deploy.");
        else if (!node)
                error = strdup("Its node was removed from the grid.");
        else if (row->desired == INSTANCE_STOPPED)
                error = strdup(node->active ? "It was stopped during its deploy."
                                            : "Its node was drained during its deploy.");
        else if (row->observed_deploy_rev == run->deploy->deploy_rev && streq_ptr(row->state, "running")) {
                *ret_done = true;
                return 0;
        } else if (row->observed_deploy_rev == run->deploy->deploy_rev && streq_ptr(row->state, "failed"))
                error = strdup(row->error ?: "The node gave no reason.");
        else if (!node->connected && node->offline_usec >= DEPLOY_NODE_GRACE_USEC)
                error = strprintf("Node '%s' is offline.", node->name);
        else if (run->now >= deadline)
                error = strprintf("It does not run after %llu s%s%s%s%s.",
                                INSTANCE_DEPLOY_TIMEOUT_USEC / USEC_PER_SEC,
                                node->connected ? ", its state is '" : ", node '",
                                node->connected ? row->state ?: "unknown" : node->name,
                                node->connected ? "'" : "' is offline",
                                row->observed_deploy_rev == run->deploy->deploy_rev
                                                ? ""
                                                : " and it has not reported");
        else {
                wake_at(run, deadline);
                if (!node->connected)
                        wake_at(run, run->now + DEPLOY_NODE_GRACE_USEC - node->offline_usec);
                return 0;
        }

        if (!error)
                return -ENOMEM;
        *ret_error = error;
        return 0;
}

/* Takes over what instances reported into the steps under way. */
static int collect(DeployRun *run) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                _cleanup_free_ char *error = NULL;
                bool done;

                if (!streq((*s)->state, "starting"))
                        continue;
                r = judge_step(run, *s, &done, &error);
                if (r < 0)
                        return r;
                if (!done && !error)
                        continue;

                if (!t) {
                        r = store_begin(run->store, NULL);
                        if (r < 0)
                                return r;
                        t = run->store;
                }
                r = end_step(run, *s, done ? "running" : "error", error);
                if (r < 0)
                        return r;
        }

        if (t) {
                r = store_commit(run->store, NULL);
                if (r < 0)
                        return r;
                t = NULL;
        }
        return 0;
}

static size_t count_steps(const DeployRun *run, const char *state) {
        size_t n = 0;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps)
                n += streq((*s)->state, state);
        return n;
}

uint32_t deploy_concurrency(uint32_t wanted, double min_health) {
        /* In millionths: 1 - 0.8 is a little less than 0.2 in floating point, and ten instances would get one step
         * where two are meant. */
        uint64_t may_miss = 1000000U - (uint64_t) (CLAMP(min_health, 0.0, 1.0) * 1e6 + 0.5);

        return (uint32_t) CLAMP(wanted * may_miss / 1000000U, UINT64_C(1), (uint64_t) DEPLOY_STEPS_MAX);
}

/* Does this instance serve somebody right now? */
static bool is_serving(DeployRun *run, uint32_t number) {
        const InstanceRow *row = find_instance(run, number);
        const SchedulerNode *node = row ? placement_find_node(&run->snapshot, row->node_id) : NULL;

        return node && node->connected && row->desired == INSTANCE_RUNNING &&
               streq_ptr(row->state, "running");
}

/* min_health bounds how many instances may be missing while a service is deployed. The reference counts every step against it; here
 * a step of a stateless instance that does not run now counts nothing, since it can only add: a service is
 * started, or scaled up, by up to DEPLOY_STEPS_MAX instances at once. Stateful ones go in the reference's order, as
 * members of a cluster may depend on who was first. */
static bool may_start(DeployRun *run, const DeployStepRow *step) {
        uint32_t limit = deploy_concurrency((uint32_t) run->deploy->n_steps, run->spec->min_health);
        size_t under_way = count_steps(run, "starting"), serving = 0;

        if (under_way == 0)
                return true;
        if (under_way >= DEPLOY_STEPS_MAX)
                return false;
        if (run->spec->stateful)
                return under_way < limit;
        if (!is_serving(run, step->number))
                return true;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps)
                serving += !streq((*s)->state, "starting") && is_serving(run, (*s)->number);
        return serving - 1 + limit >= run->deploy->n_steps;
}

static int take_address(DeployRun *run, const char *node_id, char **ret, KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        uint32_t address;
        int r;

        r = store_get_node(run->store, node_id, &node);
        if (r < 0)
                return r;
        r = ipam_take_address(run->store, run->grid, node, &address, reterr);
        if (r < 0)
                return r;

        *ret = strdup(IPV4_TO_STRING(address));
        return *ret ? 0 : -ENOMEM;
}

static int new_instance(DeployRun *run, uint32_t number, const char *node_id, InstanceRow **ret) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;

        row = new0(InstanceRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->grid_id = strdup(run->grid->id);
        row->service_id = strdup(run->service->id);
        row->node_id = strdup(node_id);
        if (!row->id || !row->grid_id || !row->service_id || !row->node_id)
                return -ENOMEM;
        row->number = number;
        row->exit_status = -1;
        row->created_at = run->now;

        *ret = TAKE_PTR(row);
        return 0;
}

/* Writes into the row what this deploy wants of it. */
static int order_instance(DeployRun *run, InstanceRow *row) {
        row->desired = INSTANCE_RUNNING;
        row->deploy_rev = run->deploy->deploy_rev;
        row->service_rev = run->service->revision;
        row->force = run->deploy->force;
        json_object_put(row->spec);
        row->spec = json_object_get(run->service->spec);
        return store_put_instance(run->store, row);
}

static int move_away(DeployRun *run, InstanceRow *old, const SchedulerNode *to) {
        const SchedulerNode *from = placement_find_node(&run->snapshot, old->node_id);
        bool reachable = from && from->connected;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = reachable ? "info" : "warning",
                                        .type = "service:deploy",
                                        .grid_id = run->deploy->grid_id,
                                        .service_id = run->deploy->service_id,
                                        .node_id = old->node_id,
                                        .instance = old->number },
                        "%s/%s-%u moves from '%s' to '%s'%s", run->service->stack, run->service->name,
                        old->number, from ? from->name : "a removed node", to->name,
                        reachable ? "."
                                  : "; the old node is offline, its copy is removed when it comes back.");
        return terminate(run, old);
}

static void forget_observed(InstanceRow *row) {
        row->state = mfree(row->state);
        row->progress = mfree(row->progress);
        row->error_code = mfree(row->error_code);
        row->error = mfree(row->error);
        row->unit = mfree(row->unit);
        row->health = mfree(row->health);
        row->address = mfree(row->address);
        row->observed_deploy_rev = row->observed_service_rev = row->epoch = 0;
        row->pid = 0;
}

/* Makes the instance's row say what is wanted, where it is wanted. In a transaction. What can fail for a reason that ends
 * the step alone comes first, so that an instance which cannot move is not stopped either. */
static int assign(DeployRun *run, DeployStepRow *step, const SchedulerNode *node, KError *reterr) {
        _cleanup_(instance_row_freep) InstanceRow *fresh = NULL;
        InstanceRow *old = find_instance(run, step->number), *row = old;
        int r;

        if (!old || (old->node_id && !streq(old->node_id, node->id))) {
                r = new_instance(run, step->number, node->id, &fresh);
                if (r < 0)
                        return r;
                row = fresh;
        } else if (!old->node_id) { /* its node was removed */
                forget_observed(old);
                r = free_and_strdup(&old->node_id, node->id);
                if (r < 0)
                        return r;
        }

        if (run->spec->host_network)
                row->address = mfree(row->address);
        else if (!row->address) {
                r = take_address(run, node->id, &row->address, reterr);
                if (r < 0)
                        return r;
        }

        if (old && row != old) {
                r = move_away(run, old, node);
                if (r < 0)
                        return r;
        }
        r = order_instance(run, row);
        if (r >= 0)
                r = volume_attach(run->store, run->grid->id, run->service->stack, run->service->name,
                                run->service->id, row->number, node->id, row->spec, reterr);
        if (r < 0)
                return r;

        r = free_and_strdup(&step->instance_id, row->id);
        if (r < 0)
                return r;
        r = free_and_strdup(&step->node_id, node->id);
        if (r < 0)
                return r;
        r = free_and_strdup(&step->state, "starting");
        if (r < 0)
                return r;
        step->started_at = run->now;
        return store_put_deploy_step(run->store, step);
}

/* What is a failure of this instance, and not of the master's store. */
static bool is_verdict(const KError *e) {
        return kerror_is_set(e) && e->code != K_UNAVAILABLE && e->code != K_INTERNAL;
}

/* Returns 1 when it cannot start now and may later. */
static int start_step(DeployRun *run, DeployStepRow *step) {
        SchedulerRequest q = make_request(run, step->number, (uint32_t) run->deploy->n_steps);
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t node = 0;
        int r;

        r = scheduler_place(&run->snapshot, &q, &node, &error);
        if (r < 0 && error.code == K_UNSCHEDULABLE && may_wait(run, &q))
                return 1;
        if (r >= 0)
                r = assign(run, step, &run->snapshot.nodes[node], &error);
        if (r < 0 && is_verdict(&error))
                return end_step(run, step, "error", kerror_message(&error));
        if (r < 0)
                return r;

        wake_at(run, run->now + INSTANCE_DEPLOY_TIMEOUT_USEC);
        return scheduler_assign(&run->snapshot, &q, node);
}

/* All that may start now starts in one transaction: the nodes hear of it after the commit. */
static int start_steps(DeployRun *run) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                if (!streq((*s)->state, "waiting"))
                        continue;
                if (!may_start(run, *s) || count_steps(run, "error") > 0)
                        break;

                if (!t) {
                        r = store_begin(run->store, NULL);
                        if (r < 0)
                                return r;
                        t = run->store;
                }
                r = start_step(run, *s);
                if (r < 0)
                        return r;
                if (r > 0)
                        break;
        }

        if (t) {
                r = store_commit(run->store, NULL);
                if (r < 0)
                        return r;
                t = NULL;
        }
        return 0;
}

static char *describe_failures(DeployRun *run) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                _cleanup_free_ char *name = NULL;
                const char *node = node_name(run, (*s)->node_id);
                char *longer;

                if (!streq((*s)->state, "error") || n++ >= FAILURES_NAMED_MAX)
                        continue;
                name = instance_container_name(run->service->stack, run->service->name, (*s)->number);
                if (!name)
                        return NULL;
                longer = strprintf("%s%s%s%s%s: %s",
                                text ?: "One or more instances failed: ", text ? " " : "", name,
                                node ? " on " : "", strempty(node), strna((*s)->error));
                if (!longer)
                        return NULL;
                free(text);
                text = longer;
        }
        if (n > FAILURES_NAMED_MAX) {
                char *longer = strprintf("%s And %zu more.", text, n - FAILURES_NAMED_MAX);

                free(text);
                text = longer;
        }
        return TAKE_PTR(text);
}

/* Every step has ended, or one has failed and nothing is under way any more. Returns 1 when the deploy has ended. */
static int finish_if_done(DeployRun *run) {
        size_t failed = count_steps(run, "error");
        int r;

        if (count_steps(run, "starting") > 0 || (failed == 0 && count_steps(run, "waiting") > 0))
                return 0;

        if (failed > 0) {
                _cleanup_free_ char *reason = describe_failures(run);

                if (!reason)
                        return -ENOMEM;
                r = finish(run, DEPLOY_ERROR, "%s", reason);
        } else
                r = finish(run, DEPLOY_SUCCESS, NULL);
        return r < 0 ? r : 1;
}

/* Reasons to end that lie outside of the steps. Returns 1 when the deploy has ended. */
static int finish_if_pointless(DeployRun *run, bool newer) {
        int r;

        if (newer)
                r = finish(run, DEPLOY_SUPERSEDED, "A newer deploy of the service took its place.");
        else if (run->service->state == SERVICE_STOPPED)
                r = finish(run, DEPLOY_CANCELLED, "The service was stopped.");
        else
                return 0;
        return r < 0 ? r : 1;
}

static int finish_if_late(DeployRun *run) {
        const DeployRow *d = run->deploy;
        uint64_t deadline = MAX(d->created_at, d->started_at) + DEPLOY_TIMEOUT_USEC;
        _cleanup_free_ char *failures = NULL;
        int r;

        if (run->now < deadline) {
                wake_at(run, deadline);
                return 0;
        }

        failures = describe_failures(run);
        r = finish(run, DEPLOY_ERROR, "Not finished after %llu minutes, %zu of %zu instances run.%s%s",
                        DEPLOY_TIMEOUT_USEC / USEC_PER_SEC / 60, count_steps(run, "running"), d->n_steps,
                        failures ? " " : "", strempty(failures));
        return r < 0 ? r : 1;
}

int deploy_run(Master *m, DeployRow *deploy, bool newer, uint64_t now, uint64_t *ret_next) {
        _cleanup_(deploy_run_done) DeployRun run = {
                .master = m, .store = m->store, .deploy = deploy, .now = now, .next = USEC_INFINITY
        };
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        assert(m);
        assert(deploy);
        assert(ret_next);
        assert(!DEPLOY_STATE_IS_FINAL(deploy->state));

        *ret_next = USEC_INFINITY;
        r = load(&run);
        if (r == -ENOENT)
                return finish(&run, DEPLOY_CANCELLED, "The service was removed.");
        if (r < 0)
                return r;

        r = finish_if_pointless(&run, newer);
        if (r != 0)
                return r < 0 ? r : 0;
        if (deploy->state == DEPLOY_ONGOING) {
                r = collect(&run);
                if (r >= 0)
                        r = finish_if_done(&run);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        r = finish_if_late(&run);
        if (r != 0)
                return r < 0 ? r : 0;

        r = service_spec_parse(run.service->spec, &run.spec, &error);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return finish(&run, DEPLOY_ERROR, "The settings of the service are not valid: %s",
                                kerror_message(&error));

        if (!is_settled(&run)) {
                *ret_next = run.next;
                return 0;
        }
        if (deploy->state == DEPLOY_CREATED) {
                r = begin(&run);
                if (r < 0)
                        return r;
                if (r == 0) {
                        *ret_next = DEPLOY_STATE_IS_FINAL(deploy->state) ? USEC_INFINITY : run.next;
                        return 0;
                }
                *ret_next = now; /* the steps have just been written */
                return 0;
        }

        r = start_steps(&run);
        if (r < 0)
                return r;
        r = finish_if_done(&run);
        if (r != 0)
                return r < 0 ? r : 0;

        *ret_next = run.next;
        return 0;
}
