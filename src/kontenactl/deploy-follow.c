/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-follow.h"

#include <signal.h>

#include "bus-json.h"
#include "deploy-view.h"
#include "file-util.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

#define DEPLOY_INTERFACE "io.kontena.Master1.Deploy"
#define DEPLOY_PREFIX    MASTER_PATH "/deploy"
#define PROPERTIES       "org.freedesktop.DBus.Properties"

/* A restarted master has its name on the bus a moment before its objects. */
#define RETRY_USEC       (500 * USEC_PER_MSEC)
#define RETRIES_MAX      60U

const OptionDef follow_options[] = {
        { .name = "no-block", .help = "Do not wait for the end of the deploy", .alias = "no-wait" },
        { .name = "timeout",
                        .argument = "TIME",
                        .help = "Wait at most that long; the deploy itself goes on" },
        {},
};

typedef struct Follow {
        Ctl *c;
        const char *path;
        char *id, *display;
        DeployView view;
        const ServiceName *service;
        const char *success;
        json_object *record;  /* the deploy's properties, as last heard */
        json_object *deploys; /* of one that has failed: as lists have it, with what instances wrote last */
        uint64_t started;
        unsigned retries;
        bool gone, asking, timed_out, interrupted;
        const char *note;
        KError error; /* why following ended, if not by the deploy's end */
        sd_bus_slot *get_slot;
        sd_event_source *retry_source;
} Follow;

static void follow_done(Follow *f) {
        free(f->id);
        free(f->display);
        deploy_view_done(&f->view);
        json_object_put(f->record);
        json_object_put(f->deploys);
        kerror_done(&f->error);
        sd_bus_slot_unref(f->get_slot);
        sd_event_source_disable_unref(f->retry_source);
}

int follow_request_init(FollowRequest *ret, const Arguments *a, KError *reterr) {
        const char *v = arguments_get(a, "timeout");

        *ret = (FollowRequest){ .block = !arguments_has(a, "no-block") };
        if (v && parse_sec(v, &ret->timeout_usec) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--timeout=%s: a time is wanted, say 30s or 5min.", v);
        return 0;
}

bool deploy_state_is_final(const char *state) {
        return STR_IN_SET(state, "success", "error", "superseded", "cancelled");
}

int deploy_id_from_path(const char *path, char **ret) {
        int r = sd_bus_path_decode(path, DEPLOY_PREFIX, ret);

        return r < 0 ? r : r == 0 ? -EINVAL : 0;
}

int deploy_path_from_id(const char *id, char **ret) {
        return sd_bus_path_encode(DEPLOY_PREFIX, id, ret);
}

static int follow_stop(Follow *f) {
        return sd_event_exit(f->c->event, 0);
}

static int follow_show(Follow *f) {
        json_object *instances = json_object_object_get(f->record, "Instances");
        DeployCounts n = deploy_count(instances);
        _cleanup_free_ char *title = NULL;
        int r;

        title = strprintf("Deploying '%s': %zu of %zu running", f->display, n.running, n.total);
        if (!title)
                return -ENOMEM;
        r = deploy_view_update(&f->view, title, instances, f->note);
        if (r < 0)
                return r;

        if (!deploy_state_is_final(row_string(f->record, "State")))
                return 0;
        /* Now, as the end of the loop ends the connection. */
        if (streq(row_string(f->record, "State"), "error") && !f->deploys)
                (void) ctl_call_json(f->c, "ListDeploys", &f->deploys, NULL, "sss", f->service->grid,
                                f->service->stack, f->service->service);
        return follow_stop(f);
}

static int follow_merge(Follow *f, json_object *properties) {
        json_object_object_foreach(properties, key, value) {
                int r = json_object_object_add(f->record, key, json_object_get(value));

                if (r < 0)
                        return -ENOMEM;
        }

        return follow_show(f);
}

static int follow_ask(Follow *f);

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        return follow_ask(userdata);
}

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Follow *f = userdata;
        _cleanup_json_ json_object *properties = NULL;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int r;

        f->asking = false;
        f->get_slot = sd_bus_slot_unref(f->get_slot);
        if (e) {
                if (f->gone)
                        return 0;
                if (++f->retries > RETRIES_MAX || sd_bus_error_has_name(e, SD_BUS_ERROR_ACCESS_DENIED)) {
                        (void) ctl_bus_error(f->c, e, sd_bus_error_get_errno(e), &f->error);
                        return follow_stop(f);
                }
                f->retry_source = sd_event_source_disable_unref(f->retry_source);
                return sd_event_add_time_relative(
                                f->c->event, &f->retry_source, CLOCK_MONOTONIC, RETRY_USEC, 0, on_retry, f);
        }

        f->retries = 0;
        if (f->note) {
                if (!f->view.redraw)
                        ctl_warn("The master is back.");
                f->note = NULL;
        }
        r = bus_json_read(m, &properties, &f->error);
        if (r < 0)
                return r;
        return follow_merge(f, properties);
}

