/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "health-http.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"
#include "tcp-connect.h"

struct NetCheck {
        sd_event *event;
        char *what; /* "GET http://10.81.128.5:80/up" or "10.81.128.5:5432" */
        char *request;
        size_t sent;
        uint64_t timeout, deadline;
        TcpConnect *connecting;
        int fd;
        sd_event_source *io, *timer;
        net_check_done_t done;
        void *userdata;
        size_t n_answer;
        char answer[HEALTH_ANSWER_MAX];
};

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

/* The status line without its end, e.g. "HTTP/1.1 200 OK". */
static int parse_line(const char *line, size_t n, unsigned *ret) {
        if (n < strlen("HTTP/1.1 200") || !is_digit(line[5]) || line[6] != '.' || !is_digit(line[7]) ||
                        line[8] != ' ')
                return -EBADMSG;
        for (size_t i = 9; i < 12; i++)
                if (!is_digit(line[i]))
                        return -EBADMSG;
        if (line[9] == '0' || (n > 12 && line[12] != ' '))
                return -EBADMSG;

        *ret = (unsigned) (line[9] - '0') * 100 + (unsigned) (line[10] - '0') * 10 +
               (unsigned) (line[11] - '0');
        return 0;
}

int http_status_parse(const char *text, size_t size, unsigned *ret) {
        static const char begin[] = "HTTP/";
        unsigned status;

        for (;;) {
                const char *end = NULL, *nl;
                size_t n;
                int r;

                /* Garbage is refused at its first byte, not when a line of it is over. */
                if (size > 0 && memcmp(text, begin, MIN(size, strlen(begin))) != 0)
                        return -EBADMSG;
                nl = size > 0 ? memchr(text, '\n', size) : NULL;
                if (!nl)
                        return 0;
                n = (size_t) (nl - text);
                if (n > 0 && text[n - 1] == '\r')
                        n--;
                r = parse_line(text, n, &status);
                if (r < 0)
                        return r;
                if (status >= 200 || status == 101) {
                        *ret = status;
                        return 1;
                }

                /* Behind the header lines of this one comes the next. */
                end = memmem(nl, size - (size_t) (nl - text), "\n\r\n", 3);
                if (!end)
                        return 0;
                end += 3;
                size -= (size_t) (end - text);
                text = end;
                if (size == 0)
                        return 0;
        }
}

NetCheck *net_check_cancel(NetCheck *c) {
        if (!c)
                return NULL;

        tcp_connect_cancel(c->connecting);
        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->timer);
        safe_close(c->fd);
        free(c->what);
        free(c->request);
        free(c);
        return NULL;
}

static void finish(NetCheck *c, const KError *error) {
        c->io = sd_event_source_disable_unref(c->io);
        c->timer = sd_event_source_disable_unref(c->timer);
        c->done(c, error, c->userdata);
        net_check_cancel(c);
}

static void finish_errno(NetCheck *c, int error) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (error == ETIMEDOUT)
                (void) kerror_set(&e, K_TIMEOUT, "%s: time-out after %" PRIu64 " s.", c->what,
                                c->timeout / USEC_PER_SEC);
        else {
                errno = error;
                (void) kerror_set(&e, K_RUNTIME, "%s: %m", c->what);
        }
        finish(c, &e);
}

static void finish_text(NetCheck *c, const char *text) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        (void) kerror_set(&e, K_RUNTIME, "%s %s", c->what, text);
        finish(c, &e);
}

static void finish_status(NetCheck *c, unsigned status) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (status >= 200 && status < 400) {
                finish(c, NULL);
                return;
        }
        (void) kerror_set(&e, K_RUNTIME, "%s answered %u.", c->what, status);
        finish(c, &e);
}

