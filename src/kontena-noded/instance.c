/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <sys/wait.h>

#include "file-util.h"
#include "instance-internal.h"
#include "json-util.h"
#include "log.h"

static const char *const instance_state_table[_INSTANCE_STATE_MAX] = {
        [INSTANCE_PENDING] = "pending",
        [INSTANCE_PULLING] = "pulling",
        [INSTANCE_CREATING] = "creating",
        [INSTANCE_STARTING] = "starting",
        [INSTANCE_RUNNING] = "running",
        [INSTANCE_RESTARTING] = "restarting",
        [INSTANCE_STOPPING] = "stopping",
        [INSTANCE_STOPPED] = "stopped",
        [INSTANCE_FAILED] = "failed",
        [INSTANCE_EXITED] = "exited",
        [INSTANCE_REMOVED] = "removed",
};

DEFINE_STRING_TABLE_LOOKUP(instance_state, InstanceState);

Instance *instance_free(Instance *i) {
        if (!i)
                return NULL;

        instance_interrupt(i);
        i->job = job_cancel(i->job);
        i->garbage = job_cancel(i->garbage);
        i->wake = sd_event_source_disable_unref(i->wake);
        i->drain = sd_event_source_disable_unref(i->drain);
        i->unhealthy = sd_event_source_disable_unref(i->unhealthy);
        i->notify_late = sd_event_source_disable_unref(i->notify_late);
        i->health = health_stop(i->health);
        kerror_done(&i->health_trouble);
        i->notify = notify_socket_free(i->notify); /* systemd holds on to it */
        i->unit = unit_free(i->unit);
        image_unref(i->image);
        volume_plan_free(i->volumes);
        instance_record_done(&i->record);
        instance_want_free(i->want);
        json_object_put(i->want_json);
        kerror_done(&i->want_error);
        kerror_done(&i->error);
        free(i->progress);
        free(i->notify_status);
        instance_forget_log_tail(i);
        free(i->made_of);
        free(i->record_path);
        free(i->run_directory);
        free(i->directory);
        free(i->id);
        free(i);
        return NULL;
}

static int on_wake(sd_event_source *s, void *userdata) {
        instance_step(userdata);
        return 0;
}

void instance_wake(Instance *i) {
        (void) sd_event_source_set_enabled(i->wake, SD_EVENT_ONESHOT);
}

int instance_new(InstanceHost *host, const char *id, Instance **ret) {
        _cleanup_(instance_freep) Instance *i = NULL;
        int r;

        assert(host);
        assert(ret);

        r = instance_id_validate(id, NULL);
        if (r < 0)
                return r;

        i = new0(Instance, 1);
        if (!i)
                return -ENOMEM;
        i->host = host;
        i->last_exit_status = -1;
        i->id = strdup(id);
        i->directory = strjoin(host->state_directory, "/", id);
        i->run_directory = strjoin(host->run_directory, "/", id);
        i->record_path = strjoin(host->state_directory, "/", id, "/state.json");
        if (!i->id || !i->directory || !i->run_directory || !i->record_path)
                return -ENOMEM;

        r = sd_event_add_defer(host->event, &i->wake, on_wake, i);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(i->wake, SD_EVENT_OFF);
        if (r < 0)
                return r;

        r = instance_record_load(i->record_path, &i->record);
        if (r == -EBADMSG)
                log_warning("Cannot understand '%s', the instance will be made anew.", i->record_path);
        else if (r < 0)
                return log_error_errno(r, "Cannot read '%s': %m", i->record_path);
        if (i->record.generation > 0) {
                r = instance_watch_unit(i, i->record.unit);
                if (r < 0)
                        return r;
                instance_notify_adopt(i);
        }

        *ret = TAKE_PTR(i);
        return 0;
}

