/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "event-util.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "rest-internal.h"
#include "string-util.h"

#define IDLE_USEC (10U * USEC_PER_SEC)

/* Answers without end */

static void stream_release(RestCall *c) {
        c->idle = sd_event_source_disable_unref(c->idle);
        c->stream = NULL;
        c->stream_closed = NULL;
}

static void on_stream_closed(void *userdata) {
        RestCall *c = userdata;
        void (*closed)(RestCall * c) = c->stream_closed;

        rest_enter(c);
        stream_release(c);
        if (closed)
                closed(c);
        rest_leave(c);
}

static int on_idle(sd_event_source *source, uint64_t usec, void *userdata) {
        RestCall *c = userdata;

        (void) http_stream_write(c->stream, " ", 1);
        (void) sd_event_source_set_time_relative(source, IDLE_USEC);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

int rest_stream_begin(RestCall *c, void (*closed)(RestCall *c)) {
        int r;

        if (c->answered)
                return -EALREADY;
        if (!c->http)
                return -EPIPE;

        r = sd_event_add_time_relative(
                        c->rest->master->event, &c->idle, CLOCK_MONOTONIC, IDLE_USEC, 0, on_idle, c);
        if (r < 0)
                return r;
        r = http_reply_stream(c->http, 200, "application/json", on_stream_closed, c, &c->stream);
        if (r < 0) {
                c->idle = sd_event_source_disable_unref(c->idle);
                return r;
        }
        c->answered = true;
        c->stream_closed = closed;
        return 0;
}

int rest_stream_item(RestCall *c, json_object *o) {
        _cleanup_json_ json_object *owned = o;
        const char *text;
        int r;

        if (!c->stream)
                return -EPIPE;
        text = owned ? json_text(owned) : NULL;
        if (!text)
                return -ENOMEM;
        r = http_stream_write(c->stream, text, strlen(text));
        if (r < 0) {
                if (r == -ENOBUFS)
                        log_debug("A client at %s reads its stream too slowly and is cut off.", c->address);
                return r == -ENOMEM ? r : -EPIPE;
        }
        (void) sd_event_source_set_time_relative(c->idle, IDLE_USEC);
        return 0;
}

void rest_stream_end(RestCall *c) {
        HttpStream *s = c->stream;

        if (!s)
                return;
        rest_enter(c);
        stream_release(c);
        http_stream_end(s, true);
        rest_leave(c);
}

/* WebSockets */

static void on_message(WebSocket *w, bool binary, const char *data, size_t size, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        RestCall *c = userdata;

        if (binary || json_parse(data, size, FRAME_SIZE_MAX, &o, NULL) < 0 ||
                        !json_object_is_type(o, json_type_object)) {
                json_object_put(o);
                o = NULL;
        }
        rest_enter(c);
        c->socket_handler->message(c, o);
        rest_leave(c);
}

static void on_closed(WebSocket *w, int code, const char *reason, void *userdata) {
        RestCall *c = userdata;
        const RestSocketHandler *h = TAKE_PTR(c->socket_handler);

        rest_enter(c);
        h->closed(c, code, reason);
        c->socket = websocket_free(c->socket);
        rest_leave(c);
}

static const WebSocketHandler handler = {
        .message = on_message,
        .closed = on_closed,
};

static void on_opened(HttpRequest *request, WebSocket *socket, void *userdata) {
        RestCall *c = userdata;

        c->socket = socket;
        if (websocket_start(socket, &handler, c) < 0) {
                websocket_close(socket, 1011, "Out of memory.");
                return;
        }
        rest_enter(c);
        if (c->socket_handler->opened)
                c->socket_handler->opened(c);
        rest_leave(c);
}

int rest_websocket_accept(RestCall *c, const RestSocketHandler *h) {
        int r;

        if (c->answered)
                return -EALREADY;
        c->answered = true;
        if (!c->http)
                return -EPIPE;

        r = http_upgrade(c->http, NULL, on_opened, c);
        if (r > 0)
                c->socket_handler = h;
        if (r < 0)
                c->answered = false;
        return r < 0 ? r : 0;
}

int rest_websocket_send(RestCall *c, json_object *o) {
        _cleanup_json_ json_object *owned = o;
        const char *text;

        if (!c->socket || !c->socket_handler)
                return -EPIPE;
        text = owned ? json_text(owned) : NULL;
        if (!text)
                return -ENOMEM;
        return websocket_send_text(c->socket, text, strlen(text));
}

void rest_websocket_close(RestCall *c, int code, const char *reason) {
        if (c->socket && c->socket_handler)
                websocket_close(c->socket, code, reason);
}

/* The request was to become a WebSocket and did not. */
void rest_call_http_gone(RestCall *c) {
        const RestSocketHandler *h;

        c->http = NULL;
        if (c->socket || !c->socket_handler)
                return;
        h = TAKE_PTR(c->socket_handler);
        rest_enter(c);
        h->closed(c, 1006, "The client left.");
        rest_leave(c);
}

void rest_call_drop_live(RestCall *c) {
        rest_enter(c);
        if (c->stream) {
                void (*closed)(RestCall * c) = c->stream_closed;
                HttpStream *s = c->stream;

                stream_release(c);
                http_stream_end(s, false);
                if (closed)
                        closed(c);
        }
        if (c->socket_handler) {
                const RestSocketHandler *h = TAKE_PTR(c->socket_handler);

                if (c->socket) {
                        websocket_close(c->socket, 1001, "The master stops.");
                        c->socket = websocket_free(c->socket);
                }
                h->closed(c, 1001, "The master stops.");
        }
        rest_leave(c);
}
