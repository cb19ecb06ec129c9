/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "desired-state.h"

#include <sodium.h>
#include <uthash.h>
#include <utlist.h>

#include "desired-json.h"
#include "dns-names.h"
#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "parse-util.h"
#include "scheduler.h"
#include "service-spec.h"
#include "string-util.h"
#include "volume.h"

typedef enum LinkKind { LINK_WIREGUARD, LINK_VXLAN, _LINK_KIND_MAX } LinkKind;
static const char *const link_names[_LINK_KIND_MAX] = {
        [LINK_WIREGUARD] = "wireguard", [LINK_VXLAN] = "vxlan"
};

typedef struct ViewNode {
        char *id, *region;
        json_object *peer[_LINK_KIND_MAX]; /* NULL: has not reported, or is gone */
        uint64_t hash, version;
        uint32_t private_address;
        bool connected;
        uint64_t disconnected_at;
        struct ViewInstance *instances;
        UT_hash_handle hh;
} ViewNode;

typedef struct ViewInstance {
        char *id;
        ViewNode *node;                   /* NULL: not placed */
        struct ViewInstance *prev, *next; /* of this node */
        char **names;
        uint32_t address; /* 0: serves nobody */
        uint64_t grace;
        UT_hash_handle hh;
} ViewInstance;

/* Kept when the service is gone: its instances may outlive it. */
typedef struct ViewService {
        char *id, *stack, *name;
        UT_hash_handle hh;
} ViewService;

struct SentInstance {
        char *id;
        uint64_t hash;
        bool present;
        UT_hash_handle hh;
};

struct GridView {
        Store *store;
        struct Keyring *keyring;
        char *grid_id;
        GridRow *grid;
        Ipv4Prefix *trusted;
        size_t n_trusted;
        json_object *grid_json;
        uint64_t grid_hash, basis;
        ViewNode *nodes;
        ViewInstance *instances;
        ViewService *services;
        DnsNames *names;
        json_object *names_set, *names_removed; /* of the last differences */
        uint64_t rendered_since, rendered_version;
        bool rendered;
        uint64_t peers_version;
};

static uint64_t hash_bytes(const void *p, size_t n) {
        static const uint8_t key[crypto_shorthash_KEYBYTES] = "kontena desired";
        uint64_t h;

        (void) crypto_shorthash((uint8_t *) &h, p, n, key);
        return h;
}

static int hash_json(json_object *o, uint64_t *ret) {
        const char *text = json_text(o);

        if (!text)
                return -ENOMEM;
        *ret = hash_bytes(text, strlen(text));
        return 0;
}

static void view_node_free(GridView *v, ViewNode *n) {
        HASH_DEL(v->nodes, n);
        for (LinkKind k = 0; k < _LINK_KIND_MAX; k++)
                json_object_put(n->peer[k]);
        free(n->region);
        free(n->id);
        free(n);
}

/* node may be NULL. */
static void view_instance_place(ViewInstance *i, ViewNode *node) {
        if (i->node == node)
                return;
        if (i->node)
                DL_DELETE(i->node->instances, i);
        i->node = node;
        if (node)
                DL_APPEND(node->instances, i);
}

static void view_instance_free(GridView *v, ViewInstance *i) {
        HASH_DEL(v->instances, i);
        view_instance_place(i, NULL);
        free(i->id);
        strv_free(i->names);
        free(i);
}

static void view_service_free(ViewService *s) {
        free(s->id);
        free(s->stack);
        free(s->name);
        free(s);
}

GridView *grid_view_free(GridView *v) {
        ViewInstance *i, *next_instance;
        ViewService *s, *next_service;
        ViewNode *n, *next_node;

        if (!v)
                return NULL;

        HASH_ITER(hh, v->instances, i, next_instance)
                view_instance_free(v, i);
        HASH_ITER(hh, v->nodes, n, next_node)
                view_node_free(v, n);
        HASH_ITER(hh, v->services, s, next_service) {
                HASH_DEL(v->services, s);
                view_service_free(s);
        }
        dns_names_free(v->names);
        json_object_put(v->names_set);
        json_object_put(v->names_removed);
        json_object_put(v->grid_json);
        grid_row_free(v->grid);
        free(v->trusted);
        free(v->grid_id);
        return mfree(v);
}

