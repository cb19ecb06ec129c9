/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "placement.h"

#include <uthash.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "placement-internal.h"
#include "string-util.h"
#include "volume.h"

uint64_t placement_seed(const char *a, uint64_t b) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (const char *p = a; *p; p++)
                h = (h ^ (uint8_t) *p) * UINT64_C(0x100000001b3);
        return h ^ (b * UINT64_C(0x9e3779b97f4a7c15));
}

static int read_memory(json_object *report, SchedulerNode *n) {
        uint64_t buffers = 0, cached = 0;
        json_object *memory = NULL;
        int r;

        r = json_find_object(report, "memory", &memory, NULL);
        if (r <= 0)
                return r;

        (void) json_find_u64(memory, "total", &n->memory_total, NULL);
        (void) json_find_u64(memory, "free", &n->memory_free, NULL);
        (void) json_find_u64(memory, "buffers", &buffers, NULL);
        (void) json_find_u64(memory, "cached", &cached, NULL);
        n->memory_available = n->memory_free + buffers + cached;
        /* The kernel's own estimate leaves out caches that cannot be dropped, say tmpfs. */
        (void) json_find_u64(memory, "available", &n->memory_available, NULL);
        return 0;
}

/* One that does not tell, as it is old or has never reported, has what all had at first: containers. */
static void read_runtimes(json_object *report, SchedulerNode *n) {
        _cleanup_strv_free_ char **l = NULL;

        if (json_find_strv(report, "runtimes", &l, NULL) <= 0)
                return;
        n->no_containers = !strv_contains(l, runtime_kind_to_string(RUNTIME_OCI));
        n->machines = strv_contains(l, runtime_kind_to_string(RUNTIME_NSPAWN));
}

uint64_t placement_offline_usec(const SchedulerNode *n, uint64_t disconnected_at, uint64_t now) {
        if (n->connected)
                return 0;
        if (disconnected_at == 0)
                return USEC_INFINITY;
        return now > disconnected_at ? now - disconnected_at : 0;
}

int placement_fill_node(const NodeRow *row, SchedulerNode *n) {
        n->id = strdup(row->id);
        n->name = strdup(row->name);
        if (!n->id || !n->name)
                return -ENOMEM;
        if (row->labels) {
                n->labels = strv_copy(row->labels);
                if (!n->labels)
                        return -ENOMEM;
        }

        n->number = row->number;
        n->active = row->availability == NODE_ACTIVE;
        n->connected = row->connected;
        if (row->report) {
                if (json_find_strv(row->report, "volume_drivers", &n->volume_drivers, NULL) == -ENOMEM)
                        return -ENOMEM;
                (void) json_find_double(row->report, "cpus", &n->cpus, NULL);
                (void) read_memory(row->report, n);
                read_runtimes(row->report, n);
        }
        return 0;
}

uint64_t placement_node_hash(const NodeRow *row) {
        static const char *const keys[] = { "runtimes", "volume_drivers" };
        uint64_t hash = placement_seed(row->connected ? "1" : "0", (uint64_t) row->availability);

        STRV_FOREACH(l, row->labels)
                hash = placement_seed(*l, hash);
        FOREACH_ARRAY(k, keys, ELEMENTSOF(keys)) {
                json_object *o = NULL;

                if (row->report && json_object_object_get_ex(row->report, *k, &o))
                        hash = placement_seed(strempty(json_text(o)), hash);
        }
        return placement_seed(row->report ? "1" : "0", hash);
}

static int compare_numbers(const void *a, const void *b) {
        const SchedulerNode *x = a, *y = b;

        return x->number < y->number ? -1 : x->number > y->number;
}

SchedulerNode *placement_find_node(SchedulerSnapshot *s, const char *node_id) {
        FOREACH_ARRAY(n, s->nodes, s->n_nodes)
                if (streq_ptr(n->id, node_id))
                        return n;
        return NULL;
}

typedef struct ServiceEntry {
        ServiceRow *row; /* borrowed */
        UT_hash_handle hh;
} ServiceEntry;

static void service_table_done(ServiceEntry **table) {
        ServiceEntry *e, *next;

        HASH_ITER(hh, *table, e, next) {
                HASH_DEL(*table, e);
                free(e);
        }
}

static int fill_table(const ServiceRowList *services, ServiceEntry **table) {
        FOREACH_ARRAY(row, services->rows, services->n) {
                ServiceEntry *e = new0(ServiceEntry, 1);

                if (!e)
                        return -ENOMEM;
                e->row = *row;
                HASH_ADD_KEYPTR(hh, *table, e->row->id, strlen(e->row->id), e);
                if (!e->hh.tbl) {
                        free(e);
                        return -ENOMEM;
                }
        }
        return 0;
}

/* What an instance publishes is in the settings it was deployed with. Most publish nothing, those need no parsing. */
int placement_read_ports(const char *stack, const char *service, const InstanceRow *row, ServiceSpec **ret) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        json_object *ports = NULL;
        ServiceSpec *spec;
        int r;

        *ret = NULL;
        if (!row->spec || json_find_array(row->spec, "ports", &ports, NULL) <= 0 ||
                        json_object_array_length(ports) == 0)
                return 0;

        r = service_spec_parse(row->spec, &spec, &error);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                log_warning("Settings of instance %u of service '%s/%s' cannot be read, its ports are not "
                            "known: %s",
                                row->number, stack, service, kerror_message(&error));
                return 0;
        }
        *ret = spec;
        return 0;
}

