/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"
#include "file-util.h"
#include "ipam.h"
#include "json-util.h"
#include "names.h"
#include "node-removal.h"
#include "op-internal.h"
#include "operation.h"
#include "parse-util.h"
#include "render.h"
#include "string-util.h"

static const char *const settings[] = { "labels", "availability", NULL };

static int take_settings(OperationCall *c, NodeRow *n, KError *reterr) {
        _cleanup_strv_free_ char **labels = NULL;
        const char *availability = NULL;
        json_object *o;
        int r;

        r = call_settings(c, "settings", settings, &o, reterr);
        if (r < 0)
                return r;

        r = json_find_strv(o, "labels", &labels, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                r = labels_validate(labels, reterr);
                if (r < 0)
                        return r;
                strv_free(n->labels);
                n->labels = TAKE_PTR(labels);
        }

        r = json_find_string(o, "availability", &availability, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                NodeAvailability a = node_availability_from_string(availability);

                if ((int) a < 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'availability' is 'active' or 'drain', not '%s'.", availability);
                n->availability = a;
        }

        return 0;
}

static int choose_number(OperationCall *c, uint32_t *ret, KError *reterr) {
        Ipv4Prefix subnet;
        uint32_t number;
        int r;

        r = store_next_node_number(c->master->store, c->grid->id, &number);
        if (r == -E2BIG || (r >= 0 && parse_ipv4_prefix(c->grid->subnet, &subnet) >= 0 &&
                                           number > ipam_node_number_max(&subnet)))
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "Grid '%s' is full: no node number is free.",
                                c->grid->name);
        if (r < 0)
                return r;

        *ret = number;
        return 0;
}

static int node_create(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *n = NULL, *other = NULL;
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_erase_ char *token = NULL;
        const char *name;
        int r;

        r = call_string(c, "name", &name, reterr);
        if (r < 0)
                return r;
        r = name_validate("node", name, reterr);
        if (r < 0)
                return r;
        r = store_find_node(c->master->store, c->grid->id, name, &other);
        if (r >= 0)
                return kerror_set(reterr, K_ALREADY_EXISTS, "There is a node '%s' in grid '%s' already.",
                                name, c->grid->name);
        if (r != -ENOENT)
                return r;

        n = new0(NodeRow, 1);
        if (!n || !o)
                return -ENOMEM;
        n->id = store_new_id();
        n->grid_id = strdup(c->grid->id);
        n->name = strdup(name);
        if (!n->id || !n->grid_id || !n->name)
                return -ENOMEM;
        n->created_at = n->updated_at = now_realtime();
        r = take_settings(c, n, reterr);
        if (r < 0)
                return r;
        r = choose_number(c, &n->number, reterr);
        if (r < 0)
                return r;

        r = node_make_token(c, n, &token, reterr);
        if (r < 0)
                return r;

        r = store_put_node(c->master->store, n);
        if (r < 0)
                return r;
        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "node:create",
                                        .grid_id = n->grid_id,
                                        .node_id = n->id },
                        "Node '%s' was created with number %u and waits for its machine.", n->name,
                        n->number);

        r = json_add_string(o, "grid", c->grid->name);
        if (r >= 0)
                r = json_add_string(o, "node", n->name);
        if (r >= 0)
                r = json_add_string(o, "token", token);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int node_update(OperationCall *c, json_object **ret, KError *reterr) {
        NodeAvailability before = c->node->availability;
        int r;

        r = take_settings(c, c->node, reterr);
        if (r < 0)
                return r;

        c->node->updated_at = now_realtime();
        r = store_put_node(c->master->store, c->node);
        if (r < 0)
                return r;

        if (c->node->availability != before)
                (void) events_add(c->master,
                                &(EventInfo){ .severity = "info",
                                                .type = "node:availability",
                                                .grid_id = c->grid->id,
                                                .node_id = c->node->id },
                                c->node->availability == NODE_DRAIN ? "Node '%s' is being drained."
                                                                    : "Node '%s' is active again.",
                                c->node->name);
        return 0;
}

static int refuse_removal(OperationCall *c, const char *data, KError *reterr) {
        if (data && c->node->connected)
                return kerror_set(reterr, K_IN_USE,
                                "Node '%s' is online, and with it would go %s; use force to remove it "
                                "anyway.",
                                c->node->name, data);
        if (data)
                return kerror_set(reterr, K_IN_USE,
                                "With node '%s' would go %s; use force to remove it anyway.", c->node->name,
                                data);
        return kerror_set(reterr, K_CONFLICT,
                        "Node '%s' is online; let it leave first ('kontenactl node leave' there), or use "
                        "force.",
                        c->node->name);
}

static int node_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object(), *lost = NULL;
        _cleanup_node_loss_ NodeLoss loss = {};
        _cleanup_free_ char *data = NULL;
        Store *s = c->master->store;
        bool force = false;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_find_bool(c->parameters, "force", &force, reterr);
        if (r < 0)
                return r;
        r = node_loss_read(s, c->node->id, &loss);
        if (r < 0)
                return r;
        if (!node_loss_is_empty(&loss)) {
                data = node_loss_describe(&loss);
                if (!data)
                        return -ENOMEM;
        }
        if (!force && (data || c->node->connected))
                return refuse_removal(c, data, reterr);

        (void) events_add(c->master,
                        &(EventInfo){ .severity = data ? "warning" : "info",
                                        .type = "node:remove",
                                        .grid_id = c->grid->id },
                        data ? "Node '%s' was removed, and with it %s." : "Node '%s' was removed.",
                        c->node->name, data);

        r = node_removal_perform(s, c->node->id);
        if (r >= 0)
                r = node_loss_render(&loss, &lost);
        if (r >= 0)
                r = json_add(o, "lost", TAKE_PTR(lost));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int node_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(node_row_list_done) NodeRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_nodes(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(n, l.rows, l.n) {
                json_object *row;

                r = render_node(c->master, c->grid, *n, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("nodes", TAKE_PTR(array), ret);
}

static int node_get(OperationCall *c, json_object **ret, KError *reterr) {
        return render_node(c->master, c->grid, c->node, ret);
}

const Operation node_operations[] = {
        {
                        .name = "node.create",
                        .method = "CreateNode",
                        .action = "io.kontena.master1.manage-tokens",
                        .role = "grid_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "name", PARAMETER_STRING, true },
                                        { "settings", PARAMETER_OBJECT, false } },
                        .results = { "node", "token" },
                        .perform = node_create,
        },
        {
                        .name = "node.update",
                        .method = "UpdateNode",
                        .action = "io.kontena.master1.manage-nodes",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_NODE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "node", PARAMETER_STRING, true },
                                        { "settings", PARAMETER_OBJECT, true } },
                        .perform = node_update,
        },
        {
                        .name = "node.remove",
                        .method = "RemoveNode",
                        .action = "io.kontena.master1.manage-nodes",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_NODE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "node", PARAMETER_STRING, true },
                                        { "force", PARAMETER_BOOL, false } },
                        .results = { "lost" },
                        .perform = node_remove,
        },
        {
                        .name = "node.list",
                        .method = "ListNodes",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "nodes" },
                        .perform = node_list,
        },
        {
                        .name = "node.get",
                        .method = "GetNode",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_NODE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "node", PARAMETER_STRING, true } },
                        .results = { "" },
                        .perform = node_get,
        },
};
const size_t n_node_operations = ELEMENTSOF(node_operations);
