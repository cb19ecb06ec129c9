/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tar-path.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

/* a: the root of a container. */
typedef struct Place {
        char path[40];
        int a;
} Place;

static int make(int fd, const char *name) {
        int r;

        assert_int_equal(mkdirat(fd, name, 0755), 0);
        r = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(r >= 0);
        return r;
}

static void place_init(Place *p) {
        *p = (Place){ .path = "/var/tmp/test-tar-path-XXXXXX" };
        assert_non_null(mkdtemp(p->path));
        p->a = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(p->a >= 0);
}

static void place_done(Place *p) {
        safe_close(p->a);
        ASSERT_OK(rm_rf_at(AT_FDCWD, p->path));
}

static void put(int dir, const char *name, const char *text, mode_t mode) {
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

        assert_true(fd >= 0);
        ASSERT_OK(loop_write(fd, text, strlen(text)));
}

static void test_nothing_of_the_kernel_is_copied(void **state) {
        _cleanup_free_ char *name = NULL, *as = NULL, *rename = NULL;
        TarRoot here = { .fd = AT_FDCWD };
        _cleanup_kerror_ KError e = KERROR_NULL;
        int fd;

        ASSERT_ERROR(tar_source_open(&here, "/proc/self", false, &fd, &name, &as, &e), EOPNOTSUPP);
        kerror_done(&e);
        ASSERT_ERROR(tar_source_open(&here, "/proc/version", false, &fd, &name, &as, &e), EOPNOTSUPP);
        kerror_done(&e);
        ASSERT_ERROR(tar_target_open(&here, "/proc/sysrq-trigger", "f", &fd, &rename, &e), EOPNOTSUPP);
        kerror_done(&e);
        ASSERT_ERROR(tar_target_open(&here, "/proc/sys/kernel", "f", &fd, &rename, &e), EOPNOTSUPP);
}

static void test_where_a_target_is(void **state) {
        static const struct {
                const char *path, *name, *rename;
                int r; /* as errno */
        } cases[] = {
                { "/d", "n", "n", 1 },
                { "/d/", "n", "n", 1 },
                { "/d", ".", NULL, 1 },
                { "/d", NULL, NULL, 1 },
                { "/d/new", "n", "new", 0 },
                { "/d/new/", "n", "new", 0 },
                { "/d/new", ".", "new", 0 },
                { "/f", "n", "f", 0 },
                { "/abs/x", "n", "x", 0 }, /* links are followed below the root */
                { "/up/d", "n", "n", 1 },  /* not above it */
                { "../../d", "n", "n", 1 },
                { "/loop", "n", NULL, -EINVAL },
                { "/d/new", NULL, NULL, -EINVAL },
                { "/none/new", "n", NULL, -EINVAL },
                { "/f/new", "n", NULL, -EINVAL },
                { "", "n", NULL, -EINVAL },
                { "/d", "..", NULL, -EINVAL },
                { "/d", "a/b", NULL, -EINVAL },
        };
        Place p;

        place_init(&p);
        safe_close(make(p.a, "d"));
        put(p.a, "f", "x", 0600);
        assert_int_equal(symlinkat("/d", p.a, "abs"), 0);
        assert_int_equal(symlinkat("../../..", p.a, "up"), 0);
        assert_int_equal(symlinkat("loop", p.a, "loop"), 0);
        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *rename = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_close_ int fd = -EBADF;
                int r;

                r = tar_target_open(&(TarRoot){ .fd = p.a }, c->path, c->name, &fd, &rename, &e);
                if (r != c->r)
                        fail_msg("'%s': %i, not %i: %s", c->path, r, c->r, kerror_message(&e));
                if (r >= 0 && !streq_ptr(rename, c->rename))
                        fail_msg("'%s': '%s', not '%s'", c->path, strnull(rename), strnull(c->rename));
        }
        place_done(&p);
}

static void test_where_a_source_is(void **state) {
        static const struct {
                const char *path;
                bool follow;
                const char *name, *as; /* NULL: refused */
        } cases[] = {
                { "/f", false, "f", "f" },
                { "f", false, "f", "f" },
                { "/d", false, ".", "d" },
                { "/d/", false, ".", "d" },
                { "/d/.", false, ".", "." },
                { "/", false, ".", "." },
                { "/l", false, "l", "l" },
                { "/l", true, "f", "l" },
                { "/dl", false, "dl", "dl" },
                { "/dl", true, ".", "dl" },
                { "/dl/", false, ".", "dl" },
                { "/chain", true, "f", "chain" },
                { "/escape", true, "f", "escape" },
                { "/dangling", false, "dangling", "dangling" },
                { "/dangling", true, NULL, NULL },
                { "/loop", true, NULL, NULL },
                { "/f/", false, NULL, NULL },
                { "/none", false, NULL, NULL },
        };
        Place p;

        place_init(&p);
        safe_close(make(p.a, "d"));
        put(p.a, "f", "x", 0600);
        assert_int_equal(symlinkat("f", p.a, "l"), 0);
        assert_int_equal(symlinkat("../../l", p.a, "chain"), 0);
        assert_int_equal(symlinkat("d", p.a, "dl"), 0);
        assert_int_equal(symlinkat("/../../f", p.a, "escape"), 0);
        assert_int_equal(symlinkat("gone", p.a, "dangling"), 0);
        assert_int_equal(symlinkat("loop", p.a, "loop"), 0);
        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *name = NULL, *as = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_close_ int fd = -EBADF;
                int r;

                r = tar_source_open(&(TarRoot){ .fd = p.a }, c->path, c->follow, &fd, &name, &as, &e);
                if ((r >= 0) != !!c->name)
                        fail_msg("'%s': %i %s", c->path, r, kerror_message(&e));
                if (r >= 0 && (!streq(name, c->name) || !streq(as, c->as)))
                        fail_msg("'%s': '%s' as '%s'", c->path, name, as);
                if (r < 0)
                        assert_true(kerror_is_set(&e));
        }
        place_done(&p);
}

static void test_volumes_that_are_not_there_are_not_copied(void **state) {
        _cleanup_close_ int hidden = -EBADF;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ char *rename = NULL;
        TarPlace place;
        TarRoot root;
        Place p;
        int fd;

        place_init(&p);
        safe_close(make(p.a, "data"));
        safe_close(make(p.a, "data/below"));
        hidden = openat(p.a, "data", O_PATH | O_CLOEXEC);
        ASSERT_OK(tar_place(hidden, &place));
        root = (TarRoot){ .fd = p.a, .hidden = &place, .n_hidden = 1 };
        ASSERT_ERROR(tar_target_open(&root, "/data/below/x", "n", &fd, &rename, &e), ESTALE);
        kerror_done(&e);
        ASSERT_ERROR(tar_target_open(&root, "/data", "n", &fd, &rename, &e), ESTALE);
        kerror_done(&e);
        ASSERT_OK(tar_target_open(&root, "/", "n", &fd, &rename, &e));
        safe_close(fd);
        place_done(&p);
}

KONTENA_TESTS(cmocka_unit_test(test_nothing_of_the_kernel_is_copied),
                cmocka_unit_test(test_where_a_target_is), cmocka_unit_test(test_where_a_source_is),
                cmocka_unit_test(test_volumes_that_are_not_there_are_not_copied))
