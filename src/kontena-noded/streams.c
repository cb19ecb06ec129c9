/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "streams.h"

#include <uthash.h>

#include "json-util.h"
#include "log.h"
#include "stream-frame.h"
#include "stream-window.h"
#include "string-util.h"

struct Stream {
        Streams *streams;
        uint32_t number;
        uint64_t request; /* stream.open, until it is answered; 0: answered */
        const StreamProvider *provider;
        json_object *params; /* of stream.open, while others are opened first */
        void *p;             /* the provider's; NULL before open() has returned */

        StreamWindow window; /* open when it was answered */
        bool counts_frames;  /* the master does */
        bool input_over;
        bool over[STREAM_CHANNELS]; /* channels of ours */
        UT_hash_handle hh;
};

struct Streams {
        StreamsHandler handler;
        const StreamProvider *const *providers;
        void *provider_userdata;
        Stream *by_number; /* in the order in which they came */
        bool starting;     /* start_waiting() is at work */
};

static void start_waiting(Streams *l);

static Stream *stream_free(Stream *s) {
        if (!s)
                return NULL;

        if (s->hh.tbl)
                HASH_DEL(s->streams->by_number, s);
        if (s->p)
                s->provider->free(s->p);
        json_object_put(s->params);
        free(s);
        return NULL;
}

static json_object *error_json(const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "code", kerror_bus_name(error->code)) < 0 ||
                        json_add_string(o, "message", kerror_message(error)) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *number_json(const Stream *s) {
        _cleanup_json_ json_object *o = json_object_new_object();

        return o && json_add_u64(o, "stream", s->number) >= 0 ? TAKE_PTR(o) : NULL;
}

/* What cannot be said to the master is lost with the connection, which is about to end: a full queue is no way to go on. */
static void notify(Stream *s, const char *method, json_object *params) {
        int r;

        r = params ? s->streams->handler.notify(method, params, s->streams->handler.userdata) : -ENOMEM;
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "The master cannot be told '%s' of stream %u: %m", method, s->number);
}

static void say_end(Stream *s, int status, const KError *error) {
        _cleanup_json_ json_object *params = number_json(s);

        if (params && json_add_i64(params, "status", status) >= 0 &&
                        (!kerror_is_set(error) || json_add(params, "error", error_json(error)) >= 0))
                notify(s, "stream.end", TAKE_PTR(params));
        else
                notify(s, "stream.end", NULL);
}

static void refuse(Stream *s, const KError *error) {
        _cleanup_kerror_ KError none = KERROR_NULL;
        uint64_t request = s->request;
        int r;

        s->request = 0;
        if (!kerror_is_set(error))
                (void) kerror_set(&none, K_INTERNAL, "The stream ended before it began.");
        r = s->streams->handler.reply_error(
                        request, kerror_is_set(error) ? error : &none, s->streams->handler.userdata);
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "The master cannot be answered: %m");
}

void stream_opened(Stream *s) {
        _cleanup_json_ json_object *result = NULL;
        uint64_t request = s->request;
        int r;

        if (request == 0)
                return;

        s->request = 0;
        result = json_object_new_object();
        r = result ? 0 : -ENOMEM;
        if (r >= 0 && s->counts_frames)
                r = json_add_u64(result, "frame_cost", STREAM_FRAME_COST);
        r = r >= 0 ? s->streams->handler.reply(request, TAKE_PTR(result), s->streams->handler.userdata) : r;
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "The master cannot be answered: %m");
        stream_window_open(&s->window, s->counts_frames);
        start_waiting(s->streams);
}

size_t stream_room(const Stream *s) {
        return stream_window_room(&s->window);
}

static int send_frame(Stream *s, unsigned channel, const void *data, size_t size) {
        uint8_t head[STREAM_FRAME_HEAD_SIZE];

        assert(channel > 0 && channel < STREAM_CHANNELS);
        assert(s->request == 0);

        stream_frame_head(head, s->number, channel);
        return s->streams->handler.send(head, sizeof(head), data, size, s->streams->handler.userdata);
}

int stream_send(Stream *s, unsigned channel, const void *data, size_t size) {
        assert(size <= MIN(stream_room(s), (size_t) STREAM_DATA_MAX));

        if (size == 0)
                return 0;
        if (s->over[channel])
                return -EPIPE;
        stream_window_sent(&s->window, size);
        return send_frame(s, channel, data, size);
}

