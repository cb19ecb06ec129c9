/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* JSON-RPC 2.0 between two equal peers, as doc/node-channel.md uses it: no batches, params is an object, ids are
 * unsigned integers above 0. Knows nothing of the transport. */
typedef struct JsonRpc JsonRpc;

/* Result callbacks of users have types of their own; they travel as this one and are cast back in the handler. */
typedef void (*jsonrpc_callback_t)(void);

typedef struct JsonRpcHandler {
        /* Hands one text to the transport. What it returns is what the caller of jsonrpc_call() and others gets. */
        int (*send)(const char *text, size_t size, void *userdata);
        /* A request (id > 0, to be answered once) or a notification (0). params is an object or NULL. Negative: the
         * peer broke the protocol; jsonrpc_receive() returns it. */
        int (*method)(uint64_t id, const char *method, json_object *params, void *userdata);
        /* The end of a call, exactly once: result or error. */
        void (*result)(jsonrpc_callback_t done, void *done_userdata, json_object *result,
                        const KError *error, void *userdata);
} JsonRpcHandler;

int jsonrpc_new(sd_event *event, const JsonRpcHandler *handler, void *userdata, JsonRpc **ret);
JsonRpc *jsonrpc_free(JsonRpc *j); /* calls that are under way end with K_NODE_OFFLINE */
DEFINE_TRIVIAL_CLEANUP_FUNC(JsonRpc *, jsonrpc_free);

/* One message from the peer. Negative with a sentence: it is malformed and the connection should be closed. Answers
 * to calls that nobody waits for are ignored. The handlers may call anything but jsonrpc_free(). */
int jsonrpc_receive(JsonRpc *j, const char *text, size_t size, KError *reterr);

/* params (an object or NULL) are consumed, also on failure. done is called exactly once, later, if 0 was returned, and
 * not at all after a failure. timeout_usec 0 is CHANNEL_CALL_TIMEOUT_USEC. -ENOBUFS over CHANNEL_CALLS_MAX. */
int jsonrpc_call(JsonRpc *j, const char *method, json_object *params, uint64_t timeout_usec,
                jsonrpc_callback_t done, void *done_userdata);
int jsonrpc_notify(JsonRpc *j, const char *method, json_object *params);
/* -ENOENT unless the id is of a request of the peer which was not yet answered. result is consumed; NULL is null. */
int jsonrpc_reply(JsonRpc *j, uint64_t id, json_object *result);
int jsonrpc_reply_error(JsonRpc *j, uint64_t id, const KError *error);

/* The connection is gone: ends all calls with this error, forgets the peer's requests. */
void jsonrpc_reset(JsonRpc *j, KErrorCode code, const char *message);
size_t jsonrpc_calls(const JsonRpc *j); /* how many wait for an answer */
