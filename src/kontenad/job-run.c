/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-run.h"

#include <inttypes.h>
#include <stdarg.h>

#include "deploy-image.h"
#include "events.h"
#include "file-util.h"
#include "job-run-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "node-tracker.h"
#include "placement-cache.h"
#include "placement.h"
#include "string-util.h"

/* Instances that are named in the reason of a run. */
#define FAILURES_NAMED_MAX 5U

bool service_is_job(const ServiceRow *service) {
        const char *type = NULL;

        (void) json_find_string(service->spec, "type", &type, NULL);
        return streq_ptr(type, "job");
}

bool run_is_final(const RunRow *run) {
        return !STR_IN_SET(run->state, "waiting", "running");
}

void service_reset_schedule(ServiceRow *service) {
        const char *schedule = NULL;

        (void) json_find_string(service->spec, "schedule", &schedule, NULL);
        service->next_run_at = schedule && service_is_job(service) && service->state == SERVICE_RUNNING
                                               ? NEXT_RUN_UNKNOWN
                                               : 0;
}

int run_find(Store *s, const char *service_id, uint64_t number, RunRow **ret) {
        _cleanup_(run_row_list_done) RunRowList l = {};
        int r;

        r = store_list_runs(s, service_id, number > 0 ? UINT32_MAX : 1, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n)
                if (number == 0 || (*row)->number == number) {
                        *ret = TAKE_PTR(*row);
                        return 0;
                }
        return -ENOENT;
}

int run_request(Store *s, const ServiceRow *service, uint64_t scheduled_at, RunRow **ret, KError *reterr) {
        _cleanup_(run_row_freep) RunRow *newest = NULL, *row = NULL;
        int r;

        assert(s);
        assert(service);

        if (service->state == SERVICE_STOPPED)
                return kerror_set(reterr, K_CONFLICT, "Job '%s' is stopped.", service->name);
        r = run_find(s, service->id, 0, &newest);
        if (r < 0 && r != -ENOENT)
                return r;
        if (newest && !run_is_final(newest))
                return kerror_set(reterr, K_CONFLICT, "Run %" PRIu64 " of job '%s' is still under way.",
                                newest->number, service->name);

        row = new0(RunRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->grid_id = strdup(service->grid_id);
        row->service_id = strdup(service->id);
        row->trigger = strdup(scheduled_at > 0 ? "schedule" : "manual");
        row->state = strdup("waiting");
        if (!row->id || !row->grid_id || !row->service_id || !row->trigger || !row->state)
                return -ENOMEM;
        row->number = newest ? newest->number + 1 : 1;
        row->scheduled_at = scheduled_at;
        row->exit_status = -1;
        row->created_at = now_realtime();
        r = store_put_run(s, row);
        if (r < 0)
                return r;

        if (ret)
                *ret = TAKE_PTR(row);
        return 0;
}

/* In a transaction: what there is of it goes. */
static int terminate_instances(Store *s, const RunRow *run) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        int r;

        r = store_list_instances_of_service(s, run->service_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                if (!streq_ptr((*i)->run_id, run->id) || (*i)->desired == INSTANCE_TERMINATED)
                        continue;
                r = store_terminate_instance(s, *i, 0);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int end(Store *s, RunRow *run, const char *state, const char *reason, uint64_t now) {
        int r;

        r = free_and_strdup(&run->state, state);
        if (r >= 0)
                r = free_and_strdup(&run->reason, reason);
        if (r < 0)
                return r;
        run->finished_at = now;
        r = terminate_instances(s, run);
        if (r < 0)
                return r;
        return store_put_run(s, run);
}

int run_cancel(Store *s, RunRow *run, const char *reason) {
        assert(!run_is_final(run));

        return end(s, run, "cancelled", reason, now_realtime());
}

int run_cancel_unfinished(Store *s, const char *service_id, const char *reason) {
        _cleanup_(run_row_freep) RunRow *run = NULL;
        int r;

        r = run_find(s, service_id, 0, &run);
        if (r == -ENOENT || (r >= 0 && run_is_final(run)))
                return 0;
        return r < 0 ? r : run_cancel(s, run, reason);
}

void job_run_wake_at(JobRun *run, uint64_t when) {
        run->next = MIN(run->next, when);
}

bool job_run_owns(const JobRun *run, const InstanceRow *row) {
        return streq_ptr(row->run_id, run->run->id) && row->desired != INSTANCE_TERMINATED;
}

static char *describe(JobRun *run, const InstanceRow *row) {
        const SchedulerNode *node = placement_find_node(&run->snapshot, row->node_id);
        _cleanup_free_ char *name = instance_container_name(
                        run->service->stack, run->service->name, row->number);

        return name ? strjoin(name, node ? " on " : "", node ? node->name : "") : NULL;
}

int job_run_event(JobRun *run, const char *severity, const InstanceRow *row, const char *format, ...) {
        _cleanup_free_ char *text = NULL, *who = row ? describe(run, row) : NULL;
        va_list ap;

        va_start(ap, format);
        text = strvprintf(format, ap);
        va_end(ap);
        if (!text || (row && !who))
                return -ENOMEM;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = severity,
                                        .type = "service:job",
                                        .grid_id = run->run->grid_id,
                                        .service_id = run->run->service_id,
                                        .node_id = row ? row->node_id : NULL,
                                        .instance = row ? row->number : 0 },
                        "Run %" PRIu64 " of %s/%s%s%s: %s.", run->run->number, run->service->stack,
                        run->service->name, who ? ", " : "", strempty(who), text);
        return 0;
}

