/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-stream.h"

#include <utlist.h>

#include "audit.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "node-session.h"
#include "standing.h"
#include "store.h"
#include "streams.h"
#include "string-util.h"

/* Writes that wait for room: a caller that sends on regardless of answers does not grow the master. */
#define WRITES_WAITING_MAX 4U

typedef struct Write {
        OperationCall *call; /* its parameters hold the data */
        const char *data;
        size_t size;
        struct Write *prev, *next;
} Write;

struct CallerStream {
        Master *master;
        char *id, *address, *what;
        Stream *stream;
        OperationCall *opening; /* until it runs */
        const StreamSink *sink;
        void *userdata;
        Write *writes;
        unsigned n_writes;
        bool input_ends;    /* behind what waits */
        json_object *audit; /* of its end; NULL until it runs */
        uint64_t opened_at;
        Standing *standing; /* of who opened it; NULL: is not watched */
        struct CallerStream *prev, *next;
};

static void write_done(CallerStream *s, Write *w, const KError *error) {
        OperationCall *call = w->call;

        DL_DELETE(s->writes, w);
        s->n_writes--;
        free(w);
        operation_call_finish(call, NULL, error);
}

/* Answers whoever still waits. */
static CallerStream *caller_stream_free(CallerStream *s) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (!s)
                return NULL;

        if (s->prev)
                DL_DELETE(s->master->caller_streams, s);
        standing_free(s->standing);
        stream_close(s->stream);
        (void) kerror_set(&error, K_NO_SUCH_OPERATION, "The stream has ended.");
        while (s->writes)
                write_done(s, s->writes, &error);
        if (s->opening)
                operation_call_finish(s->opening, NULL, &error);
        if (s->sink && s->sink->free)
                s->sink->free(s->userdata);
        json_object_put(s->audit);
        free(s->id);
        free(s->address);
        free(s->what);
        free(s);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(CallerStream *, caller_stream_free);

/* Writes that the window has room for, in their order. */
static void flush(CallerStream *s) {
        while (s->writes && s->stream) {
                size_t n = MIN(s->writes->size, stream_room(s->stream));
                int r;

                if (n == 0 && s->writes->size > 0)
                        return;
                r = stream_write(s->stream, s->writes->data, n);
                if (r < 0) /* its end is near */
                        return;
                s->writes->data += n;
                s->writes->size -= n;
                if (s->writes->size == 0)
                        write_done(s, s->writes, NULL);
        }
        if (s->input_ends && !s->writes && s->stream)
                (void) stream_end_input(s->stream);
}

static void on_opened(Stream *stream, void *userdata) {
        _cleanup_json_ json_object *result = json_object_new_object();
        _cleanup_kerror_ KError error = KERROR_NULL;
        CallerStream *s = userdata;
        int r;

        r = result ? json_add_string(result, "stream", s->id) : -ENOMEM;
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "The stream cannot be opened: %m.");
                operation_call_finish(TAKE_PTR(s->opening), NULL, &error);
                caller_stream_free(s);
                return;
        }

        s->audit = audit_record(s->opening, NULL);
        s->opened_at = now_monotonic();
        operation_call_finish(TAKE_PTR(s->opening), result, NULL);
}

static void on_data(Stream *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        CallerStream *s = userdata;
        int r;

        r = s->sink->data(s->id, channel, data, size, s->userdata);
        if (r < 0) {
                log_debug_errno(r, "The reader of a stream is gone: %m");
                caller_stream_free(s);
        }
}

static void on_writable(Stream *stream, void *userdata) {
        flush(userdata);
}

/* The opening is in the audit; how it ended belongs there too. */
static void audit_end(CallerStream *s, int status, const KError *error) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_free_ char *name = NULL, *sentence = NULL;
        const char *operation = NULL, *who = NULL;
        AuditMark row;
        int r;

        if (!s->audit || json_find_string(s->audit, "operation", &operation, NULL) <= 0)
                return;
        (void) json_find_string(s->audit, "name", &who, NULL);
        sentence = kerror_is_set(error) ? strprintf("%s for %s was cut off: %s", s->what, strna(who),
                                                          kerror_message(error))
                                        : strprintf("%s for %s ended with status %i.", s->what, strna(who),
                                                          status);

        name = strjoin(operation, ".end");
        r = name ? audit_set_end(s->audit, name, status, now_monotonic() - s->opened_at, error) : -ENOMEM;
        if (r >= 0)
                r = store_begin(s->master->store, NULL);
        if (r >= 0) {
                t = s->master->store;
                r = audit_store(s->master, s->audit, &row);
        }
        if (r >= 0)
                r = store_commit(s->master->store, NULL);
        audit_log(s->master, s->audit, r < 0 ? NULL : &row, sentence);
        if (r < 0)
                log_debug_errno(r, "The audit of a stream's end is in the journal only: %m");
}

