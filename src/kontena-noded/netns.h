/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "in-child.h"
#include "overlay.h"

/* An instance's network namespace, pinned at DIRECTORY/kt-ID, with lo and eth0. The work is done in a child process; the
 * namespace is pinned when it is complete, so that half of one never remains. */

#define NETNS_DIRECTORY "/run/netns" /* where ip-netns(8) looks */
#define NETNS_PREFIX    "kt-"

typedef struct Netns {
        const char *directory, *id;
        uint32_t address, gateway;
        uint8_t length; /* of the block that the address is from */
        uint32_t mtu;
        const char *bridge;
        int bridge_index;
} Netns;

typedef enum NetnsResult { NETNS_UNCHANGED, NETNS_CREATED, NETNS_REPAIRED } NetnsResult;

/* A NetnsResult or a negative errno. */
int netns_ensure(const Netns *ns, KError *reterr);
int netns_ensure_start(sd_event *event, const Netns *ns, child_done_t done, void *userdata, ChildCall **ret,
                KError *reterr);
/* Its veth is down at once, and gone when no process holds the namespace any more. */
int netns_remove(Netlink *nl, const char *directory, const char *id, KError *reterr);
/* Ids of those that are there. */
int netns_list(const char *directory, char ***ret, KError *reterr);
bool netns_exists(const char *directory, const char *id);
