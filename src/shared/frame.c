/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frame.h"

#include <endian.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "file-util.h"
#include "kontena-limits.h"

#define BUFFER_KEEP 65536U /* more is given back when it is empty */
#define GROWTH_MAX  1048576U
#define READ_SIZE   32768U
#define READS_MAX   16U /* in one turn of the loop */

struct FrameStream {
        unsigned n_ref;
        sd_event *event;
        sd_event_source *io;
        int fd;

        const FrameHandler *handler; /* NULL: detached or ended */
        void *userdata;

        FrameBuffer in, out;
        bool paused, ended;
};

void frame_buffer_done(FrameBuffer *b) {
        b->data = mfree(b->data);
        *b = (FrameBuffer){};
}

static void restore(FrameBuffer *b) {
        if (!b->terminated)
                return;

        b->data[b->start] = b->overwritten;
        b->terminated = false;
}

int frame_buffer_reserve(FrameBuffer *b, size_t n, uint8_t **ret) {
        size_t wanted, larger;
        uint8_t *p;

        restore(b);

        if (b->start == b->end)
                b->start = b->end = 0;
        if (b->start > 0 && b->end + n + 1 > b->allocated) {
                memmove(b->data, b->data + b->start, b->end - b->start);
                b->end -= b->start;
                b->start = 0;
        }

        wanted = b->end + n + 1; /* always a byte for the NUL */
        if (wanted > b->allocated) {
                larger = MIN(b->allocated * 2, b->allocated + GROWTH_MAX);
                wanted = MAX(wanted, larger);
                p = realloc(b->data, wanted);
                if (!p)
                        return -ENOMEM;
                b->data = p;
                b->allocated = wanted;
        }

        *ret = b->data + b->end;
        return 0;
}

void frame_buffer_commit(FrameBuffer *b, size_t n) {
        assert(b->end + n < b->allocated);
        b->end += n;
}

void frame_buffer_drop(FrameBuffer *b, size_t n) {
        assert(n <= b->end - b->start);

        restore(b);
        b->start += n;
        if (b->start < b->end)
                return;

        b->start = b->end = 0;
        if (b->allocated > BUFFER_KEEP)
                frame_buffer_done(b);
}

int frame_buffer_take(FrameBuffer *b, FrameType *ret_type, const char **ret_data, size_t *ret_size) {
        uint32_t size;
        uint8_t *p;

        restore(b);

        if (b->end - b->start < FRAME_HEAD_SIZE) {
                if (b->start == b->end)
                        frame_buffer_drop(b, 0);
                return 0;
        }

        p = b->data + b->start;
        if (p[0] < FRAME_CONFIG || p[0] >= _FRAME_TYPE_MAX)
                return -EBADMSG;
        memcpy(&size, p + 1, sizeof(size));
        size = le32toh(size);
        if (size > FRAME_SIZE_MAX)
                return -EBADMSG;
        if (b->end - b->start < FRAME_HEAD_SIZE + (size_t) size)
                return 0;

        b->start += FRAME_HEAD_SIZE + (size_t) size;
        b->overwritten = b->data[b->start]; /* the spare byte at the end or the next frame's type */
        b->data[b->start] = 0;
        b->terminated = true;

        *ret_type = (FrameType) p[0];
        *ret_data = (const char *) p + FRAME_HEAD_SIZE;
        *ret_size = size;
        return 1;
}

static void stream_update(FrameStream *s) {
        uint32_t events = 0;

        if (!s->io)
                return;

        if (!s->paused)
                events |= EPOLLIN;
        if (frame_buffer_size(&s->out) > 0)
                events |= EPOLLOUT;
        (void) sd_event_source_set_io_events(s->io, events);
}

static void stream_end(FrameStream *s, int r) {
        const FrameHandler *handler = s->handler;

        if (s->ended)
                return;

        s->ended = true;
        s->io = sd_event_source_disable_unref(s->io);
        s->fd = safe_close(s->fd);
        s->handler = NULL;
        if (handler)
                handler->end(s, r, s->userdata);
}

static int stream_write(FrameStream *s) {
        bool wrote = false;

        while (frame_buffer_size(&s->out) > 0) {
                ssize_t n;

                n = send(s->fd, s->out.data + s->out.start, frame_buffer_size(&s->out),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                wrote = true;
                frame_buffer_drop(&s->out, (size_t) n);
        }

        if (wrote && s->handler && s->handler->drained)
                s->handler->drained(s, s->userdata);
        return 0;
}

/* 1: there may be more to read. */
static int stream_read(FrameStream *s) {
        for (unsigned i = 0; i < READS_MAX; i++) {
                const char *data;
                FrameType type;
                uint8_t *p;
                size_t size;
                ssize_t n;
                int r;

                r = frame_buffer_reserve(&s->in, READ_SIZE, &p);
                if (r < 0)
                        return r;
                n = recv(s->fd, p, READ_SIZE, MSG_DONTWAIT);
                if (n < 0)
                        return errno == EINTR ? -EAGAIN : -errno;
                if (n == 0)
                        return frame_buffer_size(&s->in) > 0 ? -EBADMSG : 0;
                frame_buffer_commit(&s->in, (size_t) n);

                for (;;) {
                        r = frame_buffer_take(&s->in, &type, &data, &size);
                        if (r < 0)
                                return r;
                        if (r == 0)
                                break;
                        if (s->handler)
                                s->handler->frame(s, type, data, size, s->userdata);
                        if (s->ended)
                                return 1;
                }
                if (s->paused || (size_t) n < READ_SIZE)
                        return 1;
        }

        return 1;
}

static int stream_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        _cleanup_(frame_stream_unrefp) FrameStream *s = frame_stream_ref(userdata);
        int r;

        if (revents & EPOLLOUT) {
                r = stream_write(s);
                if (r < 0 && r != -EAGAIN && !(r == -EPIPE && (revents & EPOLLIN))) {
                        stream_end(s, r);
                        return 0;
                }
        }

        /* What the peer said before it went is read first: the sentence why is there. */
        if (!s->ended && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
                r = stream_read(s);
                if (r <= 0 && r != -EAGAIN)
                        stream_end(s, r);
        }

        stream_update(s);
        return 0;
}

