/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "placement-cache.h"

#include <uthash.h>
#include <utlist.h>

#include "file-util.h"
#include "placement-internal.h"
#include "placement.h"
#include "store.h"
#include "string-util.h"

typedef struct KnownNode KnownNode;

typedef struct KnownService {
        char *id, *stack, *name;
        UT_hash_handle hh;
} KnownService;

typedef struct KnownInstance {
        char *id;
        KnownService *service;
        KnownNode *node;
        uint32_t number;
        uint64_t created_at;
        ServiceSpec *spec; /* for its ports, NULL: it has none */
        struct KnownInstance *prev, *next;
        UT_hash_handle hh;
} KnownInstance;

struct KnownNode {
        SchedulerNode node; /* without instances */
        uint64_t disconnected_at;
        KnownInstance *instances; /* by service, number and age, as the store lists them */
        UT_hash_handle hh;
};

/* A row that has changed since it was read. */
typedef struct Stale {
        char *id;
        UT_hash_handle hh;
} Stale;

typedef struct KnownGrid {
        char *id;
        char **default_affinity;
        KnownNode *nodes;
        KnownService *services;
        KnownInstance *instances;
        Stale *stale_nodes, *stale_instances;
        UT_hash_handle hh;
} KnownGrid;

struct PlacementCache {
        Store *store;
        KnownGrid *grids;
};

static void stale_remove(Stale **table, Stale *s) {
        HASH_DEL(*table, s);
        free(s->id);
        free(s);
}

static int stale_add(Stale **table, const char *id) {
        Stale *s = NULL;

        HASH_FIND_STR(*table, id, s);
        if (s)
                return 0;
        s = new0(Stale, 1);
        if (!s)
                return -ENOMEM;
        s->id = strdup(id);
        if (s->id)
                HASH_ADD_KEYPTR(hh, *table, s->id, strlen(s->id), s);
        if (!s->hh.tbl) {
                free(s->id);
                free(s);
                return -ENOMEM;
        }
        return 0;
}

static void instance_forget(KnownGrid *g, KnownInstance *i) {
        DL_DELETE(i->node->instances, i);
        HASH_DEL(g->instances, i);
        service_spec_free(i->spec);
        free(i->id);
        free(i);
}

static void node_done(SchedulerNode *n) {
        free(n->id);
        free(n->name);
        strv_free(n->labels);
        strv_free(n->volume_drivers);
}

static KnownGrid *grid_forget(PlacementCache *c, KnownGrid *g) {
        KnownInstance *i, *next_instance;
        KnownService *v, *next_service;
        KnownNode *n, *next_node;
        Stale *s, *next_stale;

        if (!g)
                return NULL;

        if (g->hh.tbl)
                HASH_DEL(c->grids, g);
        HASH_ITER(hh, g->instances, i, next_instance)
                instance_forget(g, i);
        HASH_ITER(hh, g->services, v, next_service) {
                HASH_DEL(g->services, v);
                free(v->id);
                free(v->stack);
                free(v->name);
                free(v);
        }
        HASH_ITER(hh, g->nodes, n, next_node) {
                HASH_DEL(g->nodes, n);
                node_done(&n->node);
                free(n);
        }
        HASH_ITER(hh, g->stale_nodes, s, next_stale)
                stale_remove(&g->stale_nodes, s);
        HASH_ITER(hh, g->stale_instances, s, next_stale)
                stale_remove(&g->stale_instances, s);
        strv_free(g->default_affinity);
        free(g->id);
        free(g);
        return NULL;
}

/* Only takes note: the store is in the middle of something. What is rare is read anew as a whole. */
static void on_touch(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        PlacementCache *c = userdata;
        KnownGrid *g = NULL;
        int r = 0;

        if (grid_id)
                HASH_FIND_STR(c->grids, grid_id, g);
        if (!g)
                return;

        if (kind == STORE_INSTANCE)
                r = stale_add(&g->stale_instances, id);
        else if (kind == STORE_NODE && change != STORE_REMOVED)
                r = stale_add(&g->stale_nodes, id);
        else if (kind == STORE_NODE || kind == STORE_GRID ||
                        (kind == STORE_SERVICE && change == STORE_REMOVED))
                grid_forget(c, g);
        if (r < 0)
                grid_forget(c, g);
}

