/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "channel.h"

#include <sys/random.h>
#include <systemd/sd-id128.h>

#include "channel-backoff.h"
#include "channel-internal.h"
#include "file-util.h"
#include "frame.h"
#include "join-token.h"
#include "json-util.h"
#include "jsonrpc.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define CONNECT_USEC        (45U * USEC_PER_SEC) /* more than kontena-channel's own time-outs together */
#define SILENCE_USEC        (80U * USEC_PER_SEC) /* it says so by itself after 75 s */
#define SETTLED_USEC        (10U * USEC_PER_SEC) /* then an accepted connection counts as success */
#define LAST_WORD_USEC      (3U * USEC_PER_SEC)  /* from the end of the socket to systemd's word why */
#define CLOSE_PROTOCOL      4050

/* Not secret; makes the machine id one of ours. */
#define KONTENA_NODE_APP_ID SD_ID128_MAKE(6b, 1f, 0c, 52, 9d, 7e, 4c, 1b, a3, 30, 58, e2, 44, 0e, 97, d8)

struct Channel {
        sd_event *event;
        ChannelLink link;
        char *directory, *join_path, *node_name, *labels;
        char node_id[SD_ID128_STRING_MAX];
        channel_method_t on_method;
        channel_state_changed_t on_state;
        channel_binary_t on_binary;
        void *userdata;

        JoinConfig join;
        ChannelState state;
        char *status;
        JsonRpc *rpc;

        void *handle; /* of the program that runs */
        FrameStream *stream;
        sd_event_source *timer; /* next attempt, or patience with this one */
        sd_event_source *settle;
        unsigned attempt; /* failures in a row */
        bool ended;       /* no more comes from the program */
        int code;         /* how this attempt ended, as far as it is known */
        char *reason;
};

static const char *const channel_state_table[_CHANNEL_STATE_MAX] = {
        [CHANNEL_IDLE] = "idle",
        [CHANNEL_CONNECTING] = "connecting",
        [CHANNEL_OPEN] = "open",
        [CHANNEL_READY] = "ready",
        [CHANNEL_WAITING] = "waiting",
};
DEFINE_STRING_TABLE_LOOKUP(channel_state, ChannelState);

static void set_status(Channel *c, const char *format, ...) _printf_(2, 3);
static void set_status(Channel *c, const char *format, ...) {
        va_list ap;

        free(c->status);
        va_start(ap, format);
        c->status = strvprintf(format, ap);
        va_end(ap);
}

static void set_state(Channel *c, ChannelState state) {
        if (c->state == state)
                return;

        c->state = state;
        if (c->on_state)
                c->on_state(c, state, c->userdata);
}

static bool is_open(const Channel *c) {
        return c->state == CHANNEL_OPEN || c->state == CHANNEL_READY;
}

static void set_timer(sd_event_source *timer, uint64_t usec) {
        (void) sd_event_source_set_time_relative(timer, usec);
        (void) sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static void set_outcome(Channel *c, int code, const char *reason) {
        if (c->reason)
                return;

        c->code = code;
        c->reason = strdup(reason);
}

/* Of one attempt; the calls that are under way end, once each. */
static void disconnect(Channel *c) {
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        (void) sd_event_source_set_enabled(c->settle, SD_EVENT_OFF);
        frame_stream_detach(c->stream);
        c->stream = frame_stream_unref(c->stream);
        if (c->handle)
                c->link.stop(TAKE_PTR(c->handle), c->link.userdata);
        c->ended = false;
        jsonrpc_reset(c->rpc, K_NODE_OFFLINE, "The connection to the master has ended.");
}

static void attempt_failed(Channel *c) {
        _cleanup_free_ char *reason = NULL;
        uint64_t random = 0, wait;
        bool final;

        set_outcome(c, 0, "The connection to the master has ended.");
        reason = TAKE_PTR(c->reason);
        final = channel_code_is_final(c->code);
        disconnect(c);
        if (c->state == CHANNEL_IDLE) /* stopped by a callback */
                return;

        if (getrandom(&random, sizeof(random), 0) != (ssize_t) sizeof(random))
                random = UINT64_MAX; /* the longest wait, rather than all at once */
        wait = final ? channel_backoff_final(random) : channel_backoff(c->attempt, random);
        if (c->attempt < UINT32_MAX)
                c->attempt++;
        set_timer(c->timer, wait);

        set_status(c,
                        final ? "The master refuses this node: %s It will be asked again in %llu s."
                              : "%s Trying again in %llu s.",
                        strempty(reason), (unsigned long long) ((wait + USEC_PER_SEC - 1) / USEC_PER_SEC));
        log_debug("Attempt %u ended (code %i): %s", c->attempt, c->code, strempty(c->status));
        set_state(c, CHANNEL_WAITING);
}

/* The program says close to the master and then how it ended; if it does not, patience ends. */
static void close_link(Channel *c, int code, const char *reason) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;

        if (!o || json_add_i64(o, "code", code) < 0 || json_add_string(o, "reason", reason) < 0 ||
                        !(text = json_text(o)) ||
                        frame_stream_send(c->stream, FRAME_CLOSE, text, strlen(text)) < 0)
                attempt_failed(c);
}

