/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "image-store.h"
#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "oci-config.h"
#include "unit-setup.h"

/* What starts a container: one struct of functions, one file for each kind. The container itself is a unit of systemd; a runtime
 * only says how to make one, and cleans up after it. */
typedef struct Runtime Runtime;

typedef struct RuntimeContainer {
        const InstanceWant *want;
        const Image *image;
        const char *node_name;
        const char *id;              /* "<instance>-<generation>" */
        const char *directory;       /* below /run: configuration, PID file, messages */
        const char *files_directory; /* on disk: what the container may write to, as /etc/hosts */
        const char *root_path;
        const char *netns_path; /* NULL: the host's network */
        const char *resolver;   /* NULL likewise */
        const struct Secrets *secrets;
        const OciMount *mounts;
        size_t n_mounts;
        uint32_t uid_base; /* whose users its users are; 0: the host's */
} RuntimeContainer;

/* A command in a container that runs, or one that a container is made for. */
typedef struct RuntimeCommand {
        const char *container_id;
        const char *bundle;    /* directory with the container's configuration */
        const char *directory; /* the command's own: PID file, messages, the environment */
        char *const *argv;     /* NULL: what the configuration says */
} RuntimeCommand;

typedef struct RuntimeOps {
        const char *kind;

        /* Writes the container's configuration. An error in the settings shows here, before anything is stopped. */
        int (*prepare)(Runtime *rt, const RuntimeContainer *c, KError *reterr);

        /* Fills in the commands and files of its unit. */
        int (*setup)(Runtime *rt, const RuntimeContainer *c, UnitSetup *setup, KError *reterr);

        /* Why the last start failed, in the runtime's words; NULL when it left none. */
        char *(*failure)(Runtime *rt, const char *directory);

        /* The command line that runs c->argv in the container, as its user and with its environment, and ends as it does. "pid" in the
         * command's directory says that it has begun. */
        int (*exec)(Runtime *rt, const RuntimeCommand *c, char ***ret, KError *reterr);

        /* The same for a container that is made for this, and the command line that removes it. */
        int (*run)(Runtime *rt, const RuntimeCommand *c, char ***ret, char ***ret_delete);
} RuntimeOps;

struct Runtime {
        const RuntimeOps *ops;
        char *program;          /* absolute path */
        char *name;             /* "crun" */
        char *version;          /* NULL: not known */
        char *exec_program;     /* runs commands as "crun exec" does */
        bool exec_by_directory; /* and is told the container's directory for its id */
        uint64_t capabilities;  /* that PID 1, who starts containers, can give */
};

/* name: "crun", an absolute path, or NULL for the first one that is installed. K_RUNTIME names what was looked for. */
int runtime_oci_new(const char *name, Runtime **ret, KError *reterr);
/* Boots images that hold an operating system; K_RUNTIME: not installed. */
int runtime_nspawn_new(Runtime **ret, KError *reterr);
Runtime *runtime_free(Runtime *rt);
DEFINE_TRIVIAL_CLEANUP_FUNC(Runtime *, runtime_free);

/* Asks the program for its version; rt->version is set when it has answered. rt must live longer. */
typedef struct VersionQuery VersionQuery;
int runtime_version_ask(Runtime *rt, sd_event *event, VersionQuery **ret);
VersionQuery *runtime_version_free(VersionQuery *q);
DEFINE_TRIVIAL_CLEANUP_FUNC(VersionQuery *, runtime_version_free);
char *runtime_version_parse(const char *text);

/* The last message of a log of JSON lines, as OCI runtimes write it. For tests and the fuzzer. */
char *runtime_log_message(const char *text, size_t size);
