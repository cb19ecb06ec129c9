/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "streams.h"

#include <uthash.h>

#include "json-util.h"
#include "log.h"
#include "node-session.h"
#include "stream-frame.h"
#include "stream-window.h"
#include "string-util.h"

struct Stream {
        Streams *streams;
        uint32_t number;
        char *node_id, *owner;
        uint64_t session_id;
        const StreamHandler *handler;
        void *userdata;

        bool listed, opened, input_over;
        bool over[STREAM_CHANNELS];
        StreamWindow window;
        UT_hash_handle hh;
};

struct Streams {
        Master *master;
        Stream *by_number;
        uint32_t last_number; /* of any node: none is used twice while somebody may remember it */
};

/* What on_opened() needs: the stream, or all of them, may be gone by then. */
typedef struct Opening {
        Master *master;
        uint32_t number;
} Opening;

static void unlist(Stream *s) {
        if (s->listed)
                HASH_DEL(s->streams->by_number, s);
        s->listed = false;
}

static Stream *stream_free(Stream *s) {
        if (!s)
                return NULL;

        unlist(s);
        free(s->node_id);
        free(s->owner);
        free(s);
        return NULL;
}

static NodeSession *session_of(const Stream *s) {
        NodeSession *session = node_sessions_find(s->streams->master->sessions, s->node_id);

        return session && session_id(session) == s->session_id ? session : NULL;
}

static Stream *find(Streams *l, NodeSession *session, uint64_t number) {
        uint32_t key = (uint32_t) number;
        Stream *s;

        if (!l || number > UINT32_MAX)
                return NULL;
        HASH_FIND(hh, l->by_number, &key, sizeof(key), s);
        return s && s->session_id == session_id(session) && streq(s->node_id, session_node_id(session))
                               ? s
                               : NULL;
}

static int notify(const Stream *s, const char *method, json_object *params) {
        _cleanup_json_ json_object *o = params;
        NodeSession *session = session_of(s);
        int r;

        if (!session)
                return -ENOTCONN;
        if (!o)
                return -ENOMEM;
        r = json_add_u64(o, "stream", s->number);
        return r < 0 ? r : session_notify(session, method, TAKE_PTR(o));
}

static void end(Stream *s, int status, const KError *error) {
        unlist(s);
        s->handler->ended(s, status, kerror_is_set(error) ? error : NULL, s->userdata);
        stream_free(s);
}

static void end_with(Stream *s, KErrorCode code, const char *sentence) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) kerror_set(&error, code, "%s", sentence);
        end(s, -1, &error);
}

/* What the node has is to end as well. */
static void break_off(Stream *s, const char *sentence) {
        (void) notify(s, "stream.close", json_object_new_object());
        end_with(s, K_INTERNAL, sentence);
}

static void on_opened(NodeSession *session, json_object *result, const KError *error, void *userdata) {
        _cleanup_free_ Opening *o = userdata;
        Stream *s = find(o->master->streams, session, o->number);
        uint64_t frame_cost = 0;

        if (!s)
                return;
        if (kerror_is_set(error)) {
                if (error->code == K_TIMEOUT) /* it may come up yet, and then for nobody */
                        (void) notify(s, "stream.close", json_object_new_object());
                end(s, -1, error);
                return;
        }

        /* A node before that counts bytes alone, and answers nothing. */
        if (result && (json_find_u64(result, "frame_cost", &frame_cost, NULL) < 0 ||
                                      (frame_cost != 0 && frame_cost != STREAM_FRAME_COST))) {
                break_off(s, "The node counts what it sends in a way of its own.");
                return;
        }
        s->opened = true;
        stream_window_open(&s->window, frame_cost > 0);
        s->handler->opened(s, s->userdata);
}

/* No caller takes what there is from the others, and all of them together not what the master itself needs. */
static int check_room(Streams *l, const char *node_id, const char *owner, KError *reterr) {
        unsigned of_node = 0, of_owner = 0, of_owner_on_node = 0, of_callers = 0;
        Stream *s, *next;

        HASH_ITER(hh, l->by_number, s, next) {
                bool same_owner = owner && streq_ptr(s->owner, owner),
                     same_node = streq(s->node_id, node_id);

                of_node += same_node;
                of_owner += same_owner;
                of_owner_on_node += same_owner && same_node;
                of_callers += !!s->owner;
        }
        if (of_owner_on_node >= STREAMS_PER_CALLER_ON_NODE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "At most %u streams can be open to one node for one caller.",
                                STREAMS_PER_CALLER_ON_NODE_MAX);
        if (of_owner >= STREAMS_PER_CALLER_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u streams can be open for one caller.",
                                STREAMS_PER_CALLER_MAX);
        if (of_node >= STREAMS_PER_NODE_MAX - (owner ? STREAMS_OF_MASTER : 0))
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u streams can be open to one node.",
                                STREAMS_PER_NODE_MAX - (owner ? STREAMS_OF_MASTER : 0));
        if (owner && of_callers >= STREAMS_OF_CALLERS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u streams can be open for callers.",
                                STREAMS_OF_CALLERS_MAX);
        return 0;
}

