/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "scheduler.h"
#include "store.h"

/* Shared by job-run.c (a run from its beginning to its end) and job-attempt.c (one instance of it). */
typedef struct JobRun {
        Master *master;
        Store *store;
        RunRow *run; /* borrowed */
        ServiceRow *service;
        GridRow *grid;
        json_object *settings; /* that the run began with; before: the service's */
        ServiceSpec *spec;
        InstanceRowList instances;  /* of the service */
        SchedulerSnapshot snapshot; /* with its instances only where something is to be placed: */
        bool places;
        SchedulerVolumes volumes;
        char *unplaced_reason; /* why an instance has no node as of this look */
        uint64_t now, next;
} JobRun;

typedef enum Verdict {
        VERDICT_NONE, /* under way */
        VERDICT_SUCCEEDED,
        VERDICT_FAILED, /* may be tried again */
        VERDICT_HOPELESS,
} Verdict;

/* job-run.c */
void job_run_wake_at(JobRun *run, uint64_t when);
bool job_run_owns(const JobRun *run, const InstanceRow *row); /* not TERMINATED */
int job_run_event(JobRun *run, const char *severity, const InstanceRow *row, const char *format, ...)
                _printf_(4, 5);

/* job-attempt.c */
int job_run_judge(JobRun *run, const InstanceRow *row, Verdict *ret, char **ret_reason);
char *job_run_phrase(const char *sentence); /* without the full stop */
bool job_run_is_last_attempt(const JobRun *run, const InstanceRow *row);
/* Each does what there is to do in one transaction. Returns 1 when something was done: the rows are to be read again. */
int job_run_retry(JobRun *run);
int job_run_place(JobRun *run);
InstanceRow *job_run_new_instance(const JobRun *run, uint32_t number);
