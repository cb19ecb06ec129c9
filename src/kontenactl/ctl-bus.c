/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "bus-json.h"
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define CALL_TIMEOUT_USEC (120 * USEC_PER_SEC)

bool ctl_is_remote(Ctl *c) {
        struct Context *context = NULL;

        if (c->host || c->machine)
                return true;
        /* One that cannot be read is not this machine. */
        return ctl_context(c, &context, NULL) < 0 || context;
}

/* polkit asks through an agent; on a text terminal there is none unless we bring it. */
static void start_agent(Ctl *c) {
        _cleanup_close_ int read_end = -EBADF, write_end = -EBADF;
        /* A session's own agent, with a window, comes before ours. Without a session polkit never comes to a fallback. */
        const char *fallback = sd_pid_get_session(0, NULL) >= 0 ? "--fallback" : NULL;
        int fds[2];
        char notify[32], byte;
        sigset_t none;

        if (c->agent_pid > 0 || !c->ask_password || ctl_is_remote(c) || geteuid() == 0 ||
                        isatty(STDIN_FILENO) <= 0)
                return;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return;
        read_end = fds[0];
        write_end = fds[1];

        c->agent_pid = fork();
        if (c->agent_pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
                /* Ctrl-C ends the question even where we have blocked it. */
                (void) sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                (void) snprintf(notify, sizeof(notify), "--notify-fd=%i", write_end);
                (void) fcntl(write_end, F_SETFD, 0);
                (void) execlp("pkttyagent", "pkttyagent", notify, fallback, (char *) NULL);
                _exit(127);
        }

        /* It closes the descriptor when it is ready; so does its end. */
        write_end = safe_close(write_end);
        if (c->agent_pid > 0)
                (void) loop_read(read_end, &byte, 1);
}

void ctl_done(Ctl *c) {
        pager_close();
        if (c->agent_pid > 0) {
                (void) kill(c->agent_pid, SIGTERM);
                (void) kill(c->agent_pid, SIGCONT);
                (void) waitpid(c->agent_pid, NULL, 0);
                c->agent_pid = 0;
        }
        c->bus = sd_bus_flush_close_unref(c->bus);
        c->event = sd_event_unref(c->event);
        ctl_close_remote(c);
        c->default_grid = mfree(c->default_grid);
}

int ctl_bus(Ctl *c, sd_bus **ret, KError *reterr) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        struct Context *context = NULL;
        int r;

        if (!c->bus) {
                r = ctl_context(c, &context, reterr);
                if (r < 0)
                        return r;
                if (context) {
                        r = ctl_open_remote(c, &bus, reterr);
                        if (r < 0)
                                return r;
                } else if (c->host)
                        r = sd_bus_open_system_remote(&bus, c->host);
                else if (c->machine)
                        r = sd_bus_open_system_machine(&bus, c->machine);
                else
                        r = sd_bus_open_system(&bus);
                if (r < 0 && (c->host || c->machine))
                        return kerror_set_errno(reterr, r, "Cannot reach the bus of '%s': %m",
                                        c->host ?: c->machine);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot connect to the system bus: %m");

                r = sd_bus_set_method_call_timeout(bus, c->call_timeout_usec ?: CALL_TIMEOUT_USEC);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot set up the bus: %m");
                (void) sd_bus_set_allow_interactive_authorization(bus, c->ask_password);
                c->bus = TAKE_PTR(bus);
        }

        if (ret)
                *ret = c->bus;
        return 0;
}

