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
 * A name is one directory, never a link to elsewhere: whoever mounts, copies or removes opens it here. */
#define VOLUME_SNAPSHOTS     ".snapshots"
#define VOLUME_SNAPSHOT_SIZE "size"
#define VOLUME_WORK          ".work"

/* As the master makes names: letters, digits, '_', '-' and '.', not first '.' or '-'. */
int volume_name_validate(const char *name, KError *reterr);

/* A directory below another, without links on the way. -ENOENT: none; -ENOTDIR: something else has its name. */
int volume_directory_open(int parent_fd, const char *name);
/* Makes it if it is missing, and refuses what is none. */
int volume_directory_make(int parent_fd, const char *name);
/* Where volumes are. */
int volume_parent_open(const char *directory);
/* The same, with a sentence for whoever tried to make a link of it. directory: where volumes are. */
int volume_open(const char *directory, const char *name, KError *reterr);

/* Copies what is in one directory to another, with links, attributes, holes; shares blocks where the file system can. */
int volume_copy_tree(int from, int to);

/* Bytes on disk, a file with several names once counted for each. Gives up with -ETIME at the time (CLOCK_MONOTONIC). */
int volume_tree_size(int fd, uint64_t until, uint64_t *ret);

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
