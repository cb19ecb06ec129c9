/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-import.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"
#include "volume-directory.h"
#include "volume-work.h"

typedef struct Fixture {
        char directory[40];
        sd_event *event;
        VolumeClaim *list, *claim;
        int fd, result;
        unsigned calls;
} Fixture;

/* The disk that fails; jobs inherit it. */
static bool fsync_fails;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
        if (!fsync_fails)
                return __real_fsync(fd);
        errno = EIO;
        return -1;
}

static void on_done(VolumeClaim *c, int r, void *userdata) {
        Fixture *f = userdata;

        assert_ptr_equal(c, f->claim);
        f->result = r;
        f->calls++;
}

static void put(int dir, const char *name, const char *text) {
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        ASSERT_OK(loop_write(fd, text, strlen(text)));
}

static void begin(Fixture *f, bool exists) {
        sigset_t set;

        *f = (Fixture){ .directory = "/var/tmp/test-import-XXXXXX" };
        assert_non_null(mkdtemp(f->directory));
        f->fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (exists) {
                assert_int_equal(mkdirat(f->fd, "v", 0750), 0);
                assert_int_equal(fchmodat(f->fd, "v", 01770, 0), 0);
                put(f->fd, "v/old", "old");
        }
        assert_int_equal(sigemptyset(&set) | sigaddset(&set, SIGCHLD), 0);
        assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
        ASSERT_OK(sd_event_new(&f->event));
        ASSERT_OK(volume_claim_new(&f->list, "v", true, &f->claim, NULL));
        ASSERT_OK(volume_import_begin(f->claim, f->event, f->directory, "v", 0, on_done, f));
        while (f->calls == 0)
                ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC));
        ASSERT_OK(f->result);
}

static void end(Fixture *f) {
        volume_claims_free(&f->list);
        sd_event_unref(f->event);
        safe_close(f->fd);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
}

static void sync_to_disk(Fixture *f) {
        unsigned before = f->calls;

        ASSERT_OK(volume_import_sync(f->claim, on_done, f));
        while (f->calls == before)
                ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC));
        ASSERT_OK(f->result);
}

static bool there(Fixture *f, const char *path) {
        struct stat st;

        return fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW) >= 0;
}

static void test_new_content_takes_the_place_of_the_old_at_once(void **state) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        Fixture f;

        begin(&f, true);
        fd = volume_import_open(f.claim);
        assert_true(fd >= 0);
        /* It looks like the volume, and the volume is what it was. */
        assert_int_equal(fstat(fd, &st), 0);
        ASSERT_EQ(st.st_mode & 07777, 01770);
        put(fd, "new", "new");
        assert_true(there(&f, "v/old"));
        assert_false(there(&f, "v/new"));

        /* Not before it is asked for once more, and then at once. */
        sync_to_disk(&f);
        assert_true(there(&f, "v/old"));
        assert_false(there(&f, "v/new"));
        assert_int_equal(volume_import_commit(f.claim, on_done, &f), 0);
        assert_true(there(&f, "v/new"));
        assert_false(there(&f, "v/old"));
        while (f.calls == 2)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        ASSERT_OK(f.result);
        assert_true(there(&f, "v/new"));
        assert_false(there(&f, "v/old"));
        assert_false(there(&f, ".work/import-v"));
        assert_null(f.list);
        end(&f);
}

static void test_a_volume_that_was_not_there_is_made(void **state) {
        Fixture f;

        begin(&f, false);
        assert_false(there(&f, "v"));
        sync_to_disk(&f);
        assert_int_equal(volume_import_commit(f.claim, on_done, &f), 0);
        assert_true(there(&f, "v"));
        while (f.calls == 2)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        end(&f);
}

/* What another has begun to use stays. */
static void test_what_is_on_disk_can_still_be_cancelled(void **state) {
        _cleanup_close_ int fd = -EBADF;
        Fixture f;

        begin(&f, true);
        fd = volume_import_open(f.claim);
        put(fd, "new", "new");
        sync_to_disk(&f);
        volume_import_cancel(f.claim);
        while (f.list)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        ASSERT_EQ(f.calls, 2);
        assert_true(there(&f, "v/old"));
        assert_false(there(&f, "v/new"));
        assert_false(there(&f, ".work/import-v"));
        end(&f);
}

static void test_whoever_goes_while_it_waits_for_the_disk_leaves_the_old(void **state) {
        _cleanup_close_ int fd = -EBADF;
        Fixture f;

        begin(&f, true);
        fd = volume_import_open(f.claim);
        put(fd, "new", "new");
        ASSERT_OK(volume_import_sync(f.claim, on_done, &f));
        volume_import_cancel(f.claim);
        assert_non_null(f.list); /* nobody is killed */
        while (f.list)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        ASSERT_EQ(f.calls, 1);
        assert_true(there(&f, "v/old"));
        assert_false(there(&f, ".work/import-v"));
        end(&f);
}

