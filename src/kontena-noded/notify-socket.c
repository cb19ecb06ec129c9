/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notify-socket.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"

struct NotifySocket {
        int fd;
        sd_event_source *io, *pause;
        uint64_t window; /* a second, since then */
        unsigned n_read; /* in it */
        notify_message_t message;
        void *userdata;
};

/* As much as can be shown, whole characters only. */
static void take_status(const char *text, size_t n, char *ret) {
        if (n > NOTIFY_STATUS_MAX) {
                n = NOTIFY_STATUS_MAX;
                while (n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
                        n--;
        }
        memcpy(ret, text, n);
        ret[n] = '\0';
        if (!string_is_printable(ret))
                ret[0] = '\0';
}

bool notify_message_parse(const char *text, size_t size, NotifyMessage *ret) {
        static const char ready[] = "READY=1", status[] = "STATUS=";
        NotifyMessage m = {};

        if (size > 0 && text[size - 1] == '\0')
                size--;
        if (size == 0 || size > NOTIFY_MESSAGE_MAX || memchr(text, '\0', size))
                return false;

        while (size > 0) {
                const char *nl = memchr(text, '\n', size);
                size_t n = nl ? (size_t) (nl - text) : size, k = strlen(status);

                if (n == strlen(ready) && memcmp(text, ready, n) == 0)
                        m.ready = true;
                else if (n > k && memcmp(text, status, k) == 0)
                        take_status(text + k, n - k, m.status);
                n += nl ? 1 : 0;
                text += n;
                size -= n;
        }

        *ret = m;
        return m.ready || m.status[0];
}

bool notify_sender_is_of_unit(const char *text, const char *unit) {
        const char *group = startswith(text, "0::") ?: strstr(text, "\n0::"), *rest;
        size_t n = strcspn(group ? group + 1 : "", "\n") + 1;

        /* One name of the path, whatever slices stand before it. */
        for (const char *p = group; p && (size_t) (p - group) < n && *p; p++)
                if (*p == '/' && (rest = startswith(p + 1, unit)) &&
                                (*rest == '\0' || *rest == '\n' || *rest == '/'))
                        return true;
        return false;
}

/* The longest address that bind() takes is shorter than our paths can be. */
static int bind_at(int dir, int fd) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int n;

        n = snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%i/" NOTIFY_NAME, dir);
        if (n < 0 || (size_t) n >= sizeof(a.sun_path))
                return -ENAMETOOLONG;
        if (unlinkat(dir, NOTIFY_NAME, 0) < 0 && errno != ENOENT)
                return -errno;
        if (bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                return -errno;
        return fchmodat(dir, NOTIFY_NAME, 0666, 0) < 0 ? -errno : 0;
}

int notify_socket_bind(const char *directory, int *ret_fd) {
        _cleanup_close_ int dir = -EBADF, fd = -EBADF;
        int r;

        assert(directory);
        assert(ret_fd);

        r = mkdir_p(directory, 0755);
        if (r < 0)
                return r;
        dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir < 0)
                return -errno;
        if (fchmod(dir, 0755) < 0)
                return -errno;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)) < 0)
                return -errno;
        r = bind_at(dir, fd);
        if (r < 0)
                return r;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

NotifySocket *notify_socket_free(NotifySocket *n) {
        if (!n)
                return NULL;

        sd_event_source_disable_unref(n->io);
        sd_event_source_disable_unref(n->pause);
        safe_close(n->fd);
        free(n);
        return NULL;
}

/* Descriptors that came along are nobody's. */
static void close_descriptors(struct cmsghdr *c) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < n; i++) {
                int fd;

                memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                safe_close(fd);
        }
}

static pid_t read_control(struct msghdr *h) {
        pid_t sender = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
                struct ucred u;

                if (c->cmsg_level != SOL_SOCKET)
                        continue;
                if (c->cmsg_type == SCM_RIGHTS)
                        close_descriptors(c);
                else if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(u))) {
                        memcpy(&u, CMSG_DATA(c), sizeof(u));
                        sender = u.pid;
                }
        }

        return sender;
}

