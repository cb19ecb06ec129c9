/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "file-util.h"
#include "job.h"
#include "test.h"

static bool done, well;
static char message[256];

static void on_done(Probe *p, const KError *error, void *userdata) {
        done = true;
        well = !error;
        if (error)
                strncpy(message, kerror_message(error), sizeof(message) - 1);
}

#define LONG (120 * USEC_PER_SEC)

/* A port of this machine; listening, or only reserved. */
static int port_open(bool listening, uint16_t *ret_port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t n = sizeof(a);

        ASSERT_TRUE(fd >= 0);
        ASSERT_TRUE(bind(fd, (struct sockaddr *) &a, sizeof(a)) >= 0);
        ASSERT_TRUE(!listening || listen(fd, 5) >= 0);
        ASSERT_TRUE(getsockname(fd, (struct sockaddr *) &a, &n) >= 0);
        *ret_port = ntohs(a.sin_port);
        return fd;
}

static uint64_t run(sd_event *e, uint64_t at_most) {
        uint64_t begin = now_monotonic();

        while (!done && now_monotonic() - begin < at_most)
                ASSERT_OK(sd_event_run(e, 50000));
        return now_monotonic() - begin;
}

/* How long it takes to be found: the best of some, as other programs take their time, too. */
static uint64_t found_after(bool late) {
        uint64_t best = UINT64_MAX;

        for (unsigned i = 0; i < 5; i++) {
                sd_event *e = NULL;
                uint16_t port;
                int fd = port_open(!late, &port);
                Probe *p;

                done = false;
                ASSERT_OK(sd_event_new(&e));
                ASSERT_OK(probe_start(e, "127.0.0.1", port, LONG, on_done, NULL, &p));
                ASSERT_FALSE(done); /* never from inside */
                if (late) {
                        (void) run(e, 100000);
                        ASSERT_FALSE(done);
                        ASSERT_TRUE(listen(fd, 5) >= 0);
                }
                best = MIN(best, run(e, LONG));
                ASSERT_TRUE(done && well);
                sd_event_unref(e);
                safe_close(fd);
        }
        return best;
}

static void test_a_listening_port_is_found_at_once(void **state) {
        ASSERT_TRUE(found_after(/* late= */ false) < 500000);
}

static void test_a_port_that_opens_late_is_found(void **state) {
        ASSERT_TRUE(found_after(/* late= */ true) < 700000);
}

static void test_the_end_names_port_and_reason(void **state) {
        sd_event *e = NULL;
        uint16_t port;
        int fd = port_open(false, &port);
        Probe *p;

        done = false;
        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(probe_start(e, "127.0.0.1", port, 2000000, on_done, NULL, &p));
        (void) run(e, LONG);
        ASSERT_TRUE(done && !well);
        ASSERT_TRUE(strstr(message, "127.0.0.1:") && strstr(message, "Connection refused"));
        sd_event_unref(e);
        safe_close(fd);
}

static void test_cancelled_says_nothing(void **state) {
        sd_event *e = NULL;
        Probe *p;

        done = false;
        ASSERT_OK(sd_event_new(&e));
        ASSERT_ERROR(probe_start(e, "localhost", 1, 300000, on_done, NULL, &p), EINVAL);
        ASSERT_OK(probe_start(e, "127.0.0.1", 1, 10000, on_done, NULL, &p));
        ASSERT_TRUE(!probe_cancel(p));
        (void) run(e, 100000);
        ASSERT_FALSE(done);
        sd_event_unref(e);
}

static int job_result;
static void on_job(Job *j, int r, void *userdata) {
        done = true;
        job_result = r;
}
static int fails(void *arg) {
        return *(int *) arg;
}
static int hangs(void *arg) {
        return pause();
}

static void test_job_returns_what_its_function_did(void **state) {
        static int results[] = { 0, -ENOSPC };
        sd_event *e = NULL;
        Job *j;

        ASSERT_OK(sd_event_new(&e));
        for (size_t i = 0; i < ELEMENTSOF(results); i++) {
                done = false;
                ASSERT_OK(job_start(e, "test", fails, results + i, on_job, NULL, &j));
                (void) run(e, LONG);
                ASSERT_TRUE(done);
                ASSERT_EQ(job_result, results[i]);
        }
        sd_event_unref(e);
}

static void test_cancelled_job_is_gone(void **state) {
        sd_event *e = NULL;
        Job *j;

        done = false;
        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(job_start(e, "test", hangs, NULL, on_job, NULL, &j));
        ASSERT_TRUE(!job_cancel(j));
        (void) run(e, 50000);
        ASSERT_FALSE(done);
        sd_event_unref(e);
}

static int block_children(void **state) {
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        return sigprocmask(SIG_BLOCK, &mask, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_listening_port_is_found_at_once),
                cmocka_unit_test(test_a_port_that_opens_late_is_found),
                cmocka_unit_test(test_the_end_names_port_and_reason),
                cmocka_unit_test(test_cancelled_says_nothing),
                cmocka_unit_test(test_job_returns_what_its_function_did),
                cmocka_unit_test(test_cancelled_job_is_gone),
        };

        return cmocka_run_group_tests(tests, block_children, NULL);
}
