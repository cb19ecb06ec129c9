/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-work.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-quota.h"

#define DATA              "data"
#define TRASH             ".trash"
#define IMPORT            "import-"

/* Whoever writes to what is thrown away was told to end. */
#define DISCARD_TRIES     50U
#define DISCARD_WAIT_USEC (200 * USEC_PER_MSEC)

/* An empty directory in .work that looks like the model, if there is one. */
static int make_work(int parent, const char *name, int model, uint64_t size_max, int *ret_work) {
        _cleanup_close_ int work = -EBADF, fd = -EBADF;
        struct stat st;
        int r;

        work = volume_directory_make(parent, VOLUME_WORK);
        if (work < 0)
                return work;
        r = rm_rf_at(work, name);
        if (r < 0)
                return r;
        fd = volume_directory_make(work, name);
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
        file = openat(fd, VOLUME_SNAPSHOT_SIZE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
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
        parent = volume_parent_open(w->directory);
        if (parent < 0)
                return parent;
        volume = volume_directory_open(parent, w->volume);
        if (volume < 0)
                return volume;
        all = volume_directory_make(parent, VOLUME_SNAPSHOTS);
        if (all < 0)
                return all;
        of_volume = volume_directory_make(all, w->volume);
        if (of_volume < 0)
                return of_volume;
        if (fstatat(of_volume, w->snapshot, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return -EEXIST;

        works = volume_directory_make(parent, VOLUME_WORK);
        if (works < 0)
                return works;
        r = rm_rf_at(works, name);
        if (r < 0)
                return r;
        made = volume_directory_make(works, name);
        if (made < 0)
                return made;
        data = volume_directory_make(made, DATA);
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
        parent = volume_parent_open(w->directory);
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
        parent = volume_parent_open(w->directory);
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
        parent = volume_parent_open(w->directory);
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
        parent = volume_parent_open(directory);
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
        parent = volume_parent_open(w->directory);
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
        parent = volume_parent_open(w->directory);
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
        works = volume_directory_make(parent, VOLUME_WORK);
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
        parent = volume_parent_open(w->directory);
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

        parent = volume_parent_open(w->directory);
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

        parent = volume_parent_open(directory);
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
