/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "calendar.h"
#include "deploy-image.h"
#include "job-run.h"
#include "job-runner.h"
#include "kontena-limits.h"
#include "test-engine.h"

#define MINUTE (60 * USEC_PER_SEC)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

/* systemd: "every N" seconds, "never", or what it does not understand. */
struct CalendarQuery {
        sd_event_source *source;
        char *expression;
        uint64_t after;
        calendar_done_t done;
        void *userdata;
};

static unsigned n_asked;

CalendarQuery *calendar_query_free(CalendarQuery *q) {
        if (!q)
                return NULL;
        sd_event_source_disable_unref(q->source);
        free(q->expression);
        return mfree(q);
}

static int on_ask(sd_event_source *s, void *userdata) {
        CalendarQuery *q = userdata;
        calendar_done_t done = q->done;
        void *to = q->userdata;
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint64_t next = USEC_INFINITY, every;

        if (startswith(q->expression, "every ")) {
                every = strtoull(q->expression + strlen("every "), NULL, 10) * USEC_PER_SEC;
                next = (q->after / every + 1) * every;
        } else if (!streq(q->expression, "never"))
                (void) kerror_set(&error, K_INVALID_ARGUMENT, "Failed to parse '%s'", q->expression);
        calendar_query_free(q);
        done(next, kerror_is_set(&error) ? &error : NULL, to);
        return 0;
}

int calendar_ask(sd_event *event, const char *expression, uint64_t after, calendar_done_t done,
                void *userdata, CalendarQuery **ret) {
        CalendarQuery *q = new0(CalendarQuery, 1);

        n_asked++;
        q->expression = strdup(expression);
        q->after = after;
        q->done = done;
        q->userdata = userdata;
        ASSERT_OK(sd_event_add_defer(event, &q->source, on_ask, q));
        *ret = q;
        return 0;
}

/* The master and its jobs */

static void start(Engine *e) {
        engine_start(e, /* tracked= */ false);
        ASSERT_OK(job_runner_new(&e->m, &e->m.job_runner));
}

static void stop(Engine *e) {
        e->m.job_runner = job_runner_free(e->m.job_runner);
        engine_stop(e);
}

static void finish(Engine *e) {
        e->m.job_runner = job_runner_free(e->m.job_runner);
        engine_remove(e);
}

static void make(Engine *e, unsigned n_nodes, const char *spec) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;

        n_asked = 0;
        fake_now = 1700000000 * USEC_PER_SEC;
        start(e);
        add_grid(e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= n_nodes; i++)
                add_node(e, "g", i);
        add_service(e, "g", "job", spec);
        engine_begin(e);
        ASSERT_OK(store_get_service(e->m.store, "s-job", &row));
        row->state = SERVICE_RUNNING;
        service_reset_schedule(row);
        ASSERT_OK(store_put_service(e->m.store, row));
        engine_commit(e);
        engine_settle(e);
}

static ServiceRow *get_service(Engine *e) {
        ServiceRow *row = NULL;

        ASSERT_OK(store_get_service(e->m.store, "s-job", &row));
        return row;
}

static uint64_t next_run(Engine *e) {
        _cleanup_(service_row_freep) ServiceRow *row = get_service(e);

        return row->next_run_at;
}

static RunRow *get_run(Engine *e, uint64_t number) {
        RunRow *row = NULL;

        ASSERT_OK(run_find(e->m.store, "s-job", number, &row));
        return row;
}

static size_t count_runs(Engine *e) {
        _cleanup_(run_row_list_done) RunRowList l = {};

        ASSERT_OK(store_list_runs(e->m.store, "s-job", 1000, &l));
        return l.n;
}

static int request(Engine *e, KError *reterr) {
        _cleanup_(service_row_freep) ServiceRow *service = get_service(e);
        int r;

        engine_begin(e);
        r = run_request(e->m.store, service, 0, NULL, reterr);
        if (r < 0)
                store_rollback(e->m.store);
        else
                engine_commit(e);
        return r;
}

