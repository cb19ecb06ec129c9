/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "instance-record.h"
#include "job.h"
#include "test-instance-machine.h"

/* The daemon is killed before each thing that it does to the machine: each time in a process of its own, which ends there as by
 * kill -9. The disk stays as it is, and so does what systemd runs; then a new daemon comes and must end where it would have
 * ended. */
#define DIED 77

typedef enum Aftermath {
        DONE,   /* what systemd was asked for last it has done meanwhile */
        UNSENT, /* … it never heard of */
        REBOOT, /* the machine died as well: units and /run are gone */
        _AFTERMATH_MAX,
} Aftermath;

/* What outlives the daemon, but for the files. */
typedef struct World {
        bool active, operation_pending;
        bool start_asked; /* of what is wanted */
        uint32_t pid, next_pid;
        char operation[16], point[32];
} World;

static World *world;
static unsigned point, die_at; /* 0: not yet counted; never */
static bool start_asked;

static void die_here(const char *what) {
        if (die_at == 0 || ++point < die_at) {
                start_asked = start_asked || (die_at > 0 && streq(what, "start"));
                return;
        }

        (void) snprintf(world->point, sizeof(world->point), "%s", what);
        world->active = the_unit && unit_state_is_running(unit_state(the_unit));
        world->pid = the_unit ? unit_state(the_unit)->main_pid : 0;
        world->next_pid = next_pid;
        world->start_asked = start_asked;
        world->operation_pending = the_unit && unit_is_busy(the_unit);
        (void) snprintf(world->operation, sizeof(world->operation), "%s", last_operation);
        _exit(DIED);
}

int __real_instance_record_save(const char *path, const InstanceRecord *r);
int __wrap_instance_record_save(const char *path, const InstanceRecord *r);
int __wrap_instance_record_save(const char *path, const InstanceRecord *r) {
        int k;

        die_here("save");
        k = __real_instance_record_save(path, r);
        die_here("saved");
        return k;
}

int __real_job_start(sd_event *event, const char *name, job_function_t function, void *arg, job_done_t done,
                void *userdata, Job **ret);
int __wrap_job_start(sd_event *event, const char *name, job_function_t function, void *arg, job_done_t done,
                void *userdata, Job **ret);
int __wrap_job_start(sd_event *event, const char *name, job_function_t function, void *arg, job_done_t done,
                void *userdata, Job **ret) {
        int r;

        die_here(name);
        r = __real_job_start(event, name, function, arg, done, userdata, ret);
        die_here("job begun");
        return r;
}

static bool is_settled(InstanceState s) {
        return s == INSTANCE_RUNNING || s == INSTANCE_STOPPED || s == INSTANCE_FAILED;
}

/* Registry, systemd and jobs do what they were asked for, until nothing is under way any more. */
static void drive(Fixture *f) {
        for (unsigned i = 0; i < 1000; i++) {
                settle(f, 2000);
                if (removed_instance)
                        return;
                if (pull_is_pending()) {
                        die_here("pulling");
                        pull_finishes(NULL);
                } else if (the_unit && unit_is_busy(the_unit)) {
                        die_here("job of systemd");
                        unit_finishes(streq(last_operation, "stop") ? "inactive" : "active", NULL);
                } else if (is_settled(instance_state_of(f->i)))
                        return;
        }
        fail_msg("It does not come to rest.");
}

typedef struct Scenario {
        const char *name;
        void (*prepare)(Fixture *f); /* where nobody dies */
        void (*want)(Fixture *f);
        const char *digest;
        uint64_t deploy_rev;
        bool stopped, removed;
        bool keeps;      /* the container that runs */
        bool keeps_data; /* puts them aside */
} Scenario;

#define PORTS ",\"spec\":{\"image\":\"a:1\",\"ports\":[{\"node_port\":80,\"container_port\":80}]}"

static void prepare_running(Fixture *f) {
        want(f, 1, 1, "");
        drive(f);
        ASSERT_EQ(instance_state_of(f->i), INSTANCE_RUNNING);
}
static void prepare_stopped(Fixture *f) {
        prepare_running(f);
        want(f, 1, 1, ",\"desired\":\"stopped\"");
        drive(f);
}

