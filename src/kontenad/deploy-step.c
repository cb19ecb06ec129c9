/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "deploy-run-internal.h"
#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "ipam.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "placement.h"
#include "string-util.h"
#include "volume.h"

int deploy_run_end_step(DeployRun *run, DeployStepRow *step, const char *state, const char *error) {
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
                        step->node_id ? strna(deploy_run_node_name(run, step->node_id)) : "",
                        run->deploy->deploy_rev, error);
        return 0;
}

/* What an instance may take to come up; hooks have time of their own. A move has no settings but those of what it moves. */
static uint64_t step_timeout(const DeployRun *run, const InstanceRow *row) {
        _cleanup_(service_spec_freep) ServiceSpec *own = NULL;
        const ServiceSpec *spec = run->spec;

        if (!spec && row && row->spec && service_spec_parse(row->spec, &own, NULL) >= 0)
                spec = own;
        return INSTANCE_DEPLOY_TIMEOUT_USEC + (spec ? service_spec_hooks_sec(spec) * USEC_PER_SEC : 0);
}

/* Why the instance of a step under way has failed, or NULL when it has not (yet). *ret_done: it runs. */
int deploy_run_judge_step(DeployRun *run, DeployStepRow *step, bool *ret_done, char **ret_error) {
        const InstanceRow *row = deploy_run_find_instance_by_id(run, step->instance_id);
        const SchedulerNode *node = row ? placement_find_node(&run->snapshot, row->node_id) : NULL;
        uint64_t deadline = step->started_at + step_timeout(run, row);
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
                error = strprintf("It does not run after %" PRIu64 " s%s%s%s%s%s%s.",
                                step_timeout(run, row) / USEC_PER_SEC,
                                node->connected ? ", its state is '" : ", node '",
                                node->connected ? row->state ?: "unknown" : node->name,
                                node->connected ? "'" : "' is offline",
                                row->observed_deploy_rev == run->deploy->deploy_rev
                                                ? ""
                                                : " and it has not reported",
                                isempty(row->progress) || !node->connected ? "" : ": ",
                                node->connected ? strempty(row->progress) : "");
        else {
                deploy_run_wake_at(run, deadline);
                if (!node->connected)
                        deploy_run_wake_at(run, run->now + DEPLOY_NODE_GRACE_USEC - node->offline_usec);
                return 0;
        }

        if (!error)
                return -ENOMEM;
        *ret_error = error;
        return 0;
}

/* It is up: it takes the place of the one beside which it stands, and that one serves out what it has begun. */
static int promote(DeployRun *run, InstanceRow *row) {
        InstanceRow *old = deploy_run_find_instance(run, row->number, INSTANCE_CURRENT);
        int r;

        if (old) {
                r = store_terminate_instance(run->store, old, run->spec->drain_sec);
                if (r < 0)
                        return r;
        }
        row->role = INSTANCE_CURRENT;
        return store_put_instance(run->store, row);
}

/* In a transaction. */
static int conclude_step(DeployRun *run, DeployStepRow *step, const char *error) {
        InstanceRow *row = deploy_run_find_instance_by_id(run, step->instance_id);
        int r;

        if (error && row) {
                r = free_and_strdup(&step->log_tail, row->log_tail);
                if (r < 0)
                        return r;
        }
        if (row && row->role == INSTANCE_INCOMING && row->desired != INSTANCE_TERMINATED) {
                r = error ? store_terminate_instance(run->store, row, 0) : promote(run, row);
                if (r < 0)
                        return r;
        }
        return deploy_run_end_step(run, step, error ? "error" : "running", error);
}

/* Takes over what instances reported into the steps under way. */
int deploy_run_collect(DeployRun *run) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                _cleanup_free_ char *error = NULL;
                bool done;

                if (!streq((*s)->state, "starting"))
                        continue;
                r = deploy_run_judge_step(run, *s, &done, &error);
                if (r < 0)
                        return r;
                if (!done && !error)
                        continue;

                r = store_begin_once(run->store, &t);
                if (r < 0)
                        return r;
                r = conclude_step(run, *s, error);
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

uint32_t deploy_concurrency(uint32_t wanted, double min_health) {
        /* In millionths: 1 - 0.8 is a little less than 0.2 in floating point, and ten instances would get one step
         * where two are meant. */
        uint64_t may_miss = 1000000U - (uint64_t) (CLAMP(min_health, 0.0, 1.0) * 1e6 + 0.5);

        return (uint32_t) CLAMP(wanted * may_miss / 1000000U, UINT64_C(1), (uint64_t) DEPLOY_STEPS_MAX);
}

/* Does this instance serve somebody right now? */
static bool is_serving(DeployRun *run, uint32_t number) {
        const InstanceRow *row = deploy_run_find_instance(run, number, INSTANCE_CURRENT);
        const SchedulerNode *node = row ? placement_find_node(&run->snapshot, row->node_id) : NULL;

        return node && node->connected && row->desired == INSTANCE_RUNNING &&
               streq_ptr(row->state, "running");
}

