/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine-root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file-util.h"
#include "rootfs.h"
#include "string-util.h"

/* Whatever links there are on the way: they end at the root. */
static int open_inside(int root, const char *path, int flags) {
        struct open_how how = {
                .flags = (uint64_t) (flags | O_CLOEXEC),
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        int fd;

        fd = (int) syscall(SYS_openat2, root, path, &how, sizeof(how));
        return fd < 0 ? -errno : fd;
}

/* Part by part from the root on, each of which may be a link: a part's own ".." is refused with the service. */
static int make_directory(int root, const char *path) {
        _cleanup_close_ int parent = -EBADF;
        _cleanup_free_ char *copy = strdup(path);
        int fd;

        if (!copy)
                return -ENOMEM;
        parent = open_inside(root, ".", O_PATH | O_DIRECTORY);
        if (parent < 0)
                return parent;

        for (char *p = copy + strspn(copy, "/"); *p != '\0'; p += strspn(p, "/")) {
                const char *name = p;
                char end;

                p += strcspn(p, "/");
                end = *p;
                *p = '\0';
                fd = open_inside(root, copy, O_PATH | O_DIRECTORY);
                if (fd == -ENOENT) {
                        if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
                                return -errno;
                        fd = open_inside(root, copy, O_PATH | O_DIRECTORY);
                }
                if (fd < 0)
                        return fd;
                safe_close(parent);
                parent = fd;
                *p = end;
        }
        return 0;
}

/* A link gives way: resolv.conf as a rule leads to /run, where nspawn would make directories that are nobody's in the machine. */
static int make_file(int etc, const char *name) {
        struct stat st;
        int fd;

        if (fstatat(etc, name, &st, AT_SYMLINK_NOFOLLOW) >= 0) {
                if (!S_ISLNK(st.st_mode))
                        return 0;
                if (unlinkat(etc, name, 0) < 0 && errno != ENOENT)
                        return -errno;
        } else if (errno != ENOENT)
                return -errno;

        fd = openat(etc, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
                return errno == EEXIST ? 0 : -errno;
        safe_close(fd);
        return 0;
}

static int make_places(int root, char *const *places, KError *reterr) {
        static const char *const directories[] = { "/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/var" };
        static const char *const files[] = { "hosts", "hostname", "resolv.conf" };
        _cleanup_close_ int etc = -EBADF;
        const char *path = NULL;
        int r = 0;

        FOREACH_ARRAY(d, directories, ELEMENTSOF(directories))
                if (r >= 0)
                        r = make_directory(root, path = *d);
        STRV_FOREACH(p, places)
                if (r >= 0 && !startswith(*p, "/run/"))
                        r = make_directory(root, path = *p);
        if (r >= 0)
                r = etc = open_inside(root, path = "/etc", O_RDONLY | O_DIRECTORY);
        FOREACH_ARRAY(f, files, ELEMENTSOF(files))
                if (r >= 0)
                        r = make_file(etc, path = *f);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot make '%s' in the machine's root: %m", path) : 0;
}

int machine_root_make(void *machine_root, KError *reterr) {
        const MachineRoot *m = machine_root;
        _cleanup_close_ int root = -EBADF;
        MappedRoot mapped = m->mapped;
        int r;

        if (mapped.base == 0)
                r = rootfs_mount(mapped.image, mapped.data, mapped.target, reterr);
        else {
                r = path_is_mount_point(mapped.target);
                if (r == 0)
                        r = rootfs_mount_mapped(&mapped, reterr);
                if (r >= 0)
                        r = become_mapped_root(mapped.base);
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot mount the machine's root: %m");

        root = open(mapped.target, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return kerror_set_errno(reterr, -errno, "Cannot open '%s': %m", mapped.target);
        return make_places(root, m->places, reterr);
}
