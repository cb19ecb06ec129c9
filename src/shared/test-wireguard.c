/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard.h"

#include <arpa/inet.h>

#include "test.h"

static WgAllowed allowed(const char *address, uint8_t length) {
        WgAllowed a = { .family = strchr(address, ':') ? AF_INET6 : AF_INET, .length = length };

        ASSERT_EQ(inet_pton(a.family, address, &a.address), 1);
        return a;
}

static WgEndpoint endpoint(const char *address, uint16_t port) {
        WgEndpoint e = { .in = { .sin_family = AF_INET, .sin_port = htons(port) } };

        ASSERT_EQ(inet_pton(AF_INET, address, &e.in.sin_addr), 1);
        return e;
}

static WgPeer *add(WgDevice *d, uint8_t key, const char *address) {
        WgPeer *p;

        ASSERT_TRUE(wg_make_room((void **) &d->peers, d->n_peers, sizeof(*d->peers)));
        p = d->peers + d->n_peers++;
        *p = (WgPeer){};
        memset(p->key, key, sizeof(p->key));
        if (address) {
                ASSERT_TRUE(wg_make_room((void **) &p->allowed, 0, sizeof(*p->allowed)));
                p->allowed[p->n_allowed++] = allowed(address, 32);
        }
        return p;
}

/* RFC 7748, section 6.1: Alice's pair. */
static void test_public_key_of_rfc_7748(void **state) {
        static const uint8_t private_key[WG_KEY_SIZE] = { 0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d,
                0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99,
                0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a };
        static const uint8_t public_key[WG_KEY_SIZE] = { 0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54,
                0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a, 0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a,
                0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a };
        uint8_t key[WG_KEY_SIZE];

        ASSERT_OK(wg_key_public(private_key, key));
        ASSERT_EQ(memcmp(key, public_key, sizeof(key)), 0);
}

static void test_generated_keys_are_clamped_and_differ(void **state) {
        uint8_t a[WG_KEY_SIZE], b[WG_KEY_SIZE];

        for (unsigned i = 0; i < 64; i++) {
                wg_key_generate(a);
                ASSERT_EQ(a[0] & 7, 0);
                ASSERT_EQ(a[31] & 0xc0, 0x40);
        }
        wg_key_generate(b);
        ASSERT_TRUE(memcmp(a, b, sizeof(a)) != 0);
}

