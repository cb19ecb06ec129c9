/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "container-exec.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "device-list.h"
#include "file-util.h"
#include "log-stream.h"
#include "log-tail.h"
#include "log.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit-setup.h"

#define SYSTEMD              "org.freedesktop.systemd1"
#define MANAGER_PATH         "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE    "org.freedesktop.systemd1.Manager"

/* Between SIGTERM, when its time is up, and SIGKILL. */
#define TERMINATE_USEC       (2U * USEC_PER_SEC)
/* systemd's own slowness, beyond the time that the command has. */
#define SLACK_USEC           (30U * USEC_PER_SEC)
#define SYSTEMD_STATUS_FIRST 200 /* systemd.exec(5) */
#define LINE_SHOWN_MAX       512U
#define CAPTURE_MAX          4096U /* the end of the output, which has the last line */

typedef enum CommandPhase {
        COMMAND_LOOKING, /* is there such a unit already? */
        COMMAND_STOPPING,
        COMMAND_RUNNING,
        COMMAND_OVER,
} CommandPhase;

struct ContainerCommand {
        sd_event *event;
        UnitManager *units;
        Runtime *runtime;
        char *name, *description, *bind_unit, *container_id, *bundle, *directory;
        char **argv;         /* in the container */
        char **run, **clean; /* of the runtime */
        char **log_fields;
        UnitSetup setup;
        bool fresh, capture, adopt, keep;
        uint64_t timeout_usec, since;
        container_command_done_t done;
        void *userdata;

        CommandPhase phase;
        Unit *unit;
        sd_bus_slot *start_slot;
        sd_event_source *timer, *output;
        int output_fd;
        char tail[CAPTURE_MAX];
        size_t tail_size;
        LogTail *log_tail;

        /* the end, while its last line is looked for */
        int status;
        KErrorCode code;
        char *end;
};

char *container_command_last_line(const char *text, size_t size) {
        _cleanup_free_ char *line = NULL;

        while (size > 0) {
                const char *start;
                size_t n;

                while (size > 0 && (unsigned char) text[size - 1] <= ' ')
                        size--;
                start = memrchr(text, '\n', size);
                start = start ? start + 1 : text;
                n = size - (size_t) (start - text);
                if (n == 0)
                        break;
                line = log_text_sanitize(start, MIN(n, LINE_SHOWN_MAX));
                if (!line)
                        return NULL;
                for (char *p = line; *p; p++)
                        if ((unsigned char) *p < ' ' || *p == '\x7f')
                                *p = *p == '\t' ? ' ' : '?';
                return TAKE_PTR(line);
        }

        return NULL;
}

static void close_output(ContainerCommand *c) {
        c->output = sd_event_source_disable_unref(c->output);
        c->output_fd = safe_close(c->output_fd);
}

ContainerCommand *container_command_free(ContainerCommand *c) {
        if (!c)
                return NULL;

        c->log_tail = log_tail_cancel(c->log_tail);
        c->timer = sd_event_source_disable_unref(c->timer);
        close_output(c);
        sd_bus_slot_unref(c->start_slot);
        unit_free(c->unit);
        unit_setup_done(&c->setup);
        strv_free(c->argv);
        strv_free(c->run);
        strv_free(c->clean);
        strv_free(c->log_fields);
        free(c->name);
        free(c->description);
        free(c->bind_unit);
        free(c->container_id);
        free(c->bundle);
        free(c->directory);
        free(c->end);
        free(c);
        return NULL;
}

void container_command_discard(UnitManager *units, const char *unit, const char *directory) {
        sd_bus *bus = unit_manager_bus(units);
        int r;

        /* What has failed is not stopped but reset. */
        r = sd_bus_call_method_async(bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE, "StopUnit", NULL,
                        NULL, "ss", unit, "replace");
        if (r >= 0)
                r = sd_bus_call_method_async(bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                                "ResetFailedUnit", NULL, NULL, "s", unit);
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "Unit '%s' is left to end by itself: %m", unit);
        if (directory && (r = rm_rf_at(AT_FDCWD, directory)) < 0)
                log_warning_errno(r, "Cannot remove '%s': %m", directory);
}

