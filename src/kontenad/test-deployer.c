/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kontena-limits.h"
#include "parse-util.h"
#include "test-deploy.h"

static void test_deploy_starts_every_instance(void **state) {
        _cleanup_free_ char *id = NULL;
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        Engine e = {};

        make(&e, 3, WEB3);
        id = request_deploy(&e, "s-web", false);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, 3, "web:1");

        row = get_deploy(&e, id);
        ASSERT_EQ(row->deploy_rev, 1);
        ASSERT_EQ(row->n_steps, 3);
        FOREACH_ARRAY(s, row->steps, row->n_steps) {
                _cleanup_(instance_row_freep) InstanceRow *i = get_instance(&e, "s-web", (*s)->number);

                ASSERT_STREQ((*s)->state, "running");
                ASSERT_STREQ((*s)->instance_id, i->id);
                ASSERT_STREQ((*s)->node_id, i->node_id);
        }
        ASSERT_OK(store_get_service(e.m.store, "s-web", &service));
        ASSERT_EQ(service->state, SERVICE_RUNNING);
        ASSERT_EQ(service->deployed_at, fake_now);
        assert_event("info service:deploy Deploy 1 of null/web started, 3 instances.");
        assert_event("info service:deploy Deploy 1 of null/web ended: success.");
        engine_remove(&e);
}

static void test_deploy_again_keeps_nodes_and_addresses(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL, *addresses[4] = {};
        Engine e = {};

        make(&e, 4, STOP_WEB3);
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, first);
        for (uint32_t n = 1; n <= 3; n++) {
                InstanceRow *row = get_instance(&e, "s-web", n);

                addresses[n] = strjoin(row->node_id, row->address);
                instance_row_free(row);
        }

        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 3, \"deploy_order\": \"stop-first\"}",
                        true);
        second = request_deploy(&e, "s-web", true);
        ASSERT_EQ(play(&e, second), 1); /* min_health 0.8 of 3: one at a time */
        assert_deploy(&e, second, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, 3, "web:2");
        for (uint32_t n = 1; n <= 3; n++) {
                InstanceRow *row = get_instance(&e, "s-web", n);
                _cleanup_free_ char *address = strjoin(row->node_id, row->address);

                ASSERT_STREQ(address, addresses[n]);
                ASSERT_TRUE(row->force);
                instance_row_free(row);
                free(addresses[n]);
        }
        engine_remove(&e);
}

static void test_deploy_concurrency_is_exact(void **state) {
        static const struct {
                uint32_t wanted;
                double min_health;
                uint32_t expected;
        } table[] = {
                { 1, 0.8, 1 },
                { 3, 0.8, 1 },
                { 5, 0.8, 1 },
                { 9, 0.8, 1 },
                { 10, 0.8, 2 },
                { 11, 0.8, 2 },
                { 15, 0.8, 3 },
                { 100, 0.8, 20 },
                { 1000, 0.5, 20 },
                { 10, 0.9, 1 },
                { 10, 0.7, 3 },
                { 4, 0.5, 2 },
                { 5, 0.0, 5 },
                { 30, 0.0, 20 },
                { 7, 1.0, 1 },
                { 3, 0.33, 2 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                ASSERT_EQ(deploy_concurrency(t->wanted, t->min_health), t->expected);
}

static void test_deploy_replaces_as_many_as_min_health_allows(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL;
        Engine e = {};

        make(&e, 3, "{\"image\": \"web:1\", \"count\": 30}");
        first = request_deploy(&e, "s-web", false);
        ASSERT_EQ(play(&e, first), 20); /* nothing runs yet, only the cap holds */
        second = request_deploy(&e, "s-web", true);
        ASSERT_EQ(play(&e, second), 6); /* a fifth of 30 */
        assert_deploy(&e, second, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, 30, "web:1");
        engine_remove(&e);
}

static void test_deploy_of_stateful_goes_one_by_one(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 3, "{\"image\": \"db:1\", \"count\": 3, \"stateful\": true}");
        id = request_deploy(&e, "s-web", false);
        ASSERT_EQ(play(&e, id), 1);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        engine_remove(&e);
}

/* Trap 7: the node's reason is in the deploy's. */
static void test_deploy_fails_with_the_reason_of_the_node(void **state) {
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        _cleanup_(instance_row_freep) InstanceRow *second = NULL;
        _cleanup_free_ char *first = NULL, *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, first);
        set_spec(&e, "s-web", "{\"image\": \"bad\", \"count\": 3}", true);
        id = request_deploy(&e, "s-web", false);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_ERROR,
                        "One or more instances failed: web-1 on n1: Image 'bad' was not found.");
        assert_event("error service:deploy null/web-1 on n1 failed in deploy 2: Image 'bad' was not found.");

        row = get_deploy(&e, id);
        ASSERT_STREQ(row->steps[0]->state, "error");
        ASSERT_STREQ(row->steps[1]->state, "waiting");
        second = get_instance(&e, "s-web", 2); /* not reached: keeps the old version */
        ASSERT_EQ(second->deploy_rev, 1);
        ASSERT_STREQ(second->state, "running");
        engine_remove(&e);
}