static void assert_run(Engine *e, uint64_t number, const char *state, int64_t exit_status, uint32_t attempts,
                const char *reason) {
        _cleanup_(run_row_freep) RunRow *row = get_run(e, number);

        if (!streq(row->state, state))
                fail_msg("Run is %s (%s), not %s", row->state, strna(row->reason), state);
        ASSERT_STREQ(row->reason, reason);
        ASSERT_EQ(row->exit_status, exit_status);
        ASSERT_EQ(row->attempts, attempts);
        ASSERT_EQ(run_is_final(row), row->finished_at > 0);
}

static void assert_event(const char *part) {
        if (!event_log || !strstr(event_log, part))
                fail_msg("No event with '%s' in:\n%s", part, strempty(event_log));
}

/* Nodes */

static char *containers; /* every one that was started: "RUN/NUMBER/ATTEMPT\n" */

static void note_start(const InstanceRow *row) {
        _cleanup_free_ char *line = strprintf("%s/%u/%u\n", row->run_id, row->number,
                                            (unsigned) row->deploy_rev),
                            *before = containers;

        if (before && strstr(before, line))
                fail_msg("started twice: %s", line);
        containers = strjoin(strempty(before), line);
}

/* By the image: "ok" ends well, "bad" with 3, "second" with 3 at the first attempt of instance 2, "hang" does not end, "missing"
 * cannot be started. */
static bool work_on(Engine *e, InstanceRow *row) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        const char *image = json_object_get_string(json_object_object_get(row->spec, "image"));
        bool fails = streq(image, "bad") ||
                     (streq(image, "second") && row->number == 2 && row->deploy_rev == 1);

        if (!row->node_id || store_get_node(e->m.store, row->node_id, &node) < 0 || !node->connected)
                return false;
        if (row->desired == INSTANCE_TERMINATED) {
                ASSERT_OK(store_delete_instance(e->m.store, row->id));
                return true;
        }
        if (row->desired != INSTANCE_RUNNING || row->observed_deploy_rev == row->deploy_rev)
                return false;
        ASSERT_EQ(row->role, INSTANCE_CURRENT);
        ASSERT_TRUE(row->address);

        note_start(row);
        row->observed_deploy_rev = row->deploy_rev;
        row->epoch = 1;
        if (streq(image, "hang"))
                ASSERT_OK(free_and_strdup(&row->state, "running"));
        else if (streq(image, "missing")) {
                ASSERT_OK(free_and_strdup(&row->state, "failed"));
                ASSERT_OK(free_and_strdup(&row->error, "Image 'missing' was not found."));
        } else {
                ASSERT_OK(free_and_strdup(&row->state, "exited"));
                row->exit_status = fails ? 3 : 0;
                ASSERT_OK(free_and_strdup(
                                &row->error, fails ? "The container exited with status 3." : NULL));
                ASSERT_OK(free_and_strdup(&row->log_tail, fails ? "oh no" : "all fine"));
        }
        ASSERT_OK(store_put_instance(e->m.store, row));
        return true;
}

static bool work(Engine *e) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        bool worked = false;

        ASSERT_OK(store_list_instances_of_grid(e->m.store, "g", &rows));
        engine_begin(e);
        FOREACH_ARRAY(i, rows.rows, rows.n)
                worked = work_on(e, *i) || worked;
        engine_commit(e);
        return worked;
}

static void look(Engine *e) {
        job_runner_clock_changed(e->m.job_runner);
        engine_settle(e);
}

static void play(Engine *e) {
        do {
                engine_settle(e);
                if (store_is_dead)
                        return;
        } while (work(e));
}

static void pass_time(Engine *e, uint64_t usec) {
        fake_now += usec;
        look(e);
}

/* Tests */

