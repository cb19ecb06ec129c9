/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "network.h"

#include <linux/netlink.h>
#include <stdio.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "netns.h"
#include "network-internal.h"
#include "overlay-keys.h"
#include "string-util.h"

#define MTU_DEFAULT 1500U

const LinkType *const network_link_types[] = { &link_vxlan, &link_wireguard_odd, &link_wireguard_even,
        NULL };

void network_event(Network *n, const char *message_id, const char *severity, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        va_list ap;

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        if (message && n->on_event)
                n->on_event(n, message_id, severity, message, n->userdata);
}

void network_warn_once(Network *n, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        va_list ap;

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        if (!message || strv_contains(n->warned, message))
                return;
        if (strv_extend(&n->warned, message) >= 0)
                network_event(n, NULL, "warning", "%s", message);
}

static void on_change(const char *what, void *userdata) {
        Network *n = userdata;

        log_debug("Network: %s", what);
        if (n->n_changes++ < 3)
                (void) strv_extend(&n->changes, what);
}

static void on_firewall_touched(void *userdata) {
        network_schedule(userdata);
}

static void on_dns_failed(const char *message, void *userdata) {
        network_event(userdata, NULL, "error", "%s", message);
}

static int copy_config(Network *n, const NetworkConfig *config) {
        int r;

        n->wireguard_port = config->wireguard_port;
        n->changed = config->changed;
        n->runtime_directory = strdup(config->runtime_directory);
        n->ports_path = strjoin(config->runtime_directory, "/network/ports");
        n->netns_directory = NETNS_DIRECTORY;
        if (!n->runtime_directory || !n->ports_path)
                return -ENOMEM;

        r = free_and_strdup(&n->underlay_interface, empty_to_null(config->underlay_interface));
        return MIN(r, 0);
}

int network_new(sd_event *event, sd_bus *bus, const NetworkConfig *config, network_event_t on_event,
                void *userdata, Network **ret) {
        _cleanup_(network_freep) Network *n = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        int r;

        assert(event);
        assert(config);
        assert(ret);

        n = new0(Network, 1);
        if (!n)
                return -ENOMEM;
        n->event = sd_event_ref(event);
        n->bus = sd_bus_ref(bus);
        n->on_event = on_event;
        n->userdata = userdata;
        n->mtu = MTU_DEFAULT;
        r = copy_config(n, config);
        if (r < 0)
                return r;

        r = network_links_new(n, config);
        if (r < 0)
                return r;
        r = netlink_open(NETLINK_ROUTE, &n->netlink);
        if (r < 0)
                return log_error_errno(r, "Cannot open a netlink socket: %m");
        netlink_on_change(n->netlink, on_change, n);
        r = firewall_new(event, on_firewall_touched, n, &n->firewall, &e);
        if (r < 0)
                return log_error_errno(r, "%s", kerror_message(&e));
        r = dns_new(bus, config->runtime_directory, on_dns_failed, n, &n->dns);
        if (r < 0)
                return r;
        r = network_ports_load(n);
        if (r < 0)
                (void) log_warning_errno(r,
                                "Cannot read '%s', published ports are unknown until they are set: %m",
                                n->ports_path);
        r = network_start_monitor(n);
        if (r < 0)
                return log_error_errno(r, "Cannot watch the network: %m");

        *ret = TAKE_PTR(n);
        return 0;
}

static NetworkInstance *instance_free(NetworkInstance *i) {
        if (!i)
                return NULL;

        free(i->id);
        return mfree(i);
}

Network *network_free(Network *n) {
        NetworkInstance *i, *next;

        if (!n)
                return NULL;

        sd_event_source_disable_unref(n->timer);
        netlink_monitor_free(n->monitor);
        firewall_free(n->firewall);
        dns_free(n->dns);
        netlink_free(n->netlink);
        HASH_ITER(hh, n->instances, i, next) {
                HASH_DEL(n->instances, i);
                instance_free(i);
        }
        network_ports_free(n);
        network_links_free(n);
        peers_free(n->peers, n->n_peers);
        overlay_free(n->overlay);
        strv_free(n->changes);
        strv_free(n->warned);
        free(n->failure);
        free(n->runtime_directory);
        free(n->underlay_interface);
        free(n->ports_path);
        sd_bus_unref(n->bus);
        sd_event_unref(n->event);
        return mfree(n);
}

static int check_collision(Network *n, const Overlay *o, KError *reterr) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        RtnlLink bridge;
        int r;

        r = network_check_collision(n->netlink, &o->subnet, &e);
        if (r >= 0)
                return 0;

        /* The grid lives here already, and somebody has added a route since: its instances must not go for that. */
        if (r == -EADDRINUSE && rtnl_link_by_name(n->netlink, o->bridge, &bridge, NULL) >= 0 &&
                        streq(bridge.alias, o->alias)) {
                network_warn_once(n, "%s", kerror_message(&e));
                return 0;
        }
        kerror_move(reterr, &e);
        return r;
}

