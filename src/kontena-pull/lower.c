/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lower.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#include "file-util.h"
#include "image-layout.h"
#include "string-util.h"
#include "tree.h"

bool xattr_is_kept(const char *name) {
        /* With user.overlay.* a layer could hide or redirect what lies below it. */
        return streq(name, "security.capability") ||
               (startswith(name, "user.") && !startswith(name, "user.overlay."));
}

/* 1: this layer decides, *ret_st is set, or it hides the path (st_mode 0). 0: look further down. */
static int look_into(
                int root_fd, const char *path, int *ret_parent, const char **ret_name, struct stat *ret_st) {
        _cleanup_free_ char *copy = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool opaque = false;
        char *p;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        fd = tree_open_directory(root_fd, "");
        if (fd < 0)
                return fd;

        *ret_st = (struct stat){};
        for (p = copy;;) {
                char *slash = strchr(p, '/'), value;
                struct stat st;
                int child;

                if (slash)
                        *slash = '\0';
                if (fstatat(fd, p, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return errno == ENOENT ? opaque : -errno;
                if (!slash) {
                        if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode)) {
                                *ret_st = st;
                                *ret_parent = TAKE_FD(fd);
                                *ret_name = path + (p - copy);
                        }
                        return 1;
                }
                if (!S_ISDIR(st.st_mode))
                        return 1;
                child = openat(fd, p, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0)
                        return -errno;
                safe_close(fd);
                fd = child;
                if (fgetxattr(fd, OVERLAY_OPAQUE_XATTR, &value, 1) == 1 && value == 'y')
                        opaque = true;
                p = slash + 1;
        }
}

int lower_find(const int *fds, size_t n_fds, const char *path, int *ret_parent, const char **ret_name,
                struct stat *ret) {
        FOREACH_ARRAY(fd, fds, n_fds) {
                struct stat st;
                int r;

                r = look_into(*fd, path, ret_parent, ret_name, &st);
                if (r < 0)
                        return r;
                if (r > 0) {
                        if (st.st_mode == 0)
                                return -ENOENT;
                        *ret = st;
                        return 0;
                }
        }

        return -ENOENT;
}

static int copy_xattrs(int from, int to) {
        char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
        ssize_t n;

        n = flistxattr(from, names, sizeof(names));
        if (n < 0)
                return errno == EOPNOTSUPP ? 0 : -errno;
        for (const char *p = names; p < names + n; p += strlen(p) + 1) {
                ssize_t k;

                if (!xattr_is_kept(p))
                        continue;
                k = fgetxattr(from, p, value, sizeof(value));
                if (k < 0 || fsetxattr(to, p, value, (size_t) k, 0) < 0)
                        return -errno;
        }

        return 0;
}

static int copy_symlink(int from_fd, const char *from, int to_fd, const char *to) {
        char target[PATH_MAX];
        ssize_t n;

        n = readlinkat(from_fd, from, target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        target[n] = '\0';
        return symlinkat(target, to_fd, to) < 0 ? -errno : 0;
}

static int copy_file(int from_fd, const char *from, const struct stat *st, int to_fd, const char *to) {
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        off_t left = st->st_size;
        int r;

        in = openat(from_fd, from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        out = in < 0 ? -EBADF
                     : openat(to_fd, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (out < 0)
                return -errno;
        while (left > 0) {
                ssize_t k = sendfile(out, in, NULL, (size_t) MIN(left, (off_t) (64 * 1024 * 1024)));

                if (k < 0)
                        return -errno;
                if (k == 0)
                        return -EIO;
                left -= k;
        }

        r = fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0 ? -errno : 0;
        return r < 0 ? r : copy_xattrs(in, out);
}

int lower_copy_directory(int from_fd, const char *from, const struct stat *st, int to_fd) {
        _cleanup_close_ int fd = -EBADF;

        fd = openat(from_fd, from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fchown(to_fd, st->st_uid, st->st_gid) < 0 || fchmod(to_fd, st->st_mode & 07777) < 0)
                return -errno;

        return copy_xattrs(fd, to_fd);
}

int lower_copy(int from_fd, const char *from, const struct stat *st, int to_fd, const char *to) {
        struct timespec times[2] = { st->st_atim, st->st_mtim };
        int r;

        if (S_ISLNK(st->st_mode)) {
                r = copy_symlink(from_fd, from, to_fd, to);
                if (r >= 0 && fchownat(to_fd, to, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
                        r = -errno;
        } else
                r = copy_file(from_fd, from, st, to_fd, to);
        if (r >= 0 && utimensat(to_fd, to, times, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        return r;
}
