/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "tar-internal.h"
#include "tar-metadata.h"
#include "tar-path.h"
#include "tar.h"
#include "tree.h"

#define PROGRESS_BLOCKS 16U
#define TEMPORARY       ".kontena-cp-"

/* Modes, times and attributes of directories are set at the end: what is made in them changes their time, a default list of access
 * rights would be for it, too, and some may not be written to. */
typedef struct Directory {
        char *path;
        TarMetadata metadata;
} Directory;

typedef struct Unpack {
        const TarOptions *options;
        struct archive *tar;
        tar_read_t read;
        void *userdata;
        int stream_error;
        bool stream_over;

        int root_fd, parent_fd;
        dev_t device; /* of parent_fd, which is no file system of the kernel */
        char *parent; /* the path of parent_fd, NULL: none is open */
        char *top;    /* what the first entry's first name was, "" for "." */
        char temporary[sizeof(TEMPORARY) + 16];

        Directory *directories;
        size_t n_directories, n_directories_allocated, directories_size;
        TarStats stats;
        KError *reterr;
} Unpack;

static void unpack_done(Unpack *u) {
        if (u->tar)
                archive_read_free(u->tar);
        safe_close(u->parent_fd);
        FOREACH_ARRAY(d, u->directories, u->n_directories) {
                free(d->path);
                tar_metadata_done(&d->metadata);
        }
        free(u->directories);
        free(u->parent);
        free(u->top);
}

static int fail_archive(Unpack *u) {
        const char *message = archive_error_string(u->tar);

        if (u->stream_error < 0)
                return u->stream_error;
        if (archive_errno(u->tar) == ENOMEM)
                return -ENOMEM;
        return kerror_set(u->reterr, K_INVALID_ARGUMENT, "the archive is damaged: %s",
                        message && string_is_printable(message) ? message : "it is not a tar archive");
}

static int fail_path(Unpack *u, int error, const char *path) {
        if (error == -ENOMEM || kerror_is_set(u->reterr))
                return error;
        if (error == -E2BIG)
                return kerror_set(u->reterr, K_LIMIT_EXCEEDED, "'%s' has too many attributes", path);
        if (error == -EDOM)
                return kerror_set(u->reterr, K_INVALID_ARGUMENT, "'%s' has an owner that does not exist",
                                path);
        return kerror_set_errno(u->reterr, error, "'%s' cannot be unpacked: %m", path);
}

static int next_block(Unpack *u, const void **ret, size_t *ret_size) {
        *ret_size = 0;
        if (u->stream_over)
                return 0;
        u->stream_error = u->read(ret, ret_size, u->userdata);
        if (u->stream_error < 0) {
                if (u->stream_error != -ENOMEM && !kerror_is_set(u->reterr))
                        (void) kerror_set_errno(
                                        u->reterr, u->stream_error, "the archive cannot be read: %m");
                return u->stream_error;
        }
        u->stream_over = *ret_size == 0;
        return 0;
}

static la_ssize_t on_read(struct archive *a, void *userdata, const void **ret) {
        Unpack *u = userdata;
        size_t size;

        if (next_block(u, ret, &size) < 0) {
                archive_set_error(a, EIO, "%s", "unreadable");
                return -1;
        }
        return (la_ssize_t) size;
}

/* Paths */

/* In an archive whose first name is another one, that is the only one. */
static int rename_path(Unpack *u, char **path) {
        const char *rename = u->options->rename, *rest = *path;
        char *renamed;

        if (!rename)
                return 0;
        if (!u->top) {
                u->top = strndup(*path, strcspn(*path, "/"));
                if (!u->top)
                        return -ENOMEM;
        }
        if (u->top[0] != '\0') {
                rest = startswith(*path, u->top);
                if (!rest || (rest[0] != '\0' && rest[0] != '/'))
                        return kerror_set(u->reterr, K_INVALID_ARGUMENT,
                                        "the archive is unsafe: '%s' is beside '%s', which was asked for",
                                        *path, u->top);
                rest += strspn(rest, "/");
        }

        renamed = isempty(rest) ? strdup(rename) : strjoin(rename, "/", rest);
        if (!renamed)
                return -ENOMEM;
        free(*path);
        *path = renamed;
        return 0;
}