static void want_first(Fixture *f) {
        want(f, 1, 1, PORTS);
}
static void want_image(Fixture *f) {
        image_tag[0] = '2';
        want(f, 2, 2, "");
}
static void want_force(Fixture *f) {
        want(f, 2, 1, ",\"force\":true");
}
static void want_incoming(Fixture *f) {
        want(f, 1, 1, ",\"incoming\":true" PORTS);
}
static void want_nothing_new(Fixture *f) {
        want(f, 2, 1, "");
}
static void want_stopped(Fixture *f) {
        want(f, 1, 1, ",\"desired\":\"stopped\"");
}
static void want_started(Fixture *f) {
        want(f, 1, 1, "");
}
static void want_removed(Fixture *f) {
        instance_terminate(f->i);
}

static void prepare_data(Fixture *f) {
        _cleanup_free_ char *directory = strjoin(f->state, "/abc/volumes/data"),
                            *path = strjoin(directory, "/file");

        prepare_running(f);
        ASSERT_OK(mkdir_p(directory, 0700));
        ASSERT_OK(write_file_atomic(path, "precious", 8, 0600));
}
static void want_disowned(Fixture *f) {
        instance_disown(f->i);
}

static const Scenario scenarios[] = {
        { "first start", NULL, want_first, "sha256:1", 1, false, false },
        { "newcomer", NULL, want_incoming, "sha256:1", 1, false, false },
        { "other image", prepare_running, want_image, "sha256:2", 2, false, false },
        { "forced replacement", prepare_running, want_force, "sha256:1", 2, false, false },
        { "deploy without change", prepare_running, want_nothing_new, "sha256:1", 2, .keeps = true },
        { "stop", prepare_running, want_stopped, "sha256:1", 1, true, false },
        { "start after a stop", prepare_stopped, want_started, "sha256:1", 1, false, false },
        { "removal", prepare_running, want_removed, NULL, 0, false, true },
        { "nobody names one with data", prepare_data, want_disowned, NULL, 0, .removed = true,
                        .keeps_data = true },
        { "removal of a stopped one", prepare_stopped, want_removed, NULL, 0, false, true },
};

/* With its directory, but without a daemon. */
static void leave_fixture(Fixture *f) {
        f->i = instance_free(f->i);
        f->host.event = sd_event_unref(f->host.event);
        free(f->state);
        free(f->run);
        free(f->volumes);
        free(f->uids);
}

static void reopen_fixture(Fixture *f, const char *directory) {
        Fixture fresh;

        open_fixture(&fresh); /* for a host, and everything as at the start */
        fresh.i = instance_free(fresh.i);
        ASSERT_OK(rm_rf_at(AT_FDCWD, fresh.directory));
        strncpy(fresh.directory, directory, sizeof(fresh.directory) - 1);
        free(fresh.state);
        free(fresh.run);
        free(fresh.volumes);
        fresh.host.state_directory = fresh.state = strjoin(directory, "/state");
        fresh.host.run_directory = fresh.run = strjoin(directory, "/run");
        fresh.host.volumes_directory = fresh.volumes = strjoin(directory, "/volumes");
        fresh.host.probation_usec = 10 * USEC_PER_MSEC;
        *f = fresh;
}

/* Returns whether it was killed. What it has done lies in directory. */
static bool run_and_die(const Scenario *s, unsigned at, char directory[static 32]) {
        int status;
        pid_t pid;

        *world = (World){};
        strncpy(directory, "/tmp/test-deaths.XXXXXX", 32);
        ASSERT_TRUE(mkdtemp(directory));
        pid = fork();
        ASSERT_OK(pid);
        if (pid == 0) {
                Fixture f;

                reopen_fixture(&f, directory);
                ASSERT_OK(instance_new(&f.host, "abc", &f.i));
                if (s->prepare)
                        s->prepare(&f);
                settle(&f, 20000);
                side_effect_hook = die_here;
                die_at = at;
                s->want(&f);
                drive(&f);
                _exit(EXIT_SUCCESS);
        }
        ASSERT_TRUE(waitpid(pid, &status, 0) == pid);
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != DIED && WEXITSTATUS(status) != EXIT_SUCCESS))
                fail_msg("%s: the daemon did not come to point %u.", s->name, at);
        return WEXITSTATUS(status) == DIED;
}

static unsigned count_entries(const char *path, const char *prefix) {
        _cleanup_(closedirp) DIR *d = opendir(path);
        struct dirent *de;
        unsigned n = 0;

        while (d && (de = readdir(d)))
                n += de->d_name[0] != '.' && startswith(de->d_name, prefix);
        return n;
}

