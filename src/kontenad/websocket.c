/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "websocket.h"

#include <wslay/wslay.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define QUEUE_MESSAGES_MAX 65536U
#define PENDING_MAX        4096U          /* messages we owe, pongs too: then the peer is not read */
#define READ_MAX           (256U * 1024U) /* of one peer in one turn of the loop */
#define REASON_MAX         123U           /* of a close frame, bytes */

struct WebSocket {
        WebSocketTransport transport;
        wslay_event_context_ptr ws;
        sd_event_source *ping, *deadline, *finish;

        const WebSocketHandler *handler;
        void *userdata;

        uint64_t patience;  /* for the answer to a ping */
        uint64_t ping_sent; /* counter in the last ping; 0: answered */
        uint64_t pings;
        size_t budget; /* bytes that may still be read in this turn */
        bool closing;  /* we sent a close frame */
        bool finished; /* closed() is about to be called */
        int code;
        char *reason;
};

static void set_outcome(WebSocket *w, int code, const char *reason) {
        if (w->code != 0)
                return;

        w->code = code;
        free(w->reason);
        w->reason = strdup(strempty(reason));
}

static void finish(WebSocket *w, int code, const char *reason) {
        set_outcome(w, code, reason);
        if (w->finished)
                return;

        w->finished = true;
        w->transport.want(false, false, w->transport.userdata);
        (void) sd_event_source_set_enabled(w->ping, SD_EVENT_OFF);
        (void) sd_event_source_set_enabled(w->deadline, SD_EVENT_OFF);
        (void) sd_event_source_set_enabled(w->finish, SD_EVENT_ONESHOT);
}

static int on_finish(sd_event_source *source, void *userdata) {
        WebSocket *w = userdata;

        if (w->handler)
                w->handler->closed(w, w->code, strempty(w->reason), w->userdata);
        return 0;
}

/* Who sends pings, or calls, and does not read the answers, is not heard further. */
static bool may_read(WebSocket *w) {
        return wslay_event_get_queued_msg_count(w->ws) < PENDING_MAX;
}

static void update(WebSocket *w) {
        if (w->finished)
                return;
        if (!wslay_event_want_read(w->ws) && !wslay_event_want_write(w->ws)) {
                finish(w, wslay_event_get_status_code_received(w->ws), "");
                return;
        }

        w->transport.want(w->handler && wslay_event_want_read(w->ws) && may_read(w),
                        wslay_event_want_write(w->ws), w->transport.userdata);
}

