/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bridge.h"

#include <linux/rtnetlink.h>

#include "link.h"
#include "sysctl.h"

static int ensure_address(Netlink *nl, const Overlay *o, const RtnlLink *bridge, KError *reterr) {
        RtnlAddress want = {
                .index = bridge->index, .address = o->address, .length = 32, .scope = RT_SCOPE_UNIVERSE
        };
        _cleanup_free_ RtnlAddress *is = NULL;
        bool present = false;
        size_t n;
        int r;

        r = rtnl_dump_addresses(nl, &is, &n, reterr);
        if (r < 0)
                return r;

        FOREACH_ARRAY(a, is, n) {
                if (a->index != bridge->index)
                        continue;
                if (a->address == want.address && a->length == want.length) {
                        present = true;
                        continue;
                }
                r = rtnl_address(nl, false, bridge->name, a);
                if (r < 0)
                        return r;
        }
        if (!present) {
                r = rtnl_address(nl, true, bridge->name, &want);
                if (r < 0)
                        return r;
        }
        return netlink_flush(nl, reterr);
}

int bridge_ensure(Netlink *nl, const Overlay *o, uint32_t mtu, const RtnlLink *links, size_t n_links,
                RtnlLink *ret, KError *reterr) {
        Device want = { .name = o->bridge, .kind = "bridge", .alias = o->alias, .mtu = mtu };
        RtnlLink bridge;
        int r;

        overlay_mac(MAC_BRIDGE, o->grid_id, o->number, want.mac);
        r = device_ensure(nl, links, n_links, &want, &bridge, reterr);
        if (r < 0)
                return r;

        r = ensure_address(nl, o, &bridge, reterr);
        if (r < 0)
                return r;

        /* So that 127.0.0.1:PORT of this machine reaches a published port; the firewall drops what comes from instances to
         * such addresses. */
        r = sysctl_ensure_device(bridge.name, "route_localnet", "1", reterr);
        if (r < 0 && r != -ENOENT)
                return r;

        *ret = bridge;
        return 0;
}
