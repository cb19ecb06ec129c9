/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <sys/wait.h>
#include <systemd/sd-id128.h>

#include "file-util.h"
#include "instance-internal.h"
#include "log.h"

/* One attempt of a job's run: a container that is started once, and whose end is the end. That it was to be started is on the disk before
 * systemd is asked, so whatever is interrupted, it is never started again: what cannot be told any more is lost, and the master decides
 * what becomes of it. How it ended is kept by its unit, which stays until it is on the disk too. */

bool instance_runs_once(const Instance *i) {
        return i->record.run_started || (i->want && i->want->run);
}

static void get_boot(char buffer[static SD_ID128_STRING_MAX]) {
        sd_id128_t id;

        buffer[0] = '\0';
        if (sd_id128_get_boot(&id) >= 0)
                (void) sd_id128_to_string(id, buffer);
}

int instance_run_begin(Instance *i, KError *reterr) {
        char boot[SD_ID128_STRING_MAX];
        int r;

        if (!instance_runs_once(i))
                return 0;
        get_boot(boot);
        r = free_and_strdup(&i->record.run_boot, boot);
        if (r < 0)
                return r;
        i->record.run_started = true;
        r = instance_save(i);
        if (r < 0) {
                i->record.run_started = false;
                return kerror_set_errno(reterr, r, "Cannot remember the start of the container: %m");
        }
        return 0;
}

/* status -1: it never ran to an end. */
static void end(Instance *i, int status, const char *error) {
        InstanceRecord *record = &i->record;

        record->run_over = true;
        record->run_exited = status >= 0;
        record->run_status = status >= 0 ? (uint64_t) status : 0;
        if (free_and_strdup(&record->run_error, error) < 0)
                (void) log_oom();
        record->main_pid = 0;
        record->ready = false;
        (void) instance_save(i); /* on a full disk at least we know it */

        instance_read_log_tail(i);
        instance_log(i, NULL, error ? LOG_WARNING : LOG_INFO, "%s",
                        error ?: "The job's container has exited with status 0.");
}

void instance_run_failed(Instance *i, const KError *error) {
        if (i->record.run_over) { /* its unit cannot be stopped: that changes nothing of how it ended */
                instance_log(i, NULL, LOG_WARNING, "%s", kerror_message(error));
                instance_retry_later(i);
                return;
        }
        end(i, -1, kerror_message(error));
        instance_wake(i);
}

static void lose(Instance *i) {
        char boot[SD_ID128_STRING_MAX];

        get_boot(boot);
        end(i, -1,
                        streq_ptr(i->record.run_boot, boot)
                                        ? "lost: its unit is gone, and how it ended is not known."
                                        : "lost: the machine was restarted.");
}

static void take_end(Instance *i, const UnitState *s) {
        bool oom = streq_ptr(s->result, "oom-kill");
        _cleanup_free_ char *how = NULL, *text = NULL;
        int status;

        status = s->exec_main_code == CLD_EXITED ? s->exec_main_status : 128 + s->exec_main_status;
        if (oom)
                i->record.oom_kills++;
        /* systemd keeps the unit of one that has ended well by itself. */
        if (status == 0 && !oom && unit_state_is_gone(s) && !streq_ptr(s->active_state, "failed")) {
                end(i, -1, "The container was stopped from outside.");
                return;
        }
        if (status != 0 || oom) {
                how = instance_describe_end(i, s);
                text = strjoin("The container ", strna(how), ".");
        }
        end(i, status, status != 0 || oom ? strempty(text) : NULL);
}

/* Nothing is left to run: unit, ports and secrets go, the rest with the instance. */
static int clean_up(Instance *i, KError *reterr) {
        const UnitState *s = i->unit ? unit_state(i->unit) : NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (i->retry)
                return SYNC_WAIT;
        if (s && !unit_state_is_gone(s))
                return instance_operate(i, OPERATION_STOP, reterr);
        instance_run_reset_unit(i);
        if (i->pull || i->job || i->networking || i->tail)
                return SYNC_WAIT;
        if (i->run_shown)
                return SYNC_AGAIN;

        instance_wipe_secrets(i);
        if (network_ports_set(i->host->network, i->id, NULL, NULL, 0, &error) < 0)
                log_warning("Ports of instance '%s' stay published: %s", i->id, kerror_message(&error));
        i->image = image_unref(i->image);
        i->volumes = volume_plan_free(i->volumes);
        i->was_running = false;
        return SYNC_AGAIN;
}

/* After a restart of this daemon it is read again. */
static void read_tail_once(Instance *i) {
        if (i->run_tail_asked || i->record.started_at == 0)
                return;
        i->run_tail_asked = true;
        if (!i->log_tail && !i->tail)
                instance_read_log_tail(i);
}

static int show_end(Instance *i, KError *reterr) {
        int r;

        read_tail_once(i);
        r = clean_up(i, reterr);
        if (r != SYNC_AGAIN)
                return r;

        /* A change of what is wanted forgets what was shown. */
        if (i->run_shown && kerror_is_set(&i->error) == (i->record.run_error != NULL))
                return SYNC_DONE;
        i->run_shown = true;
        kerror_done(&i->error);
        if (i->record.run_error)
                (void) kerror_set(&i->error, K_RUNTIME, "%s", i->record.run_error);
        i->last_exit_status = i->record.run_exited ? (int) i->record.run_status : -1;
        i->failed = !i->record.run_exited;
        i->host->changed(i, i->host->userdata);
        instance_set_state(i, INSTANCE_EXITED, NULL);
        return SYNC_DONE;
}

bool instance_run_step(Instance *i, int *ret, KError *reterr) {
        const UnitState *s = i->unit ? unit_state(i->unit) : NULL;
        bool ended;

        if (i->record.run_over) {
                *ret = show_end(i, reterr);
                return true;
        }
        if (!i->record.run_started || (s && unit_state_is_running(s)))
                return false;

        ended = !s || unit_state_is_gone(s) || (streq_ptr(s->active_state, "active") && s->main_pid == 0);
        if (!ended) { /* coming or going */
                *ret = SYNC_WAIT;
                return true;
        }
        if (s && s->exec_main_code != 0)
                take_end(i, s);
        else
                lose(i);
        *ret = SYNC_AGAIN;
        return true;
}

void instance_run_reset_unit(Instance *i) {
        if (i->unit && streq_ptr(unit_state(i->unit)->active_state, "failed"))
                unit_reset_failed(i->unit);
}
