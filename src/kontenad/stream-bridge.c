/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-bridge.h"

#include "kontena-limits.h"
#include "log.h"
#include "streams.h"
#include "string-util.h"

/* Of the first stream only channel 1 is passed on; what comes on 2 is a complaint, and its last words explain a bad status. */
#define COMPLAINT_MAX 512U

struct StreamBridge {
        Stream *from, *to;
        stream_bridge_done_t done;
        void *userdata;
        uint8_t *data; /* a window: what came, and the second has no room for */
        size_t start, size;
        uint64_t bytes;
        bool source_ended, input_ended;
        char complaint[2][COMPLAINT_MAX]; /* of from, of to */
        size_t complaint_size[2];
};

StreamBridge *stream_bridge_free(StreamBridge *b) {
        if (!b)
                return NULL;

        stream_close(b->from);
        stream_close(b->to);
        free(b->data);
        free(b);
        return NULL;
}

uint64_t stream_bridge_bytes(const StreamBridge *b) {
        return b->bytes;
}

bool stream_bridge_is_finishing(const StreamBridge *b) {
        return b->input_ended;
}

static void finish(StreamBridge *b, bool by_source, const KError *error) {
        stream_bridge_done_t done = b->done;
        void *userdata = b->userdata;
        uint64_t bytes = b->bytes;

        stream_bridge_free(b);
        done(bytes, by_source, kerror_is_set(error) ? error : NULL, userdata);
}

static void fail_with(StreamBridge *b, int error) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        (void) kerror_set_errno(&e, error, "Data cannot be handed from node to node: %m.");
        finish(b, /* by_source= */ false, &e);
}

static void complain(StreamBridge *b, unsigned side, const void *data, size_t size) {
        size_t n = MIN(size, COMPLAINT_MAX - 1 - b->complaint_size[side]);

        memcpy(b->complaint[side] + b->complaint_size[side], data, n);
        b->complaint_size[side] += n;
}

/* A status other than 0, in the words of the side that has it. */
static void fail_status(StreamBridge *b, unsigned side, int status) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        char *text = b->complaint[side];

        text[strcspn(text, "\n")] = '\0';
        if (!string_is_printable(text))
                text[0] = '\0';
        (void) kerror_set(&e, K_RUNTIME, "The %s side ended with status %i%s%s",
                        side == 0 ? "sending" : "receiving", status, isempty(text) ? "." : ": ", text);
        finish(b, side == 0, &e);
}

/* Moves what there is room for. Negative: the bridge must end. */
static int move(StreamBridge *b) {
        size_t n = MIN(b->size, stream_room(b->to));
        int r;

        if (n > 0) {
                r = stream_write(b->to, b->data + b->start, n);
                if (r < 0)
                        return r;
                b->start += n;
                b->size -= n;
                b->bytes += n;
                if (b->size == 0)
                        b->start = 0;
                r = b->from ? stream_credit(b->from, n) : 0;
                if (r < 0)
                        return r;
        }
        if (b->source_ended && b->size == 0 && !b->input_ended) {
                b->input_ended = true;
                return stream_end_input(b->to);
        }
        return 0;
}

static void on_opened(Stream *s, void *userdata) {
        StreamBridge *b = userdata;
        int r;

        if (s != b->to)
                return;
        r = move(b); /* the other may have been quicker */
        if (r < 0)
                fail_with(b, r);
}

static void on_data(Stream *s, unsigned channel, const void *data, size_t size, void *userdata) {
        StreamBridge *b = userdata;
        int r;

        if (s == b->from && channel == 1) {
                if (b->start + b->size + size > STREAM_WINDOW) {
                        memmove(b->data, b->data + b->start, b->size);
                        b->start = 0;
                }
                if (size > 0)
                        memcpy(b->data + b->start + b->size, data, size); /* the window bounds it */
                b->size += size;
                r = move(b);
        } else {
                if (channel == 2)
                        complain(b, s == b->from ? 0 : 1, data, size);
                r = stream_credit(s, size);
        }
        if (r < 0)
                fail_with(b, r);
}

static void on_writable(Stream *s, void *userdata) {
        StreamBridge *b = userdata;
        int r;

        if (s != b->to)
                return;
        r = move(b);
        if (r < 0)
                fail_with(b, r);
}

static void on_ended(Stream *s, int status, const KError *error, void *userdata) {
        StreamBridge *b = userdata;
        unsigned side = s == b->from ? 0 : 1;
        int r;

        if (side == 0)
                b->from = NULL;
        else
                b->to = NULL;

        if (kerror_is_set(error)) {
                finish(b, side == 0, error);
                return;
        }
        if (status != 0) {
                fail_status(b, side, status);
                return;
        }
        if (side == 0) {
                b->source_ended = true;
                r = move(b);
                if (r < 0)
                        fail_with(b, r);
                return;
        }
        if (b->input_ended)
                finish(b, false, NULL);
        else
                fail_with(b, -EPIPE); /* it stopped before it had all */
}

int stream_bridge_new(Master *m, const StreamBridgeEnd *from, const StreamBridgeEnd *to,
                stream_bridge_done_t done, void *userdata, StreamBridge **ret, KError *reterr) {
        static const StreamHandler handler = {
                .opened = on_opened, .data = on_data, .writable = on_writable, .ended = on_ended
        };
        json_object *from_params = from->params, *to_params = to->params;
        _cleanup_(stream_bridge_freep) StreamBridge *b = NULL;
        int r = -ENOMEM;

        assert(m);
        assert(done);
        assert(ret);

        b = new0(StreamBridge, 1);
        if (b)
                b->data = malloc(STREAM_WINDOW);
        if (b && b->data) {
                b->done = done;
                b->userdata = userdata;
                r = stream_open(m->streams, to->session, to->kind, TAKE_PTR(to_params), NULL, &handler, b,
                                &b->to, reterr);
        }
        if (r >= 0)
                r = stream_open(m->streams, from->session, from->kind, TAKE_PTR(from_params), NULL, &handler,
                                b, &b->from, reterr);
        json_object_put(to_params);
        json_object_put(from_params);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(b);
        return 0;
}
