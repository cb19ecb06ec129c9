/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ephemeral.h"
#include "placement.h"
#include "reschedule-check.h"
#include "test-engine.h"

#define WEB2 "{\"image\": \"web:1\", \"count\": 2}"

static void play(Engine *e) {
        do
                engine_settle(e);
        while (nodes_work(e, "g"));
}

/* A grid whose service is deployed. */
static void make(Engine *e, unsigned n_nodes, const char *spec) {
        engine_start(e, /* tracked= */ false);
        add_grid(e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= n_nodes; i++)
                add_node(e, "g", i);
        add_service(e, "g", "web", spec);
        free(request_deploy(e, "s-web", false));
        play(e);
}

/* Its timers run ten times as fast as they say. */
#define HASTE 10U

int __real_sd_event_source_set_time_relative(sd_event_source *s, uint64_t usec);
int __wrap_sd_event_source_set_time_relative(sd_event_source *s, uint64_t usec);
int __wrap_sd_event_source_set_time_relative(sd_event_source *s, uint64_t usec) {
        return __real_sd_event_source_set_time_relative(s, usec / HASTE);
}

/* Lets the rescheduler look once: it does so a second after a change of a node. */
static void look(Engine *e) {
        _cleanup_(node_row_list_done) NodeRowList nodes = {};

        ASSERT_OK(rescheduler_new(&e->m, &e->m.rescheduler));
        engine_begin(e);
        ASSERT_OK(store_list_nodes(e->m.store, "g", &nodes));
        ASSERT_OK(store_put_node(e->m.store, nodes.rows[0]));
        engine_commit(e);
        engine_wait(e, 2400 * USEC_PER_MSEC / HASTE);
        play(e);
        engine_stop(e); /* watches end with the store */
        engine_start(e, false);
        play(e);
}

static size_t count_deploys(Engine *e) {
        _cleanup_(deploy_row_list_done) DeployRowList l = {};

        ASSERT_OK(store_list_deploys(e->m.store, "s-web", 100, &l));
        return l.n;
}

static void set_availability(Engine *e, const char *node_id, NodeAvailability a) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        engine_begin(e);
        ASSERT_OK(store_get_node(e->m.store, node_id, &row));
        row->availability = a;
        ASSERT_OK(store_put_node(e->m.store, row));
        engine_commit(e);
}

static void assert_service_on(Engine *e, const char *service_id, uint32_t number, const char *node_id) {
        _cleanup_(instance_row_freep) InstanceRow *row = get_instance(e, service_id, number);

        ASSERT_TRUE(row);
        ASSERT_STREQ(row->node_id, node_id);
}

static void assert_on(Engine *e, uint32_t number, const char *node_id) {
        assert_service_on(e, "s-web", number, node_id);
}

static void test_rescheduler_leaves_alone_what_is_well(void **state) {
        Engine e = {};

        make(&e, 3, WEB2);
        look(&e);
        ASSERT_EQ(count_deploys(&e), 1);
        /* A further node changes nothing: the spread is even. */
        add_node(&e, "g", 4);
        look(&e);
        ASSERT_EQ(count_deploys(&e), 1);
        engine_remove(&e);
}

static void test_rescheduler_redeploys_after_an_update(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        Engine e = {};

        make(&e, 2, WEB2);
        fake_now += USEC_PER_SEC;
        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 2}", true);
        look(&e);
        ASSERT_EQ(count_deploys(&e), 2);
        row = get_instance(&e, "s-web", 2);
        ASSERT_STREQ(json_object_get_string(json_object_object_get(row->spec, "image")), "web:2");
        engine_remove(&e);
}

static void test_rescheduler_never_touches_stateful_or_stopped(void **state) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"db:1\", \"stateful\": true}");
        fake_now += USEC_PER_SEC;
        set_spec(&e, "s-web", "{\"image\": \"db:2\", \"stateful\": true}", true);
        look(&e);
        ASSERT_EQ(count_deploys(&e), 1);
        engine_remove(&e);

        make(&e, 2, WEB2);
        engine_begin(&e);
        ASSERT_OK(store_get_service(e.m.store, "s-web", &row));
        row->state = SERVICE_STOPPED;
        row->updated_at = fake_now + 1;
        ASSERT_OK(store_put_service(e.m.store, row));
        engine_commit(&e);
        look(&e);
        ASSERT_EQ(count_deploys(&e), 1);
        engine_remove(&e);
}

