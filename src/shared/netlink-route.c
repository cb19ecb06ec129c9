/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netlink-route.h"

#include <arpa/inet.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>

#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

#define DUMP_ATTEMPTS 8U

static void copy_string(char *ret, size_t size, const struct nlattr *a) {
        const char *s = netlink_get_string(a);
        size_t n = s ? strlen(s) : 0;

        if (n >= size)
                n = size - 1;
        if (n > 0)
                memcpy(ret, s, n);
        ret[n] = '\0';
}

static uint32_t get_address(const struct nlattr *a) {
        uint32_t v = 0;

        (void) netlink_get_u32(a, &v);
        return ntohl(v);
}

static int parse_vxlan(const struct nlattr *data, RtnlLink *l) {
        const struct nlattr *tb[IFLA_VXLAN_MAX + 1];
        uint8_t learning = 0;
        uint16_t port = 0;
        int r;

        r = netlink_nested(data, tb, IFLA_VXLAN_MAX);
        if (r < 0)
                return r;

        (void) netlink_get_u32(tb[IFLA_VXLAN_ID], &l->vni);
        (void) netlink_get_u16(tb[IFLA_VXLAN_PORT], &port);
        (void) netlink_get_u8(tb[IFLA_VXLAN_LEARNING], &learning);
        l->port = ntohs(port);
        l->learning = learning != 0;
        return 0;
}

static int parse_addr_gen_mode(const struct nlattr *spec, RtnlLink *l) {
        const struct nlattr *families[AF_INET6 + 1], *tb[IFLA_INET6_MAX + 1];
        int r;

        r = netlink_nested(spec, families, AF_INET6);
        if (r < 0)
                return r;
        r = netlink_nested(families[AF_INET6], tb, IFLA_INET6_MAX);
        if (r < 0)
                return r;

        (void) netlink_get_u8(tb[IFLA_INET6_ADDR_GEN_MODE], &l->addr_gen_mode);
        return 0;
}

int rtnl_link_parse(const struct nlmsghdr *h, RtnlLink *ret) {
        const struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
        RtnlLink l = { .addr_gen_mode = IN6_ADDR_GEN_MODE_NONE };
        const struct ifinfomsg *m;
        int r;

        if (h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK)
                return 0;
        r = netlink_attributes(h, sizeof(struct ifinfomsg), tb, IFLA_MAX);
        if (r < 0)
                return r;
        m = mnl_nlmsg_get_payload(h);
        if (m->ifi_family != AF_UNSPEC)
                return 0;
        r = netlink_nested(tb[IFLA_LINKINFO], info, IFLA_INFO_MAX);
        if (r < 0)
                return r;

        l.index = m->ifi_index;
        l.flags = m->ifi_flags;
        copy_string(l.name, sizeof(l.name), tb[IFLA_IFNAME]);
        copy_string(l.alias, sizeof(l.alias), tb[IFLA_IFALIAS]);
        copy_string(l.kind, sizeof(l.kind), info[IFLA_INFO_KIND]);
        (void) netlink_get_u32(tb[IFLA_MTU], &l.mtu);
        (void) netlink_get_u32(tb[IFLA_MASTER], &l.master);
        if (tb[IFLA_ADDRESS] && mnl_attr_get_payload_len(tb[IFLA_ADDRESS]) == MAC_SIZE)
                memcpy(l.mac, mnl_attr_get_payload(tb[IFLA_ADDRESS]), MAC_SIZE);
        r = parse_addr_gen_mode(tb[IFLA_AF_SPEC], &l);
        if (r < 0)
                return r;
        if (streq(l.kind, "vxlan")) {
                r = parse_vxlan(info[IFLA_INFO_DATA], &l);
                if (r < 0)
                        return r;
        }

        *ret = l;
        return 1;
}

int rtnl_address_parse(const struct nlmsghdr *h, RtnlAddress *ret) {
        const struct nlattr *tb[IFA_MAX + 1];
        const struct ifaddrmsg *m;
        int r;

        if (h->nlmsg_type != RTM_NEWADDR && h->nlmsg_type != RTM_DELADDR)
                return 0;
        r = netlink_attributes(h, sizeof(struct ifaddrmsg), tb, IFA_MAX);
        if (r < 0)
                return r;
        m = mnl_nlmsg_get_payload(h);
        if (m->ifa_family != AF_INET)
                return 0;
        if (m->ifa_prefixlen > 32)
                return -EBADMSG;

        *ret = (RtnlAddress){
                .index = (int) m->ifa_index,
                .length = m->ifa_prefixlen,
                .scope = m->ifa_scope,
                .address = get_address(tb[IFA_LOCAL] ?: tb[IFA_ADDRESS]),
        };
        return 1;
}

