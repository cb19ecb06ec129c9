/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "store.h"

/* The part of the job runner that knows when: asks systemd for the points of each schedule, and queues a run at each. */
typedef struct JobSchedule JobSchedule;

typedef void (*job_schedule_answer_t)(void *userdata); /* job_schedule_step() has something to do */

int job_schedule_new(Master *m, job_schedule_answer_t answer, void *userdata, JobSchedule **ret);
JobSchedule *job_schedule_free(JobSchedule *s);

/* Does what is due, or begins with it: returns 1 when there is more to do at once. *next is brought forward to when the next is. */
int job_schedule_step(JobSchedule *s, uint64_t now, uint64_t *next);

/* Its settings, state or next point have changed, or it is gone. */
void job_schedule_service_changed(JobSchedule *s, const char *service_id);

/* Asks systemd again about all of them. */
void job_schedule_ask_again(JobSchedule *s);
