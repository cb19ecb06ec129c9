/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-run.h"

#include <inttypes.h>
#include <stdarg.h>

#include "deploy-image.h"
#include "deploy-move.h"
#include "deploy-run-internal.h"
#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "ipam.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "node-tracker.h"
#include "placement-cache.h"
#include "placement.h"
#include "scheduler.h"
#include "string-util.h"
#include "volume.h"

static void deploy_run_done(DeployRun *run) {
        service_row_free(run->service);
        grid_row_free(run->grid);
        service_spec_free(run->spec);
        json_object_put(run->settings);
        instance_row_list_done(&run->instances);
        scheduler_snapshot_done(&run->snapshot);
        scheduler_volumes_done(&run->volumes);
}

void deploy_run_wake_at(DeployRun *run, uint64_t when) {
        run->next = MIN(run->next, when);
}

InstanceRow *deploy_run_find_instance(const DeployRun *run, uint32_t number, InstanceRole role) {
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if ((*i)->number == number && (*i)->role == role && (*i)->desired != INSTANCE_TERMINATED)
                        return *i;
        return NULL;
}

InstanceRow *deploy_run_find_instance_by_id(const DeployRun *run, const char *id) {
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if (streq_ptr((*i)->id, id))
                        return *i;
        return NULL;
}

const char *deploy_run_node_name(DeployRun *run, const char *node_id) {
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
        r = placement_get(run->master, run->grid->id, run->now, &run->snapshot);
        if (r < 0)
                return r;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                SchedulerNode *n = placement_find_node(&run->snapshot, (*s)->node_id);

                if (n)
                        n->placed++;
        }
        return 0;
}

/* Everything above the wanted number goes at once, before anything new is started. */
static int terminate_surplus(DeployRun *run, uint32_t wanted) {
        int r;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if ((*i)->number > wanted && (*i)->desired != INSTANCE_TERMINATED) {
                        r = store_terminate_instance(
                                        run->store, *i, run->spec->stateful ? 0 : run->spec->drain_sec);
                        if (r < 0)
                                return r;
                }
        return 0;
}

/* Whoever asks for fewer instances knows that data go with them; whoever takes a node away may not think of it: numbers are not
 * bound to nodes, and what is above the last number lies on one that stays. Returns 1 when the deploy has ended. */
