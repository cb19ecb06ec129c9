/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A master on a private bus for the tests of kontenactl: answers from a JSON file, plays a deploy step by step, and writes down what
 * it was asked. Not installed.
 *
 *   {"answers": {"ListGrids": ["aa{sv}", [...]], ...},             signature and value
 *    "errors": {"RemoveNode": ["io.kontena.Error.InUse", "sentence"]},
 *    "properties": {"/path": {"Version": ["s", "2.0.0"]}},
 *    "steps": [{"after_ms": 10, "set": {...}}, {"finish": ["success", ""]}, {"logs": [...], "end": true},
 *              {"event": {...}}, {"exit": true}, {"data": [2, [104, 105]]}, {"credited": 2}, {"ended": 0}],
 *    "early": true}                                                all steps before the call that starts them is answered
 *
 * Steps begin with a call of DeployService, ScaleService, OpenLogs, ListEvents or ExportVolume; "credited" waits for it; with "at_once" when the name is had. */
#include <stdio.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "bus-json.h"
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define DEPLOY_PATH  MASTER_PATH "/deploy/d1"
#define DEPLOY_IFACE "io.kontena.Master1.Deploy"
#define INPUT_MAX    (8U * 1024U * 1024U)

typedef struct Fake {
        sd_bus *bus;
        sd_event *event;
        json_object *input, *deploy;
        FILE *record;
        char *client;
        size_t step;
        uint64_t credited; /* bytes of streams */
} Fake;

static const struct {
        const char *name, *signature;
} deploy_properties[] = {
        { "Id", "s" },
        { "State", "s" },
        { "Reason", "s" },
        { "Instances", "a(ussss)" },
};

static const char *deploy_signature(const char *name) {
        FOREACH_ARRAY(p, deploy_properties, ELEMENTSOF(deploy_properties))
                if (streq(p->name, name))
                        return p->signature;
        return "s";
}

static int append_entry(sd_bus_message *m, const char *name, const char *signature, json_object *value) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", name);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'v', signature);
        if (r < 0)
                return r;
        r = bus_json_append(m, signature, value, NULL);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_deploy(sd_bus_message *m, json_object *properties) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        json_object_object_foreach(properties, name, value) {
                r = append_entry(m, name, deploy_signature(name), value);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(m);
}

static int emit_changed(Fake *f, json_object *set) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(
                        f->bus, &m, DEPLOY_PATH, "org.freedesktop.DBus.Properties", "PropertiesChanged");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", DEPLOY_IFACE);
        if (r < 0)
                return r;
        r = append_deploy(m, set);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "as", 0);
        return r < 0 ? r : sd_bus_send(f->bus, m, NULL);
}

static int emit_logs(Fake *f, json_object *step) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(f->bus, &m, MASTER_PATH, MASTER_MANAGER, "LogEntries");
        if (r < 0)
                return r;
        r = sd_bus_message_set_destination(m, f->client);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", "stream1");
        if (r < 0)
                return r;
        r = bus_json_append(m, "a(tssss)", json_object_object_get(step, "logs"), NULL);
        if (r < 0)
                return r;
        r = sd_bus_message_append(
                        m, "b", (int) json_object_get_boolean(json_object_object_get(step, "end")));
        return r < 0 ? r : sd_bus_send(f->bus, m, NULL);
}

static int emit_event(Fake *f, json_object *event) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(f->bus, &m, MASTER_PATH, MASTER_MANAGER, "Event");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", "demo");
        if (r < 0)
                return r;
        r = bus_json_append(m, "a{sv}", event, NULL);
        return r < 0 ? r : sd_bus_send(f->bus, m, NULL);
}

static int emit_stream(Fake *f, json_object *data, json_object *status) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        json_object *bytes = data ? json_object_array_get_idx(data, 1) : NULL;
        uint8_t buffer[4096];
        size_t n = 0;
        int r;

        r = sd_bus_message_new_signal(
                        f->bus, &m, MASTER_PATH, MASTER_MANAGER, data ? "StreamData" : "StreamEnded");
        if (r >= 0)
                r = sd_bus_message_set_destination(m, f->client);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "stream1");
        if (r < 0)
                return r;
        if (!data)
                r = sd_bus_message_append(m, "iss", (int32_t) json_object_get_int(status), "", "");
        else {
                r = sd_bus_message_append(
                                m, "u", (uint32_t) json_object_get_int(json_object_array_get_idx(data, 0)));
                for (; n < MIN(json_object_array_length(bytes), sizeof(buffer)); n++)
                        buffer[n] = (uint8_t) json_object_get_int(json_object_array_get_idx(bytes, n));
                if (r >= 0)
                        r = sd_bus_message_append_array(m, 'y', buffer, n);
        }
        return r < 0 ? r : sd_bus_send(f->bus, m, NULL);
}