/* Trap 6. */
static void test_deploy_says_why_no_node_fits(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 2,
                        "{\"image\": \"web:1\", \"count\": 3, \"ports\": [{\"node_port\": 80, "
                        "\"container_port\": 80}]}");
        id = request_deploy(&e, "s-web", false);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_ERROR, NULL);
        assert_event("null/web-3 failed in deploy 1: No node fits web-3: n1: port 80/tcp is taken by "
                     "null/web-");
        engine_remove(&e);
}

static void test_deploy_scales_down_at_once(void **state) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_free_ char *first = NULL, *second = NULL;
        Engine e = {};
        size_t n = 0;

        make(&e, 3, "{\"image\": \"web:1\", \"count\": 5}");
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, first);
        set_spec(&e, "s-web", "{\"image\": \"web:1\", \"count\": 2}", false);
        second = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        ASSERT_OK(store_list_instances_of_service(e.m.store, "s-web", &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n)
                if ((*i)->number > 2) {
                        ASSERT_EQ((*i)->desired, INSTANCE_TERMINATED);
                        n++;
                }
        ASSERT_EQ(n, 3); /* before the others have answered */
        (void) play(&e, second);
        assert_deploy(&e, second, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, 2, "web:1");
        engine_remove(&e);
}

/* Traps 5 and 8: what waits for a crash-looping instance is no obstacle for a newer deploy. */
static void test_deploy_newer_supersedes_older(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL, *third = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        first = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        assert_deploy(&e, first, DEPLOY_ONGOING, NULL);

        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 3}", true);
        fake_now++;
        second = request_deploy(&e, "s-web", false);
        fake_now++;
        third = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        assert_deploy(&e, first, DEPLOY_SUPERSEDED, NULL);
        assert_deploy(&e, second, DEPLOY_SUPERSEDED, NULL);
        assert_deploy(&e, third, DEPLOY_ONGOING, NULL);
        (void) play(&e, third);
        assert_deploy(&e, third, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, 3, "web:2");
        engine_remove(&e);
}

static void test_deploy_can_be_cancelled(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        id = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        engine_begin(&e);
        ASSERT_OK(deploy_cancel(e.m.store, id, "Cancelled by anna.", &error));
        engine_commit(&e);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_CANCELLED, "Cancelled by anna.");
        ASSERT_EQ(deploy_is_running(e.m.store, "s-web"), 0);

        engine_begin(&e);
        ASSERT_ERROR(deploy_cancel(e.m.store, id, NULL, &error), ESTALE);
        store_rollback(e.m.store);
        ASSERT_EQ(error.code, K_CONFLICT);
        engine_remove(&e);
}

static void test_deploy_ends_when_the_service_is_stopped_or_removed(void **state) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        id = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        engine_begin(&e);
        ASSERT_OK(store_get_service(e.m.store, "s-web", &row));
        row->state = SERVICE_STOPPED;
        ASSERT_OK(store_put_service(e.m.store, row));
        engine_commit(&e);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_CANCELLED, "The service was stopped.");
        engine_remove(&e);

        make(&e, 1, WEB3);
        free(id);
        id = request_deploy(&e, "s-web", false);
        engine_begin(&e);
        ASSERT_OK(store_delete_service(e.m.store, "s-web"));
        engine_commit(&e);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_CANCELLED, "The service was removed.");
        engine_remove(&e);
}

static void test_deploy_waits_for_a_node_that_is_away_for_a_moment(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        set_connected(&e, "n1", false);
        id = request_deploy(&e, "s-web", false);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_ONGOING, NULL);
        set_connected(&e, "n1", true);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        engine_remove(&e);
}

