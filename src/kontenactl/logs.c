/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>
#include <unistd.h>

#include "bus-json.h"
#include "file-util.h"
#include "job.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "logs.h"
#include "parse-util.h"
#include "string-util.h"
#include "watch.h"
#include "when.h"

typedef enum LogOutput {
        LOG_OUTPUT_SHORT,
        LOG_OUTPUT_CAT,
        LOG_OUTPUT_JSON,
        _LOG_OUTPUT_MAX,
        _LOG_OUTPUT_INVALID = -EINVAL,
} LogOutput;

static const char *const log_output_table[_LOG_OUTPUT_MAX] = {
        [LOG_OUTPUT_SHORT] = "short",
        [LOG_OUTPUT_CAT] = "cat",
        [LOG_OUTPUT_JSON] = "json",
};
DECLARE_STRING_TABLE_LOOKUP(log_output, LogOutput);
DEFINE_STRING_TABLE_LOOKUP(log_output, LogOutput);

/* How far the lines of one node were shown: many may have one time. */
typedef struct LogPlace {
        char *node;
        uint64_t last, n_last;
        uint64_t n_again; /* of those that come so many were shown before the connection was lost */
} LogPlace;

typedef struct LogView {
        Ctl *c;
        ServiceName service;
        LogOutput output;
        unsigned lines, instance;
        bool follow, escape;
        uint64_t since, until; /* until 0: no end */
        uint64_t begun;        /* when, or what is shown first if that is older */
        LogPlace *places;
        size_t n_places;
        char *stream;
        KError refusal; /* the right to read was taken away */
        MasterWatch watch;
} LogView;

static void log_view_done(LogView *v) {
        service_name_done(&v->service);
        FOREACH_ARRAY(p, v->places, v->n_places)
                free(p->node);
        free(v->places);
        free(v->stream);
        kerror_done(&v->refusal);
        master_watch_done(&v->watch);
}

const char *short_time(uint64_t usec, char buffer[static 32]) {
        time_t t = (time_t) (usec / USEC_PER_SEC);
        struct tm tm;

        if (!localtime_r(&t, &tm) || strftime(buffer, 32, "%b %d %H:%M:%S", &tm) == 0)
                (void) snprintf(buffer, 32, "-");
        return buffer;
}

/* The same instance has the same colour in every run. */
static Color instance_color(const char *instance) {
        static const Color colors[] = { COLOR_CYAN, COLOR_GREEN, COLOR_YELLOW, COLOR_BLUE, COLOR_MAGENTA };
        unsigned h = 5381;

        for (const char *p = instance; *p; p++)
                h = h * 33 + (unsigned char) *p;
        return colors[h % ELEMENTSOF(colors)];
}

static int print_json_entry(uint64_t time, const char *node, const char *instance, const char *stream,
                const char *message) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *s;

        if (!o || json_add_u64(o, "time", time) < 0 || json_add_string(o, "node", node) < 0 ||
                        json_add_string(o, "instance", instance) < 0 ||
                        json_add_string(o, "stream", stream) < 0 ||
                        json_add_string(o, "message", message) < 0)
                return -ENOMEM;
        s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (!s)
                return -ENOMEM;
        puts(s);
        return 0;
}

static LogPlace *find_place(LogView *v, const char *node) {
        LogPlace *list;

        FOREACH_ARRAY(p, v->places, v->n_places)
                if (streq(p->node, node))
                        return p;

        list = reallocarray(v->places, v->n_places + 1, sizeof(LogPlace));
        if (!list)
                return NULL;
        v->places = list;
        list[v->n_places] = (LogPlace){ .node = strdup(node) };
        return list[v->n_places].node ? list + v->n_places++ : NULL;
}

/* 0: it was shown already. */
static int take_place(LogView *v, const char *node, uint64_t time) {
        LogPlace *p = find_place(v, node);

        if (!p)
                return -ENOMEM;
        v->begun = MIN(v->begun, time);
        if (time == p->last && p->n_again > 0) {
                p->n_again--;
                return 0;
        }
        if (time > p->last) {
                p->last = time;
                p->n_last = p->n_again = 0;
        }
        if (time == p->last)
                p->n_last++;
        return 1;
}

static int print_entry(LogView *v, uint64_t time, const char *node, const char *instance, const char *stream,
                const char *message) {
        _cleanup_free_ char *clean = NULL;
        char buffer[32];
        Color color;
        int r;

        if (streq(stream, "warning")) {
                ctl_warn("%s%s%s", node, isempty(node) ? "" : ": ", message);
                return 0;
        }
        if (streq(stream, "denied")) {
                kerror_done(&v->refusal);
                (void) kerror_set(&v->refusal, K_ACCESS_DENIED, "%s", message);
                return 0;
        }
        r = take_place(v, node, time);
        if (r <= 0 || (v->until > 0 && time >= v->until))
                return r;
        if (v->output == LOG_OUTPUT_JSON)
                return print_json_entry(time, node, instance, stream, message);

        if (v->escape) {
                clean = text_escape(message, /* keep_newlines= */ false);
                if (!clean)
                        return -ENOMEM;
        }
        if (v->output == LOG_OUTPUT_CAT) {
                puts(clean ?: message);
                return 0;
        }

        color = instance_color(instance);
        printf("%s %s%s@%s%s: %s%s%s\n", short_time(time, buffer), color_on(color), instance, node,
                        color_off(color), color_on(streq(stream, "stderr") ? COLOR_BOLD : COLOR_NONE),
                        clean ?: message, color_off(streq(stream, "stderr") ? COLOR_BOLD : COLOR_NONE));
        return 0;
}

