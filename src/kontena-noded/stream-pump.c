/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-pump.h"

#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "file-util.h"
#include "log.h"
#include "stream-frame.h"

#define READS_IN_A_TURN 4U

struct StreamPump {
        Stream *stream;
        StreamPumpHandler handler;
        void *userdata;

        int fds[3];
        sd_event_source *sources[3]; /* of fds[1] for both where 0 is the same */
        sd_event_source *grace, *end;
        uint64_t grace_usec; /* 0: the other side is there */

        uint8_t *data; /* from the master, not yet written; of STREAM_WINDOW bytes */
        size_t start, size;
        bool input_ends, input_over; /* ends when all is written; is over */
        bool over[3], drained;
};

static bool shares_input(const StreamPump *p) {
        return p->fds[0] >= 0 && p->fds[0] == p->fds[1];
}

static sd_event_source *source_of(const StreamPump *p, unsigned channel) {
        return p->sources[channel == 0 && shares_input(p) ? 1 : channel];
}

static void set_events(sd_event_source *source, uint32_t events) {
        if (!source)
                return;

        /* A descriptor that has hung up is told of whatever is asked for, so who waits for nothing must not look. */
        (void) sd_event_source_set_io_events(source, events);
        (void) sd_event_source_set_enabled(source, events ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* Asks for what is of use now. */
static void update(StreamPump *p) {
        uint32_t want[3] = {};

        if (p->size > 0 && !p->input_over)
                want[0] = EPOLLOUT;
        for (unsigned i = 1; i < 3; i++)
                if (!p->over[i] && stream_room(p->stream) > 0)
                        want[i] = EPOLLIN;
        if (shares_input(p))
                want[1] |= want[0];
        for (unsigned i = 0; i < 3; i++)
                set_events(p->sources[i], want[i]);

        if (p->grace_usec > 0 && p->grace) {
                (void) sd_event_source_set_time_relative(p->grace, p->grace_usec);
                (void) sd_event_source_set_enabled(p->grace, SD_EVENT_ONESHOT);
        }
        if (p->over[1] && p->over[2] && !p->drained)
                (void) sd_event_source_set_enabled(p->end, SD_EVENT_ONESHOT);
}

static int on_end(sd_event_source *source, void *userdata) {
        StreamPump *p = userdata;

        if (p->drained)
                return 0;
        p->drained = true;
        if (p->handler.drained)
                p->handler.drained(p->userdata);
        return 0;
}

static int on_grace(sd_event_source *source, uint64_t usec, void *userdata) {
        StreamPump *p = userdata;

        if (stream_room(p->stream) == 0) /* the reader is slow, not the writer */
                update(p);
        else
                (void) on_end(NULL, p);
        return 0;
}

/* Input */

static void end_input_now(StreamPump *p) {
        if (p->input_over)
                return;

        p->input_over = true;
        if (!shares_input(p))
                p->sources[0] = sd_event_source_disable_unref(p->sources[0]);
        if (p->handler.input_over)
                p->handler.input_over(p->userdata);
        if (!shares_input(p))
                p->fds[0] = -EBADF;
}

static void take(StreamPump *p, size_t n) {
        p->start += n;
        p->size -= n;
        if (p->size == 0)
                p->start = 0;
        stream_credit(p->stream, n);
}

static void write_input(StreamPump *p) {
        while (p->size > 0 && !p->input_over) {
                ssize_t n = write(p->fds[0], p->data + p->start, p->size);

                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) { /* nobody reads it: it goes nowhere, as in a shell's pipe */
                        end_input_now(p);
                        break;
                }
                take(p, (size_t) n);
        }
        if (p->input_over && p->size > 0)
                take(p, p->size);
        if (p->input_ends && p->size == 0)
                end_input_now(p);
}

void stream_pump_write(StreamPump *p, const void *data, size_t size) {
        if (p->input_over) {
                stream_credit(p->stream, size);
                return;
        }

        /* The window is all there can be. */
        assert(p->size + size <= STREAM_WINDOW);
        if (p->start + p->size + size > STREAM_WINDOW) {
                memmove(p->data, p->data + p->start, p->size);
                p->start = 0;
        }
        memcpy(p->data + p->start + p->size, data, size);
        p->size += size;
        write_input(p);
        update(p);
}

void stream_pump_end_input(StreamPump *p) {
        p->input_ends = true;
        write_input(p);
        update(p);
}

void stream_pump_ready(StreamPump *p) {
        update(p);
}

/* Output */

static void channel_over(StreamPump *p, unsigned channel) {
        p->over[channel] = true;
        if (channel != 1 || !shares_input(p))
                p->sources[channel] = sd_event_source_disable_unref(p->sources[channel]);
        if (p->fds[channel] >= 0)
                (void) stream_send_end(p->stream, channel);
}

static void read_output(StreamPump *p, unsigned channel) {
        static uint8_t buffer[STREAM_DATA_MAX]; /* one thread, and nothing of it is kept */

        for (unsigned i = 0; i < READS_IN_A_TURN && !p->over[channel]; i++) {
                size_t room = MIN(stream_room(p->stream), sizeof(buffer));
                ssize_t n;

                if (room == 0)
                        return;
                n = read(p->fds[channel], buffer, room);
                if (n < 0 && ERRNO_IS_TRANSIENT(-errno))
                        return;
                if (n <= 0) { /* a terminal whose other side was closed says EIO */
                        channel_over(p, channel);
                        return;
                }
                if (stream_send(p->stream, channel, buffer, (size_t) n) < 0) {
                        channel_over(p, channel);
                        return;
                }
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        StreamPump *p = userdata;

        if (source == source_of(p, 0) && (revents & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
                write_input(p);
        for (unsigned i = 1; i < 3; i++)
                if (source == p->sources[i] && (revents & (EPOLLIN | EPOLLERR | EPOLLHUP)))
                        read_output(p, i);
        update(p);
        return 0;
}

void stream_pump_finish(StreamPump *p, uint64_t grace_usec) {
        p->grace_usec = MAX(grace_usec, UINT64_C(1));
        update(p);
}

bool stream_pump_is_drained(const StreamPump *p) {
        return p->drained;
}

static int add_sources(StreamPump *p, sd_event *event) {
        int r;

        for (unsigned i = 0; i < 3; i++) {
                if (p->fds[i] < 0 || (i == 0 && shares_input(p)))
                        continue;
                r = sd_event_add_io(event, p->sources + i, p->fds[i], 0, on_io, p);
                if (r < 0)
                        return r;
        }
        r = sd_event_add_time_relative(event, &p->grace, CLOCK_MONOTONIC, 0, 0, on_grace, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->grace, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(event, &p->end, on_end, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->end, SD_EVENT_OFF);
        return r;
}

int stream_pump_new(sd_event *event, Stream *s, const int fds[static 3], const StreamPumpHandler *handler,
                void *userdata, StreamPump **ret) {
        _cleanup_(stream_pump_freep) StreamPump *p = NULL;
        int r;

        assert(event);
        assert(s);
        assert(ret);

        p = new0(StreamPump, 1);
        if (!p)
                return -ENOMEM;
        *p = (StreamPump){
                .stream = s,
                .handler = *handler,
                .userdata = userdata,
                .fds = { fds[0], fds[1], fds[2] },
                .input_over = fds[0] < 0,
                .over = { false, fds[1] < 0, fds[2] < 0 },
        };
        p->data = malloc(STREAM_WINDOW);
        if (!p->data)
                return -ENOMEM;
        r = add_sources(p, event);
        if (r < 0)
                return r;

        update(p);
        *ret = TAKE_PTR(p);
        return 0;
}

StreamPump *stream_pump_free(StreamPump *p) {
        if (!p)
                return NULL;

        for (unsigned i = 0; i < 3; i++)
                sd_event_source_disable_unref(p->sources[i]);
        sd_event_source_disable_unref(p->grace);
        sd_event_source_disable_unref(p->end);
        free(p->data);
        free(p);
        return NULL;
}
