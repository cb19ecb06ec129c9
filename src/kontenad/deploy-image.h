/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "scheduler.h"
#include "store.h"

/* Finds out, once for each deploy, which bytes the image's name means, so that all its instances run the same. Only nodes reach
 * registries, so one of them is asked; when it does not answer, the next. The answer goes into the deploy's row; what is
 * under way is in memory only, and is asked again by a master that was started anew. */
typedef struct DeployImages DeployImages;

int deploy_images_new(Master *m, DeployImages **ret);
DeployImages *deploy_images_free(DeployImages *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(DeployImages *, deploy_images_free);

/* request: for the first instance. Returns 0: asked, the deployer is woken by the answer; 1: nobody can tell, each node goes by the name. Fails with reterr set when
 * the registry has said that there is no such image. */
int deploy_image_resolve(DeployImages *l, const DeployRow *deploy, const SchedulerSnapshot *snapshot,
                const SchedulerRequest *request, KError *reterr);
/* The same for the run of a job, whose row has no place for it: with 1 the answer is *ret_digest, NULL when nobody can tell. */
int deploy_image_resolve_run(DeployImages *l, const RunRow *run, const SchedulerSnapshot *snapshot,
                const SchedulerRequest *request, char **ret_digest, KError *reterr);
