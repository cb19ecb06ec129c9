/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "file-util.h"
#include "instance.h"
#include "json-util.h"
#include "test-instance-machine.h"

#define JOB  ",\"run\":\"r1\",\"spec\":{\"image\":\"a:1\",\"type\":\"job\"}"
#define GONE JOB ",\"desired\":\"terminated\""

static void assert_status(Fixture *f, const char *state, int64_t exit_status, const char *error) {
        _cleanup_json_ json_object *o = NULL;
        json_object *e = NULL;
        const char *s = NULL;

        ASSERT_OK(instance_status(f->i, &o));
        ASSERT_STREQ(json_object_get_string(json_object_object_get(o, "state")), state);
        e = json_object_object_get(o, "exit_status");
        ASSERT_EQ(e ? json_object_get_int64(e) : -1, exit_status);
        e = json_object_object_get(o, "error");
        if (e)
                ASSERT_OK(json_get_string(e, "message", &s, NULL));
        ASSERT_STREQ(s, error);
}

/* Its process is over; systemd keeps the unit where it ended by itself. */
static void ends(Fixture *f, const char *active_state, int code, int status, const char *result) {
        the_unit->state.exec_main_code = code;
        the_unit->state.exec_main_status = status;
        the_unit->state.result = (char *) result;
        unit_becomes(active_state, 0);
        the_unit->changed(the_unit, the_unit->userdata);
        settle(f, 0);
}

static void run_job(Fixture *f) {
        want(f, 1, 1, JOB);
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare start ");
        unit_finishes("active", NULL);
        settle(f, 0);
        assert_status(f, "running", -1, NULL);
        ASSERT_TRAIL("");
}

/* As after kill -9. */
static void daemon_starts_again(Fixture *f) {
        UnitState state = the_unit ? the_unit->state : (UnitState){};

        f->i = instance_free(f->i);
        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
        if (the_unit)
                the_unit->state = state;
        trail[0] = '\0';
}

static void test_end_is_the_end(void **state) {
        static const struct {
                const char *active_state, *result, *state, *error, *trail;
                int code, status;
                int64_t exit_status;
        } table[] = {
                { "active", "success", "exited", NULL, "stop ", CLD_EXITED, 0, 0 },
                { "failed", "exit-code", "exited", "The container exited with status 3.", "reset ",
                                CLD_EXITED, 3, 3 },
                { "failed", "signal", "exited", "The container was killed by SIGKILL.", "reset ", CLD_KILLED,
                                SIGKILL, 137 },
                { "failed", "oom-kill", "exited",
                                "The container was killed because there was no memory left.", "reset ",
                                CLD_KILLED, SIGKILL, 137 },
                { "inactive", "success", "exited", "The container was killed by SIGTERM.", "", CLD_KILLED,
                                SIGTERM, 143 },
                { "inactive", "success", "failed", "The container was stopped from outside.", "", CLD_EXITED,
                                0, -1 },
                { "inactive", "success", "failed", "lost: its unit is gone, and how it ended is not known.",
                                "", 0, 0, -1 },
        };

        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD); /* files are removed by a child */
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                Fixture f;

                open_fixture(&f);
                run_job(&f);
                ends(&f, t->active_state, t->code, t->status, t->result);
                ASSERT_STREQ(trail, t->trail);
                if (streq(t->trail, "stop "))
                        unit_finishes("inactive", NULL);
                settle(&f, 0);
                assert_status(&f, t->state, t->exit_status, t->error);

                /* Whatever comes now, it does not run again. */
                trail[0] = '\0';
                instance_wake(f.i);
                settle(&f, 0);
                want(&f, 1, 1, JOB ",\"hostname\":\"x\"");
                ASSERT_TRAIL("");
                assert_status(&f, t->state, t->exit_status, t->error);
                daemon_starts_again(&f);
                want(&f, 1, 1, JOB);
                ASSERT_TRAIL("");
                assert_status(&f, t->state, t->exit_status, t->error);

                want(&f, 1, 1, GONE);
                for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC;
                                !removed_instance && now_monotonic() < end;)
                        settle(&f, 100 * USEC_PER_MSEC);
                ASSERT_TRAIL("net- ");
                ASSERT_TRUE(removed_instance == f.i);
                close_fixture(&f);
        }
}

/* While nobody was there; systemd has kept it. */
static void test_end_while_the_daemon_was_away(void **state) {
        Fixture f;

        open_fixture(&f);
        run_job(&f);
        daemon_starts_again(&f);
        want(&f, 1, 1, JOB);
        assert_status(&f, "running", -1, NULL); /* it goes on */
        ASSERT_TRAIL("");
        the_unit->state.exec_main_code = CLD_EXITED;
        the_unit->state.exec_main_status = 7;
        unit_becomes("failed", 0);
        daemon_starts_again(&f);
        want(&f, 1, 1, JOB);
        ASSERT_TRAIL("reset ");
        assert_status(&f, "exited", 7, "The container exited with status 7.");
        close_fixture(&f);
}

