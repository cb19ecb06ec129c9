/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hooks.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "container-exec.h"
#include "file-util.h"
#include "job.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "rootfs.h"
#include "string-util.h"

#define DIRECTORY       "hook" /* of the throw-away container, in both directories of the one that is to start */
#define CONFIG_SIZE_MAX (8U * SPEC_SIZE_MAX)

struct HookRun {
        sd_event *event;
        UnitManager *units;
        Runtime *runtime;
        const InstanceWant *want;
        Image *image;
        char *image_name, *start, *container_id, *unit, *directory, *run_directory;
        char **hooks_done;
        HookStage stage;
        hook_remember_t remember;
        hooks_done_t done;
        void *userdata;

        const Hook *hook; /* that runs, or was the last to */
        ContainerCommand *command;
        sd_event_source *next;
        Job *job;       /* clears what there is of a throw-away container */
        char **started; /* units */
        bool over;
        KError error;
};

HookRun *hooks_free(HookRun *r) {
        if (!r)
                return NULL;

        r->command = container_command_free(r->command);
        r->next = sd_event_source_disable_unref(r->next);
        r->job = job_cancel(r->job);
        image_unref(r->image);
        kerror_done(&r->error);
        strv_free(r->hooks_done);
        strv_free(r->started);
        free(r->image_name);
        free(r->start);
        free(r->container_id);
        free(r->unit);
        free(r->directory);
        free(r->run_directory);
        free(r);
        return NULL;
}

char *hooks_unit_prefix(const char *instance_id, const char *start, HookStage stage) {
        return strjoin(HOOK_UNIT_PREFIX, instance_id, "-", start, "-", hook_stage_to_string(stage), "-");
}

/* Of one command: messages of the runtime and the like. */
static char *command_directory(const HookRun *r, const char *name) {
        return strjoin(r->run_directory, "/" DIRECTORY "-", hook_stage_to_string(r->stage), "-", name);
}

void hooks_unmount(const char *run_directory) {
        _cleanup_free_ char *root = NULL, *config = NULL;
        int r;

        root = strjoin(run_directory, "/" DIRECTORY "/rootfs");
        config = strjoin(run_directory, "/" DIRECTORY "/config.json");
        if (!root || !config)
                return;
        r = rootfs_unmount(root);
        if (r < 0)
                log_warning_errno(r, "Cannot unmount '%s', ignoring it: %m", root);
        if (unlink(config) < 0 && errno != ENOENT && errno != ENOTDIR)
                log_warning_errno(-errno, "Cannot remove '%s': %m", config);
}

/* /dev/stdout and /dev/stderr of the container are a FIFO that is read by units of its own, which do not run yet. */
static int drop_output_mounts(json_object *config) {
        _cleanup_json_ json_object *kept = json_object_new_array();
        json_object *mounts = NULL;
        int r;

        if (!kept)
                return -ENOMEM;
        if (json_find_array(config, "mounts", &mounts, NULL) <= 0)
                return 0;
        FOREACH_JSON_ARRAY(m, mounts) {
                const char *to = json_object_get_string(json_object_object_get(m, "destination"));

                if (to && STR_IN_SET(to, "/dev/stdout", "/dev/stderr"))
                        continue;
                r = json_append(kept, json_object_get(m));
                if (r < 0)
                        return r;
        }
        return json_add(config, "mounts", TAKE_PTR(kept));
}

int hooks_config(json_object *config, const char *root, const char *cmd, json_object **ret, KError *reterr) {
        char *const argv[] = { (char *) "/bin/sh", (char *) "-c", (char *) cmd, NULL };
        json_object *process, *root_object;
        _cleanup_json_ json_object *c = NULL;
        int r;

        if (json_copy(config, &c) < 0)
                return -ENOMEM;
        r = json_get_object(c, "process", &process, reterr);
        if (r >= 0)
                r = json_get_object(c, "root", &root_object, reterr);
        if (r >= 0)
                r = json_add_strv(process, "args", argv);
        if (r >= 0)
                r = json_add_string(root_object, "path", root);
        if (r >= 0)
                r = drop_output_mounts(c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

static int write_config(const HookRun *r, const char *bundle, KError *reterr) {
        _cleanup_json_ json_object *config = NULL, *ours = NULL;
        _cleanup_free_ char *path = NULL, *target = NULL, *root = NULL;
        _cleanup_erase_ char *text = NULL;
        const char *out;
        size_t size;
        int k;

        path = strjoin(r->run_directory, "/config.json");
        target = strjoin(bundle, "/config.json");
        root = strjoin(bundle, "/rootfs");
        if (!path || !target || !root)
                return -ENOMEM;
        k = read_file(path, CONFIG_SIZE_MAX, &text, &size);
        if (k < 0)
                return kerror_set_errno(reterr, k, "Cannot read the container's configuration: %m");
        k = json_parse(text, size, CONFIG_SIZE_MAX, &config, reterr);
        if (k >= 0)
                k = hooks_config(config, root, r->hook->cmd, &ours, reterr);
        if (k < 0)
                return k;
        out = json_text(ours);
        return out ? write_file_atomic(target, out, strlen(out), 0600) : -ENOMEM;
}

static int on_next(sd_event_source *s, void *userdata);

static int go_on(HookRun *r) {
        r->next = sd_event_source_disable_unref(r->next);
        return sd_event_add_defer(r->event, &r->next, on_next, r);
}

/* All is over: the word is given, and what remembered it goes. */
static void tell(HookRun *r) {
        r->done(r, kerror_is_set(&r->error) ? &r->error : NULL, r->userdata);
        STRV_FOREACH(u, r->started)
                container_command_discard(r->units, *u, NULL);
        hooks_free(r);
}

static int carry_out_removal(void *arg) {
        const HookRun *r = arg;
        _cleanup_free_ char *data = strjoin(r->directory, "/" DIRECTORY),
                            *run = strjoin(r->run_directory, "/" DIRECTORY);
        int k, q;

        if (!data || !run)
                return -ENOMEM;
        k = rm_rf_at(AT_FDCWD, run);
        q = rm_rf_at(AT_FDCWD, data);
        return k < 0 ? k : q;
}

static void on_cleared(Job *j, int k, void *userdata) {
        HookRun *r = userdata;

        r->job = NULL;
        if (k < 0)
                log_warning_errno(k, "The root of a hook's container is still on the disk: %m");
        if (r->over)
                tell(r);
        else if (k < 0) {
                (void) kerror_set_errno(&r->error, k, "Cannot remove the root of an earlier hook: %m");
                tell(r);
        } else
                (void) go_on(r);
}

/* Everything of the throw-away container goes, by a job as it may be large. */
static int clear(HookRun *r) {
        hooks_unmount(r->run_directory);
        return job_start(r->event, "kt-remove", carry_out_removal, r, on_cleared, r, &r->job);
}

static void finish(HookRun *r) {
        int k;

        r->over = true;
        if (r->stage == HOOK_PRE_START) {
                k = clear(r);
                if (k >= 0)
                        return;
                log_warning_errno(k, "The root of a hook's container is still on the disk: %m");
        }
        tell(r);
}

static void on_command_done(ContainerCommand *c, int status, const KError *error, void *userdata) {
        HookRun *r = userdata;

        r->command = NULL;
        if (error) {
                (void) kerror_set(&r->error, K_RUNTIME, "The %s hook '%s' %s.",
                                hook_stage_to_string(r->stage), r->hook->name, kerror_message(error));
                finish(r);
                return;
        }
        if (r->hook->oneshot) {
                _cleanup_free_ char *id = hook_id(r->hook);

                if (id)
                        r->remember(id, r->userdata);
        }
        if (go_on(r) < 0) {
                (void) kerror_set(&r->error, K_INTERNAL, "Hooks cannot be run: out of memory.");
                finish(r);
        }
}

static int start_command(HookRun *r, KError *reterr) {
        const char *stage = hook_stage_to_string(r->stage);
        _cleanup_free_ char *unit = NULL, *prefix = NULL, *description = NULL, *directory = NULL,
                            *bundle = NULL, *id = NULL, *field = NULL;
        char *argv[] = { (char *) "/bin/sh", (char *) "-c", r->hook->cmd, NULL }, *fields[] = { NULL, NULL };
        bool fresh = r->stage == HOOK_PRE_START;
        int k;

        prefix = hooks_unit_prefix(r->want->id, r->start, r->stage);
        unit = prefix ? strjoin(prefix, r->hook->name, ".service") : NULL;
        description = strprintf("Kontena hook %s/%s of %s/%s-%u in grid %s", stage, r->hook->name,
                        r->want->stack, r->want->service, r->want->number, r->want->grid);
        directory = command_directory(r, r->hook->name);
        bundle = fresh ? strjoin(r->run_directory, "/" DIRECTORY) : strdup(r->run_directory);
        id = fresh ? strjoin(r->container_id, "-", r->hook->name) : strdup(r->container_id);
        fields[0] = field = strjoin("KONTENA_HOOK=", stage, "/", r->hook->name);
        if (!unit || !description || !directory || !bundle || !id || !field)
                return -ENOMEM;

        if (fresh) {
                k = write_config(r, bundle, reterr);
                if (k < 0)
                        return k;
        }
        k = strv_extend(&r->started, unit);
        if (k < 0)
                return k;
        return container_command_start(&(ContainerCommandOptions){ .event = r->event,
                                                       .units = r->units,
                                                       .runtime = r->runtime,
                                                       .want = r->want,
                                                       .image = r->image_name,
                                                       .unit = unit,
                                                       .description = description,
                                                       .bind_unit = fresh ? NULL : r->unit,
                                                       .container_id = id,
                                                       .bundle = bundle,
                                                       .directory = directory,
                                                       .fresh = fresh,
                                                       .argv = argv,
                                                       .log_fields = fields,
                                                       .adopt = true,
                                                       .keep = true,
                                                       .timeout_usec = r->hook->timeout_sec * USEC_PER_SEC },
                        on_command_done, r, &r->command, reterr);
}

/* Returns 1 when something of an earlier one has to go first. */
static int make_root(HookRun *r, KError *reterr) {
        _cleanup_free_ char *data = NULL, *root = NULL;
        int k;

        data = strjoin(r->directory, "/" DIRECTORY);
        root = strjoin(r->run_directory, "/" DIRECTORY "/rootfs");
        if (!data || !root)
                return -ENOMEM;
        k = path_is_mount_point(root);
        if (k != 0)
                return MIN(k, 0); /* of this very stage, which a daemon before us has begun */
        if (access(data, F_OK) >= 0) {
                k = clear(r);
                return k < 0 ? k : 1;
        }
        return rootfs_mount(r->image, data, root, reterr);
}

static int on_next(sd_event_source *s, void *userdata) {
        HookRun *r = userdata;
        const Hook *hook;
        int k = 0;

        r->next = sd_event_source_disable_unref(r->next);
        hook = service_spec_next_hook(r->want->spec, r->stage, r->want->number, r->hooks_done, r->hook);
        if (!hook) {
                finish(r);
                return 0;
        }

        if (r->stage == HOOK_PRE_START)
                k = make_root(r, &r->error);
        if (k > 0)
                return 0;
        r->hook = hook;
        if (k >= 0)
                k = start_command(r, &r->error);
        if (k < 0) {
                (void) kerror_set_errno(&r->error, k, "%m");
                kerror_prefix(&r->error, "The %s hook '%s' cannot be run", hook_stage_to_string(r->stage),
                                hook->name);
                finish(r);
        }
        return 0;
}

int hooks_start(const HookOptions *o, HookStage stage, hook_remember_t remember, hooks_done_t done,
                void *userdata, HookRun **ret, KError *reterr) {
        _cleanup_(hooks_freep) HookRun *r = NULL;
        int k;

        assert(done);
        assert(remember);
        assert(stage != HOOK_PRE_START || o->image);

        r = new0(HookRun, 1);
        if (!r)
                return -ENOMEM;
        *r = (HookRun){
                .event = o->event,
                .units = o->units,
                .runtime = o->runtime,
                .want = o->want,
                .image = o->image ? image_ref(o->image) : NULL,
                .stage = stage,
                .remember = remember,
                .done = done,
                .userdata = userdata,
        };
        r->image_name = strdup(o->image_name);
        r->start = strdup(o->start);
        r->container_id = strdup(o->container_id);
        r->unit = strdup(o->unit);
        r->directory = strdup(o->directory);
        r->run_directory = strdup(o->run_directory);
        r->hooks_done = strv_copy(o->hooks_done);
        if (!r->image_name || !r->start || !r->container_id || !r->unit || !r->directory ||
                        !r->run_directory || (o->hooks_done && !r->hooks_done))
                return -ENOMEM;
        k = go_on(r);
        if (k < 0)
                return kerror_set_errno(reterr, k, "Cannot run hooks: %m");

        *ret = TAKE_PTR(r);
        return 0;
}