static int make_path(Unpack *u, const char *raw, char **ret) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = tree_normalize(raw, &path, &error);
        if (kerror_is_set(&error))
                return kerror_set(u->reterr, K_INVALID_ARGUMENT, "the archive is unsafe: %s",
                                kerror_message(&error));
        if (r >= 0)
                r = rename_path(u, &path);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(path);
        return 0;
}

static int open_directory(const Unpack *u, int fd, const char *path) {
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                           (u->options->one_device ? RESOLVE_NO_XDEV : 0),
        };
        int r;

        r = (int) syscall(SYS_openat2, fd, isempty(path) ? "." : path, &how, sizeof(how));
        if (r < 0)
                return errno == ELOOP ? -ENOTDIR : -errno;
        return r;
}

/* The directory or one above it, in the one that is unpacked into. */
static int check_hidden(Unpack *u, int fd, const char *path) {
        int r;

        r = tar_is_hidden(u->options->hidden, u->options->n_hidden, fd, u->root_fd);
        return r > 0 ? kerror_set(u->reterr, K_CONFLICT,
                                       "'%s' is in a volume, which is not there while the instance does not "
                                       "run",
                                       path)
                     : r;
}

static int make_parents(Unpack *u, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        fd = open_directory(u, u->root_fd, "");
        for (char *p = copy; fd >= 0 && p;) {
                char *slash = strchr(p, '/');
                int child;

                if (slash)
                        *slash = '\0';
                child = open_directory(u, fd, p);
                if (child == -ENOENT) {
                        int q = check_hidden(u, fd, path);

                        if (q < 0)
                                return q;
                        if (mkdirat(fd, p, 0755) < 0 && errno != EEXIST)
                                return -errno;
                        child = open_directory(u, fd, p);
                        /* Neither the umask nor our own user has a say in it. */
                        if (child >= 0 && ((u->options->owner != TAR_OWNER_SELF &&
                                                           fchown(child, u->options->uid_base,
                                                                           u->options->uid_base) < 0) ||
                                                          fchmod(child, 0755) < 0)) {
                                int r = -errno;

                                safe_close(child);
                                return r;
                        }
                }
                if (child < 0)
                        return child;
                safe_close(fd);
                fd = child;
                p = slash ? slash + 1 : NULL;
        }

        return TAKE_FD(fd);
}

/* The directory in which path is to be made, and its name there. The descriptor is good until the next call. */
static int enter_parent(Unpack *u, const char *path, bool make, int *ret_fd, const char **ret_name) {
        const char *slash = strrchr(path, '/');
        _cleanup_free_ char *parent = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        parent = strndup(path, slash ? (size_t) (slash - path) : 0);
        if (!parent)
                return -ENOMEM;
        if (!u->parent || !streq(parent, u->parent)) {
                fd = open_directory(u, u->root_fd, parent);
                if (fd == -ENOENT && make)
                        fd = make_parents(u, parent);
                if (fd == -ENOTDIR)
                        return kerror_set(u->reterr, K_INVALID_ARGUMENT,
                                        "the archive is unsafe here: '%s' leads through something that is "
                                        "not "
                                        "a directory",
                                        path);
                if (fd < 0)
                        return fd;
                r = check_hidden(u, fd, path);
                if (r < 0)
                        return r;
                if (fstat(fd, &st) < 0)
                        return -errno;
                r = st.st_dev == u->device ? 0 : tar_is_kernel_file_system(fd);
                if (r > 0)
                        return kerror_set(u->reterr, K_NOT_SUPPORTED,
                                        "'%s' is in a file system of the kernel", path);
                if (r < 0)
                        return r;
                safe_close(u->parent_fd);
                u->parent_fd = TAKE_FD(fd);
                u->device = st.st_dev;
                free(u->parent);
                u->parent = TAKE_PTR(parent);
        }

        *ret_fd = u->parent_fd;
        *ret_name = slash ? slash + 1 : path;
        return 0;
}

/* Makes one thing, not a directory, by function, and lets it take its name when it is whole. In a directory that nobody sees that is
 * from the beginning. */
typedef int (*make_t)(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path);

/* 1: something has the name. -EISDIR, -EEXIST: a directory, a device, FIFO or socket. */
static int look_for(int parent, const char *name) {
        struct stat st;

        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        return S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? 1 : -EEXIST;
}

static int fail_directory(Unpack *u, const char *path) {
        return kerror_set(u->reterr, K_CONFLICT, "'%s' is a directory and is not replaced by a file", path);
}

