/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "device-list.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"

#define DEVICES_MAX 4096U
#define DEPTH_MAX   4U

/* Made by the runtime itself, or a file system of its own. */
static const char *const own_names[] = {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "console",
        "ptmx",
        "pts",
        "shm",
        "mqueue",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "core",
        "log",
};

void device_list_done(DeviceList *l) {
        oci_devices_free(l->devices, l->n_devices);
        strv_free(l->allow);
        *l = (DeviceList){};
}

static int add_node(DeviceList *l, const char *host, const char *inside, const char *access,
                const struct stat *st, KError *reterr) {
        OciDevice *larger, *d;

        if (l->n_devices == DEVICES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "More than %u devices.", DEVICES_MAX);
        larger = reallocarray(l->devices, l->n_devices + 1, sizeof(OciDevice));
        if (!larger)
                return -ENOMEM;
        l->devices = larger;

        d = l->devices + l->n_devices;
        *d = (OciDevice){ .mode = st->st_mode, .number = st->st_rdev, .uid = st->st_uid, .gid = st->st_gid };
        d->path = strdup(inside);
        l->n_devices++;
        if (!d->path)
                return -ENOMEM;

        /* The runtime, which stands in the unit as well, has to make the node. */
        return access ? strv_extendf(&l->allow, "%s %s%s", host, access, strchr(access, 'm') ? "" : "m") : 0;
}

/* access NULL: everything is allowed anyway, and it need not be said. */
static int add_directory(DeviceList *l, const char *host, const char *inside, const char *access,
                unsigned depth, KError *reterr) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;

        d = opendir(host);
        if (!d)
                return kerror_set_errno(reterr, -errno, "Cannot read the device directory '%s': %m", host);

        while ((de = readdir(d))) {
                _cleanup_free_ char *host_path = NULL, *inside_path = NULL;
                bool own = false;
                struct stat st;
                int r = 0;

                if (de->d_name[0] == '.')
                        continue;
                for (size_t i = 0; i < ELEMENTSOF(own_names) && depth == 0 && !access; i++)
                        own = own || streq(own_names[i], de->d_name);
                if (own || fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;

                host_path = strjoin(host, "/", de->d_name);
                inside_path = strjoin(inside, "/", de->d_name);
                if (!host_path || !inside_path)
                        return -ENOMEM;
                if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
                        r = add_node(l, host_path, inside_path, access, &st, reterr);
                else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
                        r = add_directory(l, host_path, inside_path, access, depth + 1, reterr);
                if (r < 0)
                        return r;
        }

        return 0;
}

int device_list_resolve(const ServiceSpec *spec, DeviceList *ret, KError *reterr) {
        _cleanup_(device_list_done) DeviceList l = {};
        int r;

        if (spec->privileged) {
                r = add_directory(&l, "/dev", "/dev", NULL, 0, reterr);
                if (r < 0)
                        return r;
        }

        STRV_FOREACH(s, spec->devices) {
                _cleanup_(device_mapping_done) DeviceMapping m = {};
                const char *access;
                struct stat st;

                r = device_mapping_parse(*s, &m, reterr);
                if (r < 0)
                        return r;
                access = spec->privileged ? NULL : m.access;
                if (stat(m.host, &st) < 0)
                        return kerror_set(reterr, K_RUNTIME, "This machine has no device '%s'.", m.host);
                if (S_ISDIR(st.st_mode))
                        r = add_directory(&l, m.host, m.inside, access, 1, reterr);
                else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
                        r = add_node(&l, m.host, m.inside, access, &st, reterr);
                else
                        r = kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a device.", m.host);
                if (r < 0)
                        return r;
        }

        *ret = l;
        l = (DeviceList){};
        return 0;
}
