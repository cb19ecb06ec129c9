/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "rootfs.h"
#include "test-instance-machine.h"

static void test_first_start(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"ports\":[{\"node_port\":80,\"container_port\":80}]}");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_PULLING);
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare ports start ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_EQ(instance_main_pid(f.i), next_pid);
        ASSERT_EQ(instance_deploy_rev(f.i), 1);
        close_fixture(&f);
}

static void test_deploy_without_change_keeps_the_container(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        want(&f, 2, 1, "");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_EQ(instance_deploy_rev(f.i), 2);
        close_fixture(&f);
}

/* Each of the reasons, and each time the new one is ready before the old one stops. */
static void test_replacement(void **state) {
        for (int reason = 0; reason < 4; reason++) {
                Fixture f;

                open_fixture(&f);
                run_first(&f);
                if (reason == 2)
                        image_tag[0] = '2';
                want(&f, 2, reason == 0 ? 2 : 1,
                                reason == 1   ? ",\"force\":true"
                                : reason == 3 ? ",\"address\":\"10.81.128.9\""
                                              : "");
                pull_finishes(NULL);
                ASSERT_TRAIL("pull mount:gen-2 prepare stop ");
                unit_finishes("inactive", NULL);
                ASSERT_TRAIL("net+ start ");
                unit_finishes("active", NULL);
                ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
                close_fixture(&f);
        }
}

static void test_force_is_done_once(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        want(&f, 1, 1, ",\"force\":true");
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_failed_pull_keeps_the_old_one(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        want(&f, 2, 2, "");
        pull_finishes("no such image");
        ASSERT_TRAIL("pull ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "no such image");
        ASSERT_EQ(instance_main_pid(f.i), next_pid);
        ASSERT_EQ(instance_deploy_rev(f.i), 2);
        close_fixture(&f);
}

static void test_configuration_error_keeps_the_old_one(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        prepare_error = "too long";
        want(&f, 2, 2, "");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull mount:gen-2 ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);

        want(&f, 3, 3, ",\"spec\":{\"image\":\"a:1\",\"env\":[\"X\"]}");
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_TRUE(strstr(instance_error(f.i), "KEY=value"));
        ASSERT_EQ(instance_deploy_rev(f.i), 3);
        ASSERT_EQ(instance_main_pid(f.i), next_pid);
        close_fixture(&f);
}

static void wait_for_job(Fixture *f) {
        settle(f, 500000); /* it may be over already */
}

static void assert_stands_on(Fixture *f, const char *generation, const char *digest) {
        _cleanup_free_ char *path = strjoin(f->run, "/abc/", generation, "/rootfs/stands-on"), *text = NULL;

        ASSERT_OK(read_file(path, 64, &text, NULL));
        ASSERT_STREQ(text, digest);
}

static void test_root_of_a_failed_attempt_is_not_used_for_another_image(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        image_tag[0] = '2';
        prepare_error = "The image has no user 'x'.";
        want(&f, 2, 2, "");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull mount:gen-2 ");
        assert_stands_on(&f, "2", "sha256:2");
        /* Neither may be collected now. */
        ASSERT_STREQ(instance_image_digest(f.i), "sha256:1");
        ASSERT_STREQ(instance_next_image_digest(f.i), "sha256:2");

        image_tag[0] = '3';
        prepare_error = NULL;
        want(&f, 3, 3, "");
        pull_finishes(NULL);
        wait_for_job(&f);
        ASSERT_TRAIL("pull mount:gen-2 prepare stop ");
        assert_stands_on(&f, "2", "sha256:3");
        close_fixture(&f);
}

/* The daemon was killed between the record of the new container and the removal of the old one. */
static void test_what_a_killed_daemon_left_is_removed(void **state) {
        _cleanup_free_ char *old = NULL, *old_run = NULL;
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        want(&f, 2, 2, "");
        pull_finishes(NULL);
        unit_finishes("inactive", NULL);
        unit_finishes("active", NULL);
        wait_for_job(&f);
        old = strjoin(f.state, "/abc/gen-1/upper");
        old_run = strjoin(f.run, "/abc/1/rootfs");
        ASSERT_TRUE(access(old_run, F_OK) < 0);
        ASSERT_OK(mkdir_p(old, 0700));
        ASSERT_OK(mkdir_p(old_run, 0700));

        instance_free(f.i);
        ASSERT_OK(instance_new(&f.host, "abc", &f.i));
        unit_becomes("active", next_pid);
        want(&f, 2, 2, "");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        wait_for_job(&f);
        ASSERT_TRUE(access(old, F_OK) < 0);
        ASSERT_TRUE(access(old_run, F_OK) < 0);
        assert_stands_on(&f, "2", "sha256:1");
        close_fixture(&f);
}

/* Trap 8: neither a retry in 30 s nor a back-off nor a pull holds up what is newer. */
static void test_newer_state_interrupts_waiting(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, "");
        pull_finishes("no such image");
        ASSERT_TRAIL("pull net+ ");
        want(&f, 2, 2, "");
        ASSERT_TRAIL("pull net+ ");
        want(&f, 3, 3, "");
        ASSERT_TRAIL("cancel-pull pull net+ ");
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        trail[0] = '\0';

        for (int crash = 0; crash < 4; crash++) {
                container_dies(CLD_EXITED, 1, "exit-code");
                settle(&f, 1200000);
                if (the_unit->done)
                        unit_finishes("active", NULL);
        }
        trail[0] = '\0';
        want(&f, 4, 4, "");
        /* The container waits for its back-off no longer, and the pull is under way. */
        ASSERT_TRUE(startswith(trail, "restart "));
        unit_finishes("active", NULL);
        ASSERT_TRAIL("restart pull ");
        close_fixture(&f);
}