static void test_without_a_place_nothing_is_exchanged(void **state) {
        Fixture f;

        begin(&f, true);
        sync_to_disk(&f);
        assert_int_equal(renameat(f.fd, ".work", f.fd, "away"), 0);
        assert_int_equal(volume_import_commit(f.claim, on_done, &f), -ENOENT);
        assert_true(there(&f, "v/old"));
        volume_import_cancel(f.claim);
        while (f.list)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        ASSERT_EQ(f.calls, 2);
        end(&f);
}

static void test_a_cancelled_import_leaves_the_old(void **state) {
        _cleanup_close_ int fd = -EBADF;
        Fixture f;

        begin(&f, true);
        fd = volume_import_open(f.claim);
        put(fd, "new", "new");
        volume_import_cancel(f.claim);
        /* Nobody else until all of it is gone. */
        ASSERT_ERROR(volume_claim_new(&f.list, "v", false, &f.claim, NULL), ESTALE);
        while (f.list)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        ASSERT_EQ(f.calls, 1);
        assert_true(there(&f, "v/old"));
        assert_false(there(&f, ".work/import-v"));
        end(&f);
}

/* kill -9, and a new daemon. */
static void test_a_daemon_that_is_killed_leaves_the_old(void **state) {
        _cleanup_close_ int fd = -EBADF;
        VolumeWork w;
        Fixture f;

        begin(&f, true);
        fd = volume_import_open(f.claim);
        put(fd, "new", "new");
        volume_claims_free(&f.list);
        assert_int_equal(volume_work_put_aside(f.directory), 1);
        w = (VolumeWork){ .directory = f.directory };
        ASSERT_OK(volume_work_clean(&w));
        assert_true(there(&f, "v/old"));
        assert_false(there(&f, "v/new"));
        assert_false(there(&f, ".work"));
        end(&f);
}

static int commit(VolumeWork *w) {
        int r;

        r = volume_work_sync_import(w);
        if (r >= 0)
                r = volume_exchange_import(w->directory, w->volume);
        if (r >= 0)
                r = volume_work_sync_exchange(w);
        return r < 0 ? r : volume_work_discard_import(w);
}

