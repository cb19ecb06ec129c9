/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-sync.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"
#include "wireguard-exchange.h"
#include "wireguard-uapi.h"

#define DEADLINE_USEC (60 * USEC_PER_SEC)

/* A program at the other end of the socket, on the same loop. */
typedef struct Fixture {
        char *directory, *path;
        sd_event *event;
        sd_event_source *listener, *connection;
        int fd, connected;
        Wireguard *wireguard;

        const char *answer_get, *answer_set; /* NULL: hangs up */
        bool flood;                          /* answers without end */
        char *set;                           /* the last request of that kind */
        unsigned gets, sets, seen, failures;
        char *failure;
} Fixture;

static int on_request(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        char text[8192];
        Fixture *f = userdata;
        const char *answer;
        ssize_t n;

        if (f->flood) {
                memset(text, 'x', sizeof(text));
                ASSERT_OK(sd_event_source_set_io_events(s, EPOLLOUT));
                (void) send(fd, text, sizeof(text), MSG_NOSIGNAL | MSG_DONTWAIT);
                return 0;
        }
        n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

        if (n > 0) {
                text[n] = '\0';
                ASSERT_TRUE(strstr(text, "\n\n")); /* they are small enough to come in one piece */
                if (startswith(text, "get=1")) {
                        f->gets++;
                        answer = f->answer_get;
                } else {
                        f->sets++;
                        free(f->set);
                        f->set = strdup(text);
                        answer = f->answer_set;
                }
                if (answer) {
                        /* In two pieces. */
                        ASSERT_TRUE(send(fd, answer, 3, MSG_NOSIGNAL) == 3);
                        ASSERT_TRUE(send(fd, answer + 3, strlen(answer) - 3, MSG_NOSIGNAL) > 0);
                        return 0;
                }
        }
        f->connection = sd_event_source_disable_unref(f->connection);
        f->connected = safe_close(f->connected);
        return 0;
}

static int on_connection(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        Fixture *f = userdata;

        f->connection = sd_event_source_disable_unref(f->connection);
        safe_close(f->connected);
        f->connected = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        ASSERT_TRUE(f->connected >= 0);
        ASSERT_OK(sd_event_add_io(f->event, &f->connection, f->connected, EPOLLIN, on_request, f));
        return 0;
}

static void on_seen(void *userdata) {
        ((Fixture *) userdata)->seen++;
}

static void on_failed(const char *message, void *userdata) {
        Fixture *f = userdata;

        f->failures++;
        free(f->failure);
        f->failure = strdup(message);
}

static void start(Fixture *f) {
        ASSERT_OK(wireguard_new(f->event, NULL,
                        &(WireguardConfig){ .mode = WIREGUARD_USERSPACE, .socket_directory = f->directory },
                        on_seen, on_failed, f, &f->wireguard));
}

static int setup(void **state) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        Fixture *f = new0(Fixture, 1);

        *f = (Fixture){ .fd = -EBADF, .connected = -EBADF };
        f->directory = mkdtemp(strdup("/tmp/test-wireguard-sync.XXXXXX"));
        f->path = strjoin(f->directory, "/kt-wg-t.sock");
        (void) snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", f->path);
        f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ASSERT_OK(bind(f->fd, (struct sockaddr *) &sa, sizeof(sa)));
        ASSERT_OK(listen(f->fd, 8));
        ASSERT_OK(sd_event_new(&f->event));
        ASSERT_OK(sd_event_add_io(f->event, &f->listener, f->fd, EPOLLIN, on_connection, f));
        f->answer_get = "errno=0\n\n";
        f->answer_set = "errno=0\n\n";
        start(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        wireguard_free(f->wireguard);
        sd_event_source_disable_unref(f->connection);
        sd_event_source_disable_unref(f->listener);
        safe_close(f->fd);
        safe_close(f->connected);
        sd_event_unref(f->event);
        (void) rm_rf_at(AT_FDCWD, f->directory);
        free(f->directory);
        free(f->path);
        free(f->set);
        free(f->failure);
        free(f);
        return 0;
}