/* A table's own entries, or the cached outcome of a look-up, which may be from any table. */
static int parse_any_route(const struct nlmsghdr *h, bool lookup, RtnlRoute *ret) {
        const struct nlattr *tb[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
        const struct rtmsg *m;
        uint32_t index = 0, table;
        RtnlRoute route;
        int r;

        if (h->nlmsg_type != RTM_NEWROUTE && h->nlmsg_type != RTM_DELROUTE)
                return 0;
        r = netlink_attributes(h, sizeof(struct rtmsg), tb, RTA_MAX);
        if (r < 0)
                return r;
        m = mnl_nlmsg_get_payload(h);
        if (m->rtm_family != AF_INET || !!(m->rtm_flags & RTM_F_CLONED) != lookup)
                return 0;
        if (m->rtm_dst_len > 32)
                return -EBADMSG;
        table = m->rtm_table;
        (void) netlink_get_u32(tb[RTA_TABLE], &table);
        if (table != RT_TABLE_MAIN && !lookup)
                return 0;
        r = netlink_nested(tb[RTA_METRICS], metrics, RTAX_MAX);
        if (r < 0)
                return r;

        route = (RtnlRoute){
                .destination = get_address(tb[RTA_DST]),
                .gateway = get_address(tb[RTA_GATEWAY]),
                .source = get_address(tb[RTA_PREFSRC]),
                .length = m->rtm_dst_len,
                .protocol = m->rtm_protocol,
                .scope = m->rtm_scope,
                .type = m->rtm_type,
                .onlink = m->rtm_flags & RTNH_F_ONLINK,
        };
        (void) netlink_get_u32(tb[RTA_OIF], &index);
        route.index = (int) index;
        (void) netlink_get_u32(tb[RTA_PRIORITY], &route.metric);
        (void) netlink_get_u32(metrics[RTAX_MTU], &route.mtu);

        *ret = route;
        return 1;
}

int rtnl_route_parse(const struct nlmsghdr *h, RtnlRoute *ret) {
        return parse_any_route(h, /* lookup= */ false, ret);
}

int rtnl_neighbor_parse(const struct nlmsghdr *h, RtnlNeighbor *ret) {
        const struct nlattr *tb[NDA_MAX + 1], *mac;
        const struct ndmsg *m;
        RtnlNeighbor n;
        int r;

        if (h->nlmsg_type != RTM_NEWNEIGH && h->nlmsg_type != RTM_DELNEIGH)
                return 0;
        r = netlink_attributes(h, sizeof(struct ndmsg), tb, NDA_MAX);
        if (r < 0)
                return r;
        m = mnl_nlmsg_get_payload(h);
        if (m->ndm_family != AF_INET && m->ndm_family != AF_BRIDGE)
                return 0;

        n = (RtnlNeighbor){
                .index = m->ndm_ifindex,
                .family = m->ndm_family,
                .state = m->ndm_state,
                .address = get_address(tb[NDA_DST]),
        };
        mac = tb[NDA_LLADDR];
        if (mac && mnl_attr_get_payload_len(mac) == MAC_SIZE)
                memcpy(n.mac, mnl_attr_get_payload(mac), MAC_SIZE);

        *ret = n;
        return 1;
}

/* Lists of any of the four: the parser writes the element that begins behind the last. */
typedef int (*parse_t)(const struct nlmsghdr *h, void *ret);

typedef struct List {
        parse_t parse;
        size_t element, n, allocated;
        uint8_t *items;
        uint8_t protocol; /* routes */
        int index;        /* neighbours */
} List;

static int list_message(const struct nlmsghdr *h, void *userdata) {
        List *l = userdata;
        int r;

        if (l->n >= l->allocated) {
                size_t wanted = l->allocated > 0 ? l->allocated * 2 : 16;
                void *p;

                if (l->n >= RTNL_LIST_MAX)
                        return -E2BIG;
                p = reallocarray(l->items, wanted, l->element);
                if (!p)
                        return -ENOMEM;
                l->items = p;
                l->allocated = wanted;
        }

        r = l->parse(h, l->items + l->n * l->element);
        if (r <= 0)
                return r;

        /* Kernels without strict checking send more than was asked for. */
        if (l->protocol != 0 &&
                        ((const RtnlRoute *) (l->items + l->n * l->element))->protocol != l->protocol)
                return 0;
        if (l->index != 0 && ((const RtnlNeighbor *) (l->items + l->n * l->element))->index != l->index)
                return 0;
        l->n++;
        return 0;
}

static int parse_link(const struct nlmsghdr *h, void *ret) {
        return rtnl_link_parse(h, ret);
}

static int parse_address(const struct nlmsghdr *h, void *ret) {
        return rtnl_address_parse(h, ret);
}

static int parse_route(const struct nlmsghdr *h, void *ret) {
        return rtnl_route_parse(h, ret);
}

static int parse_neighbor(const struct nlmsghdr *h, void *ret) {
        return rtnl_neighbor_parse(h, ret);
}

typedef void (*fill_t)(struct nlmsghdr *h, const List *l, uint8_t family);

static int dump(Netlink *nl, uint16_t type, uint8_t family, fill_t fill, List *l, const char *what,
                void **ret, size_t *ret_n, KError *reterr) {
        int r = -EINTR;

        for (unsigned i = 0; i < DUMP_ATTEMPTS && r == -EINTR; i++) {
                l->n = 0;
                fill(netlink_begin(nl, type, NLM_F_DUMP), l, family);
                r = netlink_call(nl, list_message, l, reterr, "list %s", what);
        }
        /* Busy for ever: the last answer is as good as any, changes come again by the monitor. */
        if (r == -EINTR)
                r = 0;
        if (r < 0) {
                free(l->items);
                return r == -E2BIG ? kerror_set(reterr, K_LIMIT_EXCEEDED, "More than %u %s on this machine.",
                                                     RTNL_LIST_MAX, what)
                                   : kerror_set_errno(reterr, r, "Cannot list %s: %m.", what);
        }

        *ret = l->items;
        *ret_n = l->n;
        return 0;
}

static void fill_links(struct nlmsghdr *h, const List *l, uint8_t family) {
        struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->ifi_family = family;
        mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

static void fill_addresses(struct nlmsghdr *h, const List *l, uint8_t family) {
        struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->ifa_family = family;
}

static void fill_routes(struct nlmsghdr *h, const List *l, uint8_t family) {
        struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->rtm_family = family;
        m->rtm_table = RT_TABLE_MAIN;
        m->rtm_protocol = l->protocol;
}

static void fill_neighbors(struct nlmsghdr *h, const List *l, uint8_t family) {
        struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->ndm_family = family;
        if (l->index > 0)
                mnl_attr_put_u32(h, NDA_IFINDEX, (uint32_t) l->index);
}

int rtnl_dump_links(Netlink *nl, RtnlLink **ret, size_t *ret_n, KError *reterr) {
        List l = { .parse = parse_link, .element = sizeof(RtnlLink) };

        return dump(nl, RTM_GETLINK, AF_UNSPEC, fill_links, &l, "network devices", (void **) ret, ret_n,
                        reterr);
}

int rtnl_dump_addresses(Netlink *nl, RtnlAddress **ret, size_t *ret_n, KError *reterr) {
        List l = { .parse = parse_address, .element = sizeof(RtnlAddress) };

        return dump(nl, RTM_GETADDR, AF_INET, fill_addresses, &l, "addresses", (void **) ret, ret_n, reterr);
}

int rtnl_dump_routes(Netlink *nl, uint8_t protocol, RtnlRoute **ret, size_t *ret_n, KError *reterr) {
        List l = { .parse = parse_route, .element = sizeof(RtnlRoute), .protocol = protocol };

        return dump(nl, RTM_GETROUTE, AF_INET, fill_routes, &l, "routes", (void **) ret, ret_n, reterr);
}

int rtnl_dump_neighbors(
                Netlink *nl, uint8_t family, int index, RtnlNeighbor **ret, size_t *ret_n, KError *reterr) {
        List l = { .parse = parse_neighbor, .element = sizeof(RtnlNeighbor), .index = index };

        return dump(nl, RTM_GETNEIGH, family, fill_neighbors, &l, "neighbours", (void **) ret, ret_n,
                        reterr);
}

const RtnlLink *rtnl_link_find(const RtnlLink *links, size_t n, const char *name) {
        FOREACH_ARRAY(l, links, n)
                if (streq(l->name, name))
                        return l;
        return NULL;
}

const RtnlLink *rtnl_link_find_index(const RtnlLink *links, size_t n, int index) {
        FOREACH_ARRAY(l, links, n)
                if (l->index == index)
                        return l;
        return NULL;
}

static int one_link(const struct nlmsghdr *h, void *userdata) {
        int r = rtnl_link_parse(h, userdata);

        return MIN(r, 0);
}

int rtnl_link_by_name(Netlink *nl, const char *name, RtnlLink *ret, KError *reterr) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        struct nlmsghdr *h = netlink_begin(nl, RTM_GETLINK, 0);
        RtnlLink l = {};
        int r;

        (void) mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
        mnl_attr_put_strz(h, IFLA_IFNAME, name);
        r = netlink_call(nl, one_link, &l, &e, "find the network device '%s'", name);
        if (r < 0 && r != -ENODEV)
                kerror_move(reterr, &e);
        if (r < 0)
                return r;

        *ret = l;
        return 0;
}

static int one_route(const struct nlmsghdr *h, void *userdata) {
        int r = parse_any_route(h, /* lookup= */ true, userdata);

        return MIN(r, 0);
}

int rtnl_route_lookup(Netlink *nl, uint32_t destination, RtnlRoute *ret, KError *reterr) {
        struct nlmsghdr *h = netlink_begin(nl, RTM_GETROUTE, 0);
        struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
        RtnlRoute route = {};
        int r;

        m->rtm_family = AF_INET;
        m->rtm_dst_len = 32;
        mnl_attr_put_u32(h, RTA_DST, htonl(destination));
        r = netlink_call(nl, one_route, &route, reterr, "find the route to %s", IPV4_TO_STRING(destination));
        if (r < 0)
                return r;

        *ret = route;
        return 0;
}

static struct nlmsghdr *begin_link(
                Netlink *nl, uint16_t type, uint16_t flags, const char *name, unsigned up) {
        struct nlmsghdr *h = netlink_begin(nl, type, flags);
        struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->ifi_family = AF_UNSPEC;
        m->ifi_flags = up;
        m->ifi_change = up;
        mnl_attr_put_strz(h, IFLA_IFNAME, name);
        return h;
}

int rtnl_add_bridge(Netlink *nl, const char *name, const uint8_t mac[static MAC_SIZE], uint32_t mtu) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name, 0);
        struct nlattr *info, *data;

        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        mnl_attr_put(h, IFLA_ADDRESS, MAC_SIZE, mac);
        info = mnl_attr_nest_start(h, IFLA_LINKINFO);
        mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
        data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
        /* All ports are leaves: nothing to wait for, nothing to ask. */
        mnl_attr_put_u32(h, IFLA_BR_FORWARD_DELAY, 0);
        mnl_attr_put_u32(h, IFLA_BR_STP_STATE, 0);
        mnl_attr_put_u8(h, IFLA_BR_MCAST_SNOOPING, 0);
        mnl_attr_nest_end(h, data);
        mnl_attr_nest_end(h, info);
        return netlink_queue(nl, 0, "create bridge '%s'", name);
}