/* Runs all of an import in a process that is killed before its system call number n. True: it came to its end. */
static bool import_until(VolumeWork *w, unsigned n) {
        bool entering = true;
        pid_t pid;
        int status;

        pid = fork();
        if (pid == 0) {
                _cleanup_free_ char *path = volume_import_path(w->volume);
                _cleanup_close_ int parent = -EBADF, fd = -EBADF;
                int r;

                if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || raise(SIGSTOP) != 0)
                        _exit(2);
                r = volume_work_begin_import(w);
                parent = open(w->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                fd = volume_directory_open(parent, path);
                if (r < 0 || fd < 0)
                        _exit(3);
                put(fd, "new", "new");
                put(fd, "more", "more");
                _exit(commit(w) < 0 ? 4 : 0);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        for (;;) {
                if (entering && n-- == 0)
                        break;
                if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
                        break;
                assert_int_equal(waitpid(pid, &status, 0), pid);
                if (WIFEXITED(status)) {
                        assert_int_equal(WEXITSTATUS(status), 0);
                        return true;
                }
                entering = !entering;
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return false;
}

static void test_killed_before_each_system_call_it_is_old_or_new(void **state) {
        unsigned n, old = 0, new = 0;
        bool over = false;

        for (n = 0; !over; n++) {
                Fixture f = { .directory = "/var/tmp/test-import-XXXXXX" };
                VolumeWork w = { .directory = f.directory, .volume = "v" };
                bool has_old, has_new;

                assert_non_null(mkdtemp(f.directory));
                f.fd = open(f.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_int_equal(mkdirat(f.fd, "v", 0750), 0);
                put(f.fd, "v/old", "old");
                put(f.fd, "v/older", "older");

                over = import_until(&w, n);
                has_old = there(&f, "v/old");
                has_new = there(&f, "v/new");
                assert_true(has_old != has_new);
                assert_true(has_old == there(&f, "v/older") && has_new == there(&f, "v/more"));
                assert_true(has_new || !over);
                old += has_old;
                new += has_new;

                /* The next daemon clears away what is left, and begins again. */
                assert_true(volume_work_put_aside(f.directory) >= 0);
                ASSERT_OK(volume_work_clean(&w));
                ASSERT_OK(volume_work_begin_import(&w));
                ASSERT_OK(commit(&w));
                assert_false(there(&f, "v/old") || there(&f, "v/new"));
                safe_close(f.fd);
                ASSERT_OK(rm_rf_at(AT_FDCWD, f.directory));
        }
        print_message("killed at %u points: %u times the old content, %u times the new\n", n - 1, old, new);
        assert_true(old > 20 && new > 10);
}

/* Then it is not said that it was imported, and the old content is not removed: it may be there again after a power failure. */
static void test_what_the_disk_does_not_confirm_is_told(void **state) {
        _cleanup_close_ int fd = -EBADF;
        Fixture f;

        begin(&f, true);
        fd = volume_import_open(f.claim);
        put(fd, "new", "new");
        sync_to_disk(&f);
        fsync_fails = true;
        assert_int_equal(volume_import_commit(f.claim, on_done, &f), 0);
        while (f.calls == 2)
                ASSERT_OK(sd_event_run(f.event, 10 * USEC_PER_SEC));
        fsync_fails = false;
        assert_int_equal(f.result, -EIO);
        assert_null(f.list);
        assert_true(there(&f, "v/new") && there(&f, ".work/import-v/old"));
        end(&f);
}

static void test_a_snapshot_that_the_disk_does_not_confirm_is_none(void **state) {
        VolumeWork w;
        Fixture f;

        begin(&f, true);
        volume_claims_free(&f.list);
        w = (VolumeWork){ .directory = f.directory, .volume = "v", .snapshot = "s" };
        ASSERT_OK(volume_work_snapshot(&w));
        assert_false(there(&f, ".snapshots/v/s"));
        fsync_fails = true;
        assert_int_equal(volume_work_keep_snapshot(&w), -EIO);
        fsync_fails = false;
        assert_false(there(&f, ".snapshots/v/s"));
        assert_false(there(&f, ".work/snapshot-v"));

        /* Nothing is in the way of the next try. */
        ASSERT_OK(volume_work_snapshot(&w));
        ASSERT_OK(volume_work_keep_snapshot(&w));
        assert_true(there(&f, ".snapshots/v/s/data/old"));
        end(&f);
}

/* What was taken away is removed when the disk knows that it has no name. */
static void test_what_the_disk_may_still_name_is_not_removed(void **state) {
        VolumeWork w;
        Fixture f;

        begin(&f, true);
        volume_claims_free(&f.list);
        w = (VolumeWork){ .directory = f.directory, .volume = "v", .snapshot = "s" };
        ASSERT_OK(volume_take_away(f.directory, "v"));
        assert_false(there(&f, "v"));
        fsync_fails = true;
        assert_int_equal(volume_work_remove(&w), -EIO);
        assert_int_equal(volume_work_clean(&w), -EIO);
        fsync_fails = false;
        ASSERT_OK(volume_take_away(f.directory, "v"));
        ASSERT_OK(volume_work_remove(&w));
        end(&f);
}

static void test_who_is_beside_whom(void **state) {
        VolumeClaim *list = NULL, *a, *b, *c;
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(volume_claim_new(&list, "v", false, &a, NULL));
        ASSERT_OK(volume_claim_new(&list, "v", false, &b, NULL));
        ASSERT_ERROR(volume_claim_new(&list, "v", true, &c, &e), ESTALE);
        assert_true(kerror_is_set(&e));
        ASSERT_OK(volume_claim_new(&list, "w", true, &c, NULL));
        assert_null(volume_claim_find(list, "v", true));
        assert_non_null(volume_claim_find(list, "v", false));
        volume_claim_free(a);
        volume_claim_free(b);
        ASSERT_OK(volume_claim_new(&list, "v", true, &a, NULL));
        ASSERT_ERROR(volume_claim_new(&list, "v", false, &b, NULL), ESTALE);
        volume_claims_free(&list);
}

KONTENA_TESTS(cmocka_unit_test(test_new_content_takes_the_place_of_the_old_at_once),
                cmocka_unit_test(test_a_volume_that_was_not_there_is_made),
                cmocka_unit_test(test_what_is_on_disk_can_still_be_cancelled),
                cmocka_unit_test(test_whoever_goes_while_it_waits_for_the_disk_leaves_the_old),
                cmocka_unit_test(test_without_a_place_nothing_is_exchanged),
                cmocka_unit_test(test_a_cancelled_import_leaves_the_old),
                cmocka_unit_test(test_a_daemon_that_is_killed_leaves_the_old),
                cmocka_unit_test(test_killed_before_each_system_call_it_is_old_or_new),
                cmocka_unit_test(test_what_the_disk_does_not_confirm_is_told),
                cmocka_unit_test(test_a_snapshot_that_the_disk_does_not_confirm_is_none),
                cmocka_unit_test(test_what_the_disk_may_still_name_is_not_removed),
                cmocka_unit_test(test_who_is_beside_whom))
