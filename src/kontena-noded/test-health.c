/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "health.h"

#include <stdio.h>

#include "file-util.h"
#include "health-http.h"
#include "test.h"

#define SEC USEC_PER_SEC

static HealthCheck check(uint32_t initial_delay, uint32_t interval, uint32_t retries) {
        return (HealthCheck){ .protocol = HEALTH_TCP,
                .port = 80,
                .timeout_sec = 1,
                .interval_sec = interval,
                .initial_delay_sec = initial_delay,
                .retries = retries };
}

static void test_failures_in_the_start_period_do_not_count(void **state) {
        HealthCheck c = check(10, 60, 1);
        HealthJudge j;

        health_judge_init(&j, &c, 1000 * SEC, false);
        for (uint64_t t = 1000; t < 1010; t++) {
                ASSERT_FALSE(health_judge_take(&j, false, t * SEC));
                ASSERT_EQ(j.state, HEALTH_UNKNOWN);
        }
        ASSERT_TRUE(health_judge_take(&j, false, 1010 * SEC));
        ASSERT_EQ(j.state, HEALTH_UNHEALTHY);
}

static void test_start_period_ends_with_the_first_success(void **state) {
        HealthCheck c = check(100, 5, 1);
        HealthJudge j;

        health_judge_init(&j, &c, 0, false);
        ASSERT_FALSE(health_judge_take(&j, false, 1 * SEC));
        ASSERT_TRUE(health_judge_take(&j, true, 2 * SEC));
        ASSERT_EQ(j.state, HEALTH_HEALTHY);
        ASSERT_TRUE(health_judge_take(&j, false, 7 * SEC));
        ASSERT_EQ(j.state, HEALTH_UNHEALTHY);
}

static void test_retries_are_counted_in_a_row(void **state) {
        HealthCheck c = check(0, 10, 3);
        HealthJudge j;

        health_judge_init(&j, &c, 0, true);
        ASSERT_FALSE(health_judge_take(&j, false, 10 * SEC));
        ASSERT_FALSE(health_judge_take(&j, false, 20 * SEC));
        ASSERT_TRUE(health_judge_take(&j, true, 30 * SEC)); /* known now */
        ASSERT_FALSE(health_judge_take(&j, false, 40 * SEC));
        ASSERT_FALSE(health_judge_take(&j, false, 50 * SEC));
        ASSERT_EQ(j.state, HEALTH_HEALTHY);
        ASSERT_TRUE(health_judge_take(&j, false, 60 * SEC));
        ASSERT_EQ(j.state, HEALTH_UNHEALTHY);
        ASSERT_FALSE(health_judge_take(&j, false, 61 * SEC));
        ASSERT_TRUE(health_judge_take(&j, true, 62 * SEC));
        ASSERT_EQ(j.state, HEALTH_HEALTHY);
}

/* Asked every second, a slow starter would have used up its retries in as many seconds. */
static void test_who_starts_has_as_long_as_who_runs(void **state) {
        HealthCheck c = check(5, 10, 3);
        HealthJudge j;
        uint64_t t;

        health_judge_init(&j, &c, 0, false);
        for (t = 0; t < 100; t++)
                if (health_judge_take(&j, false, t * SEC))
                        break;
        ASSERT_EQ(t, 25);
        ASSERT_EQ(j.state, HEALTH_UNHEALTHY);
}

static void test_pauses(void **state) {
        HealthCheck c = check(5, 30, 1);
        HealthJudge j;
        uint64_t sum = 0;

        health_judge_init(&j, &c, 0, false);
        for (int i = 0; i < 5; i++)
                sum += health_judge_pause(&j);
        ASSERT_TRUE(sum < 2 * SEC);
        ASSERT_EQ(health_judge_pause(&j), SEC);
        ASSERT_EQ(health_judge_pause(&j), SEC);
        (void) health_judge_take(&j, true, SEC);
        ASSERT_EQ(health_judge_pause(&j), 30 * SEC);
        (void) health_judge_take(&j, false, 31 * SEC);
        ASSERT_EQ(health_judge_pause(&j), SEC); /* unhealthy: may come back before its restart */
}

/* The container */
struct NetCheck {
        sd_event_source *source;
        net_check_done_t done;
        void *userdata;
};
static bool is_well, cannot_ask;
static unsigned n_asked, n_under_way;
static sd_event *the_event;
static const char *expected_to_be_seen = "GET http://10.81.128.5:80/up answered 503.";

