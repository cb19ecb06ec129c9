/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keyring.h"
#include "kontena-limits.h"
#include "test-engine.h"

#define NODE_SECRET  "abcdefghaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER_SECRET "abcdefghbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void assert_refused(Engine *e, const NodeIntroduction *who, int code, const char *part) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        char *id = NULL;

        ASSERT_EQ(admit(e, who, &id, &error), code);
        ASSERT_FALSE(id);
        if (!strstr(kerror_message(&error), part))
                fail_msg("%i: '%s' is not in '%s'", code, part, kerror_message(&error));
}

static void test_tracker_registers_with_grid_token(void **state) {
        char *labels[] = { (char *) "az=a", (char *) "ssd", NULL }, *id1 = NULL, *id2 = NULL, *again = NULL;
        _cleanup_(node_row_freep) NodeRow *n1 = NULL, *n2 = NULL;
        NodeIntroduction who = introduction("key-1");
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        who.name = "host.example.com";
        who.labels = labels;
        ASSERT_EQ(admit(&e, &who, &id1, NULL), 0);
        n1 = get_node(&e, id1);
        ASSERT_STREQ(n1->name, "host");
        ASSERT_EQ(n1->number, 1);
        ASSERT_EQ(strv_length(n1->labels), 2);
        ASSERT_STREQ(node_state(n1), "created");

        who = introduction("key-2");
        ASSERT_EQ(admit(&e, &who, &id2, NULL), 0);
        n2 = get_node(&e, id2);
        ASSERT_STREQ(n2->name, "host-2"); /* the name was taken */
        ASSERT_EQ(n2->number, 2);

        /* A known key needs no token, and is the same node. */
        who = introduction("key-1");
        who.secret = NULL;
        ASSERT_EQ(admit(&e, &who, &again, NULL), 0);
        ASSERT_STREQ(again, id1);
        free(id1);
        free(id2);
        free(again);
        engine_remove(&e);
}

static void test_tracker_refuses_with_a_code_and_a_sentence(void **state) {
        NodeIntroduction who;
        char *id = NULL;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        engine_begin(&e);
        NodeRow prepared = {
                .id = (char *) "p", .grid_id = (char *) "grid", .name = (char *) "prepared", .number = 9
        };
        keyring_hash_token(e.m.keyring, NODE_SECRET, prepared.token_hash);
        ASSERT_OK(store_put_node(e.m.store, &prepared));
        engine_commit(&e);

        who = introduction("key-1");
        who.name = NULL;
        assert_refused(&e, &who, 4000, "name");
        who = introduction("key-1");
        who.machine_id = "";
        assert_refused(&e, &who, 4000, "machine id");
        who = introduction("key-1");
        who.name = "bad name!";
        assert_refused(&e, &who, 4000, "letters");
        who = introduction("key-1");
        who.secret = NULL;
        assert_refused(&e, &who, 4004, "without a token");
        who = introduction("key-1");
        who.secret = "hgfedcba"
                     "ijklmnopqrstuvwxyz234567abcdefgh";
        assert_refused(&e, &who, 4007, "No grid");
        who = introduction("key-1");
        who.secret = OTHER_SECRET;
        assert_refused(&e, &who, 4001, "not the one of grid 'grid'");
        who.name = "prepared";
        assert_refused(&e, &who, 4002, "not that of node 'prepared'");

        who = introduction("key-1");
        who.version = "3.0.0";
        assert_refused(&e, &who, 4010, "3.0.0");
        who.version = "2.2.0";
        assert_refused(&e, &who, 4010, "one minor release");
        who.version = "two";
        assert_refused(&e, &who, 4000, "not a version");

        who = introduction("key-1");
        who.time = fake_now + USEC_PER_SEC + 1;
        assert_refused(&e, &who, 4020, "ahead");
        who.time = fake_now - 6 * USEC_PER_SEC - 1;
        assert_refused(&e, &who, 4020, "6.0 s behind");
        who.time = fake_now - 3600 * USEC_PER_SEC;
        assert_refused(&e, &who, 4020, "2023-11-14 21:13:20 UTC, the master's 2023-11-14 22:13:20 UTC");

        /* The node's own token: once. */
        who = introduction("key-1");
        who.secret = NODE_SECRET;
        ASSERT_EQ(admit(&e, &who, &id, NULL), 0);
        ASSERT_STREQ(id, "p");
        free(id);
        who.node_key = "key-2";
        who.machine_id = "machine-2";
        assert_refused(&e, &who, 4003, "'prepared'");
        /* The same machine with another key. */
        who = introduction("key-2");
        who.machine_id = "key-1";
        assert_refused(&e, &who, 4006, "'prepared'");
        engine_remove(&e);
}

