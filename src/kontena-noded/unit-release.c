/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-release.h"

#include <systemd/sd-event.h>

#include "file-util.h"
#include "log.h"
#include "string-util.h"

#define AGAIN_USEC USEC_PER_SEC
#define TRIES_MAX  60U

/* Belongs to the call that is under way, or to the timer for the next. */
typedef struct Release {
        sd_bus *bus;
        char *name;
        bool stop;
        unsigned tries;
} Release;

static void release_free(void *userdata) {
        Release *r = userdata;

        free(r->name);
        free(r);
}

static void release_freep(Release **r) {
        if (*r)
                release_free(*r);
}

static int call(sd_bus *bus, const char *name, bool stop, unsigned tries);

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        const Release *r = userdata;
        int k;

        k = call(r->bus, r->name, r->stop, r->tries + 1);
        if (k < 0)
                log_warning_errno(k, "Unit '%s' is left to end by itself: %m", r->name);
        sd_event_source_disable_unref(s); /* frees r */
        return 0;
}

static int release_new(const Release *from, Release **ret) {
        _cleanup_(release_freep) Release *r = NULL;

        r = new0(Release, 1);
        if (!r)
                return -ENOMEM;
        *r = *from;
        r->name = strdup(from->name);
        if (!r->name)
                return -ENOMEM;

        *ret = TAKE_PTR(r);
        return 0;
}

static int again(const Release *from) {
        _cleanup_(release_freep) Release *r = NULL;
        sd_event_source *s;
        int k;

        if (from->tries >= TRIES_MAX)
                return -ETIMEDOUT;
        k = release_new(from, &r);
        if (k >= 0)
                k = sd_event_add_time_relative(
                                sd_bus_get_event(from->bus), &s, CLOCK_MONOTONIC, AGAIN_USEC, 0, on_time, r);
        if (k < 0)
                return k;
        (void) sd_event_source_set_destroy_callback(s, release_free);
        (void) sd_event_source_set_floating(s, true);
        sd_event_source_unref(s);
        TAKE_PTR(r);
        return 0;
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        const Release *r = userdata;
        int k = 0;

        if (e && !STR_IN_SET(e->name, "org.freedesktop.systemd1.NoSuchUnit",
                                 "org.freedesktop.systemd1.NotReferenced",
                                 "org.freedesktop.systemd1.LoadFailed"))
                k = again(r);
        else if (r->stop)
                k = call(r->bus, r->name, /* stop= */ false, r->tries);
        if (k < 0)
                log_warning_errno(k, "Unit '%s' is left to end by itself: %m", r->name);
        return 0;
}

static int call(sd_bus *bus, const char *name, bool stop, unsigned tries) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(release_freep) Release *r = NULL;
        sd_bus_slot *slot;
        int k;

        k = release_new(&(Release){ .bus = bus, .name = (char *) name, .stop = stop, .tries = tries }, &r);
        if (k >= 0)
                k = sd_bus_message_new_method_call(bus, &m, "org.freedesktop.systemd1",
                                "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                stop ? "StopUnit" : "UnrefUnit");
        if (k >= 0)
                k = stop ? sd_bus_message_append(m, "ss", name, "replace")
                         : sd_bus_message_append(m, "s", name);
        if (k >= 0)
                k = sd_bus_call_async(bus, &slot, m, on_reply, r, 0);
        if (k < 0)
                return k;
        (void) sd_bus_slot_set_destroy_callback(slot, release_free);
        (void) sd_bus_slot_set_floating(slot, true);
        sd_bus_slot_unref(slot);
        TAKE_PTR(r);
        return 0;
}

void unit_release(sd_bus *bus, const char *name, bool stop) {
        int r;

        r = call(bus, name, stop, 0);
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "Unit '%s' is left to end by itself: %m", name);
}
