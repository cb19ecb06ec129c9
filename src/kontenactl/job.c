/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "ctl.h"
#include "file-util.h"
#include "job.h"
#include "json-util.h"
#include "logs.h"
#include "parse-util.h"
#include "string-util.h"
#include "watch.h"

/* Of a run that failed without a container whose status could be told. */
#define EXIT_RUN_FAILED 1

#define LAST_LINES_USEC (USEC_PER_SEC)

static Color color_run(json_object *row, json_object *value) {
        const char *s = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";

        if (streq(s, "succeeded"))
                return COLOR_GREEN;
        return streq(s, "running") ? COLOR_YELLOW : state_color(row, value);
}

static Color color_error(json_object *row, json_object *value) {
        return COLOR_RED;
}

static int format_last(json_object *row, const char *key, table_format_t format, char **ret) {
        json_object *last = json_object_object_get(row, "last_run"), *value = NULL;

        if (!last || !json_object_object_get_ex(last, key, &value)) {
                *ret = NULL;
                return 0;
        }
        return format ? format(last, value, ret) : json_value_to_text(value, ret);
}

static int format_last_state(json_object *row, json_object *value, char **ret) {
        return format_last(row, "state", NULL, ret);
}

static Color color_last_state(json_object *row, json_object *value) {
        json_object *last = json_object_object_get(row, "last_run");

        return last ? color_run(last, json_object_object_get(last, "state")) : COLOR_NONE;
}

static int format_last_started(json_object *row, json_object *value, char **ret) {
        return format_last(row, "started_at", format_relative_time, ret);
}

static int format_last_reason(json_object *row, json_object *value, char **ret) {
        return format_last(row, "reason", NULL, ret);
}

static int format_exit_status(json_object *row, json_object *value, char **ret) {
        if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0) {
                *ret = NULL;
                return 0;
        }
        return json_value_to_text(value, ret);
}

static const TableColumn job_columns[] = {
        { .title = "JOB", .key = "name", .format = format_service_name, .shrink = 16 },
        { .title = "STATE", .key = "state", .color = color_run },
        { .title = "SCHEDULE", .key = "schedule", .shrink = 12 },
        { .title = "NEXT", .key = "next_run_at", .format = format_relative_time },
        { .title = "LAST", .key = "last_started", .format = format_last_started },
        { .title = "RESULT", .key = "last_state", .format = format_last_state, .color = color_last_state },
        { .title = "IMAGE", .key = "image", .shrink = 16 },
        { .title = "REASON",
                        .key = "last_reason",
                        .format = format_last_reason,
                        .color = color_error,
                        .shrink = 20 },
        {},
};

static const TableColumn job_fields[] = {
        { .title = "Job", .key = "name", .format = format_service_name },
        { .title = "Grid", .key = "grid" },
        { .title = "ID", .key = "id" },
        { .title = "State", .key = "state", .color = color_run },
        { .title = "Image", .key = "image" },
        { .title = "Instances", .key = "count" },
        { .title = "Retries", .key = "retries" },
        { .title = "Schedule", .key = "schedule" },
        { .title = "Next", .key = "next_run_at", .format = format_absolute_time },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        {},
};

static const TableColumn run_columns[] = {
        { .title = "RUN", .key = "number", .right = true },
        { .title = "TRIGGER", .key = "trigger" },
        { .title = "STATE", .key = "state", .color = color_run },
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "STATUS", .key = "exit_status", .format = format_exit_status, .right = true },
        { .title = "ATTEMPTS", .key = "attempts", .right = true },
        { .title = "STARTED", .key = "started_at", .format = format_relative_time },
        { .title = "FINISHED", .key = "finished_at", .format = format_relative_time },
        { .title = "REASON", .key = "reason", .color = color_error, .shrink = 20 },
        {},
};

