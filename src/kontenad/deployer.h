/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Carries out deploys. All it knows is in the store: what it does next follows from the rows of the deploy, its steps and
 * its instances, and each step is committed before anybody acts on it. So a deployer that is made anew continues
 * where another one was killed. It wakes by store_watch() and by timers that are computed from stored times. */
typedef struct Deployer Deployer;

int deployer_new(Master *m, Deployer **ret);
/* The event loop does not run any more, or the store is closed next: watches of a store end with it. */
Deployer *deployer_free(Deployer *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Deployer *, deployer_free);

/* For operations and the rescheduler, inside of a transaction: the service becomes RUNNING (this is what "deploy" and "scale" mean
 * in the reference) and a deploy is queued. A newer deploy supersedes an unfinished one of the same service. */
typedef enum DeployFlags {
        DEPLOY_FORCE = 1 << 0,       /* replace what has not changed */
        DEPLOY_ACCEPT_LOSS = 1 << 1, /* stateful instances whose node was removed begin anew, with nothing */
} DeployFlags;
int deploy_request(Store *s, const ServiceRow *service, unsigned flags, char **ret_id, KError *reterr);

/* Likewise: the service gets the settings of an earlier revision back, but for the count, and its number; so what still runs as of
 * that revision is not disturbed. cause: the deploy whose failure this answers, or NULL. */
int deploy_rollback(Store *s, ServiceRow *service, const RevisionRow *to, const char *cause, char **ret_id,
                KError *reterr);

/* Inside of a transaction: instances of this deploy that stand beside the one they were to replace are removed; what a move has
 * not brought to its end is as before. The deploy has its steps. */
int deploy_undo_unfinished(Store *s, const DeployRow *deploy);

/* Is there one of the same number that is on its way out, and not known to be gone? Of a stateful service the next one waits for that. */
const InstanceRow *deploy_find_leaving(const InstanceRowList *instances, uint32_t number);

/* Something that no row tells: looks at the deploys of this service again. */
void deployer_wake(Deployer *d, const char *service_id);

/* Inside of a transaction: ends an unfinished deploy as CANCELLED; what it started stays. K_CONFLICT when it has ended. */
int deploy_cancel(Store *s, const char *deploy_id, const char *reason, KError *reterr);

/* Unfinished deploy of this service? For "deploying" properties. */
int deploy_is_running(Store *s, const char *service_id); /* 1, 0 */

/* How many instances may be missing while those that run are replaced, or, where the new one is started first, stand beside them
 * in excess. At least one. */
uint32_t deploy_concurrency(uint32_t wanted, double min_health) _const_;
