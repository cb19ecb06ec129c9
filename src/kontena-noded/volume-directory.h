/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* The directory of named volumes:
 *
 *   NAME/                       a volume
 *   .snapshots/NAME/SNAP/data   a snapshot of it, with "size" beside: bytes in it, counted when it was made
 *   .work/                      what is being made or removed; put aside as .trash… when the daemon starts, and removed
 *
 * A name is one directory, never a link to elsewhere: whoever mounts, copies or removes opens it here. The functions
 * with an argument of void* run in a job. */
#define VOLUME_SNAPSHOTS ".snapshots"
#define VOLUME_WORK      ".work"

/* As the master makes names: letters, digits, '_', '-' and '.', not first '.' or '-'. */
int volume_name_validate(const char *name, KError *reterr);

/* A directory below another, without links on the way. -ENOENT: none; -ENOTDIR: something else has its name. */
int volume_directory_open(int parent_fd, const char *name);
/* The same, with a sentence for whoever tried to make a link of it. directory: where volumes are. */
int volume_open(const char *directory, const char *name, KError *reterr);

/* Copies what is in one directory to another, with links, attributes, holes; shares blocks where the file system can. */
int volume_copy_tree(int from, int to);

/* Bytes on disk, a file with several names once counted for each. Gives up with -ETIME at the time (CLOCK_MONOTONIC). */
int volume_tree_size(int fd, uint64_t until, uint64_t *ret);

typedef struct VolumeWork {
        const char *directory;
        const char *volume, *snapshot;
        uint64_t size_max;  /* of the volume */
        uint64_t *ret_size; /* in memory that parent and child share */
} VolumeWork;

int volume_work_measure(void *work);
int volume_work_snapshot(void *work);        /* -EEXIST */
int volume_work_restore(void *work);         /* -ENOENT: no such snapshot */
int volume_work_remove_snapshot(void *work); /* missing: fine */
int volume_work_remove(void *work);          /* the volume and all its snapshots */
int volume_work_clean(void *work);           /* what was put aside */

/* An import: an empty directory in .work that looks like the volume, which it replaces as a whole, or not at all. */
char *volume_import_path(const char *volume); /* below the directory of volumes */
int volume_work_begin_import(void *work);
int volume_work_sync_import(void *work);
/* Not in a job, since nobody may begin to use the volume between the question and this. It waits for no data. */
int volume_exchange_import(const char *directory, const char *name);
int volume_work_finish_import(void *work);  /* after the exchange: the old content goes */
int volume_work_discard_import(void *work); /* also while somebody still writes to it */

/* At the start, before something is made there: 1 when there is something to clean. */
int volume_work_put_aside(const char *directory);

/* Has the process mounted the volume? */
bool volume_is_mounted_by(const char *directory, const char *name, uint32_t pid);

typedef struct VolumeSnapshot {
        char *name;
        uint64_t created_at, size;
} VolumeSnapshot;
typedef struct VolumeSnapshotList {
        VolumeSnapshot *snapshots;
        size_t n;
} VolumeSnapshotList;
void volume_snapshot_list_done(VolumeSnapshotList *l);
/* Oldest first. */
int volume_list_snapshots(const char *directory, const char *volume, VolumeSnapshotList *ret);
