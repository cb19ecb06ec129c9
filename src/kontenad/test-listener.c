/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "listener-internal.h"
#include "string-util.h"
#include "test.h"

/* Answers without end and large bodies, on a real listener without TLS. Clients are sockets in the same loop. */

#define BLOCK   65536U
#define CLIENTS 20U
#define BODY    4000000U

typedef struct Place {
        char directory[64];
        sd_event *event;
        Keyring *keyring;
        Ca *ca;
        Listener *listener;
        HttpStream *stream;
        unsigned n_closed, n_bodies;
} Place;

static void on_closed(void *userdata) {
        Place *p = userdata;

        p->stream = NULL;
        p->n_closed++;
}

static int on_request(HttpRequest *q, void *userdata) {
        Place *p = userdata;

        if (streq(http_request_path(q), "/stream"))
                return http_reply_stream(q, 200, "application/json", on_closed, p, &p->stream);
        if (streq(http_request_path(q), "/socket"))
                return http_upgrade(q, NULL, NULL, NULL);
        p->n_bodies++;
        return http_reply(q, 200, "text/plain", "fine", 4);
}

static void place_init(Place *p) {
        (void) snprintf(p->directory, sizeof(p->directory), "/tmp/test-listener.XXXXXX");
        ASSERT_TRUE(mkdtemp(p->directory));
        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        ASSERT_OK(sd_event_new(&p->event));
        ASSERT_OK(keyring_new(p->directory, &p->keyring, NULL));
        ASSERT_OK(ca_new(NULL, p->keyring, &(CaConfig){ .state_directory = p->directory }, &p->ca, NULL));
        ASSERT_OK(listener_new(p->event, p->ca,
                        &(ListenerConfig){
                                        .address = "127.0.0.1", .fd = -EBADF, .plain_address = "127.0.0.1" },
                        &p->listener, NULL));
        listener_set_fallback(p->listener, on_request, NULL, p);
}

static void place_done(Place *p) {
        if (p->stream)
                http_stream_end(p->stream, false);
        listener_free(p->listener);
        ca_free(p->ca);
        keyring_free(p->keyring);
        sd_event_unref(p->event);
        (void) rm_rf_at(AT_FDCWD, p->directory);
}
#define _cleanup_place_ _cleanup_(place_done)

static void spin(Place *p, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                ASSERT_OK(sd_event_run(p->event, 1000));
}