static int on_entries(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *stream, *node, *instance, *kind, *message;
        LogView *v = userdata;
        uint64_t time;
        int r, end;

        r = sd_bus_message_read(m, "s", &stream);
        if (r < 0 || !v->stream || !streq(stream, v->stream))
                return 0;

        r = sd_bus_message_enter_container(m, 'a', "(tssss)");
        if (r < 0)
                return sd_event_exit(v->c->event, r);
        while ((r = sd_bus_message_read(m, "(tssss)", &time, &node, &instance, &kind, &message)) > 0) {
                r = print_entry(v, time, node, instance, kind, message);
                if (r < 0)
                        return sd_event_exit(v->c->event, r);
        }
        if (r < 0)
                return sd_event_exit(v->c->event, r);
        r = sd_bus_message_exit_container(m);
        if (r < 0)
                return sd_event_exit(v->c->event, r);
        r = sd_bus_message_read(m, "b", &end);
        if (r < 0)
                return sd_event_exit(v->c->event, r);

        /* The pager was quit, or the pipe's reader has gone. */
        if (fflush(stdout) < 0 || ferror(stdout))
                return sd_event_exit(v->c->event, 0);
        return end ? sd_event_exit(v->c->event, 0) : 0;
}

/* By node; none: nothing was shown yet. */
static int places(LogView *v, json_object **ret) {
        _cleanup_json_ json_object *o = v->n_places > 0 ? json_object_new_object() : NULL;
        int r;

        if (v->n_places > 0 && !o)
                return -ENOMEM;
        FOREACH_ARRAY(p, v->places, v->n_places) {
                p->n_again = p->n_last;
                r = json_add_u64(o, p->node, p->last);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(o);
        return 0;
}

static int open_stream(LogView *v, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_json_ json_object *options = json_object_new_object(), *after = NULL;
        const char *stream;
        int r;

        r = places(v, &after);
        if (r < 0 || !options || json_add_u64(options, "lines", v->lines) < 0 ||
                        json_add_bool(options, "follow", v->follow) < 0 ||
                        (v->instance > 0 && json_add_u64(options, "instance", v->instance) < 0) ||
                        (v->since > 0 && json_add_u64(options, "since", v->since) < 0) ||
                        (after && json_add(options, "after", TAKE_PTR(after)) < 0))
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        r = ctl_message(v->c, "OpenLogs", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sss", v->service.grid, v->service.stack, v->service.service);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r < 0)
                return r;
        r = ctl_send(v->c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &stream);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");

        r = free_and_strdup(&v->stream, stream);
        return r < 0 ? kerror_set_errno(reterr, r, "Out of memory.") : 0;
}

/* From where we were. A node of which nothing was shown had nothing to show then. */
static int on_back(void *userdata, KError *reterr) {
        LogView *v = userdata;

        if (v->since == 0)
                v->since = v->begun;
        v->lines = LOG_LINES_MAX;
        return open_stream(v, reterr);
}

int lines_option(const Arguments *a, unsigned fallback, unsigned *ret, KError *reterr) {
        const char *v = arguments_get(a, "lines");

        *ret = fallback;
        if (!v)
                return 0;
        if (streq(v, "all"))
                *ret = LOG_LINES_MAX;
        else if (safe_atou(v, ret) < 0 || *ret > LOG_LINES_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--lines=%s: a number up to %u, or all, is wanted.", v, LOG_LINES_MAX);
        return 0;
}

int since_option(const Arguments *a, uint64_t *ret, KError *reterr) {
        const char *v = arguments_get(a, "since");

        if (!v)
                return 0;
        return when_parse(v, now_realtime(), ret, reterr);
}

static int subscribe(void *userdata, KError *reterr) {
        LogView *v = userdata;
        int r;

        r = sd_bus_match_signal(v->c->bus, NULL, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, "LogEntries",
                        on_entries, v);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot subscribe to log entries: %m") : 0;
}

static int show(LogView *v, KError *reterr) {
        int r;

        v->begun = now_realtime();
        v->watch = (MasterWatch){
                .c = v->c, .patient = v->follow, .subscribe = subscribe, .back = on_back, .userdata = v
        };
        r = master_watch_start(&v->watch, reterr);
        if (r >= 0)
                r = open_stream(v, reterr);
        if (r < 0)
                return r;

        if (!v->follow)
                ctl_open_pager(v->c);
        r = master_watch_run(&v->watch, reterr);
        if (r >= 0 && kerror_is_set(&v->refusal))
                return kerror_set(reterr, v->refusal.code, "%s", kerror_message(&v->refusal));
        return r;
}

static int output_option(const Arguments *a, LogView *v, KError *reterr) {
        const char *output = arguments_get(a, "output");

        v->follow = arguments_has(a, "follow");
        v->output = v->c->json != JSON_OFF ? LOG_OUTPUT_JSON : LOG_OUTPUT_SHORT;
        if (!output)
                return 0;
        v->output = log_output_from_string(output);
        if (v->output < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "--output=%s is none of: short, cat, json.",
                                output);
        return 0;
}

int command_service_logs(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(log_view_done) LogView v = { .c = c };
        int r;

        r = output_option(a, &v, reterr);
        if (r >= 0)
                r = since_option(a, &v.since, reterr);
        if (r < 0)
                return r;
        r = lines_option(a, v.since > 0 ? LOG_LINES_MAX : 100, &v.lines, reterr);
        if (r < 0)
                return r;
        r = arguments_get_unsigned(a, "instance", &v.instance, reterr);
        if (r < 0)
                return r;

        r = ctl_service_name(c, arguments_arg(a, 0), &v.service, reterr);
        if (r < 0)
                return r;
        v.escape = isatty(STDOUT_FILENO) > 0;
        return show(&v, reterr);
}

/* What one instance writes, as it is: no name before the lines, and nothing escaped. It goes on when the container is started anew, and
 * our end is of no matter to it. */
int command_attach(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(log_view_done) LogView v = { .c = c, .follow = true, .output = LOG_OUTPUT_CAT };
        int r;

        r = lines_option(a, 0, &v.lines, reterr);
        if (r >= 0)
                r = ctl_instance_find(c, arguments_arg(a, 0), &v.service, &v.instance, reterr);
        if (r < 0)
                return r;
        return show(&v, reterr);
}

LogView *log_view_free(LogView *v) {
        if (!v)
                return NULL;
        log_view_done(v);
        return mfree(v);
}

int log_view_start(Ctl *c, const ServiceName *service, uint64_t since, LogView **ret, KError *reterr) {
        _cleanup_(log_view_freep) LogView *v = new0(LogView, 1);
        int r;

        if (!v)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        *v = (LogView){
                .c = c, .output = LOG_OUTPUT_SHORT, .lines = LOG_LINES_MAX, .follow = true, .since = since
        };
        v->begun = now_realtime();
        v->escape = isatty(STDOUT_FILENO) > 0;
        v->service.grid = strdup(service->grid);
        v->service.stack = strdup(service->stack);
        v->service.service = strdup(service->service);
        if (!v->service.grid || !v->service.stack || !v->service.service)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = subscribe(v, reterr);
        if (r >= 0)
                r = open_stream(v, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(v);
        return 0;
}

int log_view_subscribe(LogView *v, KError *reterr) {
        return subscribe(v, reterr);
}

int log_view_resume(LogView *v, KError *reterr) {
        return on_back(v, reterr);
}

/* What was written between its start and the next one's. */
static int take_time_of_run(LogView *v, unsigned number, KError *reterr) {
        _cleanup_json_ json_object *job = NULL;
        json_object *runs, *run = NULL;
        int r;

        r = ctl_call_json(v->c, "GetJob", &job, reterr, "sss", v->service.grid, v->service.stack,
                        v->service.service);
        if (r < 0)
                return r;
        runs = json_object_object_get(job, "runs");
        FOREACH_JSON_ARRAY(e, runs) { /* newest first */
                if (number == 0 || row_int(e, "number") == (int64_t) number) {
                        run = e;
                        break;
                }
                if (row_int(e, "started_at") > 0)
                        v->until = (uint64_t) row_int(e, "started_at");
        }
        if (!run && number == 0)
                return kerror_set(reterr, K_CONFLICT, "'%s' has not run yet.", v->service.service);
        if (!run)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no run %u of '%s' (any more).",
                                number, v->service.service);
        v->since = (uint64_t) row_int(run, "started_at");
        if (v->since == 0)
                v->since = MAX((uint64_t) row_int(run, "created_at"), UINT64_C(1));
        if (v->until > 0)
                v->follow = false;
        return 0;
}

int command_job_logs(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(log_view_done) LogView v = { .c = c, .lines = LOG_LINES_MAX };
        unsigned number;
        int r;

        r = job_run_number(a, &number, reterr);
        if (r >= 0)
                r = output_option(a, &v, reterr);
        if (r >= 0)
                r = ctl_service_name(c, arguments_arg(a, 0), &v.service, reterr);
        if (r >= 0)
                r = take_time_of_run(&v, number, reterr);
        if (r < 0)
                return r;
        v.escape = isatty(STDOUT_FILENO) > 0;
        return show(&v, reterr);
}
