/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <sys/wait.h>

#include "file-util.h"
#include "instance.h"
#include "json-util.h"
#include "test-instance-machine.h"

#define PORTS  ",\"spec\":{\"image\":\"a:1\",\"ports\":[{\"node_port\":80,\"container_port\":80}]}"
#define DIGEST "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define GONE   ",\"desired\":\"terminated\""

static void test_newcomer_is_published_when_it_is_up(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, PORTS ",\"slot\":\"b\",\"incoming\":true");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ mount:gen-1 prepare check-ports start ");
        ASSERT_STREQ(instance_unit(f.i), "kontena-g01-null.web-1.b.service");
        unit_finishes("active", NULL);
        /* Nothing says that it is up but that it stays for a moment. */
        ASSERT_TRAIL("");
        ASSERT_FALSE(instance_state_of(f.i) == INSTANCE_RUNNING);
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC; trail[0] == '\0' && now_monotonic() < end;)
                settle(&f, 100 * USEC_PER_MSEC);
        ASSERT_TRAIL("ports ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        /* It is the one now: nothing is done. */
        want(&f, 1, 1, PORTS ",\"slot\":\"b\",\"incoming\":false");
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

static uint64_t told_deploy_rev(Fixture *f) {
        _cleanup_json_ json_object *o = NULL;
        uint64_t rev;

        ASSERT_OK(instance_status(f->i, &o));
        ASSERT_OK(json_get_u64(o, "deploy_rev", &rev, NULL));
        return rev;
}

/* Nothing says that it is up but that it stays: it serves at once, and is told as the deploy's outcome later. */
static void test_deploy_has_no_outcome_until_its_container_has_stayed(void **state) {
        uint64_t start;
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, "");
        pull_finishes(NULL);
        start = now_monotonic();
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_EQ(told_deploy_rev(&f), 0);
        n_changed = 0;
        for (uint64_t end = start + 120 * USEC_PER_SEC; n_changed == 0 && now_monotonic() < end;)
                settle(&f, 100 * USEC_PER_MSEC);
        ASSERT_TRUE(now_monotonic() - start >= USEC_PER_SEC);
        ASSERT_EQ(told_deploy_rev(&f), 1);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        /* Its next start shows nothing new. */
        container_dies(CLD_EXITED, 1, "exit-code");
        trail[0] = '\0';
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC; trail[0] == '\0' && now_monotonic() < end;)
                settle(&f, 100 * USEC_PER_MSEC);
        ASSERT_TRAIL("restart ");
        close_fixture(&f);
}

/* Each step begins to watch anew, and leaves no timer behind that outlives the instance. */
static void test_steps_while_it_is_watched_leave_nothing_behind(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, "");
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        for (unsigned i = 0; i < 3; i++) {
                instance_wake(f.i);
                settle(&f, 0);
        }
        ASSERT_EQ(told_deploy_rev(&f), 0);
        f.i = instance_free(f.i);
        for (uint64_t end = now_monotonic() + 3 * USEC_PER_SEC / 2; now_monotonic() < end;)
                settle(&f, 100 * USEC_PER_MSEC);
        close_fixture(&f);
}

/* However late systemd, or we, come to see its end. */
static void test_brief_one_is_never_told_as_running(void **state) {
        for (int late = 0; late < 2; late++) {
                Fixture f;

                open_fixture(&f);
                want(&f, 1, 1, "");
                pull_finishes(NULL);
                unit_finishes("active", NULL);
                if (late) {
                        main_process_is_alive = false;
                        for (uint64_t end = now_monotonic() + 3 * USEC_PER_SEC / 2; now_monotonic() < end;)
                                settle(&f, 10 * USEC_PER_MSEC);
                }
                ASSERT_EQ(told_deploy_rev(&f), 0);
                container_dies(CLD_EXITED, 3, "exit-code");
                settle(&f, 0);
                ASSERT_EQ(told_deploy_rev(&f), 1);
                ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
                ASSERT_STREQ(instance_error(f.i),
                                "The container exited with status 3 right after its start.");
                close_fixture(&f);
        }
}

static void test_drain_ends_by_itself(void **state) {
        Fixture f;

        open_fixture(&f);
        run_first(&f);
        want(&f, 1, 1, GONE ",\"drain\":1");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STOPPING);
        ASSERT_STREQ(instance_progress(f.i), "draining");
        want(&f, 1, 1, GONE ",\"drain\":1"); /* told again: not longer */
        ASSERT_TRAIL("");
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC; trail[0] == '\0' && now_monotonic() < end;)
                settle(&f, 100 * USEC_PER_MSEC);
        ASSERT_TRAIL("stop ");
        close_fixture(&f);
}

static void test_drain_is_cut_short(void **state) {
        for (int how = 0; how < 3; how++) {
                Fixture f;

                open_fixture(&f);
                run_first(&f);
                want(&f, 1, 1, GONE ",\"drain\":3600");
                ASSERT_TRAIL("");
                if (how == 0)
                        want(&f, 1, 1, GONE);
                else if (how == 1) {
                        instance_terminate(f.i);
                        settle(&f, 0);
                } else {
                        /* It has ended by itself, and is not revived. */
                        container_dies(1, 0, "success");
                        settle(&f, 0);
                }
                ASSERT_TRAIL("stop ");
                close_fixture(&f);
        }
}

