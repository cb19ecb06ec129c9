/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"
#include "confirm.h"
#include "ctl.h"
#include "json-util.h"
#include "string-util.h"

#define DIGEST_SHOWN 12

static int format_digest(json_object *row, json_object *value, char **ret) {
        const char *digest = row_string(row, "digest"), *hex = startswith(digest, "sha256:");
        char *s = strndup(hex ?: digest, DIGEST_SHOWN);

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

/* The digest has a column of its own: of "web@sha256:..." the name is shown. */
static int format_references(json_object *row, json_object *value, char **ret) {
        _cleanup_strv_free_ char **names = NULL;

        FOREACH_JSON_ARRAY(reference, value) {
                const char *s = json_object_get_string(reference);
                _cleanup_free_ char *name = s ? strndup(s, strcspn(s, "@")) : NULL;

                if (!name || (!strv_contains(names, name) && strv_extend(&names, name) < 0))
                        return -ENOMEM;
        }
        *ret = strv_join(names, ", ");
        return *ret ? 0 : -ENOMEM;
}

static const TableColumn image_columns[] = {
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "DIGEST", .key = "digest", .format = format_digest },
        { .title = "REFERENCES", .key = "references", .format = format_references, .shrink = 20 },
        { .title = "SIZE", .key = "size", .format = format_bytes, .right = true },
        { .title = "INSTANCES", .key = "instances", .right = true },
        { .title = "LAST USED", .key = "used_at", .format = format_relative_time },
        {},
};

static const TableColumn pruned_columns[] = {
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "DIGEST", .key = "digest", .format = format_digest },
        { .title = "REFERENCES", .key = "references", .format = format_references, .shrink = 20 },
        { .title = "SIZE", .key = "size", .format = format_bytes, .right = true },
        { .title = "LAST USED", .key = "used_at", .format = format_relative_time },
        {},
};

static int call_images(Ctl *c, const Arguments *a, const char *method, json_object **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_json_ json_object *options = json_object_new_object();
        _cleanup_strv_free_ char **warnings = NULL;
        const char *grid, *node = arguments_get(a, "node");
        int r;

        if (!options || (node && json_add_string(options, "node", node) < 0) ||
                        (arguments_has(a, "dry-run") && json_add_bool(options, "dry_run", true) < 0) ||
                        (arguments_has(a, "all") && json_add_bool(options, "all", true) < 0))
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", grid);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r >= 0)
                r = ctl_send(c, m, &reply, reterr);
        if (r >= 0)
                r = bus_json_read(reply, ret, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(reply, &warnings);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        STRV_FOREACH(w, warnings)
                ctl_warn("%s", *w);
        return 0;
}

int command_image_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = call_images(c, a, "ListImages", &rows, reterr);
        if (r < 0)
                return r;
        return ctl_print_rows(c, image_columns, rows, "There are no images.", reterr);
}

int command_image_prune(Ctl *c, const Arguments *a, KError *reterr) {
        const char *node = arguments_get(a, "node");
        _cleanup_json_ json_object *rows = NULL;
        bool dry_run = arguments_has(a, "dry-run");
        int r;

        r = confirm(dry_run || arguments_has(a, "force"), reterr,
                        "Remove images that no instance%s uses from %s%s?",
                        arguments_has(a, "all") ? "" : " and no service", node ? "node " : "all nodes",
                        strempty(node));
        if (r < 0)
                return r;
        r = call_images(c, a, "PruneImages", &rows, reterr);
        if (r < 0)
                return r;

        r = ctl_print_rows(c, pruned_columns, rows, "There is nothing to remove.", reterr);
        if (r >= 0 && json_object_array_length(rows) > 0 && c->json == JSON_OFF)
                ctl_say(c, dry_run ? "%zu would be removed." : "%zu removed.",
                                json_object_array_length(rows));
        return r;
}