int stream_send_end(Stream *s, unsigned channel) {
        if (s->over[channel])
                return 0;
        s->over[channel] = true;
        return send_frame(s, channel, NULL, 0);
}

void stream_credit(Stream *s, size_t size) {
        _cleanup_json_ json_object *params = NULL;
        size_t cost = 0;
        int r;

        r = stream_window_take(&s->window, size, &cost);
        assert(r >= 0);

        if (r < 0 || cost == 0)
                return;
        params = number_json(s);
        if (params && json_add_u64(params, "bytes", cost) >= 0)
                notify(s, "stream.credit", TAKE_PTR(params));
        else
                notify(s, "stream.credit", NULL);
}

void stream_end(Stream *s, int status, const KError *error) {
        Streams *l = s->streams;

        assert(s->p || s->params);

        if (s->request != 0)
                refuse(s, error);
        else
                say_end(s, status, error);
        stream_free(s);
        start_waiting(l);
}

/* The master does what it may not. */
static void fail(Stream *s, const char *sentence) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) kerror_set(&error, K_INVALID_ARGUMENT, "%s", sentence);
        stream_end(s, -1, &error);
}

/* Requests and notifications */

static Stream *find(Streams *l, json_object *params) {
        uint64_t number;
        uint32_t key;
        Stream *s;

        if (json_get_u64(params, "stream", &number, NULL) < 0 || number > UINT32_MAX)
                return NULL;
        key = (uint32_t) number;
        HASH_FIND(hh, l->by_number, &key, sizeof(key), s);
        return s;
}

static const StreamProvider *find_provider(Streams *l, const char *kind) {
        for (const StreamProvider *const *p = l->providers; *p; p++)
                if (streq((*p)->kind, kind))
                        return *p;
        return NULL;
}

/* NULL: none waits, or enough are being opened. */
static Stream *next_waiting(Streams *l) {
        Stream *s, *next, *first = NULL;
        unsigned opening = 0;

        HASH_ITER(hh, l->by_number, s, next) {
                if (s->params && !first)
                        first = s;
                opening += s->request != 0 && !s->params;
        }
        return opening < STREAMS_OPENING_MAX ? first : NULL;
}

/* Each start is several calls to systemd, and the bus bounds how many of a peer may have no answer yet. */
static void start_waiting(Streams *l) {
        Stream *s;

        if (l->starting)
                return;
        l->starting = true;
        while ((s = next_waiting(l))) {
                _cleanup_json_ json_object *params = TAKE_PTR(s->params);
                _cleanup_kerror_ KError error = KERROR_NULL;
                void *p = NULL;
                int r;

                r = s->provider->open(s, params, l->provider_userdata, &p, &error);
                if (r >= 0) {
                        assert(p);
                        s->p = p;
                        continue;
                }
                if (!kerror_is_set(&error))
                        (void) kerror_set_errno(&error, r, "The stream cannot be opened: %m");
                refuse(s, &error);
                stream_free(s);
        }
        l->starting = false;
}

static int open_stream(Streams *l, uint64_t id, json_object *params, KError *reterr) {
        const StreamProvider *provider;
        const char *kind;
        uint64_t number, frame_cost = 0;
        Stream *s;
        int r;

        r = json_get_u64(params, "stream", &number, reterr);
        if (r >= 0)
                r = json_find_u64(params, "frame_cost", &frame_cost, reterr);
        if (r >= 0)
                r = json_get_string(params, "kind", &kind, reterr);
        if (r < 0)
                return r;
        if (number > UINT32_MAX || find(l, params))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Stream %llu cannot be opened, the number is in use.",
                                (unsigned long long) number);
        if (streams_count(l) >= STREAMS_PER_NODE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u streams can be open on one node.",
                                STREAMS_PER_NODE_MAX);
        provider = find_provider(l, kind);
        if (!provider)
                return kerror_set(reterr, K_NOT_SUPPORTED, "This node has no streams of the kind '%.64s'.",
                                kind);

        s = new0(Stream, 1);
        if (!s)
                return -ENOMEM;
        s->streams = l;
        s->number = (uint32_t) number;
        s->request = id;
        s->provider = provider;
        s->counts_frames = frame_cost == STREAM_FRAME_COST; /* another rule: as if it had none */
        s->params = json_object_get(params);
        HASH_ADD(hh, l->by_number, number, sizeof(s->number), s);
        if (!s->hh.tbl) {
                stream_free(s);
                return -ENOMEM;
        }

        start_waiting(l);
        return 0;
}

