/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "runtime.h"
#include "unit.h"

/* A command of ours in a container that runs, or in a throw-away one, as a transient unit of its own in the grid's slice, with the
 * limits and devices of the service. The runtime is systemd's child, no process of ours: after a kill -9 of the daemon it goes on, and
 * systemd ends it when its time is up. Its unit stays, with the outcome, until we have seen that: whoever starts the same unit again
 * (adopt) finds the outcome instead of a second run.
 *
 * All of it ends together: what the command has left in the background is killed when the unit goes. */
typedef struct ContainerCommand ContainerCommand;

typedef struct ContainerCommandOptions {
        sd_event *event;
        UnitManager *units;
        Runtime *runtime;
        const InstanceWant *want;
        const char *image; /* reference, for the journal's fields */
        const char *unit;  /* its name, ending in ".service" */
        const char *description;
        const char *bind_unit;    /* it ends with this one; NULL: none */
        const char *container_id; /* of the container that runs; of the new one when fresh is set */
        const char *bundle;       /* the container's directory below /run, with its configuration */
        const char *directory;    /* of the command alone; it is made, and removed at the end */
        bool fresh; /* a container of its own, which the configuration in bundle describes, command included */
        char *const *argv; /* otherwise: what is run, as the container's user, with its environment and directory */
        char *const *log_fields; /* "KONTENA_HOOK=migrate", beside those of the instance */
        bool capture;            /* the output comes to us, and ends with us; otherwise to the journal */
        bool adopt;              /* a unit of that name is this very run; otherwise it is stopped first */
        bool keep; /* the unit stays, as the memory of its outcome: container_command_discard() */
        uint64_t timeout_usec; /* it is killed then, whether we are there or not */
} ContainerCommandOptions;

/* Called once from the event loop; the command is freed after it. error NULL: exit status 0. Else the end of a sentence: "exited
 * with status 1: LAST LINE", "did not end within 10 s". status: of the command, 128 + signal when killed, -1 when it could not be
 * run or was stopped. K_UNAVAILABLE: it is we, or systemd, who could not: nothing is said of the container. */
typedef void (*container_command_done_t)(
                ContainerCommand *c, int status, const KError *error, void *userdata);

/* All strings are copied; event, units and runtime must live longer. */
int container_command_start(const ContainerCommandOptions *o, container_command_done_t done, void *userdata,
                ContainerCommand **ret, KError *reterr);
/* Kills it, in the background; done is not called. */
ContainerCommand *container_command_cancel(ContainerCommand *c);
/* Forgets it, and leaves it alone: the daemon ends, or somebody adopts it. */
ContainerCommand *container_command_free(ContainerCommand *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ContainerCommand *, container_command_free);

/* The unit goes, in the background; if it still runs it is killed. None there: fine. directory may be NULL. */
void container_command_discard(UnitManager *units, const char *unit, const char *directory);

/* The last line that says something, as it may be shown; NULL when there is none. Pure. */
char *container_command_last_line(const char *text, size_t size);
