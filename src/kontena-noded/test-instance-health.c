/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd-store.h"
#include "file-util.h"
#include "health-http.h"
#include "instance.h"
#include "json-util.h"
#include "test-instance-machine.h"

#define HTTP                                                                                                \
        ",\"spec\":{\"image\":\"a:1\",\"health_check\":{\"protocol\":\"http\",\"port\":80,\"uri\":\"/up\"," \
        "\"timeout\":1,\"interval\":1,\"initial_delay\":0,\"retries\":1}}"
#define PATIENT                                                                                             \
        ",\"spec\":{\"image\":\"a:1\",\"health_check\":{\"protocol\":\"http\",\"port\":80,\"uri\":\"/up\"," \
        "\"timeout\":1,\"interval\":1,\"initial_delay\":3600,\"retries\":1}}"
#define NOTIFY ",\"spec\":{\"image\":\"a:1\",\"notify\":true}"
#define BOTH                                                                                                \
        ",\"spec\":{\"image\":\"a:1\",\"notify\":true,\"health_check\":{\"protocol\":\"tcp\",\"port\":80,"  \
        "\"timeout\":1,\"interval\":1,\"initial_delay\":3600}}"

/* The container's server */
struct NetCheck {
        sd_event_source *source;
        net_check_done_t done;
        void *userdata;
};
static bool is_well;
static unsigned n_asked;
static int ask_error;

NetCheck *net_check_cancel(NetCheck *c) {
        if (!c)
                return NULL;
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
        NetCheck *c = new0(NetCheck, 1);

        ASSERT_TRUE(c);
        n_asked++;
        if (ask_error < 0) {
                free(c);
                return ask_error;
        }
        c->done = done;
        c->userdata = userdata;
        ASSERT_OK(sd_event_add_defer(event, &c->source, on_answered, c));
        *ret = c;
        return 0;
}

/* systemd's store of descriptors, of one */
static int stored = -EBADF;
static char stored_name[64], dropped_name[64];

int fd_store_take(FdStore *s, const char *name) {
        if (stored < 0 || !streq(name, stored_name))
                return -ENOENT;
        return fcntl(stored, F_DUPFD_CLOEXEC, 3);
}
void fd_store_keep(FdStore *s, const char *name, int fd) {
        safe_close(stored);
        stored = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ASSERT_TRUE(stored >= 0);
        (void) snprintf(stored_name, sizeof(stored_name), "%s", name);
}
void fd_store_drop(FdStore *s, const char *name) {
        (void) snprintf(dropped_name, sizeof(dropped_name), "%s", name);
        if (streq(name, stored_name))
                stored = safe_close(stored);
}

/* The container */
static int say(Fixture *f, unsigned generation, const char *text) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        ASSERT_TRUE(fd >= 0);
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s/abc/%u/notify/notify", f->run, generation);
        return sendto(fd, text, strlen(text), 0, (struct sockaddr *) &a, sizeof(a)) < 0 ? -errno : 0;
}

static void open_health_fixture(Fixture *f) {
        open_fixture(f);
        f->host.proc_directory = "/nonexistent"; /* who is this test, after all */
        is_well = false;
        n_asked = 0;
        stored = safe_close(stored);
}

static void start(Fixture *f, const char *more) {
        want(f, 1, 1, more);
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        trail[0] = '\0';
}

static void run_until_trail(Fixture *f, const char *expected) {
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC; trail[0] == '\0' && now_monotonic() < end;)
                (void) sd_event_run(f->host.event, 100 * USEC_PER_MSEC);
        ASSERT_TRAIL(expected);
}

static void run_until_state(Fixture *f, InstanceState state) {
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC;
                        instance_state_of(f->i) != state && now_monotonic() < end;)
                (void) sd_event_run(f->host.event, 100 * USEC_PER_MSEC);
        ASSERT_STREQ(instance_state_to_string(instance_state_of(f->i)), instance_state_to_string(state));
}

static void run_until_event(Fixture *f, const char *part) {
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC;
                        !strstr(events, part) && now_monotonic() < end;)
                (void) sd_event_run(f->host.event, 100 * USEC_PER_MSEC);
        ASSERT_TRUE(strstr(events, part));
}