ContainerCommand *container_command_cancel(ContainerCommand *c) {
        if (!c)
                return NULL;

        container_command_discard(c->units, c->name, c->directory);
        return container_command_free(c);
}

/* The outcome is known, and told. */
static void tell(ContainerCommand *c, const char *line) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        c->phase = COMMAND_OVER;
        if (c->end)
                (void) kerror_set(&error, c->code, "%s%s%s", c->end, isempty(line) ? "" : ": ",
                                strempty(line));
        if (c->keep) {
                _cleanup_free_ char *process = strjoin(c->directory, "/process.json");

                if (process) /* which has the environment */
                        (void) unlink(process);
        } else
                container_command_discard(c->units, c->name, c->directory);
        c->unit = unit_free(c->unit);
        c->done(c, c->status, c->end ? &error : NULL, c->userdata);
        container_command_free(c);
}

static void on_log_tail(LogTail *t, const char *text, void *userdata) {
        ContainerCommand *c = userdata;
        _cleanup_free_ char *line = NULL;

        c->log_tail = NULL;
        if (text)
                line = container_command_last_line(text, strlen(text));
        tell(c, line);
}

static void take_output(ContainerCommand *c, const char *text, size_t size) {
        size_t rest = sizeof(c->tail) - c->tail_size;

        if (size > rest) {
                size_t keep = sizeof(c->tail) / 2;

                if (c->tail_size > keep) {
                        memmove(c->tail, c->tail + c->tail_size - keep, keep);
                        c->tail_size = keep;
                }
                rest = sizeof(c->tail) - c->tail_size;
                if (size > rest) {
                        text += size - rest;
                        size = rest;
                }
        }
        memcpy(c->tail + c->tail_size, text, size);
        c->tail_size += size;
}

/* One piece for each turn of the loop: a command that never stops writing stops nobody else. */
static int read_output(ContainerCommand *c) {
        char buffer[CAPTURE_MAX / 2];
        ssize_t n;

        n = read(c->output_fd, buffer, sizeof(buffer));
        if (n > 0)
                take_output(c, buffer, (size_t) n);
        return n > 0 ? 1 : n < 0 && errno == EAGAIN ? -EAGAIN : 0;
}

static int on_output(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ContainerCommand *c = userdata;

        if (read_output(c) == 0)
                close_output(c);
        return 0;
}

/* consumes end; NULL: it went well, and code does not matter */
static void finish(ContainerCommand *c, int status, KErrorCode code, char *end, bool with_last_line) {
        _cleanup_free_ char *line = NULL;
        int r;

        c->status = status;
        c->code = code;
        c->end = end;
        c->phase = COMMAND_OVER;
        c->timer = sd_event_source_disable_unref(c->timer);

        if (c->output_fd >= 0) {
                /* What was written before the end is there; a pipe has 64 KiB, others may write on. */
                for (unsigned n = 0; n < 64 && read_output(c) > 0; n++)
                        ;
                close_output(c);
        }
        if (end && with_last_line && !c->capture) {
                r = log_tail_start_unit(
                                c->event, c->name, c->since, c->directory, on_log_tail, c, &c->log_tail);
                if (r >= 0)
                        return;
                log_debug_errno(r, "Cannot look for the last line of '%s': %m", c->name);
        }
        if (end && with_last_line)
                line = container_command_last_line(c->tail, c->tail_size);
        tell(c, line);
}

