/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-streams.h"

#include <utlist.h>

#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "node-session.h"
#include "standing.h"
#include "string-util.h"

/* History of several nodes is put in order before it is shown: until all have said their last (or, with follow, nothing new came
 * for SETTLE), at most HISTORY. */
#define SETTLE_USEC       (300U * USEC_PER_MSEC)
#define HISTORY_USEC      (5U * USEC_PER_SEC)
#define BATCH_ENTRIES     200U
#define BATCH_BYTES       (256U * 1024U)
#define MESSAGE_BYTES_MAX (64U * 1024U)

/* One node's share. */
typedef struct Part {
        struct LogStream *stream;
        char *node_id, *name;
        bool open; /* entries may come */
        bool warned;
        uint64_t last, n_last;        /* time of its newest entry, and how many have that */
        uint64_t again_time, n_again; /* so many of those that come had come before */
        struct Part *prev, *next;
} Part;

typedef struct Entry {
        uint64_t time, order;
        const char *stream;
        char *node, *instance, *message, *service;
} Entry;

typedef struct LogStream {
        LogStreams *streams;
        char *id;
        uint64_t number;                                     /* the nodes' name for it */
        char *grid_id, *grid, *service_id, *stack, *service; /* service_id NULL: all of the grid */
        LogOptions options;
        const LogSink *sink;
        void *userdata;
        Part *parts;
        Entry *entries;
        size_t n_entries, n_allocated, bytes;
        uint64_t order, dropped, opened_at;
        bool is_job;
        bool begun; /* the caller knows the id, warnings were shown */
        bool live;  /* history is shown, what comes is passed on */
        bool dirty; /* instances or nodes have changed */
        sd_event_source *timer;
        char *caller; /* by name; NULL: the master */
        Standing *standing;
        struct LogStream *prev, *next;
} LogStream;

struct LogStreams {
        Master *master;
        LogStream *list;
        size_t n;
        uint64_t next_number;
};

static void on_opened(NodeSession *session, json_object *result, const KError *error, void *userdata);

static Part *part_free(Part *p) {
        if (!p)
                return NULL;

        if (p->stream)
                DL_DELETE(p->stream->parts, p);
        free(p->node_id);
        free(p->name);
        free(p);
        return NULL;
}

static void entries_clear(LogStream *s) {
        FOREACH_ARRAY(e, s->entries, s->n_entries) {
                free(e->node);
                free(e->instance);
                free(e->message);
                free(e->service);
        }
        s->entries = mfree(s->entries);
        s->n_entries = s->n_allocated = s->bytes = 0;
}

static void close_part(Part *p) {
        _cleanup_json_ json_object *params = NULL;
        NodeSession *session;

        if (!p->open)
                return;
        p->open = false;

        session = node_sessions_find(p->stream->streams->master->sessions, p->node_id);
        params = json_object_new_object();
        if (session && params && json_add_u64(params, "stream", p->stream->number) >= 0)
                (void) session_notify(session, "logs.close", TAKE_PTR(params));
}