static void check_files(Fixture *f, const Scenario *s) {
        _cleanup_(instance_record_done) InstanceRecord record = {};
        _cleanup_free_ char *state = strjoin(f->state, "/abc"), *run = strjoin(f->run, "/abc"),
                            *path = strjoin(state, "/state.json"), *root = NULL, *text = NULL;

        if (s->keeps_data) {
                _cleanup_free_ char *file = strjoin(f->state, "/.kept/abc/volumes/data/file"),
                                    *twice = strjoin(f->state, "/.kept/abc.2"), *kept = NULL;

                ASSERT_OK(read_file(file, 64, &kept, NULL));
                ASSERT_STREQ(kept, "precious");
                ASSERT_TRUE(access(twice, F_OK) < 0);
        }
        if (s->removed) {
                ASSERT_TRUE(access(state, F_OK) < 0 && access(run, F_OK) < 0);
                return;
        }
        ASSERT_OK(instance_record_load(path, &record));
        ASSERT_STREQ(record.image_digest, s->digest);
        ASSERT_EQ(record.deploy_rev, s->deploy_rev);
        ASSERT_EQ(record.stopped, s->stopped);
        /* Of all that were begun only the last is left. */
        ASSERT_TRUE(count_entries(run, "") <= 1);
        if (s->stopped)
                return;
        root = strprintf("%s/%" PRIu64 "/rootfs/stands-on", run, record.generation);
        ASSERT_OK(read_file(root, 64, &text, NULL));
        ASSERT_STREQ(text, s->digest);
}

static void come_back(const Scenario *s, Aftermath aftermath, const char *directory) {
        bool active = world->active;
        _cleanup_free_ char *runs = NULL;
        uint32_t pid = world->pid;
        Fixture f;

        reopen_fixture(&f, directory);
        next_pid = world->next_pid;
        if (aftermath == DONE && world->operation_pending) {
                active = !streq(world->operation, "stop");
                pid = active ? ++next_pid : 0;
        }
        if (aftermath == REBOOT) {
                active = false;
                pid = 0;
                ASSERT_OK(rm_rf_at(AT_FDCWD, f.run));
        }
        ASSERT_OK(instance_new(&f.host, "abc", &f.i));
        if (the_unit)
                unit_becomes(active ? "active" : "inactive", pid);

        trail[0] = '\0';
        s->want(&f);
        drive(&f);
        /* What is removed in passing. */
        runs = strjoin(f.run, "/abc");
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC;
                        count_entries(runs, "") > 1 && now_monotonic() < end;)
                settle(&f, 2000);

        ASSERT_EQ(instance_state_of(f.i), s->removed   ? INSTANCE_REMOVED
                                          : s->stopped ? INSTANCE_STOPPED
                                                       : INSTANCE_RUNNING);
        if (!s->removed)
                ASSERT_EQ(unit_state_is_running(unit_state(the_unit)), !s->stopped);
        if (!s->removed)
                ASSERT_EQ(instance_deploy_rev(f.i), s->deploy_rev);
        check_files(&f, s);
        /* What ran, and was the right one, runs on. */
        if (active && (world->start_asked || s->keeps) && !s->stopped && !s->removed)
                ASSERT_EQ(instance_main_pid(f.i), pid);
        ASSERT_TRUE(!strstr(events, "crash"));
        leave_fixture(&f);
}

static void test_killed_before_each_step(void **state) {
        unsigned points = 0, ended = 0;

        world = mmap(NULL, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_TRUE(world != MAP_FAILED);

        FOREACH_ARRAY(s, scenarios, ELEMENTSOF(scenarios)) {
                bool died = true;
                unsigned n;

                for (n = 1; died; n++)
                        for (Aftermath a = 0; a < _AFTERMATH_MAX && died; a++) {
                                char directory[32];

                                died = run_and_die(s, n, directory);
                                if (died) {
                                        print_message("%s, %u, before: %s\n", s->name, n, world->point);
                                        come_back(s, a, directory);
                                        ended++;
                                }
                                ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
                        }
                points += n - 2;
                ASSERT_TRUE(n - 2 >= 3);
        }

        print_message("%zu ways, %u points, killed %u times: each ended right.\n", ELEMENTSOF(scenarios),
                        points, ended);
        ASSERT_TRUE(points > 60);
        (void) munmap(world, sizeof(World));
}

static int block_children(void **state) {
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        return sigprocmask(SIG_BLOCK, &mask, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_killed_before_each_step) };

        return cmocka_run_group_tests(tests, block_children, NULL);
}
