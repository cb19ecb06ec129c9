/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-move.h"
#include "test-deploy.h"
#include "volume-move.h"
#include "volume.h"

#define DATABASE "{\"image\": \"db:1\", \"count\": 1, \"stateful\": true, \"volumes\": [\"data:/data\"]}"

static void add_volume(Engine *e, const char *name, VolumeScope scope) {
        _cleanup_json_ json_object *options = json_object_new_object();

        engine_begin(e);
        ASSERT_OK(store_put_volume(e->m.store, &(VolumeRow){ .id = (char *) name,
                                                               .grid_id = (char *) "g",
                                                               .name = (char *) name,
                                                               .driver = (char *) "local",
                                                               .scope = scope,
                                                               .options = options,
                                                               .created_at = fake_now }));
        engine_commit(e);
}

/* "web" on n1 with its volume, and another node. */
static void make_database(Engine *e) {
        _cleanup_free_ char *id = NULL;

        fake_copy_result = 1;
        fake_copies = 0;
        make(e, 1, DATABASE);
        add_volume(e, "data", VOLUME_SCOPE_INSTANCE);
        id = request_deploy(e, "s-web", false);
        (void) play(e, NULL);
        assert_deploy(e, id, DEPLOY_SUCCESS, NULL);
        add_node(e, "g", 2);
}

static int request_move(Engine *e, uint32_t number, const char *to, char **ret_id, KError *reterr) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_(node_row_freep) NodeRow *node = get_node(e, to);
        _cleanup_(store_rollbackp) _unused_ Store *t = e->m.store;
        int r;

        engine_begin(e);
        ASSERT_OK(store_get_service(e->m.store, "s-web", &service));
        r = deploy_move_request(e->m.store, service, number, node, fake_now, ret_id, reterr);
        if (r >= 0)
                engine_commit(e);
        return r;
}

/* 0: none, 1: there, 2: being removed. */
static unsigned volume_on(Engine *e, const char *node) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;

        if (store_find_volume_instance(e->m.store, node, "web.data-1", &row) < 0)
                return 0;
        return row->removing ? 2 : 1;
}

static size_t count_running(Engine *e) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        size_t n = 0;

        ASSERT_OK(store_list_instances_of_service(e->m.store, "s-web", &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n)
                n += streq_ptr((*i)->state, "running");
        return n;
}

/* One instance in all, on that node, running, and its volume is the only one that stays. */
static void assert_lives_on(Engine *e, const char *node) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        const char *other = streq(node, "n1") ? "n2" : "n1";

        ASSERT_OK(store_list_instances_of_service(e->m.store, "s-web", &rows));
        ASSERT_EQ(rows.n, 1);
        ASSERT_STREQ(rows.rows[0]->node_id, node);
        ASSERT_EQ(rows.rows[0]->role, INSTANCE_CURRENT);
        ASSERT_EQ(rows.rows[0]->desired, INSTANCE_RUNNING);
        ASSERT_STREQ(rows.rows[0]->state, "running");
        ASSERT_EQ(volume_on(e, node), 1);
        ASSERT_TRUE(volume_on(e, other) != 1);
}

static void test_instance_moves_with_its_data(void **state) {
        _cleanup_free_ char *id = NULL, *next = NULL;
        Engine e = {};

        make_database(&e);
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        fake_copy_result = 0;
        (void) play(&e, NULL);
        ASSERT_TRUE(fake_copies > 0);
        ASSERT_EQ(count_running(&e), 0);
        ASSERT_EQ(volume_on(&e, "n1"), 1);
        ASSERT_EQ(volume_on(&e, "n2"), 1);

        fake_copy_result = 1;
        deployer_wake(e.m.deployer, "s-web");
        (void) play(&e, NULL);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        assert_lives_on(&e, "n2");
        ASSERT_EQ(volume_on(&e, "n1"), 2);

        /* It stays there. */
        next = request_deploy(&e, "s-web", true);
        (void) play(&e, NULL);
        assert_deploy(&e, next, DEPLOY_SUCCESS, NULL);
        assert_lives_on(&e, "n2");
        engine_remove(&e);
}

static int check_idle(Engine *e, const char *node, const char *name) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        ASSERT_OK(store_find_volume(e->m.store, "g", name, &v));
        ASSERT_OK(store_find_volume_instance(e->m.store, node, "web.data-1", &row));
        r = volume_move_check_idle(e->m.store, v, row, &error);
        ASSERT_TRUE(r >= 0 || error.code == K_CONFLICT);
        return r;
}

/* What is changed in one of its copies meanwhile would be lost with that copy. */
static void test_data_are_left_alone_while_they_move(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make_database(&e);
        add_volume(&e, "other", VOLUME_SCOPE_INSTANCE);
        ASSERT_OK(check_idle(&e, "n1", "data"));
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        ASSERT_OK(check_idle(&e, "n1", "data")); /* not begun: it is asked for snapshots then */
        fake_copy_result = 0;
        (void) play(&e, NULL);
        assert_deploy(&e, id, DEPLOY_ONGOING, NULL);
        ASSERT_ERROR(check_idle(&e, "n1", "data"), ESTALE);
        ASSERT_ERROR(check_idle(&e, "n2", "data"), ESTALE);
        ASSERT_OK(check_idle(&e, "n1", "other"));
        fake_copy_result = 1;
        deployer_wake(e.m.deployer, "s-web");
        (void) play(&e, NULL);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        ASSERT_OK(check_idle(&e, "n2", "data"));
        engine_remove(&e);
}

