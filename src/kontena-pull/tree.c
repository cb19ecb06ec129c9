/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tree.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <uthash.h>

#include "file-util.h"
#include "image-layout.h"
#include "kontena-limits.h"
#include "string-util.h"

struct ImplicitDirectory {
        char *path;
        UT_hash_handle hh;
};

void tree_init(Tree *t, int root_fd) {
        *t = (Tree){ .root_fd = root_fd, .parent_fd = -EBADF };
}

static void implicit_remove(Tree *t, ImplicitDirectory *d) {
        HASH_DEL(t->implicit, d);
        free(d->path);
        free(d);
}

static int implicit_add(Tree *t, const char *path) {
        ImplicitDirectory *d;

        HASH_FIND_STR(t->implicit, path, d);
        if (d)
                return 0;
        d = new0(ImplicitDirectory, 1);
        if (!d)
                return -ENOMEM;
        d->path = strdup(path);
        if (!d->path) {
                free(d);
                return -ENOMEM;
        }
        HASH_ADD_KEYPTR(hh, t->implicit, d->path, strlen(d->path), d);
        if (!d->hh.tbl) {
                free(d->path);
                free(d);
                return -ENOMEM;
        }
        return 0;
}

void tree_named(Tree *t, const char *path) {
        ImplicitDirectory *d;

        HASH_FIND_STR(t->implicit, path, d);
        if (d)
                implicit_remove(t, d);
}

bool tree_has_implicit(const Tree *t) {
        return t->implicit;
}

int tree_for_each_implicit(Tree *t, int (*f)(const char *path, void *userdata), void *userdata) {
        ImplicitDirectory *d, *next;

        HASH_ITER(hh, t->implicit, d, next) {
                int r = f(d->path, userdata);

                if (r < 0)
                        return r;
        }

        return 0;
}

void tree_done(Tree *t) {
        ImplicitDirectory *d, *next;

        t->parent_fd = safe_close(t->parent_fd);
        t->parent = mfree(t->parent);
        HASH_ITER(hh, t->implicit, d, next)
                implicit_remove(t, d);
}

int tree_normalize(const char *path, char **ret, KError *reterr) {
        _cleanup_free_ char *result = NULL;
        size_t n = 0, depth = 0;

        if (strlen(path) > IMAGE_PATH_MAX)
                return kerror_set(reterr, K_IMAGE, "it has a path of more than %u bytes", IMAGE_PATH_MAX);
        result = malloc(strlen(path) + 1);
        if (!result)
                return -ENOMEM;

        for (const char *p = path;;) {
                size_t k;

                p += strspn(p, "/");
                if (*p == '\0')
                        break;
                k = strcspn(p, "/");
                if (k == 2 && p[0] == '.' && p[1] == '.')
                        return kerror_set(reterr, K_IMAGE, "it has the unsafe path '%s'", path);
                if (k > NAME_MAX || ++depth > IMAGE_DEPTH_MAX)
                        return kerror_set(reterr, K_IMAGE, "it has a path that is too long or too deep");
                if (k != 1 || p[0] != '.') {
                        if (n > 0)
                                result[n++] = '/';
                        memcpy(result + n, p, k);
                        n += k;
                }
                p += k;
        }
        result[n] = '\0';

        *ret = TAKE_PTR(result);
        return 0;
}

int tree_open_directory(int root_fd, const char *path) {
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
        };
        int fd;

        fd = (int) syscall(SYS_openat2, root_fd, isempty(path) ? "." : path, &how, sizeof(how));
        return fd < 0 ? -errno : fd;
}

