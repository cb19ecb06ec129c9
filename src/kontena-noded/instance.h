/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "image-store.h"
#include "kerror.h"
#include "macro.h"
#include "network.h"
#include "pull.h"
#include "runtime.h"
#include "string-util.h"
#include "unit.h"

/* One instance on this machine: what is wanted of it, what there is of it, and the steps from the second to the first. A step
 * looks at both and at the unit; nothing about where it stands is kept in memory only, so after a kill -9 the same step follows. */
typedef struct Instance Instance;

typedef enum InstanceState {
        INSTANCE_PENDING,
        INSTANCE_PULLING,
        INSTANCE_CREATING,
        INSTANCE_STARTING,
        INSTANCE_RUNNING,
        INSTANCE_RESTARTING,
        INSTANCE_STOPPING,
        INSTANCE_STOPPED,
        INSTANCE_FAILED,
        INSTANCE_EXITED, /* of a job, whose run is over */
        INSTANCE_REMOVED,
        _INSTANCE_STATE_MAX,
        _INSTANCE_STATE_INVALID = -EINVAL,
} InstanceState;
DECLARE_STRING_TABLE_LOOKUP(instance_state, InstanceState);

typedef struct InstanceEvent {
        const char *severity, *type; /* "warning", "service:instance_crash" */
        const char *message;
} InstanceEvent;

/* What instances need of the machine; outlives them all. */
typedef struct InstanceHost {
        sd_event *event;
        UnitManager *units;
        Network *network;
        ImageStore *images;
        PullManager *pulls;
        Runtime *runtime; /* NULL: none is installed, runtime_error says so */
        const char *runtime_error;
        Runtime *machines; /* NULL likewise: instances cannot be machines here */
        const char *machines_error;
        const char *uid_directory; /* /run/kontena/uid-ranges */
        const char *node_name;
        const char *state_directory; /* /var/lib/kontena/instances */
        const char *run_directory;   /* /run/kontena/instances */
        const char *volumes_directory;
        struct FdStore *fds;           /* NULL: descriptors do not outlive the daemon */
        const char *proc_directory;    /* NULL: /proc */
        uint64_t probation_usec;       /* how long a new container is watched; 0: a second */
        bool log_tails;                /* a failure is told with the last lines of the journal */
        const struct Secrets *secrets; /* NULL: this node can have none */

        void (*changed)(Instance *i, void *userdata); /* something that STATUS shows */
        void (*event_happened)(Instance *i, const InstanceEvent *e, void *userdata);
        bool (*held)(Instance *i, void *userdata);    /* we make it stand still; NULL: never */
        void (*removed)(Instance *i, void *userdata); /* nothing is left of it: free it */
        void *userdata;
} InstanceHost;

/* Reads what there is on disk. */
int instance_new(InstanceHost *host, const char *id, Instance **ret);
Instance *instance_free(Instance *i); /* the container is left alone */
DEFINE_TRIVIAL_CLEANUP_FUNC(Instance *, instance_free);

/* INSTANCE of the channel. Whatever waits for an older one is interrupted at once (trap 8). An unreadable one is a failure of the
 * instance: what runs, runs on. */
int instance_set_want(Instance *i, json_object *want);
/* Stop and remove, with all that it has. */
void instance_terminate(Instance *i);
/* Nobody names it any more, which is not the word to remove its data: stop and remove it, but put those aside, see kept-data.h. */
void instance_disown(Instance *i);
/* Stop and start again; K_CONFLICT when it is not running. */
int instance_restart(Instance *i, KError *reterr);
/* Looks again, e.g. because the network is there now. */
void instance_wake(Instance *i);

const char *instance_id(const Instance *i);
InstanceState instance_state_of(const Instance *i);
bool instance_is_wanted(const Instance *i);
bool instance_is_disowned(const Instance *i);
/* For the bus: never NULL. */
const char *instance_unit(const Instance *i);
const char *instance_grid(const Instance *i);
const char *instance_stack(const Instance *i);
const char *instance_service(const Instance *i);
unsigned instance_number(const Instance *i);
const char *instance_image(const Instance *i);
const char *instance_image_digest(const Instance *i);
const char *instance_next_image_digest(const Instance *i); /* of what is being made; "" if nothing is */
const char *instance_rollback_digest(
                const Instance *i); /* that it may have to go back to; "": none is known */
const char *instance_address(const Instance *i);
const char *instance_error(const Instance *i);
const char *instance_progress(const Instance *i);
const char *instance_health(const Instance *i); /* "unknown", "healthy", "unhealthy" */
uint32_t instance_main_pid(const Instance *i);
/* By its name on this node: wants: it is to run with it; may use: or it is not to any more, and what runs, starts or stops has it. */
bool instance_wants_volume(const Instance *i, const char *name);
bool instance_may_use_volume(const Instance *i, const char *name);
uint64_t instance_restarts(const Instance *i);
uint64_t instance_deploy_rev(const Instance *i);

/* STATUS of the channel. */
int instance_status(const Instance *i, json_object **ret);
