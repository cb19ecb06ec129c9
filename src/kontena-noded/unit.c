/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

#include "file-util.h"
#include "log.h"
#include "output.h"
#include "string-util.h"

#define SYSTEMD_NAME      "org.freedesktop.systemd1"
#define SYSTEMD_PATH      "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER   "org.freedesktop.systemd1.Manager"
#define UNIT_PATH_PREFIX  "/org/freedesktop/systemd1/unit"
#define REREAD_USEC       (5U * USEC_PER_SEC)
#define STALE_AT_ONCE     16U /* the bus bounds how many calls of a peer may have no answer yet */
#define STALE_USEC        (50U * USEC_PER_MSEC)
#define CALL_TIMEOUT_USEC (60U * USEC_PER_SEC) /* PID 1 may be busy reloading */

struct UnitManager {
        sd_event *event;
        sd_bus *bus;
        sd_bus_slot *subscribe, *job_removed, *owner_changed;
        sd_event_source *reread; /* of those that are stale, a few at a time */
        Unit *units;
        Unit *jobs; /* those that wait, by job path */
};

struct Unit {
        UnitManager *manager;
        char *name, *path;
        UnitState state;
        sd_bus_slot *match, *get_unit, *get_service;
        sd_event_source *reread;
        bool stale; /* systemd has executed itself anew, and signals are lost */
        unit_changed_t changed;
        void *userdata;

        /* the operation */
        unit_done_t done;
        sd_bus_slot *call;
        sd_event_source *timer;
        char *job;
        const char *verb;
        UT_hash_handle hh;
        Unit *prev, *next;
};

static void unit_state_done(UnitState *s) {
        free(s->load_state);
        free(s->active_state);
        free(s->sub_state);
        free(s->result);
        free(s->control_group);
        *s = (UnitState){};
}

bool unit_state_is_running(const UnitState *s) {
        return s->known && s->main_pid > 0 && STR_IN_SET(s->active_state, "active", "reloading");
}

bool unit_main_process_is_alive(const Unit *u) {
        _cleanup_close_ int fd = -EBADF;

        if (u->state.main_pid == 0)
                return false;
        fd = pidfd_open((pid_t) u->state.main_pid, 0);
        if (fd < 0)
                return errno != ESRCH;
        /* Readable: it has ended, and perhaps waits for systemd to take its status. */
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) <= 0;
}

bool unit_state_is_gone(const UnitState *s) {
        return s->known && s->job == 0 && STR_IN_SET(s->active_state, "inactive", "failed");
}

bool unit_state_is_waiting(const UnitState *s) {
        return s->known && s->job == 0 && streq_ptr(s->active_state, "activating") &&
               streq_ptr(s->sub_state, "auto-restart");
}

static void forget_job(Unit *u) {
        if (!u->job)
                return;
        HASH_DEL(u->manager->jobs, u);
        u->hh.tbl = NULL;
        u->job = mfree(u->job);
}

static void operation_end(Unit *u, const KError *error) {
        unit_done_t done = u->done;

        forget_job(u);
        u->call = sd_bus_slot_unref(u->call);
        u->timer = sd_event_source_disable_unref(u->timer);
        u->done = NULL;
        if (done)
                done(u, error, u->userdata);
}

/* {"name": variant} of both interfaces; what we do not know is skipped. */
static int read_properties(sd_bus_message *m, UnitState *s) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;

        for (;;) {
                const char *name, *text;
                char **field = NULL;
                int32_t number;

                r = sd_bus_message_enter_container(m, 'e', "sv");
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        return r;

                if (streq(name, "ActiveState"))
                        field = &s->active_state;
                else if (streq(name, "SubState"))
                        field = &s->sub_state;
                else if (streq(name, "LoadState"))
                        field = &s->load_state;
                else if (streq(name, "Result"))
                        field = &s->result;
                else if (streq(name, "ControlGroup"))
                        field = &s->control_group;

                if (field) {
                        r = sd_bus_message_read(m, "v", "s", &text);
                        if (r >= 0)
                                r = free_and_strdup(field, text);
                } else if (streq(name, "MainPID"))
                        r = sd_bus_message_read(m, "v", "u", &s->main_pid);
                else if (STR_IN_SET(name, "ExecMainCode", "ExecMainStatus")) {
                        r = sd_bus_message_read(m, "v", "i", &number);
                        if (r >= 0 && streq(name, "ExecMainCode"))
                                s->exec_main_code = number;
                        else if (r >= 0)
                                s->exec_main_status = number;
                } else if (streq(name, "Job"))
                        r = sd_bus_message_read(m, "v", "(uo)", &s->job, NULL);
                else
                        r = sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;

                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }

        return sd_bus_message_exit_container(m);
}

