/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netlink-route.h"

#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"
#include "test.h"

#define PROTOCOL 75

static const uint8_t mac[MAC_SIZE] = { 0x02, 1, 2, 3, 4, 5 }, mac2[MAC_SIZE] = { 0x02, 1, 2, 3, 4, 6 };

/* Each test with a kernel gets a network namespace of its own; this process ends in the last one. */
static Netlink *netlink_in_namespace(void) {
        Netlink *nl;

        if (unshare(CLONE_NEWNET) < 0) {
                print_message("Skipped: cannot make a network namespace: %s\n", strerror(errno));
                skip();
        }
        ASSERT_OK(netlink_open(NETLINK_ROUTE, &nl));
        return nl;
}

static uint32_t ip(const char *s) {
        uint32_t a = 0;

        ASSERT_OK(parse_ipv4(s, &a));
        return a;
}

static void on_change(const char *what, void *userdata) {
        unsigned *n = userdata;

        (*n)++;
}

static void test_batch_makes_links(void **state) {
        _cleanup_(netlink_freep) Netlink *nl = netlink_in_namespace();
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ RtnlLink *links = NULL;
        const RtnlLink *bridge, *vxlan;
        unsigned changes = 0;
        size_t n;

        netlink_on_change(nl, on_change, &changes);
        ASSERT_OK(rtnl_add_bridge(nl, "kt-demo", mac, 1450));
        ASSERT_OK(rtnl_set_no_ipv6_address(nl, "kt-demo"));
        ASSERT_OK(rtnl_set_alias(nl, "kt-demo", "kontena grid demo"));
        ASSERT_OK(rtnl_set_up(nl, "kt-demo"));
        ASSERT_OK(rtnl_add_vxlan(nl, "kt-vx-demo", mac2, 1450, 0xabcdef, 6784));
        ASSERT_OK(netlink_flush(nl, &e));
        ASSERT_EQ(changes, 5);

        ASSERT_OK(rtnl_dump_links(nl, &links, &n, &e));
        bridge = rtnl_link_find(links, n, "kt-demo");
        ASSERT_TRUE(bridge);
        ASSERT_STREQ(bridge->kind, "bridge");
        ASSERT_STREQ(bridge->alias, "kontena grid demo");
        ASSERT_EQ(bridge->mtu, 1450);
        ASSERT_EQ(memcmp(bridge->mac, mac, MAC_SIZE), 0);
        ASSERT_TRUE(bridge->flags & IFF_UP);
        ASSERT_EQ(bridge->addr_gen_mode, IN6_ADDR_GEN_MODE_NONE);

        vxlan = rtnl_link_find(links, n, "kt-vx-demo");
        ASSERT_TRUE(vxlan);
        ASSERT_EQ(vxlan->vni, 0xabcdef);
        ASSERT_EQ(vxlan->port, 6784);
        ASSERT_FALSE(vxlan->learning);
        ASSERT_TRUE(rtnl_link_find_index(links, n, vxlan->index) == vxlan);
        ASSERT_TRUE(!rtnl_link_find(links, n, "kt-other"));
}

static void test_error_names_what_failed(void **state) {
        _cleanup_(netlink_freep) Netlink *nl = netlink_in_namespace();
        _cleanup_kerror_ KError e = KERROR_NULL;
        RtnlLink l = {};

        ASSERT_OK(rtnl_add_bridge(nl, "kt-demo", mac, 1450));
        ASSERT_OK(netlink_flush(nl, &e));
        ASSERT_OK(rtnl_link_by_name(nl, "kt-demo", &l, &e));
        ASSERT_OK(rtnl_address(nl, true, "kt-demo",
                        &(RtnlAddress){ .index = l.index, .address = ip("10.81.0.3"), .length = 32 }));
        ASSERT_OK(netlink_flush(nl, &e));

        /* Between two that succeed: the others are done all the same. */
        ASSERT_OK(rtnl_set_mtu(nl, "kt-demo", 1400));
        ASSERT_OK(rtnl_address(nl, true, "kt-demo",
                        &(RtnlAddress){ .index = l.index, .address = ip("10.81.0.3"), .length = 32 }));
        ASSERT_OK(rtnl_set_up(nl, "kt-demo"));
        ASSERT_ERROR(netlink_flush(nl, &e), EEXIST);
        ASSERT_TRUE(startswith(kerror_message(&e), "Cannot add address 10.81.0.3/32 to 'kt-demo': "));
        ASSERT_TRUE(endswith(kerror_message(&e), "File exists."));
        ASSERT_EQ(e.code, K_NETWORK);
        ASSERT_OK(rtnl_link_by_name(nl, "kt-demo", &l, NULL));
        ASSERT_EQ(l.mtu, 1400);
        ASSERT_TRUE(l.flags & IFF_UP);

        kerror_done(&e);
        ASSERT_OK(rtnl_add_vxlan(nl, "kt-vx", mac, 1450, 1U << 24, 6784));
        ASSERT_TRUE(netlink_flush(nl, &e) < 0);
        /* The kernel has words of its own for this one. */
        ASSERT_TRUE(strlen(kerror_message(&e)) >
                        strlen("Cannot create VXLAN device 'kt-vx' (network identifier 16777216, "
                               "port 6784): Numerical result out of range."));
}

