/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "nspawn-command.h"

#include <signal.h>

#include "kontena-limits.h"
#include "string-util.h"
#include "uid-range.h"

#define MACHINE_NAME_MAX 64U

/* What machined and nspawn take: labels of letters, digits, '-' and '_'; no '-' at either end of one. */
static bool is_machine_name(const char *s) {
        char before = '.';

        if (strlen(s) > MACHINE_NAME_MAX)
                return false;
        for (; *s; before = *s++) {
                if (*s == '.' ? before == '.' || before == '-' : *s == '-' && before == '.')
                        return false;
        }
        return before != '.' && before != '-';
}

char *nspawn_machine_name(const InstanceWant *w) {
        _cleanup_free_ char *name = strdup(w->unit);
        char *suffix;

        if (!name)
                return NULL;
        suffix = strrchr(name, '.');
        if (suffix)
                *suffix = '\0';
        return is_machine_name(name) ? TAKE_PTR(name) : strjoin("kontena-", w->id);
}

/* ':' ends a path in --bind=. */
static char *escape_path(const char *path) {
        char *s = malloc(strlen(path) * 2 + 1), *p = s;

        if (!s)
                return NULL;
        for (; *path; path++) {
                if (*path == ':' || *path == '\\')
                        *p++ = '\\';
                *p++ = *path;
        }
        *p = '\0';
        return s;
}

/* mapped: the files' users are those of the machine, as they are in its root; otherwise they are the host's. */
static int add_bind(char ***l, const char *source, const char *target, bool read_only, bool mapped) {
        _cleanup_free_ char *from = escape_path(source), *to = escape_path(target);

        if (!from || !to)
                return -ENOMEM;
        return strv_extendf(l, "--bind%s=%s:%s%s", read_only ? "-ro" : "", from, to, mapped ? ":idmap" : "");
}

static bool is_mounted_over(const NspawnInput *in, const char *path) {
        FOREACH_ARRAY(m, in->mounts, in->n_mounts)
                if (streq(m->path, path))
                        return true;
        return false;
}

static int add_mounts(const NspawnInput *in, char ***l) {
        static const char *const files[] = { "hosts", "hostname", "resolv.conf" };
        bool mapped = in->uid_base > 0;
        int r = 0;

        if (in->want->spec->shm_size > 0)
                r = strv_extendf(l, "--tmpfs=/dev/shm:mode=1777,size=%" PRIu64, in->want->spec->shm_size);
        FOREACH_ARRAY(name, files, ELEMENTSOF(files)) {
                _cleanup_free_ char *source = NULL, *target = NULL;

                source = strjoin(in->files_directory, "/", *name);
                target = strjoin("/etc/", *name);
                if (!source || !target)
                        return -ENOMEM;
                if (r >= 0 && !is_mounted_over(in, target))
                        r = add_bind(l, source, target, false, mapped);
        }
        FOREACH_ARRAY(m, in->mounts, in->n_mounts)
                if (r >= 0)
                        r = add_bind(l, m->source, m->path, m->read_only, mapped);
        if (r >= 0) { /* last: a volume may be at /run */
                _cleanup_free_ char *source = strjoin(in->run_directory, "/" NSPAWN_ENVIRONMENT);

                r = source ? add_bind(l, source, "/run/kontena/environment", true, false) : -ENOMEM;
        }
        if (r >= 0 && in->secrets_directory)
                r = add_bind(l, in->secrets_directory, "/run/secrets", true, false);
        return r;
}

