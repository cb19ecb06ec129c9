/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "watch.h"

#include <sys/random.h>

#include "file-util.h"
#include "string-util.h"

#define RETRY_USEC         (500 * USEC_PER_MSEC)
#define TRIES_MAX          120U
#define RECONNECT_MAX_USEC (30 * USEC_PER_SEC)
#define STABLE_USEC        (10 * USEC_PER_SEC) /* a connection that lived shorter is a failure more */

void master_watch_done(MasterWatch *w) {
        w->retry_source = sd_event_source_disable_unref(w->retry_source);
        kerror_done(&w->error);
}

static int again(MasterWatch *w, uint64_t usec, sd_event_time_handler_t handler) {
        w->retry_source = sd_event_source_disable_unref(w->retry_source);
        return sd_event_add_time_relative(
                        w->c->event, &w->retry_source, CLOCK_MONOTONIC, usec, 0, handler, w);
}

static int try_again(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        MasterWatch *w = userdata;
        int r;

        w->retry_source = sd_event_source_disable_unref(w->retry_source);
        if (w->gone)
                return 0;

        r = w->back(w->userdata, &error);
        if (r >= 0) {
                ctl_warn("The master is back.");
                return 0;
        }
        /* Who has just lost the connection is told so by it. */
        if (master_watch_mends(w))
                return 0;
        if (++w->tries > TRIES_MAX || error.code == K_ACCESS_DENIED) {
                kerror_move(&w->error, &error);
                return sd_event_exit(w->c->event, r);
        }

        return again(w, RETRY_USEC, try_again);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *old_owner, *new_owner;
        MasterWatch *w = userdata;

        if (sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0)
                return 0;

        w->gone = isempty(new_owner);
        if (w->gone && !w->patient)
                return sd_event_exit(
                                w->c->event, kerror_set(&w->error, K_UNAVAILABLE, "The master went away."));
        if (w->gone) {
                ctl_warn("The master is gone. Waiting for it.");
                return 0;
        }

        w->tries = 0;
        return try_again(NULL, 0, w);
}

/* Full jitter: all who followed something lost it at once. */
static uint64_t reconnect_delay(unsigned attempt) {
        uint64_t window = attempt < 6 ? RETRY_USEC << attempt : RECONNECT_MAX_USEC, random;

        window = MIN(window, RECONNECT_MAX_USEC);
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
                random = now_monotonic() * 6364136223846793005U;
        return (uint64_t) (((__uint128_t) random * (window + 1)) >> 64);
}

static int subscribe(MasterWatch *w, KError *reterr);

static int on_reconnect(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        MasterWatch *w = userdata;
        int r;

        w->retry_source = sd_event_source_disable_unref(w->retry_source);
        r = ctl_reconnect(w->c, &error);
        if (r >= 0)
                r = subscribe(w, &error);
        if (r >= 0) {
                w->gone = w->lost = false;
                w->tries = 0;
                w->connected_at = now_monotonic();
                return try_again(NULL, 0, w);
        }
        if (w->c->token_refused) {
                kerror_move(&w->error, &error);
                return sd_event_exit(w->c->event, r);
        }

        return again(w, reconnect_delay(w->connects++), on_reconnect);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        MasterWatch *w = userdata;
        int r;

        if (w->lost)
                return 0;
        r = ctl_connection_lost(w->c, &error);
        if (!w->patient || !w->c->context) {
                kerror_move(&w->error, &error);
                return sd_event_exit(w->c->event, r);
        }

        ctl_warn("%s Trying to connect again.", kerror_message(&error));
        w->gone = w->lost = true;
        if (now_monotonic() - w->connected_at > STABLE_USEC)
                w->connects = 0;
        /* Not from inside of the connection that is to be replaced. */
        return again(w, reconnect_delay(w->connects++), on_reconnect);
}

bool master_watch_mends(MasterWatch *w) {
        return w->patient && w->c->context && (w->lost || sd_bus_is_open(w->c->bus) <= 0);
}

static int subscribe(MasterWatch *w, KError *reterr) {
        int r;

        r = sd_bus_add_match(w->c->bus, NULL,
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='" MASTER_NAME "'",
                        on_owner_changed, w);
        if (r >= 0)
                r = sd_bus_match_signal(w->c->bus, NULL, "org.freedesktop.DBus.Local", NULL,
                                "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, w);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot watch the master: %m");
        return w->subscribe ? w->subscribe(w->userdata, reterr) : 0;
}

int master_watch_start(MasterWatch *w, KError *reterr) {
        int r;

        r = ctl_loop(w->c, reterr);
        if (r < 0)
                return r;
        w->connected_at = now_monotonic();
        return subscribe(w, reterr);
}

int master_watch_run(MasterWatch *w, KError *reterr) {
        int r;

        r = sd_event_loop(w->c->event);
        if (r < 0) {
                kerror_move(reterr, &w->error);
                if (!kerror_is_set(reterr))
                        (void) kerror_set_errno(reterr, r, "The event loop failed: %m");
        }
        return r;
}

static int on_anything(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        bool *dirty = userdata;

        *dirty = true;
        return 0;
}

int ctl_wait(Ctl *c, const char *match, int (*check)(Ctl *c, void *userdata, KError *reterr), void *userdata,
                uint64_t timeout_usec, KError *reterr) {
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        uint64_t deadline = now_monotonic() + timeout_usec;
        bool dirty = true;
        sd_bus *bus;
        int r;

        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;
        r = sd_bus_add_match(bus, &slot, match, on_anything, &dirty);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot subscribe to signals: %m");

        for (;;) {
                uint64_t now;

                if (dirty) {
                        dirty = false;
                        r = check(c, userdata, reterr);
                        if (r != 0)
                                return r;
                }

                r = sd_bus_process(bus, NULL);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Waiting for the bus failed: %m");
                if (r > 0)
                        continue;

                now = now_monotonic();
                if (now >= deadline)
                        return kerror_set(reterr, K_TIMEOUT, "It took too long.");
                r = sd_bus_wait(bus, deadline - now);
                if (r < 0 && r != -EINTR)
                        return kerror_set_errno(reterr, r, "Waiting for the bus failed: %m");
        }
}

static int name_has_owner(Ctl *c, void *userdata, KError *reterr) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;

        return sd_bus_get_name_creds(c->bus, userdata, SD_BUS_CREDS_UNIQUE_NAME, &creds) >= 0;
}

int ctl_wait_for_name(Ctl *c, const char *name, uint64_t timeout_usec, KError *reterr) {
        _cleanup_free_ char *match = NULL, *copy = strdup(name);

        match = strprintf("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                          "member='NameOwnerChanged',"
                          "arg0='%s'",
                        name);
        if (!match || !copy)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        return ctl_wait(c, match, name_has_owner, copy, timeout_usec, reterr);
}
