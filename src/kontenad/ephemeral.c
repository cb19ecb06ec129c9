/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ephemeral.h"

#include "events.h"
#include "file-util.h"
#include "node-removal.h"
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

/* Named volumes go with such a node, as its label says that they may: that is told. */
static int remove_node(Master *m, const NodeRow *n, const NodeLoss *loss) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_free_ char *data = NULL;
        int r;

        if (!node_loss_is_empty(loss)) {
                data = node_loss_describe(loss);
                if (!data)
                        return -ENOMEM;
        }

        r = store_begin(m->store, NULL);
        if (r < 0)
                return r;
        t = m->store;
        (void) events_add(m,
                        &(EventInfo){ .severity = data ? "warning" : "info",
                                        .type = "node:remove",
                                        .grid_id = n->grid_id },
                        "Ephemeral node '%s' was not seen for six hours and is removed%s%s.", n->name,
                        data ? ", and with it " : "", strempty(data));
        r = node_removal_perform(m->store, n->id);
        if (r >= 0)
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

        r = store_list_nodes_away(m->store, grid->id, &nodes);
        if (r < 0)
                return r;

        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                _cleanup_node_loss_ NodeLoss loss = {};

                if (!is_stale(grid, *n, now))
                        continue;
                r = node_loss_read(m->store, (*n)->id, &loss);
                if (r < 0)
                        return r;
                if (strv_length(loss.instances) > 0)
                        continue;
                r = remove_node(m, *n, &loss);
                if (r < 0)
                        return r;
        }
        return 0;
}