static int on_read(Unit *u, sd_bus_message *m) {
        int r;

        if (sd_bus_message_is_method_error(m, NULL))
                r = -sd_bus_message_get_errno(m);
        else
                r = read_properties(m, &u->state);
        if (r < 0)
                return log_error_errno(r, "Cannot read the state of unit '%s': %m", u->name);

        return 0;
}

static int on_service_read(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Unit *u = userdata;

        u->get_service = sd_bus_slot_unref(u->get_service);
        /* systemd knows no service properties of a unit that it could not load: that is fine. */
        if (!sd_bus_message_is_method_error(m, NULL))
                (void) on_read(u, m);
        return 0;
}

static int read_state(Unit *u);

static int on_reread(sd_event_source *s, uint64_t usec, void *userdata) {
        Unit *u = userdata;
        int r;

        u->reread = sd_event_source_disable_unref(u->reread);
        r = read_state(u);
        if (r < 0)
                log_error_errno(r, "Cannot read the state of unit '%s': %m", u->name);
        return 0;
}

/* A machine that has just booted may be too busy to answer in time, and nothing is done for a unit of which nothing is known. */
static void read_later(Unit *u) {
        int r;

        if (u->reread)
                return;
        r = sd_event_add_time_relative(u->manager->event, &u->reread, CLOCK_MONOTONIC, REREAD_USEC,
                        USEC_PER_SEC, on_reread, u);
        if (r < 0)
                log_error_errno(r, "Cannot ask for unit '%s' again: %m", u->name);
}

static int on_unit_read(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Unit *u = userdata;

        u->get_unit = sd_bus_slot_unref(u->get_unit);
        if (on_read(u, m) < 0) {
                read_later(u);
                return 0;
        }
        u->state.known = true;
        u->changed(u, u->userdata);
        return 0;
}

/* The generic part only: what is known of the process (its exit, above all) is not to be had again once the unit is gone. */
static int read_unit_state(Unit *u) {
        u->get_unit = sd_bus_slot_unref(u->get_unit);
        return sd_bus_call_method_async(u->manager->bus, &u->get_unit, SYSTEMD_NAME, u->path,
                        "org.freedesktop.DBus.Properties", "GetAll", on_unit_read, u, "s",
                        "org.freedesktop.systemd1.Unit");
}

static int read_state(Unit *u) {
        int r;

        u->get_service = sd_bus_slot_unref(u->get_service);
        r = sd_bus_call_method_async(u->manager->bus, &u->get_service, SYSTEMD_NAME, u->path,
                        "org.freedesktop.DBus.Properties", "GetAll", on_service_read, u, "s",
                        "org.freedesktop.systemd1.Service");
        if (r < 0)
                return r;

        return read_unit_state(u);
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *interface;
        Unit *u = userdata;
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r >= 0)
                r = read_properties(m, &u->state);
        if (r < 0)
                return log_warning_errno(r, "Cannot read a change of unit '%s', ignoring it: %m", u->name);

        /* The service's properties come first, the unit's last: then the picture is whole. */
        if (!streq(interface, "org.freedesktop.systemd1.Unit") || !u->state.known)
                return 0;

        /* A service that is going to be restarted passes through "failed" or "inactive", and this may be told separately:
         * ask what it is now. */
        if (STR_IN_SET(u->state.active_state, "inactive", "failed")) {
                r = read_unit_state(u);
                if (r < 0)
                        return log_error_errno(r, "Cannot read the state of unit '%s': %m", u->name);
                u->state.known = false;
                return 0;
        }

        u->changed(u, u->userdata);
        return 0;
}

int unit_new(UnitManager *m, const char *name, unit_changed_t changed, void *userdata, Unit **ret) {
        _cleanup_(unit_freep) Unit *u = NULL;
        int r;

        assert(m);
        assert(changed);
        assert(ret);

        u = new0(Unit, 1);
        if (!u)
                return -ENOMEM;
        u->manager = m;
        u->changed = changed;
        u->userdata = userdata;
        u->name = strdup(name);
        if (!u->name)
                return -ENOMEM;
        r = sd_bus_path_encode(UNIT_PATH_PREFIX, name, &u->path);
        if (r < 0)
                return r;

        r = sd_bus_match_signal_async(m->bus, &u->match, SYSTEMD_NAME, u->path,
                        "org.freedesktop.DBus.Properties", "PropertiesChanged", on_properties_changed, NULL,
                        u);
        if (r < 0)
                return r;
        r = read_state(u);
        if (r < 0)
                return r;

        DL_APPEND(m->units, u);
        *ret = TAKE_PTR(u);
        return 0;
}

