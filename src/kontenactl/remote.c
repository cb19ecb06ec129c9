/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "remote.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define BRIDGE_PROGRAM  LIBEXECDIR "/kontena-bridge"
#define OUTPUT_SIZE_MAX (2U * 1024U * 1024U)
#define LINE_SIZE_MAX   65536U
#define BUS_FD          3

extern char **environ;

typedef struct Bridge {
        pid_t pid;
        int in, out;
} Bridge;

static void bridge_done(Bridge *b) {
        b->in = safe_close(b->in);
        b->out = safe_close(b->out);
        if (b->pid > 0) {
                (void) kill(b->pid, SIGTERM);
                (void) waitpid(b->pid, NULL, 0);
        }
        b->pid = 0;
}

/* For tests of ours, which have it elsewhere. Who can set our environment can also run it. */
static const char *program(void) {
        return empty_to_null(secure_getenv("KONTENA_BRIDGE")) ?: BRIDGE_PROGRAM;
}

/* bus_fd: its descriptor 3; -EBADF: none. */
static int start(const char *mode, int bus_fd, Bridge *ret, KError *reterr) {
        const char *const argv[] = { program(), mode, NULL };
        _cleanup_close_ int in_read = -EBADF, in_write = -EBADF, out_read = -EBADF, out_write = -EBADF,
                            bus = -EBADF;
        posix_spawn_file_actions_t actions;
        int r, in[2], out[2];
        pid_t pid;

        if (pipe2(in, O_CLOEXEC) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a pipe: %m");
        in_read = in[0];
        in_write = in[1];
        if (pipe2(out, O_CLOEXEC) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a pipe: %m");
        out_read = out[0];
        out_write = out[1];
        /* Where none of the numbers below is: dup2() of one onto itself would leave it close-on-exec. */
        if (bus_fd >= 0) {
                bus = fcntl(bus_fd, F_DUPFD_CLOEXEC, 64);
                if (bus < 0)
                        return kerror_set_errno(reterr, -errno, "Cannot copy a descriptor: %m");
        }

        r = posix_spawn_file_actions_init(&actions);
        if (r == 0) {
                r = posix_spawn_file_actions_adddup2(&actions, in_read, STDIN_FILENO)
                                    ?: posix_spawn_file_actions_adddup2(&actions, out_write, STDOUT_FILENO);
                if (r == 0 && bus >= 0)
                        r = posix_spawn_file_actions_adddup2(&actions, bus, BUS_FD);
                if (r == 0)
                        r = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
                (void) posix_spawn_file_actions_destroy(&actions);
        }
        if (r != 0)
                return kerror_set_errno(reterr, -r, "Cannot run '%s': %m", argv[0]);

        *ret = (Bridge){ pid, TAKE_FD(in_write), TAKE_FD(out_read) };
        return 0;
}

static int give(Bridge *b, json_object *input, KError *reterr) {
        const char *text = json_text(input);
        int r;

        /* One that ended early must not end us. */
        (void) signal(SIGPIPE, SIG_IGN);
        r = text ? loop_write(b->in, text, strlen(text)) : -ENOMEM;
        b->in = safe_close(b->in);
        if (r < 0 && r != -EPIPE)
                return kerror_set_errno(reterr, r, "Cannot write to '%s': %m", program());
        return 0;
}

static int take_error(json_object *o, KError *reterr) {
        const char *name = NULL, *message = "";
        KErrorCode code;

        if (json_find_string(o, "error", &name, NULL) <= 0)
                return 0;
        (void) json_find_string(o, "message", &message, NULL);
        code = kerror_code_from_bus_name(name);
        return kerror_set(reterr, code > K_OK ? code : K_NETWORK, "%s", message);
}

/* All that it says, of a request. */
static int hear(Bridge *b, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_erase_ char *text = malloc(OUTPUT_SIZE_MAX + 1);
        ssize_t n;
        int r;

        if (!text)
                return -ENOMEM;
        n = loop_read(b->out, text, OUTPUT_SIZE_MAX);
        text[MAX(n, (ssize_t) 0)] = '\0';
        if (n <= 0)
                return kerror_set(reterr, K_NETWORK, "'%s' ended without a word.", program());
        r = json_parse(text, (size_t) n, OUTPUT_SIZE_MAX, &o, reterr);
        if (r >= 0)
                r = take_error(o, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* One line, not waiting for more than there is of the next. */
static int hear_line(int fd, json_object **ret, KError *reterr) {
        _cleanup_free_ char *text = malloc(LINE_SIZE_MAX);
        size_t n = 0;

        if (!text)
                return -ENOMEM;
        while (n < LINE_SIZE_MAX) {
                ssize_t k = read(fd, text + n, 1);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k <= 0)
                        return kerror_set(reterr, K_NETWORK, "The connection to the master was lost.");
                if (text[n++] == '\n')
                        return json_parse(text, n - 1, LINE_SIZE_MAX, ret, reterr);
        }
        return kerror_set(reterr, K_INTERNAL, "'%s' says too much.", program());
}

static int input_new(const Context *c, const char *url, const char *token, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        r = o ? json_add_string(o, "url", url) : -ENOMEM;
        if (r >= 0 && c && c->ca)
                r = json_add_string(o, "ca", c->ca);
        if (r >= 0 && token)
                r = json_add_string(o, "token", token);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int remote_open(const Context *c, pid_t *ret_pid, int *ret_fd, int *ret_out, KError *reterr) {
        _cleanup_json_ json_object *input = NULL, *answer = NULL;
        _cleanup_(bridge_done) Bridge b = { .in = -EBADF, .out = -EBADF };
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        int fds[2], r;

        r = input_new(c, c->url, c->token, &input);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a socket: %m");
        ours = fds[0];
        theirs = fds[1];
        r = start("--tunnel", theirs, &b, reterr);
        if (r < 0)
                return r;
        theirs = safe_close(theirs);
        r = give(&b, input, reterr);
        if (r >= 0)
                r = hear_line(b.out, &answer, reterr);
        if (r >= 0)
                r = take_error(answer, reterr);
        if (r >= 0)
                r = fd_set_nonblock(ours, true);
        if (r < 0)
                return r;

        *ret_fd = TAKE_FD(ours);
        *ret_out = TAKE_FD(b.out);
        *ret_pid = b.pid;
        b.pid = 0;
        return 0;
}

int remote_reason(int out, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;

        if (out < 0 || hear_line(out, &o, NULL) < 0)
                return 0;
        return take_error(o, reterr);
}

static int request(const char *mode, json_object *input, json_object **ret, KError *reterr) {
        _cleanup_(bridge_done) Bridge b = { .in = -EBADF, .out = -EBADF };
        int r;

        r = start(mode, -EBADF, &b, reterr);
        if (r >= 0)
                r = give(&b, input, reterr);
        return r < 0 ? r : hear(&b, ret, reterr);
}

int remote_request(const Context *c, const char *method, const char *path, const char *token,
                json_object *body, int *ret_status, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *input = NULL, *answer = NULL;
        _cleanup_free_ char *url = strjoin(c->url, path);
        uint64_t status;
        int r;

        r = url ? input_new(c, url, token, &input) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(input, "method", method);
        if (r >= 0 && body)
                r = json_add_string(input, "body", json_text(body));
        if (r >= 0)
                r = request("--request", input, &answer, reterr);
        if (r >= 0)
                r = json_get_u64(answer, "status", &status, reterr);
        if (r < 0)
                return r;

        *ret_status = (int) status;
        if (ret)
                *ret = json_object_get(json_object_object_get(answer, "body"));
        return 0;
}

int remote_show_ca(const char *url, char **ret_pem, char **ret_fingerprint, KError *reterr) {
        _cleanup_json_ json_object *input = NULL, *answer = NULL;
        const char *pem, *fingerprint;
        int r;

        r = input_new(NULL, url, NULL, &input);
        if (r >= 0)
                r = request("--show-ca", input, &answer, reterr);
        if (r >= 0)
                r = json_get_string(answer, "ca", &pem, reterr);
        if (r >= 0)
                r = json_get_string(answer, "fingerprint", &fingerprint, reterr);
        if (r < 0)
                return r;

        *ret_pem = strdup(pem);
        *ret_fingerprint = strdup(fingerprint);
        return *ret_pem && *ret_fingerprint ? 0 : -ENOMEM;
}

/* Tokens */

int remote_take_token(json_object *answer, Context *c, KError *reterr) {
        const char *token = NULL, *refresh = NULL, *id = NULL, *name = NULL;
        json_object *server = NULL;
        int64_t expires_in = 0;
        int r;

        if (!json_object_is_type(answer, json_type_object))
                return kerror_set(reterr, K_INTERNAL, "The master gives no token.");
        r = json_get_string(answer, "access_token", &token, reterr);
        if (r >= 0)
                r = json_find_string(answer, "refresh_token", &refresh, reterr);
        if (r >= 0)
                r = json_find_string(answer, "id", &id, reterr);
        if (r >= 0)
                r = json_find_i64(answer, "expires_in", &expires_in, reterr);
        if (r < 0)
                return r;
        if (isempty(token) || !string_is_printable(token) || (refresh && !string_is_printable(refresh)))
                return kerror_set(reterr, K_INTERNAL, "The master gives no token.");
        if (json_find_object(answer, "server", &server, NULL) > 0)
                (void) json_find_string(server, "name", &name, NULL);

        erase_and_freep(&c->token);
        erase_and_freep(&c->refresh_token);
        c->token = strdup(token);
        c->refresh_token = refresh ? strdup(refresh) : NULL;
        c->expires_at = expires_in > 0 ? now_realtime() / USEC_PER_SEC + (uint64_t) expires_in : 0;
        if (!c->token || (refresh && !c->refresh_token) || free_and_strdup(&c->token_id, id) < 0)
                return -ENOMEM;
        if (!isempty(name) && string_is_printable(name) && free_and_strdup(&c->master, name) < 0)
                return -ENOMEM;
        return 0;
}

static int refresh(Contexts *l, void *userdata, KError *reterr) {
        _cleanup_json_ json_object *body = json_object_new_object(), *answer = NULL;
        Context *c = userdata, *stored = contexts_find(l, c->name);
        int status, r;

        if (!stored || !stored->token)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "Not logged in at %s any more.", c->url);
        /* Another kontenactl was faster. */
        if (!streq_ptr(stored->token, c->token)) {
                context_done(c);
                r = context_copy(stored, c);
                return r < 0 ? r : 1;
        }
        if (!stored->refresh_token)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The login at %s has ended.", c->url);

        r = body ? json_add_string(body, "grant_type", "refresh_token") : -ENOMEM;
        if (r >= 0)
                r = json_add_string(body, "refresh_token", stored->refresh_token);
        if (r >= 0)
                r = remote_request(stored, "POST", "/oauth2/token", NULL, body, &status, &answer, reterr);
        if (r < 0)
                return r;
        if (status >= 400 && status < 500)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The login at %s has ended.", c->url);
        if (status != 201 && status != 200)
                return kerror_set(reterr, K_UNAVAILABLE, "The master at %s answers with status %i.", c->url,
                                status);
        r = remote_take_token(answer, stored, reterr);
        if (r < 0)
                return r;
        context_done(c);
        return context_copy(stored, c);
}

int remote_refresh(Context *c, KError *reterr) {
        return contexts_change(refresh, c, reterr);
}
