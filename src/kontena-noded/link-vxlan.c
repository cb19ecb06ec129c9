/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/neighbour.h>

#include "link.h"
#include "string-util.h"

/* Packets to a peer's block are routed to its overlay address on this device. A permanent neighbour entry gives the MAC
 * address (derived, so known here), a forwarding entry the machine to send to: nothing is asked, flooded or learned. */

static int vxlan_ensure(const LinkContext *c, RtnlLink *ret, KError *reterr) {
        const Overlay *o = c->overlay;
        char name[IFNAMSIZ];
        Device want = {
                .name = name,
                .kind = "vxlan",
                .alias = o->alias,
                .mtu = c->mtu,
                .vni = overlay_vni(o->grid_id),
                .port = OVERLAY_VXLAN_PORT,
        };

        overlay_device_name(link_vxlan.device_prefix, o->grid_name, name);
        overlay_mac(MAC_VXLAN, o->grid_id, o->number, want.mac);
        return device_ensure(c->netlink, c->links, c->n_links, &want, ret, reterr);
}

static bool entry_equal(const RtnlNeighbor *a, const RtnlNeighbor *b) {
        return a->address == b->address && a->state & NUD_PERMANENT && memcmp(a->mac, b->mac, MAC_SIZE) == 0;
}

static int sync_entries(Netlink *nl, const RtnlLink *device, uint8_t family, const RtnlNeighbor *want,
                size_t n_want, KError *reterr) {
        _cleanup_free_ RtnlNeighbor *is = NULL;
        _cleanup_free_ bool *present = NULL;
        size_t n_is;
        int r;

        r = rtnl_dump_neighbors(nl, family, device->index, &is, &n_is, reterr);
        if (r < 0)
                return r;
        present = new0(bool, n_want + 1);
        if (!present)
                return -ENOMEM;

        FOREACH_ARRAY(i, is, n_is) {
                bool keep = false;

                for (size_t j = 0; j < n_want; j++)
                        if (entry_equal(i, &want[j]))
                                keep = present[j] = true;
                /* Broadcast and multicast entries of the kernel's own (NOARP) are no concern. */
                if (keep || (family == AF_INET && i->state & NUD_NOARP))
                        continue;
                r = rtnl_neighbor(nl, false, device->name, i);
                if (r < 0)
                        return r;
        }

        for (size_t j = 0; j < n_want; j++) {
                if (present[j])
                        continue;
                r = rtnl_neighbor(nl, true, device->name, &want[j]);
                if (r < 0)
                        return r;
        }
        return netlink_flush(nl, reterr);
}

static int vxlan_set_peers(const LinkContext *c, const RtnlLink *device, const LinkPeer *peers, size_t n,
                KError *reterr) {
        _cleanup_free_ RtnlNeighbor *entries = NULL;
        int r;

        entries = new0(RtnlNeighbor, n + 1);
        if (!entries)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++) {
                entries[i] = (RtnlNeighbor){
                        .index = device->index,
                        .family = AF_INET,
                        .state = NUD_PERMANENT,
                        .address = peers[i].peer->address,
                };
                overlay_mac(MAC_VXLAN, c->overlay->grid_id, peers[i].peer->number, entries[i].mac);
        }
        r = sync_entries(c->netlink, device, AF_INET, entries, n, reterr);
        if (r < 0)
                return r;

        for (size_t i = 0; i < n; i++) {
                entries[i].family = AF_BRIDGE;
                entries[i].state = NUD_PERMANENT | NUD_NOARP;
                entries[i].address = peers[i].peer->underlay;
        }
        return sync_entries(c->netlink, device, AF_BRIDGE, entries, n, reterr);
}

const LinkType link_vxlan = {
        .name = "vxlan",
        .device_prefix = "kt-vx-",
        .port = OVERLAY_VXLAN_PORT,
        .wireguard_slot = -1,
        .gateway = true,
        .ensure = vxlan_ensure,
        .set_peers = vxlan_set_peers,
};
