/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "dns.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static int hosts(const char *text, char **ret, KError *e) {
        _cleanup_json_ json_object *o = NULL;
        size_t size;
        int r;

        ASSERT_OK(json_parse(text, strlen(text), 1 << 20, &o, NULL));
        r = dns_hosts_text(o, ret, &size, e);
        if (r >= 0)
                ASSERT_EQ(strlen(*ret), size);
        return r;
}

static void test_hosts_lead_with_the_most_specific_name(void **state) {
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(hosts("{\"web.demo.kontena.local\":[\"10.81.128.6\",\"10.81.128.5\"],\"web-1.demo.kontena."
                        "local\":[\"10.81.128.5\"],"
                        "\"web-1.kontena.local\":[\"10.81.128.5\"],\"web-2.demo.kontena.local\":[\"10.81."
                        "128.6\"]}",
                        &text, NULL));
        ASSERT_STREQ(text,
                        "10.81.128.5 web-1.demo.kontena.local web-1.kontena.local web.demo.kontena.local\n"
                        "10.81.128.6 web-2.demo.kontena.local web.demo.kontena.local\n");
}

static void test_hosts_without_names(void **state) {
        _cleanup_free_ char *text = NULL, *none = NULL, *twice = NULL;
        size_t size;

        ASSERT_OK(hosts("{}", &text, NULL));
        ASSERT_STREQ(text, "");
        ASSERT_OK(dns_hosts_text(NULL, &none, &size, NULL));
        ASSERT_EQ(size, 0);
        ASSERT_OK(hosts("{\"a.kontena.local\":[\"10.81.128.5\",\"10.81.128.5\"],\"b.kontena.local\":[]}",
                        &twice, NULL));
        ASSERT_STREQ(twice, "10.81.128.5 a.kontena.local\n");
}

static void test_hosts_refuse(void **state) {
        static const char *const table[] = {
                "[]",
                "{\"a.kontena.local\":\"10.81.128.5\"}",
                "{\"a.kontena.local\":[5]}",
                "{\"a.kontena.local\":[\"10.81.128\"]}",
                "{\"a.kontena.local\":[\"::1\"]}",
                "{\"a.kontena.local\":[\"10.81.128.5\\n10.81.128.5 bank.example\"]}",
                "{\"a.kontena.local\\n10.81.128.9 b.kontena.local\":[\"10.81.128.5\"]}",
                "{\"a b.kontena.local\":[\"10.81.128.5\"]}",
                "{\"bank.example\":[\"10.81.128.5\"]}",
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_free_ char *text = NULL;

                if (hosts(*t, &text, &e) >= 0)
                        fail_msg("%s was taken", *t);
                ASSERT_TRUE(kerror_is_set(&e));
                ASSERT_TRUE(!text);
        }
}

static void test_names(void **state) {
        char label[80], name[400] = "";

        ASSERT_TRUE(dns_name_is_valid("kontena.local"));
        ASSERT_TRUE(dns_name_is_valid("etcd.kontena.local"));
        ASSERT_TRUE(dns_name_is_valid("my_app-1.demo.kontena.local"));
        ASSERT_FALSE(dns_name_is_valid(""));
        ASSERT_FALSE(dns_name_is_valid(".kontena.local"));
        ASSERT_FALSE(dns_name_is_valid("a..kontena.local"));
        ASSERT_FALSE(dns_name_is_valid("a.kontena.local."));
        ASSERT_FALSE(dns_name_is_valid("akontena.local"));
        ASSERT_FALSE(dns_name_is_valid("a#.kontena.local"));
        ASSERT_FALSE(dns_name_is_valid("a,b.kontena.local"));
        ASSERT_FALSE(dns_name_is_valid("\xc3\xa4.kontena.local"));

        memset(label, 'x', 63);
        label[63] = '\0';
        (void) snprintf(name, sizeof(name), "%s.kontena.local", label);
        ASSERT_TRUE(dns_name_is_valid(name));
        (void) snprintf(name, sizeof(name), "%sx.kontena.local", label);
        ASSERT_FALSE(dns_name_is_valid(name));
        (void) snprintf(name, sizeof(name), "%s.%s.%s.%s.kontena.local", label, label, label, label);
        ASSERT_FALSE(dns_name_is_valid(name));
}

static json_object *many(size_t n_names, size_t n_addresses) {
        json_object *o = json_object_new_object();

        for (size_t i = 0; i < n_names; i++) {
                json_object *l = json_object_new_array();
                char name[64], address[32];

                for (size_t k = 0; k < n_addresses; k++) {
                        (void) snprintf(address, sizeof(address), "10.81.%u.%u",
                                        (unsigned) (128 + k / 256 % 128), (unsigned) (k % 256));
                        ASSERT_OK(json_append_string(l, address));
                }
                (void) snprintf(name, sizeof(name), "n%zu.kontena.local", i);
                ASSERT_OK(json_add(o, name, l));
        }
        return o;
}

static void test_names_are_bounded(void **state) {
        _cleanup_json_ json_object *names = many(DNS_NAMES_MAX + 1, 1),
                                   *records = many(DNS_RECORDS_MAX / 1024 + 1, 1024);
        _cleanup_json_ json_object *fits = many(5000, 2);
        _cleanup_kerror_ KError e = KERROR_NULL;
        char *text = NULL;
        size_t size;

        ASSERT_TRUE(dns_hosts_text(names, &text, &size, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        kerror_done(&e);
        ASSERT_TRUE(dns_hosts_text(records, &text, &size, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        ASSERT_TRUE(!text);
        ASSERT_OK(dns_hosts_text(fits, &text, &size, NULL));
        free(text);
}

static void test_config(void **state) {
        _cleanup_free_ char *text = NULL, *odd = NULL;
        Ipv4Prefix subnet = { .address = 0x0a510000, .length = 16 },
                   other = { .address = 0x0a518000, .length = 23 };

        ASSERT_OK(dns_config_text("/run/kontena/dns", "/etc/resolv.conf", 0x0a510003, &subnet, &text));
        ASSERT_TRUE(strstr(text, "\nlisten-address=10.81.0.3\n"));
        ASSERT_TRUE(strstr(text, "\nhostsdir=/run/kontena/dns/hosts\n"));
        ASSERT_TRUE(strstr(text, "\nlocal=/kontena.local/\n"));
        ASSERT_TRUE(strstr(text, "\nlocal=/81.10.in-addr.arpa/\n"));
        ASSERT_TRUE(strstr(text, "\nresolv-file=/etc/resolv.conf\n"));

        ASSERT_OK(dns_config_text("/run/kontena/dns", "/etc/resolv.conf", 0x0a518001, &other, &odd));
        ASSERT_TRUE(strstr(odd, "\nlocal=/128.81.10.in-addr.arpa/\nlocal=/129.81.10.in-addr.arpa/\n"));
        ASSERT_TRUE(!strstr(odd, "/130.81.10"));
}

KONTENA_TESTS(cmocka_unit_test(test_hosts_lead_with_the_most_specific_name),
                cmocka_unit_test(test_hosts_without_names), cmocka_unit_test(test_hosts_refuse),
                cmocka_unit_test(test_names), cmocka_unit_test(test_names_are_bounded),
                cmocka_unit_test(test_config))