int instance_set_want(Instance *i, json_object *o) {
        _cleanup_(instance_want_freep) InstanceWant *want = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        /* What is missing is terminated without a word of what is wanted; what is wanted then is news. */
        if (i->want_json && json_object_equal(i->want_json, o) &&
                        (!i->terminate || (i->want && i->want->goal == GOAL_TERMINATED)))
                return 0;
        if (i->want_json) {
                r = instance_take_hooks_done(i, o);
                if (r != 0)
                        return MIN(r, 0);
        }
        json_object_put(i->want_json);
        i->want_json = json_object_get(o); /* nobody changes it in place */

        r = instance_want_parse(i->id, o, &want, &error);
        if (r == -ENOMEM)
                return r;

        instance_interrupt(i);
        if (!want || want->goal != GOAL_RUNNING)
                instance_health_stop(i); /* its settings go with the old want */
        kerror_done(&i->want_error);
        kerror_done(&i->error);
        i->failed = false;
        i->restart_requested = false;
        i->terminate = want && want->goal == GOAL_TERMINATED;
        i->disowned = i->kept = false;
        i->drain_until = i->terminate && want->drain_usec > 0 ? now_monotonic() + want->drain_usec : 0;
        i->drain = sd_event_source_disable_unref(i->drain);
        i->published = false;
        i->want_deploy_rev = want ? want->deploy_rev : instance_want_deploy_rev(o);
        if (!want)
                kerror_move(&i->want_error, &error);
        instance_want_free(i->want);
        i->want = TAKE_PTR(want);
        if (i->image_rev != i->want_deploy_rev)
                i->image = image_unref(i->image);
        i->prepared_generation = 0;
        if (!i->want || i->want->goal != GOAL_RUNNING || i->want->service_rev != i->record.service_rev)
                instance_cancel_boot(i);

        instance_wake(i);
        return 0;
}

static void terminate(Instance *i, bool disown) {
        if (i->terminate && i->drain_until == 0 && i->disowned == disown)
                return;

        instance_interrupt(i);
        instance_health_stop(i);
        instance_cancel_boot(i);
        i->terminate = true;
        i->disowned = disown;
        i->kept = i->taken_back = false;
        i->drain_until = 0;
        instance_wake(i);
}

void instance_terminate(Instance *i) {
        terminate(i, false);
}

void instance_disown(Instance *i) {
        /* What was said to go goes. */
        terminate(i, !(i->want && i->want->goal == GOAL_TERMINATED));
}

int instance_restart(Instance *i, KError *reterr) {
        if (instance_runs_once(i))
                return kerror_set(reterr, K_CONFLICT, "Instance '%s' runs once, it is a job's.", i->id);
        if (i->terminate || !i->want || i->want->goal != GOAL_RUNNING || !i->unit ||
                        unit_state_is_gone(unit_state(i->unit)))
                return kerror_set(reterr, K_CONFLICT, "Instance '%s' does not run.", i->id);

        i->restart_requested = true;
        instance_wake(i);
        return 0;
}

void instance_set_state(Instance *i, InstanceState state, const char *progress) {
        if (i->state == state && streq_ptr(i->progress, progress))
                return;

        i->state = state;
        (void) free_and_strdup(&i->progress, progress);
        i->host->changed(i, i->host->userdata);
}

const char *instance_unit(const Instance *i) {
        if (i->unit)
                return unit_name(i->unit);
        return i->want ? i->want->unit : "";
}

const char *instance_grid(const Instance *i) {
        return i->want ? i->want->grid : strempty(i->record.grid);
}

const char *instance_stack(const Instance *i) {
        return i->want ? i->want->stack : strempty(i->record.stack);
}

const char *instance_service(const Instance *i) {
        return i->want ? i->want->service : strempty(i->record.service);
}

unsigned instance_number(const Instance *i) {
        return i->want ? i->want->number : i->record.number;
}

const char *instance_image(const Instance *i) {
        return i->record.image ?: i->want ? i->want->spec->image : "";
}

const char *instance_image_digest(const Instance *i) {
        return strempty(i->record.image_digest);
}

const char *instance_next_image_digest(const Instance *i) {
        return i->image ? i->image->digest : "";
}

const char *instance_rollback_digest(const Instance *i) {
        return i->want ? strempty(i->want->rollback_digest) : "";
}

const char *instance_address(const Instance *i) {
        return i->want ? strempty(i->want->address) : "";
}

