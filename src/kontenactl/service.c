/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "bus-json.h"
#include "confirm.h"
#include "ctl.h"
#include "deploy-follow.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "service-options.h"
#include "string-util.h"

static int format_count(json_object *row, json_object *value, char **ret) {
        bool job = streq(row_string(row, "type"), "job"); /* wants none between its runs */
        char *s = job ? strprintf("%" PRIi64, row_int(row, "running"))
                      : strprintf("%" PRIi64 "/%" PRIi64, row_int(row, "running"), row_int(row, "count"));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

static Color color_count(json_object *row, json_object *value) {
        if (streq(row_string(row, "type"), "job") || !streq(row_string(row, "state"), "running") ||
                        row_int(row, "running") >= row_int(row, "count"))
                return COLOR_NONE;
        return row_bool(row, "deploying") ? COLOR_YELLOW : COLOR_RED;
}

static int format_state(json_object *row, json_object *value, char **ret) {
        bool ready = streq(row_string(row, "type"), "job") && streq(row_string(row, "state"), "running");
        char *s = row_bool(row, "deploying") ? strdup("deploying")
                                             : strdup(ready ? "job" : row_string(row, "state"));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

static Color color_service_state(json_object *row, json_object *value) {
        return row_bool(row, "deploying") ? COLOR_YELLOW : state_color(row, value);
}

static Color color_problem(json_object *row, json_object *value) {
        return COLOR_RED;
}

static const TableColumn service_columns[] = {
        { .title = "SERVICE", .key = "name", .format = format_service_name, .shrink = 16 },
        { .title = "INSTANCES",
                        .key = "running",
                        .format = format_count,
                        .color = color_count,
                        .right = true },
        { .title = "STATE", .key = "state", .format = format_state, .color = color_service_state },
        { .title = "STATEFUL", .key = "stateful", .format = format_yes_no },
        { .title = "IMAGE", .key = "image", .shrink = 16 },
        { .title = "PORTS", .key = "ports", .shrink = 12 },
        { .title = "UPDATED", .key = "updated_at", .format = format_relative_time },
        { .title = "PROBLEM", .key = "problem", .color = color_problem, .shrink = 20 },
        {},
};

static const TableColumn service_fields[] = {
        { .title = "Service", .key = "name", .format = format_service_name },
        { .title = "Grid", .key = "grid" },
        { .title = "ID", .key = "id" },
        { .title = "State", .key = "state", .format = format_state, .color = color_service_state },
        { .title = "Running", .key = "running", .format = format_count, .color = color_count },
        { .title = "Problem", .key = "problem", .color = color_problem },
        { .title = "Image", .key = "image" },
        { .title = "Strategy", .key = "strategy" },
        { .title = "Stateful", .key = "stateful", .format = format_yes_no },
        { .title = "Ports", .key = "ports" },
        { .title = "Revision", .key = "revision" },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        { .title = "Updated", .key = "updated_at", .format = format_absolute_time },
        { .title = "Deployed", .key = "deployed_at", .format = format_absolute_time },
        {},
};

static Color color_error(json_object *row, json_object *value) {
        return COLOR_RED;
}

/* While it is on its way, how far it is says more than the state. */
static int format_instance_state(json_object *row, json_object *value, char **ret) {
        const char *progress = row_string(row, "progress"), *state = row_string(row, "state");
        char *s;

        if (streq(state, "running") && streq(row_string(row, "health"), "unhealthy"))
                state = "unhealthy";
        s = strdup(isempty(progress) || STR_IN_SET(state, "running", "stopped", "failed", "unhealthy")
                                        ? state
                                        : progress);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

static Color color_instance_state(json_object *row, json_object *value) {
        return streq(row_string(row, "health"), "unhealthy") ? COLOR_RED : state_color(row, value);
}

static int format_error(json_object *row, json_object *value, char **ret) {
        if (json_object_is_type(value, json_type_object))
                return json_value_to_text(json_object_object_get(value, "message"), ret);
        return json_value_to_text(value, ret);
}

static const TableColumn instance_columns[] = {
        { .title = "INSTANCE", .key = "name", .shrink = 16 },
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "STATE",
                        .key = "state",
                        .format = format_instance_state,
                        .color = color_instance_state,
                        .shrink = 12 },
        { .title = "ADDRESS", .key = "address" },
        { .title = "STARTED", .key = "started_at", .format = format_relative_time },
        { .title = "RESTARTS", .key = "restarts", .right = true },
        { .title = "UNIT", .key = "unit", .shrink = 20 },
        { .title = "ERROR", .key = "error", .format = format_error, .color = color_error, .shrink = 20 },
        {},
};

int command_service_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL, *chosen = NULL;
        const char *grid, *stack = arguments_get(a, "stack");
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "ListServices", &rows, reterr, "s", grid);
        if (r < 0)
                return r;

        if (stack) {
                chosen = json_object_new_array();
                FOREACH_JSON_ARRAY(row, rows)
                        if (streq(row_string(row, "stack"), stack) &&
                                        json_append(chosen, json_object_get(row)) < 0)
                                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        return ctl_print_rows(c, service_columns, chosen ?: rows,
                        "There are no services; make one with: kontenactl service create NAME IMAGE",
                        reterr);
}

/* The settings, as far as they are not what everybody has. */
static void print_spec(json_object *spec) {
        static const char *const shown_above[] = { "image", "count", "stateful", "strategy", "ports" };
        static const char *const bytes[] = { "memory", "memory_swap", "shm_size" };
        bool heading = false;

        json_object_object_foreach(spec, key, value) {
                _cleanup_free_ char *text = NULL, *clean = NULL;
                bool list = json_object_is_type(value, json_type_array);
                bool object = json_object_is_type(value, json_type_object);
                bool skip = list ? json_object_array_length(value) == 0
                                 : !value || (!object && !json_object_get_boolean(value));

                /* Nought is not the default here. */
                if (streq(key, "drain") && value)
                        skip = false;

                FOREACH_ARRAY(k, shown_above, ELEMENTSOF(shown_above))
                        skip = skip || streq(*k, key);
                if (skip)
                        continue;

                FOREACH_ARRAY(k, bytes, ELEMENTSOF(bytes))
                        if (streq(*k, key))
                                (void) format_bytes(spec, value, &text);
                if (!text && service_part_to_text(key, value, &text) < 0)
                        continue;
                if (!text && !object && json_value_to_text(value, &text) < 0)
                        continue;
                clean = text ? text_escape(text, /* keep_newlines= */ false) : NULL;
                if (!clean)
                        continue;
                if (!heading)
                        puts("\nSettings:");
                heading = true;
                printf("  %s: %s\n", key, clean);
        }
}

int command_service_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_json_ json_object *service = NULL;
        json_object *instances, *spec;
        int r;

        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "GetService", &service, reterr, "sss", n.grid, n.stack, n.service);
        if (r < 0)
                return r;

        r = ctl_print_record(c, service_fields, service, reterr);
        if (r < 0 || c->json != JSON_OFF)
                return r;

        spec = json_object_object_get(service, "spec");
        if (json_object_is_type(spec, json_type_object))
                print_spec(spec);

        instances = json_object_object_get(service, "instances");
        if (!json_object_is_type(instances, json_type_array))
                return 0;
        putchar('\n');
        return ctl_print_rows(c, instance_columns, instances, "It has no instances yet; deploy it.", reterr);
}