static void test_rescheduler_redeploys_at_interval(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        Engine e = {};

        make(&e, 1, "{\"image\": \"web:1\", \"interval\": 3600}");
        fake_now += 3599 * USEC_PER_SEC;
        look(&e);
        ASSERT_EQ(count_deploys(&e), 1);
        fake_now += USEC_PER_SEC;
        look(&e);
        ASSERT_EQ(count_deploys(&e), 2);
        row = get_instance(&e, "s-web", 1);
        ASSERT_TRUE(row->force); /* all are replaced */
        engine_remove(&e);
}

static void test_rescheduler_moves_after_the_grace(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_free_ char *other = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"web:1\"}");
        row = get_instance(&e, "s-web", 1);
        other = strdup(streq(row->node_id, "n1") ? "n2" : "n1");
        set_connected(&e, row->node_id, false);
        fake_now += 119 * USEC_PER_SEC;
        look(&e);
        assert_on(&e, 1, row->node_id);
        fake_now += USEC_PER_SEC;
        look(&e);
        assert_on(&e, 1, other);
        engine_remove(&e);
}

static void test_rescheduler_waits_without_any_node(void **state) {
        Engine e = {};

        make(&e, 1, "{\"image\": \"web:1\"}");
        set_connected(&e, "n1", false);
        fake_now += 3600 * USEC_PER_SEC;
        look(&e);
        ASSERT_EQ(count_deploys(&e), 1);
        engine_remove(&e);
}

static void test_rescheduler_drains(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_free_ char *other = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"web:1\"}");
        row = get_instance(&e, "s-web", 1);
        other = strdup(streq(row->node_id, "n1") ? "n2" : "n1");
        set_availability(&e, row->node_id, NODE_DRAIN);
        look(&e);
        assert_on(&e, 1, other);
        set_availability(&e, row->node_id, NODE_ACTIVE);
        look(&e);
        assert_on(&e, 1, other); /* and it does not come back by itself */
        engine_remove(&e);
}

static void test_rescheduler_stops_stateful_on_a_drained_node(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *before = NULL, *drained = NULL, *after = NULL;
        Engine e = {};

        make(&e, 2, "{\"image\": \"db:1\", \"stateful\": true}");
        before = get_instance(&e, "s-web", 1);
        set_availability(&e, before->node_id, NODE_DRAIN);
        look(&e);
        drained = get_instance(&e, "s-web", 1);
        ASSERT_EQ(drained->desired, INSTANCE_STOPPED);
        ASSERT_STREQ(drained->node_id, before->node_id);
        set_availability(&e, before->node_id, NODE_ACTIVE);
        look(&e);
        after = get_instance(&e, "s-web", 1);
        ASSERT_EQ(after->desired, INSTANCE_RUNNING);
        ASSERT_EQ(count_deploys(&e), 1);
        engine_remove(&e);
}

/* As a move that was undone leaves it: never do two of them run, each with data of its own. */
static void test_rescheduler_starts_stateful_when_the_other_copy_is_gone(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL, *waits = NULL, *after = NULL;
        _cleanup_free_ char *id = NULL;
        const char *other;
        Engine e = {};

        make(&e, 2, "{\"image\": \"db:1\", \"stateful\": true}");
        row = get_instance(&e, "s-web", 1);
        id = strdup(row->id);
        other = streq(row->node_id, "n1") ? "n2" : "n1";
        set_connected(&e, other, false);
        engine_begin(&e);
        row->desired = INSTANCE_STOPPED;
        ASSERT_OK(store_put_instance(e.m.store, row));
        ASSERT_OK(free_and_strdup(&row->id, "leaving"));
        ASSERT_OK(free_and_strdup(&row->node_id, other));
        ASSERT_OK(free_and_strdup(&row->address, "10.81.128.77"));
        row->desired = INSTANCE_TERMINATED;
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        look(&e);
        waits = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(waits->id, id);
        ASSERT_EQ(waits->desired, INSTANCE_STOPPED);

        set_connected(&e, other, true);
        (void) nodes_work(&e, "g");
        look(&e);
        after = get_instance(&e, "s-web", 1);
        ASSERT_EQ(after->desired, INSTANCE_RUNNING);
        engine_remove(&e);
}