static void test_crash_is_told_and_revived(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        settle(&f, 3100000); /* long enough to have run */
        container_dies(CLD_EXITED, 3, "exit-code");
        settle(&f, 200000);
        ASSERT_TRAIL("restart ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RESTARTING);
        ASSERT_STREQ(instance_error(f.i), "The container exited with status 3.");
        ASSERT_STREQ(events, "warning service:instance_crash: The container exited with status 3, it is "
                             "started again in 0 s.\n");
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_EQ(instance_restarts(f.i), 1);
        ASSERT_STREQ(instance_error(f.i), "");

        container_dies(CLD_KILLED, 9, "signal");
        settle(&f, 0);
        ASSERT_TRUE(strstr(events, "killed by SIGKILL, it is started again in 1 s"));
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RESTARTING);
        close_fixture(&f);
}

static void test_out_of_memory_names_the_limit(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"memory\":67108864}");
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        settle(&f, 0);
        container_dies(CLD_KILLED, 9, "oom-kill");
        settle(&f, 0);
        ASSERT_TRUE(strstr(events, "memory limit of 67108864 bytes (64.0 MiB)"));
        close_fixture(&f);
}

static void test_failed_start_tells_the_runtimes_reason(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, "");
        pull_finishes(NULL);
        trail[0] = '\0';
        failure_text = "executable not found";
        unit_finishes("activating", "Cannot start unit: failed");
        ASSERT_TRAIL("stop "); /* systemd's own waiting */
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "Cannot start the container: executable not found");
        unit_finishes("inactive", NULL);
        ASSERT_TRAIL(""); /* it waits for its 30 s */
        close_fixture(&f);
}

/* `true` as a command: over before anybody has seen it run. */
static void test_short_life_fails_the_deploy_and_is_revived(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, "");
        pull_finishes(NULL);
        trail[0] = '\0';
        the_unit->state.exec_main_code = CLD_EXITED;
        the_unit->state.exec_main_status = 7;
        unit_finishes("activating", "Cannot start unit: failed");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "The container exited with status 7 right after its start.");
        settle(&f, 200000);
        ASSERT_TRAIL("restart ");
        unit_finishes("active", NULL);
        settle(&f, 0);
        /* Running again, but it has yet to show that it stays. */
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_EQ(instance_main_pid(f.i), next_pid);
        close_fixture(&f);
}

