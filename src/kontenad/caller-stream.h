/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "operation.h"

struct NodeSession;

/* A stream that a caller holds: opened by one operation, used by others under an id of 128 random bits, and only from the address
 * that opened it. It ends when the command or the transfer does, when the caller closes it or goes away, or may not do that any more (standing.h). */

/* How what comes reaches the caller; a face gives it. */
typedef struct StreamSink {
        void (*opened)(const char *stream, void *userdata); /* the id, once, before anything else */
        /* size 0: that channel has ended. There is never more than STREAM_WINDOW that the caller has not given back. Negative: it is gone. */
        int (*data)(const char *stream, unsigned channel, const void *data, size_t size, void *userdata);
        /* Once, last, if it was opened. error NULL: it came to its end. */
        void (*ended)(const char *stream, int status, const KError *error, void *userdata);
        void (*free)(void *userdata);
} StreamSink;

/* For the perform() of an operation without OPERATION_CHANGES: opens a stream of that kind to the node and returns 1; the call is
 * finished with {"stream": ID} when it runs. params are consumed. what: for the audit of its end, "Command 'sh' in web-1". */
int caller_stream_open(OperationCall *c, struct NodeSession *session, const char *kind, json_object *params,
                const char *what, KError *reterr);

/* From the face: the peer is gone. -ENOENT. */
int caller_stream_abandon(Master *m, const char *id);

/* For operations with the parameter "stream": that of this caller. NULL, with the sentence, also for one of somebody else. */
typedef struct CallerStream CallerStream;
CallerStream *caller_stream_find(OperationCall *c, KError *reterr);
struct Stream *caller_stream_get(CallerStream *s);
/* Returns 1: c is finished when all was written into the window, in the order of the calls. data belongs to c. */
int caller_stream_write(CallerStream *s, OperationCall *c, const void *data, size_t size, KError *reterr);
void caller_stream_end_input(CallerStream *s); /* behind what waits to be written */
void caller_stream_close(CallerStream *s);
