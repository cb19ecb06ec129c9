/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "kontena-limits.h"
#include "macro.h"

/* The node's end of streams (doc/node-channel.md): bytes both ways between somebody at the master and something here. This part
 * knows numbers, windows and messages; what a stream leads to is its provider's business, one for each kind. */
typedef struct Streams Streams;
typedef struct Stream Stream;

typedef struct StreamProvider {
        const char *kind; /* "exec" */

        /* params are those of stream.open. Returns 0 with *ret, which the others get, and calls stream_opened() or stream_end()
         * once, from here (then stream_opened() only) or later. No more than STREAMS_OPENING_MAX are at this point. Negative with a sentence: the stream is refused, and nothing of it is left. */
        int (*open)(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr);

        /* From the master, after stream_opened(). All of data is to be kept; it is at most STREAM_WINDOW until stream_credit() gives it
         * back. NULL (as for the others below): who sends something nevertheless ends the stream. */
        void (*write)(void *p, const void *data, size_t size);
        void (*end_input)(void *p); /* nothing more will be written */
        void (*ready)(void *p);     /* stream_room() is no longer 0 */
        void (*resize)(void *p, unsigned rows, unsigned columns);
        void (*signal)(void *p, int number);

        /* Last: the stream ended, by whomever. Ends what was started and frees p. The stream is gone. */
        void (*free)(void *p);
} StreamProvider;

/* What the provider says. After stream_end(), also if it is called from within one of the functions above, p was freed. */
void stream_opened(Stream *s);
size_t stream_room(const Stream *s); /* bytes that may be sent now; 0 before it was opened */
/* channel 1 or 2; no more than there is room and than STREAM_DATA_MAX. Negative: the connection is breaking, what was not sent is lost,
 * and the stream will be freed soon. */
int stream_send(Stream *s, unsigned channel, const void *data, size_t size);
int stream_send_end(Stream *s, unsigned channel); /* nothing more comes on it; once */
void stream_credit(Stream *s, size_t size);       /* so much of what was written is taken */
/* error NULL: it came to its end, with that status. Before stream_opened() this is the answer to the request, and needs an error. */
void stream_end(Stream *s, int status, const KError *error);

/* What streams need of the channel; the functions consume params and results. */
typedef struct StreamsHandler {
        int (*notify)(const char *method, json_object *params, void *userdata);
        int (*send)(const void *head, size_t head_size, const void *data, size_t size, void *userdata);
        int (*reply)(uint64_t id, json_object *result, void *userdata);
        int (*reply_error)(uint64_t id, const KError *error, void *userdata);
        void *userdata;
} StreamsHandler;

/* providers ends with a NULL. */
int streams_new(const StreamsHandler *handler, const StreamProvider *const *providers,
                void *provider_userdata, Streams **ret);
Streams *streams_free(Streams *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(Streams *, streams_free);

/* A request or notification "stream.*" of the master. False: it is none that streams know. */
bool streams_method(Streams *l, uint64_t id, const char *method, json_object *params);
/* A binary message. */
void streams_binary(Streams *l, const void *data, size_t size);
void streams_close_all(Streams *l); /* the connection is gone */
size_t streams_count(const Streams *l);
