/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "runtime.h"
#include "unit.h"

/* A command in a container that runs, or in a throw-away one, as a transient unit of its own in the grid's slice, with the limits
 * and devices of the service. The runtime is its parent, no process of ours: after a kill -9 of the daemon it goes on. Its unit
 * stays, with the outcome, until the command is collected, so whoever starts the same unit again after that finds the
 * outcome instead of a second run. */
typedef struct ContainerCommand ContainerCommand;

typedef struct ContainerCommandOptions {
        sd_event *event;
        UnitManager *units;
        Runtime *runtime;
        const InstanceWant *want;
        const char *image; /* reference, for the journal's fields */
        const char *unit;  /* its name, ending in ".service" */
        const char *description;
        const char *container_id; /* of the container that runs; of the new one when fresh is set */
        const char *directory;    /* the container's, below /run, with its configuration */
        bool fresh; /* a container of its own, which the configuration there describes, command included */
        char *const *argv; /* otherwise: what is run, as the container's user, with its environment and directory */
        char *const *log_fields; /* "KONTENA_HOOK=migrate", beside those of the instance */
        bool capture;            /* the output comes to us, and ends with us; otherwise to the journal */
        bool adopt;              /* a unit of that name is this very run; otherwise it is stopped first */
        uint64_t timeout_usec;   /* it is killed then, whether we are there or not */
} ContainerCommandOptions;

/* Called once from the event loop; the command is freed after. error NULL: exit status 0. Else the sentence's end: "exited with status
 * 1: LAST LINE", "did not end within 10 s". status: of the command, 128 + signal when killed, -1 when it could not be run. */
typedef void (*container_command_done_t)(
                ContainerCommand *c, int status, const KError *error, void *userdata);

int container_command_start(const ContainerCommandOptions *o, container_command_done_t done, void *userdata,
                ContainerCommand **ret, KError *reterr);
/* Kills it; done is not called. */
ContainerCommand *container_command_cancel(ContainerCommand *c);
/* Forgets it, and leaves it alone: the daemon ends. */
ContainerCommand *container_command_free(ContainerCommand *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ContainerCommand *, container_command_free);
