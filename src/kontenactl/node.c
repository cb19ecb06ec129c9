/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"
#include "ctl.h"
#include "json-util.h"
#include "string-util.h"

/* Drained nodes that are online are not what "online" makes one think of. */
static int format_node_state(json_object *row, json_object *value, char **ret) {
        const char *state = row_string(row, "state");
        char *s;

        s = strdup(streq(state, "online") && streq(row_string(row, "availability"), "drain") ? "drain"
                                                                                             : state);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

static Color color_node_state(json_object *row, json_object *value) {
        return streq(row_string(row, "availability"), "drain") && streq(row_string(row, "state"), "online")
                               ? COLOR_YELLOW
                               : state_color(row, value);
}

static const TableColumn node_columns[] = {
        { .title = "NODE", .key = "name", .shrink = 16 },
        { .title = "NUMBER", .key = "number", .right = true },
        { .title = "STATE", .key = "state", .format = format_node_state, .color = color_node_state },
        { .title = "INSTANCES", .key = "instances", .right = true },
        { .title = "CPUS", .key = "cpus", .right = true },
        { .title = "MEMORY", .key = "memory_total", .format = format_bytes, .right = true },
        { .title = "FREE", .key = "memory_available", .format = format_bytes, .right = true },
        { .title = "OVERLAY", .key = "overlay_address" },
        { .title = "ADDRESS", .key = "private_address" },
        { .title = "VERSION", .key = "version" },
        { .title = "LAST SEEN", .key = "last_seen", .format = format_relative_time },
        { .title = "LABELS", .key = "labels", .shrink = 12 },
        {},
};

static const TableColumn node_fields[] = {
        { .title = "Node", .key = "name" },
        { .title = "Grid", .key = "grid" },
        { .title = "ID", .key = "id" },
        { .title = "Number", .key = "number" },
        { .title = "State", .key = "state", .color = state_color },
        { .title = "Availability", .key = "availability" },
        { .title = "Instances", .key = "instances" },
        { .title = "Data kept of", .key = "kept" },
        { .title = "Labels", .key = "labels" },
        { .title = "Overlay address", .key = "overlay_address" },
        { .title = "Private address", .key = "private_address" },
        { .title = "Public address", .key = "public_address" },
        { .title = "CPUs", .key = "cpus" },
        { .title = "Memory", .key = "memory_total", .format = format_bytes },
        { .title = "Memory free", .key = "memory_available", .format = format_bytes },
        { .title = "Operating system", .key = "os" },
        { .title = "Kernel", .key = "kernel" },
        { .title = "Runtime", .key = "runtime" },
        { .title = "Version", .key = "version" },
        { .title = "Connected", .key = "connected_at", .format = format_absolute_time },
        { .title = "Last seen", .key = "last_seen", .format = format_absolute_time },
        {},
};

int command_node_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "ListNodes", &rows, reterr, "s", grid);
        if (r < 0)
                return r;
        return ctl_print_rows(c, node_columns, rows,
                        "The grid has no nodes yet; on a machine: kontenactl node join MASTER TOKEN",
                        reterr);
}

int command_node_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *node = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "GetNode", &node, reterr, "ss", grid, arguments_arg(a, 0));
        if (r < 0)
                return r;
        return ctl_print_record(c, node_fields, node, reterr);
}

static int node_settings(const Arguments *a, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_strv_free_ char **labels = NULL;
        const char *v;
        int r;

        if (!o)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        if (arguments_has(a, "label")) {
                if (!isempty(arguments_get(a, "label"))) {
                        r = arguments_get_all(a, "label", &labels, reterr);
                        if (r < 0)
                                return r;
                }
                r = json_add_strv(o, "labels", labels);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Out of memory.");
        }

        v = arguments_get(a, "availability");
        if (v) {
                if (!STR_IN_SET(v, "active", "drain"))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--availability=%s is neither active nor drain.", v);
                r = json_add_string(o, "availability", v);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Out of memory.");
        }

        *ret = TAKE_PTR(o);
        return 0;
}

static int send_node_settings(Ctl *c, const char *method, const char *node, json_object *settings,
                sd_bus_message **ret_reply, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", grid, node);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", settings, reterr);
        if (r < 0)
                return r;
        return ctl_send(c, m, ret_reply, reterr);
}