/* And does it serve well? What is unhealthy has no names already. */
static bool serves_well(DeployRun *run, uint32_t number) {
        const InstanceRow *row = deploy_run_find_instance(run, number, INSTANCE_CURRENT);

        return is_serving(run, number) && !streq_ptr(row->health, "unhealthy");
}

/* min_health bounds how many instances may be missing while a service is deployed. The reference counts every step against it; here
 * a step of a stateless instance that does not run now counts nothing, since it can only add: a service is
 * started, or scaled up, by up to DEPLOY_STEPS_MAX instances at once. Stateful ones go in the reference's order, as
 * members of a cluster may depend on who was first. */
static bool may_start(DeployRun *run, const DeployStepRow *step) {
        uint32_t limit = deploy_concurrency((uint32_t) run->deploy->n_steps, run->spec->min_health);
        size_t under_way = deploy_run_count_steps(run, "starting"), serving = 0;

        if (under_way == 0)
                return true;
        if (under_way >= DEPLOY_STEPS_MAX)
                return false;
        if (run->spec->stateful)
                return under_way < limit;
        if (!serves_well(run, step->number))
                return true;
        if (run->start_first) /* takes nothing away, but there is no end of room either */
                return under_way < limit;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps)
                serving += !streq((*s)->state, "starting") && serves_well(run, (*s)->number);
        return serving - 1 + limit >= run->deploy->n_steps;
}

