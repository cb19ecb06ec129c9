/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "file-util.h"
#include "image-reference.h"
#include "in-child.h"
#include "instance-internal.h"
#include "kontena-limits.h"
#include "log.h"
#include "message-id.h"

/* systemd sends SIGKILL after the grace period; what lies beyond is systemd's own slowness. */
#define STOP_SLACK_USEC (60 * USEC_PER_SEC)

int instance_watch_unit(Instance *i, const char *name) {
        int r;

        if (i->unit && streq(unit_name(i->unit), name))
                return 0;

        i->unit = unit_free(i->unit);
        i->operation = OPERATION_NONE;
        i->start_cancelled = false;
        r = unit_new(i->host->units, name, instance_unit_changed, i, &i->unit);
        if (r < 0)
                return log_error_errno(r, "Cannot follow unit '%s': %m", name);
        return 0;
}

void instance_interrupt(Instance *i) {
        i->pull = pull_cancel(i->pull);
        if (!i->removing)
                i->job = job_cancel(i->job);
        i->rooting = child_call_cancel(i->rooting);
        i->rooted = false;
        i->networking = network_call_cancel(i->networking);
        i->networked = false;
        i->probe = probe_cancel(i->probe);
        instance_leave_hooks(i);
        i->retry = sd_event_source_disable_unref(i->retry);
        i->revive = sd_event_source_disable_unref(i->revive);
        i->stable = sd_event_source_disable_unref(i->stable);
}

/* What runs now, as opposed to what was seen last: a start that we did not make ourselves counts as well. */
static void observe_running(Instance *i, const UnitState *s) {
        if (!i->was_running) {
                /* systemd has restarted it while we were away. */
                if (i->record.main_pid > 0 && i->record.main_pid != s->main_pid)
                        i->record.restarts++;
                i->was_running = true;
                i->running_since = now_monotonic();
        }
        i->crash_handled = false;
        i->revive = sd_event_source_disable_unref(i->revive);

        if (i->record.main_pid == s->main_pid)
                return;
        /* Whoever has started this one: nothing is known of it. What it has said by now waits to be read. */
        instance_health_stop(i);
        i->port_open = i->record.ready = i->record.notified = false;
        i->record.main_pid = s->main_pid;
        i->record.epoch++;
        instance_forget_start(i);
        i->record.started_at = now_realtime();
        i->unsaved = true;
        i->host->changed(i, i->host->userdata);
}

static int on_revive(sd_event_source *s, uint64_t usec, void *userdata) {
        Instance *i = userdata;

        i->revive = sd_event_source_disable_unref(i->revive);
        instance_step(i);
        return 0;
}

/* "exited with status 3", "was killed by SIGKILL", "used more than its 64 MiB of memory and was killed" */
char *instance_describe_end(const Instance *i, const UnitState *s) {
        const ServiceSpec *spec = i->want ? i->want->spec : NULL;

        if (streq_ptr(s->result, "oom-kill")) {
                if (spec && spec->memory > 0)
                        return strprintf("was killed because it reached its memory limit of %" PRIu64
                                         " bytes (%.1f MiB)",
                                        spec->memory, (double) spec->memory / (1024.0 * 1024.0));
                return strdup("was killed because there was no memory left");
        }
        if (s->exec_main_code == CLD_EXITED)
                return strprintf("exited with status %i", s->exec_main_status);
        if (s->exec_main_code == CLD_KILLED || s->exec_main_code == CLD_DUMPED)
                return strprintf("was killed by SIG%s%s", strna(sigabbrev_np(s->exec_main_status)),
                                s->exec_main_code == CLD_DUMPED ? " (core dumped)" : "");
        return strdup("has ended");
}

