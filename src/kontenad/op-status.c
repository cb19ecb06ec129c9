/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "file-util.h"
#include "json-util.h"
#include "names.h"
#include "node-tracker.h"
#include "operation.h"
#include "render.h"
#include "string-util.h"

static int add_problem(json_object *problems, char *sentence) {
        int r;

        if (!sentence)
                return -ENOMEM;
        r = json_append_string(problems, sentence);
        free(sentence);
        return r;
}

static void format_time(uint64_t usec, char *buffer, size_t size) {
        time_t t = (time_t) (usec / USEC_PER_SEC);
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(buffer, size, "%F %T UTC", &tm) == 0)
                buffer[0] = '\0';
}

static int add_nodes(OperationCall *c, json_object *o, json_object *problems) {
        _cleanup_(node_row_list_done) NodeRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        size_t usable = 0;
        char since[64];
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_nodes(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;

        FOREACH_ARRAY(n, l.rows, l.n) {
                _cleanup_strv_free_ char **kept = NULL;
                const char *state = node_state(*n);
                json_object *row;

                r = render_node(c->master, c->grid, *n, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;

                if (streq(state, "online"))
                        usable++;
                else if (streq(state, "offline")) {
                        format_time((*n)->disconnected_at, since, sizeof(since));
                        r = add_problem(problems,
                                        strprintf("Node '%s' is offline since %s.", (*n)->name, since));
                } else if (streq(state, "created"))
                        r = add_problem(problems, strprintf("Node '%s' has not joined yet.", (*n)->name));
                if (r >= 0)
                        r = node_list_kept(*n, &kept);
                if (r >= 0 && kept)
                        r = add_problem(problems,
                                        strprintf("Node '%s' keeps data of instances that nobody names: "
                                                  "%s%s; see kontena-noded(8).",
                                                        (*n)->name, kept[0], kept[1] ? " and others" : ""));
                if (r < 0)
                        return r;
        }
        if (usable == 0) {
                r = add_problem(problems, l.n == 0 ? strprintf("Grid '%s' has no nodes: join one with "
                                                               "'kontenactl node join'.",
                                                                     c->grid->name)
                                                   : strprintf("No node of grid '%s' can take instances.",
                                                                     c->grid->name));
                if (r < 0)
                        return r;
        }

        return json_add(o, "nodes", TAKE_PTR(array));
}

/* The last deploy, if it went wrong. */
static int deploy_problem(OperationCall *c, const ServiceRow *s, json_object *problems) {
        _cleanup_(deploy_row_list_done) DeployRowList l = {};
        int r;

        r = store_list_deploys(c->master->store, s->id, 1, &l);
        if (r < 0)
                return r;
        if (l.n == 0 || l.rows[0]->state != DEPLOY_ERROR)
                return 0;

        return add_problem(problems, strprintf("The last deploy of service '%s%s%s' failed: %s",
                                                     streq(s->stack, STACK_NULL) ? "" : s->stack,
                                                     streq(s->stack, STACK_NULL) ? "" : "/", s->name,
                                                     strempty(l.rows[0]->reason)));
}

static int add_services(OperationCall *c, json_object *o, json_object *problems) {
        _cleanup_(service_row_list_done) ServiceRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_services(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;

        FOREACH_ARRAY(s, l.rows, l.n) {
                const char *problem = "";
                json_object *row;

                r = render_service(c->master, c->grid, *s, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r >= 0)
                        r = json_find_string(row, "problem", &problem, NULL);
                if (r >= 0 && !isempty(problem))
                        r = add_problem(problems,
                                        strprintf("Service '%s%s%s': %s",
                                                        streq((*s)->stack, STACK_NULL) ? "" : (*s)->stack,
                                                        streq((*s)->stack, STACK_NULL) ? "" : "/",
                                                        (*s)->name, problem));
                if (r >= 0)
                        r = deploy_problem(c, *s, problems);
                if (r < 0)
                        return r;
        }

        return json_add(o, "services", TAKE_PTR(array));
}

static int status_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object(), *problems = json_object_new_array(),
                                   *grid = NULL;
        const char *reason = store_read_only_reason(c->master->store);
        int r;

        if (!o || !problems)
                return -ENOMEM;
        r = render_grid(c->master, c->grid, &grid);
        if (r >= 0)
                r = json_add(o, "grid", TAKE_PTR(grid));
        if (r >= 0 && reason)
                r = json_append_string(problems, reason);
        if (r >= 0)
                r = add_nodes(c, o, problems);
        if (r >= 0)
                r = add_services(c, o, problems);
        if (r >= 0)
                r = json_add(o, "problems", TAKE_PTR(problems));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

const Operation status_operations[] = {
        {
                        .name = "status.get",
                        .method = "GetStatus",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "" },
                        .perform = status_get,
        },
};
const size_t n_status_operations = ELEMENTSOF(status_operations);
