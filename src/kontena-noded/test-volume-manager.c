/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-manager.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

typedef struct Fixture {
        char directory[32];
        sd_event *event;
        VolumeManager *manager;
        bool wanted, connected;
        const char *user;  /* unit that has it mounted */
        json_object *told; /* last word about each */
        json_object *result;
        KError error;
        unsigned answers;
} Fixture;

static int users(const char *volume, VolumeUsers *ret, void *userdata) {
        Fixture *f = userdata;

        *ret = (VolumeUsers){ .wanted = f->wanted };
        return f->user ? strv_extend(&ret->units, f->user) : 0;
}

static int tell(json_object *volumes, void *userdata) {
        Fixture *f = userdata;

        if (f->connected) {
                json_object_object_foreach(volumes, name, value)
                        json_object_object_add(f->told, name, json_object_get(value));
        }
        json_object_put(volumes);
        return f->connected ? 0 : -ENOTCONN;
}

static void answer(uint64_t request, json_object *result, const KError *error, void *userdata) {
        Fixture *f = userdata;

        ASSERT_EQ(request, 7);
        json_object_put(f->result);
        f->result = result;
        kerror_done(&f->error);
        if (kerror_is_set(error))
                (void) kerror_set(&f->error, error->code, "%s", kerror_message(error));
        f->answers++;
}

static void begin(Fixture *f) {
        ASSERT_OK(volume_manager_new(f->event, NULL,
                        &(VolumeManagerConfig){ .directory = f->directory,
                                        .run_directory = f->directory,
                                        .users = users,
                                        .tell = tell,
                                        .answer = answer,
                                        .userdata = f },
                        &f->manager));
}

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);
        sigset_t set;

        ASSERT_TRUE(f);
        memcpy(f->directory, "/tmp/test-volumes.XXXXXX", sizeof("/tmp/test-volumes.XXXXXX"));
        ASSERT_TRUE(mkdtemp(f->directory));
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        ASSERT_OK(sd_event_new(&f->event));
        f->told = json_object_new_object();
        f->connected = true;
        begin(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        volume_manager_free(f->manager);
        sd_event_unref(f->event);
        json_object_put(f->told);
        json_object_put(f->result);
        kerror_done(&f->error);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
        free(f);
        return 0;
}

static void want(Fixture *f, const char *text) {
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        ASSERT_OK(volume_manager_set(f->manager, o));
}

static const char *told_state(Fixture *f, const char *volume) {
        json_object *o = NULL;
        const char *s = NULL;

        if (json_object_object_get_ex(f->told, volume, &o))
                (void) json_find_string(o, "state", &s, NULL);
        return strempty(s);
}

static void run_until_told(Fixture *f, const char *volume, const char *expected) {
        uint64_t until = now_monotonic() + 120 * USEC_PER_SEC;

        while (!streq(told_state(f, volume), expected)) {
                ASSERT_TRUE(now_monotonic() < until);
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        }
}

static void run_until_answered(Fixture *f, unsigned n) {
        uint64_t until = now_monotonic() + 120 * USEC_PER_SEC;

        while (f->answers < n) {
                ASSERT_TRUE(now_monotonic() < until);
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        }
}

static void make(Fixture *f, const char *name) {
        _cleanup_free_ char *path = strjoin(f->directory, "/", name), *file = strjoin(path, "/file");

        ASSERT_OK(mkdir_p(path, 0755));
        ASSERT_OK(write_file_atomic(file, "x", 1, 0644));
}

static bool exists(Fixture *f, const char *name) {
        _cleanup_free_ char *path = strjoin(f->directory, "/", name);
        struct stat st;

        return lstat(path, &st) >= 0;
}

static void test_only_what_is_named_removed_goes(void **state) {
        Fixture *f = *state;

        make(f, "a");
        make(f, "b");
        make(f, "other");
        want(f, "{\"a\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"present\"},"
                "\"b\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"present\"}}");
        run_until_told(f, "a", "present");

        /* Somebody still runs with it. */
        f->wanted = true;
        want(f, "{\"b\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"removed\"}}");
        for (unsigned i = 0; i < 5; i++)
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        ASSERT_TRUE(exists(f, "b/file"));
        f->wanted = false;
        volume_manager_wake(f->manager);
        run_until_told(f, "b", "removed");
        ASSERT_FALSE(exists(f, "b"));
        ASSERT_TRUE(exists(f, "a/file"));
        ASSERT_TRUE(exists(f, "other/file"));

        /* The next daemon is told the same, and there is nothing to do. */
        f->manager = volume_manager_free(f->manager);
        json_object_object_del(f->told, "b");
        begin(f);
        want(f, "{\"b\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"removed\"}}");
        run_until_told(f, "b", "removed");
}

static void test_a_link_is_an_error(void **state) {
        _cleanup_json_ json_object *all = NULL;
        Fixture *f = *state;
        _cleanup_free_ char *path = strjoin(f->directory, "/a");

        ASSERT_TRUE(symlink("/etc", path) >= 0);
        f->connected = false;
        want(f, "{\"a\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"present\"}}");
        for (unsigned i = 0; i < 5; i++)
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        ASSERT_STREQ(told_state(f, "a"), "");
        ASSERT_OK(volume_manager_status(f->manager, &all));
        ASSERT_TRUE(json_object_object_get_ex(all, "a", NULL));
        f->connected = true;
        volume_manager_connected(f->manager);
        run_until_told(f, "a", "error");
}

