/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "login-callback.h"

#include <ctype.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"
#include "uri.h"

#define HEAD_SIZE_MAX 8192U
#define CODE_SIZE_MAX 512U
#define READ_MSEC     2000 /* a browser's head comes at once; others may connect meanwhile */
#define BACKLOG       4
#define WORD_SIZE     16U /* random bytes */

struct LoginCallback {
        int fd;
        char *url;
        const char *path; /* of url */
};

int login_callback_new(LoginCallback **ret, KError *reterr) {
        _cleanup_(login_callback_freep) LoginCallback *c = new0(LoginCallback, 1);
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_free_ char *word = NULL;
        socklen_t size = sizeof(a);
        uint8_t random[WORD_SIZE];

        if (!c)
                return -ENOMEM;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || bind(c->fd, (struct sockaddr *) &a, sizeof(a)) < 0 || listen(c->fd, BACKLOG) < 0 ||
                        getsockname(c->fd, (struct sockaddr *) &a, &size) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot listen for the browser: %m");
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return kerror_set_errno(reterr, -EIO, "No random bytes are to be had: %m");
        word = hexmem(random, sizeof(random));
        c->url = word ? strprintf("http://localhost:%u/cb/%s", ntohs(a.sin_port), word) : NULL;
        if (!c->url)
                return -ENOMEM;
        c->path = strstr(c->url, "/cb/");

        *ret = TAKE_PTR(c);
        return 0;
}

LoginCallback *login_callback_free(LoginCallback *c) {
        if (!c)
                return NULL;

        safe_close(c->fd);
        free(c->url);
        free(c);
        return NULL;
}

const char *login_callback_url(const LoginCallback *c) {
        return c->url;
}

static char *query_value(const char *query, const char *end, const char *name) {
        size_t n = strlen(name);

        for (const char *p = query; p < end;) {
                const char *stop = memchr(p, '&', (size_t) (end - p)) ?: end;

                if ((size_t) (stop - p) > n && memcmp(p, name, n) == 0 && p[n] == '=') {
                        char *value = NULL;

                        (void) uri_unescape(p + n + 1, (size_t) (stop - p) - n - 1, true, &value);
                        return value;
                }
                p = stop + 1;
        }
        return NULL;
}

int login_callback_parse(const char *path, const char *data, size_t size, char **ret_code, bool *ret_other,
                KError *reterr) {
        _cleanup_erase_ char *code = NULL;
        _cleanup_free_ char *error = NULL;
        const char *end, *target, *query;
        size_t length = strlen(path);

        *ret_other = false;
        if (!memmem(data, size, "\r\n\r\n", 4))
                return 0;
        end = memmem(data, size, " HTTP/1.", 8);
        target = size > 4 && memcmp(data, "GET ", 4) == 0 ? data + 4 : NULL;
        if (!target || !end || end < target || memchr(data, '\r', (size_t) (end - data)) ||
                        (size_t) (end - target) <= length || memcmp(target, path, length) != 0 ||
                        target[length] != '?') {
                *ret_other = true; /* an icon, or no browser at all */
                return 0;
        }

        query = target + length + 1;
        error = query_value(query, end, "error");
        code = query_value(query, end, "code");
        if (!isempty(code) && strlen(code) <= CODE_SIZE_MAX && string_is_printable(code)) {
                *ret_code = TAKE_PTR(code);
                return 1;
        }
        if (error)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The login was refused: %s",
                                string_is_printable(error) ? error : "no reason that can be shown");
        return kerror_set(reterr, K_NOT_AUTHENTICATED, "The browser brings no code.");
}

static void answer(int fd, const char *status, const char *text) {
        _cleanup_free_ char *page = NULL, *head = NULL;

        page = strjoin("<!DOCTYPE html><html><head><meta "
                       "charset=\"utf-8\"><title>Kontena</title></head><body><p>",
                        text, "</p></body></html>");
        head = page ? strprintf("HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n"
                                "Content-Security-Policy: default-src 'none'\r\nCache-Control: no-store\r\n"
                                "Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
                                      status, strlen(page))
                    : NULL;
        if (head) {
                (void) !send(fd, head, strlen(head), MSG_NOSIGNAL);
                (void) !send(fd, page, strlen(page), MSG_NOSIGNAL);
        }
}

/* One connection. 1: that was it. */
static int serve(const LoginCallback *c, int fd, char **ret_code, KError *reterr) {
        char head[HEAD_SIZE_MAX];
        size_t n = 0;
        int r;

        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                bool other = false;
                ssize_t k;

                if (n == sizeof(head) || poll(&p, 1, READ_MSEC) <= 0)
                        return 0;
                k = read(fd, head + n, sizeof(head) - n);
                if (k <= 0)
                        return 0;
                n += (size_t) k;
                r = login_callback_parse(c->path, head, n, ret_code, &other, reterr);
                erase_memory(head, other || r != 0 ? n : 0);
                if (r > 0)
                        answer(fd, "200 OK", "You have logged in. This page can be closed.");
                else if (r < 0)
                        answer(fd, "400 Bad Request", "The login has failed; the terminal says why.");
                else if (other)
                        answer(fd, "404 Not Found", "There is nothing here.");
                if (r != 0 || other)
                        return r;
        }
}

int login_callback_wait(LoginCallback *c, uint64_t timeout_usec, char **ret_code, KError *reterr) {
        uint64_t end = now_monotonic() + timeout_usec;

        for (;;) {
                struct pollfd p = { .fd = c->fd, .events = POLLIN };
                _cleanup_close_ int fd = -EBADF;
                uint64_t now = now_monotonic();
                int r;

                if (now >= end)
                        return kerror_set(reterr, K_TIMEOUT,
                                        "The browser did not come back with a code in time.");
                r = poll(&p, 1, (int) ((end - now) / USEC_PER_MSEC) + 1);
                if (r < 0 && errno != EINTR)
                        return kerror_set_errno(reterr, -errno, "Cannot wait for the browser: %m");
                if (r <= 0)
                        continue;
                fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                        continue;
                r = serve(c, fd, ret_code, reterr);
                if (r != 0)
                        return MIN(r, 0);
        }
}