static void handle_crash(Instance *i, const UnitState *s) {
        uint64_t delay, uptime = now_monotonic() - i->running_since;
        bool oom = streq_ptr(s->result, "oom-kill"), reboot = instance_has_rebooted(i, s);
        bool first = i->record.restarts == 0 && uptime < INSTANCE_SETTLE_USEC && !reboot;
        _cleanup_free_ char *end = NULL, *awaited = instance_awaits(i);
        int r;

        i->crash_handled = true;
        i->was_running = false;
        i->stable = sd_event_source_disable_unref(i->stable);
        i->last_exit_status = s->exec_main_code == CLD_EXITED ? s->exec_main_status
                                                              : 128 + s->exec_main_status;
        i->record.restarts++;
        i->record.main_pid = 0;
        i->record.ready = false;
        instance_health_forget(i);
        instance_forget_start(i);
        if (oom)
                i->record.oom_kills++;
        (void) instance_save(i);

        delay = reboot ? 0 : backoff_next(&i->backoff, uptime);
        end = reboot ? strdup("was restarted from inside") : instance_describe_end(i, s);
        instance_read_log_tail(i);
        instance_say(i, oom ? MESSAGE_INSTANCE_OOM : MESSAGE_INSTANCE_CRASHED, reboot ? "info" : "warning",
                        "service:instance_crash", "The container %s, it is started again in %" PRIu64 " s.",
                        strna(end), delay / USEC_PER_SEC);

        /* A deploy whose container does not stay has failed, although the back-off goes on. */
        if (awaited || first) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (awaited)
                        (void) kerror_set(&error, K_RUNTIME, "The container %s before %s.", strna(end),
                                        awaited);
                else
                        (void) kerror_set(&error, K_RUNTIME, "The container %s right after its start.",
                                        strna(end));
                instance_fail(i, &error);
                i->retry = sd_event_source_disable_unref(i->retry);
        } else if (!i->failed) {
                kerror_done(&i->error);
                (void) kerror_set(&i->error, K_RUNTIME, "The container %s.", strna(end));
        }

        r = sd_event_add_time_relative(
                        i->host->event, &i->revive, CLOCK_MONOTONIC, delay, USEC_PER_SEC / 10, on_revive, i);
        if (r < 0)
                log_error_errno(r, "Cannot wait to restart instance '%s', leaving it to systemd: %m", i->id);
        instance_set_state(i, INSTANCE_RESTARTING, NULL);
}

static uint64_t stop_timeout(const Instance *i) {
        return (i->want ? i->want->spec->stop_grace_sec * USEC_PER_SEC : 24 * 3600 * USEC_PER_SEC) +
               STOP_SLACK_USEC;
}

/* Begins an operation on the unit. */
int instance_operate(Instance *i, InstanceOperation operation, KError *reterr) {
        int r;

        if (operation == OPERATION_RESTART || operation == OPERATION_REVIVE)
                r = unit_restart(i->unit, stop_timeout(i), instance_operation_done);
        else
                r = unit_stop(i->unit, stop_timeout(i), instance_operation_done);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Cannot ask systemd about unit '%s': %m", unit_name(i->unit));

        if (operation == OPERATION_RESTART || operation == OPERATION_REVIVE)
                i->start_asked = now_realtime();
        i->operation = operation;
        instance_health_forget(i);
        return SYNC_WAIT;
}

static void on_start_failed(Instance *i, const KError *error) {
        _cleanup_kerror_ KError told = KERROR_NULL, ignored = KERROR_NULL;
        _cleanup_free_ char *run = NULL, *reason = NULL;

        run = instance_generation_run_directory(i, i->record.generation);
        if (run && instance_runtime(i))
                reason = instance_runtime(i)->ops->failure(instance_runtime(i), run);
        if (reason)
                (void) kerror_set(&told, K_RUNTIME, "Cannot start the container: %s", reason);
        else
                (void) kerror_set(&told, K_RUNTIME, "%s", kerror_message(error));

        /* It was started and is over already: that is a crash like any other, or the end of a job. */
        if (!reason && unit_state(i->unit)->exec_main_code != 0) {
                i->running_since = now_monotonic();
                i->was_running = true;
                i->crash_handled = false;
                instance_step(i);
                return;
        }

        instance_read_log_tail(i);
        /* systemd would try again on its own time; that is ours. */
        i->was_running = false;
        i->prepared_generation = 0;
        instance_forget_start(i);
        (void) instance_operate(i, OPERATION_CLEAN, &ignored);
        instance_fail(i, &told);
}

