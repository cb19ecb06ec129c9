/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/rtnetlink.h>
#include <stdio.h>

#include "bridge.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "message-id.h"
#include "netns.h"
#include "network-internal.h"
#include "string-util.h"
#include "sysctl.h"

#define MTU_DEFAULT 1500U
#define MTU_MIN     576U
#define OVERHEAD_MAX                                                                                        \
        80U /* of all kinds of links: WireGuard over IPv6. Instances keep their MTU when it changes */

typedef struct Run {
        Network *n;
        RtnlLink *links;
        size_t n_links;
        int result;   /* the first failure; what does not depend on it is done all the same */
        bool waiting; /* for a device that somebody else makes */
} Run;

static void note(Run *run, int r) {
        if (r < 0 && run->result >= 0)
                run->result = r;
}

static int observe(Run *run, KError *reterr) {
        Network *n = run->n;
        int r;

        r = rtnl_dump_links(n->netlink, &run->links, &run->n_links, reterr);
        if (r < 0)
                return r;
        r = network_find_underlay(n, run->links, run->n_links, &n->underlay, reterr);
        if (r < 0)
                return r;

        n->mtu = (n->underlay.mtu > MTU_MIN + OVERHEAD_MAX ? n->underlay.mtu : MTU_DEFAULT) - OVERHEAD_MAX;
        return 0;
}

static int ensure_forwarding(Network *n, KError *reterr) {
        int r;

        r = sysctl_ensure("net/ipv4/ip_forward", "1", reterr);
        if (r > 0)
                log_notice("Turned on net.ipv4.ip_forward, instances are reached through it");
        return r;
}

/* What keeps a peer out of reach as long as its paths stay as they are. */
static void warn_of_peer(Network *n, const Peer *p) {
        const char *out = "its instances are out of reach from here";

        if (streq(p->link, "vxlan")) {
                if (p->underlay == 0)
                        network_warn_once(n, "Node '%s' has told no address yet: %s.", p->name, out);
                else if (ipv4_prefix_contains(&n->overlay->subnet, p->underlay))
                        network_warn_once(n,
                                        "Node '%s' gives an address in the grid's own subnet as its "
                                        "machine's: "
                                        "%s.",
                                        p->name, out);
                return;
        }
        if (!streq(p->link, "wireguard"))
                network_warn_once(n, "Node '%s' is to be reached by '%s', which this version cannot: %s.",
                                p->name, p->link, out);
        else if (n->overlay->key_generation == 0)
                network_warn_once(n,
                                "Node '%s' is to be reached by 'wireguard', of which the master has told no "
                                "keys: %s.",
                                p->name, out);
        else if (wireguard_mode(n->wireguard) == WIREGUARD_NO)
                network_warn_once(n,
                                "Node '%s' is to be reached by WireGuard, which this machine has not: %s.",
                                p->name, out);
        else if (p->n_keys == 0)
                network_warn_once(n, "Node '%s' has told no WireGuard key yet: %s.", p->name, out);
}

static int ensure_link(Run *run, size_t index, KError *reterr) {
        const LinkType *type = network_link_types[index];
        _cleanup_free_ LinkPeer *peers = NULL;
        Network *n = run->n;
        LinkContext c = {
                .type = type,
                .netlink = n->netlink,
                .wireguard = n->wireguard,
                .overlay = n->overlay,
                .peers = n->peers,
                .n_peers = n->n_peers,
                .links = run->links,
                .n_links = run->n_links,
                .mtu = n->mtu,
        };
        size_t n_usable;
        int r;

        n->links[index].index = 0;
        r = network_link_peers(n, type, &peers, &n_usable);
        if (r < 0)
                return r;
        if (type->wireguard_slot >= 0) {
                c.key = network_needed_key(n, (unsigned) type->wireguard_slot);
                c.port = network_wireguard_port(n, (unsigned) type->wireguard_slot);
                if (!c.key)
                        return 0;
        } else if (n_usable == 0)
                return 0;

        r = type->ensure(&c, &n->links[index], reterr);
        if (r < 0)
                return r;
        if (n->links[index].index == 0) {
                run->waiting = true;
                return 0;
        }
        r = type->set_peers(&c, &n->links[index], peers, n_usable, reterr);
        /* Paths to the same node may differ in the two directions while one is being switched. From a device without an
         * address the kernel takes only what it would send there, whatever rp_filter says; scope host, so that it is the
         * source of nothing. */
        if (r >= 0)
                r = device_ensure_address(
                                n->netlink, &n->links[index], n->overlay->address, RT_SCOPE_HOST, reterr);
        if (r >= 0)
                r = sysctl_ensure_device(n->links[index].name, "rp_filter", "2", reterr);
        return r == -ENOENT ? 0 : MIN(r, 0);
}

