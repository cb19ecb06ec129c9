/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

static int format_cpu(json_object *row, json_object *value, char **ret) {
        uint64_t tenths = (uint64_t) row_int(row, "cpu_usec") / 100000U;
        char *s = strprintf("%" PRIu64 ".%" PRIu64 "s", tenths / 10U, tenths % 10U);

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

static const TableColumn process_columns[] = {
        { .title = "INSTANCE", .key = "instance", .shrink = 12 },
        { .title = "PID", .key = "pid", .right = true },
        { .title = "PPID", .key = "ppid", .right = true },
        { .title = "USER", .key = "user" },
        { .title = "STATE", .key = "state" },
        { .title = "CPU", .key = "cpu_usec", .format = format_cpu, .right = true },
        { .title = "MEMORY", .key = "memory", .format = format_bytes, .right = true },
        { .title = "STARTED", .key = "started_at", .format = format_relative_time },
        { .title = "COMMAND", .key = "command", .shrink = 20 },
        {},
};

static int service_exists(Ctl *c, const ServiceName *n, KError *reterr) {
        _cleanup_json_ json_object *services = NULL;
        int r;

        r = ctl_call_json(c, "ListServices", &services, reterr, "s", n->grid);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(s, services)
                if (streq(row_string(s, "stack"), n->stack) && streq(row_string(s, "name"), n->service))
                        return 1;
        return 0;
}

int ctl_instance_name(Ctl *c, const char *text, ServiceName *ret, unsigned *ret_number, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        uint64_t number = 0;
        char *dash;
        int r;

        r = ctl_service_name(c, text, &n, reterr);
        if (r < 0)
                return r;
        dash = strrchr(n.service, '-');
        if (dash && dash != n.service && safe_atou64(dash + 1, &number) >= 0 && number > 0 &&
                        number <= UINT32_MAX) {
                r = service_exists(c, &n, reterr);
                if (r < 0)
                        return r;
                if (r > 0)
                        number = 0;
                else
                        *dash = '\0';
        } else
                number = 0;

        *ret = TAKE_GENERIC(n, (ServiceName){});
        *ret_number = (unsigned) number;
        return 0;
}

/* Numbers of the instances of a service that run, as JSON rows. */
static int running_instances(
                Ctl *c, const ServiceName *n, const char *text, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL, *running = json_object_new_array();
        int r;

        if (!running)
                return -ENOMEM;
        r = ctl_call_json(c, "ListInstances", &rows, reterr, "sss", n->grid, n->stack, n->service);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(i, rows)
                if (streq(row_string(i, "state"), "running") &&
                                !streq(row_string(i, "desired"), "terminated")) {
                        r = json_append(running, json_object_get(i));
                        if (r < 0)
                                return r;
                }
        if (json_object_array_length(running) == 0)
                return kerror_set(reterr, K_CONFLICT, "Service '%s' has no instance that runs.", text);

        *ret = TAKE_PTR(running);
        return 0;
}

int ctl_instance_find(Ctl *c, const char *text, ServiceName *ret, unsigned *ret_number, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_json_ json_object *rows = NULL;
        unsigned number;
        int r;

        r = ctl_instance_name(c, text, &n, &number, reterr);
        if (r >= 0 && number == 0)
                r = running_instances(c, &n, text, &rows, reterr);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(i, rows) {
                unsigned k = (unsigned) row_int(i, "number");

                if (number == 0 || k < number)
                        number = k;
        }

        *ret = TAKE_GENERIC(n, (ServiceName){});
        *ret_number = number;
        return 0;
}

static int add_processes(Ctl *c, const ServiceName *n, unsigned number, json_object *all, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        _cleanup_free_ char *service = NULL, *name = NULL;
        int r;

        service = service_display_name(n->stack, n->service);
        name = service ? strprintf("%s-%u", service, number) : NULL;
        if (!name)
                return -ENOMEM;
        r = ctl_call_json(c, "ListProcesses", &rows, reterr, "sssu", n->grid, n->stack, n->service, number);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(row, rows) {
                r = json_add_string(row, "instance", name);
                if (r >= 0)
                        r = json_append(all, json_object_get(row));
                if (r < 0)
                        return r;
        }
        return 0;
}

int command_top(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = json_object_new_array(), *running = NULL;
        const char *text = arguments_arg(a, 0);
        _cleanup_service_name_ ServiceName n = {};
        unsigned number, shown = 0;
        int r;

        if (!rows)
                return -ENOMEM;
        r = ctl_instance_name(c, text, &n, &number, reterr);
        if (r >= 0 && number > 0)
                r = add_processes(c, &n, number, rows, reterr);
        else if (r >= 0)
                r = running_instances(c, &n, text, &running, reterr);
        if (r < 0)
                return r;

        /* Of several, one that cannot be asked is no reason not to show the others. */
        FOREACH_JSON_ARRAY(i, running) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                unsigned k = (unsigned) row_int(i, "number");

                r = add_processes(c, &n, k, rows, &error);
                if (r >= 0) {
                        shown++;
                        continue;
                }
                ctl_warn("Instance %u is not shown: %s", k, kerror_message(&error));
        }
        if (running && shown == 0)
                return kerror_set(reterr, K_CONFLICT, "No instance of '%s' can be asked for its processes.",
                                text);

        return ctl_print_rows(c, process_columns, rows, "There are no processes.", reterr);
}

int command_inspect(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_json_ json_object *o = NULL;
        const char *text;
        unsigned number;
        int r;

        r = ctl_instance_find(c, arguments_arg(a, 0), &n, &number, reterr);
        if (r >= 0)
                r = ctl_call(c, "InspectInstance", &reply, reterr, "sssu", n.grid, n.stack, n.service,
                                number);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        r = json_parse(text, strlen(text), SIZE_MAX, &o, reterr);
        if (r < 0)
                return r;
        if (c->json == JSON_OFF)
                c->json = JSON_PRETTY;
        return ctl_print_json(c, o);
}
