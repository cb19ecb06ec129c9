/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authorities.h"
#include "file-util.h"
#include "inspect.h"
#include "join-token.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log-stream.h"
#include "log.h"
#include "node-report.h"
#include "noded-internal.h"
#include "streams.h"
#include "volume-manager.h"

int manager_send(const char *method, json_object *params, void *userdata) {
        Manager *m = userdata;

        return channel_notify(m->channel, method, params);
}

/* {"epoch": E, "desired": DESIRED}: of hello, desired.get and desired.replace. */
static int take_full_state(Manager *m, json_object *o, KError *reterr) {
        json_object *desired;
        uint64_t epoch;
        int r;

        r = json_get_u64(o, "epoch", &epoch, reterr);
        if (r >= 0)
                r = json_get_object(o, "desired", &desired, reterr);
        if (r >= 0)
                r = desired_replace(m->desired, epoch, desired, reterr);
        if (r < 0)
                return r;

        m->retained = false;
        manager_schedule_reconcile(m);
        return 0;
}

static void on_full_state(Channel *c, json_object *result, const KError *error, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Manager *m = userdata;

        m->full_state_asked = false;
        if (!result) {
                /* A lost connection begins with hello again; otherwise the next gap asks again. */
                log_warning("The master did not send the desired state: %s", kerror_message(error));
                return;
        }
        if (take_full_state(m, result, &e) < 0)
                log_error("The master's desired state cannot be used, keeping the old one: %s",
                                kerror_message(&e));
}

static void ask_full_state(Manager *m) {
        int r;

        if (m->full_state_asked)
                return;
        r = channel_call(m->channel, "desired.get", json_object_new_object(), CHANNEL_CALL_TIMEOUT_USEC * 6,
                        on_full_state, m);
        if (r < 0)
                log_warning_errno(r, "Cannot ask the master for the desired state: %m");
        else
                m->full_state_asked = true;
}

static void on_hello(Channel *c, json_object *result, const KError *error, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Manager *m = userdata;

        if (!result) {
                log_warning("The master did not answer our greeting: %s", kerror_message(error));
                return;
        }
        if (take_full_state(m, result, &e) < 0) {
                log_error("The master's desired state cannot be used, keeping the old one: %s",
                                kerror_message(&e));
                return;
        }
        channel_set_ready(c);
}

static int say_hello(Manager *m) {
        _cleanup_json_ json_object *params = json_object_new_object(), *instances = NULL, *report = NULL,
                                   *volumes = NULL;
        int r;

        if (!params)
                return -ENOMEM;
        r = node_report_build(m, &report);
        if (r >= 0)
                r = manager_all_status(m, &instances);
        if (r >= 0)
                r = volume_manager_status(m->volumes, &volumes);
        if (r >= 0)
                r = json_add(params, "report", TAKE_PTR(report));
        if (r >= 0)
                r = json_add_u64(params, "epoch", desired_epoch(m->desired));
        if (r >= 0)
                r = json_add(params, "instances", TAKE_PTR(instances));
        if (r >= 0)
                r = json_add(params, "volumes", TAKE_PTR(volumes));
        if (r < 0)
                return r;

        return channel_call(m->channel, "node.hello", TAKE_PTR(params), CHANNEL_CALL_TIMEOUT_USEC * 6,
                        on_hello, m);
}