NetCheck *net_check_cancel(NetCheck *c) {
        if (!c)
                return NULL;
        n_under_way--;
        sd_event_source_disable_unref(c->source);
        free(c);
        return NULL;
}

static int on_answered(sd_event_source *s, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        NetCheck *c = userdata;

        (void) kerror_set(&error, K_RUNTIME, "GET http://10.81.128.5:80/up answered 503.");
        c->done(c, is_well ? NULL : &error, c->userdata);
        net_check_cancel(c);
        return 0;
}

int net_check_start(sd_event *event, const char *address, uint16_t port, const char *uri,
                uint64_t timeout_usec, net_check_done_t done, void *userdata, NetCheck **ret) {
        NetCheck *c;

        n_asked++;
        if (cannot_ask)
                return -EMFILE;
        c = new0(NetCheck, 1);
        ASSERT_TRUE(c);
        ASSERT_STREQ(address, "10.81.128.5");
        ASSERT_EQ(n_under_way, 0);
        n_under_way++;
        c->done = done;
        c->userdata = userdata;
        ASSERT_OK(sd_event_add_defer(event, &c->source, on_answered, c));
        *ret = c;
        return 0;
}

typedef struct Heard {
        Health *health;
        unsigned n;
        HealthState last;
        bool stop; /* from inside */
} Heard;

static void on_news(Health *h, void *userdata) {
        Heard *heard = userdata;

        heard->n++;
        heard->last = health_state(h);
        if (heard->last == HEALTH_UNHEALTHY)
                ASSERT_STREQ(health_seen(h), expected_to_be_seen);
        if (heard->stop)
                heard->health = health_stop(h);
}

/* A command in it */
struct ContainerCommand {
        sd_event_source *source;
        container_command_done_t done;
        void *userdata;
};
static int inside_error;
static KErrorCode end_code = K_RUNTIME;
static unsigned n_troubles;
static char troubled[128];

static void on_trouble(Health *h, const char *text, void *userdata) {
        n_troubles++;
        (void) snprintf(troubled, sizeof(troubled), "%s", strempty(text));
}

ContainerCommand *container_command_cancel(ContainerCommand *c) {
        if (!c)
                return NULL;
        n_under_way--;
        sd_event_source_disable_unref(c->source);
        free(c);
        return NULL;
}

static int on_exited(sd_event_source *s, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        ContainerCommand *c = userdata;

        (void) kerror_set(&error, end_code, "exited with status 2: no response");
        c->done(c, is_well ? 0 : 2, is_well ? NULL : &error, c->userdata);
        container_command_cancel(c);
        return 0;
}

static int inside(char *const *argv, uint64_t timeout_usec, container_command_done_t done,
                void *done_userdata, ContainerCommand **ret, KError *reterr, void *userdata) {
        Heard *h = userdata;
        ContainerCommand *c;

        n_asked++;
        if (inside_error < 0)
                return kerror_set_errno(reterr, inside_error, "This runtime runs no commands.");
        c = new0(ContainerCommand, 1);
        ASSERT_TRUE(c && h);
        ASSERT_EQ(timeout_usec, SEC);
        ASSERT_STREQ(argv[0], "pg_isready");
        n_under_way++;
        c->done = done;
        c->userdata = done_userdata;
        *ret = c;
        return sd_event_add_defer(the_event, &c->source, on_exited, c);
}

static bool is_held;
static bool excused(void *userdata) {
        return is_held;
}

static int start(sd_event *e, const HealthCheck *c, uint64_t started_usec, bool up, Heard *h) {
        the_event = e;
        return health_start(
                        &(HealthOptions){
                                        .event = e,
                                        .check = c,
                                        .address = "10.81.128.5",
                                        .started_usec = started_usec,
                                        .up = up,
                                        .news = on_news,
                                        .inside = inside,
                                        .trouble = on_trouble,
                                        .excused = excused,
                                        .userdata = h,
                        },
                        &h->health);
}

static void run_until(sd_event *e, const Heard *h, HealthState state) {
        uint64_t end = now_monotonic() + 120 * SEC;

        while (h->last != state && now_monotonic() < end)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_EQ(h->last, state);
}

