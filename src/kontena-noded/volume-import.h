/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Who works on the whole of a volume. Exports are side by side, and leave room for a new snapshot; an import is alone. */
typedef struct VolumeClaim VolumeClaim;

VolumeClaim *volume_claim_find(VolumeClaim *list, const char *volume, bool exclusive_only);
/* K_CONFLICT. */
int volume_claim_new(
                VolumeClaim **list, const char *volume, bool exclusive, VolumeClaim **ret, KError *reterr);
VolumeClaim *volume_claim_free(VolumeClaim *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(VolumeClaim *, volume_claim_free);
void volume_claims_free(VolumeClaim **list); /* and nobody waits any more */

/* New content for a volume, which is the old or the new one at every moment, whoever is killed. A claim that is begun is not just freed:
 * it is committed, or cancelled. */
typedef void (*volume_import_done_t)(VolumeClaim *c, int r, void *userdata);

/* done: the directory is there, volume_import_open() opens it. */
int volume_import_begin(VolumeClaim *c, sd_event *event, const char *directory, const char *name,
                uint64_t size_max, volume_import_done_t done, void *userdata);
/* done: the content of a snapshot is there, and on disk. */
int volume_import_begin_restore(VolumeClaim *c, sd_event *event, const char *directory, const char *name,
                const char *snapshot, uint64_t size_max, volume_import_done_t done, void *userdata);
int volume_import_open(VolumeClaim *c);
/* done: all of it is on disk, which takes long: ask again whether it may take its place. */
int volume_import_sync(VolumeClaim *c, volume_import_done_t done, void *userdata);
/* Negative: the old content is what it was, cancel. 0: the new one has its place at once. done is called when that is on disk and the
 * old one is gone; a failure then says that the disk has it perhaps. The claim is over when done returns. */
int volume_import_commit(VolumeClaim *c, volume_import_done_t done, void *userdata);
/* Instead: done is called when nothing is left of the new one, and the claim is over. Negative: it is still there, cancel. */
int volume_import_discard(VolumeClaim *c, volume_import_done_t done, void *userdata);
/* done of the others is not called. In the background: the claim lasts until nothing is left. What waits for the disk is
 * left to its end. */
void volume_import_cancel(VolumeClaim *c);
