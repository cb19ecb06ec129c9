/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/stat.h>

#include "macro.h"

/* What a layer needs of the layers below. Hard links to their files: some builders make such; overlayfs parts them
 * anyway once one is written to, so the file is copied. And directories that the layer has only on the way to
 * something else: they get owner, mode and time from below, which the layer's own directory would hide. */

/* What the layers, TOP first, show as this normalized path: whiteouts and opaque directories count. Only files,
 * symbolic links and directories: -ENOENT for others. The caller closes ret_parent; the name is a part of path. */
int lower_find(const int *fds, size_t n_fds, const char *path, int *ret_parent, const char **ret_name,
                struct stat *ret);

/* With owner, mode, time and those attributes that layers may have. */
int lower_copy(int from_fd, const char *from, const struct stat *st, int to_fd, const char *to);

/* To a directory that is there: all but the time. */
int lower_copy_directory(int from_fd, const char *from, const struct stat *st, int to_fd);

/* security.capability and user.*, but not overlayfs' own. */
bool xattr_is_kept(const char *name) _pure_;