void instance_operation_done(Unit *u, const KError *error, void *userdata) {
        InstanceOperation operation;
        Instance *i = userdata;
        bool cancelled = i->start_cancelled;

        operation = i->operation;
        i->operation = OPERATION_NONE;
        i->start_cancelled = false;

        switch (operation) {
        case OPERATION_START:
        case OPERATION_RESTART:
        case OPERATION_REVIVE:
                if (!error) {
                        i->was_running = true;
                        i->crash_handled = false;
                        i->running_since = now_monotonic();
                        break;
                }
                /* The unit went meanwhile: it is started anew. */
                if (operation != OPERATION_START && unit_state_is_gone(unit_state(u)))
                        break;
                if (!cancelled && !i->terminate && i->want) {
                        on_start_failed(i, error);
                        return;
                }
                break;
        case OPERATION_STOP:
                instance_tell_how_it_stopped(i);
                i->was_running = false;
                if (error) {
                        _cleanup_kerror_ KError copy = KERROR_NULL;

                        (void) kerror_set(&copy, error->code, "%s", kerror_message(error));
                        instance_fail(i, &copy);
                        return;
                }
                break;
        case OPERATION_CLEAN:
        case OPERATION_NONE:
        default:
                break;
        }

        instance_step(i);
}

void instance_unit_changed(Unit *u, void *userdata) {
        instance_wake(userdata);
}

static void on_pull_progress(Pull *p, const PullProgress *progress, void *userdata) {
        char text[64] = "pulling";
        Instance *i = userdata;

        if (progress->queued)
                snprintf(text, sizeof(text), "waiting for other pulls");
        else if (progress->total > 0)
                snprintf(text, sizeof(text), "pulling %" PRIu64 " %%",
                                MIN(progress->bytes * 100 / progress->total, UINT64_C(100)));
        instance_set_state(i, INSTANCE_PULLING, text);
}

static void on_pull_done(Pull *p, int result, Image *image, const KError *error, void *userdata) {
        Instance *i = userdata;

        i->pull = NULL;
        if (result < 0) {
                _cleanup_kerror_ KError copy = KERROR_NULL;

                (void) kerror_set(&copy, error ? error->code : K_IMAGE, "%s", kerror_message(error));
                instance_fail(i, &copy);
                return;
        }
        if (result > 0)
                instance_say(i, NULL, "warning", "service:create_instance",
                                "Image '%s' could not be asked for, the one of an earlier pull is used: %s",
                                i->want->spec->image, kerror_message(error));

        image_unref(i->image);
        i->image = image_ref(image);
        i->image_rev = i->want->deploy_rev;
        instance_wake(i); /* many may have waited for this image: one in a turn of the loop */
}

/* "registry/name@sha256:..." when the master has said which bytes. */
static int wanted_reference(const InstanceWant *w, char **ret, KError *reterr) {
        _cleanup_image_reference_ ImageReference ref = {};
        int r;

        if (!w->digest) {
                *ret = strdup(w->spec->image);
                return *ret ? 0 : -ENOMEM;
        }
        r = image_reference_parse(w->spec->image, &ref, reterr);
        if (r < 0)
                return r;
        r = free_and_strdup(&ref.digest, w->digest);
        if (r < 0)
                return r;
        *ret = image_reference_normalized(&ref);
        return *ret ? 0 : -ENOMEM;
}

/* What is here already and will do. */
static int find_image(Instance *i, const char *reference, Image **ret, KError *reterr) {
        const InstanceWant *w = i->want;
        int r;

        if (!w->digest && w->spec->pull == PULL_ALWAYS)
                return 0;
        r = image_store_find(i->host->images, w->digest ?: reference, ret);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot look for image '%s': %m", reference);
        if (r == 0 && w->spec->pull == PULL_NEVER)
                return kerror_set(reterr, K_IMAGE,
                                "Image '%s' is not on this machine, and is never to be pulled.", reference);
        return r;
}

