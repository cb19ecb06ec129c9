/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service-spec-internal.h"

/* Services whose images are booted as machines by systemd-nspawn: what else they may say. */

bool service_spec_boots(const ServiceSpec *s) {
        return s->runtime == RUNTIME_NSPAWN && strv_length(s->cmd) == 0 && strv_length(s->entrypoint) == 0;
}

/* Without what makes no difference: "//etc/./" is "/etc". */
static char *plain_path(const char *path) {
        char *plain = malloc(strlen(path) + 2), *to = plain;

        for (const char *p = path; plain && *p;) {
                size_t n;

                p += strspn(p, "/");
                n = strcspn(p, "/");
                if (n > 0 && !(n == 1 && *p == '.')) {
                        *to++ = '/';
                        to = (char *) memcpy(to, p, n) + n;
                }
                p += n;
        }
        if (plain)
                *to = '\0';
        return plain;
}

static int refuse_lists(const ServiceSpec *s, KError *reterr) {
        int r;

        STRV_FOREACH(v, s->volumes) {
                _cleanup_(volume_mount_done) VolumeMount m = {};
                _cleanup_free_ char *path = NULL;

                r = volume_mount_parse(*v, &m, reterr);
                if (r < 0)
                        return r;
                path = plain_path(m.path);
                if (!path)
                        return -ENOMEM;
                if (STR_IN_SET(path, "/etc", "/run", "/dev", "/proc", "/sys"))
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "'volumes' cannot have '%s' with 'runtime' nspawn: what is there is "
                                        "made "
                                        "for each machine.",
                                        m.path);
                if (m.propagation)
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "'volumes' cannot propagate mounts ('%.64s') with 'runtime' nspawn.",
                                        m.propagation);
        }
        STRV_FOREACH(e, s->env)
                if (strpbrk(*e, "\r\n"))
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "'env' can only have values of one line with 'runtime' nspawn, "
                                        "unlike "
                                        "'%.*s'.",
                                        (int) MIN(strcspn(*e, "="), (size_t) 64), *e);
        return 0;
}

int spec_refuse_for_machine(const ServiceSpec *s, KError *reterr) {
        bool boots = service_spec_boots(s);
        const struct {
                bool given;
                const char *field, *reason;
        } table[] = {
                { s->user, "user", "what is started first is root" },
                { s->host_pid, "pid", "a machine has processes of its own" },
                { s->cap_add, "cap_add",
                                "a machine has its capabilities in a user namespace of its own, "
                                "'privileged' gives it "
                                "this machine's" },
                { s->notify, "notify", "a machine is up when it says that it has booted" },
                { s->n_hooks > 0, "hooks", "they are for containers, a machine has units of its own" },
                { boots && s->working_dir, "working_dir", "it is for a command ('cmd')" },
        };

        if (s->runtime != RUNTIME_NSPAWN)
                return 0;
        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                if (t->given)
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "'%s' cannot be set with 'runtime' nspawn: %s.", t->field,
                                        t->reason);
        return refuse_lists(s, reterr);
}
