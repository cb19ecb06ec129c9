/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <unistd.h>

#include "netns.h"
#include "network-internal.h"
#include "string-util.h"

/* The way back: what this machine has of a grid, whichever it was, goes. What is ours is known by alias, protocol and name, so
 * that a daemon which knows no grid any more finds it as well. */

static int remove_routes(Network *n, KError *reterr) {
        _cleanup_free_ RtnlRoute *routes = NULL;
        size_t n_routes;
        int r;

        r = rtnl_dump_routes(n->netlink, OVERLAY_ROUTE_PROTOCOL, &routes, &n_routes, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, routes, n_routes) {
                r = rtnl_route(n->netlink, false, "the grid", i);
                if (r < 0)
                        return r;
        }
        return netlink_flush(n->netlink, reterr);
}

static int remove_devices(Network *n, KError *reterr) {
        _cleanup_free_ RtnlLink *links = NULL;
        size_t n_links;
        int r;

        r = rtnl_dump_links(n->netlink, &links, &n_links, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(l, links, n_links) {
                if (!startswith(l->alias, NETWORK_ALIAS_PREFIX) &&
                                !(network_device_is_wireguard(l->name) && streq(l->kind, "tun")))
                        continue;
                r = rtnl_delete_link(n->netlink, l->name);
                if (r < 0)
                        return r;
        }
        return netlink_flush(n->netlink, reterr);
}

static int forget(Network *n, KError *reterr) {
        int r;

        /* First of all, or the monitor would put back what is removed. */
        n->overlay = overlay_free(n->overlay);
        peers_free(n->peers, n->n_peers);
        n->peers = NULL;
        n->n_peers = 0;
        n->bridge.index = 0;
        for (size_t i = 0; network_link_types[i]; i++)
                n->links[i].index = 0;
        network_links_retain(n);
        wireguard_stop_all(n->wireguard); /* before their devices go, or they are made anew */
        n->ready = n->settled = false;
        n->warned = strv_free(n->warned);
        n->failure = mfree(n->failure);

        r = network_instances_retain(n, NULL, reterr);
        if (n->keys) {
                int k = wireguard_keys_clear(n->keys, r < 0 ? NULL : reterr);

                r = r < 0 ? r : k;
        }
        if (unlink(n->ports_path) < 0 && errno != ENOENT && r >= 0)
                r = kerror_set_errno(reterr, -errno, "Cannot remove '%s': %m.", n->ports_path);
        return r;
}

int network_clear(Network *n, KError *reterr) {
        int (*const steps[])(Network * n, KError * reterr) = { forget, remove_routes, remove_devices };
        int r, result = 0;

        assert(n);

        /* One that fails keeps none of the others. The first reason is told. */
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                _cleanup_kerror_ KError e = KERROR_NULL;

                r = steps[i](n, &e);
                if (r < 0 && result >= 0) {
                        result = r;
                        kerror_move(reterr, &e);
                }
        }
        r = firewall_remove(n->firewall, result < 0 ? NULL : reterr);
        if (result >= 0)
                result = r;
        r = dns_clear(n->dns, result < 0 ? NULL : reterr);
        return result < 0 ? result : r;
}
