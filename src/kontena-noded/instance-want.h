/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "service-spec.h"

/* What the master wants of one instance: INSTANCE of doc/node-channel.md, read and checked. Immutable. */
typedef enum InstanceGoal {
        GOAL_RUNNING,
        GOAL_STOPPED,
        GOAL_TERMINATED,
        _INSTANCE_GOAL_MAX,
        _INSTANCE_GOAL_INVALID = -EINVAL,
} InstanceGoal;
DECLARE_STRING_TABLE_LOOKUP(instance_goal, InstanceGoal);

typedef struct InstanceWant {
        char *id;
        unsigned number;
        char *grid, *stack, *service, *service_id;
        InstanceGoal goal;
        uint64_t deploy_rev, service_rev;
        bool force, stateful;
        char *address; /* NULL with the host's network */
        char *hostname, *domain;
        char **search;
        ServiceSpec *spec;

        char *unit, *slice, *name; /* made of the above */
} InstanceWant;

InstanceWant *instance_want_free(InstanceWant *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(InstanceWant *, instance_want_free);

/* An id names directories, a namespace and parts of file names, so it is checked before anything else. */
int instance_id_validate(const char *id, KError *reterr);

int instance_want_parse(const char *id, json_object *o, InstanceWant **ret, KError *reterr);

/* deploy_rev of an INSTANCE that cannot be read otherwise: the refusal must name it. 0 if there is none. */
uint64_t instance_want_deploy_rev(json_object *o);