static void rewrite(Fixture *f, const char *from, const char *to) {
        _cleanup_free_ char *path = strjoin(f->state, "/abc/state.json"), *text = NULL, *changed = NULL;
        char *at;

        ASSERT_OK(read_file(path, 65536, &text, NULL));
        at = strstr(text, from);
        ASSERT_TRUE(at);
        *at = '\0';
        changed = strjoin(text, to, at + strlen(from));
        ASSERT_OK(write_file_atomic(path, changed, strlen(changed), 0600));
}

static void test_machine_was_restarted(void **state) {
        Fixture f;

        open_fixture(&f);
        run_job(&f);
        rewrite(&f, "\"run_boot\":\"", "\"run_boot\":\"f");
        unit_becomes("inactive", 0);
        daemon_starts_again(&f);
        the_unit->state.exec_main_code = 0;
        want(&f, 1, 1, JOB);
        ASSERT_TRAIL("");
        assert_status(&f, "failed", -1, "lost: the machine was restarted.");
        close_fixture(&f);
}

/* Killed between the promise to start it and the start: who knows. */
static void test_killed_while_it_started(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, JOB);
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare start ");
        daemon_starts_again(&f);
        want(&f, 1, 1, JOB);
        ASSERT_TRAIL("");
        assert_status(&f, "failed", -1, "lost: its unit is gone, and how it ended is not known.");
        close_fixture(&f);

        /* Before that promise it begins anew. */
        open_fixture(&f);
        want(&f, 1, 1, JOB);
        f.i = instance_free(f.i);
        ASSERT_OK(instance_new(&f.host, "abc", &f.i));
        trail[0] = '\0';
        want(&f, 1, 1, JOB);
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare start ");
        close_fixture(&f);
}

static void test_what_cannot_start_is_not_tried_again(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, JOB);
        pull_finishes("No such image.");
        settle(&f, 0);
        assert_status(&f, "failed", -1, "No such image.");
        trail[0] = '\0';
        instance_wake(f.i);
        settle(&f, 0);
        ASSERT_TRAIL("");
        daemon_starts_again(&f);
        want(&f, 1, 1, JOB);
        ASSERT_TRAIL("");
        assert_status(&f, "failed", -1, "No such image.");
        close_fixture(&f);

        open_fixture(&f);
        failure_text = "exec: no such file";
        want(&f, 1, 1, JOB);
        pull_finishes(NULL);
        unit_finishes("inactive", "the job failed");
        unit_finishes("inactive", NULL); /* cleaned */
        assert_status(&f, "failed", -1, "Cannot start the container: exec: no such file");
        close_fixture(&f);
}

/* So short a life that its start was not seen to succeed. */
static void test_short_life(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, JOB);
        pull_finishes(NULL);
        the_unit->state.exec_main_code = CLD_EXITED;
        the_unit->state.exec_main_status = 4;
        trail[0] = '\0';
        unit_finishes("failed", "the job failed");
        settle(&f, 0);
        assert_status(&f, "exited", 4, "The container exited with status 4.");
        ASSERT_TRAIL("reset ");
        close_fixture(&f);
}

static void test_cancelled_is_stopped(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Fixture f;

        open_fixture(&f);
        run_job(&f);
        ASSERT_TRUE(instance_restart(f.i, &error) < 0);
        ASSERT_EQ(error.code, K_CONFLICT);
        want(&f, 1, 1, GONE);
        ASSERT_TRAIL("stop ");
        the_unit->state.exec_main_code = CLD_KILLED;
        the_unit->state.exec_main_status = SIGKILL;
        unit_finishes("failed", NULL);
        ASSERT_TRAIL("reset net- ");
        close_fixture(&f);
}

static void test_a_job_has_a_run_and_nothing_else_has(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ",\"run\":\"r1\"");
        assert_status(&f, "failed", -1, "A job has a run, and nothing else has.");
        want(&f, 2, 1, ",\"spec\":{\"image\":\"a:1\",\"type\":\"job\"}");
        assert_status(&f, "failed", -1, "A job has a run, and nothing else has.");
        want(&f, 3, 1, ",\"run\":\"../x\",\"spec\":{\"image\":\"a:1\",\"type\":\"job\"}");
        assert_status(&f, "failed", -1, "'run' is not the id of a run.");
        ASSERT_TRAIL("");
        close_fixture(&f);
}

KONTENA_TESTS(cmocka_unit_test(test_end_is_the_end), cmocka_unit_test(test_end_while_the_daemon_was_away),
                cmocka_unit_test(test_machine_was_restarted), cmocka_unit_test(test_killed_while_it_started),
                cmocka_unit_test(test_what_cannot_start_is_not_tried_again),
                cmocka_unit_test(test_short_life), cmocka_unit_test(test_cancelled_is_stopped),
                cmocka_unit_test(test_a_job_has_a_run_and_nothing_else_has))