int rtnl_add_vxlan(Netlink *nl, const char *name, const uint8_t mac[static MAC_SIZE], uint32_t mtu,
                uint32_t vni, uint16_t port) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name, 0);
        struct nlattr *info, *data;

        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        mnl_attr_put(h, IFLA_ADDRESS, MAC_SIZE, mac);
        info = mnl_attr_nest_start(h, IFLA_LINKINFO);
        mnl_attr_put_strz(h, IFLA_INFO_KIND, "vxlan");
        data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
        mnl_attr_put_u32(h, IFLA_VXLAN_ID, vni);
        mnl_attr_put_u16(h, IFLA_VXLAN_PORT, htons(port));
        mnl_attr_put_u8(h, IFLA_VXLAN_LEARNING, 0);
        mnl_attr_nest_end(h, data);
        mnl_attr_nest_end(h, info);
        return netlink_queue(
                        nl, 0, "create VXLAN device '%s' (network identifier %u, port %u)", name, vni, port);
}

int rtnl_add_wireguard(Netlink *nl, const char *name, uint32_t mtu) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name, 0);
        struct nlattr *info;

        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        info = mnl_attr_nest_start(h, IFLA_LINKINFO);
        mnl_attr_put_strz(h, IFLA_INFO_KIND, "wireguard");
        mnl_attr_nest_end(h, info);
        return netlink_queue(nl, 0, "create WireGuard device '%s'", name);
}