/* 1: a message; 0: one that is of no use; -EAGAIN: there is none. */
static int receive(NotifySocket *n, NotifyMessage *ret, pid_t *ret_sender) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(struct ucred))]; /* none for descriptors */
        } control;
        char text[NOTIFY_MESSAGE_MAX];
        struct iovec v = { .iov_base = text, .iov_len = sizeof(text) };
        struct msghdr h = {
                .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t size;

        size = recvmsg(n->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (size < 0)
                return ERRNO_IS_TRANSIENT(-errno) ? -EAGAIN : -errno;
        *ret_sender = read_control(&h);
        if (h.msg_flags & MSG_TRUNC)
                return 0;
        return notify_message_parse(text, (size_t) size, ret);
}

static int on_pause(sd_event_source *s, uint64_t usec, void *userdata) {
        NotifySocket *n = userdata;

        (void) sd_event_source_set_enabled(n->io, SD_EVENT_ON);
        return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        uint64_t now = now_monotonic();
        NotifySocket *n = userdata;
        NotifyMessage m;
        pid_t sender;
        int r;

        if (now - n->window >= USEC_PER_SEC) {
                n->window = now;
                n->n_read = 0;
        }
        if (n->n_read >= NOTIFY_MESSAGES_PER_SECOND_MAX) {
                (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
                (void) sd_event_source_set_time_relative(n->pause, n->window + USEC_PER_SEC - now);
                (void) sd_event_source_set_enabled(n->pause, SD_EVENT_ONESHOT);
                return 0;
        }

        n->n_read++;
        r = receive(n, &m, &sender);
        if (r > 0)
                n->message(n, &m, sender, n->userdata); /* n may be gone */
        return 0;
}

int notify_socket_new(sd_event *event, int consume_fd, notify_message_t message, void *userdata,
                NotifySocket **ret) {
        _cleanup_(notify_socket_freep) NotifySocket *n = NULL;
        _cleanup_close_ int fd = consume_fd;
        int r;

        assert(event);
        assert(fd >= 0);
        assert(message);
        assert(ret);

        n = new0(NotifySocket, 1);
        if (!n)
                return -ENOMEM;
        n->fd = TAKE_FD(fd);
        n->message = message;
        n->userdata = userdata;
        r = sd_event_add_io(event, &n->io, n->fd, EPOLLIN, on_io, n);
        if (r >= 0)
                r = sd_event_source_set_enabled(n->io, SD_EVENT_OFF);
        /* What containers say is never more urgent than what is to be done with them. */
        if (r >= 0)
                r = sd_event_source_set_priority(n->io, SD_EVENT_PRIORITY_NORMAL + 10);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &n->pause, CLOCK_MONOTONIC, USEC_PER_SEC,
                                10 * USEC_PER_MSEC, on_pause, n);
        if (r >= 0)
                r = sd_event_source_set_enabled(n->pause, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(n);
        return 0;
}

int notify_socket_fd(const NotifySocket *n) {
        return n->fd;
}

static bool is_on(sd_event_source *s) {
        int enabled = SD_EVENT_OFF;

        return sd_event_source_get_enabled(s, &enabled) > 0;
}

void notify_socket_listen(NotifySocket *n) {
        if (!is_on(n->pause))
                (void) sd_event_source_set_enabled(n->io, SD_EVENT_ON);
}

void notify_socket_flush(NotifySocket *n) {
        NotifyMessage m;
        pid_t sender;

        (void) sd_event_source_set_enabled(n->io, SD_EVENT_OFF);
        (void) sd_event_source_set_enabled(n->pause, SD_EVENT_OFF);
        /* More than that does not fit in, unless somebody sends on. */
        for (unsigned i = 0; i < NOTIFY_FLUSH_MAX && receive(n, &m, &sender) >= 0; i++)
                ;
}
