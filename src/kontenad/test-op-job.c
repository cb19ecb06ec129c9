/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "store.h"
#include "string-util.h"
#include "test-master.h"
#include "test.h"

/* Operations about jobs on a real store. systemd-analyze is a script of the test's. */

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        TestAnswer answer;
} Bench;

static int setup(void **state) {
        static const char script[] = "#!/bin/sh\n"
                                     "case \"$4\" in bad*) echo \"Failed to parse '$4'\" >&2; exit 1;;\n"
                                     "never) echo 'Next elapse: never';;\n"
                                     "*) echo 'Next elapse: Fri 2100-01-01 00:00:00 UTC';; esac\n";
        _cleanup_free_ char *program = NULL, *search = NULL;
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        program = strjoin(b->directory, "/systemd-analyze");
        search = strjoin(b->directory, ":/usr/bin:/bin");
        ASSERT_OK(write_file_atomic(program, script, strlen(script), 0700));
        ASSERT_OK(setenv("PATH", search, 1));
        ASSERT_OK(caller_new_internal("test", &b->caller));
        ASSERT_OK(store_begin(b->m.store, NULL));
        test_master_add_grid(&b->m, "g", "home", "10.81.0.0/16");
        ASSERT_OK(store_commit(b->m.store, NULL));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        test_answer_done(&b->answer);
        caller_unref(b->caller);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        test_answer_set(&b->answer, result, error);
}

static void begin(Bench *b, const char *name, const char *params) {
        json_object *o = json_tokener_parse(params);

        ASSERT_TRUE(o);
        b->answer.count = 0;
        operation_call(&b->m, b->caller, operation_find(name), o, /* interactive= */ false, on_done, b);
}

static KErrorCode call(Bench *b, const char *name, const char *params) {
        begin(b, name, params);
        while (b->answer.count == 0)
                ASSERT_OK(sd_event_run(b->m.event, 5 * USEC_PER_SEC));
        return b->answer.error.code;
}

static void assert_refused(
                Bench *b, const char *name, const char *params, KErrorCode code, const char *why) {
        KErrorCode c = call(b, name, params);

        if (c != code || !strstr(kerror_message(&b->answer.error), why))
                fail_msg("%s(%s) is %i: %s", name, params, (int) c, kerror_message(&b->answer.error));
}

#define CALL_OK(b, name, params)                                                                            \
        do {                                                                                                \
                if (call((b), (name), (params)) != K_OK)                                                    \
                        fail_msg("%s: %s", (name), kerror_message(&(b)->answer.error));                     \
        } while (false)
#define WHERE "\"grid\": \"home\", \"stack\": \"null\", "
#define CREATE(more)                                                                                        \
        "{" WHERE "\"name\": \"job\", \"spec\": {\"image\": \"a:1\", \"type\": \"job\"" more "}}"
#define JOB          "{" WHERE "\"service\": \"job\"}"
#define UPDATE(what) "{" WHERE "\"service\": \"job\", \"changes\": {" what "}}"
#define RUN(n)       "{" WHERE "\"service\": \"job\", \"number\": " #n "}"

static ServiceRow *service(Bench *b) {
        ServiceRow *row = NULL;

        ASSERT_OK(store_find_service(b->m.store, "g", "null", "job", &row));
        return row;
}

static const char *text(Bench *b, const char *key) {
        return json_object_get_string(json_object_object_get(b->answer.result, key));
}

static void test_schedule_is_checked(void **state) {
        _cleanup_(service_row_freep) ServiceRow *made = NULL, *same = NULL, *changed = NULL, *undone = NULL;
        Bench *b = *state;

        assert_refused(b, "service.create", CREATE(", \"schedule\": \"bad one\""), K_INVALID_ARGUMENT,
                        "'schedule': Failed to parse 'bad one'");
        assert_refused(b, "service.create", CREATE(", \"schedule\": \"never\""), K_INVALID_ARGUMENT,
                        "no time from now on");
        assert_refused(b, "service.create", CREATE(", \"schedule\": 5"), K_INVALID_ARGUMENT, "schedule");
        assert_refused(b, "service.create", CREATE(", \"retries\": 101, \"schedule\": \"daily\""),
                        K_INVALID_ARGUMENT, "retries");
        assert_refused(b, "job.get", JOB, K_NO_SUCH_SERVICE, "No service 'job'");

        CALL_OK(b, "service.create", CREATE(", \"schedule\": \"daily\""));
        made = service(b);
        ASSERT_EQ(made->state, SERVICE_RUNNING);
        ASSERT_EQ(made->next_run_at, NEXT_RUN_UNKNOWN);

        made->next_run_at = 4102444800 * USEC_PER_SEC; /* as the job runner finds out */
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_service(b->m.store, made));
        ASSERT_OK(store_commit(b->m.store, NULL));
        CALL_OK(b, "service.update", UPDATE("\"image\": \"a:2\""));
        same = service(b);
        ASSERT_EQ(same->next_run_at, made->next_run_at);
        assert_refused(b, "service.update", UPDATE("\"schedule\": \"bad\""), K_INVALID_ARGUMENT, "'bad'");
        CALL_OK(b, "service.update", UPDATE("\"schedule\": \"weekly\""));
        changed = service(b);
        ASSERT_EQ(changed->next_run_at, NEXT_RUN_UNKNOWN);
        CALL_OK(b, "service.update", UPDATE("\"schedule\": null"));
        undone = service(b);
        ASSERT_EQ(undone->next_run_at, 0);
}

