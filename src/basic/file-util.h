/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dirent.h>
#include <fcntl.h> /* AT_FDCWD in read_file() */
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#include "macro.h"

int safe_close(int fd); /* keeps errno; returns -EBADF */
static inline void closep(int *fd) {
        if (*fd >= 0)
                safe_close(*fd);
}
#define _cleanup_close_ _cleanup_(closep)
DEFINE_TRIVIAL_CLEANUP_FUNC(FILE *, fclose);
DEFINE_TRIVIAL_CLEANUP_FUNC(DIR *, closedir);

int fd_set_nonblock(int fd, bool nonblock);

/* Whole loops around read(2) and write(2). loop_read returns the bytes got before end of file. */
ssize_t loop_read(int fd, void *buffer, size_t n);
int loop_write(int fd, const void *buffer, size_t n);
int loop_pwrite(int fd, const void *buffer, size_t n, off_t offset);

/* Reads a whole file of at most max bytes; -EFBIG above. ret gets a NUL behind the content. dir_fd may be
 * AT_FDCWD. */
int read_file_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size);
#define read_file(path, max, ret, ret_size) read_file_at(AT_FDCWD, (path), (max), (ret), (ret_size))

/* Replaces the file as a whole: temporary file, fsync, rename, fsync of the directory. After a crash either
 * the old or the new content is there. */
int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode);

/* After a rename(2) or unlink(2) of the path. */
int fsync_directory_of(const char *path);

/* mkdir -p; an existing directory is fine. */
int mkdir_p(const char *path, mode_t mode);

/* rm -rf below a directory descriptor without following links and without crossing mounts. A missing name is
 * fine. */
int rm_rf_at(int dir_fd, const char *name);

/* Microseconds. */
uint64_t now_monotonic(void);
uint64_t now_realtime(void);
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX
