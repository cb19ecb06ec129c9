/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-quota.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"

/* Ours begin here, far above what an administrator counts by hand. */
#define PROJECT_FIRST    0x4b540000U
#define PROJECT_LAST     0x4b54ffffU
#define QUOTA_BLOCK_SIZE 1024U /* of dqb_bhardlimit, whatever the file system's are */

#define XFS_MAGIC        0x58465342

/* What a file system or kernel says that has no project quotas, or not switched on. */
static int unsupported(int error) {
        switch (error) {
        case ENOTTY:
        case ENOSYS:
        case ESRCH:
        case EINVAL:
        case EOPNOTSUPP:
        case ENODEV:
        case ENOENT:
        case ENOTBLK:
                return -EOPNOTSUPP;
        default:
                return -error;
        }
}

static int quota_call(int fd, int command, uint32_t project, struct dqblk *q) {
        _cleanup_free_ char *device = NULL;
        struct stat st;

        if (syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project, q) >= 0)
                return 0;
        if (errno != ENOSYS)
                return unsupported(errno);

        /* Before Linux 5.14. */
        if (fstat(fd, &st) < 0)
                return -errno;
        device = strprintf("/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
        if (!device)
                return -ENOMEM;
        if (quotactl(QCMD(command, PRJQUOTA), device, (int) project, (char *) q) < 0)
                return unsupported(errno);
        return 0;
}

static int get_project(int fd, uint32_t *ret) {
        struct fsxattr x = {};

        if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
                return unsupported(errno);
        *ret = x.fsx_projid;
        return x.fsx_projid == 0 ? -ENODATA : 0;
}

static int set_project(int fd, uint32_t project) {
        struct fsxattr x = {};

        if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
                return unsupported(errno);
        x.fsx_projid = project;
        x.fsx_xflags |= FS_XFLAG_PROJINHERIT;
        return ioctl(fd, FS_IOC_FSSETXATTR, &x) < 0 ? unsupported(errno) : 0;
}

/* Also those that are being made, which stand beside the others. */
static int mark_taken(int directory_fd, bool *taken, unsigned depth) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int fd;

        fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d) {
                safe_close(fd);
                return -errno;
        }

        while ((de = readdir(d))) {
                _cleanup_close_ int child = -EBADF;
                uint32_t project;

                if (STR_IN_SET(de->d_name, ".", ".."))
                        continue;
                child = openat(dirfd(d), de->d_name,
                                O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
                if (child < 0)
                        continue;
                if (get_project(child, &project) >= 0 && project >= PROJECT_FIRST && project <= PROJECT_LAST)
                        taken[project - PROJECT_FIRST] = true;
                if (de->d_name[0] == '.' && depth > 0)
                        (void) mark_taken(child, taken, depth - 1);
        }

        return 0;
}

static int choose_project(int parent_fd, uint32_t *ret) {
        _cleanup_free_ bool *taken = new0(bool, PROJECT_LAST - PROJECT_FIRST + 1);
        int r;

        if (!taken)
                return -ENOMEM;
        r = mark_taken(parent_fd, taken, 1);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i <= PROJECT_LAST - PROJECT_FIRST; i++)
                if (!taken[i]) {
                        *ret = PROJECT_FIRST + i;
                        return 0;
                }
        return -EUSERS;
}

static int set_limit(int fd, uint32_t project, uint64_t size_max) {
        struct dqblk q = {
                .dqb_bhardlimit = (size_max + QUOTA_BLOCK_SIZE - 1) / QUOTA_BLOCK_SIZE,
                .dqb_valid = QIF_BLIMITS,
        };

        return quota_call(fd, Q_SETQUOTA, project, &q);
}

int volume_quota_set(int parent_fd, int fd, uint64_t size_max) {
        _cleanup_close_ int lock = -EBADF;
        struct dqblk q;
        uint32_t project;
        int r;

        /* Volumes are made by several processes at a time. */
        lock = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lock < 0)
                return -errno;
        if (flock(lock, LOCK_EX) < 0)
                return -errno;

        r = choose_project(parent_fd, &project);
        if (r < 0)
                return r;
        r = quota_call(fd, Q_GETQUOTA, project, &q);
        if (r < 0) /* known before the directory is marked */
                return r;
        r = set_project(fd, project);
        if (r < 0)
                return r;
        return set_limit(fd, project, size_max);
}

int volume_quota_change(int fd, uint64_t size_max) {
        uint32_t project;
        int r;

        r = get_project(fd, &project);
        if (r < 0)
                return r;
        return set_limit(fd, project, size_max);
}

int volume_quota_get(int fd, uint64_t *ret_used, uint64_t *ret_size_max) {
        struct dqblk q = {};
        uint32_t project;
        int r;

        r = get_project(fd, &project);
        if (r < 0)
                return r;
        r = quota_call(fd, Q_GETQUOTA, project, &q);
        if (r < 0)
                return r;

        *ret_used = q.dqb_curspace;
        *ret_size_max = q.dqb_bhardlimit * QUOTA_BLOCK_SIZE;
        return 0;
}

int volume_quota_explain(const char *directory, const char *volume, uint64_t size_max, KError *reterr) {
        const char *what = "This file system", *advice = "which has no project quotas; use ext4 or XFS";
        struct statfs fs;

        if (statfs(directory, &fs) >= 0) {
                switch ((unsigned long) fs.f_type) {
                case EXT4_SUPER_MAGIC:
                        what = "ext4";
                        advice = "without project quotas: switch them on with 'tune2fs -O project,quota' "
                                 "and mount it "
                                 "with 'prjquota'";
                        break;
                case XFS_MAGIC:
                        what = "XFS";
                        advice = "without project quotas: mount it with 'pquota'";
                        break;
                case BTRFS_SUPER_MAGIC:
                        what = "btrfs";
                        break;
                case TMPFS_MAGIC:
                        what = "tmpfs";
                        break;
                case OVERLAYFS_SUPER_MAGIC:
                        what = "overlayfs";
                        break;
                default:
                        break;
                }
        }

        return kerror_set(reterr, K_NOT_SUPPORTED,
                        "Volume '%s' may have at most %" PRIu64 " bytes, but '%s' is on %s %s.", volume,
                        size_max, directory, what, advice);
}