/* Whose key and token were taken from it is again what it was, with the token of the grid: by its machine's id. */
static void test_tracker_takes_back_a_machine_without_key_and_token(void **state) {
        _cleanup_free_ char *first = NULL, *again = NULL, *other = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        NodeIntroduction who = introduction("key-1");
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        ASSERT_EQ(admit(&e, &who, &first, NULL), 0);
        n = get_node(&e, first);
        n->node_key = mfree(n->node_key);
        engine_begin(&e);
        ASSERT_OK(store_put_node(e.m.store, n));
        engine_commit(&e);
        who.node_key = "key-3";
        ASSERT_EQ(admit(&e, &who, &again, NULL), 0);
        ASSERT_STREQ(again, first);

        /* With a token of its own it has to come with that; with the grid's it is a new one. */
        n->token_hash[0] = 1;
        engine_begin(&e);
        ASSERT_OK(store_put_node(e.m.store, n));
        engine_commit(&e);
        who.node_key = "key-4";
        ASSERT_EQ(admit(&e, &who, &other, NULL), 0);
        ASSERT_TRUE(!streq(other, first));
        engine_remove(&e);
}

static void test_tracker_serves_one_minor_release_of_difference_and_small_clock_skew(void **state) {
        static const char *const versions[] = { "2.0.0", "2.1.7", "2.1" };
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        FOREACH_ARRAY(v, versions, ELEMENTSOF(versions)) {
                NodeIntroduction who = introduction("key-1");
                char *id = NULL;

                who.version = *v;
                who.time = fake_now + USEC_PER_SEC;
                ASSERT_EQ(admit(&e, &who, &id, NULL), 0);
                id = mfree(id);
                who.time = fake_now - 6 * USEC_PER_SEC;
                ASSERT_EQ(admit(&e, &who, &id, NULL), 0);
                free(id);
        }
        engine_remove(&e);
}

static void test_tracker_fills_the_grid(void **state) {
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/26"); /* 31 numbers in the lower half */
        for (unsigned i = 1; i <= 32; i++) {
                _cleanup_free_ char *key = strprintf("key-%u", i);
                NodeIntroduction who = introduction(key);
                char *id = NULL;

                if (i <= 31) {
                        ASSERT_EQ(admit(&e, &who, &id, NULL), 0);
                        free(id);
                } else
                        assert_refused(&e, &who, 4008, "Grid 'grid' is full: it has 31 nodes.");
        }
        engine_remove(&e);
}

/* A flood of refused connections cannot fill the store. */
static void test_tracker_tells_of_refusals_with_bounds(void **state) {
        NodeIntroduction who;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        who = introduction("key-1");
        who.secret = OTHER_SECRET;
        for (unsigned i = 0; i < 100; i++)
                assert_refused(&e, &who, 4001, "token");
        ASSERT_EQ(count_events("node:refused"), 1);
        for (unsigned i = 0; i < 1000; i++) {
                _cleanup_free_ char *key = strprintf("other-%u", i);

                who.node_key = key;
                assert_refused(&e, &who, 4001, "token");
        }
        ASSERT_EQ(count_events("node:refused"), REFUSAL_EVENTS_PER_MINUTE_MAX);
        fake_now += 60 * USEC_PER_SEC;
        who.time = fake_now;
        who.node_key = "later";
        assert_refused(&e, &who, 4001, "token");
        ASSERT_EQ(count_events("node:refused"), REFUSAL_EVENTS_PER_MINUTE_MAX + 1);
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_tracker_registers_with_grid_token),
                cmocka_unit_test(test_tracker_refuses_with_a_code_and_a_sentence),
                cmocka_unit_test(test_tracker_takes_back_a_machine_without_key_and_token),
                cmocka_unit_test(test_tracker_serves_one_minor_release_of_difference_and_small_clock_skew),
                cmocka_unit_test(test_tracker_fills_the_grid),
                cmocka_unit_test(test_tracker_tells_of_refusals_with_bounds))
