/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rootfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"

int path_is_mount_point(const char *path) {
        struct statx sx;

        if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &sx) < 0)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        if (!(sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT))
                return -EOPNOTSUPP;

        return (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

int rootfs_unmount(const char *target) {
        int r;

        for (;;) {
                r = path_is_mount_point(target);
                if (r <= 0)
                        return r;
                if (umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                        return -errno;
        }
}

/* Layer by layer, so that any number fits: one string for all is limited to a page. */
static int set_layers(int fs, char *const *layers) {
        STRV_FOREACH(l, layers)
                if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", *l, 0) < 0)
                        return -errno;

        return 0;
}

static int set_option(int fs, const char *key, const char *value) {
        unsigned command = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;

        return syscall(SYS_fsconfig, fs, command, key, value, 0) < 0 ? -errno : 0;
}

/* What the kernel has to say about a mount that it refuses. */
static void read_kernel_message(int fs, char *buffer, size_t size) {
        ssize_t n;

        buffer[0] = '\0';
        n = read(fs, buffer, size - 1);
        if (n <= 0)
                return;
        buffer[n] = '\0';
        buffer[strcspn(buffer, "\n")] = '\0';
        if (startswith(buffer, "e ") || startswith(buffer, "w "))
                memmove(buffer, buffer + 2, strlen(buffer + 2) + 1);
}

static int mount_by_layers(const Image *image, const char *upper, const char *work, const char *target,
                char *message, size_t size) {
        _cleanup_close_ int fs = -EBADF, mount_fd = -EBADF;
        int r;

        message[0] = '\0';
        fs = (int) syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
        if (fs < 0)
                return -errno;

        r = set_layers(fs, image->layers);
        if (r >= 0)
                r = set_option(fs, "upperdir", upper);
        if (r >= 0)
                r = set_option(fs, "workdir", work);
        if (r >= 0)
                r = set_option(fs, IMAGE_MOUNT_OPTION, NULL);
        if (r >= 0)
                r = set_option(fs, "source", "kontena");
        if (r >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                r = -errno;
        if (r < 0) {
                read_kernel_message(fs, message, size);
                return r;
        }

        mount_fd = (int) syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
        if (mount_fd < 0)
                return -errno;
        if (syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return -errno;

        return 0;
}

/* Before Linux 6.5 there is no "lowerdir+". Colons and backslashes cannot be in our own directories' names. */
static int mount_by_string(const Image *image, const char *upper, const char *work, const char *target) {
        _cleanup_free_ char *lower = NULL, *options = NULL;

        lower = strv_join(image->layers, ":");
        if (!lower)
                return -ENOMEM;
        options = strjoin(IMAGE_MOUNT_OPTION ",lowerdir=", lower, ",upperdir=", upper, ",workdir=", work);
        if (!options)
                return -ENOMEM;
        if (strlen(options) >= 4096)
                return -E2BIG;

        return mount("kontena", target, "overlay", MS_NODEV, options) < 0 ? -errno : 0;
}

int rootfs_mount_layers(const Image *image, const char *upper, const char *work, const char *target,
                KError *reterr) {
        char message[256];
        int r;

        r = mount_by_layers(image, upper, work, target, message, sizeof(message));
        if (r == -EINVAL || r == -ENOSYS)
                r = mount_by_string(image, upper, work, target);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot mount the root of image '%s': %m%s%s",
                                image->reference, isempty(message) ? "" : ": ", message);

        return 0;
}

int rootfs_mount(const Image *image, const char *data, const char *target, KError *reterr) {
        _cleanup_free_ char *upper = NULL, *work = NULL;
        int r;

        assert(image);

        upper = strjoin(data, "/upper");
        work = strjoin(data, "/work");
        if (!upper || !work)
                return -ENOMEM;

        r = mkdir_p(target, 0755);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make '%s': %m", target);
        r = path_is_mount_point(target);
        if (r != 0)
                return MIN(r, 0);

        r = mkdir_p(upper, 0755);
        if (r >= 0)
                r = mkdir_p(work, 0755);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Cannot make the directories of the container's root: %m");

        return rootfs_mount_layers(image, upper, work, target, reterr);
}