/* While systemd is asked the grid may go, and with it the right to an answer. */
static void test_world_changes_meanwhile(void **state) {
        Bench *b = *state;

        begin(b, "service.create", CREATE(", \"schedule\": \"daily\""));
        ASSERT_EQ(b->answer.count, 0);
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_delete_grid(b->m.store, "g"));
        ASSERT_OK(store_commit(b->m.store, NULL));
        while (b->answer.count == 0)
                ASSERT_OK(sd_event_run(b->m.event, 5 * USEC_PER_SEC));
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_GRID);
        ASSERT_EQ(b->answer.count, 1);
}

static void test_too_many_questions_at_once(void **state) {
        Bench *b = *state;

        b->answer.count = 0;
        for (unsigned n = 0; n < CALENDAR_QUERIES_MAX; n++)
                operation_call(&b->m, b->caller, operation_find("service.create"),
                                json_tokener_parse(CREATE(", \"schedule\": \"bad\"")), false, on_done, b);
        ASSERT_EQ(b->answer.count, 0);
        operation_call(&b->m, b->caller, operation_find("service.create"),
                        json_tokener_parse(CREATE(", \"schedule\": \"bad\"")), false, on_done, b);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_UNAVAILABLE);
        /* Those that wait are freed with the master: see teardown. */
}

static void test_runs_are_asked_for_shown_cancelled(void **state) {
        json_object *runs;
        Bench *b = *state;

        CALL_OK(b, "service.create", CREATE(", \"retries\": 3"));
        CALL_OK(b, "job.list", "{\"grid\": \"home\"}");
        ASSERT_EQ(json_object_array_length(json_object_object_get(b->answer.result, "jobs")), 1);
        assert_refused(b, "job.get-run", RUN(0), K_INVALID_ARGUMENT, "has not run yet");
        assert_refused(b, "job.cancel", RUN(0), K_INVALID_ARGUMENT, "has not run yet");

        CALL_OK(b, "job.run", JOB);
        ASSERT_STREQ(text(b, "number"), "1");
        assert_refused(b, "job.run", JOB, K_CONFLICT, "Run 1 of job 'job' is still under way.");
        CALL_OK(b, "job.get", JOB);
        ASSERT_STREQ(text(b, "state"), "waiting");
        ASSERT_STREQ(text(b, "retries"), "3");
        runs = json_object_object_get(b->answer.result, "runs");
        ASSERT_EQ(json_object_array_length(runs), 1);
        CALL_OK(b, "job.get-run", RUN(1));
        ASSERT_STREQ(text(b, "trigger"), "manual");
        ASSERT_STREQ(text(b, "exit_status"), "-1");

        CALL_OK(b, "job.cancel", RUN(1));
        assert_refused(b, "job.cancel", RUN(0), K_CONFLICT, "Run 1 of 'job' has ended already: cancelled.");
        assert_refused(b, "job.get-run", RUN(7), K_INVALID_ARGUMENT, "There is no run 7");
        CALL_OK(b, "service.get", JOB);
        ASSERT_STREQ(text(b, "type"), "job");
        ASSERT_STREQ(text(b, "problem"), "");
}

static void test_what_is_not_for_jobs(void **state) {
        Bench *b = *state;

        CALL_OK(b, "service.create", CREATE(""));
        assert_refused(b, "service.deploy", JOB, K_CONFLICT, "kontenactl job run job");
        assert_refused(b, "service.scale", "{" WHERE "\"service\": \"job\", \"count\": 2}", K_CONFLICT,
                        "is a job");
        assert_refused(b, "service.restart", JOB, K_CONFLICT, "is a job");
        assert_refused(b, "service.update", UPDATE("\"type\": \"service\""), K_INVALID_ARGUMENT,
                        "'type' cannot change");
        CALL_OK(b, "service.create", "{" WHERE "\"name\": \"web\", \"spec\": {\"image\": \"a:1\"}}");
        assert_refused(b, "job.run", "{" WHERE "\"service\": \"web\"}", K_CONFLICT, "not a job");
        assert_refused(b, "job.get", "{" WHERE "\"service\": \"web\"}", K_CONFLICT, "not a job");
}

static void test_stopping_suspends_it(void **state) {
        _cleanup_(service_row_freep) ServiceRow *stopped = NULL, *started = NULL;
        Bench *b = *state;

        CALL_OK(b, "service.create", CREATE(", \"schedule\": \"daily\""));
        CALL_OK(b, "job.run", JOB);
        CALL_OK(b, "service.stop", JOB);
        stopped = service(b);
        ASSERT_EQ(stopped->next_run_at, 0);
        ASSERT_EQ(stopped->state, SERVICE_STOPPED);
        CALL_OK(b, "job.get-run", RUN(1));
        ASSERT_STREQ(text(b, "state"), "cancelled");
        ASSERT_STREQ(text(b, "reason"), "the job was stopped");
        assert_refused(b, "job.run", JOB, K_CONFLICT, "Job 'job' is stopped.");
        CALL_OK(b, "service.start", JOB);
        started = service(b);
        ASSERT_EQ(started->next_run_at, NEXT_RUN_UNKNOWN);
        CALL_OK(b, "job.run", JOB);
        CALL_OK(b, "service.remove", JOB);
        assert_refused(b, "job.get", JOB, K_NO_SUCH_SERVICE, "No service 'job'");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
KONTENA_TESTS(TEST(test_schedule_is_checked), TEST(test_world_changes_meanwhile),
                TEST(test_too_many_questions_at_once), TEST(test_runs_are_asked_for_shown_cancelled),
                TEST(test_what_is_not_for_jobs), TEST(test_stopping_suspends_it))
