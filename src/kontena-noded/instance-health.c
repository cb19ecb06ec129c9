/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-health.h"

#include <sys/types.h>

#include "fd-store.h"
#include "file-util.h"
#include "instance-internal.h"
#include "kontena-limits.h"
#include "log.h"
#include "message-id.h"

/* Its names are gone before it is. */
#define RESTART_DELAY_MIN_USEC USEC_PER_SEC

#define CGROUP_FILE_SIZE_MAX   (64U * 1024U)

static bool wants_health(const Instance *i) {
        return i->want && i->want->spec->health_check.protocol != HEALTH_NONE;
}

/* A machine says it to nspawn, which says it to systemd. */
static bool wants_notify(const Instance *i) {
        return i->want->spec->notify && i->want->spec->runtime == RUNTIME_OCI;
}

bool instance_says_when_up(const Instance *i) {
        return i->want->spec->wait_for_port > 0 || wants_notify(i) || wants_health(i);
}

char *instance_awaits(const Instance *i) {
        if (i->probe)
                return strprintf("anything listened on port %u", i->want->spec->wait_for_port);
        /* Perhaps another one is wanted by now. */
        if (!i->want || i->record.ready || i->record.deploy_rev != i->want->deploy_rev)
                return NULL;
        if (wants_notify(i) && !i->record.notified)
                return strdup("it said READY=1");
        return wants_health(i) ? strdup("it was healthy") : NULL;
}

/* Not a sentence: it stands inside of others. */
static void show(Instance *i, const char *what, const char *detail) {
        _cleanup_free_ char *text = NULL;
        int n = (int) strlen(strempty(detail));

        if (n > 0 && detail[n - 1] == '.')
                n--;
        text = n == 0 ? strdup(what) : strprintf("%s: %.*s", what, n, detail);
        instance_set_state(i, INSTANCE_STARTING, text ?: what);
}

/* notify */

static char *notify_name(const Instance *i) {
        return strprintf("notify-%s-%" PRIu64, i->id, i->record.generation);
}

static char *notify_directory(const Instance *i) {
        _cleanup_free_ char *run = instance_generation_run_directory(i, i->record.generation);

        return run ? strjoin(run, "/" NOTIFY_DIRECTORY) : NULL;
}

/* Only the container can reach the socket, but not only its own processes are in it: who was let in from outside does not speak
 * for it. One that is gone by now cannot be asked where it was. */
static bool is_own_process(const Instance *i, pid_t pid) {
        _cleanup_free_ char *path = NULL, *text = NULL;

        if (pid <= 0)
                return true;
        path = strprintf("%s/%i/cgroup", i->host->proc_directory ?: "/proc", (int) pid);
        if (!path || read_file(path, CGROUP_FILE_SIZE_MAX, &text, NULL) < 0)
                return true;
        return notify_sender_is_of_unit(text, unit_name(i->unit));
}

static void on_notified(NotifySocket *n, const NotifyMessage *m, pid_t sender, void *userdata) {
        Instance *i = userdata;

        if (i->record.ready || i->record.notified || !is_own_process(i, sender))
                return;
        if (m->ready) {
                i->record.notified = true;
                i->unsaved = true;
                instance_step(i);
                return;
        }
        (void) free_and_strdup(&i->notify_status, m->status);
        if (i->state == INSTANCE_STARTING)
                show(i, "waiting for READY=1", i->notify_status);
}

static int take_socket(Instance *i, int consume_fd) {
        i->notify = notify_socket_free(i->notify);
        return notify_socket_new(i->host->event, consume_fd, on_notified, i, &i->notify);
}

int instance_notify_prepare(Instance *i, KError *reterr) {
        _cleanup_free_ char *directory = NULL, *name = NULL;
        int fd, r;

        if (!wants_notify(i) || i->notify)
                return 0;
        directory = notify_directory(i);
        name = notify_name(i);
        if (!directory || !name)
                return -ENOMEM;
        r = notify_socket_bind(directory, &fd);
        if (r >= 0)
                r = take_socket(i, fd);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the socket for READY=1: %m");

        fd_store_keep(i->host->fds, name, notify_socket_fd(i->notify));
        return 0;
}

void instance_notify_adopt(Instance *i) {
        _cleanup_free_ char *name = NULL;
        int fd, r;

        if (i->record.generation == 0)
                return;
        name = notify_name(i);
        fd = name ? fd_store_take(i->host->fds, name) : -ENOMEM;
        if (fd < 0)
                return;
        r = take_socket(i, fd);
        if (r < 0)
                log_warning_errno(r, "Cannot listen to the container of '%s' as before: %m", i->id);
}

void instance_notify_close(Instance *i) {
        _cleanup_free_ char *name = NULL;

        if (!i->notify)
                return;
        i->notify = notify_socket_free(i->notify);
        name = notify_name(i);
        if (name)
                fd_store_drop(i->host->fds, name);
}

