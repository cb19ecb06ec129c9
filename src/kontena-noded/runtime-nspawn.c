/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container-secrets.h"
#include "device-list.h"
#include "file-util.h"
#include "json-util.h"
#include "nspawn-command.h"
#include "runtime-files.h"
#include "runtime.h"
#include "seccomp-profile.h"
#include "string-util.h"

#define PROGRAM         "/usr/bin/systemd-nspawn"
#define CONFIG_SIZE_MAX (16U * 1024U * 1024U)

/* What has a meaning in a user namespace, of that for which the profile allows something. */
#define CAPABILITY(c)   (UINT64_C(1) << (c))
#define MACHINE_CAPABILITIES                                                                                \
        (CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_SYS_BOOT) | CAPABILITY(CAP_SYS_CHROOT) |                \
                        CAPABILITY(CAP_SYS_PTRACE) | CAPABILITY(CAP_SYS_NICE) |                             \
                        CAPABILITY(CAP_SYS_TTY_CONFIG) | CAPABILITY(CAP_DAC_READ_SEARCH))

/* A machine with dozens of services on a busy node; the master waits for five minutes. */
#define START_TIMEOUT_USEC (240U * USEC_PER_SEC)

/* Like the process of an OCI configuration: what a command in the machine begins with. */
static int add_process(json_object *config, char *const *env, char *const *args) {
        json_object *process = json_object_new_object(), *user = json_object_new_object();
        int r;

        r = json_add(config, "process", process);
        if (r < 0) {
                json_object_put(user);
                return r;
        }
        r = json_add(process, "user", user);
        if (r >= 0)
                r = json_add_u64(user, "uid", 0);
        if (r >= 0)
                r = json_add_u64(user, "gid", 0);
        if (r >= 0)
                r = json_add_bool(process, "terminal", false);
        if (r >= 0)
                r = json_add_strv(process, "args", args);
        if (r >= 0)
                r = json_add_strv(process, "env", env);
        if (r >= 0)
                r = json_add_string(process, "cwd", "/");
        return r;
}

static int add_config(json_object *config, const RuntimeContainer *c, const char *machine,
                char *const *command, char *const *env) {
        char *const args[] = { (char *) "/sbin/init", NULL };
        _cleanup_free_ char *group = NULL;
        json_object *seccomp = NULL, *machine_object = json_object_new_object();
        int r;

        group = strjoin("/kontena.slice/", c->want->slice, "/", c->want->unit);
        r = json_add(config, "machine", machine_object);
        if (r >= 0)
                r = json_add_string(machine_object, "name", machine);
        if (r >= 0)
                r = group ? json_add_string(machine_object, "cgroup", group) : -ENOMEM;
        if (r >= 0)
                r = json_add_strv(machine_object, "command", command);
        if (r >= 0)
                r = add_process(config, env, args);
        /* nspawn filters what it starts; a command from outside gets what a container with its rights would have. */
        if (r >= 0 && !c->want->spec->privileged)
                r = seccomp_profile_build(MACHINE_CAPABILITIES, &seccomp);
        if (r >= 0 && seccomp)
                r = json_add(config, "seccomp", seccomp);
        return r;
}

/* Its own file of settings and its environment, both of which may hold secrets. */
static int write_environment(
                const RuntimeContainer *c, const char *machine, char *const *env, KError *reterr) {
        _cleanup_erase_ char *settings = NULL, *environment = NULL;
        _cleanup_free_ char *name = NULL, *path = NULL;
        int r;

        name = strjoin(machine, NSPAWN_SETTINGS_SUFFIX);
        path = strjoin(c->directory, "/" NSPAWN_ENVIRONMENT);
        if (!name || !path)
                return -ENOMEM;
        r = nspawn_settings(env, &settings, reterr);
        if (r >= 0)
                r = nspawn_environment(env, c->want->spec, &environment);
        if (r < 0)
                return r;

        r = runtime_write_text(c->directory, name, settings, 0600);
        if (r >= 0)
                r = runtime_write_text(c->directory, NSPAWN_ENVIRONMENT, environment, 0400);
        if (r >= 0 && chown(path, c->uid_base, c->uid_base) < 0)
                r = -errno;
        return r;
}

