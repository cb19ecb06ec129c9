/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What is done with the directory of volumes (volume-directory.h). The functions with an argument of void* take long and run in a job. */
typedef struct VolumeWork {
        const char *directory;
        const char *volume, *snapshot;
        uint64_t size_max;  /* of the volume */
        uint64_t *ret_size; /* in memory that parent and child share */
} VolumeWork;

int volume_work_measure(void *work);
int volume_work_remove_snapshot(void *work); /* missing: fine */
int volume_work_clean(void *work);           /* what was put aside */

/* A snapshot is one when it is kept. */
int volume_work_snapshot(void *work); /* -EEXIST */
int volume_work_keep_snapshot(void *work);
int volume_work_discard_snapshot(void *work); /* also while somebody still writes to it */

/* The volume and all its snapshots have their names no more. Not in a job, since nobody may begin to use the volume between the question
 * whether somebody does and this. */
int volume_take_away(const char *directory, const char *volume);
int volume_work_remove(void *work); /* what was taken away */

/* An import: a directory in .work that looks like the volume, which it replaces as a whole, or not at all. It is empty at first, or, to
 * be restored, has what is in a snapshot, on disk. */
char *volume_import_path(const char *volume); /* below the directory of volumes */
int volume_work_begin_import(void *work);
int volume_work_begin_restore(void *work); /* -ENOENT: no such snapshot */
int volume_work_sync_import(void *work);
/* Not in a job, for the same reason. It waits for no data. 1: there was such a volume before. */
int volume_exchange_import(const char *directory, const char *name);
int volume_exchange_back(const char *directory, const char *name, bool existed);
int volume_work_sync_exchange(void *work);
/* After the exchange: the old content. Also while somebody still writes to it. */
int volume_work_discard_import(void *work);

/* At the start, before something is made there: 1 when there is something to clean. */
int volume_work_put_aside(const char *directory);
