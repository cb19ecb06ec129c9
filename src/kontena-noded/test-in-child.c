/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "in-child.h"

#include <signal.h>

#include "string-util.h"
#include "test.h"

typedef struct Answer {
        unsigned n;
        int r;
        KErrorCode code;
        char *message;
} Answer;

static void on_done(int r, const KError *error, void *userdata) {
        Answer *a = userdata;

        a->n++;
        a->r = r;
        a->code = error->code;
        a->message = kerror_is_set(error) ? strdup(kerror_message(error)) : NULL;
}

static int give_number(void *userdata, KError *reterr) {
        const int *number = userdata;

        return *number;
}

static int refuse(void *userdata, KError *reterr) {
        return kerror_set(reterr, K_NETWORK, "No '%s' here.", (const char *) userdata);
}

static int die(void *userdata, KError *reterr) {
        (void) raise(SIGKILL);
        return 0;
}

static int hang(void *userdata, KError *reterr) {
        (void) pause();
        return 0;
}

static sd_event *new_loop(void) {
        sd_event *event;
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        ASSERT_OK(sd_event_new(&event));
        return event;
}

static Answer call(in_child_t function, void *arg, uint64_t timeout) {
        _cleanup_(sd_event_unrefp) sd_event *event = new_loop();
        Answer a = {};
        ChildCall *c;

        ASSERT_OK(child_call_start(event, "test", function, arg, timeout, on_done, &a, &c, NULL));
        ASSERT_EQ(a.n, 0); /* nobody waits */
        while (a.n == 0)
                ASSERT_TRUE(sd_event_run(event, 10000000) > 0);
        ASSERT_EQ(a.n, 1);
        return a;
}

static void test_result_comes_back(void **state) {
        int number = 7;
        Answer a;

        ASSERT_EQ(run_in_child("test", give_number, &number, 10000000, NULL), 7);
        a = call(give_number, &number, 10000000);
        ASSERT_EQ(a.r, 7);
        ASSERT_TRUE(!a.message);
}

static void test_error_comes_back_whole(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Answer a;

        ASSERT_TRUE(run_in_child("test", refuse, (void *) "bridge", 10000000, &e) < 0);
        ASSERT_STREQ(kerror_message(&e), "No 'bridge' here.");
        a = call(refuse, (void *) "bridge", 10000000);
        ASSERT_TRUE(a.r < 0);
        ASSERT_EQ(a.code, K_NETWORK);
        ASSERT_STREQ(a.message, "No 'bridge' here.");
        free(a.message);
}

static void test_death_is_an_error(void **state) {
        Answer a = call(die, NULL, 10000000);

        ASSERT_TRUE(a.r < 0);
        ASSERT_STREQ(a.message, "The process 'test' ended without a result.");
        free(a.message);
}

static void test_late_child_is_killed(void **state) {
        Answer a = call(hang, NULL, 20000);

        ASSERT_EQ(a.r, -ETIMEDOUT);
        ASSERT_TRUE(startswith(a.message, "The process 'test' gave no result"));
        free(a.message);
}

static void test_cancelled_call_says_nothing(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = new_loop();
        Answer a = {};
        ChildCall *c;

        ASSERT_OK(child_call_start(event, "test", hang, NULL, 10000000, on_done, &a, &c, NULL));
        c = child_call_cancel(c);
        ASSERT_TRUE(!c);
        while (sd_event_run(event, 0) > 0)
                ;
        ASSERT_EQ(a.n, 0);
}

KONTENA_TESTS(cmocka_unit_test(test_result_comes_back), cmocka_unit_test(test_error_comes_back_whole),
                cmocka_unit_test(test_death_is_an_error), cmocka_unit_test(test_late_child_is_killed),
                cmocka_unit_test(test_cancelled_call_says_nothing))
