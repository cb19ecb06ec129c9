/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <sys/epoll.h>
#include <sys/random.h>
#include <wslay/wslay.h>

#include "connector.h"
#include "file-util.h"
#include "frame.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"
#include "upgrade.h"

#define SUBPROTOCOL          "kontena.node.1" /* unless another is asked for */
#define CONFIG_SIZE_MAX      65536U
#define CONNECT_TIMEOUT_USEC (20U * USEC_PER_SEC) /* name, connection, TLS */
#define UPGRADE_TIMEOUT_USEC (10U * USEC_PER_SEC)
#define SILENCE_USEC         (75U * USEC_PER_SEC) /* two pings of the master's missed */
#define CLOSE_TIMEOUT_USEC   (5U * USEC_PER_SEC)
#define FLUSH_TIMEOUT_USEC   (2U * USEC_PER_SEC)
#define BACKLOG_MAX          (1024U * 1024U) /* bytes waiting one way stop the other */
#define BACKLOG_MESSAGES_MAX 4096U           /* also of small ones, pongs among them */
#define READ_MAX             (512U * 1024U)  /* in one turn of the loop */
#define REASON_MAX           123U

#define CODE_GOING_AWAY      1001
#define CODE_NONE            1005
#define CODE_ABNORMAL        1006
#define CODE_SILENCE         4030

struct Client {
        sd_event *event;
        sd_event_source *io, *deadline, *again;
        size_t budget; /* bytes that may still be read in this turn */
        FrameStream *stream;
        Connector *connector;
        wslay_event_context_ptr ws;

        const char *phase;
        char *request; /* of the upgrade; with the secret */
        size_t request_sent, request_size;
        char *key, *subprotocol;
        bool is_node;
        char head[UPGRADE_HEAD_SIZE_MAX]; /* the answer, then what of the first frames came with it */
        size_t head_size, head_used;
        json_object *headers;

        uint64_t heard_at;
        bool configured, open, closing, finished, keeps_loop;
        int code; /* as received or sent; 0: none */
        char *reason;
};

static void status(Client *c, const char *phase) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;

        if (!streq(phase, "alive"))
                c->phase = phase;
        if (o && json_add_string(o, "phase", phase) >= 0 && (text = json_text(o)))
                (void) frame_stream_send(c->stream, FRAME_STATUS, text, strlen(text));
}

static void exit_loop(Client *c) {
        if (!c->keeps_loop)
                (void) sd_event_exit(c->event, EXIT_SUCCESS);
}

static void finish_error(Client *c, int code, KErrorCode error, const char *reason) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;

        if (c->finished)
                return;
        c->finished = true;
        c->io = sd_event_source_disable_unref(c->io);
        c->deadline = sd_event_source_disable_unref(c->deadline);
        c->again = sd_event_source_disable_unref(c->again);

        if (o && json_add_i64(o, "code", code) >= 0 && json_add_string(o, "phase", c->phase) >= 0 &&
                        json_add_string(o, "reason", strempty(reason)) >= 0 &&
                        json_add_string(o, "error", kerror_bus_name(error)) >= 0 && (text = json_text(o)) &&
                        frame_stream_send(c->stream, FRAME_CLOSED, text, strlen(text)) >= 0)
                (void) frame_stream_flush(c->stream, FLUSH_TIMEOUT_USEC);
        exit_loop(c);
}

static void finish(Client *c, int code, const char *reason) {
        finish_error(c, code, K_NETWORK, reason);
}

static void finish_failed(Client *c, const KError *error, int r) {
        finish_error(c, 0, kerror_is_set(error) ? error->code : K_INTERNAL,
                        kerror_is_set(error) ? kerror_message(error) : strerror(abs(r)));
}

static void finish_closed(Client *c) {
        finish(c, c->code != 0 ? c->code : CODE_ABNORMAL, c->reason);
}

static void set_outcome(Client *c, int code, const char *reason) {
        if (c->code != 0)
                return;

        c->code = code;
        free(c->reason);
        c->reason = strdup(strempty(reason));
}

static void set_deadline(Client *c, uint64_t usec) {
        (void) sd_event_source_set_time_relative(c->deadline, usec);
        (void) sd_event_source_set_enabled(c->deadline, SD_EVENT_ONESHOT);
}

