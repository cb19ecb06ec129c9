/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"
#include "tree.h"

/* What a layer is made of: one line for each entry. */
typedef struct Item {
        const char *path;
        unsigned type;       /* AE_IF*, 0: a hard link */
        const char *content; /* of a file, or where a link leads */
        unsigned mode;
        unsigned uid;
        const char *xattr, *value;
        int64_t size; /* where it is not that of content */
} Item;

static int make_layer(const Item *items, size_t n_items, int (*filter)(struct archive *)) {
        struct archive *a = archive_write_new();
        int fd = memfd_create("layer", MFD_CLOEXEC);

        ASSERT_TRUE(a && fd >= 0);
        ASSERT_EQ(archive_write_set_format_pax(a), ARCHIVE_OK);
        if (filter)
                ASSERT_EQ(filter(a), ARCHIVE_OK);
        ASSERT_EQ(archive_write_open_fd(a, fd), ARCHIVE_OK);
        FOREACH_ARRAY(i, items, n_items) {
                struct archive_entry *e = archive_entry_new();

                archive_entry_set_pathname(e, i->path);
                archive_entry_set_filetype(e, i->type ?: AE_IFREG);
                archive_entry_set_perm(e, i->mode ?: (i->type == AE_IFDIR ? 0755 : 0644));
                archive_entry_set_uid(e, i->uid);
                archive_entry_set_gid(e, i->uid);
                archive_entry_set_mtime(e, 1000000000, 5000);
                archive_entry_set_size(e, 0);
                if (i->type == 0)
                        archive_entry_set_hardlink(e, i->content);
                else if (i->type == AE_IFLNK)
                        archive_entry_set_symlink(e, i->content);
                else if (i->type == AE_IFCHR)
                        archive_entry_set_rdev(e, 0);
                else if (i->type == AE_IFREG)
                        archive_entry_set_size(
                                        e, i->size > 0 ? i->size : (int64_t) strlen(strempty(i->content)));
                if (i->xattr)
                        archive_entry_xattr_add_entry(e, i->xattr, i->value, strlen(i->value));
                ASSERT_EQ(archive_write_header(a, e), ARCHIVE_OK);
                if (i->type == AE_IFREG && i->content)
                        ASSERT_TRUE(archive_write_data(a, i->content, strlen(i->content)) >= 0);
                archive_entry_free(e);
        }
        ASSERT_EQ(archive_write_close(a), ARCHIVE_OK);
        archive_write_free(a);
        ASSERT_TRUE(lseek(fd, 0, SEEK_SET) == 0);
        return fd;
}

typedef struct Fixture {
        char path[32];
        int fd;
        int lowers[2];
        size_t n_lowers;
        LayerStats stats;
        KError error;
        char diff_id[DIGEST_STRING_SIZE];
} Fixture;

static void fixture_init(Fixture *f) {
        *f = (Fixture){ .path = "/tmp/test-layer-XXXXXX" };
        ASSERT_TRUE(mkdtemp(f->path));
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TRUE(f->fd >= 0);
        ASSERT_OK(mkdirat(f->fd, "root", 0755));
}

static void fixture_done(Fixture *f) {
        kerror_done(&f->error);
        FOREACH_ARRAY(l, f->lowers, f->n_lowers)
                safe_close(*l);
        safe_close(f->fd);
        (void) rm_rf_at(AT_FDCWD, f->path);
}
#define _cleanup_fixture_ _cleanup_(fixture_done)

