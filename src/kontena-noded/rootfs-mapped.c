/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rootfs-mapped.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "rootfs.h"
#include "string-util.h"
#include "uid-range.h"

static void namespace_holder(int ready, int end, pid_t parent) {
        char c;

        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || unshare(CLONE_NEWUSER) < 0)
                _exit(errno);
        if (write(ready, "", 1) != 1)
                _exit(EIO);
        (void) read(end, &c, 1); /* until it is closed or we are killed */
        _exit(0);
}

static int write_map(pid_t pid, const char *which, uint32_t base) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        _cleanup_close_ int fd = -EBADF;

        path = strprintf("/proc/%i/%s", (int) pid, which);
        text = strprintf("0 %u %u\n", base, UID_RANGE_SIZE);
        if (!path || !text)
                return -ENOMEM;
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return loop_write(fd, text, strlen(text));
}

/* A mapping for mounts is told by a user namespace that has it, and one comes with a process. */
static int make_user_namespace(uint32_t base, int *ret) {
        _cleanup_close_ int ready_in = -EBADF, ready_out = -EBADF, end_in = -EBADF, end_out = -EBADF;
        _cleanup_free_ char *path = NULL;
        pid_t parent = getpid(), pid;
        int fds[2], fd, r, status;
        char c;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        ready_in = fds[0];
        ready_out = fds[1];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        end_in = fds[0];
        end_out = fds[1];

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                close(end_out);
                namespace_holder(ready_out, end_in, parent);
        }

        ready_out = safe_close(ready_out);
        if (read(ready_in, &c, 1) != 1) {
                if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) > 0)
                        return -WEXITSTATUS(status);
                return -EIO;
        }

        r = write_map(pid, "uid_map", base);
        if (r >= 0)
                r = write_map(pid, "gid_map", base);
        path = strprintf("/proc/%i/ns/user", (int) pid);
        if (r >= 0) {
                fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -ENOMEM;
                r = fd < 0 ? (path ? -errno : -ENOMEM) : fd;
        }
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);
        if (r < 0)
                return r;

        *ret = r;
        return 0;
}

static int bind_mapped(const char *source, int user_namespace, const char *target) {
        struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t) user_namespace };
        _cleanup_close_ int fd = -EBADF;

        fd = (int) syscall(SYS_open_tree, AT_FDCWD, source,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
                return -errno;
        if (mkdir(target, 0700) < 0)
                return -errno;
        return syscall(SYS_move_mount, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

/* At short names, relative to the working directory: all of them must fit into one string for a kernel before 6.5. */
static int bind_all(const MappedRoot *m, int user_namespace, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **layers = NULL;
        unsigned n = 0;
        int r;

        r = bind_mapped(m->data, user_namespace, "d");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot map the users of '%s': %m", m->data);
        STRV_FOREACH(l, m->image->layers) {
                _cleanup_free_ char *name = strprintf("%u", n++);

                if (!name)
                        return -ENOMEM;
                r = bind_mapped(*l, user_namespace, name);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot map the users of '%s': %m", *l);
                r = strv_consume(&layers, TAKE_PTR(name));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(layers);
        return 0;
}

/* The kernel takes capabilities away with the user, which are put back: the overlay looks at layers with them. */
int become_mapped_root(uint32_t base) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

        (void) setfsgid(base);
        (void) setfsuid(base);
        if ((uint32_t) setfsgid(base) != base || (uint32_t) setfsuid(base) != base)
                return -EPERM;

        if (syscall(SYS_capget, &header, data) < 0)
                return -errno;
        FOREACH_ARRAY(d, data, ELEMENTSOF(data))
                d->effective = d->permitted;
        return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* In a mount namespace of our own, below a tmpfs at the target: nobody sees it, and whatever happens nothing of it stays. */
static int make_overlay(const MappedRoot *m, int user_namespace, int *ret, KError *reterr) {
        _cleanup_strv_free_ char **layers = NULL;
        Image image = *m->image;
        int r;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount("kontena", m->target, "tmpfs", MS_NODEV | MS_NOSUID, "mode=0700") < 0 ||
                        chdir(m->target) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a place to mount layers in: %m");

        r = bind_all(m, user_namespace, &layers, reterr);
        if (r < 0)
                return r;
        if (mkdir("r", 0755) < 0)
                return -errno;
        /* Whoever mounts an overlay is who makes files in its work directory. */
        r = become_mapped_root(m->base);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot take the place of the machine's root user: %m");
        image.layers = layers;
        r = rootfs_mount_layers(&image, "d/upper", "d/work", "r", reterr);
        if (r < 0)
                return r;

        r = (int) syscall(SYS_open_tree, AT_FDCWD, "r", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (r < 0)
                return kerror_set_errno(reterr, -errno, "Cannot take hold of the machine's root: %m");
        *ret = r;
        return 0;
}

int rootfs_mount_mapped(void *mapped_root, KError *reterr) {
        _cleanup_close_ int outside = -EBADF, user_namespace = -EBADF, root = -EBADF;
        _cleanup_free_ char *upper = NULL, *work = NULL;
        const MappedRoot *m = mapped_root;
        int r;

        upper = strjoin(m->data, "/upper");
        work = strjoin(m->data, "/work");
        if (!upper || !work)
                return -ENOMEM;
        r = mkdir_p(m->target, 0755);
        if (r >= 0)
                r = mkdir_p(upper, 0755);
        if (r >= 0)
                r = mkdir_p(work, 0755);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the directories of the machine's root: %m");

        outside = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
        if (outside < 0)
                return kerror_set_errno(reterr, -errno, "Cannot open our mount namespace: %m");
        r = make_user_namespace(m->base, &user_namespace);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a user namespace: %m");
        r = make_overlay(m, user_namespace, &root, reterr);
        if (r < 0)
                return r;

        if (setns(outside, CLONE_NEWNS) < 0 ||
                        syscall(SYS_move_mount, root, "", AT_FDCWD, m->target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot mount the machine's root: %m");
        return 0;
}

int rootfs_open_layers(char *const *layers, const char *place) {
        _cleanup_free_ char *lower = NULL, *options = NULL;
        int fd;

        if (strv_length(layers) > 1) {
                lower = strv_join(layers, ":");
                options = lower ? strjoin(IMAGE_MOUNT_OPTION ",lowerdir=", lower) : NULL;
                if (!options)
                        return -ENOMEM;
                if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                        return -errno;
                if (strlen(options) >= 4096)
                        return -E2BIG;
                if (mount("kontena", place, "overlay", MS_RDONLY | MS_NODEV, options) < 0)
                        return -errno;
        }

        fd = open(strv_length(layers) > 1 ? place : layers[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}
