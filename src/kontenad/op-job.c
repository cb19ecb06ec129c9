/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <utlist.h>

#include "calendar.h"
#include "events.h"
#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "op-internal.h"
#include "operation.h"
#include "render.h"
#include "string-util.h"

/* A chain that stops at the first failure. */
#define ADD(r, call)                                                                                        \
        do {                                                                                                \
                if ((r) >= 0)                                                                               \
                        (r) = (call);                                                                       \
        } while (false)

static void on_calendar(uint64_t next, const KError *error, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        OperationCall *c = userdata;

        c->calendar = NULL;
        if (error)
                (void) kerror_set(&e, error->code, "'schedule': %s", kerror_message(error));
        else if (next == USEC_INFINITY)
                (void) kerror_set(&e, K_INVALID_ARGUMENT,
                                "'schedule': systemd knows no time from now on when this would be.");
        operation_call_continue(c, &e);
}

int service_check_schedule(OperationCall *c, KError *reterr) {
        json_object *settings = NULL, *value = NULL;
        const OperationCall *other;
        const char *schedule;
        unsigned n = 0;
        int r;

        r = json_find_object(c->parameters, streq(c->operation->name, "service.create") ? "spec" : "changes",
                        &settings, reterr);
        if (r < 0)
                return r;
        if (!settings || !json_object_object_get_ex(settings, "schedule", &value) || !value)
                return 0;
        /* Whether it is a string at all, and not too long, is said with the rest of the settings. */
        schedule = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
        if (isempty(schedule) || strlen(schedule) > SCHEDULE_LENGTH_MAX || !string_is_printable(schedule))
                return 0;

        DL_FOREACH(c->master->calls, other)
                n += other->calendar != NULL;
        if (n >= CALENDAR_QUERIES_MAX)
                return kerror_set(reterr, K_UNAVAILABLE, "Too many schedules are being checked just now.");
        r = calendar_ask(c->master->event, schedule, now_realtime(), on_calendar, c, &c->calendar);
        if (r < 0)
                return kerror_set_errno(reterr, r, "systemd cannot be asked about the schedule: %m.");
        return 1;
}