void manager_channel_state(Channel *c, ChannelState state, void *userdata) {
        _cleanup_free_ char *address = NULL;
        InstanceEntry *e, *next;
        Manager *m = userdata;
        int r;

        switch (state) {
        case CHANNEL_OPEN:
                m->full_state_asked = false;
                r = say_hello(m);
                if (r < 0)
                        log_error_errno(r, "Cannot greet the master: %m");
                break;
        case CHANNEL_READY:
                address = master_address(channel_master_url(c));
                log_info("Connected to %s as '%s'.", strna(address), m->host.node_name);
                m->was_connected = true;
                reporter_open(m->reporter);
                volume_manager_connected(m->volumes);
                /* What changed between our greeting and the answer. */
                HASH_ITER(hh, m->instances, e, next)
                        reporter_instance_changed(m->reporter, e->id);
                break;
        default:
                if (m->was_connected)
                        log_warning("The connection to the master is gone, everything here runs on: %s",
                                        channel_status_text(c) ?: "No reason is known.");
                m->was_connected = false;
                reporter_close(m->reporter);
                log_streams_close_all(m->logs);
                streams_close_all(m->streams);
                manager_forget_image_questions(m);
                manager_forget_image_listings(m);
                manager_forget_link_questions(m);
                volume_manager_disconnected(m->volumes);
                break;
        }

        manager_update_status(m);
}

static void reply(Channel *c, uint64_t id, const KError *error) {
        int r;

        if (id == 0)
                return;
        r = kerror_is_set(error) ? channel_reply_error(c, id, error)
                                 : channel_reply(c, id, json_object_new_object());
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
}

static void method_desired_replace(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (take_full_state(m, params, &error) < 0)
                log_error("The master's desired state cannot be used, keeping the old one: %s",
                                kerror_message(&error));
        reply(m->channel, id, &error);
}

static void method_desired_update(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = desired_update(m->desired, params, &error);
        if (r == DESIRED_APPLIED)
                manager_schedule_reconcile(m);
        else if (r == DESIRED_GAP)
                ask_full_state(m);
        else if (r < 0) {
                log_error("A change of the desired state cannot be used, asking for the whole: %s",
                                kerror_message(&error));
                ask_full_state(m);
        }
        reply(m->channel, id, &error);
}

static void method_instance_restart(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *instance_id;
        Instance *i;

        if (json_get_string(params, "id", &instance_id, &error) >= 0) {
                i = manager_find_instance(m, instance_id);
                if (!i)
                        (void) kerror_set(&error, K_NO_SUCH_INSTANCE, "This node has no instance '%.64s'.",
                                        instance_id);
                else
                        (void) instance_restart(i, &error);
        }
        reply(m->channel, id, &error);
}

static void method_authorities_set(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *pem;

        if (json_get_string(params, "certificates", &pem, &error) >= 0 &&
                        authorities_replace(m->config->state_directory, pem, &error) >= 0) {
                log_info("The master has said whom to trust from now on.");
                manager_report_soon(m);
        }
        reply(m->channel, id, &error);
}

static void method_logs_open(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) log_streams_open(m->logs, params, &error);
        reply(m->channel, id, &error);
}

static void method_logs_close(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) log_streams_close(m->logs, params, &error);
        reply(m->channel, id, &error);
}

static const struct {
        const char *name;
        void (*function)(Manager *m, uint64_t id, json_object *params);
} methods[] = {
        { "desired.replace", method_desired_replace },
        { "desired.update", method_desired_update },
        { "authorities.set", method_authorities_set },
        { "instance.restart", method_instance_restart },
        { "instance.inspect", inspect_instance },
        { "instance.top", inspect_processes },
        { "logs.open", method_logs_open },
        { "logs.close", method_logs_close },
        { "image.resolve", manager_image_resolve },
        { "image.list", manager_image_list },
        { "image.prune", manager_image_prune },
        { "volume.snapshot", manager_volume_snapshot },
        { "links.get", manager_links_get },
};

void manager_channel_method(
                Channel *c, uint64_t id, const char *method, json_object *params, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Manager *m = userdata;

        for (size_t i = 0; i < ELEMENTSOF(methods); i++)
                if (streq(methods[i].name, method)) {
                        methods[i].function(m, id, params);
                        return;
                }
        if (streams_method(m->streams, id, method, params))
                return;

        /* A newer master may know more. */
        log_debug("The master called the unknown method '%s'.", method);
        (void) kerror_set(&error, K_NOT_SUPPORTED, "This node does not know '%.64s'.", method);
        reply(c, id, &error);
}