static void test_rescheduler_replaces_instances_of_a_removed_node(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        Engine e = {};

        make(&e, 3, "{\"image\": \"web:1\"}");
        row = get_instance(&e, "s-web", 1);
        remove_node(&e, row->node_id);
        look(&e);
        row = instance_row_free(row);
        row = get_instance(&e, "s-web", 1);
        ASSERT_TRUE(row->node_id && row->address);
        ASSERT_STREQ(row->state, "running");
        engine_remove(&e);
}

static void test_rescheduler_daemon_follows_new_nodes(void **state) {
        Engine e = {};

        make(&e, 2, "{\"image\": \"web:1\", \"strategy\": \"daemon\"}");
        add_node(&e, "g", 3);
        look(&e);
        assert_on(&e, 3, "n3");
        engine_remove(&e);
}

static void set_labels(Engine *e, const char *node_id, const char *label) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        engine_begin(e);
        ASSERT_OK(store_get_node(e->m.store, node_id, &row));
        ASSERT_OK(strv_extend(&row->labels, label));
        ASSERT_OK(store_put_node(e->m.store, row));
        engine_commit(e);
}

static void set_only_label(Engine *e, const char *node_id, const char *label) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        engine_begin(e);
        ASSERT_OK(store_get_node(e->m.store, node_id, &row));
        row->labels = strv_free(row->labels);
        ASSERT_OK(strv_extend(&row->labels, label));
        ASSERT_OK(store_put_node(e->m.store, row));
        engine_commit(e);
}

static void test_rescheduler_follows_labels(void **state) {
        Engine e = {};

        engine_start(&e, /* tracked= */ false);
        add_grid(&e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= 3; i++)
                add_node(&e, "g", i);
        set_only_label(&e, "n1", "slot=1");
        set_only_label(&e, "n2", "slot=2");
        add_service(&e, "g", "web",
                        "{\"image\": \"web:1\", \"count\": 2, \"affinity\": [\"label==slot=%s\"]}");
        free(request_deploy(&e, "s-web", false));
        play(&e);
        assert_on(&e, 1, "n1");
        assert_on(&e, 2, "n2");

        set_only_label(&e, "n2", "spare");
        set_only_label(&e, "n3", "slot=2");
        look(&e);
        assert_on(&e, 1, "n1");
        assert_on(&e, 2, "n3");

        /* The same nodes, each for the other instance. */
        set_only_label(&e, "n1", "slot=2");
        set_only_label(&e, "n3", "slot=1");
        look(&e);
        assert_on(&e, 1, "n3");
        assert_on(&e, 2, "n1");
        ASSERT_EQ(count_deploys(&e), 3);

        /* No place any more: it stays where it is and that is said, once. */
        set_only_label(&e, "n1", "spare");
        look(&e);
        look(&e);
        assert_on(&e, 2, "n1");
        ASSERT_EQ(count_deploys(&e), 3);
        engine_remove(&e);
}

/* Instance N of one beside instance N of another, as the manual recommends it. */
static void test_rescheduler_follows_a_neighbour(void **state) {
        Engine e = {};

        engine_start(&e, /* tracked= */ false);
        add_grid(&e, "g", "10.81.0.0/16");
        for (unsigned i = 1; i <= 3; i++)
                add_node(&e, "g", i);
        set_only_label(&e, "n1", "slot=1");
        set_only_label(&e, "n2", "slot=2");
        add_service(&e, "g", "web",
                        "{\"image\": \"web:1\", \"count\": 2, \"affinity\": [\"label==slot=%s\"]}");
        add_service(&e, "g", "side",
                        "{\"image\": \"web:1\", \"count\": 2, \"affinity\": [\"container==web-%s\"]}");
        free(request_deploy(&e, "s-web", false));
        play(&e);
        free(request_deploy(&e, "s-side", false));
        play(&e);
        assert_service_on(&e, "s-side", 1, "n1");
        assert_service_on(&e, "s-side", 2, "n2");

        set_only_label(&e, "n2", "spare");
        set_only_label(&e, "n3", "slot=2");
        look(&e);
        assert_on(&e, 2, "n3");
        look(&e);
        assert_service_on(&e, "s-side", 1, "n1");
        assert_service_on(&e, "s-side", 2, "n3");
        engine_remove(&e);
}