int unit_read(Unit *u) {
        return read_state(u);
}

Unit *unit_free(Unit *u) {
        if (!u)
                return NULL;

        if (u->prev)
                DL_DELETE(u->manager->units, u);
        u->done = NULL;
        operation_end(u, NULL);
        sd_event_source_disable_unref(u->reread);
        sd_bus_slot_unref(u->match);
        sd_bus_slot_unref(u->get_unit);
        sd_bus_slot_unref(u->get_service);
        unit_state_done(&u->state);
        free(u->name);
        free(u->path);
        free(u);
        return NULL;
}

const char *unit_name(const Unit *u) {
        return u->name;
}

const UnitState *unit_state(const Unit *u) {
        return &u->state;
}

bool unit_is_busy(const Unit *u) {
        return u->done;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *path, *unit, *result;
        UnitManager *manager = userdata;
        uint32_t id;
        Unit *u;
        int r;

        r = sd_bus_message_read(m, "uoss", &id, &path, &unit, &result);
        if (r < 0)
                return log_warning_errno(r, "Cannot read the end of a job, ignoring it: %m");

        HASH_FIND_STR(manager->jobs, path, u);
        if (!u)
                return 0;

        if (STR_IN_SET(result, "done", "skipped")) {
                operation_end(u, NULL);
                return 0;
        }
        (void) kerror_set(&error, K_RUNTIME, "Cannot %s unit '%s': the job's result is '%s'.", u->verb,
                        u->name, result);
        operation_end(u, &error);
        return 0;
}

static int on_called(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const sd_bus_error *e;
        const char *job;
        Unit *u = userdata;
        int r;

        u->call = sd_bus_slot_unref(u->call);

        e = sd_bus_message_get_error(m);
        if (e) {
                if (streq(u->verb, "stop") && STR_IN_SET(e->name, "org.freedesktop.systemd1.NoSuchUnit",
                                                              "org.freedesktop.systemd1.LoadFailed")) {
                        operation_end(u, NULL);
                        return 0;
                }
                (void) kerror_set(&error, K_RUNTIME, "Cannot %s unit '%s': %s", u->verb, u->name,
                                e->message ?: e->name);
                operation_end(u, &error);
                return 0;
        }

        r = sd_bus_message_read(m, "o", &job);
        if (r >= 0) {
                u->job = strdup(job);
                if (u->job)
                        HASH_ADD_KEYPTR(hh, u->manager->jobs, u->job, strlen(u->job), u);
                if (!u->hh.tbl) {
                        u->job = mfree(u->job);
                        r = -ENOMEM;
                }
        }
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot follow the job of unit '%s': %m", u->name);
                operation_end(u, &error);
        }
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Unit *u = userdata;

        (void) kerror_set(&error, K_TIMEOUT, "Cannot %s unit '%s': systemd did not finish in time.", u->verb,
                        u->name);
        (void) read_state(u); /* a signal may have been lost */
        operation_end(u, &error);
        return 0;
}

static int operation_begin(
                Unit *u, sd_bus_message *call, const char *verb, uint64_t timeout_usec, unit_done_t done) {
        int r;

        assert(!u->done);
        assert(done);

        r = sd_event_add_time_relative(u->manager->event, &u->timer, CLOCK_MONOTONIC, timeout_usec,
                        USEC_PER_SEC, on_timeout, u);
        if (r < 0)
                return r;
        r = sd_bus_call_async(u->manager->bus, &u->call, call, on_called, u, CALL_TIMEOUT_USEC);
        if (r < 0) {
                u->timer = sd_event_source_disable_unref(u->timer);
                return r;
        }

        u->verb = verb;
        u->done = done;
        return 0;
}

static int new_call(Unit *u, const char *method, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(
                        u->manager->bus, ret, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, method);
}

