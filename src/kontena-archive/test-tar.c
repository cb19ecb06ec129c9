/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "tar.h"
#include "test.h"

/* a: what is packed; b: where it is unpacked; outside: nothing may come here. */
typedef struct Place {
        char path[32];
        int fd, a, b, archive;
} Place;

static int make(int fd, const char *name) {
        int r;

        assert_int_equal(mkdirat(fd, name, 0755), 0);
        r = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(r >= 0);
        return r;
}

static void place_init(Place *p) {
        strncpy(p->path, "/var/tmp/test-tar-XXXXXX", sizeof(p->path));
        assert_non_null(mkdtemp(p->path));
        p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        p->a = make(p->fd, "a");
        p->b = make(p->fd, "b");
        safe_close(make(p->fd, "outside"));
        p->archive = memfd_create("archive", MFD_CLOEXEC);
        assert_true(p->archive >= 0);
}

static void place_done(Place *p) {
        safe_close(p->a);
        safe_close(p->b);
        safe_close(p->archive);
        safe_close(p->fd);
        ASSERT_OK(rm_rf_at(AT_FDCWD, p->path));
}

static void put(int dir, const char *name, const char *text, mode_t mode) {
        _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        ASSERT_OK(loop_write(fd, text, strlen(text)));
        assert_int_equal(fchmod(fd, mode), 0);
}

static void assert_content(int dir, const char *name, const char *text) {
        _cleanup_free_ char *s = NULL;

        ASSERT_OK(read_file_at(dir, name, 1024 * 1024, &s, NULL));
        ASSERT_STREQ(s, text);
}

static void assert_missing(int dir, const char *name) {
        struct stat st;

        assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), -1);
        assert_int_equal(errno, ENOENT);
}

static unsigned count(int dir) {
        _cleanup_(closedirp) DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        return n - 2;
}

static const TarOptions all = {
        .owner = TAR_OWNER_KEEP, .devices = true, .private = true, .root_too = true
};
static const TarOptions self = { .owner = TAR_OWNER_SELF };
/* As whoever runs the test can. */
static const TarOptions *most(void) {
        static const TarOptions own = { .private = true, .root_too = true };

        return geteuid() == 0 ? &all : &own;
}

static int pack(Place *p, const char *name, const char *as, const TarOptions *o, TarStats *ret, KError *e) {
        assert_int_equal(ftruncate(p->archive, 0), 0);
        assert_int_equal(lseek(p->archive, 0, SEEK_SET), 0);
        return tar_pack(p->a, name, as, o, tar_write_fd, &p->archive, ret, e);
}

static int unpack(Place *p, const TarOptions *o, TarStats *ret, KError *e) {
        TarInput in = { .fd = p->archive };

        assert_int_equal(lseek(p->archive, 0, SEEK_SET), 0);
        return tar_unpack(p->b, o, tar_read_fd, &in, ret, e);
}

static void assert_same_attributes(int a, int b, const char *name) {
        char x[64], y[64], names[1024], value[1024], other[1024];
        ssize_t n, size;

        (void) snprintf(x, sizeof(x), "/proc/self/fd/%i", a);
        (void) snprintf(y, sizeof(y), "/proc/self/fd/%i", b);
        n = listxattr(x, names, sizeof(names));
        assert_true(n >= 0);
        assert_int_equal(listxattr(y, NULL, 0), n);
        for (const char *p = names; p < names + n; p += strlen(p) + 1) {
                size = getxattr(x, p, value, sizeof(value));
                assert_true(size >= 0);
                if (getxattr(y, p, other, sizeof(other)) != size || memcmp(value, other, (size_t) size) != 0)
                        fail_msg("'%s': attribute '%s' is another one", name, p);
        }
}

static void assert_same_bytes(int a, int b, const char *name) {
        static uint8_t x[256 * 1024], y[256 * 1024];
        ssize_t n;

        do {
                n = loop_read(a, x, sizeof(x));
                assert_int_equal(loop_read(b, y, sizeof(y)), n);
                if (memcmp(x, y, (size_t) n) != 0)
                        fail_msg("'%s' has other bytes", name);
        } while (n > 0);
}

