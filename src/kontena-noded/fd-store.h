/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Descriptors that systemd keeps for us over restarts and crashes of the daemon (FileDescriptorStoreMax=). */
typedef struct FdStore FdStore;

/* What an earlier run has left with systemd. */
int fd_store_new(FdStore **ret);
FdStore *fd_store_free(FdStore *s); /* systemd's copies stay */
DEFINE_TRIVIAL_CLEANUP_FUNC(FdStore *, fd_store_free);

/* The descriptor of that name now belongs to the caller; -ENOENT. */
int fd_store_take(FdStore *s, const char *name);
/* Asks systemd to keep a copy; without systemd nothing happens. */
int fd_store_put(const char *name, int fd);
void fd_store_remove(const char *name);
/* Gives up those that nobody took. */
void fd_store_drop_rest(FdStore *s);
