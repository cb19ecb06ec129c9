/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ephemeral.h"

#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define UNSEEN_USEC (6 * 3600 * USEC_PER_SEC)

static bool is_ephemeral(const NodeRow *n) {
        STRV_FOREACH(l, n->labels) {
                const char *rest = startswith(*l, "ephemeral");

                if (rest && (rest[0] == '\0' || rest[0] == '='))
                        return true;
        }
        return false;
}

static bool is_stale(const GridRow *grid, const NodeRow *n, uint64_t now) {
        uint64_t seen = MAX(n->last_seen_at, n->disconnected_at);

        seen = MAX(seen, n->created_at);
        return !n->connected && n->number > grid->initial_size && now > seen && now - seen > UNSEEN_USEC &&
               is_ephemeral(n);
}

static bool any_is_stateful(const InstanceRowList *instances) {
        FOREACH_ARRAY(i, instances->rows, instances->n) {
                bool stateful = false;

                if ((*i)->desired != INSTANCE_TERMINATED && (*i)->spec)
                        (void) json_find_bool((*i)->spec, "stateful", &stateful, NULL);
                if (stateful)
                        return true;
        }
        return false;
}

static int remove_node(Master *m, const NodeRow *n, const InstanceRowList *instances) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        r = store_begin(m->store, NULL);
        if (r < 0)
                return r;
        t = m->store;

        FOREACH_ARRAY(i, instances->rows, instances->n) {
                InstanceRow *row = *i;

                if (row->desired == INSTANCE_TERMINATED)
                        r = store_delete_instance(m->store, row->id);
                else {
                        row->node_id = mfree(row->node_id);
                        row->address = mfree(row->address);
                        row->state = mfree(row->state);
                        r = store_put_instance(m->store, row);
                }
                if (r < 0)
                        return r;
        }
        (void) events_add(m,
                        &(EventInfo){ .severity = "info", .type = "node:remove", .grid_id = n->grid_id },
                        "Ephemeral node '%s' was not seen for six hours and is removed.", n->name);
        r = store_delete_node(m->store, n->id);
        if (r < 0)
                return r;

        r = store_commit(m->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return 0;
}

int ephemeral_remove_stale(Master *m, const GridRow *grid, uint64_t now) {
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        int r;

        assert(m);
        assert(grid);

        r = store_list_nodes(m->store, grid->id, &nodes);
        if (r < 0)
                return r;

        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                _cleanup_(instance_row_list_done) InstanceRowList instances = {};

                if (!is_stale(grid, *n, now))
                        continue;
                r = store_list_instances_of_node(m->store, (*n)->id, &instances);
                if (r < 0)
                        return r;
                if (any_is_stateful(&instances))
                        continue;
                r = remove_node(m, *n, &instances);
                if (r < 0)
                        return r;
        }
        return 0;
}