static void test_loop_goes_through_a_life(void **state) {
        HealthCheck c = check(100, 1, 2);
        uint64_t begun = now_monotonic();
        sd_event *e = NULL;
        Heard h = {};

        ASSERT_OK(sd_event_new(&e));
        is_well = false;
        ASSERT_OK(start(e, &c, begun, false, &h));
        while (now_monotonic() - begun < 500 * USEC_PER_MSEC ||
                        (h.n == 0 && now_monotonic() - begun < 90 * USEC_PER_SEC))
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_EQ(h.n, 1); /* what was seen, once */
        ASSERT_EQ(h.last, HEALTH_UNKNOWN);
        is_well = true;
        run_until(e, &h, HEALTH_HEALTHY);
        ASSERT_EQ(h.n, 2);
        ASSERT_TRUE(!health_seen(h.health));
        is_well = false;
        run_until(e, &h, HEALTH_UNHEALTHY);
        ASSERT_EQ(h.n, 3); /* not for each failure */
        is_well = true;
        run_until(e, &h, HEALTH_HEALTHY);

        /* Stopped from inside, with nothing under way left. */
        is_well = false;
        h.stop = true;
        run_until(e, &h, HEALTH_UNHEALTHY);
        ASSERT_TRUE(!h.health);
        ASSERT_EQ(n_under_way, 0);
        sd_event_unref(e);
}

static void test_lack_of_descriptors_is_no_illness(void **state) {
        HealthCheck c = check(0, 1, 1);
        uint64_t begun = now_monotonic();
        sd_event *e = NULL;
        Heard h = {};

        ASSERT_OK(sd_event_new(&e));
        cannot_ask = true;
        n_asked = 0;
        ASSERT_OK(start(e, &c, begun, false, &h));
        while (n_asked < 3 && now_monotonic() - begun < 120 * SEC)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_TRUE(n_asked >= 3);
        ASSERT_EQ(h.n, 0);
        cannot_ask = false;
        is_well = true;
        run_until(e, &h, HEALTH_HEALTHY);
        health_stop(h.health);
        sd_event_unref(e);
}

static void test_command_is_asked_inside(void **state) {
        HealthCheck c = check(0, 1, 1);
        sd_event *e = NULL;
        Heard h = {};

        c.protocol = HEALTH_EXEC;
        c.port = 0;
        c.command = (char *[]){ (char *) "pg_isready", (char *) "-q", NULL };
        expected_to_be_seen = "'pg_isready -q' exited with status 2: no response.";
        ASSERT_OK(sd_event_new(&e));
        is_well = true;
        ASSERT_OK(start(e, &c, now_monotonic(), false, &h));
        run_until(e, &h, HEALTH_HEALTHY);
        is_well = false;
        run_until(e, &h, HEALTH_UNHEALTHY);

        /* Ours to blame, and not. */
        is_well = true;
        run_until(e, &h, HEALTH_HEALTHY);
        inside_error = -ENOMEM;
        n_asked = 0;
        for (uint64_t end = now_monotonic() + 120 * SEC; n_asked < 2 && now_monotonic() < end;)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_EQ(health_state(h.health), HEALTH_HEALTHY);
        inside_error = -EOPNOTSUPP;
        expected_to_be_seen = "This runtime runs no commands.";
        run_until(e, &h, HEALTH_UNHEALTHY);

        inside_error = 0;
        h.last = HEALTH_UNKNOWN;
        n_asked = 0;
        while (n_asked == 0)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        health_stop(h.health);
        ASSERT_EQ(n_under_way, 0);
        sd_event_unref(e);
        expected_to_be_seen = "GET http://10.81.128.5:80/up answered 503.";
}

static void run_until_trouble(sd_event *e, const char *text) {
        for (uint64_t end = now_monotonic() + 120 * SEC; !streq(troubled, text) && now_monotonic() < end;)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_STREQ(troubled, text);
}

