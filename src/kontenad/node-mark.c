/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "events.h"
#include "file-util.h"
#include "log.h"
#include "node-tracker-internal.h"
#include "string-util.h"

/* Others wait for so long at most until what is left has its turn. */
#define TURN_USEC (5 * USEC_PER_MSEC)

/* Whom a fresh master waits for */

static void awaited_free(NodeTracker *t, AwaitedNode *a) {
        HASH_DEL(t->awaited, a);
        free(a->node_id);
        free(a->grid_id);
        free(a);
}

void node_tracker_stop_waiting(NodeTracker *t, const char *node_id) {
        AwaitedNode *a = NULL;

        HASH_FIND_STR(t->awaited, node_id, a);
        if (a)
                awaited_free(t, a);
}

static int wait_for(NodeTracker *t, const NodeRow *row) {
        AwaitedNode *a;

        a = new0(AwaitedNode, 1);
        if (!a)
                return -ENOMEM;
        a->node_id = strdup(row->id);
        a->grid_id = strdup(row->grid_id);
        if (a->node_id && a->grid_id)
                HASH_ADD_KEYPTR(hh, t->awaited, a->node_id, strlen(a->node_id), a);
        if (!a->hh.tbl) {
                free(a->node_id);
                free(a->grid_id);
                free(a);
                return -ENOMEM;
        }
        return 0;
}

bool node_tracker_is_settled(NodeTracker *t, const char *grid_id, uint64_t now, uint64_t *ret_until) {
        assert(t);
        assert(grid_id);

        if (now >= t->settled_at)
                return true;
        for (AwaitedNode *a = t->awaited; a; a = a->hh.next)
                if (streq(a->grid_id, grid_id)) {
                        *ret_until = t->settled_at;
                        return false;
                }
        return true;
}

/* Who is connected, in the store. When a thousand come at once they are marked together, and the disk is waited for once: a node whose
 * return a power loss has undone would be taken for one that never came back. Until it is marked it is waited for, as whoever places
 * instances goes by the rows. */

static int mark_row(NodeTracker *t, NodeRow *row, bool connected, uint64_t now) {
        row->connected = connected;
        if (connected) {
                row->connected_at = now;
                row->last_seen_at = now;
        } else
                row->disconnected_at = now;
        return store_put_node(t->master->store, row);
}

/* Makes all rows agree with the connections there are. At the start there are none. */
int node_mark_all(NodeTracker *t, bool start) {
        _cleanup_(store_rollbackp) Store *tx = NULL;
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        Store *s = t->master->store;
        uint64_t now = now_realtime();
        int r;

        r = store_list_grids(s, &grids);
        if (r < 0)
                return r;
        r = store_begin(s, NULL);
        if (r < 0)
                return r;
        tx = s;

        FOREACH_ARRAY(g, grids.rows, grids.n) {
                _cleanup_(node_row_list_done) NodeRowList nodes = {};

                r = store_list_nodes(s, (*g)->id, &nodes);
                if (r < 0)
                        return r;
                FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                        bool connected = node_tracker_find_link(t, (*n)->id);

                        if (connected)
                                node_tracker_stop_waiting(t, (*n)->id);
                        if ((*n)->connected == connected)
                                continue;
                        if (start) {
                                r = wait_for(t, *n);
                                if (r < 0)
                                        return r;
                        }
                        r = mark_row(t, *n, connected, now);
                        if (r < 0)
                                return r;
                }
        }

        r = store_commit(s, NULL);
        if (r < 0)
                return r;
        tx = NULL;
        t->unmarked = false;
        return 0;
}

/* In a transaction. */
static int mark_node(NodeTracker *t, const char *node_id, bool connected, const char *reason) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        int r;

        if (connected)
                node_tracker_stop_waiting(t, node_id);
        r = store_get_node(t->master->store, node_id, &row);
        if (r == -ENOENT)
                return 0; /* removed meanwhile */
        if (r < 0)
                return r;
        r = mark_row(t, row, connected, now_realtime());
        if (r < 0)
                return r;
        (void) events_add(t->master,
                        &(EventInfo){ .severity = connected ? "info" : "warning",
                                        .type = connected ? "node:online" : "node:offline",
                                        .grid_id = row->grid_id,
                                        .node_id = row->id },
                        connected ? "Node '%s' is connected%s%s." : "Node '%s' is disconnected%s%s",
                        row->name, isempty(reason) ? "" : ": ", strempty(reason));
        return 0;
}

static void retry(NodeTracker *t, int error) {
        log_warning_errno(error, "Which nodes are connected cannot be stored, trying again: %m");
        t->unmarked = true;
        node_tracker_arm_sooner(t->rows_timer, TRACKER_RETRY_USEC);
}

static int mark_one(NodeTracker *t, const char *node_id, bool connected, const char *reason) {
        _cleanup_(store_rollbackp) Store *tx = NULL;
        Store *s = t->master->store;
        int r;

        r = store_begin(s, NULL);
        if (r < 0)
                return r;
        tx = s;
        r = mark_node(t, node_id, connected, reason);
        if (r >= 0)
                r = store_commit(s, NULL);
        if (r >= 0)
                tx = NULL;
        return r;
}

void node_mark(NodeTracker *t, const char *node_id, bool connected, const char *reason) {
        int r;

        r = mark_one(t, node_id, connected, reason);
        if (r < 0)
                retry(t, r);
}

static int mark_some(NodeTracker *t) {
        uint64_t until = now_monotonic() + TURN_USEC;
        _cleanup_(store_rollbackp) Store *tx = NULL;
        Store *s = t->master->store;
        int r;

        r = store_begin(s, NULL);
        if (r < 0)
                return r;
        tx = s;
        while (t->to_mark && now_monotonic() < until) {
                NodeLink *l = t->to_mark;

                node_mark_forget(t, l);
                r = mark_node(t, l->node_id, true, session_address(l->session));
                if (r < 0)
                        return r;
        }
        r = store_commit(s, NULL);
        if (r >= 0)
                tx = NULL;
        return r;
}

static int on_mark(sd_event_source *source, void *userdata) {
        NodeTracker *t = userdata;
        int r;

        r = mark_some(t);
        if (r < 0) {
                while (t->to_mark) /* all of them by the timer */
                        node_mark_forget(t, t->to_mark);
                retry(t, r);
        }
        if (!t->to_mark)
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

void node_mark_soon(NodeTracker *t, NodeLink *l) {
        int r;

        DL_APPEND2(t->to_mark, l, previous_to_mark, next_to_mark);
        r = sd_event_source_set_enabled(t->mark, SD_EVENT_ON);
        if (r < 0)
                node_mark_now(t, l);
}

void node_mark_forget(NodeTracker *t, NodeLink *l) {
        if (!l->previous_to_mark)
                return;
        DL_DELETE2(t->to_mark, l, previous_to_mark, next_to_mark);
        l->previous_to_mark = l->next_to_mark = NULL;
}

void node_mark_now(NodeTracker *t, NodeLink *l) {
        if (!l->previous_to_mark)
                return;
        node_mark_forget(t, l);
        node_mark(t, l->node_id, true, session_address(l->session));
}

int node_mark_start(NodeTracker *t) {
        int r;

        r = sd_event_add_defer(t->master->event, &t->mark, on_mark, t);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(t->mark, "node-mark");
        return sd_event_source_set_enabled(t->mark, SD_EVENT_OFF);
}

void node_mark_done(NodeTracker *t) {
        AwaitedNode *a, *next;

        HASH_ITER(hh, t->awaited, a, next)
                awaited_free(t, a);
        t->mark = sd_event_source_disable_unref(t->mark);
}
