/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "netlink-route.h"
#include "parse-util.h"
#include "wireguard.h"

/* What the master says about the grid's network, checked, and what every node derives from it in the same way: names of
 * devices, MAC addresses, the VXLAN network identifier. No I/O. */

#define OVERLAY_ROUTE_PROTOCOL 75 /* marks our routes ("proto 75") */
#define OVERLAY_VXLAN_PORT                                                                                  \
        6784 /* UDP; the port that Kontena's fast path always had, and not
                                                          * 4789, where Docker Swarm, flannel and others listen */

typedef struct Overlay {
        char *grid_id, *grid_name, *node_name;
        Ipv4Prefix subnet;
        uint32_t number;  /* of this node */
        uint32_t address; /* of this node: gateway and resolver of its instances */
        Ipv4Prefix *blocks;
        size_t n_blocks;
        char bridge[IFNAMSIZ];
        char *alias;             /* that our devices carry */
        char *region;            /* of this node, NULL unknown */
        uint32_t key_generation; /* of the grid's WireGuard keys, 0: its master knows of none */
} Overlay;

#define PEER_KEYS_MAX      2U
#define PEER_ADDRESSES_MAX 3U

typedef struct PeerKey {
        uint32_t generation;
        uint16_t port;                  /* UDP */
        uint8_t key[WG_KEY_SIZE];       /* public */
        uint8_t preshared[WG_KEY_SIZE]; /* of this node and the peer; zero: none */
} PeerKey;

typedef struct Peer {
        char *id, *name;
        uint32_t number, address;
        Ipv4Prefix *blocks;
        size_t n_blocks;
        uint32_t underlay;           /* where its machine is reached, 0 unknown */
        uint32_t mtu;                /* of its underlay, 0 unknown */
        char *link;                  /* "vxlan", "wireguard" */
        PeerKey keys[PEER_KEYS_MAX]; /* the latest generation first */
        size_t n_keys;
        WgEndpoint addresses
                        [PEER_ADDRESSES_MAX]; /* of its machine, in the order in which they are tried; without a port */
        size_t n_addresses;
        char *relay; /* id of the node by way of which it is reached, NULL: none */
} Peer;

int overlay_parse(json_object *node, json_object *grid, Overlay **ret, KError *reterr);
Overlay *overlay_free(Overlay *o);
DEFINE_TRIVIAL_CLEANUP_FUNC(Overlay *, overlay_free);
bool overlay_equal(const Overlay *a, const Overlay *b) _pure_;

/* Sorted by number. overlay: addresses must lie in its subnet and belong to one node each. */
int peers_parse(const Overlay *overlay, json_object *o, Peer **ret, size_t *ret_n, KError *reterr);
void peers_free(Peer *peers, size_t n);
/* But for preshared keys and relays, which come by themselves. */
bool peers_equal(const Peer *a, size_t n_a, const Peer *b, size_t n_b) _pure_;
const Peer *peers_find(const Peer *peers, size_t n, const char *id) _pure_;

/* The block of this node that has the address; NULL. */
const Ipv4Prefix *overlay_find_block(const Overlay *o, uint32_t address) _pure_;

/* "kt-GRID" and "kt-vx-GRID"; a name too long for a device ends in a hash. prefix is "kt-", "kt-vx-". */
void overlay_device_name(const char *prefix, const char *grid, char ret[static IFNAMSIZ]);
/* Host side of an instance's veth: "kt" and twelve digits of a hash. */
void overlay_veth_name(const char *id, char ret[static IFNAMSIZ]);

typedef enum MacKind { MAC_VXLAN = 0x02, MAC_BRIDGE = 0x06 } MacKind;
/* Locally administered; of a node's device in a grid. The same wherever it is computed. */
void overlay_mac(MacKind kind, const char *grid_id, uint32_t number, uint8_t ret[static MAC_SIZE]);
void overlay_instance_mac(uint32_t address, uint8_t ret[static MAC_SIZE]);
uint32_t overlay_vni(const char *grid_id) _pure_;

/* An instance's id becomes part of paths: letters, digits, '-' and '_', at most 64. */
bool instance_id_is_valid(const char *id) _pure_;
