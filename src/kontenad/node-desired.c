/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sodium.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "node-tracker-internal.h"
#include "string-util.h"

/* Changes of one moment reach the nodes together: the first after a pause goes at once, the others at this distance. */
#define FLUSH_MIN_USEC      (5 * USEC_PER_MSEC)
#define FLUSH_INTERVAL_USEC (50 * USEC_PER_MSEC)
static void view_free(NodeTracker *t, View *v) {
        HASH_DEL(t->views, v);
        grid_view_free(v->view);
        free(v->grid_id);
        free(v);
}

static View *find_view(NodeTracker *t, const char *grid_id) {
        View *v = NULL;

        if (grid_id)
                HASH_FIND_STR(t->views, grid_id, v);
        return v;
}

static int get_view(NodeTracker *t, const char *grid_id, GridView **ret) {
        View *v = find_view(t, grid_id);
        int r;

        if (!v) {
                v = new0(View, 1);
                if (!v)
                        return -ENOMEM;
                v->grid_id = strdup(grid_id);
                if (!v->grid_id) {
                        free(v);
                        return -ENOMEM;
                }
                r = grid_view_new(t->master->store, t->master->keyring, grid_id, now_realtime(), &v->view);
                if (r < 0) {
                        free(v->grid_id);
                        free(v);
                        return r;
                }
                HASH_ADD_KEYPTR(hh, t->views, v->grid_id, strlen(v->grid_id), v);
                if (!v->hh.tbl) {
                        grid_view_free(v->view);
                        free(v->grid_id);
                        free(v);
                        return -ENOMEM;
                }
        }

        *ret = v->view;
        return 0;
}

static void schedule_flush(NodeTracker *t) {
        uint64_t now = now_monotonic(), due = t->last_flush + FLUSH_INTERVAL_USEC;

        node_tracker_arm_sooner(t->flush_timer, MAX(due > now ? due - now : 0, FLUSH_MIN_USEC));
}

/* When a view cannot be kept up to date, it is made anew, and its nodes get everything. */
static void drop_view(NodeTracker *t, const char *grid_id) {
        View *v = find_view(t, grid_id);

        if (v)
                view_free(t, v);
        for (NodeLink *l = t->links; l; l = l->hh.next)
                if (streq(l->grid_id, grid_id))
                        l->resend = true;
        schedule_flush(t);
}

