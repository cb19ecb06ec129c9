/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "kontena-limits.h"
#include "websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a peer sends to the master's end, in portions of a size that the first byte says. */

typedef struct Wire {
        const uint8_t *data;
        size_t size, portion, sent, closed;
        bool want_in, released;
} Wire;

static ssize_t wire_recv(void *data, size_t size, void *userdata) {
        Wire *w = userdata;
        size_t n = MIN(size, w->portion);

        if (w->size == 0)
                return -EAGAIN;
        n = MIN(n, w->size);
        memcpy(data, w->data, n);
        w->data += n;
        w->size -= n;
        return (ssize_t) n;
}

static ssize_t wire_send(const void *data, size_t size, void *userdata) {
        Wire *w = userdata;

        if (w->sent > 100000)
                return -EAGAIN; /* the peer does not read */
        w->sent += size;
        return (ssize_t) size;
}

static void wire_want(bool in, bool out, void *userdata) {
        ((Wire *) userdata)->want_in = in;
}

static void wire_release(bool goodbye, void *userdata) {
        ((Wire *) userdata)->released = true;
}

static void on_message(WebSocket *w, bool binary, const char *data, size_t size, void *userdata) {
        assert(size <= FRAME_SIZE_MAX);
        if (size % 3 == 0)
                (void) websocket_send_text(w, "{}", 2);
        if (size == 7)
                websocket_close(w, 4031, "Seven.");
}

static void on_closed(WebSocket *w, int code, const char *reason, void *userdata) {
        assert(reason);
        ((Wire *) userdata)->closed++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const WebSocketHandler handler = { .message = on_message, .closed = on_closed };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        Wire wire = {};
        WebSocket *w;

        if (size < 1 || sd_event_new(&event) < 0)
                return 0;
        wire.portion = 1U + data[0];
        wire.data = data + 1;
        wire.size = size - 1;
        if (websocket_new(event,
                            &(WebSocketTransport){ .recv = wire_recv,
                                            .send = wire_send,
                                            .want = wire_want,
                                            .release = wire_release,
                                            .userdata = &wire },
                            &w) < 0)
                return 0;
        if (websocket_start(w, &handler, &wire) >= 0)
                for (size_t before = wire.size + 1; wire.want_in && wire.size < before;) {
                        before = wire.size;
                        websocket_io(w, true, true);
                }
        (void) sd_event_run(event, 0);
        assert(wire.closed <= 1);
        w = websocket_free(w);
        assert(wire.released);
        return 0;
}