static int follow_ask(Follow *f) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        if (f->asking)
                return 0;

        r = sd_bus_message_new_method_call(f->c->bus, &m, MASTER_NAME, f->path, PROPERTIES, "GetAll");
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(m, false);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", DEPLOY_INTERFACE);
        if (r < 0)
                return r;
        r = sd_bus_call_async(f->c->bus, &f->get_slot, m, on_properties, f, 0);
        if (r < 0)
                return r;

        f->asking = true;
        return 0;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Follow *f = userdata;
        _cleanup_json_ json_object *properties = NULL, *invalidated = NULL;
        const char *interface;
        int r;

        /* Signals of other deploys, and those before the path is known; what they said is asked for anyway. */
        if (!f->path || !streq(sd_bus_message_get_path(m), f->path))
                return 0;
        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0 || !streq(interface, DEPLOY_INTERFACE))
                return 0;
        if (bus_json_read(m, &properties, NULL) < 0 || bus_json_read(m, &invalidated, NULL) < 0)
                return 0;

        if (json_object_array_length(invalidated) > 0) {
                r = follow_ask(f);
                if (r < 0)
                        return r;
        }
        return follow_merge(f, properties);
}

static int on_finished(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Follow *f = userdata;
        const char *state, *reason;

        if (!f->path || !streq(sd_bus_message_get_path(m), f->path))
                return 0;
        if (sd_bus_message_read(m, "ss", &state, &reason) < 0)
                return 0;
        if (json_add_string(f->record, "State", state) < 0 ||
                        json_add_string(f->record, "Reason", reason) < 0)
                return -ENOMEM;
        return follow_show(f);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Follow *f = userdata;
        const char *name, *old_owner, *new_owner;

        if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0 || !f->path)
                return 0;

        f->gone = isempty(new_owner);
        if (!f->gone) {
                f->retries = 0;
                f->asking = false;
                f->get_slot = sd_bus_slot_unref(f->get_slot);
                return follow_ask(f);
        }

        f->note = "The master is gone; the deploy goes on when it is back. Waiting.";
        if (!f->view.redraw && !f->view.quiet)
                ctl_warn("%s", f->note);
        return follow_show(f);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Follow *f = userdata;

        (void) ctl_connection_lost(f->c, &f->error);
        return follow_stop(f);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Follow *f = userdata;

        f->interrupted = true;
        return follow_stop(f);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Follow *f = userdata;

        f->timed_out = true;
        return follow_stop(f);
}