static void test_digest_that_is_here_asks_nobody(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ",\"digest\":\"" DIGEST "\"");
        ASSERT_TRAIL("find mount:gen-1 prepare net+ start ");
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        n_changed = 0;
        want(&f, 2, 1, ",\"digest\":\"" DIGEST "\"");
        ASSERT_TRAIL("find net+ ");
        ASSERT_TRUE(n_changed > 0); /* the master waits to hear of it */
        ASSERT_EQ(instance_deploy_rev(f.i), 2);

        /* Back to an earlier revision: another one is another one. */
        want(&f, 3, 9, "");
        pull_finishes(NULL);
        unit_finishes("inactive", NULL);
        unit_finishes("active", NULL);
        trail[0] = '\0';
        want(&f, 4, 1, ",\"digest\":\"" DIGEST "\"");
        ASSERT_TRAIL("find mount:gen-3 prepare stop ");
        close_fixture(&f);
}

static void test_policy_missing_asks_nobody(void **state) {
        Fixture f;

        open_fixture(&f);
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"pull\":\"missing\"}");
        ASSERT_TRAIL("find mount:gen-1 prepare net+ start ");
        close_fixture(&f);
}

/* Its root is made by a child, before anything of the old one is stopped; the other runtime has nothing to do with it. */
static void test_machine_has_its_root_made(void **state) {
        Fixture f;

        open_fixture(&f);
        f.host.machines = &fake_machines;
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"runtime\":\"nspawn\"}");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ root:gen-1 prepare-machine start ");
        unit_finishes("active", NULL);
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        /* Restarted from inside, as often as it likes: no crash, and no waiting. */
        for (unsigned i = 0; i < 3; i++) {
                trail[0] = events[0] = '\0';
                container_dies(CLD_EXITED, 133, "exit-code");
                settle(&f, 200000);
                ASSERT_TRUE(strstr(events, "was restarted from inside, it is started again in 0 s"));
                ASSERT_TRAIL("restart ");
                unit_finishes("active", NULL);
        }
        close_fixture(&f);
}

static void test_root_that_cannot_be_made(void **state) {
        Fixture f;

        open_fixture(&f);
        f.host.machines = &fake_machines;
        root_error = "The file system of the images cannot map users.";
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"runtime\":\"nspawn\"}");
        pull_finishes(NULL);
        ASSERT_TRAIL("pull net+ root:gen-1 ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "The file system of the images cannot map users.");

        /* What is wanted instead does not wait for it. */
        want(&f, 2, 2, "");
        pull_finishes(NULL);
        ASSERT_TRUE(strstr(trail, "mount:gen-1 prepare "));
        ASSERT_TRUE(strstr(trail, "start "));
        close_fixture(&f);
}

/* Trap 8: nobody waits until it has booted, which it may never do. And that it was stopped is nobody's failure. */
static void test_boot_is_cut_short_by_what_is_wanted_now(void **state) {
        Fixture f;

        open_fixture(&f);
        f.host.machines = &fake_machines;
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"runtime\":\"nspawn\"}");
        pull_finishes(NULL);
        unit_becomes("activating", 7);
        trail[0] = '\0';
        /* The same once more, deployed again: it may go on. */
        want(&f, 2, 1, ",\"spec\":{\"image\":\"a:1\",\"runtime\":\"nspawn\"}");
        ASSERT_TRAIL("");
        want(&f, 3, 2, ",\"spec\":{\"image\":\"a:1\",\"runtime\":\"nspawn\",\"count\":2}");
        ASSERT_TRAIL("cancel ");
        unit_finishes("inactive", "Cannot start unit: the job's result is 'canceled'");
        ASSERT_STREQ(instance_error(f.i), "");
        pull_finishes(NULL);
        settle(&f, 0);
        if (!strstr(trail, "root:gen-2 prepare-machine "))
                fail_msg("%s", trail);

        trail[0] = '\0';
        instance_terminate(f.i);
        ASSERT_TRAIL("cancel ");
        unit_finishes("inactive", "Cannot start unit: the job's result is 'canceled'");
        ASSERT_TRAIL("net- "); /* and what is on the disk follows */
        close_fixture(&f);
}

static void test_machine_without_nspawn(void **state) {
        Fixture f;

        open_fixture(&f);
        f.host.machines_error = "systemd-nspawn is not installed.";
        want(&f, 1, 1, ",\"spec\":{\"image\":\"a:1\",\"runtime\":\"nspawn\"}");
        pull_finishes(NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "systemd-nspawn is not installed.");
        close_fixture(&f);
}

static void test_who_is_killed_after_the_grace_is_named(void **state) {
        static const struct {
                const char *result;
                bool told;
        } table[] = { { "success", false }, { "exit-code", false }, { "signal", false },
                { "timeout", true } };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                Fixture f;

                open_fixture(&f);
                run_first(&f);
                want(&f, 1, 1, ",\"desired\":\"stopped\"");
                ASSERT_TRAIL("stop ");
                the_unit->state.result = (char *) t->result;
                unit_finishes("inactive", NULL);
                ASSERT_EQ(instance_state_of(f.i), INSTANCE_STOPPED);
                ASSERT_EQ(strstr(events, "warning service:stop_instance: The container did not heed") !=
                                                NULL,
                                t->told);
                close_fixture(&f);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_who_is_killed_after_the_grace_is_named),
                cmocka_unit_test(test_machine_has_its_root_made),
                cmocka_unit_test(test_root_that_cannot_be_made),
                cmocka_unit_test(test_machine_without_nspawn),
                cmocka_unit_test(test_boot_is_cut_short_by_what_is_wanted_now),
                cmocka_unit_test(test_newcomer_is_published_when_it_is_up),
                cmocka_unit_test(test_deploy_has_no_outcome_until_its_container_has_stayed),
                cmocka_unit_test(test_steps_while_it_is_watched_leave_nothing_behind),
                cmocka_unit_test(test_brief_one_is_never_told_as_running),
                cmocka_unit_test(test_drain_ends_by_itself), cmocka_unit_test(test_drain_is_cut_short),
                cmocka_unit_test(test_digest_that_is_here_asks_nobody),
                cmocka_unit_test(test_policy_missing_asks_nobody))
