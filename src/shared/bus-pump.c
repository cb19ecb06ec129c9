/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-pump.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

#define CHUNK_MAX       (64U * 1024U)
#define ACKNOWLEDGED    (BUS_PUMP_WINDOW / 4U) /* told when so much was taken */
#define ROUNDS_MAX      8U                     /* chunks in one turn of the loop */
#define NUMBER_SIZE_MAX 24U

struct BusPump {
        int fd;
        sd_event_source *io;
        const BusPumpHandler *handler;
        void *userdata;

        size_t unacknowledged; /* sent, not yet taken by the other end */
        uint64_t stalled_at;   /* 0: there is room */

        uint8_t *in; /* came, not yet taken by the program behind */
        size_t in_start, in_size;
        size_t taken; /* not yet told */
        bool held, ended;

        uint8_t chunk[CHUNK_MAX];
};

static void end(BusPump *p, int r) {
        if (p->ended)
                return;

        p->ended = true;
        p->io = sd_event_source_disable_unref(p->io);
        p->handler->ended(r, p->userdata);
}

static void update(BusPump *p) {
        uint32_t events = 0;

        if (p->ended)
                return;
        if (p->unacknowledged < BUS_PUMP_WINDOW)
                events |= EPOLLIN;
        if (p->in_size > 0 && !p->held)
                events |= EPOLLOUT;
        (void) sd_event_source_set_io_events(p->io, events);
}

/* From the program behind to the other end. 1: there may be more. */
static int pump_out(BusPump *p) {
        ssize_t n;
        int r;

        if (p->unacknowledged >= BUS_PUMP_WINDOW)
                return 0;
        n = recv(p->fd, p->chunk, MIN(sizeof(p->chunk), BUS_PUMP_WINDOW - p->unacknowledged), MSG_DONTWAIT);
        if (n < 0)
                return ERRNO_IS_TRANSIENT(-errno) ? 0 : -errno;
        if (n == 0)
                return -ENODATA;

        p->unacknowledged += (size_t) n;
        if (p->unacknowledged >= BUS_PUMP_WINDOW)
                p->stalled_at = now_monotonic();
        r = p->handler->send(true, p->chunk, (size_t) n, p->userdata);
        return r < 0 ? r : 1;
}

static void flush_out(BusPump *p, unsigned rounds) {
        int r = 1;

        for (unsigned i = 0; i < rounds && r > 0 && !p->ended; i++)
                r = pump_out(p);
        if (r < 0)
                end(p, r == -ENODATA ? 0 : r);
        else if (p->handler->moved && !p->ended)
                p->handler->moved(p->userdata);
}

static int tell_taken(BusPump *p) {
        char text[NUMBER_SIZE_MAX];
        int n;

        if (p->taken < ACKNOWLEDGED)
                return 0;
        n = snprintf(text, sizeof(text), "%zu", p->taken);
        p->taken = 0;
        return p->handler->send(false, text, (size_t) n, p->userdata);
}

/* From the other end to the program behind. */
static int pump_in(BusPump *p) {
        while (p->in_size > 0 && !p->held) {
                ssize_t n;
                int r;

                n = send(p->fd, p->in + p->in_start, p->in_size, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0)
                        return ERRNO_IS_TRANSIENT(-errno) ? 0 : -errno;
                p->in_start += (size_t) n;
                p->in_size -= (size_t) n;
                p->taken += (size_t) n;
                r = tell_taken(p);
                if (r < 0)
                        return r;
        }
        if (p->in_size == 0)
                p->in_start = 0;

        return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        BusPump *p = userdata;
        int r;

        if (revents & EPOLLOUT) {
                r = pump_in(p);
                if (r < 0) {
                        end(p, r == -EPIPE ? 0 : r);
                        return 0;
                }
        }
        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                /* With a full window nothing is read, and an end is not seen until there is room, but for this. */
                if (p->unacknowledged >= BUS_PUMP_WINDOW && (revents & EPOLLHUP)) {
                        end(p, 0);
                        return 0;
                }
                flush_out(p, ROUNDS_MAX);
        }
        update(p);
        return 0;
}

int bus_pump_new_consume(
                sd_event *event, int fd, const BusPumpHandler *handler, void *userdata, BusPump **ret) {
        _cleanup_(bus_pump_freep) BusPump *p = NULL;
        _cleanup_close_ int owned = fd;
        int r;

        assert(event);
        assert(handler);
        assert(ret);

        p = new0(BusPump, 1);
        if (!p)
                return -ENOMEM;
        p->fd = TAKE_FD(owned);
        p->handler = handler;
        p->userdata = userdata;
        p->in = malloc(BUS_PUMP_WINDOW);
        if (!p->in)
                return -ENOMEM;
        r = sd_event_add_io(event, &p->io, p->fd, EPOLLIN, on_io, p);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(p);
        return 0;
}

BusPump *bus_pump_free(BusPump *p) {
        if (!p)
                return NULL;

        sd_event_source_disable_unref(p->io);
        safe_close(p->fd);
        if (p->in)
                erase_memory(p->in, BUS_PUMP_WINDOW);
        free(p->in);
        erase_memory(p->chunk, sizeof(p->chunk));
        free(p);
        return NULL;
}

static int receive_number(BusPump *p, const char *data, size_t size, KError *reterr) {
        _cleanup_free_ char *text = size > 0 && size < NUMBER_SIZE_MAX ? strndup(data, size) : NULL;
        uint64_t n;

        if (!text || strlen(text) != size || safe_atou64(text, &n) < 0 || n == 0 || n > p->unacknowledged) {
                (void) kerror_set(reterr, K_INVALID_ARGUMENT, "What was said to be taken was not sent.");
                return -EBADMSG;
        }

        p->unacknowledged -= (size_t) n;
        p->stalled_at = 0;
        if (p->handler->moved)
                p->handler->moved(p->userdata);
        update(p);
        return 0;
}

int bus_pump_receive(BusPump *p, bool binary, const char *data, size_t size, KError *reterr) {
        int r;

        if (p->ended)
                return 0;
        if (!binary)
                return receive_number(p, data, size, reterr);

        if (size > BUS_PUMP_WINDOW - p->in_size - p->taken) {
                (void) kerror_set(reterr, K_LIMIT_EXCEEDED, "More was sent than the window allows.");
                return -EBADMSG;
        }
        if (p->in_start + p->in_size + size > BUS_PUMP_WINDOW) {
                memmove(p->in, p->in + p->in_start, p->in_size);
                p->in_start = 0;
        }
        if (size > 0)
                memcpy(p->in + p->in_start + p->in_size, data, size);
        p->in_size += size;
        r = pump_in(p);
        if (r < 0) {
                end(p, r == -EPIPE ? 0 : r);
                return 0;
        }

        update(p);
        return 0;
}

void bus_pump_hold(BusPump *p, bool hold) {
        if (p->held == hold)
                return;

        p->held = hold;
        update(p);
}

void bus_pump_flush(BusPump *p) {
        if (p->ended)
                return;

        flush_out(p, BUS_PUMP_WINDOW / CHUNK_MAX + 1);
        update(p);
}

uint64_t bus_pump_stalled_usec(const BusPump *p) {
        return p->stalled_at > 0 ? now_monotonic() - p->stalled_at : 0;
}