/* Returns 1 when there is a next step. */
static int play(Fake *f) {
        json_object *steps = json_object_object_get(f->input, "steps"), *step, *set, *finish;
        int r = 0;

        step = steps && f->step < json_object_array_length(steps) ? json_object_array_get_idx(steps, f->step)
                                                                  : NULL;
        if (!step)
                return 0;
        f->step++;

        set = json_object_object_get(step, "set");
        finish = json_object_object_get(step, "finish");
        if (set) {
                json_object_object_foreach(set, key, value)
                        (void) json_object_object_add(f->deploy, key, json_object_get(value));
                r = emit_changed(f, set);
        } else if (finish) {
                const char *state = json_object_get_string(json_object_array_get_idx(finish, 0));
                const char *reason = json_object_get_string(json_object_array_get_idx(finish, 1));

                (void) json_add_string(f->deploy, "State", state);
                (void) json_add_string(f->deploy, "Reason", reason);
                r = sd_bus_emit_signal(f->bus, DEPLOY_PATH, DEPLOY_IFACE, "Finished", "ss", state, reason);
        } else if (json_object_object_get(step, "logs"))
                r = emit_logs(f, step);
        else if (json_object_object_get(step, "event"))
                r = emit_event(f, json_object_object_get(step, "event"));
        else if (json_object_object_get(step, "data") || json_object_object_get(step, "ended"))
                r = emit_stream(f, json_object_object_get(step, "data"),
                                json_object_object_get(step, "ended"));
        else if (json_object_object_get(step, "exit")) {
                (void) sd_bus_flush(f->bus);
                r = sd_event_exit(f->event, 0);
        }

        return r < 0 ? r : 1;
}

static int schedule(Fake *f);

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        Fake *f = userdata;
        int r = play(f);

        return r > 0 ? schedule(f) : r;
}

static int schedule(Fake *f) {
        json_object *steps = json_object_object_get(f->input, "steps"), *step, *after;

        if (!steps || f->step >= json_object_array_length(steps))
                return 0;
        step = json_object_array_get_idx(steps, f->step);
        if ((uint64_t) json_object_get_int64(json_object_object_get(step, "credited")) > f->credited)
                return 0;
        after = json_object_object_get(step, "after_ms");
        return sd_event_add_time_relative(f->event, NULL, CLOCK_MONOTONIC,
                        (uint64_t) json_object_get_int64(after) * USEC_PER_MSEC, 1, on_time, f);
}

static int begin(Fake *f) {
        int r;

        if (!json_object_get_boolean(json_object_object_get(f->input, "early")))
                return schedule(f);
        do
                r = play(f);
        while (r > 0);
        return r;
}

/* A step may wait for it. */
static int take_credit(Fake *f, sd_bus_message *m) {
        uint64_t before = f->credited, wanted;
        json_object *steps = json_object_object_get(f->input, "steps");
        const char *stream;
        uint32_t bytes;
        int r;

        r = sd_bus_message_rewind(m, true);
        if (r >= 0)
                r = sd_bus_message_read(m, "su", &stream, &bytes);
        if (r < 0)
                return r;
        f->credited += bytes;
        wanted = (uint64_t) json_object_get_int64(
                        json_object_object_get(json_object_array_get_idx(steps, f->step), "credited"));
        return wanted > before && wanted <= f->credited ? schedule(f) : 0;
}

static void write_down(Fake *f, sd_bus_message *m) {
        _cleanup_json_ json_object *call = json_object_new_array();

        (void) json_append_string(call, sd_bus_message_get_member(m));
        for (;;) {
                json_object *o;

                if (bus_json_read(m, &o, NULL) < 0)
                        break;
                (void) json_object_array_add(call, o);
        }
        fprintf(f->record, "%s\n", json_object_to_json_string_ext(call, JSON_C_TO_STRING_PLAIN));
        (void) fflush(f->record);
}