static void test_move_that_makes_no_sense_is_refused(void **state) {
        static const struct {
                const char *spec, *to, *error;
                uint32_t number;
        } cases[] = {
                { DATABASE, "n1", "is on node 'n1' already", 1 },
                { DATABASE, "n2", "has no instance 2", 2 },
                { "{\"image\": \"db:1\", \"count\": 1}", "n2", "is stateless", 1 },
                { "{\"image\": \"db:1\", \"count\": 1, \"stateful\": true, \"affinity\": [\"node==n1\"]}",
                                "n2", "No node fits", 1 },
                { "{\"image\": \"db:1\", \"count\": 1, \"stateful\": true, \"strategy\": \"daemon\"}", "n2",
                                "'daemon'", 1 },
        };
        Engine e = {};

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *first = NULL, *id = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;

                make(&e, 1, c->spec);
                add_volume(&e, "data", VOLUME_SCOPE_INSTANCE);
                first = request_deploy(&e, "s-web", false);
                (void) play(&e, NULL);
                add_node(&e, "g", 2);
                ASSERT_TRUE(request_move(&e, c->number, c->to, &id, &error) < 0);
                if (!strstr(kerror_message(&error), c->error))
                        fail_msg("'%s' is not in: %s", c->error, kerror_message(&error));
                engine_remove(&e);
        }
}

static void test_data_that_are_there_are_not_replaced(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make_database(&e);
        engine_begin(&e);
        ASSERT_OK(store_put_volume_instance(e.m.store, &(VolumeInstanceRow){ .id = (char *) "old",
                                                                       .grid_id = (char *) "g",
                                                                       .volume_id = (char *) "data",
                                                                       .node_id = (char *) "n2",
                                                                       .name = (char *) "web.data-1",
                                                                       .service_id = (char *) "s-web",
                                                                       .number = 1 }));
        engine_commit(&e);
        ASSERT_TRUE(request_move(&e, 1, "n2", &id, &error) < 0);
        ASSERT_TRUE(strstr(kerror_message(&error), "already, whose data would be lost") != NULL);
        engine_remove(&e);
}

typedef void (*trouble_t)(Engine *e, const char *id);

static void copy_fails(Engine *e, const char *id) {
        fake_copy_result = -1;
        deployer_wake(e->m.deployer, "s-web");
}

static void is_cancelled(Engine *e, const char *id) {
        engine_begin(e);
        ASSERT_OK(deploy_cancel(e->m.store, id, "It was cancelled.", NULL));
        engine_commit(e);
}

static void is_superseded(Engine *e, const char *id) {
        _cleanup_free_ _unused_ char *next = request_deploy(e, "s-web", false);
}

static void target_is_removed(Engine *e, const char *id) {
        remove_node(e, "n2");
}

static void target_goes_away(Engine *e, const char *id) {
        set_connected(e, "n2", false);
        pass_time(e, 3600 * USEC_PER_SEC);
        engine_settle(e);
        set_connected(e, "n2", true);
}

static const trouble_t troubles[] = { copy_fails, is_cancelled, is_superseded, target_is_removed,
        target_goes_away };

static void test_trouble_in_the_copy_leaves_it_where_it_was(void **state) {
        FOREACH_ARRAY(trouble, troubles, ELEMENTSOF(troubles)) {
                _cleanup_(deploy_row_freep) DeployRow *row = NULL;
                _cleanup_free_ char *id = NULL;
                Engine e = {};

                make_database(&e);
                fake_copy_result = 0;
                ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
                (void) play(&e, NULL);
                ASSERT_EQ(count_running(&e), 0);
                (*trouble)(&e, id);
                (void) play(&e, NULL);
                row = get_deploy(&e, id);
                ASSERT_TRUE(DEPLOY_STATE_IS_FINAL(row->state));
                ASSERT_TRUE(row->state != DEPLOY_SUCCESS);
                assert_lives_on(&e, "n1");
                engine_remove(&e);
        }
}

static void test_instance_that_does_not_start_there_goes_back(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_free_ char *id = NULL, *next = NULL;
        Engine e = {};

        make_database(&e);
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        fake_copy_result = 0;
        (void) play(&e, NULL);
        fake_copy_result = 1;
        deployer_wake(e.m.deployer, "s-web");
        engine_settle(&e);
        row = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(row->node_id, "n2");
        ASSERT_EQ(row->desired, INSTANCE_RUNNING);

        engine_begin(&e);
        ASSERT_OK(free_and_strdup(&row->state, "failed"));
        ASSERT_OK(free_and_strdup(&row->error, "It exited with status 1."));
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ERROR, "Instance 1 stays where it was: It exited with status 1.");
        /* The other may still run for a moment: the rescheduler starts this one when it is gone. */
        row = instance_row_free(row);
        row = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(row->node_id, "n1");
        ASSERT_EQ(row->desired, INSTANCE_STOPPED);

        /* A deploy waits for the same. */
        next = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        row = instance_row_free(row);
        row = get_instance(&e, "s-web", 1);
        ASSERT_EQ(row->desired, INSTANCE_STOPPED);
        (void) play(&e, NULL);
        assert_deploy(&e, next, DEPLOY_SUCCESS, NULL);
        assert_lives_on(&e, "n1");
        engine_remove(&e);
}

