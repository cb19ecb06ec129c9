/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"

/* Looks at each grid every 20 s, and at one shortly after a node of it came, went or was changed; a few services in each turn of the loop, and
 * none before the nodes of the grid had time to come back after a start of the master. Starts a deploy for each stateless service whose
 * instances are not where the scheduler would put them, which was updated after its last deploy, or whose interval has passed.
 * Also removes ephemeral nodes that are long gone, stops stateful instances on drained nodes, starts them again on active ones, and cleans up after removed nodes. */
typedef struct Rescheduler Rescheduler;

int rescheduler_new(Master *m, Rescheduler **ret);
Rescheduler *rescheduler_free(Rescheduler *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(Rescheduler *, rescheduler_free);