static void test_key_text(void **state) {
        static const char *const bad[] = { "", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA ",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
                "AAAAAAAAAAAAAAAAAAAA-AAAAAAAAAAAAAAAAAAAAA_=",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=" };
        uint8_t key[WG_KEY_SIZE], again[WG_KEY_SIZE];
        char text[WG_KEY_STRING_SIZE];

        wg_key_generate(key);
        ASSERT_EQ(strlen(wg_key_to_string(key, text)), WG_KEY_STRING_SIZE - 1);
        ASSERT_OK(wg_key_parse(text, again));
        ASSERT_EQ(memcmp(key, again, sizeof(key)), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ASSERT_ERROR(wg_key_parse(bad[i], again), EINVAL);
        ASSERT_EQ(memcmp(key, again, sizeof(key)), 0);
}

static void test_sort_refuses_what_is_there_twice(void **state) {
        _cleanup_(wg_device_done) WgDevice d = {}, prefixes = {};
        WgPeer *p;

        (void) add(&d, 2, "10.81.0.2");
        (void) add(&d, 1, "10.81.0.1");
        ASSERT_OK(wg_device_sort(&d));
        ASSERT_EQ(d.peers[0].key[0], 1);
        (void) add(&d, 2, "10.81.0.3");
        ASSERT_ERROR(wg_device_sort(&d), EINVAL);

        (void) add(&prefixes, 1, "10.81.0.1");
        p = add(&prefixes, 2, "10.81.0.1");
        ASSERT_ERROR(wg_device_sort(&prefixes), EINVAL);
        /* The same address, narrower: the longer prefix wins, as with routes. */
        p->allowed[0].length = 24;
        ASSERT_OK(wg_device_sort(&prefixes));
}

static void test_change_of_nothing_is_empty(void **state) {
        _cleanup_(wg_device_done) WgDevice is = {}, want = {};
        _cleanup_(wg_change_done) WgChange c = {};

        for (uint8_t i = 1; i < 20; i++) {
                (void) add(&is, i, NULL);
                (void) add(&want, i, NULL);
        }
        ASSERT_OK(wg_device_sort(&is));
        ASSERT_OK(wg_device_sort(&want));
        is.peers[3].rx = 7;
        is.peers[3].handshake = 9;
        ASSERT_OK(wg_change_make(&is, &want, NULL, &c));
        ASSERT_TRUE(wg_change_is_empty(&c));
}

static void test_change_names_what_differs(void **state) {
        _cleanup_(wg_device_done) WgDevice is = {}, want = {};
        _cleanup_(wg_change_done) WgChange c = {};

        (void) add(&is, 1, "10.81.0.1"); /* goes */
        (void) add(&is, 2, "10.81.0.2"); /* stays */
        (void) add(&is, 3, "10.81.0.3"); /* other address */
        (void) add(&is, 4, "10.81.0.4"); /* other preshared key */
        (void) add(&want, 2, "10.81.0.2");
        (void) add(&want, 3, "10.81.0.33");
        add(&want, 4, "10.81.0.4")->preshared[0] = 1;
        (void) add(&want, 5, "10.81.0.5"); /* new */
        want.port = 51820;
        ASSERT_OK(wg_device_sort(&is));
        ASSERT_OK(wg_device_sort(&want));

        ASSERT_OK(wg_change_make(&is, &want, NULL, &c));
        ASSERT_FALSE(wg_change_is_empty(&c));
        ASSERT_TRUE(c.device);
        ASSERT_EQ(c.n_remove, 1);
        ASSERT_EQ(c.remove[0]->key[0], 1);
        ASSERT_EQ(c.n_write, 3);
        for (size_t i = 0; i < 3; i++) {
                ASSERT_EQ(c.write[i]->key[0], i + 3);
                ASSERT_FALSE(c.with_endpoint[i]);
        }
}

static void test_roaming_peer_is_left_where_it_went(void **state) {
        _cleanup_(wg_device_done) WgDevice is = {}, want = {}, told = {};
        WgChange c = {};

        add(&is, 1, NULL)->endpoint = endpoint("192.0.2.99", 4000);
        add(&want, 1, NULL)->endpoint = endpoint("192.0.2.1", 51820);
        add(&told, 1, NULL)->endpoint = endpoint("192.0.2.1", 51820);
        ASSERT_OK(wg_change_make(&is, &want, &told, &c));
        ASSERT_TRUE(wg_change_is_empty(&c));
        wg_change_done(&c);

        /* What we want has changed, or nobody knows what was wanted: it is told. */
        told.peers[0].endpoint = endpoint("192.0.2.2", 51820);
        ASSERT_OK(wg_change_make(&is, &want, &told, &c));
        ASSERT_EQ(c.n_write, 1);
        ASSERT_TRUE(c.with_endpoint[0]);
        wg_change_done(&c);
        ASSERT_OK(wg_change_make(&is, &want, NULL, &c));
        ASSERT_TRUE(c.with_endpoint[0]);
        wg_change_done(&c);

        /* The device was made anew: it knows no endpoint, whatever was told to the one before. */
        told.peers[0].endpoint = want.peers[0].endpoint;
        is.peers[0].endpoint = (WgEndpoint){};
        ASSERT_OK(wg_change_make(&is, &want, &told, &c));
        ASSERT_TRUE(c.with_endpoint[0]);
        wg_change_done(&c);

        /* None is wanted: where it is seen is kept. */
        want.peers[0].endpoint = (WgEndpoint){};
        is.peers[0].endpoint = endpoint("192.0.2.99", 4000);
        ASSERT_OK(wg_change_make(&is, &want, &told, &c));
        ASSERT_TRUE(wg_change_is_empty(&c));
        wg_change_done(&c);
}

KONTENA_TESTS(cmocka_unit_test(test_public_key_of_rfc_7748),
                cmocka_unit_test(test_generated_keys_are_clamped_and_differ),
                cmocka_unit_test(test_key_text), cmocka_unit_test(test_sort_refuses_what_is_there_twice),
                cmocka_unit_test(test_change_of_nothing_is_empty),
                cmocka_unit_test(test_change_names_what_differs),
                cmocka_unit_test(test_roaming_peer_is_left_where_it_went))
