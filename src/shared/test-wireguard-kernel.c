/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-kernel.h"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <sched.h>

#include "netlink-route.h"
#include "test.h"

typedef union Buffer {
        struct nlmsghdr h;
        uint8_t bytes[4096];
} Buffer;

static struct nlmsghdr *begin(Buffer *b) {
        memset(b, 0, sizeof(*b));
        (void) mnl_nlmsg_put_header(b->bytes);
        (void) mnl_nlmsg_put_extra_header(&b->h, sizeof(struct genlmsghdr));
        return &b->h;
}

static void put_key(struct nlmsghdr *h, uint16_t type, uint8_t value) {
        uint8_t key[WG_KEY_SIZE];

        memset(key, value, sizeof(key));
        mnl_attr_put(h, type, sizeof(key), key);
}

static void put_allowed(
                struct nlmsghdr *h, uint16_t family, const void *address, size_t size, uint8_t length) {
        struct nlattr *nest = mnl_attr_nest_start(h, 0);

        mnl_attr_put_u16(h, WGALLOWEDIP_A_FAMILY, family);
        mnl_attr_put(h, WGALLOWEDIP_A_IPADDR, size, address);
        mnl_attr_put_u8(h, WGALLOWEDIP_A_CIDR_MASK, length);
        mnl_attr_nest_end(h, nest);
}

static void test_device_in_two_messages(void **state) {
        struct sockaddr_in6 endpoint = { .sin6_family = AF_INET6, .sin6_port = htons(51820) };
        int64_t handshake[2] = { 1700000000, 5000 };
        _cleanup_(wg_device_done) WgDevice d = {};
        struct nlattr *peers, *peer, *list;
        Buffer b;
        struct nlmsghdr *h = begin(&b);

        put_key(h, WGDEVICE_A_PRIVATE_KEY, 7);
        mnl_attr_put_u16(h, WGDEVICE_A_LISTEN_PORT, 51821);
        peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS);
        peer = mnl_attr_nest_start(h, 0);
        put_key(h, WGPEER_A_PUBLIC_KEY, 1);
        put_key(h, WGPEER_A_PRESHARED_KEY, 2);
        mnl_attr_put(h, WGPEER_A_ENDPOINT, sizeof(endpoint), &endpoint);
        mnl_attr_put_u16(h, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, 25);
        mnl_attr_put(h, WGPEER_A_LAST_HANDSHAKE_TIME, sizeof(handshake), handshake);
        mnl_attr_put_u64(h, WGPEER_A_RX_BYTES, 10);
        mnl_attr_put_u64(h, WGPEER_A_TX_BYTES, 11);
        list = mnl_attr_nest_start(h, WGPEER_A_ALLOWEDIPS);
        put_allowed(h, AF_INET, "\x0a\x51\x00\x02", 4, 32);
        mnl_attr_nest_end(h, list);
        mnl_attr_nest_end(h, peer);
        mnl_attr_nest_end(h, peers);
        ASSERT_OK(wg_kernel_parse(h, &d));

        /* The list goes on in the next message, under the same key; then another peer. */
        h = begin(&b);
        peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS);
        peer = mnl_attr_nest_start(h, 0);
        put_key(h, WGPEER_A_PUBLIC_KEY, 1);
        list = mnl_attr_nest_start(h, WGPEER_A_ALLOWEDIPS);
        put_allowed(h, AF_INET, "\x0a\x51\x80\x00", 4, 25);
        put_allowed(h, AF_INET6, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, 64);
        mnl_attr_nest_end(h, list);
        mnl_attr_nest_end(h, peer);
        peer = mnl_attr_nest_start(h, 0);
        put_key(h, WGPEER_A_PUBLIC_KEY, 3);
        mnl_attr_nest_end(h, peer);
        mnl_attr_nest_end(h, peers);
        ASSERT_OK(wg_kernel_parse(h, &d));

        ASSERT_EQ(d.private_key[0], 7);
        ASSERT_EQ(d.port, 51821);
        ASSERT_EQ(d.n_peers, 2);
        ASSERT_EQ(d.peers[0].n_allowed, 3);
        ASSERT_EQ(d.peers[0].allowed[1].length, 25);
        ASSERT_EQ(d.peers[0].preshared[0], 2);
        ASSERT_EQ(d.peers[0].handshake, 1700000000ULL * 1000000 + 5);
        ASSERT_EQ(d.peers[0].keepalive_sec, 25);
        ASSERT_EQ(d.peers[0].rx, 10);
        ASSERT_EQ(d.peers[0].tx, 11);
        ASSERT_EQ(d.peers[0].endpoint.sa.sa_family, AF_INET6);
        ASSERT_EQ(d.peers[1].key[0], 3);
        ASSERT_EQ(d.peers[1].endpoint.sa.sa_family, AF_UNSPEC);
}

/* One attribute of a peer, as no kernel sends it. */
static int parse_peer_with(uint16_t type, const void *value, size_t size) {
        _cleanup_(wg_device_done) WgDevice d = {};
        struct nlattr *peers, *peer;
        Buffer b;
        struct nlmsghdr *h = begin(&b);

        peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS);
        peer = mnl_attr_nest_start(h, 0);
        if (type != WGPEER_A_PUBLIC_KEY)
                put_key(h, WGPEER_A_PUBLIC_KEY, 1);
        mnl_attr_put(h, type, size, value);
        mnl_attr_nest_end(h, peer);
        mnl_attr_nest_end(h, peers);
        return wg_kernel_parse(h, &d);
}

