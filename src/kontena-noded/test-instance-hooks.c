/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <signal.h>
#include <unistd.h>

#include "file-util.h"
#include "instance.h"
#include "json-util.h"
#include "string-util.h"
#include "test-instance-machine.h"

/* When hooks run, against a machine that test-instance-machine.c plays. */

#define HOOKS                                                                                               \
        ",\"spec\":{\"image\":\"a:1\",\"hooks\":{\"pre_start\":[{\"name\":\"m\",\"cmd\":\"x\"}],"           \
        "\"post_start\":[{\"name\":\"w\",\"cmd\":\"x\"}],\"pre_stop\":[{\"name\":\"b\",\"cmd\":\"x\"}]}}"
#define ONESHOT                                                                                             \
        ",\"spec\":{\"image\":\"a:1\",\"hooks\":{\"pre_start\":[{\"name\":\"m\",\"cmd\":\"x\","             \
        "\"oneshot\":true}]}}"
#define OTHERS                                                                                              \
        ",\"spec\":{\"image\":\"a:1\",\"hooks\":{\"pre_start\":[{\"name\":\"m\",\"cmd\":\"x\","             \
        "\"instances\":\"2\"}]}}"
#define AFTER ",\"spec\":{\"image\":\"a:1\",\"hooks\":{\"post_start\":[{\"name\":\"w\",\"cmd\":\"x\"}]}}"
#define GONE  ",\"desired\":\"terminated\""

static void run_with_hooks(Fixture *f) {
        open_fixture(f);
        want(f, 1, 1, HOOKS);
        pull_finishes(NULL);
        hooks_finish(NULL);
        unit_finishes("active", NULL);
        hooks_finish(NULL);
        ASSERT_EQ(instance_state_of(f->i), INSTANCE_RUNNING);
        trail[0] = '\0';
}

/* As after a kill -9: nothing is known but what is on disk. */
static void begin_again(Fixture *f) {
        Unit *unit = the_unit;
        UnitState s = unit ? unit->state : (UnitState){};

        f->i = instance_free(f->i);
        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
        if (the_unit)
                the_unit->state = s;
        trail[0] = '\0';
}

static void test_order_around_a_start(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, HOOKS);
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare pre_start@1-0 ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        ASSERT_STREQ(instance_progress(f.i), "pre_start hooks");
        hooks_finish(NULL);
        ASSERT_TRAIL("net+ start ");
        unit_finishes("active", NULL);
        ASSERT_TRAIL("post_start@1-1 ");
        ASSERT_FALSE(instance_state_of(f.i) == INSTANCE_RUNNING);
        hooks_finish(NULL);
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_none_that_concern_it_cost_nothing(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, OTHERS);
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        trail[0] = '\0';
        want(&f, 1, 1, GONE);
        ASSERT_TRAIL("stop ");
        close_fixture(&f);
}

static void test_failed_pre_start_fails_the_start(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, HOOKS);
        pull_finishes(NULL);
        trail[0] = '\0';
        hooks_finish("The pre_start hook 'm' exited with status 1: no.");
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "The pre_start hook 'm' exited with status 1: no.");
        ASSERT_TRUE(strstr(events, "error service:create_instance: The pre_start hook 'm'"));
        /* A later deploy tries again, with a container of its own. */
        want(&f, 2, 2, HOOKS);
        pull_finishes(NULL);
        ASSERT_TRUE(strstr(trail, "sweep "));
        sweep_finishes();
        ASSERT_TRUE(strstr(trail, "pre_start@2-0 "));
        close_fixture(&f);
}

static void test_failed_post_start_is_a_warning(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, HOOKS);
        pull_finishes(NULL);
        hooks_finish(NULL);
        unit_finishes("active", NULL);
        hooks_finish("The post_start hook 'w' did not end within 60 s.");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_TRUE(strstr(events, "warning service:start_instance: The post_start hook 'w' did not"));
        close_fixture(&f);
}

static void test_order_around_a_replacement(void **state) {
        Fixture f;

        run_with_hooks(&f);
        want(&f, 2, 2, HOOKS);
        pull_finishes(NULL);
        ASSERT_TRAIL("pull mount:gen-2 prepare sweep-but-pre_stop ");
        sweep_finishes();
        ASSERT_TRAIL("pre_stop@1-1 ");
        hooks_finish("The pre_stop hook 'b' exited with status 1.");
        ASSERT_TRUE(strstr(events, "warning service:stop_instance: The pre_stop hook"));
        ASSERT_TRAIL("stop ");
        unit_finishes("inactive", NULL);
        ASSERT_TRUE(strstr(trail, "net+ pre_start@2-1 "));
        close_fixture(&f);
}

