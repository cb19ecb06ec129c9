/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* How much one directory may hold: a project of the file system (ext4 with the feature "project", XFS) with a hard limit. What
 * the file system can is found out by trying. */

/* Gives the directory, which is new and empty, a project that no other directory beside it has (both below parent_fd), and
 * limits it. -EOPNOTSUPP: the file system cannot. What is made in the directory later belongs to its project. */
int volume_quota_set(int parent_fd, int fd, uint64_t size_max);

/* Changes the limit of a directory that has a project; -ENODATA: it has none. 0 bytes: no limit. */
int volume_quota_change(int fd, uint64_t size_max);

/* What it holds and may hold; -ENODATA where there is no project, -EOPNOTSUPP where nobody counts. */
int volume_quota_get(int fd, uint64_t *ret_used, uint64_t *ret_size_max);

/* The sentence for -EOPNOTSUPP: which file system it is, and what has to be done about it. */
int volume_quota_explain(const char *directory, const char *volume, uint64_t size_max, KError *reterr);
