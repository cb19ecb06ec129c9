/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "deploy-image.h"
#include "desired-json.h"
#include "json-util.h"
#include "test-deploy.h"

/* The settings that the service has now, as revision_add() remembers them. */
static void remember_revision(Engine *e, bool good) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_free_ char *id = NULL;

        ASSERT_OK(store_get_service(e->m.store, "s-web", &service));
        id = strprintf("s-web/%" PRIu64, service->revision);
        engine_begin(e);
        ASSERT_OK(store_put_revision(e->m.store, &(RevisionRow){ .id = id,
                                                                 .grid_id = service->grid_id,
                                                                 .service_id = service->id,
                                                                 .revision = service->revision,
                                                                 .spec = service->spec,
                                                                 .good = good,
                                                                 .created_at = fake_now }));
        engine_commit(e);
}

static size_t count_rows(Engine *e, InstanceRole role, InstanceDesired desired) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        size_t n = 0;

        ASSERT_OK(store_list_instances_of_service(e->m.store, "s-web", &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n)
                n += (*i)->role == role && (*i)->desired == desired;
        return n;
}

#define DIGEST "sha256:1111111111111111111111111111111111111111111111111111111111111111"

/* A node keeps the image of the revision that its instance would go back to. */
static void test_nodes_hear_what_a_rollback_needs(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_(revision_row_freep) RevisionRow *first = NULL;
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_json_ json_object *before = NULL, *after = NULL;
        _cleanup_free_ char *a = NULL, *b = NULL;
        const char *digest = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"web:1\", \"count\": 1}");
        remember_revision(&e, true);
        a = request_deploy(&e, "s-web", false);
        (void) play(&e, NULL);
        ASSERT_OK(store_get_grid(e.m.store, "g", &grid));
        row = get_instance(&e, "s-web", 1);
        ASSERT_OK(desired_instance_to_json(e.m.store, e.m.keyring, grid, NULL, "null", "web", row, &before));
        ASSERT_FALSE(json_object_object_get_ex(before, "rollback_digest", NULL));
        ASSERT_OK(store_find_revision(e.m.store, "s-web", row->service_rev, &first));
        ASSERT_OK(free_and_strdup(&first->image_digest, DIGEST));
        first->good = true;
        engine_begin(&e);
        ASSERT_OK(store_put_revision(e.m.store, first));
        engine_commit(&e);

        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 1}", true);
        remember_revision(&e, false);
        b = request_deploy(&e, "s-web", false);
        (void) play(&e, NULL);
        row = instance_row_free(row);
        row = get_instance(&e, "s-web", 1);
        ASSERT_OK(desired_instance_to_json(e.m.store, e.m.keyring, grid, NULL, "null", "web", row, &after));
        ASSERT_OK(json_get_string(after, "rollback_digest", &digest, NULL));
        ASSERT_STREQ(digest, DIGEST);
        engine_remove(&e);
}

static void test_deploy_starts_the_new_one_first(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *old = NULL, *new = NULL, *retired = NULL;
        _cleanup_free_ char *first = NULL, *second = NULL, *third = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"web:1\", \"count\": 1, \"drain\": 7}");
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, NULL);
        old = get_instance(&e, "s-web", 1);

        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 1, \"drain\": 7}", true);
        second = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        /* Both are there, and the old one is still what serves. */
        ASSERT_EQ(count_rows(&e, INSTANCE_INCOMING, INSTANCE_RUNNING), 1);
        new = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(new->id, old->id);
        ASSERT_EQ(new->desired, INSTANCE_RUNNING);
        new = instance_row_free(new);

        ASSERT_TRUE(nodes_work(&e, "g"));
        engine_settle(&e);
        new = get_instance(&e, "s-web", 1);
        ASSERT_FALSE(streq(new->id, old->id));
        ASSERT_FALSE(streq(new->address, old->address));
        ASSERT_STREQ(new->slot, "b");
        ASSERT_OK(store_get_instance(e.m.store, old->id, &retired));
        ASSERT_EQ(retired->desired, INSTANCE_TERMINATED);
        ASSERT_EQ(retired->drain_sec, 7);
        (void) play(&e, NULL);
        assert_deploy(&e, second, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, 1, "web:2");

        /* Nothing has changed: nothing is replaced. */
        third = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        ASSERT_EQ(count_rows(&e, INSTANCE_INCOMING, INSTANCE_RUNNING), 0);
        (void) play(&e, NULL);
        assert_deploy(&e, third, DEPLOY_SUCCESS, NULL);
        engine_remove(&e);
}