static void test_stop_and_removal(void **state) {
        for (int how = 0; how < 3; how++) {
                Fixture f;

                run_with_hooks(&f);
                if (how == 0)
                        want(&f, 1, 1, ",\"desired\":\"stopped\"" HOOKS);
                else if (how == 1)
                        want(&f, 1, 1, GONE HOOKS);
                else {
                        instance_terminate(f.i);
                        settle(&f, 0);
                }
                ASSERT_TRAIL("sweep-but-pre_stop ");
                ASSERT_EQ(instance_state_of(f.i), INSTANCE_STOPPING);
                sweep_finishes();
                ASSERT_TRAIL("pre_stop@1-1 ");
                hooks_finish(NULL);
                ASSERT_TRAIL("stop ");
                unit_finishes("inactive", NULL);
                settle(&f, 500 * USEC_PER_MSEC);
                ASSERT_EQ(instance_state_of(f.i), how == 0 ? INSTANCE_STOPPED : INSTANCE_REMOVED);
                close_fixture(&f);
        }
}

static void test_removal_ends_a_hook_that_runs(void **state) {
        _cleanup_free_ char *saved = NULL;
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, HOOKS);
        pull_finishes(NULL);
        trail[0] = '\0';
        want(&f, 1, 1, GONE HOOKS);
        ASSERT_TRAIL("leave-hooks sweep "); /* it does not run, so nobody says farewell */
        saved = strjoin(f.state, "/abc/state.json");
        ASSERT_OK(unlink(saved));
        sweep_finishes();
        ASSERT_TRUE(access(saved, F_OK) < 0); /* written meanwhile, it would be in the way of the removal */
        settle(&f, 500 * USEC_PER_MSEC);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_REMOVED);
        close_fixture(&f);
}

static void test_interrupted_pre_start_begins_anew(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, HOOKS);
        pull_finishes(NULL);
        ASSERT_TRUE(strstr(trail, "pre_start@1-0 "));
        trail[0] = '\0';
        want(&f, 1, 1, ",\"desired\":\"stopped\"" HOOKS);
        ASSERT_TRAIL("leave-hooks sweep ");
        sweep_finishes();
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STOPPED);
        want(&f, 1, 1, HOOKS);
        ASSERT_TRUE(strstr(trail, "pre_start@1-0 "));
        ASSERT_FALSE(strstr(trail, "in-a-dirty-root"));
        close_fixture(&f);
}

static void test_after_a_crash_pre_start_runs_before_the_start(void **state) {
        Fixture f;

        run_with_hooks(&f);
        container_dies(1, 3, "exit-code");
        settle(&f, 100 * USEC_PER_MSEC);
        ASSERT_TRAIL("stop "); /* systemd does not start it by itself then */
        unit_finishes("inactive", NULL);
        ASSERT_TRUE(endswith(trail, "net+ pre_start@1-1 "));
        trail[0] = '\0';
        hooks_finish(NULL);
        ASSERT_TRAIL("net+ start ");
        unit_finishes("active", NULL);
        ASSERT_TRAIL("post_start@1-2 ");
        hooks_finish(NULL);
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_restarts(f.i), 1);
        close_fixture(&f);
}

/* What was over with the start before says nothing of the one that came meanwhile. */
static void test_crash_in_post_start_does_not_skip_the_next(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, AFTER);
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        ASSERT_TRUE(endswith(trail, "post_start@1-1 "));
        trail[0] = '\0';
        container_dies(1, 3, "exit-code");
        settle(&f, 100 * USEC_PER_MSEC);
        ASSERT_TRAIL("restart ");
        unit_finishes("active", NULL);
        ASSERT_TRAIL(""); /* one stage at a time */
        hooks_finish("The post_start hook 'w' was stopped.");
        ASSERT_TRAIL("post_start@1-2 ");
        hooks_finish(NULL);
        ASSERT_TRAIL("");
        close_fixture(&f);
}

