/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "scheduler.h"
#include "store.h"

/* The scheduler's snapshot of a grid, read from the store. now: for the time a node has been offline. */
int placement_snapshot(Store *s, const char *grid_id, uint64_t now, SchedulerSnapshot *ret);
/* Without the instances: for who asks only how the nodes are. */
int placement_nodes(Store *s, const char *grid_id, uint64_t now, SchedulerSnapshot *ret);
/* The named volumes of a service, and where they are: adds to the snapshot's nodes. */
int placement_add_volumes(Store *s, SchedulerSnapshot *snapshot, const ServiceRow *service,
                const ServiceSpec *spec, SchedulerVolumes *ret);
SchedulerNode *placement_find_node(SchedulerSnapshot *s, const char *node_id);

/* Of what decides over whether something can be placed on the node, or runs there: reports and pings change its row again and again, and are
 * no reason to look at anything anew. */
uint64_t placement_node_hash(const NodeRow *row);

/* A hash to seed the scheduler with: the same strings give the same placement. */
uint64_t placement_seed(const char *a, uint64_t b) _pure_;
