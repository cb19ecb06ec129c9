/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "event-util.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "file-util.h"
#include "macro.h"
#include "test.h"

#define N_CROWD 200U

typedef struct Crowd {
        sd_event_source *sources[N_CROWD];
        unsigned served[N_CROWD];
        unsigned n, since_caller, most;
} Crowd;

static void spend(uint64_t usec) {
        uint64_t until = now_monotonic() + usec;

        while (now_monotonic() < until)
                ;
}

/* Always has something to say, and takes its time. */
static int on_one(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Crowd *c = userdata;

        for (unsigned i = 0; i < N_CROWD; i++)
                if (c->sources[i] == source)
                        c->served[i]++;
        c->n++;
        c->since_caller++;
        spend(200);
        return 0;
}

static int on_caller(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Crowd *c = userdata;

        c->most = MAX(c->most, c->since_caller);
        c->since_caller = 0;
        if (c->n > 4 * N_CROWD)
                (void) sd_event_exit(sd_event_source_get_event(source), 7);
        return 0;
}

static void test_a_crowd_has_one_turn_among_others(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *outer = NULL, *inner = NULL;
        _cleanup_(sd_event_source_disable_unrefp) sd_event_source *nested = NULL, *caller = NULL;
        EventTurns turns = {};
        Crowd c = {};
        int fds[2];

        ASSERT_OK(pipe2(fds, O_CLOEXEC));
        ASSERT_EQ(write(fds[1], "x", 1), 1); /* nobody reads it */
        ASSERT_OK(sd_event_new(&outer));
        ASSERT_OK(event_nest(outer, &inner, &nested));
        for (unsigned i = 0; i < N_CROWD; i++) {
                int fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);

                ASSERT_OK(fd);
                ASSERT_OK(sd_event_add_io(inner, &c.sources[i], fd, EPOLLIN, on_one, &c));
                ASSERT_OK(sd_event_source_set_io_fd_own(c.sources[i], true));
        }
        ASSERT_OK(sd_event_add_io(outer, &caller, fds[0], EPOLLIN, on_caller, &c));
        ASSERT_EQ(event_loop(outer, &turns), 7);

        /* In one loop it would have been all of them. */
        ASSERT_TRUE(c.most > 0);
        ASSERT_TRUE(c.most < N_CROWD / 4);
        for (unsigned i = 0; i < N_CROWD; i++) {
                ASSERT_TRUE(c.served[i] >= 3); /* and nobody is left out */
                sd_event_source_disable_unref(c.sources[i]);
        }
        (void) close(fds[0]);
        (void) close(fds[1]);
}

/* Of the processor's time: on a busy machine that is less than what passes. */
static uint64_t cpu_usec(void) {
        struct timespec t;

        ASSERT_OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t));
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

static int on_slow(sd_event_source *source, void *userdata) {
        uint64_t until = cpu_usec() + (EVENT_SLOW_TURN_MSEC + 10) * USEC_PER_MSEC;

        while (cpu_usec() < until)
                ;
        (void) nanosleep(&(struct timespec){ .tv_nsec = 40 * 1000000 }, NULL);
        return 0;
}

static int on_quick(sd_event_source *source, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void test_slow_turns_are_counted(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *e = NULL;
        EventTurns turns = {};

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(sd_event_add_defer(e, NULL, on_slow, NULL));
        ASSERT_OK(sd_event_add_defer(e, NULL, on_quick, NULL));
        ASSERT_EQ(event_loop(e, &turns), 0);
        ASSERT_TRUE(turns.n_slow >= 1);
        ASSERT_TRUE(turns.longest_usec >= (EVENT_SLOW_TURN_MSEC + 50) * USEC_PER_MSEC);
        ASSERT_TRUE(turns.longest_cpu_usec > 10 * USEC_PER_MSEC);
        ASSERT_TRUE(turns.longest_cpu_usec + 35 * USEC_PER_MSEC < turns.longest_usec);
}

KONTENA_TESTS(cmocka_unit_test(test_a_crowd_has_one_turn_among_others),
                cmocka_unit_test(test_slow_turns_are_counted))
