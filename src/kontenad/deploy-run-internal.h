/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "scheduler.h"
#include "store.h"

/* Shared by deploy-run.c (a deploy from beginning to end), deploy-step.c (one instance of it) and deploy-end.c (what follows when it is
 * over). */
typedef struct DeployRun {
        Master *master;
        Store *store;
        DeployRow *deploy; /* borrowed */
        ServiceRow *service;
        GridRow *grid;
        uint64_t revision;     /* what the deploy began with, whatever the service has become since: */
        json_object *settings; /* … as text, */
        ServiceSpec *spec;     /* … and read */
        bool start_first;
        InstanceRowList instances; /* of the service */
        SchedulerSnapshot snapshot;
        SchedulerVolumes volumes;
        uint64_t now, next;
} DeployRun;

/* deploy-run.c */
void deploy_run_wake_at(DeployRun *run, uint64_t when);
InstanceRow *deploy_run_find_instance(
                const DeployRun *run, uint32_t number, InstanceRole role); /* not TERMINATED */
InstanceRow *deploy_run_find_instance_by_id(const DeployRun *run, const char *id);
const char *deploy_run_node_name(DeployRun *run, const char *node_id);
SchedulerRequest deploy_run_request(const DeployRun *run, uint32_t number, uint32_t wanted);
bool deploy_run_may_wait(DeployRun *run, const SchedulerRequest *q);
size_t deploy_run_count_steps(const DeployRun *run, const char *state);

/* deploy-step.c */
int deploy_run_collect(DeployRun *run); /* takes over what instances reported into the steps under way */
int deploy_run_start_steps(DeployRun *run);
int deploy_run_end_step(DeployRun *run, DeployStepRow *step, const char *state, const char *error);
/* Why the instance of a step under way has failed, or NULL when it has not (yet). *ret_done: it runs. */
int deploy_run_judge_step(DeployRun *run, DeployStepRow *step, bool *ret_done, char **ret_error);
int deploy_run_new_instance(DeployRun *run, uint32_t number, const char *node_id, InstanceRow **ret);
int deploy_run_take_address(DeployRun *run, const char *node_id, char **ret, KError *reterr);
int deploy_run_choose_slot(DeployRun *run, uint32_t number, const char *node_id, char **ret, KError *reterr);

/* deploy-end.c: ends the deploy in a transaction of its own. */
char *deploy_run_describe_failures(DeployRun *run);
int deploy_run_finish(DeployRun *run, DeployState state, const char *format, ...) _printf_(3, 4);
/* The same for one that has failed: rolls back where the service says so. */
int deploy_run_fail(DeployRun *run, const char *reason);