static const TableColumn run_fields[] = {
        { .title = "Run", .key = "number" },
        { .title = "ID", .key = "id" },
        { .title = "Trigger", .key = "trigger" },
        { .title = "Scheduled", .key = "scheduled_at", .format = format_absolute_time },
        { .title = "State", .key = "state", .color = color_run },
        { .title = "Reason", .key = "reason", .color = color_error },
        { .title = "Attempts", .key = "attempts" },
        { .title = "Node", .key = "node" },
        { .title = "Status", .key = "exit_status", .format = format_exit_status },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        { .title = "Started", .key = "started_at", .format = format_absolute_time },
        { .title = "Finished", .key = "finished_at", .format = format_absolute_time },
        {},
};

int command_job_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "ListJobs", &rows, reterr, "s", grid);
        if (r < 0)
                return r;
        return ctl_print_rows(c, job_columns, rows,
                        "There are no jobs; make one with: kontenactl service create --type=job NAME IMAGE",
                        reterr);
}

int job_run_number(const Arguments *a, unsigned *ret, KError *reterr) {
        const char *text = arguments_arg(a, 1);

        *ret = 0;
        if (!text)
                return 0;
        if (safe_atou(text, ret) < 0 || *ret == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is no number of a run: 1, 2, … are.",
                                text);
        return 0;
}

static void print_log_tail(json_object *run) {
        _cleanup_free_ char *clean = text_escape(row_string(run, "log_tail"), /* keep_newlines= */ true);

        if (!isempty(clean))
                printf("\nLast lines:\n%s\n", clean);
}

static int show_run(Ctl *c, const ServiceName *n, unsigned number, KError *reterr) {
        _cleanup_json_ json_object *run = NULL;
        int r;

        r = ctl_call_json(c, "GetRun", &run, reterr, "sssu", n->grid, n->stack, n->service, number);
        if (r < 0)
                return r;
        r = ctl_print_record(c, run_fields, run, reterr);
        if (r < 0 || c->json != JSON_OFF)
                return r;
        print_log_tail(run);
        return 0;
}

int command_job_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_json_ json_object *job = NULL;
        json_object *runs;
        unsigned number;
        int r;

        r = job_run_number(a, &number, reterr);
        if (r >= 0)
                r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;
        if (number > 0)
                return show_run(c, &n, number, reterr);

        r = ctl_call_json(c, "GetJob", &job, reterr, "sss", n.grid, n.stack, n.service);
        if (r < 0)
                return r;
        r = ctl_print_record(c, job_fields, job, reterr);
        if (r < 0 || c->json != JSON_OFF)
                return r;
        runs = json_object_object_get(job, "runs");
        if (!json_object_is_type(runs, json_type_array))
                return 0;
        putchar('\n');
        return ctl_print_rows(c, run_columns, runs, "It has not run yet.", reterr);
}

/* One run, followed to its end. */
typedef struct RunWait {
        Ctl *c;
        const ServiceName *name;
        unsigned number;
        json_object *run; /* as last heard */
        struct LogView *logs;
        sd_event_source *last_lines;
        MasterWatch watch;
} RunWait;

static void run_wait_done(RunWait *w) {
        json_object_put(w->run);
        log_view_free(w->logs);
        sd_event_source_disable_unref(w->last_lines);
        master_watch_done(&w->watch);
}

static bool is_over(json_object *run) {
        return !STR_IN_SET(row_string(run, "state"), "waiting", "running");
}

static int on_last_lines(sd_event_source *s, uint64_t usec, void *userdata) {
        RunWait *w = userdata;

        return sd_event_exit(w->c->event, 0);
}

/* What was written last comes a moment after the end. */
static int end_soon(RunWait *w) {
        if (!w->logs)
                return sd_event_exit(w->c->event, 0);
        if (w->last_lines)
                return 0;
        return sd_event_add_time_relative(
                        w->c->event, &w->last_lines, CLOCK_MONOTONIC, LAST_LINES_USEC, 0, on_last_lines, w);
}

static int fetch(RunWait *w, KError *reterr) {
        _cleanup_json_ json_object *run = NULL;
        int r;

        r = ctl_call_json(w->c, "GetRun", &run, reterr, "sssu", w->name->grid, w->name->stack,
                        w->name->service, w->number);
        if (r < 0)
                return r;
        json_object_put(w->run);
        w->run = TAKE_PTR(run);
        return 0;
}

