/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tar-path.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define MQUEUE_SUPER_MAGIC 0x19800202
#define FUSE_CTL_MAGIC     0x65735543
#define LINKS_MAX          40U /* as the kernel */

int tar_is_kernel_file_system(int fd) {
        static const unsigned long kernel[] = { PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC,
                CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC,
                BPF_FS_MAGIC, PSTOREFS_MAGIC, EFIVARFS_MAGIC, BINFMTFS_MAGIC, SELINUX_MAGIC, SMACK_MAGIC,
                NSFS_MAGIC, MQUEUE_SUPER_MAGIC, FUSE_CTL_MAGIC };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return -errno;
        FOREACH_ARRAY(k, kernel, ELEMENTSOF(kernel))
                if ((unsigned long) fs.f_type == *k)
                        return 1;
        return 0;
}

static size_t length_without_slashes(const char *path) {
        size_t n = strlen(path);

        while (n > 0 && path[n - 1] == '/')
                n--;
        return n;
}

static bool is_dots(const char *name, size_t n) {
        return (n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.');
}

/* "a/b/" has the directory "a/" and the name "b". "", "/", ".", "..", "a/." and "a/.." are directories themselves. */
static int split(const char *path, char **ret_directory, char **ret_name) {
        _cleanup_free_ char *directory = NULL, *name = NULL;
        size_t n = length_without_slashes(path), start = n;

        while (start > 0 && path[start - 1] != '/')
                start--;
        if (n == start || is_dots(path + start, n - start)) {
                directory = strdup(isempty(path) ? "." : path);
                name = strdup(".");
        } else {
                directory = start > 0 ? strndup(path, start) : strdup(".");
                name = strndup(path + start, n - start);
        }
        if (!directory || !name)
                return -ENOMEM;

        *ret_directory = TAKE_PTR(directory);
        *ret_name = TAKE_PTR(name);
        return 0;
}

int tar_path_name(const char *path, char **ret) {
        _cleanup_free_ char *directory = NULL;

        return split(path, &directory, ret);
}

bool tar_path_wants_directory(const char *path) {
        size_t n = length_without_slashes(path), start = n;

        while (start > 0 && path[start - 1] != '/')
                start--;
        return path[n] == '/' || n == start || is_dots(path + start, n - start);
}

/* Absolute paths and links are below the root in any case. */
static int open_in(const TarRoot *root, int fd, const char *path, int flags) {
        struct open_how how = {
                .flags = (uint64_t) (flags | O_CLOEXEC),
                .resolve = root->fd == AT_FDCWD ? 0 : RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        int r;

        r = (int) syscall(SYS_openat2, fd, path, &how, sizeof(how));
        return r < 0 ? -errno : r;
}

int tar_place(int fd, TarPlace *ret) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = (TarPlace){ .device = st.st_dev, .inode = st.st_ino };
        return 0;
}

static bool same_place(const TarPlace *a, const TarPlace *b) {
        return a->device == b->device && a->inode == b->inode;
}

int tar_is_hidden(const TarPlace *hidden, size_t n, int fd, int top_fd) {
        _cleanup_close_ int at = -EBADF;
        TarPlace top = {}, place = {};
        int r;

        if (n == 0)
                return 0;
        r = tar_place(top_fd, &top);
        if (r < 0)
                return r;
        at = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        for (unsigned depth = 0; at >= 0 && depth <= IMAGE_PATH_MAX; depth++) {
                int up;

                r = tar_place(at, &place);
                if (r < 0)
                        return r;
                FOREACH_ARRAY(h, hidden, n)
                        if (same_place(h, &place))
                                return 1;
                if (same_place(&top, &place))
                        return 0;
                up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
                safe_close(at);
                at = up;
        }
        return -EIO;
}

static int open_directory(
                const TarRoot *root, const char *path, const char *full, int *ret, KError *reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = open_in(root, root->fd, path, O_RDONLY | O_DIRECTORY);
        if (fd < 0)
                return fd;
        r = tar_is_kernel_file_system(fd);
        if (r > 0)
                return kerror_set(reterr, K_NOT_SUPPORTED,
                                "'%s' is in a file system of the kernel, which is not copied.", full);
        if (r >= 0)
                r = tar_is_hidden(root->hidden, root->n_hidden, fd, root->fd);
        if (r > 0)
                return kerror_set(reterr, K_CONFLICT,
                                "'%s' is in a volume, which is not there while the instance does not run.",
                                full);
        if (r < 0)
                return r;

        *ret = TAKE_FD(fd);
        return 0;
}

static int fail_open(int r, const char *path, KError *reterr) {
        if (r == -ENOENT)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no '%s'.", path);
        if (r == -ENOTDIR)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a directory.", path);
        if (r == -ELOOP)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has too many links in it.", path);
        return kerror_set_errno(reterr, r, "Cannot open '%s': %m.", path);
}

static int check_path(const char *path, KError *reterr) {
        if (isempty(path))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The path is empty.");
        if (strlen(path) > IMAGE_PATH_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A path has at most %u bytes.", IMAGE_PATH_MAX);
        return 0;
}

static int source_open(const TarRoot *root, const char *path, unsigned links, int *ret_fd, char **ret_name,
                KError *reterr);

/* A file is packed by way of the directory that it is in, whatever leads there. */
static int follow_link(const TarRoot *root, const char *path, int parent, const char *name, unsigned links,
                int *ret_fd, char **ret_name, KError *reterr) {
        _cleanup_free_ char *relative = NULL;
        char target[IMAGE_PATH_MAX + 1];
        const char *slash;
        ssize_t n;

        n = readlinkat(parent, name, target, sizeof(target) - 1);
        if (n < 0)
                return fail_open(-errno, path, reterr);
        target[n] = '\0';
        slash = strrchr(path, '/');
        if (target[0] == '/' || !slash)
                return source_open(root, target, links, ret_fd, ret_name, reterr);
        relative = strprintf("%.*s/%s", (int) (slash - path), path, target);
        return relative ? source_open(root, relative, links, ret_fd, ret_name, reterr) : -ENOMEM;
}

/* links: so many may be followed at the end of the path. */
static int source_open(const TarRoot *root, const char *path, unsigned links, int *ret_fd, char **ret_name,
                KError *reterr) {
        _cleanup_free_ char *directory = NULL, *name = NULL;
        _cleanup_close_ int fd = -EBADF;
        int child = -EBADF, r;
        struct stat st;

        r = check_path(path, reterr);
        if (r < 0)
                return r;
        r = split(path, &directory, &name);
        if (r >= 0)
                r = open_directory(root, directory, path, &fd, reterr);
        if (r >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r < 0)
                return kerror_is_set(reterr) ? r : fail_open(r, path, reterr);

        /* A directory itself, also where a file system is mounted over it. */
        if (!streq(name, ".") && (S_ISDIR(st.st_mode) || tar_path_wants_directory(path) ||
                                                 (links > 0 && S_ISLNK(st.st_mode)))) {
                r = open_directory(root, path, path, &child, reterr);
                if (r == -ENOTDIR && links > 0 && S_ISLNK(st.st_mode) && !tar_path_wants_directory(path))
                        return follow_link(root, path, fd, name, links - 1, ret_fd, ret_name, reterr);
                if (r < 0)
                        return kerror_is_set(reterr) ? r : fail_open(r, path, reterr);
                safe_close(fd);
                fd = child;
                free(name);
                name = strdup(".");
                if (!name)
                        return -ENOMEM;
        }

        *ret_fd = TAKE_FD(fd);
        *ret_name = TAKE_PTR(name);
        return 0;
}

int tar_source_open(const TarRoot *root, const char *path, bool follow, int *ret_fd, char **ret_name,
                char **ret_as, KError *reterr) {
        _cleanup_free_ char *as = NULL, *name = NULL;
        int r;

        r = check_path(path, reterr);
        if (r >= 0)
                r = tar_path_name(path, &as);
        if (r >= 0)
                r = source_open(root, path, follow ? LINKS_MAX : 0, ret_fd, &name, reterr);
        if (r < 0)
                return r;

        *ret_name = TAKE_PTR(name);
        *ret_as = TAKE_PTR(as);
        return 0;
}

int tar_target_open(const TarRoot *root, const char *path, const char *name, int *ret_fd, char **ret_rename,
                KError *reterr) {
        _cleanup_free_ char *directory = NULL, *last = NULL, *rename = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = check_path(path, reterr);
        if (r < 0)
                return r;
        if (name && (isempty(name) || strchr(name, '/') || streq(name, "..")))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not the name of a file.", name);

        r = open_directory(root, path, path, &fd, reterr);
        if (r >= 0) {
                if (name && !streq(name, ".")) {
                        rename = strdup(name);
                        if (!rename)
                                return -ENOMEM;
                }
        } else if ((r == -ENOENT || r == -ENOTDIR) && !kerror_is_set(reterr) && name) {
                r = split(path, &directory, &last);
                if (r >= 0 && streq(last, "."))
                        return fail_open(-ENOENT, path, reterr);
                if (r >= 0)
                        r = open_directory(root, directory, path, &fd, reterr);
                if (r == -ENOENT || r == -ENOTDIR)
                        return kerror_is_set(reterr) ? r : fail_open(r, directory, reterr);
                rename = TAKE_PTR(last);
        }
        if (r < 0)
                return kerror_is_set(reterr) ? r : fail_open(r, path, reterr);

        *ret_fd = TAKE_FD(fd);
        *ret_rename = TAKE_PTR(rename);
        return !directory;
}