static void run_until(Fixture *f, const unsigned *counter, unsigned value) {
        uint64_t begin = now_monotonic();

        while (*counter < value) {
                if (now_monotonic() - begin > DEADLINE_USEC)
                        fail_msg("Nothing happens: %u gets, %u sets, %u seen, %u failures", f->gets, f->sets,
                                        f->seen, f->failures);
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        }
}

static void settle(Fixture *f) {
        while (sd_event_run(f->event, 100 * USEC_PER_MSEC) > 0)
                ;
}

static WgDevice device(uint16_t port) {
        WgDevice d = { .port = port };

        d.private_key[0] = 8;
        ASSERT_TRUE(wg_make_room((void **) &d.peers, 0, sizeof(*d.peers)));
        d.peers[d.n_peers++] = (WgPeer){
                .key = { 1 },
                .keepalive_sec = 25,
                .endpoint.in = { .sin_family = AF_INET,
                                .sin_port = htons(7),
                                .sin_addr.s_addr = htonl(0xc0000201) },
        };
        return d;
}

#define HEX_1 "0100000000000000000000000000000000000000000000000000000000000000"
#define HEX_8 "0800000000000000000000000000000000000000000000000000000000000000"

static int apply(Fixture *f, uint16_t port) {
        WgDevice d = device(port);
        int r = wireguard_apply(f->wireguard, 0, "kt-wg-t", &d, NULL);

        wg_device_done(&d);
        return r;
}

static void test_differences_are_written_and_read_back(void **state) {
        static const char as_wanted
                        [] = "private_key=" HEX_8 "\nlisten_port=51820\npublic_key=" HEX_1
                             "\nendpoint=192.0.2.1:7\npersistent_keepalive_interval=25\nrx_bytes=5\n"
                             "errno=0\n\n";
        static const uint8_t key[WG_KEY_SIZE] = { 1 };
        Fixture *f = *state;

        ASSERT_OK(apply(f, 51820));
        ASSERT_EQ(f->gets + f->sets, 0); /* all of it comes from the loop */
        ASSERT_TRUE(!wireguard_find_peer(f->wireguard, 0, key));
        run_until(f, &f->sets, 1);
        f->answer_get = as_wanted;
        run_until(f, &f->gets, 2);
        settle(f);
        ASSERT_TRUE(strstr(f->set, "private_key=" HEX_8 "\nlisten_port=51820\n"));
        ASSERT_TRUE(strstr(f->set, "public_key=" HEX_1) && strstr(f->set, "endpoint=192.0.2.1:7\n"));
        ASSERT_TRUE(f->seen > 0);
        ASSERT_EQ(wireguard_find_peer(f->wireguard, 0, key)->rx, 5);
        ASSERT_TRUE(!wireguard_find_peer(f->wireguard, 1, key));

        ASSERT_OK(apply(f, 51820));
        settle(f);
        ASSERT_EQ(f->sets, 1);
        ASSERT_EQ(f->failures, 0);

        wireguard_stop(f->wireguard, "kt-wg-t");
        ASSERT_TRUE(!wireguard_find_peer(f->wireguard, 0, key));
        wireguard_poll(f->wireguard);
        settle(f);
        ASSERT_EQ(f->gets, 3);
}

/* A daemon that was started anew leaves a living session where it has roamed to, and calls a dead one back. */
static void test_where_a_session_lives_is_kept(void **state) {
        Fixture *f = *state;

        for (unsigned i = 0; i < 2; i++) {
                uint64_t ago = i == 0 ? 10 : 1000;
                _cleanup_free_ char *text = strprintf(
                                "private_key=" HEX_8 "\nlisten_port=51820\npublic_key=" HEX_1
                                "\nendpoint=198.51.100.9:99\npersistent_keepalive_interval=5\n"
                                "last_handshake_time_sec=%" PRIu64 "\nerrno=0\n\n",
                                now_realtime() / USEC_PER_SEC - ago);

                f->answer_get = text;
                ASSERT_OK(apply(f, 51820));
                run_until(f, &f->sets, i + 1);
                settle(f);
                ASSERT_TRUE(strstr(f->set, "persistent_keepalive_interval=25\n"));
                ASSERT_EQ(strstr(f->set, "endpoint=192.0.2.1:7\n") != NULL, i == 1);
                wireguard_free(f->wireguard);
                start(f);
        }
}

