/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "file-util.h"
#include "instance-internal.h"
#include "kontena-limits.h"
#include "log.h"

#define PROBATION_USEC  (1 * USEC_PER_SEC)

/* Its process is gone, which systemd has not said yet. */
#define LOOK_AGAIN_USEC (100 * USEC_PER_MSEC)

static void on_probe_done(Probe *p, const KError *error, void *userdata) {
        Instance *i = userdata;

        i->probe = NULL;
        if (error) {
                _cleanup_kerror_ KError copy = KERROR_NULL;

                (void) kerror_set(&copy, error->code, "%s", kerror_message(error));
                instance_read_log_tail(i);
                instance_fail(i, &copy);
                return;
        }
        i->port_open = true;
        instance_step(i);
}

static int on_stable(sd_event_source *s, uint64_t usec, void *userdata) {
        Instance *i = userdata;

        i->stable = sd_event_source_disable_unref(i->stable);
        instance_step(i);
        return 0;
}

/* Where nothing but its staying says that a container is up: one that has failed by ending must stay for a while before it counts
 * again, and a new one for a moment. */
static uint64_t staying_time(const Instance *i) {
        if (i->failed && i->backoff.crashes > 0)
                return INSTANCE_SETTLE_USEC;
        if (i->record.proven)
                return 0;
        return i->host->probation_usec > 0 ? i->host->probation_usec : PROBATION_USEC;
}

/* SyncStep: it has stayed. On a busy machine what systemd has to say of its end may come late: that is heard first, and the
 * process itself is looked at. */
static int watch_it_stay(Instance *i) {
        uint64_t uptime = now_monotonic() - i->running_since, wanted = staying_time(i), left;
        int r;

        if (wanted == 0)
                return SYNC_DONE;
        i->stable = sd_event_source_disable_unref(i->stable); /* a step may come at any time */
        left = uptime < wanted ? wanted - uptime : LOOK_AGAIN_USEC;
        if (uptime >= wanted && unit_main_process_is_alive(i->unit))
                return SYNC_DONE;

        r = sd_event_add_time_relative(
                        i->host->event, &i->stable, CLOCK_MONOTONIC, left, USEC_PER_SEC / 10, on_stable, i);
        if (r >= 0)
                r = sd_event_source_set_priority(i->stable, SD_EVENT_PRIORITY_IDLE);
        if (r < 0) {
                i->stable = sd_event_source_disable_unref(i->stable);
                return r;
        }
        return SYNC_WAIT;
}

/* It runs and it is the right one. */
int instance_settle(Instance *i, KError *reterr) {
        char text[64];
        int r, stays;

        if (i->probe)
                return SYNC_WAIT;
        r = instance_run_hooks(i, HOOK_POST_START, reterr);
        if (r != SYNC_DONE)
                return r;
        if (!i->record.ready && !i->port_open && i->want->spec->wait_for_port > 0) {
                r = probe_start(i->host->event, i->want->address, i->want->spec->wait_for_port,
                                WAIT_FOR_PORT_TIMEOUT_USEC, on_probe_done, i, &i->probe);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot wait for port %u: %m",
                                        i->want->spec->wait_for_port);
                snprintf(text, sizeof(text), "waiting for port %u", i->want->spec->wait_for_port);
                instance_set_state(i, INSTANCE_STARTING, text);
                return SYNC_WAIT;
        }

        r = instance_health_settle(i, reterr);
        if (r != SYNC_DONE)
                return r;
        if (!i->record.ready) {
                i->record.ready = true;
                i->unsaved = true;
        }
        stays = instance_says_when_up(i) ? SYNC_DONE : watch_it_stay(i);
        if (stays < 0)
                return stays;
        if (stays == SYNC_DONE && !i->record.proven) {
                i->record.proven = true;
                i->unsaved = true;
                i->host->changed(i, i->host->userdata);
        }
        /* Any other serves meanwhile, but no deploy takes it for done, see instance_status(). */
        if (stays != SYNC_DONE && (i->failed || i->want->incoming))
                return stays;
        if (i->want->incoming && !i->published && !i->want->spec->host_network) {
                r = instance_publish(i, reterr);
                if (r < 0)
                        return r;
        }
        if (i->failed || kerror_is_set(&i->error)) {
                i->failed = false;
                kerror_done(&i->error);
                i->host->changed(i, i->host->userdata);
        }
        instance_forget_log_tail(i);
        i->image = image_unref(i->image);
        i->volumes = volume_plan_free(i->volumes);
        if (!i->swept) /* a daemon before us ended too soon for it */
                instance_remove_old_generations(i);
        instance_set_state(i, INSTANCE_RUNNING, NULL);
        return stays;
}