int rtnl_add_veth(Netlink *nl, const char *name, uint32_t mtu, const char *peer,
                const uint8_t peer_mac[static MAC_SIZE], int peer_netns_fd) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name, 0);
        struct nlattr *info, *data, *other;

        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        info = mnl_attr_nest_start(h, IFLA_LINKINFO);
        mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
        data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
        other = mnl_attr_nest_start(h, VETH_INFO_PEER);
        (void) mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
        mnl_attr_put_strz(h, IFLA_IFNAME, peer);
        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        mnl_attr_put(h, IFLA_ADDRESS, MAC_SIZE, peer_mac);
        mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t) peer_netns_fd);
        mnl_attr_nest_end(h, other);
        mnl_attr_nest_end(h, data);
        mnl_attr_nest_end(h, info);
        return netlink_queue(nl, 0, "create veth '%s'", name);
}

int rtnl_delete_link(Netlink *nl, const char *name) {
        (void) begin_link(nl, RTM_DELLINK, 0, name, 0);
        return netlink_queue(nl, ENODEV, "delete device '%s'", name);
}

int rtnl_set_up(Netlink *nl, const char *name) {
        (void) begin_link(nl, RTM_NEWLINK, 0, name, IFF_UP);
        return netlink_queue(nl, 0, "set device '%s' up", name);
}

