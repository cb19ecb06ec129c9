/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"
#include "log.h"
#include "string-util.h"

/* Entries of a log view go as signals to the peer that opened it, and to nobody else. */

/* Messages that wait in the connection to the bus. */
#define QUEUE_MAX 256U

typedef struct BusSink {
        BusFace *face;
        sd_bus *bus;
        char *destination;
        char *stream;
        sd_bus_slot *watch;
} BusSink;

static void sink_free(void *userdata) {
        BusSink *s = userdata;

        sd_bus_slot_unref(s->watch);
        sd_bus_unref(s->bus);
        free(s->destination);
        free(s->stream);
        free(s);
}

static void sink_opened(const char *stream, void *userdata) {
        BusSink *s = userdata;

        (void) free_and_strdup(&s->stream, stream);
}

static bool sink_congested(void *userdata) {
        BusSink *s = userdata;
        uint64_t n;

        return sd_bus_get_n_queued_write(s->bus, &n) >= 0 && n > QUEUE_MAX;
}

static int sink_entries(const char *stream, const LogEntry *entries, size_t n, bool end, void *userdata) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusSink *s = userdata;
        int r;

        r = sd_bus_message_new_signal(s->bus, &m, MASTER_PATH, MANAGER_IFACE, "LogEntries");
        if (r >= 0)
                r = sd_bus_message_set_destination(m, s->destination);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", stream);
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

        r = sd_bus_send(s->bus, m, NULL);
        return r < 0 ? r : 0;
}

static int on_peer_gone(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        BusSink *s = userdata;

        if (s->stream)
                (void) log_streams_close(s->face->master->log_streams, s->stream); /* frees s */
        return 0;
}

/* Without a callback of its own sd-bus would close the whole connection. */
static int on_watched(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("Who reads a log cannot be watched: %s",
                                strna(sd_bus_message_get_error(m)->message));
        return 0;
}

int bus_log_sink(BusFace *f, sd_bus_message *call, const LogSink **ret, void **ret_userdata) {
        static const LogSink sink = {
                .opened = sink_opened,
                .entries = sink_entries,
                .congested = sink_congested,
                .free = sink_free,
        };
        _cleanup_free_ char *match = NULL;
        BusSink *s;
        int r;

        s = new0(BusSink, 1);
        if (!s)
                return -ENOMEM;
        s->face = f;
        s->bus = sd_bus_ref(f->master->bus);
        s->destination = strdup(strempty(sd_bus_message_get_sender(call)));
        match = strprintf("type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                          "member='NameOwnerChanged',arg0='%s',arg2=''",
                        strempty(sd_bus_message_get_sender(call)));
        r = s->destination && match
                            ? sd_bus_add_match_async(s->bus, &s->watch, match, on_peer_gone, on_watched, s)
                            : -ENOMEM;
        if (r < 0) {
                sink_free(s);
                return r;
        }

        *ret = &sink;
        *ret_userdata = s;
        return 0;
}
