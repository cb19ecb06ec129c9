/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "oci-config.h"

#include <linux/capability.h>
#include <sys/sysmacros.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "notify-socket.h"
#include "output.h"
#include "seccomp-profile.h"

#define DEFAULT_PATH     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEFAULT_SHM_SIZE UINT64_C(67108864)

/* What Docker grants by default. */
static const unsigned default_capabilities[] = {
        CAP_CHOWN,
        CAP_DAC_OVERRIDE,
        CAP_FSETID,
        CAP_FOWNER,
        CAP_MKNOD,
        CAP_NET_RAW,
        CAP_SETGID,
        CAP_SETUID,
        CAP_SETFCAP,
        CAP_SETPCAP,
        CAP_NET_BIND_SERVICE,
        CAP_SYS_CHROOT,
        CAP_KILL,
        CAP_AUDIT_WRITE,
};

static const char *const masked_paths[] = {
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
};

static const char *const readonly_paths[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
        "/proc/sysrq-trigger" };

void oci_mounts_free(OciMount *mounts, size_t n) {
        FOREACH_ARRAY(m, mounts, n) {
                free(m->source);
                free(m->path);
        }
        free(mounts);
}

void oci_devices_free(OciDevice *devices, size_t n) {
        FOREACH_ARRAY(d, devices, n)
                free(d->path);
        free(devices);
}