static void erase_strv(char **l) {
        STRV_FOREACH(s, l)
                erase_memory(*s, strlen(*s));
}

static int make_env(
                const RuntimeContainer *c, const ContainerSecrets *secrets, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **env = NULL;
        int r;

        r = oci_env(c->want, c->image, c->node_name, "/root", &env, reterr);
        STRV_FOREACH(e, secrets->env)
                if (r >= 0)
                        r = oci_env_set(&env, *e, reterr);
        /* systemd in the machine takes what is there for credentials: LoadCredential=NAME of its units finds them. */
        if (r >= 0 && secrets->directory)
                r = oci_env_set(&env, "CREDENTIALS_DIRECTORY=/run/secrets", reterr);
        if (r < 0) {
                erase_strv(env);
                return r;
        }

        *ret = TAKE_PTR(env);
        return 0;
}

static int prepare_with_secrets(
                Runtime *rt, const RuntimeContainer *c, const ContainerSecrets *secrets, KError *reterr) {
        _cleanup_strv_free_ char **command = NULL, **env = NULL;
        _cleanup_json_ json_object *config = json_object_new_object();
        _cleanup_free_ char *machine = nspawn_machine_name(c->want);
        int r;

        if (!config || !machine)
                return -ENOMEM;
        r = nspawn_command(
                        &(NspawnInput){
                                        .want = c->want,
                                        .image = c->image,
                                        .program = rt->program,
                                        .machine = machine,
                                        .root_path = c->root_path,
                                        .run_directory = c->directory,
                                        .files_directory = c->files_directory,
                                        .secrets_directory = secrets->directory,
                                        .uid_base = c->uid_base,
                                        .mounts = c->mounts,
                                        .n_mounts = c->n_mounts,
                        },
                        &command, reterr);
        if (r >= 0)
                r = make_env(c, secrets, &env, reterr);
        if (r < 0)
                return r;

        r = write_environment(c, machine, env, reterr);
        if (r >= 0)
                r = add_config(config, c, machine, command, env);
        if (r >= 0)
                r = runtime_write_text(c->directory, "config.json", json_text(config), 0600);
        container_secrets_erase(config, secrets);
        if (secrets->env)
                erase_strv(env);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot write the machine's configuration: %m") : 0;
}

static int nspawn_prepare(Runtime *rt, const RuntimeContainer *c, KError *reterr) {
        UserIdentity root = { .uid = c->uid_base, .gid = c->uid_base };
        _cleanup_(container_secrets_done) ContainerSecrets secrets = {};
        _cleanup_(device_list_done) DeviceList devices = {};
        int r;

        r = mkdir_p(c->directory, 0700);
        if (r >= 0)
                r = runtime_write_files(c);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Cannot write the machine's files in '%s': %m", c->directory);
        r = device_list_resolve(c->want->spec, &devices, reterr);
        if (r >= 0)
                r = container_secrets_make(c->secrets, c->want, c->directory, &root, &secrets, reterr);
        return r < 0 ? r : prepare_with_secrets(rt, c, &secrets, reterr);
}

