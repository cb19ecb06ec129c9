/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "operation.h"
#include "render.h"
#include "string-util.h"

#define EVENTS_DEFAULT 100U

static int event_list(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const settings[] = { "service", "stack", "node", "limit", "since", "after",
                NULL };
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        _cleanup_(event_row_list_done) EventRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        const char *service_name = NULL, *stack = STACK_NULL, *node_name_wanted = NULL;
        EventFilter filter = { .grid_id = c->grid->id };
        uint64_t limit = EVENTS_DEFAULT;
        json_object *f;
        int r;

        if (!array)
                return -ENOMEM;

        r = call_settings(c, "filter", settings, &f, reterr);
        if (r >= 0)
                r = json_find_string(f, "service", &service_name, reterr);
        if (r >= 0)
                r = json_find_string(f, "stack", &stack, reterr);
        if (r >= 0)
                r = json_find_string(f, "node", &node_name_wanted, reterr);
        if (r >= 0)
                r = json_find_u64(f, "limit", &limit, reterr);
        if (r >= 0)
                r = json_find_u64(f, "since", &filter.since, reterr);
        if (r >= 0)
                r = json_find_u64(f, "after", &filter.after_id, reterr);
        if (r < 0)
                return r;
        if (limit < 1 || limit > LOG_LINES_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'limit' must be between 1 and %u.",
                                LOG_LINES_MAX);
        if (filter.since > INT64_MAX || filter.after_id > INT64_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A time or a number of an event is out of range.");
        filter.limit = (uint32_t) limit;

        if (!isempty(service_name)) {
                r = store_find_service(c->master->store, c->grid->id, stack, service_name, &service);
                if (r == -ENOENT)
                        return kerror_set(reterr, K_NO_SUCH_SERVICE,
                                        "No service '%s' in stack '%s' of grid '%s'.", service_name, stack,
                                        c->grid->name);
                if (r < 0)
                        return r;
                filter.service_id = service->id;
        }
        if (!isempty(node_name_wanted)) {
                r = store_find_node(c->master->store, c->grid->id, node_name_wanted, &node);
                if (r == -ENOENT)
                        return kerror_set(reterr, K_NO_SUCH_NODE, "No node '%s' in grid '%s'.",
                                        node_name_wanted, c->grid->name);
                if (r < 0)
                        return r;
                filter.node_id = node->id;
        }

        r = store_list_events(c->master->store, &filter, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(e, l.rows, l.n) {
                json_object *row;

                r = render_event(c->master, *e, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("events", TAKE_PTR(array), ret);
}

const Operation event_operations[] = {
        {
                        .name = "event.list",
                        .method = "ListEvents",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "filter", PARAMETER_OBJECT, false } },
                        .results = { "events" },
                        .perform = event_list,
        },
};
const size_t n_event_operations = ELEMENTSOF(event_operations);