/* An entrypoint of the service's makes the image's command void; otherwise each falls back by itself. */
int oci_args(const InstanceWant *want, const Image *image, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **args = NULL;
        const ServiceSpec *s = want->spec;
        char *const *entrypoint = s->entrypoint ?: image->entrypoint;
        char *const *cmd = s->cmd;
        int r;

        if (strv_length(s->cmd) == 0 && strv_length(s->entrypoint) == 0)
                cmd = s->cmd ?: image->cmd;

        STRV_FOREACH(a, entrypoint) {
                r = strv_extend(&args, *a);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(a, cmd) {
                r = strv_extend(&args, *a);
                if (r < 0)
                        return r;
        }
        if (strv_length(args) == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Neither the service nor its image says what to run.");

        *ret = TAKE_PTR(args);
        return 0;
}

/* Sets KEY=value; an earlier entry of that name gives up its place. */
int oci_env_set(char ***env, const char *entry, KError *reterr) {
        size_t n = strcspn(entry, "=") + 1;
        char *copy;

        if (strlen(entry) >= ENV_ENTRY_SIZE_MAX) /* the kernel counts the NUL */
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "The environment entry '%.*s' has %zu bytes, at most %u are possible.",
                                (int) MIN(n - 1, (size_t) 64), entry, strlen(entry), ENV_ENTRY_SIZE_MAX - 1);

        for (char **e = *env; e && *e; e++)
                if (strneq(*e, entry, n)) {
                        copy = strdup(entry);
                        if (!copy)
                                return -ENOMEM;
                        free(*e);
                        *e = copy;
                        return 0;
                }

        return strv_extend(env, entry);
}

static int env_setf(char ***env, KError *reterr, const char *format, ...) _printf_(3, 4);
static int env_setf(char ***env, KError *reterr, const char *format, ...) {
        _cleanup_free_ char *entry = NULL;
        va_list ap;

        va_start(ap, format);
        entry = strvprintf(format, ap);
        va_end(ap);
        if (!entry)
                return -ENOMEM;

        return oci_env_set(env, entry, reterr);
}

const char *oci_hostname(const InstanceWant *want) {
        return want->spec->hostname ?: want->hostname;
}

int oci_env(const InstanceWant *want, const Image *image, const char *node_name, const char *home,
                char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **env = NULL;
        int r;

        r = oci_env_set(&env, "PATH=" DEFAULT_PATH, reterr);
        if (r >= 0 && home)
                r = env_setf(&env, reterr, "HOME=%s", home);
        if (r >= 0 && !want->spec->host_network && oci_hostname(want))
                r = env_setf(&env, reterr, "HOSTNAME=%s", oci_hostname(want));
        STRV_FOREACH(e, image->env)
                if (r >= 0)
                        r = oci_env_set(&env, *e, reterr);
        STRV_FOREACH(e, want->spec->env)
                if (r >= 0)
                        r = oci_env_set(&env, *e, reterr);

        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_SERVICE_ID=%s", want->service_id);
        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_SERVICE_NAME=%s", want->service);
        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_GRID_NAME=%s", want->grid);
        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_PLATFORM_NAME=%s", want->grid);
        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_STACK_NAME=%s", want->stack);
        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_NODE_NAME=%s", node_name);
        if (r >= 0)
                r = env_setf(&env, reterr, "KONTENA_SERVICE_INSTANCE_NUMBER=%u", want->number);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(env);
        return 0;
}

/* "ALL" is what this machine can give; one that is asked for by name is not left out silently, the runtime refuses it. */
static uint64_t capability_mask(char *const *names, uint64_t available) {
        const unsigned last = available > 0 ? 63U - (unsigned) __builtin_clzll(available) : 0;
        uint64_t mask = 0;

        STRV_FOREACH(n, names) {
                if (streq(*n, "ALL"))
                        mask |= available;
                for (unsigned i = 0; i <= last && capability_to_name(i); i++)
                        if (streq(*n, capability_to_name(i)))
                                mask |= UINT64_C(1) << i;
        }

        return mask;
}

uint64_t oci_capabilities(const ServiceSpec *spec, uint64_t available) {
        uint64_t mask = 0;

        if (spec->privileged)
                return available;

        for (size_t i = 0; i < ELEMENTSOF(default_capabilities); i++)
                mask |= UINT64_C(1) << default_capabilities[i];
        mask &= available;

        /* "Drop all, add two" leaves two; "add all, drop two" leaves all but two. */
        if (strv_contains(spec->cap_drop, "ALL"))
                return capability_mask(spec->cap_add, available);
        return (mask | capability_mask(spec->cap_add, available)) &
               ~capability_mask(spec->cap_drop, available);
}

static int add_process(json_object *config, const OciInput *in, uint64_t capabilities, KError *reterr) {
        _cleanup_json_ json_object *process = json_object_new_object(), *user = json_object_new_object(),
                                   *groups = json_object_new_array(), *caps = json_object_new_object();
        static const char *const sets[] = { "bounding", "effective", "permitted" };
        _cleanup_strv_free_ char **args = NULL, **env = NULL;
        const char *cwd;
        int r;

        if (!process || !user || !groups || !caps)
                return -ENOMEM;

        r = oci_args(in->want, in->image, &args, reterr);
        if (r >= 0)
                r = oci_env(in->want, in->image, in->node_name, in->identity->home, &env, reterr);
        STRV_FOREACH(e, in->secret_env)
                if (r >= 0)
                        r = oci_env_set(&env, *e, reterr);
        if (r >= 0 && in->secrets_directory)
                r = oci_env_set(&env, "CREDENTIALS_DIRECTORY=/run/secrets", reterr);
        if (r >= 0 && in->want->spec->notify)
                r = oci_env_set(&env, "NOTIFY_SOCKET=" NOTIFY_CONTAINER_DIR "/" NOTIFY_NAME, reterr);
        if (r < 0)
                return r;

        for (size_t i = 0; i < in->identity->n_groups && r >= 0; i++)
                r = json_append(groups, json_object_new_uint64(in->identity->groups[i]));
        if (r >= 0)
                r = json_add_u64(user, "uid", in->identity->uid);
        if (r >= 0)
                r = json_add_u64(user, "gid", in->identity->gid);
        if (r >= 0)
                r = json_add(user, "additionalGids", TAKE_PTR(groups));

        for (size_t i = 0; i < ELEMENTSOF(sets) && r >= 0; i++) {
                json_object *names = json_object_new_array();

                r = json_add(caps, sets[i], names);
                for (unsigned c = 0; capability_to_name(c) && r >= 0; c++)
                        if (capabilities & UINT64_C(1) << c) {
                                _cleanup_free_ char *name = strjoin("CAP_", capability_to_name(c));

                                r = name ? json_append_string(names, name) : -ENOMEM;
                        }
        }

        cwd = in->want->spec->working_dir ?: in->image->working_directory;
        if (r >= 0)
                r = json_add_bool(process, "terminal", false);
        if (r >= 0)
                r = json_add(process, "user", TAKE_PTR(user));
        if (r >= 0)
                r = json_add_strv(process, "args", args);
        if (r >= 0)
                r = json_add_strv(process, "env", env);
        if (in->secret_env)
                STRV_FOREACH(e, env)
                        erase_memory(*e, strlen(*e));
        if (r >= 0)
                r = json_add_string(process, "cwd", isempty(cwd) ? "/" : cwd);
        if (r >= 0)
                r = json_add(process, "capabilities", TAKE_PTR(caps));
        if (r >= 0)
                r = json_add_bool(process, "noNewPrivileges", false);
        if (r >= 0)
                r = json_add(config, "process", TAKE_PTR(process));

        return r;
}

static int add_mount(json_object *mounts, const char *path, const char *type, const char *source,
                const char *options) {
        _cleanup_json_ json_object *m = json_object_new_object();
        _cleanup_strv_free_ char **l = NULL;
        int r;

        if (!m)
                return -ENOMEM;
        r = strv_split(options, ",", &l);
        if (r >= 0)
                r = json_add_string(m, "destination", path);
        if (r >= 0)
                r = json_add_string(m, "type", type);
        if (r >= 0)
                r = json_add_string(m, "source", source);
        if (r >= 0)
                r = json_add_strv(m, "options", l);
        if (r < 0)
                return r;

        return json_append(mounts, TAKE_PTR(m));
}

static int add_file(json_object *mounts, const char *directory, const char *name) {
        _cleanup_free_ char *source = NULL, *path = NULL;

        source = strjoin(directory, "/", name);
        path = strjoin("/etc/", name);
        if (!source || !path)
                return -ENOMEM;

        return add_mount(mounts, path, "bind", source, "bind,rprivate");
}

/* See output.h. */
static int add_output(json_object *mounts, const char *directory) {
        _cleanup_free_ char *source = NULL;
        int r;

        source = strjoin(directory, "/" OUTPUT_FIFO);
        if (!source)
                return -ENOMEM;

        r = add_mount(mounts, "/dev/stdout", "bind", source, "bind,rprivate");
        if (r >= 0)
                r = add_mount(mounts, "/dev/stderr", "bind", source, "bind,rprivate");
        return r;
}

/* See notify-socket.h. */
static int add_notify(json_object *mounts, const char *directory) {
        _cleanup_free_ char *source = NULL;

        source = strjoin(directory, "/" NOTIFY_DIRECTORY);
        if (!source)
                return -ENOMEM;
        return add_mount(mounts, NOTIFY_CONTAINER_DIR, "bind", source,
                        "bind,rprivate,ro,nosuid,nodev,noexec");
}

static int add_volume(json_object *mounts, const OciMount *m) {
        _cleanup_free_ char *options = NULL;

        options = strjoin("rbind,", m->propagation ?: "rprivate", m->read_only ? ",ro" : ",rw");
        if (!options)
                return -ENOMEM;

        return add_mount(mounts, m->path, "bind", m->source, options);
}

static bool is_mounted_over(const OciInput *in, const char *path) {
        FOREACH_ARRAY(m, in->mounts, in->n_mounts)
                if (streq(m->path, path))
                        return true;
        return false;
}

static int add_mounts(json_object *config, const OciInput *in) {
        static const char *const files[] = { "hosts", "hostname", "resolv.conf" };
        _cleanup_json_ json_object *mounts = json_object_new_array();
        const ServiceSpec *s = in->want->spec;
        _cleanup_free_ char *shm = NULL;
        int r;

        shm = strprintf("nosuid,noexec,nodev,mode=1777,size=%" PRIu64,
                        s->shm_size > 0 ? s->shm_size : DEFAULT_SHM_SIZE);
        if (!mounts || !shm)
                return -ENOMEM;

        r = add_mount(mounts, "/proc", "proc", "proc", "nosuid,noexec,nodev");
        if (r >= 0)
                r = add_mount(mounts, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
        if (r >= 0)
                r = add_mount(mounts, "/dev/pts", "devpts", "devpts",
                                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
        if (r >= 0)
                r = add_mount(mounts, "/sys", "sysfs", "sysfs",
                                s->privileged ? "nosuid,noexec,nodev" : "nosuid,noexec,nodev,ro");
        if (r >= 0)
                r = add_mount(mounts, "/sys/fs/cgroup", "cgroup", "cgroup",
                                s->privileged ? "nosuid,noexec,nodev,relatime"
                                              : "nosuid,noexec,nodev,relatime,ro");
        if (r >= 0)
                r = add_mount(mounts, "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev");
        if (r >= 0 && !is_mounted_over(in, "/dev/shm"))
                r = add_mount(mounts, "/dev/shm", "tmpfs", "shm", shm);
        for (size_t i = 0; i < ELEMENTSOF(files) && r >= 0; i++) {
                _cleanup_free_ char *path = strjoin("/etc/", files[i]);

                if (!path)
                        return -ENOMEM;
                if (!is_mounted_over(in, path))
                        r = add_file(mounts, in->files_directory, files[i]);
        }
        if (r >= 0)
                r = add_output(mounts, in->output_directory);
        for (size_t i = 0; i < in->n_mounts && r >= 0; i++)
                r = add_volume(mounts, in->mounts + i);
        if (r >= 0 && in->want->spec->notify) /* a volume may be at /run */
                r = add_notify(mounts, in->output_directory);
        if (r >= 0 && in->secrets_directory) /* last: a volume may be at /run */
                r = add_mount(mounts, "/run/secrets", "bind", in->secrets_directory,
                                "bind,rprivate,ro,nosuid,nodev,noexec");
        if (r < 0)
                return r;

        return json_add(config, "mounts", TAKE_PTR(mounts));
}

static int add_namespaces(json_object *linux_, const OciInput *in) {
        _cleanup_json_ json_object *l = json_object_new_array();
        const ServiceSpec *s = in->want->spec;
        const struct {
                const char *type, *path;
                bool wanted;
        } table[] = {
                { "mount", NULL, true },
                { "ipc", NULL, true },
                { "uts", NULL, !s->host_network },
                { "cgroup", NULL, !s->privileged },
                { "pid", NULL, !s->host_pid },
                { "network", in->netns_path, in->netns_path },
        };

        if (!l)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                json_object *o;
                int r;

                if (!table[i].wanted)
                        continue;
                o = json_object_new_object();
                r = json_append(l, o);
                if (r >= 0)
                        r = json_add_string(o, "type", table[i].type);
                if (r >= 0 && table[i].path)
                        r = json_add_string(o, "path", table[i].path);
                if (r < 0)
                        return r;
        }

        return json_add(linux_, "namespaces", TAKE_PTR(l));
}

static int add_devices(json_object *linux_, const OciInput *in) {
        _cleanup_json_ json_object *l = json_object_new_array(), *rules = json_object_new_array(),
                                   *resources = json_object_new_object();
        const bool all = in->want->spec->privileged;
        int r = 0;

        if (!l || !rules || !resources)
                return -ENOMEM;

        FOREACH_ARRAY(d, in->devices, in->n_devices) {
                const char *type = S_ISCHR(d->mode) ? "c" : "b";
                json_object *o = json_object_new_object();

                r = json_append(l, o);
                if (r >= 0)
                        r = json_add_string(o, "path", d->path);
                if (r >= 0)
                        r = json_add_string(o, "type", type);
                if (r >= 0)
                        r = json_add_u64(o, "major", major(d->number));
                if (r >= 0)
                        r = json_add_u64(o, "minor", minor(d->number));
                if (r >= 0)
                        r = json_add_u64(o, "fileMode", d->mode & 07777);
                if (r >= 0)
                        r = json_add_u64(o, "uid", d->uid);
                if (r >= 0)
                        r = json_add_u64(o, "gid", d->gid);
                if (r < 0)
                        return r;
                if (!in->with_device_rules || all)
                        continue;

                o = json_object_new_object();
                r = json_append(rules, o);
                if (r >= 0)
                        r = json_add_bool(o, "allow", true);
                if (r >= 0)
                        r = json_add_string(o, "type", type);
                if (r >= 0)
                        r = json_add_u64(o, "major", major(d->number));
                if (r >= 0)
                        r = json_add_u64(o, "minor", minor(d->number));
                if (r >= 0)
                        r = json_add_string(o, "access", "rwm");
                if (r < 0)
                        return r;
        }

        if (in->with_device_rules && all) {
                json_object *o = json_object_new_object();

                r = json_append(rules, o);
                if (r >= 0)
                        r = json_add_bool(o, "allow", true);
                if (r >= 0)
                        r = json_add_string(o, "access", "rwm");
        }
        if (r >= 0)
                r = json_add(linux_, "devices", TAKE_PTR(l));
        if (r >= 0 && json_object_array_length(rules) > 0) {
                r = json_add(resources, "devices", TAKE_PTR(rules));
                if (r >= 0)
                        r = json_add(linux_, "resources", TAKE_PTR(resources));
        }

        return r;
}

static int add_paths(json_object *linux_, const char *key, const char *const *paths, size_t n) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                int r = json_append_string(l, paths[i]);

                if (r < 0)
                        return r;
        }

        return json_add(linux_, key, TAKE_PTR(l));
}