/* Of an earlier grid, or of a kind that no peer needs. */
static int remove_other_devices(Run *run, KError *reterr) {
        Network *n = run->n;
        int r;

        FOREACH_ARRAY(l, run->links, run->n_links) {
                bool wanted = streq(l->name, n->overlay->bridge);

                for (size_t i = 0; network_link_types[i]; i++)
                        wanted = wanted || (n->links[i].index > 0 && streq(l->name, n->links[i].name));
                if (wanted || !startswith(l->alias, NETWORK_ALIAS_PREFIX))
                        continue;
                if (network_device_is_wireguard(l->name))
                        wireguard_stop(n->wireguard, l->name);
                r = rtnl_delete_link(n->netlink, l->name);
                if (r < 0)
                        return r;
        }
        return netlink_flush(n->netlink, reterr);
}

typedef struct Routes {
        RtnlRoute *items;
        size_t n, allocated;
} Routes;

static void add_route(Routes *l, const Network *n, RtnlRoute route) {
        assert(l->n < l->allocated);

        route.protocol = OVERLAY_ROUTE_PROTOCOL;
        if (route.type == RTN_UNSPEC) {
                route.type = RTN_UNICAST;
                route.source = n->overlay->address;
        }
        l->items[l->n++] = route;
}

static void add_peer_routes(Routes *l, Network *n, const Peer *p) {
        const LinkType *type;
        const RtnlLink *link;
        const Peer *via;
        uint32_t mtu = 0;

        link = network_route_link(n, p, &type, &via);
        if (!link) {
                warn_of_peer(n, p);
                return;
        }

        /* A peer on a narrower underlay: fragmentation-needed comes from here, not from nowhere. */
        if (p->mtu > MTU_MIN && p->mtu - OVERHEAD_MAX < n->mtu)
                mtu = p->mtu - OVERHEAD_MAX;

        add_route(l, n,
                        (RtnlRoute){ .destination = p->address,
                                        .length = 32,
                                        .index = link->index,
                                        .gateway = type->gateway && via != p ? via->address : 0,
                                        .onlink = type->gateway && via != p,
                                        .scope = type->gateway && via != p ? RT_SCOPE_UNIVERSE
                                                                           : RT_SCOPE_LINK,
                                        .mtu = mtu });
        FOREACH_ARRAY(b, p->blocks, p->n_blocks)
                add_route(l, n,
                                (RtnlRoute){
                                                .destination = b->address,
                                                .length = b->length,
                                                .index = link->index,
                                                .gateway = type->gateway ? via->address : 0,
                                                .onlink = type->gateway,
                                                .scope = type->gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
                                                .mtu = mtu,
                                });
}

static int desired_routes(Network *n, Routes *ret) {
        size_t wanted = n->overlay->n_blocks + 1;

        FOREACH_ARRAY(p, n->peers, n->n_peers)
                wanted += 1 + p->n_blocks;
        ret->items = new0(RtnlRoute, wanted);
        if (!ret->items)
                return -ENOMEM;
        ret->allocated = wanted;

        FOREACH_ARRAY(b, n->overlay->blocks, n->overlay->n_blocks)
                add_route(ret, n,
                                (RtnlRoute){ .destination = b->address,
                                                .length = b->length,
                                                .index = n->bridge.index,
                                                .scope = RT_SCOPE_LINK });
        FOREACH_ARRAY(p, n->peers, n->n_peers)
                add_peer_routes(ret, n, p);
        /* What nobody has gets an answer, and does not leave by the default route. */
        add_route(ret, n,
                        (RtnlRoute){ .destination = n->overlay->subnet.address,
                                        .length = n->overlay->subnet.length,
                                        .type = RTN_UNREACHABLE });
        return 0;
}

static bool route_equal(const RtnlRoute *a, const RtnlRoute *b) {
        return a->destination == b->destination && a->length == b->length && a->gateway == b->gateway &&
               a->source == b->source && a->mtu == b->mtu && a->metric == b->metric && a->type == b->type &&
               a->scope == b->scope && a->onlink == b->onlink &&
               (a->index == b->index || a->type != RTN_UNICAST);
}

static bool route_same_key(const RtnlRoute *a, const RtnlRoute *b) {
        return a->destination == b->destination && a->length == b->length && a->metric == b->metric;
}

/* To a peer of which it is not decided yet how it is reached: after a restart of this daemon its packets go on as before. */
static bool route_is_open(const Network *n, const RtnlRoute *r) {
        FOREACH_ARRAY(p, n->peers, n->n_peers) {
                if (!network_path_is_open(n, p))
                        continue;
                if (r->length == 32 && r->destination == p->address)
                        return true;
                FOREACH_ARRAY(b, p->blocks, p->n_blocks)
                        if (b->length == r->length && b->address == r->destination)
                                return true;
        }
        return false;
}

