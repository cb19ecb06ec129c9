/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"
#include "caller-stream.h"
#include "string-util.h"

/* What comes of a stream goes as signals to the peer that opened it, and to nobody else. */

static int sink_data(const char *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusReader *s = userdata;
        int r;

        r = bus_reader_signal(s, "StreamData", stream, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "u", channel);
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', data, size);
        return r < 0 ? r : bus_link_send(s->link, m);
}

static void sink_ended(const char *stream, int status, const KError *error, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusReader *s = userdata;
        int r;

        r = bus_reader_signal(s, "StreamEnded", stream, &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "iss", (int32_t) status,
                                kerror_is_set(error) ? kerror_bus_name(error->code) : "",
                                kerror_is_set(error) ? kerror_message(error) : "");
        if (r >= 0)
                (void) bus_link_send(s->link, m);
}

static void abandon(BusReader *r) {
        if (r->stream)
                (void) caller_stream_abandon(r->link->face->master, r->stream); /* frees r */
}

int bus_stream_sink(BusLink *l, sd_bus_message *call, const StreamSink **ret, void **ret_userdata) {
        static const StreamSink sink = {
                .opened = bus_reader_opened,
                .data = sink_data,
                .ended = sink_ended,
                .free = bus_reader_free,
        };
        BusReader *s;
        int r;

        r = bus_reader_new(l, call, abandon, &s);
        if (r < 0)
                return r;

        *ret = &sink;
        *ret_userdata = s;
        return 0;
}