static void test_restart_runs_none(void **state) {
        Fixture f;

        run_with_hooks(&f);
        ASSERT_OK(instance_restart(f.i, NULL));
        settle(&f, 0);
        ASSERT_TRAIL("restart ");
        unit_finishes("active", NULL);
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_killed_daemon_goes_on_with_the_stage(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, HOOKS);
        pull_finishes(NULL);
        begin_again(&f);
        want(&f, 1, 1, HOOKS);
        ASSERT_TRUE(strstr(trail, "pre_start@1-0 "));
        hooks_finish(NULL);

        /* It is over, and the container not started yet. */
        the_unit->done = NULL;
        begin_again(&f);
        want(&f, 1, 1, HOOKS);
        ASSERT_TRUE(!strstr(trail, "pre_start") && strstr(trail, "start "));
        unit_finishes("active", NULL);
        ASSERT_TRUE(endswith(trail, "post_start@1-1 "));
        begin_again(&f);
        want(&f, 1, 1, HOOKS);
        ASSERT_TRAIL("post_start@1-1 ");
        hooks_finish(NULL);
        begin_again(&f);
        want(&f, 1, 1, HOOKS);
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        want(&f, 1, 1, GONE HOOKS);
        sweep_finishes();
        ASSERT_TRUE(endswith(trail, "pre_stop@1-1 "));
        begin_again(&f);
        want(&f, 1, 1, GONE HOOKS);
        ASSERT_TRAIL("sweep-but-pre_stop ");
        sweep_finishes();
        ASSERT_TRAIL("pre_stop@1-1 ");
        hooks_finish(NULL);
        ASSERT_TRAIL("stop ");
        close_fixture(&f);
}

static bool status_has_done(Fixture *f, const char *text) {
        _cleanup_json_ json_object *o = NULL;
        json_object *l = NULL;

        ASSERT_OK(instance_status(f->i, &o));
        (void) json_object_object_get_ex(o, "hooks_done", &l);
        return streq_ptr(l ? json_text(l) : NULL, text);
}

static void test_oneshot_is_remembered_and_told(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ONESHOT);
        pull_finishes(NULL);
        ASSERT_TRUE(status_has_done(&f, NULL));
        n_changed = 0;
        hook_succeeds_once("pre_start/m");
        ASSERT_TRUE(n_changed > 0 && status_has_done(&f, "[\"pre_start/m\"]"));

        /* The master has heard of it and says so: nothing is interrupted by that. */
        trail[0] = '\0';
        want(&f, 1, 1, ONESHOT ",\"hooks_done\":[\"pre_start/m\"]");
        ASSERT_TRAIL("");
        hooks_finish(NULL);
        unit_finishes("active", NULL);
        begin_again(&f);
        want(&f, 2, 2, ONESHOT);
        pull_finishes(NULL);
        sweep_finishes();
        unit_finishes("inactive", NULL);
        ASSERT_TRUE(!strstr(trail, "pre_start") && endswith(trail, "start "));
        close_fixture(&f);
}

static void test_oneshot_that_was_done_elsewhere(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ONESHOT ",\"hooks_done\":[\"pre_start/m\"]");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare start ");
        close_fixture(&f);
}

static int block_children(void **state) {
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        return sigprocmask(SIG_BLOCK, &mask, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order_around_a_start),
                cmocka_unit_test(test_none_that_concern_it_cost_nothing),
                cmocka_unit_test(test_failed_pre_start_fails_the_start),
                cmocka_unit_test(test_failed_post_start_is_a_warning),
                cmocka_unit_test(test_order_around_a_replacement),
                cmocka_unit_test(test_stop_and_removal),
                cmocka_unit_test(test_removal_ends_a_hook_that_runs),
                cmocka_unit_test(test_interrupted_pre_start_begins_anew),
                cmocka_unit_test(test_after_a_crash_pre_start_runs_before_the_start),
                cmocka_unit_test(test_crash_in_post_start_does_not_skip_the_next),
                cmocka_unit_test(test_restart_runs_none),
                cmocka_unit_test(test_killed_daemon_goes_on_with_the_stage),
                cmocka_unit_test(test_oneshot_is_remembered_and_told),
                cmocka_unit_test(test_oneshot_that_was_done_elsewhere),
        };

        return cmocka_run_group_tests(tests, block_children, NULL);
}
