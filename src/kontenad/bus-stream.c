/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"
#include "caller-stream.h"
#include "log.h"
#include "string-util.h"

/* What comes of a stream goes as signals to the peer that opened it, and to nobody else. */

typedef struct BusStream {
        BusFace *face;
        sd_bus *bus;
        char *destination;
        char *stream;
        sd_bus_slot *watch, *look;
        bool is_gone; /* or will go without our knowing */
} BusStream;

static void sink_free(void *userdata) {
        BusStream *s = userdata;

        sd_bus_slot_unref(s->watch);
        sd_bus_slot_unref(s->look);
        sd_bus_unref(s->bus);
        free(s->destination);
        free(s->stream);
        free(s);
}

static void sink_opened(const char *stream, void *userdata) {
        BusStream *s = userdata;

        (void) free_and_strdup(&s->stream, stream);
}

static int signal_new(BusStream *s, const char *member, const char *stream, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(s->bus, &m, MASTER_PATH, MANAGER_IFACE, member);
        if (r >= 0)
                r = sd_bus_message_set_destination(m, s->destination);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", stream);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

static int sink_data(const char *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusStream *s = userdata;
        int r;

        if (s->is_gone)
                return -ENOTCONN;
        r = signal_new(s, "StreamData", stream, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "u", channel);
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', data, size);
        if (r >= 0)
                r = sd_bus_send(s->bus, m, NULL);
        return r < 0 ? r : 0;
}

static void sink_ended(const char *stream, int status, const KError *error, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusStream *s = userdata;
        int r;

        r = signal_new(s, "StreamEnded", stream, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "iss", (int32_t) status,
                                kerror_is_set(error) ? kerror_bus_name(error->code) : "",
                                kerror_is_set(error) ? kerror_message(error) : "");
        if (r >= 0)
                (void) sd_bus_send(s->bus, m, NULL);
}

static void abandon(BusStream *s) {
        if (s->stream)
                (void) caller_stream_abandon(s->face->master, s->stream); /* frees s */
}

static int on_peer_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        abandon(userdata);
        return 0;
}

/* Without a callback of its own sd-bus would close the whole connection. Nobody would tell that the peer goes, so it has to end. */
static int on_watched(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusStream *s = userdata;

        if (!sd_bus_message_is_method_error(m, NULL))
                return 0;
        log_warning("A stream's peer cannot be watched: %s", strna(sd_bus_message_get_error(m)->message));
        s->is_gone = true;
        abandon(s);
        return 0;
}

static int on_looked(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusStream *s = userdata;
        int there;

        s->look = sd_bus_slot_unref(s->look);
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "b", &there) < 0 || !there)
                abandon(s);
        return 0;
}

/* It may have gone while a password was typed, before anybody looked out for that. */
static int watch_peer(BusStream *s) {
        _cleanup_free_ char *match = NULL;
        int r;

        match = strprintf("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                          "member='NameOwnerChanged',arg0='%s',arg2=''",
                        s->destination);
        if (!match)
                return -ENOMEM;
        r = sd_bus_add_match_async(s->bus, &s->watch, match, on_peer_gone, on_watched, s);
        if (r < 0)
                return r;
        return sd_bus_call_method_async(s->bus, &s->look, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                        "org.freedesktop.DBus", "NameHasOwner", on_looked, s, "s", s->destination);
}

int bus_stream_sink(BusFace *f, sd_bus_message *call, const StreamSink **ret, void **ret_userdata) {
        static const StreamSink sink = {
                .opened = sink_opened,
                .data = sink_data,
                .ended = sink_ended,
                .free = sink_free,
        };
        BusStream *s;
        int r;

        s = new0(BusStream, 1);
        if (!s)
                return -ENOMEM;
        s->face = f;
        s->bus = sd_bus_ref(f->master->bus);
        s->destination = strdup(strempty(sd_bus_message_get_sender(call)));
        r = s->destination ? watch_peer(s) : -ENOMEM;
        if (r < 0) {
                sink_free(s);
                return r;
        }

        *ret = &sink;
        *ret_userdata = s;
        return 0;
}
