/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "lower.h"
#include "string-util.h"
#include "tree.h"

#define WHITEOUT_PREFIX      ".wh."
#define WHITEOUT_META_PREFIX ".wh..wh."
#define WHITEOUT_OPAQUE      ".wh..wh..opq"
#define READ_SIZE            (256U * 1024U)
#define PROGRESS_ENTRIES     64U

typedef struct DirectoryTime {
        char *path;
        struct timespec mtime;
} DirectoryTime;

typedef struct Unpack {
        const LayerOptions *options;
        struct archive *compressed; /* takes the compression off */
        struct archive *tar;        /* reads what the first one gives */
        Digest digest;
        uint64_t stream_size;
        int stream_error;
        Tree tree;
        LayerStats stats;
        DirectoryTime *times;
        size_t n_times, n_times_allocated;
        bool depends; /* on the layers below */
        KError *reterr;
} Unpack;

static void unpack_done(Unpack *u) {
        if (u->tar)
                archive_read_free(u->tar);
        if (u->compressed)
                archive_read_free(u->compressed);
        digest_done(&u->digest);
        tree_done(&u->tree);
        FOREACH_ARRAY(t, u->times, u->n_times)
                free(t->path);
        free(u->times);
}

static int fail_archive(Unpack *u, struct archive *a) {
        const char *message = archive_error_string(a);

        if (archive_errno(a) == ENOMEM)
                return -ENOMEM;
        return kerror_set(u->reterr, K_IMAGE, "it is damaged: %s",
                        message && string_is_printable(message) ? message : "it is not a tar archive");
}

static int fail_path(Unpack *u, int error, const char *path) {
        if (error == -ENOMEM)
                return error;
        return kerror_set_errno(u->reterr, error, "'%s' cannot be unpacked: %m", path);
}

/* Everything the stream is made of passes here once, and is counted and hashed. */
static int next_block(Unpack *u, const void **ret, size_t *ret_size) {
        const LayerOptions *o = u->options;
        const void *data;
        int64_t offset;
        size_t size;
        int r;

        r = archive_read_data_block(u->compressed, &data, &size, &offset);
        if (r == ARCHIVE_EOF) {
                *ret_size = 0;
                return 0;
        }
        if (r < ARCHIVE_WARN)
                return fail_archive(u, u->compressed);

        u->stream_size += size;
        /* Headers and padding are more than the files' size, but not without bound. */
        if (u->stream_size / 2 > o->size_max + (u->stats.n_entries + 16) * 1024U * 1024U)
                return kerror_set(u->reterr, K_LIMIT_EXCEEDED, "it is larger than %llu bytes when unpacked",
                                (unsigned long long) o->size_max);
        r = digest_add(&u->digest, data, size);
        if (r < 0)
                return r;

        *ret = data;
        *ret_size = size;
        return 0;
}

static la_ssize_t on_read(struct archive *a, void *userdata, const void **ret) {
        Unpack *u = userdata;
        size_t size = 0;

        /* libarchive takes an empty block for the end. */
        u->stream_error = next_block(u, ret, &size);
        if (u->stream_error < 0) {
                archive_set_error(a, EIO, "%s", "unreadable");
                return -1;
        }

        return (la_ssize_t) size;
}

static int open_archives(Unpack *u, int blob_fd) {
        struct archive_entry *entry;
        int r;

        u->compressed = archive_read_new();
        u->tar = archive_read_new();
        if (!u->compressed || !u->tar)
                return -ENOMEM;
        if (archive_read_support_filter_gzip(u->compressed) != ARCHIVE_OK ||
                        archive_read_support_filter_zstd(u->compressed) != ARCHIVE_OK ||
                        archive_read_support_format_raw(u->compressed) != ARCHIVE_OK ||
                        archive_read_support_format_empty(u->compressed) != ARCHIVE_OK ||
                        archive_read_support_format_tar(u->tar) != ARCHIVE_OK ||
                        archive_read_support_format_empty(u->tar) != ARCHIVE_OK)
                return -EOPNOTSUPP;

        if (archive_read_open_fd(u->compressed, blob_fd, READ_SIZE) != ARCHIVE_OK)
                return fail_archive(u, u->compressed);
        r = archive_read_next_header(u->compressed, &entry);
        if (r < ARCHIVE_WARN && r != ARCHIVE_EOF)
                return fail_archive(u, u->compressed);
        if (archive_read_open(u->tar, u, NULL, on_read, NULL) != ARCHIVE_OK)
                return u->stream_error < 0 ? u->stream_error : fail_archive(u, u->tar);

        return 0;
}