void sent_state_done(SentState *s) {
        SentInstance *i, *next;

        HASH_ITER(hh, s->instances, i, next) {
                HASH_DEL(s->instances, i);
                free(i->id);
                free(i);
        }
        sent_volumes_free(s->volumes);
        *s = (SentState){};
}

/* Grid */

int grid_view_grid_changed(GridView *v) {
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ Ipv4Prefix *trusted = NULL;
        uint64_t hash;
        size_t n = 0;
        int r;

        assert(v);

        r = store_get_grid(v->store, v->grid_id, &grid);
        if (r < 0)
                return r;
        r = desired_grid_to_json(grid, &o);
        if (r < 0)
                return r;
        r = hash_json(o, &hash);
        if (r < 0)
                return r;

        trusted = new0(Ipv4Prefix, strv_length(grid->trusted_subnets) + 1);
        if (!trusted)
                return -ENOMEM;
        STRV_FOREACH(s, grid->trusted_subnets)
                if (parse_ipv4_prefix(*s, &trusted[n]) >= 0)
                        n++;

        grid_row_free(v->grid);
        v->grid = TAKE_PTR(grid);
        free(v->trusted);
        v->trusted = TAKE_PTR(trusted);
        v->n_trusted = n;
        json_object_put(v->grid_json);
        v->grid_json = TAKE_PTR(o);
        v->grid_hash = hash;
        v->basis = hash_bytes(v->trusted, n * sizeof(Ipv4Prefix));
        return 0;
}

/* Nodes */

static const char *find_label_value(char *const *labels, const char *key) {
        STRV_FOREACH(l, labels) {
                const char *value = startswith(*l, key);

                if (value && value[0] == '=')
                        return value + 1;
        }
        return NULL;
}

static int get_node(GridView *v, const char *id, ViewNode **ret) {
        ViewNode *n = NULL;

        HASH_FIND_STR(v->nodes, id, n);
        if (!n) {
                n = new0(ViewNode, 1);
                if (!n)
                        return -ENOMEM;
                n->id = strdup(id);
                if (!n->id) {
                        free(n);
                        return -ENOMEM;
                }
                HASH_ADD_KEYPTR(hh, v->nodes, n->id, strlen(n->id), n);
                if (!n->hh.tbl) {
                        free(n->id);
                        free(n);
                        return -ENOMEM;
                }
        }

        *ret = n;
        return 0;
}

static void update_names_of(GridView *v, ViewInstance *i, uint64_t now) {
        const ViewNode *n = i->node;
        bool reachable = n && (n->connected || now < n->disconnected_at + i->grace);
        int r;

        r = dns_names_set(v->names, i->id, i->names, reachable ? i->address : 0);
        if (r < 0)
                log_warning_errno(r, "Instance '%s' of grid '%s' gets no name: %m", i->id, v->grid->name);
}

static int set_peer(GridView *v, ViewNode *n, const NodeRow *row) {
        _cleanup_json_ json_object *wireguard = NULL, *vxlan = NULL;
        const char *address = NULL, *region = "default";
        uint64_t hash = 0;
        int r;

        if (row && row->report) {
                region = find_label_value(row->labels, "region") ?: region;
                r = desired_peer_to_json(v->grid, row, region, link_names[LINK_WIREGUARD], &wireguard);
                if (r < 0)
                        return r;
                r = desired_peer_to_json(v->grid, row, region, link_names[LINK_VXLAN], &vxlan);
                if (r < 0)
                        return r;
                r = hash_json(vxlan, &hash);
                if (r < 0)
                        return r;
                (void) json_find_string(row->report, "private_address", &address, NULL);
        }
        if (hash == n->hash)
                return 0;

        r = free_and_strdup(&n->region, region);
        if (r < 0)
                return r;
        if (!address || parse_ipv4(address, &n->private_address) < 0)
                n->private_address = 0;
        for (LinkKind k = 0; k < _LINK_KIND_MAX; k++)
                json_object_put(n->peer[k]);
        n->peer[LINK_WIREGUARD] = TAKE_PTR(wireguard);
        n->peer[LINK_VXLAN] = TAKE_PTR(vxlan);
        n->hash = hash;
        n->version = ++v->peers_version;
        return 0;
}

