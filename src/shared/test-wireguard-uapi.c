/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-uapi.h"

#include <arpa/inet.h>

#include "string-util.h"
#include "test.h"

#define KEY_01 "0101010101010101010101010101010101010101010101010101010101010101"
#define KEY_02 "0202020202020202020202020202020202020202020202020202020202020202"
#define KEY_00 "0000000000000000000000000000000000000000000000000000000000000000"

static int parse(const char *text, WgDevice *ret) {
        return wg_uapi_parse_device(text, strlen(text), ret);
}

static void test_device_with_peers(void **state) {
        static const char text[] = "private_key=" KEY_01 "\nlisten_port=51820\nfwmark=0\n"
                                   "public_key=" KEY_02 "\npreshared_key=" KEY_01 "\nprotocol_version=1\n"
                                   "endpoint=[2001:db8::1]:51820\nlast_handshake_time_sec=1700000000\n"
                                   "last_handshake_time_nsec=5000\ntx_bytes=3\nrx_bytes=4\n"
                                   "persistent_keepalive_interval=25\nallowed_ip=10.81.128.0/25\n"
                                   "allowed_ip=10.81.0.2/32\nallowed_ip=fd00::/64\n"
                                   "public_key=" KEY_01 "\nendpoint=192.0.2.1:7\n"
                                   "something_of_tomorrow=x\nerrno=0\n\n";
        _cleanup_(wg_device_done) WgDevice d = {};

        ASSERT_OK(parse(text, &d));
        ASSERT_EQ(d.private_key[31], 1);
        ASSERT_EQ(d.port, 51820);
        ASSERT_EQ(d.n_peers, 2);
        /* Sorted: 01 first. */
        ASSERT_EQ(d.peers[0].endpoint.in.sin_family, AF_INET);
        ASSERT_EQ(ntohs(d.peers[0].endpoint.in.sin_port), 7);
        ASSERT_EQ(d.peers[0].handshake, 0);
        ASSERT_EQ(d.peers[1].key[0], 2);
        ASSERT_EQ(d.peers[1].preshared[0], 1);
        ASSERT_EQ(d.peers[1].endpoint.in6.sin6_family, AF_INET6);
        ASSERT_EQ(d.peers[1].handshake, 1700000000ULL * 1000000 + 5);
        ASSERT_EQ(d.peers[1].tx, 3);
        ASSERT_EQ(d.peers[1].rx, 4);
        ASSERT_EQ(d.peers[1].keepalive_sec, 25);
        ASSERT_EQ(d.peers[1].n_allowed, 3);
        ASSERT_EQ(d.peers[1].allowed[0].length, 32);
        ASSERT_EQ(d.peers[1].allowed[2].family, AF_INET6);
}