static void test_run_by_hand(void **state) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        Engine e = {};

        make(&e, 3, "{\"image\": \"ok\", \"type\": \"job\", \"count\": 3}");
        play(&e);
        ASSERT_EQ(count_runs(&e), 0);
        ASSERT_EQ(next_run(&e), 0);
        ASSERT_EQ(n_asked, 0);

        ASSERT_OK(request(&e, NULL));
        ASSERT_ERROR(request(&e, &error), ESTALE);
        ASSERT_STREQ(kerror_message(&error), "Run 1 of job 'job' is still under way.");
        play(&e);
        assert_run(&e, 1, "succeeded", 0, 3, NULL);
        row = get_run(&e, 1);
        ASSERT_STREQ(row->trigger, "manual");
        ASSERT_STREQ(row->log_tail, "all fine");
        ASSERT_TRUE(row->node_id && row->instance_id);
        ASSERT_OK(store_list_instances_of_service(e.m.store, "s-job", &rows));
        ASSERT_EQ(rows.n, 0); /* the nodes have removed what there was */
        assert_event("info service:job Run 1 of null/job: started, 3 instances.");
        assert_event("info service:job Run 1 of null/job: succeeded.");

        ASSERT_OK(request(&e, NULL));
        play(&e);
        assert_run(&e, 2, "succeeded", 0, 3, NULL);
        finish(&e);
}

static void test_what_fails_is_tried_again(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"bad\", \"type\": \"job\", \"retries\": 2}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        assert_run(&e, 1, "running", -1, 1, NULL); /* not at once */
        assert_event("warning service:job Run 1 of null/job, job-1 on n1: The container exited with status "
                     "3; it is "
                     "tried again, attempt 2 of 3.");
        pass_time(&e, 2 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "running", -1, 2, NULL);
        pass_time(&e, 3 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "running", -1, 2, NULL); /* and later each time */
        pass_time(&e, 1 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "failed", 3, 3, "job-1 on n1: The container exited with status 3");
        finish(&e);
}

static void test_only_what_failed_is_tried_again(void **state) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        Engine e = {};

        make(&e, 3, "{\"image\": \"second\", \"type\": \"job\", \"count\": 3, \"retries\": 1}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        pass_time(&e, 2 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "succeeded", 0, 4, NULL);
        finish(&e);

        make(&e, 3, "{\"image\": \"second\", \"type\": \"job\", \"count\": 3}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        row = get_run(&e, 1);
        ASSERT_STREQ(row->state, "failed");
        ASSERT_EQ(row->exit_status, 3);
        ASSERT_TRUE(startswith(row->reason, "job-2 on n"));
        ASSERT_STREQ(row->log_tail, "oh no");
        finish(&e);
}

static void test_what_cannot_start_is_told(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"missing\", \"type\": \"job\"}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        assert_run(&e, 1, "failed", -1, 1, "job-1 on n1: Image 'missing' was not found");
        finish(&e);
}

static void test_settings_of_its_beginning_count(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"bad\", \"type\": \"job\", \"retries\": 1}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        set_spec(&e, "s-job", "{\"image\": \"ok\", \"type\": \"job\"}", true);
        pass_time(&e, 2 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "failed", 3, 2, "job-1 on n1: The container exited with status 3");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        assert_run(&e, 2, "succeeded", 0, 1, NULL);
        finish(&e);
}

static void test_schedule_runs_each_point_once(void **state) {
        _cleanup_(run_row_freep) RunRow *second = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        play(&e);
        ASSERT_EQ(next_run(&e), 1700000400 * USEC_PER_SEC);
        ASSERT_EQ(count_runs(&e), 0);
        pass_time(&e, 399 * USEC_PER_SEC);
        play(&e);
        ASSERT_EQ(count_runs(&e), 0);

        for (unsigned n = 1; n <= 5; n++) {
                fake_now = (1700000400 + (n - 1) * 600) * USEC_PER_SEC;
                look(&e);
                play(&e);
                look(&e);
                play(&e);
                ASSERT_EQ(count_runs(&e), n);
                ASSERT_EQ(next_run(&e), fake_now + 10 * MINUTE);
        }
        second = get_run(&e, 2);
        ASSERT_STREQ(second->trigger, "schedule");
        ASSERT_EQ(second->scheduled_at, 1700001000 * USEC_PER_SEC);
        finish(&e);
}

static void test_timer_wakes_by_itself(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        fake_now = 1700000400 * USEC_PER_SEC - 50 * USEC_PER_MSEC;
        look(&e);
        ASSERT_EQ(count_runs(&e), 0);
        fake_now = 1700000400 * USEC_PER_SEC;
        engine_wait(&e, 200 * USEC_PER_MSEC);
        ASSERT_EQ(count_runs(&e), 1);
        finish(&e);
}

static void test_missed_points_make_one_run(void **state) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        play(&e);
        stop(&e);
        fake_now += 5 * HOUR;
        start(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1);
        ASSERT_TRUE(next_run(&e) > fake_now && next_run(&e) <= fake_now + 10 * MINUTE);

        /* Away for long: the last point is fresh all the same. */
        stop(&e);
        fake_now += 30 * DAY;
        start(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 2);
        row = get_run(&e, 2);
        ASSERT_TRUE(row->scheduled_at > fake_now - RUN_CATCH_UP_USEC);
        finish(&e);
}