static void receive(NetCheck *c) {
        unsigned status;
        ssize_t n;
        int r;

        n = recv(c->fd, c->answer + c->n_answer, sizeof(c->answer) - c->n_answer, MSG_DONTWAIT);
        if (n < 0) {
                if (!ERRNO_IS_TRANSIENT(-errno))
                        finish_errno(c, errno);
                return;
        }
        c->n_answer += (size_t) n;

        r = http_status_parse(c->answer, c->n_answer, &status);
        if (r > 0)
                finish_status(c, status);
        else if (r < 0 || c->n_answer == sizeof(c->answer))
                finish_text(c, "answered something that is not HTTP.");
        else if (n == 0)
                finish_text(c, "was not answered: the connection was closed.");
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        NetCheck *c = userdata;
        size_t length = strlen(c->request);
        ssize_t n;

        if (c->sent < length) {
                n = send(fd, c->request + c->sent, length - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0) {
                        if (!ERRNO_IS_TRANSIENT(-errno))
                                finish_errno(c, errno);
                        return 0;
                }
                c->sent += (size_t) n;
                if (c->sent == length && sd_event_source_set_io_events(s, EPOLLIN) < 0)
                        finish_errno(c, EIO);
                return 0;
        }

        receive(c);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        finish_errno(userdata, ETIMEDOUT);
        return 0;
}

static void on_connected(TcpConnect *tc, int error, int fd, void *userdata) {
        NetCheck *c = userdata;
        uint64_t now;
        int r;

        c->connecting = NULL;
        c->fd = fd;
        if (fd < 0) {
                finish_errno(c, error);
                return;
        }
        if (!c->request) {
                finish(c, NULL);
                return;
        }

        now = now_monotonic();
        r = sd_event_add_time_relative(c->event, &c->timer, CLOCK_MONOTONIC,
                        c->deadline > now ? c->deadline - now : 0, 10 * USEC_PER_MSEC, on_timeout, c);
        if (r >= 0)
                r = sd_event_add_io(c->event, &c->io, c->fd, EPOLLOUT, on_io, c);
        if (r < 0)
                finish_errno(c, -r);
}

static int on_failed_at_once(sd_event_source *s, uint64_t usec, void *userdata) {
        NetCheck *c = userdata;

        finish_errno(c, (int) c->sent);
        return 0;
}

int net_check_start(sd_event *event, const char *address, uint16_t port, const char *uri,
                uint64_t timeout_usec, net_check_done_t done, void *userdata, NetCheck **ret) {
        _cleanup_(net_check_cancelp) NetCheck *c = NULL;
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
        uint32_t ip;
        int r;

        assert(event);
        assert(done);
        assert(ret);

        r = parse_ipv4(address, &ip);
        if (r < 0)
                return r;
        a.sin_addr.s_addr = htonl(ip);

        c = new0(NetCheck, 1);
        if (!c)
                return -ENOMEM;
        c->fd = -EBADF;
        c->event = event;
        c->done = done;
        c->userdata = userdata;
        c->timeout = timeout_usec;
        c->deadline = now_monotonic() + timeout_usec;
        if (uri) {
                c->what = strprintf("GET http://%s:%u%s", address, port, uri);
                c->request = strprintf("GET %s HTTP/1.1\r\n"
                                       "Host: %s:%u\r\n"
                                       "User-Agent: Kontena-Node/" KONTENA_VERSION "\r\n"
                                       "Accept: */*\r\n"
                                       "Connection: close\r\n\r\n",
                                uri, address, port);
        } else
                c->what = strprintf("%s:%u", address, port);
        if (!c->what || (uri && !c->request))
                return -ENOMEM;

        r = tcp_connect_start(event, &a, timeout_usec, on_connected, c, &c->connecting);
        if (r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS)
                return r; /* says nothing about the other side */
        if (r < 0) {      /* no route, say: also told from the loop */
                c->sent = (size_t) -r;
                r = sd_event_add_time_relative(
                                event, &c->timer, CLOCK_MONOTONIC, 0, 1, on_failed_at_once, c);
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}
