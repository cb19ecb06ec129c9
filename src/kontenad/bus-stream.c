/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"
#include "caller-stream.h"
#include "log.h"
#include "string-util.h"

/* What comes of a stream goes as signals to the peer that opened it, and to nobody else. */

typedef struct BusStream {
        BusReader reader;
        sd_bus_slot *watch, *look;
        bool is_gone; /* or will go without our knowing */
} BusStream;

static void sink_free(void *userdata) {
        BusStream *s = userdata;

        sd_bus_slot_unref(s->watch);
        sd_bus_slot_unref(s->look);
        bus_reader_done(&s->reader);
        free(s);
}

static void sink_opened(const char *stream, void *userdata) {
        BusStream *s = userdata;

        (void) free_and_strdup(&s->reader.stream, stream);
}

static int sink_data(const char *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusStream *s = userdata;
        int r;

        if (s->is_gone)
                return -ENOTCONN;
        r = bus_reader_signal(&s->reader, "StreamData", stream, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "u", channel);
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', data, size);
        return r < 0 ? r : bus_link_send(s->reader.link, m);
}

static void sink_ended(const char *stream, int status, const KError *error, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusStream *s = userdata;
        int r;

        r = bus_reader_signal(&s->reader, "StreamEnded", stream, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "iss", (int32_t) status,
                                kerror_is_set(error) ? kerror_bus_name(error->code) : "",
                                kerror_is_set(error) ? kerror_message(error) : "");
        if (r >= 0)
                (void) bus_link_send(s->reader.link, m);
}

static void abandon(BusReader *r) {
        if (r->stream)
                (void) caller_stream_abandon(r->link->face->master, r->stream); /* frees r */
}

static int on_peer_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusStream *s = userdata;

        abandon(&s->reader);
        return 0;
}

/* Without a callback of its own sd-bus would close the whole connection. Nobody would tell that the peer goes, so it has to end. */
static int on_watched(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusStream *s = userdata;

        if (!sd_bus_message_is_method_error(m, NULL))
                return 0;
        log_warning("A stream's peer cannot be watched: %s", strna(sd_bus_message_get_error(m)->message));
        s->is_gone = true;
        abandon(&s->reader);
        return 0;
}

static int on_looked(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusStream *s = userdata;
        int there;

        s->look = sd_bus_slot_unref(s->look);
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "b", &there) < 0 || !there)
                abandon(&s->reader);
        return 0;
}

/* It may have gone while a password was typed, before anybody looked out for that. */
static int watch_peer(BusStream *s) {
        _cleanup_free_ char *match = NULL;
        int r;

        match = strprintf("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                          "member='NameOwnerChanged',arg0='%s',arg2=''",
                        s->reader.destination);
        if (!match)
                return -ENOMEM;
        r = sd_bus_add_match_async(s->reader.link->bus, &s->watch, match, on_peer_gone, on_watched, s);
        if (r < 0)
                return r;
        return sd_bus_call_method_async(s->reader.link->bus, &s->look, "org.freedesktop.DBus",
                        "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", on_looked, s, "s",
                        s->reader.destination);
}

int bus_stream_sink(BusLink *l, sd_bus_message *call, const StreamSink **ret, void **ret_userdata) {
        static const StreamSink sink = {
                .opened = sink_opened,
                .data = sink_data,
                .ended = sink_ended,
                .free = sink_free,
        };
        BusStream *s;
        int r = 0;

        if (!l->face)
                return -ENOTCONN;
        s = new0(BusStream, 1);
        if (!s)
                return -ENOMEM;
        bus_reader_init(&s->reader, l, call, abandon);
        if (!l->guest)
                r = s->reader.destination ? watch_peer(s) : -ENOMEM;
        if (r < 0) {
                sink_free(s);
                return r;
        }

        *ret = &sink;
        *ret_userdata = s;
        return 0;
}