static int pull(Instance *i, KError *reterr) {
        _cleanup_free_ char *revision = NULL, *reference = NULL;
        _cleanup_(image_unrefp) Image *image = NULL;
        int r;

        r = wanted_reference(i->want, &reference, reterr);
        if (r < 0)
                return r;
        r = find_image(i, reference, &image, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                image_unref(i->image);
                i->image = TAKE_PTR(image);
                i->image_rev = i->want->deploy_rev;
                return SYNC_AGAIN;
        }

        revision = strprintf("%s:%" PRIu64, i->want->service_id, i->want->deploy_rev);
        if (!revision)
                return -ENOMEM;
        r = pull_image(i->host->pulls, reference, revision, on_pull_progress, on_pull_done, i, &i->pull,
                        reterr);
        if (r < 0)
                return r;

        instance_set_state(i, INSTANCE_PULLING, "pulling");
        return SYNC_WAIT;
}

/* The container is there but does not run. */
static int start_again(Instance *i, KError *reterr) {
        int r;

        if (i->prepared_generation != i->record.generation || !i->image) {
                if (!i->image) {
                        r = image_store_find(i->host->images, i->record.image_digest, &i->image);
                        if (r < 0)
                                return kerror_set_errno(reterr, r, "Cannot look for image '%s': %m",
                                                i->record.image_digest);
                        i->image_rev = i->want->deploy_rev;
                }
                if (!i->image)
                        return pull(i, reterr);
                if (!streq_ptr(i->image->digest, i->record.image_digest)) {
                        i->record.deploy_rev = 0; /* its root cannot stand on another image: replace it */
                        return SYNC_AGAIN;
                }
                if (i->state != INSTANCE_RESTARTING)
                        instance_set_state(i, INSTANCE_CREATING, NULL);
                r = instance_make(i, i->record.generation, i->image, reterr);
                if (r != SYNC_DONE)
                        return r;
        }

        r = instance_add_network(i, reterr);
        if (r != SYNC_DONE)
                return r;
        if (i->record.stopped || i->record.main_pid > 0) {
                i->record.stopped = false;
                i->record.main_pid = 0;
                r = instance_save(i);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot remember the start of the container: %m");
        }
        r = instance_run_hooks(i, HOOK_PRE_START, reterr);
        if (r != SYNC_DONE)
                return r;
        r = instance_run_begin(i, reterr);
        if (r < 0)
                return r;
        r = instance_start(i, reterr);
        if (r < 0) {
                i->prepared_generation = 0;
                return r;
        }
        instance_set_state(i, INSTANCE_STARTING, NULL);
        return SYNC_WAIT;
}

/* From here on the new container is the instance's. Written before it is started. */
static int switch_generation(Instance *i, KError *reterr) {
        const InstanceWant *w = i->want;
        InstanceRecord *record = &i->record;
        int r;

        r = free_and_strdup(&record->image_digest, i->image->digest);
        if (r >= 0)
                r = free_and_strdup(&record->image, w->spec->image);
        if (r >= 0)
                r = free_and_strdup(&record->unit, w->unit);
        if (r >= 0)
                r = free_and_strdup(&record->grid, w->grid);
        if (r >= 0)
                r = free_and_strdup(&record->stack, w->stack);
        if (r >= 0)
                r = free_and_strdup(&record->service, w->service);
        if (r >= 0)
                r = free_and_strdup(&record->address, w->address);
        if (r >= 0)
                r = instance_note_volumes(i);
        if (r < 0)
                return r;

        instance_notify_close(i); /* by the name of the old generation */
        record->number = w->number;
        record->generation++;
        record->deploy_rev = w->deploy_rev;
        record->service_rev = w->service_rev;
        record->host_network = w->spec->host_network;
        record->restarts = 0;
        record->oom_kills = 0;
        record->main_pid = 0;
        record->notified = record->ready = record->proven = false;
        record->stopped = false;
        instance_forget_start(i);
        r = instance_save(i);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot remember the new container: %m");

        i->backoff = i->health_backoff = (Backoff){};
        i->was_running = false;
        i->crash_handled = false;
        i->last_exit_status = -1;
        instance_forget_log_tail(i);
        i->made_of = mfree(i->made_of);
        r = instance_watch_unit(i, w->unit);
        if (r < 0)
                return r;
        instance_remove_old_generations(i);
        return SYNC_AGAIN;
}

