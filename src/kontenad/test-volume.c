/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume.h"

#include "desired-volumes.h"
#include "test-engine.h"

#define GRID "grid"

static void add_volume(Engine *e, const char *name, VolumeScope scope) {
        _cleanup_(volume_row_freep) VolumeRow *v = new0(VolumeRow, 1);

        *v = (VolumeRow){
                .id = strjoin("v-", name),
                .grid_id = strdup(GRID),
                .name = strdup(name),
                .driver = strdup("local"),
                .scope = scope,
                .size_max = 7,
                .created_at = 1,
        };
        ASSERT_OK(store_put_volume(e->m.store, v));
}

static int setup(void **state) {
        Engine *e = new0(Engine, 1);

        engine_start(e, false);
        add_grid(e, GRID, "10.81.0.0/16");
        add_node(e, GRID, 1);
        add_node(e, GRID, 2);
        engine_begin(e);
        add_volume(e, "own", VOLUME_SCOPE_INSTANCE);
        add_volume(e, "ours", VOLUME_SCOPE_STACK);
        add_volume(e, "all", VOLUME_SCOPE_GRID);
        engine_commit(e);
        *state = e;
        return 0;
}

static int teardown(void **state) {
        Engine *e = *state;

        engine_stop(e);
        engine_remove(e);
        free(e);
        return 0;
}

static json_object *spec(const char *volumes) {
        _cleanup_free_ char *text = strjoin("{\"image\":\"a\",\"volumes\":", volumes, "}");
        json_object *o = json_tokener_parse(text);

        ASSERT_TRUE(o);
        return o;
}

static int attach(Engine *e, const char *stack, const char *service, uint32_t number, const char *volumes,
                KError *reterr) {
        _cleanup_json_ json_object *o = spec(volumes);
        int r;

        engine_begin(e);
        r = volume_attach(e->m.store, GRID, stack, service, "s-id", number, "n1", o, reterr);
        engine_commit(e);
        return r;
}

static VolumeInstanceRow *find(Engine *e, const char *name) {
        VolumeInstanceRow *row = NULL;

        (void) store_find_volume_instance(e->m.store, "n1", name, &row);
        return row;
}

static bool has(Engine *e, const char *name) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = find(e, name);

        return row;
}

static size_t count(Engine *e) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList l = {};

        ASSERT_OK(store_list_volume_instances_of_node(e->m.store, "n1", &l));
        return l.n;
}

static void test_names_by_scope(void **state) {
        static const struct {
                VolumeScope scope;
                const char *stack, *expected;
        } table[] = {
                { VOLUME_SCOPE_INSTANCE, "shop", "shop.db.data-3" },
                { VOLUME_SCOPE_INSTANCE, "null", "db.data-3" },
                { VOLUME_SCOPE_STACK, "shop", "shop.data" },
                { VOLUME_SCOPE_STACK, "null", "data" },
                { VOLUME_SCOPE_GRID, "shop", "data" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                VolumeRow v = { .name = (char *) "data", .scope = t->scope };
                _cleanup_free_ char *name = volume_name_on_node(&v, t->stack, "db", 3);

                ASSERT_STREQ(name, t->expected);
        }
}

static void test_attach_makes_what_is_missing(void **state) {
        Engine *e = *state;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;

        ASSERT_OK(attach(e, "shop", "db", 1, "[\"own:/a\",\"ours:/b\",\"all:/c:ro\",\"/anon\",\"/host:/d\"]",
                        NULL));
        ASSERT_EQ(count(e), 3);
        row = find(e, "shop.db.own-1");
        ASSERT_TRUE(row && row->number == 1 && streq_ptr(row->service_id, "s-id"));
        ASSERT_TRUE(has(e, "shop.ours") && has(e, "all"));
        ASSERT_OK(attach(e, "shop", "db", 2, "[\"own:/a\",\"ours:/b\",\"all:/c\"]", NULL));
        ASSERT_EQ(count(e), 4);
        ASSERT_ERROR(attach(e, "shop", "db", 1, "[\"none:/a\"]", &error), ENOENT);
        ASSERT_EQ(error.code, K_NO_SUCH_VOLUME);
}

static void test_two_volumes_of_one_name_are_refused(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Engine *e = *state;

        engine_begin(e);
        add_volume(e, "own-1", VOLUME_SCOPE_STACK);
        engine_commit(e);
        ASSERT_OK(attach(e, "null", "shop", 1, "[\"own:/a\"]", NULL)); /* "shop.own-1" */
        ASSERT_TRUE(attach(e, "shop", "db", 1, "[\"own-1:/a\"]", &error) < 0);
        ASSERT_EQ(error.code, K_CONFLICT);
        kerror_done(&error);

        /* Nor is any other of them left there. */
        ASSERT_EQ(count(e), 1);
        ASSERT_TRUE(attach(e, "shop", "db", 1, "[\"all:/b\",\"own-1:/a\"]", &error) < 0);
        ASSERT_EQ(error.code, K_CONFLICT);
        kerror_done(&error);
        ASSERT_TRUE(attach(e, "shop", "db", 1, "[\"all:/b\",\"none:/a\"]", &error) < 0);
        ASSERT_EQ(error.code, K_NO_SUCH_VOLUME);
        ASSERT_EQ(count(e), 1);
}

static void test_instance_scope_has_one_writer(void **state) {
        static const struct {
                const char *volumes;
                int expected;
        } table[] = {
                { "[\"own:/a\"]", 1 },
                { "[\"own:/a:ro\"]", 0 },
                { "[\"ours:/a\",\"all:/b\",\"/c\"]", 0 },
                { "[]", 0 },
        };
        Engine *e = *state;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *o = spec(t->volumes);

                ASSERT_EQ(volume_has_instance_scope_writer(e->m.store, GRID, o), t->expected);
        }
}

