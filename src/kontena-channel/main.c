/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include <systemd/sd-event.h>

#include "client.h"
#include "file-util.h"
#include "join.h"
#include "log.h"
#include "string-util.h"

/* The node's end of TLS and WebSocket. kontena-noded starts it for each connection with a socket as standard input; kontenactl
 * uses the other forms, once, when a machine joins. */

#define TOKEN_SIZE_MAX 256U

static int usage(void) {
        (void) fprintf(stderr,
                        "kontena-channel                            one connection, driven by frames on "
                        "standard input\n"
                        "kontena-channel --join DIRECTORY URL       with the join token on standard input\n"
                        "kontena-channel --fetch-ca URL FINGERPRINT prints the master's CA certificate\n"
                        "kontena-channel --make-key DIRECTORY\n");
        return 2;
}

static int report(int r, const KError *error) {
        if (r >= 0)
                return EXIT_SUCCESS;

        (void) fprintf(stderr, "%s\n", kerror_is_set(error) ? kerror_message(error) : strerror(-r));
        return kerror_is_set(error) ? kerror_exit_status(error->code) : EXIT_FAILURE;
}

static int serve(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(client_freep) Client *client = NULL;
        int r;

        r = sd_event_new(&event);
        if (r < 0)
                return log_error_errno(r, "No event loop: %m");
        r = client_new_consume(event, STDIN_FILENO, &client);
        if (r < 0)
                return log_error_errno(r, "Standard input cannot be used: %m");
        return sd_event_loop(event);
}

static int run_fetch_ca(const char *address, const char *fingerprint, KError *reterr) {
        _cleanup_free_ char *url = NULL, *pem = NULL;
        int r;

        r = join_url_normalize(address, &url, reterr);
        if (r < 0)
                return r;
        r = join_fetch_ca(url, fingerprint, &pem, reterr);
        if (r < 0)
                return r;
        (void) fputs(pem, stdout);
        return fflush(stdout) == 0 ? 0 : -errno;
}

static int run_join(const char *directory, const char *address, KError *reterr) {
        _cleanup_join_token_ JoinToken token = {};
        _cleanup_free_ char *url = NULL;
        char text[TOKEN_SIZE_MAX] = "";
        ssize_t n;
        int r;

        n = loop_read(STDIN_FILENO, text, sizeof(text) - 1);
        if (n < 0)
                return (int) n;
        r = join_token_parse(text, &token, reterr);
        erase_memory(text, sizeof(text));
        if (r < 0)
                return r;
        r = join_url_normalize(address, &url, reterr);
        if (r < 0)
                return r;
        return join(directory, url, &token, reterr);
}

int main(int argc, char *argv[]) {
        enum { OPTION_JOIN = 256, OPTION_FETCH_CA, OPTION_MAKE_KEY };
        static const struct option options[] = {
                { "join", required_argument, NULL, OPTION_JOIN },
                { "fetch-ca", required_argument, NULL, OPTION_FETCH_CA },
                { "make-key", required_argument, NULL, OPTION_MAKE_KEY },
                {},
        };
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *value = NULL;
        int c, mode = 0;

        log_setup();
        (void) signal(SIGPIPE, SIG_IGN);

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (c == '?' || mode != 0)
                        return usage();
                mode = c;
                value = optarg;
        }

        if (mode == 0 && argc == 1)
                return serve() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (mode == OPTION_JOIN && argc == optind + 1)
                return report(run_join(value, argv[optind], &error), &error);
        if (mode == OPTION_FETCH_CA && argc == optind + 1)
                return report(run_fetch_ca(value, argv[optind], &error), &error);
        if (mode == OPTION_MAKE_KEY && argc == optind)
                return report(join_make_key(value, &error), &error);
        return usage();
}