static void test_tolerated_error_is_no_change(void **state) {
        _cleanup_(netlink_freep) Netlink *nl = netlink_in_namespace();
        unsigned changes = 0;

        netlink_on_change(nl, on_change, &changes);
        ASSERT_OK(rtnl_delete_link(nl, "kt-absent"));
        ASSERT_OK(netlink_flush(nl, NULL));
        ASSERT_EQ(changes, 0);
        ASSERT_ERROR(rtnl_link_by_name(nl, "kt-absent", &(RtnlLink){}, NULL), ENODEV);
}

static void test_large_batch_is_split(void **state) {
        _cleanup_(netlink_freep) Netlink *nl = netlink_in_namespace();
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ RtnlNeighbor *list = NULL;
        unsigned changes = 0;
        RtnlLink l;
        size_t n;

        ASSERT_OK(rtnl_add_vxlan(nl, "vx", mac, 1450, 7, 6784));
        ASSERT_OK(rtnl_set_up(nl, "vx"));
        ASSERT_OK(netlink_flush(nl, &e));
        ASSERT_OK(rtnl_link_by_name(nl, "vx", &l, &e));

        netlink_on_change(nl, on_change, &changes);
        for (uint32_t i = 1; i <= 1000; i++)
                ASSERT_OK(rtnl_neighbor(nl, true, "vx",
                                &(RtnlNeighbor){ .index = l.index,
                                                .family = AF_INET,
                                                .state = NUD_PERMANENT,
                                                .address = ip("10.81.0.0") + i,
                                                .mac = { 2, 0, 0, 0, (uint8_t) (i >> 8), (uint8_t) i } }));
        ASSERT_OK(netlink_flush(nl, &e));
        ASSERT_EQ(changes, 1000);

        ASSERT_OK(rtnl_dump_neighbors(nl, AF_INET, l.index, &list, &n, &e));
        ASSERT_EQ(n, 1000);
}

static void test_routes_and_forwarding(void **state) {
        _cleanup_(netlink_freep) Netlink *nl = netlink_in_namespace();
        _cleanup_free_ RtnlNeighbor *fdb = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ RtnlRoute *routes = NULL;
        RtnlNeighbor entry = {
                .family = AF_BRIDGE, .state = NUD_PERMANENT | NUD_NOARP, .address = ip("172.30.0.12")
        };
        RtnlRoute route = { .destination = ip("10.81.129.0"),
                .length = 25,
                .gateway = ip("10.81.0.4"),
                .source = ip("10.81.0.3"),
                .protocol = PROTOCOL,
                .type = RTN_UNICAST,
                .onlink = true,
                .mtu = 1400 },
                  found = {};
        size_t n, hits = 0;
        RtnlLink l;

        ASSERT_OK(rtnl_add_vxlan(nl, "vx", mac, 1450, 7, 6784));
        ASSERT_OK(rtnl_set_up(nl, "vx"));
        ASSERT_OK(netlink_flush(nl, &e));
        ASSERT_OK(rtnl_link_by_name(nl, "vx", &l, &e));
        ASSERT_OK(rtnl_address(nl, true, "vx",
                        &(RtnlAddress){ .index = l.index, .address = ip("10.81.0.3"), .length = 32 }));
        route.index = entry.index = l.index;
        memcpy(entry.mac, mac2, MAC_SIZE);
        ASSERT_OK(rtnl_route(nl, true, "vx", &route));
        ASSERT_OK(rtnl_neighbor(nl, true, "vx", &entry));
        ASSERT_OK(netlink_flush(nl, &e));

        ASSERT_OK(rtnl_dump_routes(nl, PROTOCOL, &routes, &n, &e));
        ASSERT_EQ(n, 1);
        ASSERT_EQ(memcmp(&routes[0], &route, sizeof(route)), 0);
        ASSERT_OK(rtnl_route_lookup(nl, ip("10.81.129.77"), &found, &e));
        ASSERT_EQ(found.index, l.index);
        ASSERT_EQ(found.source, ip("10.81.0.3"));

        ASSERT_OK(rtnl_dump_neighbors(nl, AF_BRIDGE, l.index, &fdb, &n, &e));
        FOREACH_ARRAY(f, fdb, n)
                if (f->address == entry.address && memcmp(f->mac, mac2, MAC_SIZE) == 0)
                        hits++;
        ASSERT_EQ(hits, 1);

        ASSERT_OK(rtnl_route(nl, false, "vx", &route));
        ASSERT_OK(rtnl_neighbor(nl, false, "vx", &entry));
        ASSERT_OK(netlink_flush(nl, &e));
        free(TAKE_PTR(routes));
        ASSERT_OK(rtnl_dump_routes(nl, PROTOCOL, &routes, &n, &e));
        ASSERT_EQ(n, 0);
}

