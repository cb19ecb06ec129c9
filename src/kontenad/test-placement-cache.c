/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "placement-cache.h"

#include <inttypes.h>

#include "node-removal.h"
#include "placement.h"
#include "test-engine.h"

#define N_NODES    6U
#define N_SERVICES 4U
#define N_STEPS    1500U

static char *print_snapshot(const SchedulerSnapshot *s) {
        char *text = strv_join(s->default_affinity, ",");

        ASSERT_TRUE(text);
        FOREACH_ARRAY(n, s->nodes, s->n_nodes) {
                _cleanup_free_ char *labels = strv_join(n->labels, ","),
                                    *drivers = strv_join(n->volume_drivers, ","), *before = text;

                text = strprintf("%s\n%s %s %u [%s] %i%i%i%i %" PRIu64 " %g %" PRIu64 " %" PRIu64 " %" PRIu64
                                 " [%s] %zu",
                                before, n->id, n->name, n->number, strempty(labels), n->active, n->connected,
                                n->no_containers, n->machines, n->offline_usec, n->cpus, n->memory_total,
                                n->memory_free, n->memory_available, strempty(drivers), n->n_instances);
                ASSERT_TRUE(text);
                FOREACH_ARRAY(i, n->instances, n->n_instances) {
                        _cleanup_free_ char *so_far = text;

                        text = strprintf("%s\n  %s %s %s %s %u %zu:%u", so_far, i->service_id, i->stack,
                                        i->service, i->container, i->number, i->n_ports,
                                        i->n_ports > 0 ? (unsigned) i->ports[0].node_port : 0);
                        ASSERT_TRUE(text);
                }
        }
        return text;
}

static void assert_same(Engine *e) {
        _cleanup_snapshot_ SchedulerSnapshot remembered = {}, read = {};
        _cleanup_free_ char *a = NULL, *b = NULL;

        ASSERT_OK(placement_get(&e->m, "g", fake_now, &remembered));
        ASSERT_OK(placement_snapshot(e->m.store, "g", fake_now, &read));
        a = print_snapshot(&remembered);
        b = print_snapshot(&read);
        ASSERT_STREQ(a, b);
}

static unsigned dice(uint64_t *seed, unsigned n) {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (unsigned) (*seed >> 33) % n;
}

static void change_instance(Store *s, uint64_t *seed) {
        _cleanup_free_ char *service = strprintf("s-%u", dice(seed, N_SERVICES)),
                            *node = strprintf("n%u", 1 + dice(seed, N_NODES)), *id = NULL;
        _cleanup_(node_row_freep) NodeRow *there = NULL;
        _cleanup_(service_row_freep) ServiceRow *of = NULL;
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_json_ json_object *spec = NULL;
        unsigned number = 1 + dice(seed, 5), what = dice(seed, 8);
        int r;

        id = strprintf("%s-%u", service, number);
        if (store_get_service(s, service, &of) < 0)
                return;
        r = store_get_instance(s, id, &row);
        if (r >= 0 && what == 0) {
                ASSERT_OK(store_delete_instance(s, id));
                return;
        }
        if (r < 0) {
                row = new0(InstanceRow, 1);
                ASSERT_TRUE(row);
                row->id = TAKE_PTR(id);
                row->grid_id = strdup("g");
                row->service_id = strdup(service);
                row->number = number;
                row->created_at = fake_now + dice(seed, 3);
        }
        if (what == 1) { /* as most are: nothing that matters */
                ASSERT_OK(free_and_strdup(&row->state, dice(seed, 2) ? "running" : "starting"));
        } else {
                ASSERT_OK(free_and_strdup(&row->node_id,
                                what > 2 && store_get_node(s, node, &there) >= 0 ? node : NULL));
                row->desired = what == 3 ? INSTANCE_TERMINATED : INSTANCE_RUNNING;
                spec = json_tokener_parse(
                                dice(seed, 2) ? "{\"image\": \"a\"}"
                                              : "{\"image\": \"a\", \"ports\": [{\"container_port\": 80, "
                                                "\"node_port\": 8080, \"protocol\": \"tcp\"}]}");
                json_object_put(row->spec);
                row->spec = TAKE_PTR(spec);
        }
        ASSERT_OK(store_put_instance(s, row));
}

