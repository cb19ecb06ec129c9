/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ipam.h"

#include <stdio.h>

#include "kontena-limits.h"
#include "string-util.h"

/* A node's own blocks are big enough that most nodes need one, and small enough that there are more than nodes. */
#define BLOCK_LENGTH_MIN    25U
#define BLOCK_LENGTH_MAX    29U
#define BLOCKS_BITS         8U

/* In a block the first address could be taken for a network's, the second for its router's, the last is its
 * broadcast address: none of them is given to an instance. */
#define BLOCK_RESERVED_LOW  2U
#define BLOCK_RESERVED_HIGH 1U

uint8_t ipam_block_length(const Ipv4Prefix *subnet) {
        return (uint8_t) CLAMP(subnet->length + 1U + BLOCKS_BITS, BLOCK_LENGTH_MIN, BLOCK_LENGTH_MAX);
}

uint32_t ipam_node_number_max(const Ipv4Prefix *subnet) {
        uint32_t half;

        if (subnet->length >= 31)
                return 0;
        half = UINT32_C(1) << (31 - subnet->length);

        return MIN(half - 1, NODES_PER_GRID_MAX);
}

static int grid_subnet(const GridRow *grid, Ipv4Prefix *ret, KError *reterr) {
        int r;

        r = parse_ipv4_prefix(grid->subnet, ret);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Subnet '%s' of grid '%s' cannot be read: %m",
                                grid->subnet, grid->name);
        if (ret->length + 1U > BLOCK_LENGTH_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Subnet '%s' of grid '%s' is too small for instances.", grid->subnet,
                                grid->name);

        return 0;
}

/* Pointers that go round are kept beside the rows: one for a grid's blocks, one for a node's addresses. */
static int read_pointer(Store *s, const char *kind, const char *id, uint32_t *ret) {
        _cleanup_free_ char *key = NULL;
        _cleanup_free_ void *value = NULL;
        uint32_t pointer = 0;
        size_t size = 0;
        int r;

        key = strjoin("ipam/", kind, "/", id);
        if (!key)
                return -ENOMEM;
        r = store_get_value(s, key, &value, &size);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r >= 0 && size == sizeof(pointer))
                memcpy(&pointer, value, sizeof(pointer));

        *ret = pointer;
        return 0;
}

static int write_pointer(Store *s, const char *kind, const char *id, uint32_t pointer) {
        _cleanup_free_ char *key = NULL;

        key = strjoin("ipam/", kind, "/", id);
        if (!key)
                return -ENOMEM;
        return store_put_value(s, key, &pointer, sizeof(pointer));
}

/* One bit for each block of the grid. */
typedef struct BlockMap {
        uint32_t base, n;
        uint8_t length;
        uint8_t *taken;
} BlockMap;

static void block_map_done(BlockMap *m) {
        free(m->taken);
}

static void block_map_take(BlockMap *m, uint32_t address) {
        uint32_t i = (address - m->base) >> (32 - m->length);

        if (address >= m->base && i < m->n)
                m->taken[i] = 1;
}

/* Addresses count as well as blocks: a node that was removed leaves rows behind until they are cleaned up. */
static int block_map_read(Store *s, const GridRow *grid, const Ipv4Prefix *subnet, BlockMap *ret) {
        _cleanup_(block_map_done) BlockMap m = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        uint32_t address;
        int r;

        m.length = ipam_block_length(subnet);
        m.n = UINT32_C(1) << (m.length - subnet->length - 1);
        m.base = subnet->address + (UINT32_C(1) << (31 - subnet->length));
        m.taken = new0(uint8_t, m.n);
        if (!m.taken)
                return -ENOMEM;

        r = store_list_nodes(s, grid->id, &nodes);
        if (r < 0)
                return r;
        FOREACH_ARRAY(n, nodes.rows, nodes.n)
                STRV_FOREACH(b, (*n)->blocks) {
                        Ipv4Prefix p;

                        if (parse_ipv4_prefix(*b, &p) >= 0)
                                block_map_take(&m, p.address);
                }

        r = store_list_instances_of_grid(s, grid->id, &instances);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, instances.rows, instances.n)
                if ((*i)->address && parse_ipv4((*i)->address, &address) >= 0)
                        block_map_take(&m, address);

        *ret = TAKE_GENERIC(m, (BlockMap){});
        return 0;
}

