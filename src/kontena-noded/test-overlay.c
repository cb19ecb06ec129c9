/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlay.h"

#include <arpa/inet.h>

#include <stdio.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static json_object *json(const char *format, ...) _printf_(1, 2);
static json_object *json(const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        json_object *o = NULL;
        va_list ap;

        va_start(ap, format);
        text = strvprintf(format, ap);
        va_end(ap);
        ASSERT_OK(json_parse(text, strlen(text), 1 << 20, &o, NULL));
        return o;
}

#define NODE                                                                                                \
        "{\"name\":\"node1\",\"number\":1,\"overlay_address\":\"10.81.0.1\",\"blocks\":[\"10.81.128.0/"     \
        "25\"]}"
#define GRID "{\"id\":\"g1\",\"name\":\"demo\",\"subnet\":\"10.81.0.0/16\"}"

static int parse(const char *node, const char *grid, Overlay **ret, KError *e) {
        _cleanup_json_ json_object *n = json("%s", node), *g = json("%s", grid);

        return overlay_parse(n, g, ret, e);
}

static void test_device_names(void **state) {
        static const struct {
                const char *prefix, *grid, *name;
        } table[] = {
                { "kt-", "demo", "kt-demo" },
                { "kt-", "twelve-bytes", "kt-twelve-bytes" },
                { "kt-vx-", "demo", "kt-vx-demo" },
                { "kt-vx-", "nine-char", "kt-vx-nine-char" },
        };
        char name[IFNAMSIZ], other[IFNAMSIZ];

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                overlay_device_name(t->prefix, t->grid, name);
                ASSERT_STREQ(name, t->name);
        }

        /* The hash is part of what nodes of all releases agree on: these values never change. */
        overlay_device_name("kt-", "a-grid-with-a-long-name", name);
        ASSERT_STREQ(name, "kt-a-grid-c1b1f");
        overlay_device_name("kt-", "a-grid-with-a-long-name2", other);
        ASSERT_TRUE(!streq(name, other));
        ASSERT_EQ(strlen(name), IFNAMSIZ - 1);
        overlay_device_name("kt-vx-", "a-grid-with-a-long-name", other);
        ASSERT_EQ(strlen(other), IFNAMSIZ - 1);

        /* The bridge and the VXLAN device of one grid never share a name. */
        overlay_device_name("kt-", "vx-vx-this-is-meant-to-collide", name);
        overlay_device_name("kt-vx-", "vx-vx-this-is-meant-to-collide", other);
        ASSERT_TRUE(!streq(name, other));

        overlay_veth_name("instance-1", name);
        ASSERT_EQ(strlen(name), 14);
        ASSERT_TRUE(startswith(name, "kt"));
}

static void test_derived_addresses(void **state) {
        uint8_t a[MAC_SIZE], b[MAC_SIZE];

        overlay_mac(MAC_VXLAN, "5f2c8a", 3, a);
        ASSERT_STREQ(MAC_TO_STRING(a), "02:67:09:f1:00:03");
        overlay_mac(MAC_VXLAN, "5f2c8a", 254, b);
        ASSERT_EQ(b[5], 254);
        ASSERT_EQ(memcmp(a, b, 5), 0);
        overlay_mac(MAC_VXLAN, "5f2c8b", 3, b);
        ASSERT_TRUE(memcmp(a, b, MAC_SIZE) != 0);
        /* Locally administered, not multicast. */
        ASSERT_EQ(a[0] & 3, 2);
        overlay_mac(MAC_BRIDGE, "5f2c8a", 3, b);
        ASSERT_EQ(b[0] & 3, 2);
        overlay_instance_mac(0x0a518005, b);
        ASSERT_STREQ(MAC_TO_STRING(b), "0a:4b:0a:51:80:05");

        ASSERT_TRUE(overlay_vni("5f2c8a") > 0 && overlay_vni("5f2c8a") < 1U << 24);
        ASSERT_TRUE(overlay_vni("5f2c8a") != overlay_vni("5f2c8b"));
}

