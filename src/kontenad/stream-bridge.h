/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"

struct NodeSession;

/* What one stream gives is another's input, as tar streams between two nodes: nothing of it is kept here but what the second has no room
 * for yet, at most STREAM_WINDOW. */
typedef struct StreamBridge StreamBridge;

typedef struct StreamBridgeEnd {
        struct NodeSession *session;
        const char *kind;
        json_object *params; /* consumed, of both ends, also on failure */
} StreamBridgeEnd;

/* Once, from the loop; the bridge is gone. error NULL: the first has come to its end with status 0, the second took everything and then
 * ended with 0 too. Otherwise neither is to be relied on. by_source: the error is one that the first has told. */
typedef void (*stream_bridge_done_t)(uint64_t bytes, bool by_source, const KError *error, void *userdata);

int stream_bridge_new(Master *m, const StreamBridgeEnd *from, const StreamBridgeEnd *to,
                stream_bridge_done_t done, void *userdata, StreamBridge **ret, KError *reterr);
/* Closes both; done is not called. */
StreamBridge *stream_bridge_free(StreamBridge *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(StreamBridge *, stream_bridge_free);

uint64_t stream_bridge_bytes(const StreamBridge *b);    /* handed on so far */
bool stream_bridge_is_finishing(const StreamBridge *b); /* the second has all, and has not ended yet */