static void test_what_was_missed_long_ago_is_left(void **state) {
        uint64_t point;
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 2592000\"}");
        play(&e);
        point = next_run(&e);
        stop(&e);
        fake_now = point + 2 * DAY;
        start(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 0);
        ASSERT_EQ(next_run(&e), point + 30 * DAY);

        point = next_run(&e);
        stop(&e);
        fake_now = point + 23 * HOUR;
        start(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1);
        finish(&e);
}

static void test_a_run_under_way_passes_points_over(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"hang\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        pass_time(&e, 10 * MINUTE);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1);
        pass_time(&e, 10 * MINUTE);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1);
        assert_event("warning service:job Job null/job: a scheduled run is left out: Run 1 of job 'job' is "
                     "still "
                     "under way.");
        ASSERT_TRUE(next_run(&e) > fake_now);
        finish(&e);
}

static void test_clock_set_back_repeats_nothing(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        for (unsigned n = 0; n < 6; n++) {
                pass_time(&e, 10 * MINUTE);
                play(&e);
        }
        ASSERT_EQ(count_runs(&e), 6);
        for (unsigned n = 0; n < 6; n++) {
                fake_now -= n == 0 ? 55 * MINUTE : 0;
                pass_time(&e, 9 * MINUTE);
                play(&e);
                ASSERT_EQ(count_runs(&e), 6);
        }
        pass_time(&e, 12 * MINUTE);
        play(&e);
        ASSERT_EQ(count_runs(&e), 7);
        finish(&e);
}

/* Neither what waits for its next attempt nor what waits for a node waits for the old time to come again. */
static void test_clock_set_back_stops_no_run(void **state) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"bad\", \"type\": \"job\", \"retries\": 1}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        assert_run(&e, 1, "running", -1, 1, NULL);
        fake_now -= 365 * DAY;
        look(&e);
        pass_time(&e, 2 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "failed", 3, 2, "job-1 on n1: The container exited with status 3");
        finish(&e);

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"affinity\": [\"node==n9\"]}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        fake_now -= 365 * DAY;
        look(&e);
        pass_time(&e, RUN_PLACE_TIMEOUT_USEC);
        play(&e);
        row = get_run(&e, 1);
        ASSERT_STREQ(row->state, "failed");
        finish(&e);
}

/* A clock that was a year ahead: there are points before the one that is waited for. */
static void test_clock_that_was_far_ahead(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        fake_now += 365 * DAY;
        look(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1); /* those of a whole year are not made up for */
        fake_now -= 365 * DAY;
        look(&e);
        ASSERT_TRUE(next_run(&e) <= fake_now + 10 * MINUTE);
        pass_time(&e, 10 * MINUTE);
        play(&e);
        ASSERT_EQ(count_runs(&e), 2);
        finish(&e);
}

