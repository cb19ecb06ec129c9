/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-directory.h"
#include "volume-work.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"
#include "volume-quota.h"

static void write_at(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = strjoin(directory, "/", name);

        ASSERT_OK(write_file_atomic(path, text, strlen(text), 0640));
}

static void assert_content(const char *directory, const char *name, const char *expected) {
        _cleanup_free_ char *path = strjoin(directory, "/", name), *text = NULL;

        ASSERT_OK(read_file(path, 1000, &text, NULL));
        ASSERT_STREQ(text, expected);
}

static bool exists(const char *directory, const char *name) {
        _cleanup_free_ char *path = strjoin(directory, "/", name);
        struct stat st;

        return lstat(path, &st) >= 0;
}

static void make(char *directory, const char *volume) {
        _cleanup_free_ char *path = NULL;

        ASSERT_TRUE(mkdtemp(directory));
        path = strjoin(directory, "/", volume);
        ASSERT_OK(mkdir_p(path, 0751));
        ASSERT_TRUE(chmod(path, 0751) >= 0);
        write_at(path, "file", "first");
}

static int snapshot(VolumeWork *w) {
        int r = volume_work_snapshot(w);

        return r < 0 ? r : volume_work_keep_snapshot(w);
}

static int restore(VolumeWork *w) {
        int r = volume_work_begin_restore(w);

        if (r >= 0)
                r = volume_exchange_import(w->directory, w->volume);
        if (r >= 0)
                r = volume_work_sync_exchange(w);
        return r < 0 ? r : volume_work_discard_import(w);
}

static int remove_volume(VolumeWork *w) {
        int r = volume_take_away(w->directory, w->volume);

        return r < 0 ? r : volume_work_remove(w);
}

static void test_names(void **state) {
        const char *const good[] = { "a", "shop.db.data-1", "A_b", "0" }, *const bad[] = { "", ".", "..",
                ".work", "-a", "a/b", "a b", "a\n", "\xc3\xa4" };
        char long_name[VOLUME_NAME_ON_NODE_MAX + 2];

        FOREACH_ARRAY(n, good, ELEMENTSOF(good))
                ASSERT_OK(volume_name_validate(*n, NULL));
        FOREACH_ARRAY(n, bad, ELEMENTSOF(bad))
                ASSERT_ERROR(volume_name_validate(*n, NULL), EINVAL);
        memset(long_name, 'a', sizeof(long_name) - 1);
        long_name[sizeof(long_name) - 1] = '\0';
        ASSERT_ERROR(volume_name_validate(long_name, NULL), EINVAL);
        long_name[VOLUME_NAME_ON_NODE_MAX] = '\0';
        ASSERT_OK(volume_name_validate(long_name, NULL));
}

