/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "file-util.h"
#include "instance-internal.h"
#include "kontena-limits.h"
#include "log.h"

#define PROBATION_USEC (1 * USEC_PER_SEC)

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
 * again, and one that is to take the place of another, which works, for a moment. */
static uint64_t staying_time(const Instance *i) {
        if (i->failed && i->backoff.crashes > 0)
                return INSTANCE_SETTLE_USEC;
        return i->want->incoming ? PROBATION_USEC : 0;
}

/* It runs and it is the right one. */
int instance_settle(Instance *i, KError *reterr) {
        char text[64];
        int r;

        if (i->probe || i->stable)
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
                i->record.ready = i->record.proven = true;
                i->unsaved = true;
        }
        if (!instance_says_when_up(i)) {
                uint64_t uptime = now_monotonic() - i->running_since, wanted = staying_time(i);

                if (uptime < wanted) {
                        r = sd_event_add_time_relative(i->host->event, &i->stable, CLOCK_MONOTONIC,
                                        wanted - uptime, USEC_PER_SEC / 10, on_stable, i);
                        return r < 0 ? r : SYNC_WAIT;
                }
        }
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
        return SYNC_DONE;
}
