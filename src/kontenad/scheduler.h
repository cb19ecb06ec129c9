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
        bool no_containers, machines; /* no runtime oci; runtime nspawn */
        uint64_t offline_usec;        /* since when it is not connected; USEC_INFINITY: never was */
        double cpus;                  /* 0: not reported yet, likewise memory */
        uint64_t memory_total, memory_free, memory_available;
        char **volumes;               /* that it has, by their names there */
        char **volume_drivers;        /* NULL: not reported, "local" alone */
        SchedulerInstance *instances; /* assigned to it and not terminated */
        size_t n_instances, n_allocated;
        uint32_t placed; /* by this run of the service in question */
} SchedulerNode;

/* A named volume of the service. */
typedef struct SchedulerVolume {
        char *name; /* on a node; of an own one without "-NUMBER" */
        char *driver;
        bool own; /* of scope instance */
} SchedulerVolume;

typedef struct SchedulerVolumes {
        SchedulerVolume *items;
        size_t n;
} SchedulerVolumes;

typedef struct SchedulerSnapshot {
        SchedulerNode *nodes; /* by number */
        size_t n_nodes;
        char **default_affinity;
} SchedulerSnapshot;

void scheduler_instance_done(SchedulerInstance *i);
void scheduler_snapshot_done(SchedulerSnapshot *s);
#define _cleanup_snapshot_ _cleanup_(scheduler_snapshot_done)
void scheduler_volumes_done(SchedulerVolumes *v);
#define _cleanup_scheduler_volumes_ _cleanup_(scheduler_volumes_done)

typedef struct SchedulerRequest {
        const char *service_id, *stack, *service;
        const ServiceSpec *spec;
        const SchedulerVolumes *volumes; /* NULL: none */
        uint32_t number, wanted;         /* wanted: instances in all, see scheduler_wanted() */
        uint64_t memory_sample;          /* highest of the last hour; 0: none is known */
        uint64_t seed;
        uint64_t offline_grace; /* nodes offline for less than this count as connected */
} SchedulerRequest;

/* Does the node have this volume for instance number n? 0 or 1. */
int scheduler_has_volume(const SchedulerNode *n, const SchedulerVolume *v, uint32_t number);

/* May q's instance be on this node, wishes aside? 0, or K_UNSCHEDULABLE with what hinders it. */
int scheduler_check_node(const SchedulerSnapshot *s, const SchedulerRequest *q, size_t node, KError *reterr);

/* K_UNSCHEDULABLE names for each node the constraint that removed it. *ret is an index into nodes. */
int scheduler_place(const SchedulerSnapshot *s, const SchedulerRequest *q, size_t *ret, KError *reterr);

/* Places q's instance on a node of the snapshot that has it already, without counting; reading the store does this. */
int scheduler_add(SchedulerSnapshot *s, const SchedulerRequest *q, size_t node);
/* Records in the snapshot that q's instance is now on this node and nowhere else, and counts it. */
int scheduler_assign(SchedulerSnapshot *s, const SchedulerRequest *q, size_t node);

/* count, or for daemon count times the nodes that the filters allow (0: none). Of a stateful service those with data count also
 * when they are offline or drained: fewer would be wanted else, and the surplus is deleted. */
uint32_t scheduler_wanted(const SchedulerSnapshot *s, const SchedulerRequest *q);

uint64_t strategy_offline_grace(Strategy s) _const_; /* microseconds */