static ssize_t cb_recv(wslay_event_context_ptr ws, uint8_t *data, size_t size, int flags, void *userdata) {
        WebSocket *w = userdata;
        ssize_t n;

        n = w->budget > 0 && may_read(w) ? w->transport.recv(data, size, w->transport.userdata) : -EAGAIN;
        if (n > 0) {
                w->budget -= MIN(w->budget, (size_t) n);
                return n;
        }
        if (n != -EAGAIN)
                set_outcome(w, 1006, "The peer closed the connection without a word.");
        wslay_event_set_error(ws, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static ssize_t cb_send(
                wslay_event_context_ptr ws, const uint8_t *data, size_t size, int flags, void *userdata) {
        WebSocket *w = userdata;
        ssize_t n;

        n = w->transport.send(data, size, w->transport.userdata);
        if (n >= 0)
                return n;
        if (n != -EAGAIN)
                set_outcome(w, 1006, "The connection broke.");
        wslay_event_set_error(ws, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static void ping_schedule(WebSocket *w, uint64_t usec) {
        (void) sd_event_source_set_time_relative(w->ping, usec);
        (void) sd_event_source_set_enabled(w->ping, SD_EVENT_ONESHOT);
}

static void cb_message(
                wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *arg, void *userdata) {
        WebSocket *w = userdata;

        if (w->finished)
                return;

        switch (arg->opcode) {
        case WSLAY_TEXT_FRAME:
        case WSLAY_BINARY_FRAME:
                if (!w->closing) /* what comes after our close is not wanted */
                        w->handler->message(w, arg->opcode == WSLAY_BINARY_FRAME, (const char *) arg->msg,
                                        arg->msg_length, w->userdata);
                break;
        case WSLAY_PONG:
                if (w->ping_sent == 0 || arg->msg_length != sizeof(w->ping_sent) ||
                                memcmp(arg->msg, &w->ping_sent, sizeof(w->ping_sent)) != 0)
                        break;
                w->ping_sent = 0;
                ping_schedule(w, CHANNEL_PING_USEC - w->patience);
                if (!w->closing && w->handler->pong)
                        w->handler->pong(w, w->userdata);
                break;
        case WSLAY_CONNECTION_CLOSE: {
                char reason[REASON_MAX + 1] = "";

                /* wslay has put the answer into its queue. */
                if (arg->msg_length > 2)
                        memcpy(reason, arg->msg + 2, MIN(arg->msg_length - 2, (size_t) REASON_MAX));
                set_outcome(w, arg->status_code != 0 ? arg->status_code : 1005,
                                string_is_printable(reason) ? reason : "");
                if (!w->closing) {
                        (void) sd_event_source_set_time_relative(w->deadline, CHANNEL_PONG_TIMEOUT_USEC);
                        (void) sd_event_source_set_enabled(w->deadline, SD_EVENT_ONESHOT);
                }
                break;
        }
        default:
                break;
        }
}

static const struct wslay_event_callbacks callbacks = {
        .recv_callback = cb_recv,
        .send_callback = cb_send,
        .on_msg_recv_callback = cb_message,
};

static int flush(WebSocket *w) {
        int r;

        r = wslay_event_send(w->ws);
        if (r == 0)
                return 0;
        return r == WSLAY_ERR_NOMEM ? -ENOMEM : -EIO;
}

void websocket_io(WebSocket *w, bool in, bool out) {
        int r;

        if (w->finished)
                return;

        if (out && wslay_event_want_write(w->ws) && flush(w) < 0) {
                finish(w, 1006, "The connection broke.");
                return;
        }
        if (in && !w->finished && w->handler && wslay_event_want_read(w->ws)) {
                w->budget = READ_MAX;
                r = wslay_event_recv(w->ws);
                if (r != 0 && r != WSLAY_ERR_WOULDBLOCK) {
                        finish(w, 1006, "The connection broke.");
                        return;
                }
        }

        /* wslay says close by itself when the peer breaks the protocol. */
        if (!w->finished && !w->closing && w->code == 0 && wslay_event_get_close_sent(w->ws)) {
                set_outcome(w, wslay_event_get_status_code_sent(w->ws),
                                "The peer broke the WebSocket protocol.");
                w->closing = true;
                (void) sd_event_source_set_enabled(w->ping, SD_EVENT_OFF);
                (void) sd_event_source_set_time_relative(w->deadline, CHANNEL_PONG_TIMEOUT_USEC);
                (void) sd_event_source_set_enabled(w->deadline, SD_EVENT_ONESHOT);
        }
        update(w);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        WebSocket *w = userdata;

        finish(w, 1006, "The peer closed the connection without a word.");
        return 0;
}

static int on_ping(sd_event_source *source, uint64_t usec, void *userdata) {
        WebSocket *w = userdata;
        struct wslay_event_msg m = { .opcode = WSLAY_PING, .msg_length = sizeof(w->ping_sent) };

        if (w->closing)
                return 0;
        if (w->ping_sent != 0) {
                /* The answer may be there, and it was we who had no time for it. */
                websocket_io(w, true, false);
                if (w->ping_sent == 0 || w->closing || w->finished)
                        return 0;
                set_outcome(w, 4030, "No answer to a ping in time.");
                websocket_close(w, 4030, "No answer to a ping in time.");
                finish(w, 4030, ""); /* who does not answer pings answers no close */
                return 0;
        }

        w->ping_sent = ++w->pings;
        m.msg = (const uint8_t *) &w->ping_sent;
        if (wslay_event_queue_msg(w->ws, &m) != 0 || flush(w) < 0) {
                finish(w, 1006, "The connection broke.");
                return 0;
        }
        ping_schedule(w, w->patience);
        update(w);
        return 0;
}

static int timer_new(sd_event *event, sd_event_time_handler_t handler, WebSocket *w, sd_event_source **ret) {
        int r;

        r = sd_event_add_time(event, ret, CLOCK_MONOTONIC, 0, 0, handler, w);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int websocket_new(sd_event *event, const WebSocketTransport *transport, WebSocket **ret) {
        _cleanup_free_ WebSocket *w = NULL;
        int r;

        assert(event);
        assert(transport);
        assert(ret);

        w = new0(WebSocket, 1);
        if (!w)
                return -ENOMEM;
        if (wslay_event_context_server_init(&w->ws, &callbacks, w) != 0)
                return -ENOMEM;
        wslay_event_config_set_max_recv_msg_length(w->ws, FRAME_SIZE_MAX);

        r = timer_new(event, on_ping, w, &w->ping);
        if (r >= 0)
                r = timer_new(event, on_deadline, w, &w->deadline);
        if (r >= 0)
                r = sd_event_add_defer(event, &w->finish, on_finish, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(w->finish, SD_EVENT_OFF);
        if (r < 0) {
                /* The transport is ours only after success. */
                websocket_free(TAKE_PTR(w));
                return r;
        }

        w->patience = CHANNEL_PONG_TIMEOUT_USEC;
        w->transport = *transport;
        *ret = TAKE_PTR(w);
        return 0;
}

WebSocket *websocket_free(WebSocket *w) {
        if (!w)
                return NULL;

        sd_event_source_disable_unref(w->ping);
        sd_event_source_disable_unref(w->deadline);
        sd_event_source_disable_unref(w->finish);
        if (w->transport.release)
                w->transport.release(wslay_event_get_close_sent(w->ws), w->transport.userdata);
        wslay_event_context_free(w->ws);
        free(w->reason);
        free(w);
        return NULL;
}

int websocket_start(WebSocket *w, const WebSocketHandler *handler, void *userdata) {
        assert(w);
        assert(handler);

        w->handler = handler;
        w->userdata = userdata;
        ping_schedule(w, CHANNEL_PING_USEC);
        update(w);
        return 0;
}

void websocket_set_patience(WebSocket *w, uint64_t usec) {
        assert(usec < CHANNEL_PING_USEC);

        w->patience = usec;
}

static int send_message(WebSocket *w, uint8_t opcode, const uint8_t *data, size_t size) {
        struct wslay_event_msg m = { .opcode = opcode, .msg = data, .msg_length = size };

        if (w->closing || w->finished)
                return -EPIPE;
        if (size > FRAME_SIZE_MAX)
                return -EMSGSIZE;
        if (wslay_event_get_queued_msg_length(w->ws) + size > CHANNEL_QUEUE_BYTES_MAX ||
                        wslay_event_get_queued_msg_count(w->ws) >= QUEUE_MESSAGES_MAX)
                return -ENOBUFS;
        switch (wslay_event_queue_msg(w->ws, &m)) {
        case 0:
                break;
        case WSLAY_ERR_NOMEM:
                return -ENOMEM;
        default:
                return -EPIPE; /* the peer has said close */
        }

        /* Written at once where the socket takes it; a failure is handled from the loop. */
        if (flush(w) < 0)
                finish(w, 1006, "The connection broke.");
        update(w);
        return 0;
}

int websocket_send_text(WebSocket *w, const char *text, size_t size) {
        return send_message(w, WSLAY_TEXT_FRAME, (const uint8_t *) text, size);
}

int websocket_send_binary(WebSocket *w, const void *head, size_t head_size, const void *data, size_t size) {
        _cleanup_free_ uint8_t *message = NULL;

        if (head_size > FRAME_SIZE_MAX || size > FRAME_SIZE_MAX - head_size)
                return -EMSGSIZE;
        message = malloc(head_size + size + 1);
        if (!message)
                return -ENOMEM;
        memcpy(message, head, head_size);
        if (size > 0)
                memcpy(message + head_size, data, size);
        return send_message(w, WSLAY_BINARY_FRAME, message, head_size + size);
}

size_t websocket_queued(const WebSocket *w) {
        return wslay_event_get_queued_msg_length(w->ws);
}

void websocket_close(WebSocket *w, int code, const char *reason) {
        size_t n;

        if (w->closing || w->finished)
                return;

        set_outcome(w, code, reason);
        w->closing = true;
        n = MIN(strlen(strempty(reason)), (size_t) REASON_MAX);
        while (n > 0 && !utf8_is_valid(reason, n))
                n--; /* not through the middle of a letter */
        if (wslay_event_queue_close(w->ws, (uint16_t) code, (const uint8_t *) strempty(reason), n) != 0 ||
                        flush(w) < 0) {
                finish(w, code, reason);
                return;
        }

        (void) sd_event_source_set_enabled(w->ping, SD_EVENT_OFF);
        (void) sd_event_source_set_time_relative(w->deadline, CHANNEL_PONG_TIMEOUT_USEC);
        (void) sd_event_source_set_enabled(w->deadline, SD_EVENT_ONESHOT);
        update(w);
}