static int reply_properties(Fake *f, sd_bus_message *m) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        json_object *all = json_object_object_get(f->input, "properties"), *object;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;

        if (streq(sd_bus_message_get_path(m), DEPLOY_PATH))
                r = append_deploy(reply, f->deploy);
        else {
                object = json_object_object_get(all, sd_bus_message_get_path(m));
                if (!object)
                        return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_UNKNOWN_OBJECT, "Unknown object.");
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
                if (r < 0)
                        return r;
                json_object_object_foreach(object, name, pair) {
                        r = append_entry(reply, name,
                                        json_object_get_string(json_object_array_get_idx(pair, 0)),
                                        json_object_array_get_idx(pair, 1));
                        if (r < 0)
                                return r;
                }
                r = sd_bus_message_close_container(reply);
        }

        return r < 0 ? r : sd_bus_send(f->bus, reply, NULL);
}

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        json_object *answer, *error;
        const char *member = sd_bus_message_get_member(m);
        Fake *f = userdata;
        int r;

        if (!sd_bus_message_is_method_call(m, NULL, NULL))
                return 0;
        if (streq(member, "GetAll")) {
                r = reply_properties(f, m);
                return r < 0 ? r : 1;
        }

        write_down(f, m);
        (void) free_and_strdup(&f->client, sd_bus_message_get_sender(m));
        error = json_object_object_get(json_object_object_get(f->input, "errors"), member);
        if (error)
                return sd_bus_reply_method_errorf(m,
                                json_object_get_string(json_object_array_get_idx(error, 0)), "%s",
                                json_object_get_string(json_object_array_get_idx(error, 1)));

        if (STR_IN_SET(member, "DeployService", "ScaleService", "OpenLogs", "ListEvents", "ExportVolume") &&
                        f->step == 0) {
                r = begin(f);
                if (r < 0)
                        return r;
        }

        if (streq(member, "CreditStream")) {
                r = take_credit(f, m);
                return r < 0 ? r : 1;
        }

        r = sd_bus_message_new_method_return(m, &reply);
        if (r < 0)
                return r;
        answer = json_object_object_get(json_object_object_get(f->input, "answers"), member);
        if (answer)
                r = bus_json_append(reply, json_object_get_string(json_object_array_get_idx(answer, 0)),
                                json_object_array_get_idx(answer, 1), NULL);
        else if (STR_IN_SET(member, "DeployService", "ScaleService"))
                r = sd_bus_message_append(reply, "o", DEPLOY_PATH);
        else if (STR_IN_SET(member, "OpenLogs", "ExportVolume"))
                r = sd_bus_message_append(reply, "s", "stream1");
        if (r < 0)
                return r;
        r = sd_bus_send(f->bus, reply, NULL);
        return r < 0 ? r : 1;
}

static int run(Fake *f, const char *input, const char *record) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file(input, INPUT_MAX, &text, &size);
        if (r < 0)
                return r;
        r = json_parse(text, size, INPUT_MAX, &f->input, NULL);
        if (r < 0)
                return r;
        f->deploy = json_object_get(json_object_object_get(f->input, "deploy")) ?: json_object_new_object();
        f->record = fopen(record, "ae");
        if (!f->record)
                return -errno;

        r = sd_event_default(&f->event);
        if (r < 0)
                return r;
        r = sd_bus_open_system(&f->bus);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback(f->bus, NULL, MASTER_PATH, on_call, f);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(f->bus, f->event, 0);
        if (r < 0)
                return r;
        r = sd_bus_request_name(f->bus, MASTER_NAME, 0);
        if (r < 0)
                return r;
        puts("ready");
        (void) fflush(stdout);
        if (json_object_get_boolean(json_object_object_get(f->input, "at_once"))) {
                r = begin(f);
                if (r < 0)
                        return r;
        }

        return sd_event_loop(f->event);
}

int main(int argc, char *argv[]) {
        Fake f = {};
        int r;

        if (argc != 3)
                return EXIT_FAILURE;

        r = run(&f, argv[1], argv[2]);
        if (r < 0)
                fprintf(stderr, "fake master: %s\n", strerror(-r));
        sd_bus_flush_close_unref(f.bus);
        sd_event_unref(f.event);
        json_object_put(f.input);
        json_object_put(f.deploy);
        free(f.client);
        if (f.record)
                (void) fclose(f.record);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
