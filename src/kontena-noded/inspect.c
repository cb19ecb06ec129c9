/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "inspect.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file-util.h"
#include "instance-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "process-list.h"
#include "redact.h"

#define FILE_SIZE_MAX   (2U * SPEC_SIZE_MAX)
#define PASSWD_SIZE_MAX (1024U * 1024U)

typedef struct Inspection {
        Manager *manager;
        uint64_t request, epoch; /* of the connection that asked */
        json_object *result;     /* of inspect */
        char *instance;          /* of top */
} Inspection;

static void inspection_free(void *p) {
        Inspection *i = p;

        json_object_put(i->result);
        free(i->instance);
        free(i);
}

static void inspection_freep(Inspection **i) {
        if (*i)
                inspection_free(*i);
}

static int reply_error(Manager *m, uint64_t id, const KError *error) {
        return id > 0 ? channel_reply_error(m->channel, id, error) : 0;
}

static Instance *find(Manager *m, json_object *params, KError *reterr) {
        const char *id;
        Instance *i;

        if (json_get_string(params, "id", &id, reterr) < 0)
                return NULL;
        i = manager_find_instance(m, id);
        if (!i)
                (void) kerror_set(reterr, K_NO_SUCH_INSTANCE, "This node has no instance '%.64s'.", id);
        return i;
}

/* A file of ours as it is now; a missing one is null. */
static int add_file(json_object *o, const char *key, const char *directory, const char *name) {
        _cleanup_json_ json_object *value = NULL;
        _cleanup_erase_ char *text = NULL;
        _cleanup_free_ char *path = NULL;
        size_t size;
        int r;

        path = directory ? strjoin(directory, "/", name) : NULL;
        if (!path)
                return -ENOMEM;
        r = read_file(path, FILE_SIZE_MAX, &text, &size);
        if (r >= 0)
                r = json_parse(text, size, FILE_SIZE_MAX, &value, NULL);
        if (r < 0) {
                log_debug_errno(r, "'%s' is not shown: %m", path);
                return r == -ENOMEM ? r : json_add_string(o, key, NULL);
        }
        r = json_redact(value);
        return r < 0 ? r : json_add(o, key, TAKE_PTR(value));
}

static int add_want(json_object *o, const Instance *i) {
        _cleanup_json_ json_object *want = NULL;
        int r;

        if (!i->want_json)
                return json_add_string(o, "want", NULL);
        if (json_copy(i->want_json, &want) < 0)
                return -ENOMEM;
        r = json_redact(want);
        return r < 0 ? r : json_add(o, "want", TAKE_PTR(want));
}

static int describe(const Instance *i, json_object **ret) {
        _cleanup_json_ json_object *o = NULL, *status = NULL;
        _cleanup_free_ char *run = NULL;
        int r;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        r = add_want(o, i);
        if (r >= 0)
                r = instance_status(i, &status);
        if (r >= 0)
                r = json_add(o, "status", TAKE_PTR(status));
        if (r >= 0)
                r = add_file(o, "record", i->directory, "state.json");
        run = instance_generation_run_directory(i, i->record.generation);
        if (r >= 0)
                r = add_file(o, "config", run, "config.json");
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static const struct {
        const char *name;
        char type;
} shown[] = {
        { "Id", 's' },
        { "Description", 's' },
        { "LoadState", 's' },
        { "ActiveState", 's' },
        { "SubState", 's' },
        { "Result", 's' },
        { "InvocationID", 'y' },
        { "Slice", 's' },
        { "ControlGroup", 's' },
        { "MainPID", 'u' },
        { "NRestarts", 'u' },
        { "ExecMainCode", 'i' },
        { "ExecMainStatus", 'i' },
        { "ExecMainStartTimestamp", 't' },
        { "ExecMainExitTimestamp", 't' },
        { "ActiveEnterTimestamp", 't' },
        { "StateChangeTimestamp", 't' },
        { "MemoryCurrent", 't' },
        { "MemoryMax", 't' },
        { "MemorySwapMax", 't' },
        { "CPUUsageNSec", 't' },
        { "CPUQuotaPerSecUSec", 't' },
        { "CPUWeight", 't' },
        { "TasksCurrent", 't' },
        { "TasksMax", 't' },
        { "DevicePolicy", 's' },
        { "OOMPolicy", 's' },
        { "KillSignal", 'i' },
        { "TimeoutStopUSec", 't' },
};

static int add_property(json_object *o, sd_bus_message *m, const char *name, char type) {
        const void *bytes;
        const char *s;
        uint64_t t;
        uint32_t u;
        int32_t i;
        size_t n;
        int r;

        switch (type) {
        case 's':
                r = sd_bus_message_read(m, "v", "s", &s);
                return r < 0 ? r : json_add_string(o, name, s);
        case 't':
                r = sd_bus_message_read(m, "v", "t", &t);
                /* systemd's word for "not set", "no limit" or "not known". */
                return r < 0             ? r
                       : t == UINT64_MAX ? json_add_string(o, name, NULL)
                                         : json_add_u64(o, name, t);
        case 'u':
                r = sd_bus_message_read(m, "v", "u", &u);
                return r < 0 ? r : json_add_u64(o, name, u);
        case 'i':
                r = sd_bus_message_read(m, "v", "i", &i);
                return r < 0 ? r : json_add_i64(o, name, i);
        default: {
                _cleanup_free_ char *hex = NULL;

                if ((r = sd_bus_message_enter_container(m, 'v', "ay")) < 0 ||
                                (r = sd_bus_message_read_array(m, 'y', &bytes, &n)) < 0 ||
                                (r = sd_bus_message_exit_container(m)) < 0)
                        return r;
                hex = hexmem(bytes, n);
                return hex ? json_add_string(o, name, hex) : -ENOMEM;
        }
        }
}

static int read_properties(sd_bus_message *m, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name;
                size_t i = 0;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        return r;
                while (i < ELEMENTSOF(shown) && !streq(shown[i].name, name))
                        i++;
                r = i < ELEMENTSOF(shown) ? add_property(o, m, name, shown[i].type)
                                          : sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* Otherwise who asked is gone, and the number may be another's. */
static bool is_waited_for(const Inspection *i) {
        return desired_epoch(i->manager->desired) == i->epoch &&
               channel_state(i->manager->channel) == CHANNEL_READY;
}

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_json_ json_object *unit = NULL;
        Inspection *i = userdata;
        int r;

        if (!is_waited_for(i))
                return 0;

        r = sd_bus_message_is_method_error(m, NULL) ? 0 : read_properties(m, &unit);
        if (r < 0)
                log_warning_errno(r, "Cannot read what systemd says about a unit: %m");
        r = unit ? json_add(i->result, "unit", TAKE_PTR(unit)) : json_add_string(i->result, "unit", NULL);
        if (r >= 0)
                r = channel_reply(i->manager->channel, i->request, TAKE_PTR(i->result));
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
        return 0;
}

/* Asks for the properties of the instance's unit on one interface; the inspection lives until the answer, or as long as the bus. */
static int ask_unit(const Instance *instance, Inspection **inspection, const char *interface,
                sd_bus_message_handler_t done) {
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", instance_unit(instance), &path);
        if (r < 0)
                return r;
        r = sd_bus_call_method_async((*inspection)->manager->bus, &slot, "org.freedesktop.systemd1", path,
                        "org.freedesktop.DBus.Properties", "GetAll", done, *inspection, "s", interface);
        if (r >= 0)
                r = sd_bus_slot_set_destroy_callback(slot, inspection_free);
        if (r < 0)
                return r;
        TAKE_PTR(*inspection);
        return sd_bus_slot_set_floating(slot, true);
}

static int inspection_new(Manager *m, uint64_t id, Inspection **ret) {
        Inspection *i = new0(Inspection, 1);

        if (!i)
                return -ENOMEM;
        *i = (Inspection){ .manager = m, .request = id, .epoch = desired_epoch(m->desired) };
        *ret = i;
        return 0;
}

void inspect_instance(Manager *m, uint64_t id, json_object *params) {
        _cleanup_(inspection_freep) Inspection *inspection = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Instance *i;
        int r = 0;

        if (id == 0)
                return;
        i = find(m, params, &error);
        if (i) {
                r = inspection_new(m, id, &inspection);
                if (r >= 0)
                        r = describe(i, &inspection->result);
                if (r >= 0)
                        r = ask_unit(i, &inspection, "", on_properties);
                if (r < 0)
                        (void) kerror_set_errno(
                                        &error, r, "Instance '%s' cannot be shown: %m", instance_id(i));
        }
        if (kerror_is_set(&error) && reply_error(m, id, &error) < 0)
                log_warning("Cannot answer the master.");
}

/* Names are a nicety: whatever is wrong with the file, numbers are shown. Not on another file system, which may be the
 * container's own work and never answer. */
static char *read_passwd(const Instance *i) {
        struct open_how how = {
                .flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
        };
        _cleanup_free_ char *run = NULL, *root = NULL, *text = NULL;
        _cleanup_close_ int root_fd = -EBADF, fd = -EBADF;
        struct stat st;
        ssize_t n;

        run = instance_generation_run_directory(i, i->record.generation);
        root = run ? strjoin(run, "/rootfs") : NULL;
        if (!root)
                return NULL;
        root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root_fd < 0)
                return NULL;
        fd = (int) syscall(SYS_openat2, root_fd, "etc/passwd", &how, sizeof(how));
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PASSWD_SIZE_MAX)
                return NULL;
        text = malloc((size_t) st.st_size + 1);
        if (!text)
                return NULL;
        n = loop_read(fd, text, (size_t) st.st_size);
        if (n < 0)
                return NULL;
        text[n] = '\0';
        return TAKE_PTR(text);
}

