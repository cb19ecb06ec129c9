/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "image-store.h"
#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "runtime.h"
#include "unit.h"

/* The hooks of one stage, one after the other, each a unit kontena-hook@INSTANCE-START-STAGE-NAME.service: pre_start in a throw-away
 * container made from the configuration of the one that is to start (which is prepared, its network there), the others in the
 * container that runs.
 *
 * Units stay until the whole stage is over and its consequence is on disk: whoever starts the same stage of the same start
 * again, after a kill -9 say, finds there what was done and what runs, and repeats nothing. */
typedef struct HookRun HookRun;

typedef struct HookOptions {
        sd_event *event;
        UnitManager *units;
        Runtime *runtime;
        const InstanceWant *want;  /* must live as long; what concerns it and which hooks there are */
        Image *image;              /* pre_start only */
        const char *image_name;    /* reference, for the journal's fields */
        const char *start;         /* which start of its container, as part of a name: "3-7" */
        const char *container_id;  /* of the container that runs */
        const char *unit;          /* of that container: hooks in it end with it */
        const char *directory;     /* of that container, on disk */
        const char *run_directory; /* of that container, below /run, with its configuration */
        char *const *hooks_done;   /* "pre_start/migrate": oneshot hooks that are not run again */
} HookOptions;

/* A oneshot hook has succeeded: on disk before it returns. */
typedef void (*hook_remember_t)(const char *id, void *userdata);

/* Called once from the event loop, never from inside of hooks_start(). error NULL: all have succeeded. Else the first that did not, by
 * name, with its status and last line; those behind it were not run. What follows from it is on disk when this returns: then
 * the units go. The run is freed after. */
typedef void (*hooks_done_t)(HookRun *r, const KError *error, void *userdata);

int hooks_start(const HookOptions *o, HookStage stage, hook_remember_t remember, hooks_done_t done,
                void *userdata, HookRun **ret, KError *reterr);
/* Leaves the hook to itself: the daemon ends, or somebody goes on with the same stage, or sweeps. */
HookRun *hooks_free(HookRun *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(HookRun *, hooks_free);

/* The throw-away container's root and secrets are gone from the container's directory below /run. */
void hooks_unmount(const char *run_directory);

/* Ends all hooks of an instance, also of a daemon before us, but those of one stage of one start (stage _HOOK_STAGE_INVALID: all).
 * done is called once from the event loop, when no process of theirs is left; the sweep is freed after. */
typedef struct HookSweep HookSweep;
typedef void (*hooks_swept_t)(HookSweep *s, void *userdata);
int hooks_sweep(UnitManager *units, const char *instance_id, const char *keep_start, HookStage keep_stage,
                hooks_swept_t done, void *userdata, HookSweep **ret);
HookSweep *hooks_sweep_free(HookSweep *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(HookSweep *, hooks_sweep_free);

#define HOOK_UNIT_PREFIX "kontena-hook@"
char *hooks_unit_prefix(const char *instance_id, const char *start, HookStage stage);

/* The configuration of the throw-away container for one hook. Pure. */
int hooks_config(json_object *config, const char *root, const char *cmd, json_object **ret, KError *reterr);