static int read_command(const char *directory, char ***ret, KError *reterr) {
        _cleanup_free_ char *path = strjoin(directory, "/config.json");
        _cleanup_json_ json_object *config = NULL;
        _cleanup_erase_ char *text = NULL;
        json_object *machine;
        size_t size;
        int r;

        if (!path)
                return -ENOMEM;
        r = read_file(path, CONFIG_SIZE_MAX, &text, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read the machine's configuration: %m");
        r = json_parse(text, size, CONFIG_SIZE_MAX, &config, reterr);
        if (r >= 0)
                r = json_get_object(config, "machine", &machine, reterr);
        if (r >= 0)
                r = json_find_strv(machine, "command", ret, reterr);
        return MIN(r, 0);
}

/* systemd makes one dollar of two, and something else of one. */
static int add_word(char ***l, const char *word) {
        char *s = malloc(strlen(word) * 2 + 1), *p = s;

        if (!s)
                return -ENOMEM;
        for (; *word; word++) {
                if (*word == '$')
                        *p++ = '$';
                *p++ = *word;
        }
        *p = '\0';
        return strv_consume(l, s);
}

/* An nspawn that was killed, by the kernel for lack of memory or at the end of its grace, has not told machined that the machine is
 * gone, and machined keeps the name as long as the unit is about to be started again: so it could never be. */
static int unregister_command(const InstanceWant *w, char ***ret) {
        static const char *const words[] = { "/usr/bin/busctl", "--quiet", "--timeout=10", "call",
                "org.freedesktop.machine1", "/org/freedesktop/machine1", "org.freedesktop.machine1.Manager",
                "UnregisterMachine", "s" };
        _cleanup_free_ char *machine = nspawn_machine_name(w);
        int r = machine ? 0 : -ENOMEM;

        FOREACH_ARRAY(word, words, ELEMENTSOF(words))
                if (r >= 0)
                        r = strv_extend(ret, *word);
        return r < 0 ? r : strv_extend(ret, machine);
}

static int nspawn_setup(Runtime *rt, const RuntimeContainer *c, UnitSetup *setup, KError *reterr) {
        _cleanup_(device_list_done) DeviceList devices = {};
        _cleanup_strv_free_ char **command = NULL;
        const ServiceSpec *s = c->want->spec;
        int r;

        r = read_command(c->directory, &command, reterr);
        STRV_FOREACH(w, command)
                if (r >= 0)
                        r = add_word(&setup->create, *w);
        if (r >= 0)
                r = unregister_command(c->want, &setup->delete);
        /* nspawn joins no namespace that is not its user namespace's, but its unit does, and the machine is in its unit's. */
        if (r >= 0 && c->netns_path) {
                setup->network_namespace = strdup(c->netns_path);
                r = setup->network_namespace ? 0 : -ENOMEM;
        }
        if (r >= 0 && s->privileged)
                r = strv_extend(&setup->environment, "SYSTEMD_SECCOMP=0");
        if (r >= 0 && s->privileged)
                r = strv_extend(&setup->environment, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=1");
        if (r >= 0)
                r = device_list_resolve(s, &devices, reterr);
        if (r < 0)
                return r;

        setup->notify = true;
        setup->start_timeout_usec = START_TIMEOUT_USEC;
        setup->devices = TAKE_PTR(devices.allow);
        return 0;
}

static int nspawn_exec(Runtime *rt, const RuntimeCommand *c, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = runtime_write_process(c, reterr);
        if (r >= 0)
                r = strv_extend(&l, rt->exec_program);
        if (r >= 0)
                r = strv_extend(&l, "--log");
        if (r >= 0)
                r = strv_extendf(&l, "%s/runtime.log", c->directory);
        if (r >= 0)
                r = strv_extend(&l, "exec");
        if (r >= 0)
                r = strv_extend(&l, "--pid-file");
        if (r >= 0)
                r = strv_extendf(&l, "%s/pid", c->directory);
        if (r >= 0)
                r = strv_extend(&l, "--process");
        if (r >= 0)
                r = strv_extendf(&l, "%s/process.json", c->directory);
        if (r >= 0)
                r = strv_extend(&l, c->bundle);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

static const RuntimeOps nspawn_ops = {
        .kind = "nspawn",
        .prepare = nspawn_prepare,
        .setup = nspawn_setup,
        .failure = runtime_read_log, /* of a command; nspawn itself tells the journal */
        .exec = nspawn_exec,
};

int runtime_nspawn_new(Runtime **ret, KError *reterr) {
        _cleanup_(runtime_freep) Runtime *rt = NULL;

        if (access(PROGRAM, X_OK) < 0)
                return kerror_set(reterr, K_RUNTIME,
                                "'" PROGRAM "' is not installed (package systemd-container).");
        rt = new0(Runtime, 1);
        if (!rt)
                return -ENOMEM;
        rt->ops = &nspawn_ops;
        rt->program = strdup(PROGRAM);
        rt->name = strdup("systemd-nspawn");
        rt->exec_program = strdup(LIBEXECDIR "/kontena-enter");
        rt->exec_by_directory = true;
        if (!rt->program || !rt->name || !rt->exec_program)
                return -ENOMEM;

        *ret = TAKE_PTR(rt);
        return 0;
}
