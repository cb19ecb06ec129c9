/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"
#include "runtime.h"

/* Files that every kind of runtime hands to its containers. */

/* Of a container's run directory, which is in memory: no fsync, and in place, where somebody may have it mounted. */
int runtime_write_text(const char *directory, const char *name, const char *text, mode_t mode);

/* hosts, resolv.conf and hostname, in c->files_directory. */
int runtime_write_files(const RuntimeContainer *c);
