/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-join.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confirm.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "node-local.h"
#include "parse-util.h"
#include "string-util.h"
#include "systemd.h"

#define CHANNEL_PROGRAM   LIBEXECDIR "/kontena-channel"
#define JOIN_CONF         NODE_STATE_DIRECTORY "/join.conf"
#define JOIN_TIMEOUT_USEC (60 * USEC_PER_SEC)

extern char **environ;

int require_local_root(Ctl *c, const char *what, KError *reterr) {
        if (c->host || c->machine || c->context_option)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "%s works on the machine itself; there: kontenactl ...", what);
        if (geteuid() != 0)
                return kerror_set(reterr, K_ACCESS_DENIED, "%s changes this machine: run it as root.", what);
        ctl_use_local(c);
        return 0;
}

/* Runs the sandboxed program that speaks with the network for the node. The token goes in by standard input, so that no list of
 * processes shows it; what it says on standard error is the reason of a failure. */
static int run_join(const char *url, const char *token, KError *reterr) {
        const char *const argv[] = { CHANNEL_PROGRAM, "--join", NODE_STATE_DIRECTORY, url, NULL };
        _cleanup_close_ int in_read = -EBADF, in_write = -EBADF, err_read = -EBADF, err_write = -EBADF;
        char text[1024] = "";
        posix_spawn_file_actions_t actions;
        int r, status, in[2], err[2];
        ssize_t n;
        pid_t pid;

        if (pipe2(in, O_CLOEXEC) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a pipe: %m");
        in_read = in[0];
        in_write = in[1];
        if (pipe2(err, O_CLOEXEC) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a pipe: %m");
        err_read = err[0];
        err_write = err[1];

        r = posix_spawn_file_actions_init(&actions);
        if (r == 0) {
                r = posix_spawn_file_actions_adddup2(&actions, in_read, STDIN_FILENO) ?:
                                posix_spawn_file_actions_adddup2(&actions, err_write, STDERR_FILENO) ?:
                                posix_spawn(&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
                (void) posix_spawn_file_actions_destroy(&actions);
        }
        if (r != 0)
                return kerror_set_errno(reterr, -r, "Cannot run '%s': %m", argv[0]);
        in_read = safe_close(in_read);
        err_write = safe_close(err_write);

        /* A token is smaller than a pipe; a program that ended early must not end us. */
        (void) signal(SIGPIPE, SIG_IGN);
        (void) loop_write(in_write, token, strlen(token));
        in_write = safe_close(in_write);
        n = loop_read(err_read, text, sizeof(text) - 1);
        text[MAX(n, (ssize_t) 0)] = '\0';
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return kerror_set_errno(reterr, -errno, "Cannot wait for '%s': %m", argv[0]);

        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        text[strcspn(text, "\n")] = '\0';
        return kerror_set(reterr, K_NETWORK, "The join failed: %s",
                        isempty(text) ? "no reason was given." : text);
}

static int check_earlier_join(Ctl *c, const char *url, bool *ret_same, KError *reterr) {
        _cleanup_join_config_ JoinConfig old = {};
        int r;

        *ret_same = false;
        r = join_config_load(JOIN_CONF, &old, reterr);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;

        /* With a secret the master has not acknowledged it: that join may be tried again, in another way too. */
        if (old.secret)
                return 0;
        if (!streq(old.url, url))
                return kerror_set(reterr, K_CONFLICT,
                                "This machine is a node of the master at %s; first: kontenactl node leave",
                                old.url);
        *ret_same = true;
        return 0;
}

int node_join(Ctl *c, const char *url, const char *token, uint64_t timeout_usec, KError *reterr) {
        _cleanup_join_token_ JoinToken parsed = {};
        _cleanup_free_ char *whole = NULL, *address = NULL;
        bool same;
        int r;

        r = join_url_normalize(url, &whole, reterr);
        if (r < 0)
                return r;
        r = join_token_parse(token, &parsed, reterr);
        if (r < 0)
                return r;

        r = check_earlier_join(c, whole, &same, reterr);
        if (r < 0)
                return r;
        address = master_address(whole);
        if (!address)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        if (same)
                ctl_say(c,
                                "This machine has joined the master at %s before, the token is not used; to "
                                "join another grid: kontenactl node leave",
                                address);
        else {
                ctl_say(c, "Fetching the master's certificate from %s and making this node's key.", address);
                r = mkdir_p(NODE_STATE_DIRECTORY, 0700);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot make the directory '%s': %m",
                                        NODE_STATE_DIRECTORY);
                r = run_join(whole, token, reterr);
                if (r < 0)
                        return r;
        }

        ctl_say(c, "Starting %s.", NODE_UNIT);
        r = unit_enable(c, NODE_UNIT, reterr);
        if (r < 0)
                return r;
        r = unit_run(c, same ? "StartUnit" : "RestartUnit", NODE_UNIT, reterr);
        if (r < 0)
                return r;

        ctl_say(c, "Waiting for the master to take this node.");
        r = node_local_wait_ready(c, timeout_usec, reterr);
        if (r == -ETIMEDOUT) {
                kerror_done(reterr);
                return kerror_set(reterr, K_TIMEOUT,
                                "The master has not taken this node yet; it keeps trying. See: systemctl "
                                "status %s",
                                NODE_UNIT);
        }
        return r;
}

/* "-" is standard input, so that the secret need not be in a command line that others can see. */
static int read_token(const char *argument, char **ret, KError *reterr) {
        char line[JOIN_TOKEN_LENGTH + 64];
        char *s;

        if (argument && !streq(argument, "-"))
                s = strdup(argument);
        else {
                if (isatty(STDIN_FILENO) > 0)
                        fprintf(stderr, "Join token: ");
                if (!fgets(line, sizeof(line), stdin))
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "There is no token on standard input.");
                line[strcspn(line, "\r\n")] = '\0';
                s = strdup(line);
                erase_memory(line, sizeof(line));
        }
        if (!s)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        *ret = s;
        return 0;
}

int command_node_join(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *node = NULL;
        _cleanup_erase_ char *token = NULL;
        uint64_t timeout = JOIN_TIMEOUT_USEC;
        const char *v = arguments_get(a, "timeout");
        int r;

        if (v && parse_sec(v, &timeout) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--timeout=%s: a time is wanted, say 30s or 5min.", v);
        r = require_local_root(c, "Joining", reterr);
        if (r < 0)
                return r;
        r = read_token(arguments_arg(a, 1), &token, reterr);
        if (r < 0)
                return r;

        r = node_join(c, arguments_arg(a, 0), token, timeout, reterr);
        if (r >= 0)
                r = node_local_properties(c, &node, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "This machine is node '%s' of grid '%s' now.", row_string(node, "NodeName"),
                        row_string(node, "Grid"));
        return 0;
}

/* The instances' units, as the node daemon knows them; without it, as systemd does. */
static int instance_units(Ctl *c, char ***ret, KError *reterr) {
        _cleanup_json_ json_object *instances = NULL;
        _cleanup_strv_free_ char **units = NULL, **all = NULL;
        int r;

        r = node_local_instances(c, &instances, NULL);
        if (r >= 0) {
                FOREACH_JSON_ARRAY(i, instances)
                        if (!isempty(row_string(i, "unit")) &&
                                        strv_extend(&units, row_string(i, "unit")) < 0)
                                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                *ret = TAKE_PTR(units);
                return 0;
        }

        /* "kontena-GRID-STACK.SERVICE-N.service": our daemons and helpers have no dot before the suffix. */
        r = unit_list(c, "kontena-*-*.*-*.service", &all, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(all);
        return 0;
}

static int forget_join(KError *reterr) {
        static const char *const files[] = { "join.conf", "desired.json", "ca.pem", "key.pem",
                "certificate.pem" };

        FOREACH_ARRAY(f, files, ELEMENTSOF(files)) {
                _cleanup_free_ char *path = strjoin(NODE_STATE_DIRECTORY, "/", *f);

                if (!path)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                if (unlink(path) < 0 && errno != ENOENT)
                        return kerror_set_errno(reterr, -errno, "Cannot remove '%s': %m", path);
        }

        return 0;
}

/* Without the daemon: what can be done by hand. */
static int leave_without_daemon(Ctl *c, char *const *units, KError *reterr) {
        int r;

        STRV_FOREACH(u, units) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                ctl_say(c, "Stopping %s.", *u);
                r = unit_run(c, "StopUnit", *u, &error);
                if (r < 0)
                        ctl_warn("%s", kerror_message(&error));
        }

        ctl_warn("Roots of containers, network namespaces and the grid's devices stay until this machine is "
                 "started again.");
        return forget_join(reterr);
}

int command_node_leave(Ctl *c, const Arguments *a, KError *reterr) {
        bool force = arguments_has(a, "force"), volumes = arguments_has(a, "volumes");
        _cleanup_kerror_ KError start_error = KERROR_NULL;
        _cleanup_strv_free_ char **units = NULL;
        int r, started;

        r = require_local_root(c, "Leaving", reterr);
        if (r < 0)
                return r;
        r = instance_units(c, &units, reterr);
        if (r < 0)
                return r;
        if (strv_length(units) > 0 && !force)
                return kerror_set(reterr, K_IN_USE,
                                "%zu instance%s run%s on this machine; drain the node first, or say --force "
                                "to end them.",
                                strv_length(units), strv_length(units) == 1 ? "" : "s",
                                strv_length(units) == 1 ? "s" : "");

        /* It knows what belongs to the grid. */
        started = unit_run(c, "StartUnit", NODE_UNIT, &start_error);
        if (started >= 0) {
                ctl_say(c, "Ending %zu instance%s, removing the grid's network%s.", strv_length(units),
                                strv_length(units) == 1 ? "" : "s", volumes ? " and named volumes" : "");
                r = node_local_leave(c, force, volumes, reterr);
                if (r < 0)
                        return r;
        } else
                ctl_warn("%s", kerror_message(&start_error));

        ctl_say(c, "Stopping %s.", NODE_UNIT);
        r = unit_disable(c, NODE_UNIT, reterr);
        if (r < 0)
                return r;
        r = unit_run(c, "StopUnit", NODE_UNIT, reterr);
        if (r < 0)
                return r;
        if (started < 0) {
                r = leave_without_daemon(c, units, reterr);
                if (r < 0)
                        return r;
        }

        ctl_say(c, "This machine has left the grid. On the master, remove its record with: kontenactl node "
                   "remove NAME");
        return 0;
}
