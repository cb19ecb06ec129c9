/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine-root.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "rootfs.h"
#include "string-util.h"
#include "test.h"
#include "uid-range.h"

#define BASE UID_RANGE_FIRST

/* In a mount namespace of the test's own, which needs root; without it there is nothing to see here. */
static char directory[] = "/tmp/test-machine-root.XXXXXX";
static char *lower, *second, *data, *root, *outside;

static char *make(const char *name) {
        char *path = strjoin(directory, "/", name);

        ASSERT_TRUE(path);
        ASSERT_OK(mkdir_p(path, 0755));
        return path;
}

static void put(const char *parent, const char *name, const char *text) {
        _cleanup_free_ char *path = strjoin(parent, "/", name);

        ASSERT_OK(write_file_atomic(path, text, strlen(text), 0644));
}

static void link_to(const char *target, const char *name) {
        _cleanup_free_ char *path = strjoin(lower, "/", name);

        ASSERT_TRUE(symlink(target, path) >= 0);
}

static int setup(void **state) {
        if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
                        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return 0;
        ASSERT_TRUE(mkdtemp(directory));
        lower = make("lower");
        second = make("second");
        data = make("data");
        root = make("root");
        outside = make("outside");
        free(make("lower/etc"));
        free(make("lower/real"));
        put(lower, "file", "lower");
        put(second, "file", "hidden");
        put(second, "deep", "second");
        link_to("../run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf");
        link_to(outside, "away");          /* absolute: into the root, not here */
        link_to("../../../outside", "up"); /* no further than the root */
        link_to("real", "link");
        return 0;
}

static int teardown(void **state) {
        if (!root)
                return 0;
        ASSERT_OK(rootfs_unmount(root));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
        free(lower);
        free(second);
        free(data);
        free(root);
        free(outside);
        return 0;
}

/* As the daemon does it: in a child, whose users are others from then on. */
static int make_root(char **places, uint32_t base) {
        char *layers[] = { lower, second, NULL };
        Image image = { .layers = layers, .reference = (char *) "test" };
        int status;
        pid_t pid;

        pid = fork();
        if (pid == 0) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                int r;

                r = machine_root_make(&(MachineRoot){ .mapped = { .image = &image,
                                                                      .data = data,
                                                                      .target = root,
                                                                      .base = base },
                                                      .places = places },
                                &e);
                if (r < 0)
                        fprintf(stderr, "%s\n", kerror_message(&e));
                _exit(r < 0 ? MIN(-r, 255) : 0);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFEXITED(status));
        return -WEXITSTATUS(status);
}

static uid_t owner_of(const char *parent, const char *name) {
        _cleanup_free_ char *path = strjoin(parent, "/", name);
        struct stat st;

        if (lstat(path, &st) < 0)
                fail_msg("%s: %s", path, strerror(errno));
        return st.st_uid;
}

static bool exists(const char *parent, const char *name) {
        _cleanup_free_ char *path = strjoin(parent, "/", name);

        return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static void test_users_are_mapped_and_places_are_made_inside(void **state) {
        char *places[] = { (char *) "/data/deep", (char *) "/link/below", NULL };
        int r;

        if (!root)
                skip();
        r = make_root(places, BASE);
        if (r == -EINVAL || r == -EOPNOTSUPP || r == -ENOSYS || r == -EPERM)
                skip(); /* an old kernel, or a file system that cannot */
        ASSERT_OK(r);
        ASSERT_EQ(path_is_mount_point(root), 1);
        ASSERT_EQ(owner_of(root, "file"), BASE);
        ASSERT_EQ(owner_of(root, "deep"), BASE);
        ASSERT_EQ(owner_of(lower, "file"), 0);

        /* Made as the machine's root, and on the disk as root's. */
        ASSERT_EQ(owner_of(root, "data/deep"), BASE);
        ASSERT_EQ(owner_of(data, "upper/data/deep"), 0);
        ASSERT_EQ(owner_of(root, "real/below"), BASE);
        ASSERT_EQ(owner_of(root, "run"), BASE);
        ASSERT_TRUE(exists(root, "etc/hosts"));
}

/* They end at the root, where nothing is: refused, and nothing of this machine is touched. */
static void test_links_lead_nowhere_else(void **state) {
        char *absolute[] = { (char *) "/away/x", NULL }, *upwards[] = { (char *) "/up/y", NULL };

        if (!root || path_is_mount_point(root) <= 0)
                skip();
        ASSERT_ERROR(make_root(absolute, BASE), ENOENT);
        ASSERT_ERROR(make_root(upwards, BASE), ENOENT);
        ASSERT_FALSE(exists(outside, "x"));
        ASSERT_FALSE(exists(outside, "y"));
}

static void test_link_in_the_place_of_a_file_gives_way(void **state) {
        _cleanup_free_ char *path = NULL;
        struct stat st;

        if (!root || path_is_mount_point(root) <= 0)
                skip();
        path = strjoin(root, "/etc/resolv.conf");
        ASSERT_TRUE(lstat(path, &st) >= 0);
        ASSERT_TRUE(S_ISREG(st.st_mode));
        ASSERT_EQ(st.st_uid, BASE);
}

static void test_again_changes_nothing(void **state) {
        char *places[] = { (char *) "/data/deep", (char *) "/more", NULL };

        if (!root || path_is_mount_point(root) <= 0)
                skip();
        ASSERT_OK(make_root(places, BASE));
        ASSERT_EQ(owner_of(root, "more"), BASE);
        ASSERT_OK(rootfs_unmount(root));
        ASSERT_EQ(path_is_mount_point(root), 0); /* once, not twice over */

        /* With other users, the same files. */
        ASSERT_OK(make_root(places, BASE + UID_RANGE_SIZE));
        ASSERT_EQ(owner_of(root, "more"), BASE + UID_RANGE_SIZE);
        ASSERT_EQ(owner_of(data, "upper/more"), 0);
}

static void test_layers_as_they_are(void **state) {
        char *layers[] = { lower, second, NULL };
        int status;
        pid_t pid;

        if (!root)
                skip();
        pid = fork();
        if (pid == 0) {
                _cleanup_free_ char *text = NULL;
                int fd = rootfs_open_layers(layers, data);

                if (fd < 0)
                        _exit(MIN(-fd, 255));
                if (read_file_at(fd, "file", 64, &text, NULL) < 0 || !streq(text, "lower"))
                        _exit(101);
                _exit(faccessat(fd, "deep", F_OK, 0) >= 0 ? 0 : 102);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_EQ(WEXITSTATUS(status), 0);
        ASSERT_EQ(path_is_mount_point(data), 0); /* nobody else has seen it */
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(
                                                           test_users_are_mapped_and_places_are_made_inside),
        cmocka_unit_test(test_links_lead_nowhere_else),
        cmocka_unit_test(test_link_in_the_place_of_a_file_gives_way),
        cmocka_unit_test(test_again_changes_nothing), cmocka_unit_test(test_layers_as_they_are) };

int main(void) {
        return cmocka_run_group_tests(tests, setup, teardown);
}
