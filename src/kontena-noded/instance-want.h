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

/* A named volume: what the spec calls "data" is "shop.db.data-1" here. */
typedef struct VolumeUse {
        char *spec_name, *name;
        uint64_t size_max; /* 0: no quota */
} VolumeUse;

/* As the master sent it: sealed to this node's key, NULL where it knew none. */
typedef struct SealedSecret {
        char *name, *sealed;
        SecretType type;
} SealedSecret;

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
        VolumeUse *volumes;
        size_t n_volumes;
        SealedSecret *secrets;
        size_t n_secrets;
        char *slot;            /* "" or "b": which of two that stand side by side */
        bool incoming;         /* replaces the other one once it is up */
        uint64_t drain_usec;   /* terminated: runs on for so long */
        char *digest;          /* NULL: what the reference means now */
        char *rollback_digest; /* NULL: none is known; its image stays on the node */
        char *run;             /* NULL: no job */
        char **hooks_done;
        ServiceSpec *spec;

        char *unit, *slice, *name; /* made of the above */
} InstanceWant;

InstanceWant *instance_want_free(InstanceWant *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(InstanceWant *, instance_want_free);

/* An id names directories, a namespace and parts of file names, so it is checked before anything else. */
int instance_id_validate(const char *id, KError *reterr);

int instance_want_parse(const char *id, json_object *o, InstanceWant **ret, KError *reterr);

/* NULL: a master of old does not tell, and the name is the same. */
const VolumeUse *instance_want_volume(const InstanceWant *w, const char *spec_name);
/* Does it use the volume of that name on this node? */
bool instance_want_uses_volume(const InstanceWant *w, const char *name);

/* deploy_rev of an INSTANCE that cannot be read otherwise: the refusal must name it. 0 if there is none. */
uint64_t instance_want_deploy_rev(json_object *o);
