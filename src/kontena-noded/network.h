/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"
#include "transport-protocol.h"
#include "wireguard-sync.h"

/* This machine's part of the grid's overlay: bridge, links to the peers, firewall table, name server, and a network
 * namespace for each instance. Desired state goes in as a whole or in parts; network_reconcile() makes the kernel agree and
 * may run any number of times. Nothing here is undone when the daemon stops; published ports are kept in
 * RUNTIME/network/ports, so that the first reconcile of the next one leaves them as they are. The daemon must be in PID 1's
 * mount namespace, or nobody else sees the namespaces that it pins. */
typedef struct Network Network;

/* Events that somebody should see: "firewall rules were flushed by somebody, restored". */
/* message_id: "MESSAGE_ID=..." of message-id.h, or NULL. */
typedef void (*network_event_t)(Network *n, const char *message_id, const char *severity,
                const char *message, void *userdata);

/* What the master should be told anew. */
typedef enum NetworkChange {
        NETWORK_CHANGED_KEYS,  /* network_report() */
        NETWORK_CHANGED_LINKS, /* network_links() */
} NetworkChange;
typedef void (*network_changed_t)(Network *n, NetworkChange change, void *userdata);

typedef struct NetworkConfig {
        const char *state_directory;    /* /var/lib/kontena/node */
        const char *runtime_directory;  /* /run/kontena */
        const char *underlay_interface; /* NULL: the one of the default route or of the path to the peers */
        WireguardConfig wireguard;
        uint16_t wireguard_port;   /* of odd generations, the next one of even ones */
        network_changed_t changed; /* from the loop; NULL: nobody is told */
} NetworkConfig;

int network_new(sd_event *event, sd_bus *bus, const NetworkConfig *config, network_event_t on_event,
                void *userdata, Network **ret);
Network *network_free(Network *n);
DEFINE_TRIVIAL_CLEANUP_FUNC(Network *, network_free);

/* Sections of DESIRED in doc/node-channel.md. set_grid returns 1 when something changed, -EADDRINUSE with the route named in
 * reterr when the grid's subnet collides with a route this machine has already (trap 18); where the grid lives already a
 * route that came later is a warning event. */
int network_set_grid(Network *n, json_object *node, json_object *grid, KError *reterr);
int network_set_peers(Network *n, json_object *peers, KError *reterr);
/* Beside the peers, after them: NODE.pair_key opened (PAIR_KEY_SIZE bytes; NULL: none), DESIRED.preshared and DESIRED.relays (both may be
 * NULL). */
int network_set_pairs(Network *n, const uint8_t *pair_key, json_object *preshared, json_object *relays);
/* name -> addresses as the master sends it; served at once, needs no reconcile. Returns 1 when something changed. */
int network_set_names(Network *n, json_object *names, KError *reterr);

/* Applies what was set; also runs by itself when netlink tells that somebody changed what is ours. */
int network_reconcile(Network *n, KError *reterr);

/* The namespace /run/netns/kt-ID with lo, eth0 (address, routes) and its veth on the bridge. Exists already: checked and
 * repaired. Returns 1 when it was made. */
int network_instance_add(Network *n, const char *id, const char *address, KError *reterr);
/* The same without waiting; done gets its result from the loop, and the call is over then. Cancel all calls before
 * network_free(). */
typedef struct NetworkCall NetworkCall;
typedef void (*network_done_t)(int r, const KError *error, void *userdata);
int network_instance_add_start(Network *n, const char *id, const char *address, network_done_t done,
                void *userdata, NetworkCall **ret, KError *reterr);
NetworkCall *network_call_cancel(NetworkCall *c);
int network_instance_remove(Network *n, const char *id, KError *reterr);
/* Removes namespaces and veths of instances that are not among ids. */
int network_instances_retain(Network *n, char *const *ids, KError *reterr);

/* Published ports of one instance, replaced as a whole; NULL or empty removes. K_IN_USE when a process of this machine listens
 * there. Of two instances with one port the later gets it, and keeps it when the earlier goes. */
typedef struct NetworkPort {
        uint32_t ip; /* host byte order, 0 any */
        uint16_t node_port, container_port;
        TransportProtocol protocol;
} NetworkPort;
int network_ports_set(Network *n, const char *id, const char *address, const NetworkPort *ports,
                size_t n_ports, KError *reterr);
/* Could they be published? Publishes nothing. */
int network_ports_check(Network *n, const NetworkPort *ports, size_t n_ports, KError *reterr);

/* Takes away all that this machine has of any grid, known or not: namespaces, devices, routes, firewall table, published ports,
 * name server. Does as much as it can. Forwarding of packets stays on: others may need it by now. */
int network_clear(Network *n, KError *reterr);

/* What an instance's /etc/resolv.conf names as its server: the bridge address; NULL before there is a grid. */
const char *network_resolver_address(Network *n);
unsigned network_mtu(Network *n); /* of an instance's eth0 */
/* Fills addresses, routes, mtu, private_address, wireguard and wireguard_keys of REPORT. mtu is the underlay's, as PEER's is. */
int network_report(Network *n, json_object *report);
/* {NODE-ID: LINK} of links.status. */
int network_links(Network *n, json_object **ret);
/* The same in ret of done, with "rtt_usec" and "loss", measured anew; it takes two seconds. done is called from the loop, once; links is
 * borrowed. Cancel it before network_free(). */
typedef struct NetworkMeasure NetworkMeasure;
typedef void (*network_measured_t)(int r, json_object *links, void *userdata);
int network_measure_start(
                Network *n, network_measured_t done, void *userdata, NetworkMeasure **ret, KError *reterr);
NetworkMeasure *network_measure_cancel(NetworkMeasure *m);

/* Once reconciled. */
bool network_is_ready(Network *n);
/* Nothing was set since it was reconciled. */
bool network_is_settled(Network *n);
