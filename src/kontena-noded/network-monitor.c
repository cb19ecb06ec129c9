/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/rtnetlink.h>

#include "file-util.h"
#include "log.h"
#include "network-internal.h"
#include "string-util.h"

#define DELAY_MIN_USEC (50 * USEC_PER_MSEC) /* changes come in groups */
#define DELAY_MAX_USEC (10 * USEC_PER_SEC)
#define CALM_USEC      (30 * USEC_PER_SEC) /* repairs less far apart may be a fight with somebody */
#define REPAIRS_FAST   16U                 /* so many of them come at once, then slower and slower */

/* Each failure once, however often it is tried. */
static void report_failure(Network *n, const char *failure) {
        if (free_and_strdup(&n->failure, failure) > 0)
                network_event(n, NULL, "error",
                                "The grid's network on this machine is not as it should be: %s", failure);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        uint64_t now = now_monotonic();
        Network *n = userdata;
        bool own = !n->settled && !n->failure; /* something was set anew, or a path is switched */
        int r;

        n->timer_armed = false;
        r = network_reconcile(n, &e);
        if (r < 0)
                report_failure(n, kerror_message(&e));
        if (r >= 0 && (n->n_changes == 0 || own))
                return 0;

        n->repairs = now - n->last_repair_usec < CALM_USEC ? n->repairs + 1 : 1;
        n->last_repair_usec = now;
        return 0;
}

void network_schedule(Network *n) {
        uint64_t delay = DELAY_MIN_USEC;
        int r;

        if (n->timer_armed)
                return;

        if (now_monotonic() - n->last_repair_usec >= CALM_USEC)
                n->repairs = 0;
        if (n->repairs > REPAIRS_FAST)
                for (unsigned i = REPAIRS_FAST; i < n->repairs && delay < DELAY_MAX_USEC; i++)
                        delay *= 2;
        if (n->timer) {
                r = sd_event_source_set_time_relative(n->timer, delay);
                if (r >= 0)
                        r = sd_event_source_set_enabled(n->timer, SD_EVENT_ONESHOT);
        } else
                r = sd_event_add_time_relative(n->event, &n->timer, CLOCK_MONOTONIC, delay, 0, on_timer, n);
        if (r < 0)
                (void) log_error_errno(r, "Cannot set a timer, the network is not watched: %m");
        else
                n->timer_armed = true;
}

static const RtnlLink *own_device(const Network *n, int index) {
        if (index == 0)
                return NULL;
        if (n->bridge.index == index)
                return &n->bridge;
        for (size_t i = 0; network_link_types[i]; i++)
                if (n->links[i].index == index)
                        return &n->links[i];
        return NULL;
}

static bool device_differs(const RtnlLink *a, const RtnlLink *b) {
        return a->mtu != b->mtu || a->master != b->master || (a->flags ^ b->flags) & IFF_UP ||
               memcmp(a->mac, b->mac, MAC_SIZE) != 0 || !streq(a->name, b->name);
}

static bool link_matters(Network *n, const struct nlmsghdr *h) {
        NetworkInstance *i, *next;
        const RtnlLink *own;
        RtnlLink l;

        if (rtnl_link_parse(h, &l) <= 0)
                return false;

        own = own_device(n, l.index);
        if (own)
                return h->nlmsg_type == RTM_DELLINK || device_differs(&l, own);
        /* A device that a unit has made. */
        if (n->overlay && h->nlmsg_type == RTM_NEWLINK && network_device_is_wireguard(l.name) &&
                        strlen(l.alias) == 0)
                return true;
        if (l.index == n->underlay.index)
                return h->nlmsg_type == RTM_DELLINK || l.mtu != n->underlay.mtu;

        /* While a veth is being made there are many messages of it: ask what it is like now. */
        HASH_ITER(hh, n->instances, i, next) {
                RtnlLink now;

                if (!streq(i->veth, l.name))
                        continue;
                return rtnl_link_by_name(n->netlink, l.name, &now, NULL) < 0 || !(now.flags & IFF_UP) ||
                       now.master != (uint32_t) n->bridge.index || now.mtu != n->mtu;
        }
        return false;
}

static bool address_matters(Network *n, const struct nlmsghdr *h) {
        RtnlAddress a;

        return rtnl_address_parse(h, &a) > 0 && (own_device(n, a.index) || a.index == n->underlay.index);
}

static bool route_matters(Network *n, const struct nlmsghdr *h) {
        RtnlRoute r;

        return rtnl_route_parse(h, &r) > 0 &&
               (r.protocol == OVERLAY_ROUTE_PROTOCOL || own_device(n, r.index) || r.length == 0);
}

static bool neighbor_matters(Network *n, const struct nlmsghdr *h) {
        const RtnlLink *own;
        RtnlNeighbor b;

        if (rtnl_neighbor_parse(h, &b) <= 0)
                return false;
        own = own_device(n, b.index);
        return own && own != &n->bridge;
}

static int on_message(const struct nlmsghdr *h, void *userdata) {
        Network *n = userdata;

        /* Before the first time there is nothing to defend; our own requests carry our number. */
        if (!n->ready || (h && h->nlmsg_pid != 0 && h->nlmsg_pid == netlink_port_id(n->netlink)))
                return 0;
        if (!h || link_matters(n, h) || address_matters(n, h) || route_matters(n, h) ||
                        neighbor_matters(n, h))
                network_schedule(n);
        return 0;
}

int network_start_monitor(Network *n) {
        static const unsigned groups[] = { RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
                RTNLGRP_NEIGH };

        return netlink_monitor_new(
                        n->event, NETLINK_ROUTE, groups, ELEMENTSOF(groups), on_message, n, &n->monitor);
}
