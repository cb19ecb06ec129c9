/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "health-http.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static void test_status_is_read_as_far_as_it_came(void **state) {
        static const struct {
                const char *text;
                int r;
                unsigned status;
        } table[] = {
                { "", 0, 0 },
                { "HT", 0, 0 },
                { "HTTP/1.1 200 OK", 0, 0 },
                { "HTTP/1.1 200 OK\r\n", 1, 200 },
                { "HTTP/1.0 503\n", 1, 503 },
                { "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\n", 1, 404 },
                { "HTTP/1.1 100 Continue\r\n\r\n", 0, 0 },
                { "HTTP/1.1 101 Switching Protocols\r\n", 1, 101 },
                { "SSH-2.0-x", -EBADMSG, 0 },
                { "HTTP/1.1 2000 OK\r\n", -EBADMSG, 0 },
                { "HTTP/1.1 20\r\n", -EBADMSG, 0 },
                { "HTTP/1.1 099 OK\r\n", -EBADMSG, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                unsigned status = 0;

                ASSERT_EQ(http_status_parse(table[i].text, strlen(table[i].text), &status), table[i].r);
                ASSERT_EQ(status, table[i].status);
        }
}

typedef struct Outcome {
        bool done, well;
        char message[256];
} Outcome;

static void on_done(NetCheck *c, const KError *error, void *userdata) {
        Outcome *o = userdata;

        o->done = true;
        o->well = !error;
        if (error)
                (void) snprintf(o->message, sizeof(o->message), "%s", kerror_message(error));
}

/* Asks a server that accepts and says this; NULL: nothing. */
static uint64_t ask(const char *answer, const char *uri, bool listening, Outcome *o) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), peer = -EBADF;
        uint64_t begin = now_monotonic();
        socklen_t n = sizeof(a);
        sd_event *e = NULL;
        NetCheck *c;

        *o = (Outcome){};
        ASSERT_TRUE(fd >= 0);
        ASSERT_TRUE(bind(fd, (struct sockaddr *) &a, sizeof(a)) >= 0);
        ASSERT_TRUE(!listening || listen(fd, 5) >= 0);
        ASSERT_TRUE(getsockname(fd, (struct sockaddr *) &a, &n) >= 0);
        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(net_check_start(e, "127.0.0.1", ntohs(a.sin_port), uri, USEC_PER_SEC, on_done, o, &c));
        while (!o->done && now_monotonic() - begin < 120 * USEC_PER_SEC) {
                ASSERT_OK(sd_event_run(e, 20000));
                if (peer < 0 && listening) {
                        peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
                        if (peer >= 0 && answer)
                                ASSERT_OK(loop_write(peer, answer, strlen(answer)));
                }
        }
        ASSERT_TRUE(o->done);
        safe_close(peer);
        safe_close(fd);
        sd_event_unref(e);
        return now_monotonic() - begin;
}

static void test_answers_are_judged(void **state) {
        char endless[HEALTH_ANSWER_MAX + 1];
        Outcome o;

        (void) ask("HTTP/1.1 204 No Content\r\n", "/up", true, &o);
        ASSERT_TRUE(o.well);
        (void) ask("HTTP/1.1 302 Found\r\n", "/up", true, &o);
        ASSERT_TRUE(o.well);
        (void) ask("HTTP/1.1 503 No\r\n", "/up", true, &o);
        ASSERT_TRUE(!o.well && strstr(o.message, "/up answered 503."));
        (void) ask("220 mail\r\n", "/", true, &o);
        ASSERT_TRUE(!o.well && strstr(o.message, "not HTTP"));
        memset(endless, 'x', sizeof(endless) - 1);
        memcpy(endless, "HTTP/", 5);
        endless[sizeof(endless) - 1] = '\0';
        (void) ask(endless, "/", true, &o);
        ASSERT_TRUE(!o.well && strstr(o.message, "not HTTP"));
        (void) ask(NULL, "/", false, &o);
        ASSERT_TRUE(!o.well && strstr(o.message, "Connection refused"));
        (void) ask(NULL, NULL, true, &o);
        ASSERT_TRUE(o.well);
}

static void test_silence_is_bounded(void **state) {
        Outcome o;

        ASSERT_TRUE(ask("HTTP/1.1 2", "/", true, &o) < 60 * USEC_PER_SEC);
        ASSERT_TRUE(!o.well && strstr(o.message, "time-out after 1 s"));
}

KONTENA_TESTS(cmocka_unit_test(test_status_is_read_as_far_as_it_came),
                cmocka_unit_test(test_answers_are_judged), cmocka_unit_test(test_silence_is_bounded))