static const KError *shown_error(const Instance *i) {
        return kerror_is_set(&i->error) ? &i->error : &i->health_trouble;
}

const char *instance_error(const Instance *i) {
        const KError *error = shown_error(i);

        return kerror_is_set(error) ? kerror_message(error) : "";
}

const char *instance_progress(const Instance *i) {
        return strempty(i->progress);
}

const char *instance_health(const Instance *i) {
        return health_state_to_string(health_state(i->health));
}

uint32_t instance_main_pid(const Instance *i) {
        return i->unit && unit_state_is_running(unit_state(i->unit)) ? unit_state(i->unit)->main_pid : 0;
}

uint64_t instance_restarts(const Instance *i) {
        return i->record.restarts;
}

uint64_t instance_deploy_rev(const Instance *i) {
        return i->want_deploy_rev > 0 ? i->want_deploy_rev : i->record.deploy_rev;
}

const char *instance_id(const Instance *i) {
        return i->id;
}

InstanceState instance_state_of(const Instance *i) {
        return i->failed && !i->tail ? INSTANCE_FAILED : i->state;
}

bool instance_is_wanted(const Instance *i) {
        return !i->terminate;
}

bool instance_is_disowned(const Instance *i) {
        return i->disowned;
}

void instance_log(Instance *i, const char *message_id, int level, const char *format, ...) {
        _cleanup_free_ char *message = NULL, *service = NULL, *id = NULL, *grid = NULL;
        va_list ap;

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        service = strjoin("KONTENA_SERVICE=", instance_service(i));
        id = strjoin("KONTENA_INSTANCE_ID=", i->id);
        grid = strjoin("KONTENA_GRID=", instance_grid(i));
        if (!message || !service || !id || !grid)
                return;

        (void) log_struct(level, 0, FIELDS(grid, service, id, message_id), "%s/%s-%u: %s", instance_stack(i),
                        instance_service(i), instance_number(i), message);
}

/* An event for the master, and the same sentence in the journal. */
void instance_say(Instance *i, const char *message_id, const char *severity, const char *type,
                const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        int level = streq(severity, "error") ? LOG_ERR : streq(severity, "warning") ? LOG_WARNING : LOG_INFO;
        va_list ap;

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        if (!message)
                return;

        instance_log(i, message_id, level, "%s", message);
        i->host->event_happened(i,
                        &(InstanceEvent){ .severity = severity, .type = type, .message = message },
                        i->host->userdata);
}

/* systemd has killed what did not heed its signal: whoever wonders why a deploy takes long, or what became of the data, reads it here. */
void instance_tell_how_it_stopped(Instance *i) {
        if (i->was_running && i->unit && streq_ptr(unit_state(i->unit)->result, "timeout"))
                instance_say(i, NULL, "warning", "service:stop_instance",
                                "The container did not heed its stop signal within its stop_grace_period "
                                "and was "
                                "killed.");
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Instance *i = userdata;

        i->retry = sd_event_source_disable_unref(i->retry);
        i->image = image_unref(i->image); /* the registry may have another one by now */
        instance_step(i);
        return 0;
}

void instance_retry_later(Instance *i) {
        int r;

        i->retry = sd_event_source_disable_unref(i->retry);
        r = sd_event_add_time_relative(
                        i->host->event, &i->retry, CLOCK_MONOTONIC, RETRY_USEC, USEC_PER_SEC, on_retry, i);
        if (r < 0)
                log_error_errno(r, "Cannot try instance '%s' again: %m", i->id);
}

void instance_fail(Instance *i, KError *error) {
        bool news = !i->failed || !streq(kerror_message(&i->error), kerror_message(error));

        i->probe = probe_cancel(i->probe);
        if (instance_runs_once(i) && !i->terminate) {
                instance_run_failed(i, error);
                kerror_done(error);
                return;
        }
        i->progress = mfree(i->progress);
        i->failed = true;
        kerror_move(&i->error, error);
        if (!kerror_is_set(&i->error))
                (void) kerror_set(&i->error, K_INTERNAL,
                                "The instance cannot be brought to its desired state.");
        if (news)
                instance_say(i, NULL, "error", "service:create_instance", "%s", kerror_message(&i->error));
        i->host->changed(i, i->host->userdata);

        instance_retry_later(i);
}

