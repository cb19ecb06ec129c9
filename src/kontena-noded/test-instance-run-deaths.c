/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "instance-record.h"
#include "json-util.h"
#include "test-instance-machine.h"

/* The daemon is killed before each thing that it does for the run of a job, in a process of its own; then a new one comes. However that
 * was, the container is started once at the most, and what became of it is told. */
#define DIED 77
#define JOB  ",\"run\":\"r1\",\"spec\":{\"image\":\"a:1\",\"type\":\"job\"}"

typedef enum Aftermath {
        GOES_ON, /* systemd did what it was asked for last; what runs, runs */
        UNSENT,  /* … it never heard of */
        ENDED,   /* it did, and the container has come to its end since */
        REBOOT,  /* the machine died as well */
        _AFTERMATH_MAX,
} Aftermath;

/* What outlives the daemon, but for the files. */
typedef struct World {
        bool active, ended, pending_start, pending_stop;
        bool promised; /* the record says that it is started */
        unsigned starts;
        uint32_t pid;
        char point[32];
} World;

static World *world;
static unsigned point, die_at; /* 0: never */

static void die_here(const char *what) {
        const UnitState *s = the_unit ? unit_state(the_unit) : NULL;

        if (die_at == 0 || ++point < die_at) {
                world->starts += streq(what, "start");
                return;
        }
        (void) snprintf(world->point, sizeof(world->point), "%s", what);
        world->active = s && unit_state_is_running(s);
        world->ended = s && streq(s->active_state, "failed");
        world->pid = s ? s->main_pid : 0;
        world->pending_start = the_unit && unit_is_busy(the_unit) && streq(last_operation, "start");
        world->pending_stop = the_unit && unit_is_busy(the_unit) && streq(last_operation, "stop");
        _exit(DIED);
}

int __real_instance_record_save(const char *path, const InstanceRecord *r);
int __wrap_instance_record_save(const char *path, const InstanceRecord *r);
int __wrap_instance_record_save(const char *path, const InstanceRecord *r) {
        int k;

        die_here("save");
        k = __real_instance_record_save(path, r);
        world->promised = world->promised || r->run_started;
        die_here("saved");
        return k;
}

static void container_exits(void) {
        the_unit->state.exec_main_code = CLD_EXITED;
        the_unit->state.exec_main_status = 3;
        the_unit->state.result = (char *) "exit-code";
        unit_becomes("failed", 0);
        the_unit->changed(the_unit, the_unit->userdata);
}

static bool is_over(InstanceState s) {
        return s == INSTANCE_EXITED || s == INSTANCE_FAILED;
}

/* Registry, systemd and the container do what they do, until the run is over. */
static void drive(Fixture *f) {
        for (unsigned i = 0; i < 1000 && !is_over(instance_state_of(f->i)); i++) {
                settle(f, 2000);
                if (pull_is_pending()) {
                        die_here("pulling");
                        pull_finishes(NULL);
                } else if (the_unit && unit_is_busy(the_unit)) {
                        die_here("job of systemd");
                        unit_finishes(streq(last_operation, "stop") ? "inactive" : "active", NULL);
                } else if (instance_state_of(f->i) == INSTANCE_RUNNING) {
                        die_here("running");
                        container_exits();
                }
        }
        settle(f, 20000);
        if (!is_over(instance_state_of(f->i)))
                fail_msg("It does not come to its end.");
}

/* With a directory that another daemon has left. */
static void reopen(Fixture *f, const char *directory) {
        open_fixture(f);
        f->i = instance_free(f->i);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
        (void) snprintf(f->directory, sizeof(f->directory), "%s", directory);
        free(f->state);
        free(f->run);
        free(f->volumes);
        f->host.state_directory = f->state = strjoin(directory, "/state");
        f->host.run_directory = f->run = strjoin(directory, "/run");
        f->host.volumes_directory = f->volumes = strjoin(directory, "/volumes");
        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
}

static bool run_and_die(unsigned at, char directory[static 32]) {
        int status;
        pid_t pid;

        *world = (World){};
        (void) snprintf(directory, 32, "/tmp/test-deaths.XXXXXX");
        ASSERT_TRUE(mkdtemp(directory));
        pid = fork();
        ASSERT_OK(pid);
        if (pid == 0) {
                Fixture f;

                reopen(&f, directory);
                side_effect_hook = die_here;
                die_at = at;
                want(&f, 1, 1, JOB);
                drive(&f);
                _exit(EXIT_SUCCESS);
        }
        ASSERT_TRUE(waitpid(pid, &status, 0) == pid);
        ASSERT_TRUE(WIFEXITED(status) &&
                        (WEXITSTATUS(status) == DIED || WEXITSTATUS(status) == EXIT_SUCCESS));
        return WEXITSTATUS(status) == DIED;
}

static void come_back(Aftermath aftermath, const char *directory) {
        bool started = world->active || world->ended || world->pending_start, ended = world->ended, lost;
        _cleanup_json_ json_object *o = NULL;
        json_object *exit_status;
        Fixture f;

        if (aftermath == UNSENT && world->pending_start) {
                started = false;
                world->starts--;
        }
        if (aftermath == ENDED && started)
                ended = true;
        /* What is known of it at most: nothing, where the unit went with the machine or never was. */
        lost = world->promised && (aftermath == REBOOT || !started);

        reopen(&f, directory);
        if (aftermath == REBOOT)
                ASSERT_OK(rm_rf_at(AT_FDCWD, f.run));
        if (the_unit && started && aftermath != REBOOT) {
                if (ended) {
                        the_unit->state.exec_main_code = CLD_EXITED;
                        the_unit->state.exec_main_status = 3;
                        the_unit->state.result = (char *) "exit-code";
                        unit_becomes(world->pending_stop ? "inactive" : "failed", 0);
                } else
                        unit_becomes("active", world->pid ?: ++next_pid);
        }
        side_effect_hook = die_here; /* counts */
        want(&f, 1, 1, JOB);
        drive(&f);
        side_effect_hook = NULL;

        if (world->starts > 1)
                fail_msg("before %s: started %u times", world->point, world->starts);
        ASSERT_OK(instance_status(f.i, &o));
        exit_status = json_object_object_get(o, "exit_status");
        if (instance_state_of(f.i) == INSTANCE_EXITED)
                ASSERT_EQ(json_object_get_int64(exit_status), 3);
        else {
                if (!lost)
                        fail_msg("before %s: %s", world->point, instance_error(f.i));
                ASSERT_TRUE(startswith(instance_error(f.i), "lost: "));
                ASSERT_TRUE(!exit_status);
        }
        close_fixture(&f);
}

static void test_killed_before_each_step_of_a_run(void **state) {
        unsigned points = 0, deaths = 0;
        bool died = true;
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD); /* files are removed by a child */
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        world = mmap(NULL, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_TRUE(world != MAP_FAILED);
        for (unsigned n = 1; died; n++) {
                for (Aftermath a = 0; a < _AFTERMATH_MAX && died; a++) {
                        char directory[32];

                        died = run_and_die(n, directory);
                        if (died) {
                                come_back(a, directory);
                                deaths++;
                        }
                        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
                }
                points += died;
        }
        print_message("%u points, killed %u times: started once at the most, and its end told.\n", points,
                        deaths);
        ASSERT_TRUE(points >= 12);
        (void) munmap(world, sizeof(World));
}

KONTENA_TESTS(cmocka_unit_test(test_killed_before_each_step_of_a_run))
