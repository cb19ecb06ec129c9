/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "rootfs.h"
#include "test.h"

/* The state machine, with the machine around it played by this file: systemd, the registry, the network and the mounts. What it asks
 * for is written down in order; the test decides how it ends. */

static char trail[4096];
static char image_tag[2] = "1";
static Instance *removed_instance;

static void note(const char *format, ...) _printf_(1, 2);
static void note(const char *format, ...) {
        size_t n = strlen(trail);
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(trail + n, sizeof(trail) - n, format, ap);
        va_end(ap);
        n = strlen(trail);
        (void) snprintf(trail + n, sizeof(trail) - n, " ");
}

/* systemd: one unit */
struct Unit {
        char *name;
        UnitState state;
        unit_changed_t changed;
        unit_done_t done;
        void *userdata;
};
static Unit *the_unit;
static uint32_t next_pid;

int unit_new(UnitManager *m, const char *name, unit_changed_t changed, void *userdata, Unit **ret) {
        Unit *u = new0(Unit, 1);

        u->name = strdup(name);
        u->changed = changed;
        u->userdata = userdata;
        u->state = (UnitState){
                .known = true, .active_state = (char *) "inactive", .sub_state = (char *) "dead"
        };
        if (the_unit)
                u->state = the_unit->state;
        the_unit = u;
        *ret = u;
        return 0;
}

Unit *unit_free(Unit *u) {
        if (!u)
                return NULL;
        if (the_unit == u)
                the_unit = NULL;
        free(u->name);
        free(u);
        return NULL;
}

const char *unit_name(const Unit *u) {
        return u->name;
}
const UnitState *unit_state(const Unit *u) {
        return &u->state;
}
bool unit_is_busy(const Unit *u) {
        return u->done;
}
bool unit_state_is_running(const UnitState *s) {
        return s->main_pid > 0 && streq(s->active_state, "active");
}
bool unit_state_is_gone(const UnitState *s) {
        return streq(s->active_state, "inactive");
}
bool unit_state_is_waiting(const UnitState *s) {
        return streq(s->active_state, "activating");
}

int unit_start(Unit *u, const UnitSetup *setup, uint64_t timeout_usec, unit_done_t done) {
        note("start");
        ASSERT_TRUE(!u->done);
        u->done = done;
        return 0;
}
int unit_restart(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        note("restart");
        ASSERT_TRUE(!u->done);
        u->done = done;
        return 0;
}
int unit_stop(Unit *u, uint64_t timeout_usec, unit_done_t done) {
        note("stop");
        ASSERT_TRUE(!u->done);
        u->done = done;
        return 0;
}

static void unit_becomes(const char *active_state, uint32_t pid) {
        the_unit->state.active_state = (char *) active_state;
        the_unit->state.main_pid = pid;
}

static sd_event *the_event;

static void loop_until_idle(void) {
        while (sd_event_run(the_event, 0) > 0)
                ;
}

static void unit_finishes(const char *active_state, const char *failure) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Unit *u = the_unit;
        unit_done_t done = u->done;

        ASSERT_TRUE(done);
        u->done = NULL;
        unit_becomes(active_state, streq(active_state, "active") ? ++next_pid : 0);
        if (failure)
                (void) kerror_set(&e, K_RUNTIME, "%s", failure);
        done(u, failure ? &e : NULL, u->userdata);
        loop_until_idle();
}

static void container_dies(int code, int status, const char *result) {
        the_unit->state.exec_main_code = code;
        the_unit->state.exec_main_status = status;
        the_unit->state.result = (char *) result;
        unit_becomes("activating", 0);
        the_unit->changed(the_unit, the_unit->userdata);
}

/* The registry */
static struct {
        pull_done_t done;
        void *userdata;
} the_pull;

int pull_image(PullManager *m, const char *reference, const char *revision,
                const RegistryCredentials *credentials, pull_progress_t progress, pull_done_t done,
                void *userdata, Pull **ret, KError *reterr) {
        note("pull");
        the_pull.done = done;
        the_pull.userdata = userdata;
        *ret = (Pull *) &the_pull;
        return 0;
}
Pull *pull_cancel(Pull *p) {
        if (p) {
                note("cancel-pull");
                the_pull.done = NULL;
        }
        return NULL;
}
static Image *new_image(void) {
        Image *i = new0(Image, 1);

        i->n_ref = 1;
        i->digest = strjoin("sha256:", image_tag);
        i->reference = strdup("a:1");
        return i;
}
Image *image_ref(Image *i) {
        i->n_ref++;
        return i;
}
Image *image_unref(Image *i) {
        if (!i || --i->n_ref > 0)
                return NULL;
        free(i->digest);
        free(i->reference);
        free(i);
        return NULL;
}
int image_store_find(ImageStore *s, const char *reference, Image **ret) {
        note("find");
        *ret = new_image();
        return 1;
}
/* Network, mounts, runtime */
const char *network_resolver_address(Network *n) {
        return "10.81.0.1";
}
static struct FakeCall {
        sd_event_source *source;
        network_done_t done;
        void *userdata;
} the_call;

static void pull_finishes(const char *failure) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        pull_done_t done = the_pull.done;
        Image *i;

        ASSERT_TRUE(done);
        the_pull.done = NULL;
        if (failure) {
                (void) kerror_set(&e, K_IMAGE, "%s", failure);
                done((Pull *) &the_pull, -EBADMSG, NULL, &e, the_pull.userdata);
                loop_until_idle();
                return;
        }
        i = new_image();
        done((Pull *) &the_pull, 0, i, NULL, the_pull.userdata);
        image_unref(i);
        loop_until_idle();
}

