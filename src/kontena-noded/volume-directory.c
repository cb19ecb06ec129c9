/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-directory.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"
#include "volume-quota.h"

#define CP_PROGRAM "/bin/cp"

int volume_name_validate(const char *name, KError *reterr) {
        if (isempty(name) || strlen(name) > VOLUME_NAME_ON_NODE_MAX || strchr(".-", name[0]))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The name of a volume or snapshot has 1 to %u characters and does not begin "
                                "with '.' "
                                "or '-'.",
                                VOLUME_NAME_ON_NODE_MAX);
        for (const char *p = name; *p; p++)
                if (!isascii(*p) || !(isalnum((unsigned char) *p) || strchr("_.-", *p)))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The name of a volume or snapshot has letters, digits, '_', '-' and "
                                        "'.' only.");
        return 0;
}

int volume_directory_open(int parent_fd, const char *name) {
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH,
        };
        int fd;

        fd = (int) syscall(SYS_openat2, parent_fd, name, &how, sizeof(how));
        if (fd < 0)
                return errno == ELOOP ? -ENOTDIR : -errno;
        return fd;
}

int volume_parent_open(const char *directory) {
        int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

int volume_directory_make(int parent, const char *name) {
        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        return volume_directory_open(parent, name);
}

int volume_open(const char *directory, const char *name, KError *reterr) {
        _cleanup_close_ int parent = -EBADF;
        int fd;

        fd = parent = volume_parent_open(directory);
        if (parent >= 0)
                fd = volume_directory_open(parent, name);
        if (fd == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "There is no volume '%s' on this node.", name);
        if (fd == -ENOTDIR)
                return kerror_set(reterr, K_CONFLICT,
                                "'%s/%s' is not a directory but a link or a file; volume '%s' is not used.",
                                directory, name, name);
        if (fd < 0)
                return kerror_set_errno(reterr, fd, "Cannot open volume '%s': %m.", name);
        return fd;
}

/* cp knows links, sparse files, attributes and reflinks; it gets descriptors' paths, so no link leads it away. */
int volume_copy_tree(int from, int to) {
        _cleanup_free_ char *source = NULL, *target = NULL;
        struct statvfs fs;
        siginfo_t si = {};
        pid_t pid;

        source = strprintf("/proc/self/fd/%i/.", from);
        target = strprintf("/proc/self/fd/%i/", to);
        if (!source || !target)
                return -ENOMEM;

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                const char *const argv[] = { CP_PROGRAM, "-a", "--reflink=auto", "--", source, target,
                        NULL };

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) fcntl(from, F_SETFD, 0);
                (void) fcntl(to, F_SETFD, 0);
                (void) execve(CP_PROGRAM, (char *const *) argv, (char *const[]){ NULL });
                _exit(127);
        }
        if (waitid(P_PID, (id_t) pid, &si, WEXITED) < 0)
                return -errno;

        if (si.si_code == CLD_EXITED && si.si_status == 0)
                return 0;
        /* It has said why in the journal; what is most often so is told here. A project's end looks like the file system's. */
        return fstatvfs(to, &fs) >= 0 && (fs.f_bavail == 0 || (fs.f_files > 0 && fs.f_favail == 0)) ? -ENOSPC
                                                                                                    : -EIO;
}

static int add_sizes(int fd, dev_t device, uint64_t until, unsigned depth, uint64_t *size) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r;

        if (depth > IMAGE_DEPTH_MAX) {
                safe_close(fd);
                return -ELOOP;
        }
        d = fdopendir(fd);
        if (!d) {
                r = -errno;
                safe_close(fd);
                return r;
        }

        while ((de = readdir(d))) {
                struct stat st;
                int child;

                if (STR_IN_SET(de->d_name, ".", ".."))
                        continue;
                if (now_monotonic() > until)
                        return -ETIME;
                if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue; /* gone meanwhile */
                if (st.st_dev != device)
                        continue;
                *size += (uint64_t) st.st_blocks * 512;
                if (!S_ISDIR(st.st_mode))
                        continue;
                child = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0)
                        continue;
                r = add_sizes(child, device, until, depth + 1, size);
                if (r < 0)
                        return r;
        }
        return 0;
}

