/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-directory.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
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

#define CP_PROGRAM        "/bin/cp"
#define DATA              "data"
#define SIZE              "size"
#define TRASH             ".trash"
#define IMPORT            "import-"

/* Whoever writes to what is thrown away was told to end. */
#define DISCARD_TRIES     50U
#define DISCARD_WAIT_USEC (200 * USEC_PER_MSEC)

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

static int open_parent(const char *directory) {
        int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

int volume_open(const char *directory, const char *name, KError *reterr) {
        _cleanup_close_ int parent = -EBADF;
        int fd;

        fd = parent = open_parent(directory);
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

/* Makes a missing directory, and refuses what is none. */
static int make_at(int parent, const char *name) {
        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        return volume_directory_open(parent, name);
}

/* An empty directory in .work that looks like the model, if there is one. */
static int make_work(int parent, const char *name, int model, uint64_t size_max, int *ret_work) {
        _cleanup_close_ int work = -EBADF, fd = -EBADF;
        struct stat st;
        int r;

        work = make_at(parent, VOLUME_WORK);
        if (work < 0)
                return work;
        r = rm_rf_at(work, name);
        if (r < 0)
                return r;
        fd = make_at(work, name);
        if (fd < 0)
                return fd;
        if (size_max > 0) {
                r = volume_quota_set(parent, fd, size_max);
                if (r < 0)
                        return r;
        }
        if (model < 0)
                r = fchmod(fd, 0755) < 0 ? -errno : 0;
        else
                r = fstat(model, &st) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 ||
                                                    fchmod(fd, st.st_mode & 07777) < 0
                                    ? -errno
                                    : 0;
        if (r < 0)
                return r;

        *ret_work = TAKE_FD(work);
        return TAKE_FD(fd);
}

int volume_work_measure(void *work) {
        VolumeWork *w = work;
        _cleanup_close_ int fd = -EBADF;

        fd = volume_open(w->directory, w->volume, NULL);
        if (fd < 0)
                return fd;
        return volume_tree_size(fd, now_monotonic() + VOLUME_MEASURE_MAX_USEC, w->ret_size);
}

static int write_size(int fd, uint64_t size) {
        _cleanup_free_ char *text = strprintf("%" PRIu64 "\n", size);
        _cleanup_close_ int file = -EBADF;
        int r;

        if (!text)
                return -ENOMEM;
        file = openat(fd, SIZE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file < 0)
                return -errno;
        r = loop_write(file, text, strlen(text));
        if (r < 0)
                return r;
        return fsync(file) < 0 ? -errno : 0;
}

/* Made in .work and given its name when it is whole and on disk. */
int volume_work_snapshot(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = strjoin("snapshot-", w->volume);
        _cleanup_close_ int parent = -EBADF, volume = -EBADF, all = -EBADF, of_volume = -EBADF,
                            made = -EBADF, data = -EBADF, works = -EBADF;
        uint64_t size = 0;
        struct stat st;
        int r;

        if (!name)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        volume = volume_directory_open(parent, w->volume);
        if (volume < 0)
                return volume;
        all = make_at(parent, VOLUME_SNAPSHOTS);
        if (all < 0)
                return all;
        of_volume = make_at(all, w->volume);
        if (of_volume < 0)
                return of_volume;
        if (fstatat(of_volume, w->snapshot, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return -EEXIST;

        works = make_at(parent, VOLUME_WORK);
        if (works < 0)
                return works;
        r = rm_rf_at(works, name);
        if (r < 0)
                return r;
        made = make_at(works, name);
        if (made < 0)
                return made;
        data = make_at(made, DATA);
        if (data < 0)
                return data;
        if (fstat(volume, &st) < 0 || fchown(data, st.st_uid, st.st_gid) < 0 ||
                        fchmod(data, st.st_mode & 07777) < 0)
                return -errno;

        r = volume_copy_tree(volume, data);
        if (r >= 0)
                r = volume_tree_size(data, USEC_INFINITY, &size);
        if (r >= 0)
                r = write_size(made, size);
        if (r >= 0 && syncfs(made) < 0)
                r = -errno;
        if (r >= 0 && renameat(works, name, of_volume, w->snapshot) < 0)
                r = errno == ENOTEMPTY ? -EEXIST : -errno;
        if (r < 0) {
                (void) rm_rf_at(works, name);
                return r;
        }
        if (w->ret_size)
                *w->ret_size = size;
        return fsync(of_volume) < 0 ? -errno : 0;
}

static int open_snapshot(int parent, const char *volume, const char *snapshot) {
        _cleanup_free_ char *path = strjoin(VOLUME_SNAPSHOTS "/", volume, "/", snapshot, "/" DATA);

        return path ? volume_directory_open(parent, path) : -ENOMEM;
}

/* The volume is the old one or the new one at every moment; the old one lies in .work until the new one has its place. Nothing after
 * the exchange makes it undone: it cannot fail any more. */
static int exchange(int parent, int works, const char *name, const char *volume, bool exists) {
        return renameat2(works, name, parent, volume, exists ? RENAME_EXCHANGE : RENAME_NOREPLACE) < 0
                               ? -errno
                               : 0;
}

int volume_work_restore(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = strjoin("restore-", w->volume);
        _cleanup_close_ int parent = -EBADF, volume = -EBADF, snapshot = -EBADF, made = -EBADF,
                            works = -EBADF;
        int r;

        if (!name)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        snapshot = open_snapshot(parent, w->volume, w->snapshot);
        if (snapshot < 0)
                return snapshot;
        volume = volume_directory_open(parent, w->volume);
        if (volume < 0 && volume != -ENOENT)
                return volume;

        made = make_work(parent, name, snapshot, w->size_max, &works);
        if (made < 0)
                return made;
        r = volume_copy_tree(snapshot, made);
        if (r >= 0 && syncfs(made) < 0)
                r = -errno;
        if (r >= 0) {
                r = exchange(parent, works, name, w->volume, volume >= 0);
                if (r >= 0 && fsync(parent) < 0)
                        return 0; /* either may be there after a power failure: both are kept */
        }
        (void) rm_rf_at(works, name);
        return r;
}

char *volume_import_path(const char *volume) {
        return strjoin(VOLUME_WORK "/" IMPORT, volume);
}

int volume_work_begin_import(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = strjoin(IMPORT, w->volume);
        _cleanup_close_ int parent = -EBADF, volume = -EBADF, made = -EBADF, works = -EBADF;

        if (!name)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        volume = volume_directory_open(parent, w->volume);
        if (volume < 0 && volume != -ENOENT)
                return volume;

        made = make_work(parent, name, volume, w->size_max, &works);
        return MIN(made, 0);
}

int volume_work_sync_import(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *path = volume_import_path(w->volume);
        _cleanup_close_ int parent = -EBADF, made = -EBADF;

        if (!path)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        made = volume_directory_open(parent, path);
        if (made < 0)
                return made;
        return syncfs(made) < 0 ? -errno : 0;
}

int volume_exchange_import(const char *directory, const char *name) {
        _cleanup_free_ char *work = strjoin(IMPORT, name);
        _cleanup_close_ int parent = -EBADF, volume = -EBADF, works = -EBADF;

        if (!work)
                return -ENOMEM;
        parent = open_parent(directory);
        if (parent < 0)
                return parent;
        volume = volume_directory_open(parent, name);
        if (volume < 0 && volume != -ENOENT)
                return volume;
        works = volume_directory_open(parent, VOLUME_WORK);
        if (works < 0)
                return works;
        return exchange(parent, works, work, name, volume >= 0);
}

int volume_work_finish_import(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *path = volume_import_path(w->volume);
        _cleanup_close_ int parent = -EBADF;

        if (!path)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        if (fsync(parent) < 0)
                return -errno; /* the old one may be there again after a power failure */
        return rm_rf_at(parent, path);
}

int volume_work_discard_import(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *path = volume_import_path(w->volume);
        _cleanup_close_ int parent = -EBADF;
        int r = 0;

        if (!path)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        for (unsigned i = 0; i < DISCARD_TRIES; i++) {
                r = rm_rf_at(parent, path);
                if (r != -ENOTEMPTY)
                        return r;
                (void) usleep(DISCARD_WAIT_USEC);
        }
        return r;
}

/* Takes its name first, so that half of it is never seen. */
static int remove_by_work(int parent, int from, const char *name, const char *prefix, const char *volume) {
        _cleanup_free_ char *aside = strjoin(prefix, volume);
        _cleanup_close_ int works = -EBADF;
        int r;

        if (!aside)
                return -ENOMEM;
        works = make_at(parent, VOLUME_WORK);
        if (works < 0)
                return works;
        r = rm_rf_at(works, aside);
        if (r < 0)
                return r;
        if (renameat(from, name, works, aside) < 0)
                return errno == ENOENT ? 0 : -errno;
        return rm_rf_at(works, aside);
}

int volume_work_remove_snapshot(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *path = strjoin(VOLUME_SNAPSHOTS "/", w->volume);
        _cleanup_close_ int parent = -EBADF, of_volume = -EBADF;

        if (!path)
                return -ENOMEM;
        parent = open_parent(w->directory);
        if (parent < 0)
                return parent;
        of_volume = volume_directory_open(parent, path);
        if (of_volume < 0)
                return of_volume == -ENOENT ? 0 : of_volume;
        return remove_by_work(parent, of_volume, w->snapshot, "remove-snapshot-", w->volume);
}

int volume_work_remove(void *work) {
        VolumeWork *w = work;
        _cleanup_close_ int parent = -EBADF, all = -EBADF;
        int r;

        parent = open_parent(w->directory);
        if (parent < 0)
                return parent == -ENOENT ? 0 : parent;
        /* A link in its place is removed as a link. */
        r = remove_by_work(parent, parent, w->volume, "remove-", w->volume);
        if (r < 0)
                return r;
        all = volume_directory_open(parent, VOLUME_SNAPSHOTS);
        if (all < 0)
                return all == -ENOENT ? 0 : all;
        return remove_by_work(parent, all, w->volume, "remove-", w->volume);
}

int volume_work_put_aside(const char *directory) {
        _cleanup_free_ char *aside = NULL;
        _cleanup_close_ int parent = -EBADF;

        parent = open_parent(directory);
        if (parent < 0)
                return parent == -ENOENT ? 0 : parent;
        aside = strprintf(TRASH "-%" PRIu64, now_realtime());
        if (!aside)
                return -ENOMEM;
        if (renameat(parent, VOLUME_WORK, parent, aside) < 0 && errno != ENOENT)
                return -errno;
        return 1;
}

int volume_work_clean(void *work) {
        VolumeWork *w = work;
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;

        d = opendir(w->directory);
        if (!d)
                return errno == ENOENT ? 0 : -errno;
        while ((de = readdir(d))) {
                int r;

                if (!startswith(de->d_name, TRASH))
                        continue;
                r = rm_rf_at(dirfd(d), de->d_name);
                if (r < 0)
                        return r;
        }
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
        if (fstatat(own, SIZE, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (read_file_at(own, SIZE, 64, &text, NULL) >= 0) {
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
        parent = open_parent(directory);
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
