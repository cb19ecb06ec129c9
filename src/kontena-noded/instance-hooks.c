/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "instance-internal.h"
#include "json-util.h"
#include "log.h"

/* When which hooks run, and what is remembered of it. A stage belongs to a start of the container: the generation and how many
 * starts there were ("epoch"). That it is over is in the record before the units of its hooks go, so after a kill -9 either the record or
 * the units tell what was done. */

/* What the master knows and what it may not know yet. */
static int list_done(const Instance *i, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        STRV_FOREACH(h, i->want->hooks_done) {
                r = strv_extend(&l, *h);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(h, i->record.hooks_done) {
                r = strv_contains(l, *h) ? 0 : strv_extend(&l, *h);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

bool instance_wants_hooks(const Instance *i, HookStage stage) {
        _cleanup_strv_free_ char **done = NULL;

        if (!i->want || i->want->spec->n_hooks == 0)
                return false;
        switch (stage) {
        case HOOK_PRE_START:
                if (i->record.pre_started)
                        return false;
                break;
        case HOOK_POST_START:
                if (i->record.post_start_epoch == i->record.epoch)
                        return false;
                break;
        case HOOK_PRE_STOP:
                if (i->record.pre_stop_epoch == i->record.epoch)
                        return false;
                break;
        default:
                return false;
        }
        return list_done(i, &done) < 0 ||
               service_spec_next_hook(i->want->spec, stage, i->want->number, done, NULL);
}

static void set_over(Instance *i, HookStage stage) {
        if (stage == HOOK_PRE_START)
                i->record.pre_started = true;
        else if (stage == HOOK_POST_START)
                i->record.post_start_epoch = MAX(
                                i->record.post_start_epoch, i->hook_epoch); /* skipped since, by a restart */
        else
                i->record.pre_stop_epoch = i->hook_epoch;
}

/* What the service has no more the master remembers. */
static int list_kept(const Instance *i, const char *id, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        FOREACH_ARRAY(h, i->want->spec->hooks, i->want->spec->n_hooks) {
                _cleanup_free_ char *other = hook_id(h);

                if (!other)
                        return -ENOMEM;
                if (!streq(other, id) && strv_contains(i->record.hooks_done, other) &&
                                (r = strv_extend(&l, other)) < 0)
                        return r;
        }
        r = strv_extend(&l, id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

static void on_hook_remembered(const char *id, void *userdata) {
        Instance *i = userdata;
        char **l;

        if (list_kept(i, id, &l) < 0)
                return; /* its unit remembers it for as long as the stage lasts */
        strv_free(i->record.hooks_done);
        i->record.hooks_done = l;
        (void) instance_save(i);
        i->host->changed(i, i->host->userdata);
}

static void on_hooks_done(HookRun *r, const KError *error, void *userdata) {
        Instance *i = userdata;
        HookStage stage = i->hook_stage;

        i->hooks = NULL;
        if (error && stage == HOOK_PRE_START) {
                _cleanup_kerror_ KError copy = KERROR_NULL;

                (void) kerror_set(&copy, error->code, "%s", kerror_message(error));
                instance_read_log_tail(i);
                instance_fail(i, &copy);
                return;
        }
        if (error)
                instance_say(i, NULL, "warning",
                                stage == HOOK_POST_START ? "service:start_instance"
                                                         : "service:stop_instance",
                                "%s", kerror_message(error));
        set_over(i, stage);
        (void) instance_save(i);
        instance_step(i);
}

/* Names one start of the container, that comes or was the last. */
static char *start_name(const Instance *i) {
        return strprintf("%" PRIu64 "-%" PRIu64, i->record.generation, i->record.epoch);
}

int instance_run_hooks(Instance *i, HookStage stage, KError *reterr) {
        _cleanup_free_ char *directory = NULL, *run = NULL, *id = NULL, *start = NULL;
        _cleanup_strv_free_ char **done = NULL;
        int r;

        if (i->hooks)
                return SYNC_WAIT;
        if (!instance_wants_hooks(i, stage))
                return SYNC_DONE;
        if (!instance_runtime(i))
                return kerror_set(reterr, K_RUNTIME, "%s", strna(instance_runtime_error(i)));

        directory = instance_generation_directory(i, i->record.generation);
        run = instance_generation_run_directory(i, i->record.generation);
        id = strprintf("%s-%" PRIu64, i->id, i->record.generation);
        start = start_name(i);
        if (!directory || !run || !id || !start)
                return -ENOMEM;
        r = list_done(i, &done);
        if (r < 0)
                return r;
        if (!i->record.hooked) {
                i->record.hooked = true;
                r = instance_save(i);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot remember that hooks run: %m");
        }

        i->hook_stage = stage;
        i->hook_epoch = i->record.epoch;
        r = hooks_start(&(HookOptions){ .event = i->host->event,
                                        .units = i->host->units,
                                        .runtime = stage == HOOK_PRE_START ? instance_runtime(i)
                                                                           : instance_present_runtime(i),
                                        .want = i->want,
                                        .image = stage == HOOK_PRE_START ? i->image : NULL,
                                        .image_name = strempty(i->record.image),
                                        .start = start,
                                        .container_id = id,
                                        .unit = strempty(i->record.unit),
                                        .directory = directory,
                                        .run_directory = run,
                                        .hooks_done = done },
                        stage, on_hook_remembered, on_hooks_done, i, &i->hooks, reterr);
        if (r < 0)
                return r;
        if (stage == HOOK_PRE_START)
                i->start_asked = now_realtime(); /* what they say is part of why a start has failed */
        if (stage != HOOK_PRE_STOP)
                instance_set_state(i, INSTANCE_STARTING,
                                stage == HOOK_PRE_START ? "pre_start hooks" : "post_start hooks");
        else
                instance_set_state(i, i->state, "pre_stop hooks");
        return SYNC_WAIT;
}

static void on_hooks_swept(HookSweep *s, void *userdata) {
        _cleanup_free_ char *run = NULL;
        Instance *i = userdata;

        /* A pre_start that was interrupted begins anew, not in the root that it has left. */
        run = instance_generation_run_directory(i, i->record.generation);
        if (run)
                hooks_unmount(run);
        i->hook_sweep = NULL;
        i->hooks_swept = true;
        instance_step(i);
}

int instance_end_hooks(Instance *i, KError *reterr) {
        _cleanup_free_ char *start = NULL;
        bool running = i->unit && unit_state_is_running(unit_state(i->unit));
        int r;

        if (i->hook_sweep)
                return SYNC_WAIT;
        /* First what still runs of other stages, then those that say farewell. */
        if (i->record.hooked && !i->hooks_swept && !i->hooks) {
                start = start_name(i);
                if (!start)
                        return -ENOMEM;
                r = hooks_sweep(i->host->units, i->id, start,
                                running && instance_wants_hooks(i, HOOK_PRE_STOP) ? HOOK_PRE_STOP
                                                                                  : _HOOK_STAGE_INVALID,
                                on_hooks_swept, i, &i->hook_sweep);
                return r < 0 ? kerror_set_errno(reterr, r, "Cannot end hooks: %m") : SYNC_WAIT;
        }
        if (running) {
                r = instance_run_hooks(i, HOOK_PRE_STOP, reterr);
                if (r != SYNC_DONE)
                        return r;
        }

        i->hooks_swept = false;
        if (i->record.hooked) {
                i->record.hooked = false;
                i->unsaved = true;
        }
        return SYNC_DONE;
}

void instance_leave_hooks(Instance *i) {
        i->hooks = hooks_free(i->hooks);
        i->hook_sweep = hooks_sweep_free(i->hook_sweep);
        i->hooks_swept = false;
}

void instance_forget_start(Instance *i) {
        i->record.pre_started = false;
}

void instance_skip_post_start(Instance *i) {
        i->record.post_start_epoch = i->record.epoch + 1;
        i->unsaved = true;
}

static bool equal_without(json_object *a, json_object *b, const char *without) {
        json_object *other;

        json_object_object_foreach(a, key, value)
                if (!streq(key, without) && (!json_object_object_get_ex(b, key, &other) ||
                                                            !json_object_equal(value, other)))
                        return false;
        return true;
}

int instance_take_hooks_done(Instance *i, json_object *o) {
        _cleanup_strv_free_ char **done = NULL;
        int r;

        if (!i->want || i->terminate || !json_object_is_type(o, json_type_object) ||
                        !equal_without(i->want_json, o, "hooks_done") ||
                        !equal_without(o, i->want_json, "hooks_done"))
                return 0;
        r = json_find_strv(o, "hooks_done", &done, NULL);
        if (r < 0)
                return r == -ENOMEM ? r : 0;

        strv_free(i->want->hooks_done);
        i->want->hooks_done = TAKE_PTR(done);
        json_object_put(i->want_json);
        i->want_json = json_object_get(o);
        return 1;
}
