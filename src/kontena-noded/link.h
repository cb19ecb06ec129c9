/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "overlay.h"

/* A device of ours on this machine: made when it is missing, its properties restored when somebody changed them. */
typedef struct Device {
        const char *name, *kind, *alias;
        uint8_t mac[MAC_SIZE];
        uint32_t mtu;
        uint32_t vni; /* vxlan */
        uint16_t port;
} Device;

/* links: all of the machine. ret: the device as it is afterwards. */
int device_ensure(Netlink *nl, const RtnlLink *links, size_t n_links, const Device *want, RtnlLink *ret,
                KError *reterr);

/* A way to other nodes. One device for each grid; the bridge never has it as a port, packets are routed. A new kind is one
 * more of these in network.c's table. */
typedef struct LinkContext {
        Netlink *netlink;
        const Overlay *overlay;
        const RtnlLink *links; /* all of the machine */
        size_t n_links;
        uint32_t mtu; /* of the grid's devices here */
} LinkContext;

typedef struct LinkType {
        const char *name;          /* as PEER's "link" */
        const char *device_prefix; /* followed by the grid's name */
        uint32_t overhead;         /* bytes that it puts around a packet */
        uint16_t port;             /* UDP, reachable from peers only; 0 none */
        bool gateway;              /* routes lead via the peer's overlay address */

        /* The device is there and as it should be. */
        int (*ensure)(const LinkContext *c, RtnlLink *ret, KError *reterr);
        /* It knows exactly these peers, which all have an underlay address. */
        int (*set_peers)(const LinkContext *c, const RtnlLink *device, const Peer *const *peers, size_t n,
                        KError *reterr);
} LinkType;

extern const LinkType link_vxlan;