static void test_a_link_in_the_place_of_a_volume_is_refused(void **state) {
        char directory[] = "/tmp/test-volume.XXXXXX";
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *link = NULL;
        VolumeWork w;

        make(directory, "data");
        link = strjoin(directory, "/trap");
        ASSERT_TRUE(symlink("/etc", link) >= 0);
        w = (VolumeWork){ .directory = directory, .volume = "trap", .snapshot = "s" };

        ASSERT_EQ(volume_open(directory, "trap", &error), -ESTALE);
        ASSERT_EQ(error.code, K_CONFLICT);
        ASSERT_TRUE(strstr(kerror_message(&error), "trap"));
        kerror_done(&error);
        ASSERT_TRUE(volume_open(directory, "missing", &error) == -ENOENT && error.code == K_NO_SUCH_VOLUME);
        ASSERT_ERROR(snapshot(&w), ENOTDIR);
        ASSERT_FALSE(exists(directory, VOLUME_SNAPSHOTS "/trap/s"));
        /* Removing it removes the link alone. */
        ASSERT_OK(remove_volume(&w));
        ASSERT_FALSE(exists(directory, "trap"));
        ASSERT_TRUE(access("/etc/passwd", F_OK) >= 0);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_snapshot_and_restore(void **state) {
        char directory[] = "/tmp/test-volume.XXXXXX";
        _cleanup_(volume_snapshot_list_done) VolumeSnapshotList l = {};
        _cleanup_free_ char *data = NULL;
        VolumeWork w;
        struct stat st;

        make(directory, "data");
        data = strjoin(directory, "/data");
        w = (VolumeWork){ .directory = directory, .volume = "data", .snapshot = "one" };

        ASSERT_OK(snapshot(&w));
        ASSERT_ERROR(snapshot(&w), EEXIST);
        write_at(data, "file", "second");
        write_at(data, "added", "x");
        w.snapshot = "two";
        ASSERT_OK(snapshot(&w));

        ASSERT_OK(volume_list_snapshots(directory, "data", &l));
        ASSERT_EQ(l.n, 2);
        ASSERT_STREQ(l.snapshots[0].name, "one");
        ASSERT_TRUE(l.snapshots[0].size >= 4096);
        ASSERT_TRUE(l.snapshots[1].size > l.snapshots[0].size);
        ASSERT_TRUE(l.snapshots[1].created_at >= l.snapshots[0].created_at);

        w.snapshot = "one";
        ASSERT_OK(restore(&w));
        assert_content(data, "file", "first");
        ASSERT_FALSE(exists(data, "added"));
        ASSERT_TRUE(stat(data, &st) >= 0 && (st.st_mode & 07777) == 0751);
        ASSERT_FALSE(exists(directory, VOLUME_WORK "/import-data"));
        /* The snapshot is as it was: what is written now does not change it. */
        write_at(data, "file", "third");
        ASSERT_OK(restore(&w));
        assert_content(data, "file", "first");

        w.snapshot = "none";
        ASSERT_ERROR(restore(&w), ENOENT);
        assert_content(data, "file", "first");
        ASSERT_OK(volume_work_remove_snapshot(&w));
        w.snapshot = "two";
        ASSERT_OK(volume_work_remove_snapshot(&w));
        volume_snapshot_list_done(&l);
        ASSERT_OK(volume_list_snapshots(directory, "data", &l));
        ASSERT_EQ(l.n, 1);

        /* A volume that was lost comes back. */
        ASSERT_OK(rm_rf_at(AT_FDCWD, data));
        w.snapshot = "one";
        ASSERT_OK(restore(&w));
        assert_content(data, "file", "first");

        ASSERT_OK(remove_volume(&w));
        ASSERT_FALSE(exists(directory, "data"));
        ASSERT_FALSE(exists(directory, VOLUME_SNAPSHOTS "/data"));
        ASSERT_OK(remove_volume(&w));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_an_interrupted_snapshot_is_none(void **state) {
        char directory[] = "/tmp/test-volume.XXXXXX";
        _cleanup_(volume_snapshot_list_done) VolumeSnapshotList l = {};
        _cleanup_free_ char *half = NULL;
        VolumeWork w;

        make(directory, "data");
        half = strjoin(directory, "/" VOLUME_WORK "/snapshot-data/data");
        ASSERT_OK(mkdir_p(half, 0700));
        write_at(half, "half", "x");
        w = (VolumeWork){ .directory = directory, .volume = "data", .snapshot = "one" };

        ASSERT_OK(volume_list_snapshots(directory, "data", &l));
        ASSERT_EQ(l.n, 0);
        ASSERT_OK(snapshot(&w));
        ASSERT_FALSE(exists(directory, VOLUME_SNAPSHOTS "/data/one/data/half"));
        assert_content(directory, VOLUME_SNAPSHOTS "/data/one/data/file", "first");
        ASSERT_OK(mkdir_p(half, 0700));
        ASSERT_EQ(volume_work_put_aside(directory), 1);
        ASSERT_FALSE(exists(directory, VOLUME_WORK));
        ASSERT_OK(volume_work_clean(&w));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_size_of_a_tree(void **state) {
        char directory[] = "/tmp/test-volume.XXXXXX";
        _cleanup_close_ int fd = -EBADF;
        uint64_t size = 0;

        make(directory, "data");
        fd = volume_open(directory, "data", NULL);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(volume_tree_size(fd, USEC_INFINITY, &size));
        ASSERT_TRUE(size > 0 && size < 1000000);
        ASSERT_ERROR(volume_tree_size(fd, 0, &size), ETIME);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

/* Where there are project quotas they are tried in the lab; here the sentence is. */
static void test_no_quota_is_explained(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        ASSERT_ERROR(volume_quota_explain("/proc", "data", 4096, &error), EOPNOTSUPP);
        ASSERT_EQ(error.code, K_NOT_SUPPORTED);
        ASSERT_TRUE(strstr(kerror_message(&error), "'data'"));
        ASSERT_TRUE(strstr(kerror_message(&error), "project quotas"));
}

/* Who has it is not bound by quotas; containers do not have it unless it is given to them. */
static void drop_sys_resource(void) {
        struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct d[2];

        ASSERT_TRUE(syscall(SYS_capget, &h, d) >= 0);
        d[0].effective &= ~(1U << CAP_SYS_RESOURCE);
        ASSERT_TRUE(syscall(SYS_capset, &h, d) >= 0);
}

static void test_quota_holds(void **state) {
        const char *directory = getenv("KONTENA_QUOTA_DIRECTORY");
        _cleanup_close_ int parent = -EBADF, a = -EBADF, b = -EBADF, file = -EBADF;
        uint64_t used, size_max;
        char block[65536] = {};
        int r = 0;

        if (!directory) {
                print_message("$KONTENA_QUOTA_DIRECTORY is no file system with project quotas.\n");
                skip();
        }
        parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TRUE(parent >= 0);
        ASSERT_TRUE(mkdirat(parent, "a", 0755) >= 0 && mkdirat(parent, "b", 0755) >= 0);
        a = volume_directory_open(parent, "a");
        b = volume_directory_open(parent, "b");
        ASSERT_ERROR(volume_quota_get(a, &used, &size_max), ENODATA);
        ASSERT_OK(volume_quota_set(parent, a, 1 << 20));
        ASSERT_OK(volume_quota_set(parent, b, 2 << 20));
        ASSERT_OK(volume_quota_get(a, &used, &size_max));
        ASSERT_EQ(size_max, 1 << 20);
        ASSERT_OK(volume_quota_get(b, &used, &size_max));
        ASSERT_EQ(size_max, 2 << 20);

        drop_sys_resource();
        file = openat(a, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (size_t i = 0; i < 32 && r >= 0; i++)
                r = loop_write(file, block, sizeof(block));
        if (r >= 0 && fsync(file) < 0)
                r = -errno;
        ASSERT_TRUE(r == -EDQUOT || r == -ENOSPC);
        ASSERT_OK(volume_quota_get(a, &used, &size_max));
        ASSERT_TRUE(used > (1 << 20) - 131072 && used <= 1 << 20);
        ASSERT_OK(volume_quota_change(a, 4 << 20));
        ASSERT_OK(volume_quota_get(a, &used, &size_max));
        ASSERT_EQ(size_max, 4 << 20);
        ASSERT_OK(rm_rf_at(parent, "a"));
        ASSERT_OK(rm_rf_at(parent, "b"));
}

KONTENA_TESTS(cmocka_unit_test(test_names),
                cmocka_unit_test(test_a_link_in_the_place_of_a_volume_is_refused),
                cmocka_unit_test(test_snapshot_and_restore),
                cmocka_unit_test(test_an_interrupted_snapshot_is_none),
                cmocka_unit_test(test_size_of_a_tree), cmocka_unit_test(test_no_quota_is_explained),
                cmocka_unit_test(test_quota_holds))