/* A deploy revision that was not yet carried out, or a container that is not the wanted one. */
static int deploy(Instance *i, KError *reterr) {
        const InstanceWant *w = i->want;
        InstanceRecord *record = &i->record;
        bool replace;
        int r;

        if (!i->image || i->image_rev != w->deploy_rev) {
                r = pull(i, reterr);
                /* Nothing is there that it could disturb: the namespace is made while the image is asked for. */
                if (r == SYNC_WAIT && record->generation == 0 && !i->networked && !i->networking) {
                        int k = instance_add_network(i, reterr);

                        if (k < 0)
                                return k;
                }
                return r;
        }

        replace = record->generation == 0 || record->service_rev != w->service_rev ||
                  (w->force && record->deploy_rev != w->deploy_rev) ||
                  !streq_ptr(record->image_digest, i->image->digest) ||
                  !streq_ptr(record->address, w->address) || !streq_ptr(record->unit, w->unit);
        if (!replace) {
                r = instance_add_network(i, reterr);
                if (r != SYNC_DONE)
                        return r;
                record->deploy_rev = w->deploy_rev;
                r = instance_save(i);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot remember the deploy: %m");
                i->host->changed(i, i->host->userdata); /* its state may be the same as before */
                return SYNC_AGAIN;
        }

        if (i->prepared_generation != record->generation + 1) {
                instance_set_state(i, INSTANCE_CREATING, NULL);
                if (!streq_ptr(i->made_of, i->image->digest)) {
                        i->made_of = mfree(i->made_of);
                        r = instance_remove_attempts(i, reterr);
                        if (r != SYNC_DONE)
                                return r;
                        r = free_and_strdup(&i->made_of, i->image->digest);
                        if (r < 0)
                                return r;
                }
                r = instance_make(i, record->generation + 1, i->image, reterr);
                if (r != SYNC_DONE)
                        return r;
        }

        /* All is ready: now the old one goes. */
        r = instance_end_hooks(i, reterr);
        if (r != SYNC_DONE)
                return r;
        if (i->unit && !unit_state_is_gone(unit_state(i->unit)))
                return instance_operate(i, OPERATION_STOP, reterr);
        return switch_generation(i, reterr);
}

static int step_run(Instance *i, KError *reterr) {
        const UnitState *s = i->unit ? unit_state(i->unit) : NULL;
        const InstanceWant *w = i->want;
        bool running, waiting, gone;
        int r;

        if (instance_runs_once(i) && instance_run_step(i, &r, reterr))
                return r;
        running = s && unit_state_is_running(s);
        waiting = s && unit_state_is_waiting(s);
        gone = !s || unit_state_is_gone(s);

        if (running)
                observe_running(i, s);
        else if (!i->crash_handled &&
                        ((i->was_running && (waiting || gone)) || (waiting && i->record.main_pid > 0)))
                handle_crash(i, s);

        if (i->restart_requested && running) {
                i->restart_requested = false;
                i->record.ready = false;
                instance_skip_post_start(i);
                instance_set_state(i, INSTANCE_RESTARTING, NULL);
                return instance_operate(i, OPERATION_RESTART, reterr);
        }
        /* It died, ours or while we were away; its time has come. */
        if (waiting && !i->revive) {
                instance_set_state(i, INSTANCE_RESTARTING, NULL);
                return instance_operate(i,
                                instance_wants_hooks(i, HOOK_PRE_START) ? OPERATION_CLEAN : OPERATION_REVIVE,
                                reterr);
        }
        if (i->pull || i->job || i->rooting || i->networking || i->retry || i->hooks)
                return SYNC_WAIT;
        if (kerror_is_set(&i->want_error))
                return kerror_set(reterr, i->want_error.code, "%s", kerror_message(&i->want_error));

        if (i->record.generation == 0 || i->record.deploy_rev != w->deploy_rev ||
                        i->record.service_rev != w->service_rev || !streq_ptr(i->record.address, w->address))
                return deploy(i, reterr);
        if (running)
                return instance_settle(i, reterr);
        if (i->revive || !gone)
                return SYNC_WAIT;
        return start_again(i, reterr);
}

