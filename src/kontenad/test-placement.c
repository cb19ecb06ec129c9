/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "placement.h"

#include "node-removal.h"
#include "test-engine.h"

#define OWN  "{\"image\": \"web:1\", \"volumes\": [\"data:/data\", \"/anon\", \"unknown:/x\"]}"
#define EACH "{\"image\": \"db:1\", \"stateful\": true, \"strategy\": \"daemon\"}"

static void play(Engine *e) {
        do
                engine_settle(e);
        while (nodes_work(e, "g"));
}

static void make(Engine *e, unsigned n_nodes) {
        engine_start(e, /* tracked= */ false);
        add_grid(e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= n_nodes; i++)
                add_node(e, "g", i);
}

static void add_volume(Engine *e, const char *name, VolumeScope scope) {
        VolumeRow v = { .id = (char *) name,
                .grid_id = (char *) "g",
                .name = (char *) name,
                .driver = (char *) "local",
                .scope = scope };

        engine_begin(e);
        ASSERT_OK(store_put_volume(e->m.store, &v));
        engine_commit(e);
}

static void add_place(Engine *e, const char *volume, const char *name, const char *node_id,
                const char *state, bool removing) {
        _cleanup_free_ char *id = strprintf("%s@%s", name, node_id);
        VolumeInstanceRow row = { .id = id,
                .grid_id = (char *) "g",
                .volume_id = (char *) volume,
                .node_id = (char *) node_id,
                .name = (char *) name,
                .removing = removing,
                .state = (char *) state };

        engine_begin(e);
        ASSERT_OK(store_put_volume_instance(e->m.store, &row));
        engine_commit(e);
}

static void test_volumes_are_found_where_they_are(void **state) {
        static const struct {
                VolumeScope scope;
                const char *stem, *name;
                bool own;
        } table[] = {
                { VOLUME_SCOPE_INSTANCE, "web.data", "web.data-1", true },
                { VOLUME_SCOPE_STACK, "data", "data", false },
                { VOLUME_SCOPE_GRID, "data", "data", false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_scheduler_volumes_ SchedulerVolumes volumes = {};
                _cleanup_(service_row_freep) ServiceRow *service = NULL;
                _cleanup_(service_spec_freep) ServiceSpec *spec = NULL;
                _cleanup_snapshot_ SchedulerSnapshot snapshot = {};
                Engine e = {};

                make(&e, 4);
                add_volume(&e, "data", t->scope);
                add_service(&e, "g", "web", OWN);
                add_place(&e, "data", t->name, "n1", NULL, false); /* expected, not seen yet */
                add_place(&e, "data", t->name, "n2", "present", false);
                add_place(&e, "data", t->name, "n3", "present", true); /* on its way out */
                add_place(&e, "data", t->name, "n4", "error", false);
                ASSERT_OK(store_get_service(e.m.store, "s-web", &service));
                ASSERT_OK(service_spec_parse(service->spec, &spec, NULL));
                ASSERT_OK(placement_snapshot(e.m.store, "g", fake_now, &snapshot));
                ASSERT_OK(placement_add_volumes(e.m.store, &snapshot, service, spec, &volumes));
                ASSERT_EQ(volumes.n, 1);
                ASSERT_STREQ(volumes.items[0].name, t->stem);
                ASSERT_EQ(volumes.items[0].own, t->own);
                for (size_t i = 0; i < 4; i++)
                        ASSERT_EQ(scheduler_has_volume(&snapshot.nodes[i], &volumes.items[0], 1), i == 1);
                engine_remove(&e);
        }
}

static void test_instance_goes_where_its_volume_is(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        Engine e = {};

        make(&e, 5);
        add_volume(&e, "data", VOLUME_SCOPE_INSTANCE);
        add_place(&e, "data", "web.data-1", "n4", "present", false);
        add_service(&e, "g", "web", "{\"image\": \"web:1\", \"volumes\": [\"data:/data\"]}");
        free(request_deploy(&e, "s-web", false));
        play(&e);
        row = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(row->node_id, "n4");
        ASSERT_EQ(count_events("empty volume"), 0);

        /* Nobody waits for a node that is away, but where the data are is told. */
        set_connected(&e, "n4", false);
        fake_now += 300 * USEC_PER_SEC;
        free(request_deploy(&e, "s-web", false));
        play(&e);
        row = instance_row_free(row);
        row = get_instance(&e, "s-web", 1);
        ASSERT_FALSE(streq(row->node_id, "n4"));
        ASSERT_EQ(count_events("with an empty volume 'web.data-1'; what was written to it is on 'n4'."), 1);
        engine_remove(&e);
}

static DeployRow *deploy_each(Engine *e) {
        _cleanup_free_ char *id = request_deploy(e, "s-db", false);

        play(e);
        for (unsigned i = 0; i < 3; i++) { /* what waits for a node gives up */
                fake_now += 120 * USEC_PER_SEC;
                deployer_wake(e->m.deployer, "s-db");
                play(e);
        }
        return get_deploy(e, id);
}

static void assert_all_are_there(Engine *e, uint32_t n) {
        for (uint32_t i = 1; i <= n; i++) {
                _cleanup_(instance_row_freep) InstanceRow *row = get_instance(e, "s-db", i);

                ASSERT_TRUE(row && row->node_id);
        }
}

/* A deploy while a node is away or drained once ended the highest number, which ran elsewhere, with its data. */
static void test_deploy_keeps_data_while_a_node_is_away(void **state) {
        for (unsigned drained = 0; drained < 2; drained++) {
                _cleanup_(deploy_row_freep) DeployRow *first = NULL, *second = NULL;
                _cleanup_(node_row_freep) NodeRow *node = NULL;
                Engine e = {};

                make(&e, 3);
                add_service(&e, "g", "db", EACH);
                first = deploy_each(&e);
                ASSERT_EQ(first->state, DEPLOY_SUCCESS);
                engine_begin(&e);
                ASSERT_OK(store_get_node(e.m.store, "n2", &node));
                node->availability = drained ? NODE_DRAIN : NODE_ACTIVE;
                ASSERT_OK(store_put_node(e.m.store, node));
                engine_commit(&e);
                set_connected(&e, "n2", drained);

                second = deploy_each(&e);
                ASSERT_EQ(second->state, DEPLOY_ERROR);
                ASSERT_TRUE(strstr(second->reason, drained ? "n2: drained" : "n2: offline"));
                assert_all_are_there(&e, 3);
                engine_remove(&e);
        }
}

static void test_deploy_asks_before_a_removed_node_costs_another_ones_data(void **state) {
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        _cleanup_(instance_row_freep) InstanceRow *third = NULL;
        Engine e = {};

        make(&e, 3);
        add_service(&e, "g", "db", EACH);
        row = deploy_each(&e);
        ASSERT_EQ(row->state, DEPLOY_SUCCESS);
        engine_begin(&e);
        ASSERT_OK(node_removal_perform(e.m.store, "n1"));
        engine_commit(&e);

        row = deploy_row_free(row);
        row = deploy_each(&e);
        ASSERT_EQ(row->state, DEPLOY_ERROR);
        ASSERT_TRUE(strstr(row->reason, "with number 3 its data on 'n3' would go"));
        third = get_instance(&e, "s-db", 3);
        ASSERT_STREQ(third->node_id, "n3");
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_volumes_are_found_where_they_are),
                cmocka_unit_test(test_instance_goes_where_its_volume_is),
                cmocka_unit_test(test_deploy_keeps_data_while_a_node_is_away),
                cmocka_unit_test(test_deploy_asks_before_a_removed_node_costs_another_ones_data))