static int render_run(OperationCall *c, const RunRow *run, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *node = node_name(c->master, run->node_id);
        int r = 0;

        if (!o || !node)
                return -ENOMEM;
        ADD(r, json_add_string(o, "id", run->id));
        ADD(r, json_add_u64(o, "number", run->number));
        ADD(r, json_add_string(o, "trigger", run->trigger));
        ADD(r, json_add_u64(o, "scheduled_at", run->scheduled_at));
        ADD(r, json_add_string(o, "state", run->state));
        ADD(r, json_add_string(o, "reason", strempty(run->reason)));
        ADD(r, json_add_u64(o, "attempts", run->attempts));
        ADD(r, json_add_string(o, "node", node));
        ADD(r, json_add_i64(o, "exit_status", run->exit_status));
        ADD(r, json_add_string(o, "log_tail", strempty(run->log_tail)));
        ADD(r, json_add_u64(o, "created_at", run->created_at));
        ADD(r, json_add_u64(o, "started_at", run->started_at));
        ADD(r, json_add_u64(o, "finished_at", run->finished_at));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static uint64_t next_run(const ServiceRow *s) {
        return s->next_run_at == NEXT_RUN_UNKNOWN || s->next_run_at == NEXT_RUN_NEVER ? 0 : s->next_run_at;
}

static int render_job(OperationCall *c, const ServiceRow *s, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *last = NULL;
        _cleanup_(run_row_freep) RunRow *run = NULL;
        uint64_t retries = 0;
        const char *state;
        int r;

        if (!o)
                return -ENOMEM;
        r = run_find(c->master->store, s->id, 0, &run);
        if (r < 0 && r != -ENOENT)
                return r;
        r = run ? render_run(c, run, &last) : 0;
        state = s->state == SERVICE_STOPPED ? "stopped" : run && !run_is_final(run) ? run->state : "idle";
        (void) json_find_u64(s->spec, "retries", &retries, NULL);

        ADD(r, json_add_string(o, "id", s->id));
        ADD(r, json_add_string(o, "grid", c->grid->name));
        ADD(r, json_add_string(o, "stack", s->stack));
        ADD(r, json_add_string(o, "name", s->name));
        ADD(r, json_add_string(o, "image", json_string_or(s->spec, "image", "")));
        ADD(r, json_add_string(o, "state", state));
        ADD(r, json_add_string(o, "schedule", json_string_or(s->spec, "schedule", "")));
        ADD(r, json_add_u64(o, "next_run_at", next_run(s)));
        ADD(r, json_add_u64(o, "count", spec_count(s->spec)));
        ADD(r, json_add_u64(o, "retries", retries));
        ADD(r, json_add_u64(o, "created_at", s->created_at));
        if (last)
                ADD(r, json_add(o, "last_run", TAKE_PTR(last)));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int need_job(OperationCall *c, KError *reterr) {
        if (service_is_job(c->service))
                return 0;
        return kerror_set(reterr, K_CONFLICT, "'%s' is a service that goes on for ever, not a job.",
                        c->service->name);
}

static int job_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(service_row_list_done) ServiceRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_services(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(s, l.rows, l.n) {
                json_object *row;

                if (!service_is_job(*s))
                        continue;
                r = render_job(c, *s, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("jobs", TAKE_PTR(array), ret);
}

static int job_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL, *array = json_object_new_array();
        _cleanup_(run_row_list_done) RunRowList l = {};
        int r;

        if (!array)
                return -ENOMEM;
        r = need_job(c, reterr);
        ADD(r, render_job(c, c->service, &o));
        ADD(r, store_list_runs(c->master->store, c->service->id, RUNS_KEPT_PER_SERVICE + 1, &l));
        if (r < 0)
                return r;
        FOREACH_ARRAY(run, l.rows, l.n) {
                json_object *row;

                r = render_run(c, *run, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        r = json_add(o, "runs", TAKE_PTR(array));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int job_run(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(run_row_freep) RunRow *run = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = need_job(c, reterr);
        ADD(r, run_request(c->master->store, c->service, 0, &run, reterr));
        ADD(r, json_add_u64(o, "number", run->number));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int find_run(OperationCall *c, RunRow **ret, KError *reterr) {
        uint64_t number = 0;
        int r;

        r = need_job(c, reterr);
        ADD(r, json_find_u64(c->parameters, "number", &number, reterr));
        if (r < 0)
                return r;
        r = run_find(c->master->store, c->service->id, number, ret);
        if (r == -ENOENT && number > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "There is no run %" PRIu64 " of '%s' (any more).", number, c->service->name);
        if (r == -ENOENT)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has not run yet.", c->service->name);
        return r;
}

static int run_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL, *array = json_object_new_array();
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(run_row_freep) RunRow *run = NULL;
        int r;

        if (!array)
                return -ENOMEM;
        r = find_run(c, &run, reterr);
        ADD(r, render_run(c, run, &o));
        ADD(r, store_list_instances_of_service(c->master->store, c->service->id, &l));
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                json_object *row;

                if (!streq_ptr((*i)->run_id, run->id))
                        continue;
                r = render_instance(c->master, c->grid, c->service, *i, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        r = json_add(o, "instances", TAKE_PTR(array));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int cancel(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(run_row_freep) RunRow *run = NULL;
        int r;

        r = find_run(c, &run, reterr);
        if (r < 0)
                return r;
        if (run_is_final(run))
                return kerror_set(reterr, K_CONFLICT, "Run %" PRIu64 " of '%s' has ended already: %s.",
                                run->number, c->service->name, run->state);
        r = run_cancel(c->master->store, run, "it was cancelled");
        if (r < 0)
                return r;
        return events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "service:job",
                                        .grid_id = c->grid->id,
                                        .service_id = c->service->id },
                        "Run %" PRIu64 " of %s/%s was cancelled.", run->number, c->service->stack,
                        c->service->name);
}

#define SERVICE_PARAMETERS                                                                                  \
        { "grid", PARAMETER_STRING, true }, { "stack", PARAMETER_STRING, true }, {                          \
                "service", PARAMETER_STRING, true                                                           \
        }
#define MANAGE "io.kontena.master1.manage-services"

const Operation job_operations[] = {
        {
                        .name = "job.list",
                        .method = "ListJobs",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "jobs" },
                        .perform = job_list,
        },
        {
                        .name = "job.get",
                        .method = "GetJob",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { SERVICE_PARAMETERS },
                        .results = { "" },
                        .perform = job_get,
        },
        {
                        .name = "job.run",
                        .method = "RunJob",
                        .action = MANAGE,
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE |
                                 OPERATION_LONG,
                        .parameters = { SERVICE_PARAMETERS },
                        .results = { "number" },
                        .perform = job_run,
        },
        {
                        .name = "job.get-run",
                        .method = "GetRun",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { SERVICE_PARAMETERS, { "number", PARAMETER_U32, true } },
                        .results = { "" },
                        .perform = run_get,
        },
        {
                        .name = "job.cancel",
                        .method = "CancelRun",
                        .action = MANAGE,
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { SERVICE_PARAMETERS, { "number", PARAMETER_U32, true } },
                        .perform = cancel,
        },
};
const size_t n_job_operations = ELEMENTSOF(job_operations);