static int step_stop(Instance *i, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (i->hooks)
                return SYNC_WAIT;
        if (i->unit && !unit_state_is_gone(unit_state(i->unit)))
                instance_set_state(i, INSTANCE_STOPPING, NULL);
        r = instance_end_hooks(i, reterr);
        if (r != SYNC_DONE)
                return r;
        if (i->unit && !unit_state_is_gone(unit_state(i->unit)))
                return instance_operate(i, OPERATION_STOP, reterr);

        if (i->record.generation > 0 && !i->record.stopped) {
                i->record.stopped = true;
                i->record.ready = false;
                i->record.main_pid = 0;
                (void) instance_save(i);
                instance_wipe_secrets(i);
        }
        if (network_ports_set(i->host->network, i->id, NULL, NULL, 0, &error) < 0)
                log_warning("Ports of instance '%s' stay published: %s", i->id, kerror_message(&error));
        i->was_running = false;
        i->restart_requested = false;
        i->backoff = (Backoff){};
        if (i->failed) {
                i->failed = false;
                kerror_done(&i->error);
                i->host->changed(i, i->host->userdata);
        }
        if (i->state == INSTANCE_STOPPED && i->stopped_rev != i->want_deploy_rev)
                i->host->changed(i, i->host->userdata); /* the master waits for the word */
        i->stopped_rev = i->want_deploy_rev;
        instance_set_state(i, INSTANCE_STOPPED, NULL);
        return SYNC_DONE;
}

static int on_drained(sd_event_source *s, uint64_t usec, void *userdata) {
        Instance *i = userdata;

        i->drain = sd_event_source_disable_unref(i->drain);
        i->drain_until = 0;
        instance_step(i);
        return 0;
}

/* Somebody has taken its place; what it has begun it may end. */
static int drain(Instance *i) {
        int r;

        if (i->drain)
                return SYNC_WAIT;
        r = sd_event_add_time(i->host->event, &i->drain, CLOCK_MONOTONIC, i->drain_until, USEC_PER_SEC / 10,
                        on_drained, i);
        if (r < 0) {
                i->drain_until = 0;
                log_warning_errno(r, "Instance '%s' is stopped without being drained: %m", i->id);
                return SYNC_AGAIN;
        }
        return SYNC_WAIT;
}

static int step_remove(Instance *i, KError *reterr) {
        int r;

        if (i->job || i->retry || i->hooks)
                return SYNC_WAIT;
        instance_set_state(i, INSTANCE_STOPPING, i->drain_until > 0 ? "draining" : NULL);
        if (i->drain_until > 0 && i->unit && unit_state_is_running(unit_state(i->unit)))
                return drain(i);
        r = instance_end_hooks(i, reterr);
        if (r != SYNC_DONE)
                return r;
        if (i->unit && !unit_state_is_gone(unit_state(i->unit)))
                return instance_operate(i, OPERATION_STOP, reterr);

        instance_run_reset_unit(i);
        r = instance_keep_data(i, reterr);
        if (r != SYNC_DONE)
                return r;
        r = instance_remove_files(i);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot remove the instance's files: %m");
        return SYNC_WAIT;
}

static int step(Instance *i, KError *reterr) {
        int r;

        if (i->removing || i->operation != OPERATION_NONE || (i->unit && !unit_state(i->unit)->known))
                return SYNC_WAIT;
        if (i->terminate)
                return step_remove(i, reterr);
        if (!i->want && !kerror_is_set(&i->want_error)) {
                /* Nobody has said yet what is wanted: it is left alone. */
                if (i->unit && unit_state_is_running(unit_state(i->unit)))
                        instance_set_state(i, INSTANCE_RUNNING, NULL);
                return SYNC_WAIT;
        }
        r = instance_take_back_data(i, reterr);
        if (r < 0)
                return r;
        if (i->want && i->want->goal == GOAL_STOPPED)
                return step_stop(i, reterr);
        return step_run(i, reterr);
}

void instance_step(Instance *i) {
        for (;;) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                int r;

                r = step(i, &error);
                if (r == SYNC_AGAIN)
                        continue;
                if (r < 0) {
                        if (!kerror_is_set(&error))
                                (void) kerror_set_errno(
                                                &error, r, "Out of memory or in an unexpected state: %m");
                        instance_fail(i, &error);
                }
                /* Before the master hears of it. A record that is being removed is not to come back. */
                if (i->unsaved && !i->removing)
                        (void) instance_save(i);
                return;
        }
}