/* What fails for our own reasons is told, once, and does not count. */
static void test_trouble_of_our_own_is_told(void **state) {
        HealthCheck c = check(0, 1, 1);
        sd_event *e = NULL;
        Heard h = {};

        c.protocol = HEALTH_EXEC;
        c.port = 0;
        c.command = (char *[]){ (char *) "pg_isready", NULL };
        expected_to_be_seen = "'pg_isready' exited with status 2: no response.";
        ASSERT_OK(sd_event_new(&e));
        is_well = true;
        troubled[0] = '\0';
        n_troubles = 0;
        ASSERT_OK(start(e, &c, now_monotonic(), false, &h));
        run_until(e, &h, HEALTH_HEALTHY);
        ASSERT_EQ(n_troubles, 0);

        is_well = false;
        end_code = K_UNAVAILABLE;
        run_until_trouble(e, "exited with status 2: no response");
        n_asked = 0;
        for (uint64_t end = now_monotonic() + 120 * SEC; n_asked < 2 && now_monotonic() < end;)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_EQ(n_troubles, 1);
        ASSERT_EQ(health_state(h.health), HEALTH_HEALTHY);
        inside_error = -ENOMEM;
        run_until_trouble(e, "This runtime runs no commands.");
        ASSERT_EQ(health_state(h.health), HEALTH_HEALTHY);
        inside_error = 0;
        is_well = true;
        run_until_trouble(e, "");
        ASSERT_EQ(n_troubles, 3);

        is_well = false;
        end_code = K_RUNTIME;
        run_until(e, &h, HEALTH_UNHEALTHY);
        ASSERT_EQ(n_troubles, 3);
        health_stop(h.health);
        ASSERT_EQ(n_under_way, 0);
        sd_event_unref(e);
        expected_to_be_seen = "GET http://10.81.128.5:80/up answered 503.";
}

/* A snapshot of a volume makes its users stand still. */
static void test_who_is_held_is_excused(void **state) {
        HealthCheck c = check(0, 1, 1);
        sd_event *e = NULL;
        uint64_t begun;
        Heard h = {};

        ASSERT_OK(sd_event_new(&e));
        is_well = true;
        ASSERT_OK(start(e, &c, now_monotonic(), false, &h));
        run_until(e, &h, HEALTH_HEALTHY);

        is_well = false;
        is_held = true;
        n_asked = 0;
        begun = now_monotonic();
        while (now_monotonic() - begun < 2500 * USEC_PER_MSEC)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_EQ(n_asked, 0);
        ASSERT_EQ(health_state(h.health), HEALTH_HEALTHY);

        /* Held after it was asked: no answer is none either. */
        is_held = false;
        while (n_asked == 0)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        is_held = true;
        while (n_under_way > 0)
                ASSERT_TRUE(sd_event_run(e, 100 * USEC_PER_MSEC) >= 0);
        ASSERT_EQ(health_state(h.health), HEALTH_HEALTHY);
        is_held = false;
        run_until(e, &h, HEALTH_UNHEALTHY);
        health_stop(h.health);
        sd_event_unref(e);
}

static void test_another_check_is_another(void **state) {
        HealthCheck c = check(1, 1, 1), d = c;
        sd_event *e = NULL;
        Heard h = {};

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(start(e, &c, 0, true, &h));
        ASSERT_TRUE(health_is_about(h.health, &d, "10.81.128.5"));
        ASSERT_FALSE(health_is_about(h.health, &d, "10.81.128.6"));
        d.retries = 2;
        ASSERT_FALSE(health_is_about(h.health, &d, "10.81.128.5"));
        d = c;
        d.uri = (char *) "/";
        ASSERT_FALSE(health_is_about(h.health, &d, "10.81.128.5"));
        d = c;
        d.command = (char *[]){ (char *) "a", NULL };
        ASSERT_FALSE(health_is_about(h.health, &d, "10.81.128.5"));
        ASSERT_EQ(health_state(NULL), HEALTH_UNKNOWN);
        ASSERT_TRUE(!health_stop(NULL));
        health_stop(h.health);
        sd_event_unref(e);
}

KONTENA_TESTS(cmocka_unit_test(test_failures_in_the_start_period_do_not_count),
                cmocka_unit_test(test_start_period_ends_with_the_first_success),
                cmocka_unit_test(test_retries_are_counted_in_a_row),
                cmocka_unit_test(test_who_starts_has_as_long_as_who_runs), cmocka_unit_test(test_pauses),
                cmocka_unit_test(test_loop_goes_through_a_life),
                cmocka_unit_test(test_lack_of_descriptors_is_no_illness),
                cmocka_unit_test(test_command_is_asked_inside),
                cmocka_unit_test(test_trouble_of_our_own_is_told),
                cmocka_unit_test(test_who_is_held_is_excused),
                cmocka_unit_test(test_another_check_is_another))