static void assert_same(int a, int b, const char *name) {
        _cleanup_close_ int x = openat(a, name, O_PATH | O_NOFOLLOW | O_CLOEXEC),
                            y = openat(b, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), f = -EBADF, g = -EBADF;
        struct stat s, t;

        if (x < 0 || y < 0)
                fail_msg("'%s' is not on both sides", name);
        assert_int_equal(fstat(x, &s), 0);
        assert_int_equal(fstat(y, &t), 0);
        if (s.st_mode != t.st_mode || s.st_uid != t.st_uid || s.st_gid != t.st_gid ||
                        s.st_rdev != t.st_rdev || s.st_nlink != t.st_nlink ||
                        s.st_mtim.tv_sec != t.st_mtim.tv_sec || s.st_mtim.tv_nsec != t.st_mtim.tv_nsec)
                fail_msg("'%s' is not the same: mode %o %o, owner %u:%u %u:%u, links %lu %lu, time "
                         "%li.%09li "
                         "%li.%09li",
                                name, s.st_mode, t.st_mode, s.st_uid, s.st_gid, t.st_uid, t.st_gid,
                                (unsigned long) s.st_nlink, (unsigned long) t.st_nlink,
                                (long) s.st_mtim.tv_sec, s.st_mtim.tv_nsec, (long) t.st_mtim.tv_sec,
                                t.st_mtim.tv_nsec);
        if (S_ISLNK(s.st_mode)) {
                char l[256] = "", m[256] = "";

                assert_true(readlinkat(x, "", l, sizeof(l) - 1) > 0);
                assert_true(readlinkat(y, "", m, sizeof(m) - 1) > 0);
                ASSERT_STREQ(l, m);
                return;
        }
        assert_same_attributes(x, y, name);
        if (S_ISREG(s.st_mode)) {
                ASSERT_EQ(s.st_size, t.st_size);
                /* Holes stay holes. */
                if (t.st_blocks > s.st_blocks + 16)
                        fail_msg("'%s' has %lu blocks, not %lu", name, (unsigned long) t.st_blocks,
                                        (unsigned long) s.st_blocks);
                f = openat(a, name, O_RDONLY | O_CLOEXEC);
                g = openat(b, name, O_RDONLY | O_CLOEXEC);
                assert_same_bytes(f, g, name);
        }
        if (S_ISDIR(s.st_mode)) {
                _cleanup_(closedirp) DIR *d = NULL;
                struct dirent *de;

                f = openat(a, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                g = openat(b, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                ASSERT_EQ(count(f), count(g));
                d = fdopendir(openat(f, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
                assert_non_null(d);
                while ((de = readdir(d)))
                        if (!STR_IN_SET(de->d_name, ".", ".."))
                                assert_same(f, g, de->d_name);
        }
}

static void set_time(int dir, const char *name, long sec, long nsec) {
        struct timespec t[2] = { { .tv_sec = sec, .tv_nsec = nsec }, { .tv_sec = sec, .tv_nsec = nsec } };

        assert_int_equal(utimensat(dir, name, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_round_trip_keeps_everything(void **state) {
        static const uint8_t acl[] = { 2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 5, 0, 0xd2, 4,
                0, 0, 4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,
                0, 0xff, 0xff, 0xff, 0xff };
        static const uint8_t capability[] = { 1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
        _cleanup_free_ char *long_name = malloc(251);
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats packed, stats;
        int fd, sub, deep;
        Place p;

        place_init(&p);
        memset(long_name, 'x', 250);
        long_name[250] = '\0';

        put(p.a, "file", "hello\n", 0640);
        put(p.a, "empty", "", 0400);
        put(p.a, long_name, "long", 0644);
        put(p.a, "b\xc3\xa4r", "utf-8", 0644);
        put(p.a, "not-utf8-\xff\xfe", "bytes", 0644);
        put(p.a, "new\nline \\ \"quote\"", "odd", 0644);
        sub = make(p.a, "sub");
        deep = make(sub, long_name);
        put(deep, long_name, "both are long", 0600);
        put(sub, "setuid", "x", 04755);
        assert_int_equal(linkat(sub, "setuid", p.a, "hard", 0), 0);
        assert_int_equal(symlinkat("/etc/passwd", p.a, "link"), 0);
        assert_int_equal(symlinkat("dangling-\xff", sub, "link"), 0);
        safe_close(make(sub, "sticky"));
        assert_int_equal(fchmodat(sub, "sticky", 01777, 0), 0);

        fd = openat(p.a, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(ftruncate(fd, 1100 * 1024 * 1024), 0);
        assert_int_equal(pwrite(fd, "middle", 6, 1030 * 1024 * 1024 + 7), 6);
        safe_close(fd);
        fd = openat(p.a, "all-hole", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(ftruncate(fd, 5000000), 0);
        safe_close(fd);

        fd = openat(p.a, "file", O_RDONLY | O_CLOEXEC);
        if (fsetxattr(fd, "user.one", "1\0two", 5, 0) < 0)
                print_message("no user attributes here: %s\n", strerror(errno));
        safe_close(fd);
        if (geteuid() == 0) {
                assert_int_equal(mknodat(p.a, "fifo", S_IFIFO | 0620, 0), 0);
                assert_int_equal(mknodat(p.a, "device", S_IFCHR | 0666, makedev(1, 3)), 0);
                assert_int_equal(fchownat(p.a, "file", 4000000000U, 12345, 0), 0);
                assert_int_equal(fchownat(p.a, "link", 7, 8, AT_SYMLINK_NOFOLLOW), 0);
                fd = openat(sub, "setuid", O_RDONLY | O_CLOEXEC);
                (void) fsetxattr(fd, "security.capability", capability, sizeof(capability), 0);
                safe_close(fd);
        }
        (void) fsetxattr(sub, "system.posix_acl_access", acl, sizeof(acl), 0);
        (void) fsetxattr(sub, "system.posix_acl_default", acl, sizeof(acl), 0);
        set_time(p.a, "file", 1000000000, 123456789);
        set_time(p.a, "link", 1, 999999999);
        set_time(p.a, "sub", -5, 1);
        if (geteuid() == 0)
                assert_int_equal(fchmod(deep, 0), 0);
        set_time(sub, long_name, 3, 4);
        set_time(p.a, ".", 77, 88);
        safe_close(deep);
        safe_close(sub);

        ASSERT_OK(pack(&p, ".", ".", most(), &packed, &e));
        ASSERT_OK(unpack(&p, most(), &stats, &e));
        ASSERT_EQ(stats.n_entries, packed.n_entries);
        ASSERT_EQ(stats.size, packed.size);
        if (geteuid() == 0) {
                ASSERT_EQ(packed.n_skipped, 0);
                ASSERT_EQ(stats.n_skipped, 0);
                assert_same(p.a, p.b, ".");
        } else
                assert_same(p.a, p.b, "file");
        place_done(&p);
}

/* The tree's users are 100000 and on, as those of a container with a user namespace of its own. */
static void test_users_of_a_user_namespace(void **state) {
        static const uint8_t acl[] = { 2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 5, 0, 0xa7,
                0x86, 1, 0, 4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x20,
                0, 0, 0, 0xff, 0xff, 0xff, 0xff }; /* user 100007 */
        TarOptions o = all, root = all;
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        struct stat st;
        Place p;
        int fd;

        if (geteuid() != 0)
                skip();
        o.uid_base = root.uid_base = 100000;
        root.owner = TAR_OWNER_ROOT;
        place_init(&p);
        put(p.a, "f", "x", 0640);
        put(p.a, "outside", "x", 0644);
        assert_int_equal(fchownat(p.a, "f", 100007, 100008, 0), 0);
        assert_int_equal(fchownat(p.a, "outside", 7, 200000, 0), 0);
        fd = openat(p.a, "f", O_RDONLY | O_CLOEXEC);
        (void) fsetxattr(fd, "system.posix_acl_access", acl, sizeof(acl), 0);
        safe_close(fd);

        ASSERT_OK(pack(&p, ".", ".", &o, &stats, NULL));
        ASSERT_OK(unpack(&p, &all, &stats, NULL));
        assert_int_equal(fstatat(p.b, "f", &st, 0), 0);
        ASSERT_EQ(st.st_uid, 7);
        ASSERT_EQ(st.st_gid, 8);
        assert_int_equal(fstatat(p.b, "outside", &st, 0), 0);
        ASSERT_EQ(st.st_uid, 65534);
        ASSERT_EQ(st.st_gid, 65534);
        ASSERT_OK(unpack(&p, &o, &stats, NULL));
        assert_same(p.a, p.b, "f");
        ASSERT_OK(unpack(&p, &root, &stats, NULL));
        assert_int_equal(fstatat(p.b, "f", &st, 0), 0);
        ASSERT_EQ(st.st_uid, 100000);

        /* Nobody of this archive is one of 65536. */
        assert_int_equal(fchownat(p.a, "f", 70000, 0, 0), 0);
        ASSERT_OK(pack(&p, "f", "f", &all, &stats, NULL));
        ASSERT_ERROR(unpack(&p, &o, &stats, &e), EINVAL);
        assert_true(strstr(kerror_message(&e), "owner"));
        place_done(&p);
}

static void test_other_archivers_are_understood(void **state) {
        _cleanup_free_ char *command = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        Place p;
        int fd;

        if (geteuid() != 0 || access("/bin/tar", X_OK) < 0)
                skip();
        place_init(&p);
        safe_close(make(p.a, "d"));
        put(p.a, "d/f", "text", 0644);
        fd = openat(p.a, "d/sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        assert_int_equal(ftruncate(fd, 1 << 20), 0);
        assert_int_equal(pwrite(fd, "x", 1, 1 << 19), 1);
        safe_close(fd);
        static const char *const formats[] = { "gnu", "pax", "ustar" };
        FOREACH_ARRAY(f, formats, ELEMENTSOF(formats)) {
                pid_t pid;
                int status;

                assert_int_equal(ftruncate(p.archive, 0), 0);
                assert_int_equal(lseek(p.archive, 0, SEEK_SET), 0);
                command = mfree(command);
                command = strjoin("--format=", *f);
                pid = fork();
                if (pid == 0) {
                        (void) dup2(p.archive, STDOUT_FILENO);
                        (void) execl("/bin/tar", "tar", command, streq(*f, "ustar") ? "-c" : "-cS", "-C",
                                        p.path, "-f", "-", "a", (char *) NULL);
                        _exit(127);
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_int_equal(status, 0);
                ASSERT_OK(unpack(&p, &all, &stats, &e));
                assert_content(p.b, "a/d/f", "text");
                ASSERT_OK(rm_rf_at(p.b, "a"));
        }
        place_done(&p);
}

/* However much of it arrives: only the whole is taken for the whole. */
static void test_a_cut_archive_is_never_whole(void **state) {
        static uint8_t zeros[8192];
        TarStats stats;
        off_t size;
        unsigned n = 0;
        Place p;
        int fd;

        place_init(&p);
        /* The worst: a file whose bytes look like the end. */
        fd = openat(p.a, "zeros", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        ASSERT_OK(loop_write(fd, zeros, sizeof(zeros)));
        safe_close(fd);
        put(p.a, "text", "text", 0644);
        ASSERT_OK(pack(&p, ".", "name", &self, &stats, NULL));
        size = lseek(p.archive, 0, SEEK_END);

        for (off_t cut = size; cut >= 0; cut -= MIN(cut + 1, cut % 512 > 0 ? cut % 512 : 200)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                int r;

                assert_int_equal(ftruncate(p.archive, cut), 0);
                r = unpack(&p, &self, &stats, &e);
                n++;
                if (r >= 0) { /* what is missing is padding behind the end */
                        assert_content(p.b, "name/text", "text");
                        continue;
                }
                assert_true(kerror_is_set(&e));
                ASSERT_OK(rm_rf_at(p.b, "name"));
                assert_int_equal(count(p.b), 0);
        }
        assert_true(n > 50);
        place_done(&p);
}

static void test_an_empty_stream_is_no_archive(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        Place p;

        place_init(&p);
        assert_true(unpack(&p, &self, &stats, &e) < 0);
        assert_true(strstr(kerror_message(&e), "no end"));
        ASSERT_OK(loop_write(p.archive, "this is not tar", 15));
        kerror_done(&e);
        assert_true(unpack(&p, &self, &stats, &e) < 0);
        place_done(&p);
}

/* Hostile archives */

typedef struct Item {
        unsigned type;
        const char *path, *target; /* of a link; of a file its content */
} Item;

static void make_archive(Place *p, const Item *items, size_t n) {
        struct archive *a = archive_write_new();

        assert_int_equal(ftruncate(p->archive, 0), 0);
        assert_int_equal(lseek(p->archive, 0, SEEK_SET), 0);
        assert_int_equal(archive_write_set_format_pax(a), ARCHIVE_OK);
        assert_int_equal(archive_write_open_fd(a, p->archive), ARCHIVE_OK);
        FOREACH_ARRAY(i, items, n) {
                struct archive_entry *entry = archive_entry_new();

                archive_entry_set_mode(entry, (i->type ?: AE_IFREG) | 0755);
                archive_entry_copy_pathname(entry, i->path);
                archive_entry_set_mtime(entry, 5, 0);
                if (i->type == AE_IFLNK)
                        archive_entry_copy_symlink(entry, i->target);
                else if (i->type == 0)
                        archive_entry_copy_hardlink(entry, i->target);
                else if (i->type == AE_IFREG)
                        archive_entry_set_size(entry, (la_int64_t) strlen(i->target));
                assert_true(archive_write_header(a, entry) >= ARCHIVE_WARN);
                if (i->type == AE_IFREG)
                        assert_int_equal(archive_write_data(a, i->target, strlen(i->target)),
                                        strlen(i->target));
                archive_entry_free(entry);
        }
        assert_int_equal(archive_write_free(a), ARCHIVE_OK);
}

static void test_hostile_archives_do_not_leave(void **state) {
        static const struct {
                Item items[3];
                const char *says;
        } cases[] = {
                { { { AE_IFREG, "../outside/x", "bad" } }, "unsafe" },
                { { { AE_IFREG, "a/../../outside/x", "bad" } }, "unsafe" },
                { { { AE_IFLNK, "l", "../outside" }, { AE_IFREG, "l/x", "bad" } }, "not a directory" },
                { { { AE_IFLNK, "l", "/var/tmp" }, { AE_IFDIR, "l/x", NULL } }, "not a directory" },
                { { { AE_IFLNK, "l", "../outside" }, { AE_IFDIR, "l", NULL } }, "'l' is not a directory" },
                { { { AE_IFLNK, "l", "../outside" }, { AE_IFLNK, "l/m", "x" } }, "not a directory" },
                { { { 0, "h", "../a/secret" } }, "unsafe" },
                { { { 0, "h", "/etc/passwd" } }, "not a file of the archive" },
                { { { AE_IFLNK, "l", "../a" }, { 0, "h", "l/secret" } }, "not a file of the archive" },
                { { { AE_IFDIR, "d", NULL }, { 0, "h", "d" } }, "not a file of the archive" },
                { { { AE_IFREG, "f", "x" }, { AE_IFREG, "f/g", "y" } }, "not a directory" },
                { { { AE_IFDIR, "d", NULL }, { AE_IFREG, "d", "x" } }, "is a directory" },
                { { { AE_IFREG, "a\nb/../../c", "x" } }, "unsafe" },
        };
        unsigned n = 0;

        for (unsigned private = 0; private < 2; private ++)
                FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                        TarOptions o = self;
                        _cleanup_kerror_ KError e = KERROR_NULL;
                        size_t k = 0;
                        TarStats stats;
                        Place p;
                        int fd;

                        o.private = private;
                        while (k < 3 && c->items[k].path)
                                k++;
                        place_init(&p);
                        put(p.a, "secret", "secret", 0600);
                        make_archive(&p, c->items, k);
                        assert_true(unpack(&p, &o, &stats, &e) < 0);
                        if (!strstr(kerror_message(&e), c->says))
                                fail_msg("'%s' does not say '%s'", kerror_message(&e), c->says);
                        fd = openat(p.fd, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                        ASSERT_EQ(count(fd), 0);
                        ASSERT_EQ(count(p.fd), 3);
                        ASSERT_EQ(count(p.a), 1);
                        safe_close(fd);
                        place_done(&p);
                        n++;
                }
        print_message("%u hostile archives refused\n", n);
}

/* Over what is hidden something else is mounted when it runs. */
static void test_nothing_comes_into_what_is_hidden(void **state) {
        static const Item cases[][2] = {
                { { AE_IFREG, "d/volume/x", "bad" } },
                { { AE_IFREG, "d/volume/new/x", "bad" } },
                { { AE_IFREG, "d/volume/below/x", "bad" } },
                { { AE_IFREG, "d/volume/below/new/x", "bad" } },
                { { AE_IFDIR, "d/volume/new", NULL } },
                { { 0, "h", "d/volume/below/secret" } },
                { { AE_IFREG, "d/f", "x" }, { 0, "d/volume/h", "d/f" } },
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_close_ int d = -EBADF, volume = -EBADF, below = -EBADF;
                _cleanup_kerror_ KError e = KERROR_NULL;
                TarPlace hidden[2];
                TarOptions o = self;
                struct stat before, st;
                TarStats stats;
                Place p;

                place_init(&p);
                d = make(p.b, "d");
                volume = make(d, "volume");
                below = make(volume, "below");
                put(below, "secret", "secret", 0600);
                assert_int_equal(fstat(volume, &before), 0);
                hidden[0] = (TarPlace){ .device = before.st_dev, .inode = 1 };
                hidden[1] = (TarPlace){ .device = before.st_dev, .inode = before.st_ino };
                make_archive(&p, *c, (*c)[1].path ? 2 : 1);

                o.hidden = hidden;
                o.n_hidden = 2;
                ASSERT_ERROR(unpack(&p, &o, &stats, &e), ESTALE);
                ASSERT_EQ(e.code, K_CONFLICT);
                assert_true(strstr(kerror_message(&e), "is in a volume"));
                ASSERT_EQ(count(volume), 1);
                ASSERT_EQ(count(below), 1);
                assert_missing(p.b, "h");
                make_archive(&p, &(Item){ AE_IFDIR, "d/volume", NULL }, 1);
                kerror_done(&e);
                ASSERT_OK(unpack(&p, &o, &stats, &e));
                ASSERT_EQ(stats.n_skipped, 1);
                assert_int_equal(fstat(volume, &st), 0);
                ASSERT_EQ(st.st_mtim.tv_sec, before.st_mtim.tv_sec);

                make_archive(&p, *c, (*c)[1].path ? 2 : 1);
                o.n_hidden = 1;
                ASSERT_OK(unpack(&p, &o, &stats, &e));
                place_done(&p);
        }
}

static void test_absolute_names_are_below_the_directory(void **state) {
        static const Item items[] = { { AE_IFREG, "/etc/passwd", "mine" } };
        TarStats stats;
        Place p;

        place_init(&p);
        make_archive(&p, items, ELEMENTSOF(items));
        ASSERT_OK(unpack(&p, &self, &stats, NULL));
        assert_content(p.b, "etc/passwd", "mine");
        place_done(&p);
}

/* Somebody asked for one thing, so nothing else comes. */
static void test_only_what_was_asked_for_comes(void **state) {
        static const Item items[] = { { AE_IFDIR, "wanted", NULL }, { AE_IFREG, "wanted/f", "f" },
                { AE_IFREG, ".bashrc", "bad" } };
        static const Item similar[] = { { AE_IFDIR, "wanted", NULL }, { AE_IFREG, "wanted2", "f" } };
        static const Item link[] = { { AE_IFREG, "wanted", "f" }, { 0, "wanted", "other" } };
        TarOptions o = { .rename = "here" };
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        Place p;

        place_init(&p);
        put(p.b, "other", "other", 0600);
        make_archive(&p, items, ELEMENTSOF(items));
        assert_true(unpack(&p, &o, &stats, &e) < 0);
        assert_true(strstr(kerror_message(&e), "'.bashrc'"));
        assert_content(p.b, "here/f", "f");
        ASSERT_EQ(count(p.b), 2);
        kerror_done(&e);
        make_archive(&p, similar, ELEMENTSOF(similar));
        assert_true(unpack(&p, &o, &stats, &e) < 0);
        kerror_done(&e);
        ASSERT_OK(rm_rf_at(p.b, "here"));
        make_archive(&p, link, ELEMENTSOF(link));
        assert_true(unpack(&p, &o, &stats, &e) < 0);
        place_done(&p);
}

static void test_a_file_is_replaced_as_a_whole(void **state) {
        TarOptions o = { .rename = "old" };
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        struct stat st;
        Place p;

        place_init(&p);
        put(p.b, "old", "old content", 0600);
        put(p.a, "new", "new content", 0640);
        ASSERT_OK(pack(&p, "new", "new", &self, &stats, NULL));
        assert_int_equal(ftruncate(p.archive, 512 + 512 + 512 + 5), 0);
        assert_true(unpack(&p, &o, &stats, &e) < 0);
        assert_content(p.b, "old", "old content");
        ASSERT_EQ(count(p.b), 1);

        ASSERT_OK(pack(&p, "new", "new", &self, &stats, NULL));
        ASSERT_OK(unpack(&p, &o, &stats, NULL));
        assert_content(p.b, "old", "new content");
        ASSERT_EQ(count(p.b), 1);
        assert_int_equal(fstatat(p.b, "old", &st, 0), 0);
        ASSERT_EQ(st.st_mode & 07777, 0640);
        place_done(&p);
}

/* True: it came to its end before it was killed, before its system call number n. */
static bool unpack_until(Place *p, const TarOptions *o, unsigned n) {
        bool entering = true;
        pid_t pid;
        int status;

        assert_int_equal(lseek(p->archive, 0, SEEK_SET), 0);
        pid = fork();
        if (pid == 0) {
                TarInput in = { .fd = p->archive };
                TarStats stats;

                if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || raise(SIGSTOP) != 0)
                        _exit(2);
                _exit(tar_unpack(p->b, o, tar_read_fd, &in, &stats, NULL) < 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        for (;;) {
                if (entering && n-- == 0)
                        break;
                assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
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

static void test_killed_before_each_system_call_a_file_is_old_or_new(void **state) {
        static const TarOptions o = { .rename = "name" };
        unsigned n, old = 0, new = 0;
        bool over = false;
        TarStats stats;
        Place p;

        place_init(&p);
        put(p.a, "f", "the new content", 0640);
        ASSERT_OK(pack(&p, "f", "f", &self, &stats, NULL));
        for (n = 0; !over; n++) {
                _cleanup_free_ char *s = NULL;
                struct stat st;

                (void) unlinkat(p.b, "name", 0);
                put(p.b, "name", "what was there before", 0600);
                over = unpack_until(&p, &o, n);
                ASSERT_OK(read_file_at(p.b, "name", 100, &s, NULL));
                assert_int_equal(fstatat(p.b, "name", &st, 0), 0);
                if (streq(s, "the new content")) {
                        ASSERT_EQ(st.st_mode & 07777, 0640);
                        ASSERT_EQ(st.st_nlink, 1);
                        new ++;
                } else {
                        ASSERT_STREQ(s, "what was there before");
                        old++;
                }
        }
        print_message("killed at %u points: %u times the old file, %u times the new\n", n - 1, old, new);
        assert_true(old > 10 && new > 1);
        place_done(&p);
}

/* As /dev/null. */
static void test_what_is_no_file_is_not_replaced(void **state) {
        TarOptions o = { .rename = "there" };
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        struct stat st;
        Place p;

        place_init(&p);
        assert_int_equal(mkfifoat(p.b, "there", 0600), 0);
        put(p.a, "f", "x", 0600);
        ASSERT_OK(pack(&p, "f", "f", &self, &stats, NULL));
        ASSERT_ERROR(unpack(&p, &o, &stats, &e), ESTALE);
        assert_true(strstr(kerror_message(&e), "FIFO"));
        assert_int_equal(fstatat(p.b, "there", &st, 0), 0);
        assert_true(S_ISFIFO(st.st_mode));
        ASSERT_EQ(count(p.b), 1);
        place_done(&p);
}

static void test_nobody_gets_set_user_id_from_afar(void **state) {
        TarStats stats;
        struct stat st;
        Place p;

        place_init(&p);
        put(p.a, "su", "x", 06755);
        ASSERT_OK(pack(&p, "su", "su", &self, &stats, NULL));
        ASSERT_OK(unpack(&p, &self, &stats, NULL));
        assert_int_equal(fstatat(p.b, "su", &st, 0), 0);
        ASSERT_EQ(st.st_mode & 07777, 0755);
        place_done(&p);
}

static void test_limits(void **state) {
        static const Item two[] = { { AE_IFREG, "one", "12345678" }, { AE_IFREG, "two", "12345678" } };
        TarOptions entries = { .entries_max = 1 }, size = { .size_max = 12 };
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        Place p;

        place_init(&p);
        make_archive(&p, two, ELEMENTSOF(two));
        ASSERT_ERROR(unpack(&p, &entries, &stats, &e), E2BIG);
        kerror_done(&e);
        ASSERT_ERROR(unpack(&p, &size, &stats, &e), E2BIG);
        put(p.a, "f", "1234567890123", 0600);
        kerror_done(&e);
        ASSERT_ERROR(pack(&p, ".", ".", &size, &stats, &e), E2BIG);
        kerror_done(&e);
        ASSERT_ERROR(pack(&p, ".", ".", &entries, &stats, &e), E2BIG);
        place_done(&p);
}

/* The header says 100, the end comes after 8; and a sparse map that points behind the end. */
static void test_sizes_that_lie_are_refused(void **state) {
        static const Item one[] = { { AE_IFREG, "one", "12345678" } };
        _cleanup_kerror_ KError e = KERROR_NULL;
        char header[512];
        unsigned sum = 0;
        TarStats stats;
        Place p;
        off_t at;

        place_init(&p);
        make_archive(&p, one, ELEMENTSOF(one));
        /* The last header before the content. */
        for (at = 0;; at += 512) {
                assert_int_equal(pread(p.archive, header, 512, at), 512);
                if (header[156] == '0')
                        break;
        }
        memcpy(header + 124, "77777777777", 11);
        memset(header + 148, ' ', 8);
        FOREACH_ARRAY(c, header, sizeof(header))
                sum += (unsigned char) *c;
        (void) snprintf(header + 148, 8, "%06o", sum);
        assert_int_equal(pwrite(p.archive, header, 512, at), 512);
        assert_true(unpack(&p, &self, &stats, &e) < 0);
        assert_true(kerror_is_set(&e));
        ASSERT_EQ(count(p.b), 0);
        place_done(&p);
}

static void test_fifos_and_devices_are_left_out_where_they_do_not_belong(void **state) {
        TarStats stats;
        Place p;

        place_init(&p);
        assert_int_equal(mkfifoat(p.a, "fifo", 0600), 0); /* opening it would wait for ever */
        put(p.a, "f", "x", 0600);
        ASSERT_OK(pack(&p, ".", ".", &self, &stats, NULL));
        ASSERT_EQ(stats.n_skipped, 1);
        ASSERT_EQ(stats.n_entries, 2);
        if (geteuid() == 0) {
                ASSERT_OK(pack(&p, ".", ".", &all, &stats, NULL));
                ASSERT_OK(unpack(&p, &self, &stats, NULL));
                ASSERT_EQ(stats.n_skipped, 1);
                assert_missing(p.b, "fifo");
        }
        place_done(&p);
}

KONTENA_TESTS(cmocka_unit_test(test_round_trip_keeps_everything),
                cmocka_unit_test(test_users_of_a_user_namespace),
                cmocka_unit_test(test_other_archivers_are_understood),
                cmocka_unit_test(test_a_cut_archive_is_never_whole),
                cmocka_unit_test(test_an_empty_stream_is_no_archive),
                cmocka_unit_test(test_hostile_archives_do_not_leave),
                cmocka_unit_test(test_nothing_comes_into_what_is_hidden),
                cmocka_unit_test(test_absolute_names_are_below_the_directory),
                cmocka_unit_test(test_only_what_was_asked_for_comes),
                cmocka_unit_test(test_a_file_is_replaced_as_a_whole),
                cmocka_unit_test(test_killed_before_each_system_call_a_file_is_old_or_new),
                cmocka_unit_test(test_what_is_no_file_is_not_replaced),
                cmocka_unit_test(test_nobody_gets_set_user_id_from_afar), cmocka_unit_test(test_limits),
                cmocka_unit_test(test_sizes_that_lie_are_refused),
                cmocka_unit_test(test_fifos_and_devices_are_left_out_where_they_do_not_belong))
