/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* What is known of an instance's container on this machine, kept in <state>/<id>/state.json, written before the step it
 * describes. After a kill -9 the daemon finds here what belongs to the unit that runs. A "generation" is one container: its root,
 * configuration and, with stateless services, its anonymous volumes. */
typedef struct InstanceRecord {
        uint64_t generation; /* 0: there is no container */
        uint64_t deploy_rev; /* the last one that was carried out */
        uint64_t service_rev;
        uint64_t epoch;    /* starts of the container so far */
        uint64_t restarts; /* after crashes, of this generation */
        uint64_t oom_kills;
        uint64_t started_at; /* CLOCK_REALTIME, 0: never */
        uint64_t main_pid;   /* of the last start that was seen */
        char *address;
        char *image_digest;
        char *image; /* reference, for people */
        char *unit;
        char **volumes; /* named ones that its containers have, by their names on this node */
        char *grid, *stack, *service;
        unsigned number;
        bool host_network;
        bool notified; /* it said READY=1 since its start */
        bool ready;    /* it was up since its start: port, READY=1, health */
        bool proven;   /* it was up once, of this generation */
        bool stopped;  /* somebody wanted it stopped: not a crash */

        /* of a job's run */
        bool run_started; /* or about to be: never again */
        bool run_over, run_exited;
        uint64_t run_status; /* with run_exited */
        char *run_error;
        char *run_boot; /* during which it was started */

        /* Hooks, see instance-hooks.c. */
        char **hooks_done;         /* oneshot ones, "pre_start/migrate" */
        bool hooked;               /* units of hooks may be there */
        bool pre_started;          /* pre_start is over for the start that comes */
        uint64_t post_start_epoch; /* whose post_start is over, ... */
        uint64_t pre_stop_epoch;   /* ... and whose pre_stop */
} InstanceRecord;

void instance_record_done(InstanceRecord *r);

/* 1 when found, 0 when there is none; -EBADMSG when it cannot be read (treated as none, said by the caller). */
int instance_record_load(const char *path, InstanceRecord *ret);
int instance_record_save(const char *path, const InstanceRecord *r);