static int on_notify_late(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Instance *i = userdata;

        i->notify_late = sd_event_source_disable_unref(i->notify_late);
        (void) kerror_set(&error, K_TIMEOUT, "The container did not say READY=1 within %llu s%s%s.",
                        WAIT_FOR_PORT_TIMEOUT_USEC / USEC_PER_SEC,
                        isempty(i->notify_status) ? "" : "; the last it said: ", strempty(i->notify_status));
        instance_read_log_tail(i);
        instance_fail(i, &error);
        return 0;
}

static int settle_notify(Instance *i, KError *reterr) {
        bool heard = i->notify;
        int r;

        /* Without a reader who speaks would have to wait. */
        r = instance_notify_prepare(i, reterr);
        if (r < 0)
                return r;
        notify_socket_listen(i->notify);
        if (i->record.ready || i->record.notified) {
                i->notify_late = sd_event_source_disable_unref(i->notify_late);
                return SYNC_DONE;
        }
        if (!heard) {
                instance_log(i, NULL, LOG_NOTICE,
                                "Nobody has listened since the container's start, so it may have said "
                                "READY=1 "
                                "already: it is taken as said.");
                i->record.notified = true;
                i->unsaved = true;
                return SYNC_DONE;
        }

        if (!i->notify_late) {
                r = sd_event_add_time_relative(i->host->event, &i->notify_late, CLOCK_MONOTONIC,
                                WAIT_FOR_PORT_TIMEOUT_USEC, USEC_PER_SEC, on_notify_late, i);
                if (r < 0)
                        return r;
        }
        show(i, "waiting for READY=1", i->notify_status);
        return SYNC_WAIT;
}

/* Health */

static int on_restart(sd_event_source *s, uint64_t usec, void *userdata) {
        Instance *i = userdata;

        i->unhealthy = sd_event_source_disable_unref(i->unhealthy);
        i->record.restarts++;
        i->unsaved = true;
        i->restart_requested = true;
        instance_step(i);
        return 0;
}

/* How long it must have been well for the next failure to be a first one. */
static bool was_well_for_long(const Instance *i) {
        const HealthCheck *c = &i->want->spec->health_check;
        uint64_t cycle = (uint64_t) c->interval_sec * c->retries * USEC_PER_SEC;

        return i->healthy_since > 0 &&
               now_monotonic() - i->healthy_since >= MAX(BACKOFF_STABLE_USEC, 2 * cycle);
}

static void explain(const Instance *i, KError *reterr) {
        (void) kerror_set(
                        reterr, K_RUNTIME, "The container is unhealthy: %s", strna(health_seen(i->health)));
}

static void became_unhealthy(Instance *i) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint64_t delay;
        int r;

        delay = backoff_next(&i->health_backoff, was_well_for_long(i) ? BACKOFF_STABLE_USEC : 0);
        delay = MAX(delay, RESTART_DELAY_MIN_USEC);
        i->healthy_since = 0;
        explain(i, &error);
        instance_say(i, MESSAGE_INSTANCE_UNHEALTHY, "warning", "service:health_check",
                        "%s It is restarted in %" PRIu64 " s.", kerror_message(&error),
                        delay / USEC_PER_SEC);

        /* A deploy whose container was never well has failed, although the restarts go on. */
        if (!i->record.ready && !i->record.proven) {
                instance_read_log_tail(i);
                instance_fail(i, &error);
                i->retry = sd_event_source_disable_unref(i->retry);
        } else if (!i->failed)
                kerror_move(&i->error, &error);

        i->unhealthy = sd_event_source_disable_unref(i->unhealthy);
        r = sd_event_add_time_relative(i->host->event, &i->unhealthy, CLOCK_MONOTONIC, delay,
                        USEC_PER_SEC / 10, on_restart, i);
        if (r < 0)
                log_error_errno(r, "Cannot wait to restart instance '%s': %m", i->id);
        i->host->changed(i, i->host->userdata);
}

static void became_healthy(Instance *i) {
        i->healthy_since = now_monotonic();
        if (i->unhealthy) {
                i->unhealthy = sd_event_source_disable_unref(i->unhealthy);
                instance_say(i, NULL, "info", "service:health_check",
                                "The container is healthy again, it is not restarted.");
        }
        i->host->changed(i, i->host->userdata);
        instance_step(i);
}

static void on_health(Health *h, void *userdata) {
        Instance *i = userdata;

        if (i->health_told != health_state(h)) {
                i->health_told = health_state(h);
                if (i->health_told == HEALTH_UNHEALTHY)
                        became_unhealthy(i);
                else
                        became_healthy(i);
                return;
        }
        if (i->state == INSTANCE_STARTING && !i->record.ready)
                show(i, "waiting to be healthy", health_seen(h));
}