/* Trap 5. */
static void test_deploy_step_times_out(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        id = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        pass_time(&e, INSTANCE_DEPLOY_TIMEOUT_USEC - USEC_PER_SEC);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ONGOING, NULL);
        pass_time(&e, USEC_PER_SEC);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ERROR, NULL);
        assert_event("null/web-1 on n1 failed in deploy 1: It does not run after 300 s, its state is "
                     "'unknown' and it has not reported.");
        engine_remove(&e);
}

/* What it waits for is told in the service's problem as long as it does, and in the deploy's when the time is over. */
static void test_what_an_instance_waits_for_is_told(void **state) {
        _cleanup_(service_summary_done) ServiceSummary waiting = {}, crashing = {};
        _cleanup_free_ char *id = NULL;
        InstanceRow *row;
        Engine e = {};

        make(&e, 1, "{\"image\": \"web:1\", \"count\": 1}");
        id = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        row = get_instance(&e, "s-web", 1);
        row->observed_deploy_rev = 1;
        row->state = strdup("starting");
        row->progress = strdup("waiting for READY=1: warming up");
        engine_begin(&e);
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        pass_time(&e, INSTANCE_DEPLOY_TIMEOUT_USEC);
        engine_settle(&e);
        assert_event("It does not run after 300 s, its state is 'starting': waiting for READY=1: warming "
                     "up.");

        ASSERT_OK(store_summarize_service(e.m.store, "s-web", &waiting));
        ASSERT_STREQ(waiting.waiting, "waiting for READY=1: warming up");
        ASSERT_EQ(waiting.waiting_number, 1);

        row->error = strdup("The container exited with status 4.");
        row->restarts = 7;
        engine_begin(&e);
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        instance_row_free(row);
        ASSERT_OK(store_summarize_service(e.m.store, "s-web", &crashing));
        ASSERT_STREQ(crashing.error, "The container exited with status 4.");
        ASSERT_EQ(crashing.error_restarts, 7);
        engine_remove(&e);
}

static void test_deploy_step_waits_for_hooks(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1,
                        "{\"image\": \"web:1\", \"hooks\": {\"pre_start\": [{\"name\": \"a\", \"cmd\": "
                        "\"x\", \"timeout\": 90}], "
                        "\"pre_stop\": [{\"name\": \"b\", \"cmd\": \"x\", \"timeout\": 10}]}}");
        id = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        pass_time(&e, INSTANCE_DEPLOY_TIMEOUT_USEC + 99 * USEC_PER_SEC);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ONGOING, NULL);
        pass_time(&e, USEC_PER_SEC);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ERROR, NULL);
        assert_event("null/web-1 on n1 failed in deploy 1: It does not run after 400 s, its state is "
                     "'unknown' and it has not reported.");
        engine_remove(&e);
}

static void test_deploy_times_out(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        /* Each instance takes just less than its own limit, one after another. */
        make(&e, 1, "{\"image\": \"web:1\", \"count\": 20, \"stateful\": true, \"min_health\": 1.0}");
        id = request_deploy(&e, "s-web", false);
        for (unsigned i = 0; i < 8; i++) {
                engine_settle(&e);
                (void) nodes_work(&e, "g");
                pass_time(&e, INSTANCE_DEPLOY_TIMEOUT_USEC - USEC_PER_SEC);
        }
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ERROR, "Not finished after 30 minutes, 7 of 20 instances run.");
        engine_remove(&e);
}

static void test_deploy_fails_when_the_node_goes_away(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        id = request_deploy(&e, "s-web", false);
        engine_settle(&e);
        set_connected(&e, "n1", false);
        engine_settle(&e);
        pass_time(&e, DEPLOY_NODE_GRACE_USEC - USEC_PER_SEC);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ONGOING, NULL); /* it may only have been restarted */
        pass_time(&e, USEC_PER_SEC);
        engine_settle(&e);
        assert_deploy(&e, id, DEPLOY_ERROR, NULL);
        assert_event("null/web-1 on n1 failed in deploy 1: Node 'n1' is offline.");
        engine_remove(&e);
}