static int add_epoch(NodeLink *l, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        l->epoch = ((uint64_t) randombytes_random() << 21 | randombytes_random() >> 11) &
                   ((UINT64_C(1) << 53) - 1);
        l->seq = 0;
        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        r = json_add_u64(o, "epoch", l->epoch);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* {"epoch", "desired"} for hello, desired.get and desired.replace. */
int node_desired_whole(NodeTracker *t, NodeLink *l, json_object **ret) {
        _cleanup_json_ json_object *o = NULL, *desired = NULL;
        GridView *view;
        int r;

        r = get_view(t, l->grid_id, &view);
        if (r < 0)
                return r;
        /* Changes reach the view a moment after their commit, but what the node has just reported decides over its links. */
        r = grid_view_node_changed(view, l->node_id, now_realtime());
        if (r < 0)
                return r;
        r = add_epoch(l, &o);
        if (r < 0)
                return r;
        r = grid_view_desired(view, l->node_id, &l->sent, &desired);
        if (r < 0)
                return r;
        r = json_add(o, "desired", TAKE_PTR(desired));
        if (r < 0)
                return r;

        l->resend = false;
        l->compare = 0;
        *ret = TAKE_PTR(o);
        return 0;
}

static int send_whole(NodeTracker *t, NodeLink *l) {
        json_object *o;
        int r;

        r = node_desired_whole(t, l, &o);
        if (r < 0)
                return r;
        return session_notify(l->session, "desired.replace", o);
}

static int send_differences(NodeTracker *t, NodeLink *l) {
        _cleanup_json_ json_object *o = NULL, *set = NULL, *removed = NULL;
        GridView *view;
        int r;

        r = get_view(t, l->grid_id, &view);
        if (r < 0)
                return r;
        r = grid_view_differences(view, l->node_id, l->compare, &l->sent, &set, &removed);
        if (r < 0)
                return r;
        l->compare = 0;
        if (r == 0)
                return 0;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        if ((r = json_add_u64(o, "epoch", l->epoch)) < 0 || (r = json_add_u64(o, "seq", ++l->seq)) < 0 ||
                        (set && (r = json_add(o, "set", TAKE_PTR(set))) < 0) ||
                        (removed && (r = json_add(o, "remove", TAKE_PTR(removed))) < 0))
                return r;
        return session_notify(l->session, "desired.update", TAKE_PTR(o));
}

int node_desired_on_flush(sd_event_source *s, uint64_t usec, void *userdata) {
        NodeTracker *t = userdata;
        uint64_t now = now_realtime(), next = USEC_INFINITY;
        View *v, *next_view;
        NodeLink *l, *next_link;
        int r;

        t->last_flush = now_monotonic();
        for (v = t->views; v; v = v->hh.next)
                next = MIN(next, grid_view_expire(v->view, now));

        HASH_ITER(hh, t->links, l, next_link) {
                if (!l->ready)
                        continue;
                r = l->resend ? send_whole(t, l) : send_differences(t, l);
                if (r < 0 && r != -ENOENT) {
                        log_warning_errno(r, "Node '%s' cannot be told its desired state, trying again: %m",
                                        l->node_id);
                        l->resend = true;
                        next = MIN(next, now + TRACKER_RETRY_USEC);
                }
        }

        HASH_ITER(hh, t->views, v, next_view) {
                uint64_t known = UINT64_MAX;

                for (l = t->links; l; l = l->hh.next)
                        if (l->ready && streq(l->grid_id, v->grid_id))
                                known = MIN(known, l->sent.names);
                grid_view_prune(v->view, known);
        }

        if (next != USEC_INFINITY)
                node_tracker_arm_sooner(t->flush_timer, next > now ? next - now : FLUSH_MIN_USEC);
        return 0;
}

static void mark_affected(const char *node_id, void *userdata) {
        NodeLink *l = node_tracker_find_link(userdata, node_id);

        if (l)
                l->compare |= GRID_VIEW_INSTANCES;
}

static void on_grid(NodeTracker *t, StoreChange change, const char *grid_id) {
        View *v = find_view(t, grid_id);

        if (!v)
                return;
        if (change == STORE_REMOVED)
                view_free(t, v);
        else if (grid_view_grid_changed(v->view) < 0)
                drop_view(t, grid_id);
        else
                schedule_flush(t);
}

static void on_node(NodeTracker *t, StoreChange change, const char *node_id, const char *grid_id) {
        View *v = find_view(t, grid_id);
        NodeLink *l = node_tracker_find_link(t, node_id);

        if (change == STORE_REMOVED) {
                node_tracker_stop_waiting(t, node_id);
                if (l)
                        session_close(l->session, 4040, "The node was removed from its grid.");
        }
        if (l)
                l->compare |= GRID_VIEW_NODE;
        if (!v)
                return;
        if (grid_view_node_changed(v->view, node_id, now_realtime()) < 0)
                drop_view(t, grid_id);
        else
                schedule_flush(t);
}

static void on_instance(NodeTracker *t, const char *instance_id, const char *grid_id) {
        View *v = find_view(t, grid_id);

        if (!v)
                return;
        if (grid_view_instance_changed(v->view, instance_id, now_realtime(), mark_affected, t) < 0)
                drop_view(t, grid_id);
        else
                schedule_flush(t);
}

/* Of one that is gone it is not known any more where it was. */
static void on_volume(NodeTracker *t, const char *id, const char *grid_id) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;

        (void) store_get_volume_instance(t->master->store, id, &row);
        for (NodeLink *l = t->links; l; l = l->hh.next)
                if (row ? streq(l->node_id, row->node_id) : streq(l->grid_id, grid_id))
                        l->compare |= GRID_VIEW_VOLUMES;
        schedule_flush(t);
}

static void on_registry(NodeTracker *t, const char *grid_id) {
        for (NodeLink *l = t->links; l; l = l->hh.next)
                if (streq(l->grid_id, grid_id))
                        l->compare |= GRID_VIEW_NODE;
        schedule_flush(t);
}

void node_tracker_tell(NodeTracker *t, const char *node_id) {
        NodeLink *l = t ? node_tracker_find_link(t, node_id) : NULL;
        int r;

        if (!l || !l->ready)
                return;
        r = l->resend ? send_whole(t, l) : send_differences(t, l);
        if (r < 0) {
                l->resend = true;
                schedule_flush(t);
        }
}

void node_desired_on_change(Store *store, StoreKind kind, StoreChange change, const char *id,
                const char *grid_id, void *userdata) {
        NodeTracker *t = userdata;

        if (kind == STORE_GRID)
                on_grid(t, change, id);
        else if (kind == STORE_NODE)
                on_node(t, change, id, grid_id);
        else if (kind == STORE_INSTANCE)
                on_instance(t, id, grid_id);
        else if (kind == STORE_VOLUME_INSTANCE)
                on_volume(t, id, grid_id);
        else if (kind == STORE_REGISTRY)
                on_registry(t, grid_id);
}

void node_desired_forget(NodeTracker *t, const char *grid_id) {
        View *v, *next;

        HASH_ITER(hh, t->views, v, next)
                if (!grid_id || streq(v->grid_id, grid_id))
                        view_free(t, v);
}