/* Whoever else has an opinion about what is next: the point has had its run. */
static void test_one_point_never_runs_twice(void **state) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        pass_time(&e, 10 * MINUTE);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1);

        stop(&e);
        start(&e);
        service = get_service(&e);
        service->next_run_at = 1700000400 * USEC_PER_SEC;
        engine_begin(&e);
        ASSERT_OK(store_put_service(e.m.store, service));
        engine_commit(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 1);
        ASSERT_EQ(next_run(&e), 1700001000 * USEC_PER_SEC);

        /* And the store would not take it. */
        engine_begin(&e);
        ASSERT_ERROR(store_put_run(e.m.store, &(RunRow){ .id = (char *) "x",
                                                              .grid_id = (char *) "g",
                                                              .service_id = (char *) "s-job",
                                                              .number = 9,
                                                              .trigger = (char *) "schedule",
                                                              .scheduled_at = 1700000400 * USEC_PER_SEC,
                                                              .state = (char *) "waiting" }),
                        EEXIST);
        store_rollback(e.m.store);
        finish(&e);
}

static void test_schedule_that_systemd_does_not_know(void **state) {
        unsigned asked;
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"whenever\"}");
        play(&e);
        assert_event("error service:job Job null/job: when it runs next is not known: Failed to parse "
                     "'whenever'");
        asked = n_asked;
        engine_wait(&e, 50 * USEC_PER_MSEC);
        ASSERT_EQ(n_asked, asked); /* not over and over */
        finish(&e);

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"never\"}");
        play(&e);
        ASSERT_EQ(next_run(&e), NEXT_RUN_NEVER);
        asked = n_asked;
        pass_time(&e, DAY);
        play(&e);
        ASSERT_EQ(next_run(&e), NEXT_RUN_NEVER);
        ASSERT_EQ(count_runs(&e), 0);
        finish(&e);
}

static void test_node_lost_during_a_run(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *first = NULL, *second = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"hang\", \"type\": \"job\", \"retries\": 1}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        first = get_instance(&e, "s-job", 1);
        set_connected(&e, first->node_id, false);
        pass_time(&e, 119 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "running", -1, 1, NULL); /* it may come back */

        pass_time(&e, 2 * USEC_PER_SEC);
        pass_time(&e, 2 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "running", -1, 2, NULL);
        second = get_instance(&e, "s-job", 1);
        ASSERT_FALSE(streq(first->node_id, second->node_id));
        assert_event("is offline; it is tried again, attempt 2 of 2.");

        set_connected(&e, second->node_id, false);
        pass_time(&e, 121 * USEC_PER_SEC);
        play(&e);
        assert_run(&e, 1, "failed", -1, 2,
                        streq(second->node_id, "n2") ? "job-1 on n2: lost: node 'n2' is offline"
                                                     : "job-1 on n1: lost: node 'n1' is offline");
        finish(&e);
}

/* The node was away for a moment; what it has to say when it is back counts. */
static void test_node_comes_back_with_the_result(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"hang\", \"type\": \"job\", \"retries\": 1}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        set_connected(&e, "n1", false);
        pass_time(&e, 100 * USEC_PER_SEC);
        set_connected(&e, "n1", true);
        row = get_instance(&e, "s-job", 1);
        ASSERT_OK(free_and_strdup(&row->state, "exited"));
        row->exit_status = 0;
        engine_begin(&e);
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        play(&e);
        assert_run(&e, 1, "succeeded", 0, 1, NULL);
        finish(&e);
}

static void test_node_removed_during_a_run(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"hang\", \"type\": \"job\"}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        add_node(&e, "g", 2);
        remove_node(&e, "n1");
        play(&e);
        assert_run(&e, 1, "failed", -1, 1, "job-1: lost: its node was removed from the grid");
        finish(&e);
}

/* While the earlier one is being stopped the next does not begin. */
static void test_never_two_at_once(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"hang\", \"type\": \"job\"}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        engine_begin(&e);
        ASSERT_OK(run_cancel_unfinished(e.m.store, "s-job", "it was cancelled"));
        engine_commit(&e);
        ASSERT_OK(request(&e, NULL));
        engine_settle(&e);
        assert_run(&e, 1, "cancelled", -1, 1, "it was cancelled");
        assert_run(&e, 2, "running", -1, 0, NULL); /* no node is chosen yet */
        row = get_instance(&e, "s-job", 1);
        ASSERT_TRUE(!row);
        play(&e);
        assert_run(&e, 2, "running", -1, 1, NULL);
        finish(&e);
}

