/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/stat.h>

#include "macro.h"

/* Hard links from one layer to a file of a layer below. Some builders make such. overlayfs parts them anyway once one
 * is written to, so the file is copied. */

/* What the layers, TOP first, show as this normalized path: whiteouts and opaque directories count. Only files and
 * symbolic links: -ENOENT for others. The caller closes the directory; the name is a part of path. */
int lower_find(const int *fds, size_t n_fds, const char *path, int *ret_parent, const char **ret_name,
                struct stat *ret);

/* With owner, mode, time and those attributes that layers may have. */
int lower_copy(int from_fd, const char *from, const struct stat *st, int to_fd, const char *to);

/* security.capability and user.*, but not overlayfs' own. */
bool xattr_is_kept(const char *name) _pure_;