static void assert_health(Fixture *f, const char *expected) {
        _cleanup_json_ json_object *status = NULL;
        const char *health;

        ASSERT_OK(instance_status(f->i, &status));
        ASSERT_OK(json_get_string(status, "health", &health, NULL));
        ASSERT_STREQ(health, expected);
}

/* kill -9 and a new daemon. pid: of the container that it finds. */
static void restart_daemon(Fixture *f, uint32_t pid, const char *more) {
        Instance *old = f->i;

        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
        instance_free(old);
        unit_becomes("active", pid);
        want(f, 1, 1, more);
}

static void test_first_answer_says_that_it_is_up(void **state) {
        Fixture f;

        open_health_fixture(&f);
        start(&f, PATIENT);
        for (unsigned n = 0; n < 10; n++)
                (void) sd_event_run(f.host.event, 20 * USEC_PER_MSEC);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        ASSERT_STREQ(instance_progress(f.i),
                        "waiting to be healthy: GET http://10.81.128.5:80/up answered 503");
        assert_health(&f, "unknown");
        is_well = true;
        run_until_state(&f, INSTANCE_RUNNING);
        assert_health(&f, "healthy");
        ASSERT_STREQ(instance_error(f.i), "");
        ASSERT_TRAIL("");
        close_fixture(&f);
}

static void test_unhealthy_is_told_and_restarted(void **state) {
        Fixture f;

        open_health_fixture(&f);
        is_well = true;
        start(&f, HTTP);
        run_until_state(&f, INSTANCE_RUNNING);
        is_well = false;
        run_until_event(&f, "warning");
        ASSERT_STREQ(events, "warning service:health_check: The container is unhealthy: GET "
                             "http://10.81.128.5:80/up answered 503. It is restarted in 1 s.\n");
        assert_health(&f, "unhealthy");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_STREQ(instance_error(f.i),
                        "The container is unhealthy: GET http://10.81.128.5:80/up answered 503.");
        /* Whoever wakes it meanwhile changes nothing, nor does who tells it the same with another number. */
        instance_wake(f.i);
        settle(&f, 0);
        want(&f, 1, 1, HTTP ",\"incoming\":false");
        assert_health(&f, "unhealthy");
        ASSERT_TRUE(strstr(instance_error(f.i), "answered 503"));

        run_until_trail(&f, "restart ");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RESTARTING);
        ASSERT_EQ(instance_restarts(f.i), 1);
        assert_health(&f, "unknown");
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        ASSERT_TRUE(strstr(instance_error(f.i), "answered 503")); /* until it is well */
        is_well = true;
        run_until_state(&f, INSTANCE_RUNNING);
        ASSERT_STREQ(instance_error(f.i), "");
        assert_health(&f, "healthy");
        close_fixture(&f);
}

static void test_back_off_grows_and_recovery_takes_the_restart_back(void **state) {
        Fixture f;

        open_health_fixture(&f);
        is_well = true;
        start(&f, HTTP);
        run_until_state(&f, INSTANCE_RUNNING);
        is_well = false;
        for (unsigned n = 1; n <= 2; n++) {
                run_until_trail(&f, "restart ");
                unit_finishes("active", NULL);
                ASSERT_EQ(instance_restarts(f.i), n);
        }
        run_until_event(&f, "restarted in 4 s");
        /* It was up once: no deploy has failed. */
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        is_well = true;
        run_until_event(&f, "info service:health_check: The container is healthy again");
        ASSERT_TRAIL("");
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        assert_health(&f, "healthy");
        ASSERT_STREQ(instance_error(f.i), "");
        ASSERT_EQ(instance_restarts(f.i), 2);
        close_fixture(&f);
}

static void test_deploy_that_is_never_well_has_failed(void **state) {
        Fixture f;

        open_health_fixture(&f);
        start(&f, HTTP);
        run_until_state(&f, INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i),
                        "The container is unhealthy: GET http://10.81.128.5:80/up answered 503.");
        run_until_trail(&f, "restart ");
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        /* A daemon killed between the two does not take it for one that was up. */
        restart_daemon(&f, next_pid, HTTP);
        run_until_state(&f, INSTANCE_FAILED);
        is_well = true;
        run_until_state(&f, INSTANCE_RUNNING);
        ASSERT_STREQ(instance_error(f.i), "");
        close_fixture(&f);
}

