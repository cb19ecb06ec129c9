/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "scheduler.h"

/* What placement_snapshot() would read, remembered: only rows that have changed since the last time are read again. Always agrees with the
 * store, within a transaction and after its end, whatever that is. */
typedef struct PlacementCache PlacementCache;

int placement_cache_new(struct Store *s, PlacementCache **ret);
/* The store is closed next. */
PlacementCache *placement_cache_free(PlacementCache *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(PlacementCache *, placement_cache_free);

/* The caller's own: it may place in it. */
int placement_get(Master *m, const char *grid_id, uint64_t now, SchedulerSnapshot *ret);
