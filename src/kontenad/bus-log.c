/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"
#include "string-util.h"

/* Entries of a log view go as signals to the peer that opened it, and to nobody else. */

/* Messages that wait in the connection to the bus. Of a guest fewer than make it one who does not read: a log that is looked at with a
 * pager waits for hours. */
#define QUEUE_MAX       256U
#define QUEUE_GUEST_MAX 64U

static bool sink_congested(void *userdata) {
        BusReader *s = userdata;
        uint64_t n;

        return sd_bus_get_n_queued_write(s->link->bus, &n) >= 0 &&
               n > (s->link->guest ? QUEUE_GUEST_MAX : QUEUE_MAX);
}

static int sink_entries(const char *stream, const LogEntry *entries, size_t n, bool end, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusReader *s = userdata;
        int r;

        r = bus_reader_signal(s, "LogEntries", stream, &m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(tssss)");
        if (r < 0)
                return r;
        FOREACH_ARRAY(e, entries, n) {
                r = sd_bus_message_append(
                                m, "(tssss)", e->time, e->node, e->instance, e->stream, e->message);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", end);
        if (r < 0)
                return r;

        return bus_link_send(s->link, m);
}

static void abandon(BusReader *r) {
        if (r->stream)
                (void) log_streams_close(r->link->face->master->log_streams, r->stream); /* frees r */
}

int bus_log_sink(BusLink *l, sd_bus_message *call, const LogSink **ret, void **ret_userdata) {
        static const LogSink sink = {
                .opened = bus_reader_opened,
                .entries = sink_entries,
                .congested = sink_congested,
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
