/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Runs of jobs, as rows of the store. One at a time for each service: its newest run alone may be unfinished. A run has an
 * instance row for each of its instances, with run_id set: INCOMING while no node is chosen, CURRENT from then on. deploy_rev counts the
 * attempts. An attempt that failed is TERMINATED in the transaction that makes the next; all go with the end of the run. So
 * whatever is to be done next follows from the rows. */

/* ServiceRow.next_run_at: 0, one of these, or a point in time. */
#define NEXT_RUN_UNKNOWN UINT64_C(1) /* systemd is to be asked */
#define NEXT_RUN_NEVER   ((uint64_t) INT64_MAX)

bool service_is_job(const ServiceRow *service);
bool run_is_final(const RunRow *run);

/* The settings or the state of the service have changed, or it is new: when it runs next is to be found out. Sets the field only. */
void service_reset_schedule(ServiceRow *service);

/* In a transaction, for a job. K_CONFLICT: it is stopped, or a run is under way. scheduled_at: 0 by hand. */
int run_request(Store *s, const ServiceRow *service, uint64_t scheduled_at, RunRow **ret, KError *reterr);
/* number 0: the newest. -ENOENT */
int run_find(Store *s, const char *service_id, uint64_t number, RunRow **ret);
/* In a transaction: an unfinished one ends. Its containers are stopped. */
int run_cancel(Store *s, RunRow *run, const char *reason);
/* Likewise whatever run of the service is under way. */
int run_cancel_unfinished(Store *s, const char *service_id, const char *reason);

/* One look at an unfinished run: everything that can be done now is done. Returns 0 and when to look again although nothing
 * changed, and whether something of it waits for a node, or what the store said. */
int run_step(Master *m, RunRow *run, uint64_t now, uint64_t *ret_next, bool *ret_places);
