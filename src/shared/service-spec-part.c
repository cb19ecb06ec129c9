/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service-spec.h"

#include <ctype.h>
#include <signal.h>

#include "names.h"
#include "parse-util.h"
#include "service-spec-internal.h"

/* Single entries of a service's settings: volumes, devices, names of capabilities and signals. */

/* include/uapi/linux/capability.h, by number. */
static const char *const capability_table[] = {
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
};

const char *capability_to_name(unsigned number) {
        return number < ELEMENTSOF(capability_table) ? capability_table[number] : NULL;
}

int signal_from_string(const char *s) {
        unsigned n;

        if (isempty(s))
                return -EINVAL;

        if (isdigit((unsigned char) s[0])) {
                if (safe_atou(s, &n) < 0 || n == 0 || n >= (unsigned) NSIG)
                        return -EINVAL;
                return (int) n;
        }

        if (strncasecmp(s, "SIG", 3) == 0)
                s += 3;

        if (strncasecmp(s, "RTMIN", 5) == 0) {
                n = 0;
                if (s[5] == '+' && safe_atou(s + 6, &n) < 0)
                        return -EINVAL;
                if ((s[5] != '+' && s[5] != '\0') || n > (unsigned) (SIGRTMAX - SIGRTMIN))
                        return -EINVAL;
                return SIGRTMIN + (int) n;
        }

        for (int i = 1; i < NSIG; i++) {
                const char *name = sigabbrev_np(i);

                if (name && strcasecmp(name, s) == 0)
                        return i;
        }

        return -EINVAL;
}

int spec_path_validate(const char *what, const char *path, KError *reterr) {
        if (path[0] != '/' || strlen(path) >= 4096 || !string_is_printable(path))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s '%.256s' is not an absolute path.", what,
                                path);

        /* ".." would mean a different place on the host than in the container. */
        for (const char *p = path; (p = strstr(p, "/..")); p += 3)
                if (p[3] == '/' || p[3] == '\0')
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s '%s' must not contain '..'.", what,
                                        path);

        return 0;
}

void volume_mount_done(VolumeMount *v) {
        v->source = mfree(v->source);
        v->path = mfree(v->path);
        v->propagation = mfree(v->propagation);
}

int volume_mount_parse(const char *s, VolumeMount *ret, KError *reterr) {
        _cleanup_(volume_mount_done) VolumeMount v = {};
        _cleanup_strv_free_ char **parts = NULL, **flags = NULL;
        const char *path;
        size_t n;
        int r;

        r = strv_split(s, ":", &parts);
        if (r < 0)
                return r;
        n = strv_length(parts);
        if (n == 0 || n > 3 || s[0] == ':' || endswith(s, ":") || strstr(s, "::"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Volume '%s' is not '/path', 'name:/path' or '/host:/path', with ':flags' "
                                "perhaps.",
                                s);

        if (n == 1)
                v.type = VOLUME_ANONYMOUS;
        else if (parts[0][0] == '/')
                v.type = VOLUME_BIND;
        else
                v.type = VOLUME_NAMED;
        path = n == 1 ? parts[0] : parts[1];

        r = spec_path_validate("The path of a volume", path, reterr);
        if (r < 0)
                return r;
        if (strspn(path, "/") == strlen(path))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A volume cannot be mounted at '/'.");
        if (v.type == VOLUME_BIND)
                r = spec_path_validate("The source of a volume", parts[0], reterr);
        else if (v.type == VOLUME_NAMED)
                r = name_validate("volume", parts[0], reterr);
        if (r < 0)
                return r;

        if (n == 3) {
                r = strv_split(parts[2], ",", &flags);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(f, flags)
                if (streq(*f, "ro"))
                        v.read_only = true;
                else if (streq(*f, "nocopy"))
                        v.no_copy = true;
                else if (STR_IN_SET(*f, "private", "rprivate", "slave", "rslave", "shared", "rshared") &&
                                v.type == VOLUME_BIND) {
                        r = free_and_strdup(&v.propagation, *f);
                        if (r < 0)
                                return r;
                } else if (!STR_IN_SET(*f, "rw", "z", "Z"))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "Volume '%s' has the unknown flag '%s'.", s, *f);

        v.path = strdup(path);
        if (!v.path)
                return -ENOMEM;
        if (v.type != VOLUME_ANONYMOUS) {
                v.source = strdup(parts[0]);
                if (!v.source)
                        return -ENOMEM;
        }

        *ret = v;
        v = (VolumeMount){};
        return 0;
}

void device_mapping_done(DeviceMapping *d) {
        d->host = mfree(d->host);
        d->inside = mfree(d->inside);
        d->access = mfree(d->access);
}

int device_mapping_parse(const char *s, DeviceMapping *ret, KError *reterr) {
        _cleanup_(device_mapping_done) DeviceMapping d = {};
        _cleanup_strv_free_ char **parts = NULL;
        const char *access = "rwm";
        size_t n;
        int r;

        r = strv_split(s, ":", &parts);
        if (r < 0)
                return r;
        n = strv_length(parts);
        if (n == 0 || n > 3 || s[0] == ':' || endswith(s, ":") || strstr(s, "::"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Device '%s' is not HOST[:INSIDE[:rwm]].", s);

        STRV_FOREACH(p, parts) {
                if (p == parts + 2)
                        break;
                r = spec_path_validate("Device", *p, reterr);
                if (r < 0)
                        return r;
        }
        if (n == 3) {
                access = parts[2];
                if (strspn(access, "rwm") != strlen(access) || strlen(access) > 3)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The access of device '%s' is not made of r, w and m.", s);
        }

        d.host = strdup(parts[0]);
        d.inside = strdup(n >= 2 ? parts[1] : parts[0]);
        d.access = strdup(access);
        if (!d.host || !d.inside || !d.access)
                return -ENOMEM;

        *ret = d;
        d = (DeviceMapping){};
        return 0;
}