static LogStream *stream_free(LogStream *s) {
        if (!s)
                return NULL;

        if (s->streams) {
                DL_DELETE(s->streams->list, s);
                s->streams->n--;
        }
        while (s->parts) {
                close_part(s->parts);
                part_free(s->parts);
        }
        entries_clear(s);
        json_object_put(s->options.after);
        sd_event_source_disable_unref(s->timer);
        standing_free(s->standing);
        if (s->sink && s->sink->free)
                s->sink->free(s->userdata);
        free(s->id);
        free(s->grid_id);
        free(s->grid);
        free(s->service_id);
        free(s->stack);
        free(s->service);
        free(s->caller);
        free(s);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(LogStream *, stream_free);

static void arm(LogStream *s, uint64_t usec) {
        int r;

        r = sd_event_source_set_time_relative(s->timer, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning_errno(r, "A log view cannot be timed: %m");
}

/* "web-1", "stdout", "a line": one more entry to show. A view that has too many loses the new ones, and says how many. */
static int keep(LogStream *s, uint64_t time, const char *node, const char *service, const char *instance,
                const char *stream, const char *message) {
        Entry *e;

        if (!STR_IN_SET(stream, "warning", "denied") &&
                        (s->n_entries >= LOG_LINES_MAX * 4 || s->bytes >= LOG_STREAM_BYTES_MAX)) {
                s->dropped++;
                return 0;
        }

        if (s->n_entries == s->n_allocated) {
                size_t n = s->n_allocated ? s->n_allocated * 2 : 64;
                Entry *more = reallocarray(s->entries, n, sizeof(Entry));

                if (!more)
                        return -ENOMEM;
                s->entries = more;
                s->n_allocated = n;
        }

        e = s->entries + s->n_entries;
        *e = (Entry){
                .time = time,
                .order = s->order++,
                .stream = streq(stream, "warning")  ? "warning"
                          : streq(stream, "denied") ? "denied"
                          : streq(stream, "stderr") ? "stderr"
                                                    : "stdout",
                .node = strdup(node),
                .instance = strdup(instance),
                .message = strndup(message, MESSAGE_BYTES_MAX),
                .service = strdup(service),
        };
        s->n_entries++;
        if (!e->node || !e->instance || !e->message || !e->service)
                return -ENOMEM;

        s->bytes += sizeof(Entry) + strlen(e->message) + 64;
        return 0;
}

static int warn(LogStream *s, Part *p, const char *format, ...) _printf_(3, 4);
static int warn(LogStream *s, Part *p, const char *format, ...) {
        _cleanup_free_ char *sentence = NULL;
        va_list ap;

        va_start(ap, format);
        sentence = strvprintf(format, ap);
        va_end(ap);
        if (!sentence)
                return -ENOMEM;

        return keep(s, now_realtime(), p ? p->name : "", "", "", "warning", sentence);
}

static int compare_entries(const void *a, const void *b) {
        const Entry *x = a, *y = b;

        if (x->time != y->time)
                return x->time < y->time ? -1 : 1;
        return x->order < y->order ? -1 : x->order > y->order;
}

/* Gives everything to the reader. Returns 0 when the stream still exists. */
static int flush(LogStream *s, bool end) {
        LogEntry batch[BATCH_ENTRIES];
        size_t from = 0, wanted = s->options.lines;
        int r = 0;

        if (s->sink->congested && s->sink->congested(s->userdata) && !end) {
                arm(s, SETTLE_USEC); /* what does not fit meanwhile is counted by keep() */
                return 0;
        }
        if (s->dropped > 0) {
                uint64_t n = s->dropped;

                s->dropped = 0;
                (void) warn(s, NULL, "%llu lines were dropped, the reader is too slow for them.",
                                (unsigned long long) n);
        }

        if (s->n_entries > 1)
                qsort(s->entries, s->n_entries, sizeof(Entry), compare_entries);
        if (!s->live && s->options.since == 0 && !s->options.after && s->n_entries > wanted) {
                /* Each node gave as many as are wanted of all; warnings are the youngest and always among them. */
                from = s->n_entries - MAX(wanted, 1U);
        }

        for (size_t i = from; r >= 0 && (i < s->n_entries || end);) {
                size_t n = 0, bytes = 0;
                bool last;

                while (i < s->n_entries && n < BATCH_ENTRIES && bytes < BATCH_BYTES) {
                        Entry *e = s->entries + i++;

                        batch[n++] = (LogEntry){ e->time, e->node, e->instance, e->stream, e->message,
                                e->service };
                        bytes += strlen(e->message);
                }
                last = end && i >= s->n_entries;
                r = s->sink->entries(s->id, batch, n, last, s->userdata);
                if (last)
                        break;
        }
        entries_clear(s);

        if (r < 0)
                log_debug_errno(r, "The reader of a log view is gone: %m");
        if (r < 0 || end) {
                stream_free(s);
                return -ECANCELED;
        }
        return 0;
}

static bool parts_are_open(LogStream *s) {
        Part *p;

        DL_FOREACH(s->parts, p)
                if (p->open)
                        return true;
        return false;
}

static Part *find_part(LogStream *s, const char *node_id) {
        Part *p;

        DL_FOREACH(s->parts, p)
                if (streq(p->node_id, node_id))
                        return p;
        return NULL;
}

static Part *part_new(LogStream *s, const char *node_id) {
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        Part *p;

        p = new0(Part, 1);
        if (!p)
                return NULL;
        p->node_id = strdup(node_id);
        p->name = store_get_node(s->streams->master->store, node_id, &n) >= 0 ? TAKE_PTR(n->name)
                                                                              : strdup("?");
        if (!p->node_id || !p->name)
                return part_free(p);

        p->stream = s;
        DL_APPEND(s->parts, p);
        return p;
}

/* What on_opened() needs: the stream, or all of them, may be gone by then, so they are looked up. */
typedef struct Opening {
        Master *master;
        uint64_t number;
        char *node_id;
} Opening;

static Opening *opening_free(Opening *o) {
        if (o)
                free(o->node_id);
        free(o);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Opening *, opening_free);

static int ask_node(LogStream *s, Part *p, NodeSession *session, uint32_t lines, uint64_t since) {
        _cleanup_json_ json_object *params = json_object_new_object();
        _cleanup_(opening_freep) Opening *o = new0(Opening, 1);
        _cleanup_free_ char *service = s->service_id ? strjoin(s->stack, "/", s->service) : NULL;
        int r;

        if (!params || !o || (s->service_id && !service))
                return -ENOMEM;
        o->master = s->streams->master;
        o->number = s->number;
        o->node_id = strdup(p->node_id);
        if (!o->node_id)
                return -ENOMEM;

        r = json_add_u64(params, "stream", s->number);
        if (r >= 0)
                r = json_add_string(params, "grid", s->grid);
        if (r >= 0 && service)
                r = json_add_string(params, "service", service);
        if (r >= 0 && s->options.instance > 0)
                r = json_add_u64(params, "instance", s->options.instance);
        if (r >= 0)
                r = json_add_u64(params, "lines", lines);
        if (r >= 0 && since > 0)
                r = json_add_u64(params, "since", since);
        if (r >= 0)
                r = json_add_bool(params, "follow", s->options.follow);
        if (r < 0)
                return r;

        p->open = true;
        p->warned = false;
        r = session_call(session, "logs.open", TAKE_PTR(params), CHANNEL_CALL_TIMEOUT_USEC, on_opened, o);
        if (r < 0) {
                p->open = false;
                return r;
        }
        TAKE_PTR(o);
        return 0;
}

/* Each node from where it was: those of others may be newer than what it has not said yet. Many entries may have one time, so that is
 * asked for again, and those that came are left out. */
static int ask_part(LogStream *s, Part *p, NodeSession *session, bool first) {
        uint64_t after;

        if (p->last > 0) {
                p->again_time = p->last;
                p->n_again = p->n_last;
                return ask_node(s, p, session, LOG_LINES_MAX, p->last);
        }
        if (s->options.after && json_find_u64(s->options.after, p->name, &after, NULL) > 0 && after > 0)
                return ask_node(s, p, session, LOG_LINES_MAX, after);
        if (first || s->options.since > 0)
                return ask_node(s, p, session, s->options.lines, s->options.since);
        return ask_node(s, p, session, LOG_LINES_MAX, s->opened_at);
}

static bool part_take(Part *p, uint64_t time) {
        if (p->n_again > 0 && time == p->again_time) {
                p->n_again--;
                return false;
        }
        if (time > p->last) {
                p->last = time;
                p->n_last = 0;
        }
        if (time == p->last)
                p->n_last++;
        return true;
}

/* If it was not asked yet. quiet: that it is offline is not worth a word. */
static int ask_about(LogStream *s, const char *node_id, bool first, bool quiet) {
        Part *p = find_part(s, node_id);
        NodeSession *session;

        if (p && (p->open || first))
                return 0;
        session = node_sessions_find(s->streams->master->sessions, node_id);
        if (!session && (quiet || (!first && (!p || p->warned))))
                return 0;
        if (!p) {
                p = part_new(s, node_id);
                if (!p)
                        return -ENOMEM;
        }
        if (!session) {
                p->warned = true;
                return warn(s, p, "Node '%s' is offline, its lines are missing.", p->name);
        }
        return ask_part(s, p, session, first);
}

/* Each node that has instances of the service. A job that has run has none, and may have run anywhere; of the whole grid it is all. */
static int ask_nodes(LogStream *s, bool first) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        Store *store = s->streams->master->store;
        int r;

        if (s->service_id) {
                r = store_list_instances_of_service(store, s->service_id, &l);
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(i, l.rows, l.n) {
                if (!(*i)->node_id || (s->options.instance > 0 && (*i)->number != s->options.instance))
                        continue;
                r = ask_about(s, (*i)->node_id, first, /* quiet= */ false);
                if (r < 0)
                        return r;
        }

        if (s->service_id && !s->is_job)
                return 0;
        r = store_list_nodes(store, s->grid_id, &nodes);
        if (r < 0)
                return r;
        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                r = ask_about(s, (*n)->id, first, /* quiet= */ true);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        LogStream *s = userdata;
        Part *p;
        int r;

        if (!s->begun) {
                s->begun = true;
                if (parts_are_open(s)) {
                        if (s->n_entries > 0 && flush(s, /* end= */ false) < 0)
                                return 0;
                        arm(s, SETTLE_USEC);
                        return 0;
                }
        }

        if (s->dirty) {
                s->dirty = false;
                r = ask_nodes(s, /* first= */ false);
                if (r < 0)
                        log_debug_errno(r, "Nodes of a log view cannot be asked: %m");
        }

        if (!s->options.follow && parts_are_open(s)) {
                if (now_realtime() < s->opened_at + HISTORY_USEC) {
                        arm(s, SETTLE_USEC);
                        return 0;
                }
                DL_FOREACH(s->parts, p)
                        if (p->open)
                                (void) warn(s, p, "Node '%s' did not give all its lines in time.", p->name);
        }

        if (flush(s, /* end= */ !s->options.follow) < 0)
                return 0;
        s->live = true;
        return 0;
}

static LogStream *find_number(LogStreams *l, uint64_t number) {
        LogStream *s;

        DL_FOREACH(l->list, s)
                if (s->number == number)
                        return s;
        return NULL;
}

/* A part that is through may have been the last one. */
static void part_ended(LogStream *s, Part *p) {
        p->open = false;
        arm(s, s->options.follow || parts_are_open(s) ? SETTLE_USEC : 0);
}

static void on_opened(NodeSession *session, json_object *result, const KError *error, void *userdata) {
        _cleanup_(opening_freep) Opening *o = userdata;
        LogStream *s = o->master->log_streams ? find_number(o->master->log_streams, o->number) : NULL;
        Part *p = s ? find_part(s, o->node_id) : NULL;

        if (!p || !kerror_is_set(error))
                return;

        (void) warn(s, p, "Node '%s' cannot show its lines: %s", p->name, kerror_message(error));
        part_ended(s, p);
}

static int take_entry(LogStream *s, Part *p, json_object *e) {
        _cleanup_free_ char *instance = NULL, *own = NULL;
        const char *message, *stream = "stdout", *service = NULL, *slash;
        uint64_t time, number = 0;
        int r;

        r = json_get_u64(e, "time", &time, NULL);
        if (r >= 0)
                r = json_get_string(e, "message", &message, NULL);
        if (r >= 0)
                r = json_find_string(e, "stream", &stream, NULL);
        if (r >= 0)
                r = json_find_u64(e, "instance", &number, NULL);
        if (r >= 0 && !s->service_id)
                r = json_get_string(e, "service", &service, NULL);
        if (r < 0 || number > UINT32_MAX)
                return -EBADMSG;
        if (!part_take(p, time))
                return 0;
        if (s->service_id)
                service = own = strjoin(s->stack, "/", s->service);
        if (!service)
                return -ENOMEM;
        slash = strchr(service, '/');
        if (!slash)
                return -EBADMSG;

        instance = strprintf("%s-%u", slash + 1, (unsigned) number);
        if (!instance)
                return -ENOMEM;
        return keep(s, time, p->name, service, instance, stream, message);
}

int log_streams_data(Master *m, struct NodeSession *session, json_object *params) {
        json_object *entries = NULL;
        uint64_t number;
        bool end = false;
        LogStream *s;
        Part *p;
        int r;

        r = json_get_u64(params, "stream", &number, NULL);
        if (r >= 0)
                r = json_find_array(params, "entries", &entries, NULL);
        if (r >= 0)
                r = json_find_bool(params, "end", &end, NULL);
        if (r < 0)
                return -EBADMSG;

        /* Closed meanwhile, or not this node's business: not worth a word. */
        s = m->log_streams ? find_number(m->log_streams, number) : NULL;
        p = s ? find_part(s, session_node_id(session)) : NULL;
        if (!p || !p->open)
                return 0;

        FOREACH_JSON_ARRAY(e, entries) {
                r = take_entry(s, p, e);
                if (r < 0)
                        return r;
        }

        if (end)
                part_ended(s, p);
        else if (s->live)
                arm(s, 0);
        else if (s->options.follow)
                arm(s, now_realtime() < s->opened_at + HISTORY_USEC ? SETTLE_USEC : 0);
        return 0;
}

void log_streams_node_gone(Master *m, const char *node_id) {
        LogStream *s;

        if (!m->log_streams)
                return;
        DL_FOREACH(m->log_streams->list, s) {
                Part *p = find_part(s, node_id);

                if (!p || !p->open)
                        continue;
                p->warned = true;
                (void) warn(s, p, "Node '%s' has gone offline, its further lines are missing.", p->name);
                part_ended(s, p);
        }
}

static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        LogStreams *l = userdata;
        LogStream *s;

        if (kind != STORE_INSTANCE && kind != STORE_NODE)
                return;
        DL_FOREACH(l->list, s)
                if (s->options.follow && !s->dirty && streq_ptr(s->grid_id, grid_id)) {
                        s->dirty = true;
                        if (s->live) /* else it is looked at before it becomes so */
                                arm(s, SETTLE_USEC);
                }
}

/* What was gathered is not for them any more either. */
static void on_standing_lost(const KError *refusal, void *userdata) {
        LogStream *s = userdata;

        entries_clear(s);
        (void) keep(s, now_realtime(), "", "", "", "denied", kerror_message(refusal));
        (void) flush(s, /* end= */ true);
}

static unsigned count_of(LogStreams *l, const Caller *c) {
        unsigned n = 0;
        LogStream *s;

        DL_FOREACH(l->list, s)
                n += streq_ptr(s->caller, c->name);
        return n;
}

static int take_caller(LogStream *s, Caller *c) {
        s->options.caller = NULL; /* not ours */
        if (!c)
                return 0;
        s->caller = strdup(strempty(c->name));
        if (!s->caller)
                return -ENOMEM;
        return standing_new(s->streams->master, c, "member", s->grid, on_standing_lost, s, &s->standing);
}

int log_streams_open(LogStreams *l, const GridRow *grid, const ServiceRow *service,
                const LogOptions *options, const LogSink *sink, void *userdata, const char **ret_id,
                KError *reterr) {
        _cleanup_(stream_freep) LogStream *s = NULL;
        int r;

        assert(l);
        assert(sink);

        if (l->n >= LOG_STREAMS_MAX) {
                r = kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u log views can be open.",
                                LOG_STREAMS_MAX);
                goto refused;
        }
        if (options->caller && count_of(l, options->caller) >= LOG_STREAMS_PER_CALLER_MAX) {
                r = kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u log views of one caller can be open.",
                                LOG_STREAMS_PER_CALLER_MAX);
                goto refused;
        }

        s = new0(LogStream, 1);
        if (!s) {
                r = -ENOMEM;
                goto refused;
        }
        s->sink = sink;
        s->userdata = userdata; /* from here on the stream frees it */
        s->options = *options;
        s->options.after = json_object_get(options->after);
        s->opened_at = now_realtime();
        s->id = store_new_id();
        s->grid_id = strdup(grid->id);
        s->grid = strdup(grid->name);
        if (!s->id || !s->grid_id || !s->grid)
                return -ENOMEM;
        if (service) {
                s->is_job = service_is_job(service);
                s->service_id = strdup(service->id);
                s->stack = strdup(service->stack);
                s->service = strdup(service->name);
                if (!s->service_id || !s->stack || !s->service)
                        return -ENOMEM;
        }
        s->streams = l;
        s->number = ++l->next_number;
        DL_APPEND(l->list, s);
        l->n++;

        r = take_caller(s, options->caller);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(
                        l->master->event, &s->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, s);
        if (r < 0)
                return r;
        r = ask_nodes(s, /* first= */ true);
        if (r < 0)
                return r;
        /* What is wrong is shown at once, and never before the caller knows the id. */
        s->begun = s->n_entries == 0;
        arm(s, s->n_entries > 0 || !s->parts ? USEC_PER_MSEC : SETTLE_USEC);

        if (sink->opened)
                sink->opened(s->id, userdata);
        *ret_id = s->id;
        TAKE_PTR(s);
        return 0;

refused:
        if (sink->free)
                sink->free(userdata);
        return r;
}

int log_streams_close(LogStreams *l, const char *id) {
        LogStream *s;

        DL_FOREACH(l->list, s)
                if (streq(s->id, id)) {
                        stream_free(s);
                        return 0;
                }

        return -ENOENT;
}

int log_streams_new(Master *m, LogStreams **ret) {
        _cleanup_(log_streams_freep) LogStreams *l = NULL;
        int r;

        assert(m);
        assert(ret);

        l = new0(LogStreams, 1);
        if (!l)
                return -ENOMEM;
        l->master = m;
        r = store_watch(m->store, on_change, l);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

LogStreams *log_streams_free(LogStreams *l) {
        if (!l)
                return NULL;

        while (l->list)
                stream_free(l->list);
        free(l);
        return NULL;
}
