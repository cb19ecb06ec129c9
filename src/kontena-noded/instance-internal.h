/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backoff.h"
#include "health.h"
#include "hooks.h"
#include "instance-health.h"
#include "instance-record.h"
#include "instance-want.h"
#include "instance.h"
#include "job.h"
#include "log-tail.h"
#include "notify-socket.h"
#include "probe.h"
#include "volumes.h"

/* Shared by instance.c (what it is, what it shows), instance-step.c (what to do next), instance-start.c (making and starting
 * a container) and instance-health.c (when it is up). */

#define RETRY_USEC           (30ULL * 1000000ULL)

/* Who ends sooner after the first start has never run. */
#define INSTANCE_SETTLE_USEC (3ULL * 1000000ULL)

/* What an operation on the unit was for. */
typedef enum InstanceOperation {
        OPERATION_NONE,
        OPERATION_START,
        OPERATION_RESTART, /* asked for */
        OPERATION_REVIVE,  /* after a crash */
        OPERATION_STOP,    /* stopped, terminated or replaced */
        OPERATION_CLEAN,   /* end systemd's own waiting after a failed start */
} InstanceOperation;

struct Instance {
        InstanceHost *host;
        char *id;
        char *directory, *run_directory, *record_path;

        /* what is wanted */
        json_object *want_json;
        InstanceWant *want; /* NULL: unreadable (want_error) or not wanted */
        KError want_error;
        uint64_t want_deploy_rev; /* also of an unreadable one */
        uint64_t stopped_rev;     /* as of which it was told that it is stopped */
        bool terminate;
        bool disowned;   /* with terminate: not by the master's word; its data stay, see instance-keep.c */
        bool kept;       /* ... and that was seen to */
        bool taken_back; /* what was kept of it, if it is wanted again */
        uint64_t drain_until; /* CLOCK_MONOTONIC; 0: it goes at once */
        bool restart_requested;

        /* what there is */
        InstanceRecord record;
        bool unsaved; /* the record has changed, and is written at the end of this turn */
        Unit *unit;
        bool was_running; /* seen by this daemon */
        bool crash_handled;
        uint64_t running_since; /* CLOCK_MONOTONIC */
        Backoff backoff;
        int last_exit_status; /* -1: none */

        /* whether it is up, see instance-health.h */
        bool port_open;
        NotifySocket *notify;
        char *notify_status; /* the last it said of itself */
        Health *health;
        HealthState health_told;
        KError health_trouble; /* why we cannot ask; shown when there is nothing worse */
        Backoff health_backoff;
        uint64_t healthy_since; /* CLOCK_MONOTONIC */
        sd_event_source *unhealthy, *notify_late;

        /* what is under way */
        Pull *pull;
        Job *job, *garbage;
        struct ChildCall *rooting; /* makes the root of a machine */
        bool rooted;
        NetworkCall *networking;
        bool networked; /* looked at for the start that comes */
        bool published; /* its ports, as they are wanted */
        Probe *probe;
        HookRun *hooks;
        HookStage hook_stage;
        uint64_t hook_epoch; /* of the start that they belong to: the container may be started anew before they end */
        HookSweep *hook_sweep;
        bool hooks_swept; /* for the stop that comes */
        VolumePlan *volumes;
        Image *image; /* for image_rev */
        uint64_t image_rev;
        uint64_t prepared_generation; /* its configuration is written */
        char *made_of;                /* digest of the image that the next generation's root stands on */
        bool swept;                   /* no generation before the current one is left */
        InstanceOperation operation;
        bool start_cancelled; /* what it brought up is not wanted any more: how it ends is no failure */
        sd_event_source *wake, *retry, *revive, *stable, *drain;
        bool removing;

        /* what is shown */
        InstanceState state;
        KError error;
        bool failed; /* the last attempt: shown until one succeeds */
        char *progress;
        LogTail *tail;  /* is being read; a failure is told when it is there */
        char *log_tail; /* of the last start that came to a bad end */
        bool run_tail_asked, run_shown;
        uint64_t start_asked; /* CLOCK_REALTIME; 0: not by this daemon */
};

typedef enum SyncStep {
        SYNC_AGAIN,
        SYNC_WAIT,
        SYNC_DONE,
} SyncStep;

