/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* The node's end of the node channel (doc/node-channel.md). TLS and WebSocket are spoken by kontena-channel, a sandboxed
 * worker without privileges, over a socket pair: this daemon, which is root, sees only JSON texts from a master that
 * was authenticated, and stays small. Connects, keeps trying with full jitter, answers pings by the worker. */
typedef struct Channel Channel;

typedef enum ChannelState {
        CHANNEL_IDLE, /* not joined */
        CHANNEL_CONNECTING,
        CHANNEL_OPEN, /* upgrade done, hello not yet answered */
        CHANNEL_READY,
        CHANNEL_WAITING, /* for the next attempt */
        _CHANNEL_STATE_MAX,
        _CHANNEL_STATE_INVALID = -EINVAL,
} ChannelState;
const char *channel_state_to_string(ChannelState s);
ChannelState channel_state_from_string(const char *s);

/* A request or notification of the master. For a request call channel_reply() or channel_reply_error() once, now or later;
 * id 0 is a notification. */
typedef void (*channel_method_t)(
                Channel *c, uint64_t id, const char *method, json_object *params, void *userdata);
/* A binary message of the master, while the channel is open. */
typedef void (*channel_binary_t)(Channel *c, const void *data, size_t size, void *userdata);
typedef void (*channel_state_changed_t)(Channel *c, ChannelState state, void *userdata);
/* result is NULL on error (time-out and loss of the connection too). Called exactly once for each call. */
typedef void (*channel_result_t)(Channel *c, json_object *result, const KError *error, void *userdata);

typedef struct ChannelConfig {
        const char *state_directory; /* join.conf, ca.pem, key.pem, certificate.pem are there */
        const char *node_name;
        char *const *labels;
} ChannelConfig;

int channel_new(sd_event *event, sd_bus *bus, const ChannelConfig *config, channel_method_t on_method,
                channel_state_changed_t on_state, void *userdata, Channel **ret);
Channel *channel_free(Channel *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Channel *, channel_free);

/* Without one binary messages are ignored. It gets the userdata of the others. */
void channel_set_binary(Channel *c, channel_binary_t on_binary);

/* Reads join.conf (again); begins to connect if the node has joined. */
int channel_start(Channel *c, KError *reterr);
/* The same, but a connection that is in order and belongs to the join as it is now goes on. */
int channel_reload(Channel *c, KError *reterr);
void channel_stop(Channel *c);

ChannelState channel_state(Channel *c);
/* Why it is not ready: a sentence for `systemctl status` and the bus; NULL when there is nothing to say. */
const char *channel_status_text(Channel *c);
const char *channel_master_url(Channel *c);
const char *channel_node_id(Channel *c);

/* params are consumed. -ENOTCONN unless open; -ENOBUFS over CHANNEL_CALLS_MAX / CHANNEL_QUEUE_BYTES_MAX. */
int channel_call(Channel *c, const char *method, json_object *params, uint64_t timeout_usec,
                channel_result_t done, void *userdata);
int channel_notify(Channel *c, const char *method, json_object *params);
/* One binary message in two parts. -ENOTCONN, -ENOBUFS as above. */
int channel_send_binary(Channel *c, const void *head, size_t head_size, const void *data, size_t size);
int channel_reply(Channel *c, uint64_t id, json_object *result);
int channel_reply_error(Channel *c, uint64_t id, const KError *error);

/* What must not be lost cannot be sent: the connection ends, soon and not from inside of this, and is made anew. */
void channel_break(Channel *c, const char *reason);

/* The owner says that hello was answered and used. */
void channel_set_ready(Channel *c);
