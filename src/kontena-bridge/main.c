/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-event.h>

#include "bridge.h"
#include "file-util.h"
#include "https-request.h"
#include "join.h"
#include "json-util.h"
#include "log.h"
#include "string-util.h"

/* kontenactl's end of TLS: it has the token and speaks with the network; kontenactl itself sees D-Bus and JSON. What it is to do comes
 * as JSON on standard input, so that no list of processes shows a token, and what came of it goes as JSON, one line each, to
 * standard output. */

#define INPUT_SIZE_MAX (1024U * 1024U)
#define BUS_FD         3

static int usage(void) {
        (void) fprintf(stderr,
                        "kontena-bridge --tunnel   bridges descriptor 3; {\"url\", \"ca\", \"token\"}\n"
                        "kontena-bridge --request  {\"url\", \"ca\", \"token\", \"method\", \"body\"}\n"
                        "kontena-bridge --show-ca  {\"url\"}\n");
        return 2;
}

static void say(json_object *o) {
        const char *text = o ? json_text(o) : NULL;

        if (text && puts(text) >= 0)
                (void) fflush(stdout);
}

static void say_error(const KError *error, int r) {
        _cleanup_json_ json_object *o = json_object_new_object();
        KErrorCode code = kerror_is_set(error) ? error->code : K_INTERNAL;

        if (o && json_add_string(o, "error", kerror_bus_name(code)) >= 0 &&
                        json_add_string(o, "message",
                                        kerror_is_set(error) ? kerror_message(error) : strerror(abs(r))) >=
                                        0)
                say(o);
}

static void on_opened(void *userdata) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (o && json_add_bool(o, "open", true) >= 0)
                say(o);
}

static void on_closed(const KError *error, void *userdata) {
        if (error)
                say_error(error, 0);
}

static const char *environment(const char *name, const char *other) {
        return empty_to_null(getenv(name)) ?: empty_to_null(getenv(other));
}

/* GnuTLS wants a file. */
static int pem_file(json_object *input, int *ret_fd, char **ret_path, KError *reterr) {
        _cleanup_close_ int fd = -EBADF;
        const char *pem;
        char *path;
        int r;

        r = json_get_string(input, "ca", &pem, reterr);
        if (r < 0)
                return r;
        fd = memfd_create("ca", MFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = loop_write(fd, pem, strlen(pem));
        if (r < 0)
                return r;
        path = strprintf("/proc/self/fd/%i", fd);
        if (!path)
                return -ENOMEM;

        *ret_path = path;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int tunnel(json_object *input, KError *reterr) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(bridge_freep) Bridge *bridge = NULL;
        BridgeOptions o = {
                .user_agent = "kontenactl/" KONTENA_VERSION,
                .proxy = environment("https_proxy", "HTTPS_PROXY"),
                .no_proxy = environment("no_proxy", "NO_PROXY"),
        };
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = json_get_string(input, "url", &o.url, reterr);
        if (r >= 0)
                r = json_get_string(input, "token", &o.token, reterr);
        if (r >= 0)
                r = pem_file(input, &fd, &path, reterr);
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0)
                r = fd_set_nonblock(BUS_FD, true);
        if (r < 0)
                return r;
        o.ca_file = path;
        (void) fcntl(BUS_FD, F_SETFD, FD_CLOEXEC);
        r = bridge_new_consume(event, BUS_FD, &o, on_opened, on_closed, NULL, &bridge);
        if (r < 0)
                return r;
        r = sd_event_loop(event);
        return r < 0 ? r : 0;
}

static int request(json_object *input, KError *reterr) {
        _cleanup_json_ json_object *answer = NULL;
        HttpsRequest q = { .method = "GET", .user_agent = "kontenactl/" KONTENA_VERSION };
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = json_get_string(input, "url", &q.url, reterr);
        if (r >= 0)
                r = json_find_string(input, "token", &q.token, reterr);
        if (r >= 0)
                r = json_find_string(input, "method", &q.method, reterr);
        if (r >= 0)
                r = json_find_string(input, "body", &q.body, reterr);
        if (r >= 0)
                r = pem_file(input, &fd, &path, reterr);
        if (r < 0)
                return r;
        q.ca_file = path;
        r = https_request(&q, &answer, reterr);
        if (r >= 0)
                say(answer);
        return r;
}

static int show_ca(json_object *input, KError *reterr) {
        _cleanup_free_ char *pem = NULL, *fingerprint = NULL;
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *url;
        int r;

        r = o ? json_get_string(input, "url", &url, reterr) : -ENOMEM;
        if (r >= 0)
                r = join_show_ca(url, &pem, &fingerprint, reterr);
        if (r >= 0)
                r = json_add_string(o, "fingerprint", fingerprint);
        if (r >= 0)
                r = json_add_string(o, "ca", pem);
        if (r >= 0)
                say(o);
        return r;
}

static int run(int (*what)(json_object *input, KError *reterr)) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_json_ json_object *input = NULL;
        _cleanup_free_ char *text = malloc(INPUT_SIZE_MAX + 1);
        ssize_t n;
        int r;

        if (!text)
                return EXIT_FAILURE;
        n = loop_read(STDIN_FILENO, text, INPUT_SIZE_MAX + 1);
        r = n < 0 ? (int) n : json_parse(text, (size_t) n, INPUT_SIZE_MAX, &input, &error);
        if (n > 0)
                erase_memory(text, (size_t) n);
        if (r >= 0)
                r = what(input, &error);
        if (r >= 0)
                return EXIT_SUCCESS;
        say_error(&error, r);
        return EXIT_FAILURE;
}

int main(int argc, char *argv[]) {
        const struct rlimit none = {};

        log_setup();
        (void) signal(SIGPIPE, SIG_IGN);
        /* It holds a token, and no other program of the user's is to read it out of us. */
        (void) prctl(PR_SET_DUMPABLE, 0);
        (void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        (void) setrlimit(RLIMIT_CORE, &none);

        if (argc == 2 && streq(argv[1], "--tunnel"))
                return run(tunnel);
        if (argc == 2 && streq(argv[1], "--request"))
                return run(request);
        if (argc == 2 && streq(argv[1], "--show-ca"))
                return run(show_ca);
        return usage();
}
