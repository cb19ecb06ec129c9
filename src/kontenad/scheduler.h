/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "service-spec.h"

/* Chooses the node of one instance. A pure function: all it knows is in its arguments, equal arguments give equal answers. */

typedef struct SchedulerInstance {
        char *service_id, *stack, *service, *container; /* container: "shop.web-1" */
        uint32_t number;
        PortMapping *ports; /* none with host network */
        size_t n_ports;
} SchedulerInstance;

typedef struct SchedulerNode {
        char *id, *name;
        uint32_t number;
        char **labels;
        bool active, connected;
        uint64_t offline_usec; /* since when it is not connected; USEC_INFINITY: never was */
        double cpus;           /* 0: not reported yet, likewise memory */
        uint64_t memory_total, memory_free, memory_available;
        SchedulerInstance *instances; /* assigned to it and not terminated */
        size_t n_instances, n_allocated;
        uint32_t placed; /* by this run of the service in question */
} SchedulerNode;

typedef struct SchedulerSnapshot {
        SchedulerNode *nodes; /* by number */
        size_t n_nodes;
        char **default_affinity;
} SchedulerSnapshot;

void scheduler_instance_done(SchedulerInstance *i);
void scheduler_snapshot_done(SchedulerSnapshot *s);
#define _cleanup_snapshot_ _cleanup_(scheduler_snapshot_done)

typedef struct SchedulerRequest {
        const char *service_id, *stack, *service;
        const ServiceSpec *spec;
        uint32_t number, wanted; /* wanted: instances in all, see scheduler_wanted() */
        uint64_t memory_sample;  /* highest of the last hour; 0: none is known */
        uint64_t seed;
        uint64_t offline_grace; /* nodes offline for less than this count as connected */
} SchedulerRequest;

/* K_UNSCHEDULABLE names for each node the constraint that removed it. *ret is an index into nodes. */
int scheduler_place(const SchedulerSnapshot *s, const SchedulerRequest *q, size_t *ret, KError *reterr);

/* Places q's instance on a node of the snapshot that has it already, without counting; reading the store does this. */
int scheduler_add(SchedulerSnapshot *s, const SchedulerRequest *q, size_t node);
/* Records in the snapshot that q's instance is now on this node and nowhere else, and counts it. */
int scheduler_assign(SchedulerSnapshot *s, const SchedulerRequest *q, size_t node);

/* count, or for daemon count times the nodes that the filters allow (0: none). */
uint32_t scheduler_wanted(const SchedulerSnapshot *s, const SchedulerRequest *q);

uint64_t strategy_offline_grace(Strategy s) _const_; /* microseconds */
