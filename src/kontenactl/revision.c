/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "deploy-follow.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

static int format_digest(json_object *row, json_object *value, char **ret) {
        const char *digest = startswith(row_string(row, "image_digest"), "sha256:");

        *ret = digest ? strndup(digest, 12) : strdup("");
        return *ret ? 0 : -ENOMEM;
}

static int format_mark(json_object *row, json_object *value, char **ret) {
        *ret = strdup(row_bool(row, "current") ? "current" : row_bool(row, "good") ? "good" : "");
        return *ret ? 0 : -ENOMEM;
}

static const TableColumn revision_columns[] = {
        { .title = "REVISION", .key = "revision", .right = true },
        { .title = "STATE", .key = "good", .format = format_mark },
        { .title = "CREATED", .key = "created_at", .format = format_relative_time },
        { .title = "DEPLOYED", .key = "deployed_at", .format = format_relative_time },
        { .title = "IMAGE", .key = "image", .shrink = 16 },
        { .title = "DIGEST", .key = "image_digest", .format = format_digest },
        { .title = "AUTHOR", .key = "author", .shrink = 12 },
        {},
};

static int list_revisions(Ctl *c, const ServiceName *n, json_object **ret, KError *reterr) {
        return ctl_call_json(c, "ListRevisions", ret, reterr, "sss", n->grid, n->stack, n->service);
}

int command_service_history(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        _cleanup_service_name_ ServiceName n = {};
        int r;

        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r >= 0)
                r = list_revisions(c, &n, &rows, reterr);
        if (r < 0)
                return r;
        return ctl_print_rows(c, revision_columns, rows, "There are no revisions.", reterr);
}

static int parse_revision(const char *text, uint32_t *ret, KError *reterr) {
        unsigned v;

        if (safe_atou(text, &v) < 0 || v == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is no number of a revision.", text);
        *ret = v;
        return 0;
}

static json_object *find_revision(json_object *rows, uint32_t revision) {
        FOREACH_JSON_ARRAY(row, rows)
                if (row_int(row, "revision") == (int64_t) revision)
                        return row;
        return NULL;
}

/* Which two are compared: those named; one named and the current; the current and the one before it. */
static int choose(json_object *rows, const Arguments *a, json_object **ret_old, json_object **ret_new,
                KError *reterr) {
        json_object *chosen[2] = {}, *current = NULL, *before = NULL;
        int r;

        for (size_t i = 0; i < 2; i++) {
                const char *text = arguments_arg(a, i + 1);
                uint32_t revision = 0;

                if (!text)
                        break;
                r = parse_revision(text, &revision, reterr);
                if (r < 0)
                        return r;
                chosen[i] = find_revision(rows, revision);
                if (!chosen[i])
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no revision %s (any more).",
                                        text);
        }

        FOREACH_JSON_ARRAY(row, rows) { /* newest first */
                if (row_bool(row, "current"))
                        current = row;
                else if (current && !before)
                        before = row;
        }
        *ret_old = chosen[0] ?: before;
        *ret_new = chosen[1] ?: current;
        if (!*ret_old || !*ret_new)
                return kerror_set(reterr, K_CONFLICT, "There is no earlier revision to compare with.");
        return 0;
}

static void say_line(char sign, const char *key, const char *value) {
        Color color = sign == '-' ? COLOR_RED : COLOR_GREEN;

        printf("%s%c %s: %s%s\n", color_on(color), sign, key, value, color_off(color));
}

static bool contains(json_object *list, json_object *value) {
        FOREACH_JSON_ARRAY(e, list)
                if (json_object_equal(e, value))
                        return true;
        return false;
}

/* A list is compared by its entries, all else as a whole. */
static void say_difference(const char *key, json_object *old, json_object *new) {
        bool lists = (!old || json_object_is_type(old, json_type_array)) &&
                     (!new || json_object_is_type(new, json_type_array));

        if (json_object_equal(old, new))
                return;
        if (!lists) {
                if (old)
                        say_line('-', key, json_object_get_string(old));
                if (new)
                        say_line('+', key, json_object_get_string(new));
                return;
        }
        if (old)
                FOREACH_JSON_ARRAY(e, old)
                        if (!new || !contains(new, e))
                                say_line('-', key, json_object_get_string(e));
        if (new)
                FOREACH_JSON_ARRAY(e, new)
                        if (!old || !contains(old, e))
                                say_line('+', key, json_object_get_string(e));
}

static void say_differences(json_object *old, json_object *new) {
        json_object_object_foreach(old, key, value)
                say_difference(key, value, json_object_object_get(new, key));
        json_object_object_foreach(new, name, added)
                if (!json_object_object_get_ex(old, name, NULL))
                        say_difference(name, NULL, added);
}

int command_service_diff(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL, *both = NULL;
        _cleanup_service_name_ ServiceName n = {};
        json_object *old = NULL, *new = NULL;
        int r;

        r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r >= 0)
                r = list_revisions(c, &n, &rows, reterr);
        if (r >= 0)
                r = choose(rows, a, &old, &new, reterr);
        if (r < 0)
                return r;

        if (c->json != JSON_OFF) {
                both = json_object_new_array();
                if (!both || json_append(both, json_object_get(old)) < 0 ||
                                json_append(both, json_object_get(new)) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                return ctl_print_json(c, both);
        }

        ctl_open_pager(c);
        printf("--- revision %" PRIi64 "\n+++ revision %" PRIi64 "\n", row_int(old, "revision"),
                        row_int(new, "revision"));
        say_differences(json_object_object_get(old, "spec"), json_object_object_get(new, "spec"));
        return 0;
}

int command_service_rollback(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_service_name_ ServiceName n = {};
        uint32_t revision = 0;
        FollowRequest f;
        int r;

        r = follow_request_init(&f, a, reterr);
        if (r >= 0 && arguments_arg(a, 1))
                r = parse_revision(arguments_arg(a, 1), &revision, reterr);
        if (r >= 0)
                r = ctl_service_name(c, arguments_arg(a, 0), &n, reterr);
        if (r >= 0)
                r = ctl_message(c, "RollbackService", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sssu", n.grid, n.stack, n.service, revision);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");

        f.service = &n;
        f.call = m;
        return deploy_follow(c, &f, reterr);
}
