/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "scheduler.h"
#include "store.h"

/* Between placement.c, which reads a grid anew, and placement-cache.c, which remembers. */

int placement_fill_node(const NodeRow *row, SchedulerNode *n);
uint64_t placement_offline_usec(const SchedulerNode *n, uint64_t disconnected_at, uint64_t now);
/* Of the settings an instance was deployed with, those that keep others from its node. NULL: nothing does. */
int placement_read_ports(const char *stack, const char *service, const InstanceRow *row, ServiceSpec **ret);
int placement_add_instance(SchedulerSnapshot *s, size_t node, const char *service_id, const char *stack,
                const char *service, uint32_t number, const ServiceSpec *spec);