static void test_refused_settings_are_tried_again(void **state) {
        Fixture *f = *state;

        f->answer_set = "errno=-98\n\n";
        ASSERT_OK(apply(f, 51820));
        run_until(f, &f->failures, 1);
        ASSERT_TRUE(strstr(f->failure, "WireGuardPort="));
        for (unsigned i = 0; i < 2; i++) {
                wireguard_poll(f->wireguard);
                run_until(f, &f->sets, 2 + i);
                settle(f);
        }
        ASSERT_EQ(f->failures, 1); /* said once */

        f->answer_set = "errno=0\n\n";
        wireguard_poll(f->wireguard);
        run_until(f, &f->sets, 4);
        settle(f);
        ASSERT_EQ(f->failures, 1);
}

static void test_a_program_that_hangs_up(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *moved = strjoin(f->path, ".moved");

        f->answer_get = NULL;
        ASSERT_OK(apply(f, 51820));
        run_until(f, &f->gets, 1);
        settle(f);
        ASSERT_EQ(f->sets, 0);

        /* Or is not there yet. */
        ASSERT_OK(rename(f->path, moved));
        wireguard_poll(f->wireguard);
        settle(f);
        ASSERT_OK(rename(moved, f->path));
        f->answer_get = "public_key=zz\nerrno=0\n\n";
        wireguard_poll(f->wireguard);
        run_until(f, &f->gets, 2);
        settle(f);
        ASSERT_EQ(f->sets, 0);

        f->answer_get = "errno=0\n\n";
        wireguard_poll(f->wireguard);
        run_until(f, &f->sets, 1);
}

static void test_two_peers_with_one_key(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Fixture *f = *state;
        WgDevice d = device(1);

        ASSERT_TRUE(wg_make_room((void **) &d.peers, 1, sizeof(*d.peers)));
        d.peers[d.n_peers++] = (WgPeer){ .key = { 1 } };
        ASSERT_TRUE(wireguard_apply(f->wireguard, 0, "kt-wg-t", &d, &e) < 0);
        ASSERT_TRUE(strstr(kerror_message(&e), "the same WireGuard key"));
        wg_device_done(&d);
}

static void on_exchanged(int r, const char *answer, size_t size, void *userdata) {
        *(int *) userdata = r < 0 ? r : (int) size;
}

static int exchange(Fixture *f, const char *path) {
        WireguardExchange *x;
        int r, result = 1;

        r = wireguard_exchange_start(f->event, path, strdup(WG_UAPI_READ), strlen(WG_UAPI_READ),
                        on_exchanged, &result, &x);
        while (r >= 0 && result == 1)
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        return r < 0 ? r : result;
}

static void test_answers_are_bounded(void **state) {
        Fixture *f = *state;

        ASSERT_EQ(exchange(f, f->path), 9);
        ASSERT_ERROR(exchange(f, "/nonexistent/kt.sock"), ENOENT);
        ASSERT_ERROR(exchange(f, "/tmp/"
                                 "01234567890123456789012345678901234567890123456789012345678901234567890123"
                                 "45678"
                                 "901234567890123456789012345678901234567890"),
                        ENAMETOOLONG);
        f->answer_get = NULL;
        ASSERT_ERROR(exchange(f, f->path), ECONNRESET);
        f->flood = true;
        ASSERT_ERROR(exchange(f, f->path), E2BIG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

KONTENA_TESTS(TEST(test_differences_are_written_and_read_back), TEST(test_where_a_session_lives_is_kept),
                TEST(test_refused_settings_are_tried_again), TEST(test_a_program_that_hangs_up),
                TEST(test_two_peers_with_one_key), TEST(test_answers_are_bounded))
