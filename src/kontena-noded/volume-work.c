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
#define GONE              "gone-"

/* Whoever writes to what is thrown away was told to end. */
#define DISCARD_TRIES     50U
#define DISCARD_WAIT_USEC (200 * USEC_PER_MSEC)

/* An empty directory in .work. */
static int begin_work(int parent, const char *name, int *ret_work) {
        _cleanup_close_ int work = -EBADF;
        int fd, r;

        work = volume_directory_make(parent, VOLUME_WORK);
        if (work < 0)
                return work;
        r = rm_rf_at(work, name);
        if (r < 0)
                return r;
        fd = volume_directory_make(work, name);
        if (fd >= 0)
                *ret_work = TAKE_FD(work);
        return fd;
}

static int copy_owner_and_mode(int model, int fd) {
        struct stat st;

        return fstat(model, &st) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 ||
                                               fchmod(fd, st.st_mode & 07777) < 0
                               ? -errno
                               : 0;
}

/* One that looks like the model, if there is one. */
static int make_work(int parent, const char *name, int model, uint64_t size_max, int *ret_work) {
        _cleanup_close_ int work = -EBADF, fd = -EBADF;
        int r;

        fd = begin_work(parent, name, &work);
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
                r = copy_owner_and_mode(model, fd);
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

static char *snapshot_work_name(const VolumeWork *w) {
        return strjoin("snapshot-", w->volume);
}

/* Also while somebody still writes to it. */
static int discard(const char *directory, const char *path) {
        _cleanup_close_ int parent = -EBADF;
        int r = 0;

        parent = volume_parent_open(directory);
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

/* Made in .work, and on disk; volume_work_keep_snapshot() gives it its name. */
int volume_work_snapshot(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = snapshot_work_name(w);
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

        made = begin_work(parent, name, &works);
        if (made < 0)
                return made;
        data = volume_directory_make(made, DATA);
        if (data < 0)
                return data;
        r = copy_owner_and_mode(volume, data);
        if (r >= 0)
                r = volume_copy_tree(volume, data);
        if (r >= 0)
                r = volume_tree_size(data, USEC_INFINITY, &size);
        if (r >= 0)
                r = write_size(made, size);
        if (r >= 0 && syncfs(made) < 0)
                r = -errno;
        if (r < 0)
                (void) rm_rf_at(works, name);
        return r;
}

/* What the disk does not have for certain is none: it loses its name again. */
int volume_work_keep_snapshot(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = snapshot_work_name(w), *path = strjoin(VOLUME_SNAPSHOTS "/", w->volume);
        _cleanup_close_ int parent = -EBADF, of_volume = -EBADF, works = -EBADF;
        int r;

        if (!name || !path)
                return -ENOMEM;
        parent = volume_parent_open(w->directory);
        if (parent < 0)
                return parent;
        of_volume = volume_directory_open(parent, path);
        if (of_volume < 0)
                return of_volume;
        works = volume_directory_open(parent, VOLUME_WORK);
        if (works < 0)
                return works;

        if (renameat2(works, name, of_volume, w->snapshot, RENAME_NOREPLACE) < 0)
                return -errno;
        if (fsync(of_volume) >= 0)
                return 0;
        r = -errno;
        if (renameat2(of_volume, w->snapshot, works, name, RENAME_NOREPLACE) >= 0)
                (void) rm_rf_at(works, name);
        return r;
}

int volume_work_discard_snapshot(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = snapshot_work_name(w), *path = NULL;

        path = name ? strjoin(VOLUME_WORK "/", name) : NULL;
        return path ? discard(w->directory, path) : -ENOMEM;
}

static int open_snapshot(int parent, const char *volume, const char *snapshot) {
        _cleanup_free_ char *path = strjoin(VOLUME_SNAPSHOTS "/", volume, "/", snapshot, "/" DATA);

        return path ? volume_directory_open(parent, path) : -ENOMEM;
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

int volume_work_begin_restore(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *name = strjoin(IMPORT, w->volume);
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
        return r;
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

/* The volume is the old one or the new one at every moment; the old one lies in .work until the new one is on disk. */
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
        if (renameat2(works, work, parent, name, volume >= 0 ? RENAME_EXCHANGE : RENAME_NOREPLACE) < 0)
                return -errno;
        return volume >= 0 ? 1 : 0;
}

int volume_exchange_back(const char *directory, const char *name, bool existed) {
        _cleanup_free_ char *work = strjoin(IMPORT, name);
        _cleanup_close_ int parent = -EBADF, works = -EBADF;

        if (!work)
                return -ENOMEM;
        parent = volume_parent_open(directory);
        if (parent < 0)
                return parent;
        works = volume_directory_open(parent, VOLUME_WORK);
        if (works < 0)
                return works;
        return renameat2(parent, name, works, work, existed ? RENAME_EXCHANGE : RENAME_NOREPLACE) < 0
                               ? -errno
                               : 0;
}

int volume_work_sync_exchange(void *work) {
        VolumeWork *w = work;
        _cleanup_close_ int parent = -EBADF;

        parent = volume_parent_open(w->directory);
        if (parent < 0)
                return parent;
        return fsync(parent) < 0 ? -errno : 0;
}

int volume_work_discard_import(void *work) {
        VolumeWork *w = work;
        _cleanup_free_ char *path = volume_import_path(w->volume);

        return path ? discard(w->directory, path) : -ENOMEM;
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

/* Out of the way, whatever it is: a link goes as a link. */
static int take_away(int from, const char *name, int works, const char *kind) {
        _cleanup_free_ char *aside = strprintf(GONE "%s-%" PRIu64 "-%s", kind, now_realtime(), name);

        if (!aside)
                return -ENOMEM;
        return renameat2(from, name, works, aside, RENAME_NOREPLACE) < 0 && errno != ENOENT ? -errno : 0;
}

int volume_take_away(const char *directory, const char *name) {
        _cleanup_close_ int parent = -EBADF, works = -EBADF, all = -EBADF;
        int r;

        parent = volume_parent_open(directory);
        if (parent < 0)
                return parent == -ENOENT ? 0 : parent;
        works = volume_directory_make(parent, VOLUME_WORK);
        if (works < 0)
                return works;
        r = take_away(parent, name, works, "volume");
        if (r < 0)
                return r;
        all = volume_directory_open(parent, VOLUME_SNAPSHOTS);
        if (all < 0)
                return all == -ENOENT ? 0 : all;
        return take_away(all, name, works, "snapshots");
}

/* Removes what is there by a name that begins so. */
static int remove_all(int fd, const char *prefix) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;

        d = fdopendir(fd);
        if (!d) {
                int r = -errno;

                safe_close(fd);
                return r;
        }
        while ((de = readdir(d))) {
                int r;

                if (!startswith(de->d_name, prefix))
                        continue;
                r = rm_rf_at(dirfd(d), de->d_name);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Not a byte is removed before the disk knows that it has no name any more: somebody may make a volume of that name anew. */
int volume_work_remove(void *work) {
        VolumeWork *w = work;
        _cleanup_close_ int parent = -EBADF, all = -EBADF;
        int works;

        parent = volume_parent_open(w->directory);
        if (parent < 0)
                return parent == -ENOENT ? 0 : parent;
        all = volume_directory_open(parent, VOLUME_SNAPSHOTS);
        if (fsync(parent) < 0 || (all >= 0 && fsync(all) < 0))
                return -errno;
        works = volume_directory_open(parent, VOLUME_WORK);
        return works < 0 ? works : remove_all(works, GONE);
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
        int parent;

        parent = volume_parent_open(w->directory);
        if (parent < 0)
                return parent == -ENOENT ? 0 : parent;
        /* What was exchanged right before the end must be so on the disk before the old content goes. */
        if (fsync(parent) < 0) {
                int r = -errno;

                safe_close(parent);
                return r;
        }
        return remove_all(parent, TRASH);
}