/* The WebSocket */

/* What cannot be passed on or answered is not read. */
static bool may_read(Client *c) {
        return frame_stream_queued(c->stream) <= BACKLOG_MAX &&
               wslay_event_get_queued_msg_count(c->ws) <= BACKLOG_MESSAGES_MAX;
}

static ssize_t cb_recv(wslay_event_context_ptr ws, uint8_t *data, size_t size, int flags, void *userdata) {
        Client *c = userdata;
        ssize_t n;

        if (c->head_used < c->head_size) {
                n = (ssize_t) MIN(size, c->head_size - c->head_used);
                memcpy(data, c->head + c->head_used, (size_t) n);
                c->head_used += (size_t) n;
                return n;
        }

        n = frame_stream_queued(c->stream) > BACKLOG_MAX ? -EAGAIN
                                                         : connector_recv(c->connector, data, size);
        if (n > 0) {
                c->heard_at = now_monotonic();
                return n;
        }
        if (n != -EAGAIN)
                set_outcome(c, CODE_ABNORMAL,
                                n == 0 ? "The master closed the connection without a word."
                                       : "The connection broke.");
        wslay_event_set_error(ws, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static ssize_t cb_send(
                wslay_event_context_ptr ws, const uint8_t *data, size_t size, int flags, void *userdata) {
        Client *c = userdata;
        ssize_t n;

        n = connector_send(c->connector, data, size);
        if (n >= 0)
                return n;
        if (n != -EAGAIN)
                set_outcome(c, CODE_ABNORMAL, "The connection broke.");
        wslay_event_set_error(ws, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static int cb_mask(wslay_event_context_ptr ws, uint8_t *data, size_t size, void *userdata) {
        return getrandom(data, size, 0) == (ssize_t) size ? 0 : -1;
}

static void cb_message(
                wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *arg, void *userdata) {
        Client *c = userdata;
        FrameType type = FRAME_TEXT;
        int r;

        switch (arg->opcode) {
        case WSLAY_BINARY_FRAME:
                type = FRAME_BINARY;
                _fallthrough_;
        case WSLAY_TEXT_FRAME:
                if (c->closing)
                        return;
                r = frame_stream_send(c->stream, type, arg->msg, arg->msg_length);
                if (r < 0) {
                        set_outcome(c, CODE_ABNORMAL,
                                        "The node daemon does not take the master's messages.");
                        wslay_event_set_error(ws, WSLAY_ERR_CALLBACK_FAILURE);
                        wslay_event_shutdown_read(ws);
                        wslay_event_shutdown_write(ws);
                }
                return;
        case WSLAY_PING:
                status(c, "alive");
                return;
        case WSLAY_CONNECTION_CLOSE: {
                char reason[REASON_MAX + 1] = "";

                if (arg->msg_length > 2)
                        memcpy(reason, arg->msg + 2, MIN(arg->msg_length - 2, (size_t) REASON_MAX));
                set_outcome(c, arg->status_code != 0 ? arg->status_code : CODE_NONE,
                                string_is_printable(reason) ? reason : "");
                set_deadline(c, CLOSE_TIMEOUT_USEC);
                return;
        }
        default:
                return;
        }
}

static const struct wslay_event_callbacks callbacks = {
        .recv_callback = cb_recv,
        .send_callback = cb_send,
        .genmask_callback = cb_mask,
        .on_msg_recv_callback = cb_message,
};

/* What one side cannot take is not read from the other. */
static void update(Client *c) {
        uint32_t events = 0;

        if (c->finished || !c->open)
                return;
        if (!wslay_event_want_read(c->ws) && !wslay_event_want_write(c->ws)) {
                finish_closed(c);
                return;
        }

        if (wslay_event_want_read(c->ws) && may_read(c))
                events |= EPOLLIN;
        if (wslay_event_want_write(c->ws))
                events |= EPOLLOUT;
        (void) sd_event_source_set_io_events(c->io, events);
        /* TLS may hold bytes of which the socket will not tell again. */
        (void) sd_event_source_set_enabled(
                        c->again, (events & EPOLLIN) && c->budget == 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
        frame_stream_pause(c->stream, wslay_event_get_queued_msg_length(c->ws) > BACKLOG_MAX);
}

static void exchange(Client *c, bool in, bool out) {
        bool could = may_read(c);
        int r = 0;

        if (out && wslay_event_want_write(c->ws))
                r = wslay_event_send(c->ws);
        c->budget = READ_MAX;
        if (!could && may_read(c))
                in = true; /* as in update() */
        if (r == 0 && in && wslay_event_want_read(c->ws))
                r = wslay_event_recv(c->ws);
        if (r != 0 && r != WSLAY_ERR_WOULDBLOCK) {
                finish_closed(c);
                return;
        }
        /* wslay says close by itself when the master breaks the protocol. */
        if (!c->closing && c->code == 0 && wslay_event_get_close_sent(c->ws)) {
                set_outcome(c, wslay_event_get_status_code_sent(c->ws),
                                "The master broke the WebSocket protocol.");
                c->closing = true;
                set_deadline(c, CLOSE_TIMEOUT_USEC);
        }
        update(c);
}

static void close_politely(Client *c, int code, const char *reason) {
        size_t n = MIN(strlen(reason), (size_t) REASON_MAX);

        if (!c->open) {
                finish(c, 0, reason);
                return;
        }
        if (c->closing)
                return;

        while (n > 0 && !utf8_is_valid(reason, n))
                n--;
        set_outcome(c, code, reason);
        c->closing = true;
        if (wslay_event_queue_close(c->ws, (uint16_t) code, (const uint8_t *) reason, n) != 0) {
                finish_closed(c);
                return;
        }
        set_deadline(c, CLOSE_TIMEOUT_USEC);
        exchange(c, false, true);
}

/* The upgrade */

static int on_open(Client *c) {
        if (wslay_event_context_client_init(&c->ws, &callbacks, c) != 0)
                return -ENOMEM;
        wslay_event_config_set_max_recv_msg_length(c->ws, FRAME_SIZE_MAX);

        c->open = true;
        c->heard_at = now_monotonic();
        erase_and_freep(&c->request);
        c->request = NULL;
        set_deadline(c, SILENCE_USEC);
        status(c, "open");
        exchange(c, true, false); /* frames that came with the head */
        return 0;
}

static int upgrade_step(Client *c, KError *reterr) {
        ssize_t n;
        int r;

        if (c->request_sent < c->request_size) {
                n = connector_send(c->connector, c->request + c->request_sent,
                                c->request_size - c->request_sent);
                if (n < 0 && n != -EAGAIN)
                        return kerror_set(reterr, K_NETWORK,
                                        "The connection broke while the channel was being opened.");
                if (n > 0)
                        c->request_sent += (size_t) n;
                if (c->request_sent == c->request_size)
                        (void) sd_event_source_set_io_events(c->io, EPOLLIN);
        }

        for (;;) {
                n = connector_recv(c->connector, c->head + c->head_size, sizeof(c->head) - c->head_size);
                if (n == -EAGAIN)
                        return 0;
                if (n <= 0)
                        return kerror_set(reterr, K_NETWORK,
                                        "The master closed the connection before the channel was open%s.",
                                        n == 0 ? "" : ": it may have refused this node's certificate");
                c->head_size += (size_t) n;

                r = upgrade_check_response(c->head, c->head_size, c->subprotocol, c->key, reterr);
                if (r < 0 && !c->is_node && kerror_is_set(reterr) && reterr->code == K_ACCESS_DENIED) {
                        kerror_done(reterr);
                        return kerror_set(reterr, K_ACCESS_DENIED,
                                        "The master at %s does not take the token.",
                                        connector_authority(c->connector));
                }
                if (r < 0)
                        return r;
                if (r > 0) {
                        c->head_used = (size_t) r;
                        return on_open(c);
                }
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Client *c = userdata;
        int r;

        if (c->open) {
                exchange(c, revents & (EPOLLIN | EPOLLHUP | EPOLLERR), revents & EPOLLOUT);
                return 0;
        }

        r = upgrade_step(c, &error);
        if (r < 0)
                finish_failed(c, &error, r);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Client *c = userdata;
        uint64_t silent;

        if (!c->open) {
                finish(c, 0,
                                streq(c->phase, "upgrade")
                                                ? "The master accepted the connection and does not answer."
                                                : "No configuration came.");
                return 0;
        }
        if (c->closing || c->code != 0) {
                finish_closed(c); /* the other side does not answer our close */
                return 0;
        }

        silent = now_monotonic() - c->heard_at;
        if (silent >= SILENCE_USEC)
                finish(c, CODE_SILENCE, "Nothing was heard from the master for 75 s.");
        else
                set_deadline(c, SILENCE_USEC - silent);
        return 0;
}

static void on_phase(Connector *connector, const char *phase, void *userdata) {
        status(userdata, phase);
}

static int start_upgrade(Client *c, KError *reterr) {
        int r;

        r = upgrade_key_new(&c->key);
        if (r < 0)
                return r;
        r = upgrade_request(connector_authority(c->connector), connector_path(c->connector), c->subprotocol,
                        c->key, c->headers, &c->request, reterr);
        if (r < 0)
                return r;
        c->request_size = strlen(c->request);
        json_object_put(TAKE_PTR(c->headers));

        r = sd_event_add_io(c->event, &c->io, connector_fd(c->connector), EPOLLIN | EPOLLOUT, on_io, c);
        if (r < 0)
                return r;
        set_deadline(c, UPGRADE_TIMEOUT_USEC);
        status(c, "upgrade");
        return 0;
}

static void on_connected(Connector *connector, const KError *error, void *userdata) {
        _cleanup_kerror_ KError own = KERROR_NULL;
        Client *c = userdata;
        int r;

        if (error) {
                finish_failed(c, error, 0);
                return;
        }
        r = start_upgrade(c, &own);
        if (r < 0)
                finish_failed(c, &own, r);
}

/* The daemon's side */

static int configure(Client *c, const char *data, size_t size, KError *reterr) {
        _cleanup_free_ char *ca = NULL, *key = NULL, *certificate = NULL;
        const char *url, *secret = NULL, *proxy = NULL, *no_proxy = NULL, *given = NULL,
                         *subprotocol = SUBPROTOCOL, *directory = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_json_ json_object *o = NULL;
        json_object *headers = NULL;
        int r;

        r = json_parse(data, size, CONFIG_SIZE_MAX, &o, reterr);
        if (r < 0)
                return r;
        r = json_get_string(o, "url", &url, reterr);
        if (r >= 0)
                r = json_find_string(o, "secret", &secret, reterr);
        if (r >= 0)
                r = json_find_string(o, "proxy", &proxy, reterr);
        if (r >= 0)
                r = json_find_string(o, "no_proxy", &no_proxy, reterr);
        if (r >= 0)
                r = json_find_string(o, "credentials", &directory, reterr);
        if (r >= 0)
                r = json_find_string(o, "subprotocol", &subprotocol, reterr);
        if (r >= 0)
                r = json_find_string(o, "ca", &given, reterr);
        if (r >= 0)
                r = json_get_object(o, "headers", &headers, reterr);
        if (r < 0)
                return r;
        c->is_node = !given;
        c->subprotocol = strdup(subprotocol);
        if (!c->subprotocol)
                return -ENOMEM;
        if (!directory && c->is_node)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There are no credentials.");

        if (secret) {
                _cleanup_erase_ char *value = strjoin("Bearer ", secret);

                if (!value)
                        return -ENOMEM;
                r = json_add_string(headers, "Authorization", value);
                if (r < 0)
                        return r;
        }
        c->headers = json_object_get(headers);

        if (c->is_node) {
                ca = strjoin(directory, "/ca");
                key = strjoin(directory, "/key");
                certificate = strjoin(directory, "/certificate");
                if (!ca || !key || !certificate)
                        return -ENOMEM;
        }
        c->phase = "resolving";
        return connector_new(c->event,
                        &(ConnectorOptions){
                                        .url = url,
                                        .ca_file = given ?: ca,
                                        .certificate_file = certificate,
                                        .key_file = key,
                                        .proxy = proxy,
                                        .no_proxy = no_proxy,
                                        .timeout_usec = CONNECT_TIMEOUT_USEC,
                        },
                        on_phase, on_connected, c, &c->connector, reterr);
}

static void on_config(Client *c, const char *data, size_t size) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        c->configured = true;
        set_deadline(c, CONNECT_TIMEOUT_USEC + UPGRADE_TIMEOUT_USEC);
        r = configure(c, data, size, &error);
        if (r < 0)
                finish_failed(c, &error, r);
        else
                status(c, "resolving");
}

static void on_close(Client *c, const char *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        int64_t code = CODE_GOING_AWAY;
        const char *reason = "";

        if (json_parse(data, size, CONFIG_SIZE_MAX, &o, NULL) < 0 ||
                        json_find_i64(o, "code", &code, NULL) < 0 ||
                        json_find_string(o, "reason", &reason, NULL) < 0 || code < 1000 || code > 4999)
                code = CODE_GOING_AWAY;
        close_politely(c, (int) code, reason);
}

static void on_frame(FrameStream *stream, FrameType type, const char *data, size_t size, void *userdata) {
        struct wslay_event_msg m = { .msg = (const uint8_t *) data, .msg_length = size };
        Client *c = userdata;

        if (c->finished)
                return;

        switch (type) {
        case FRAME_CONFIG:
                if (!c->configured)
                        on_config(c, data, size);
                return;
        case FRAME_CLOSE:
                on_close(c, data, size);
                return;
        case FRAME_TEXT:
        case FRAME_BINARY:
                if (!c->open || c->closing)
                        return;
                m.opcode = type == FRAME_TEXT ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME;
                if (wslay_event_queue_msg(c->ws, &m) == WSLAY_ERR_NOMEM) {
                        finish(c, CODE_ABNORMAL, "Out of memory.");
                        return;
                }
                exchange(c, false, true);
                return;
        default:
                finish(c, CODE_ABNORMAL, "The node daemon sent a frame that is not its to send.");
        }
}

static void on_end(FrameStream *stream, int r, void *userdata) {
        Client *c = userdata;

        /* The daemon has gone or wants no more. A word to the master, so that it need not wait for a ping. */
        if (c->open && !c->closing && wslay_event_queue_close(c->ws, CODE_GOING_AWAY, NULL, 0) == 0)
                (void) wslay_event_send(c->ws);
        c->finished = true;
        exit_loop(c);
}

static void on_drained(FrameStream *stream, void *userdata) {
        Client *c = userdata;

        if (c->open && !c->finished)
                exchange(c, true, false);
}

static int on_again(sd_event_source *source, void *userdata) {
        Client *c = userdata;

        if (c->open && !c->finished)
                exchange(c, true, false);
        return 0;
}

static const FrameHandler frame_handler = {
        .frame = on_frame,
        .end = on_end,
        .drained = on_drained,
};

int client_new_consume(sd_event *event, int fd, Client **ret) {
        _cleanup_(client_freep) Client *c = NULL;
        _cleanup_close_ int owned = fd;
        int r;

        assert(event);
        assert(ret);

        c = new0(Client, 1);
        if (!c)
                return -ENOMEM;
        c->event = sd_event_ref(event);
        c->phase = "start";
        r = sd_event_add_time_relative(
                        event, &c->deadline, CLOCK_MONOTONIC, UPGRADE_TIMEOUT_USEC, 0, on_deadline, c);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &c->again, on_again, c);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(c->again, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = frame_stream_new_consume(event, TAKE_FD(owned), &frame_handler, c, &c->stream);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

void client_keep_loop(Client *c) {
        c->keeps_loop = true;
}

Client *client_free(Client *c) {
        if (!c)
                return NULL;

        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->deadline);
        sd_event_source_disable_unref(c->again);
        frame_stream_detach(c->stream);
        frame_stream_unref(c->stream);
        wslay_event_context_free(c->ws);
        connector_free(c->connector);
        erase_and_freep(&c->request);
        json_object_put(c->headers);
        free(c->key);
        free(c->subprotocol);
        free(c->reason);
        sd_event_unref(c->event);
        free(c);
        return NULL;
}
