/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static int make_directory(void **state) {
        char *path = strdup("/tmp/kontena-test-XXXXXX");

        *state = mkdtemp(path);
        return *state ? 0 : -1;
}

static int remove_directory(void **state) {
        int r = rm_rf_at(AT_FDCWD, *state);

        free(*state);
        return r;
}

static void test_atomic_write_replaces_whole(void **state) {
        _cleanup_free_ char *path = strjoin(*state, "/f"), *text = NULL;
        struct stat st;
        size_t n;

        ASSERT_OK(write_file_atomic(path, "long content", 12, 0600));
        ASSERT_OK(write_file_atomic(path, "new", 3, 0640));
        ASSERT_OK(read_file(path, 100, &text, &n));
        ASSERT_STREQ(text, "new");
        ASSERT_EQ(n, 3);
        ASSERT_OK(stat(path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0640);
}

static void test_atomic_write_fails_without_a_trace(void **state) {
        _cleanup_free_ char *path = strjoin(*state, "/missing/f");

        ASSERT_ERROR(write_file_atomic(path, "x", 1, 0600), ENOENT);
}

static void test_read_refuses_above_the_limit(void **state) {
        _cleanup_free_ char *path = strjoin(*state, "/f"), *text = NULL;

        ASSERT_OK(write_file_atomic(path, "0123456789", 10, 0600));
        ASSERT_ERROR(read_file(path, 9, &text, NULL), EFBIG);
        assert_null(text);
        ASSERT_OK(read_file(path, 10, &text, NULL));
}

static void test_removal_does_not_follow_links(void **state) {
        _cleanup_free_ char *keep = strjoin(*state, "/keep"), *tree = strjoin(*state, "/tree/a/b"),
                            *link = strjoin(*state, "/tree/a/link");
        _cleanup_close_ int fd = -EBADF;

        ASSERT_OK(mkdir_p(keep, 0755));
        ASSERT_OK(mkdir_p(tree, 0755));
        ASSERT_OK(symlink(keep, link));

        fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_OK(fd);
        ASSERT_OK(rm_rf_at(fd, "tree"));
        ASSERT_OK(rm_rf_at(fd, "tree")); /* nothing there is fine */
        ASSERT_EQ(faccessat(fd, "tree", F_OK, 0), -1);
        ASSERT_OK(faccessat(fd, "keep", F_OK, 0));
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(
                              test_atomic_write_replaces_whole, make_directory, remove_directory),
                cmocka_unit_test_setup_teardown(
                                test_atomic_write_fails_without_a_trace, make_directory, remove_directory),
                cmocka_unit_test_setup_teardown(
                                test_read_refuses_above_the_limit, make_directory, remove_directory),
                cmocka_unit_test_setup_teardown(
                                test_removal_does_not_follow_links, make_directory, remove_directory))
