/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "kontena-limits.h"
#include "macro.h"
#include "master.h"

struct NodeSession;

/* The master's end of streams (doc/node-channel.md): bytes both ways between a part of the master and something on a node. Nothing
 * is kept here: who opened a stream takes what comes, and writes no more than there is room for. */
typedef struct Streams Streams;
typedef struct Stream Stream;

/* All are called from the loop, never from within one of the functions below. Each may call anything, stream_close() too. */
typedef struct StreamHandler {
        /* It runs: from now on there is room, and data may come. Once, unless it ends before. */
        void (*opened)(Stream *s, void *userdata);
        /* channel 1 or 2. size 0: that channel has ended. What is taken is given back with stream_credit(), now or later, all of it when
         * nothing is left: the node sends at most STREAM_WINDOW more than that, less where it comes in small pieces. */
        void (*data)(Stream *s, unsigned channel, const void *data, size_t size, void *userdata);
        void (*writable)(Stream *s, void *userdata); /* there is more room; may be NULL */
        /* Once, last; the stream is gone. error NULL: it came to its end, with that status. */
        void (*ended)(Stream *s, int status, const KError *error, void *userdata);
} StreamHandler;

int streams_new(Master *m, Streams **ret);
Streams *streams_free(Streams *l); /* all streams end */
DEFINE_TRIVIAL_CLEANUP_FUNC(Streams *, streams_free);

/* params, with what the kind needs, are consumed. owner: who it counts for in the limits; NULL: the master itself. */
int stream_open(Streams *l, struct NodeSession *session, const char *kind, json_object *params,
                const char *owner, const StreamHandler *handler, void *userdata, Stream **ret,
                KError *reterr);
/* Tells the node to end what it had started. No handler is called any more. */
Stream *stream_close(Stream *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Stream *, stream_close);

size_t
stream_room(const Stream *s); /* bytes that may be written now; 0 before it is opened and after the end of input */
/* No more than there is room. Negative: the connection is breaking, and ended() will say so. */
int stream_write(Stream *s, const void *data, size_t size);
int stream_end_input(Stream *s);
int stream_resize(Stream *s, unsigned rows, unsigned columns);
int stream_signal(Stream *s, const char *name); /* as stream_signal_from_name() knows it; else -EINVAL */
/* So much of what came is taken. -ERANGE: more than came. */
int stream_credit(Stream *s, size_t size);
const char *stream_node_id(const Stream *s);

/* From node-tracker. Negative: the node broke the protocol, its session is to be closed. */
int streams_binary(Master *m, struct NodeSession *session, const void *data, size_t size);
int streams_method(Master *m, struct NodeSession *session, const char *method,
                json_object *params); /* 1: it was one of ours */
void streams_session_gone(Master *m, struct NodeSession *session);