typedef struct Seen {
        bool link;
        sd_event *event;
} Seen;

static int on_message(const struct nlmsghdr *h, void *userdata) {
        Seen *seen = userdata;
        RtnlLink l;

        if (h && rtnl_link_parse(h, &l) > 0 && streq(l.name, "kt-demo")) {
                seen->link = true;
                (void) sd_event_exit(seen->event, 0);
        }
        return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(s), 1);
}

static void test_monitor_sees_changes(void **state) {
        _cleanup_(netlink_freep) Netlink *nl = netlink_in_namespace();
        _cleanup_(netlink_monitor_freep) NetlinkMonitor *m = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        Seen seen = {};

        ASSERT_OK(sd_event_new(&event));
        seen.event = event;
        ASSERT_OK(netlink_monitor_new(event, NETLINK_ROUTE, (unsigned[]){ RTNLGRP_LINK, RTNLGRP_NEIGH }, 2,
                        on_message, &seen, &m));
        ASSERT_OK(sd_event_add_time_relative(
                        event, NULL, CLOCK_MONOTONIC, 120 * USEC_PER_SEC, 0, on_deadline, NULL));
        ASSERT_OK(rtnl_add_bridge(nl, "kt-demo", mac, 1450));
        ASSERT_OK(netlink_flush(nl, NULL));
        ASSERT_EQ(sd_event_loop(event), 0);
        ASSERT_TRUE(seen.link);
}

/* Answers that no kernel sends. */
typedef union Buffer {
        struct nlmsghdr h;
        uint8_t bytes[512];
} Buffer;

static struct nlmsghdr *make(Buffer *b, uint16_t type, const void *payload, size_t size) {
        memset(b, 0, sizeof(*b));
        b->h.nlmsg_len = (uint32_t) (sizeof(struct nlmsghdr) + size);
        b->h.nlmsg_type = type;
        if (size > 0)
                memcpy(b->bytes + sizeof(struct nlmsghdr), payload, size);
        return &b->h;
}

static void test_malformed_datagram(void **state) {
        _Alignas(struct nlmsghdr) uint8_t bytes[64] = {};
        struct nlmsghdr *h = (struct nlmsghdr *) bytes;
        const uint8_t *p = bytes;
        size_t left = sizeof(bytes);

        /* Two whole messages, the first of a length that is not aligned, and what is too short to be one. */
        h->nlmsg_len = 30;
        ((struct nlmsghdr *) (bytes + 32))->nlmsg_len = 20;
        ASSERT_TRUE(netlink_next(&p, &left) == h);
        ASSERT_TRUE((const uint8_t *) netlink_next(&p, &left) == bytes + 32);
        ASSERT_EQ(left, 12);
        ASSERT_TRUE(!netlink_next(&p, &left));

        for (unsigned i = 0; i < 5; i++) {
                static const uint32_t lengths[] = { 0, 15, 65, 0x80000000, 0xfffffff0 };

                h->nlmsg_len = lengths[i];
                p = bytes;
                left = sizeof(bytes);
                ASSERT_TRUE(!netlink_next(&p, &left));
        }
}