static int take_node(GridView *v, const char *node_id, const NodeRow *row, uint64_t now) {
        bool connected = row && row->connected;
        uint64_t disconnected_at = row ? row->disconnected_at : 0;
        ViewInstance *i;
        ViewNode *n;
        int r;

        r = get_node(v, node_id, &n);
        if (r < 0)
                return r;
        r = set_peer(v, n, row);
        if (r < 0)
                return r;

        if (connected == n->connected && disconnected_at == n->disconnected_at)
                return 0;
        n->connected = connected;
        n->disconnected_at = disconnected_at;
        DL_FOREACH(n->instances, i)
                update_names_of(v, i, now);
        return 0;
}

int grid_view_node_changed(GridView *v, const char *node_id, uint64_t now) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        int r;

        assert(v);
        assert(node_id);

        r = store_get_node(v->store, node_id, &row);
        if (r < 0 && r != -ENOENT)
                return r;
        return take_node(v, node_id, row, now);
}

/* Instances */

static int get_service(GridView *v, const char *id, ViewService **ret) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        ViewService *s = NULL;
        int r;

        HASH_FIND_STR(v->services, id, s);
        if (s) {
                *ret = s;
                return 0;
        }

        r = store_get_service(v->store, id, &row);
        if (r < 0)
                return r;
        s = new0(ViewService, 1);
        if (!s)
                return -ENOMEM;
        s->id = TAKE_PTR(row->id);
        s->stack = TAKE_PTR(row->stack);
        s->name = TAKE_PTR(row->name);
        HASH_ADD_KEYPTR(hh, v->services, s->id, strlen(s->id), s);
        if (!s->hh.tbl) {
                view_service_free(s);
                return -ENOMEM;
        }

        *ret = s;
        return 0;
}

/* An instance has names from the moment it runs (with wait_for_port: is ready) until it stops. While the image of its next
 * version is pulled the old container still serves; that is when there is a process although the state is not yet "running". */
static bool serves(const InstanceRow *row) {
        if (row->desired != INSTANCE_RUNNING || row->role != INSTANCE_CURRENT || !row->address ||
                        !row->state || streq_ptr(row->health, "unhealthy"))
                return false;
        return streq(row->state, "running") ||
               (row->pid > 0 && STR_IN_SET(row->state, "pending", "pulling"));
}

static uint64_t instance_grace(const InstanceRow *row) {
        const char *strategy = NULL;
        Strategy s = STRATEGY_HA;

        if (row->spec && json_find_string(row->spec, "strategy", &strategy, NULL) > 0)
                s = strategy_from_string(strategy);
        return strategy_offline_grace(s);
}

static int take_instance(GridView *v, const InstanceRow *row, uint64_t now) {
        ViewService *service;
        ViewInstance *i = NULL;
        ViewNode *node = NULL;
        uint32_t address = 0;
        int r;

        HASH_FIND_STR(v->instances, row->id, i);
        if (!i) {
                i = new0(ViewInstance, 1);
                if (!i)
                        return -ENOMEM;
                i->id = strdup(row->id);
                if (!i->id) {
                        free(i);
                        return -ENOMEM;
                }
                HASH_ADD_KEYPTR(hh, v->instances, i->id, strlen(i->id), i);
                if (!i->hh.tbl) {
                        free(i->id);
                        free(i);
                        return -ENOMEM;
                }
        }
        if (!i->names) {
                r = get_service(v, row->service_id, &service);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r >= 0) {
                        r = dns_names_of_instance(v->grid->name, service->stack, service->name, row->number,
                                        &i->names);
                        if (r < 0)
                                return r;
                }
        }

        r = row->node_id ? get_node(v, row->node_id, &node) : 0;
        if (r < 0)
                return r;
        view_instance_place(i, node);
        if (serves(row) && i->names)
                (void) parse_ipv4(row->address, &address);
        i->address = address;
        i->grace = instance_grace(row);
        update_names_of(v, i, now);
        return 0;
}

