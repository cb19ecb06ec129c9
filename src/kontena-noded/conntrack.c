/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "kontena-limits.h"
#include "netlink.h"

/* Bits of CTA_FILTER_ORIG_FLAGS, in the order of the kernel's nf_internals.h, which has no face of its own. */
#define FILTER_PROTO_NUM      (1U << 3)
#define FILTER_PROTO_DST_PORT (1U << 5)

typedef struct Flow {
        uint32_t source, destination;
        uint16_t source_port, destination_port;
        uint32_t id;
} Flow;

typedef struct Search {
        uint32_t ip;
        uint16_t port;
        Flow *flows;
        size_t n, allocated;
} Search;

static struct nlmsghdr *begin(Netlink *nl, uint8_t message, uint16_t flags) {
        struct nlmsghdr *h = netlink_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | message, flags);
        struct nfgenmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

        m->nfgen_family = AF_INET;
        m->version = NFNETLINK_V0;
        return h;
}

static int parse_flow(const struct nlattr *const *tb, Flow *ret) {
        const struct nlattr *tuple[CTA_TUPLE_MAX + 1], *ip[CTA_IP_MAX + 1], *proto[CTA_PROTO_MAX + 1];
        Flow f = {};
        uint8_t number = 0;
        int r;

        r = netlink_nested(tb[CTA_TUPLE_ORIG], tuple, CTA_TUPLE_MAX);
        if (r >= 0)
                r = netlink_nested(tuple[CTA_TUPLE_IP], ip, CTA_IP_MAX);
        if (r >= 0)
                r = netlink_nested(tuple[CTA_TUPLE_PROTO], proto, CTA_PROTO_MAX);
        if (r < 0)
                return r;
        if (!netlink_get_u8(proto[CTA_PROTO_NUM], &number) || number != IPPROTO_UDP ||
                        !netlink_get_u16(proto[CTA_PROTO_SRC_PORT], &f.source_port) ||
                        !netlink_get_u16(proto[CTA_PROTO_DST_PORT], &f.destination_port) ||
                        !netlink_get_u32(ip[CTA_IP_V4_SRC], &f.source) ||
                        !netlink_get_u32(ip[CTA_IP_V4_DST], &f.destination) ||
                        !netlink_get_u32(tb[CTA_ID], &f.id))
                return 0;

        *ret = f;
        return 1;
}

static int on_flow(const struct nlmsghdr *h, void *userdata) {
        const struct nlattr *tb[CTA_MAX + 1];
        uint32_t status = 0;
        Search *s = userdata;
        Flow f;
        int r;

        r = netlink_attributes(h, sizeof(struct nfgenmsg), tb, CTA_MAX);
        if (r < 0)
                return r;
        r = parse_flow(tb, &f);
        if (r <= 0)
                return r;

        (void) netlink_get_u32(tb[CTA_STATUS], &status);
        status = ntohl(status);
        if (ntohs(f.destination_port) != s->port || (s->ip != 0 && ntohl(f.destination) != s->ip))
                return 0;
        if (status & IPS_SRC_NAT && !(status & IPS_DST_NAT))
                return 0;
        /* The rest is forgotten when it has been silent for long enough. */
        if (s->n >= CONNTRACK_FORGET_MAX)
                return 0;

        if (s->n >= s->allocated) {
                size_t wanted = s->allocated > 0 ? s->allocated * 2 : 16;
                Flow *p = reallocarray(s->flows, wanted, sizeof(Flow));

                if (!p)
                        return -ENOMEM;
                s->flows = p;
                s->allocated = wanted;
        }
        s->flows[s->n++] = f;
        return 0;
}

static void put_ports(struct nlmsghdr *h, uint16_t source, uint16_t destination) {
        struct nlattr *proto = mnl_attr_nest_start(h, CTA_TUPLE_PROTO);

        mnl_attr_put_u8(h, CTA_PROTO_NUM, IPPROTO_UDP);
        if (source != 0)
                mnl_attr_put_u16(h, CTA_PROTO_SRC_PORT, source);
        mnl_attr_put_u16(h, CTA_PROTO_DST_PORT, destination);
        mnl_attr_nest_end(h, proto);
}

static int find_flows(Netlink *nl, Search *s, KError *reterr) {
        struct nlmsghdr *h = begin(nl, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
        struct nlattr *nest;
        int r;

        /* Kernels before 5.8 know no filter and send all; on_flow() looks itself. */
        nest = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
        put_ports(h, 0, htons(s->port));
        mnl_attr_nest_end(h, nest);
        nest = mnl_attr_nest_start(h, CTA_FILTER);
        mnl_attr_put_u32(h, CTA_FILTER_ORIG_FLAGS, FILTER_PROTO_NUM | FILTER_PROTO_DST_PORT);
        mnl_attr_put_u32(h, CTA_FILTER_REPLY_FLAGS, 0);
        mnl_attr_nest_end(h, nest);

        r = netlink_call(nl, on_flow, s, reterr, "list the tracked flows to UDP port %u", s->port);
        return r == -EINTR ? 0 : r;
}

static int delete_flow(Netlink *nl, const Flow *f) {
        struct nlmsghdr *h = begin(nl, IPCTNL_MSG_CT_DELETE, 0);
        struct nlattr *tuple, *ip;

        tuple = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
        ip = mnl_attr_nest_start(h, CTA_TUPLE_IP);
        mnl_attr_put_u32(h, CTA_IP_V4_SRC, f->source);
        mnl_attr_put_u32(h, CTA_IP_V4_DST, f->destination);
        mnl_attr_nest_end(h, ip);
        put_ports(h, f->source_port, f->destination_port);
        mnl_attr_nest_end(h, tuple);
        mnl_attr_put_u32(h, CTA_ID, f->id);
        return netlink_queue(nl, ENOENT, "forget a tracked flow to UDP port %u", ntohs(f->destination_port));
}

int conntrack_forget_udp(uint32_t ip, uint16_t port, KError *reterr) {
        _cleanup_(netlink_freep) Netlink *nl = NULL;
        Search s = { .ip = ip, .port = port };
        int r;

        r = netlink_open(NETLINK_NETFILTER, &nl);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot open a netlink socket: %m.");

        r = find_flows(nl, &s, reterr);
        for (size_t i = 0; i < s.n && r >= 0; i++)
                r = delete_flow(nl, &s.flows[i]);
        if (r >= 0)
                r = netlink_flush(nl, reterr);

        free(s.flows);
        return r;
}
