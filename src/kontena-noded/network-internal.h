/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "dns.h"
#include "firewall.h"
#include "link.h"
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
const LinkType *network_find_link_type(const char *name, size_t *ret_index);

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

/* network-ports.c: published ports outlive this daemon in RUNTIME/network/ports. */
int network_ports_load(Network *n);
int network_ports_retain(Network *n, char *const *ids, KError *reterr);
int network_apply_firewall(Network *n, KError *reterr);
void network_ports_free(Network *n);