int grid_view_instance_changed(GridView *v, const char *instance_id, uint64_t now,
                grid_view_affected_t affected, void *userdata) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        ViewInstance *i = NULL;
        int r;

        assert(v);
        assert(instance_id);

        r = store_get_instance(v->store, instance_id, &row);
        if (r < 0 && r != -ENOENT)
                return r;

        HASH_FIND_STR(v->instances, instance_id, i);
        if (i && i->node && (!row || !streq_ptr(row->node_id, i->node->id)))
                affected(i->node->id, userdata);
        if (row && row->node_id)
                affected(row->node_id, userdata);

        if (row)
                return take_instance(v, row, now);
        if (i) {
                (void) dns_names_set(v->names, i->id, i->names, 0);
                view_instance_free(v, i);
        }
        return 0;
}

uint64_t grid_view_expire(GridView *v, uint64_t now) {
        uint64_t next = USEC_INFINITY;

        for (const ViewNode *n = v->nodes; n; n = n->hh.next) {
                ViewInstance *i;

                if (n->connected)
                        continue;
                DL_FOREACH(n->instances, i)
                        if (now >= n->disconnected_at + i->grace)
                                update_names_of(v, i, now);
                        else if (i->address != 0)
                                next = MIN(next, n->disconnected_at + i->grace);
        }
        return next;
}

int grid_view_new(Store *s, struct Keyring *k, const char *grid_id, uint64_t now, GridView **ret) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_(grid_view_freep) GridView *v = NULL;
        int r;

        assert(s);
        assert(grid_id);
        assert(ret);

        v = new0(GridView, 1);
        if (!v)
                return -ENOMEM;
        v->store = s;
        v->keyring = k;
        v->grid_id = strdup(grid_id);
        if (!v->grid_id)
                return -ENOMEM;
        r = dns_names_new(&v->names);
        if (r < 0)
                return r;
        r = grid_view_grid_changed(v);
        if (r < 0)
                return r;

        r = store_list_nodes(s, grid_id, &nodes);
        if (r < 0)
                return r;
        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                r = take_node(v, (*n)->id, *n, now);
                if (r < 0)
                        return r;
        }
        r = store_list_instances_of_grid(s, grid_id, &instances);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, instances.rows, instances.n) {
                r = take_instance(v, *i, now);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(v);
        return 0;
}

/* What a node is told */

static int add_whole(json_object **parent, const char *key, json_object *value) {
        if (!*parent) {
                *parent = json_object_new_object();
                if (!*parent) {
                        json_object_put(value);
                        return -ENOMEM;
                }
        }
        return json_add(*parent, key, value);
}

/* Makes *section[key] if it is not there, and adds to it. */
static int add_to_section(json_object **parent, const char *key, const char *name, json_object *value) {
        json_object *section = NULL;
        int r;

        if (!json_object_object_get_ex(*parent, key, &section)) {
                section = name ? json_object_new_object() : json_object_new_array();
                r = section ? add_whole(parent, key, section) : -ENOMEM;
                if (r < 0) {
                        json_object_put(value);
                        return r;
                }
        }
        return name ? json_add(section, name, value) : json_append(section, value);
}

static int add_removed(json_object **parent, const char *key, const char *id) {
        json_object *s = json_object_new_string(id);

        return s ? add_to_section(parent, key, NULL, s) : -ENOMEM;
}

