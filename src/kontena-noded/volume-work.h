/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* What is done with the directory of volumes (volume-directory.h). The functions with an argument of void* take long and run in a job. */
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
