/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "user-lookup.h"

struct Secrets;

/* The secrets of one container, opened: variables for its environment, and a file each below a directory that becomes /run/secrets.
 *
 * systemd's LoadCredential= would not do: the unit's process is the runtime, which is root, so that the files would be root's; the
 * container's user could not read them, nor are they in the mounts that the runtime makes for it. The directory is therefore a ramfs
 * of ours (which is never swapped) below the generation's directory in /run, with files for the container's user alone. */
typedef struct ContainerSecrets {
        char **env;      /* "NAME=value" */
        char *directory; /* NULL: none are files */
} ContainerSecrets;

void container_secrets_done(ContainerSecrets *s);

/* run_directory is the generation's. What was there before is made anew. */
int container_secrets_make(const struct Secrets *key, const InstanceWant *want, const char *run_directory,
                const UserIdentity *identity, ContainerSecrets *ret, KError *reterr);

/* Overwrites the texts of the configuration's environment, which is written. */
void container_secrets_erase(json_object *config, const ContainerSecrets *s);

/* The container is gone: files and configuration go too. None there: nothing to do. */
int container_secrets_wipe(const char *run_directory);
