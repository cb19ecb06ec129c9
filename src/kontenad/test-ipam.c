/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ipam.h"
#include "kontena-limits.h"
#include "test-engine.h"

/* Takes an address for a new instance on the node; negative as ipam_take_address() says. */
static int take(Engine *e, const char *grid_id, const char *node_id, const char *instance_id, uint32_t *ret,
                KError *reterr) {
        _cleanup_(store_rollbackp) Store *t = e->m.store;
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_(node_row_freep) NodeRow *node = get_node(e, node_id);
        int r;

        ASSERT_OK(store_get_grid(e->m.store, grid_id, &grid));
        engine_begin(e);
        r = ipam_take_address(e->m.store, grid, node, ret, reterr);
        if (r < 0)
                return r;
        ASSERT_OK(store_put_instance(
                        e->m.store, &(InstanceRow){ .id = (char *) instance_id,
                                                    .grid_id = (char *) grid_id,
                                                    .service_id = (char *) instance_id,
                                                    .node_id = (char *) node_id,
                                                    .number = 1,
                                                    .address = (char *) IPV4_TO_STRING(*ret) }));
        engine_commit(e);
        t = NULL;
        return 0;
}

static void drop(Engine *e, const char *instance_id) {
        engine_begin(e);
        ASSERT_OK(store_delete_instance(e->m.store, instance_id));
        engine_commit(e);
}