static int ask(Stream *s, NodeSession *session, const char *kind, json_object *params) {
        _cleanup_json_ json_object *o = params;
        _cleanup_free_ Opening *opening = NULL;
        int r;

        opening = new0(Opening, 1);
        if (!opening || !o)
                return -ENOMEM;
        opening->master = s->streams->master;
        opening->number = s->number;
        r = json_add_u64(o, "stream", s->number);
        if (r >= 0)
                r = json_add_string(o, "kind", kind);
        if (r >= 0)
                r = json_add_u64(o, "frame_cost", STREAM_FRAME_COST);
        if (r >= 0)
                r = session_call(session, "stream.open", TAKE_PTR(o), STREAM_OPEN_TIMEOUT_USEC, on_opened,
                                opening);
        if (r < 0)
                return r;

        TAKE_PTR(opening);
        return 0;
}

static uint32_t free_number(Streams *l) {
        Stream *s;

        do {
                l->last_number++;
                HASH_FIND(hh, l->by_number, &l->last_number, sizeof(l->last_number), s);
        } while (s);
        return l->last_number;
}

int stream_open(Streams *l, NodeSession *session, const char *kind, json_object *params, const char *owner,
                const StreamHandler *handler, void *userdata, Stream **ret, KError *reterr) {
        _cleanup_json_ json_object *o = params;
        Stream *s;
        int r;

        assert(l);
        assert(session);
        assert(handler);
        assert(ret);

        r = check_room(l, session_node_id(session), owner, reterr);
        if (r < 0)
                return r;

        s = new0(Stream, 1);
        if (!s)
                return -ENOMEM;
        s->streams = l;
        s->number = free_number(l);
        s->session_id = session_id(session);
        s->handler = handler;
        s->userdata = userdata;
        s->node_id = strdup(session_node_id(session));
        s->owner = owner ? strdup(owner) : NULL;
        if (!s->node_id || (owner && !s->owner)) {
                stream_free(s);
                return -ENOMEM;
        }
        HASH_ADD(hh, l->by_number, number, sizeof(s->number), s);
        s->listed = s->hh.tbl;
        r = s->listed ? ask(s, session, kind, TAKE_PTR(o)) : -ENOMEM;
        if (r < 0) {
                stream_free(s);
                return kerror_set_errno(reterr, r, "The node cannot be asked for a stream: %m.");
        }

        *ret = s;
        return 0;
}

Stream *stream_close(Stream *s) {
        if (!s)
                return NULL;

        (void) notify(s, "stream.close", json_object_new_object());
        return stream_free(s);
}

size_t stream_room(const Stream *s) {
        return s->opened && !s->input_over ? stream_window_room(&s->window) : 0;
}

const char *stream_node_id(const Stream *s) {
        return s->node_id;
}

int stream_write(Stream *s, const void *data, size_t size) {
        NodeSession *session = session_of(s);
        const uint8_t *p = data;

        assert(size <= stream_room(s));

        if (!session)
                return -ENOTCONN;
        while (size > 0) {
                size_t n = MIN(size, (size_t) STREAM_DATA_MAX);
                uint8_t head[STREAM_FRAME_HEAD_SIZE];
                int r;

                stream_frame_head(head, s->number, 0);
                r = session_send_binary(session, head, sizeof(head), p, n);
                if (r < 0)
                        return r;
                stream_window_sent(&s->window, n);
                p += n;
                size -= n;
        }
        return 0;
}

int stream_end_input(Stream *s) {
        NodeSession *session = session_of(s);
        uint8_t head[STREAM_FRAME_HEAD_SIZE];

        if (s->input_over)
                return 0;
        if (!session || !s->opened)
                return -ENOTCONN;
        s->input_over = true;
        stream_frame_head(head, s->number, 0);
        return session_send_binary(session, head, sizeof(head), NULL, 0);
}

int stream_resize(Stream *s, unsigned rows, unsigned columns) {
        _cleanup_json_ json_object *params = json_object_new_object();
        int r;

        if (!params)
                return -ENOMEM;
        r = json_add_u64(params, "rows", rows);
        if (r >= 0)
                r = json_add_u64(params, "columns", columns);
        return r < 0 ? r : notify(s, "stream.resize", TAKE_PTR(params));
}