static int unpack_at(Fixture *f, const char *directory, const Item *items, size_t n,
                int (*filter)(struct archive *), uint64_t size_max, uint64_t entries_max) {
        LayerOptions o = { .lower_fds = f->lowers,
                .n_lower_fds = f->n_lowers,
                .size_max = size_max,
                .entries_max = entries_max };
        _cleanup_close_ int blob = make_layer(items, n, filter), root = -EBADF;

        kerror_done(&f->error);
        root = openat(f->fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TRUE(root >= 0);
        return layer_unpack(blob, root, &o, f->diff_id, &f->stats, &f->error);
}
#define UNPACK(f, ...)                                                                                      \
        unpack_at(f, "root", (const Item[]){ __VA_ARGS__ }, ELEMENTSOF(((const Item[]){ __VA_ARGS__ })),    \
                        NULL, 1024 * 1024, 1000)

/* One more layer below all. */
static void add_lower(Fixture *f, const char *name, const Item *items, size_t n) {
        ASSERT_OK(mkdirat(f->fd, name, 0755));
        ASSERT_EQ(unpack_at(f, name, items, n, NULL, 1024 * 1024, 1000), 0);
        f->lowers[f->n_lowers] = openat(f->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_TRUE(f->lowers[f->n_lowers++] >= 0);
}
#define ADD_LOWER(f, name, ...)                                                                             \
        add_lower(f, name, (const Item[]){ __VA_ARGS__ }, ELEMENTSOF(((const Item[]){ __VA_ARGS__ })))

static struct stat stat_of(Fixture *f, const char *path) {
        struct stat st;

        if (fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                fail_msg("%s: %s", path, strerror(errno));
        return st;
}

static bool exists(Fixture *f, const char *path) {
        return faccessat(f->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

static void assert_content(Fixture *f, const char *path, const char *content) {
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(read_file_at(f->fd, path, 4096, &text, NULL));
        ASSERT_STREQ(text, content);
}

static bool is_opaque(Fixture *f, const char *path) {
        _cleanup_free_ char *whole = strjoin(f->path, "/", path);
        char value;

        return lgetxattr(whole, "user.overlay.opaque", &value, 1) == 1 && value == 'y';
}

static void assert_refused(Fixture *f, int r, const char *part) {
        ASSERT_TRUE(r < 0);
        if (!strstr(kerror_message(&f->error), part))
                fail_msg("'%s' does not speak of '%s'", kerror_message(&f->error), part);
}

static void test_layer_unpacks_every_kind(void **state) {
        _cleanup_fixture_ Fixture f;
        struct stat st;

        fixture_init(&f);
        ASSERT_EQ(UNPACK(&f, { "./", AE_IFDIR, .mode = 0750 }, { "d/", AE_IFDIR, .mode = 01777, .uid = 7 },
                                  { "d/f", AE_IFREG, "hello", .mode = 04755, .uid = 1000 },
                                  { "d/h", 0, "d/f" }, { "d/l", AE_IFLNK, "/etc/passwd" },
                                  { "d/p", AE_IFIFO, .mode = 0640 }, { "d/\xc3\xa4 \n", AE_IFREG, "odd" },
                                  { "/abs", AE_IFDIR }, { "/abs/x", AE_IFREG, "a" }),
                        0);
        ASSERT_EQ(stat_of(&f, "root").st_mode & 07777, 0750);
        st = stat_of(&f, "root/d");
        ASSERT_EQ(st.st_mode, S_IFDIR | 01777);
        ASSERT_EQ(st.st_uid, 7);
        ASSERT_EQ(st.st_mtim.tv_sec, 1000000000);
        ASSERT_EQ(st.st_mtim.tv_nsec, 5000);
        st = stat_of(&f, "root/d/f");
        ASSERT_EQ(st.st_mode, S_IFREG | 04755);
        ASSERT_EQ(st.st_uid, 1000);
        ASSERT_EQ(st.st_nlink, 2);
        ASSERT_EQ(st.st_mtim.tv_sec, 1000000000);
        ASSERT_EQ(stat_of(&f, "root/d/h").st_ino, st.st_ino);
        assert_content(&f, "root/d/h", "hello");
        ASSERT_TRUE(S_ISLNK(stat_of(&f, "root/d/l").st_mode));
        ASSERT_EQ(stat_of(&f, "root/d/p").st_mode, S_IFIFO | 0640);
        assert_content(&f, "root/d/\xc3\xa4 \n", "odd");
        assert_content(&f, "root/abs/x", "a");
        ASSERT_EQ(f.stats.n_entries, 9);
        ASSERT_EQ(f.stats.size, 5 + 3 + 1);
}

static void test_layer_reads_gzip_and_zstd_to_the_same_digest(void **state) {
        const Item items[] = { { "a", AE_IFREG, "same" } };
        char first[DIGEST_STRING_SIZE];
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        ASSERT_EQ(unpack_at(&f, "root", items, 1, NULL, 100, 100), 0);
        memcpy(first, f.diff_id, sizeof(first));
        ASSERT_EQ(unpack_at(&f, "root", items, 1, archive_write_add_filter_gzip, 100, 100), 0);
        ASSERT_STREQ(f.diff_id, first);
        ASSERT_EQ(unpack_at(&f, "root", items, 1, archive_write_add_filter_zstd, 100, 100), 0);
        ASSERT_STREQ(f.diff_id, first);
}

static void test_layer_turns_whiteouts_into_overlayfs_form(void **state) {
        _cleanup_fixture_ Fixture f;
        struct stat st;

        fixture_init(&f);
        ASSERT_EQ(UNPACK(&f, { "d", AE_IFDIR }, { "d/.wh.gone", AE_IFREG }, { "d/o", AE_IFDIR },
                                  { "d/o/.wh..wh..opq", AE_IFREG }, { ".wh..wh.plnk", AE_IFDIR },
                                  { "d/.wh..wh.aufs", AE_IFREG }),
                        0);
        st = stat_of(&f, "root/d/gone");
        ASSERT_TRUE(stat_is_whiteout(&st));
        ASSERT_TRUE(is_opaque(&f, "root/d/o"));
        ASSERT_FALSE(is_opaque(&f, "root/d"));
        ASSERT_FALSE(exists(&f, "root/d/.wh..wh.aufs"));
        ASSERT_FALSE(exists(&f, "root/d/o/.wh..wh..opq"));
}

/* A whiteout hides what is below, never what the same layer has, in whichever order they come. */
static void test_layer_whiteout_and_entry_of_the_same_name(void **state) {
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        ASSERT_EQ(UNPACK(&f, { ".wh.f", AE_IFREG }, { "f", AE_IFREG, "new" }, { "g", AE_IFREG, "new" },
                                  { ".wh.g", AE_IFREG }, { ".wh.d", AE_IFREG }, { "d", AE_IFDIR },
                                  { "e", AE_IFDIR }, { ".wh.e", AE_IFREG }, { ".wh.i", AE_IFREG },
                                  { "i/inner", AE_IFREG, "x" }),
                        0);
        assert_content(&f, "root/f", "new");
        assert_content(&f, "root/g", "new");
        ASSERT_TRUE(is_opaque(&f, "root/d"));
        ASSERT_TRUE(is_opaque(&f, "root/e"));
        ASSERT_TRUE(is_opaque(&f, "root/i"));
        assert_content(&f, "root/i/inner", "x");
}

static void test_layer_later_entry_replaces_earlier(void **state) {
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        ASSERT_EQ(UNPACK(&f, { "a", AE_IFREG, "old" }, { "a", AE_IFREG, "new" }, { "b", AE_IFDIR },
                                  { "b/in", AE_IFREG, "x" }, { "b", AE_IFREG, "file" },
                                  { "c", AE_IFLNK, "/etc" }, { "c", AE_IFDIR }, { "c/in", AE_IFREG, "y" },
                                  { "d", AE_IFDIR }, { "d/in", AE_IFREG, "z" },
                                  { "d", AE_IFDIR, .mode = 0700 }),
                        0);
        assert_content(&f, "root/a", "new");
        assert_content(&f, "root/b", "file");
        assert_content(&f, "root/c/in", "y");
        assert_content(&f, "root/d/in", "z");
        ASSERT_EQ(stat_of(&f, "root/d").st_mode & 07777, 0700);
}

static void test_layer_never_leaves_its_root(void **state) {
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        assert_refused(&f, UNPACK(&f, { "../out", AE_IFREG, "x" }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { "a/../../out", AE_IFREG, "x" }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { "way", AE_IFLNK, ".." }, { "way/out", AE_IFREG, "x" }),
                        "unsafe path");
        assert_refused(&f, UNPACK(&f, { "abs", AE_IFLNK, f.path }, { "abs/out", AE_IFREG, "x" }),
                        "unsafe path");
        assert_refused(&f, UNPACK(&f, { "abs2", AE_IFLNK, f.path }, { "abs2/d", AE_IFDIR }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { "abs3", AE_IFLNK, f.path }, { "abs3/.wh.out", AE_IFREG }),
                        "unsafe path");
        assert_refused(&f, UNPACK(&f, { "hard", 0, "../root" }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { "link", AE_IFLNK, "/etc" }, { "h", 0, "link/passwd" }),
                        "which is not there");
        assert_refused(&f, UNPACK(&f, { "h2", 0, "/etc/passwd" }), "which is not there");
        assert_refused(&f, UNPACK(&f, { ".wh...", AE_IFREG }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { ".wh.", AE_IFREG }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { "file", AE_IFREG }, { "file/in", AE_IFREG }), "unsafe path");
        assert_refused(&f, UNPACK(&f, { "dir", AE_IFDIR }, { "h3", 0, "dir" }), "directory");
        ASSERT_FALSE(exists(&f, "out"));
        ASSERT_FALSE(exists(&f, "d"));

        /* A symbolic link as the last part is replaced, not followed. */
        ASSERT_OK(symlinkat("../out", f.fd, "root/last"));
        ASSERT_OK(UNPACK(&f, { "last", AE_IFREG, "x" }));
        ASSERT_FALSE(exists(&f, "out"));
        ASSERT_TRUE(S_ISREG(stat_of(&f, "root/last").st_mode));
}

static void test_layer_leaves_out_devices_and_foreign_attributes(void **state) {
        _cleanup_fixture_ Fixture f;
        char value[8] = {};
        _cleanup_free_ char *path = NULL;

        fixture_init(&f);
        ASSERT_EQ(UNPACK(&f, { "null", AE_IFCHR }, { "disk", AE_IFBLK },
                                  { "a", AE_IFREG, .xattr = "trusted.overlay.opaque", .value = "y" },
                                  { "d", AE_IFDIR, .xattr = "user.overlay.opaque", .value = "y" },
                                  { "b", AE_IFREG, .xattr = "user.kept", .value = "yes" },
                                  { "c", AE_IFREG, .xattr = "security.selinux", .value = "x" }),
                        0);
        ASSERT_EQ(f.stats.n_devices, 2);
        ASSERT_TRUE(f.stats.n_xattrs >= 3); /* libarchive writes each in two forms */
        ASSERT_FALSE(exists(&f, "root/null"));
        ASSERT_FALSE(is_opaque(&f, "root/d"));
        path = strjoin(f.path, "/root/b");
        ASSERT_EQ(lgetxattr(path, "user.kept", value, sizeof(value)), 3);
        ASSERT_STREQ(value, "yes");
}

static void test_layer_keeps_file_capabilities(void **state) {
        /* cap_net_raw=p, in the second version of the attribute, which has no zero byte at its end here. */
        static const uint8_t cap[20] = { 1, 0, 0, 2, 0, 0x20 };
        _cleanup_fixture_ Fixture f;
        _cleanup_free_ char *path = NULL;
        uint8_t found[32];
        _cleanup_close_ int blob = memfd_create("layer", MFD_CLOEXEC), root = -EBADF;
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        LayerOptions o = { .size_max = 1000, .entries_max = 10 };

        fixture_init(&f);
        ASSERT_EQ(archive_write_set_format_pax(a), ARCHIVE_OK);
        ASSERT_EQ(archive_write_open_fd(a, blob), ARCHIVE_OK);
        archive_entry_set_pathname(e, "ping");
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, 0755);
        archive_entry_set_uid(e, 12);
        archive_entry_set_size(e, 0);
        archive_entry_xattr_add_entry(e, "security.capability", cap, sizeof(cap));
        ASSERT_EQ(archive_write_header(a, e), ARCHIVE_OK);
        archive_entry_free(e);
        archive_write_free(a);
        ASSERT_TRUE(lseek(blob, 0, SEEK_SET) == 0);
        root = openat(f.fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_EQ(layer_unpack(blob, root, &o, f.diff_id, &f.stats, &f.error), 0);
        path = strjoin(f.path, "/root/ping");
        ASSERT_EQ(lgetxattr(path, "security.capability", found, sizeof(found)), sizeof(cap));
        ASSERT_EQ(memcmp(found, cap, sizeof(cap)), 0);
        ASSERT_EQ(stat_of(&f, "root/ping").st_uid, 12);
}

static void test_layer_takes_hard_links_from_below(void **state) {
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        ADD_LOWER(&f, "top", { "d", AE_IFDIR }, { "d/.wh.hidden", AE_IFREG }, { "o", AE_IFDIR },
                        { "o/.wh..wh..opq", AE_IFREG });
        ADD_LOWER(&f, "bottom", { "d", AE_IFDIR }, { "d/f", AE_IFREG, "below", .mode = 0751, .uid = 5 },
                        { "d/hidden", AE_IFREG, "x" }, { "o", AE_IFDIR }, { "o/old", AE_IFREG, "x" },
                        { "way", AE_IFLNK, "/etc" });
        ASSERT_EQ(UNPACK(&f, { "h", 0, "d/f" }), 1);
        assert_content(&f, "root/h", "below");
        ASSERT_EQ(stat_of(&f, "root/h").st_mode, S_IFREG | 0751);
        ASSERT_EQ(stat_of(&f, "root/h").st_uid, 5);
        ASSERT_EQ(stat_of(&f, "root/h").st_mtim.tv_sec, 1000000000);
        assert_refused(&f, UNPACK(&f, { "h1", 0, "d/hidden" }), "which is not there");
        assert_refused(&f, UNPACK(&f, { "h2", 0, "o/old" }), "which is not there");
        assert_refused(&f, UNPACK(&f, { "h3", 0, "way/passwd" }), "which is not there");
        assert_refused(&f, UNPACK(&f, { "h4", 0, "d" }), "which is not there");
}

/* /tmp/x in a layer that says nothing of /tmp must not take its sticky bit away. */
static void test_layer_unnamed_parents_are_as_below(void **state) {
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        ADD_LOWER(&f, "bottom", { "tmp", AE_IFDIR, .mode = 01777, .uid = 3 });
        ASSERT_EQ(UNPACK(&f, { "tmp/x/y", AE_IFREG, "1" }), 1);
        ASSERT_EQ(stat_of(&f, "root/tmp").st_mode, S_IFDIR | 01777);
        ASSERT_EQ(stat_of(&f, "root/tmp").st_uid, 3);
        ASSERT_EQ(stat_of(&f, "root/tmp").st_mtim.tv_sec, 1000000000);
        ASSERT_EQ(stat_of(&f, "root/tmp/x").st_mode, S_IFDIR | 0755);
        ASSERT_EQ(stat_of(&f, "root/tmp/x").st_uid, 0);
        /* Named later on, the layer stands for itself. */
        ASSERT_EQ(UNPACK(&f, { "opt/y", AE_IFREG, "1" }, { "opt", AE_IFDIR, .mode = 0711 }), 0);
        ASSERT_EQ(stat_of(&f, "root/opt").st_mode, S_IFDIR | 0711);
}

static void test_layer_has_limits(void **state) {
        const Item one[] = { { "a", AE_IFREG, "12345678" } },
                   many[] = { { "a", AE_IFREG }, { "b", AE_IFREG } };
        _cleanup_fixture_ Fixture f;
        char deep[2 * 300 + 1], name[300];

        fixture_init(&f);
        assert_refused(&f, unpack_at(&f, "root", one, 1, NULL, 7, 100), "larger than 7 bytes");
        ASSERT_EQ(f.error.code, K_LIMIT_EXCEEDED);
        ASSERT_OK(unpack_at(&f, "root", one, 1, NULL, 8, 100));
        assert_refused(&f, unpack_at(&f, "root", many, 2, NULL, 8, 1), "more than 1 entries");
        for (size_t i = 0; i < 300; i++)
                memcpy(deep + i * 2, "d/", 3);
        assert_refused(&f, UNPACK(&f, { deep, AE_IFDIR }), "too deep");
        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        assert_refused(&f, UNPACK(&f, { name, AE_IFREG }), "too long");
}

/* A megabyte of zeros for each kilobyte: stops where the limit is, not where the disk ends. */
static void test_layer_stops_a_bomb(void **state) {
        _cleanup_free_ char *zeros = calloc(1, 8 * 1024 * 1024);
        struct archive *a = archive_write_new();
        struct archive_entry *e = archive_entry_new();
        _cleanup_close_ int blob = memfd_create("layer", MFD_CLOEXEC), root = -EBADF;
        LayerOptions o = { .size_max = 4096, .entries_max = 10 };
        _cleanup_fixture_ Fixture f;

        /* Not even a file: padding behind the archive, which is read only for the digest. */
        fixture_init(&f);
        ASSERT_TRUE(zeros);
        ASSERT_EQ(archive_write_set_format_raw(a), ARCHIVE_OK);
        ASSERT_EQ(archive_write_add_filter_gzip(a), ARCHIVE_OK);
        ASSERT_EQ(archive_write_open_fd(a, blob), ARCHIVE_OK);
        archive_entry_set_filetype(e, AE_IFREG);
        ASSERT_EQ(archive_write_header(a, e), ARCHIVE_OK);
        for (size_t i = 0; i < 8; i++)
                ASSERT_TRUE(archive_write_data(a, zeros, 8 * 1024 * 1024) > 0);
        archive_entry_free(e);
        archive_write_free(a);
        ASSERT_TRUE(lseek(blob, 0, SEEK_SET) == 0);
        root = openat(f.fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_refused(&f, layer_unpack(blob, root, &o, f.diff_id, &f.stats, &f.error), "larger than");
        ASSERT_EQ(f.error.code, K_LIMIT_EXCEEDED);
}

static void test_layer_damaged(void **state) {
        const Item items[] = { { "a", AE_IFREG, "content that does not fit into what is left" } };
        _cleanup_close_ int blob = make_layer(items, 1, archive_write_add_filter_gzip), root = -EBADF,
                            text = -EBADF;
        LayerOptions o = { .size_max = 4096, .entries_max = 10 };
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        root = openat(f.fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_OK(ftruncate(blob, 60));
        assert_refused(&f, layer_unpack(blob, root, &o, f.diff_id, &f.stats, &f.error), "damaged");
        ASSERT_EQ(f.error.code, K_IMAGE);

        kerror_done(&f.error);
        text = memfd_create("text", MFD_CLOEXEC);
        ASSERT_OK(loop_write(text, "<html>Not found</html>", 22));
        ASSERT_TRUE(lseek(text, 0, SEEK_SET) == 0);
        assert_refused(&f, layer_unpack(text, root, &o, f.diff_id, &f.stats, &f.error), "damaged");
}

static int stop_at_once(uint64_t bytes, void *userdata) {
        return -ECANCELED;
}

static void test_layer_can_be_cancelled(void **state) {
        Item items[200];
        char names[200][8];
        _cleanup_close_ int blob = -EBADF, root = -EBADF;
        LayerOptions o = { .size_max = 4096, .entries_max = 1000, .progress = stop_at_once };
        _cleanup_fixture_ Fixture f;

        fixture_init(&f);
        for (size_t i = 0; i < ELEMENTSOF(items); i++) {
                snprintf(names[i], sizeof(names[i]), "f%zu", i);
                items[i] = (Item){ names[i], AE_IFREG };
        }
        blob = make_layer(items, ELEMENTSOF(items), NULL);
        root = openat(f.fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ASSERT_ERROR(layer_unpack(blob, root, &o, f.diff_id, &f.stats, &f.error), ECANCELED);
}

static int setup(void **state) {
        (void) setlocale(LC_CTYPE, "C.UTF-8");
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_layer_unpacks_every_kind),
                cmocka_unit_test(test_layer_reads_gzip_and_zstd_to_the_same_digest),
                cmocka_unit_test(test_layer_turns_whiteouts_into_overlayfs_form),
                cmocka_unit_test(test_layer_whiteout_and_entry_of_the_same_name),
                cmocka_unit_test(test_layer_later_entry_replaces_earlier),
                cmocka_unit_test(test_layer_never_leaves_its_root),
                cmocka_unit_test(test_layer_leaves_out_devices_and_foreign_attributes),
                cmocka_unit_test(test_layer_keeps_file_capabilities),
                cmocka_unit_test(test_layer_takes_hard_links_from_below),
                cmocka_unit_test(test_layer_unnamed_parents_are_as_below),
                cmocka_unit_test(test_layer_has_limits),
                cmocka_unit_test(test_layer_stops_a_bomb),
                cmocka_unit_test(test_layer_damaged),
                cmocka_unit_test(test_layer_can_be_cancelled),
        };

        if (geteuid() != 0) {
                print_message("Not root: owners cannot be set, nothing is tested.\n");
                return 77; /* meson's skip */
        }

        return cmocka_run_group_tests(tests, setup, NULL);
}
