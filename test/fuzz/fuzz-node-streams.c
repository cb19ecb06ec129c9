/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "node-session.h"
#include "stream-frame.h"
#include "streams.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A node that says whatever it likes, while streams to it are opened, used and closed. Whatever it is, no more than a window lies
 * with who reads, nothing comes after the end, and all ends. */

struct NodeSession {
        int unused;
};

#define STREAMS 4U

typedef struct Reader {
        Stream *stream;
        bool opened, over[STREAM_CHANNELS];
        size_t kept, frames;
} Reader;

static NodeSession the_session;
static Reader readers[STREAMS];
static struct {
        session_result_t done;
        void *userdata;
} calls[STREAMS * 2];
static size_t n_calls;

NodeSession *node_sessions_find(NodeSessions *l, const char *node_id) {
        return &the_session;
}

const char *session_node_id(NodeSession *s) {
        return "node";
}

uint64_t session_id(NodeSession *s) {
        return 1;
}

int session_notify(NodeSession *s, const char *method, json_object *params) {
        json_object_put(params);
        return 0;
}

int session_send_binary(NodeSession *s, const void *head, size_t head_size, const void *data, size_t size) {
        assert(head_size == STREAM_FRAME_HEAD_SIZE && size <= STREAM_DATA_MAX);
        return 0;
}

int session_call(NodeSession *s, const char *method, json_object *params, uint64_t timeout_usec,
                session_result_t done, void *userdata) {
        json_object_put(params);
        if (n_calls == ELEMENTSOF(calls))
                return -ENOBUFS;
        calls[n_calls].done = done;
        calls[n_calls++].userdata = userdata;
        return 0;
}

static void on_opened(Stream *s, void *userdata) {
        Reader *r = userdata;

        assert(r->stream == s && !r->opened);
        r->opened = true;
}

static void on_data(Stream *s, unsigned channel, const void *data, size_t size, void *userdata) {
        Reader *r = userdata;

        assert(r->stream == s && r->opened);
        assert(channel == 1 || channel == 2);
        assert(!r->over[channel]);
        r->over[channel] = size == 0;
        r->kept += size;
        r->frames += size > 0;
        assert(r->kept <= STREAM_WINDOW);
        assert(r->frames <= STREAM_FRAMES_UNCOUNTED_MAX);
}

static void on_writable(Stream *s, void *userdata) {
        assert(stream_room(s) > 0 && stream_room(s) <= STREAM_WINDOW);
}

static void on_ended(Stream *s, int status, const KError *error, void *userdata) {
        Reader *r = userdata;

        assert(r->stream == s);
        *r = (Reader){};
}

static void answer(bool well, bool counts) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_json_ json_object *result = NULL;

        if (n_calls == 0)
                return;
        if (counts) {
                result = json_object_new_object();
                assert(result && json_add_u64(result, "frame_cost", STREAM_FRAME_COST) >= 0);
        }
        if (!well)
                (void) kerror_set(&error, K_TIMEOUT, "No answer.");
        n_calls--;
        calls[n_calls].done(
                        &the_session, well ? result : NULL, well ? NULL : &error, calls[n_calls].userdata);
}

static void say(Master *m, const char *method, const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;

        if (json_parse((const char *) data, size, 4096, &o, NULL) >= 0)
                (void) streams_method(m, &the_session, method, o);
}

static void use(Master *m, Reader *r, uint8_t how) {
        static const StreamHandler handler = {
                .opened = on_opened, .data = on_data, .writable = on_writable, .ended = on_ended
        };
        static const uint8_t zeros[STREAM_WINDOW];

        if (!r->stream) {
                (void) stream_open(m->streams, &the_session, "exec", json_object_new_object(), "me",
                                &handler, r, &r->stream, NULL);
                return;
        }
        switch (how % 4) {
        case 0:
                (void) stream_write(r->stream, zeros, MIN(stream_room(r->stream), 1000U * (size_t) how));
                break;
        case 1:
                assert(stream_credit(r->stream, r->kept + 1) == -ERANGE);
                assert(stream_credit(r->stream, r->kept) == 0);
                r->kept = r->frames = 0;
                break;
        case 2:
                (void) stream_end_input(r->stream);
                break;
        default:
                stream_close(r->stream);
                *r = (Reader){};
        }
}

/* Steps of what is done (3 bits) and of which stream (2 bits), a byte of size, and so many bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static uint8_t message[STREAM_FRAME_HEAD_SIZE + STREAM_DATA_MAX];
        Master m = {};

        if (streams_new(&m, &m.streams) < 0)
                return 0;
        while (size >= 2) {
                size_t n = MIN((size_t) data[1], size - 2);
                const uint8_t *p = data + 2;
                unsigned which = data[0] >> 3 & 3;

                switch (data[0] & 7) {
                case 0:
                        (void) streams_binary(&m, &the_session, p, n);
                        break;
                case 1: /* up to a whole message of zeros */
                        stream_frame_head(message, which + 1, data[0] >> 5 & 1 ? 2 : 1);
                        (void) streams_binary(&m, &the_session, message,
                                        STREAM_FRAME_HEAD_SIZE + 257 * (size_t) data[1]);
                        break;
                case 2:
                        say(&m, "stream.credit", p, n);
                        break;
                case 3:
                        say(&m, "stream.end", p, n);
                        break;
                case 4:
                        answer(data[0] & 0x20, data[0] & 0x40);
                        break;
                case 5:
                        streams_session_gone(&m, &the_session);
                        break;
                default:
                        use(&m, readers + which, data[1]);
                }
                data += 2 + n;
                size -= 2 + n;
        }

        m.streams = streams_free(m.streams);
        FOREACH_ARRAY(r, readers, STREAMS)
                assert(!r->stream);
        while (n_calls > 0)
                answer(true, false);
        return 0;
}