static void test_crash_while_it_is_waited_for(void **state) {
        Fixture f;

        open_health_fixture(&f);
        start(&f, PATIENT);
        container_dies(CLD_EXITED, 7, "exit-code");
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_STREQ(instance_error(f.i), "The container exited with status 7 before it was healthy.");
        close_fixture(&f);
}

static void test_a_new_daemon_begins_anew_and_disturbs_nobody(void **state) {
        Fixture f;

        open_health_fixture(&f);
        is_well = true;
        start(&f, HTTP);
        run_until_state(&f, INSTANCE_RUNNING);
        restart_daemon(&f, next_pid, HTTP);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        assert_health(&f, "unknown");
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC; n_asked < 3 && now_monotonic() < end;)
                (void) sd_event_run(f.host.event, 100 * USEC_PER_MSEC);
        assert_health(&f, "healthy");
        ASSERT_TRAIL("");
        close_fixture(&f);
}

/* systemd has restarted it while nobody was there: what was known is not of this one. */
static void test_container_restarted_meanwhile_is_not_up(void **state) {
        Fixture f;

        open_health_fixture(&f);
        is_well = true;
        start(&f, PATIENT);
        run_until_state(&f, INSTANCE_RUNNING);
        is_well = false;
        restart_daemon(&f, next_pid + 1, PATIENT);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        ASSERT_EQ(instance_restarts(f.i), 1);
        is_well = true;
        run_until_state(&f, INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_ready_says_that_it_is_up(void **state) {
        Fixture f;

        open_health_fixture(&f);
        start(&f, NOTIFY);
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        ASSERT_STREQ(instance_progress(f.i), "waiting for READY=1");
        ASSERT_OK(say(&f, 1, "STATUS=3 of 7 loaded"));
        ASSERT_OK(say(&f, 1, "READY=0"));
        settle(&f, 0);
        ASSERT_STREQ(instance_progress(f.i), "waiting for READY=1: 3 of 7 loaded");
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        /* A restart waits for another one. */
        ASSERT_OK(instance_restart(f.i, NULL));
        settle(&f, 0);
        ASSERT_TRAIL("restart ");
        ASSERT_OK(say(&f, 1, "STOPPING=1"));
        unit_finishes("active", NULL);
        ASSERT_STREQ(instance_progress(f.i), "waiting for READY=1");
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        /* And so does a crash. */
        container_dies(CLD_EXITED, 1, "exit-code");
        settle(&f, 0);
        ASSERT_OK(say(&f, 1, "READY=1")); /* waits for the next to be seen */
        settle(&f, 0);
        ASSERT_FALSE(instance_state_of(f.i) == INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_ready_comes_before_its_start_is_seen(void **state) {
        Fixture f;

        open_health_fixture(&f);
        want(&f, 1, 1, NOTIFY);
        pull_finishes(NULL);
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        unit_finishes("active", NULL);
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_others_do_not_speak_for_it(void **state) {
        static const char mine[] = "1:cpu:/x\n0::/kontena.slice/kontena-g01.slice/"
                                   "kontena-g01-null.web-1.service\n",
                          others[] = "0::/kontena.slice/kontena-g01.slice/kontena-exec-1.service\n";
        _cleanup_free_ char *directory = NULL, *path = NULL;
        Fixture f;

        open_health_fixture(&f);
        directory = strprintf("%s/%i", f.directory, (int) getpid());
        path = strjoin(directory, "/cgroup");
        ASSERT_OK(mkdir_p(directory, 0700));
        f.host.proc_directory = f.directory;
        start(&f, NOTIFY);
        ASSERT_OK(write_file_atomic(path, others, strlen(others), 0600));
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_STARTING);
        ASSERT_OK(write_file_atomic(path, mine, strlen(mine), 0600));
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);
}

static void test_ready_survives_the_daemon(void **state) {
        Fixture f;

        /* said before, and remembered */
        open_health_fixture(&f);
        start(&f, BOTH);
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_STREQ(instance_progress(f.i),
                        "waiting to be healthy: GET http://10.81.128.5:80/up answered 503");
        restart_daemon(&f, next_pid, BOTH);
        ASSERT_TRUE(strstr(instance_progress(f.i), "to be healthy"));
        is_well = true;
        run_until_state(&f, INSTANCE_RUNNING);
        close_fixture(&f);

        /* said while nobody was there */
        open_health_fixture(&f);
        start(&f, NOTIFY);
        ASSERT_STREQ(stored_name, "notify-abc-1");
        {
                Instance *old = f.i;

                f.i = NULL;
                instance_free(old);
                ASSERT_OK(say(&f, 1, "READY=1"));
                ASSERT_OK(instance_new(&f.host, "abc", &f.i));
        }
        unit_becomes("active", next_pid);
        want(&f, 1, 1, NOTIFY);
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);

        /* not said */
        open_health_fixture(&f);
        start(&f, NOTIFY);
        restart_daemon(&f, next_pid, NOTIFY);
        settle(&f, 0);
        ASSERT_STREQ(instance_progress(f.i), "waiting for READY=1");
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        close_fixture(&f);

        /* Nobody has held the socket: it would wait for ever for what was said, perhaps. */
        open_health_fixture(&f);
        start(&f, NOTIFY);
        stored = safe_close(stored);
        restart_daemon(&f, next_pid, NOTIFY);
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);
        ASSERT_OK(say(&f, 1, "STATUS=nobody has to wait"));
        close_fixture(&f);
}

static void test_socket_goes_with_its_generation(void **state) {
        Fixture f;

        open_health_fixture(&f);
        start(&f, NOTIFY);
        ASSERT_OK(say(&f, 1, "READY=1"));
        settle(&f, 0);
        want(&f, 2, 2, NOTIFY);
        pull_finishes(NULL);
        unit_finishes("inactive", NULL);
        ASSERT_STREQ(stored_name, "notify-abc-2");
        ASSERT_STREQ(dropped_name, "notify-abc-1"); /* or systemd's store fills */
        unit_finishes("active", NULL);
        ASSERT_STREQ(instance_progress(f.i), "waiting for READY=1");
        ASSERT_TRUE(say(&f, 1, "READY=1") < 0);
        ASSERT_OK(say(&f, 2, "READY=1"));
        settle(&f, 0);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_RUNNING);

        instance_terminate(f.i);
        settle(&f, 0);
        unit_finishes("inactive", NULL);
        settle(&f, 500 * USEC_PER_MSEC);
        ASSERT_TRUE(removed_instance == f.i);
        ASSERT_TRUE(stored < 0);
        close_fixture(&f);
}