int deploy_run_take_address(DeployRun *run, const char *node_id, char **ret, KError *reterr) {
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

/* A part of the unit's name that no other of this number has there: what was replaced before may still be draining. */
int deploy_run_choose_slot(
                DeployRun *run, uint32_t number, const char *node_id, char **ret, KError *reterr) {
        char slot[2] = "";

        for (char c = 'a'; c <= 'z'; c++) {
                bool taken = false;

                slot[0] = c == 'a' ? '\0' : c;
                FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                        taken = taken || ((*i)->number == number && streq_ptr((*i)->node_id, node_id) &&
                                                         streq(strempty((*i)->slot), slot));
                if (taken)
                        continue;
                if (isempty(slot))
                        return 0;
                *ret = strdup(slot);
                return *ret ? 0 : -ENOMEM;
        }
        return kerror_set(reterr, K_CONFLICT,
                        "Too many earlier copies of this instance are still being stopped on its node.");
}

int deploy_run_new_instance(DeployRun *run, uint32_t number, const char *node_id, InstanceRow **ret) {
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
        int r;

        row->desired = INSTANCE_RUNNING;
        row->deploy_rev = run->deploy->deploy_rev;
        row->service_rev = run->revision;
        row->force = run->deploy->force;
        json_object_put(row->spec);
        row->spec = json_object_get(run->settings);
        r = free_and_strdup(&row->wanted_digest, run->deploy->image_digest);
        if (r < 0)
                return r;
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
        return store_terminate_instance(run->store, old, 0);
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

/* Would the node make a new container of this instance? */
static bool is_replaced(const DeployRun *run, const InstanceRow *old, const SchedulerNode *node) {
        const char *runs = old->wanted_digest ?: old->image_digest;

        return run->deploy->force || old->service_rev != run->revision ||
               !streq_ptr(old->node_id, node->id) ||
               (run->deploy->image_digest && !streq_ptr(runs, run->deploy->image_digest));
}

/* Is the instance replaced by one that is started first, while it serves on? */
static bool stands_beside(DeployRun *run, const InstanceRow *old, const SchedulerNode *node) {
        return old && is_serving(run, old->number) && run->start_first && is_replaced(run, old, node);
}

/* Its data were on a node that was removed. Nobody but a person may say that an empty one is as good. */
static int refuse_empty_data(DeployRun *run, const InstanceRow *old, KError *reterr) {
        if (!old || old->node_id || !run->spec->stateful || run->deploy->accept_loss)
                return 0;
        return kerror_set(reterr, K_CONFLICT,
                        "Its data went with the node that was removed; to begin with empty ones: kontenactl "
                        "service deploy --accept-data-loss %s%s%s",
                        streq(run->service->stack, STACK_NULL) ? "" : run->service->stack,
                        streq(run->service->stack, STACK_NULL) ? "" : "/", run->service->name);
}

/* What was written before is elsewhere, and there it stays: whoever looks for it should know where. */
static void tell_of_empty_volumes(DeployRun *run, uint32_t number, const SchedulerNode *node) {
        FOREACH_ARRAY(v, run->volumes.items, run->volumes.n) {
                if (!v->own || scheduler_has_volume(node, v, number) != 0)
                        continue;
                FOREACH_ARRAY(other, run->snapshot.nodes, run->snapshot.n_nodes) {
                        if (scheduler_has_volume(other, v, number) <= 0)
                                continue;
                        (void) events_add(run->master,
                                        &(EventInfo){ .severity = "warning",
                                                        .type = "service:deploy",
                                                        .grid_id = run->deploy->grid_id,
                                                        .service_id = run->deploy->service_id,
                                                        .node_id = node->id,
                                                        .instance = number },
                                        "%s/%s-%u begins on '%s' with an empty volume '%s-%u'; what was "
                                        "written to it is on '%s'.",
                                        run->service->stack, run->service->name, number, node->name, v->name,
                                        number, other->name);
                        break;
                }
        }
}

/* Makes the instance's row say what is wanted, where it is wanted. In a transaction. What can fail for a reason that ends
 * the step alone comes first, so that an instance which cannot move is not stopped either. */
static int assign(DeployRun *run, DeployStepRow *step, const SchedulerNode *node, KError *reterr) {
        _cleanup_(instance_row_freep) InstanceRow *fresh = NULL;
        InstanceRow *old = deploy_run_find_instance(run, step->number, INSTANCE_CURRENT), *row = old;
        bool beside;
        int r;

        r = refuse_empty_data(run, old, reterr);
        if (r < 0)
                return r;
        beside = stands_beside(run, old, node);
        if (beside || !old || (old->node_id && !streq(old->node_id, node->id))) {
                r = deploy_run_new_instance(run, step->number, node->id, &fresh);
                if (r >= 0)
                        r = deploy_run_choose_slot(run, step->number, node->id, &fresh->slot, reterr);
                if (r < 0)
                        return r;
                row = fresh;
                if (beside) {
                        row->role = INSTANCE_INCOMING;
                }
        } else if (!old->node_id) { /* its node was removed */
                forget_observed(old);
                r = free_and_strdup(&old->node_id, node->id);
                if (r < 0)
                        return r;
        }

        if (run->spec->host_network)
                row->address = mfree(row->address);
        else if (!row->address) {
                r = deploy_run_take_address(run, node->id, &row->address, reterr);
                if (r < 0)
                        return r;
        }

        if (old && row != old && !beside) {
                r = move_away(run, old, node);
                if (r < 0)
                        return r;
        }
        tell_of_empty_volumes(run, step->number, node);
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

/* Of a stateful instance never two run, each with data of its own: another copy must be gone before. Returns 1 when that may be soon;
 * fails when nobody can tell, as its node is offline. */
static int wait_for_other_copy(DeployRun *run, const DeployStepRow *step, KError *reterr) {
        const InstanceRow *other = deploy_find_leaving(&run->instances, step->number);
        const SchedulerNode *node;

        if (!run->spec->stateful || !other)
                return 0;
        node = placement_find_node(&run->snapshot, other->node_id);
        if (!node || node->connected)
                return 1;
        if (node->offline_usec < DEPLOY_NODE_GRACE_USEC) {
                deploy_run_wake_at(run, run->now + DEPLOY_NODE_GRACE_USEC - node->offline_usec);
                return 1;
        }
        return kerror_set(reterr, K_CONFLICT,
                        "A copy of it may still run on node '%s', which is offline; it can start when that "
                        "node "
                        "is back, or was removed.",
                        node->name);
}

/* Returns 1 when it cannot start now and may later. */
static int start_step(DeployRun *run, DeployStepRow *step) {
        SchedulerRequest q = deploy_run_request(run, step->number, (uint32_t) run->deploy->n_steps);
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t node = 0;
        int r;

        r = wait_for_other_copy(run, step, &error);
        if (r > 0)
                return 1;
        if (r >= 0)
                r = scheduler_place(&run->snapshot, &q, &node, &error);
        if (r < 0 && error.code == K_UNSCHEDULABLE && deploy_run_may_wait(run, &q))
                return 1;
        if (r >= 0)
                r = assign(run, step, &run->snapshot.nodes[node], &error);
        if (r < 0 && is_verdict(&error))
                return deploy_run_end_step(run, step, "error", kerror_message(&error));
        if (r < 0)
                return r;

        deploy_run_wake_at(run, run->now + step_timeout(run, NULL));
        return scheduler_assign(&run->snapshot, &q, node);
}

/* All that may start now starts in one transaction: the nodes hear of it after the commit. */
int deploy_run_start_steps(DeployRun *run) {
        bool goes_on = service_spec_on_failure(run->spec) == ON_FAILURE_CONTINUE;
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                if (!streq((*s)->state, "waiting"))
                        continue;
                if (!may_start(run, *s) || (!goes_on && deploy_run_count_steps(run, "error") > 0))
                        break;

                r = store_begin_once(run->store, &t);
                if (r < 0)
                        return r;
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