static int set_xattrs(Unpack *u, struct archive_entry *entry, int fd) {
        unsigned n = 0;

        (void) archive_entry_xattr_reset(entry);
        for (;;) {
                const char *name;
                const void *value;
                size_t size;

                if (archive_entry_xattr_next(entry, &name, &value, &size) != ARCHIVE_OK || !name)
                        return 0;
                if (++n > IMAGE_XATTRS_MAX)
                        return -E2BIG;
                if (fd < 0 || size > XATTR_SIZE_MAX || !xattr_is_kept(name)) {
                        u->stats.n_xattrs++;
                        continue;
                }
                if (fsetxattr(fd, name, value, size, 0) < 0) {
                        if (errno != EOPNOTSUPP)
                                return -errno;
                        u->stats.n_xattrs++;
                }
        }
}

static struct timespec entry_mtime(struct archive_entry *entry) {
        return (struct timespec){ archive_entry_mtime(entry), archive_entry_mtime_nsec(entry) };
}

static int entry_owner(
                Unpack *u, struct archive_entry *entry, uid_t *ret_uid, gid_t *ret_gid, const char *path) {
        int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

        /* The last one means "leave it" to chown(). */
        if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
                return kerror_set(u->reterr, K_IMAGE, "'%s' has an owner that does not exist", path);

        *ret_uid = (uid_t) uid;
        *ret_gid = (gid_t) gid;
        return 0;
}

/* Owner before mode and capabilities: chown() takes both away. */
static int set_metadata(Unpack *u, struct archive_entry *entry, int fd, const char *path) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, entry_mtime(entry) };
        uid_t uid;
        gid_t gid;
        int r;

        r = entry_owner(u, entry, &uid, &gid, path);
        if (r < 0)
                return r;
        r = fchown(fd, uid, gid) < 0 || fchmod(fd, archive_entry_mode(entry) & 07777) < 0 ? -errno : 0;
        if (r >= 0)
                r = set_xattrs(u, entry, fd);
        if (r >= 0 && futimens(fd, times) < 0)
                r = -errno;
        return r < 0 ? fail_path(u, r, path) : 0;
}

/* The same for what cannot be opened. */
static int set_metadata_at(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, entry_mtime(entry) };
        uid_t uid;
        gid_t gid;
        int r;

        r = entry_owner(u, entry, &uid, &gid, path);
        if (r < 0)
                return r;
        if (fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ||
                        (archive_entry_filetype(entry) != AE_IFLNK &&
                                        fchmodat(parent, name, archive_entry_mode(entry) & 07777, 0) < 0) ||
                        utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
                return fail_path(u, -errno, path);

        r = set_xattrs(u, entry, -EBADF);
        return r < 0 ? fail_path(u, r, path) : 0;
}

static int count_size(Unpack *u, uint64_t size) {
        if (size > u->options->size_max - u->stats.size)
                return kerror_set(u->reterr, K_LIMIT_EXCEEDED, "it is larger than %llu bytes when unpacked",
                                (unsigned long long) u->options->size_max);

        u->stats.size += size;
        return 0;
}

static int report_progress_of(Unpack *u) {
        if (!u->options->progress)
                return 0;
        return u->options->progress(
                        (uint64_t) archive_filter_bytes(u->compressed, -1), u->options->userdata);
}

static int unpack_content(Unpack *u, int fd, int64_t size, const char *path) {
        int r;

        r = count_size(u, (uint64_t) MAX(size, INT64_C(0)));
        if (r < 0)
                return r;
        /* Parts that a sparse file leaves out, also at its end. */
        if (size > 0 && ftruncate(fd, size) < 0)
                return fail_path(u, -errno, path);

        for (unsigned n = 1;; n++) {
                const void *data;
                int64_t offset;
                size_t n_data;

                r = archive_read_data_block(u->tar, &data, &n_data, &offset);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (u->stream_error < 0)
                        return u->stream_error;
                if (r < ARCHIVE_WARN)
                        return fail_archive(u, u->tar);
                if (offset < 0 || n_data > (uint64_t) size || offset > size - (int64_t) n_data)
                        return kerror_set(u->reterr, K_IMAGE, "'%s' is longer than it says", path);
                r = loop_pwrite(fd, data, n_data, offset);
                if (r < 0)
                        return fail_path(u, r, path);
                r = n % PROGRESS_ENTRIES == 0 ? report_progress_of(u) : 0;
                if (r < 0)
                        return r;
        }
}

static int unpack_file(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return fail_path(u, -errno, path);

        r = unpack_content(u, fd, archive_entry_size(entry), path);
        if (r < 0)
                return r;
        return set_metadata(u, entry, fd, path);
}

static int remember_time(Unpack *u, const char *path, struct timespec mtime) {
        char *copy;

        if (u->n_times == u->n_times_allocated) {
                size_t n = MAX(u->n_times_allocated * 2, (size_t) 64);
                DirectoryTime *larger = reallocarray(u->times, n, sizeof(DirectoryTime));

                if (!larger)
                        return -ENOMEM;
                u->times = larger;
                u->n_times_allocated = n;
        }
        copy = strdup(path);
        if (!copy)
                return -ENOMEM;

        u->times[u->n_times++] = (DirectoryTime){ copy, mtime };
        return 0;
}