static int read_control_group(sd_bus_message *m, char **ret) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name, *group;

                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0 && streq(name, "ControlGroup")) {
                        r = sd_bus_message_read(m, "v", "s", &group);
                        if (r >= 0)
                                r = free_and_strdup(ret, group);
                } else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }

        return r;
}

static int list_processes(const Inspection *i, const char *group, json_object **ret, KError *reterr) {
        _cleanup_free_ char *cgroup = NULL, *passwd = NULL;
        Instance *instance = manager_find_instance(i->manager, i->instance);

        if (!instance || isempty(group))
                return kerror_set(reterr, K_CONFLICT, "Instance '%s' does not run.", i->instance);
        cgroup = strjoin("/sys/fs/cgroup", group);
        if (!cgroup)
                return -ENOMEM;
        passwd = read_passwd(instance);
        return process_list("/proc", cgroup, passwd, ret, reterr);
}

static int on_control_group(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        _cleanup_json_ json_object *result = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *group = NULL;
        Inspection *i = userdata;
        int r;

        if (!is_waited_for(i))
                return 0;

        /* A unit that is not there has no properties of a service. */
        r = sd_bus_message_is_method_error(m, NULL) ? 0 : read_control_group(m, &group);
        if (r >= 0)
                r = list_processes(i, group, &result, &error);
        if (r < 0)
                (void) kerror_set_errno(&error, r, "The processes cannot be read: %m");
        r = kerror_is_set(&error) ? reply_error(i->manager, i->request, &error)
                                  : channel_reply(i->manager->channel, i->request, TAKE_PTR(result));
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
        return 0;
}

/* systemd does not tell changes of a control group: it is asked for. */
void inspect_processes(Manager *m, uint64_t id, json_object *params) {
        _cleanup_(inspection_freep) Inspection *inspection = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Instance *i;
        int r;

        if (id == 0)
                return;
        i = find(m, params, &error);
        if (i) {
                r = inspection_new(m, id, &inspection);
                if (r >= 0 && !(inspection->instance = strdup(instance_id(i))))
                        r = -ENOMEM;
                if (r >= 0)
                        r = ask_unit(i, &inspection, "org.freedesktop.systemd1.Service", on_control_group);
                if (r < 0)
                        (void) kerror_set_errno(&error, r, "The processes cannot be read: %m");
        }
        if (kerror_is_set(&error) && reply_error(m, id, &error) < 0)
                log_warning("Cannot answer the master.");
}