static int add_devices(const NspawnInput *in, char ***l, KError *reterr) {
        STRV_FOREACH(d, in->want->spec->devices) {
                _cleanup_(device_mapping_done) DeviceMapping m = {};
                int r;

                r = device_mapping_parse(*d, &m, reterr);
                if (r >= 0)
                        r = add_bind(l, m.host, m.inside, false, false);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_rights(const NspawnInput *in, char ***l) {
        const ServiceSpec *s = in->want->spec;
        int r;

        if (s->privileged) {
                r = strv_extend(l, "--private-users=no");
                return r < 0 ? r : strv_extend(l, "--capability=all");
        }

        r = strv_extendf(l, "--private-users=%u:%u", in->uid_base, UID_RANGE_SIZE);
        /* The root is mounted so that the users fit. */
        if (r >= 0)
                r = strv_extend(l, "--private-users-ownership=off");
        STRV_FOREACH(c, s->cap_drop)
                if (r >= 0)
                        r = streq(*c, "ALL") ? strv_extend(l, "--drop-capability=all")
                                             : strv_extendf(l, "--drop-capability=CAP_%s", *c);
        return r;
}

static int add_kill_signal(const NspawnInput *in, int otherwise, char ***l) {
        const char *name = in->want->spec->stop_signal ?: in->image->stop_signal;
        int number = name ? signal_from_string(name) : -EINVAL;

        return strv_extendf(l, "--kill-signal=%i", number > 0 ? number : otherwise);
}

/* systemd in the machine: what its journal gets goes to the console too, and that is our journal. Other init systems have no use for
 * such words, and ignore them. */
static int add_boot(const NspawnInput *in, char ***l) {
        static const char *const words[] = { "--console=read-only", "--notify-ready=yes", "--boot",
                "systemd.journald.forward_to_console=yes", "systemd.show_status=no",
                "systemd.mask=console-getty.service" };
        int r;

        /* What powers a machine off that systemd runs. */
        r = add_kill_signal(in, SIGRTMIN + 4, l);
        FOREACH_ARRAY(w, words, ELEMENTSOF(words))
                if (r >= 0)
                        r = strv_extend(l, *w);
        return r;
}

/* It is process 1, as in a container. nspawn could start a process before it that reaps, but in 252 that kills it at once instead of
 * passing the signal on. */
static int add_arguments(const NspawnInput *in, char ***l, KError *reterr) {
        const char *directory = in->want->spec->working_dir ?: in->image->working_directory;
        _cleanup_strv_free_ char **args = NULL;
        Image image = *in->image;
        int r;

        image.entrypoint = image.cmd = NULL; /* they are for a container of it */
        r = oci_args(in->want, &image, &args, reterr);
        if (r >= 0)
                r = add_kill_signal(in, SIGTERM, l);
        if (r >= 0)
                r = strv_extend(l, "--console=pipe");
        if (r >= 0 && !isempty(directory))
                r = strv_extendf(l, "--chdir=%s", directory);
        if (r >= 0)
                r = strv_extend(l, "--");
        STRV_FOREACH(a, args)
                if (r >= 0)
                        r = strv_extend(l, *a);
        return r;
}

int nspawn_command(const NspawnInput *in, char ***ret, KError *reterr) {
        /* In our unit, with its limits and its network namespace. The journal and the names are ours to see to. */
        static const char *const words[] = { "--quiet", "--keep-unit", "--register=yes", "--link-journal=no",
                "--resolv-conf=off", "--timezone=off" };
        const ServiceSpec *s = in->want->spec;
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = strv_extend(&l, in->program);
        FOREACH_ARRAY(w, words, ELEMENTSOF(words))
                if (r >= 0)
                        r = strv_extend(&l, *w);
        if (r >= 0)
                r = strv_extendf(&l, "--machine=%s", in->machine);
        if (r >= 0)
                r = strv_extendf(&l, "--directory=%s", in->root_path);
        if (r >= 0 && !s->host_network && oci_hostname(in->want))
                r = strv_extendf(&l, "--hostname=%s", oci_hostname(in->want));
        if (r >= 0 && s->read_only)
                r = strv_extend(&l, "--read-only");
        if (r >= 0)
                r = add_rights(in, &l);
        if (r >= 0)
                r = add_devices(in, &l, reterr);
        if (r >= 0)
                r = add_mounts(in, &l);
        if (r >= 0)
                r = service_spec_boots(s) ? add_boot(in, &l) : add_arguments(in, &l, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

/* In the file nothing but quotes means anything, and a quote of one kind stands between those of the other. */
static char *quote_setting(const char *entry) {
        char *s = malloc(strlen(entry) * 5 + 3), *p = s;

        if (!s)
                return NULL;
        *p++ = '\'';
        for (; *entry; entry++)
                if (*entry == '\'')
                        p = stpcpy(p, "'\"'\"'");
                else
                        *p++ = *entry;
        *p++ = '\'';
        *p = '\0';
        return s;
}

static bool is_line(const char *s) {
        return !strpbrk(s, "\r\n") && utf8_is_valid(s, strlen(s));
}

int nspawn_settings(char *const *env, char **ret, KError *reterr) {
        _cleanup_erase_ char *text = NULL;
        size_t size = sizeof("[Exec]\n");
        char *p;

        STRV_FOREACH(e, env) {
                if (!is_line(*e))
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "The environment variable '%.*s' is not one line of text, as it "
                                        "must be "
                                        "with runtime nspawn; a secret can be a file instead.",
                                        (int) MIN(strcspn(*e, "="), (size_t) 64), *e);
                size += sizeof("Environment=\n") + strlen(*e) * 5 + 3;
        }
        text = p = malloc(size);
        if (!text)
                return -ENOMEM;

        p = stpcpy(p, "[Exec]\n");
        STRV_FOREACH(e, env) {
                _cleanup_erase_ char *quoted = quote_setting(*e);

                if (!quoted)
                        return -ENOMEM;
                p = stpcpy(stpcpy(stpcpy(p, "Environment="), quoted), "\n");
        }

        *ret = TAKE_PTR(text);
        return 0;
}

/* A search path or a home that is set for one process would be wrong for every service of a system. */
static bool is_own(const char *entry, const ServiceSpec *spec) {
        static const char *const names[] = { "PATH=", "HOME=", "HOSTNAME=", "CREDENTIALS_DIRECTORY=" };

        FOREACH_ARRAY(name, names, ELEMENTSOF(names))
                if (startswith(entry, *name)) {
                        STRV_FOREACH(e, spec->env)
                                if (streq(*e, entry))
                                        return false;
                        return true;
                }
        return false;
}

int nspawn_environment(char *const *env, const ServiceSpec *spec, char **ret) {
        _cleanup_erase_ char *text = NULL;
        size_t size = 1;
        char *p;

        STRV_FOREACH(e, env)
                size += strlen(*e) * 2 + sizeof("\"\"\n");
        text = p = malloc(size);
        if (!text)
                return -ENOMEM;

        *p = '\0';
        STRV_FOREACH(e, env) {
                size_t n = strcspn(*e, "=");

                if ((*e)[n] == '\0' || is_own(*e, spec))
                        continue;
                p = mempcpy(p, *e, n + 1);
                *p++ = '"';
                for (const char *c = *e + n + 1; *c; c++) {
                        if (strchr("\"\\$`", *c))
                                *p++ = '\\';
                        *p++ = *c;
                }
                p = stpcpy(p, "\"\n");
        }

        *ret = TAKE_PTR(text);
        return 0;
}