int placement_add_instance(SchedulerSnapshot *s, size_t node, const char *service_id, const char *stack,
                const char *service, uint32_t number, const ServiceSpec *spec) {
        static const ServiceSpec nothing = {};

        return scheduler_add(s,
                        &(SchedulerRequest){ .service_id = service_id,
                                        .stack = stack,
                                        .service = service,
                                        .spec = spec ?: &nothing,
                                        .number = number },
                        node);
}

static int add_instance(SchedulerSnapshot *s, const ServiceRow *service, const InstanceRow *row) {
        _cleanup_(service_spec_freep) ServiceSpec *spec = NULL;
        SchedulerNode *n;
        int r;

        n = placement_find_node(s, row->node_id);
        if (!n)
                return 0;
        r = placement_read_ports(service->stack, service->name, row, &spec);
        if (r < 0)
                return r;
        return placement_add_instance(s, (size_t) (n - s->nodes), service->id, service->stack, service->name,
                        row->number, spec);
}

int placement_nodes(Store *s, const char *grid_id, uint64_t now, SchedulerSnapshot *ret) {
        _cleanup_snapshot_ SchedulerSnapshot snapshot = {};
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        int r;

        assert(s);
        assert(grid_id);
        assert(ret);

        r = store_get_grid(s, grid_id, &grid);
        if (r < 0)
                return r;
        if (grid->default_affinity) {
                snapshot.default_affinity = strv_copy(grid->default_affinity);
                if (!snapshot.default_affinity)
                        return -ENOMEM;
        }

        r = store_list_nodes(s, grid_id, &nodes);
        if (r < 0)
                return r;
        snapshot.nodes = new0(SchedulerNode, MAX(nodes.n, 1U));
        if (!snapshot.nodes)
                return -ENOMEM;
        for (; snapshot.n_nodes < nodes.n; snapshot.n_nodes++) {
                const NodeRow *row = nodes.rows[snapshot.n_nodes];
                SchedulerNode *n = &snapshot.nodes[snapshot.n_nodes];

                r = placement_fill_node(row, n);
                n->offline_usec = placement_offline_usec(n, row->disconnected_at, now);
                if (r < 0) {
                        snapshot.n_nodes++; /* half filled: to be freed as well */
                        return r;
                }
        }
        qsort(snapshot.nodes, snapshot.n_nodes, sizeof(SchedulerNode), compare_numbers);

        *ret = TAKE_GENERIC(snapshot, (SchedulerSnapshot){});
        return 0;
}

int placement_snapshot(Store *s, const char *grid_id, uint64_t now, SchedulerSnapshot *ret) {
        _cleanup_snapshot_ SchedulerSnapshot snapshot = {};
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_(service_table_done) ServiceEntry *table = NULL;
        int r;

        r = placement_nodes(s, grid_id, now, &snapshot);
        if (r < 0)
                return r;
        r = store_list_services(s, grid_id, &services);
        if (r < 0)
                return r;
        r = fill_table(&services, &table);
        if (r < 0)
                return r;
        r = store_list_instances_of_grid(s, grid_id, &instances);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, instances.rows, instances.n) {
                ServiceEntry *e = NULL;

                if (!(*i)->node_id || (*i)->desired == INSTANCE_TERMINATED)
                        continue;
                HASH_FIND(hh, table, (*i)->service_id, strlen((*i)->service_id), e);
                if (!e)
                        continue;
                r = add_instance(&snapshot, e->row, *i);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_GENERIC(snapshot, (SchedulerSnapshot){});
        return 0;
}

static int add_places(Store *s, const VolumeRow *v, SchedulerSnapshot *snapshot) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        int r;

        r = store_list_volume_instances_of_volume(s, v->id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, rows.rows, rows.n) {
                SchedulerNode *n = placement_find_node(snapshot, (*row)->node_id);

                if (!n || (*row)->removing || !streq_ptr((*row)->state, "present"))
                        continue;
                r = strv_extend(&n->volumes, (*row)->name);
                if (r < 0)
                        return r;
        }
        return 0;
}

int placement_add_volumes(Store *s, SchedulerSnapshot *snapshot, const ServiceRow *service,
                const ServiceSpec *spec, SchedulerVolumes *ret) {
        _cleanup_scheduler_volumes_ SchedulerVolumes volumes = {};
        _cleanup_strv_free_ char **names = NULL;
        int r;

        assert(s);
        assert(snapshot);
        assert(service);
        assert(spec);
        assert(ret);

        r = volume_list_names(spec->volumes, false, &names);
        if (r < 0)
                return r;
        volumes.items = new0(SchedulerVolume, strv_length(names) + 1);
        if (!volumes.items)
                return -ENOMEM;
        STRV_FOREACH(name, names) {
                _cleanup_(volume_row_freep) VolumeRow *v = NULL;
                SchedulerVolume *item = &volumes.items[volumes.n];

                r = store_find_volume(s, service->grid_id, *name, &v);
                if (r == -ENOENT)
                        continue; /* told when it is to be mounted */
                if (r < 0)
                        return r;
                volumes.n++;
                item->own = v->scope == VOLUME_SCOPE_INSTANCE;
                item->name = volume_stem_on_node(v, service->stack, service->name);
                item->driver = strdup(v->driver);
                if (!item->name || !item->driver)
                        return -ENOMEM;
                r = add_places(s, v, snapshot);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_GENERIC(volumes, (SchedulerVolumes){});
        return 0;
}
