/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "bus-json.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "logs.h"
#include "string-util.h"
#include "watch.h"

typedef struct EventView {
        Ctl *c;
        const char *grid, *node;
        ServiceName service; /* service NULL: of all */
        unsigned lines;
        uint64_t since, last; /* last: id of the newest that was shown */
        bool started, silent; /* silent: --lines=0, only what comes */
        MasterWatch watch;
} EventView;

static void event_view_done(EventView *v) {
        service_name_done(&v->service);
        master_watch_done(&v->watch);
}

static Color severity_color(const char *severity) {
        return streq(severity, "error") ? COLOR_RED : streq(severity, "warning") ? COLOR_YELLOW : COLOR_NONE;
}

/* "web-1@node2", as much of it as there is. */
static char *event_subject(json_object *e) {
        _cleanup_free_ char *service = NULL, *instance = NULL;
        const char *name = row_string(e, "service"), *node = row_string(e, "node");
        json_object *number = json_object_object_get(e, "instance");

        /* A master may send "stack/service" in one. */
        service = strchr(name, '/') ? strdup(startswith(name, "null/") ?: name)
                                    : service_display_name(row_string(e, "stack"), name);
        if (!service)
                return NULL;
        if (!isempty(name) && json_object_get_int64(number) > 0)
                instance = strprintf("-%" PRIi64, json_object_get_int64(number));

        return strprintf("%s%s%s%s", isempty(name) ? "" : service, strempty(instance),
                        isempty(node) ? "" : "@", node);
}

static int print_event(EventView *v, json_object *e) {
        _cleanup_free_ char *subject = NULL, *line = NULL, *clean = NULL;
        const char *severity = row_string(e, "severity");
        char buffer[32];

        v->last = MAX(v->last, (uint64_t) row_int(e, "id"));
        if (v->silent && !v->started)
                return 0;
        if (v->c->json != JSON_OFF)
                return ctl_print_json(v->c, e);

        subject = event_subject(e);
        if (!subject)
                return -ENOMEM;
        line = strprintf("%s%s%s%s", row_string(e, "type"), isempty(subject) ? "" : " ", subject, ": ");
        if (!line)
                return -ENOMEM;
        clean = text_escape(row_string(e, "message"), /* keep_newlines= */ false);
        if (!clean)
                return -ENOMEM;

        printf("%s %s%s%s%s\n", short_time((uint64_t) row_int(e, "time"), buffer), line,
                        color_on(severity_color(severity)), clean, color_off(severity_color(severity)));
        return 0;
}

static bool event_matches(const EventView *v, const char *grid, json_object *e) {
        const char *service = row_string(e, "service");

        if (!streq(grid, v->grid) || (v->node && !streq(row_string(e, "node"), v->node)))
                return false;
        if (!v->service.service)
                return true;
        if (strchr(service, '/'))
                service = strchr(service, '/') + 1;
        return streq(service, v->service.service) &&
               (isempty(row_string(e, "stack")) || streq(row_string(e, "stack"), v->service.stack));
}

static int on_event(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ json_object *e = NULL;
        EventView *v = userdata;
        const char *grid;
        int r;

        if (sd_bus_message_read(m, "s", &grid) < 0 || bus_json_read(m, &e, NULL) < 0)
                return 0;
        /* Those that came before the list did are in it. */
        if (!v->started || (uint64_t) row_int(e, "id") <= v->last || !event_matches(v, grid, e))
                return 0;

        r = print_event(v, e);
        if (r < 0 || fflush(stdout) < 0)
                return sd_event_exit(v->c->event, r);
        return 0;
}

static int get_events(EventView *v, json_object **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_json_ json_object *filter = json_object_new_object();
        int r;

        if (!filter || json_add_u64(filter, "limit", v->lines) < 0 ||
                        (v->started && v->last > 0 && json_add_u64(filter, "after", v->last) < 0) ||
                        (v->since > 0 && json_add_u64(filter, "since", v->since) < 0) ||
                        (v->node && json_add_string(filter, "node", v->node) < 0) ||
                        (v->service.service && (json_add_string(filter, "service", v->service.service) < 0 ||
                                                               json_add_string(filter, "stack",
                                                                               v->service.stack) < 0)))
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        r = ctl_message(v->c, "ListEvents", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", v->grid);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", filter, reterr);
        if (r < 0)
                return r;
        r = ctl_send(v->c, m, &reply, reterr);
        if (r < 0)
                return r;
        return bus_json_read(reply, ret, reterr);
}

static int show_events(EventView *v, json_object *events, KError *reterr) {
        int r;

        FOREACH_JSON_ARRAY(e, events) {
                r = print_event(v, e);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot print: %m");
        }

        v->started = true;
        (void) fflush(stdout);
        return 0;
}

/* What came behind the last one; if there was none, all. */
static int on_back(void *userdata, KError *reterr) {
        EventView *v = userdata;
        size_t n;
        int r;

        v->lines = LOG_LINES_MAX;
        do {
                _cleanup_json_ json_object *events = NULL;

                r = get_events(v, &events, reterr);
                if (r >= 0)
                        r = show_events(v, events, reterr);
                if (r < 0)
                        return r;
                n = json_object_array_length(events);
        } while (n == LOG_LINES_MAX);

        return 0;
}

static int subscribe(void *userdata, KError *reterr) {
        EventView *v = userdata;
        int r;

        r = sd_bus_match_signal(
                        v->c->bus, NULL, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, "Event", on_event, v);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot subscribe to events: %m") : 0;
}

int command_event_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(event_view_done) EventView v = { .c = c, .node = arguments_get(a, "node") };
        _cleanup_json_ json_object *events = NULL;
        bool follow = arguments_has(a, "follow");
        int r;

        r = since_option(a, &v.since, reterr);
        if (r < 0)
                return r;
        r = lines_option(a, v.since > 0 ? 10000 : 100, &v.lines, reterr);
        if (r < 0)
                return r;
        if (v.lines == 0) {
                v.silent = true;
                v.lines = 1;
        }
        if (arguments_get(a, "service")) {
                r = ctl_service_name(c, arguments_get(a, "service"), &v.service, reterr);
                if (r < 0)
                        return r;
                v.grid = v.service.grid;
        } else {
                r = ctl_grid(c, &v.grid, reterr);
                if (r < 0)
                        return r;
        }

        if (follow) {
                v.watch = (MasterWatch){
                        .c = c, .patient = true, .subscribe = subscribe, .back = on_back, .userdata = &v
                };
                r = master_watch_start(&v.watch, reterr);
                if (r < 0)
                        return r;
        }

        r = get_events(&v, &events, reterr);
        if (r < 0)
                return r;
        if (!follow) {
                ctl_open_pager(c);
                if (c->json != JSON_OFF)
                        return ctl_print_json(c, events);
                return show_events(&v, events, reterr);
        }

        r = show_events(&v, events, reterr);
        if (r < 0)
                return r;
        return master_watch_run(&v.watch, reterr);
}