static int send_spec(Ctl *c, const char *method, const ServiceName *n, json_object *spec, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sss", n->grid, n->stack, n->service);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", spec, reterr);
        if (r < 0)
                return r;
        return ctl_send(c, m, NULL, reterr);
}

static int deploy_service(Ctl *c, const Arguments *a, const ServiceName *n, bool force, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *options = json_object_new_object();
        FollowRequest f;
        int r;

        r = follow_request_init(&f, a, reterr);
        if (r < 0)
                return r;
        if (!options || (force && json_add_bool(options, "force", true) < 0) ||
                        (arguments_has(a, "accept-data-loss") &&
                                        json_add_bool(options, "accept_loss", true) < 0))
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        r = ctl_message(c, "DeployService", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sss", n->grid, n->stack, n->service);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r < 0)
                return r;

        f.service = n;
        f.call = m;
        return deploy_follow(c, &f, reterr);
}

int command_service_create(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_json_ json_object *spec = NULL;
        int r;

        r = service_options_to_spec(a, &spec, reterr);
        if (r < 0)
                return r;
        if (arguments_has(a, "deploy") && streq(row_string(spec, "type"), "job"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A job is run, not deployed: leave out --deploy.");
        r = json_add_string(spec, "image", arguments_arg(a, 1));
        if (r < 0)
                return kerror_set_errno(reterr, r, "Out of memory.");
        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;

        r = send_spec(c, "CreateService", &n, spec, reterr);
        if (r < 0)
                return r;

        if (arguments_has(a, "deploy"))
                return deploy_service(c, a, &n, /* force= */ false, reterr);
        if (streq(row_string(spec, "type"), "job")) {
                ctl_say(c, "Job '%s' is made. %s: kontenactl job run %s", arguments_arg(a, 0),
                                json_object_object_get(spec, "schedule")
                                                ? "It runs by its schedule, or now by"
                                                : "Run it with",
                                arguments_arg(a, 0));
                return 0;
        }
        ctl_say(c, "Service '%s' is made. Start it with: kontenactl service deploy %s", arguments_arg(a, 0),
                        arguments_arg(a, 0));
        return 0;
}

/* What is not known is none. */
static bool is_job(Ctl *c, const ServiceName *n) {
        _cleanup_json_ json_object *service = NULL;

        return ctl_call_json(c, "GetService", &service, NULL, "sss", n->grid, n->stack, n->service) >= 0 &&
               streq(row_string(service, "type"), "job");
}

int command_service_update(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_json_ json_object *spec = NULL;
        int r;

        r = service_options_to_spec(a, &spec, reterr);
        if (r < 0)
                return r;
        if (json_object_object_length(spec) == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Nothing to update: see kontenactl service update --help.");
        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;

        r = send_spec(c, "UpdateService", &n, spec, reterr);
        if (r < 0)
                return r;

        if (arguments_has(a, "deploy"))
                return deploy_service(c, a, &n, /* force= */ false, reterr);
        if (is_job(c, &n)) {
                ctl_say(c, "Job '%s' is updated, for its next run.", arguments_arg(a, 0));
                return 0;
        }
        ctl_say(c, "Service '%s' is updated. Let its instances follow with: kontenactl service deploy %s",
                        arguments_arg(a, 0), arguments_arg(a, 0));
        return 0;
}

int command_service_deploy(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        int r;

        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;
        return deploy_service(c, a, &n, arguments_has(a, "force"), reterr);
}

int command_service_scale(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_service_name_ ServiceName n = {};
        FollowRequest f;
        unsigned count;
        int r;

        r = follow_request_init(&f, a, reterr);
        if (r < 0)
                return r;
        if (safe_atou(arguments_arg(a, 1), &count) < 0 || count == 0 || count > INSTANCES_PER_SERVICE_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is no count of instances: 1 to %u are.",
                                arguments_arg(a, 1), INSTANCES_PER_SERVICE_MAX);
        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r < 0)
                return r;

        r = ctl_message(c, "ScaleService", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sssu", n.grid, n.stack, n.service, count);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");

        f.service = &n;
        f.call = m;
        return deploy_follow(c, &f, reterr);
}

/* The same for each service named; the first failure ends it. */
static int for_each_service(
                Ctl *c, const Arguments *a, const char *method, const char *done, KError *reterr) {
        int r;

        for (size_t i = 0; i < a->n_args; i++) {
                _cleanup_service_name_ ServiceName n = {};

                r = ctl_service_name(c, a->args[i], &n, reterr);
                if (r < 0)
                        return r;
                r = ctl_call(c, method, NULL, reterr, "sss", n.grid, n.stack, n.service);
                if (r < 0)
                        return r;
                ctl_say(c, "Service '%s' %s.", a->args[i], done);
        }

        return 0;
}

int command_service_start(Ctl *c, const Arguments *a, KError *reterr) {
        return for_each_service(c, a, "StartService", "is starting", reterr);
}

int command_service_stop(Ctl *c, const Arguments *a, KError *reterr) {
        return for_each_service(c, a, "StopService", "is stopping", reterr);
}

int command_service_restart(Ctl *c, const Arguments *a, KError *reterr) {
        return for_each_service(c, a, "RestartService", "is restarting", reterr);
}

int command_service_remove(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        for (size_t i = 0; i < a->n_args; i++) {
                r = confirm(arguments_has(a, "force"), reterr,
                                "Remove the service '%s' with its instances and their data?", a->args[i]);
                if (r < 0)
                        return r;
        }

        return for_each_service(c, a, "RemoveService", "is removed", reterr);
}