static void begin_bad_deploy(Engine *e, const char *settings, char **ret_id) {
        _cleanup_free_ char *first = NULL, *spec = NULL;

        spec = strprintf("{\"image\": \"web:1\", \"count\": 3%s}", settings);
        make(e, 3, spec);
        remember_revision(e, false);
        first = request_deploy(e, "s-web", false);
        (void) play(e, NULL);
        assert_deploy(e, first, DEPLOY_SUCCESS, NULL);

        free(spec);
        spec = strprintf("{\"image\": \"bad\", \"count\": 3%s}", settings);
        set_spec(e, "s-web", spec, true);
        remember_revision(e, false);
        *ret_id = request_deploy(e, "s-web", false);
}

static void assert_rolled_back(Engine *e, const char *bad) {
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_(deploy_row_freep) DeployRow *row = get_deploy(e, bad);

        ASSERT_EQ(row->state, DEPLOY_ERROR);
        ASSERT_TRUE(strstr(row->reason, "Image 'bad' was not found.") != NULL);
        ASSERT_TRUE(strstr(row->reason, "Going back to revision") != NULL);
        ASSERT_OK(store_list_deploys(e->m.store, "s-web", 10, &deploys));
        ASSERT_STREQ(deploys.rows[0]->kind, "rollback");
        ASSERT_STREQ(deploys.rows[0]->cause, bad);
        ASSERT_EQ(deploys.rows[0]->state, DEPLOY_SUCCESS);
        ASSERT_OK(store_get_service(e->m.store, "s-web", &service));
        ASSERT_EQ(service->revision, deploys.rows[0]->service_rev);
        assert_consistent(e, 3, "web:1");
        ASSERT_EQ(count_rows(e, INSTANCE_INCOMING, INSTANCE_RUNNING), 0);
}

static void test_deploy_that_fails_goes_back(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *before = NULL, *after = NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        begin_bad_deploy(&e, "", &id);
        before = get_instance(&e, "s-web", 2);
        (void) play(&e, NULL);
        assert_rolled_back(&e, id);
        /* It never stood still. */
        after = get_instance(&e, "s-web", 2);
        ASSERT_STREQ(after->id, before->id);
        ASSERT_STREQ(after->address, before->address);
        ASSERT_EQ(after->service_rev, before->service_rev);
        engine_remove(&e);
}

static void test_deploy_goes_back_only_where_it_may(void **state) {
        _cleanup_free_ char *id = NULL;
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        Engine e = {};

        begin_bad_deploy(&e, ", \"on_failure\": \"pause\"", &id);
        (void) play(&e, NULL);
        row = get_deploy(&e, id);
        ASSERT_EQ(row->state, DEPLOY_ERROR);
        ASSERT_EQ(row->n_steps, 3);
        ASSERT_STREQ(row->steps[1]->state, "waiting");
        ASSERT_EQ(count_rows(&e, INSTANCE_INCOMING, INSTANCE_RUNNING), 0);
        ASSERT_EQ(count_rows(&e, INSTANCE_CURRENT, INSTANCE_RUNNING), 3);
        row = deploy_row_free(row);
        engine_remove(&e);
        id = mfree(id);

        begin_bad_deploy(&e, ", \"on_failure\": \"continue\"", &id);
        (void) play(&e, NULL);
        row = get_deploy(&e, id);
        ASSERT_EQ(row->state, DEPLOY_ERROR);
        FOREACH_ARRAY(s, row->steps, row->n_steps)
                ASSERT_STREQ((*s)->state, "error");
        engine_remove(&e);
}