static void test_rescheduler_spreads_over_a_new_zone(void **state) {
        Engine e = {};

        engine_start(&e, /* tracked= */ false);
        add_grid(&e, "g", "10.81.0.0/16");
        add_node(&e, "g", 1);
        add_node(&e, "g", 2);
        set_only_label(&e, "n1", "az=a");
        set_only_label(&e, "n2", "az=a");
        add_service(&e, "g", "web", WEB2);
        free(request_deploy(&e, "s-web", false));
        play(&e);
        add_node(&e, "g", 3);
        set_only_label(&e, "n3", "az=b");
        look(&e);
        assert_on(&e, 2, "n3");
        ASSERT_EQ(count_deploys(&e), 2);
        look(&e);
        ASSERT_EQ(count_deploys(&e), 2);
        engine_remove(&e);
}

static bool node_exists(Engine *e, const char *node_id) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        return store_get_node(e->m.store, node_id, &row) >= 0;
}

static void test_rescheduler_removes_ephemeral_nodes_long_gone(void **state) {
        GridRow grid = { .id = (char *) "g", .initial_size = 1 };
        static const char *const ephemeral[] = { "n1", "n2", "n4" };
        Engine e = {};

        make(&e, 4, "{\"image\": \"db:1\", \"stateful\": true, \"affinity\": [\"node==n4\"]}");
        FOREACH_ARRAY(n, ephemeral, ELEMENTSOF(ephemeral))
                set_labels(&e, *n, "ephemeral");
        for (unsigned i = 1; i <= 4; i++) {
                _cleanup_free_ char *id = strprintf("n%u", i);

                set_connected(&e, id, false);
        }
        fake_now += 6 * 3600 * USEC_PER_SEC;
        ASSERT_OK(ephemeral_remove_stale(&e.m, &grid, fake_now));
        ASSERT_TRUE(node_exists(&e, "n2"));
        ASSERT_OK(ephemeral_remove_stale(&e.m, &grid, fake_now + 1));
        ASSERT_TRUE(node_exists(&e, "n1")); /* an initial node */
        ASSERT_FALSE(node_exists(&e, "n2"));
        ASSERT_TRUE(node_exists(&e, "n3")); /* without the label */
        ASSERT_TRUE(node_exists(&e, "n4")); /* has data */
        engine_remove(&e);
}

/* After a start of the master nobody is there yet. */
static void test_rescheduler_waits_for_nodes_to_come_back(void **state) {
        Engine e = {};

        make(&e, 2, WEB2);
        fake_now += USEC_PER_SEC;
        set_spec(&e, "s-web", "{\"image\": \"web:2\", \"count\": 2}", true);
        engine_stop(&e);
        engine_start(&e, /* tracked= */ true);
        set_availability(&e, "n1", NODE_DRAIN); /* so it looks */
        engine_wait(&e, 2400 * USEC_PER_MSEC / HASTE);
        ASSERT_EQ(count_deploys(&e), 1);

        fake_now += 30 * USEC_PER_SEC; /* they will not come */
        set_availability(&e, "n1", NODE_ACTIVE);
        engine_wait(&e, 2400 * USEC_PER_MSEC / HASTE);
        ASSERT_EQ(count_deploys(&e), 2);
        engine_remove(&e);
}