static void test_waits_for_a_node_and_says_why(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"affinity\": [\"node==n2\"]}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        pass_time(&e, 9 * MINUTE);
        play(&e);
        assert_run(&e, 1, "running", -1, 0, NULL);
        add_node(&e, "g", 2);
        play(&e);
        assert_run(&e, 1, "succeeded", 0, 1, NULL);
        finish(&e);

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"retries\": 5, \"affinity\": [\"node==n2\"]}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        pass_time(&e, 11 * MINUTE);
        play(&e);
        assert_run(&e, 1, "failed", -1, 0, "job-1: No node fits job-1: n1: name is not 'n2'");
        finish(&e);
}

static void test_daemon_strategy_runs_on_every_node(void **state) {
        Engine e = {};

        make(&e, 3, "{\"image\": \"ok\", \"type\": \"job\", \"strategy\": \"daemon\"}");
        ASSERT_OK(request(&e, NULL));
        play(&e);
        assert_run(&e, 1, "succeeded", 0, 3, NULL);
        finish(&e);
}

static void test_stopped_job_does_not_run(void **state) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        play(&e);
        service = get_service(&e);
        service->state = SERVICE_STOPPED;
        service_reset_schedule(service);
        engine_begin(&e);
        ASSERT_OK(store_put_service(e.m.store, service));
        engine_commit(&e);
        pass_time(&e, HOUR);
        play(&e);
        ASSERT_EQ(count_runs(&e), 0);
        ASSERT_ERROR(request(&e, &error), ESTALE);
        ASSERT_STREQ(kerror_message(&error), "Job 'job' is stopped.");

        /* Started again it does not make up for what it was not to do. */
        service->state = SERVICE_RUNNING;
        service_reset_schedule(service);
        engine_begin(&e);
        ASSERT_OK(store_put_service(e.m.store, service));
        engine_commit(&e);
        play(&e);
        ASSERT_EQ(count_runs(&e), 0);
        ASSERT_TRUE(next_run(&e) > fake_now);
        finish(&e);
}

static void test_removed_job_is_forgotten(void **state) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        Engine e = {};

        make(&e, 1, "{\"image\": \"hang\", \"type\": \"job\", \"schedule\": \"every 600\"}");
        pass_time(&e, 10 * MINUTE);
        play(&e);
        ASSERT_OK(store_list_instances_of_service(e.m.store, "s-job", &rows));
        ASSERT_EQ(rows.n, 1);
        engine_begin(&e);
        ASSERT_OK(store_terminate_instance(e.m.store, rows.rows[0], 0));
        ASSERT_OK(store_delete_service(e.m.store, "s-job"));
        engine_commit(&e);
        pass_time(&e, HOUR);
        play(&e);
        ASSERT_EQ(count_runs(&e), 0);
        finish(&e);
}

/* Rescheduler and deployer leave it alone. */
static void test_job_is_not_deployed(void **state) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"ok\", \"type\": \"job\"}");
        service = get_service(&e);
        engine_begin(&e);
        ASSERT_ERROR(deploy_request(e.m.store, service, 0, NULL, &error), ESTALE);
        store_rollback(e.m.store);
        ASSERT_STREQ(kerror_message(&error), "'job' is a job, there is nothing to deploy: its next run has "
                                             "the settings of now. To run "
                                             "it: kontenactl job run job");
        finish(&e);
}

static void answer_resolver(const char *json, const KError *error) {
        _cleanup_json_ json_object *o = json ? json_tokener_parse(json) : NULL;
        session_result_t done = fake_call_done;

        fake_call_done = NULL;
        ASSERT_TRUE(done != NULL);
        done(fake_session, o, error, fake_call_userdata);
}