static int on_call(sd_event_source *s, void *userdata) {
        note("net+");
        the_call.source = sd_event_source_disable_unref(the_call.source);
        the_call.done(0, NULL, the_call.userdata);
        return 0;
}

int network_instance_add_start(Network *n, const char *id, const char *address, network_done_t done,
                void *userdata, NetworkCall **ret, KError *reterr) {
        ASSERT_TRUE(!the_call.source);
        the_call.done = done;
        the_call.userdata = userdata;
        ASSERT_OK(sd_event_add_defer(the_event, &the_call.source, on_call, NULL));
        *ret = (NetworkCall *) &the_call;
        return 0;
}
NetworkCall *network_call_cancel(NetworkCall *c) {
        if (c)
                the_call.source = sd_event_source_disable_unref(the_call.source);
        return NULL;
}
int network_instance_remove(Network *n, const char *id, KError *reterr) {
        note("net-");
        return 0;
}
int network_ports_set(Network *n, const char *id, const char *address, const NetworkPort *ports,
                size_t n_ports, KError *reterr) {
        if (n_ports > 0)
                note("ports");
        return 0;
}
int network_ports_check(Network *n, const NetworkPort *ports, size_t n_ports, KError *reterr) {
        note("check-ports");
        return 0;
}
int rootfs_mount(const Image *image, const char *data, const char *target, KError *reterr) {
        const char *last = strrchr(data, '/');
        _cleanup_free_ char *path = strjoin(target, "/stands-on");

        note("mount:%s", last + 1);
        ASSERT_OK(mkdir_p(target, 0755));
        /* What is mounted already is left as it is, as by the real one. */
        return access(path, F_OK) >= 0 ? 0
                                       : write_file_atomic(path, image->digest, strlen(image->digest), 0644);
}
int rootfs_unmount(const char *target) {
        _cleanup_free_ char *path = strjoin(target, "/stands-on");

        return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}
int path_is_mount_point(const char *path) {
        return 0;
}

static const char *prepare_error;
static int prepare(Runtime *rt, const RuntimeContainer *c, KError *reterr) {
        if (prepare_error)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s", prepare_error);
        note("prepare");
        return 0;
}
static int setup(Runtime *rt, const RuntimeContainer *c, UnitSetup *s, KError *reterr) {
        return 0;
}
static const char *failure_text;
static char *failure(Runtime *rt, const char *directory) {
        return failure_text ? strdup(failure_text) : NULL;
}
static const RuntimeOps ops = { "fake", prepare, setup, failure };
static Runtime runtime = { .ops = &ops, .name = (char *) "fake" };

static char events[1024];
static void on_changed(Instance *i, void *userdata) {
}
static void on_event(Instance *i, const InstanceEvent *e, void *userdata) {
        size_t n = strlen(events);

        (void) snprintf(events + n, sizeof(events) - n, "%s %s: %s\n", e->severity, e->type, e->message);
}
static void on_removed(Instance *i, void *userdata) {
        removed_instance = i;
}

typedef struct Fixture {
        char directory[32];
        char *state, *run, *volumes;
        InstanceHost host;
        Instance *i;
} Fixture;

static void open_fixture(Fixture *f) {
        *f = (Fixture){};
        strncpy(f->directory, "/tmp/test-instance.XXXXXX", sizeof(f->directory));
        ASSERT_TRUE(mkdtemp(f->directory));
        f->state = strjoin(f->directory, "/state");
        f->run = strjoin(f->directory, "/run");
        f->volumes = strjoin(f->directory, "/volumes");
        f->host = (InstanceHost){ .runtime = &runtime,
                .node_name = "n",
                .state_directory = f->state,
                .run_directory = f->run,
                .volumes_directory = f->volumes,
                .changed = on_changed,
                .event_happened = on_event,
                .removed = on_removed };
        ASSERT_OK(sd_event_new(&f->host.event));
        the_event = f->host.event;
        the_call.source = NULL;
        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
        trail[0] = '\0';
        image_tag[0] = '1';
        prepare_error = failure_text = NULL;
        removed_instance = NULL;
        events[0] = '\0';
        the_pull.done = NULL;
}

static void close_fixture(Fixture *f) {
        instance_free(f->i);
        sd_event_unref(f->host.event);
        free(f->state);
        free(f->run);
        free(f->volumes);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
}

/* Lets the loop do what it can do now. */
static void settle(Fixture *f, uint64_t usec) {
        while (sd_event_run(f->host.event, usec) > 0)
                ;
}

#define ASSERT_TRAIL(expected)                                                                              \
        do {                                                                                                \
                ASSERT_STREQ(trail, expected);                                                              \
                trail[0] = '\0';                                                                            \
        } while (false)

static void want(Fixture *f, unsigned deploy_rev, unsigned service_rev, const char *more) {
        _cleanup_free_ char *text = strprintf("{\"number\":1,\"grid\":\"g01\",\"stack\":\"null\","
                                              "\"service\":\"web\",\"service_id\":\"i\","
                                              "\"desired\":\"running\",\"deploy_rev\":%u,\"service_rev\":%u,"
                                              "\"address\":\"10.81.128.5\","
                                              "\"spec\":{\"image\":\"a:1\"}%s}",
                        deploy_rev, service_rev, more);
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        ASSERT_OK(instance_set_want(f->i, o));
        settle(f, 0);
}

static void run_first(Fixture *f) {
        want(f, 1, 1, "");
        pull_finishes(NULL);
        unit_finishes("active", NULL);
        settle(f, 0);
        ASSERT_EQ(instance_state_of(f->i), INSTANCE_RUNNING);
        trail[0] = '\0';
}

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