static int take_node(KnownGrid *g, const NodeRow *row) {
        SchedulerNode fresh = {};
        KnownNode *n = NULL;
        int r;

        r = placement_fill_node(row, &fresh);
        if (r < 0) {
                node_done(&fresh);
                return r;
        }
        HASH_FIND_STR(g->nodes, row->id, n);
        if (n) { /* the key stays where it is */
                free(fresh.id);
                fresh.id = TAKE_PTR(n->node.id);
                node_done(&n->node);
                n->node = fresh;
                n->disconnected_at = row->disconnected_at;
                return 0;
        }

        n = new0(KnownNode, 1);
        if (!n) {
                node_done(&fresh);
                return -ENOMEM;
        }
        n->node = fresh;
        n->disconnected_at = row->disconnected_at;
        HASH_ADD_KEYPTR(hh, g->nodes, n->node.id, strlen(n->node.id), n);
        if (!n->hh.tbl) {
                node_done(&n->node);
                free(n);
                return -ENOMEM;
        }
        return 0;
}

/* -ENOENT: an instance of one that is gone, which counts no more. */
static int find_service(PlacementCache *c, KnownGrid *g, const char *id, KnownService **ret) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        KnownService *s = NULL;
        int r;

        HASH_FIND_STR(g->services, id, s);
        if (s) {
                *ret = s;
                return 0;
        }

        r = store_get_service(c->store, id, &row);
        if (r < 0)
                return r;
        s = new0(KnownService, 1);
        if (!s)
                return -ENOMEM;
        s->id = TAKE_PTR(row->id);
        s->stack = TAKE_PTR(row->stack);
        s->name = TAKE_PTR(row->name);
        HASH_ADD_KEYPTR(hh, g->services, s->id, strlen(s->id), s);
        if (!s->hh.tbl) {
                free(s->id);
                free(s->stack);
                free(s->name);
                free(s);
                return -ENOMEM;
        }

        *ret = s;
        return 0;
}

static int compare_instances(const KnownInstance *a, const KnownInstance *b) {
        int r = strcmp(a->service->id, b->service->id);

        if (r != 0)
                return r;
        if (a->number != b->number)
                return a->number < b->number ? -1 : 1;
        return a->created_at < b->created_at ? -1 : a->created_at > b->created_at;
}

static int take_instance(PlacementCache *c, KnownGrid *g, const char *id, const InstanceRow *row) {
        KnownInstance *i = NULL;
        KnownNode *n = NULL;
        KnownService *s;
        int r;

        HASH_FIND_STR(g->instances, id, i);
        if (i)
                instance_forget(g, i);
        if (!row || !row->node_id || row->desired == INSTANCE_TERMINATED)
                return 0;
        HASH_FIND_STR(g->nodes, row->node_id, n);
        if (!n)
                return 0;
        r = find_service(c, g, row->service_id, &s);
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        i = new0(KnownInstance, 1);
        if (!i)
                return -ENOMEM;
        i->service = s;
        i->node = n;
        i->number = row->number;
        i->created_at = row->created_at;
        i->id = strdup(id);
        r = i->id ? placement_read_ports(s->stack, s->name, row, &i->spec) : -ENOMEM;
        if (r >= 0)
                HASH_ADD_KEYPTR(hh, g->instances, i->id, strlen(i->id), i);
        if (!i->hh.tbl) {
                service_spec_free(i->spec);
                free(i->id);
                free(i);
                return -ENOMEM;
        }
        DL_INSERT_INORDER(n->instances, i, compare_instances);
        return 0;
}

static int read_grid(PlacementCache *c, const char *grid_id) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_(grid_row_freep) GridRow *row = NULL;
        KnownGrid *g;
        int r;

        r = store_get_grid(c->store, grid_id, &row);
        if (r >= 0)
                r = store_list_nodes(c->store, grid_id, &nodes);
        if (r >= 0)
                r = store_list_instances_of_grid(c->store, grid_id, &instances);
        if (r < 0)
                return r;

        g = new0(KnownGrid, 1);
        if (!g)
                return -ENOMEM;
        g->id = strdup(grid_id);
        g->default_affinity = TAKE_PTR(row->default_affinity);
        r = g->id ? 0 : -ENOMEM;
        for (size_t n = 0; n < nodes.n && r >= 0; n++)
                r = take_node(g, nodes.rows[n]);
        for (size_t i = 0; i < instances.n && r >= 0; i++)
                r = take_instance(c, g, instances.rows[i]->id, instances.rows[i]);
        if (r >= 0) {
                HASH_ADD_KEYPTR(hh, c->grids, g->id, strlen(g->id), g);
                r = g->hh.tbl ? 0 : -ENOMEM;
        }
        if (r < 0)
                grid_forget(c, g);
        return r;
}