static void method_open(Streams *l, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (id == 0) /* nobody could learn what became of it */
                return;
        r = open_stream(l, id, params, &error);
        if (r >= 0)
                return;
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "The stream cannot be opened: %m");
        r = l->handler.reply_error(id, &error, l->handler.userdata);
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "The master cannot be answered: %m");
}

static void method_close(Stream *s, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Streams *l = s->streams;

        if (s->request != 0) {
                (void) kerror_set(&error, K_CONFLICT, "The stream was closed before it was open.");
                refuse(s, &error);
        }
        stream_free(s);
        start_waiting(l);
}

static void method_credit(Stream *s, json_object *params) {
        bool waited = stream_room(s) == 0;
        uint64_t bytes;

        if (s->request != 0 || json_get_u64(params, "bytes", &bytes, NULL) < 0 ||
                        stream_window_refill(&s->window, bytes) < 0) {
                fail(s, "More was given back than was sent.");
                return;
        }
        if (waited && stream_room(s) > 0 && s->provider->ready)
                s->provider->ready(s->p);
}

static void method_resize(Stream *s, json_object *params) {
        uint64_t rows, columns;

        if (s->request != 0 || !s->provider->resize)
                return;
        if (json_get_u64(params, "rows", &rows, NULL) >= 0 &&
                        json_get_u64(params, "columns", &columns, NULL) >= 0 && rows <= UINT16_MAX &&
                        columns <= UINT16_MAX)
                s->provider->resize(s->p, (unsigned) rows, (unsigned) columns);
}

static void method_signal(Stream *s, json_object *params) {
        const char *name;
        int number;

        if (s->request != 0 || !s->provider->signal || json_get_string(params, "signal", &name, NULL) < 0)
                return;
        number = stream_signal_from_name(name);
        if (number > 0)
                s->provider->signal(s->p, number);
}

bool streams_method(Streams *l, uint64_t id, const char *method, json_object *params) {
        static const struct {
                const char *name;
                void (*function)(Stream *s, json_object *params);
        } methods[] = {
                { "stream.close", method_close },
                { "stream.credit", method_credit },
                { "stream.resize", method_resize },
                { "stream.signal", method_signal },
        };
        Stream *s;

        if (streq(method, "stream.open")) {
                method_open(l, id, params);
                return true;
        }
        FOREACH_ARRAY(m, methods, ELEMENTSOF(methods)) {
                if (!streq(m->name, method))
                        continue;
                s = find(l, params);
                if (s) /* else it has ended, and the master does not know yet */
                        m->function(s, params);
                return true;
        }
        return false;
}

void streams_binary(Streams *l, const void *data, size_t size) {
        StreamFrame f;
        Stream *s;
        int r;

        r = stream_frame_parse(data, size, &f);
        if (r <= 0) {
                log_debug("The master sent a binary message that this version does not know.");
                return;
        }
        HASH_FIND(hh, l->by_number, &f.stream, sizeof(f.stream), s);
        if (!s)
                return;

        /* Who takes no data may be told that there is none. */
        if (s->request != 0 || f.channel != 0 || s->input_over || (f.size > 0 && !s->provider->write))
                fail(s, "The stream takes no data there.");
        else if (f.size == 0) {
                s->input_over = true;
                if (s->provider->end_input)
                        s->provider->end_input(s->p);
        } else if (stream_window_receive(&s->window, f.size) < 0)
                fail(s, "More was sent than there is room for.");
        else
                s->provider->write(s->p, f.data, f.size);
}

void streams_close_all(Streams *l) {
        if (!l)
                return;
        while (l->by_number)
                stream_free(l->by_number);
}

size_t streams_count(const Streams *l) {
        return HASH_COUNT(l->by_number);
}

int streams_new(const StreamsHandler *handler, const StreamProvider *const *providers,
                void *provider_userdata, Streams **ret) {
        Streams *l;

        assert(handler);
        assert(providers);
        assert(ret);

        l = new0(Streams, 1);
        if (!l)
                return -ENOMEM;
        l->handler = *handler;
        l->providers = providers;
        l->provider_userdata = provider_userdata;

        *ret = l;
        return 0;
}

Streams *streams_free(Streams *l) {
        if (!l)
                return NULL;

        streams_close_all(l);
        free(l);
        return NULL;
}
