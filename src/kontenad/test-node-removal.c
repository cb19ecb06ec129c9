/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-removal.h"

#include "ephemeral.h"
#include "test-engine.h"
#include "volume.h"

#define DB "{\"image\": \"db:1\", \"stateful\": true, \"affinity\": [\"node==n1\"]}"

static void deploy(Engine *e, const char *name, const char *spec) {
        _cleanup_free_ char *id = strjoin("s-", name);

        add_service(e, "g", name, spec);
        free(request_deploy(e, id, false));
        do
                engine_settle(e);
        while (nodes_work(e, "g"));
}

static void make(Engine *e) {
        engine_start(e, /* tracked= */ false);
        add_grid(e, "g", "10.81.0.0/16");
        add_node(e, "g", 1);
        add_node(e, "g", 2);
}

static void add_volume(Engine *e, const char *name) {
        VolumeRow v = { .id = (char *) name,
                .grid_id = (char *) "g",
                .name = (char *) name,
                .driver = (char *) "local",
                .scope = VOLUME_SCOPE_GRID };

        engine_begin(e);
        ASSERT_OK(store_put_volume(e->m.store, &v));
        engine_commit(e);
}

/* As its node reports it. state NULL: not yet. */
static void add_place(Engine *e, const char *volume, const char *node_id, const char *state, uint64_t used) {
        _cleanup_free_ char *id = strprintf("%s@%s", volume, node_id);
        VolumeInstanceRow row = { .id = id,
                .grid_id = (char *) "g",
                .volume_id = (char *) volume,
                .node_id = (char *) node_id,
                .name = (char *) volume,
                .state = (char *) state,
                .used = used };

        engine_begin(e);
        ASSERT_OK(store_put_volume_instance(e->m.store, &row));
        engine_commit(e);
}

static void test_loss_names_what_is_there(void **state) {
        static const struct {
                bool db, web, data, logs;
                const char *expected; /* NULL: nothing would go */
        } table[] = {
                { false, false, false, false, NULL },
                { false, true, false, false, NULL }, /* stateless */
                { true, true, false, false, "the data of db-1" },
                { false, false, true, false, "the volume data (1.5K)" },
                { true, false, true, true, "the data of db-1 and the volumes data (1.5K), logs (0B)" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_node_loss_ NodeLoss loss = {};
                _cleanup_free_ char *text = NULL;
                Engine e = {};

                make(&e);
                add_volume(&e, "data");
                add_volume(&e, "logs");
                add_volume(&e, "expected");
                add_place(&e, "expected", "n1", NULL, 0);  /* nobody has seen it there */
                add_place(&e, "data", "n2", "present", 7); /* on another node */
                if (t->db)
                        deploy(&e, "db", DB);
                if (t->web)
                        deploy(&e, "web", "{\"image\": \"web:1\", \"affinity\": [\"node==n1\"]}");
                if (t->data)
                        add_place(&e, "data", "n1", "present", 1536);
                if (t->logs)
                        add_place(&e, "logs", "n1", "error", 0);

                ASSERT_OK(node_loss_read(e.m.store, "n1", &loss));
                ASSERT_EQ(node_loss_is_empty(&loss), !t->expected);
                text = node_loss_describe(&loss);
                ASSERT_STREQ(text, strempty(t->expected));
                engine_remove(&e);
        }
}

static void test_loss_is_rendered_whole_and_told_shortly(void **state) {
        _cleanup_node_loss_ NodeLoss loss = {};
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;

        loss.used = new0(uint64_t, 30);
        ASSERT_TRUE(loss.used);
        for (unsigned i = 0; i < 30; i++)
                ASSERT_OK(strv_extendf(&loss.volumes, "v%u", i));
        loss.used[29] = 42;
        ASSERT_OK(node_loss_render(&loss, &o));
        ASSERT_EQ(json_object_array_length(o), 30);
        ASSERT_STREQ(json_text(json_object_array_get_idx(o, 29)),
                        "{\"kind\":\"volume\",\"name\":\"v29\",\"used\":42}");
        text = node_loss_describe(&loss);
        ASSERT_TRUE(strstr(text, "v19 (0B), 10 more") && !strstr(text, "v20"));
}

static void test_removal_takes_volumes_and_frees_instances(void **state) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList l = {};
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        Engine e = {};

        make(&e);
        add_volume(&e, "data");
        add_place(&e, "data", "n1", "present", 7);
        deploy(&e, "db", DB);
        engine_begin(&e);
        ASSERT_OK(node_removal_perform(e.m.store, "n1"));
        engine_commit(&e);

        ASSERT_ERROR(store_get_node(e.m.store, "n1", &node), ENOENT);
        row = get_instance(&e, "s-db", 1);
        ASSERT_TRUE(row && !row->node_id && !row->address && !row->state);
        ASSERT_OK(store_list_volume_instances_of_volume(e.m.store, "data", &l));
        ASSERT_EQ(l.n, 0);
        engine_remove(&e);
}

/* One that could not be removed would keep the whole grid from being looked after. */
static void test_ephemeral_node_with_a_volume_goes_and_says_so(void **state) {
        GridRow grid = { .id = (char *) "g" };
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        Engine e = {};

        make(&e);
        add_volume(&e, "data");
        add_place(&e, "data", "n2", "present", 1536);
        engine_begin(&e);
        ASSERT_OK(store_get_node(e.m.store, "n2", &node));
        ASSERT_OK(strv_extend(&node->labels, "ephemeral"));
        node->connected = false;
        node->disconnected_at = fake_now;
        ASSERT_OK(store_put_node(e.m.store, node));
        engine_commit(&e);

        fake_now += 7 * 3600 * USEC_PER_SEC;
        ASSERT_OK(ephemeral_remove_stale(&e.m, &grid, fake_now));
        node = node_row_free(node);
        ASSERT_ERROR(store_get_node(e.m.store, "n2", &node), ENOENT);
        ASSERT_EQ(count_events("'n2' was not seen for six hours and is removed, and with it the volume data "
                               "(1.5K)."),
                        1);
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_loss_names_what_is_there),
                cmocka_unit_test(test_loss_is_rendered_whole_and_told_shortly),
                cmocka_unit_test(test_removal_takes_volumes_and_frees_instances),
                cmocka_unit_test(test_ephemeral_node_with_a_volume_goes_and_says_so))
