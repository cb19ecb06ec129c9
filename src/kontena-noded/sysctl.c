/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sysctl.h"

#include <fcntl.h>

#include "file-util.h"
#include "string-util.h"

#define VALUE_MAX 256U

int sysctl_ensure(const char *path, const char *value, KError *reterr) {
        _cleanup_free_ char *full = NULL, *old = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        full = strjoin("/proc/sys/", path);
        if (!full)
                return -ENOMEM;

        r = read_file(full, VALUE_MAX, &old, NULL);
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read the kernel's setting '%s': %m.", path);

        /* Lists are separated by tabs when read. */
        old[strcspn(old, "\n")] = '\0';
        for (char *p = old; *p; p++)
                if (*p == '\t')
                        *p = ' ';
        if (streq(old, value))
                return 0;

        fd = open(full, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "Cannot open the kernel's setting '%s': %m.", path);
        r = loop_write(fd, value, strlen(value));
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot set the kernel's '%s' to '%s': %m.", path, value);
        return 1;
}

int sysctl_ensure_device(const char *device, const char *key, const char *value, KError *reterr) {
        _cleanup_free_ char *path = strjoin("net/ipv4/conf/", device, "/", key);

        return path ? sysctl_ensure(path, value, reterr) : -ENOMEM;
}