/* What cannot be understood leaves the container alone, and nobody asks after it. */
static void test_unreadable_want_ends_the_checks(void **state) {
        unsigned n;
        Fixture f;

        open_health_fixture(&f);
        is_well = true;
        start(&f, HTTP);
        run_until_state(&f, INSTANCE_RUNNING);
        is_well = false;
        want(&f, 2, 2, ",\"spec\":{\"image\":5}");
        n = n_asked;
        settle(&f, 1500 * USEC_PER_MSEC);
        ASSERT_EQ(n_asked, n);
        ASSERT_STREQ(instance_health(f.i), "unknown");
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
                cmocka_unit_test(test_first_answer_says_that_it_is_up),
                cmocka_unit_test(test_unhealthy_is_told_and_restarted),
                cmocka_unit_test(test_back_off_grows_and_recovery_takes_the_restart_back),
                cmocka_unit_test(test_deploy_that_is_never_well_has_failed),
                cmocka_unit_test(test_crash_while_it_is_waited_for),
                cmocka_unit_test(test_a_new_daemon_begins_anew_and_disturbs_nobody),
                cmocka_unit_test(test_container_restarted_meanwhile_is_not_up),
                cmocka_unit_test(test_ready_says_that_it_is_up),
                cmocka_unit_test(test_ready_comes_before_its_start_is_seen),
                cmocka_unit_test(test_others_do_not_speak_for_it),
                cmocka_unit_test(test_ready_survives_the_daemon),
                cmocka_unit_test(test_socket_goes_with_its_generation),
                cmocka_unit_test(test_unreadable_want_ends_the_checks),
        };

        return cmocka_run_group_tests(tests, block_children, NULL);
}
