/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "kontena-limits.h"
#include "listener-internal.h"
#include "string-util.h"

#define BLOCK_SIZE 16384U

/* An answer whose end nobody knows. libmicrohttpd makes one chunk of each call of its reader; while there is nothing to be read the
 * connection is suspended. */

typedef struct Chunk {
        struct Chunk *next;
        size_t start, size;
        char data[];
} Chunk;

struct HttpStream {
        Listener *listener;
        Peer *peer;
        struct MHD_Connection *connection; /* NULL: not yet asked for anything, or over */
        Chunk *chunks, *last;
        size_t n_bytes;
        bool suspended;
        bool ended, cut;
        sd_event_source *tell; /* of its owner, from the loop */
        void (*closed)(void *userdata);
        void *userdata;
        bool gone; /* libmicrohttpd is done with it */
        HttpStream *next, *previous;
};

static void chunks_free(HttpStream *s) {
        Chunk *c, *next;

        LL_FOREACH_SAFE(s->chunks, c, next)
                free(c);
        s->chunks = s->last = NULL;
        s->n_bytes = 0;
}

static void stream_free(HttpStream *s) {
        chunks_free(s);
        sd_event_source_disable_unref(s->tell);
        peer_unref(s->peer);
        DL_DELETE2(s->listener->streams, s, previous, next);
        free(s);
}

static int on_tell(sd_event_source *source, void *userdata) {
        HttpStream *s = userdata;
        void (*closed)(void *);

        /* libmicrohttpd may wait for ever for a client that does not read. It notices, and then we come here again. */
        if (!s->gone) {
                peer_end(s->peer, false);
                return 0;
        }

        closed = TAKE_PTR(s->closed);
        if (closed)
                closed(s->userdata);
        stream_free(s);
        return 0;
}

static void resume(HttpStream *s) {
        if (!s->suspended)
                return;

        s->suspended = false;
        MHD_resume_connection(s->connection);
        listener_kick(s->listener);
}

static ssize_t on_read(void *cls, uint64_t position, char *buffer, size_t size) {
        HttpStream *s = cls;
        Chunk *c = s->chunks;
        size_t n;

        if (s->cut)
                return MHD_CONTENT_READER_END_WITH_ERROR;
        if (!c) {
                if (s->ended)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                s->suspended = true;
                MHD_suspend_connection(s->connection);
                return 0;
        }

        n = MIN(size, c->size - c->start);
        memcpy(buffer, c->data + c->start, n);
        c->start += n;
        s->n_bytes -= n;
        if (c->start == c->size) {
                s->chunks = c->next;
                if (!s->chunks)
                        s->last = NULL;
                free(c);
        }
        return (ssize_t) n;
}

/* The answer is over, whole or not. */
static void on_free(void *cls) {
        HttpStream *s = cls;

        s->gone = true;
        s->suspended = false;
        chunks_free(s);
        if (!s->closed) {
                stream_free(s);
                return;
        }
        (void) sd_event_source_set_enabled(s->tell, SD_EVENT_ONESHOT);
}

int http_reply_stream(HttpRequest *q, int status, const char *content_type, void (*closed)(void *userdata),
                void *userdata, HttpStream **ret) {
        struct MHD_Response *response;
        HttpStream *s;
        int r;

        assert(closed);
        assert(ret);

        s = new0(HttpStream, 1);
        if (!s)
                return -ENOMEM;
        s->listener = http_request_listener(q);
        s->connection = http_request_connection(q);
        s->peer = peer_ref(http_request_peer(q));
        DL_APPEND2(s->listener->streams, s, previous, next);
        r = sd_event_add_defer(s->listener->event, &s->tell, on_tell, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->tell, SD_EVENT_OFF);
        if (r < 0) {
                stream_free(s);
                return r;
        }

        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_SIZE, on_read, s, on_free);
        if (!response) {
                stream_free(s);
                return -ENOMEM;
        }
        if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) != MHD_YES) {
                MHD_destroy_response(response);
                return -ENOMEM;
        }
        r = http_request_answer(q, (unsigned) status, response); /* on failure on_free() has freed s */
        if (r < 0)
                return r;

        s->closed = closed;
        s->userdata = userdata;
        *ret = s;
        return 0;
}

static void cut(HttpStream *s) {
        s->cut = true;
        chunks_free(s);
        resume(s);
        (void) sd_event_source_set_enabled(s->tell, SD_EVENT_ONESHOT);
}

int http_stream_write(HttpStream *s, const void *data, size_t size) {
        Chunk *c;

        if (s->ended || s->cut || s->gone)
                return -EPIPE;
        if (size == 0)
                return 0;
        if (s->n_bytes + size > HTTP_STREAM_QUEUE_MAX) {
                cut(s);
                return -ENOBUFS;
        }

        c = malloc(sizeof(Chunk) + size);
        if (!c)
                return -ENOMEM;
        *c = (Chunk){ .size = size };
        memcpy(c->data, data, size);
        if (s->last)
                s->last->next = c;
        else
                s->chunks = c;
        s->last = c;
        s->n_bytes += size;
        resume(s);
        return 0;
}

void http_stream_end(HttpStream *s, bool whole) {
        s->closed = NULL;
        if (s->gone) {
                stream_free(s);
                return;
        }
        if (!whole) {
                cut(s);
                return;
        }
        s->ended = true;
        resume(s);
}

void http_streams_cancel(Listener *l) {
        HttpStream *s, *next;

        DL_FOREACH_SAFE2(l->streams, s, next, next) {
                s->closed = NULL;
                s->cut = true;
                resume(s);
        }
}