/* What is unpacked into a directory changes its time: set at the end. One that is gone by then is no matter. */
static void set_directory_times(Unpack *u) {
        FOREACH_ARRAY(t, u->times, u->n_times) {
                struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, t->mtime };
                _cleanup_close_ int fd = tree_open_directory(u->tree.root_fd, t->path);

                if (fd >= 0)
                        (void) futimens(fd, times);
        }
}

/* A directory of which this layer says nothing but that something is in it. */
static int adopt_directory(const char *path, void *userdata) {
        _cleanup_close_ int fd = -EBADF, parent = -EBADF;
        Unpack *u = userdata;
        const char *name;
        struct stat st;
        int r;

        fd = tree_open_directory(u->tree.root_fd, path);
        if (fd < 0)
                return 0; /* replaced later on */
        r = lower_find(u->options->lower_fds, u->options->n_lower_fds, path, &parent, &name, &st);
        if (r == -ENOENT || (r >= 0 && !S_ISDIR(st.st_mode)))
                return 0;
        if (r >= 0)
                r = lower_copy_directory(parent, name, &st, fd);
        if (r >= 0)
                r = remember_time(u, path, st.st_mtim);
        return r < 0 ? fail_path(u, r, path) : 0;
}

static int unpack_directory(Unpack *u, struct archive_entry *entry, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        bool was_whiteout = false;
        const char *name = ".";
        int parent = u->tree.root_fd, r = 1;

        if (path[0] != '\0') {
                r = tree_parent(&u->tree, path, &parent, &name, u->reterr);
                if (r < 0)
                        return r;
                r = tree_make_room(&u->tree, parent, name, /* keep_directory= */ true, &was_whiteout);
                if (r == 0 && mkdirat(parent, name, 0700) < 0)
                        r = -errno;
                if (r < 0)
                        return fail_path(u, r, path);
        }
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return fail_path(u, -errno, path);
        r = was_whiteout ? tree_set_opaque(fd) : 0;
        if (r < 0)
                return fail_path(u, r, path);

        tree_named(&u->tree, path);
        r = set_metadata(u, entry, fd, path);
        return r < 0 ? r : remember_time(u, path, entry_mtime(entry));
}