/* In a namespace of its own a port below 1024 endangers nobody, and ping needs no right. */
static int add_sysctl(json_object *linux_) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "net.ipv4.ip_unprivileged_port_start", "0");
        if (r >= 0)
                r = json_add_string(o, "net.ipv4.ping_group_range", "0 2147483647");
        if (r < 0)
                return r;

        return json_add(linux_, "sysctl", TAKE_PTR(o));
}

static int add_linux(json_object *config, const OciInput *in, uint64_t capabilities) {
        _cleanup_json_ json_object *linux_ = json_object_new_object();
        const ServiceSpec *s = in->want->spec;
        json_object *seccomp = NULL;
        int r;

        if (!linux_)
                return -ENOMEM;

        /* Limits are the unit's; the runtime writes none. */
        r = json_add_string(linux_, "cgroupsPath", in->cgroup_path);
        if (r >= 0)
                r = add_namespaces(linux_, in);
        if (r >= 0)
                r = add_devices(linux_, in);
        if (r >= 0 && in->netns_path)
                r = add_sysctl(linux_);
        if (r >= 0 && !s->privileged)
                r = add_paths(linux_, "maskedPaths", masked_paths, ELEMENTSOF(masked_paths));
        if (r >= 0 && !s->privileged)
                r = add_paths(linux_, "readonlyPaths", readonly_paths, ELEMENTSOF(readonly_paths));
        if (r >= 0 && !s->privileged) {
                r = seccomp_profile_build(capabilities, &seccomp);
                if (r >= 0)
                        r = json_add(linux_, "seccomp", seccomp);
        }
        if (r < 0)
                return r;

        return json_add(config, "linux", TAKE_PTR(linux_));
}