static void test_an_instance_is_told_the_names(void **state) {
        _cleanup_json_ json_object *o = json_object_new_object();
        Engine *e = *state;
        InstanceRow row = { .number = 2 };

        row.spec = spec("[\"own:/a\",\"all:/b\"]");
        ASSERT_OK(volume_add_to_instance(e->m.store, GRID, "null", "db", &row, o));
        ASSERT_STREQ(json_text(o),
                        "{\"volumes\":{\"own\":{\"name\":\"db.own-2\",\"driver\":\"local\",\"size_max\":7},"
                        "\"all\":{\"name\":\"all\",\"driver\":\"local\",\"size_max\":7}}}");
        json_object_put(row.spec);
}

static void compare(Engine *e, SentVolume **sent, const char *set, const char *removed) {
        _cleanup_json_ json_object *s = NULL, *r = NULL;

        ASSERT_OK(desired_volumes_compare(e->m.store, "n1", sent, &s, &r));
        ASSERT_STREQ(s ? json_text(s) : "", set);
        ASSERT_STREQ(r ? json_text(r) : "", removed);
}

static void take(Engine *e, const char *text, bool complete) {
        _cleanup_json_ json_object *o = json_tokener_parse(text);

        ASSERT_TRUE(o);
        ASSERT_OK(volume_status_take(&e->m, "n1", o, complete, NULL));
}

static void test_removal_ends_with_the_nodes_word(void **state) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        Engine *e = *state;
        SentVolume *sent = NULL;

        ASSERT_OK(attach(e, "null", "db", 1, "[\"all:/a\"]", NULL));
        compare(e, &sent,
                        "{\"volumes\":{\"all\":{\"driver\":\"local\",\"size_max\":7,\"state\":\"present\"}}"
                        "}",
                        "");
        compare(e, &sent, "", "");
        take(e,
                        "{\"all\":{\"state\":\"present\",\"error\":null,\"used\":99,\"size_max\":7},"
                        "\"foreign\":{\"state\":\"present\"}}",
                        true);
        row = find(e, "all");
        ASSERT_STREQ(row->state, "present");
        ASSERT_EQ(row->used, 99);

        /* Its word before it was asked is none. */
        take(e, "{\"all\":{\"state\":\"removed\"}}", false);
        ASSERT_TRUE(has(e, "all"));

        engine_begin(e);
        ASSERT_OK(store_get_volume(e->m.store, "v-all", &v));
        v->removing = row->removing = true;
        ASSERT_OK(store_put_volume(e->m.store, v));
        ASSERT_OK(store_put_volume_instance(e->m.store, row));
        engine_commit(e);
        compare(e, &sent,
                        "{\"volumes\":{\"all\":{\"driver\":\"local\",\"size_max\":7,\"state\":\"removed\"}}"
                        "}",
                        "");
        take(e, "{\"all\":{\"state\":\"removed\"}}", false);
        ASSERT_FALSE(has(e, "all"));
        v = volume_row_free(v);
        ASSERT_ERROR(store_get_volume(e->m.store, "v-all", &v), ENOENT);
        compare(e, &sent, "", "{\"volumes\":[\"all\"]}");
        compare(e, &sent, "", "");
        sent_volumes_free(sent);
}

static void test_a_lost_volume_is_not_present(void **state) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        Engine *e = *state;

        ASSERT_OK(attach(e, "null", "db", 1, "[\"all:/a\"]", NULL));
        take(e,
                        "{\"all\":{\"state\":\"error\",\"error\":{\"code\":\"x\",\"message\":\"It is a "
                        "link.\"},\"used\":0}}",
                        false);
        ASSERT_TRUE(event_log && strstr(event_log, "It is a link."));
        take(e, "{}", true);
        row = find(e, "all");
        ASSERT_TRUE(row && !row->state && !row->error);
}