static int finish(JobRun *run, const char *state, const char *sentence) {
        _cleanup_free_ char *reason = sentence ? job_run_phrase(sentence) : NULL;
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        if (sentence && !reason)
                return -ENOMEM;
        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        r = end(run->store, run->run, state, reason, run->now);
        if (r >= 0)
                r = job_run_event(run, streq(state, "succeeded") ? "info" : "error", NULL, "%s%s%s", state,
                                reason ? "; " : "", strempty(reason));
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;

        t = NULL;
        return 0;
}

static void job_run_done(JobRun *run) {
        service_row_free(run->service);
        grid_row_free(run->grid);
        service_spec_free(run->spec);
        json_object_put(run->settings);
        instance_row_list_done(&run->instances);
        scheduler_snapshot_done(&run->snapshot);
        scheduler_volumes_done(&run->volumes);
        free(run->unplaced_reason);
}

static int load(JobRun *run, KError *reterr) {
        int r;

        r = store_get_service(run->store, run->run->service_id, &run->service);
        if (r >= 0)
                r = store_get_grid(run->store, run->service->grid_id, &run->grid);
        if (r >= 0)
                r = store_list_instances_of_service(run->store, run->service->id, &run->instances);
        if (r < 0)
                return r;
        run->places = streq(run->run->state, "waiting");
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                run->places = run->places || (job_run_owns(run, *i) && (*i)->role == INSTANCE_INCOMING);
        r = run->places ? placement_get(run->master, run->grid->id, run->now, &run->snapshot)
                        : placement_nodes(run->store, run->grid->id, run->now, &run->snapshot);
        if (r < 0)
                return r;

        /* A service that is changed while a run is under way is changed for the next. */
        run->settings = json_object_get(run->service->spec);
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n) {
                SchedulerNode *n = placement_find_node(&run->snapshot, (*i)->node_id);

                if (!job_run_owns(run, *i))
                        continue;
                json_object_put(run->settings);
                run->settings = json_object_get((*i)->spec);
                if (n)
                        n->placed++;
        }
        r = service_spec_parse(run->settings, &run->spec, reterr);
        if (r < 0 || !run->places)
                return r;
        return placement_add_volumes(run->store, &run->snapshot, run->service, run->spec, &run->volumes);
}

/* After a start of the master its nodes come back one by one. */
static bool is_settled(JobRun *run) {
        uint64_t until;

        if (!run->master->tracker ||
                        node_tracker_is_settled(run->master->tracker, run->grid->id, run->now, &until))
                return true;
        job_run_wake_at(run, until);
        return false;
}

/* All instances and attempts run the same bytes. Returns 1 when it is known which, when nobody can tell, or when there is no such
 * image, which ends the run. */
static int resolve_image(JobRun *run, const SchedulerRequest *q, char **ret_digest) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (!run->master->deploy_images || run->spec->pull == PULL_NEVER)
                return 1;
        r = deploy_image_resolve_run(
                        run->master->deploy_images, run->run, &run->snapshot, q, ret_digest, &error);
        if (r < 0 && kerror_is_set(&error)) {
                r = finish(run, "failed", kerror_message(&error));
                return r < 0 ? r : 1;
        }
        return r;
}

/* WAITING becomes RUNNING, its instances are known; no node is chosen yet. Returns 1 when it has begun or ended. */
static int begin(JobRun *run) {
        SchedulerRequest q = { .service_id = run->service->id,
                .stack = run->service->stack,
                .service = run->service->name,
                .spec = run->spec,
                .volumes = &run->volumes,
                .number = 1,
                .seed = placement_seed(run->run->id, 0) };
        uint64_t deadline = run->run->created_at + RUN_PLACE_TIMEOUT_USEC;
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *digest = NULL;
        uint32_t wanted;
        size_t node;
        int r;

        wanted = scheduler_wanted(&run->snapshot, &q);
        if (wanted == 0 && run->now < deadline) {
                job_run_wake_at(run, deadline);
                return 0;
        }
        if (wanted == 0) {
                r = scheduler_place(&run->snapshot, &q, &node, &error);
                r = finish(run, "failed", r < 0 ? kerror_message(&error) : "no node is wanted");
                return r < 0 ? r : 1;
        }
        r = resolve_image(run, &q, &digest);
        if (r <= 0)
                return r;
        if (run_is_final(run->run))
                return 1;
        if (wanted > DEPLOYED_INSTANCES_MAX) {
                r = finish(run, "failed", "too many instances are wanted");
                return r < 0 ? r : 1;
        }

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        r = free_and_strdup(&run->run->state, "running");
        if (r < 0)
                return r;
        run->run->started_at = run->now;
        r = store_put_run(run->store, run->run);
        for (uint32_t n = 1; n <= wanted && r >= 0; n++) {
                _cleanup_(instance_row_freep) InstanceRow *row = job_run_new_instance(run, n);

                if (!row)
                        return -ENOMEM;
                row->service_rev = run->service->revision;
                row->spec = json_object_get(run->settings);
                r = free_and_strdup(&row->wanted_digest, digest);
                if (r < 0)
                        return r;
                r = store_put_instance(run->store, row);
        }
        if (r >= 0)
                r = job_run_event(run, "info", NULL, "started, %u %s", wanted,
                                wanted == 1 ? "instance" : "instances");
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return 1;
}

