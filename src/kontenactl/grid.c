/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "bus-json.h"
#include "confirm.h"
#include "ctl.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

static int format_nodes(json_object *row, json_object *value, char **ret) {
        char *s = strprintf("%" PRIi64 "/%" PRIi64, row_int(row, "nodes_online"), row_int(row, "nodes"));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

static Color color_nodes(json_object *row, json_object *value) {
        return row_int(row, "nodes_online") < row_int(row, "nodes") ? COLOR_RED : COLOR_NONE;
}

static const TableColumn grid_columns[] = {
        { .title = "GRID", .key = "name", .shrink = 16 },
        { .title = "NODES", .key = "nodes", .format = format_nodes, .color = color_nodes, .right = true },
        { .title = "SERVICES", .key = "services", .right = true },
        { .title = "SUBNET", .key = "subnet" },
        { .title = "TRUSTED SUBNETS", .key = "trusted_subnets", .shrink = 15 },
        { .title = "CREATED", .key = "created_at", .format = format_relative_time },
        {},
};

static const TableColumn grid_fields[] = {
        {
                        .title = "Grid",
                        .key = "name",
        },
        { .title = "ID", .key = "id" },
        { .title = "Nodes online", .key = "nodes", .format = format_nodes, .color = color_nodes },
        { .title = "Services", .key = "services" },
        { .title = "Initial size", .key = "initial_size" },
        { .title = "Subnet", .key = "subnet" },
        { .title = "Supernet", .key = "supernet" },
        { .title = "Trusted subnets", .key = "trusted_subnets" },
        { .title = "Default affinity", .key = "default_affinity" },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        {},
};

/* An empty value clears a list. */
static int add_list(json_object *settings, const Arguments *a, const char *option, const char *key,
                KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        if (!arguments_has(a, option))
                return 0;
        if (!isempty(arguments_get(a, option))) {
                r = arguments_get_all(a, option, &l, reterr);
                if (r < 0)
                        return r;
        }
        r = json_add_strv(settings, key, l);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Out of memory.");
        return 0;
}

static int grid_settings(const Arguments *a, json_object **ret, KError *reterr) {
        static const char *const network_keys[] = { "subnet", "supernet" };
        _cleanup_json_ json_object *o = json_object_new_object();
        unsigned n;
        int r;

        if (!o)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        FOREACH_ARRAY(key, network_keys, ELEMENTSOF(network_keys)) {
                const char *v = arguments_get(a, *key);

                if (v && json_add_string(o, *key, v) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        r = add_list(o, a, "trusted-subnet", "trusted_subnets", reterr);
        if (r < 0)
                return r;
        r = add_list(o, a, "default-affinity", "default_affinity", reterr);
        if (r < 0)
                return r;
        r = arguments_get_unsigned(a, "initial-size", &n, reterr);
        if (r < 0)
                return r;
        if (r > 0 && json_add_u64(o, "initial_size", n) < 0)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        *ret = TAKE_PTR(o);
        return 0;
}

static int send_settings(
                Ctl *c, const char *method, const char *grid, json_object *settings, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", grid);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", settings, reterr);
        if (r < 0)
                return r;
        return ctl_send(c, m, NULL, reterr);
}

int command_grid_create(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *settings = NULL;
        const char *name = arguments_arg(a, 0);
        int r;

        r = grid_settings(a, &settings, reterr);
        if (r < 0)
                return r;
        r = send_settings(c, "CreateGrid", name, settings, reterr);
        if (r < 0)
                return r;

        ctl_say(c,
                        "Grid '%s' is made. On each machine that is to be a node of it:\n"
                        "  kontenactl node join MASTER \"$(ssh MASTER kontenactl grid token %s)\"",
                        name, name);
        return 0;
}

int command_grid_update(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *settings = NULL;
        int r;

        r = grid_settings(a, &settings, reterr);
        if (r < 0)
                return r;
        if (json_object_object_length(settings) == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Nothing to update: see kontenactl grid update --help.");

        r = send_settings(c, "UpdateGrid", arguments_arg(a, 0), settings, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "Grid '%s' is updated.", arguments_arg(a, 0));
        return 0;
}

int command_grid_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = ctl_call_json(c, "ListGrids", &rows, reterr, NULL);
        if (r < 0)
                return r;
        return ctl_print_rows(c, grid_columns, rows,
                        "There is no grid yet; make one with: kontenactl grid create NAME", reterr);
}

/* GRID as argument, or as for every other command. */
static int grid_argument(Ctl *c, const Arguments *a, const char **ret, KError *reterr) {
        if (a->n_args > 0) {
                *ret = a->args[0];
                return 0;
        }
        return ctl_grid(c, ret, reterr);
}

int command_grid_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *grid = NULL;
        const char *name;
        int r;

        r = grid_argument(c, a, &name, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "GetGrid", &grid, reterr, "s", name);
        if (r < 0)
                return r;
        return ctl_print_record(c, grid_fields, grid, reterr);
}

int command_grid_remove(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        for (size_t i = 0; i < a->n_args; i++) {
                r = confirm(arguments_has(a, "force"), reterr, "Remove the grid '%s'?", a->args[i]);
                if (r < 0)
                        return r;
                r = ctl_call(c, "RemoveGrid", NULL, reterr, "s", a->args[i]);
                if (r < 0)
                        return r;
                ctl_say(c, "Grid '%s' is removed.", a->args[i]);
        }

        return 0;
}

int command_grid_token(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *name, *token;
        int r;

        r = grid_argument(c, a, &name, reterr);
        if (r < 0)
                return r;
        r = ctl_call(c, "GetGridToken", &reply, reterr, "sb", name, (int) arguments_has(a, "regenerate"));
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &token);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");

        return ctl_print_text(c, "token", token, reterr);
}