static int look(RunWait *w, KError *reterr) {
        int r;

        r = fetch(w, reterr);
        if (r < 0)
                return r;
        return is_over(w->run) ? end_soon(w) : 0;
}

static int on_master_back(void *userdata, KError *reterr) {
        RunWait *w = userdata;
        int r;

        r = w->logs ? log_view_resume(w->logs, reterr) : 0;
        return r < 0 ? r : look(w, reterr);
}

static int on_run_changed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *grid, *stack, *service, *state;
        RunWait *w = userdata;
        uint32_t number;
        int r;

        r = sd_bus_message_read(m, "sssus", &grid, &stack, &service, &number, &state);
        if (r < 0 || number != w->number || !streq(grid, w->name->grid) || !streq(stack, w->name->stack) ||
                        !streq(service, w->name->service))
                return 0;
        r = look(w, &error);
        if (r >= 0 || master_watch_mends(&w->watch))
                return 0;
        kerror_move(&w->watch.error, &error);
        return sd_event_exit(w->c->event, r);
}

static int subscribe_run(void *userdata, KError *reterr) {
        RunWait *w = userdata;
        int r;

        r = sd_bus_match_signal(w->c->bus, NULL, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, "RunChanged",
                        on_run_changed, w);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot watch the run: %m");
        return w->logs ? log_view_subscribe(w->logs, reterr) : 0;
}

/* The exit status of kontenactl is that of the container, where it can be told apart from success. */
static int tell_end(const RunWait *w, const char *name) {
        int64_t status = row_int(w->run, "exit_status");

        if (streq(row_string(w->run, "state"), "succeeded")) {
                ctl_say(w->c, "Run %u of '%s' succeeded.", w->number, name);
                return 0;
        }
        ctl_warn("Run %u of '%s' has %s: %s.", w->number, name,
                        streq(row_string(w->run, "state"), "cancelled") ? "been cancelled" : "failed",
                        row_string(w->run, "reason"));
        if (!w->c->quiet && !w->logs)
                print_log_tail(w->run);
        return status > 0 && status < 256 ? (int) status : EXIT_RUN_FAILED;
}

int command_job_run(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_(run_wait_done) RunWait w = { .c = c, .name = &n };
        bool follows = arguments_has(a, "follow"), waits = follows || arguments_has(a, "wait");
        _cleanup_free_ char *text = NULL;
        int r;

        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;
        if (waits) {
                w.watch = (MasterWatch){ .c = c,
                        .patient = true,
                        .subscribe = subscribe_run,
                        .back = on_master_back,
                        .userdata = &w };
                r = master_watch_start(&w.watch, reterr);
                if (r < 0)
                        return r;
        }
        r = ctl_call(c, "RunJob", &reply, reterr, "sss", n.grid, n.stack, n.service);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "u", &w.number);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");

        if (!waits) {
                text = strprintf("%u", w.number);
                if (!text)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                if (c->json != JSON_OFF || c->quiet)
                        return ctl_print_text(c, "run", text, reterr);
                ctl_say(c, "Run %u of '%s' begins. How it goes: kontenactl job show %s %u", w.number,
                                arguments_arg(a, 0), arguments_arg(a, 0), w.number);
                return 0;
        }

        r = fetch(&w, reterr);
        if (r >= 0 && follows)
                r = log_view_start(c, &n, MAX((uint64_t) row_int(w.run, "created_at"), UINT64_C(1)), &w.logs,
                                reterr);
        if (r >= 0)
                r = look(&w, reterr);
        if (r >= 0)
                r = master_watch_run(&w.watch, reterr);
        if (r < 0)
                return r;
        return tell_end(&w, arguments_arg(a, 0));
}

int command_job_cancel(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        unsigned number;
        int r;

        r = job_run_number(a, &number, reterr);
        if (r >= 0)
                r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r >= 0)
                r = ctl_call(c, "CancelRun", NULL, reterr, "sssu", n.grid, n.stack, n.service, number);
        if (r < 0)
                return r;
        ctl_say(c, "The run of '%s' is cancelled.", arguments_arg(a, 0));
        return 0;
}