static void test_rescheduler_backs_off_after_failures(void **state) {
        DeployRow rows[6] = {}, *list[6];
        DeployRowList l = { .rows = list };
        static const uint64_t waits[] = { 0, 20, 40, 80, 160, 320 };

        for (size_t i = 0; i < 6; i++) {
                rows[i] = (DeployRow){ .state = DEPLOY_ERROR, .finished_at = fake_now };
                list[i] = &rows[i];
        }
        for (l.n = 0; l.n < 6; l.n++)
                ASSERT_EQ(reschedule_not_before(&l), l.n == 0 ? 0 : fake_now + waits[l.n] * USEC_PER_SEC);
        rows[1].state = DEPLOY_SUCCESS; /* what lies before it does not count */
        ASSERT_EQ(reschedule_not_before(&l), fake_now + 20 * USEC_PER_SEC);
        rows[0].state = DEPLOY_SUPERSEDED;
        ASSERT_EQ(reschedule_not_before(&l), 0);
}

/* The check alone, over many grids: after what the scheduler did itself nothing is to be done. */
static void test_reschedule_check_is_content_with_the_scheduler(void **state) {
        for (unsigned round = 0; round < 200; round++) {
                ServiceSpec spec = { .count = 1 + round % 7,
                        .strategy = (Strategy) (round % _STRATEGY_MAX) };
                _cleanup_snapshot_ SchedulerSnapshot s = {};
                ServiceRow service = {
                        .id = (char *) "s", .stack = (char *) "null", .name = (char *) "web"
                };
                InstanceRow rows[64] = {}, *list[64];
                InstanceRowList instances = { .rows = list };
                _cleanup_free_ char *why = NULL;
                SchedulerRequest q = { .service_id = "s",
                        .stack = "null",
                        .service = "web",
                        .spec = &spec,
                        .number = 1,
                        .seed = round };

                s.nodes = new0(SchedulerNode, 8);
                ASSERT_TRUE(s.nodes);
                for (unsigned n = 0; n < 2 + round % 6; n++)
                        s.nodes[s.n_nodes++] = (SchedulerNode){ .id = strprintf("n%u", n),
                                .name = strprintf("n%u", n),
                                .number = n + 1,
                                .active = n == 0 || (round + n) % 5 > 0,
                                .connected = true };
                q.wanted = scheduler_wanted(&s, &q);
                for (; q.number <= q.wanted; q.number++) {
                        size_t node;

                        ASSERT_OK(scheduler_place(&s, &q, &node, NULL));
                        ASSERT_OK(scheduler_assign(&s, &q, node));
                        rows[instances.n] = (InstanceRow){
                                .number = q.number, .node_id = s.nodes[node].id, .desired = INSTANCE_RUNNING
                        };
                        list[instances.n] = &rows[instances.n];
                        instances.n++;
                }
                for (size_t n = 0; n < s.n_nodes; n++)
                        s.nodes[n].placed = 0;
                if (reschedule_check_placement(&s, &service, &spec, NULL, &instances, &why) != 0)
                        fail_msg("Round %u: %s", round, strna(why));
        }
}

KONTENA_TESTS(cmocka_unit_test(test_rescheduler_leaves_alone_what_is_well),
                cmocka_unit_test(test_rescheduler_redeploys_after_an_update),
                cmocka_unit_test(test_rescheduler_never_touches_stateful_or_stopped),
                cmocka_unit_test(test_rescheduler_redeploys_at_interval),
                cmocka_unit_test(test_rescheduler_moves_after_the_grace),
                cmocka_unit_test(test_rescheduler_waits_without_any_node),
                cmocka_unit_test(test_rescheduler_drains),
                cmocka_unit_test(test_rescheduler_stops_stateful_on_a_drained_node),
                cmocka_unit_test(test_rescheduler_starts_stateful_when_the_other_copy_is_gone),
                cmocka_unit_test(test_rescheduler_replaces_instances_of_a_removed_node),
                cmocka_unit_test(test_rescheduler_daemon_follows_new_nodes),
                cmocka_unit_test(test_rescheduler_follows_labels),
                cmocka_unit_test(test_rescheduler_follows_a_neighbour),
                cmocka_unit_test(test_rescheduler_spreads_over_a_new_zone),
                cmocka_unit_test(test_rescheduler_removes_ephemeral_nodes_long_gone),
                cmocka_unit_test(test_rescheduler_waits_for_nodes_to_come_back),
                cmocka_unit_test(test_rescheduler_backs_off_after_failures),
                cmocka_unit_test(test_reschedule_check_is_content_with_the_scheduler))
