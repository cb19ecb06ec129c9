/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "firewall.h"

#include <sched.h>
#include <stdio.h>

#include "string-util.h"
#include "test.h"

static Overlay overlay = {
        .subnet = { .address = 0x0a510000, .length = 16 },
        .address = 0x0a510003,
        .bridge = "kt-demo",
};

static FirewallRules rules(const Publication *p, size_t n) {
        static const char *const devices[] = { "kt-vx-demo", NULL };
        static const uint16_t ports[] = { OVERLAY_VXLAN_PORT, 0 };
        static const uint32_t peers[] = { 0xac1e000c, 0xac1e000d, 0xac1e000c };

        return (FirewallRules){
                .overlay = &overlay,
                .devices = devices,
                .link_ports = ports,
                .peers = peers,
                .n_peers = ELEMENTSOF(peers),
                .publications = p,
                .n_publications = n,
        };
}

static char id_a[] = "a", id_b[] = "b";

static const Publication web = {
        .id = id_a, .address = 0x0a518005, .port = { .node_port = 8080, .container_port = 80 }
};
static const Publication web_moved = {
        .id = id_b, .address = 0x0a518006, .port = { .node_port = 8080, .container_port = 80 }
};
static const Publication names = { .id = id_a,
        .address = 0x0a518005,
        .port = { .ip = 0xac1e000b, .node_port = 53, .container_port = 53, .protocol = TRANSPORT_UDP } };

static void test_elements(void **state) {
        FirewallRules r = rules((Publication[]){ web, names }, 2);
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *joined = NULL;

        ASSERT_OK(firewall_elements(&r, &l));
        joined = strv_join(l, "|");
        ASSERT_STREQ(joined, "peers 172.30.0.12|peers 172.30.0.13|ports_any tcp . 8080 : 10.81.128.5 . 80|"
                             "ports_ip udp . 172.30.0.11 . 53 : 10.81.128.5 . 53");
}

static void test_a_later_publication_wins(void **state) {
        FirewallRules r = rules((Publication[]){ web, web_moved }, 2);
        _cleanup_strv_free_ char **l = NULL;

        ASSERT_OK(firewall_elements(&r, &l));
        ASSERT_TRUE(strv_contains(l, "ports_any tcp . 8080 : 10.81.128.6 . 80"));
        ASSERT_FALSE(strv_contains(l, "ports_any tcp . 8080 : 10.81.128.5 . 80"));
}

static void test_one_port_is_one_element(void **state) {
        FirewallRules before = rules(&web, 1), after = rules((Publication[]){ web, names }, 2),
                      moved = rules(&web_moved, 1);
        _cleanup_strv_free_ char **a = NULL, **b = NULL, **c = NULL;
        _cleanup_free_ char *add = NULL, *nothing = NULL, *move = NULL;

        ASSERT_OK(firewall_elements(&before, &a));
        ASSERT_OK(firewall_elements(&after, &b));
        ASSERT_OK(firewall_elements(&moved, &c));
        ASSERT_OK(firewall_difference(a, b, &add));
        ASSERT_STREQ(add,
                        "add element inet kontena ports_ip { udp . 172.30.0.11 . 53 : 10.81.128.5 . 53 }\n");
        ASSERT_OK(firewall_difference(b, b, &nothing));
        ASSERT_STREQ(nothing, "");
        ASSERT_OK(firewall_difference(a, c, &move));
        ASSERT_STREQ(move, "delete element inet kontena ports_any { tcp . 8080 }\n"
                           "add element inet kontena ports_any { tcp . 8080 : 10.81.128.6 . 80 }\n");
}

static void test_table(void **state) {
        FirewallRules r = rules(NULL, 0);
        _cleanup_free_ char *text = NULL, *alone = NULL;

        ASSERT_OK(firewall_table_text(&r, &text));
        ASSERT_TRUE(startswith(text, "table inet kontena {}\ndelete table inet kontena\n"));
        ASSERT_TRUE(strstr(text, "udp dport 6784 ip saddr != @peers drop\n"));
        ASSERT_TRUE(strstr(text, "ip saddr 10.81.0.0/16 ip daddr != 10.81.0.0/16 oifname != { \"kt-demo\", "
                                 "\"kt-vx-demo\" } masquerade\n"));

        r.devices = NULL;
        r.link_ports = NULL;
        ASSERT_OK(firewall_table_text(&r, &alone));
        ASSERT_TRUE(!strstr(alone, "6784"));
        ASSERT_TRUE(!strstr(alone, "kt-vx-demo"));
}

static void test_kernel_takes_the_table(void **state) {
        FirewallRules first = rules(&web, 1), second = rules((Publication[]){ web_moved, names }, 2);
        _cleanup_(firewall_freep) Firewall *f = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (unshare(CLONE_NEWNET) < 0) {
                print_message("Skipped: cannot make a network namespace: %s\n", strerror(errno));
                skip();
        }
        ASSERT_OK(firewall_new(NULL, NULL, NULL, &f, NULL));
        ASSERT_EQ(firewall_apply(f, &first, &e), 1);
        ASSERT_EQ(firewall_apply(f, &first, &e), 0);
        ASSERT_OK(firewall_run("get element inet kontena ports_any { tcp . 8080 : 10.81.128.5 . 80 }", &e));
        ASSERT_EQ(firewall_apply(f, &second, &e), 1);
        ASSERT_OK(firewall_run("get element inet kontena ports_any { tcp . 8080 : 10.81.128.6 . 80 }", &e));
        ASSERT_OK(firewall_run(
                        "get element inet kontena ports_ip { udp . 172.30.0.11 . 53 : 10.81.128.5 . 53 }",
                        &e));
        ASSERT_OK(firewall_run("get element inet kontena peers { 172.30.0.13 }", &e));

        /* A new object, as after a restart of the daemon, replaces the whole. */
        f = firewall_free(f);
        ASSERT_OK(firewall_new(NULL, NULL, NULL, &f, NULL));
        ASSERT_EQ(firewall_apply(f, &first, &e), 1);
        ASSERT_TRUE(firewall_run("get element inet kontena ports_ip { udp . 172.30.0.11 . 53 }", NULL) < 0);

        /* Somebody took it away, and nobody watches: the transaction fails, the next one starts afresh. */
        ASSERT_OK(firewall_run("delete table inet kontena", &e));
        ASSERT_TRUE(firewall_apply(f, &second, &e) < 0);
        ASSERT_TRUE(startswith(kerror_message(&e), "Cannot change the firewall rules: Error: "));
        ASSERT_EQ(firewall_apply(f, &second, NULL), 1);
}

static void test_error_is_the_library_s(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_TRUE(firewall_run("add nonsense", &e) < 0);
        ASSERT_EQ(e.code, K_NETWORK);
        ASSERT_TRUE(strstr(kerror_message(&e), "syntax error"));
        ASSERT_TRUE(!strchr(kerror_message(&e), '\n'));
}

KONTENA_TESTS(cmocka_unit_test(test_elements), cmocka_unit_test(test_a_later_publication_wins),
                cmocka_unit_test(test_one_port_is_one_element), cmocka_unit_test(test_table),
                cmocka_unit_test(test_kernel_takes_the_table), cmocka_unit_test(test_error_is_the_library_s))