/* Nodes first: instances are put on them. A row that is gone was told as that, unless it never came to be. */
static int read_stale(PlacementCache *c, KnownGrid *g) {
        Stale *s, *next;
        int r;

        HASH_ITER(hh, g->stale_nodes, s, next) {
                _cleanup_(node_row_freep) NodeRow *row = NULL;

                r = store_get_node(c->store, s->id, &row);
                if (r >= 0)
                        r = take_node(g, row);
                if (r < 0) /* -ENOENT: a node whose addition was taken back */
                        return r == -ENOENT ? -ESTALE : r;
                stale_remove(&g->stale_nodes, s);
        }
        HASH_ITER(hh, g->stale_instances, s, next) {
                _cleanup_(instance_row_freep) InstanceRow *row = NULL;

                r = store_get_instance(c->store, s->id, &row);
                if (r >= 0 || r == -ENOENT)
                        r = take_instance(c, g, s->id, row);
                if (r < 0)
                        return r;
                stale_remove(&g->stale_instances, s);
        }
        return 0;
}

static int find_grid(PlacementCache *c, const char *grid_id, KnownGrid **ret) {
        KnownGrid *g = NULL;
        int r;

        HASH_FIND_STR(c->grids, grid_id, g);
        if (g) {
                r = read_stale(c, g);
                if (r >= 0) {
                        *ret = g;
                        return 0;
                }
                grid_forget(c, g); /* half of it may be of now */
                if (r != -ESTALE)
                        return r;
        }

        r = read_grid(c, grid_id);
        if (r < 0)
                return r;
        HASH_FIND_STR(c->grids, grid_id, *ret);
        return 0;
}

static int compare_numbers(const void *a, const void *b) {
        const KnownNode *x = *(KnownNode *const *) a, *y = *(KnownNode *const *) b;

        return x->node.number < y->node.number ? -1 : x->node.number > y->node.number;
}

static int copy_node(const KnownNode *k, uint64_t now, SchedulerNode *n) {
        *n = k->node;
        n->id = strdup(k->node.id);
        n->name = strdup(k->node.name);
        n->labels = k->node.labels ? strv_copy(k->node.labels) : NULL;
        n->volume_drivers = k->node.volume_drivers ? strv_copy(k->node.volume_drivers) : NULL;
        n->offline_usec = placement_offline_usec(n, k->disconnected_at, now);
        return n->id && n->name && (n->labels || !k->node.labels) &&
                                               (n->volume_drivers || !k->node.volume_drivers)
                               ? 0
                               : -ENOMEM;
}

static int copy_grid(const KnownGrid *g, uint64_t now, SchedulerSnapshot *ret) {
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        _cleanup_free_ KnownNode **nodes = NULL;
        size_t n = 0;
        int r;

        if (g->default_affinity) {
                s.default_affinity = strv_copy(g->default_affinity);
                if (!s.default_affinity)
                        return -ENOMEM;
        }
        nodes = new0(KnownNode *, MAX(HASH_COUNT(g->nodes), 1U));
        s.nodes = new0(SchedulerNode, MAX(HASH_COUNT(g->nodes), 1U));
        if (!nodes || !s.nodes)
                return -ENOMEM;
        for (KnownNode *k = g->nodes; k; k = k->hh.next)
                nodes[n++] = k;
        qsort(nodes, n, sizeof(KnownNode *), compare_numbers);

        FOREACH_ARRAY(k, nodes, n) {
                size_t index = s.n_nodes++;
                KnownInstance *i;

                r = copy_node(*k, now, &s.nodes[index]);
                if (r < 0)
                        return r;
                DL_FOREACH((*k)->instances, i) {
                        r = placement_add_instance(&s, index, i->service->id, i->service->stack,
                                        i->service->name, i->number, i->spec);
                        if (r < 0)
                                return r;
                }
        }

        *ret = TAKE_GENERIC(s, (SchedulerSnapshot){});
        return 0;
}

int placement_get(Master *m, const char *grid_id, uint64_t now, SchedulerSnapshot *ret) {
        KnownGrid *g;
        int r;

        assert(m);
        assert(grid_id);
        assert(ret);

        if (!m->placement)
                return placement_snapshot(m->store, grid_id, now, ret);
        r = find_grid(m->placement, grid_id, &g);
        if (r < 0)
                return r;
        return copy_grid(g, now, ret);
}

PlacementCache *placement_cache_free(PlacementCache *c) {
        KnownGrid *g, *next;

        if (!c)
                return NULL;

        store_watch_now(c->store, NULL, NULL);
        HASH_ITER(hh, c->grids, g, next)
                grid_forget(c, g);
        return mfree(c);
}

int placement_cache_new(Store *s, PlacementCache **ret) {
        PlacementCache *c;

        assert(s);
        assert(ret);

        c = new0(PlacementCache, 1);
        if (!c)
                return -ENOMEM;
        c->store = s;
        store_watch_now(s, on_touch, c);

        *ret = c;
        return 0;
}