int stream_signal(Stream *s, const char *name) {
        _cleanup_json_ json_object *params = json_object_new_object();
        int r;

        if (stream_signal_from_name(name) == 0)
                return -EINVAL;
        if (!params)
                return -ENOMEM;
        r = json_add_string(params, "signal", name);
        return r < 0 ? r : notify(s, "stream.signal", TAKE_PTR(params));
}

int stream_credit(Stream *s, size_t size) {
        _cleanup_json_ json_object *params = NULL;
        size_t cost;
        int r;

        r = stream_window_take(&s->window, size, &cost);
        if (r < 0 || cost == 0)
                return r;
        params = json_object_new_object();
        if (!params)
                return -ENOMEM;
        r = json_add_u64(params, "bytes", cost);
        return r < 0 ? r : notify(s, "stream.credit", TAKE_PTR(params));
}

/* From the node */

int streams_binary(Master *m, NodeSession *session, const void *data, size_t size) {
        StreamFrame f;
        Stream *s;
        int r;

        r = stream_frame_parse(data, size, &f);
        if (r < 0)
                return r;
        if (r == 0) {
                log_debug("Node '%s' sent a binary message that this version does not know.",
                                session_node_id(session));
                return 0;
        }

        s = find(m->streams, session, f.stream);
        if (!s) /* was closed, and the node does not know yet */
                return 0;
        if (!s->opened || f.channel == 0 || s->over[f.channel] ||
                        stream_window_receive(&s->window, f.size) < 0)
                return -EBADMSG;
        if (s->window.frame_cost == 0 && s->window.frames > STREAM_FRAMES_UNCOUNTED_MAX) {
                break_off(s, "The node sends more small pieces than can be held; it is of an older "
                             "version.");
                return 0;
        }

        s->over[f.channel] = f.size == 0;
        s->handler->data(s, f.channel, f.data, f.size, s->userdata);
        return 0;
}

static int method_credit(Stream *s, json_object *params) {
        uint64_t bytes;

        if (!s->opened || json_get_u64(params, "bytes", &bytes, NULL) < 0 ||
                        stream_window_refill(&s->window, bytes) < 0)
                return -EBADMSG;
        if (bytes > 0 && stream_room(s) > 0 && s->handler->writable)
                s->handler->writable(s, s->userdata);
        return 0;
}

static int method_end(Stream *s, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *code = NULL, *message = NULL;
        json_object *o = NULL;
        int64_t status = -1;

        if (!s->opened || json_find_i64(params, "status", &status, NULL) < 0 ||
                        json_find_object(params, "error", &o, NULL) < 0)
                return -EBADMSG;
        if (o) {
                KErrorCode c;

                if (json_find_string(o, "code", &code, NULL) < 0 ||
                                json_find_string(o, "message", &message, NULL) < 0)
                        return -EBADMSG;
                c = code ? kerror_code_from_bus_name(code) : _K_ERROR_CODE_INVALID;
                (void) kerror_set(&error, c > K_OK ? c : K_INTERNAL, "%.*s", (int) STATUS_TEXT_MAX,
                                isempty(message) ? "The node gave no reason." : message);
        }

        end(s, status >= 0 && status <= 255 ? (int) status : 255, &error);
        return 0;
}

int streams_method(Master *m, NodeSession *session, const char *method, json_object *params) {
        int (*function)(Stream * s, json_object * params);
        uint64_t number;
        Stream *s;
        int r;

        if (streq(method, "stream.credit"))
                function = method_credit;
        else if (streq(method, "stream.end"))
                function = method_end;
        else
                return 0;

        if (json_get_u64(params, "stream", &number, NULL) < 0)
                return -EBADMSG;
        s = find(m->streams, session, number);
        r = s ? function(s, params) : 0;
        return r < 0 ? r : 1;
}

static Stream *first_of(Streams *l, NodeSession *session) {
        Stream *s, *next;

        if (l)
                HASH_ITER(hh, l->by_number, s, next)
                        if (s->session_id == session_id(session) &&
                                        streq(s->node_id, session_node_id(session)))
                                return s;
        return NULL;
}

void streams_session_gone(Master *m, NodeSession *session) {
        Stream *s;

        /* From the beginning each time: others may go with the one that ends. */
        while ((s = first_of(m->streams, session)))
                end_with(s, K_NODE_OFFLINE, "The connection to the node was lost.");
}

int streams_new(Master *m, Streams **ret) {
        Streams *l;

        assert(m);
        assert(ret);

        l = new0(Streams, 1);
        if (!l)
                return -ENOMEM;
        l->master = m;

        *ret = l;
        return 0;
}

Streams *streams_free(Streams *l) {
        if (!l)
                return NULL;

        while (l->by_number) {
                Stream *s = l->by_number;

                (void) notify(s, "stream.close", json_object_new_object());
                end_with(s, K_UNAVAILABLE, "The master stops.");
        }
        free(l);
        return NULL;
}