static void change_node(Store *s, uint64_t *seed) {
        unsigned number = 1 + dice(seed, N_NODES), what = dice(seed, 8);
        _cleanup_free_ char *id = strprintf("n%u", number), *text = NULL;
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        _cleanup_json_ json_object *report = NULL;

        text = strprintf("{\"cpus\": %u, \"memory\": {\"total\": %u, \"free\": %u}, \"runtimes\": "
                         "[\"nspawn\"]}",
                        1 + dice(seed, 4), 100 + dice(seed, 100), dice(seed, 100));
        report = json_tokener_parse(text);
        ASSERT_TRUE(report);
        if (store_get_node(s, id, &row) < 0) {
                row = new0(NodeRow, 1);
                ASSERT_TRUE(row);
                row->id = strdup(id);
                row->grid_id = strdup("g");
                row->name = strdup(id);
                row->node_key = strdup(id);
                row->number = number;
        } else if (what == 0) {
                ASSERT_OK(node_removal_perform(s, id));
                return;
        } else if (what < 4) {
                ASSERT_OK(store_put_node_seen(s, id, "g", report, fake_now));
                return;
        }
        row->connected = dice(seed, 2);
        row->disconnected_at = dice(seed, 3) ? fake_now - dice(seed, 100) : 0;
        row->availability = dice(seed, 2) ? NODE_ACTIVE : NODE_DRAIN;
        row->labels = strv_free(row->labels);
        if (dice(seed, 2))
                ASSERT_OK(strv_extend(&row->labels, dice(seed, 2) ? "ssd" : "region=x"));
        json_object_put(row->report);
        row->report = json_object_get(report);
        ASSERT_OK(store_put_node(s, row));
}

static void change_service(Store *s, uint64_t *seed) {
        unsigned n = dice(seed, N_SERVICES);
        _cleanup_free_ char *id = strprintf("s-%u", n), *name = strprintf("%u", n);
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        _cleanup_json_ json_object *spec = json_tokener_parse("{\"image\": \"a\"}");

        if (store_get_service(s, id, &row) < 0) {
                ASSERT_OK(store_put_service(s, &(ServiceRow){ .id = id,
                                                               .grid_id = (char *) "g",
                                                               .stack = (char *) "null",
                                                               .name = name,
                                                               .revision = 1,
                                                               .spec = spec }));
                return;
        }
        if (dice(seed, 4) > 0) {
                row->revision++;
                ASSERT_OK(store_put_service(s, row));
                return;
        }
        ASSERT_OK(store_list_instances_of_service(s, id, &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n)
                ASSERT_OK(store_terminate_instance(s, *i, 0));
        ASSERT_OK(store_delete_service(s, id));
}

static void change_grid(Store *s, uint64_t *seed) {
        _cleanup_(grid_row_freep) GridRow *row = NULL;

        ASSERT_OK(store_get_grid(s, "g", &row));
        row->default_affinity = strv_free(row->default_affinity);
        if (dice(seed, 2))
                ASSERT_OK(strv_extend(&row->default_affinity, "label==ssd"));
        ASSERT_OK(store_put_grid(s, row));
}

/* Whatever happens to the rows, and whether it stays or is taken back: what is remembered is what is there. */
static void test_placement_cache_agrees_with_the_store(void **state) {
        for (uint64_t start = 1; start <= 4; start++) {
                uint64_t seed = start;
                Engine e = {};

                engine_start(&e, /* tracked= */ false);
                add_grid(&e, "g", "10.81.0.0/16");
                for (unsigned i = 0; i < N_STEPS; i++) {
                        fake_now += dice(&seed, 3);
                        engine_begin(&e);
                        for (unsigned k = 1 + dice(&seed, 4); k > 0; k--) {
                                unsigned what = dice(&seed, 20);

                                if (what < 11)
                                        change_instance(e.m.store, &seed);
                                else if (what < 17)
                                        change_node(e.m.store, &seed);
                                else if (what < 19)
                                        change_service(e.m.store, &seed);
                                else
                                        change_grid(e.m.store, &seed);
                                if (dice(&seed, 3) == 0)
                                        assert_same(&e);
                        }
                        if (dice(&seed, 3) == 0)
                                store_rollback(e.m.store);
                        else
                                engine_commit(&e);
                        if (dice(&seed, 2))
                                assert_same(&e);
                }
                assert_same(&e);
                engine_remove(&e);
        }
}

/* The caller may place in what it was given. */
static void test_placement_cache_gives_away_copies(void **state) {
        static const ServiceSpec spec = {};
        Engine e = {};

        engine_start(&e, /* tracked= */ false);
        add_grid(&e, "g", "10.81.0.0/16");
        add_node(&e, "g", 1);
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_snapshot_ SchedulerSnapshot s = {};

                ASSERT_OK(placement_get(&e.m, "g", fake_now, &s));
                ASSERT_EQ(s.nodes[0].n_instances, 0);
                ASSERT_OK(scheduler_add(&s,
                                &(SchedulerRequest){ .service_id = "x",
                                                .stack = "null",
                                                .service = "x",
                                                .spec = &spec,
                                                .number = 1 },
                                0));
        }
        assert_same(&e);
        engine_remove(&e);
}

static void test_placement_cache_of_no_grid(void **state) {
        _cleanup_snapshot_ SchedulerSnapshot s = {};
        Engine e = {};

        engine_start(&e, /* tracked= */ false);
        ASSERT_ERROR(placement_get(&e.m, "none", fake_now, &s), ENOENT);
        add_grid(&e, "none", "10.81.0.0/16");
        ASSERT_OK(placement_get(&e.m, "none", fake_now, &s));
        ASSERT_EQ(s.n_nodes, 0);
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_placement_cache_agrees_with_the_store),
                cmocka_unit_test(test_placement_cache_gives_away_copies),
                cmocka_unit_test(test_placement_cache_of_no_grid))