static void test_deploy_moves_stateless_from_offline_node(void **state) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_free_ char *first = NULL, *second = NULL;
        _cleanup_(instance_row_freep) InstanceRow *before = NULL, *after = NULL;
        Engine e = {};
        size_t terminated = 0;

        make(&e, 2, "{\"image\": \"web:1\"}");
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, first);
        before = get_instance(&e, "s-web", 1);
        set_connected(&e, before->node_id, false);
        second = request_deploy(&e, "s-web", false);
        (void) play(&e, second);
        assert_deploy(&e, second, DEPLOY_SUCCESS, NULL);
        after = get_instance(&e, "s-web", 1);
        ASSERT_FALSE(streq(before->node_id, after->node_id));
        ASSERT_FALSE(streq(before->id, after->id));
        assert_event("the old node is offline, its copy is removed when it comes back.");

        /* The old copy keeps its address until its node says that it is gone. */
        ASSERT_OK(store_list_instances_of_node(e.m.store, before->node_id, &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                ASSERT_EQ((*i)->desired, INSTANCE_TERMINATED);
                ASSERT_STREQ((*i)->address, before->address);
                terminated++;
        }
        ASSERT_EQ(terminated, 1);
        engine_remove(&e);
}

static void test_deploy_of_stateful_waits_for_its_node(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL, *third = NULL, *fourth = NULL;
        _cleanup_(instance_row_freep) InstanceRow *before = NULL, *after = NULL;
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"db:1\", \"stateful\": true}");
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, first);
        before = get_instance(&e, "s-web", 1);
        set_connected(&e, before->node_id, false);
        second = request_deploy(&e, "s-web", false);
        (void) play(&e, second);
        assert_deploy(&e, second, DEPLOY_ONGOING, NULL); /* it may be there again in a moment */
        pass_time(&e, DEPLOY_NODE_GRACE_USEC);
        (void) play(&e, second);
        assert_deploy(&e, second, DEPLOY_ERROR, NULL);
        assert_event("the data is on '");

        /* After its removal it is placed anew, with empty data, only when somebody says so. */
        remove_node(&e, before->node_id);
        third = request_deploy(&e, "s-web", false);
        (void) play(&e, third);
        assert_deploy(&e, third, DEPLOY_ERROR, NULL);
        assert_event("--accept-data-loss");
        ASSERT_OK(store_get_service(e.m.store, "s-web", &service));
        engine_begin(&e);
        ASSERT_OK(deploy_request(e.m.store, service, DEPLOY_ACCEPT_LOSS, &fourth, NULL));
        engine_commit(&e);
        (void) play(&e, fourth);
        assert_deploy(&e, fourth, DEPLOY_SUCCESS, NULL);
        after = get_instance(&e, "s-web", 1);
        ASSERT_FALSE(streq(before->node_id, after->node_id));
        ASSERT_FALSE(streq(before->address, after->address));
        engine_remove(&e);
}

static void test_deploy_on_host_network_takes_no_address(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"web:1\", \"net\": \"host\"}");
        id = request_deploy(&e, "s-web", false);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        row = get_instance(&e, "s-web", 1);
        ASSERT_FALSE(row->address);
        engine_remove(&e);
}

static void test_deploy_daemon_follows_the_nodes(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL;
        Engine e = {};

        make(&e, 3, "{\"image\": \"web:1\", \"count\": 2, \"strategy\": \"daemon\"}");
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, first);
        assert_consistent(&e, 6, "web:1");
        for (uint32_t n = 1; n <= 6; n++) {
                InstanceRow *row = get_instance(&e, "s-web", n);
                _cleanup_free_ char *node = strprintf("n%u", (n - 1) % 3 + 1);

                ASSERT_STREQ(row->node_id, node);
                instance_row_free(row);
        }
        add_node(&e, "g", 4);
        second = request_deploy(&e, "s-web", false);
        (void) play(&e, second);
        assert_consistent(&e, 8, "web:1");
        engine_remove(&e);
}

static void test_deploy_without_any_node_is_an_error(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 0, "{\"image\": \"web:1\", \"strategy\": \"daemon\"}");
        id = request_deploy(&e, "s-web", false);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_ERROR, "No node fits web-1: the grid has no nodes.");
        engine_remove(&e);
}

/* What is to be done between two kills. */
typedef struct Scenario {
        const char *name, *before, *after; /* settings of the deploy before and of the one that is killed */
        uint32_t expected;
        bool lose_node;
} Scenario;