static int client(Place *p, const char *request) {
        struct sockaddr_in a = { .sin_family = AF_INET,
                .sin_port = htons(listener_plain_port(p->listener)),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        ASSERT_EQ(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
        ASSERT_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        return fd;
}

/* Until the text is there that ends what is waited for, or the other end is gone. */
static char *receive(Place *p, int fd, const char *until) {
        char *got = new0(char, BLOCK);
        size_t n = 0;

        ASSERT_TRUE(got);
        for (unsigned i = 0; i < 5000 && (!until || !strstr(got, until)); i++) {
                ssize_t k = recv(fd, got + n, BLOCK - 1 - n, 0);

                if (k == 0)
                        break;
                if (k > 0)
                        n += (size_t) k;
                else {
                        ASSERT_TRUE(errno == EAGAIN);
                        spin(p, 1);
                }
        }
        if (until && !strstr(got, until))
                fail_msg("'%s' does not come, but '%s'", until, got);
        return got;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void begin(Place *p, int *ret_fd) {
        *ret_fd = client(p, GET("/stream"));
        for (unsigned i = 0; i < 5000 && !p->stream; i++)
                spin(p, 1);
        ASSERT_TRUE(p->stream);
}

static void test_each_write_is_one_chunk(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *got = NULL, *rest = NULL;

        place_init(&p);
        begin(&p, &fd);
        ASSERT_OK(http_stream_write(p.stream, "{\"a\":1}", 7));
        ASSERT_OK(http_stream_write(p.stream, "{\"b\":22}", 8));
        got = receive(&p, fd, "{\"b\":22}\r\n");
        ASSERT_TRUE(strstr(got, "Transfer-Encoding: chunked\r\n"));
        ASSERT_TRUE(strstr(got, "7\r\n{\"a\":1}\r\n") && strstr(got, "8\r\n{\"b\":22}\r\n"));

        ASSERT_OK(http_stream_write(p.stream, " ", 1));
        http_stream_end(TAKE_PTR(p.stream), true);
        rest = receive(&p, fd, "\r\n0\r\n\r\n");
        ASSERT_TRUE(strstr(rest, "1\r\n \r\n0\r\n\r\n"));
        ASSERT_EQ(p.n_closed, 0); /* we ended it ourselves */
}

static void test_a_reader_that_is_too_slow_is_cut(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_close_ int fd = -EBADF, other = -EBADF;
        _cleanup_free_ char *block = new0(char, BLOCK), *got = NULL;
        size_t written = 0;
        int r;

        ASSERT_TRUE(block);
        memset(block, 'x', BLOCK);
        place_init(&p);
        begin(&p, &fd);
        for (;;) {
                r = http_stream_write(p.stream, block, BLOCK);
                if (r < 0)
                        break;
                written += BLOCK;
                ASSERT_TRUE(written < 4 * HTTP_STREAM_QUEUE_MAX);
                spin(&p, 2);
        }
        ASSERT_EQ(r, -ENOBUFS);
        ASSERT_TRUE(written >= HTTP_STREAM_QUEUE_MAX);
        ASSERT_ERROR(http_stream_write(p.stream, "x", 1), EPIPE);

        other = client(&p, GET("/"));
        got = receive(&p, other, "fine");
        for (unsigned i = 0; i < 5000 && p.n_closed == 0; i++)
                spin(&p, 1);
        ASSERT_EQ(p.n_closed, 1);
        ASSERT_TRUE(!p.stream);
}

static void test_a_client_that_leaves_is_noticed(void **state) {
        _cleanup_place_ Place p = {};
        int fd;

        place_init(&p);
        begin(&p, &fd);
        spin(&p, 20);
        (void) close(fd);
        for (unsigned i = 0; i < 5000 && p.stream; i++) {
                (void) http_stream_write(p.stream, " ", 1);
                spin(&p, 1);
        }
        ASSERT_EQ(p.n_closed, 1);
}

static void test_an_end_with_the_listener_is_quiet(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_close_ int fd = -EBADF;

        place_init(&p);
        begin(&p, &fd);
        http_stream_end(TAKE_PTR(p.stream), false);
        p.listener = listener_free(p.listener);
        ASSERT_EQ(p.n_closed, 0);
}

static void test_what_is_no_websocket_is_told_so(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *got = NULL;

        place_init(&p);
        fd = client(&p, GET("/socket"));
        got = receive(&p, fd, "}");
        ASSERT_TRUE(startswith(got, "HTTP/1.1 426 "));
}

/* Of twenty bodies of four megabytes that never end not all are kept, and small requests go on. */
static void test_large_bodies_have_a_bound_together(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_free_ char *block = new0(char, BLOCK), *got = NULL;
        int fds[CLIENTS];
        _cleanup_close_ int small = -EBADF;
        size_t sent[CLIENTS] = {};
        unsigned n_refused = 0;
        bool more = true;

        ASSERT_TRUE(block);
        place_init(&p);
        for (unsigned i = 0; i < CLIENTS; i++)
                fds[i] = client(&p, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000001\r\n\r\n");
        for (unsigned round = 0; round < 20000 && more; round++) {
                more = false;
                for (unsigned i = 0; i < CLIENTS; i++) {
                        ssize_t k = sent[i] < BODY ? send(fds[i], block, MIN(BLOCK, BODY - sent[i]),
                                                                     MSG_NOSIGNAL)
                                                   : 0;

                        if (k > 0)
                                sent[i] += (size_t) k;
                        more = more || sent[i] < BODY;
                }
                spin(&p, 1);
                ASSERT_TRUE(p.listener->body_bytes <=
                                LISTENER_BODIES_SIZE_MAX + CLIENTS * LISTENER_BODY_SMALL * 2);
        }
        ASSERT_FALSE(more);
        spin(&p, 100);
        ASSERT_EQ(p.n_bodies, 0);

        small = client(&p, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
        got = receive(&p, small, "fine");

        /* The last byte: who was refused is told so, the others are served. */
        for (unsigned i = 0; i < CLIENTS; i++) {
                _cleanup_free_ char *answer = NULL;

                ASSERT_EQ(send(fds[i], block, 1, MSG_NOSIGNAL), 1);
                answer = receive(&p, fds[i], "\r\n\r\n");
                n_refused += startswith(answer, "HTTP/1.1 503 ") != NULL;
                ASSERT_TRUE(startswith(answer, "HTTP/1.1 503 ") || startswith(answer, "HTTP/1.1 200 "));
                (void) close(fds[i]);
        }
        ASSERT_TRUE(n_refused > 0 && n_refused < CLIENTS);
        for (unsigned i = 0; i < 5000 && p.listener->body_bytes > 0; i++)
                spin(&p, 1);
        ASSERT_EQ(p.listener->body_bytes, 0);
}

static void test_one_token_is_borne(void **state) {
        static const struct {
                const char *header, *token; /* token NULL: malformed */
        } table[] = {
                { "Bearer abc", "abc" },
                { "bearer abc", "abc" },
                { "BEARER  a.b-c_d~e+f/g==", "a.b-c_d~e+f/g==" },
                { "", NULL },
                { "Bearer", NULL },
                { "Bearer ", NULL },
                { "Bearer   ", NULL },
                { "Bearerabc", NULL },
                { "Basic abc", NULL },
                { "Bearer a b", NULL },
                { "Bearer a,Bearer b", NULL },
                { "Bearer a\tb", NULL },
                { "Bearer a\x01", NULL },
        };
        char header[HTTP_BEARER_LENGTH_MAX + 10] = "Bearer ";
        const char *token = "untouched";

        ASSERT_EQ(http_parse_bearer(NULL, &token), 0);
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                token = "untouched";
                ASSERT_EQ(http_parse_bearer(t->header, &token), t->token ? 1 : -EBADMSG);
                ASSERT_STREQ(token, t->token ?: "untouched");
        }
        memset(header + 7, 'a', HTTP_BEARER_LENGTH_MAX);
        ASSERT_EQ(http_parse_bearer(header, &token), 1);
        header[7 + HTTP_BEARER_LENGTH_MAX] = 'a';
        ASSERT_EQ(http_parse_bearer(header, &token), -EBADMSG);
}

KONTENA_TESTS(cmocka_unit_test(test_one_token_is_borne), cmocka_unit_test(test_each_write_is_one_chunk),
                cmocka_unit_test(test_a_reader_that_is_too_slow_is_cut),
                cmocka_unit_test(test_a_client_that_leaves_is_noticed),
                cmocka_unit_test(test_an_end_with_the_listener_is_quiet),
                cmocka_unit_test(test_what_is_no_websocket_is_told_so),
                cmocka_unit_test(test_large_bodies_have_a_bound_together))
