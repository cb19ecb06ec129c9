/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "event-util.h"
#include "log.h"
#include "noded.h"
#include "string-util.h"

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) sd_notify(0, "RELOADING=1");
        if (manager_reload(userdata, &error) < 0)
                log_error("Reload: %s", kerror_message(&error));
        (void) sd_notify(0, "READY=1");
        return 0;
}

static int run(void) {
        _cleanup_(manager_freep) Manager *m = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        sigset_t mask;
        int r;

        /* Children too are waited for by the loop. */
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigaddset(&mask, SIGINT);
        (void) sigaddset(&mask, SIGHUP);
        (void) sigaddset(&mask, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return log_error_errno(-errno, "Cannot block signals: %m");
        (void) signal(SIGPIPE, SIG_IGN);

        r = sd_event_default(&event);
        if (r < 0)
                return log_error_errno(r, "Cannot make an event loop: %m");
        r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return log_error_errno(r, "Cannot feed the watchdog: %m");
        r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        if (r < 0)
                return log_error_errno(r, "Cannot wait for signals: %m");

        r = manager_new(event, &m);
        if (r < 0)
                return r;
        r = sd_event_add_signal(event, NULL, SIGHUP, on_reload, m);
        if (r < 0)
                return log_error_errno(r, "Cannot wait for signals: %m");
        r = manager_start(m);
        if (r < 0)
                return r;

        (void) sd_notify(0, "READY=1");
        r = event_loop(event, NULL);
        (void) sd_notify(0, "STOPPING=1");
        if (r < 0)
                return log_error_errno(r, "The event loop failed: %m");

        return 0;
}

int main(int argc, char *argv[]) {
        log_setup();

        if (argc > 1 && streq(argv[1], "--version")) {
                printf("kontena-noded %s\n", KONTENA_VERSION);
                return EXIT_SUCCESS;
        }
        if (argc > 1) {
                fprintf(stderr, "kontena-noded takes no arguments but --version.\n");
                return 2;
        }

        return run() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
