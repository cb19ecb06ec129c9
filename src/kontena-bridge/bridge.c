/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bridge.h"

#include <sys/socket.h>

#include "bus-pump.h"
#include "client.h"
#include "file-util.h"
#include "frame.h"
#include "json-util.h"
#include "string-util.h"

#define TUNNEL_PATH        "/v1/bus"
#define TUNNEL_SUBPROTOCOL "kontena-bus.v1"
#define CLOSED_SIZE_MAX    65536U

#define CODE_NORMAL        1000
#define CODE_TOKEN         4001

/* TLS and WebSocket are the node channel's (client.h), driven by frames; here they go to ourselves. */
struct Bridge {
        sd_event *event;
        Client *client;
        FrameStream *stream;
        BusPump *pump;
        int fd; /* until the pump has it */
        char *url;

        bridge_opened_t opened;
        bridge_closed_t closed;
        void *userdata;
        bool over;
        bool left; /* by the program behind */
};

static void over(Bridge *b, const KError *error) {
        if (b->over)
                return;

        b->over = true;
        b->closed(error, b->userdata);
        (void) sd_event_exit(b->event, error ? 1 : 0);
}

static void failed(Bridge *b, KErrorCode code, const char *sentence) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) kerror_set(&error, code, "%s", sentence);
        over(b, &error);
}

static void leave(Bridge *b, int code) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;

        if (o && json_add_i64(o, "code", code) >= 0 && (text = json_text(o)))
                (void) frame_stream_send(b->stream, FRAME_CLOSE, text, strlen(text));
}

static int pump_send(bool binary, const void *data, size_t size, void *userdata) {
        Bridge *b = userdata;

        return frame_stream_send(b->stream, binary ? FRAME_BINARY : FRAME_TEXT, data, size);
}

static void pump_ended(int r, void *userdata) {
        Bridge *b = userdata;

        b->left = true;
        leave(b, CODE_NORMAL);
}

static const BusPumpHandler pump_handler = {
        .send = pump_send,
        .ended = pump_ended,
};

static void on_status(Bridge *b, const char *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        const char *phase = "";
        int r;

        if (json_parse(data, size, CLOSED_SIZE_MAX, &o, NULL) < 0 ||
                        json_get_string(o, "phase", &phase, NULL) < 0 || !streq(phase, "open") || b->fd < 0)
                return;
        r = bus_pump_new_consume(b->event, TAKE_FD(b->fd), &pump_handler, b, &b->pump);
        if (r < 0) {
                failed(b, K_INTERNAL, "The connection cannot be bridged.");
                return;
        }
        b->opened(b->userdata);
}

static void on_closed(Bridge *b, const char *data, size_t size) {
        _cleanup_free_ char *sentence = NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *reason = "", *name = "";
        KErrorCode error;
        int64_t code = 0;

        if (b->left) {
                over(b, NULL);
                return;
        }
        if (json_parse(data, size, CLOSED_SIZE_MAX, &o, NULL) < 0 ||
                        json_find_i64(o, "code", &code, NULL) < 0 ||
                        json_find_string(o, "reason", &reason, NULL) < 0 ||
                        json_find_string(o, "error", &name, NULL) < 0) {
                failed(b, K_INTERNAL, "What speaks with the master said nothing that can be read.");
                return;
        }

        error = kerror_code_from_bus_name(name);
        if (code == CODE_TOKEN)
                error = K_ACCESS_DENIED;
        if (code != 0)
                sentence = strjoin("The master at ", b->url, " ended the connection",
                                isempty(reason) ? "." : ": ", reason);
        failed(b, error > K_OK ? error : K_NETWORK,
                        sentence           ? sentence
                        : !isempty(reason) ? reason
                                           : "The connection to the master was lost.");
}

static void on_frame(FrameStream *s, FrameType type, const char *data, size_t size, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Bridge *b = userdata;

        if (b->over)
                return;
        switch (type) {
        case FRAME_STATUS:
                on_status(b, data, size);
                return;
        case FRAME_TEXT:
        case FRAME_BINARY:
                if (b->pump && bus_pump_receive(b->pump, type == FRAME_BINARY, data, size, &error) < 0)
                        over(b, &error);
                return;
        case FRAME_CLOSED:
                on_closed(b, data, size);
                return;
        default:
                return;
        }
}

static void on_frames_end(FrameStream *s, int r, void *userdata) {
        Bridge *b = userdata;

        if (b->left)
                over(b, NULL);
        else
                failed(b, K_NETWORK, "The connection to the master was lost.");
}

static const FrameHandler frame_handler = {
        .frame = on_frame,
        .end = on_frames_end,
};

static int configure(Bridge *b, const BridgeOptions *o) {
        _cleanup_json_ json_object *config = json_object_new_object();
        json_object *headers = json_object_new_object();
        _cleanup_free_ char *url = strjoin(o->url, TUNNEL_PATH);
        int r;

        r = config && headers && url ? json_add_string(headers, "User-Agent", o->user_agent) : -ENOMEM;
        if (r >= 0)
                r = json_add(config, "headers", TAKE_PTR(headers));
        if (r >= 0)
                r = json_add_string(config, "url", url);
        if (r >= 0)
                r = json_add_string(config, "secret", o->token);
        if (r >= 0)
                r = json_add_string(config, "ca", o->ca_file);
        if (r >= 0)
                r = json_add_string(config, "subprotocol", TUNNEL_SUBPROTOCOL);
        if (r >= 0)
                r = json_add_string(config, "proxy", o->proxy);
        if (r >= 0)
                r = json_add_string(config, "no_proxy", o->no_proxy);
        if (r >= 0) {
                const char *text = json_text(config);

                r = text ? frame_stream_send(b->stream, FRAME_CONFIG, text, strlen(text)) : -ENOMEM;
        }
        json_object_put(headers);
        return r;
}

int bridge_new_consume(sd_event *event, int fd, const BridgeOptions *options, bridge_opened_t opened,
                bridge_closed_t closed, void *userdata, Bridge **ret) {
        _cleanup_(bridge_freep) Bridge *b = NULL;
        _cleanup_close_ int owned = fd;
        int fds[2], r;

        assert(event);
        assert(options);
        assert(ret);

        b = new0(Bridge, 1);
        if (!b)
                return -ENOMEM;
        b->event = sd_event_ref(event);
        b->fd = TAKE_FD(owned);
        b->opened = opened;
        b->closed = closed;
        b->userdata = userdata;
        b->url = strdup(options->url);
        if (!b->url)
                return -ENOMEM;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return -errno;
        r = client_new_consume(event, fds[0], &b->client);
        if (r < 0) {
                safe_close(fds[1]);
                return r;
        }
        client_keep_loop(b->client);
        r = frame_stream_new_consume(event, fds[1], &frame_handler, b, &b->stream);
        if (r >= 0)
                r = configure(b, options);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(b);
        return 0;
}

Bridge *bridge_free(Bridge *b) {
        if (!b)
                return NULL;

        bus_pump_free(b->pump);
        if (b->stream) {
                frame_stream_detach(b->stream);
                frame_stream_unref(b->stream);
        }
        client_free(b->client);
        safe_close(b->fd);
        sd_event_unref(b->event);
        free(b->url);
        free(b);
        return NULL;
}