/* From the program */

static void on_status(Channel *c, const char *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        const char *phase;

        if (json_parse(data, size, FRAME_SIZE_MAX, &o, NULL) < 0 ||
                        json_get_string(o, "phase", &phase, NULL) < 0)
                return;

        if (c->state != CHANNEL_CONNECTING)
                return;
        if (streq(phase, "open")) {
                set_timer(c->timer, SILENCE_USEC);
                set_status(c, "The channel is open, waiting for the master's answer.");
                set_state(c, CHANNEL_OPEN);
        } else
                set_status(c, "Connecting to %s (%s).", c->join.url, phase);
}

static void on_closed(Channel *c, const char *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        const char *reason = NULL;
        int64_t code = 0;

        if (json_parse(data, size, FRAME_SIZE_MAX, &o, NULL) < 0 ||
                        json_find_i64(o, "code", &code, NULL) < 0 ||
                        json_find_string(o, "reason", &reason, NULL) < 0)
                return;

        if (!isempty(reason))
                set_outcome(c, (int) code, reason);
        else {
                _cleanup_free_ char *text = strprintf(
                                "The master closed the channel (code %lli).", (long long) code);

                set_outcome(c, (int) code, strempty(text));
        }
        attempt_failed(c);
}

static void on_frame(FrameStream *s, FrameType type, const char *data, size_t size, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Channel *c = userdata;
        int r;

        if (is_open(c) && !c->reason) /* else its end is near */
                set_timer(c->timer, SILENCE_USEC);

        switch (type) {
        case FRAME_TEXT:
                if (!is_open(c))
                        return;
                r = jsonrpc_receive(c->rpc, data, size, &error);
                if (r < 0) {
                        log_debug_errno(r, "A message of the master is malformed: %s",
                                        kerror_message(&error));
                        close_link(c, CLOSE_PROTOCOL, kerror_message(&error));
                }
                return;
        case FRAME_STATUS:
                on_status(c, data, size);
                return;
        case FRAME_CLOSED:
                on_closed(c, data, size);
                return;
        case FRAME_BINARY:
                if (is_open(c) && c->on_binary)
                        c->on_binary(c, data, size, c->userdata);
                return;
        default:
                set_outcome(c, 0, "kontena-channel said something that is not its to say.");
                attempt_failed(c);
        }
}

static void on_stream_end(FrameStream *s, int r, void *userdata) {
        Channel *c = userdata;

        if (r < 0)
                log_debug_errno(r, "The socket of kontena-channel failed: %m");
        c->ended = true;
        set_timer(c->timer, LAST_WORD_USEC); /* systemd says why, soon */
}

static void on_program_end(const KError *error, void *userdata) {
        Channel *c = userdata;

        if (error)
                set_outcome(c, 0, kerror_message(error));
        /* What it said last may still be in the socket. */
        if (c->ended)
                attempt_failed(c);
        else
                set_timer(c->timer, LAST_WORD_USEC);
}

static const FrameHandler frame_handler = {
        .frame = on_frame,
        .end = on_stream_end,
};

/* Attempts */

static int add_headers(Channel *c, json_object *o) {
        _cleanup_json_ json_object *headers = json_object_new_object();
        _cleanup_free_ char *time = NULL;
        int r;

        if (!headers)
                return -ENOMEM;
        time = strprintf("%llu", (unsigned long long) now_realtime());
        if (!time)
                return -ENOMEM;
        r = json_add_string(headers, "Kontena-Node-Id", c->node_id);
        if (r >= 0)
                r = json_add_string(headers, "Kontena-Node-Name", c->node_name);
        if (r >= 0 && !isempty(c->labels))
                r = json_add_string(headers, "Kontena-Node-Labels", c->labels);
        if (r >= 0)
                r = json_add_string(headers, "Kontena-Version", KONTENA_VERSION);
        if (r >= 0)
                r = json_add_string(headers, "Kontena-Time", time);
        if (r < 0)
                return r;

        return json_add(o, "headers", TAKE_PTR(headers));
}