int unit_start(Unit *u, const UnitSetup *setup, uint64_t timeout_usec, unit_done_t done) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = new_call(u, "StartTransientUnit", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", u->name, "replace");
        if (r >= 0)
                r = unit_setup_append(setup, m);
        if (r >= 0)
                r = output_append_units(setup, u->name, m);
        if (r < 0)
                return r;

        return operation_begin(u, m, "start", timeout_usec, done);
}

static int simple_operation(
                Unit *u, const char *method, const char *verb, uint64_t timeout_usec, unit_done_t done) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = new_call(u, method, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", u->name, "replace");
        if (r < 0)
                return r;

        return operation_begin(u, m, verb, timeout_usec, done);
}

int unit_restart(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        return simple_operation(u, "RestartUnit", "restart", timeout_usec, done);
}

int unit_stop(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        return simple_operation(u, "StopUnit", "stop", timeout_usec, done);
}

void unit_reset_failed(Unit *u) {
        int r;

        r = sd_bus_call_method_async(u->manager->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                        "ResetFailedUnit", NULL, NULL, "s", u->name);
        if (r < 0)
                log_warning_errno(r, "Unit '%s' cannot be reset: %m", u->name);
}

void unit_cancel_start(Unit *u) {
        int r;

        assert(u->done);
        r = sd_bus_call_method_async(u->manager->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                        "StopUnit", NULL, NULL, "ss", u->name, "replace");
        if (r < 0)
                log_warning_errno(r, "The start of unit '%s' goes on: %m", u->name);
}

static int on_subscribed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        UnitManager *manager = userdata;

        manager->subscribe = sd_bus_slot_unref(manager->subscribe);
        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("systemd does not tell us of changes to units: %s",
                                strna(sd_bus_message_get_error(m)->message));
        return 0;
}

static int subscribe(UnitManager *m) {
        m->subscribe = sd_bus_slot_unref(m->subscribe);
        return sd_bus_call_method_async(m->bus, &m->subscribe, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                        "Subscribe", on_subscribed, m, NULL);
}

static int on_reread_stale(sd_event_source *s, uint64_t usec, void *userdata) {
        UnitManager *m = userdata;
        unsigned n = 0;
        Unit *u;

        DL_FOREACH(m->units, u) {
                if (!u->stale)
                        continue;
                if (n++ == STALE_AT_ONCE)
                        break;
                u->stale = false;
                if (read_state(u) < 0)
                        read_later(u);
        }
        if (n <= STALE_AT_ONCE) {
                m->reread = sd_event_source_disable_unref(m->reread);
                return 0;
        }
        (void) sd_event_source_set_time_relative(s, STALE_USEC);
        (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

/* systemd left the bus and has come back: whom it told of changes it may have forgotten, and what it told meanwhile is lost. */
static int on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        UnitManager *m = userdata;
        const char *owner;
        Unit *u;
        int r;

        r = sd_bus_message_read(message, "sss", NULL, NULL, &owner);
        if (r < 0 || isempty(owner))
                return 0;
        log_debug("systemd has executed itself anew, reading the state of all units.");
        r = subscribe(m);
        if (r >= 0 && !m->reread)
                r = sd_event_add_time_relative(
                                m->event, &m->reread, CLOCK_MONOTONIC, 0, 0, on_reread_stale, m);
        if (r < 0)
                log_error_errno(r, "systemd cannot be asked for changes to units: %m");
        DL_FOREACH(m->units, u)
                u->stale = true;
        return 0;
}

int unit_manager_new(sd_event *event, sd_bus *bus, UnitManager **ret) {
        _cleanup_(unit_manager_freep) UnitManager *m = NULL;
        int r;

        m = new0(UnitManager, 1);
        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);
        m->bus = sd_bus_ref(bus);

        r = sd_bus_match_signal_async(bus, &m->job_removed, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                        "JobRemoved", on_job_removed, NULL, m);
        if (r < 0)
                return r;
        r = sd_bus_add_match_async(bus, &m->owner_changed,
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='" SYSTEMD_NAME "'",
                        on_owner_changed, NULL, m);
        if (r >= 0)
                r = subscribe(m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

UnitManager *unit_manager_free(UnitManager *m) {
        if (!m)
                return NULL;

        sd_bus_slot_unref(m->subscribe);
        sd_bus_slot_unref(m->job_removed);
        sd_bus_slot_unref(m->owner_changed);
        sd_event_source_disable_unref(m->reread);
        sd_bus_unref(m->bus);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}

sd_bus *unit_manager_bus(const UnitManager *m) {
        return m->bus;
}
