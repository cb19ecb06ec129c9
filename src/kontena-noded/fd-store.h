/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Descriptors that outlive this process: systemd holds a copy of them while the daemon is started again, also after a kill -9.
 * Outside of systemd nothing is held, which whoever stores something must be able to live with. */
typedef struct FdStore FdStore;

/* Takes what systemd held. Once, at the start. */
int fd_store_new(FdStore **ret);
FdStore *fd_store_free(FdStore *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(FdStore *, fd_store_free);

/* The descriptor is the caller's; systemd holds on to its copy. -ENOENT. s may be NULL in all of these. */
int fd_store_take(FdStore *s, const char *name);
void fd_store_keep(FdStore *s, const char *name, int fd);
void fd_store_drop(FdStore *s, const char *name);
/* What nobody has taken by now belongs to nothing any more. */
void fd_store_drop_rest(FdStore *s);