static void test_malformed_acknowledgement(void **state) {
        struct nlmsgerr e = { .error = -EEXIST, .msg.nlmsg_len = sizeof(struct nlmsghdr) };
        const char *text = "untouched";
        struct nlmsghdr *h;
        struct nlattr *a;
        int error = 0;
        Buffer b;

        ASSERT_ERROR(netlink_ack_parse(make(&b, NLMSG_ERROR, NULL, 0), &error, &text), EBADMSG);
        ASSERT_ERROR(netlink_ack_parse(make(&b, NLMSG_ERROR, &e, 4), &error, &text), EBADMSG);
        ASSERT_STREQ(text, "untouched");
        ASSERT_OK(netlink_ack_parse(make(&b, NLMSG_ERROR, &e, sizeof(e)), &error, &text));
        ASSERT_EQ(error, EEXIST);
        ASSERT_TRUE(!text);

        e.error = 1;
        ASSERT_ERROR(netlink_ack_parse(make(&b, NLMSG_ERROR, &e, sizeof(e)), &error, &text), EBADMSG);
        e.error = INT32_MIN;
        ASSERT_ERROR(netlink_ack_parse(make(&b, NLMSG_ERROR, &e, sizeof(e)), &error, &text), EBADMSG);

        /* The echoed request says that it is larger than the answer. */
        e.error = -EINVAL;
        e.msg.nlmsg_len = 0xfffffff0;
        h = make(&b, NLMSG_ERROR, &e, sizeof(e));
        h->nlmsg_flags = NLM_F_ACK_TLVS;
        ASSERT_ERROR(netlink_ack_parse(h, &error, &text), EBADMSG);

        /* Text without an end, and an attribute longer than the message. */
        h = make(&b, NLMSG_ERROR, &e, sizeof(e));
        h->nlmsg_flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
        mnl_attr_put(h, NLMSGERR_ATTR_MSG, 8, "abcdefgh");
        ASSERT_OK(netlink_ack_parse(h, &error, &text));
        ASSERT_TRUE(!text);
        a = (struct nlattr *) (b.bytes + sizeof(struct nlmsghdr) + sizeof(e));
        a->nla_len = 200;
        ASSERT_ERROR(netlink_ack_parse(h, &error, &text), EBADMSG);
        a->nla_len = 0;
        ASSERT_ERROR(netlink_ack_parse(h, &error, &text), EBADMSG);
}

static void test_malformed_lists(void **state) {
        struct ifaddrmsg address = { .ifa_family = AF_INET, .ifa_prefixlen = 33 };
        struct rtmsg route = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_dst_len = 24 };
        struct ifinfomsg link = {};
        struct nlmsghdr *h;
        RtnlAddress ra;
        RtnlRoute rr;
        RtnlLink rl;
        Buffer b;

        ASSERT_EQ(rtnl_link_parse(make(&b, RTM_NEWADDR, &address, sizeof(address)), &rl), 0);
        ASSERT_ERROR(rtnl_link_parse(make(&b, RTM_NEWLINK, &link, 3), &rl), EBADMSG);
        ASSERT_ERROR(rtnl_address_parse(make(&b, RTM_NEWADDR, &address, sizeof(address)), &ra), EBADMSG);

        /* A name that fills its attribute without NUL, one that is longer than any, and a MAC of InfiniBand's size. */
        h = make(&b, RTM_NEWLINK, &link, sizeof(link));
        mnl_attr_put(h, IFLA_IFNAME, 4, "abcd");
        mnl_attr_put(h, IFLA_ADDRESS, 20, "01234567890123456789");
        ASSERT_EQ(rtnl_link_parse(h, &rl), 1);
        ASSERT_STREQ(rl.name, "");
        ASSERT_EQ(rl.mac[0], 0);
        h = make(&b, RTM_NEWLINK, &link, sizeof(link));
        mnl_attr_put_strz(h, IFLA_IFNAME, "a-name-of-more-than-15-bytes");
        ASSERT_EQ(rtnl_link_parse(h, &rl), 1);
        ASSERT_STREQ(rl.name, "a-name-of-more-");

        /* A gateway of the wrong size is none; a nest whose content is cut. */
        h = make(&b, RTM_NEWROUTE, &route, sizeof(route));
        mnl_attr_put_u16(h, RTA_GATEWAY, 1);
        ASSERT_EQ(rtnl_route_parse(h, &rr), 1);
        ASSERT_EQ(rr.gateway, 0);
        mnl_attr_put(h, RTA_METRICS, 3, "abc");
        ASSERT_ERROR(rtnl_route_parse(h, &rr), EBADMSG);
}

KONTENA_TESTS(cmocka_unit_test(test_malformed_datagram), cmocka_unit_test(test_malformed_acknowledgement),
                cmocka_unit_test(test_malformed_lists), cmocka_unit_test(test_batch_makes_links),
                cmocka_unit_test(test_error_names_what_failed),
                cmocka_unit_test(test_tolerated_error_is_no_change),
                cmocka_unit_test(test_large_batch_is_split), cmocka_unit_test(test_routes_and_forwarding),
                cmocka_unit_test(test_monitor_sees_changes))
