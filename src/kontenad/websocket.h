/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
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

/* What carries the bytes. recv and send: bytes, 0 at the end, -EAGAIN, other errors; after -EAGAIN send is called with the same
 * bytes again. The transport calls websocket_io() as want says, never from inside of one of these. */
typedef struct WebSocketTransport {
        ssize_t (*recv)(void *data, size_t size, void *userdata);
        ssize_t (*send)(const void *data, size_t size, void *userdata);
        void (*want)(bool in, bool out, void *userdata);
        void (*release)(bool goodbye, void *userdata); /* no longer needed; goodbye: with an orderly end */
        void *userdata;
} WebSocketTransport;

int websocket_new(sd_event *event, const WebSocketTransport *transport, WebSocket **ret);
/* Drops the connection at once without a word. No handler is called any more. */
WebSocket *websocket_free(WebSocket *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(WebSocket *, websocket_free);

void websocket_io(WebSocket *w, bool in, bool out);

/* Nothing is read before this. */
int websocket_start(WebSocket *w, const WebSocketHandler *handler, void *userdata);

/* How long the answer to a ping may take, less than CHANNEL_PING_USEC; default CHANNEL_PONG_TIMEOUT_USEC. */
void websocket_set_patience(WebSocket *w, uint64_t usec);

/* -ENOBUFS: more than CHANNEL_QUEUE_BYTES_MAX wait; -EPIPE: it is closing. */
int websocket_send_text(WebSocket *w, const char *text, size_t size);
int websocket_send_binary(WebSocket *w, const void *head, size_t head_size, const void *data, size_t size);
size_t websocket_queued(const WebSocket *w); /* bytes that wait to be sent */
/* Sends a close frame; forced after CHANNEL_PONG_TIMEOUT_USEC. Calls after the first are ignored. */
void websocket_close(WebSocket *w, int code, const char *reason);