/* What a person is told of the run is the first failure, or the last that ended. */
static int take_result(JobRun *run, const InstanceRow *row) {
        RunRow *to = run->run;
        int r;

        to->exit_status = row->exit_status;
        r = free_and_strdup(&to->instance_id, row->id);
        if (r >= 0)
                r = free_and_strdup(&to->node_id, row->node_id);
        if (r >= 0)
                r = free_and_strdup(&to->log_tail, row->log_tail);
        return MIN(r, 0);
}

static int add_failure(JobRun *run, const InstanceRow *row, const char *reason, size_t n, char **text) {
        _cleanup_free_ char *who = NULL;
        char *longer;

        if (n > FAILURES_NAMED_MAX)
                return 0;
        who = describe(run, row);
        longer = who ? strjoin(strempty(*text), *text ? "; " : "",
                                       n == FAILURES_NAMED_MAX ? "and more" : who,
                                       n == FAILURES_NAMED_MAX ? "" : ": ",
                                       n == FAILURES_NAMED_MAX ? "" : reason)
                     : NULL;
        if (!longer)
                return -ENOMEM;
        free(*text);
        *text = longer;
        return 0;
}

/* When all instances have ended, the run has. */
static int finish_if_done(JobRun *run) {
        _cleanup_free_ char *failures = NULL;
        size_t n = 0, n_failed = 0;
        int r;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n) {
                _cleanup_free_ char *reason = NULL;
                Verdict verdict;

                if (!job_run_owns(run, *i))
                        continue;
                r = job_run_judge(run, *i, &verdict, &reason);
                if (r < 0)
                        return r;
                if (verdict == VERDICT_NONE ||
                                (verdict == VERDICT_FAILED && !job_run_is_last_attempt(run, *i)))
                        return 0;
                n++;
                if (verdict == VERDICT_SUCCEEDED && n_failed > 0)
                        continue;
                if (verdict != VERDICT_SUCCEEDED) {
                        r = add_failure(run, *i, reason, n_failed++, &failures);
                        if (r < 0)
                                return r;
                        if (n_failed > 1)
                                continue;
                }
                r = take_result(run, *i);
                if (r < 0)
                        return r;
        }

        if (n == 0)
                return finish(run, "failed", "its instances were removed");
        return finish(run, n_failed > 0 ? "failed" : "succeeded", failures);
}

/* What began in the future of a clock that was set back would wait until that comes: it begins anew. */
static int rebase(JobRun *run) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        bool any = run->run->created_at > run->now;
        int r;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                any = any || (job_run_owns(run, *i) && (*i)->created_at > run->now);
        if (!any)
                return 0;

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        if (run->run->created_at > run->now) {
                run->run->created_at = run->now;
                r = store_put_run(run->store, run->run);
        }
        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                if (r >= 0 && job_run_owns(run, *i) && (*i)->created_at > run->now) {
                        (*i)->created_at = run->now;
                        r = store_put_instance(run->store, *i);
                }
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;

        t = NULL;
        return 0;
}

int run_step(Master *m, RunRow *row, uint64_t now, uint64_t *ret_next, bool *ret_places) {
        _cleanup_(job_run_done) JobRun run = {
                .master = m, .store = m->store, .run = row, .now = now, .next = USEC_INFINITY
        };
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        assert(m);
        assert(row);
        assert(ret_next);
        assert(!run_is_final(row));

        *ret_next = USEC_INFINITY;
        r = load(&run, &error);
        *ret_places = run.places;
        if (r == -ENOENT) /* the service is gone, and the run with it */
                return 0;
        if (r < 0 && kerror_is_set(&error) && run.service)
                return finish(&run, "failed", kerror_message(&error));
        if (r < 0)
                return r;

        r = rebase(&run);
        if (r < 0)
                return r;
        if (!is_settled(&run)) {
                *ret_next = run.next;
                return 0;
        }
        if (streq(row->state, "waiting")) {
                r = begin(&run);
        } else {
                r = job_run_place(&run);
                if (r == 0)
                        r = job_run_retry(&run);
                if (r == 0) {
                        r = finish_if_done(&run);
                        if (r < 0)
                                return r;
                }
        }
        if (r < 0)
                return r;
        if (run_is_final(row))
                return 0;

        *ret_next = r > 0 ? now : run.next; /* the rows have changed: at once */
        return 0;
}
