/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-stream.h"

#include "kontena-limits.h"
#include "string-util.h"

struct ArchiveStream {
        Stream *stream;
        ArchiveRun *run;
        archive_stream_commit_t commit;
        void *userdata;
        bool unpack, over; /* over: only what is pending is to be sent */

        uint8_t *pending; /* of the archive, what there was no room for */
        size_t start, size, allocated;
        char *note; /* for channel 2 */
};

ArchiveStream *archive_stream_free(ArchiveStream *s) {
        if (!s)
                return NULL;

        archive_run_free(s->run);
        free(s->pending);
        free(s->note);
        return mfree(s);
}

static int send_some(ArchiveStream *s, unsigned channel, const void *data, size_t size, size_t *ret_sent) {
        size_t sent = 0;

        while (sent < size && stream_room(s->stream) > 0) {
                size_t n = MIN(size - sent, stream_room(s->stream));
                int r;

                n = MIN(n, (size_t) STREAM_DATA_MAX);
                r = stream_send(s->stream, channel, (const uint8_t *) data + sent, n);
                if (r < 0)
                        return r; /* the connection is breaking */
                sent += n;
        }
        *ret_sent = sent;
        return 0;
}

/* Sends what there is room for; the end when all is sent, which frees s. */
static void flush(ArchiveStream *s) {
        size_t sent = 0;
        int r;

        r = send_some(s, 1, s->pending + s->start, s->size, &sent);
        if (r < 0)
                return;
        s->start += sent;
        s->size -= sent;
        if (s->size == 0)
                s->start = 0;
        if (!s->over) {
                archive_run_pause(s->run, s->size > 0);
                return;
        }

        if (s->size > 0 || (s->note && stream_room(s->stream) == 0))
                return;
        if (s->note)
                (void) stream_send(s->stream, 2, s->note, MIN(strlen(s->note), stream_room(s->stream)));
        if (!s->unpack)
                (void) stream_send_end(s->stream, 1);
        stream_end(s->stream, 0, NULL);
}

static void on_ready(ArchiveRun *r, void *userdata) {
        ArchiveStream *s = userdata;

        stream_opened(s->stream);
}

static int keep(ArchiveStream *s, const uint8_t *data, size_t size) {
        if (s->start > 0) {
                memmove(s->pending, s->pending + s->start, s->size);
                s->start = 0;
        }
        if (s->size + size > s->allocated) {
                uint8_t *larger = realloc(s->pending, s->size + size);

                if (!larger)
                        return -ENOMEM;
                s->pending = larger;
                s->allocated = s->size + size;
        }
        memcpy(s->pending + s->size, data, size);
        s->size += size;
        return 0;
}

static void on_data(ArchiveRun *run, const void *data, size_t size, void *userdata) {
        ArchiveStream *s = userdata;
        size_t sent = 0;
        int r = 0;

        if (s->size == 0)
                r = send_some(s, 1, data, size, &sent);
        if (r >= 0 && sent < size)
                r = keep(s, (const uint8_t *) data + sent, size - sent);
        if (r == -ENOMEM) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                (void) kerror_set_errno(&error, r, "The archive cannot be sent: %m.");
                stream_end(s->stream, -1, &error);
                return;
        }
        if (r >= 0 && s->size > 0)
                archive_run_pause(run, true);
}

static void on_taken(ArchiveRun *run, size_t size, void *userdata) {
        ArchiveStream *s = userdata;

        stream_credit(s->stream, size);
}

/* What somebody would miss later. */
static char *describe(const ArchiveOutcome *o) {
        _cleanup_free_ char *skipped = NULL, *changed = NULL;

        if (o->skipped > 0)
                skipped = strprintf("%llu sockets, devices, file systems or attributes were left out.\n",
                                (unsigned long long) o->skipped);
        if (o->changed > 0)
                changed = strprintf("%llu files became shorter while they were read.\n",
                                (unsigned long long) o->changed);
        return skipped || changed ? strjoin(strempty(skipped), strempty(changed)) : NULL;
}

void archive_stream_finish(ArchiveStream *s, const KError *error) {
        if (kerror_is_set(error)) {
                stream_end(s->stream, -1, error); /* frees s */
                return;
        }
        s->over = true;
        flush(s);
}

static void on_ended(ArchiveRun *run, const ArchiveOutcome *outcome, const KError *error, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        ArchiveStream *s = userdata;
        int r;

        if (error) {
                stream_end(s->stream, -1, error);
                return;
        }
        s->note = describe(outcome);
        r = s->commit ? s->commit(s, s->userdata, &e) : 0;
        if (r > 0)
                return;
        if (r < 0 && !kerror_is_set(&e))
                (void) kerror_set_errno(&e, r, "The archive cannot be taken over: %m.");
        archive_stream_finish(s, &e);
}

int archive_stream_start(Stream *stream, const ArchiveRunOptions *o, archive_stream_commit_t commit,
                void *userdata, ArchiveStream **ret, KError *reterr) {
        static const ArchiveRunHandler handler = {
                .ready = on_ready, .data = on_data, .taken = on_taken, .ended = on_ended
        };
        _cleanup_(archive_stream_freep) ArchiveStream *s = NULL;
        int r;

        s = new0(ArchiveStream, 1);
        if (!s)
                return -ENOMEM;
        s->stream = stream;
        s->unpack = o->unpack;
        s->commit = commit;
        s->userdata = userdata;
        r = archive_run_start(o, &handler, s, &s->run, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

void archive_stream_write(ArchiveStream *s, const void *data, size_t size) {
        archive_run_write(s->run, data, size);
}

void archive_stream_end_input(ArchiveStream *s) {
        archive_run_end_input(s->run);
}

void archive_stream_ready(ArchiveStream *s) {
        flush(s);
}
