/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest.h"
#include "string-util.h"

static int reply_containers(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        return r < 0 ? r : rest_reply_containers(c, g, NULL, rest_query(c, "all"));
}

static int list_containers(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, reply_containers);
}

/* The service and the number that ":container" names; -ENOENT: it can name none. */
static int container_params(RestCall *c, json_object **ret) {
        _cleanup_free_ char *stack = NULL, *service = NULL;
        _cleanup_json_ json_object *o = NULL;
        uint32_t number;
        int r;

        r = rest_parse_container_name(strempty(rest_segment(c, "container")), &stack, &service, &number);
        if (r < 0)
                return r == -EINVAL ? -ENOENT : r;
        r = rest_grid_params(c, &o);
        REST_ADD(r, json_add_string(o, "stack", stack));
        REST_ADD(r, json_add_string(o, "service", service));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return (int) number;
}

static int reply_container(RestCall *c) {
        _cleanup_(rest_container_done) RestContainer found = {};
        json_object *o;
        int r;

        r = rest_find_container(c, &found);
        if (r >= 0)
                r = rest_render_container(found.grid, found.service, found.instance, found.node, &o);
        return r < 0 ? r : rest_reply(c, 200, o);
}

static int show_container(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = container_params(c, &params);
        if (r == -ENOENT)
                return rest_reply_error(c, 404, "Not found");
        return r < 0 ? r : rest_call_then(c, "instance.list", params, reply_container);
}

/* What the node knows of it. The service alone does not say that the path's node has it, so that is looked at first. */

static void on_inspected(RestCall *c, json_object *result, const KError *error) {
        const char *description = "";
        json_object *o;
        int r;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_string(result, "description", &description, NULL);
        r = json_parse(description, strlen(description), FRAME_SIZE_MAX, &o, NULL);
        rest_finish(c, r < 0 ? -EBADMSG : rest_reply(c, 200, o));
}

static void on_processes(RestCall *c, json_object *result, const KError *error) {
        static const char *const keys[][2] = { { "user", "UID" }, { "pid", "PID" }, { "ppid", "PPID" },
                { "state", "STAT" }, { "command", "CMD" } };
        _cleanup_json_ json_object *l = json_object_new_array();
        json_object *processes = NULL;
        int r = l ? 0 : -ENOMEM;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_array(result, "processes", &processes, NULL);
        FOREACH_JSON_ARRAY(p, processes) {
                _cleanup_json_ json_object *row = json_object_new_object();

                if (!row)
                        r = -ENOMEM;
                for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                        json_object *v = NULL;

                        (void) json_object_object_get_ex(p, keys[i][0], &v);
                        REST_ADD(r, json_add_string(row, keys[i][1], v ? json_object_get_string(v) : ""));
                }
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
        }
        rest_finish(c, r < 0 ? r : rest_reply(c, 200, TAKE_PTR(l)));
}

static int ask_found(RestCall *c) {
        _cleanup_(rest_container_done) RestContainer found = {};
        bool top = streq(rest_route(c)->operation, "instance.top");
        json_object *params = NULL;
        int r;

        r = rest_find_container(c, &found);
        if (r >= 0)
                r = container_params(c, &params);
        if (r >= 0) {
                r = json_add_u64(params, "instance", found.instance->number);
                if (r < 0)
                        json_object_put(params);
        }
        if (r >= 0)
                r = rest_call(c, rest_route(c)->operation, params, top ? on_processes : on_inspected);
        return r;
}

static int ask_container(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = container_params(c, &params);
        if (r == -ENOENT)
                return rest_reply_error(c, 404, "Not found");
        return r < 0 ? r : rest_call_then(c, "instance.list", params, ask_found);
}

#define C "/v1/containers/:grid/:node/:container"

const RestRoute container_routes[] = {
        { "GET", "/v1/containers/:grid", .operation = "service.list", .summary = "Containers of a grid",
                        .handler = list_containers },
        { "GET", C, .operation = "instance.list", .summary = "A container", .handler = show_container },
        { "GET", C "/top", .operation = "instance.top", .summary = "Processes of a container",
                        .handler = ask_container },
        { "GET", C "/inspect", .operation = "instance.inspect",
                        .summary = "What a node knows of a container", .handler = ask_container },
};
const size_t n_container_routes = ELEMENTSOF(container_routes);