static const char *environment(const char *name, const char *other) {
        return empty_to_null(getenv(name)) ?: empty_to_null(getenv(other));
}

static int send_config(Channel *c) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "url", c->join.url);
        if (r >= 0)
                r = json_add_string(o, "secret", c->join.secret);
        if (r >= 0)
                r = json_add_string(o, "proxy", environment("https_proxy", "HTTPS_PROXY"));
        if (r >= 0)
                r = json_add_string(o, "no_proxy", environment("no_proxy", "NO_PROXY"));
        if (r >= 0)
                r = add_headers(c, o);
        if (r < 0)
                return r;

        text = json_text(o);
        if (!text)
                return -ENOMEM;
        return frame_stream_send(c->stream, FRAME_CONFIG, text, strlen(text));
}

static int connect_now(Channel *c) {
        int fd = -EBADF, r;

        c->code = 0;
        c->reason = mfree(c->reason);
        c->ended = false;
        r = c->link.start(c->directory, on_program_end, c, c->link.userdata, &c->handle, &fd);
        if (r < 0)
                return r;
        r = frame_stream_new_consume(c->event, fd, &frame_handler, c, &c->stream);
        if (r < 0)
                return r;
        return send_config(c);
}

static void attempt(Channel *c) {
        int r;

        set_status(c, "Connecting to %s.", c->join.url);
        set_timer(c->timer, CONNECT_USEC);
        r = connect_now(c);
        if (r < 0) {
                _cleanup_free_ char *text = strprintf(
                                "kontena-channel cannot be started: %s.", strerror(-r));

                set_outcome(c, 0, strempty(text));
                attempt_failed(c);
                return;
        }
        set_state(c, CHANNEL_CONNECTING);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Channel *c = userdata;

        if (c->state == CHANNEL_WAITING) {
                attempt(c);
                return 0;
        }

        if (!c->ended)
                set_outcome(c, 0,
                                is_open(c) ? "Nothing was heard from kontena-channel for 80 s."
                                           : "kontena-channel did not come to a result within 45 s.");
        else
                set_outcome(c, 0, "kontena-channel ended without a word.");
        attempt_failed(c);
        return 0;
}

static int on_settled(sd_event_source *source, uint64_t usec, void *userdata) {
        Channel *c = userdata;

        c->attempt = 0;
        return 0;
}

/* JSON-RPC over the program */

static int rpc_send(const char *text, size_t size, void *userdata) {
        Channel *c = userdata;
        int r;

        if (!c->stream || !is_open(c))
                return -ENOTCONN;
        r = frame_stream_send(c->stream, FRAME_TEXT, text, size);
        return r == -EPIPE ? -ENOTCONN : r;
}

static int rpc_method(uint64_t id, const char *method, json_object *params, void *userdata) {
        Channel *c = userdata;

        c->on_method(c, id, method, params, c->userdata);
        return 0;
}

static void rpc_result(jsonrpc_callback_t done, void *done_userdata, json_object *result,
                const KError *error, void *userdata) {
        ((channel_result_t) done)(userdata, result, error, done_userdata);
}

static const JsonRpcHandler rpc_handler = {
        .send = rpc_send,
        .method = rpc_method,
        .result = rpc_result,
};

int channel_new_full(sd_event *event, const ChannelLink *link, const ChannelConfig *config,
                channel_method_t on_method, channel_state_changed_t on_state, void *userdata,
                Channel **ret) {
        _cleanup_(channel_freep) Channel *c = NULL;
        sd_id128_t id;
        int r;

        assert(event);
        assert(link);
        assert(config);
        assert(on_method);
        assert(ret);

        c = new0(Channel, 1);
        if (!c)
                return -ENOMEM;
        c->event = sd_event_ref(event);
        c->on_method = on_method;
        c->on_state = on_state;
        c->userdata = userdata;
        c->directory = strdup(config->state_directory);
        c->join_path = strjoin(config->state_directory, "/join.conf");
        c->node_name = strdup(config->node_name);
        c->labels = strv_join(config->labels, ",");
        if (!c->directory || !c->join_path || !c->node_name || !c->labels)
                return -ENOMEM;

        r = sd_id128_get_machine_app_specific(KONTENA_NODE_APP_ID, &id);
        if (r < 0)
                return r;
        (void) sd_id128_to_string(id, c->node_id);
        r = jsonrpc_new(event, &rpc_handler, c, &c->rpc);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &c->timer, CLOCK_BOOTTIME, 0, 0, on_timer, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &c->settle, CLOCK_BOOTTIME, 0, 0, on_settled, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->settle, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(c->timer, "channel");

        c->link = *link; /* ours only after success */
        *ret = TAKE_PTR(c);
        return 0;
}

