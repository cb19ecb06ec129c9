/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* The master's end of the node channel (doc/node-channel.md). The listener makes a NodeSession for each WebSocket whose peer
 * showed a certificate; sessions have an id, and only the current session of a node may speak for it (trap 1). */
typedef struct NodeSession NodeSession;
typedef struct Listener Listener;
typedef struct NodeSessions NodeSessions; /* all of them */

/* What the upgrade request said. */
typedef struct NodeIntroduction {
        const char *node_key; /* SHA-256 of the peer's public key, hex */
        const char *secret;   /* of the join token; NULL: none was sent */
        const char *machine_id, *name, *version;
        char *const *labels;
        uint64_t time;       /* the node's clock; 0: none */
        const char *address; /* peer's address */
} NodeIntroduction;

/* The engine behind the sessions; node-tracker.c fills it. */
typedef struct NodeSessionHandler {
        /* Says which node this is, registering a new one where its token allows. Returns 0 and the node's id, or a close code
         * (4000…4999) with the sentence in reterr. Called before any message is read. */
        int (*admit)(const NodeIntroduction *who, char **ret_node_id, KError *reterr, void *userdata);
        void (*opened)(NodeSession *s, void *userdata);
        /* Answer requests (id > 0) with session_reply() once. Returning < 0 closes the session with 4050. */
        int (*method)(NodeSession *s, uint64_t id, const char *method, json_object *params, void *userdata);
        /* A binary message, likewise. NULL: there are none. */
        int (*binary)(NodeSession *s, const void *data, size_t size, void *userdata);
        void (*seen)(NodeSession *s, void *userdata); /* a pong came */
        /* Once for each opened session, before closed(): it speaks for nobody any more, because it ended or was replaced. */
        void (*gone)(NodeSession *s, void *userdata);
        /* Once for each opened session that was still the current one of its node; replaced ones end silently. */
        void (*closed)(NodeSession *s, int code, const char *reason, void *userdata);
} NodeSessionHandler;

int node_sessions_new(
                sd_event *event, const NodeSessionHandler *handler, void *userdata, NodeSessions **ret);
NodeSessions *node_sessions_free(NodeSessions *l); /* closes all, politely */
DEFINE_TRIVIAL_CLEANUP_FUNC(NodeSessions *, node_sessions_free);

/* The current one; NULL: not connected. */
NodeSession *node_sessions_find(NodeSessions *l, const char *node_id);

/* Serves "/v1/nodes/channel" on the listener, which must outlive l. */
int node_sessions_listen(NodeSessions *l, Listener *listener);
size_t node_sessions_count(NodeSessions *l); /* connected nodes */

const char *session_node_id(NodeSession *s);
uint64_t session_id(NodeSession *s);
const char *session_address(NodeSession *s);

typedef void (*session_result_t)(NodeSession *s, json_object *result, const KError *error, void *userdata);
/* params are consumed. done is called exactly once, with an error on time-out or when the session ends (s is then still valid
 * for the time of the call). */
int session_call(NodeSession *s, const char *method, json_object *params, uint64_t timeout_usec,
                session_result_t done, void *userdata);
/* A slow reader never grows the master: over CHANNEL_QUEUE_BYTES_MAX the session is closed. */
int session_notify(NodeSession *s, const char *method, json_object *params);
/* One binary message in two parts; the same holds. */
int session_send_binary(NodeSession *s, const void *head, size_t head_size, const void *data, size_t size);
int session_reply(NodeSession *s, uint64_t id, json_object *result);
int session_reply_error(NodeSession *s, uint64_t id, const KError *error);
/* Forced if the peer does not answer the close. */
void session_close(NodeSession *s, int code, const char *reason);
