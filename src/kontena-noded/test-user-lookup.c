/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "user-lookup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "test.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "broken line\n"
                             "nouid:x:abc:0::/:/bin/sh\n"
                             "www:x:33:33:www:/var/www:/bin/false\n"
                             "app:x:1000:1001::/home/app:/bin/sh"; /* no newline at the end */
static const char group[] = "root:x:0:\nwww:x:33:\napp:x:1001:\nextra:x:50:www,app\nmore:x:51:xapp,"
                            "appx\nlast:x:52:app\n";

static void test_names_and_numbers(void **state) {
        static const struct {
                const char *user;
                uid_t uid;
                gid_t gid;
                size_t n_groups;
                const char *home;
        } table[] = {
                { NULL, 0, 0, 0, "/root" },
                { "", 0, 0, 0, "/root" },
                { "root", 0, 0, 0, "/root" },
                { "www", 33, 33, 1, "/var/www" },
                { "33", 33, 33, 1, "/var/www" },
                { "app", 1000, 1001, 2, "/home/app" },
                { "app:www", 1000, 33, 0, "/home/app" },
                { "app:7", 1000, 7, 0, "/home/app" },
                { "4242", 4242, 0, 0, NULL },
                { "4242:extra", 4242, 50, 0, NULL },
                { "app:", 1000, 1001, 2, "/home/app" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(user_identity_done) UserIdentity u = {};

                ASSERT_OK(user_lookup_text(passwd, group, table[i].user, &u, NULL));
                ASSERT_EQ(u.uid, table[i].uid);
                ASSERT_EQ(u.gid, table[i].gid);
                ASSERT_EQ(u.n_groups, table[i].n_groups);
                ASSERT_STREQ(u.home, table[i].home);
        }
}

static void test_unknown_names_are_errors(void **state) {
        static const char *const users[] = { "nobody", "app:nogroup", "nouid", "4294967295", ":www" };

        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                UserIdentity u;

                ASSERT_ERROR(user_lookup_text(passwd, group, users[i], &u, &e), EINVAL);
                ASSERT_TRUE(kerror_is_set(&e));
        }
}

static void test_image_without_files(void **state) {
        _cleanup_(user_identity_done) UserIdentity u = {}, v = {};

        ASSERT_OK(user_lookup_text(NULL, NULL, NULL, &u, NULL));
        ASSERT_EQ(u.uid, 0);
        ASSERT_OK(user_lookup_text(NULL, NULL, "5:6", &v, NULL));
        ASSERT_EQ(v.uid, 5);
        ASSERT_EQ(v.gid, 6);
        ASSERT_TRUE(!v.home);
}

static void write_at(int fd, const char *name, const char *text) {
        _cleanup_close_ int file = openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        ASSERT_TRUE(file >= 0);
        ASSERT_OK(loop_write(file, text, strlen(text)));
}

/* /etc/passwd of the image may be a link: it must end inside the image, not at the host's. */
static void test_links_stay_in_the_root(void **state) {
        _cleanup_(user_identity_done) UserIdentity u = {};
        char directory[] = "/tmp/test-user-lookup.XXXXXX";
        _cleanup_close_ int root = -EBADF;

        ASSERT_TRUE(mkdtemp(directory));
        root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TRUE(root >= 0);
        ASSERT_TRUE(mkdirat(root, "etc", 0755) >= 0 && mkdirat(root, "data", 0755) >= 0);
        ASSERT_TRUE(symlinkat("/data/passwd", root, "etc/passwd") >= 0);
        ASSERT_TRUE(symlinkat("../../../../../../data/group", root, "etc/group") >= 0);
        write_at(root, "data/passwd", "inside:x:7:8::/:/bin/sh\n");
        write_at(root, "data/group", "g:x:9:inside\n");

        ASSERT_OK(user_lookup(root, "inside", &u, NULL));
        ASSERT_EQ(u.uid, 7);
        ASSERT_EQ(u.n_groups, 1);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_fifo_and_giant_are_refused(void **state) {
        char directory[] = "/tmp/test-user-lookup.XXXXXX";
        _cleanup_close_ int root = -EBADF, file = -EBADF;
        UserIdentity u;

        ASSERT_TRUE(mkdtemp(directory));
        root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TRUE(mkdirat(root, "etc", 0755) >= 0);
        ASSERT_TRUE(mkfifoat(root, "etc/passwd", 0644) >= 0);
        ASSERT_ERROR(user_lookup(root, "x", &u, NULL), EBADMSG); /* and it does not hang */

        ASSERT_TRUE(unlinkat(root, "etc/passwd", 0) >= 0);
        file = openat(root, "etc/passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        ASSERT_TRUE(ftruncate(file, 2 * 1024 * 1024) >= 0);
        ASSERT_ERROR(user_lookup(root, "x", &u, NULL), EBADMSG);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

KONTENA_TESTS(cmocka_unit_test(test_names_and_numbers), cmocka_unit_test(test_unknown_names_are_errors),
                cmocka_unit_test(test_image_without_files), cmocka_unit_test(test_links_stay_in_the_root),
                cmocka_unit_test(test_fifo_and_giant_are_refused))
