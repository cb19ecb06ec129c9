/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "network.h"
#include "overlay.h"

/* One nftables table of ours, `inet kontena`: masquerading, published ports, what may reach the grid's devices. What
 * changes often (ports, peers) are elements of maps and sets, changed one by one; each change is one transaction. */

typedef struct Publication {
        char *id;         /* of the instance */
        uint32_t address; /* of the instance */
        NetworkPort port;
} Publication;

typedef struct FirewallRules {
        const Overlay *overlay;
        const char *const *devices; /* to other nodes; NULL-terminated */
        const uint16_t *link_ports; /* UDP, peers only; ended by 0 */
        const uint16_t *open_ports; /* UDP, reachable from everywhere; ended by 0 */
        const uint32_t *peers;      /* underlay addresses of those that may speak to link_ports */
        size_t n_peers;
        const Publication *publications; /* a later one wins over an earlier one with the same port */
        size_t n_publications;
} FirewallRules;

/* The table without elements, as a replacement of what is there; elements as sorted "SET KEY" and "SET KEY : VALUE". */
int firewall_table_text(const FirewallRules *rules, char **ret);
int firewall_elements(const FirewallRules *rules, char ***ret);
/* Commands that turn the elements of one into those of the other; an empty text when there are none. */
int firewall_difference(char *const *from, char *const *to, char **ret);

typedef struct Firewall Firewall;
/* Somebody else has changed or flushed our table: call firewall_apply(). */
typedef void (*firewall_touched_t)(void *userdata);

/* event NULL: without watching. */
int firewall_new(sd_event *event, firewall_touched_t on_touched, void *userdata, Firewall **ret,
                KError *reterr);
Firewall *firewall_free(Firewall *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(Firewall *, firewall_free);

/* Returns 1 when something had to be changed. */
int firewall_apply(Firewall *f, const FirewallRules *rules, KError *reterr);

/* Our table goes; it need not be there. */
int firewall_remove(Firewall *f, KError *reterr);

/* Runs commands of nft(8) as one transaction, in a child process: the library would double this daemon's memory. */
int firewall_run(const char *commands, KError *reterr);
