/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* The server's end of one WebSocket (RFC 6455) over a connected stream; frames by libwslay. Pings by itself, and never waits
 * for ever: a peer that does not answer a ping or a close is dropped. */
typedef struct WebSocket WebSocket;

typedef struct WebSocketHandler {
        void (*message)(WebSocket *w, bool binary, const char *data, size_t size, void *userdata);
        void (*pong)(WebSocket *w, void *userdata);
        /* Once, last, never from inside a call to websocket_*(): how it ended. code is ours if we closed, else the peer's, else
         * 1006. */
        void (*closed)(WebSocket *w, int code, const char *reason, void *userdata);
} WebSocketHandler;

/* The transport: a connected stream, and what must be told when it is no longer needed (the fds belong to release()). */
typedef struct WebSocketTransport {
        int fd;
        int hangup_fd; /* tells of the peer's end when fd does not; or -EBADF */
        void (*release)(bool force, void *userdata); /* force: what is on its way may be lost */
        void *userdata;
} WebSocketTransport;

int websocket_new(sd_event *event, const WebSocketTransport *transport, WebSocket **ret);
/* Drops the connection at once without a word. No handler is called any more. */
WebSocket *websocket_free(WebSocket *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(WebSocket *, websocket_free);

/* Nothing is read before this. */
int websocket_start(WebSocket *w, const WebSocketHandler *handler, void *userdata);

/* -ENOBUFS: more than CHANNEL_QUEUE_BYTES_MAX wait; -EPIPE: it is closing. */
int websocket_send_text(WebSocket *w, const char *text, size_t size);
/* Sends a close frame; forced after CHANNEL_PONG_TIMEOUT_USEC. Calls after the first are ignored. */
void websocket_close(WebSocket *w, int code, const char *reason);
