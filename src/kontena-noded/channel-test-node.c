/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel-internal.h"
#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "string-util.h"

/* The node daemon's end of the channel alone, for tests: channel-test-node DIRECTORY KONTENA-CHANNEL. Starts that program as a child.
 * Prints what happens; reads commands from standard input, one a line: "hello" (calls node.hello... "echo" of the test server, and then
 * says it is ready), "never" (a call with a time-out of 300 ms), "stop", "start", "quit". Directory has join.conf, ca, key, certificate. */

extern char **environ;

typedef struct Child {
        pid_t pid;
        sd_event_source *source;
        void (*ended)(const KError *error, void *userdata);
        void *userdata;
} Child;

typedef struct Node {
        sd_event *event;
        const char *program;
        Channel *channel;
        FILE *in;
} Node;

static void say(const char *format, ...) _printf_(1, 2);
static void say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        (void) vprintf(format, ap);
        va_end(ap);
        (void) putchar('\n');
        (void) fflush(stdout);
}

static int on_child(sd_event_source *source, const siginfo_t *si, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Child *c = userdata;

        c->pid = 0;
        if (si->si_code != CLD_EXITED || si->si_status != 0)
                (void) kerror_set(&error, K_RUNTIME, "kontena-channel died (%i).", si->si_status);
        c->ended(kerror_is_set(&error) ? &error : NULL, c->userdata);
        return 0;
}

static int link_start(const char *directory, void (*ended)(const KError *error, void *userdata),
                void *userdata, void *link_userdata, void **ret_handle, int *ret_fd) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        posix_spawn_file_actions_t actions;
        Node *n = link_userdata;
        int fds[2], r;
        Child *c;

        if (setenv("CREDENTIALS_DIRECTORY", directory, 1) < 0 ||
                        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        ours = fds[0];
        theirs = fds[1];
        c = new0(Child, 1);
        if (!c)
                return -ENOMEM;
        c->ended = ended;
        c->userdata = userdata;

        (void) posix_spawn_file_actions_init(&actions);
        (void) posix_spawn_file_actions_adddup2(&actions, theirs, STDIN_FILENO);
        r = posix_spawn(&c->pid, n->program, &actions, NULL, (char *[]){ (char *) n->program, NULL },
                        environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        if (r != 0) {
                free(c);
                return -r;
        }
        r = sd_event_add_child(n->event, &c->source, c->pid, WEXITED, on_child, c);
        if (r < 0)
                return r;
        say("child %i", (int) c->pid);

        *ret_handle = c;
        *ret_fd = TAKE_FD(ours);
        return 0;
}

static void link_stop(void *handle, void *link_userdata) {
        Child *c = handle;

        sd_event_source_disable_unref(c->source);
        if (c->pid > 0) {
                (void) kill(c->pid, SIGKILL);
                (void) waitpid(c->pid, NULL, 0);
        }
        free(c);
}

static void on_method(Channel *c, uint64_t id, const char *method, json_object *params, void *userdata) {
        say("method %s", method);
        if (id > 0)
                (void) channel_reply(c, id, json_object_get(params));
}

static void on_state(Channel *c, ChannelState state, void *userdata) {
        say("state %s %s", channel_state_to_string(state), strna(channel_status_text(c)));
}

static void on_hello(Channel *c, json_object *result, const KError *error, void *userdata) {
        if (error) {
                say("hello failed %s", kerror_message(error));
                return;
        }
        say("hello %s", json_text(result));
        channel_set_ready(c);
}

static void on_never(Channel *c, json_object *result, const KError *error, void *userdata) {
        say("never %s", error ? kerror_message(error) : "answered");
}

static int run_command(Node *n, const char *line) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r = 0;

        if (streq(line, "hello"))
                r = channel_call(n->channel, "echo", json_object_new_object(), 0, on_hello, NULL);
        else if (streq(line, "never"))
                r = channel_call(n->channel, "never", json_object_new_object(), 300 * USEC_PER_MSEC,
                                on_never, NULL);
        else if (streq(line, "long"))
                r = channel_call(n->channel, "never", json_object_new_object(), 60 * USEC_PER_SEC, on_never,
                                NULL);
        else if (streq(line, "stop"))
                channel_stop(n->channel);
        else if (streq(line, "start"))
                r = channel_start(n->channel, &error);
        else if (streq(line, "quit"))
                return sd_event_exit(n->event, 0);
        if (r < 0)
                say("error %s %s", strerror(-r), kerror_message(&error));
        return 0;
}

static int on_line(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        _cleanup_strv_free_ char **lines = NULL;
        Node *n = userdata;
        char text[256] = "";
        int r;

        if (read(fd, text, sizeof(text) - 1) <= 0)
                return sd_event_exit(n->event, 0);
        r = strv_split(text, "\n", &lines);
        if (r < 0)
                return r;
        STRV_FOREACH(line, lines) {
                r = run_command(n, *line);
                if (r < 0)
                        return r;
        }
        return 0;
}

int main(int argc, char *argv[]) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(channel_freep) Channel *channel = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Node n = {};
        sigset_t mask;
        int r;

        log_setup();
        if (argc != 3)
                return 2;
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);

        r = sd_event_new(&event);
        if (r >= 0)
                r = sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_line, &n);
        n.event = event;
        n.program = argv[2];
        if (r >= 0)
                r = channel_new_full(event,
                                &(ChannelLink){ .start = link_start, .stop = link_stop, .userdata = &n },
                                &(ChannelConfig){ .state_directory = argv[1], .node_name = "node" },
                                on_method, on_state, NULL, &channel);
        n.channel = channel;
        if (r >= 0)
                r = channel_start(channel, &error);
        if (r < 0) {
                (void) fprintf(stderr, "%s: %s\n", kerror_message(&error), strerror(-r));
                return EXIT_FAILURE;
        }
        say("node %s", channel_node_id(channel));
        return sd_event_loop(event);
}