int volume_tree_size(int fd, uint64_t until, uint64_t *ret) {
        uint64_t size = 0;
        struct stat st;
        int copy, r;

        copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (copy < 0)
                return -errno;
        if (fstat(copy, &st) < 0) {
                r = -errno;
                safe_close(copy);
                return r;
        }
        r = add_sizes(copy, st.st_dev, until, 0, &size);
        if (r < 0)
                return r;

        *ret = size;
        return 0;
}

/* Its own view of its mounts: a line whose directory has our name, and is ours. */
bool volume_is_mounted_by(const char *directory, const char *name, uint32_t pid) {
        _cleanup_free_ char *path = NULL, *suffix = strjoin("/", name), *line = NULL;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_(fclosep) FILE *f = NULL;
        struct stat ours, theirs;
        size_t size = 0;

        path = strprintf("/proc/%u/mountinfo", pid);
        fd = volume_open(directory, name, NULL);
        if (!path || !suffix || fd < 0 || fstat(fd, &ours) < 0)
                return false;
        f = fopen(path, "re");
        if (!f)
                return false;
        while (getline(&line, &size, f) >= 0) {
                _cleanup_strv_free_ char **fields = NULL;
                _cleanup_free_ char *seen = NULL;

                if (strv_split(line, " \n", &fields) < 0 || strv_length(fields) < 5 ||
                                !endswith(fields[3], suffix))
                        continue;
                seen = strprintf("/proc/%u/root%s", pid, fields[4]);
                if (!seen || stat(seen, &theirs) < 0)
                        return true; /* rather once too often */
                if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
                        return true;
        }
        return false;
}

void volume_snapshot_list_done(VolumeSnapshotList *l) {
        FOREACH_ARRAY(s, l->snapshots, l->n)
                free(s->name);
        free(l->snapshots);
        *l = (VolumeSnapshotList){};
}

static int compare_snapshots(const void *a, const void *b) {
        const VolumeSnapshot *x = a, *y = b;

        if (x->created_at != y->created_at)
                return x->created_at < y->created_at ? -1 : 1;
        return strcmp(x->name, y->name);
}

static int read_snapshot(int fd, const char *name, VolumeSnapshot *ret) {
        _cleanup_close_ int own = volume_directory_open(fd, name);
        _cleanup_free_ char *text = NULL;
        struct stat st;
        uint64_t size = 0;

        if (own < 0)
                return own;
        if (fstatat(own, VOLUME_SNAPSHOT_SIZE, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (read_file_at(own, VOLUME_SNAPSHOT_SIZE, 64, &text, NULL) >= 0) {
                text[strcspn(text, "\n")] = '\0';
                (void) safe_atou64(text, &size);
        }

        *ret = (VolumeSnapshot){
                .name = strdup(name),
                .created_at = (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC +
                              (uint64_t) st.st_mtim.tv_nsec / 1000,
                .size = size,
        };
        return ret->name ? 0 : -ENOMEM;
}

int volume_list_snapshots(const char *directory, const char *volume, VolumeSnapshotList *ret) {
        _cleanup_free_ char *path = strjoin(VOLUME_SNAPSHOTS "/", volume);
        _cleanup_(volume_snapshot_list_done) VolumeSnapshotList l = {};
        _cleanup_close_ int parent = -EBADF;
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int fd;

        if (!path)
                return -ENOMEM;
        parent = volume_parent_open(directory);
        if (parent < 0)
                return parent;
        fd = volume_directory_open(parent, path);
        if (fd == -ENOENT) {
                *ret = (VolumeSnapshotList){};
                return 0;
        }
        if (fd < 0)
                return fd;
        d = fdopendir(fd);
        if (!d) {
                safe_close(fd);
                return -errno;
        }

        while ((de = readdir(d))) {
                VolumeSnapshot s, *larger;
                int r;

                if (volume_name_validate(de->d_name, NULL) < 0)
                        continue;
                r = read_snapshot(dirfd(d), de->d_name, &s);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        continue;
                larger = reallocarray(l.snapshots, l.n + 1, sizeof(VolumeSnapshot));
                if (!larger) {
                        free(s.name);
                        return -ENOMEM;
                }
                l.snapshots = larger;
                l.snapshots[l.n++] = s;
        }
        if (l.n > 0)
                qsort(l.snapshots, l.n, sizeof(VolumeSnapshot), compare_snapshots);

        *ret = TAKE_GENERIC(l, (VolumeSnapshotList){});
        return 0;
}