/* Before the call, or a quick deploy's end would be missed. */
static int follow_subscribe(Follow *f) {
        sd_bus *bus = f->c->bus;
        sigset_t mask;
        int r;

        r = sd_bus_add_match(bus, NULL,
                        "type='signal',sender='" MASTER_NAME "',interface='" PROPERTIES
                        "',member='PropertiesChanged',"
                        "path_namespace='" DEPLOY_PREFIX "'",
                        on_changed, f);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(bus, NULL, MASTER_NAME, NULL, DEPLOY_INTERFACE, "Finished", on_finished, f);
        if (r < 0)
                return r;
        r = sd_bus_add_match(bus, NULL,
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='" MASTER_NAME "'",
                        on_owner_changed, f);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(bus, NULL, "org.freedesktop.DBus.Local", NULL, "org.freedesktop.DBus.Local",
                        "Disconnected", on_disconnected, f);
        if (r < 0)
                return r;

        if (sigemptyset(&mask) < 0 || sigaddset(&mask, SIGINT) < 0 || sigaddset(&mask, SIGTERM) < 0 ||
                        sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(f->c->event, NULL, SIGINT, on_signal, f);
        if (r < 0)
                return r;
        return sd_event_add_signal(f->c->event, NULL, SIGTERM, on_signal, f);
}

static void say_how_to_go_on(Follow *f) {
        ctl_warn("The deploy goes on. Follow it: kontenactl deploy show --follow %s; stop it: kontenactl "
                 "deploy cancel %s",
                        f->id, f->id);
}

/* Every instance that failed, with its whole reason. */
static void say_failures(Follow *f, json_object *instances) {
        FOREACH_JSON_ARRAY(i, instances) {
                _cleanup_free_ char *line = NULL;

                if (!streq(deploy_field(i, DEPLOY_STATE), "error"))
                        continue;
                line = deploy_view_line(f->view.service, i);
                if (line)
                        ctl_warn("  %s", line);
        }
}

/* What those that failed wrote last. */
static void say_last_lines(Follow *f) {
        FOREACH_JSON_ARRAY(d, f->deploys) {
                if (!streq(row_string(d, "id"), f->id))
                        continue;
                FOREACH_JSON_ARRAY(i, json_object_object_get(d, "instances"))
                        deploy_print_log_tail(stderr, f->service->service, i);
        }
}

/* The master's sentence names instances that we have named; then what stands before them is enough. */
static char *short_reason(const char *reason, json_object *instances) {
        const char *colon = strchr(reason, ':'), *back = strstr(reason, "Going back to revision ");

        FOREACH_JSON_ARRAY(i, instances) {
                const char *error = deploy_field(i, DEPLOY_ERROR);

                if (colon && !isempty(error) && strstr(colon, error))
                        return strprintf("%.*s.%s%s", (int) (colon - reason), reason, back ? " " : "",
                                        strempty(back));
        }

        return strdup(isempty(reason) ? "no reason was given." : reason);
}

static int follow_result(Follow *f, KError *reterr) {
        json_object *instances = json_object_object_get(f->record, "Instances");
        const char *state = row_string(f->record, "State"), *reason = row_string(f->record, "Reason");
        _cleanup_free_ char *shortened = NULL;
        DeployCounts n = deploy_count(instances);

        deploy_view_erase(&f->view);

        if (f->interrupted && !deploy_state_is_final(state)) {
                say_how_to_go_on(f);
                return FOLLOW_INTERRUPTED;
        }
        if (f->timed_out) {
                say_how_to_go_on(f);
                return kerror_set(reterr, K_TIMEOUT, "The deploy of '%s' has not ended in the time given.",
                                f->display);
        }
        if (kerror_is_set(&f->error)) {
                int code = kerror_errno(f->error.code);

                kerror_move(reterr, &f->error);
                say_how_to_go_on(f);
                return code;
        }

        if (f->c->json != JSON_OFF)
                (void) ctl_print_json(f->c, f->record);
        if (streq(state, "success")) {
                double seconds = (double) (now_monotonic() - f->started) / USEC_PER_SEC;

                if (f->success)
                        ctl_say(f->c, "%s (%.1f s).", f->success, seconds);
                else
                        ctl_say(f->c, "'%s' is deployed: %zu of %zu running (%.1f s).", f->display,
                                        n.running, n.total, seconds);
                return 0;
        }

        /* Elsewhere each was said when it happened. */
        if (f->view.redraw || f->view.quiet)
                say_failures(f, instances);
        if (streq(state, "superseded"))
                return kerror_set(reterr, K_CONFLICT, "The deploy of '%s' was superseded by a newer one.",
                                f->display);
        if (streq(state, "cancelled"))
                return kerror_set(reterr, K_CONFLICT, "The deploy of '%s' was cancelled.", f->display);
        if (!f->view.quiet)
                say_last_lines(f);
        shortened = short_reason(reason, instances);
        return kerror_set(reterr, K_RUNTIME, "The deploy of '%s' failed: %s", f->display, strna(shortened));
}

int deploy_follow(Ctl *c, const FollowRequest *request, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(follow_done) Follow f = {
                .c = c,
                .path = request->path,
                .service = request->service,
                .success = request->success,
                .started = now_monotonic(),
        };
        const char *path;
        int r;

        r = ctl_loop(c, reterr);
        if (r < 0)
                return r;

        f.record = json_object_new_object();
        f.display = service_display_name(request->service->stack, request->service->service);
        f.view = (DeployView){
                .out = stdout,
                .err = stderr,
                .redraw = terminal_on(stdout),
                .quiet = c->quiet || c->json != JSON_OFF,
                .columns = terminal_columns(),
                .rows = terminal_rows(),
                .service = strdup(request->service->service),
        };
        if (!f.record || !f.display || !f.view.service)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        if (request->block) {
                r = follow_subscribe(&f);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot subscribe to the master's signals: %m");
        }

        if (request->call) {
                r = ctl_send(c, request->call, &reply, reterr);
                if (r < 0)
                        return r;
                r = sd_bus_message_read(reply, "o", &path);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
                f.path = path;
        }
        r = deploy_id_from_path(f.path, &f.id);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' is not a deploy.", f.path);

        if (!request->block) {
                if (c->json != JSON_OFF && json_add_string(f.record, "Id", f.id) >= 0)
                        return ctl_print_json(c, f.record);
                ctl_say(c, "Deploy %s of '%s' has begun.", f.id, f.display);
                return 0;
        }

        r = follow_ask(&f);
        if (r >= 0 && request->timeout_usec > 0)
                r = sd_event_add_time_relative(
                                c->event, NULL, CLOCK_MONOTONIC, request->timeout_usec, 0, on_timeout, &f);
        if (r >= 0)
                r = sd_event_loop(c->event);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Following the deploy failed: %m");

        return follow_result(&f, reterr);
}