/* instance-step.c */
void instance_step(Instance *i);
void instance_interrupt(Instance *i); /* ends all waiting */
void instance_unit_changed(Unit *u, void *userdata);
void instance_operation_done(Unit *u, const KError *error, void *userdata);
int instance_watch_unit(Instance *i, const char *name);

int instance_operate(Instance *i, InstanceOperation operation, KError *reterr); /* SyncStep */
char *instance_describe_end(const Instance *i, const UnitState *s);             /* "exited with status 3" */

/* instance-settle.c: it runs and it is the right one. */
int instance_settle(Instance *i, KError *reterr); /* SyncStep */

/* instance-run.c: of a job. */
bool instance_runs_once(const Instance *i);
int instance_run_begin(Instance *i, KError *reterr); /* before its unit is asked for */
/* Returns true when *ret is what the step comes to; else it goes on like any other. */
bool instance_run_step(Instance *i, int *ret, KError *reterr);
void instance_run_failed(Instance *i, const KError *error); /* it could not be started */
void instance_run_reset_unit(Instance *i);                  /* so that its name can be used again */

/* instance-start.c */
int instance_make(Instance *i, uint64_t generation, Image *image, KError *reterr); /* SyncStep */
int instance_start(Instance *i, KError *reterr);
int instance_add_network(Instance *i, KError *reterr); /* SyncStep */
int instance_publish(Instance *i, KError *reterr);
void instance_remove_network(Instance *i);
char *instance_generation_directory(const Instance *i, uint64_t generation);
char *instance_generation_run_directory(const Instance *i, uint64_t generation);
void instance_wipe_secrets(Instance *i);
int instance_remove_files(Instance *i); /* by a job; then instance_step() */
int instance_remove_attempts(
                Instance *i, KError *reterr);      /* SyncStep: nothing newer than the current one is left */
void instance_remove_old_generations(Instance *i); /* by a job nobody waits for */

/* instance-volumes.c */
int instance_note_volumes(Instance *i); /* in the record, of what is prepared */

/* instance-keep.c: data of an instance that nobody names any more. */
int instance_keep_data(Instance *i, KError *reterr);      /* SyncStep: before its files are removed */
int instance_take_back_data(Instance *i, KError *reterr); /* before it is anything again */

/* instance-machine.c */
Runtime *instance_runtime(const Instance *i); /* NULL: not installed, instance_runtime_error() says so */
const char *instance_runtime_error(const Instance *i);
/* Of what is there, though another kind may be wanted by now. */
Runtime *instance_present_runtime(const Instance *i);
void instance_cancel_boot(Instance *i);
bool instance_has_rebooted(const Instance *i, const UnitState *s); /* and not crashed */
/* SyncStep: the root is mounted, with users from *ret_base on. */
int instance_make_machine_root(Instance *i, const Image *image, const char *data, const char *root,
                uint32_t *ret_base, KError *reterr);
void instance_release_users(const Instance *i);

/* instance-hooks.c */
bool instance_wants_hooks(const Instance *i, HookStage stage);
int instance_run_hooks(Instance *i, HookStage stage, KError *reterr); /* SyncStep: over, or there is none */
int instance_end_hooks(Instance *i,
                KError *reterr); /* SyncStep: before the container goes; nothing of any hook is left */
void instance_leave_hooks(Instance *i); /* to themselves: somebody goes on with them, or ends them */
void instance_forget_start(
                Instance *i); /* the next one has its pre_start hooks again; the record is to be saved */
void instance_skip_post_start(Instance *i);                   /* of the start that comes */
int instance_take_hooks_done(Instance *i, json_object *want); /* 1: nothing else is new in it */

/* instance.c */
void instance_set_state(Instance *i, InstanceState state, const char *progress);
void instance_retry_later(Instance *i);
void instance_fail(Instance *i, KError *error); /* consumes the error's content */
/* message_id: of message-id.h, or NULL. */
void instance_say(Instance *i, const char *message_id, const char *severity, const char *type,
                const char *format, ...) _printf_(5, 6);
void instance_tell_how_it_stopped(Instance *i); /* before anything else is done with the unit */
int instance_save(Instance *i);
void instance_read_log_tail(Instance *i);
void instance_forget_log_tail(Instance *i);
void instance_log(Instance *i, const char *message_id, int level, const char *format, ...) _printf_(4, 5);
