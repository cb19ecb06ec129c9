/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "image-store.h"
#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "runtime.h"
#include "unit.h"

/* The hooks of one stage, one after the other, as units: pre_start in a throw-away container made from the configuration of the
 * generation that is to start (which is prepared, its network there), the others inside the container that runs. */
typedef struct HookRun HookRun;

typedef struct HookOptions {
        sd_event *event;
        UnitManager *units;
        Runtime *runtime;
        const InstanceWant *want;  /* must live as long; what concerns it and which hooks there are */
        const Image *image;        /* pre_start only */
        const char *image_name;    /* reference, for the journal's fields */
        uint64_t generation;       /* whose container it is */
        const char *directory;     /* the instance's, on disk */
        const char *run_directory; /* the instance's, below /run; the generation's is in it */
        char *const *hooks_done;   /* "pre_start/migrate": oneshot hooks that are not run again */
} HookOptions;

/* A oneshot hook has succeeded: remember it, on disk, before returning. */
typedef void (*hook_remember_t)(const char *id, void *userdata);

/* Called once from the event loop; the run is freed after. error NULL: all have succeeded. Else the first that did not, by name, with
 * its status and last line; those behind it were not run. */
typedef void (*hooks_done_t)(HookRun *r, const KError *error, void *userdata);

/* Is there a hook to run? Without one nothing has to be started. */
bool hooks_are_wanted(const InstanceWant *w, HookStage stage, char *const *hooks_done);

/* Started before a kill -9 of the daemon and not over then, or over since: those that are done are not run again. */
int hooks_start(const HookOptions *o, HookStage stage, hook_remember_t remember, hooks_done_t done,
                void *userdata, HookRun **ret, KError *reterr);
/* Kills the hook; done is not called. */
HookRun *hooks_cancel(HookRun *r);
/* Leaves the hook to itself: the daemon ends. */
HookRun *hooks_free(HookRun *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(HookRun *, hooks_free);

/* Nothing is left of hooks of this instance, also of a daemon before us: units are stopped in the background, the root of a throw-away
 * container is unmounted. For the removal of the instance, before its files are removed. */
void hooks_sweep(UnitManager *units, const char *instance_id, const char *run_directory);