static int add_annotations(json_object *config, const OciInput *in) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *number = strprintf("%u", in->want->number),
                            *deploy_rev = strprintf("%" PRIu64, in->want->deploy_rev),
                            *service_rev = strprintf("%" PRIu64, in->want->service_rev);
        const InstanceWant *w = in->want;
        int r;

        if (!o || !number || !deploy_rev || !service_rev)
                return -ENOMEM;
        r = json_add_string(o, "io.kontena.service.id", w->service_id);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.service.name", w->service);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.service.instance_number", number);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.stack.name", w->stack);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.grid.name", w->grid);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.container.name", w->name);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.container.deploy_rev", deploy_rev);
        if (r >= 0)
                r = json_add_string(o, "io.kontena.container.service_revision", service_rev);
        if (r < 0)
                return r;

        return json_add(config, "annotations", TAKE_PTR(o));
}

int oci_config_build(const OciInput *in, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *config = json_object_new_object(), *root = json_object_new_object();
        const InstanceWant *w = in->want;
        uint64_t capabilities;
        int r;

        assert(ret);

        if (!config || !root)
                return -ENOMEM;

        capabilities = oci_capabilities(w->spec, in->capabilities);
        r = json_add_string(config, "ociVersion", "1.0.2");
        if (r >= 0)
                r = add_process(config, in, capabilities, reterr);
        if (r >= 0)
                r = json_add_string(root, "path", in->root_path);
        if (r >= 0)
                r = json_add_bool(root, "readonly", w->spec->read_only);
        if (r >= 0)
                r = json_add(config, "root", TAKE_PTR(root));
        if (r >= 0 && !w->spec->host_network && oci_hostname(w))
                r = json_add_string(config, "hostname", oci_hostname(w));
        if (r >= 0 && !w->spec->host_network && w->domain)
                r = json_add_string(config, "domainname", w->domain);
        if (r >= 0)
                r = add_mounts(config, in);
        if (r >= 0)
                r = add_linux(config, in, capabilities);
        if (r >= 0)
                r = add_annotations(config, in);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(config);
        return 0;
}

char *oci_hosts_file(const InstanceWant *w) {
        _cleanup_free_ char *own = NULL;
        const char *hostname = oci_hostname(w);

        if (w->address && hostname)
                own = w->domain ? strjoin(w->address, " ", hostname, ".", w->domain, " ", hostname, "\n")
                                : strjoin(w->address, " ", hostname, "\n");
        else
                own = strdup("");
        if (!own)
                return NULL;

        return strjoin("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 "
                       "ip6-allnodes\nff02::2 ip6-allrouters\n",
                        own);
}

char *oci_resolv_file(const InstanceWant *w, const char *resolver) {
        _cleanup_free_ char *search = NULL;

        search = strv_join(w->search, " ");
        if (!search)
                return NULL;

        return strjoin("nameserver ", resolver, "\n", isempty(search) ? "" : "search ", search,
                        isempty(search) ? "" : "\n");
}