int command_node_create(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *settings = NULL;
        const char *path, *token;
        int r;

        r = node_settings(a, &settings, reterr);
        if (r < 0)
                return r;
        r = send_node_settings(c, "CreateNode", arguments_arg(a, 0), settings, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "os", &path, &token);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");

        /* The token alone on standard output, for $( ). */
        return ctl_print_text(c, "token", token, reterr);
}

int command_node_update(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *settings = NULL;
        int r;

        r = node_settings(a, &settings, reterr);
        if (r < 0)
                return r;
        if (json_object_object_length(settings) == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Nothing to update: see kontenactl node update --help.");

        for (size_t i = 0; i < a->n_args; i++) {
                r = send_node_settings(c, "UpdateNode", a->args[i], settings, NULL, reterr);
                if (r < 0)
                        return r;
                ctl_say(c, "Node '%s' is updated.", a->args[i]);
        }

        return 0;
}

/* "NODE" lists, "NODE az=b fast" adds (a key=value replaces one of the same key), "NODE az-" takes away. */
int command_node_label(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *node = NULL, *settings = json_object_new_object();
        _cleanup_strv_free_ char **labels = NULL, **next = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "GetNode", &node, reterr, "ss", grid, arguments_arg(a, 0));
        if (r < 0)
                return r;
        r = json_find_strv(node, "labels", &labels, reterr);
        if (r < 0)
                return r;

        if (a->n_args == 1) {
                if (c->json != JSON_OFF)
                        return ctl_print_json(c, json_object_object_get(node, "labels"));
                STRV_FOREACH(l, labels) {
                        _cleanup_free_ char *clean = text_escape(*l, /* keep_newlines= */ false);

                        puts(strna(clean));
                }
                return 0;
        }

        STRV_FOREACH(l, labels) {
                bool keep = true;

                for (size_t i = 1; i < a->n_args && keep; i++) {
                        const char *change = a->args[i];
                        size_t n = strcspn(change, "=");
                        bool remove = change[n] == '\0' && n > 1 && change[n - 1] == '-';

                        /* "az-" takes "az=…" and "az"; "az=b" replaces both. */
                        n -= remove;
                        keep = !(strneq(*l, change, n) && ((*l)[n] == '=' || (*l)[n] == '\0'));
                }
                if (keep && strv_extend(&next, *l) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }
        for (size_t i = 1; i < a->n_args; i++) {
                const char *change = a->args[i];

                if (strchr(change, '=') || !endswith(change, "-"))
                        if (!strv_contains(next, change) && strv_extend(&next, change) < 0)
                                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        if (!settings || json_add_strv(settings, "labels", next) < 0)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = send_node_settings(c, "UpdateNode", arguments_arg(a, 0), settings, NULL, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "Labels of node '%s' are set.", arguments_arg(a, 0));
        return 0;
}

static void say_what_was_lost(Ctl *c, const char *node, json_object *lost) {
        size_t n = json_object_array_length(lost);

        if (n == 0) {
                ctl_say(c, "Node '%s' is removed.", node);
                return;
        }

        ctl_say(c, "Node '%s' is removed, and with it the data of:", node);
        for (size_t i = 0; i < n; i++) {
                json_object *row = json_object_array_get_idx(lost, i);
                char text[TIME_TEXT_MAX];

                if (streq(row_string(row, "kind"), "volume"))
                        ctl_say(c, "    volume %s (%s)", row_string(row, "name"),
                                        bytes_to_text((uint64_t) row_int(row, "used"), text));
                else
                        ctl_say(c, "    instance %s", row_string(row, "name"));
        }
}

int command_node_remove(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *removed = json_object_new_array();
        bool force = arguments_has(a, "force");
        const char *grid;
        int r;

        if (!removed)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;

        for (size_t i = 0; i < a->n_args; i++) {
                _cleanup_json_ json_object *lost = NULL, *row = json_object_new_object();

                /* The master refuses what would lose something: a node that is online or has data. */
                r = ctl_call_json(c, "RemoveNode", &lost, reterr, "ssb", grid, a->args[i], (int) force);
                if (r < 0)
                        break;
                say_what_was_lost(c, a->args[i], lost);
                if (!row || json_add_string(row, "name", a->args[i]) < 0 ||
                                json_add(row, "lost", TAKE_PTR(lost)) < 0 ||
                                json_append(removed, TAKE_PTR(row)) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        /* What was lost before one was refused is told as well. */
        if (c->json != JSON_OFF && (r >= 0 || json_object_array_length(removed) > 0)) {
                int q = ctl_print_json(c, removed);

                return r < 0 ? r : q;
        }
        return r;
}
