/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "bus-internal.h"
#include "log.h"
#include "string-util.h"

/* A peer that a stream of signals goes to, and to nobody else: when it leaves the bus, the stream ends. */

static int on_peer_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusReader *r = userdata;

        r->gone(r);
        return 0;
}

/* Without a callback of its own sd-bus would close the whole connection. Nobody would tell that the peer goes, so it has to end. */
static int on_watched(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusReader *r = userdata;

        if (!sd_bus_message_is_method_error(m, NULL))
                return 0;
        log_warning("A stream's peer cannot be watched: %s", strna(sd_bus_message_get_error(m)->message));
        r->lost = true;
        r->gone(r);
        return 0;
}

static int on_looked(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusReader *r = userdata;
        int there;

        r->look = sd_bus_slot_unref(r->look);
        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "b", &there) >= 0 && there)
                return 0;
        r->lost = true;
        r->gone(r);
        return 0;
}

/* It may have gone while a password was typed, before anybody looked out for that. */
static int watch_peer(BusReader *r) {
        _cleanup_free_ char *match = NULL;
        int k;

        match = strprintf("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                          "member='NameOwnerChanged',arg0='%s',arg2=''",
                        r->destination);
        if (!match)
                return -ENOMEM;
        k = sd_bus_add_match_async(r->link->bus, &r->watch, match, on_peer_gone, on_watched, r);
        if (k < 0)
                return k;
        return sd_bus_call_method_async(r->link->bus, &r->look, "org.freedesktop.DBus",
                        "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", on_looked, r, "s",
                        r->destination);
}

int bus_reader_new(BusLink *l, sd_bus_message *call, void (*gone)(BusReader *r), BusReader **ret) {
        BusReader *r;
        int k;

        if (!l->face)
                return -ENOTCONN;
        r = new0(BusReader, 1);
        if (!r)
                return -ENOMEM;
        *r = (BusReader){ .link = bus_link_ref(l), .gone = gone };
        DL_APPEND(l->readers, r);
        if (!l->guest) {
                r->destination = strdup(strempty(sd_bus_message_get_sender(call)));
                k = r->destination ? watch_peer(r) : -ENOMEM;
                if (k < 0) {
                        bus_reader_free(r);
                        return k;
                }
        }

        *ret = r;
        return 0;
}

void bus_reader_free(void *userdata) {
        BusReader *r = userdata, *other;

        sd_bus_slot_unref(r->watch);
        sd_bus_slot_unref(r->look);
        /* When the link closes it may have been taken out already. */
        DL_FOREACH(r->link->readers, other)
                if (other == r) {
                        DL_DELETE(r->link->readers, r);
                        break;
                }
        bus_link_unref(r->link);
        free(r->destination);
        free(r->stream);
        free(r);
}

void bus_reader_opened(const char *stream, void *userdata) {
        BusReader *r = userdata;

        (void) free_and_strdup(&r->stream, stream);
}

int bus_reader_signal(BusReader *r, const char *member, const char *stream, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int k;

        if (r->lost)
                return -ENOTCONN;
        k = sd_bus_message_new_signal(r->link->bus, &m, MASTER_PATH, MANAGER_IFACE, member);
        if (k >= 0 && r->destination)
                k = sd_bus_message_set_destination(m, r->destination);
        if (k >= 0)
                k = sd_bus_message_append(m, "s", stream);
        if (k < 0)
                return k;

        *ret = TAKE_PTR(m);
        return 0;
}