static void test_a_removed_node_does_not_hold_a_removal_up(void **state) {
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        Engine *e = *state;

        ASSERT_OK(attach(e, "null", "db", 1, "[\"all:/a\"]", NULL));
        engine_begin(e);
        ASSERT_OK(store_get_volume(e->m.store, "v-all", &v));
        v->removing = true;
        ASSERT_OK(store_put_volume(e->m.store, v));
        ASSERT_OK(volume_forget_node(e->m.store, "n1"));
        engine_commit(e);
        v = volume_row_free(v);
        ASSERT_ERROR(store_get_volume(e->m.store, "v-all", &v), ENOENT);
}

static void test_an_instance_of_an_older_revision_uses_it(void **state) {
        _cleanup_(volume_row_freep) VolumeRow *own = NULL, *all = NULL;
        InstanceRow row = { .id = (char *) "i-web-2",
                .grid_id = (char *) GRID,
                .service_id = (char *) "s-web",
                .node_id = (char *) "n1",
                .number = 2,
                .desired = INSTANCE_RUNNING,
                .created_at = 1,
                .exit_status = -1 };
        Engine *e = *state;

        add_service(e, GRID, "web", "{\"image\":\"a\",\"volumes\":[\"own:/data\"]}");
        row.spec = spec("[\"own:/data\",\"all:/all\"]");
        engine_begin(e);
        ASSERT_OK(store_put_instance(e->m.store, &row));
        engine_commit(e);
        ASSERT_OK(store_get_volume(e->m.store, "v-own", &own));
        ASSERT_OK(store_get_volume(e->m.store, "v-all", &all));

        for (int k = 0; k < 3; k++) {
                _cleanup_strv_free_ char **a = NULL, **b = NULL;

                ASSERT_OK(volume_list_users(e->m.store, own, &a));
                ASSERT_OK(volume_list_users(e->m.store, all, &b));
                ASSERT_EQ(strv_length(a), 1);
                ASSERT_STREQ(a[0], "web");
                ASSERT_EQ(strv_length(b), k < 2 ? 1 : 0);
                if (k < 2)
                        ASSERT_STREQ(b[0], "web-2 until its next deploy");

                row.desired = k == 0 ? INSTANCE_STOPPED : INSTANCE_TERMINATED;
                engine_begin(e);
                ASSERT_OK(store_put_instance(e->m.store, &row));
                engine_commit(e);
        }
        json_object_put(row.spec);
}

static void test_upgrade_adds_what_services_name(void **state) {
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        Engine *e = *state;

        add_service(e, GRID, "old", "{\"image\":\"a\",\"volumes\":[\"legacy:/data\",\"/anon\"]}");
        ASSERT_OK(volume_upgrade(&e->m, NULL));
        ASSERT_OK(store_find_volume(e->m.store, GRID, "legacy", &v));
        ASSERT_EQ(v->scope, VOLUME_SCOPE_GRID);
        ASSERT_OK(volume_upgrade(&e->m, NULL));
}

static void test_a_spec_names_what_there_is(void **state) {
        char *const good[] = { (char *) "own:/a", (char *) "/b", NULL }, *const bad[] = { (char *) "own:/a",
                (char *) "no:/b", NULL };
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        Engine *e = *state;

        ASSERT_OK(volume_check_spec(e->m.store, GRID, good, NULL));
        ASSERT_ERROR(volume_check_spec(e->m.store, GRID, bad, &error), ENOENT);
        ASSERT_TRUE(strstr(kerror_message(&error), "kontenactl volume create no"));
        engine_begin(e);
        ASSERT_OK(store_get_volume(e->m.store, "v-own", &v));
        v->removing = true;
        ASSERT_OK(store_put_volume(e->m.store, v));
        engine_commit(e);
        ASSERT_ERROR(volume_check_spec(e->m.store, GRID, good, NULL), ESTALE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
KONTENA_TESTS(TEST(test_names_by_scope), TEST(test_attach_makes_what_is_missing),
                TEST(test_two_volumes_of_one_name_are_refused), TEST(test_instance_scope_has_one_writer),
                TEST(test_an_instance_is_told_the_names), TEST(test_removal_ends_with_the_nodes_word),
                TEST(test_an_instance_of_an_older_revision_uses_it), TEST(test_a_lost_volume_is_not_present),
                TEST(test_a_removed_node_does_not_hold_a_removal_up),
                TEST(test_upgrade_adds_what_services_name), TEST(test_a_spec_names_what_there_is))