static void test_stop_and_start(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        want(&f, 1, 1, ",\"desired\":\"stopped\"");
        ASSERT_TRAIL("stop ");
        unit_finishes("inactive", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STOPPED);
        want(&f, 1, 1, "");
        /* The same container: no pull, nothing new. */
        ASSERT_TRAIL("find mount:gen-1 prepare net+ start ");
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

/* Its container may have the volume before and after anybody wants that. */
static void test_a_volume_is_used_from_before_the_start_to_the_end(void **state) {
        const char *running = ",\"spec\":{\"image\":\"a:1\",\"volumes\":[\"db:/data\"]}",
                   *stopped = ",\"desired\":\"stopped\",\"spec\":{\"image\":\"a:1\",\"volumes\":"
                              "[\"db:/data\"]}";
        _cleanup_free_ char *directory = NULL;
        Fixture f;

        open_fixture(&f);
        directory = strjoin(f.volumes, "/db");
        ASSERT_OK(mkdir_p(directory, 0700));
        want(&f, 1, 1, running);
        ASSERT_TRUE(instance_may_use_volume(f.i, "db"));
        ASSERT_FALSE(instance_may_use_volume(f.i, "other"));
        /* Nothing is there that could have it. */
        want(&f, 1, 1, stopped);
        ASSERT_FALSE(instance_may_use_volume(f.i, "db"));

        want(&f, 1, 1, running);
        pull_finishes(NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        want(&f, 1, 1, stopped);
        ASSERT_FALSE(instance_wants_volume(f.i, "db"));
        ASSERT_TRUE(instance_may_use_volume(f.i, "db"));
        unit_finishes("active", NULL); /* it was too late to stop the start */
        ASSERT_TRUE(instance_may_use_volume(f.i, "db"));
        unit_finishes("inactive", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STOPPED);
        ASSERT_FALSE(instance_may_use_volume(f.i, "db"));

        /* The next one is without it, the old one is still there. */
        want(&f, 1, 1, running);
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        want(&f, 2, 2, "");
        ASSERT_FALSE(instance_wants_volume(f.i, "db"));
        ASSERT_TRUE(instance_may_use_volume(f.i, "db"));
        pull_finishes(NULL);
        ASSERT_TRUE(instance_may_use_volume(f.i, "db"));
        unit_finishes("inactive", NULL);
        ASSERT_FALSE(instance_may_use_volume(f.i, "db"));
        unit_finishes("active", NULL);
        close_fixture(&f);
}

static void test_restart_on_request(void **state) {
        Fixture f;

        open_fixture(&f);
        ASSERT_ERROR(instance_restart(f.i, NULL), ESTALE);
        run_first(&f);
        ASSERT_OK(instance_restart(f.i, NULL));
        settle(&f, 0);
        ASSERT_TRAIL("restart ");
        unit_finishes("active", NULL);
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_EQ(instance_restarts(f.i), 0); /* not a crash */
        close_fixture(&f);
}

static void test_removal_leaves_nothing(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        instance_terminate(f.i);
        settle(&f, 0);
        ASSERT_TRAIL("stop ");
        unit_finishes("inactive", NULL);
        ASSERT_TRAIL("net- ");
        for (int i = 0; i < 50 && !removed_instance; i++)
                (void) sd_event_run(f.host.event, 100000);
        ASSERT_TRUE(removed_instance == f.i);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_REMOVED);
        {
                _cleanup_free_ char *state_path = strjoin(f.state, "/abc"),
                                    *run_path = strjoin(f.run, "/abc");

                ASSERT_TRUE(access(state_path, F_OK) < 0 && access(run_path, F_OK) < 0);
        }
        close_fixture(&f);
}

/* kill -9: a new daemon finds the unit as it was. */
static void test_daemon_restart_adopts_what_runs(void **state) {
        uint32_t pid;
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        pid = next_pid;
        {
                Instance *old = f.i;

                ASSERT_OK(instance_new(&f.host, "abc", &f.i)); /* takes over the unit's state */
                instance_free(old);
        }
        unit_becomes("active", pid);
        want(&f, 1, 1, "");
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_EQ(instance_main_pid(f.i), pid);
        ASSERT_EQ(instance_restarts(f.i), 0);
        close_fixture(&f);
}

/* A reboot: the record is there, the unit is not. No crash, no pull. */
static void test_reboot_starts_what_there_was(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        unit_becomes("inactive", 0);
        {
                Instance *old = f.i;

                ASSERT_OK(instance_new(&f.host, "abc", &f.i));
                instance_free(old);
        }
        unit_becomes("inactive", 0);
        events[0] = '\0';
        want(&f, 1, 1, "");
        ASSERT_TRAIL("find mount:gen-1 prepare net+ start ");
        ASSERT_STREQ(events, "");
        close_fixture(&f);
}

/* Nobody has said what is wanted (no desired state could be read): hands off. */
static void test_unknown_wish_leaves_alone(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        {
                Instance *old = f.i;

                ASSERT_OK(instance_new(&f.host, "abc", &f.i));
                instance_free(old);
        }
        instance_wake(f.i);
        settle(&f, 0);
        ASSERT_TRAIL("");
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
                cmocka_unit_test(test_first_start),
                cmocka_unit_test(test_deploy_without_change_keeps_the_container),
                cmocka_unit_test(test_replacement),
                cmocka_unit_test(test_force_is_done_once),
                cmocka_unit_test(test_failed_pull_keeps_the_old_one),
                cmocka_unit_test(test_configuration_error_keeps_the_old_one),
                cmocka_unit_test(test_newer_state_interrupts_waiting),
                cmocka_unit_test(test_crash_is_told_and_revived),
                cmocka_unit_test(test_out_of_memory_names_the_limit),
                cmocka_unit_test(test_failed_start_tells_the_runtimes_reason),
                cmocka_unit_test(test_short_life_fails_the_deploy_and_is_revived),
                cmocka_unit_test(test_stop_and_start),
                cmocka_unit_test(test_a_volume_is_used_from_before_the_start_to_the_end),
                cmocka_unit_test(test_restart_on_request),
                cmocka_unit_test(test_removal_leaves_nothing),
                cmocka_unit_test(test_daemon_restart_adopts_what_runs),
                cmocka_unit_test(test_reboot_starts_what_there_was),
                cmocka_unit_test(test_unknown_wish_leaves_alone),
                cmocka_unit_test(test_root_of_a_failed_attempt_is_not_used_for_another_image),
                cmocka_unit_test(test_what_a_killed_daemon_left_is_removed),
        };

        return cmocka_run_group_tests(tests, block_children, NULL);
}