static void on_ended(Stream *stream, int status, const KError *error, void *userdata) {
        CallerStream *s = userdata;

        s->stream = NULL;
        if (s->opening)
                operation_call_finish(TAKE_PTR(s->opening), NULL, error);
        else {
                audit_end(s, status, error);
                if (s->sink->ended)
                        s->sink->ended(s->id, status, error, s->userdata);
        }
        caller_stream_free(s);
}

/* The caller may not do any more what it is doing. It is told, and what runs on the node ends. */
static void on_standing_lost(const KError *refusal, void *userdata) {
        CallerStream *s = userdata;

        if (s->opening)
                operation_call_finish(TAKE_PTR(s->opening), NULL, refusal);
        else {
                audit_end(s, -1, refusal);
                if (s->sink->ended)
                        s->sink->ended(s->id, -1, refusal, s->userdata);
        }
        caller_stream_free(s);
}

int caller_stream_open(OperationCall *c, NodeSession *session, const char *kind, json_object *params,
                const char *what, KError *reterr) {
        static const StreamHandler handler = {
                .opened = on_opened,
                .data = on_data,
                .writable = on_writable,
                .ended = on_ended,
        };
        _cleanup_(caller_stream_freep) CallerStream *s = NULL;
        _cleanup_json_ json_object *o = params;
        int r;

        if (!caller_has_stream_sink(c->caller))
                return kerror_set(reterr, K_NOT_SUPPORTED, "Streams cannot be had this way.");
        s = new0(CallerStream, 1);
        if (!s || !o)
                return -ENOMEM;
        s->master = c->master;
        s->id = store_new_id();
        s->address = strdup(strempty(c->caller->address));
        s->what = strdup(what);
        if (!s->id || !s->address || !s->what)
                return -ENOMEM;
        r = caller_stream_sink(c->caller, &s->sink, &s->userdata);
        if (r < 0)
                return r;
        r = standing_new(c->master, c->caller, c->operation->role, c->grid ? c->grid->name : NULL,
                        on_standing_lost, s, &s->standing);
        if (r >= 0)
                r = stream_open(c->master->streams, session, kind, TAKE_PTR(o), c->caller->name, &handler, s,
                                &s->stream, reterr);
        if (r < 0)
                return r;

        s->opening = c;
        if (s->sink->opened)
                s->sink->opened(s->id, s->userdata);
        DL_APPEND(c->master->caller_streams, s);
        TAKE_PTR(s);
        return 1;
}

static void cut_off(CallerStream *s, const char *sentence) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) kerror_set(&error, K_CONFLICT, "%s", sentence);
        if (!s->opening)
                audit_end(s, -1, &error);
        caller_stream_free(s);
}

static CallerStream *find(Master *m, const char *id) {
        CallerStream *s;

        DL_FOREACH(m->caller_streams, s)
                if (streq(s->id, id))
                        return s;
        return NULL;
}

int caller_stream_abandon(Master *m, const char *id) {
        CallerStream *s = find(m, id);

        if (!s)
                return -ENOENT;
        cut_off(s, "The caller went away.");
        return 0;
}

CallerStream *caller_stream_find(OperationCall *c, KError *reterr) {
        const char *id = NULL;
        CallerStream *s;

        if (json_get_string(c->parameters, "stream", &id, reterr) < 0)
                return NULL;
        s = find(c->master, id);
        if (s && !s->opening && streq(s->address, strempty(c->caller->address)))
                return s;
        (void) kerror_set(reterr, K_NO_SUCH_OPERATION, "No such stream is open.");
        return NULL;
}

Stream *caller_stream_get(CallerStream *s) {
        return s->stream;
}

int caller_stream_write(CallerStream *s, OperationCall *c, const void *data, size_t size, KError *reterr) {
        Write *w;

        if (s->input_ends)
                return kerror_set(reterr, K_CONFLICT, "The input of the stream was ended.");
        if (s->n_writes >= WRITES_WAITING_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u writes can wait for their answer.",
                                WRITES_WAITING_MAX);
        w = new0(Write, 1);
        if (!w)
                return -ENOMEM;
        w->call = c;
        w->data = data;
        w->size = size;
        DL_APPEND(s->writes, w);
        s->n_writes++;
        flush(s);
        return 1;
}

void caller_stream_end_input(CallerStream *s) {
        s->input_ends = true;
        flush(s);
}

void caller_stream_close(CallerStream *s) {
        cut_off(s, "The caller closed it.");
}
