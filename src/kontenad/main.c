/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "file-util.h"
#include "log.h"
#include "master.h"
#include "string-util.h"

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long) now_monotonic());
        if (master_reload(userdata, &error) < 0)
                log_error("The configuration is not reloaded: %s", kerror_message(&error));
        (void) sd_notify(0, "READY=1");
        return 0;
}

static int watch_signals(sd_event *event, Master *m) {
        int r;

        r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGHUP, on_reload, m);
        return r;
}

static int run(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(master_freep) Master *m = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        sigset_t mask;
        int r;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigaddset(&mask, SIGINT);
        (void) sigaddset(&mask, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return log_error_errno(errno, "Signals cannot be blocked: %m");
        (void) signal(SIGPIPE, SIG_IGN);

        r = sd_event_default(&event);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return log_error_errno(r, "No event loop: %m");

        r = master_new(event, &m, &error);
        if (r < 0) {
                /* For systemctl status, too. */
                (void) sd_notifyf(0, "STATUS=%s",
                                kerror_is_set(&error) ? kerror_message(&error) : "Out of memory.");
                return log_error_errno(
                                r, "%s", kerror_is_set(&error) ? kerror_message(&error) : "Out of memory.");
        }
        r = watch_signals(event, m);
        if (r < 0)
                return log_error_errno(r, "Signals cannot be watched: %m");

        (void) sd_notify(0, "READY=1\nSTATUS=Serving.");
        r = master_loop(m);
        (void) sd_notify(0, "STOPPING=1");
        if (r < 0)
                return log_error_errno(r, "The event loop failed: %m");

        return r;
}

int main(int argc, char *argv[]) {
        log_setup();

        if (argc > 1 && streq(argv[1], "--version")) {
                printf("kontenad %s\n", KONTENA_VERSION);
                return EXIT_SUCCESS;
        }
        if (argc > 1) {
                fprintf(stderr, "kontenad takes no arguments but --version.\n");
                return 2;
        }

        return run() != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
