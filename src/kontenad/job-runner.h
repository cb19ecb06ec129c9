/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "store.h"

/* Starts jobs when their schedule says so, and brings every run to its end. All it knows is in the store: a runner that is made anew
 * continues where another one was killed.
 *
 * Each point of a schedule is decided once: in one transaction a run is queued (or the point is passed over, because the run before is
 * still under way) and the next point is written. The unique key (service, scheduled_at) of runs stands behind that, also when the
 * clock is set back. Points that went by while there was no master, or while the clock jumped, make one run, if the last of them is
 * not older than RUN_CATCH_UP_USEC. */
typedef struct JobRunner JobRunner;

int job_runner_new(Master *m, JobRunner **ret);
JobRunner *job_runner_free(JobRunner *j); /* like deployer_free() */
DEFINE_TRIVIAL_CLEANUP_FUNC(JobRunner *, job_runner_free);

/* Something that no row tells: looks at the runs of this service again. */
void job_runner_wake(JobRunner *j, const char *service_id);

/* The machine's clock was set: what is due when is asked again. Noticed by itself; for tests. */
void job_runner_clock_changed(JobRunner *j);