static char *describe_timeout(const ContainerCommand *c) {
        return strprintf("did not end within %" PRIu64 " s",
                        (c->timeout_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
}

/* Was the runtime? systemd has statuses of its own for what it could not set up. */
static bool was_executed(const UnitState *s) {
        return s->exec_main_code != 0 &&
               (s->exec_main_code != CLD_EXITED || s->exec_main_status < SYSTEMD_STATUS_FIRST);
}

static void on_end(ContainerCommand *c, const UnitState *s) {
        _cleanup_free_ char *pid = strjoin(c->directory, "/pid"), *reason = NULL, *end = NULL;
        int status = s->exec_main_code == CLD_EXITED ? s->exec_main_status : 128 + s->exec_main_status;
        bool begun = pid && access(pid, F_OK) >= 0;

        if (streq_ptr(s->result, "timeout")) {
                finish(c, status, K_RUNTIME, describe_timeout(c), true);
                return;
        }
        if (streq_ptr(s->result, "oom-kill")) {
                finish(c, 128 + SIGKILL, K_RUNTIME, strdup("used more memory than the service may"), true);
                return;
        }
        if (s->exec_main_code == CLD_EXITED && status == 0) {
                finish(c, 0, K_OK, NULL, false);
                return;
        }
        /* The runtime itself has failed: what it says is in its log. When it did not come so far it is not the container that
         * lacks something. */
        if (!begun || s->exec_main_code == 0) {
                reason = c->runtime->ops->failure(c->runtime, c->directory);
                end = strprintf("cannot be run: %s", reason ?: "the container runtime gave no reason");
                finish(c, -1, was_executed(s) ? K_RUNTIME : K_UNAVAILABLE,
                                TAKE_PTR(end) ?: strdup("cannot be run"), false);
                return;
        }
        if (s->exec_main_code == CLD_EXITED)
                end = strprintf("exited with status %i", status);
        else
                end = strprintf("was killed by SIG%s", strna(sigabbrev_np(s->exec_main_status)));
        finish(c, status, K_RUNTIME, TAKE_PTR(end) ?: strdup("failed"), true);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        ContainerCommand *c = userdata;

        /* systemd should have ended it long ago: a signal of its was lost. */
        finish(c, 128 + SIGKILL, K_UNAVAILABLE, describe_timeout(c), true);
        return 0;
}

static int on_start_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        ContainerCommand *c = userdata;
        char *end;

        c->start_slot = sd_bus_slot_unref(c->start_slot);
        if (!error)
                return 0;
        end = strprintf("cannot be run: %s", error->message ?: error->name);
        finish(c, -1, K_UNAVAILABLE, end ?: strdup("cannot be run"), false);
        return 0;
}

static int append_output(const ContainerCommand *c, sd_bus_message *m, int fd) {
        int r;

        r = unit_append_string(m, "StandardInput", "null");
        if (r >= 0 && c->capture) {
                r = sd_bus_message_append(m, "(sv)(sv)", "StandardOutputFileDescriptor", "h", fd,
                                "StandardErrorFileDescriptor", "h", fd);
                /* Some run every few seconds: whoever captures says what there is to say. */
                if (r >= 0)
                        r = sd_bus_message_append(m, "(sv)", "LogLevelMax", "i", (int32_t) LOG_ERR);
                return r;
        }
        if (r >= 0)
                r = unit_append_string(m, "StandardOutput", "journal");
        if (r >= 0)
                r = unit_append_string(m, "StandardError", "journal");
        if (r >= 0)
                r = unit_append_string(m, "SyslogIdentifier", c->setup.identifier);
        if (r >= 0)
                r = unit_append_bool(m, "SyslogLevelPrefix", false);
        if (r >= 0)
                r = unit_append_no_log_limit(m);
        return r < 0 ? r : unit_append_log_fields(m, c->log_fields);
}

static int append_life(const ContainerCommand *c, sd_bus_message *m) {
        int r;

        r = unit_append_string(m, "Type", "exec");
        /* Whatever its status: the unit stays, and has the status. Time and memory that were exceeded show as a failure. */
        if (r >= 0)
                r = unit_append_command(m, "ExecStart", c->run, true);
        if (r >= 0 && c->clean)
                r = unit_append_command(m, "ExecStopPost", c->clean, true);
        if (r >= 0)
                r = unit_append_bool(m, "RemainAfterExit", true);
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", "inactive");
        if (r >= 0)
                r = unit_append_u64(m, "RuntimeMaxUSec", c->timeout_usec);
        if (r >= 0)
                r = unit_append_u64(m, "TimeoutStopUSec", TERMINATE_USEC);
        if (r >= 0 && c->bind_unit)
                r = unit_append_names(m, "BindsTo", c->bind_unit);
        if (r >= 0 && c->bind_unit)
                r = unit_append_names(m, "After", c->bind_unit);
        return r;
}

static int request(ContainerCommand *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        sd_bus *bus = unit_manager_bus(c->units);
        _cleanup_close_ int theirs = -EBADF;
        int r;

        if (c->capture) {
                int ends[2];

                if (pipe2(ends, O_CLOEXEC) < 0)
                        return -errno;
                c->output_fd = ends[0];
                theirs = ends[1];
                r = fd_set_nonblock(c->output_fd, true);
                if (r >= 0)
                        r = sd_event_add_io(c->event, &c->output, c->output_fd, EPOLLIN, on_output, c);
                if (r < 0)
                        return r;
        }

        r = sd_bus_message_new_method_call(
                        bus, &m, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE, "StartTransientUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", c->name, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", c->description);
        if (r >= 0)
                r = append_life(c, m);
        if (r >= 0)
                r = append_output(c, m, theirs);
        if (r >= 0)
                r = unit_setup_append_resources(&c->setup, m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r >= 0)
                r = sd_bus_call_async(bus, &c->start_slot, m, on_start_reply, c, 0);
        return r;
}

static int make_command(ContainerCommand *c, KError *reterr) {
        const RuntimeOps *ops = c->runtime->ops;
        RuntimeCommand command = {
                .container_id = c->container_id,
                .bundle = c->bundle,
                .directory = c->directory,
                .argv = c->argv,
        };
        int r;

        /* What an earlier run of this name has left would speak for this one. */
        r = rm_rf_at(AT_FDCWD, c->directory);
        if (r >= 0)
                r = mkdir_p(c->directory, 0700);
        if (r < 0)
                return r;
        return c->fresh ? ops->run(c->runtime, &command, &c->run, &c->clean)
                        : ops->exec(c->runtime, &command, &c->run, reterr);
}

static void start_now(ContainerCommand *c) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        char *end;
        int r;

        c->since = now_realtime();
        r = make_command(c, &error);
        if (r >= 0)
                r = request(c);
        if (r >= 0) {
                c->phase = COMMAND_RUNNING;
                return;
        }
        (void) kerror_set_errno(&error, r, "%m");
        end = strprintf("cannot be run: %s", kerror_message(&error));
        finish(c, -1, K_UNAVAILABLE, end ?: strdup("cannot be run"), false);
}

static void on_unit(Unit *u, void *userdata);

static void on_stopped(Unit *u, const KError *error, void *userdata) {
        ContainerCommand *c = userdata;
        int r;

        /* It may be there as a failed one still. And what is known of it is not to be taken for what comes. */
        container_command_discard(c->units, c->name, NULL);
        c->unit = unit_free(c->unit);
        c->phase = COMMAND_LOOKING;
        c->adopt = false;
        r = unit_new(c->units, c->name, on_unit, c, &c->unit);
        if (r < 0) {
                errno = -r;
                finish(c, -1, K_UNAVAILABLE, strprintf("cannot be run: %m"), false);
        }
}

/* What its run began with, if it was begun by a daemon before us. */
static uint64_t began_at(const ContainerCommand *c) {
        struct stat st;

        return stat(c->directory, &st) < 0 ? 0 : (uint64_t) st.st_ctim.tv_sec * USEC_PER_SEC;
}

/* Is it on its way out? A stop that was asked for just now shows as a job only. */
static bool is_leaving(const UnitState *s) {
        return streq_ptr(s->active_state, "deactivating") ||
               (s->job != 0 && STR_IN_SET(s->active_state, "active", "failed"));
}

static void on_unit(Unit *u, void *userdata) {
        const UnitState *s = unit_state(u);
        ContainerCommand *c = userdata;
        bool there = streq_ptr(s->load_state, "loaded") && !streq_ptr(s->active_state, "inactive");

        switch (c->phase) {
        case COMMAND_LOOKING:
                if (!there) {
                        start_now(c);
                        return;
                }
                if (!c->adopt || is_leaving(s)) {
                        c->phase = COMMAND_STOPPING;
                        if (unit_stop(c->unit, SLACK_USEC, on_stopped) < 0)
                                finish(c, -1, K_UNAVAILABLE,
                                                strdup("cannot be run: systemd cannot be asked"), false);
                        return;
                }
                c->since = began_at(c);
                c->phase = COMMAND_RUNNING;
                break;
        case COMMAND_RUNNING:
                break;
        case COMMAND_STOPPING:
        case COMMAND_OVER:
        default:
                return;
        }

        if (streq_ptr(s->active_state, "failed") ||
                        (streq_ptr(s->active_state, "active") && streq_ptr(s->sub_state, "exited")))
                on_end(c, s);
        else if (!there && !c->start_slot && s->exec_main_code != 0)
                finish(c, -1, K_UNAVAILABLE, strdup("was stopped"), false);
}

static int copy_options(ContainerCommand *c, const ContainerCommandOptions *o, KError *reterr) {
        _cleanup_(device_list_done) DeviceList devices = {};
        int r;

        c->name = strdup(o->unit);
        c->description = strdup(o->description);
        c->directory = strdup(o->directory);
        c->bundle = strdup(o->bundle);
        c->container_id = strdup(o->container_id);
        c->bind_unit = o->bind_unit ? strdup(o->bind_unit) : NULL;
        c->argv = o->fresh ? NULL : strv_copy(o->argv);
        if (!c->name || !c->description || !c->directory || !c->bundle || !c->container_id ||
                        (o->bind_unit && !c->bind_unit) || (!o->fresh && !c->argv))
                return -ENOMEM;

        r = unit_setup_from_want(o->want, o->image, NULL, &c->setup);
        if (r >= 0)
                r = device_list_resolve(o->want->spec, &devices, reterr);
        if (r < 0)
                return r;
        c->setup.devices = TAKE_PTR(devices.allow);

        c->log_fields = strv_copy(c->setup.log_fields);
        if (!c->log_fields)
                return -ENOMEM;
        /* So that `journalctl -u` of the instance's unit shows it. */
        r = strv_extendf(&c->log_fields, "OBJECT_SYSTEMD_UNIT=%s", o->want->unit);
        if (r < 0)
                return r;
        STRV_FOREACH(f, o->log_fields) {
                r = strv_extend(&c->log_fields, *f);
                if (r < 0)
                        return r;
        }
        return 0;
}

int container_command_start(const ContainerCommandOptions *o, container_command_done_t done, void *userdata,
                ContainerCommand **ret, KError *reterr) {
        _cleanup_(container_command_freep) ContainerCommand *c = NULL;
        int r;

        if (o->fresh ? !o->runtime->ops->run : !o->runtime->ops->exec)
                return kerror_set(reterr, K_NOT_SUPPORTED, "Runtime '%s' runs no commands in containers.",
                                o->runtime->ops->kind);
        c = new0(ContainerCommand, 1);
        if (!c)
                return -ENOMEM;
        *c = (ContainerCommand){
                .event = o->event,
                .units = o->units,
                .runtime = o->runtime,
                .setup = UNIT_SETUP_NULL,
                .fresh = o->fresh,
                .capture = o->capture,
                .adopt = o->adopt,
                .keep = o->keep,
                .timeout_usec = o->timeout_usec,
                .done = done,
                .userdata = userdata,
                .output_fd = -EBADF,
        };

        r = copy_options(c, o, reterr);
        if (r >= 0)
                r = unit_new(o->units, o->unit, on_unit, c, &c->unit);
        if (r >= 0)
                r = sd_event_add_time_relative(o->event, &c->timer, CLOCK_MONOTONIC,
                                o->timeout_usec + TERMINATE_USEC + SLACK_USEC, USEC_PER_SEC, on_timer, c);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The command cannot be run: %m");

        *ret = TAKE_PTR(c);
        return 0;
}