static void test_all_attempts_run_the_same_bytes(void **state) {
        KError error = { .code = K_IMAGE, .message = (char *) "There is no image 'bad'." };
        _cleanup_(instance_row_freep) InstanceRow *first = NULL, *second = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"bad\", \"type\": \"job\", \"retries\": 1}");
        fake_session = session_new("n1", 1);
        e.m.sessions = (NodeSessions *) &e; /* not looked into by the fakes */
        ASSERT_OK(deploy_images_new(&e.m, &e.m.deploy_images));

        ASSERT_OK(request(&e, NULL));
        engine_settle(&e);
        assert_run(&e, 1, "waiting", -1, 0, NULL);
        ASSERT_STREQ(fake_session->last_method, "image.resolve");
        answer_resolver("{\"digest\": \"sha256:abc\", \"stale\": false}", NULL);
        engine_settle(&e);
        first = get_instance(&e, "s-job", 1);
        ASSERT_STREQ(first->wanted_digest, "sha256:abc");
        play(&e);
        pass_time(&e, 2 * USEC_PER_SEC);
        second = get_instance(&e, "s-job", 1);
        ASSERT_EQ(second->deploy_rev, 2);
        ASSERT_STREQ(second->wanted_digest, "sha256:abc");
        ASSERT_TRUE(fake_call_done == NULL); /* asked once */
        play(&e);

        ASSERT_OK(request(&e, NULL));
        engine_settle(&e);
        answer_resolver(NULL, &error);
        engine_settle(&e);
        assert_run(&e, 2, "failed", -1, 0, "There is no image 'bad'");

        e.m.deploy_images = deploy_images_free(e.m.deploy_images);
        e.m.sessions = NULL;
        session_free(fake_session);
        fake_session = NULL;
        finish(&e);
}

/* Kills the master at its commit number "cut"; false when all ended without getting that far. */
static bool kill_at(const char *spec, int cut, bool after_commit, unsigned expected_attempts) {
        _cleanup_(run_row_freep) RunRow *run = NULL;
        Engine e = {};
        bool killed;

        containers = mfree(containers);
        make(&e, 3, spec);
        fake_now = 1700000400 * USEC_PER_SEC - USEC_PER_SEC;
        play(&e);
        fake_now += USEC_PER_SEC;

        commits_left = cut;
        die_after_commit = after_commit;
        for (unsigned n = 0; n < 4 && !store_is_dead; n++) {
                job_runner_clock_changed(e.m.job_runner);
                play(&e);
                fake_now += 2 * USEC_PER_SEC;
        }
        killed = store_is_dead;

        stop(&e);
        start(&e);
        for (unsigned n = 0; n < 8; n++) {
                look(&e);
                play(&e);
                fake_now += 2 * USEC_PER_SEC;
        }
        ASSERT_EQ(count_runs(&e), 1);
        run = get_run(&e, 1);
        ASSERT_STREQ(run->state, "succeeded");
        ASSERT_EQ(run->scheduled_at, 1700000400 * USEC_PER_SEC);
        ASSERT_EQ(run->attempts, expected_attempts);
        ASSERT_EQ(next_run(&e), 1700001000 * USEC_PER_SEC);
        finish(&e);
        return killed;
}

static void test_run_survives_a_kill_at_any_step(void **state) {
        static const struct {
                const char *spec;
                unsigned attempts;
        } scenarios[] = {
                { "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}", 1 },
                { "{\"image\": \"second\", \"type\": \"job\", \"schedule\": \"every 600\", \"count\": 3, "
                  "\"retries\": 1}",
                                4 },
        };
        unsigned kills = 0;

        FOREACH_ARRAY(s, scenarios, ELEMENTSOF(scenarios))
                for (unsigned after = 0; after < 2; after++) {
                        int cut = 0;

                        while (kill_at(s->spec, cut, after, s->attempts)) {
                                cut++;
                                kills++;
                        }
                        ASSERT_TRUE(cut >= 4); /* queue, begin, place, finish at the least */
                }
        containers = mfree(containers);
        print_message("%u kills survived\n", kills);
}

#define CROWD 200U

/* Of the processor, so that the disks and neighbours of this machine do not matter. */
static uint64_t now_cpu(void) {
        struct timespec ts;

        ASSERT_OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts));
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

