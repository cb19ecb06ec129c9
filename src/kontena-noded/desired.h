/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* The desired state of this machine (DESIRED of doc/node-channel.md) and its copy on disk. */
typedef struct Desired Desired;

/* What an update met. */
typedef enum DesiredUpdate {
        DESIRED_APPLIED,
        DESIRED_IGNORED, /* numbering of another connection, or seen already */
        DESIRED_GAP,     /* one was lost: ask for the whole */
} DesiredUpdate;

int desired_new(const char *path, Desired **ret);
Desired *desired_free(Desired *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Desired *, desired_free);

/* From the disk: 1 when there was one, 0 when not. A file that cannot be read is put aside as "<path>.corrupt" and -EBADMSG
 * returned: then there is no desired state, and nothing may be removed for its sake. */
int desired_load(Desired *d, KError *reterr);

/* Changes in memory; the caller calls desired_save() before it acts on them. Parts of the arguments are kept by reference and must not be
 * changed afterwards; instances are replaced as a whole, never edited. */
int desired_replace(Desired *d, uint64_t epoch, json_object *desired, KError *reterr);
int desired_update(Desired *d, json_object *params, KError *reterr); /* DesiredUpdate or negative */

/* There is none any more, here and on disk. */
int desired_clear(Desired *d);

/* Writes what has changed. */
int desired_save(Desired *d, KError *reterr);

/* NULL until a complete state was loaded or received. Borrowed. */
json_object *desired_section(Desired *d, const char *name);
bool desired_is_complete(Desired *d);
uint64_t desired_epoch(Desired *d);
/* What desired_save() wrote or desired_load() read last belongs to what is in memory. */
bool desired_is_saved(Desired *d);