static void test_move_that_is_over_cannot_be_cancelled(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make_database(&e);
        fake_copy_result = 0;
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        (void) play(&e, NULL);
        fake_copy_result = 1;
        deployer_wake(e.m.deployer, "s-web");
        engine_settle(&e);
        ASSERT_TRUE(nodes_work(&e, "g")); /* it runs there, and nobody has looked yet */
        engine_begin(&e);
        ASSERT_OK(deploy_cancel(e.m.store, id, "It was cancelled.", NULL));
        engine_commit(&e);
        (void) play(&e, NULL);
        assert_lives_on(&e, "n2");
        engine_remove(&e);
}

static void test_target_that_is_cut_off_when_it_starts_is_waited_for(void **state) {
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make_database(&e);
        fake_copy_result = 0;
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        (void) play(&e, NULL);
        fake_copy_result = 1;
        deployer_wake(e.m.deployer, "s-web");
        engine_settle(&e);
        set_connected(&e, "n2", false);
        pass_time(&e, 120 * USEC_PER_SEC);
        (void) play(&e, NULL);
        row = get_deploy(&e, id);
        ASSERT_FALSE(DEPLOY_STATE_IS_FINAL(row->state));
        ASSERT_EQ(count_running(&e), 0); /* not the old one */
        set_connected(&e, "n2", true);
        (void) play(&e, NULL);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        assert_lives_on(&e, "n2");
        engine_remove(&e);
}

static void test_service_that_is_stopped_meanwhile_stays_stopped(void **state) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make_database(&e);
        fake_copy_result = 0;
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        (void) play(&e, NULL);
        engine_begin(&e);
        ASSERT_OK(store_get_service(e.m.store, "s-web", &service));
        service->state = SERVICE_STOPPED;
        ASSERT_OK(store_put_service(e.m.store, service));
        engine_commit(&e);
        (void) play(&e, NULL);
        assert_deploy(&e, id, DEPLOY_CANCELLED, NULL);
        row = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(row->node_id, "n1");
        ASSERT_EQ(row->desired, INSTANCE_STOPPED);
        ASSERT_EQ(count_running(&e), 0);
        engine_remove(&e);
}

/* Kills the master at its commit number "cut" of a move. */
static bool kill_in_a_move(int cut, bool after_commit, bool fails) {
        _cleanup_free_ char *id = NULL;
        bool killed;
        Engine e = {};

        make_database(&e);
        fake_copy_result = fails ? -1 : 1;
        ASSERT_OK(request_move(&e, 1, "n2", &id, NULL));
        commits_left = cut;
        die_after_commit = after_commit;
        (void) play(&e, NULL);
        killed = store_is_dead;

        engine_stop(&e);
        fake_now += 3 * USEC_PER_SEC;
        engine_start(&e, false);
        for (bool more = true; more;) {
                engine_settle(&e);
                ASSERT_TRUE(count_running(&e) <= 1);
                more = nodes_work(&e, "g");
        }
        assert_deploy(&e, id, fails ? DEPLOY_ERROR : DEPLOY_SUCCESS, NULL);
        assert_lives_on(&e, fails ? "n1" : "n2");
        engine_remove(&e);
        return killed;
}

static void test_move_survives_a_kill_at_any_step(void **state) {
        unsigned kills = 0;

        for (unsigned fails = 0; fails < 2; fails++)
                for (unsigned after = 0; after < 2; after++)
                        for (int cut = 0; kill_in_a_move(cut, after, fails); cut++)
                                kills++;
        ASSERT_TRUE(kills >= 14);
        print_message("%u kills survived\n", kills);
}

KONTENA_TESTS(cmocka_unit_test(test_instance_moves_with_its_data),
                cmocka_unit_test(test_data_are_left_alone_while_they_move),
                cmocka_unit_test(test_move_that_makes_no_sense_is_refused),
                cmocka_unit_test(test_data_that_are_there_are_not_replaced),
                cmocka_unit_test(test_trouble_in_the_copy_leaves_it_where_it_was),
                cmocka_unit_test(test_instance_that_does_not_start_there_goes_back),
                cmocka_unit_test(test_move_that_is_over_cannot_be_cancelled),
                cmocka_unit_test(test_target_that_is_cut_off_when_it_starts_is_waited_for),
                cmocka_unit_test(test_service_that_is_stopped_meanwhile_stays_stopped),
                cmocka_unit_test(test_move_survives_a_kill_at_any_step))