static int unpack_hard_link(Unpack *u, const char *link, int parent, const char *name, const char *path) {
        _cleanup_free_ char *target = NULL;
        _cleanup_close_ int target_parent = -EBADF;
        const char *target_name;
        bool was_whiteout;
        struct stat st;
        int r;

        r = tree_normalize(link, &target, u->reterr);
        if (r < 0)
                return r;
        if (streq(target, path))
                return 0; /* some archivers say so of a file they have already given */

        r = tree_find_parent(u->tree.root_fd, target, &target_parent, &target_name);
        if (r >= 0 && fstatat(target_parent, target_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r >= 0 && stat_is_whiteout(&st))
                r = -ENOENT;
        if (r >= 0 && S_ISDIR(st.st_mode))
                return kerror_set(u->reterr, K_IMAGE, "'%s' is a hard link to the directory '%s'", path,
                                target);
        if (r < 0 && r != -ENOENT)
                return fail_path(u, r, path);

        if (r >= 0) {
                r = tree_make_room(&u->tree, parent, name, /* keep_directory= */ false, &was_whiteout);
                if (r >= 0 && linkat(target_parent, target_name, parent, name, 0) < 0)
                        r = -errno;
                return r < 0 ? fail_path(u, r, path) : 0;
        }

        u->depends = true;
        target_parent = safe_close(target_parent);
        r = lower_find(u->options->lower_fds, u->options->n_lower_fds, target, &target_parent, &target_name,
                        &st);
        if (r == -ENOENT || (r >= 0 && S_ISDIR(st.st_mode)))
                return kerror_set(u->reterr, K_IMAGE, "'%s' is a hard link to '%s', which is not there",
                                path, target);
        if (r >= 0)
                r = count_size(u, (uint64_t) st.st_size);
        if (r < 0)
                return r;
        r = tree_make_room(&u->tree, parent, name, /* keep_directory= */ false, &was_whiteout);
        if (r >= 0)
                r = lower_copy(target_parent, target_name, &st, parent, name);
        return r < 0 ? fail_path(u, r, path) : 0;
}

static int unpack_whiteout(Unpack *u, int parent, const char *name, const char *path) {
        int r;

        if (streq(name, WHITEOUT_OPAQUE))
                r = tree_set_opaque(parent);
        else if (startswith(name, WHITEOUT_META_PREFIX))
                return 0;
        else if (STR_IN_SET(name + strlen(WHITEOUT_PREFIX), "", ".", ".."))
                return kerror_set(u->reterr, K_IMAGE, "it has the unsafe path '%s'", path);
        else
                r = tree_whiteout(parent, name + strlen(WHITEOUT_PREFIX));

        /* What they say of whiteouts and user.* attributes, and what nothing can be done about. */
        if (r == -EPERM || r == -EOPNOTSUPP)
                return kerror_set(u->reterr, K_UNAVAILABLE,
                                "the image store is on a file system that cannot hold layers, such as "
                                "another overlayfs");
        return r < 0 ? fail_path(u, r, path) : 0;
}

static int unpack_other(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        const char *target;
        bool was_whiteout;
        int r;

        r = tree_make_room(&u->tree, parent, name, /* keep_directory= */ false, &was_whiteout);
        if (r < 0)
                return fail_path(u, r, path);

        switch (archive_entry_filetype(entry)) {
        case AE_IFREG:
                return unpack_file(u, entry, parent, name, path);

        case AE_IFLNK:
                target = archive_entry_symlink(entry);
                if (isempty(target))
                        return kerror_set(u->reterr, K_IMAGE, "'%s' is a symbolic link to nowhere", path);
                if (symlinkat(target, parent, name) < 0)
                        return fail_path(u, -errno, path);
                break;

        default:
                if (mknodat(parent, name, S_IFIFO | 0600, 0) < 0)
                        return fail_path(u, -errno, path);
        }

        return set_metadata_at(u, entry, parent, name, path);
}

static int unpack_entry(Unpack *u, struct archive_entry *entry) {
        const char *raw = archive_entry_pathname(entry), *link = archive_entry_hardlink(entry), *name;
        _cleanup_free_ char *path = NULL;
        unsigned type = archive_entry_filetype(entry);
        int parent, r;

        if (isempty(raw))
                return kerror_set(u->reterr, K_IMAGE, "it has an entry without a readable name");
        r = tree_normalize(raw, &path, u->reterr);
        if (r < 0)
                return r;

        if (!link && type == AE_IFDIR)
                return unpack_directory(u, entry, path);
        if (path[0] == '\0')
                return kerror_set(u->reterr, K_IMAGE, "its root is not a directory");

        r = tree_parent(&u->tree, path, &parent, &name, u->reterr);
        if (r < 0)
                return r;
        if (startswith(name, WHITEOUT_PREFIX))
                return unpack_whiteout(u, parent, name, path);
        if (link)
                return unpack_hard_link(u, link, parent, name, path);
        if (!(type == AE_IFREG || type == AE_IFLNK || type == AE_IFIFO)) {
                u->stats.n_devices++;
                return 0;
        }

        return unpack_other(u, entry, parent, name, path);
}

static int unpack_all(Unpack *u) {
        for (;;) {
                struct archive_entry *entry;
                int r;

                r = archive_read_next_header(u->tar, &entry);
                if (u->stream_error < 0)
                        return u->stream_error;
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r < ARCHIVE_WARN)
                        return fail_archive(u, u->tar);
                if (u->stats.n_entries >= u->options->entries_max)
                        return kerror_set(u->reterr, K_LIMIT_EXCEEDED, "it has more than %llu entries",
                                        (unsigned long long) u->options->entries_max);
                u->stats.n_entries++;

                r = unpack_entry(u, entry);
                if (r >= 0 && u->stats.n_entries % PROGRESS_ENTRIES == 0)
                        r = report_progress_of(u);
                if (r < 0)
                        return r;
        }
}

int layer_unpack(int blob_fd, int root_fd, const LayerOptions *o,
                char ret_diff_id[static DIGEST_STRING_SIZE], LayerStats *ret_stats, KError *reterr) {
        _cleanup_(unpack_done) Unpack u = { .options = o, .reterr = reterr };
        const void *rest;
        size_t n;
        int r;

        assert(blob_fd >= 0 && root_fd >= 0);

        tree_init(&u.tree, root_fd);
        r = digest_init(&u.digest);
        if (r >= 0)
                r = open_archives(&u, blob_fd);
        if (r >= 0)
                r = unpack_all(&u);
        if (r >= 0 && tree_has_implicit(&u.tree)) {
                u.depends = true;
                r = tree_for_each_implicit(&u.tree, adopt_directory, &u);
        }
        if (r < 0)
                return r;
        set_directory_times(&u);

        /* Padding behind the archive's end belongs to what was hashed. */
        do {
                r = next_block(&u, &rest, &n);
                if (r < 0)
                        return r;
        } while (n > 0);

        r = digest_finish(&u.digest, ret_diff_id);
        if (r < 0)
                return r;

        *ret_stats = u.stats;
        return u.depends;
}