/* All are due in one minute: who waits for the loop does not wait for all of them. */
static void test_crowd_leaves_the_loop_its_turns(void **state) {
        uint64_t longest = 0, sum = 0, until;
        unsigned turns = 0;
        Engine e = {};

        fake_now = 1700000000 * USEC_PER_SEC;
        start(&e);
        add_grid(&e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= 5; i++)
                add_node(&e, "g", i);
        for (unsigned i = 0; i < CROWD; i++) {
                _cleanup_free_ char *name = strprintf("crowd-%u", i), *id = strjoin("s-", name);
                _cleanup_(service_row_freep) ServiceRow *row = NULL;

                add_service(&e, "g", name,
                                "{\"image\": \"ok\", \"type\": \"job\", \"schedule\": \"every 600\"}");
                engine_begin(&e);
                ASSERT_OK(store_get_service(e.m.store, id, &row));
                row->state = SERVICE_RUNNING;
                service_reset_schedule(row);
                ASSERT_OK(store_put_service(e.m.store, row));
                engine_commit(&e);
        }
        until = now_monotonic() + 120 * USEC_PER_SEC;
        engine_settle(&e); /* when each runs next is known */
        fake_now = 1700000400 * USEC_PER_SEC;
        job_runner_clock_changed(e.m.job_runner);
        for (bool again = true; again && now_monotonic() < until;) {
                uint64_t begun = now_cpu();

                if (sd_event_run(e.m.event, 0) <= 0)
                        again = work(&e);
                else {
                        uint64_t took = now_cpu() - begun;

                        longest = MAX(longest, took);
                        sum += took;
                        turns++;
                }
        }
        for (unsigned i = 0; i < CROWD; i++) {
                _cleanup_free_ char *id = strprintf("s-crowd-%u", i);
                _cleanup_(run_row_list_done) RunRowList l = {};

                ASSERT_OK(store_list_runs(e.m.store, id, 10, &l));
                ASSERT_EQ(l.n, 1);
                ASSERT_STREQ(l.rows[0]->state, "succeeded");
        }
        print_message("%u turns, the longest %.1f ms of the processor, all %.0f ms\n", turns,
                        (double) longest / 1000.0, (double) sum / 1000.0);
        ASSERT_TRUE(longest < 25 * USEC_PER_MSEC); /* an optimized build needs a tenth of it */
        finish(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_crowd_leaves_the_loop_its_turns), cmocka_unit_test(test_run_by_hand),
                cmocka_unit_test(test_what_fails_is_tried_again),
                cmocka_unit_test(test_only_what_failed_is_tried_again),
                cmocka_unit_test(test_what_cannot_start_is_told),
                cmocka_unit_test(test_settings_of_its_beginning_count),
                cmocka_unit_test(test_schedule_runs_each_point_once),
                cmocka_unit_test(test_timer_wakes_by_itself),
                cmocka_unit_test(test_missed_points_make_one_run),
                cmocka_unit_test(test_what_was_missed_long_ago_is_left),
                cmocka_unit_test(test_a_run_under_way_passes_points_over),
                cmocka_unit_test(test_clock_set_back_repeats_nothing),
                cmocka_unit_test(test_clock_set_back_stops_no_run),
                cmocka_unit_test(test_clock_that_was_far_ahead),
                cmocka_unit_test(test_one_point_never_runs_twice),
                cmocka_unit_test(test_schedule_that_systemd_does_not_know),
                cmocka_unit_test(test_node_lost_during_a_run),
                cmocka_unit_test(test_node_comes_back_with_the_result),
                cmocka_unit_test(test_node_removed_during_a_run), cmocka_unit_test(test_never_two_at_once),
                cmocka_unit_test(test_waits_for_a_node_and_says_why),
                cmocka_unit_test(test_daemon_strategy_runs_on_every_node),
                cmocka_unit_test(test_stopped_job_does_not_run),
                cmocka_unit_test(test_removed_job_is_forgotten), cmocka_unit_test(test_job_is_not_deployed),
                cmocka_unit_test(test_all_attempts_run_the_same_bytes),
                cmocka_unit_test(test_run_survives_a_kill_at_any_step))