int rtnl_set_down(Netlink *nl, const char *name) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);
        struct ifinfomsg *m = mnl_nlmsg_get_payload(h);

        m->ifi_change = IFF_UP;
        return netlink_queue(nl, ENODEV, "set device '%s' down", name);
}

int rtnl_set_mtu(Netlink *nl, const char *name, uint32_t mtu) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);

        mnl_attr_put_u32(h, IFLA_MTU, mtu);
        return netlink_queue(nl, 0, "set the MTU of '%s' to %u", name, mtu);
}

int rtnl_set_mac(Netlink *nl, const char *name, const uint8_t mac[static MAC_SIZE]) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);

        mnl_attr_put(h, IFLA_ADDRESS, MAC_SIZE, mac);
        return netlink_queue(nl, 0, "set the MAC address of '%s' to %s", name, MAC_TO_STRING(mac));
}

int rtnl_set_master(Netlink *nl, const char *name, int master) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);

        mnl_attr_put_u32(h, IFLA_MASTER, (uint32_t) master);
        return netlink_queue(nl, 0,
                        master > 0 ? "put device '%s' on its bridge" : "take device '%s' off a bridge",
                        name);
}

int rtnl_set_hairpin(Netlink *nl, const char *name) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);
        struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO), *data;

        mnl_attr_put_strz(h, IFLA_INFO_SLAVE_KIND, "bridge");
        data = mnl_attr_nest_start(h, IFLA_INFO_SLAVE_DATA);
        mnl_attr_put_u8(h, IFLA_BRPORT_MODE, 1);
        mnl_attr_nest_end(h, data);
        mnl_attr_nest_end(h, info);
        return netlink_queue(nl, 0, "let device '%s' talk to itself", name);
}

int rtnl_set_alias(Netlink *nl, const char *name, const char *alias) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);

        assert(strlen(alias) <= RTNL_ALIAS_MAX);
        mnl_attr_put_str(h, IFLA_IFALIAS, alias);
        return netlink_queue(nl, 0, "name device '%s' '%s'", name, alias);
}

int rtnl_set_no_ipv6_address(Netlink *nl, const char *name) {
        struct nlmsghdr *h = begin_link(nl, RTM_NEWLINK, 0, name, 0);
        struct nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC),
                      *inet6 = mnl_attr_nest_start(h, AF_INET6);

        mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        mnl_attr_nest_end(h, inet6);
        mnl_attr_nest_end(h, spec);
        /* A kernel without IPv6 makes no such address anyway. */
        return netlink_queue(nl, EAFNOSUPPORT, "turn off IPv6 addresses on '%s'", name);
}

