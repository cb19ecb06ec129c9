/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlay.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "string-util.h"

#define ID_LENGTH_MAX 64U

/* FNV-1a: every node, whatever its architecture and release, must come to the same values. */
static uint64_t hash(const char *salt, const char *s) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (; *salt; salt++)
                h = (h ^ (uint8_t) *salt) * UINT64_C(0x100000001b3);
        h *= UINT64_C(0x100000001b3); /* a NUL between the two */
        for (; *s; s++)
                h = (h ^ (uint8_t) *s) * UINT64_C(0x100000001b3);
        return h ^ h >> 32;
}

void overlay_device_name(const char *prefix, const char *grid, char ret[static IFNAMSIZ]) {
        int room = IFNAMSIZ - 1 - (int) strlen(prefix);

        if ((int) strlen(grid) <= room)
                (void) snprintf(ret, IFNAMSIZ, "%s%s", prefix, grid);
        else
                (void) snprintf(ret, IFNAMSIZ, "%s%.*s-%05x", prefix, room - 6, grid,
                                (unsigned) (hash(prefix, grid) & 0xfffff));
}

void overlay_veth_name(const char *id, char ret[static IFNAMSIZ]) {
        (void) snprintf(ret, IFNAMSIZ, "kt%012" PRIx64, hash("veth", id) & UINT64_C(0xffffffffffff));
}

void overlay_mac(MacKind kind, const char *grid_id, uint32_t number, uint8_t ret[static MAC_SIZE]) {
        uint64_t h = hash("mac", grid_id);

        ret[0] = (uint8_t) kind;
        ret[1] = (uint8_t) (h >> 16);
        ret[2] = (uint8_t) (h >> 8);
        ret[3] = (uint8_t) h;
        ret[4] = (uint8_t) (number >> 8);
        ret[5] = (uint8_t) number;
}

void overlay_instance_mac(uint32_t address, uint8_t ret[static MAC_SIZE]) {
        ret[0] = 0x0a;
        ret[1] = 0x4b;
        for (unsigned i = 0; i < 4; i++)
                ret[2 + i] = (uint8_t) (address >> (24 - 8 * i));
}

uint32_t overlay_vni(const char *grid_id) {
        uint32_t vni = (uint32_t) hash("vni", grid_id) & 0xffffff;

        return vni > 0 ? vni : 1;
}

bool instance_id_is_valid(const char *id) {
        size_t n = id ? strlen(id) : 0;

        return n > 0 && n <= ID_LENGTH_MAX && id[0] != '-' &&
               strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == n;
}

Overlay *overlay_free(Overlay *o) {
        if (!o)
                return NULL;

        free(o->grid_id);
        free(o->grid_name);
        free(o->node_name);
        free(o->blocks);
        free(o->alias);
        free(o->region);
        return mfree(o);
}

static bool blocks_equal(const Ipv4Prefix *a, size_t n_a, const Ipv4Prefix *b, size_t n_b) {
        if (n_a != n_b)
                return false;
        for (size_t i = 0; i < n_a; i++)
                if (a[i].address != b[i].address || a[i].length != b[i].length)
                        return false;
        return true;
}

bool overlay_equal(const Overlay *a, const Overlay *b) {
        return streq(a->grid_id, b->grid_id) && streq(a->grid_name, b->grid_name) &&
               streq(a->node_name, b->node_name) && a->subnet.address == b->subnet.address &&
               a->subnet.length == b->subnet.length && a->number == b->number && a->address == b->address &&
               a->key_generation == b->key_generation && streq_ptr(a->region, b->region) &&
               blocks_equal(a->blocks, a->n_blocks, b->blocks, b->n_blocks);
}

const Ipv4Prefix *overlay_find_block(const Overlay *o, uint32_t address) {
        FOREACH_ARRAY(b, o->blocks, o->n_blocks)
                if (ipv4_prefix_contains(b, address))
                        return b;
        return NULL;
}

