/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-follow.h"
#include "deploy-view.h"
#include "json-util.h"
#include "names.h"
#include "string-util.h"

static Color color_error(json_object *row, json_object *value) {
        return COLOR_RED;
}

static const TableColumn deploy_columns[] = {
        { .title = "DEPLOY", .key = "id" },
        { .title = "SERVICE", .key = "service", .format = format_service_name, .shrink = 16 },
        { .title = "REVISION", .key = "revision", .right = true },
        { .title = "STATE", .key = "state", .color = state_color },
        { .title = "CREATED", .key = "created_at", .format = format_relative_time },
        { .title = "FINISHED", .key = "finished_at", .format = format_relative_time },
        { .title = "REASON", .key = "reason", .color = color_error, .shrink = 20 },
        {},
};

static const TableColumn deploy_fields[] = {
        { .title = "Deploy", .key = "id" },
        { .title = "Service", .key = "service", .format = format_service_name },
        { .title = "Grid", .key = "grid" },
        { .title = "Kind", .key = "kind" },
        { .title = "Revision", .key = "revision" },
        { .title = "Settings", .key = "service_rev" },
        { .title = "Image", .key = "image_digest" },
        { .title = "State", .key = "state", .color = state_color },
        { .title = "Reason", .key = "reason", .color = color_error },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        { .title = "Started", .key = "started_at", .format = format_absolute_time },
        { .title = "Finished", .key = "finished_at", .format = format_absolute_time },
        {},
};

static const TableColumn deploy_instance_columns[] = {
        { .title = "INSTANCE", .key = "number", .right = true },
        { .title = "NODE", .key = "node", .shrink = 12 },
        { .title = "STATE", .key = "state", .color = state_color },
        { .title = "PROGRESS", .key = "progress", .shrink = 16 },
        { .title = "ERROR", .key = "error", .color = color_error, .shrink = 20 },
        {},
};

static int append_all(json_object *to, json_object *from) {
        int r;

        FOREACH_JSON_ARRAY(e, from) {
                r = json_append(to, json_object_get(e));
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Those of one service, or of all the grid's. */
static int list_deploys(Ctl *c, const char *service, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *all = json_object_new_array(), *services = NULL;
        _cleanup_service_name_ ServiceName n = {};
        const char *grid;
        int r;

        if (service) {
                r = ctl_service_name(c, service, &n, reterr);
                if (r < 0)
                        return r;
                return ctl_call_json(c, "ListDeploys", ret, reterr, "sss", n.grid, n.stack, n.service);
        }

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "ListServices", &services, reterr, "s", grid);
        if (r < 0)
                return r;

        FOREACH_JSON_ARRAY(s, services) {
                _cleanup_json_ json_object *some = NULL;

                r = ctl_call_json(c, "ListDeploys", &some, reterr, "sss", grid, row_string(s, "stack"),
                                row_string(s, "name"));
                if (r < 0)
                        return r;
                r = append_all(all, some);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Out of memory.");
        }

        *ret = TAKE_PTR(all);
        return 0;
}

static int compare_created(const void *a, const void *b) {
        int64_t x = row_int(*(json_object *const *) a, "created_at"),
                y = row_int(*(json_object *const *) b, "created_at");

        return x < y ? 1 : x > y ? -1 : 0;
}

int command_deploy_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = list_deploys(c, arguments_arg(a, 0), &rows, reterr);
        if (r < 0)
                return r;

        json_object_array_sort(rows, compare_created);
        return ctl_print_rows(c, deploy_columns, rows, "There have been no deploys.", reterr);
}

static int find_deploy(Ctl *c, const char *id, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *grids = NULL;
        int r;

        r = ctl_call_json(c, "ListGrids", &grids, reterr, NULL);
        if (r < 0)
                return r;

        FOREACH_JSON_ARRAY(g, grids) {
                _cleanup_json_ json_object *rows = NULL;
                Ctl in_grid = *c;

                in_grid.grid = row_string(g, "name");
                r = list_deploys(&in_grid, NULL, &rows, reterr);
                if (r < 0)
                        return r;
                FOREACH_JSON_ARRAY(d, rows)
                        if (streq(row_string(d, "id"), id)) {
                                *ret = json_object_get(d);
                                return 0;
                        }
        }

        return kerror_set(reterr, K_NO_SUCH_DEPLOY, "There is no deploy '%s'.", id);
}

int command_deploy_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *deploy = NULL;
        _cleanup_free_ char *path = NULL;
        json_object *instances;
        int r;

        r = find_deploy(c, arguments_arg(a, 0), &deploy, reterr);
        if (r < 0)
                return r;

        if (arguments_has(a, "follow") && !deploy_state_is_final(row_string(deploy, "state"))) {
                ServiceName n = { (char *) row_string(deploy, "grid"), (char *) row_string(deploy, "stack"),
                        (char *) row_string(deploy, "service") };
                FollowRequest f;

                r = follow_request_init(&f, a, reterr);
                if (r < 0)
                        return r;
                r = deploy_path_from_id(arguments_arg(a, 0), &path);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "'%s' is no deploy.", arguments_arg(a, 0));
                f.service = &n;
                f.path = path;
                return deploy_follow(c, &f, reterr);
        }

        r = ctl_print_record(c, deploy_fields, deploy, reterr);
        if (r < 0 || c->json != JSON_OFF)
                return r;

        instances = json_object_object_get(deploy, "instances");
        if (!json_object_is_type(instances, json_type_array))
                return 0;
        putchar('\n');
        r = ctl_print_rows(c, deploy_instance_columns, instances, "It has no instances.", reterr);
        if (r < 0 || c->quiet)
                return r;
        FOREACH_JSON_ARRAY(i, instances)
                deploy_print_log_tail(stdout, row_string(deploy, "service"), i);
        return 0;
}

int command_deploy_cancel(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = NULL;
        sd_bus *bus;
        int r;

        r = deploy_path_from_id(arguments_arg(a, 0), &path);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' is no deploy.", arguments_arg(a, 0));
        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_new_method_call(
                        bus, &m, MASTER_NAME, path, "io.kontena.Master1.Deploy", "Cancel");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = sd_bus_message_set_auto_start(m, false);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");

        r = ctl_send(c, m, NULL, reterr);
        if (reterr && reterr->code == K_NO_SUCH_OPERATION) {
                kerror_done(reterr);
                return kerror_set(reterr, K_NO_SUCH_DEPLOY,
                                "There is no deploy '%s' that could be cancelled.", arguments_arg(a, 0));
        }
        if (r < 0)
                return r;

        ctl_say(c, "Deploy %s is cancelled.", arguments_arg(a, 0));
        return 0;
}