static int sync_routes(Run *run, KError *reterr) {
        _cleanup_free_ RtnlRoute *is = NULL;
        _cleanup_free_ bool *present = NULL;
        Network *n = run->n;
        Routes want = {};
        size_t n_is;
        int r;

        r = rtnl_dump_routes(n->netlink, OVERLAY_ROUTE_PROTOCOL, &is, &n_is, reterr);
        if (r < 0)
                return r;
        r = desired_routes(n, &want);
        if (r < 0)
                return r;
        present = new0(bool, want.n + 1);
        if (!present)
                r = -ENOMEM;

        for (size_t i = 0; i < n_is && r >= 0; i++) {
                bool replaced = false, keep = false;

                for (size_t j = 0; j < want.n; j++) {
                        if (route_equal(&is[i], &want.items[j]))
                                keep = present[j] = true;
                        replaced = replaced || route_same_key(&is[i], &want.items[j]);
                }
                /* A wrong one for a wanted destination is replaced in one step, below. */
                if (!keep && !replaced && !route_is_open(n, &is[i]))
                        r = rtnl_route(n->netlink, false, "the grid", &is[i]);
        }
        for (size_t j = 0; j < want.n && r >= 0; j++) {
                const RtnlLink *device = want.items[j].index == n->bridge.index ? &n->bridge : NULL;

                if (present[j])
                        continue;
                for (size_t k = 0; !device && network_link_types[k]; k++)
                        if (want.items[j].index > 0 && n->links[k].index == want.items[j].index)
                                device = &n->links[k];
                r = rtnl_route(n->netlink, true, device ? device->name : "no device", &want.items[j]);
        }
        free(want.items);
        return r < 0 ? r : netlink_flush(n->netlink, reterr);
}

static bool veth_is_right(const Network *n, const RtnlLink *l) {
        return l && l->flags & IFF_UP && l->master == (uint32_t) n->bridge.index && l->mtu == n->mtu;
}

static int ensure_instances(Run *run, KError *reterr) {
        NetworkInstance *i, *next;
        Network *n = run->n;
        int r, result = 0;

        HASH_ITER(hh, n->instances, i, next) {
                if (veth_is_right(n, rtnl_link_find(run->links, run->n_links, i->veth)))
                        continue;
                r = network_ensure_instance(n, i, reterr);
                if (r > 0) {
                        n->n_changes++;
                        (void) strv_extendf(&n->changes, "repair the network of instance '%s'", i->id);
                }
                if (r < 0 && result >= 0)
                        result = r;
        }
        return result;
}

static void run_all(Run *run, KError *reterr) {
        Network *n = run->n;
        int r;

        note(run, ensure_forwarding(n, reterr));

        n->bridge.index = 0;
        r = bridge_ensure(n->netlink, n->overlay, n->mtu, run->links, run->n_links, &n->bridge, reterr);
        note(run, r);
        if (r < 0)
                return;

        r = network_decide_paths(n);
        note(run, r);
        if (r < 0)
                return;
        for (size_t i = 0; network_link_types[i]; i++)
                note(run, ensure_link(run, i, reterr));
        note(run, remove_other_devices(run, reterr));
        note(run, sync_routes(run, reterr));

        r = network_apply_firewall(n, reterr);
        note(run, r);
        if (r > 0) {
                n->n_changes++;
                (void) strv_extend(&n->changes, "write the firewall table 'inet kontena'");
        }
        note(run, ensure_instances(run, reterr));
        r = dns_configure(n->dns, n->overlay->address, &n->overlay->subnet, reterr);
        note(run, r);
}

/* Nothing had been set since the last time: what was wrong, somebody else did. */
static void report_repair(Network *n) {
        _cleanup_free_ char *what = strv_join(n->changes, ", ");

        network_event(n, MESSAGE_NETWORK_RESTORED, "warning",
                        "Somebody changed the grid's network on this machine, restored (%zu changes): %s%s.",
                        n->n_changes, strempty(what), n->n_changes > strv_length(n->changes) ? ", ..." : "");
}

int network_reconcile(Network *n, KError *reterr) {
        Run run = { .n = n };
        uint64_t start = now_monotonic();
        int r;

        assert(n);

        if (!n->overlay)
                return 0;

        n->changes = strv_free(n->changes);
        n->n_changes = 0;

        r = observe(&run, reterr);
        note(&run, r);
        if (r >= 0)
                run_all(&run, reterr);
        free(run.links);

        if (n->n_changes > 0)
                log_debug("Network: %zu changes in %" PRIu64 " us", n->n_changes, now_monotonic() - start);
        if (n->settled && n->n_changes > 0)
                report_repair(n);
        n->ready = n->ready || run.result >= 0;
        n->settled = run.result >= 0 && !run.waiting;
        if (run.result < 0)
                network_schedule(n);
        else if (n->failure) {
                n->failure = mfree(n->failure);
                network_event(n, NULL, "info",
                                "The grid's network on this machine is as it should be again.");
        }
        return MIN(run.result, 0);
}