static int make_whole(Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path,
                make_t make) {
        int r;

        r = look_for(parent, name);
        if (r == -EISDIR)
                return fail_directory(u, path);
        if (r == -EEXIST && !u->options->private)
                return kerror_set(u->reterr, K_CONFLICT,
                                "'%s' is a device, FIFO or socket and is not replaced by a file", path);
        if (r < 0 && r != -EEXIST)
                return r;
        if (u->options->private) {
                if (r != 0 && unlinkat(parent, name, 0) < 0)
                        return -errno;
                return make(u, entry, parent, name, path);
        }

        r = make(u, entry, parent, u->temporary, path);
        if (r >= 0 && renameat(parent, u->temporary, parent, name) < 0)
                r = errno == EISDIR ? fail_directory(u, path) : -errno;
        /* Also when both were names of one file already, and nothing was renamed. */
        if (unlinkat(parent, u->temporary, 0) < 0 && errno != ENOENT && r >= 0)
                r = -errno;
        return r;
}

static int apply(Unpack *u, struct archive_entry *entry, int fd) {
        _cleanup_(tar_metadata_done) TarMetadata m = {};
        int r;

        r = tar_metadata_read(entry, u->options, &m, &u->stats.n_skipped);
        return r < 0 ? r : tar_metadata_apply(&m, fd, u->options, &u->stats.n_skipped);
}

/* What has the name now may be another thing than the one that was made: somebody else may write here. */
static int apply_at(Unpack *u, struct archive_entry *entry, int parent, const char *name) {
        _cleanup_close_ int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        unsigned type = archive_entry_filetype(entry);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if ((st.st_mode & S_IFMT) != (type & S_IFMT) ||
                        ((type == AE_IFCHR || type == AE_IFBLK) && st.st_rdev != archive_entry_rdev(entry)))
                return -EBUSY;
        return apply(u, entry, fd);
}

static int count_size(Unpack *u, size_t size) {
        uint64_t max = u->options->size_max;

        u->stats.size += size;
        if (max > 0 && u->stats.size > max)
                return kerror_set(u->reterr, K_LIMIT_EXCEEDED,
                                "there are more than %llu bytes in the archive", (unsigned long long) max);
        return 0;
}

static int report_progress(Unpack *u) {
        return u->options->progress ? u->options->progress(u->stats.size, u->options->userdata) : 0;
}

static int write_content(Unpack *u, int fd, int64_t size, const char *path) {
        int r;

        if (size < 0)
                return kerror_set(u->reterr, K_INVALID_ARGUMENT, "'%s' has an impossible size", path);
        /* Holes, also at the end. */
        if (size > 0 && ftruncate(fd, size) < 0)
                return -errno;

        for (unsigned n = 1;; n++) {
                const void *data;
                int64_t offset;
                size_t n_data;

                r = archive_read_data_block(u->tar, &data, &n_data, &offset);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
                        return fail_archive(u);
                if (offset < 0 || n_data > (uint64_t) size || offset > size - (int64_t) n_data)
                        return kerror_set(
                                        u->reterr, K_INVALID_ARGUMENT, "'%s' is longer than it says", path);
                r = count_size(u, n_data);
                if (r >= 0)
                        r = loop_pwrite(fd, data, n_data, offset);
                if (r >= 0 && n % PROGRESS_BLOCKS == 0)
                        r = report_progress(u);
                if (r < 0)
                        return r;
        }
}

static int make_file(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_content(u, fd, archive_entry_size(entry), path);
        return r < 0 ? r : apply(u, entry, fd);
}

static int make_link(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        const char *target = archive_entry_symlink(entry);

        if (isempty(target) || strlen(target) >= PATH_MAX)
                return kerror_set(u->reterr, K_INVALID_ARGUMENT, "'%s' is a symbolic link to nowhere", path);
        if (symlinkat(target, parent, name) < 0)
                return -errno;
        return apply_at(u, entry, parent, name);
}

static int make_node(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        if (mknodat(parent, name, (archive_entry_filetype(entry) & S_IFMT) | 0600,
                            archive_entry_filetype(entry) == AE_IFIFO ? 0 : archive_entry_rdev(entry)) < 0)
                return -errno;
        return apply_at(u, entry, parent, name);
}

