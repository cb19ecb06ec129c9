/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "scheduler.h"
#include "store.h"

/* Would the scheduler put this service's instances where they are? snapshot is changed (a dry run places in it). instances are the
 * service's rows. Returns 1 and why not, in words; 0 when all is well; -ESRCH when no placement exists, with the
 * explanation in *ret. */
int reschedule_check_placement(SchedulerSnapshot *snapshot, const ServiceRow *service,
                const ServiceSpec *spec, const SchedulerVolumes *volumes, const InstanceRowList *instances,
                char **ret);

/* When an automatic deploy may be started after those that failed lately: deploys, newest first. */
uint64_t reschedule_not_before(const DeployRowList *deploys);