bool stat_is_whiteout(const struct stat *st) {
        return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

int tree_set_opaque(int directory_fd) {
        return fsetxattr(directory_fd, OVERLAY_OPAQUE_XATTR, "y", 1, 0) < 0 ? -errno : 0;
}

/* Opens one directory, making it if it is not there. What was hidden by a whiteout of this layer stays hidden. */
static int enter(Tree *t, int fd, const char *name, const char *path) {
        bool opaque = false;
        struct stat st;
        int child, r;

        child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child >= 0)
                return child;
        if (errno == ENOTDIR) {
                if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return -errno;
                if (!stat_is_whiteout(&st))
                        return -ENOTDIR;
                if (unlinkat(fd, name, 0) < 0)
                        return -errno;
                opaque = true;
        } else if (errno != ENOENT)
                return -errno;

        if (mkdirat(fd, name, 0755) < 0)
                return -errno;
        child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0)
                return -errno;
        /* Neither the umask nor our own user has a say in it. */
        r = fchmod(child, 0755) < 0 || fchown(child, 0, 0) < 0 ? -errno : 0;
        if (r >= 0)
                r = opaque ? tree_set_opaque(child) : implicit_add(t, path);
        if (r < 0) {
                safe_close(child);
                return r;
        }

        return child;
}

static int make_parents(Tree *t, const char *path) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *copy = NULL;
        char *p;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        fd = openat(t->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        p = copy;
        while (p) {
                char *slash = strchr(p, '/');
                int child;

                if (slash)
                        *slash = '\0';
                child = enter(t, fd, p, copy);
                if (child < 0)
                        return child;
                safe_close(fd);
                fd = child;
                if (slash)
                        *slash = '/';
                p = slash ? slash + 1 : NULL;
        }

        return TAKE_FD(fd);
}

/* "a/b/c" has the parent "a/b" and the name "c". */
static int split(const char *path, char **ret_parent, const char **ret_name) {
        const char *slash = strrchr(path, '/');

        *ret_parent = strndup(path, slash ? (size_t) (slash - path) : 0);
        *ret_name = slash ? slash + 1 : path;
        return *ret_parent ? 0 : -ENOMEM;
}

int tree_parent(Tree *t, const char *path, int *ret_fd, const char **ret_name, KError *reterr) {
        _cleanup_free_ char *parent = NULL;
        const char *name;
        int fd, r;

        r = split(path, &parent, &name);
        if (r < 0)
                return r;
        if (!t->parent || !streq(parent, t->parent)) {
                fd = tree_open_directory(t->root_fd, parent);
                if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
                        fd = make_parents(t, parent);
                if (fd == -ENOTDIR)
                        return kerror_set(reterr, K_IMAGE,
                                        "it has the unsafe path '%s', which leads through something that is "
                                        "not a directory",
                                        path);
                if (fd < 0)
                        return kerror_set_errno(reterr, fd, "'%s' cannot be opened: %m", parent);
                safe_close(t->parent_fd);
                t->parent_fd = fd;
                free(t->parent);
                t->parent = TAKE_PTR(parent);
        }

        *ret_fd = t->parent_fd;
        *ret_name = name;
        return 0;
}

int tree_find_parent(int root_fd, const char *path, int *ret_fd, const char **ret_name) {
        _cleanup_free_ char *parent = NULL;
        const char *name;
        int fd, r;

        r = split(path, &parent, &name);
        if (r < 0)
                return r;
        fd = tree_open_directory(root_fd, parent);
        if (fd == -ENOTDIR || fd == -ELOOP)
                return -ENOENT;
        if (fd < 0)
                return fd;

        *ret_fd = fd;
        *ret_name = name;
        return 0;
}

int tree_make_room(Tree *t, int fd, const char *name, bool keep_directory, bool *ret_was_whiteout) {
        struct stat st;

        *ret_was_whiteout = false;
        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;

        if (S_ISDIR(st.st_mode)) {
                int r;

                if (keep_directory)
                        return 1;
                r = rm_rf_at(fd, name);
                if (r < 0)
                        return r;
                /* The remembered parent may have been below. fd is that one or above it, and stays open. */
                t->parent = mfree(t->parent);
                return 0;
        }

        *ret_was_whiteout = stat_is_whiteout(&st);
        return unlinkat(fd, name, 0) < 0 ? -errno : 0;
}

int tree_whiteout(int fd, const char *name) {
        _cleanup_close_ int directory = -EBADF;
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno != ENOENT)
                        return -errno;
                /* Needs no CAP_MKNOD: this number is no device. */
                return mknodat(fd, name, S_IFCHR, makedev(0, 0)) < 0 ? -errno : 0;
        }
        if (!S_ISDIR(st.st_mode))
                return 0;

        directory = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return directory < 0 ? -errno : tree_set_opaque(directory);
}
