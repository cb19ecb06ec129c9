/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "tar.h"

/* Where "cp" reads and writes. */

/* The last name of a path: "a/b/" gives "b"; ".", "..", "/" and what ends in "/." or "/.." give ".". malloc()ed. */
int tar_path_name(const char *path, char **ret);
/* Ends in "/", "/." or is ".": a directory is meant, and through a link to one. */
bool tar_path_wants_directory(const char *path) _pure_;

/* Opens what path, as seen by a process whose root is root_fd, means, or with AT_FDCWD as we see it ourselves: links lead to
 * elsewhere below that root only. */
typedef struct TarRoot {
        int fd;                 /* AT_FDCWD: ours */
        const TarPlace *hidden; /* as in TarOptions: not for reading, not for writing */
        size_t n_hidden;
} TarRoot;

/* Of what is to be packed: the directory and the name in it. A link at the end is followed only if follow, or if the path wants a
 * directory. *ret_name is ".", or what the directory has; *ret_as is how it is called in the archive. */
int tar_source_open(const TarRoot *root, const char *path, bool follow, int *ret_fd, char **ret_name,
                char **ret_as, KError *reterr);

/* Of what is to be unpacked, of which the archive's root is called name ("." for what is in a directory, NULL for any archive):
 * a directory that is there gets the name below it; else the last part of the path is the new name, in a directory that is there.
 * *ret_rename is for TarOptions, NULL where nothing is renamed. Returns 1 if the path is a directory that is there. */
int tar_target_open(const TarRoot *root, const char *path, const char *name, int *ret_fd, char **ret_rename,
                KError *reterr);

int tar_place(int fd, TarPlace *ret);
/* 1: the directory, or one above it, up to top_fd that it is in, is one of them. */
int tar_is_hidden(const TarPlace *hidden, size_t n, int fd, int top_fd);

/* 1: a file system whose files are the kernel's own answers. */
int tar_is_kernel_file_system(int fd);
