/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <sys/socket.h>
#include <unistd.h>

#include "bus-pump.h"
#include "file-util.h"

/* A pump whose other end is the test, and the program behind it too. */
typedef struct Bench {
        sd_event *event;
        BusPump *pump;
        int fd; /* of the program behind */
        size_t sent, said, messages, ends, moves;
        int end;
        char last[32];
} Bench;

static int on_send(bool binary, const void *data, size_t size, void *userdata) {
        Bench *b = userdata;

        if (binary) {
                b->sent += size;
                b->messages++;
                ASSERT_TRUE(size > 0 && size <= 65536);
        } else {
                ASSERT_TRUE(size < sizeof(b->last));
                memcpy(b->last, data, size);
                b->last[size] = '\0';
                b->said++;
        }
        return 0;
}

static void on_ended(int r, void *userdata) {
        Bench *b = userdata;

        b->end = r;
        b->ends++;
}

static void on_moved(void *userdata) {
        ((Bench *) userdata)->moves++;
}

static const BusPumpHandler handler = { .send = on_send, .ended = on_ended, .moved = on_moved };

static int setup(void **state) {
        Bench *b = new0(Bench, 1);
        int fds[2];

        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        ASSERT_OK(sd_event_new(&b->event));
        ASSERT_OK(bus_pump_new_consume(b->event, fds[0], &handler, b, &b->pump));
        b->fd = fds[1];
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        bus_pump_free(b->pump);
        safe_close(b->fd);
        sd_event_unref(b->event);
        free(b);
        return 0;
}

static void turn(Bench *b) {
        for (unsigned i = 0; i < 64 && sd_event_run(b->event, 0) > 0; i++)
                ;
}

/* As much as goes. */
static size_t fill(Bench *b, size_t n) {
        static char data[4096];
        size_t done = 0;

        while (done < n) {
                ssize_t k = send(b->fd, data, MIN(sizeof(data), n - done), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (k <= 0)
                        break;
                done += (size_t) k;
        }
        return done;
}

static void test_no_more_than_a_window_is_sent(void **state) {
        Bench *b = *state;

        for (unsigned i = 0; i < 32; i++) {
                (void) fill(b, BUS_PUMP_WINDOW);
                turn(b);
        }
        ASSERT_EQ(b->sent, BUS_PUMP_WINDOW);
        usleep(2000);
        ASSERT_TRUE(bus_pump_stalled_usec(b->pump) >= 2000);

        ASSERT_OK(bus_pump_receive(b->pump, false, "1000", 4, NULL));
        ASSERT_EQ(bus_pump_stalled_usec(b->pump), 0);
        turn(b);
        ASSERT_EQ(b->sent, BUS_PUMP_WINDOW + 1000);
        ASSERT_EQ(b->ends, 0);
}

static void test_what_was_not_sent_cannot_be_taken(void **state) {
        static const char *const wrong[] = { "", "0", "-1", "11", "x", "1x", " 1", "1\n",
                "99999999999999999999999999999" };
        Bench *b = *state;

        ASSERT_EQ(fill(b, 10), 10);
        turn(b);
        ASSERT_EQ(b->sent, 10);
        FOREACH_ARRAY(w, wrong, ELEMENTSOF(wrong)) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                ASSERT_ERROR(bus_pump_receive(b->pump, false, *w, strlen(*w), &error), EBADMSG);
                ASSERT_TRUE(kerror_is_set(&error));
        }
        ASSERT_ERROR(bus_pump_receive(b->pump, false, "1\0002", 3, NULL), EBADMSG);
        ASSERT_OK(bus_pump_receive(b->pump, false, "10", 2, NULL));
}

static void test_what_is_taken_is_told(void **state) {
        Bench *b = *state;
        char *data = calloc(1, BUS_PUMP_WINDOW);
        size_t told = 0, got = 0;
        char sink[65536];

        ASSERT_TRUE(data != NULL);
        ASSERT_OK(bus_pump_receive(b->pump, true, data, BUS_PUMP_WINDOW, NULL));
        ASSERT_ERROR(bus_pump_receive(b->pump, true, data, BUS_PUMP_WINDOW, NULL), EBADMSG);
        while (got < BUS_PUMP_WINDOW) {
                size_t before = b->said;
                ssize_t n = recv(b->fd, sink, sizeof(sink), MSG_DONTWAIT);

                if (n > 0)
                        got += (size_t) n;
                turn(b);
                ASSERT_TRUE(b->said - before <= 4);
        }
        turn(b);
        /* Each was a quarter of a window at least. */
        ASSERT_TRUE(b->said >= 1 && b->said <= 4);
        told = strtoull(b->last, NULL, 10);
        ASSERT_TRUE(told >= BUS_PUMP_WINDOW / 4);
        ASSERT_EQ(b->ends, 0);
        free(data);
}

static void test_what_is_held_is_not_passed_on(void **state) {
        Bench *b = *state;
        char byte;

        bus_pump_hold(b->pump, true);
        ASSERT_OK(bus_pump_receive(b->pump, true, "x", 1, NULL));
        turn(b);
        ASSERT_TRUE(recv(b->fd, &byte, 1, MSG_DONTWAIT) < 0);
        bus_pump_hold(b->pump, false);
        turn(b);
        ASSERT_EQ(recv(b->fd, &byte, 1, MSG_DONTWAIT), 1);
}

static void test_the_end_is_told_once(void **state) {
        Bench *b = *state;

        ASSERT_EQ(fill(b, 3), 3);
        b->fd = safe_close(b->fd);
        turn(b);
        ASSERT_EQ(b->sent, 3);
        ASSERT_EQ(b->ends, 1);
        ASSERT_EQ(b->end, 0);
        ASSERT_OK(bus_pump_receive(b->pump, true, "x", 1, NULL));
        bus_pump_flush(b->pump);
        ASSERT_EQ(b->ends, 1);
}

static void test_the_end_is_seen_behind_a_full_window(void **state) {
        Bench *b = *state;

        for (unsigned i = 0; i < 32; i++) {
                (void) fill(b, BUS_PUMP_WINDOW);
                turn(b);
        }
        b->fd = safe_close(b->fd);
        turn(b);
        ASSERT_EQ(b->ends, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

KONTENA_TESTS(TEST(test_no_more_than_a_window_is_sent), TEST(test_what_was_not_sent_cannot_be_taken),
                TEST(test_what_is_taken_is_told), TEST(test_what_is_held_is_not_passed_on),
                TEST(test_the_end_is_told_once), TEST(test_the_end_is_seen_behind_a_full_window))