static int make_hard_link(
                Unpack *u, struct archive_entry *entry, int parent, const char *name, const char *path) {
        _cleanup_free_ char *target = NULL, *directory = NULL;
        _cleanup_close_ int fd = -EBADF;
        const char *slash;
        struct stat st;
        int r;

        r = make_path(u, archive_entry_hardlink(entry), &target);
        if (r < 0)
                return r;
        slash = strrchr(target, '/');
        directory = strndup(target, slash ? (size_t) (slash - target) : 0);
        if (!directory)
                return -ENOMEM;
        fd = open_directory(u, u->root_fd, directory);
        r = fd < 0 ? fd : check_hidden(u, fd, target);
        if (r >= 0 && fstatat(fd, slash ? slash + 1 : target, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r == -ENOENT || r == -ENOTDIR || (r >= 0 && S_ISDIR(st.st_mode)))
                return kerror_set(u->reterr, K_INVALID_ARGUMENT,
                                "'%s' is a hard link to '%s', which is not a file of the archive", path,
                                target);
        if (r < 0)
                return r;
        return linkat(fd, slash ? slash + 1 : target, parent, name, 0) < 0 ? -errno : 0;
}

static int remember_directory(Unpack *u, const char *path, TarMetadata *m) {
        Directory *d;

        /* Attributes are the part that has no bound of its own. */
        u->directories_size += m->size;
        if (u->directories_size > TAR_ATTRIBUTES_MAX)
                return kerror_set(u->reterr, K_LIMIT_EXCEEDED,
                                "the directories in the archive have more than %u bytes of attributes",
                                TAR_ATTRIBUTES_MAX);
        if (u->n_directories == u->n_directories_allocated) {
                size_t n = MAX(u->n_directories_allocated * 2, (size_t) 64);
                Directory *larger = reallocarray(u->directories, n, sizeof(Directory));

                if (!larger)
                        return -ENOMEM;
                u->directories = larger;
                u->n_directories_allocated = n;
        }

        d = u->directories + u->n_directories;
        *d = (Directory){ .path = strdup(path) };
        if (!d->path)
                return -ENOMEM;
        d->metadata = TAKE_GENERIC(*m, (TarMetadata){});
        u->n_directories++;
        return 0;
}

static int unpack_directory(Unpack *u, struct archive_entry *entry, const char *path) {
        _cleanup_(tar_metadata_done) TarMetadata m = {};
        const char *name;
        int parent, r;

        if (path[0] != '\0') {
                struct stat st;

                r = enter_parent(u, path, true, &parent, &name);
                if (r < 0)
                        return r;
                if (mkdirat(parent, name, 0700) < 0) {
                        if (errno != EEXIST)
                                return -errno;
                        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                                return -errno;
                        if (!S_ISDIR(st.st_mode))
                                return kerror_set(u->reterr, K_CONFLICT,
                                                "'%s' is not a directory and is not replaced by one", path);
                        FOREACH_ARRAY(h, u->options->hidden, u->options->n_hidden)
                                if (h->device == st.st_dev && h->inode == st.st_ino) {
                                        u->stats.n_skipped++;
                                        return 0;
                                }
                }
        } else if (!u->options->root_too)
                return 0;

        r = tar_metadata_read(entry, u->options, &m, &u->stats.n_skipped);
        return r < 0 ? r : remember_directory(u, path, &m);
}

/* The innermost first: a directory above that may not be searched is no hindrance. */
static int finish_directories(Unpack *u) {
        for (size_t i = u->n_directories; i > 0; i--) {
                const Directory *d = u->directories + i - 1;
                _cleanup_close_ int fd = open_directory(u, u->root_fd, d->path);
                int r;

                if (fd == -ENOENT || fd == -ENOTDIR)
                        continue; /* somebody has taken it away */
                r = fd < 0 ? fd : tar_is_kernel_file_system(fd);
                if (r > 0) { /* its root; what is below was refused */
                        u->stats.n_skipped++;
                        continue;
                }
                if (r >= 0)
                        r = tar_metadata_apply(&d->metadata, fd, u->options, &u->stats.n_skipped);
                if (r < 0)
                        return fail_path(u, r, d->path);
        }
        return 0;
}

static int unpack_at(Unpack *u, struct archive_entry *entry, const char *path) {
        unsigned type = archive_entry_filetype(entry);
        make_t make = NULL;
        const char *name;
        int parent, r;

        if (archive_entry_hardlink(entry)) {
                _cleanup_free_ char *target = NULL;

                r = make_path(u, archive_entry_hardlink(entry), &target);
                if (r < 0)
                        return r;
                if (streq(target, path))
                        return 0; /* some archivers say so of a file that they have given */
                make = make_hard_link;
        } else if (type == AE_IFREG)
                make = make_file;
        else if (type == AE_IFLNK)
                make = make_link;
        else if (u->options->devices && (type == AE_IFIFO || type == AE_IFCHR || type == AE_IFBLK))
                make = make_node;
        if (!make) {
                u->stats.n_skipped++;
                return 0;
        }

        r = enter_parent(u, path, true, &parent, &name);
        if (r < 0)
                return r;
        return make_whole(u, entry, parent, name, path, make);
}

static int unpack_entry(Unpack *u, struct archive_entry *entry) {
        const char *raw = archive_entry_pathname(entry);
        bool is_directory = archive_entry_filetype(entry) == AE_IFDIR && !archive_entry_hardlink(entry);
        _cleanup_free_ char *path = NULL;
        int r;

        if (isempty(raw))
                return kerror_set(u->reterr, K_INVALID_ARGUMENT,
                                "there is something without a readable name in the archive");
        r = make_path(u, raw, &path);
        if (r < 0)
                return r;
        if (u->stats.n_entries == 1 && u->options->directory_only && !is_directory)
                return kerror_set(u->reterr, K_INVALID_ARGUMENT, "'%s' is not a directory", raw);
        if (!is_directory && path[0] == '\0')
                return kerror_set(u->reterr, K_INVALID_ARGUMENT, "the archive's root is not a directory");

        r = is_directory ? unpack_directory(u, entry, path) : unpack_at(u, entry, path);
        return r < 0 ? fail_path(u, r, path) : 0;
}

static int open_archive(Unpack *u) {
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        (void) snprintf(u->temporary, sizeof(u->temporary), TEMPORARY "%016llx",
                        (unsigned long long) random);

        u->tar = archive_read_new();
        if (!u->tar)
                return -ENOMEM;
        /* The second takes no bytes, which are no archive: that is said at the end. */
        if (archive_read_support_format_tar(u->tar) != ARCHIVE_OK ||
                        archive_read_support_format_empty(u->tar) != ARCHIVE_OK)
                return -EOPNOTSUPP;
        if (archive_read_open(u->tar, u, NULL, on_read, NULL) != ARCHIVE_OK)
                return fail_archive(u);
        return 0;
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
                if (r != ARCHIVE_OK && r != ARCHIVE_WARN) /* also a damaged header that could be skipped */
                        return fail_archive(u);
                if (u->stats.n_entries >= (u->options->entries_max ?: TAR_ENTRIES_MAX))
                        return kerror_set(u->reterr, K_LIMIT_EXCEEDED,
                                        "there are more than %llu files in the archive",
                                        (unsigned long long) u->stats.n_entries);
                u->stats.n_entries++;

                r = unpack_entry(u, entry);
                if (r >= 0 && u->stats.n_entries % 64 == 0)
                        r = report_progress(u);
                if (r < 0)
                        return r;
        }
}

int tar_unpack(int dir_fd, const TarOptions *o, tar_read_t read, void *userdata, TarStats *ret,
                KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(unpack_done) Unpack u = {
                .options = o,
                .read = read,
                .userdata = userdata,
                .root_fd = dir_fd,
                .parent_fd = -EBADF,
                .reterr = reterr ?: &error,
        };
        _cleanup_(tar_locale_donep) _unused_ locale_t locale = tar_locale_begin();
        struct stat st;
        int r;

        assert(dir_fd >= 0);

        if (fstat(dir_fd, &st) < 0)
                return -errno;
        u.device = st.st_dev;
        r = open_archive(&u);
        if (r >= 0)
                r = unpack_all(&u);
        if (r < 0)
                return r;
        /* Two blocks of zeros are the end. Whoever stops before has lost the rest on the way. */
        if (u.stream_over)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "the archive is not whole: it has no end");
        r = finish_directories(&u);
        if (r >= 0)
                r = report_progress(&u);
        for (size_t n = 1; r >= 0 && n > 0;) {
                const void *rest;

                r = next_block(&u, &rest, &n);
        }
        if (r < 0)
                return r;

        *ret = u.stats;
        return 0;
}
