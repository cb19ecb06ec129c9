/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-move.h"

#include <inttypes.h>

#include "data-copy.h"
#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "placement.h"
#include "service-spec.h"
#include "string-util.h"
#include "volume-move.h"
#include "volume.h"

static VolumeMove volumes_of(const ServiceRow *service, const InstanceRow *i) {
        return (VolumeMove){
                .grid_id = service->grid_id,
                .stack = service->stack,
                .service = service->name,
                .service_id = service->id,
                .number = i->number,
                .spec = i->spec,
        };
}

/* The other node must be one on which the scheduler could have put it. */
static int check_target(Store *s, SchedulerSnapshot *snapshot, const ServiceRow *service,
                const InstanceRow *old, SchedulerNode *to, KError *reterr) {
        SchedulerSnapshot only = {
                .nodes = to,
                .n_nodes = 1,
                .default_affinity = snapshot->default_affinity,
        };
        _cleanup_scheduler_volumes_ SchedulerVolumes volumes = {};
        _cleanup_(service_spec_freep) ServiceSpec *spec = NULL;
        SchedulerRequest q = {
                .service_id = service->id,
                .stack = service->stack,
                .service = service->name,
                .number = old->number,
                .wanted = old->number,
        };
        size_t node;
        int r;

        r = service_spec_parse(old->spec, &spec, reterr);
        if (r < 0)
                return r;
        if (!spec->stateful)
                return kerror_set(reterr, K_CONFLICT,
                                "Service '%s' is stateless: the scheduler chooses where its instances run, "
                                "by "
                                "'affinity' and by what nodes are drained.",
                                service->name);
        if (spec->strategy == STRATEGY_DAEMON)
                return kerror_set(reterr, K_CONFLICT,
                                "Service '%s' has the strategy 'daemon': each node has instances of its "
                                "own.",
                                service->name);
        if (streq_ptr(old->node_id, to->id))
                return kerror_set(reterr, K_CONFLICT, "Instance %u is on node '%s' already.", old->number,
                                to->name);

        r = placement_add_volumes(s, snapshot, service, spec, &volumes);
        if (r < 0)
                return r;
        q.spec = spec;
        q.volumes = &volumes;
        return scheduler_place(&only, &q, &node, reterr);
}

static InstanceRow *find_current(const InstanceRowList *rows, uint32_t number) {
        FOREACH_ARRAY(i, rows->rows, rows->n)
                if ((*i)->number == number && (*i)->role == INSTANCE_CURRENT &&
                                (*i)->desired != INSTANCE_TERMINATED)
                        return *i;
        return NULL;
}

int deploy_move_request(Store *s, const ServiceRow *service, uint32_t number, const NodeRow *to,
                uint64_t now, char **ret_id, KError *reterr) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_snapshot_ SchedulerSnapshot snapshot = {};
        _cleanup_free_ char *id = NULL;
        const InstanceRow *old;
        VolumeMove volumes;
        int r;

        assert(s);
        assert(service);
        assert(to);
        assert(ret_id);

        if (service->state != SERVICE_RUNNING)
                return kerror_set(reterr, K_CONFLICT, "Service '%s' does not run; start it first.",
                                service->name);
        r = store_list_instances_of_service(s, service->id, &rows);
        if (r < 0)
                return r;
        old = find_current(&rows, number);
        if (!old)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "Service '%s' has no instance %u.",
                                service->name, number);
        if (!old->node_id)
                return kerror_set(reterr, K_CONFLICT,
                                "Instance %u is on no node: there are no data that could be moved.", number);
        r = placement_snapshot(s, service->grid_id, now, &snapshot);
        if (r < 0)
                return r;
        r = check_target(s, &snapshot, service, old, placement_find_node(&snapshot, to->id), reterr);
        if (r < 0)
                return r;
        volumes = volumes_of(service, old);
        r = volume_move_check(s, &volumes, to, reterr);
        if (r < 0)
                return r;

        id = store_new_id();
        if (!id)
                return -ENOMEM;
        r = store_put_deploy(s, &(DeployRow){ .id = id,
                                                .grid_id = service->grid_id,
                                                .service_id = service->id,
                                                .service_rev = service->revision,
                                                .state = DEPLOY_CREATED,
                                                .kind = (char *) DEPLOY_KIND_MOVE,
                                                .created_at = now });
        if (r >= 0)
                r = store_put_deploy_step(s, &(DeployStepRow){ .deploy_id = id,
                                                             .instance_id = (char *) "",
                                                             .node_id = to->id,
                                                             .number = number,
                                                             .state = (char *) "waiting" });
        if (r < 0)
                return r;

        *ret_id = TAKE_PTR(id);
        return 0;
}

