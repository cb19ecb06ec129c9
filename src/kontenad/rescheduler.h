/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"

/* Every 20 s, and shortly after a node came, went or was changed: starts a deploy for each stateless service whose
 * instances are not where the scheduler would put them, which was updated after its last deploy, or whose interval has passed.
 * Also removes ephemeral nodes that are long gone, stops stateful instances on drained nodes, starts them again on active ones, and cleans up after removed nodes. */
typedef struct Rescheduler Rescheduler;

int rescheduler_new(Master *m, Rescheduler **ret);
Rescheduler *rescheduler_free(Rescheduler *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(Rescheduler *, rescheduler_free);