static int refuse_lost_data(DeployRun *run, uint32_t wanted) {
        int r;

        if (!run->spec->stateful || run->spec->strategy != STRATEGY_DAEMON || run->deploy->accept_loss)
                return 0;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n) {
                const char *node = deploy_run_node_name(run, (*i)->node_id);

                if ((*i)->number <= wanted || (*i)->desired == INSTANCE_TERMINATED || !node)
                        continue;
                r = deploy_run_finish(run, DEPLOY_ERROR,
                                "%u instances are wanted, and with number %u its data on '%s' would go. To "
                                "let them go: kontenactl service deploy --accept-data-loss %s%s%s",
                                wanted, (*i)->number, node,
                                streq(run->service->stack, STACK_NULL) ? "" : run->service->stack,
                                streq(run->service->stack, STACK_NULL) ? "" : "/", run->service->name);
                return r < 0 ? r : 1;
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

SchedulerRequest deploy_run_request(const DeployRun *run, uint32_t number, uint32_t wanted) {
        return (SchedulerRequest){
                .service_id = run->service->id,
                .stack = run->service->stack,
                .service = run->service->name,
                .spec = run->spec,
                .volumes = &run->volumes,
                .number = number,
                .wanted = wanted,
                .seed = placement_seed(run->deploy->id, 0),
        };
}

/* A node that is away for a moment, as when its daemon is upgraded, is no reason to fail. Does something change when those
 * come back that may? Then the deploy looks again, at the latest when there is no hope left. */
bool deploy_run_may_wait(DeployRun *run, const SchedulerRequest *q) {
        SchedulerRequest hopeful = *q;
        size_t node;

        hopeful.offline_grace = DEPLOY_NODE_GRACE_USEC;
        if (scheduler_place(&run->snapshot, &hopeful, &node, NULL) < 0)
                return false;

        FOREACH_ARRAY(n, run->snapshot.nodes, run->snapshot.n_nodes)
                if (!n->connected && n->offline_usec < DEPLOY_NODE_GRACE_USEC)
                        deploy_run_wake_at(run, run->now + DEPLOY_NODE_GRACE_USEC - n->offline_usec);
        return true;
}

/* After a start of the master its nodes come back one by one. Nothing is placed before they had time to: else the first
 * one would get everything. */
static bool is_settled(DeployRun *run) {
        uint64_t until;

        if (!run->master->tracker ||
                        node_tracker_is_settled(run->master->tracker, run->grid->id, run->now, &until))
                return true;
        deploy_run_wake_at(run, until);
        return false;
}

/* CREATED becomes ONGOING. Returns 0 when it did not: it has ended, or waits. */
static int begin(DeployRun *run) {
        SchedulerRequest q = deploy_run_request(run, 1, 0);
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        DeployRow *d = run->deploy;
        uint32_t wanted;
        size_t node;
        int r;

        wanted = scheduler_wanted(&run->snapshot, &q);
        if (wanted == 0 && deploy_run_may_wait(run, &q))
                return 0;
        if (wanted == 0) {
                r = scheduler_place(&run->snapshot, &q, &node, &error);
                return deploy_run_finish(run, DEPLOY_ERROR, "%s",
                                r < 0 ? kerror_message(&error) : "No node is wanted.");
        }
        if (wanted > DEPLOYED_INSTANCES_MAX)
                return deploy_run_finish(run, DEPLOY_ERROR,
                                "%u instances are wanted, at most %u are possible.", wanted,
                                DEPLOYED_INSTANCES_MAX);
        r = refuse_lost_data(run, wanted);
        if (r != 0)
                return MIN(r, 0);

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

size_t deploy_run_count_steps(const DeployRun *run, const char *state) {
        size_t n = 0;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps)
                n += streq((*s)->state, state);
        return n;
}

/* Every step has ended, or one has failed and nothing is under way any more. Returns 1 when the deploy has ended. */
static int finish_if_done(DeployRun *run) {
        size_t failed = deploy_run_count_steps(run, "error");
        bool goes_on = failed == 0 || service_spec_on_failure(run->spec) == ON_FAILURE_CONTINUE;
        int r;

        if (deploy_run_count_steps(run, "starting") > 0 ||
                        (goes_on && deploy_run_count_steps(run, "waiting") > 0))
                return 0;

        if (failed > 0) {
                _cleanup_free_ char *reason = deploy_run_describe_failures(run);

                if (!reason)
                        return -ENOMEM;
                r = deploy_run_fail(run, reason);
        } else
                r = deploy_run_finish(run, DEPLOY_SUCCESS, NULL);
        return r < 0 ? r : 1;
}

/* Reasons to end that lie outside of the steps. Returns 1 when the deploy has ended. */
static int finish_if_pointless(DeployRun *run, bool newer) {
        int r;

        if (newer)
                r = deploy_run_finish(
                                run, DEPLOY_SUPERSEDED, "A newer deploy of the service took its place.");
        else if (run->service->state == SERVICE_STOPPED)
                r = deploy_run_finish(run, DEPLOY_CANCELLED, "The service was stopped.");
        else
                return 0;
        return r < 0 ? r : 1;
}

static int finish_if_late(DeployRun *run) {
        const DeployRow *d = run->deploy;
        uint64_t deadline = MAX(d->created_at, d->started_at) + DEPLOY_TIMEOUT_USEC;
        _cleanup_free_ char *failures = NULL, *reason = NULL;
        int r;

        if (run->now < deadline) {
                deploy_run_wake_at(run, deadline);
                return 0;
        }

        failures = deploy_run_describe_failures(run);
        reason = strprintf("Not finished after %llu minutes, %zu of %zu instances run.%s%s",
                        DEPLOY_TIMEOUT_USEC / USEC_PER_SEC / 60, deploy_run_count_steps(run, "running"),
                        d->n_steps, failures ? " " : "", strempty(failures));
        if (!reason)
                return -ENOMEM;
        r = deploy_run_fail(run, reason);
        return r < 0 ? r : 1;
}

/* A service that is changed while it deploys is changed for the next deploy: all instances of one are alike. */
static int load_settings(DeployRun *run, KError *reterr) {
        _cleanup_(revision_row_freep) RevisionRow *row = NULL;
        int r;

        run->revision = run->service->revision;
        run->settings = json_object_get(run->service->spec);
        if (run->deploy->state == DEPLOY_ONGOING && run->deploy->service_rev != run->revision) {
                r = store_find_revision(run->store, run->service->id, run->deploy->service_rev, &row);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r >= 0) {
                        run->revision = row->revision;
                        json_object_put(run->settings);
                        run->settings = json_object_get(row->spec);
                }
        }

        r = service_spec_parse(run->settings, &run->spec, reterr);
        if (r < 0)
                return r;
        r = volume_has_instance_scope_writer(run->store, run->grid->id, run->settings);
        if (r < 0)
                return r;
        run->start_first = r == 0 && service_spec_start_first(run->spec);
        return placement_add_volumes(run->store, &run->snapshot, run->service, run->spec, &run->volumes);
}