/* It stops where it is, and stands on the other node without running. In a transaction. */
static int stop_here_stand_there(
                DeployRun *run, DeployStepRow *step, InstanceRow *old, const NodeRow *to, KError *reterr) {
        _cleanup_(instance_row_freep) InstanceRow *fresh = NULL;
        DeployRow *d = run->deploy;
        VolumeMove volumes = volumes_of(run->service, old);
        int r;

        r = volume_move_check(run->store, &volumes, to, reterr);
        if (r >= 0)
                r = deploy_run_new_instance(run, step->number, to->id, &fresh);
        if (r >= 0)
                r = deploy_run_choose_slot(run, step->number, to->id, &fresh->slot, reterr);
        if (r >= 0 && old->address)
                r = deploy_run_take_address(run, to->id, &fresh->address, reterr);
        if (r < 0)
                return r;

        run->service->deploy_rev++;
        r = store_put_service(run->store, run->service);
        if (r < 0)
                return r;
        d->state = DEPLOY_ONGOING;
        d->deploy_rev = run->service->deploy_rev;
        d->service_rev = run->service->revision;
        d->started_at = run->now;
        r = store_put_deploy(run->store, d);
        if (r < 0)
                return r;

        fresh->role = INSTANCE_INCOMING;
        fresh->desired = INSTANCE_STOPPED;
        fresh->deploy_rev = d->deploy_rev;
        fresh->service_rev = old->service_rev;
        fresh->spec = json_object_get(old->spec);
        r = free_and_strdup(&fresh->wanted_digest, old->image_digest ?: old->wanted_digest);
        if (r >= 0)
                r = store_put_instance(run->store, fresh);
        if (r >= 0)
                r = volume_attach(run->store, run->grid->id, run->service->stack, run->service->name,
                                run->service->id, fresh->number, to->id, fresh->spec, reterr);
        if (r < 0)
                return r;

        old->desired = INSTANCE_STOPPED;
        old->deploy_rev = d->deploy_rev;
        r = store_put_instance(run->store, old);
        if (r >= 0)
                r = free_and_strdup(&step->instance_id, fresh->id);
        if (r >= 0)
                r = free_and_strdup(&step->state, "copying");
        if (r < 0)
                return r;
        step->started_at = run->now;
        return store_put_deploy_step(run->store, step);
}

static int begin(DeployRun *run, DeployStepRow *step) {
        InstanceRow *old = deploy_run_find_instance(run, step->number, INSTANCE_CURRENT);
        SchedulerNode *node = placement_find_node(&run->snapshot, step->node_id);
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(node_row_freep) NodeRow *to = NULL;
        int r;

        if (!old || !old->node_id)
                return deploy_run_finish(
                                run, DEPLOY_ERROR, "Instance %u is on no node any more.", step->number);
        if (!node)
                return deploy_run_finish(run, DEPLOY_ERROR, "The node it was to go to was removed.");
        r = check_target(run->store, &run->snapshot, run->service, old, node, &error);
        if (r >= 0)
                r = store_get_node(run->store, node->id, &to);
        if (r >= 0) {
                r = store_begin(run->store, NULL);
                if (r < 0)
                        return r;
                t = run->store;
                r = stop_here_stand_there(run, step, old, to, &error);
        }
        if (r < 0 && kerror_is_set(&error)) {
                if (t)
                        store_rollback(t);
                t = NULL;
                return deploy_run_finish(run, DEPLOY_ERROR, "%s", kerror_message(&error));
        }
        if (r < 0)
                return r;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "service:move",
                                        .grid_id = run->deploy->grid_id,
                                        .service_id = run->deploy->service_id,
                                        .node_id = old->node_id,
                                        .instance = step->number },
                        "%s/%s-%u is stopped, to be moved with its data from '%s' to '%s'.",
                        run->service->stack, run->service->name, step->number,
                        strna(deploy_run_node_name(run, old->node_id)), to->name);
        r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        deploy_run_wake_at(run, run->now);
        return 0;
}