static int get_prefix(json_object *o, const char *key, Ipv4Prefix *ret, KError *reterr) {
        const char *s;
        int r;

        r = json_get_string(o, key, &s, reterr);
        if (r < 0)
                return r;
        if (parse_ipv4_prefix(s, ret) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an IPv4 network: '%s'.", key, s);
        return 0;
}

static int find_address(json_object *o, const char *key, uint32_t *ret, KError *reterr) {
        const char *s;
        int r;

        r = json_find_string(o, key, &s, reterr);
        if (r <= 0 || isempty(s))
                return MIN(r, 0);
        if (parse_ipv4(s, ret) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an IPv4 address: '%s'.", key, s);
        return 1;
}

static int get_number(json_object *o, uint32_t *ret, KError *reterr) {
        uint64_t v;
        int r;

        r = json_get_u64(o, "number", &v, reterr);
        if (r < 0)
                return r;
        if (v == 0 || v > NODES_PER_GRID_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A node's number is 1 to %u, not %" PRIu64 ".",
                                NODES_PER_GRID_MAX, v);

        *ret = (uint32_t) v;
        return 0;
}

static int get_overlay_address(json_object *o, const Ipv4Prefix *subnet, uint32_t *ret, KError *reterr) {
        uint32_t a = 0;
        int r;

        r = find_address(o, "overlay_address", &a, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'overlay_address' is missing.");
        if (!ipv4_prefix_contains(subnet, a) || a == subnet->address)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The overlay address %s is not in the grid's subnet.", IPV4_TO_STRING(a));

        *ret = a;
        return 0;
}

static int find_blocks(
                json_object *o, const Ipv4Prefix *subnet, Ipv4Prefix **ret, size_t *ret_n, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ Ipv4Prefix *blocks = NULL;
        size_t n = 0;
        int r;

        r = json_find_strv(o, "blocks", &l, reterr);
        if (r < 0)
                return r;
        if (strv_length(l) > BLOCKS_PER_NODE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A node has at most %u address blocks.",
                                BLOCKS_PER_NODE_MAX);

        blocks = new0(Ipv4Prefix, strv_length(l) + 1);
        if (!blocks)
                return -ENOMEM;

        STRV_FOREACH(s, l) {
                Ipv4Prefix *b = &blocks[n];

                if (parse_ipv4_prefix(*s, b) < 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'blocks' has what is not an IPv4 network: '%s'.", *s);
                if (b->length < subnet->length || !ipv4_prefix_contains(subnet, b->address))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The block %s is not in the grid's subnet.", *s);
                n++;
        }

        *ret = TAKE_PTR(blocks);
        *ret_n = n;
        return 0;
}

int overlay_parse(json_object *node, json_object *grid, Overlay **ret, KError *reterr) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        const char *id, *name, *node_name = "", *region = NULL;
        uint64_t generation = 0;
        int r;

        o = new0(Overlay, 1);
        if (!o)
                return -ENOMEM;

        r = json_get_string(grid, "id", &id, reterr);
        if (r < 0)
                return r;
        r = json_get_string(grid, "name", &name, reterr);
        if (r < 0)
                return r;
        r = grid_name_validate(name, reterr);
        if (r < 0)
                return r;
        r = get_prefix(grid, "subnet", &o->subnet, reterr);
        if (r < 0)
                return r;

        r = json_find_string(node, "name", &node_name, reterr);
        if (r < 0)
                return r;
        r = get_number(node, &o->number, reterr);
        if (r < 0)
                return r;
        r = get_overlay_address(node, &o->subnet, &o->address, reterr);
        if (r < 0)
                return r;
        r = find_blocks(node, &o->subnet, &o->blocks, &o->n_blocks, reterr);
        if (r < 0)
                return r;

        r = json_find_string(node, "region", &region, reterr);
        if (r < 0)
                return r;
        r = json_find_u64(grid, "key_generation", &generation, reterr);
        if (r < 0)
                return r;
        if (generation > UINT32_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The generation of the grid's keys is not valid.");

        o->key_generation = (uint32_t) generation;
        if (!isempty(region)) {
                o->region = strdup(region);
                if (!o->region)
                        return -ENOMEM;
        }
        o->grid_id = strdup(id);
        o->grid_name = strdup(name);
        o->node_name = strdup(node_name);
        o->alias = strjoin("kontena grid ", name);
        if (!o->grid_id || !o->grid_name || !o->node_name || !o->alias)
                return -ENOMEM;
        overlay_device_name("kt-", name, o->bridge);

        *ret = TAKE_PTR(o);
        return 0;
}

static void peer_done(Peer *p) {
        erase_memory(p->keys, sizeof(p->keys));
        free(p->id);
        free(p->name);
        free(p->link);
        free(p->blocks);
        free(p->relay);
}

void peers_free(Peer *peers, size_t n) {
        FOREACH_ARRAY(p, peers, n)
                peer_done(p);
        free(peers);
}

static int peer_key_parse(json_object *o, PeerKey *ret, KError *reterr) {
        uint64_t generation, port;
        const char *key;
        int r;

        r = json_get_u64(o, "generation", &generation, reterr);
        if (r >= 0)
                r = json_get_u64(o, "port", &port, reterr);
        if (r >= 0)
                r = json_get_string(o, "key", &key, reterr);
        if (r < 0)
                return r;
        if (generation == 0 || generation > UINT32_MAX || port == 0 || port > UINT16_MAX ||
                        wg_key_parse(key, ret->key) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A WireGuard key is not valid.");

        ret->generation = (uint32_t) generation;
        ret->port = (uint16_t) port;
        return 0;
}

static int compare_generations(const void *a, const void *b) {
        const PeerKey *x = a, *y = b;

        return x->generation > y->generation ? -1 : x->generation < y->generation;
}

static int peer_parse_keys(json_object *o, Peer *p, KError *reterr) {
        json_object *l = NULL;
        int r;

        r = json_find_array(o, "wireguard", &l, reterr);
        if (r <= 0)
                return r;
        if (json_object_array_length(l) > PEER_KEYS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A node has at most %u WireGuard keys.",
                                PEER_KEYS_MAX);
        FOREACH_JSON_ARRAY(k, l) {
                r = peer_key_parse(k, &p->keys[p->n_keys], reterr);
                if (r < 0)
                        return r;
                p->n_keys++;
        }
        qsort(p->keys, p->n_keys, sizeof(PeerKey), compare_generations);
        if (p->n_keys == 2 && p->keys[0].generation == p->keys[1].generation)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Two WireGuard keys are of one generation.");
        return 0;
}

static bool address_equal(const WgEndpoint *a, const WgEndpoint *b) {
        if (a->sa.sa_family != b->sa.sa_family)
                return false;
        return a->sa.sa_family == AF_INET
                               ? a->in.sin_addr.s_addr == b->in.sin_addr.s_addr
                               : memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

static int peer_add_address(
                json_object *o, const char *key, const Overlay *overlay, Peer *p, KError *reterr) {
        const char *s = NULL;
        WgEndpoint e = {};
        int r;

        r = json_find_string(o, key, &s, reterr);
        if (r <= 0 || isempty(s))
                return MIN(r, 0);
        if (inet_pton(AF_INET, s, &e.in.sin_addr) == 1)
                e.in.sin_family = AF_INET;
        else if (inet_pton(AF_INET6, s, &e.in6.sin6_addr) == 1)
                e.in6.sin6_family = AF_INET6;
        else
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an IP address: '%.64s'.", key, s);

        /* Packets to it would go round in circles. */
        if (e.sa.sa_family == AF_INET && ipv4_prefix_contains(&overlay->subnet, ntohl(e.in.sin_addr.s_addr)))
                return 0;
        for (size_t i = 0; i < p->n_addresses; i++)
                if (address_equal(&p->addresses[i], &e))
                        return 0;
        assert(p->n_addresses < PEER_ADDRESSES_MAX);
        p->addresses[p->n_addresses++] = e;
        return 0;
}

/* Inside first where both are in one region; the others are tried when it does not answer. */
static int peer_parse_addresses(const Overlay *overlay, json_object *o, Peer *p, KError *reterr) {
        static const char *const near[] = { "private_address", "public_address", "observed_address" },
                                 *const far[] = { "public_address", "observed_address", "private_address" };
        const char *region = NULL;
        int r;

        r = json_find_string(o, "region", &region, reterr);
        for (size_t i = 0; i < PEER_ADDRESSES_MAX && r >= 0; i++)
                r = peer_add_address(o, (streq(strempty(region), strempty(overlay->region)) ? near : far)[i],
                                overlay, p, reterr);
        return MIN(r, 0);
}

static int peer_parse(const Overlay *overlay, const char *id, json_object *o, Peer *p, KError *reterr) {
        const char *name, *link = "vxlan";
        uint64_t mtu = 0;
        int r;

        r = json_get_string(o, "name", &name, reterr);
        if (r < 0)
                return r;
        r = json_find_string(o, "link", &link, reterr);
        if (r < 0)
                return r;
        p->id = strdup(id);
        p->name = strdup(name);
        p->link = strdup(link);
        if (!p->id || !p->name || !p->link)
                return -ENOMEM;
        r = peer_parse_keys(o, p, reterr);
        if (r < 0)
                return r;
        r = peer_parse_addresses(overlay, o, p, reterr);
        if (r < 0)
                return r;

        r = get_number(o, &p->number, reterr);
        if (r < 0)
                return r;
        r = get_overlay_address(o, &overlay->subnet, &p->address, reterr);
        if (r < 0)
                return r;
        r = find_blocks(o, &overlay->subnet, &p->blocks, &p->n_blocks, reterr);
        if (r < 0)
                return r;
        r = json_find_u64(o, "mtu", &mtu, reterr);
        if (r < 0)
                return r;
        p->mtu = mtu >= 576 && mtu <= 65535 ? (uint32_t) mtu : 0;

        /* A trusted subnet is what both have inside; a node that never said has only its outer address. */
        r = find_address(o, "private_address", &p->underlay, reterr);
        if (r == 0)
                r = find_address(o, "public_address", &p->underlay, reterr);
        return MIN(r, 0);
}

static int compare_peers(const void *a, const void *b) {
        const Peer *x = a, *y = b;

        return x->number < y->number ? -1 : x->number > y->number;
}

int peers_parse(const Overlay *overlay, json_object *o, Peer **ret, size_t *ret_n, KError *reterr) {
        size_t n = 0, length;
        Peer *peers;
        int r = 0;

        if (o && !json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'peers' must be an object.");
        length = o ? (size_t) json_object_object_length(o) : 0;
        if (length > NODES_PER_GRID_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A grid has at most %u nodes.",
                                NODES_PER_GRID_MAX);

        peers = new0(Peer, length + 1);
        if (!peers)
                return -ENOMEM;

        if (o) {
                json_object_object_foreach(o, id, value) {
                        r = peer_parse(overlay, id, value, &peers[n++], reterr);
                        if (r < 0) {
                                kerror_prefix(reterr, "Peer '%s'", id);
                                break;
                        }
                }
        }
        if (r >= 0 && n > 0) {
                qsort(peers, n, sizeof(Peer), compare_peers);
                for (size_t i = 0; i < n && r >= 0; i++)
                        if (peers[i].number == overlay->number ||
                                        (i > 0 && peers[i].number == peers[i - 1].number))
                                r = kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "Peer '%s': the node number %u is taken.", peers[i].name,
                                                peers[i].number);
        }
        if (r < 0) {
                peers_free(peers, n);
                return r;
        }

        *ret = peers;
        *ret_n = n;
        return 0;
}

static bool keys_equal(const Peer *a, const Peer *b) {
        if (a->n_keys != b->n_keys)
                return false;
        for (size_t i = 0; i < a->n_keys; i++)
                if (a->keys[i].generation != b->keys[i].generation || a->keys[i].port != b->keys[i].port ||
                                memcmp(a->keys[i].key, b->keys[i].key, WG_KEY_SIZE) != 0)
                        return false;
        return true;
}

static bool addresses_equal(const Peer *a, const Peer *b) {
        if (a->n_addresses != b->n_addresses)
                return false;
        for (size_t i = 0; i < a->n_addresses; i++)
                if (!address_equal(&a->addresses[i], &b->addresses[i]))
                        return false;
        return true;
}

bool peers_equal(const Peer *a, size_t n_a, const Peer *b, size_t n_b) {
        if (n_a != n_b)
                return false;
        for (size_t i = 0; i < n_a; i++)
                if (!streq(a[i].id, b[i].id) || !keys_equal(&a[i], &b[i]) ||
                                !addresses_equal(&a[i], &b[i]) || !streq(a[i].name, b[i].name) ||
                                a[i].number != b[i].number || a[i].address != b[i].address ||
                                a[i].underlay != b[i].underlay || a[i].mtu != b[i].mtu ||
                                !streq(a[i].link, b[i].link) ||
                                !blocks_equal(a[i].blocks, a[i].n_blocks, b[i].blocks, b[i].n_blocks))
                        return false;
        return true;
}

const Peer *peers_find(const Peer *peers, size_t n, const char *id) {
        FOREACH_ARRAY(p, peers, n)
                if (streq(p->id, id))
                        return p;
        return NULL;
}
