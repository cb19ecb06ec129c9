/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"
#include "runtime.h"

/* Files that every kind of runtime hands to its containers. */

/* Of a container's run directory, which is in memory: no fsync, and in place, where somebody may have it mounted. */
int runtime_write_text(const char *directory, const char *name, const char *text, mode_t mode);

/* process.json of a command: the configuration's process with another command. It has the environment, and so may hold secrets. */
int runtime_write_process(const RuntimeCommand *c, KError *reterr);

/* The last error in runtime.log, as RuntimeOps.failure. */
char *runtime_read_log(Runtime *rt, const char *directory);

/* hosts, resolv.conf and hostname, in c->files_directory. */
int runtime_write_files(const RuntimeContainer *c);