static void test_ipam_cuts_blocks_by_size_of_subnet(void **state) {
        static const struct {
                const char *subnet;
                uint8_t length;
                uint32_t nodes;
        } table[] = {
                { "10.81.0.0/16", 25, 254 },
                { "10.0.0.0/8", 25, 254 },
                { "10.81.0.0/18", 27, 254 },
                { "10.81.0.0/20", 29, 254 },
                { "10.81.0.0/24", 29, 127 },
                { "10.81.0.0/28", 29, 7 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                Ipv4Prefix p;

                ASSERT_OK(parse_ipv4_prefix(t->subnet, &p));
                ASSERT_EQ(ipam_block_length(&p), t->length);
                ASSERT_EQ(ipam_node_number_max(&p), t->nodes);
        }
}

static void test_ipam_gives_a_block_at_first_need(void **state) {
        _cleanup_(node_row_freep) NodeRow *n1 = NULL, *n2 = NULL;
        uint32_t address;
        Engine e = {};

        engine_start(&e, false);
        add_grid(&e, "g", "10.81.0.0/16");
        add_node(&e, "g", 1);
        add_node(&e, "g", 2);
        ASSERT_OK(take(&e, "g", "n1", "a", &address, NULL));
        ASSERT_STREQ(IPV4_TO_STRING(address),
                        "10.81.128.2"); /* neither the first, nor the one a router would have */
        ASSERT_OK(take(&e, "g", "n2", "b", &address, NULL));
        ASSERT_STREQ(IPV4_TO_STRING(address), "10.81.128.130");
        ASSERT_OK(take(&e, "g", "n1", "c", &address, NULL));
        ASSERT_STREQ(IPV4_TO_STRING(address), "10.81.128.3");

        n1 = get_node(&e, "n1");
        n2 = get_node(&e, "n2");
        ASSERT_EQ(strv_length(n1->blocks), 1);
        ASSERT_STREQ(n1->blocks[0], "10.81.128.0/25");
        ASSERT_STREQ(n2->blocks[0], "10.81.128.128/25");
        engine_remove(&e);
}

static void test_ipam_uses_an_address_again_late(void **state) {
        uint32_t address, first;
        Engine e = {};

        engine_start(&e, false);
        add_grid(&e, "g", "10.81.0.0/16");
        add_node(&e, "g", 1);
        ASSERT_OK(take(&e, "g", "n1", "x", &first, NULL));
        drop(&e, "x");
        /* 125 addresses in a block: the one that became free is the last to be given. */
        for (unsigned i = 0; i < 124; i++) {
                ASSERT_OK(take(&e, "g", "n1", "x", &address, NULL));
                ASSERT_FALSE(address == first);
                drop(&e, "x");
        }
        ASSERT_OK(take(&e, "g", "n1", "x", &address, NULL));
        ASSERT_EQ(address, first);
        engine_remove(&e);
}

static void test_ipam_is_exhausted_with_a_sentence(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(node_row_freep) NodeRow *n1 = NULL;
        uint32_t address, n = 0;
        Engine e = {};
        int r;

        engine_start(&e, false);
        add_grid(&e, "g", "10.81.0.0/26"); /* 4 blocks with 5 addresses each */
        add_node(&e, "g", 1);
        add_node(&e, "g", 2);
        for (;; n++) {
                _cleanup_free_ char *id = strprintf("i%u", n);

                r = take(&e, "g", "n1", id, &address, &error);
                if (r < 0)
                        break;
                ASSERT_TRUE((address & 0xff) >= 32 && (address & 7) >= 2 && (address & 7) <= 6);
        }
        ASSERT_EQ(n, 20);
        ASSERT_EQ(r, -E2BIG);
        ASSERT_EQ(error.code, K_LIMIT_EXCEEDED);
        ASSERT_STREQ(error.message,
                        "No address is left in subnet '10.81.0.0/26' of grid 'g' for node 'n1'.");
        n1 = get_node(&e, "n1");
        ASSERT_EQ(strv_length(n1->blocks), 4);
        ASSERT_ERROR(take(&e, "g", "n2", "other", &address, NULL), E2BIG);

        drop(&e, "i7"); /* room again */
        ASSERT_OK(take(&e, "g", "n1", "again", &address, NULL));
        engine_remove(&e);
}

static void test_ipam_refuses_a_subnet_without_room(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint32_t address;
        Engine e = {};

        engine_start(&e, false);
        add_grid(&e, "g", "10.81.0.0/30");
        add_node(&e, "g", 1);
        ASSERT_ERROR(take(&e, "g", "n1", "a", &address, &error), E2BIG);
        ASSERT_STREQ(error.message, "Subnet '10.81.0.0/30' of grid 'g' is too small for instances.");
        engine_remove(&e);
}

static void test_ipam_keeps_blocks_of_removed_nodes_while_addresses_are_used(void **state) {
        _cleanup_(node_row_freep) NodeRow *n2 = NULL;
        uint32_t address;
        Engine e = {};

        engine_start(&e, false);
        add_grid(&e, "g", "10.81.0.0/28"); /* one block */
        add_node(&e, "g", 1);
        add_node(&e, "g", 2);
        ASSERT_OK(take(&e, "g", "n1", "a", &address, NULL));
        remove_node(&e, "n1"); /* the row of "a" still has the address */
        ASSERT_ERROR(take(&e, "g", "n2", "b", &address, NULL), E2BIG);
        drop(&e, "a");
        ASSERT_OK(take(&e, "g", "n2", "b", &address, NULL));
        n2 = get_node(&e, "n2");
        ASSERT_STREQ(n2->blocks[0], "10.81.0.8/29");
        engine_remove(&e);
}

/* Instances come and go at random on a grid that is nearly full. The store would refuse a second owner within the grid; here it is seen
 * that it never has to, that addresses lie in their node's blocks and that no block has two owners. */
static void test_ipam_never_gives_to_two(void **state) {
        enum { NODES = 5, SLOTS = 140, ROUNDS = 1500 };
        uint32_t owner[SLOTS] = {};
        uint64_t seed = 42;
        unsigned taken = 0, refused = 0;
        Engine e = {};

        engine_start(&e, false);
        add_grid(&e, "g", "10.81.0.0/23"); /* 32 blocks with 5 addresses each */
        for (uint32_t n = 1; n <= NODES; n++)
                add_node(&e, "g", n);

        for (unsigned round = 0; round < ROUNDS; round++) {
                _cleanup_free_ char *id = NULL, *node_id = NULL;
                _cleanup_(node_row_freep) NodeRow *node = NULL;
                uint32_t slot, address;
                bool inside = false;

                seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
                slot = (uint32_t) (seed >> 33) % SLOTS;
                id = strprintf("i%u", slot);
                if (owner[slot]) {
                        drop(&e, id);
                        owner[slot] = 0;
                        continue;
                }
                node_id = strprintf("n%u", (uint32_t) (seed >> 40) % NODES + 1);
                if (take(&e, "g", node_id, id, &address, NULL) < 0) {
                        refused++;
                        continue;
                }
                taken++;
                for (unsigned i = 0; i < SLOTS; i++)
                        ASSERT_FALSE(owner[i] == address);
                owner[slot] = address;
                node = get_node(&e, node_id);
                STRV_FOREACH(b, node->blocks) {
                        Ipv4Prefix p;

                        ASSERT_OK(parse_ipv4_prefix(*b, &p));
                        inside = inside || ipv4_prefix_contains(&p, address);
                }
                ASSERT_TRUE(inside);
        }
        ASSERT_TRUE(taken > 500);
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_ipam_cuts_blocks_by_size_of_subnet),
                cmocka_unit_test(test_ipam_gives_a_block_at_first_need),
                cmocka_unit_test(test_ipam_uses_an_address_again_late),
                cmocka_unit_test(test_ipam_is_exhausted_with_a_sentence),
                cmocka_unit_test(test_ipam_refuses_a_subnet_without_room),
                cmocka_unit_test(test_ipam_keeps_blocks_of_removed_nodes_while_addresses_are_used),
                cmocka_unit_test(test_ipam_never_gives_to_two))