/* Is it on a node that can be spoken with? What says no, unless there is hope, is the reason to give up. */
static int check_reachable(DeployRun *run, const InstanceRow *i, char **ret_error) {
        const SchedulerNode *node = i ? placement_find_node(&run->snapshot, i->node_id) : NULL;

        if (!i || i->desired == INSTANCE_TERMINATED)
                *ret_error = strdup("It was removed while it was moved.");
        else if (!node)
                *ret_error = strdup("A node was removed from the grid while the data were copied.");
        else if (node->connected)
                return 1;
        else if (node->offline_usec < DEPLOY_NODE_GRACE_USEC) {
                deploy_run_wake_at(run, run->now + DEPLOY_NODE_GRACE_USEC - node->offline_usec);
                return 0;
        } else
                *ret_error = strprintf("Node '%s' is offline.", node->name);
        return *ret_error ? 0 : -ENOMEM;
}

static bool has_stopped(const DeployRun *run, const InstanceRow *i) {
        return i->observed_deploy_rev == run->deploy->deploy_rev && streq_ptr(i->state, "stopped");
}

/* Something has failed: deploy_run_finish() undoes what was done. */
static int give_up(DeployRun *run, DeployStepRow *step, const char *error) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        if (run->master->data_copies)
                data_copy_forget(run->master->data_copies, run->deploy->id);
        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        r = deploy_run_end_step(run, step, "error", error);
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return deploy_run_finish(
                        run, DEPLOY_ERROR, "Instance %u stays where it was: %s", step->number, error);
}

/* All data are there. */
static int change_over(DeployRun *run, DeployStepRow *step, InstanceRow *old, InstanceRow *fresh) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;

        old->role = INSTANCE_OUTGOING;
        r = store_put_instance(run->store, old);
        if (r < 0)
                return r;
        fresh->role = INSTANCE_CURRENT;
        fresh->desired = INSTANCE_RUNNING;
        fresh->progress = mfree(fresh->progress);
        r = store_put_instance(run->store, fresh);
        if (r >= 0)
                r = free_and_strdup(&step->state, "starting");
        if (r < 0)
                return r;
        step->started_at = run->now;
        r = store_put_deploy_step(run->store, step);
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;

        t = NULL;
        if (run->master->data_copies)
                data_copy_forget(run->master->data_copies, run->deploy->id);
        deploy_run_wake_at(run, run->now);
        return 0;
}

static int show_progress(DeployRun *run, InstanceRow *fresh, char *progress) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        if (!progress || streq_ptr(fresh->progress, progress))
                return 0;
        r = free_and_strdup(&fresh->progress, progress);
        if (r >= 0)
                r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        r = store_put_instance(run->store, fresh);
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return 0;
}

static int copy_data(DeployRun *run, DeployStepRow *step, InstanceRow *old, InstanceRow *fresh) {
        VolumeMove volumes = volumes_of(run->service, old);
        DataCopyRequest q = {
                .deploy_id = run->deploy->id,
                .service_id = run->service->id,
                .from_node = old->node_id,
                .to_node = fresh->node_id,
                .from_instance = old->id,
                .to_instance = fresh->id,
        };
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *progress = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = volume_move_names(run->store, &volumes, &names);
        if (r < 0)
                return r;
        q.volumes = names;
        r = data_copy_run(run->master->data_copies, &q, &progress, &error);
        if (r < 0 && kerror_is_set(&error))
                return give_up(run, step, kerror_message(&error));
        if (r < 0)
                return r;
        return r > 0 ? change_over(run, step, old, fresh) : show_progress(run, fresh, progress);
}

static int run_copying(DeployRun *run, DeployStepRow *step) {
        InstanceRow *old = deploy_run_find_instance(run, step->number, INSTANCE_CURRENT);
        InstanceRow *fresh = deploy_run_find_instance_by_id(run, step->instance_id);
        uint64_t deadline = step->started_at + INSTANCE_DEPLOY_TIMEOUT_USEC;
        _cleanup_free_ char *error = NULL;
        int r;

        r = check_reachable(run, old, &error);
        if (r > 0)
                r = check_reachable(run, fresh, &error);
        if (r < 0)
                return r;
        if (error)
                return give_up(run, step, error);
        if (r == 0)
                return 0;

        if (old->desired != INSTANCE_STOPPED || fresh->desired != INSTANCE_STOPPED)
                return give_up(run, step, "It was started while it was moved.");
        if (!has_stopped(run, old) || !has_stopped(run, fresh)) {
                if (run->now >= deadline)
                        return give_up(run, step, "It does not stop in time.");
                deploy_run_wake_at(run, deadline);
                return 0;
        }
        return copy_data(run, step, old, fresh);
}