static void test_malformed_answers(void **state) {
        struct sockaddr_in in = { .sin_family = AF_INET }, packet = { .sin_family = AF_PACKET };
        _cleanup_(wg_device_done) WgDevice d = {};
        struct nlattr *peers;
        Buffer b;
        struct nlmsghdr *h = begin(&b);

        ASSERT_ERROR(parse_peer_with(WGPEER_A_PUBLIC_KEY, "short", 5), EBADMSG);
        ASSERT_OK(parse_peer_with(WGPEER_A_ENDPOINT, &in, sizeof(in)));
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ENDPOINT, &in, 1), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ENDPOINT, &in, 8), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ENDPOINT, &packet, sizeof(packet)), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ENDPOINT, (uint8_t[64]){ AF_INET6 }, 64), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ALLOWEDIPS, "ab", 2), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ALLOWEDIPS, (uint8_t[4]){ 4 }, 4), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ALLOWEDIPS, (uint8_t[4]){ 200 }, 4), EBADMSG);
        ASSERT_ERROR(parse_peer_with(WGPEER_A_ALLOWEDIPS, (uint8_t[4]){ 0 }, 4), EBADMSG);

        b.h.nlmsg_len = sizeof(struct nlmsghdr);
        ASSERT_ERROR(wg_kernel_parse(&b.h, &d), EBADMSG);
        h = begin(&b);
        peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS);
        put_allowed(h, AF_INET, "\x0a\x51\x00\x02", 4, 33);
        mnl_attr_nest_end(h, peers);
        ASSERT_ERROR(wg_kernel_parse(h, &d), EBADMSG);
        ASSERT_EQ(d.n_peers, 0);
}

/* The kernel's own device, where there is one: what was written is read back, and only the difference is written. */
static void test_kernel_keeps_what_it_is_told(void **state) {
        _cleanup_(wg_device_done) WgDevice want = { .port = 51820 }, is = {};
        _cleanup_(netlink_freep) Netlink *route = NULL, *generic = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        WgChange c = {};
        uint16_t family;
        WgPeer *p;

        if (unshare(CLONE_NEWNET) < 0) {
                print_message("Skipped: cannot make a network namespace: %s\n", strerror(errno));
                skip();
        }
        ASSERT_OK(netlink_open(NETLINK_ROUTE, &route));
        ASSERT_OK(netlink_open(NETLINK_GENERIC, &generic));
        ASSERT_OK(rtnl_add_wireguard(route, "kt-wg", 1420));
        if (netlink_flush(route, &e) == -EOPNOTSUPP) {
                print_message("Skipped: this kernel has no WireGuard.\n");
                route = netlink_free(route); /* skip() jumps out, past what cleans up */
                generic = netlink_free(generic);
                kerror_done(&e);
                skip();
        }
        ASSERT_FALSE(kerror_is_set(&e));
        ASSERT_OK(wg_kernel_family(generic, &family, &e));
        ASSERT_ERROR(wg_kernel_read(generic, family, "kt-none", &is, &e), ENODEV);

        /* More prefixes than one message holds. */
        wg_key_generate(want.private_key);
        ASSERT_TRUE(wg_make_room((void **) &want.peers, 0, sizeof(*want.peers)));
        p = want.peers;
        *p = (WgPeer){ .keepalive_sec = 25 };
        want.n_peers = 1;
        memset(p->key, 9, sizeof(p->key));
        for (uint32_t i = 0; i < 300; i++) {
                ASSERT_TRUE(wg_make_room((void **) &p->allowed, p->n_allowed, sizeof(*p->allowed)));
                p->allowed[p->n_allowed++] = (WgAllowed){
                        .family = AF_INET,
                        .address.in.s_addr = htonl(0x0a510000 + i * 256),
                        .length = 24,
                };
        }
        p->endpoint.in = (struct sockaddr_in){
                .sin_family = AF_INET,
                .sin_port = htons(7),
                .sin_addr.s_addr = htonl(0xc0000201),
        };
        ASSERT_OK(wg_device_sort(&want));
        ASSERT_OK(wg_change_make(&is, &want, NULL, &c));
        ASSERT_OK(wg_kernel_change(generic, family, "kt-wg", &want, &c, &e));
        wg_change_done(&c);

        ASSERT_OK(wg_kernel_read(generic, family, "kt-wg", &is, &e));
        ASSERT_EQ(is.n_peers, 1);
        ASSERT_EQ(is.peers[0].n_allowed, 300);
        ASSERT_OK(wg_change_make(&is, &want, NULL, &c));
        ASSERT_TRUE(wg_change_is_empty(&c));
        wg_change_done(&c);
}

KONTENA_TESTS(cmocka_unit_test(test_device_in_two_messages), cmocka_unit_test(test_malformed_answers),
                cmocka_unit_test(test_kernel_keeps_what_it_is_told))