static int take_block(
                Store *s, const GridRow *grid, const Ipv4Prefix *subnet, NodeRow *node, KError *reterr) {
        _cleanup_(block_map_done) BlockMap m = {};
        uint32_t pointer;
        int r;

        r = block_map_read(s, grid, subnet, &m);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Address blocks of grid '%s' cannot be read: %m", grid->name);
        r = read_pointer(s, "blocks", grid->id, &pointer);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Address blocks of grid '%s' cannot be read: %m", grid->name);

        for (uint32_t k = 0; k < m.n; k++) {
                uint32_t i = (pointer + k) % m.n;

                if (m.taken[i])
                        continue;

                r = strv_extendf(&node->blocks, "%s/%u", IPV4_TO_STRING(m.base + (i << (32 - m.length))),
                                m.length);
                if (r < 0)
                        return r;
                r = store_put_node(s, node);
                if (r >= 0)
                        r = write_pointer(s, "blocks", grid->id, i + 1);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Address block of node '%s' cannot be stored: %m",
                                        node->name);
                return 0;
        }

        return kerror_set(reterr, K_LIMIT_EXCEEDED,
                        "No address is left in subnet '%s' of grid '%s' for node '%s'.", grid->subnet,
                        grid->name, node->name);
}

static int compare_addresses(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return x < y ? -1 : x > y;
}

static int read_used(Store *s, const NodeRow *node, uint32_t **ret, size_t *ret_n) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_free_ uint32_t *used = NULL;
        size_t n = 0;
        int r;

        r = store_list_instances_of_node(s, node->id, &instances);
        if (r < 0)
                return r;
        used = new0(uint32_t, instances.n + 1);
        if (!used)
                return -ENOMEM;
        FOREACH_ARRAY(i, instances.rows, instances.n)
                if ((*i)->address && parse_ipv4((*i)->address, &used[n]) >= 0)
                        n++;
        qsort(used, n, sizeof(uint32_t), compare_addresses);

        *ret = TAKE_PTR(used);
        *ret_n = n;
        return 0;
}

/* The first free address behind the pointer, in the order of the blocks. Returns 1 when there is one. */
static int find_address(
                const NodeRow *node, uint32_t pointer, const uint32_t *used, size_t n_used, uint32_t *ret) {
        uint32_t first = 0;
        bool found = false, passed = false;

        STRV_FOREACH(b, node->blocks) {
                Ipv4Prefix p;
                int r;

                r = parse_ipv4_prefix(*b, &p);
                if (r < 0)
                        return r;

                for (uint32_t i = BLOCK_RESERVED_LOW;
                                i < (UINT32_C(1) << (32 - p.length)) - BLOCK_RESERVED_HIGH; i++) {
                        uint32_t address = p.address + i;

                        if (!bsearch(&address, used, n_used, sizeof(uint32_t), compare_addresses)) {
                                if (passed) {
                                        *ret = address;
                                        return 1;
                                }
                                if (!found) {
                                        first = address;
                                        found = true;
                                }
                        }
                        passed = passed || address == pointer;
                }
        }

        if (!found)
                return 0;
        *ret = first;
        return 1;
}

int ipam_take_address(Store *s, const GridRow *grid, NodeRow *node, uint32_t *ret, KError *reterr) {
        _cleanup_free_ uint32_t *used = NULL;
        uint32_t pointer, address;
        Ipv4Prefix subnet;
        size_t n_used = 0;
        int r;

        assert(s);
        assert(grid);
        assert(node);
        assert(ret);

        r = grid_subnet(grid, &subnet, reterr);
        if (r < 0)
                return r;

        r = read_used(s, node, &used, &n_used);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Addresses of node '%s' cannot be read: %m", node->name);
        r = read_pointer(s, "node", node->id, &pointer);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Addresses of node '%s' cannot be read: %m", node->name);

        r = find_address(node, pointer, used, n_used, &address);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "An address block of node '%s' cannot be read: %m", node->name);
        if (r == 0) {
                if (strv_length(node->blocks) >= BLOCKS_PER_NODE_MAX)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                        "Node '%s' has %u address blocks, all full.", node->name,
                                        BLOCKS_PER_NODE_MAX);
                r = take_block(s, grid, &subnet, node, reterr);
                if (r < 0)
                        return r;
                r = find_address(node, pointer, used, n_used, &address);
                if (r <= 0)
                        return kerror_set(reterr, K_INTERNAL,
                                        "A fresh address block of node '%s' has no free address.",
                                        node->name);
        }

        r = write_pointer(s, "node", node->id, address);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Address of node '%s' cannot be stored: %m", node->name);

        *ret = address;
        return 0;
}
