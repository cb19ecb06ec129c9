/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "image-store.h"
#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "oci-config.h"

/* What systemd-nspawn(1) is told of a machine. Pure. */

#define NSPAWN_SETTINGS_SUFFIX ".nspawn"
#define NSPAWN_ENVIRONMENT                                                                                  \
        "environment" /* below the run directory; /run/kontena/environment in the machine */

typedef struct NspawnInput {
        const InstanceWant *want;
        const Image *image;
        const char *program, *machine, *root_path;
        const char *run_directory, *files_directory;
        const char *secrets_directory; /* NULL: no secret is a file */
        uint32_t uid_base; /* UID_RANGE_SIZE users from here on are the machine's; 0: they are the host's */
        const OciMount *mounts;
        size_t n_mounts;
} NspawnInput;

/* The name of its unit without the suffix; where that is no host name, as a machine's has to be, one made of the instance's id. */
char *nspawn_machine_name(const InstanceWant *want);

int nspawn_command(const NspawnInput *in, char ***ret, KError *reterr);

/* The environment of the first process, as systemd.nspawn(5) files have it: in the file alone, never in a command line or in the
 * environment of nspawn itself, which runs as root outside. Refuses what such a file cannot hold. */
int nspawn_settings(char *const *env, char **ret, KError *reterr);

/* The same as EnvironmentFile= of units in the machine takes it, without what is every process's own. */
int nspawn_environment(char *const *env, const ServiceSpec *spec, char **ret);