Channel *channel_free(Channel *c) {
        if (!c)
                return NULL;

        c->on_state = NULL;
        if (c->rpc)
                channel_stop(c);
        c->rpc = jsonrpc_free(c->rpc);
        if (c->link.free)
                c->link.free(c->link.userdata);
        sd_event_source_disable_unref(c->timer);
        sd_event_source_disable_unref(c->settle);
        join_config_done(&c->join);
        free(c->directory);
        free(c->join_path);
        free(c->node_name);
        free(c->labels);
        free(c->status);
        free(c->reason);
        sd_event_unref(c->event);
        free(c);
        return NULL;
}

int channel_start(Channel *c, KError *reterr) {
        _cleanup_join_config_ JoinConfig join = {};
        int r;

        assert(c);

        r = join_config_load(c->join_path, &join, reterr);
        if (r < 0 && r != -ENOENT)
                return r;

        channel_stop(c);
        join_config_done(&c->join);
        c->join = join;
        join = (JoinConfig){};
        if (r == -ENOENT) {
                set_status(c, "This machine has not joined a grid.");
                return 0;
        }

        c->attempt = 0;
        attempt(c);
        return 0;
}

int channel_reload(Channel *c, KError *reterr) {
        _cleanup_join_config_ JoinConfig join = {};

        assert(c);

        /* Without a secret it is the join that the master has acknowledged. */
        if (c->state == CHANNEL_READY && join_config_load(c->join_path, &join, NULL) >= 0 && !join.secret &&
                        streq_ptr(join.url, c->join.url))
                return 0;

        return channel_start(c, reterr);
}

void channel_stop(Channel *c) {
        ChannelState before = c->state;

        c->state = CHANNEL_IDLE;
        c->status = mfree(c->status);
        disconnect(c);
        c->reason = mfree(c->reason);
        if (before != CHANNEL_IDLE && c->on_state)
                c->on_state(c, CHANNEL_IDLE, c->userdata);
}

ChannelState channel_state(Channel *c) {
        return c->state;
}

const char *channel_status_text(Channel *c) {
        return c->status;
}

const char *channel_master_url(Channel *c) {
        return c->join.url;
}

const char *channel_node_id(Channel *c) {
        return c->node_id;
}

int channel_call(Channel *c, const char *method, json_object *params, uint64_t timeout_usec,
                channel_result_t done, void *userdata) {
        return jsonrpc_call(c->rpc, method, params, timeout_usec, (jsonrpc_callback_t) done, userdata);
}

int channel_notify(Channel *c, const char *method, json_object *params) {
        return jsonrpc_notify(c->rpc, method, params);
}

void channel_set_binary(Channel *c, channel_binary_t on_binary) {
        c->on_binary = on_binary;
}

int channel_send_binary(Channel *c, const void *head, size_t head_size, const void *data, size_t size) {
        int r;

        if (!c->stream || !is_open(c))
                return -ENOTCONN;
        r = frame_stream_send_parts(c->stream, FRAME_BINARY, head, head_size, data, size);
        return r == -EPIPE ? -ENOTCONN : r;
}

void channel_break(Channel *c, const char *reason) {
        if (!is_open(c))
                return;

        log_warning("Giving up the connection to the master: %s", reason);
        set_outcome(c, 0, reason);
        c->ended = false;
        set_timer(c->timer, 0);
}

int channel_reply(Channel *c, uint64_t id, json_object *result) {
        return jsonrpc_reply(c->rpc, id, result);
}

int channel_reply_error(Channel *c, uint64_t id, const KError *error) {
        return jsonrpc_reply_error(c->rpc, id, error);
}

void channel_set_ready(Channel *c) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (c->state != CHANNEL_OPEN)
                return;

        /* The master knows the key now; the token is of no more use here, and might be to a thief. */
        if (c->join.secret) {
                erase_and_freep(&c->join.secret);
                c->join.secret = NULL;
                if (join_config_save(c->join_path, &c->join, &error) < 0)
                        log_warning("The join token stays on disk: %s", kerror_message(&error));
        }

        c->status = mfree(c->status);
        set_timer(c->settle, SETTLED_USEC);
        set_state(c, CHANNEL_READY);
}
