/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/rtnetlink.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "network-internal.h"
#include "string-util.h"

#define PROBE_ADDRESS 0xc0000201U /* 192.0.2.1, for documentation only: nobody's, so everybody's way out */

bool network_device_is_ours(const char *name) {
        return startswith(name, "kt-") || (startswith(name, "kt") && strlen(name) == 14);
}

/* Two halves of everything are a default route in disguise, as VPN clients lay it. */
static bool route_is_default(const RtnlRoute *r) {
        return r->length <= 1;
}

static const char *device_of(const RtnlLink *links, size_t n_links, int index) {
        const RtnlLink *l = rtnl_link_find_index(links, n_links, index);

        return l ? l->name : NULL;
}

static bool route_is_ours(const RtnlLink *links, size_t n_links, const RtnlRoute *r) {
        const char *device = device_of(links, n_links, r->index);

        return r->protocol == OVERLAY_ROUTE_PROTOCOL || (device && network_device_is_ours(device));
}

int network_check_collision(Netlink *nl, const Ipv4Prefix *subnet, KError *reterr) {
        _cleanup_free_ RtnlRoute *routes = NULL;
        _cleanup_free_ RtnlLink *links = NULL;
        size_t n_links, n_routes;
        int r;

        r = rtnl_dump_links(nl, &links, &n_links, reterr);
        if (r < 0)
                return r;
        r = rtnl_dump_routes(nl, 0, &routes, &n_routes, reterr);
        if (r < 0)
                return r;

        FOREACH_ARRAY(i, routes, n_routes) {
                Ipv4Prefix p = { .address = i->destination, .length = i->length };
                const char *device = device_of(links, n_links, i->index);

                if (route_is_default(i) || route_is_ours(links, n_links, i) ||
                                !ipv4_prefix_overlaps(subnet, &p))
                        continue;
                (void) kerror_set(reterr, K_NETWORK,
                                "The grid's subnet %s/%u overlaps the route %s/%u%s%s%s.",
                                IPV4_TO_STRING(subnet->address), subnet->length, IPV4_TO_STRING(p.address),
                                p.length, device ? " on '" : " of this machine", strempty(device),
                                device ? "'" : "");
                return -EADDRINUSE;
        }
        return 0;
}