int rtnl_address(Netlink *nl, bool add, const char *name, const RtnlAddress *a) {
        struct nlmsghdr *h = netlink_begin(
                        nl, add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_EXCL : 0);
        struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->ifa_family = AF_INET;
        m->ifa_prefixlen = a->length;
        m->ifa_scope = a->scope;
        m->ifa_index = (uint32_t) a->index;
        mnl_attr_put_u32(h, IFA_LOCAL, htonl(a->address));
        mnl_attr_put_u32(h, IFA_ADDRESS, htonl(a->address));
        return netlink_queue(nl, add ? 0 : EADDRNOTAVAIL, "%s address %s/%u %s '%s'", add ? "add" : "remove",
                        IPV4_TO_STRING(a->address), a->length, add ? "to" : "from", name);
}

int rtnl_route(Netlink *nl, bool add, const char *device, const RtnlRoute *route) {
        struct nlmsghdr *h = netlink_begin(
                        nl, add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
        struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->rtm_family = AF_INET;
        m->rtm_dst_len = route->length;
        m->rtm_table = RT_TABLE_MAIN;
        m->rtm_protocol = route->protocol;
        m->rtm_scope = add ? route->scope : RT_SCOPE_NOWHERE;
        m->rtm_type = route->type;
        m->rtm_flags = add && route->onlink ? RTNH_F_ONLINK : 0;
        if (route->length > 0)
                mnl_attr_put_u32(h, RTA_DST, htonl(route->destination));
        if (route->gateway != 0)
                mnl_attr_put_u32(h, RTA_GATEWAY, htonl(route->gateway));
        if (route->index > 0)
                mnl_attr_put_u32(h, RTA_OIF, (uint32_t) route->index);
        if (route->source != 0)
                mnl_attr_put_u32(h, RTA_PREFSRC, htonl(route->source));
        if (route->metric != 0)
                mnl_attr_put_u32(h, RTA_PRIORITY, route->metric);
        if (route->mtu != 0 && add) {
                struct nlattr *metrics = mnl_attr_nest_start(h, RTA_METRICS);

                mnl_attr_put_u32(h, RTAX_MTU, route->mtu);
                mnl_attr_nest_end(h, metrics);
        }
        if (route->type == RTN_UNREACHABLE)
                return netlink_queue(nl, add ? 0 : ESRCH, "%s unreachable route %s/%u",
                                add ? "add" : "remove", IPV4_TO_STRING(route->destination), route->length);
        return netlink_queue(nl, add ? 0 : ESRCH, "%s route %s/%u%s%s on '%s'", add ? "add" : "remove",
                        IPV4_TO_STRING(route->destination), route->length,
                        route->gateway != 0 ? " via " : "",
                        route->gateway != 0 ? IPV4_TO_STRING(route->gateway) : "", device);
}

int rtnl_neighbor(Netlink *nl, bool add, const char *device, const RtnlNeighbor *n) {
        struct nlmsghdr *h = netlink_begin(
                        nl, add ? RTM_NEWNEIGH : RTM_DELNEIGH, add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
        struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
        bool fdb = n->family == AF_BRIDGE;

        m->ndm_family = n->family;
        m->ndm_ifindex = n->index;
        m->ndm_state = n->state;
        m->ndm_flags = fdb ? NTF_SELF : 0;
        mnl_attr_put_u32(h, NDA_DST, htonl(n->address));
        if (add || fdb)
                mnl_attr_put(h, NDA_LLADDR, MAC_SIZE, n->mac);
        if (fdb)
                return netlink_queue(nl, add ? 0 : ENOENT, "%s forwarding entry %s to %s %s '%s'",
                                add ? "add" : "remove", MAC_TO_STRING(n->mac), IPV4_TO_STRING(n->address),
                                add ? "to" : "from", device);
        return netlink_queue(nl, add ? 0 : ENOENT, "%s neighbour %s at %s %s '%s'", add ? "add" : "remove",
                        IPV4_TO_STRING(n->address), MAC_TO_STRING(n->mac), add ? "to" : "from", device);
}

const char *mac_to_string(const uint8_t mac[static MAC_SIZE], char ret[static MAC_STRING_SIZE]) {
        (void) snprintf(ret, MAC_STRING_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                        mac[3], mac[4], mac[5]);
        return ret;
}