static void on_log_tail(LogTail *t, const char *text, void *userdata) {
        Instance *i = userdata;

        i->tail = NULL;
        if (!isempty(text))
                (void) free_and_strdup(&i->log_tail, text);
        if (i->record.run_over)
                instance_wake(i);
        i->host->changed(i, i->host->userdata);
}

void instance_forget_log_tail(Instance *i) {
        i->tail = log_tail_cancel(i->tail);
        i->log_tail = mfree(i->log_tail);
}

void instance_read_log_tail(Instance *i) {
        uint64_t since = i->start_asked;
        int r;

        /* What ends again and again at once: the lines of the first time are as good. */
        if (!i->host->log_tails || i->tail)
                return;
        /* Somebody else has started it: the first words were before its start was seen. */
        if (since == 0 && i->record.started_at > 5 * USEC_PER_SEC)
                since = i->record.started_at - 5 * USEC_PER_SEC;
        r = log_tail_start(i->host->event, i->id, since, i->run_directory, on_log_tail, i, &i->tail);
        if (r < 0)
                instance_log(i, NULL, LOG_WARNING, "The last lines of the container cannot be told: %s",
                                strerror(-r));
}

int instance_save(Instance *i) {
        int r;

        r = mkdir_p(i->directory, 0700);
        if (r >= 0)
                r = instance_record_save(i->record_path, &i->record);
        if (r < 0)
                return log_error_errno(r, "Cannot write '%s': %m", i->record_path);
        i->unsaved = false;
        return 0;
}

static int add_error(json_object *o, const KError *error) {
        json_object *e;
        int r;

        if (!kerror_is_set(error))
                return json_add_string(o, "error", NULL);

        e = json_object_new_object();
        r = json_add(o, "error", e);
        if (r >= 0)
                r = json_add_string(e, "code", kerror_bus_name(error->code));
        if (r >= 0)
                r = json_add_string(e, "message", kerror_message(error));
        return r;
}

/* Until it has stayed for a moment the deploy that has started it has no outcome. */
static bool is_on_probation(const Instance *i) {
        return i->state == INSTANCE_RUNNING && !i->record.proven && !instance_runs_once(i);
}

int instance_status(const Instance *i, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "id", i->id);
        if (r >= 0)
                r = json_add_u64(o, "deploy_rev", is_on_probation(i) ? 0 : instance_deploy_rev(i));
        if (r >= 0)
                r = json_add_u64(o, "service_rev", i->record.service_rev);
        if (r >= 0)
                r = json_add_string(o, "state", instance_state_to_string(instance_state_of(i)));
        if (r >= 0)
                r = json_add_string(o, "unit", instance_unit(i));
        if (r >= 0)
                r = json_add_u64(o, "pid", instance_main_pid(i));
        if (r >= 0)
                r = json_add_string(o, "progress", i->progress);
        if (r >= 0)
                r = add_error(o, shown_error(i));
        if (r >= 0)
                r = json_add_u64(o, "restarts", i->record.restarts);
        if (r >= 0 && i->last_exit_status >= 0)
                r = json_add_i64(o, "exit_status", i->last_exit_status);
        else if (r >= 0)
                r = json_add_string(o, "exit_status", NULL);
        if (r >= 0)
                r = json_add_u64(o, "oom_kills", i->record.oom_kills);
        if (r >= 0)
                r = json_add_u64(o, "started_at", i->record.started_at);
        if (r >= 0)
                r = json_add_string(o, "image_digest", i->record.image_digest);
        if (r >= 0)
                r = json_add_string(o, "health", instance_health(i));
        if (r >= 0)
                r = json_add_u64(o, "epoch", i->record.epoch);
        if (r >= 0 && i->record.hooks_done)
                r = json_add_strv(o, "hooks_done", i->record.hooks_done);
        if (r >= 0 && i->log_tail)
                r = json_add_string(o, "log_tail", i->log_tail);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