/* It runs where it went: what it left behind goes. In a transaction. */
static int leave_behind(Store *s, const ServiceRow *service, InstanceRow *old) {
        VolumeMove volumes = volumes_of(service, old);
        int r;

        r = old->node_id ? volume_move_drop(s, &volumes, old->node_id, /* keep_shared= */ true) : 0;
        return r < 0 ? r : store_terminate_instance(s, old, 0);
}

static int conclude(DeployRun *run, DeployStepRow *step) {
        InstanceRow *old = deploy_run_find_instance(run, step->number, INSTANCE_OUTGOING);
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        r = old ? leave_behind(run->store, run->service, old) : 0;
        if (r >= 0)
                r = deploy_run_end_step(run, step, "running", NULL);
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return deploy_run_finish(run, DEPLOY_SUCCESS, NULL);
}

static int run_starting(DeployRun *run, DeployStepRow *step) {
        const InstanceRow *fresh = deploy_run_find_instance_by_id(run, step->instance_id);
        const SchedulerNode *node = fresh ? placement_find_node(&run->snapshot, fresh->node_id) : NULL;
        _cleanup_free_ char *error = NULL;
        bool done;
        int r;

        /* It may run there, seen by everybody but us: only a person can say that it does not, by removing the node. */
        if (node && !node->connected)
                return 0;
        r = deploy_run_judge_step(run, step, &done, &error);
        if (r < 0)
                return r;
        if (error)
                return give_up(run, step, error);
        return done ? conclude(run, step) : 0;
}

int deploy_move_run(DeployRun *run) {
        DeployStepRow *step;

        assert(run);

        if (run->deploy->n_steps != 1)
                return deploy_run_finish(run, DEPLOY_ERROR, "The move does not say what to move.");
        step = run->deploy->steps[0];
        if (run->deploy->state == DEPLOY_CREATED)
                return begin(run, step);
        if (streq(step->state, "copying"))
                return run_copying(run, step);
        if (streq(step->state, "starting"))
                return run_starting(run, step);
        /* Killed between the end of the step and the end of the deploy. */
        if (streq(step->state, "running"))
                return deploy_run_finish(run, DEPLOY_SUCCESS, NULL);
        return deploy_run_finish(run, DEPLOY_ERROR, "Instance %u stays where it was: %s", step->number,
                        strna(step->error));
}

/* On a drained node it stays stopped. So it does while the other copy may still run: of a stateful service never two do. The
 * rescheduler starts it when its node is active, and the other is gone. */
static int restore(Store *s, const ServiceRow *service, InstanceRow *old, bool wait) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        int r;

        r = old->node_id ? store_get_node(s, old->node_id, &node) : -ENOENT;
        if (r < 0 && r != -ENOENT)
                return r;
        old->role = INSTANCE_CURRENT;
        old->desired = service->state == SERVICE_RUNNING && !wait &&
                                                       (!node || node->availability == NODE_ACTIVE)
                                       ? INSTANCE_RUNNING
                                       : INSTANCE_STOPPED;
        return store_put_instance(s, old);
}

int deploy_move_undo(Store *s, const DeployRow *d) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        InstanceRow *old = NULL, *fresh = NULL;
        const DeployStepRow *step = d->n_steps == 1 ? d->steps[0] : NULL;
        VolumeMove volumes;
        int r;

        if (!step || isempty(step->instance_id) || streq(step->state, "running"))
                return 0;
        r = store_get_service(s, d->service_id, &service);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        r = store_list_instances_of_service(s, d->service_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                if ((*i)->number != step->number || (*i)->desired == INSTANCE_TERMINATED)
                        continue;
                if (streq((*i)->id, step->instance_id))
                        fresh = *i;
                else if ((*i)->role == INSTANCE_OUTGOING || (*i)->role == INSTANCE_CURRENT)
                        old = *i;
        }
        /* The node it came from was removed meanwhile: what was copied is all there is. */
        if (!old)
                return 0;
        /* Nobody has looked since it came up: the move is over, and only its deploy did not get to say so. */
        if (fresh && fresh->role == INSTANCE_CURRENT && fresh->observed_deploy_rev == d->deploy_rev &&
                        streq_ptr(fresh->state, "running"))
                return leave_behind(s, service, old);
        if (fresh) {
                volumes = volumes_of(service, fresh);
                r = fresh->node_id ? volume_move_drop(s, &volumes, fresh->node_id, /* keep_shared= */ false)
                                   : 0;
                if (r >= 0)
                        r = store_terminate_instance(s, fresh, 0);
                if (r < 0)
                        return r;
        }
        return restore(s, service, old, fresh && fresh->role == INSTANCE_CURRENT && fresh->node_id);
}
