/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "store.h"

/* Removes nodes that carry the label "ephemeral" and have not been seen for six hours, unless they are initial nodes or have an
 * instance of a stateful service. */
int ephemeral_remove_stale(Master *m, const GridRow *grid, uint64_t now);
