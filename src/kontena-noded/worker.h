/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Runs one of our helper programs as a transient unit with a sandbox, and talks to it over a socket pair whose other
 * end is the program's standard input and output. Standard error goes to the journal. Everything is asynchronous:
 * worker_start() returns before the unit exists; what is written to the socket meanwhile waits in it. */
typedef struct Worker Worker;

/* Our helpers live beside systemd's own services, outside kontena.slice: a grid called "system" may exist. */
#define WORKER_SLICE "system-kontena.slice"

typedef struct WorkerOptions {
        const char *name;         /* "kontena-pull" gives kontena-pull-<16 hex>.service */
        const char *description;  /* NULL: the name */
        char *const *argv;        /* argv[0] is the absolute path of the program */
        char *const *environment; /* "NAME=value"; everybody can read it: no secrets */
        char *const *credentials; /* "NAME:/absolute/path", as LoadCredential= takes it */

        /* A user that exists (sysusers.d), or NULL for a dynamic one. With a dynamic user systemd refuses to make
         * setuid files; a program that must make some needs a user of its own and setuid_files. */
        const char *user;
        bool setuid_files;
        bool device_files; /* may make some, with CAP_MKNOD */

        uint64_t capabilities; /* mask of UINT64_C(1) << CAP_X; bounding set and ambient */
        bool network;          /* AF_INET, AF_INET6; otherwise no network at all */

        /* The file system is read-only but for writable_paths (absolute, existing). With private_root nothing is
         * seen of it but /usr, the system's CA certificates, the resolver's configuration, readable_paths and
         * writable_paths; those two lists may then name files that are missing. The resolver's files stay as they
         * were at the start, so this is not for programs that run for days. */
        char *const *writable_paths;
        char *const *readable_paths;
        bool private_root;

        char *const *system_calls; /* added to "@system-service", which is less @privileged
                                                          * and @resources, names or @groups */
        uint64_t memory_max;       /* bytes; 0: no limit of its own */
        uint64_t runtime_max_usec; /* 0: none */
} WorkerOptions;

/* Called once, from the event loop, when the unit has ended or could not be started: never from inside
 * worker_start(). error is NULL after exit status 0, otherwise a sentence (K_RUNTIME) that says how it ended. There
 * may still be unread bytes in the socket. The callback may free the worker. */
typedef void (*worker_exit_t)(Worker *w, const KError *error, void *userdata);

/* ret_fd is a non-blocking stream socket which the caller owns and closes. The program sees end of file when both are
 * gone: close it and worker_free(). */
int worker_start(sd_bus *bus, sd_event *event, const WorkerOptions *o, worker_exit_t done, void *userdata,
                Worker **ret, int *ret_fd);

/* Stops the unit if it runs (in the background: SIGTERM, then SIGKILL after 5 s). done is not called any more. */
Worker *worker_free(Worker *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(Worker *, worker_free);

const char *worker_unit(const Worker *w); /* "kontena-pull-0123456789abcdef.service" */