/* Kills the master at its commit number "cut" of a deploy that fails and goes back. */
static bool kill_on_the_way_back(int cut, bool after_commit, const char *settings) {
        _cleanup_free_ char *id = NULL;
        bool killed;
        Engine e = {};

        begin_bad_deploy(&e, settings, &id);
        commits_left = cut;
        die_after_commit = after_commit;
        (void) play(&e, NULL);
        killed = store_is_dead;

        engine_stop(&e);
        fake_now += 3 * USEC_PER_SEC;
        engine_start(&e, false);
        (void) play(&e, NULL);
        assert_rolled_back(&e, id);
        engine_remove(&e);
        return killed;
}

static void test_rollback_survives_a_kill_at_any_step(void **state) {
        static const char *const settings[] = { "", ", \"deploy_order\": \"stop-first\"" };
        unsigned kills = 0;

        FOREACH_ARRAY(s, settings, ELEMENTSOF(settings))
                for (unsigned after = 0; after < 2; after++)
                        for (int cut = 0; kill_on_the_way_back(cut, after, *s); cut++)
                                kills++;
        ASSERT_TRUE(kills >= 24);
        print_message("%u kills survived\n", kills);
}

static void answer_resolver(const char *json, const KError *error) {
        _cleanup_json_ json_object *o = json ? json_tokener_parse(json) : NULL;
        session_result_t done = fake_call_done;

        fake_call_done = NULL;
        ASSERT_TRUE(done != NULL);
        done(fake_session, o, error, fake_call_userdata);
}

static void test_deploy_asks_once_which_bytes_an_image_is(void **state) {
        _cleanup_free_ char *good = NULL, *bad = NULL;
        _cleanup_kerror_ KError error = { .code = K_IMAGE,
                .message = (char *) "There is no image 'web:2'." };
        Engine e = {};

        make(&e, 2, WEB3);
        fake_session = session_new("n1", 1);
        e.m.sessions = (NodeSessions *) &e; /* not looked into by the fakes */
        ASSERT_OK(deploy_images_new(&e.m, &e.m.deploy_images));

        good = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        ASSERT_EQ(count_rows(&e, INSTANCE_CURRENT, INSTANCE_RUNNING), 0);
        ASSERT_STREQ(json_object_get_string(json_object_object_get(fake_session->last, "image")), "web:1");
        answer_resolver("{\"digest\": \"sha256:abc\", \"stale\": false}", NULL);
        (void) play(&e, NULL);
        assert_deploy(&e, good, DEPLOY_SUCCESS, NULL);
        for (uint32_t n = 1; n <= 3; n++) {
                _cleanup_(instance_row_freep) InstanceRow *row = get_instance(&e, "s-web", n);

                ASSERT_STREQ(row->wanted_digest, "sha256:abc");
        }

        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 3}", true);
        bad = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        answer_resolver(NULL, &error);
        (void) play(&e, NULL);
        assert_deploy(&e, bad, DEPLOY_ERROR, "There is no image 'web:2'.");
        ASSERT_EQ(count_rows(&e, INSTANCE_CURRENT, INSTANCE_RUNNING), 3);
        error.message = NULL;

        e.m.deploy_images = deploy_images_free(e.m.deploy_images);
        e.m.sessions = NULL;
        session_free(fake_session);
        fake_session = NULL;
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_nodes_hear_what_a_rollback_needs),
                cmocka_unit_test(test_deploy_starts_the_new_one_first),
                cmocka_unit_test(test_deploy_that_fails_goes_back),
                cmocka_unit_test(test_deploy_goes_back_only_where_it_may),
                cmocka_unit_test(test_rollback_survives_a_kill_at_any_step),
                cmocka_unit_test(test_deploy_asks_once_which_bytes_an_image_is))
