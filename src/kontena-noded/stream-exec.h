/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "unit.h"
#include "user-lookup.h"

/* A command in a container that runs, for somebody at the master: kontena-exec-<id>.service, with the limits and devices of the
 * service, bound to the instance's unit. The runtime is systemd's child and waits for the command; we hold pipes or the
 * terminal's other side, nothing more. Values of the environment go by a file below /run that is there until the start. */
typedef struct StreamExec StreamExec;

typedef struct StreamExecOptions {
        sd_event *event;
        sd_bus *bus;
        UnitManager *units;
        const InstanceWant *want;
        const char *runtime;      /* Runtime.exec_program */
        const char *container_id; /* of the container that runs, or its directory */
        const char *directory;    /* the container's, below /run, with config.json */
        const char *root_path;
        const char *bind_unit; /* it ends with this one; NULL: none */
        char *const *argv;
        char *const *env; /* "NAME=value", beside the container's own */
        const char *user; /* NULL: the container's */
        bool tty;
        unsigned rows, columns;
} StreamExecOptions;

/* Once, when the command runs: for a terminal stream_exec_fd(…, 0) and (…, 1) are the same. */
typedef void (*stream_exec_started_t)(StreamExec *e, void *userdata);
/* Once, from the event loop. error NULL: the command ended, status is its own or 128 + signal; else it never ran. What it has written may
 * still be in the pipes. The callback may free it. */
typedef void (*stream_exec_ended_t)(StreamExec *e, int status, const KError *error, void *userdata);

int stream_exec_start(const StreamExecOptions *o, stream_exec_started_t started, stream_exec_ended_t ended,
                void *userdata, StreamExec **ret, KError *reterr);
/* What still runs is hung up, and killed 5 s later: by systemd, whether we are there or not. */
StreamExec *stream_exec_free(StreamExec *e);
DEFINE_TRIVIAL_CLEANUP_FUNC(StreamExec *, stream_exec_free);

/* Non-blocking, borrowed: 0 to write to, 1 and 2 to read from; -EBADF when there is none. */
int stream_exec_fd(const StreamExec *e, unsigned channel);
/* The command reads end of file; a terminal gets its end-of-file character. */
int stream_exec_end_input(StreamExec *e);
int stream_exec_resize(StreamExec *e, unsigned rows, unsigned columns);
int stream_exec_signal(StreamExec *e, int signal);

/* Stops what a daemon before us has left, and removes its files below this directory, where each container has one: a variable
 * of the environment may be in them. */
int stream_exec_sweep(sd_bus *bus, const char *instances_directory);

/* The "process" of the runtime's configuration as the command needs it. Pure. */
int stream_exec_process(json_object *config, const StreamExecOptions *o, const UserIdentity *identity,
                json_object **ret, KError *reterr);