static void test_instance_ids(void **state) {
        ASSERT_TRUE(instance_id_is_valid("01hd7s9k2m4p6q8r0t2v4w6x8y"));
        ASSERT_FALSE(instance_id_is_valid(""));
        ASSERT_FALSE(instance_id_is_valid(NULL));
        ASSERT_FALSE(instance_id_is_valid("../../etc"));
        ASSERT_FALSE(instance_id_is_valid("a/b"));
        ASSERT_FALSE(instance_id_is_valid("a b"));
        ASSERT_FALSE(instance_id_is_valid("-rf"));
        ASSERT_TRUE(instance_id_is_valid(
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
        ASSERT_FALSE(instance_id_is_valid(
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

static void test_overlay_parse(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL, *p = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_OK(parse(NODE, GRID, &o, &e));
        ASSERT_STREQ(o->bridge, "kt-demo");
        ASSERT_STREQ(o->alias, "kontena grid demo");
        ASSERT_EQ(o->address, 0x0a510001);
        ASSERT_EQ(o->n_blocks, 1);
        ASSERT_TRUE(overlay_find_block(o, 0x0a518005) == &o->blocks[0]);
        ASSERT_TRUE(!overlay_find_block(o, 0x0a518085));
        ASSERT_OK(parse(NODE, GRID, &p, &e));
        ASSERT_TRUE(overlay_equal(o, p));
        p->blocks[0].length = 26;
        ASSERT_FALSE(overlay_equal(o, p));
}

static void test_overlay_refuses(void **state) {
        static const struct {
                const char *node, *grid, *in_message;
        } table[] = {
                { "{}", GRID, "number" },
                { "{\"number\":0,\"overlay_address\":\"10.81.0.1\"}", GRID, "number" },
                { "{\"number\":255,\"overlay_address\":\"10.81.0.1\"}", GRID, "254" },
                { "{\"number\":1}", GRID, "overlay_address" },
                { "{\"number\":1,\"overlay_address\":\"192.0.2.1\"}", GRID, "not in the grid's subnet" },
                { "{\"number\":1,\"overlay_address\":\"10.81.0.1\",\"blocks\":[\"10.82.0.0/25\"]}", GRID,
                                "10.82.0.0/25" },
                { "{\"number\":1,\"overlay_address\":\"10.81.0.1\",\"blocks\":[\"10.0.0.0/8\"]}", GRID,
                                "10.0.0.0/8" },
                { "{\"number\":1,\"overlay_address\":\"10.81.0.1\",\"blocks\":[\"all\"]}", GRID, "'all'" },
                { NODE, "{\"id\":\"g\",\"name\":\"demo\",\"subnet\":\"10.81.0.0\"}", "subnet" },
                { NODE, "{\"id\":\"g\",\"name\":\"../x\",\"subnet\":\"10.81.0.0/16\"}", "name of a grid" },
                { NODE, "{\"name\":\"demo\",\"subnet\":\"10.81.0.0/16\"}", "'id'" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                Overlay *o = NULL;

                if (parse(t->node, t->grid, &o, &e) >= 0 || !strstr(kerror_message(&e), t->in_message))
                        fail_msg("%s with %s: %s", t->node, t->grid, kerror_message(&e));
                ASSERT_TRUE(!o);
        }
}

static void test_blocks_are_bounded(void **state) {
        _cleanup_json_ json_object *node = json(NODE), *grid = json(GRID), *blocks = json_object_new_array();
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        for (unsigned i = 0; i <= BLOCKS_PER_NODE_MAX; i++)
                ASSERT_OK(json_append_string(blocks, "10.81.128.0/25"));
        ASSERT_OK(json_add(node, "blocks", TAKE_PTR(blocks)));
        ASSERT_TRUE(overlay_parse(node, grid, &o, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
}

#define PEER(name, number, more)                                                                            \
        "{\"name\":\"" name "\",\"number\":" #number ",\"overlay_address\":\"10.81.0." #number              \
        "\",\"private_address\":\"172.30.0.12\"" more "}"

static void test_peers_parse(void **state) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_json_ json_object *j = NULL;
        Peer *peers;
        size_t n;

        ASSERT_OK(parse(NODE, GRID, &o, NULL));
        j = json("{\"b\":%s,\"a\":%s}", PEER("three", 3, ",\"mtu\":9000"),
                        PEER("two", 2, ",\"link\":\"wireguard\""));
        ASSERT_OK(peers_parse(o, j, &peers, &n, &e));
        ASSERT_EQ(n, 2);
        ASSERT_STREQ(peers[0].name, "two");
        ASSERT_STREQ(peers[0].link, "wireguard");
        ASSERT_EQ(peers[1].mtu, 9000);
        ASSERT_STREQ(peers[1].link, "vxlan");
        ASSERT_EQ(peers[1].underlay, 0xac1e000c);
        peers_free(peers, n);

        ASSERT_OK(peers_parse(o, NULL, &peers, &n, &e));
        ASSERT_EQ(n, 0);
        peers_free(peers, n);
}

static void test_peers_refuse_a_taken_number(void **state) {
        _cleanup_json_ json_object *own = json("{\"a\":%s}", PEER("one", 1, "")),
                                   *twice = json("{\"a\":%s,\"b\":%s}", PEER("x", 2, ""), PEER("y", 2, ""));
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        Peer *peers = NULL;
        size_t n;

        ASSERT_OK(parse(NODE, GRID, &o, NULL));
        ASSERT_TRUE(peers_parse(o, own, &peers, &n, &e) < 0);
        ASSERT_TRUE(strstr(kerror_message(&e), "the node number 1 is taken"));
        ASSERT_TRUE(peers_parse(o, twice, &peers, &n, NULL) < 0);
        ASSERT_TRUE(!peers);
}

#define KEY_A "\"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\""
#define KEY_B "\"YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=\""

static int parse_one(const char *more, Peer *ret) {
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_json_ json_object *j = json("{\"n2\":{\"name\":\"two\",\"number\":2,\"overlay_address\":"
                                             "\"10.81.0.2\",%s}}",
                        more);
        Peer *peers;
        size_t n;
        int r;

        ASSERT_OK(parse(NODE, GRID, &o, NULL));
        r = peers_parse(o, j, &peers, &n, NULL);
        if (r < 0)
                return r;
        ASSERT_EQ(n, 1);
        *ret = peers[0];
        free(peers);
        return 0;
}

static void one_done(Peer *p) {
        Peer *l = new0(Peer, 1);

        *l = *p;
        peers_free(l, 1);
}

static void test_peers_keys(void **state) {
        Peer p = {};

        ASSERT_OK(parse_one("\"wireguard\":[{\"generation\":1,\"port\":51820,\"key\":" KEY_A
                            "},{\"generation\":2,\"port\":51821,\"key\":" KEY_B "}]",
                        &p));
        ASSERT_STREQ(p.id, "n2");
        ASSERT_EQ(p.n_keys, 2);
        ASSERT_EQ(p.keys[0].generation, 2);
        ASSERT_EQ(p.keys[0].port, 51821);
        ASSERT_EQ(p.keys[0].key[31], 'b');
        ASSERT_EQ(p.keys[1].key[0], 'a');
        one_done(&p);
        ASSERT_OK(parse_one("\"wireguard\":null", &p));
        ASSERT_EQ(p.n_keys, 0);
        one_done(&p);
}

static void test_peers_keys_are_refused(void **state) {
        static const char *const lists[] = {
                "5",
                "[5]",
                "[{}]",
                "[{\"generation\":0,\"port\":1,\"key\":" KEY_A "}]",
                "[{\"generation\":4294967296,\"port\":1,\"key\":" KEY_A "}]",
                "[{\"generation\":1,\"port\":0,\"key\":" KEY_A "}]",
                "[{\"generation\":1,\"port\":65536,\"key\":" KEY_A "}]",
                "[{\"generation\":1,\"port\":1,\"key\":\"YWFh\"}]",
                "[{\"generation\":1,\"port\":1,\"key\":\"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWF=\"}]",
                "[{\"generation\":1,\"port\":1,\"key\":" KEY_A
                "},{\"generation\":1,\"port\":1,\"key\":" KEY_B "}]",
                "[{\"generation\":1,\"port\":1,\"key\":" KEY_A
                "},{\"generation\":2,\"port\":1,\"key\":" KEY_B
                "},{\"generation\":3,\"port\":1,\"key\":" KEY_B "}]",
        };

        FOREACH_ARRAY(l, lists, ELEMENTSOF(lists)) {
                _cleanup_free_ char *more = strjoin("\"wireguard\":", *l);
                Peer p;

                if (parse_one(more, &p) >= 0)
                        fail_msg("Taken: %s", *l);
        }
}

/* The order in which its machine is looked for. */
static void test_peers_addresses(void **state) {
        static const struct {
                const char *more, *first, *second, *third;
        } table[] = {
                { "\"private_address\":\"10.0.0.2\",\"public_address\":\"192.0.2.2\",\"observed_address\":"
                  "\"2001:db8::2\"",
                                "10.0.0.2", "192.0.2.2", "2001:db8::2" },
                { "\"region\":\"other\",\"private_address\":\"10.0.0.2\",\"public_address\":\"192.0.2.2\","
                  "\"observed_address\":\"192.0.2.3\"",
                                "192.0.2.2", "192.0.2.3", "10.0.0.2" },
                { "\"private_address\":\"10.0.0.2\",\"public_address\":\"10.0.0.2\",\"observed_address\":"
                  "\"10.0.0.2\"",
                                "10.0.0.2" },
                /* In the grid's own subnet. */
                { "\"private_address\":\"10.0.0.2\",\"observed_address\":\"10.81.5.5\"", "10.0.0.2" },
                { "\"region\":null" },
        };
        Peer p;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                const char *const want[] = { t->first, t->second, t->third };
                size_t n = 0;

                ASSERT_OK(parse_one(t->more, &p));
                for (; n < ELEMENTSOF(want) && want[n]; n++) {
                        char text[INET6_ADDRSTRLEN];

                        ASSERT_TRUE(n < p.n_addresses);
                        (void) inet_ntop(p.addresses[n].sa.sa_family,
                                        p.addresses[n].sa.sa_family == AF_INET6
                                                        ? (void *) &p.addresses[n].in6.sin6_addr
                                                        : (void *) &p.addresses[n].in.sin_addr,
                                        text, sizeof(text));
                        ASSERT_STREQ(text, want[n]);
                }
                ASSERT_EQ(p.n_addresses, n);
                one_done(&p);
        }
        ASSERT_TRUE(parse_one("\"observed_address\":\"here\"", &p) < 0);
}

KONTENA_TESTS(cmocka_unit_test(test_device_names), cmocka_unit_test(test_derived_addresses),
                cmocka_unit_test(test_instance_ids), cmocka_unit_test(test_overlay_parse),
                cmocka_unit_test(test_overlay_refuses), cmocka_unit_test(test_blocks_are_bounded),
                cmocka_unit_test(test_peers_parse), cmocka_unit_test(test_peers_keys),
                cmocka_unit_test(test_peers_keys_are_refused), cmocka_unit_test(test_peers_addresses),
                cmocka_unit_test(test_peers_refuse_a_taken_number))
