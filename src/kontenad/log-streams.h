/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

struct Caller;
struct NodeSession;

/* Views of the output of a service, relayed from the nodes that run it to one reader. */
typedef struct LogStreams LogStreams;

typedef struct LogEntry {
        uint64_t time;
        const char *node, *instance, *stream, *message;
        const char *service; /* "stack/service" */
} LogEntry;

/* How the entries reach the reader; a face gives it. */
typedef struct LogSink {
        void (*opened)(const char *stream, void *userdata); /* the id, once, before anything else */
        /* Returns a negative errno when the reader is gone. */
        int (*entries)(const char *stream, const LogEntry *entries, size_t n, bool end, void *userdata);
        /* The reader has more than it can take: new entries are dropped, and counted, until this is false. NULL: never. */
        bool (*congested)(void *userdata);
        void (*free)(void *userdata);
} LogSink;

typedef struct LogOptions {
        uint32_t lines, instance; /* instance 0: all */
        bool follow;
        uint64_t since; /* 0: none */
        /* Of a node whose name is in it: from that time on instead, whatever lines and since say; NULL: of none. */
        json_object *after;
        struct Caller *caller; /* whose view it is: it ends when they are no member of the grid any more; NULL: the master's own */
} LogOptions;

int log_streams_new(Master *m, LogStreams **ret);
LogStreams *log_streams_free(LogStreams *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(LogStreams *, log_streams_free);

/* service NULL: of all services, from all nodes of the grid. userdata is the sink's; the stream frees it, on failure too. */
int log_streams_open(LogStreams *l, const GridRow *grid, const ServiceRow *service,
                const LogOptions *options, const LogSink *sink, void *userdata, const char **ret_id,
                KError *reterr);
int log_streams_close(LogStreams *l, const char *id); /* -ENOENT */

/* From node-tracker: a "logs.data" notification, and the end of a session. Junk is -EBADMSG. */
int log_streams_data(Master *m, struct NodeSession *session, json_object *params);
void log_streams_node_gone(Master *m, const char *node_id);
