/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"
#include "log.h"
#include "string-util.h"

/* Entries of a log view go as signals to the peer that opened it, and to nobody else. */

/* Messages that wait in the connection to the bus. Of a guest fewer than make it one who does not read: a log that is looked at with a
 * pager waits for hours. */
#define QUEUE_MAX       256U
#define QUEUE_GUEST_MAX 64U

typedef struct BusSink {
        BusReader reader;
        sd_bus_slot *watch;
} BusSink;

static void sink_free(void *userdata) {
        BusSink *s = userdata;

        sd_bus_slot_unref(s->watch);
        bus_reader_done(&s->reader);
        free(s);
}

static void sink_opened(const char *stream, void *userdata) {
        BusSink *s = userdata;

        (void) free_and_strdup(&s->reader.stream, stream);
}

static bool sink_congested(void *userdata) {
        BusSink *s = userdata;
        uint64_t n;

        return sd_bus_get_n_queued_write(s->reader.link->bus, &n) >= 0 &&
               n > (s->reader.link->guest ? QUEUE_GUEST_MAX : QUEUE_MAX);
}

static int sink_entries(const char *stream, const LogEntry *entries, size_t n, bool end, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusSink *s = userdata;
        int r;

        r = bus_reader_signal(&s->reader, "LogEntries", stream, &m);
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

        return bus_link_send(s->reader.link, m);
}

static void abandon(BusReader *r) {
        if (r->stream)
                (void) log_streams_close(r->link->face->master->log_streams, r->stream); /* frees r */
}

static int on_peer_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusSink *s = userdata;

        abandon(&s->reader);
        return 0;
}

/* Without a callback of its own sd-bus would close the whole connection. */
static int on_watched(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("Who reads a log cannot be watched: %s",
                                strna(sd_bus_message_get_error(m)->message));
        return 0;
}

static int watch_peer(BusSink *s) {
        _cleanup_free_ char *match = NULL;

        match = strprintf("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                          "member='NameOwnerChanged',arg0='%s',arg2=''",
                        s->reader.destination);
        return match ? sd_bus_add_match_async(
                                       s->reader.link->bus, &s->watch, match, on_peer_gone, on_watched, s)
                     : -ENOMEM;
}

int bus_log_sink(BusLink *l, sd_bus_message *call, const LogSink **ret, void **ret_userdata) {
        static const LogSink sink = {
                .opened = sink_opened,
                .entries = sink_entries,
                .congested = sink_congested,
                .free = sink_free,
        };
        BusSink *s;
        int r = 0;

        if (!l->face)
                return -ENOTCONN;
        s = new0(BusSink, 1);
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