/* All instances run the same bytes: what the image's name means is asked once. Returns 1 when that is known, or nobody can tell. */
static int resolve_image(DeployRun *run) {
        SchedulerRequest q = deploy_run_request(run, 1, 0);
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (run->deploy->image_digest || !run->master->deploy_images || run->spec->pull == PULL_NEVER)
                return 1;
        r = deploy_image_resolve(run->master->deploy_images, run->deploy, &run->snapshot, &q, &error);
        if (r < 0 && kerror_is_set(&error))
                return deploy_run_fail(run, kerror_message(&error));
        return r;
}

static int run_move(DeployRun *run, uint64_t *ret_next) {
        int r;

        if (is_settled(run)) {
                r = deploy_move_run(run);
                if (r < 0)
                        return r;
        }
        *ret_next = DEPLOY_STATE_IS_FINAL(run->deploy->state) ? USEC_INFINITY : run->next;
        return 0;
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
                return deploy_run_finish(&run, DEPLOY_CANCELLED, "The service was removed.");
        if (r < 0)
                return r;

        r = finish_if_pointless(&run, newer);
        if (r != 0)
                return r < 0 ? r : 0;
        if (deploy_is_move(deploy))
                return run_move(&run, ret_next);
        r = load_settings(&run, &error);
        if (r < 0 && kerror_is_set(&error))
                return deploy_run_finish(&run, DEPLOY_ERROR, "The settings of the service are not valid: %s",
                                kerror_message(&error));
        if (r < 0)
                return r;

        if (deploy->state == DEPLOY_ONGOING) {
                r = deploy_run_collect(&run);
                if (r >= 0)
                        r = finish_if_done(&run);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        r = finish_if_late(&run);
        if (r != 0)
                return r < 0 ? r : 0;

        if (!is_settled(&run)) {
                *ret_next = run.next;
                return 0;
        }
        if (deploy->state == DEPLOY_CREATED) {
                r = resolve_image(&run);
                if (r < 0)
                        return r;
                if (r == 0) {
                        *ret_next = DEPLOY_STATE_IS_FINAL(deploy->state) ? USEC_INFINITY : run.next;
                        return 0;
                }
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

        r = deploy_run_start_steps(&run);
        if (r < 0)
                return r;
        r = finish_if_done(&run);
        if (r != 0)
                return r < 0 ? r : 0;

        *ret_next = run.next;
        return 0;
}