static void test_malformed_answers(void **state) {
        static const char *const bad[] = {
                "",
                "\n",
                "errno=0",
                "errno=0\n",
                "\n\n",
                "private_key=" KEY_01 "\n\n", /* no result */
                "private_key=0101\nerrno=0\n\n",
                "private_key=" KEY_01 "01\nerrno=0\n\n",
                "private_key=zz" KEY_01 "\nerrno=0\n\n",
                "no equals sign\nerrno=0\n\n",
                "listen_port=65536\nerrno=0\n\n",
                "listen_port=-1\nerrno=0\n\n",
                "errno=5000\n\n",
                "errno=x\n\n",
                "errno=\n\n",
                "public_key=" KEY_01 "\npublic_key=" KEY_01 "\nerrno=0\n\n",
                "public_key=" KEY_01 "\nendpoint=192.0.2.1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nendpoint=:1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nendpoint=[]:1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nendpoint=[:1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nendpoint=[::1:1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nendpoint=host:1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nallowed_ip=10.0.0.0\nerrno=0\n\n",
                "public_key=" KEY_01 "\nallowed_ip=10.0.0.0/33\nerrno=0\n\n",
                "public_key=" KEY_01 "\nallowed_ip=fd00::/129\nerrno=0\n\n",
                "public_key=" KEY_01 "\nallowed_ip=/1\nerrno=0\n\n",
                "public_key=" KEY_01 "\nlast_handshake_time_sec=18446744073709551615\nerrno=0\n\n",
                "public_key=" KEY_01 "\nallowed_ip=10.0.0.0/8\npublic_key=" KEY_02
                "\nallowed_ip=10.0.0.0/8\nerrno=0\n\n",
        };
        WgDevice d = { .port = 7 };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (parse(bad[i], &d) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
        ASSERT_ERROR(wg_uapi_parse_device("errno=0\n\0\n\n", 11, &d), EBADMSG);
        ASSERT_EQ(d.port, 7);
}

static void test_error_of_the_other_side(void **state) {
        WgDevice d;

        ASSERT_ERROR(parse("errno=22\n\n", &d), EINVAL);
        ASSERT_ERROR(parse("errno=-22\n\n", &d), EINVAL);
        ASSERT_ERROR(wg_uapi_parse_result("errno=98\n\n", 10), EADDRINUSE);
        ASSERT_OK(wg_uapi_parse_result("errno=0\n\n", 9));
        ASSERT_ERROR(wg_uapi_parse_result("private_key=" KEY_01 "\nerrno=0\n\n", 86), EBADMSG);
}

static void test_request_says_only_what_differs(void **state) {
        static const char expected[] = "set=1\nprivate_key=" KEY_01 "\nlisten_port=51820\n"
                                       "public_key=" KEY_01 "\nremove=true\n"
                                       "public_key=" KEY_02 "\npreshared_key=" KEY_00
                                       "\nendpoint=[2001:db8::2]:51821\npersistent_keepalive_interval=25\n"
                                       "replace_allowed_ips=true\nallowed_ip=10.81.0.2/32\n\n";
        WgAllowed a = { .family = AF_INET, .length = 32 };
        WgPeer peer = { .keepalive_sec = 25, .allowed = &a, .n_allowed = 1 }, old = {};
        WgDevice is = { .peers = &old, .n_peers = 1 },
                 want = { .port = 51820, .peers = &peer, .n_peers = 1 };
        _cleanup_(wg_change_done) WgChange c = {};
        _cleanup_free_ char *text = NULL;
        size_t size;

        memset(want.private_key, 1, WG_KEY_SIZE);
        memset(old.key, 1, WG_KEY_SIZE);
        memset(peer.key, 2, WG_KEY_SIZE);
        peer.endpoint.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(51821) };
        ASSERT_EQ(inet_pton(AF_INET6, "2001:db8::2", &peer.endpoint.in6.sin6_addr), 1);
        ASSERT_EQ(inet_pton(AF_INET, "10.81.0.2", &a.address), 1);

        ASSERT_OK(wg_change_make(&is, &want, NULL, &c));
        ASSERT_OK(wg_uapi_request(&want, &c, &text, &size));
        ASSERT_STREQ(text, expected);
        ASSERT_EQ(size, strlen(expected));
}

static void test_limits(void **state) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        WgDevice d;
        FILE *f;

        f = open_memstream(&text, &size);
        ASSERT_TRUE(f);
        (void) fputs("public_key=" KEY_01 "\n", f);
        for (unsigned i = 0; i <= WG_ALLOWED_MAX; i++)
                (void) fprintf(f, "allowed_ip=10.%u.%u.0/24\n", i / 256, i % 256);
        (void) fputs("errno=0\n\n", f);
        ASSERT_EQ(fclose(f), 0);
        ASSERT_ERROR(wg_uapi_parse_device(text, size, &d), E2BIG);

        free(TAKE_PTR(text));
        f = open_memstream(&text, &size);
        ASSERT_TRUE(f);
        for (unsigned i = 0; i <= WG_PEERS_MAX; i++)
                (void) fprintf(f, "public_key=%064x\n", i + 1);
        (void) fputs("errno=0\n\n", f);
        ASSERT_EQ(fclose(f), 0);
        ASSERT_ERROR(wg_uapi_parse_device(text, size, &d), E2BIG);
}

KONTENA_TESTS(cmocka_unit_test(test_device_with_peers), cmocka_unit_test(test_malformed_answers),
                cmocka_unit_test(test_error_of_the_other_side),
                cmocka_unit_test(test_request_says_only_what_differs), cmocka_unit_test(test_limits))
