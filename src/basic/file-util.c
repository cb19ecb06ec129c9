/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/stat.h>
#include <time.h>

#include "string-util.h"

int safe_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                (void) close(fd);
                errno = saved;
        }
        return -EBADF;
}

int fd_set_nonblock(int fd, bool nonblock) {
        int flags;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        if (fcntl(fd, F_SETFL, nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
                return -errno;

        return 0;
}

ssize_t loop_read(int fd, void *buffer, size_t n) {
        size_t done = 0;

        while (done < n) {
                ssize_t k = read(fd, (uint8_t *) buffer + done, n - done);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0)
                        break;
                done += (size_t) k;
        }

        return (ssize_t) done;
}

int loop_write(int fd, const void *buffer, size_t n) {
        const uint8_t *p = buffer;

        while (n > 0) {
                ssize_t k = write(fd, p, n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                p += k;
                n -= (size_t) k;
        }

        return 0;
}

int loop_pwrite(int fd, const void *buffer, size_t n, off_t offset) {
        const uint8_t *p = buffer;

        while (n > 0) {
                ssize_t k = pwrite(fd, p, n, offset);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                p += k;
                offset += k;
                n -= (size_t) k;
        }
        return 0;
}

int read_file_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *buffer = NULL;
        size_t size = 0, room = 0;

        assert(path);
        assert(ret);

        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;

        /* Files in /proc and /sys tell no size: read until the end. */
        for (;;) {
                ssize_t k;

                if (size + 1 >= room) {
                        char *larger;

                        room = room == 0 ? 4096 : room * 2;
                        larger = realloc(buffer, room);
                        if (!larger)
                                return -ENOMEM;
                        buffer = larger;
                }
                k = loop_read(fd, buffer + size, room - size - 1);
                if (k < 0)
                        return (int) k;
                size += (size_t) k;
                if (size > max)
                        return -EFBIG;
                if (size < room - 1)
                        break;
        }

        buffer[size] = '\0';
        *ret = TAKE_PTR(buffer);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int fsync_directory_of(const char *path) {
        _cleanup_free_ char *copy = NULL;
        _cleanup_close_ int fd = -EBADF;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;

        fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        return fsync(fd) < 0 ? -errno : 0;
}

int write_file_atomic(const char *path, const void *data, size_t size, mode_t mode) {
        _cleanup_free_ char *temporary = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        assert(path);
        assert(data || size == 0);

        temporary = strjoin(path, ".XXXXXX");
        if (!temporary)
                return -ENOMEM;

        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return -errno;

        r = fchmod(fd, mode) < 0 ? -errno : 0;
        if (r >= 0)
                r = loop_write(fd, data, size);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlink(temporary);
                return r;
        }

        return fsync_directory_of(path);
}

int mkdir_p(const char *path, mode_t mode) {
        _cleanup_free_ char *copy = NULL;

        /* Mostly it is there, or its parent is. */
        if (mkdir(path, mode) >= 0 || errno == EEXIST)
                return 0;
        if (errno != ENOENT)
                return -errno;

        copy = strdup(path);
        if (!copy)
                return -ENOMEM;

        for (char *p = copy + 1;; p++) {
                bool end = *p == '\0';

                if (*p != '/' && !end)
                        continue;
                *p = '\0';
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                if (end)
                        return 0;
                *p = '/';
        }
}

static int rm_rf_children(int fd, dev_t device) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r, copy;

        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
                return -errno;
        d = fdopendir(copy);
        if (!d) {
                safe_close(copy);
                return -errno;
        }

        for (;;) {
                _cleanup_close_ int child = -EBADF;
                struct stat st;

                errno = 0;
                de = readdir(d);
                if (!de)
                        return errno > 0 ? -errno : 0;
                if (streq(de->d_name, ".") || streq(de->d_name, ".."))
                        continue;

                if (unlinkat(fd, de->d_name, 0) >= 0 || errno == ENOENT)
                        continue;
                if (errno != EISDIR && errno != EPERM)
                        return -errno;

                child = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0)
                        return -errno;
                if (fstat(child, &st) < 0)
                        return -errno;
                if (st.st_dev != device)
                        return -EXDEV;
                r = rm_rf_children(child, device);
                if (r < 0)
                        return r;
                if (unlinkat(fd, de->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                        return -errno;
        }
}

int rm_rf_at(int dir_fd, const char *name) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                if (errno == ENOENT)
                        return 0;
                if (errno != ENOTDIR && errno != ELOOP)
                        return -errno;
                return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        }
        if (fstat(fd, &st) < 0)
                return -errno;

        r = rm_rf_children(fd, st.st_dev);
        if (r < 0)
                return r;

        return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static uint64_t now(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

uint64_t now_monotonic(void) {
        return now(CLOCK_MONOTONIC);
}

uint64_t now_realtime(void) {
        return now(CLOCK_REALTIME);
}
