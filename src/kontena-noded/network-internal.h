/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "dns.h"
#include "firewall.h"
#include "link.h"
#include "network-paths.h"
#include "network.h"
#include "overlay.h"

/* Shared by network*.c only. */

#define LINK_TYPES_MAX       4U
#define NETWORK_ALIAS_PREFIX "kontena grid " /* of our devices; network-clear.c finds them by it */

typedef struct NetworkInstance {
        char *id;
        char veth[IFNAMSIZ];
        uint32_t address;
        UT_hash_handle hh; /* by id */
} NetworkInstance;

/* What is known of the way to a peer, from one look to the next. */
typedef struct NetworkPath {
        char *id; /* of the peer */
        Path path;
        uint16_t keepalive[WIREGUARD_SLOTS]; /* as the devices are told */
        bool takes_vxlan;
        UT_hash_handle hh;
} NetworkPath;

/* How this machine reaches the others. */
typedef struct Underlay {
        int index;
        uint32_t address; /* ours there, 0 unknown */
        uint32_t mtu;
} Underlay;

struct Network {
        sd_event *event;
        sd_bus *bus;
        char *runtime_directory, *underlay_interface, *ports_path;
        const char *netns_directory;
        network_event_t on_event;
        void *userdata;

        Overlay *overlay; /* desired */
        Peer *peers;
        size_t n_peers;
        NetworkInstance *instances;
        Publication *publications;
        size_t n_publications;

        Netlink *netlink;
        NetlinkMonitor *monitor;
        Wireguard *wireguard;
        WireguardKeys *keys; /* NULL: cannot be had */
        uint16_t wireguard_port;
        uint64_t needed_usec[WIREGUARD_SLOTS]; /* when a device was last needed */
        uint64_t keys_usec;                    /* when keys were last made, or read */
        NetworkPath *paths;
        sd_event_source *links_timer;
        uint64_t links_fast_until; /* monotonic: look often until then */
        network_changed_t changed;
        Firewall *firewall;
        Dns *dns;
        sd_event_source *timer;
        uint64_t last_repair_usec;
        unsigned repairs; /* without a calm time between them */
        bool timer_armed;

        Underlay underlay; /* observed at the last reconcile */
        RtnlLink bridge;
        RtnlLink links[LINK_TYPES_MAX]; /* index 0: no such device */
        uint32_t mtu;
        bool ready;   /* reconciled once */
        bool settled; /* and nothing was set since: what differs, others did */

        char **changes; /* texts of what this run changed, the first few */
        size_t n_changes;
        char *failure; /* of the last run by itself */
        char **warned; /* what has been said and still holds */
        char resolver[INET_ADDRSTRLEN];
};

extern const LinkType *const network_link_types[]; /* NULL-terminated */

void network_event(Network *n, const char *message_id, const char *severity, const char *format, ...)
                _printf_(4, 5);
/* Says it once for each desired state. */
void network_warn_once(Network *n, const char *format, ...) _printf_(2, 3);

/* Runs network_reconcile() soon. */
void network_schedule(Network *n);
int network_start_monitor(Network *n);

bool network_device_is_ours(const char *name) _pure_;
/* The machine's way to the peers, or to the rest of the world. Any of its parts may stay unknown. */
int network_find_underlay(Network *n, const RtnlLink *links, size_t n_links, Underlay *ret, KError *reterr);
/* -EADDRINUSE when a route of this machine's overlaps the subnet. */
int network_check_collision(Netlink *nl, const Ipv4Prefix *subnet, KError *reterr);

int network_ensure_instance(Network *n, NetworkInstance *i, KError *reterr);

/* network-links.c: which link leads to which peer. */
int network_links_new(Network *n, const NetworkConfig *config);
void network_links_free(Network *n);
void network_links_retain(Network *n); /* of peers that are there */
int network_ensure_keys(Network *n, KError *reterr);
const NetworkPath *network_find_path(const Network *n, const Peer *p) _pure_;
/* Anew, from what the devices say. Returns 1 when a link has something else to do than before. */
int network_decide_paths(Network *n);
/* The key of the device in that slot, NULL: none is needed. */
const WireguardKey *network_needed_key(Network *n, unsigned slot);
uint16_t network_wireguard_port(const Network *n, unsigned slot) _pure_;
bool network_device_is_wireguard(const char *name) _pure_;
/* What the link has to know; *ret is free()d. */
int network_link_peers(Network *n, const LinkType *type, LinkPeer **ret, size_t *ret_n);
/* The link by which packets to the peer are sent, its relay's where there is one. NULL: none. *ret_via: whose overlay address is the
 * gateway. */
const RtnlLink *network_route_link(
                const Network *n, const Peer *p, const LinkType **ret_type, const Peer **ret_via);

/* It is not known yet by which link; what is there stays. */
bool network_path_is_open(const Network *n, const Peer *p) _pure_;
int network_link_describe(Network *n, const Peer *peer, json_object **ret);
int network_report_wireguard(Network *n, json_object *report);

/* network-ports.c: published ports outlive this daemon in RUNTIME/network/ports. */
int network_ports_load(Network *n);
int network_ports_retain(Network *n, char *const *ids, KError *reterr);
int network_apply_firewall(Network *n, KError *reterr);
void network_ports_free(Network *n);
