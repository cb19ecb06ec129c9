/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-exchange.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "file-util.h"
#include "string-util.h"
#include "wireguard-uapi.h"

#define TIMEOUT_USEC (5 * USEC_PER_SEC)
#define READ_SIZE    16384U

struct WireguardExchange {
        sd_event_source *io, *timer;
        int fd;
        char *request, *answer;
        size_t request_size, written, answer_size, allocated;
        wireguard_exchange_done_t done;
        void *userdata;
};

static void erase_free(char *p, size_t n) {
        if (p)
                erase_memory(p, n);
        free(p);
}

WireguardExchange *wireguard_exchange_cancel(WireguardExchange *x) {
        if (!x)
                return NULL;

        sd_event_source_disable_unref(x->io);
        sd_event_source_disable_unref(x->timer);
        safe_close(x->fd);
        erase_free(x->request, x->request_size);
        erase_free(x->answer, x->answer_size); /* private and preshared keys */
        return mfree(x);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(WireguardExchange *, wireguard_exchange_cancel);

static void finish(WireguardExchange *x, int r) {
        _cleanup_(wireguard_exchange_cancelp) WireguardExchange *own = x;

        sd_event_source_disable_unref(TAKE_PTR(own->io));
        own->done(MIN(r, 0), r < 0 ? NULL : own->answer, r < 0 ? 0 : own->answer_size, own->userdata);
}

/* 1 when all is written. */
static int write_request(WireguardExchange *x) {
        while (x->written < x->request_size) {
                ssize_t k = send(x->fd, x->request + x->written, x->request_size - x->written, MSG_NOSIGNAL);

                if (k < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                x->written += (size_t) k;
        }
        return 1;
}

static bool is_whole(const WireguardExchange *x) {
        return x->answer_size >= 2 && memcmp(x->answer + x->answer_size - 2, "\n\n", 2) == 0;
}

static int make_room(WireguardExchange *x) {
        size_t larger = MAX(x->allocated * 2, (size_t) READ_SIZE);
        char *p;

        if (x->allocated - x->answer_size >= READ_SIZE / 2)
                return 0;
        if (larger > WG_UAPI_ANSWER_MAX)
                return -E2BIG;
        p = malloc(larger);
        if (!p)
                return -ENOMEM;
        if (x->answer_size > 0)
                memcpy(p, x->answer, x->answer_size);
        erase_free(x->answer, x->answer_size);
        x->answer = p;
        x->allocated = larger;
        return 0;
}

/* 1 when the answer is whole. One read for each turn of the loop. */
static int read_answer(WireguardExchange *x) {
        ssize_t k;
        int r;

        r = make_room(x);
        if (r < 0)
                return r;
        k = recv(x->fd, x->answer + x->answer_size, x->allocated - x->answer_size, 0);
        if (k < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (k == 0)
                return -ECONNRESET;
        x->answer_size += (size_t) k;
        return is_whole(x);
}

static int on_io(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        WireguardExchange *x = userdata;
        int r = 0;

        if (x->written < x->request_size) {
                r = write_request(x);
                if (r > 0)
                        r = sd_event_source_set_io_events(s, EPOLLIN);
        } else
                r = read_answer(x);
        if (r < 0 || (r > 0 && x->answer_size > 0))
                finish(x, r);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        finish(userdata, -ETIMEDOUT);
        return 0;
}

int wireguard_exchange_start(sd_event *event, const char *socket_path, char *consume_request, size_t size,
                wireguard_exchange_done_t done, void *userdata, WireguardExchange **ret) {
        _cleanup_(wireguard_exchange_cancelp) WireguardExchange *x = NULL;
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int r;

        x = new0(WireguardExchange, 1);
        if (!x) {
                erase_free(consume_request, size);
                return -ENOMEM;
        }
        *x = (WireguardExchange){ .fd = -EBADF,
                .request = consume_request,
                .request_size = size,
                .done = done,
                .userdata = userdata };

        if (strlen(socket_path) >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        memcpy(sa.sun_path, socket_path, strlen(socket_path));
        x->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (x->fd < 0)
                return -errno;
        /* At once, or not at all: -EAGAIN when too many wait already. */
        if (connect(x->fd, (struct sockaddr *) &sa, sizeof(sa)) < 0)
                return -errno;

        r = sd_event_add_io(event, &x->io, x->fd, EPOLLOUT, on_io, x);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                event, &x->timer, CLOCK_MONOTONIC, TIMEOUT_USEC, 0, on_timeout, x);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(x);
        return 0;
}