int frame_stream_new_consume(
                sd_event *event, int fd, const FrameHandler *handler, void *userdata, FrameStream **ret) {
        _cleanup_(frame_stream_unrefp) FrameStream *s = NULL;
        _cleanup_close_ int owned = fd;
        int r;

        assert(event);
        assert(handler);
        assert(ret);

        s = new0(FrameStream, 1);
        if (!s)
                return -ENOMEM;
        s->n_ref = 1;
        s->fd = TAKE_FD(owned);
        s->event = sd_event_ref(event);
        s->handler = handler;
        s->userdata = userdata;

        r = fd_set_nonblock(s->fd, true);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &s->io, s->fd, EPOLLIN, stream_io, s);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(s->io, "frame-stream");

        *ret = TAKE_PTR(s);
        return 0;
}

FrameStream *frame_stream_ref(FrameStream *s) {
        if (s)
                s->n_ref++;
        return s;
}

FrameStream *frame_stream_unref(FrameStream *s) {
        if (!s || --s->n_ref > 0)
                return NULL;

        sd_event_source_disable_unref(s->io);
        safe_close(s->fd);
        sd_event_unref(s->event);
        frame_buffer_done(&s->in);
        frame_buffer_done(&s->out);
        free(s);
        return NULL;
}

void frame_stream_detach(FrameStream *s) {
        if (!s)
                return;

        s->handler = NULL;
        s->ended = true;
        s->io = sd_event_source_disable_unref(s->io);
        s->fd = safe_close(s->fd);
}

int frame_stream_send(FrameStream *s, FrameType type, const void *data, size_t size) {
        return frame_stream_send_parts(s, type, NULL, 0, data, size);
}

int frame_stream_send_parts(FrameStream *s, FrameType type, const void *head, size_t head_size,
                const void *data, size_t data_size) {
        bool idle = frame_buffer_size(&s->out) == 0;
        size_t size = head_size + data_size;
        uint32_t le;
        uint8_t *p;
        int r;

        if (s->ended)
                return -EPIPE;
        if (size > FRAME_SIZE_MAX)
                return -EMSGSIZE;
        if (frame_buffer_size(&s->out) + FRAME_HEAD_SIZE + size > CHANNEL_QUEUE_BYTES_MAX)
                return -ENOBUFS;

        r = frame_buffer_reserve(&s->out, FRAME_HEAD_SIZE + size, &p);
        if (r < 0)
                return r;
        le = htole32((uint32_t) size);
        p[0] = (uint8_t) type;
        memcpy(p + 1, &le, sizeof(le));
        if (head_size > 0)
                memcpy(p + FRAME_HEAD_SIZE, head, head_size);
        if (data_size > 0)
                memcpy(p + FRAME_HEAD_SIZE + head_size, data, data_size);
        frame_buffer_commit(&s->out, FRAME_HEAD_SIZE + size);

        /* Mostly the socket takes it at once. Its errors, and drained(), come from the loop. */
        if (idle) {
                ssize_t n;

                n = send(s->fd, p, FRAME_HEAD_SIZE + size, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n > 0)
                        frame_buffer_drop(&s->out, (size_t) n);
        }

        stream_update(s);
        return 0;
}

size_t frame_stream_queued(const FrameStream *s) {
        return frame_buffer_size(&s->out);
}

void frame_stream_pause(FrameStream *s, bool pause) {
        if (s->paused == pause)
                return;

        s->paused = pause;
        stream_update(s);
}

int frame_stream_flush(FrameStream *s, uint64_t timeout_usec) {
        uint64_t deadline = now_monotonic() + timeout_usec;

        while (!s->ended && frame_buffer_size(&s->out) > 0) {
                struct pollfd p = { .fd = s->fd, .events = POLLOUT };
                uint64_t now = now_monotonic();
                int r;

                r = stream_write(s);
                if (r != -EAGAIN)
                        return r;
                if (now >= deadline)
                        return -ETIMEDOUT;
                if (poll(&p, 1, (int) MIN((deadline - now) / USEC_PER_MSEC + 1, UINT64_C(60000))) < 0 &&
                                errno != EINTR)
                        return -errno;
        }

        return 0;
}
