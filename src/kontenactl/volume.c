/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"
#include "confirm.h"
#include "ctl.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

/* Copying goes on for minutes; the master gives up after ten. */
#define SNAPSHOT_TIMEOUT_USEC (620ULL * 1000000ULL)

static Color color_volume_state(json_object *row, json_object *value) {
        const char *state = row_string(row, "state");

        return streq(state, "error") ? COLOR_RED : streq(state, "present") ? COLOR_GREEN : COLOR_YELLOW;
}

static const TableColumn volume_columns[] = {
        { .title = "VOLUME", .key = "name", .shrink = 16 },
        { .title = "SCOPE", .key = "scope" },
        { .title = "DRIVER", .key = "driver" },
        { .title = "STATE", .key = "state", .color = color_volume_state },
        { .title = "PLACES", .key = "places", .right = true },
        { .title = "USED", .key = "used", .format = format_bytes, .right = true },
        { .title = "SIZE", .key = "size_max", .format = format_bytes, .right = true },
        { .title = "CREATED", .key = "created_at", .format = format_relative_time },
        { .title = "SERVICES", .key = "services", .shrink = 12 },
        {},
};

static const TableColumn volume_fields[] = {
        { .title = "Volume", .key = "name" },
        { .title = "Grid", .key = "grid" },
        { .title = "ID", .key = "id" },
        { .title = "Scope", .key = "scope" },
        { .title = "Driver", .key = "driver" },
        { .title = "State", .key = "state", .color = color_volume_state },
        { .title = "Size at most", .key = "size_max", .format = format_bytes },
        { .title = "Used", .key = "used", .format = format_bytes },
        { .title = "Services", .key = "services" },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        {},
};

static int format_number(json_object *row, json_object *value, char **ret) {
        int64_t n = row_int(row, "number");
        char *s = NULL;

        if (n > 0) {
                s = strprintf("%lld", (long long) n);
                if (!s)
                        return -ENOMEM;
        }
        *ret = s;
        return 0;
}

static Color color_error(json_object *row, json_object *value) {
        return COLOR_RED;
}

static const TableColumn place_columns[] = {
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "NAME THERE", .key = "name", .shrink = 16 },
        { .title = "INSTANCE", .key = "number", .format = format_number, .right = true },
        { .title = "STATE", .key = "state", .color = color_volume_state },
        { .title = "USED", .key = "used", .format = format_bytes, .right = true },
        { .title = "ERROR", .key = "error", .color = color_error, .shrink = 20 },
        {},
};

static const TableColumn snapshot_columns[] = {
        { .title = "SNAPSHOT", .key = "snapshot", .shrink = 12 },
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "NAME THERE", .key = "volume", .shrink = 16 },
        { .title = "INSTANCE", .key = "number", .format = format_number, .right = true },
        { .title = "SIZE", .key = "size", .format = format_bytes, .right = true },
        { .title = "CREATED", .key = "created_at", .format = format_relative_time },
        {},
};

static int out_of_memory(KError *reterr) {
        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
}

static int volume_settings(const Arguments *a, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object(), *options = json_object_new_object();
        const char *scope = arguments_get(a, "scope"), *driver = arguments_get(a, "driver"),
                   *size = arguments_get(a, "size");
        _cleanup_strv_free_ char **opts = NULL;
        uint64_t bytes;
        int r;

        if (!o || !options)
                return out_of_memory(reterr);
        if ((scope && json_add_string(o, "scope", scope) < 0) ||
                        (driver && json_add_string(o, "driver", driver) < 0))
                return out_of_memory(reterr);
        if (size) {
                if (parse_size(size, &bytes) < 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--size=%s is not a number of bytes, as 10G.", size);
                if (json_add_u64(o, "size_max", bytes) < 0)
                        return out_of_memory(reterr);
        }

        r = arguments_get_all(a, "opt", &opts, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(s, opts) {
                const char *equal = strchr(*s, '=');
                _cleanup_free_ char *key = equal ? strndup(*s, (size_t) (equal - *s)) : NULL;

                if (!equal)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "--opt=%s is not KEY=VALUE.", *s);
                if (!key || json_add_string(options, key, equal + 1) < 0)
                        return out_of_memory(reterr);
        }
        if (opts && json_add(o, "options", TAKE_PTR(options)) < 0)
                return out_of_memory(reterr);

        *ret = TAKE_PTR(o);
        return 0;
}

int command_volume_create(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *settings = NULL;
        const char *grid, *name = arguments_arg(a, 0);
        int r;

        r = volume_settings(a, &settings, reterr);
        if (r >= 0)
                r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_message(c, "CreateVolume", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", grid, name);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", settings, reterr);
        if (r >= 0)
                r = ctl_send(c, m, NULL, reterr);
        if (r < 0)
                return r;

        ctl_say(c, "Volume '%s' is made; services use it with: --volume=%s:/path", name, name);
        return 0;
}

int command_volume_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call_json(c, "ListVolumes", &rows, reterr, "s", grid);
        if (r < 0)
                return r;
        return ctl_print_rows(c, volume_columns, rows,
                        "There is no volume yet; make one with: kontenactl volume create NAME", reterr);
}

