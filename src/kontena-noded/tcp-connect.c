/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tcp-connect.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "file-util.h"

struct TcpConnect {
        int fd;
        sd_event_source *io, *timer;
        tcp_connect_done_t done;
        void *userdata;
};

TcpConnect *tcp_connect_cancel(TcpConnect *c) {
        if (!c)
                return NULL;

        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->timer);
        safe_close(c->fd);
        free(c);
        return NULL;
}

static void finish(TcpConnect *c, int error) {
        int fd = -EBADF;

        c->io = sd_event_source_disable_unref(c->io);
        c->timer = sd_event_source_disable_unref(c->timer);
        if (error == 0)
                fd = TAKE_FD(c->fd);
        c->done(c, error, fd, c->userdata);
        tcp_connect_cancel(c);
}

static int on_connected(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        socklen_t n = sizeof(int);
        int error = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
                error = errno;
        finish(userdata, error);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        finish(userdata, ETIMEDOUT);
        return 0;
}

int tcp_connect_start(sd_event *event, const struct sockaddr_in *address, uint64_t timeout_usec,
                tcp_connect_done_t done, void *userdata, TcpConnect **ret) {
        _cleanup_(tcp_connect_cancelp) TcpConnect *c = NULL;
        int r;

        assert(event);
        assert(done);
        assert(ret);

        c = new0(TcpConnect, 1);
        if (!c)
                return -ENOMEM;
        c->done = done;
        c->userdata = userdata;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (c->fd < 0)
                return -errno;

        if (connect(c->fd, (const struct sockaddr *) address, sizeof(*address)) < 0 && errno != EINPROGRESS)
                return -errno;
        r = sd_event_add_io(event, &c->io, c->fd, EPOLLOUT, on_connected, c);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(
                        event, &c->timer, CLOCK_MONOTONIC, timeout_usec, 10 * USEC_PER_MSEC, on_timeout, c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}