/* Both in one trusted network, and that network the same: equal private ranges exist in many places. */
static LinkKind choose_link(const GridView *v, const ViewNode *a, const ViewNode *b) {
        if (a->private_address != 0 && b->private_address != 0 && streq_ptr(a->region, b->region))
                FOREACH_ARRAY(p, v->trusted, v->n_trusted)
                        if (ipv4_prefix_contains(p, a->private_address) &&
                                        ipv4_prefix_contains(p, b->private_address))
                                return LINK_VXLAN;
        return LINK_WIREGUARD;
}

static int compare_peers(GridView *v, const ViewNode *own, SentState *sent, json_object **set,
                json_object **removed) {
        uint64_t basis = v->basis ^ hash_bytes(&own->private_address, sizeof(own->private_address)) ^
                         hash_bytes(strempty(own->region), strlen(strempty(own->region)));
        uint64_t since = basis == sent->basis ? sent->peers : 0;
        int r;

        if (since == v->peers_version)
                return 0;

        for (ViewNode *n = v->nodes; n; n = n->hh.next) {
                json_object *peer;

                if (n == own || n->version <= since)
                        continue;
                peer = n->peer[choose_link(v, own, n)];
                if (peer)
                        r = add_to_section(set, "peers", n->id, json_object_get(peer));
                else
                        r = sent->peers > 0 ? add_removed(removed, "peers", n->id) : 0;
                if (r < 0)
                        return r;
        }

        sent->peers = v->peers_version;
        sent->basis = basis;
        return 0;
}

/* Most nodes know the same, so what is new is rendered once and shared. */
static int render_names(GridView *v, uint64_t since) {
        int r;

        if (v->rendered_since == since && v->rendered_version == dns_names_version(v->names) && v->rendered)
                return 0;

        json_object_put(v->names_set);
        json_object_put(v->names_removed);
        v->names_set = v->names_removed = NULL;
        v->rendered = false;

        r = dns_names_differences(v->names, since, &v->names_set, &v->names_removed);
        if (r < 0)
                return r;
        v->rendered = true;
        v->rendered_since = since;
        v->rendered_version = dns_names_version(v->names);
        return 0;
}

static int compare_names(GridView *v, SentState *sent, json_object **set, json_object **removed) {
        int r;

        if (sent->names == dns_names_version(v->names))
                return 0;
        r = render_names(v, sent->names);
        if (r < 0)
                return r;
        if (v->names_set) {
                r = add_whole(set, "names", json_object_get(v->names_set));
                if (r < 0)
                        return r;
        }
        if (v->names_removed) {
                r = add_whole(removed, "names", json_object_get(v->names_removed));
                if (r < 0)
                        return r;
        }

        sent->names = dns_names_version(v->names);
        return 0;
}

static int compare_instance(GridView *v, json_object *report, const InstanceRow *row, SentState *sent,
                json_object **set) {
        _cleanup_json_ json_object *o = NULL;
        ViewService *service;
        SentInstance *i = NULL;
        uint64_t hash;
        int r;

        r = get_service(v, row->service_id, &service);
        if (r == -ENOENT)
                return 0; /* what is not told is to be removed, and so it is */
        if (r < 0)
                return r;
        r = desired_instance_to_json(
                        v->store, v->keyring, v->grid, report, service->stack, service->name, row, &o);
        if (r >= 0)
                r = volume_add_to_instance(v->store, v->grid_id, service->stack, service->name, row, o);
        if (r >= 0)
                r = hash_json(o, &hash);
        if (r < 0)
                return r;

        HASH_FIND_STR(sent->instances, row->id, i);
        if (!i) {
                i = new0(SentInstance, 1);
                if (!i)
                        return -ENOMEM;
                i->id = strdup(row->id);
                i->hash = ~hash;
                if (i->id)
                        HASH_ADD_KEYPTR(hh, sent->instances, i->id, strlen(i->id), i);
                if (!i->id || !i->hh.tbl) {
                        free(i->id);
                        free(i);
                        return -ENOMEM;
                }
        }
        i->present = true;
        if (i->hash == hash)
                return 0;
        i->hash = hash;
        return add_to_section(set, "instances", row->id, TAKE_PTR(o));
}