int network_set_grid(Network *n, json_object *node, json_object *grid, KError *reterr) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        int r;

        assert(n);

        r = overlay_parse(node, grid, &o, reterr);
        if (r < 0)
                return r;
        if (n->overlay && overlay_equal(n->overlay, o))
                return MIN(network_ensure_keys(n, reterr), 0); /* which could not be written, maybe */

        n->warned = strv_free(n->warned);
        if (!n->overlay || n->overlay->subnet.address != o->subnet.address ||
                        n->overlay->subnet.length != o->subnet.length) {
                r = check_collision(n, o, reterr);
                if (r < 0)
                        return r;
        }
        if (n->overlay && !streq(n->overlay->grid_id, o->grid_id)) {
                peers_free(n->peers, n->n_peers);
                n->peers = NULL;
                n->n_peers = 0;
        }

        overlay_free(n->overlay);
        n->overlay = TAKE_PTR(o);
        n->settled = false;
        (void) ipv4_to_string(n->overlay->address, n->resolver);
        r = network_ensure_keys(n, reterr);
        return r < 0 ? r : 1;
}

int network_set_peers(Network *n, json_object *peers, KError *reterr) {
        size_t n_parsed;
        Peer *parsed;
        int r;

        assert(n);

        if (!n->overlay)
                return kerror_set(reterr, K_CONFLICT, "Peers came before their grid.");
        r = peers_parse(n->overlay, peers, &parsed, &n_parsed, reterr);
        if (r < 0)
                return r;

        if (peers_equal(n->peers, n->n_peers, parsed, n_parsed)) {
                peers_free(parsed, n_parsed);
                return 0;
        }

        peers_free(n->peers, n->n_peers);
        n->peers = parsed;
        n->n_peers = n_parsed;
        n->warned = strv_free(n->warned);
        n->settled = false;
        network_links_retain(n);
        return 0;
}

int network_set_pairs(Network *n, const uint8_t *pair_key, json_object *preshared, json_object *relays) {
        const char *unreadable;
        int r, k;

        assert(n);

        r = peers_set_preshared(n->peers, n->n_peers, pair_key, preshared, &unreadable);
        k = peers_set_relays(n->peers, n->n_peers, relays);
        if (unreadable)
                network_warn_once(n,
                                "The preshared key of this node and node '%s' cannot be opened, going on "
                                "without it.",
                                unreadable);
        if (r > 0 || k > 0)
                n->settled = false;
        return MIN(r < 0 ? r : k, 0);
}

int network_set_names(Network *n, json_object *names, KError *reterr) {
        assert(n);

        return dns_set_names(n->dns, names, reterr);
}

static int demand_grid(Network *n, KError *reterr) {
        if (!n->overlay)
                return kerror_set(reterr, K_CONFLICT, "This machine is not a node of a grid yet.");
        return n->bridge.index > 0 ? 0 : network_reconcile(n, reterr);
}

static Netns describe(const Network *n, const char *id, uint32_t address) {
        const Ipv4Prefix *block = overlay_find_block(n->overlay, address);

        return (Netns){
                .directory = n->netns_directory,
                .id = id,
                .address = address,
                .gateway = n->overlay->address,
                /* Not in a block: it is reached, and reaches others, by way of the bridge's address. */
                .length = block ? block->length : 32,
                .mtu = n->mtu,
                .bridge = n->bridge.name,
                .bridge_index = n->bridge.index,
        };
}

int network_ensure_instance(Network *n, NetworkInstance *i, KError *reterr) {
        Netns ns = describe(n, i->id, i->address);

        return netns_ensure(&ns, reterr);
}

static int check_id(const char *id, KError *reterr) {
        if (!instance_id_is_valid(id))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "An instance's id is not valid.");
        return 0;
}

static int instance_get(Network *n, const char *id, NetworkInstance **ret, KError *reterr) {
        NetworkInstance *i;

        HASH_FIND_STR(n->instances, id, i);
        if (!i) {
                if (HASH_COUNT(n->instances) >= NETWORK_INSTANCES_MAX)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED, "A node has at most %u instances.",
                                        NETWORK_INSTANCES_MAX);
                i = new0(NetworkInstance, 1);
                if (!i)
                        return -ENOMEM;
                i->id = strdup(id);
                if (!i->id) {
                        instance_free(i);
                        return -ENOMEM;
                }
                overlay_veth_name(id, i->veth);
                HASH_ADD_KEYPTR(hh, n->instances, i->id, strlen(i->id), i);
                if (!i->hh.tbl) {
                        instance_free(i);
                        return -ENOMEM;
                }
        }

        *ret = i;
        return 0;
}

static int check_instance(
                Network *n, const char *id, const char *address, uint32_t *ret_address, KError *reterr) {
        int r;

        r = check_id(id, reterr);
        if (r < 0)
                return r;
        r = demand_grid(n, reterr);
        if (r < 0)
                return r;
        if (parse_ipv4(address, ret_address) < 0 ||
                        !ipv4_prefix_contains(&n->overlay->subnet, *ret_address) ||
                        *ret_address == n->overlay->address)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' cannot be an instance's address in this grid.", address);
        return 0;
}

