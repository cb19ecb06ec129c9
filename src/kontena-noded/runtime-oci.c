/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container-secrets.h"
#include "device-list.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "output.h"
#include "parse-util.h"
#include "runtime-files.h"
#include "runtime.h"
#include "stream-exec.h"
#include "string-util.h"

#define LOG_SIZE_MAX    (256U * 1024U)
#define LOG_TEXT_MAX    1024U
#define CONFIG_SIZE_MAX (8U * SPEC_SIZE_MAX)

static const char *const candidates[] = { "crun", "runc" };
static const char *const directories[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin",
        "/sbin", "/bin" };

/* crun can leave cgroups alone. Others make one below the unit's, with device rules of their own. */
static bool is_crun(const Runtime *rt) {
        return streq(rt->name, "crun");
}

static int oci_prepare(Runtime *rt, const RuntimeContainer *c, KError *reterr) {
        _cleanup_(user_identity_done) UserIdentity identity = {};
        _cleanup_(container_secrets_done) ContainerSecrets secrets = {};
        _cleanup_(device_list_done) DeviceList devices = {};
        _cleanup_free_ char *cgroup_path = NULL;
        _cleanup_json_ json_object *config = NULL;
        _cleanup_close_ int root = -EBADF;
        int r;

        r = mkdir_p(c->directory, 0700);
        if (r >= 0)
                r = output_make(c->directory);
        if (r >= 0)
                r = runtime_write_files(c);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Cannot write the container's files in '%s': %m", c->directory);

        root = open(c->root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return kerror_set_errno(
                                reterr, -errno, "Cannot open the container's root '%s': %m", c->root_path);
        r = user_lookup(root, c->want->spec->user ?: c->image->user, &identity, reterr);
        if (r >= 0)
                r = device_list_resolve(c->want->spec, &devices, reterr);
        if (r < 0)
                return r;

        /* For runtimes that want one: below the unit's, where its limits hold and systemctl looks. */
        cgroup_path = strjoin("/kontena.slice/", c->want->slice, "/", c->want->unit, "/container");
        if (!cgroup_path)
                return -ENOMEM;

        r = container_secrets_make(c->secrets, c->want, c->directory, &identity, &secrets, reterr);
        if (r < 0)
                return r;

        r = oci_config_build(
                        &(OciInput){
                                        .want = c->want,
                                        .image = c->image,
                                        .node_name = c->node_name,
                                        .root_path = c->root_path,
                                        .files_directory = c->files_directory,
                                        .output_directory = c->directory,
                                        .netns_path = c->netns_path,
                                        .cgroup_path = cgroup_path,
                                        .identity = &identity,
                                        .mounts = c->mounts,
                                        .n_mounts = c->n_mounts,
                                        .secret_env = secrets.env,
                                        .secrets_directory = secrets.directory,
                                        .devices = devices.devices,
                                        .n_devices = devices.n_devices,
                                        .capabilities = rt->capabilities,
                                        .with_device_rules = !is_crun(rt),
                        },
                        &config, reterr);
        if (r < 0)
                return r;

        r = runtime_write_text(c->directory, "config.json", json_text(config), 0600);
        container_secrets_erase(config, &secrets);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot write the container's configuration: %m");
        return 0;
}

static int base_command(const Runtime *rt, const char *directory, char ***l) {
        int r;

        r = strv_extend(l, rt->program);
        if (r >= 0)
                r = strv_extend(l, "--log");
        if (r >= 0)
                r = strv_extendf(l, "%s/runtime.log", directory);
        if (r >= 0)
                r = strv_extend(l, "--log-format");
        if (r >= 0)
                r = strv_extend(l, "json");
        /* The unit's own cgroup is the container's: its limits hold, systemctl sees the processes, and nothing has to be written
         * where systemd rules. A group below it could have no controllers while the runtime itself stands in its parent. */
        if (r >= 0 && is_crun(rt))
                r = strv_extend(l, "--cgroup-manager=disabled");
        return r;
}

/* A group that has processes cannot give controllers to those below it, so the runtime steps aside first. */
static int step_aside(const RuntimeContainer *c, char ***l) {
        /* systemd makes one dollar of two. */
        static const char script[] = "g=\"/sys/fs/cgroup/kontena.slice/$$0/runtime\"; mkdir -p \"$$g\" && "
                                     "echo $$$$ > \"$$g/cgroup.procs\" && exec \"$$@\"";
        int r;

        r = strv_extend(l, "/bin/sh");
        if (r >= 0)
                r = strv_extend(l, "-c");
        if (r >= 0)
                r = strv_extend(l, script);
        if (r >= 0)
                r = strv_extendf(l, "%s/%s", c->want->slice, c->want->unit);
        return r;
}

static int delete_command(const Runtime *rt, const char *id, char ***l) {
        int r;

        r = strv_extend(l, rt->program);
        if (r >= 0)
                r = strv_extend(l, "delete");
        if (r >= 0)
                r = strv_extend(l, "--force");
        return r < 0 ? r : strv_extend(l, id);
}

static int oci_setup(Runtime *rt, const RuntimeContainer *c, UnitSetup *setup, KError *reterr) {
        _cleanup_(device_list_done) DeviceList devices = {};
        _cleanup_free_ char *log = NULL;
        int r;

        r = is_crun(rt) ? 0 : step_aside(c, &setup->create);
        if (r >= 0)
                r = base_command(rt, c->directory, &setup->create);
        if (r >= 0)
                r = strv_extend(&setup->create, "create");
        if (r >= 0)
                r = strv_extend(&setup->create, "--pid-file");
        if (r >= 0)
                r = strv_extendf(&setup->create, "%s/pid", c->directory);
        if (r >= 0)
                r = strv_extend(&setup->create, "--bundle");
        if (r >= 0)
                r = strv_extend(&setup->create, c->directory);
        if (r >= 0)
                r = strv_extend(&setup->create, c->id);
        if (r < 0)
                return r;

        r = base_command(rt, c->directory, &setup->start);
        if (r >= 0)
                r = strv_extend(&setup->start, "start");
        if (r >= 0)
                r = strv_extend(&setup->start, c->id);
        if (r < 0)
                return r;

        r = delete_command(rt, c->id, &setup->delete);
        if (r < 0)
                return r;

        setup->pid_file = strjoin(c->directory, "/pid");
        log = strjoin(c->directory, "/runtime.log");
        if (!setup->pid_file || !log)
                return -ENOMEM;
        if (unlink(log) < 0 && errno != ENOENT)
                return -errno;

        r = device_list_resolve(c->want->spec, &devices, reterr);
        if (r < 0)
                return r;
        setup->devices = TAKE_PTR(devices.allow);
        return output_setup(c->id, c->directory, setup);
}

/* {"msg": "...", "level": "error", "time": "..."} each. The last error says it best. */
char *runtime_log_message(const char *text, size_t size) {
        char *message = NULL;

        while (size > 0) {
                const char *nl = memchr(text, '\n', size), *s = NULL, *level = NULL;
                size_t n = nl ? (size_t) (nl - text) : size;
                _cleanup_json_ json_object *o = NULL;

                if (json_parse(text, n, LOG_SIZE_MAX, &o, NULL) >= 0 &&
                                json_object_is_type(o, json_type_object) &&
                                json_find_string(o, "msg", &s, NULL) > 0 &&
                                json_find_string(o, "level", &level, NULL) >= 0 &&
                                (!level || !STR_IN_SET(level, "warning", "info", "debug"))) {
                        free(message);
                        message = strndup(s, LOG_TEXT_MAX);
                }
                text += MIN(n + 1, size);
                size -= MIN(n + 1, size);
        }

        for (char *p = message; p && *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        *p = ' ';
        return message;
}

static int add_pid_file(const RuntimeCommand *c, char ***l) {
        int r;

        r = strv_extend(l, "--pid-file");
        return r < 0 ? r : strv_extendf(l, "%s/pid", c->directory);
}

static int oci_exec(Runtime *rt, const RuntimeCommand *c, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = runtime_write_process(c, reterr);
        if (r >= 0)
                r = base_command(rt, c->directory, &l);
        if (r >= 0)
                r = strv_extend(&l, "exec");
        if (r >= 0)
                r = add_pid_file(c, &l);
        if (r >= 0)
                r = strv_extend(&l, "--process");
        if (r >= 0)
                r = strv_extendf(&l, "%s/process.json", c->directory);
        if (r >= 0)
                r = strv_extend(&l, c->container_id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

static int oci_run(Runtime *rt, const RuntimeCommand *c, char ***ret, char ***ret_delete) {
        _cleanup_strv_free_ char **l = NULL, **d = NULL;
        int r;

        r = base_command(rt, c->directory, &l);
        if (r >= 0)
                r = strv_extend(&l, "run");
        if (r >= 0)
                r = add_pid_file(c, &l);
        if (r >= 0)
                r = strv_extend(&l, "--bundle");
        if (r >= 0)
                r = strv_extend(&l, c->bundle);
        if (r >= 0)
                r = strv_extend(&l, c->container_id);
        if (r >= 0)
                r = delete_command(rt, c->container_id, &d);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        *ret_delete = TAKE_PTR(d);
        return 0;
}

static const RuntimeOps oci_ops = {
        .kind = "oci",
        .prepare = oci_prepare,
        .setup = oci_setup,
        .failure = runtime_read_log,
        .exec = oci_exec,
        .run = oci_run,
};

static char *find_program(const char *name) {
        if (name[0] == '/')
                return access(name, X_OK) >= 0 ? strdup(name) : NULL;

        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_free_ char *path = strjoin(directories[i], "/", name);

                if (path && access(path, X_OK) >= 0)
                        return TAKE_PTR(path);
        }

        return NULL;
}

/* Not all that the kernel knows: a machine that is a container itself may lack some, and a runtime that is asked for them
 * fails. */
static uint64_t read_capabilities(void) {
        uint64_t known = 0, mask = UINT64_MAX;
        _cleanup_free_ char *text = NULL;
        const char *line;

        for (unsigned i = 0; capability_to_name(i); i++)
                known |= UINT64_C(1) << i;

        if (read_file("/proc/1/status", LOG_SIZE_MAX, &text, NULL) >= 0) {
                line = strstr(text, "\nCapBnd:");
                if (line)
                        mask = strtoull(line + strlen("\nCapBnd:"), NULL, 16);
        }

        return known & mask;
}

int runtime_oci_new(const char *name, Runtime **ret, KError *reterr) {
        _cleanup_(runtime_freep) Runtime *rt = NULL;
        const char *slash;

        rt = new0(Runtime, 1);
        if (!rt)
                return -ENOMEM;
        rt->ops = &oci_ops;
        rt->capabilities = read_capabilities();

        if (name)
                rt->program = find_program(name);
        for (size_t i = 0; !name && !rt->program && i < ELEMENTSOF(candidates); i++)
                rt->program = find_program(candidates[i]);
        if (!rt->program)
                return kerror_set(reterr, K_RUNTIME, "The container runtime '%s' is not installed.",
                                name ?: "crun or runc");

        slash = strrchr(rt->program, '/');
        rt->name = strdup(slash ? slash + 1 : rt->program);
        rt->exec_program = strdup(rt->program);
        if (!rt->name || !rt->exec_program)
                return -ENOMEM;

        *ret = TAKE_PTR(rt);
        return 0;
}

Runtime *runtime_free(Runtime *rt) {
        if (!rt)
                return NULL;

        free(rt->program);
        free(rt->exec_program);
        free(rt->name);
        free(rt->version);
        free(rt);
        return NULL;
}