int ctl_loop(Ctl *c, KError *reterr) {
        sd_bus *bus;
        int r;

        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;
        if (c->event)
                return 0;

        r = sd_event_new(&c->event);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make an event loop: %m");
        r = sd_bus_attach_event(bus, c->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot attach the bus to the event loop: %m");
        return 0;
}

int ctl_reconnect(Ctl *c, KError *reterr) {
        sd_bus *bus;
        int r;

        c->bus = sd_bus_close_unref(c->bus);
        ctl_end_bridge(c);
        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(bus, c->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0) {
                c->bus = sd_bus_close_unref(c->bus);
                return kerror_set_errno(reterr, r, "Cannot attach the bus to the event loop: %m");
        }
        return 0;
}

static int nobody_there(Ctl *c, KError *reterr) {
        if (c->host || c->machine)
                return kerror_set(reterr, K_UNAVAILABLE,
                                "kontenad is not running on '%s'; there: systemctl start kontenad",
                                c->host ?: c->machine);
        return kerror_set(reterr, K_UNAVAILABLE,
                        "kontenad is not running on this machine; start it with: systemctl start kontenad, "
                        "or name the master's with: -H HOST");
}

int ctl_bus_error(Ctl *c, const sd_bus_error *e, int error, KError *reterr) {
        const char *text;
        KErrorCode code;

        if (!sd_bus_error_is_set(e)) {
                if (error == -ETIMEDOUT)
                        return kerror_set(reterr, K_TIMEOUT, "The master did not answer in time.");
                if (error == -ENOTCONN || error == -ECONNRESET || error == -EPIPE)
                        return ctl_connection_lost(c, reterr);
                return kerror_set_errno(reterr, error, "The call failed: %m");
        }

        text = isempty(e->message) ? e->name : e->message;
        code = kerror_code_from_bus_name(e->name);
        if (code >= 0)
                return kerror_set(reterr, code, "%s", text);

        if (STR_IN_SET(e->name, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                return nobody_there(c, reterr);
        if (c->context && STR_IN_SET(e->name, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED))
                return ctl_connection_lost(c, reterr);
        if (streq(e->name, SD_BUS_ERROR_NO_REPLY) || streq(e->name, SD_BUS_ERROR_DISCONNECTED))
                return kerror_set(reterr, K_UNAVAILABLE, "The master went away before it answered.");
        if (streq(e->name, SD_BUS_ERROR_TIMEOUT))
                return kerror_set(reterr, K_TIMEOUT, "The master did not answer in time.");
        if (STR_IN_SET(e->name, SD_BUS_ERROR_ACCESS_DENIED,
                            "org.freedesktop.PolicyKit1.Error.NotAuthorized"))
                return kerror_set(reterr, K_ACCESS_DENIED, "Access denied: %s", text);
        if (streq(e->name, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                return kerror_set(reterr, K_INTERACTIVE_AUTHORIZATION_REQUIRED, "%s", text);
        if (streq(e->name, SD_BUS_ERROR_INVALID_ARGS))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s", text);
        if (streq(e->name, SD_BUS_ERROR_UNKNOWN_METHOD) || streq(e->name, SD_BUS_ERROR_UNKNOWN_OBJECT) ||
                        streq(e->name, SD_BUS_ERROR_UNKNOWN_INTERFACE))
                return kerror_set(reterr, K_NO_SUCH_OPERATION, "%s", text);
        return kerror_set(reterr, K_INTERNAL, "%s", text);
}

int ctl_message(Ctl *c, const char *method, sd_bus_message **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        sd_bus *bus;
        int r;

        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_new_method_call(bus, &m, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, method);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        /* An administrator who stopped the master does not want a look at its state to start it. */
        r = sd_bus_message_set_auto_start(m, false);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");

        *ret = TAKE_PTR(m);
        return 0;
}

int ctl_send(Ctl *c, sd_bus_message *m, sd_bus_message **ret_reply, KError *reterr) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        start_agent(c);
        r = sd_bus_call(c->bus, m, 0, &error, ret_reply);
        if (r < 0)
                return ctl_bus_error(c, &error, r, reterr);
        return 0;
}

static int call_va(Ctl *c, const char *method, sd_bus_message **ret_reply, KError *reterr, const char *types,
                va_list ap) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        if (!isempty(types)) {
                r = sd_bus_message_appendv(m, types, ap);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        }

        return ctl_send(c, m, ret_reply, reterr);
}

int ctl_call(Ctl *c, const char *method, sd_bus_message **ret_reply, KError *reterr, const char *types,
                ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = call_va(c, method, ret_reply, reterr, types, ap);
        va_end(ap);
        return r;
}

int ctl_send_json(Ctl *c, sd_bus_message *m, json_object **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = ctl_send(c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = bus_json_read(reply, ret, reterr);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer to %s cannot be read: %m",
                                sd_bus_message_get_member(m));
        return 0;
}

int ctl_call_json(Ctl *c, const char *method, json_object **ret, KError *reterr, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        va_list ap;
        int r;

        va_start(ap, types);
        r = call_va(c, method, &reply, reterr, types, ap);
        va_end(ap);
        if (r < 0)
                return r;

        r = bus_json_read(reply, ret, reterr);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer to %s cannot be read: %m", method);
        return 0;
}

int ctl_get_properties(Ctl *c, const char *name, const char *path, const char *interface, json_object **ret,
                KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus;
        int r;

        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_new_method_call(bus, &m, name, path, "org.freedesktop.DBus.Properties", "GetAll");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = sd_bus_message_set_auto_start(m, false);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = sd_bus_message_append(m, "s", interface);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = sd_bus_call(bus, m, 0, &error, &reply);
        if (r < 0)
                return ctl_bus_error(c, &error, r, reterr);

        r = bus_json_read(reply, ret, reterr);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The properties of '%s' cannot be read: %m", path);
        return 0;
}