int network_instance_add(Network *n, const char *id, const char *address, KError *reterr) {
        NetworkInstance *i = NULL;
        uint32_t a;
        int r;

        assert(n);

        r = check_instance(n, id, address, &a, reterr);
        if (r < 0)
                return r;
        r = instance_get(n, id, &i, reterr);
        if (r < 0)
                return r;
        i->address = a;
        r = network_ensure_instance(n, i, reterr);
        if (r < 0) {
                kerror_prefix(reterr, "Network of instance '%s'", id);
                return r;
        }
        return r == NETNS_CREATED;
}

struct NetworkCall {
        Network *network;
        char *id;
        uint32_t address;
        ChildCall *child;
        network_done_t done;
        void *userdata;
};

NetworkCall *network_call_cancel(NetworkCall *c) {
        if (!c)
                return NULL;

        child_call_cancel(c->child);
        free(c->id);
        return mfree(c);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(NetworkCall *, network_call_cancel);

static void on_instance_added(int r, const KError *error, void *userdata) {
        _cleanup_(network_call_cancelp) NetworkCall *c = userdata;
        _cleanup_kerror_ KError e = KERROR_NULL;
        NetworkInstance *i = NULL;

        c->child = NULL;
        if (r >= 0) {
                int k = instance_get(c->network, c->id, &i, &e);

                if (k < 0)
                        r = k;
                else
                        i->address = c->address; /* from now on it is watched */
        } else if (kerror_is_set(error)) {
                (void) kerror_set(&e, error->code, "%s", kerror_message(error));
                kerror_prefix(&e, "Network of instance '%s'", c->id);
        }
        c->done(r < 0 ? r : r == NETNS_CREATED, &e, c->userdata);
}

int network_instance_add_start(Network *n, const char *id, const char *address, network_done_t done,
                void *userdata, NetworkCall **ret, KError *reterr) {
        _cleanup_(network_call_cancelp) NetworkCall *c = NULL;
        uint32_t a;
        Netns ns;
        int r;

        assert(n);
        assert(done);
        assert(ret);

        r = check_instance(n, id, address, &a, reterr);
        if (r < 0)
                return r;
        c = new0(NetworkCall, 1);
        if (!c)
                return -ENOMEM;
        *c = (NetworkCall){ .network = n, .address = a, .done = done, .userdata = userdata };
        c->id = strdup(id);
        if (!c->id)
                return -ENOMEM;

        ns = describe(n, c->id, a);
        r = netns_ensure_start(n->event, &ns, on_instance_added, c, &c->child, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

static void instance_forget(Network *n, const char *id) {
        NetworkInstance *i;

        HASH_FIND_STR(n->instances, id, i);
        if (i) {
                HASH_DEL(n->instances, i);
                instance_free(i);
        }
}

int network_instance_remove(Network *n, const char *id, KError *reterr) {
        int r, k;

        assert(n);

        r = check_id(id, reterr);
        if (r < 0)
                return r;

        instance_forget(n, id);
        r = network_ports_set(n, id, NULL, NULL, 0, reterr);
        k = netns_remove(n->netlink, n->netns_directory, id, reterr);
        return r < 0 ? r : k;
}

/* Devices of instances whose namespace is not even pinned: a process holds it. known: those just removed go by themselves. */
static int remove_other_veths(Network *n, char *const *ids, char *const *known, KError *reterr) {
        _cleanup_free_ RtnlLink *links = NULL;
        size_t n_links;
        int r;

        r = rtnl_dump_links(n->netlink, &links, &n_links, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(l, links, n_links) {
                const char *id = startswith(l->alias, "kontena instance ");

                if (!id || strv_contains(ids, id) || strv_contains(known, id))
                        continue;
                r = rtnl_delete_link(n->netlink, l->name);
                if (r < 0)
                        return r;
        }
        return netlink_flush(n->netlink, reterr);
}

int network_instances_retain(Network *n, char *const *ids, KError *reterr) {
        _cleanup_strv_free_ char **present = NULL;
        NetworkInstance *i, *next;
        int r, result;

        assert(n);

        HASH_ITER(hh, n->instances, i, next)
                if (!strv_contains(ids, i->id)) {
                        HASH_DEL(n->instances, i);
                        instance_free(i);
                }

        result = network_ports_retain(n, ids, reterr);
        r = netns_list(n->netns_directory, &present, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(id, present) {
                if (strv_contains(ids, *id))
                        continue;
                log_info("Removing the network namespace of instance '%s', which is no longer here", *id);
                r = netns_remove(n->netlink, n->netns_directory, *id, reterr);
                if (r < 0 && result >= 0)
                        result = r;
        }
        r = remove_other_veths(n, ids, present, reterr);
        return result < 0 ? result : r;
}

const char *network_resolver_address(Network *n) {
        return n->overlay ? n->resolver : NULL;
}

unsigned network_mtu(Network *n) {
        return n->mtu;
}

bool network_is_ready(Network *n) {
        return n->ready;
}

bool network_is_settled(Network *n) {
        return n->settled;
}