/* Kills the master at its commit number "cut"; false when the deploy ended without getting that far. */
static bool kill_at(const Scenario *s, int cut, bool after_commit) {
        _cleanup_free_ char *first = NULL, *id = NULL;
        bool killed;
        Engine e = {};

        make(&e, 3, s->before);
        first = request_deploy(&e, "s-web", false);
        (void) play(&e, NULL);
        set_spec(&e, "s-web", s->after, true);
        if (s->lose_node) {
                _cleanup_(instance_row_freep) InstanceRow *row = get_instance(&e, "s-web", 1);

                set_connected(&e, row->node_id, false);
        }
        id = request_deploy(&e, "s-web", false);

        commits_left = cut;
        die_after_commit = after_commit;
        (void) play(&e, NULL);
        killed = store_is_dead;

        engine_stop(&e);
        fake_now += 3 * USEC_PER_SEC;
        engine_start(&e, false);
        (void) play(&e, NULL);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        assert_consistent(&e, s->expected, "web:2");
        engine_remove(&e);
        return killed;
}

static void test_deploy_survives_a_kill_at_any_step(void **state) {
        static const Scenario scenarios[] = {
                { "replace", WEB3, "{\"image\": \"web:2\", \"count\": 3}", 3, false },
                { "scale up", "{\"image\": \"web:1\"}", "{\"image\": \"web:2\", \"count\": 4}", 4, false },
                { "scale down", "{\"image\": \"web:1\", \"count\": 5}",
                                "{\"image\": \"web:2\", \"count\": 2}", 2, false },
                { "move", WEB3, "{\"image\": \"web:2\", \"count\": 3}", 3, true },
                { "stateful", "{\"image\": \"web:1\", \"count\": 2, \"stateful\": true}",
                                "{\"image\": \"web:2\", \"count\": 3, \"stateful\": true}", 3, false },
        };
        unsigned kills = 0;

        FOREACH_ARRAY(s, scenarios, ELEMENTSOF(scenarios))
                for (unsigned after = 0; after < 2; after++) {
                        int cut = 0;

                        while (kill_at(s, cut, after)) {
                                cut++;
                                kills++;
                        }
                        ASSERT_TRUE(cut >= 4); /* begin, start, collect, finish at the least */
                }
        print_message("%u kills survived\n", kills);
}

/* A full disk: nothing can be written for a while. */
static void test_deploy_waits_for_the_store(void **state) {
        _cleanup_free_ char *id = NULL;
        Engine e = {};

        make(&e, 1, WEB3);
        id = request_deploy(&e, "s-web", false);
        store_is_dead = true;
        engine_wait(&e, 100 * USEC_PER_MSEC);
        store_is_dead = false;
        assert_deploy(&e, id, DEPLOY_CREATED, NULL);
        fake_now += 5 * USEC_PER_SEC;
        engine_wait(&e, 2500 * USEC_PER_MSEC);
        (void) play(&e, id);
        assert_deploy(&e, id, DEPLOY_SUCCESS, NULL);
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_deploy_starts_every_instance),
                cmocka_unit_test(test_deploy_again_keeps_nodes_and_addresses),
                cmocka_unit_test(test_deploy_concurrency_is_exact),
                cmocka_unit_test(test_deploy_replaces_as_many_as_min_health_allows),
                cmocka_unit_test(test_deploy_of_stateful_goes_one_by_one),
                cmocka_unit_test(test_deploy_fails_with_the_reason_of_the_node),
                cmocka_unit_test(test_deploy_says_why_no_node_fits),
                cmocka_unit_test(test_deploy_scales_down_at_once),
                cmocka_unit_test(test_deploy_newer_supersedes_older),
                cmocka_unit_test(test_deploy_can_be_cancelled),
                cmocka_unit_test(test_deploy_ends_when_the_service_is_stopped_or_removed),
                cmocka_unit_test(test_deploy_waits_for_a_node_that_is_away_for_a_moment),
                cmocka_unit_test(test_deploy_step_times_out),
                cmocka_unit_test(test_deploy_step_waits_for_hooks),
                cmocka_unit_test(test_what_an_instance_waits_for_is_told),
                cmocka_unit_test(test_deploy_times_out),
                cmocka_unit_test(test_deploy_fails_when_the_node_goes_away),
                cmocka_unit_test(test_deploy_moves_stateless_from_offline_node),
                cmocka_unit_test(test_deploy_of_stateful_waits_for_its_node),
                cmocka_unit_test(test_deploy_on_host_network_takes_no_address),
                cmocka_unit_test(test_deploy_daemon_follows_the_nodes),
                cmocka_unit_test(test_deploy_without_any_node_is_an_error),
                cmocka_unit_test(test_deploy_survives_a_kill_at_any_step),
                cmocka_unit_test(test_deploy_waits_for_the_store))