int command_volume_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *volume = NULL;
        json_object *places = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call_json(c, "GetVolume", &volume, reterr, "ss", grid, arguments_arg(a, 0));
        if (r < 0)
                return r;
        r = ctl_print_record(c, volume_fields, volume, reterr);
        if (r < 0 || c->json != JSON_OFF || c->quiet)
                return r;
        r = json_find_array(volume, "instances", &places, reterr);
        if (r < 0 || json_object_array_length(places) == 0)
                return r;
        putchar('\n');
        return ctl_print_rows(c, place_columns, places, NULL, reterr);
}

int command_volume_remove(Ctl *c, const Arguments *a, KError *reterr) {
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < a->n_args; i++) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
                _cleanup_strv_free_ char **offline = NULL;
                _cleanup_free_ char *joined = NULL;

                r = confirm(arguments_has(a, "force"), reterr,
                                "Remove the volume '%s' and all that is in it?", a->args[i]);
                if (r >= 0)
                        r = ctl_call(c, "RemoveVolume", &reply, reterr, "ss", grid, a->args[i]);
                if (r < 0)
                        return r;
                r = sd_bus_message_read_strv(reply, &offline);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
                if (!offline) {
                        ctl_say(c, "Volume '%s' is removed.", a->args[i]);
                        continue;
                }
                joined = strv_join(offline, ", ");
                ctl_say(c,
                                "Volume '%s' is being removed; these nodes are offline and delete what they "
                                "have when they "
                                "are back: %s",
                                a->args[i], strna(joined));
        }

        return 0;
}

static int place_settings(const Arguments *a, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *node = arguments_get(a, "node");
        unsigned instance;
        int r;

        if (!o || (node && json_add_string(o, "node", node) < 0))
                return out_of_memory(reterr);
        r = arguments_get_unsigned(a, "instance", &instance, reterr);
        if (r < 0)
                return r;
        if (r > 0 && json_add_u64(o, "instance", instance) < 0)
                return out_of_memory(reterr);

        *ret = TAKE_PTR(o);
        return 0;
}

/* Calls with grid, volume, snapshot (if any) and the places that are meant. */
static int call_snapshots(
                Ctl *c, const Arguments *a, const char *method, sd_bus_message **ret_reply, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *options = NULL;
        const char *grid;
        int r;

        if (c->call_timeout_usec == 0)
                c->call_timeout_usec = SNAPSHOT_TIMEOUT_USEC;
        r = place_settings(a, &options, reterr);
        if (r >= 0)
                r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", grid, arguments_arg(a, 0));
        if (r >= 0 && a->n_args > 1)
                r = sd_bus_message_append(m, "s", arguments_arg(a, 1));
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r < 0)
                return r;
        return ctl_send(c, m, ret_reply, reterr);
}

int command_volume_snapshots(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_strv_free_ char **warnings = NULL;
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = call_snapshots(c, a, "ListVolumeSnapshots", &reply, reterr);
        if (r >= 0)
                r = bus_json_read(reply, &rows, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(reply, &warnings);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        STRV_FOREACH(w, warnings)
                ctl_warn("%s", *w);
        return ctl_print_rows(c, snapshot_columns, rows, "There are no snapshots.", reterr);
}

int command_volume_snapshot(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        r = call_snapshots(c, a, "CreateVolumeSnapshot", NULL, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "Snapshot '%s' of volume '%s' is made.", arguments_arg(a, 1), arguments_arg(a, 0));
        return 0;
}

int command_volume_restore(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        r = confirm(arguments_has(a, "force"), reterr, "Replace what is in volume '%s' by snapshot '%s'?",
                        arguments_arg(a, 0), arguments_arg(a, 1));
        if (r >= 0)
                r = call_snapshots(c, a, "RestoreVolumeSnapshot", NULL, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "Volume '%s' is what it was in snapshot '%s'.", arguments_arg(a, 0), arguments_arg(a, 1));
        return 0;
}

int command_volume_remove_snapshot(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        r = call_snapshots(c, a, "RemoveVolumeSnapshot", NULL, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "Snapshot '%s' of volume '%s' is removed.", arguments_arg(a, 1), arguments_arg(a, 0));
        return 0;
}