static void on_trouble(Health *h, const char *text, void *userdata) {
        Instance *i = userdata;
        bool new = !kerror_is_set(&i->health_trouble);

        kerror_done(&i->health_trouble);
        if (text)
                (void) kerror_set(&i->health_trouble, K_UNAVAILABLE,
                                "The container's health cannot be checked: %s", text);
        if (!text)
                instance_log(i, NULL, LOG_INFO, "The container's health can be checked again.");
        else if (new)
                instance_say(i, NULL, "warning", "service:health_check", "%s",
                                kerror_message(&i->health_trouble));
        i->host->changed(i, i->host->userdata);
}

/* As it is now: another version may be wanted while this one still serves. */
static int ask_inside(char *const *argv, uint64_t timeout_usec, container_command_done_t done,
                void *done_userdata, ContainerCommand **ret, KError *reterr, void *userdata) {
        _cleanup_free_ char *bundle = NULL, *directory = NULL, *id = NULL, *unit = NULL, *description = NULL;
        Instance *i = userdata;

        if (!i->want || !instance_present_runtime(i) || !i->unit)
                return -EAGAIN;
        bundle = instance_generation_run_directory(i, i->record.generation);
        directory = bundle ? strjoin(bundle, "/health") : NULL;
        id = strprintf("%s-%" PRIu64, i->id, i->record.generation);
        unit = strprintf("kontena-health-%s.service", i->id); /* one at a time */
        description = strprintf("Health check of %s/%s-%u", instance_stack(i), instance_service(i),
                        instance_number(i));
        if (!bundle || !directory || !id || !unit || !description)
                return -ENOMEM;

        return container_command_start(
                        &(ContainerCommandOptions){
                                        .event = i->host->event,
                                        .units = i->host->units,
                                        .runtime = instance_present_runtime(i),
                                        .want = i->want,
                                        .image = strempty(i->record.image),
                                        .unit = unit,
                                        .description = description,
                                        .bind_unit = unit_name(i->unit),
                                        .container_id = id,
                                        .bundle = bundle,
                                        .directory = directory,
                                        .argv = argv,
                                        .capture = true,
                                        .timeout_usec = timeout_usec,
                        },
                        done, done_userdata, ret, reterr);
}

static bool is_held(void *userdata) {
        Instance *i = userdata;

        return i->host->held && i->host->held(i, i->host->userdata);
}

static int settle_health(Instance *i) {
        const HealthCheck *c = &i->want->spec->health_check;
        int r;

        if (i->health && !health_is_about(i->health, c, i->want->address))
                instance_health_stop(i);
        if (!i->health) {
                r = health_start(
                                &(HealthOptions){
                                                .event = i->host->event,
                                                .check = c,
                                                .address = i->want->address,
                                                .started_usec = i->running_since,
                                                .up = i->record.ready,
                                                .news = on_health,
                                                .inside = ask_inside,
                                                .trouble = on_trouble,
                                                .excused = is_held,
                                                .userdata = i,
                                },
                                &i->health);
                if (r < 0)
                        return r;
        }

        if (health_state(i->health) == HEALTH_UNHEALTHY) {
                if (!kerror_is_set(&i->error)) /* something else is wanted meanwhile, which has not changed this */
                        explain(i, &i->error);
                return SYNC_WAIT;
        }
        if (i->record.ready || health_state(i->health) == HEALTH_HEALTHY)
                return SYNC_DONE;
        show(i, "waiting to be healthy", health_seen(i->health));
        return SYNC_WAIT;
}

int instance_health_settle(Instance *i, KError *reterr) {
        int r;

        if (wants_notify(i)) {
                r = settle_notify(i, reterr);
                if (r != SYNC_DONE)
                        return r;
        }
        if (!wants_health(i)) {
                instance_health_stop(i);
                return SYNC_DONE;
        }
        r = settle_health(i);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot check the container's health: %m") : r;
}

void instance_health_stop(Instance *i) {
        bool told = i->health_told != HEALTH_UNKNOWN || kerror_is_set(&i->health_trouble);

        i->health = health_stop(i->health);
        kerror_done(&i->health_trouble);
        i->health_told = HEALTH_UNKNOWN;
        i->unhealthy = sd_event_source_disable_unref(i->unhealthy);
        i->notify_late = sd_event_source_disable_unref(i->notify_late);
        if (told)
                i->host->changed(i, i->host->userdata);
}

void instance_health_forget(Instance *i) {
        instance_health_stop(i);
        i->port_open = false;
        i->healthy_since = 0;
        i->notify_status = mfree(i->notify_status);
        if (i->notify)
                notify_socket_flush(i->notify);
        if (i->record.notified) {
                i->record.notified = false;
                i->unsaved = true;
        }
}
