/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "overlay.h"
#include "wireguard-keys.h"
#include "wireguard-sync.h"

/* A device of ours on this machine: made when it is missing, its properties restored when somebody changed them. */
typedef struct Device {
        const char *name, *kind, *alias; /* a "tun" is made by who serves it */
        uint8_t mac[MAC_SIZE];           /* of those that have one */
        uint32_t mtu;
        uint32_t vni; /* vxlan */
        uint16_t port;
} Device;

/* links: all of the machine. ret: the device as it is afterwards. */
int device_ensure(Netlink *nl, const RtnlLink *links, size_t n_links, const Device *want, RtnlLink *ret,
                KError *reterr);

/* It has exactly this one, as a /32. */
int device_ensure_address(
                Netlink *nl, const RtnlLink *device, uint32_t address, uint8_t scope, KError *reterr);

/* A peer, as one link has to know it. */
typedef struct LinkPeer {
        const Peer *peer;
        /* WireGuard only */
        uint16_t keepalive_sec;
        const WgEndpoint *address; /* NULL: it comes to us */
} LinkPeer;

/* A way to other nodes. One device for each grid; the bridge never has it as a port, packets are routed. A new kind is one
 * more of these in network.c's table. */
typedef struct LinkType LinkType;
typedef struct LinkContext {
        const LinkType *type;
        Netlink *netlink;
        Wireguard *wireguard;
        const Overlay *overlay;
        const Peer *peers; /* all there are */
        size_t n_peers;
        const RtnlLink *links; /* all of the machine */
        size_t n_links;
        uint32_t mtu; /* of the grid's devices here */
        /* WireGuard only: of the device */
        const WireguardKey *key;
        uint16_t port;
} LinkContext;

struct LinkType {
        const char *name;
        const char *device_prefix; /* followed by the grid's name */
        uint16_t port;             /* UDP, reachable from peers only; 0 none */
        int wireguard_slot;        /* -1: none */
        bool gateway;              /* routes lead via the peer's overlay address */

        /* The device is there and as it should be; its index is 0 while somebody else still makes it. */
        int (*ensure)(const LinkContext *c, RtnlLink *ret, KError *reterr);
        /* It knows exactly these peers. VXLAN: which all have an underlay address. */
        int (*set_peers)(const LinkContext *c, const RtnlLink *device, const LinkPeer *peers, size_t n,
                        KError *reterr);
};

extern const LinkType link_vxlan, link_wireguard_odd, link_wireguard_even;