static int compare_instances(GridView *v, const char *node_id, SentState *sent, json_object **set,
                json_object **removed) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        SentInstance *i, *next;
        int r;

        r = store_get_node(v->store, node_id, &node);
        if (r >= 0)
                r = store_list_instances_of_node(v->store, node_id, &rows);
        if (r < 0)
                return r;

        for (i = sent->instances; i; i = i->hh.next)
                i->present = false;
        FOREACH_ARRAY(row, rows.rows, rows.n) {
                r = compare_instance(v, node->report, *row, sent, set);
                if (r < 0)
                        return r;
        }
        HASH_ITER(hh, sent->instances, i, next) {
                if (i->present)
                        continue;
                r = add_removed(removed, "instances", i->id);
                if (r < 0)
                        return r;
                HASH_DEL(sent->instances, i);
                free(i->id);
                free(i);
        }
        return 0;
}

static int compare_node(GridView *v, const char *node_id, SentState *sent, json_object **set) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        _cleanup_json_ json_object *o = NULL;
        uint64_t hash;
        int r;

        r = store_get_node(v->store, node_id, &row);
        if (r < 0)
                return r;
        r = desired_node_to_json(v->store, v->keyring, v->grid, row, &o);
        if (r >= 0)
                r = hash_json(o, &hash);
        if (r < 0)
                return r;
        if (hash == sent->node)
                return 0;
        sent->node = hash;
        return add_whole(set, "node", TAKE_PTR(o));
}

int grid_view_differences(GridView *v, const char *node_id, unsigned compare, SentState *sent,
                json_object **ret_set, json_object **ret_removed) {
        _cleanup_json_ json_object *set = NULL, *removed = NULL;
        ViewNode *own;
        int r;

        assert(v);
        assert(node_id);
        assert(sent);

        r = get_node(v, node_id, &own);
        if (r < 0)
                return r;
        if (compare & GRID_VIEW_NODE) {
                r = compare_node(v, node_id, sent, &set);
                if (r < 0)
                        return r;
        }
        if (v->grid_hash != sent->grid) {
                r = add_whole(&set, "grid", json_object_get(v->grid_json));
                if (r < 0)
                        return r;
                sent->grid = v->grid_hash;
        }
        r = compare_peers(v, own, sent, &set, &removed);
        if (r < 0)
                return r;
        r = compare_names(v, sent, &set, &removed);
        if (r < 0)
                return r;
        r = compare & GRID_VIEW_VOLUMES
                            ? desired_volumes_compare(v->store, node_id, &sent->volumes, &set, &removed)
                            : 0;
        if (r >= 0 && (compare & GRID_VIEW_INSTANCES))
                r = compare_instances(v, node_id, sent, &set, &removed);
        if (r < 0)
                return r;

        r = set || removed;
        *ret_set = TAKE_PTR(set);
        *ret_removed = TAKE_PTR(removed);
        return r;
}

int grid_view_desired(GridView *v, const char *node_id, SentState *sent, json_object **ret) {
        static const char *const sections[] = { "peers", "names", "volumes", "instances" };
        _cleanup_json_ json_object *set = NULL, *removed = NULL;
        int r;

        sent_state_done(sent);
        r = grid_view_differences(v, node_id, GRID_VIEW_NODE | GRID_VIEW_VOLUMES | GRID_VIEW_INSTANCES, sent,
                        &set, &removed);
        if (r < 0)
                return r;

        for (size_t i = 0; i < ELEMENTSOF(sections); i++)
                if (!json_object_object_get_ex(set, sections[i], NULL)) {
                        r = add_whole(&set, sections[i], json_object_new_object());
                        if (r < 0)
                                return r;
                }

        *ret = TAKE_PTR(set);
        return 0;
}

void grid_view_prune(GridView *v, uint64_t names) {
        dns_names_prune(v->names, names);
}