static int address_of(Netlink *nl, int index, uint32_t *ret, KError *reterr) {
        _cleanup_free_ RtnlAddress *addresses = NULL;
        size_t n;
        int r;

        r = rtnl_dump_addresses(nl, &addresses, &n, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(a, addresses, n)
                if (a->index == index && a->scope == RT_SCOPE_UNIVERSE) {
                        *ret = a->address;
                        return 0;
                }
        return 0;
}

/* Takes a route into account; false when it leads nowhere or back into the grid. */
static bool add_path(Network *n, const RtnlLink *links, size_t n_links, uint32_t destination, Underlay *u) {
        const RtnlLink *l;
        RtnlRoute route;
        uint32_t mtu;

        if (rtnl_route_lookup(n->netlink, destination, &route, NULL) < 0)
                return false;
        l = rtnl_link_find_index(links, n_links, route.index);
        if (!l || network_device_is_ours(l->name) || l->flags & IFF_LOOPBACK)
                return false;

        mtu = route.mtu > 0 ? MIN(route.mtu, l->mtu) : l->mtu;
        if (u->index == 0) {
                u->index = l->index;
                u->address = route.source;
        }
        u->mtu = u->mtu > 0 ? MIN(u->mtu, mtu) : mtu;
        return true;
}

int network_find_underlay(Network *n, const RtnlLink *links, size_t n_links, Underlay *ret, KError *reterr) {
        Underlay u = {};
        int r = 0;

        if (n->underlay_interface) {
                const RtnlLink *l = rtnl_link_find(links, n_links, n->underlay_interface);

                if (!l)
                        return kerror_set(reterr, K_NETWORK, "There is no interface '%s' on this machine.",
                                        n->underlay_interface);
                u = (Underlay){ .index = l->index, .mtu = l->mtu };
                r = address_of(n->netlink, l->index, &u.address, reterr);
                if (r < 0)
                        return r;
                *ret = u;
                return 0;
        }

        FOREACH_ARRAY(p, n->peers, n->n_peers)
                if (p->underlay != 0)
                        (void) add_path(n, links, n_links, p->underlay, &u);
        if (u.index == 0)
                (void) add_path(n, links, n_links, PROBE_ADDRESS, &u);

        /* A machine without a default route: its first interface. */
        for (size_t i = 0; i < n_links && u.index == 0; i++) {
                const RtnlLink *l = &links[i];

                if (!(l->flags & IFF_UP) || l->flags & IFF_LOOPBACK || network_device_is_ours(l->name))
                        continue;
                u.address = 0;
                r = address_of(n->netlink, l->index, &u.address, reterr);
                if (r < 0)
                        return r;
                if (u.address != 0) {
                        u.index = l->index;
                        u.mtu = l->mtu;
                }
        }

        *ret = u;
        return 0;
}

static int report_addresses(Network *n, const RtnlLink *links, size_t n_links, json_object *report) {
        _cleanup_free_ RtnlAddress *addresses = NULL;
        _cleanup_json_ json_object *array = json_object_new_array();
        size_t n_addresses;
        int r;

        if (!array)
                return -ENOMEM;
        r = rtnl_dump_addresses(n->netlink, &addresses, &n_addresses, NULL);
        if (r < 0)
                return r;

        FOREACH_ARRAY(a, addresses, n_addresses) {
                const char *device = device_of(links, n_links, a->index);
                _cleanup_free_ char *text = NULL;

                if (a->scope >= RT_SCOPE_HOST || !device || network_device_is_ours(device))
                        continue;
                if (json_object_array_length(array) >= REPORT_ADDRESSES_MAX)
                        break;
                text = strprintf("%s/%u", IPV4_TO_STRING(a->address), a->length);
                r = text ? json_append_string(array, text) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return json_add(report, "addresses", TAKE_PTR(array));
}

static int report_routes(Network *n, const RtnlLink *links, size_t n_links, json_object *report) {
        _cleanup_json_ json_object *array = json_object_new_array();
        _cleanup_free_ RtnlRoute *routes = NULL;
        size_t n_routes;
        int r;

        if (!array)
                return -ENOMEM;
        r = rtnl_dump_routes(n->netlink, 0, &routes, &n_routes, NULL);
        if (r < 0)
                return r;

        FOREACH_ARRAY(i, routes, n_routes) {
                _cleanup_free_ char *text = NULL;

                if (route_is_default(i) || route_is_ours(links, n_links, i))
                        continue;
                if (json_object_array_length(array) >= REPORT_ROUTES_MAX)
                        break;
                text = strprintf("%s/%u", IPV4_TO_STRING(i->destination), i->length);
                r = text ? json_append_string(array, text) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return json_add(report, "routes", TAKE_PTR(array));
}

int network_report(Network *n, json_object *report) {
        _cleanup_free_ RtnlLink *links = NULL;
        Underlay u = {};
        size_t n_links;
        int r;

        assert(n);
        assert(report);

        r = rtnl_dump_links(n->netlink, &links, &n_links, NULL);
        if (r >= 0)
                r = network_find_underlay(n, links, n_links, &u, NULL);
        if (r >= 0)
                r = report_addresses(n, links, n_links, report);
        if (r >= 0)
                r = report_routes(n, links, n_links, report);
        if (r >= 0)
                r = json_add_u64(report, "mtu", u.mtu);
        if (r >= 0)
                r = json_add_string(report, "private_address",
                                u.address != 0 ? IPV4_TO_STRING(u.address) : NULL);
        if (r >= 0)
                r = network_report_wireguard(n, report);
        return r;
}