static void snapshot(Fixture *f, const char *action, const char *name) {
        _cleanup_json_ json_object *o = json_object_new_object();

        ASSERT_OK(json_add_string(o, "volume", "a"));
        ASSERT_OK(json_add_string(o, "action", action));
        ASSERT_OK(json_add_string(o, "snapshot", name));
        volume_manager_snapshot(f->manager, 7, o);
}

static void test_snapshots_are_answered(void **state) {
        Fixture *f = *state;

        make(f, "a");
        want(f, "{\"a\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"present\"}}");
        snapshot(f, "create", "one");
        /* The same volume has one at a time. */
        snapshot(f, "create", "two");
        ASSERT_EQ(f->answers, 1);
        ASSERT_EQ(f->error.code, K_CONFLICT);
        run_until_answered(f, 2);
        ASSERT_FALSE(kerror_is_set(&f->error));
        ASSERT_TRUE(strstr(json_text(f->result), "\"one\""));
        snapshot(f, "create", "one");
        run_until_answered(f, 3);
        ASSERT_EQ(f->error.code, K_ALREADY_EXISTS);

        f->wanted = true;
        snapshot(f, "restore", "one");
        ASSERT_EQ(f->answers, 4);
        ASSERT_EQ(f->error.code, K_IN_USE);
        f->wanted = false;
        snapshot(f, "restore", "one");
        run_until_answered(f, 5);
        ASSERT_FALSE(kerror_is_set(&f->error));
        snapshot(f, "restore", "none");
        run_until_answered(f, 6);
        ASSERT_EQ(f->error.code, K_NO_SUCH_VOLUME);
        snapshot(f, "explode", "one");
        ASSERT_EQ(f->answers, 7);
        ASSERT_EQ(f->error.code, K_NOT_SUPPORTED);
        snapshot(f, "create", "../etc");
        ASSERT_EQ(f->error.code, K_INVALID_ARGUMENT);
        snapshot(f, "remove", "one");
        run_until_answered(f, 9);
        ASSERT_FALSE(strstr(json_text(f->result), "\"one\""));

        /* Nobody waits any more: nobody is answered. */
        snapshot(f, "create", "late");
        volume_manager_disconnected(f->manager);
        while (!exists(f, ".snapshots/a/late"))
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        ASSERT_EQ(f->answers, 9);
}

/* Whoever begins to use the volume while the snapshot is copied keeps what is there. */
static void test_a_start_while_a_snapshot_is_restored_loses_nothing(void **state) {
        Fixture *f = *state;

        make(f, "a");
        want(f, "{\"a\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"present\"}}");
        snapshot(f, "create", "one");
        run_until_answered(f, 1);
        make(f, "a/later");

        snapshot(f, "restore", "one");
        ASSERT_EQ(f->answers, 1);
        f->wanted = true;
        run_until_answered(f, 2);
        ASSERT_EQ(f->error.code, K_IN_USE);
        ASSERT_TRUE(exists(f, "a/later/file"));
        while (exists(f, ".work/import-a"))
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        f->wanted = false;

        /* It is to be removed. */
        snapshot(f, "restore", "one");
        want(f, "{\"a\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"removed\"}}");
        run_until_answered(f, 3);
        ASSERT_EQ(f->error.code, K_CONFLICT);
}

/* Whoever begins to use it while it is copied has not stood still. */
static void test_a_start_while_a_snapshot_is_made_makes_it_none(void **state) {
        Fixture *f = *state;

        make(f, "a");
        f->user = "before.service";
        snapshot(f, "create", "one");
        f->user = "new.service";
        run_until_answered(f, 1);
        ASSERT_EQ(f->error.code, K_CONFLICT);
        ASSERT_TRUE(strstr(kerror_message(&f->error), "new.service"));
        ASSERT_FALSE(exists(f, ".snapshots/a/one"));
        ASSERT_FALSE(exists(f, ".work/snapshot-a"));

        snapshot(f, "create", "one");
        run_until_answered(f, 2);
        ASSERT_FALSE(kerror_is_set(&f->error));
        ASSERT_TRUE(exists(f, ".snapshots/a/one/data/file"));
}

/* A volume of the same name that is made while the old one is removed is not removed with it. */
static void test_who_starts_while_it_is_removed_has_a_new_one(void **state) {
        Fixture *f = *state;

        make(f, "a");
        for (unsigned i = 0; i < 100; i++) {
                _cleanup_free_ char *name = strprintf("a/many-%u", i);

                make(f, name);
        }
        want(f, "{\"a\":{\"driver\":\"local\",\"size_max\":0,\"state\":\"removed\"}}");
        /* The old one is out of the way in the turn in which nobody uses it. */
        while (exists(f, "a"))
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        ASSERT_STREQ(told_state(f, "a"), "");
        make(f, "a/new");
        run_until_told(f, "a", "removed");
        ASSERT_TRUE(exists(f, "a/new/file"));
        ASSERT_FALSE(exists(f, "a/file"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
KONTENA_TESTS(TEST(test_only_what_is_named_removed_goes), TEST(test_a_link_is_an_error),
                TEST(test_snapshots_are_answered),
                TEST(test_a_start_while_a_snapshot_is_restored_loses_nothing),
                TEST(test_a_start_while_a_snapshot_is_made_makes_it_none),
                TEST(test_who_starts_while_it_is_removed_has_a_new_one))
