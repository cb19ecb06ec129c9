/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/if_link.h>
#include <net/if.h>

#include "netlink.h"

/* rtnetlink: links, IPv4 addresses and routes, neighbours and forwarding entries. Functions that change something queue a
 * request (netlink_flush() sends it); addresses are in host byte order. */

#define MAC_SIZE       6U
#define RTNL_ALIAS_MAX 255U

typedef struct RtnlLink {
        int index;
        unsigned flags; /* IFF_UP ... */
        uint32_t mtu;
        uint32_t master; /* index, 0 none */
        char name[IFNAMSIZ];
        char kind[16]; /* "bridge", "veth", "vxlan", "" */
        char alias[RTNL_ALIAS_MAX + 1];
        uint8_t mac[MAC_SIZE];
        uint8_t addr_gen_mode; /* IN6_ADDR_GEN_MODE_NONE also without IPv6 */
        /* vxlan only */
        uint32_t vni;
        uint16_t port;
        bool learning;
} RtnlLink;

typedef struct RtnlAddress {
        int index;
        uint32_t address;
        uint8_t length, scope;
} RtnlAddress;

typedef struct RtnlRoute {
        uint32_t destination, gateway, source; /* 0 none */
        uint32_t mtu, metric;
        int index;                             /* of the device, 0 none */
        uint8_t length, protocol, scope, type; /* RTPROT_, RT_SCOPE_, RTN_ */
        bool onlink;
} RtnlRoute;

typedef struct RtnlNeighbor {
        int index;
        uint8_t family; /* AF_INET: address to mac; AF_BRIDGE: mac to address */
        uint16_t state; /* NUD_ */
        uint32_t address;
        uint8_t mac[MAC_SIZE];
} RtnlNeighbor;

/* One message of a dump or of a monitor. 0 when it is of another kind or family than ours, 1 when *ret was filled,
 * -EBADMSG when malformed. */
int rtnl_link_parse(const struct nlmsghdr *h, RtnlLink *ret);
int rtnl_address_parse(const struct nlmsghdr *h, RtnlAddress *ret);
int rtnl_route_parse(const struct nlmsghdr *h, RtnlRoute *ret);
int rtnl_neighbor_parse(const struct nlmsghdr *h, RtnlNeighbor *ret);

/* Whole lists, sorted as the kernel has them; asked for again when they changed meanwhile. At most RTNL_LIST_MAX entries,
 * -E2BIG above. Routes are those of the main table; protocol 0 is any. */
int rtnl_dump_links(Netlink *nl, RtnlLink **ret, size_t *ret_n, KError *reterr);
int rtnl_dump_addresses(Netlink *nl, RtnlAddress **ret, size_t *ret_n, KError *reterr);
int rtnl_dump_routes(Netlink *nl, uint8_t protocol, RtnlRoute **ret, size_t *ret_n, KError *reterr);
int rtnl_dump_neighbors(
                Netlink *nl, uint8_t family, int index, RtnlNeighbor **ret, size_t *ret_n, KError *reterr);

/* -ENODEV, without an error set, when there is none of that name. */
int rtnl_link_by_name(Netlink *nl, const char *name, RtnlLink *ret, KError *reterr);
const RtnlLink *rtnl_link_find(const RtnlLink *links, size_t n, const char *name) _pure_;
const RtnlLink *rtnl_link_find_index(const RtnlLink *links, size_t n, int index) _pure_;

/* How the machine sends to an address: device and preferred source. */
int rtnl_route_lookup(Netlink *nl, uint32_t destination, RtnlRoute *ret, KError *reterr);

int rtnl_add_bridge(Netlink *nl, const char *name, const uint8_t mac[static MAC_SIZE], uint32_t mtu);
int rtnl_add_vxlan(Netlink *nl, const char *name, const uint8_t mac[static MAC_SIZE], uint32_t mtu,
                uint32_t vni, uint16_t port);
/* -EOPNOTSUPP: this kernel has no WireGuard, and no module of it to load. */
int rtnl_add_wireguard(Netlink *nl, const char *name, uint32_t mtu);
/* name stays here, the peer appears in the other namespace at once. */
int rtnl_add_veth(Netlink *nl, const char *name, uint32_t mtu, const char *peer,
                const uint8_t peer_mac[static MAC_SIZE], int peer_netns_fd);
int rtnl_delete_link(Netlink *nl, const char *name); /* a missing one is fine */

/* One property each, by name, so that they can follow the creation within one batch. */
int rtnl_set_up(Netlink *nl, const char *name);
int rtnl_set_down(Netlink *nl, const char *name); /* a missing one is fine */
int rtnl_set_mtu(Netlink *nl, const char *name, uint32_t mtu);
int rtnl_set_mac(Netlink *nl, const char *name, const uint8_t mac[static MAC_SIZE]);
int rtnl_set_master(Netlink *nl, const char *name, int master);
/* A bridge port gets back what it sent, when it is addressed so. */
int rtnl_set_hairpin(Netlink *nl, const char *name);
int rtnl_set_alias(Netlink *nl, const char *name, const char *alias);
int rtnl_set_no_ipv6_address(Netlink *nl, const char *name);

int rtnl_address(Netlink *nl, bool add, const char *name, const RtnlAddress *a);
int rtnl_route(Netlink *nl, bool add, const char *device, const RtnlRoute *route);
int rtnl_neighbor(Netlink *nl, bool add, const char *device, const RtnlNeighbor *neighbor);

#define MAC_STRING_SIZE (3U * MAC_SIZE)
const char *mac_to_string(const uint8_t mac[static MAC_SIZE], char ret[static MAC_STRING_SIZE]);
#define MAC_TO_STRING(m) mac_to_string((m), (char[MAC_STRING_SIZE]){})
