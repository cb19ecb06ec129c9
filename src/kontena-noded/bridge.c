/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bridge.h"

#include <linux/rtnetlink.h>

#include "link.h"
#include "sysctl.h"

int bridge_ensure(Netlink *nl, const Overlay *o, uint32_t mtu, const RtnlLink *links, size_t n_links,
                RtnlLink *ret, KError *reterr) {
        Device want = { .name = o->bridge, .kind = "bridge", .alias = o->alias, .mtu = mtu };
        RtnlLink bridge;
        int r;

        overlay_mac(MAC_BRIDGE, o->grid_id, o->number, want.mac);
        r = device_ensure(nl, links, n_links, &want, &bridge, reterr);
        if (r < 0)
                return r;

        r = device_ensure_address(nl, &bridge, o->address, RT_SCOPE_UNIVERSE, reterr);
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
