/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "link.h"

#include "string-util.h"

static int create(Netlink *nl, const Device *want) {
        if (streq(want->kind, "bridge"))
                return rtnl_add_bridge(nl, want->name, want->mac, want->mtu);

        if (streq(want->kind, "wireguard"))
                return rtnl_add_wireguard(nl, want->name, want->mtu);

        assert(streq(want->kind, "vxlan"));
        return rtnl_add_vxlan(nl, want->name, want->mac, want->mtu, want->vni, want->port);
}

/* What can only be given at creation. */
static bool identity_matches(const RtnlLink *l, const Device *want) {
        return !streq(want->kind, "vxlan") || (l->vni == want->vni && l->port == want->port && !l->learning);
}

static bool has_mac(const Device *want) {
        return !STR_IN_SET(want->kind, "wireguard", "tun");
}

static int queue_properties(Netlink *nl, const RtnlLink *is, const Device *want) {
        int r = 0;

        if (!is || !streq(is->alias, want->alias))
                r = rtnl_set_alias(nl, want->name, want->alias);
        /* Before it is up, or the kernel has already made an address. */
        if (r >= 0 && (!is || is->addr_gen_mode != IN6_ADDR_GEN_MODE_NONE))
                r = rtnl_set_no_ipv6_address(nl, want->name);
        if (r >= 0 && is && has_mac(want) && memcmp(is->mac, want->mac, MAC_SIZE) != 0)
                r = rtnl_set_mac(nl, want->name, want->mac);
        if (r >= 0 && is && is->master != 0)
                r = rtnl_set_master(nl, want->name, 0);
        /* Also for a fresh bridge: an MTU that was set is no longer adjusted to the ports. */
        if (r >= 0 && (!is || is->mtu != want->mtu))
                r = rtnl_set_mtu(nl, want->name, want->mtu);
        if (r >= 0 && (!is || !(is->flags & IFF_UP)))
                r = rtnl_set_up(nl, want->name);
        return r;
}

int device_ensure(Netlink *nl, const RtnlLink *links, size_t n_links, const Device *want, RtnlLink *ret,
                KError *reterr) {
        const RtnlLink *is;
        int r;

        is = rtnl_link_find(links, n_links, want->name);
        if (is && !streq(is->kind, want->kind))
                return kerror_set(reterr, K_NETWORK,
                                "There is a device '%s' on this machine which is not ours.", want->name);

        if (is && !identity_matches(is, want)) {
                r = rtnl_delete_link(nl, want->name);
                if (r < 0)
                        return r;
                is = NULL;
        }
        if (!is) {
                r = create(nl, want);
                if (r < 0)
                        return r;
        }

        r = queue_properties(nl, is, want);
        if (r < 0)
                return r;
        r = netlink_flush(nl, reterr);
        if (r < 0)
                return r;

        if (is) {
                *ret = *is;
                ret->mtu = want->mtu;
                ret->master = 0;
                ret->flags |= IFF_UP;
                if (has_mac(want))
                        memcpy(ret->mac, want->mac, MAC_SIZE);
                return 0;
        }
        r = rtnl_link_by_name(nl, want->name, ret, reterr);
        return r == -ENODEV ? kerror_set(reterr, K_NETWORK, "The device '%s' went away at once.", want->name)
                            : r;
}

int device_ensure_address(
                Netlink *nl, const RtnlLink *device, uint32_t address, uint8_t scope, KError *reterr) {
        RtnlAddress want = { .index = device->index, .address = address, .length = 32, .scope = scope };
        _cleanup_free_ RtnlAddress *is = NULL;
        bool present = false;
        size_t n;
        int r;

        r = rtnl_dump_addresses(nl, &is, &n, reterr);
        if (r < 0)
                return r;

        FOREACH_ARRAY(a, is, n) {
                if (a->index != device->index)
                        continue;
                if (a->address == want.address && a->length == want.length && a->scope == want.scope) {
                        present = true;
                        continue;
                }
                r = rtnl_address(nl, false, device->name, a);
                if (r < 0)
                        return r;
        }
        if (!present) {
                r = rtnl_address(nl, true, device->name, &want);
                if (r < 0)
                        return r;
        }
        return netlink_flush(nl, reterr);
}
