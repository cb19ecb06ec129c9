/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dns-names.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"
#include "test.h"

static void assert_names(const char *stack, const char *expected) {
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *joined = NULL;

        ASSERT_OK(dns_names_of_instance("g", stack, "web", 2, &names));
        joined = strv_join(names, " ");
        ASSERT_STREQ(joined, expected);
}

static void test_dns_names_of_reference(void **state) {
        assert_names("shop", "web.shop.g.kontena.local web-2.shop.g.kontena.local");
        assert_names("null",
                        "web.g.kontena.local web-2.g.kontena.local web.kontena.local web-2.kontena.local");
}

static void assert_differences(DnsNames *t, uint64_t since, const char *set, const char *removed) {
        json_object *s = NULL, *r = NULL;

        ASSERT_OK(dns_names_differences(t, since, &s, &r));
        ASSERT_STREQ(s ? json_text(s) : "", set);
        ASSERT_STREQ(r ? json_text(r) : "", removed);
        json_object_put(s);
        json_object_put(r);
}

static uint32_t ip(const char *s) {
        uint32_t a;

        ASSERT_OK(parse_ipv4(s, &a));
        return a;
}

static void test_dns_names_tell_differences(void **state) {
        char *one[] = { (char *) "web", (char *) "web-1", NULL },
             *two[] = { (char *) "web", (char *) "web-2", NULL };
        _cleanup_(dns_names_freep) DnsNames *t = NULL;
        uint64_t v1, v2, v3;

        ASSERT_OK(dns_names_new(&t));
        assert_differences(t, 0, "", "");
        ASSERT_EQ(dns_names_set(t, "b", two, ip("10.0.0.2")), 1);
        v1 = dns_names_version(t);
        ASSERT_EQ(dns_names_set(t, "b", two, ip("10.0.0.2")), 0); /* the same again is nothing new */
        ASSERT_EQ(dns_names_version(t), v1);

        ASSERT_EQ(dns_names_set(t, "a", one, ip("10.0.0.1")), 1);
        v2 = dns_names_version(t);
        assert_differences(t, v1, "{\"web\":[\"10.0.0.1\",\"10.0.0.2\"],\"web-1\":[\"10.0.0.1\"]}", "");
        assert_differences(t, v2, "", "");

        ASSERT_EQ(dns_names_set(t, "b", two, 0), 1);
        v3 = dns_names_version(t);
        assert_differences(t, v2, "{\"web\":[\"10.0.0.1\"]}", "[\"web-2\"]");
        /* Who begins anew is not told of what it never knew. */
        assert_differences(t, 0, "{\"web\":[\"10.0.0.1\"],\"web-1\":[\"10.0.0.1\"]}", "");

        dns_names_prune(t, v2); /* somebody does not know yet */
        assert_differences(t, v2, "{\"web\":[\"10.0.0.1\"]}", "[\"web-2\"]");
        dns_names_prune(t, v3);
        assert_differences(t, v2, "{\"web\":[\"10.0.0.1\"]}", "");
}

static void test_dns_names_follow_an_address(void **state) {
        char *names[] = { (char *) "web", NULL };
        _cleanup_(dns_names_freep) DnsNames *t = NULL;

        ASSERT_OK(dns_names_new(&t));
        ASSERT_EQ(dns_names_set(t, "a", names, ip("10.0.0.1")), 1);
        ASSERT_EQ(dns_names_set(t, "a", names, ip("10.0.0.9")), 1);
        assert_differences(t, 0, "{\"web\":[\"10.0.0.9\"]}", "");
        ASSERT_EQ(dns_names_set(t, "unknown", names, 0), 0);
}

static void test_dns_names_are_bounded(void **state) {
        _cleanup_(dns_names_freep) DnsNames *t = NULL;
        uint64_t version;

        ASSERT_OK(dns_names_new(&t));
        for (uint32_t i = 0; i < DNS_NAMES_MAX; i++) {
                char name[32], *names[] = { name, NULL };

                (void) snprintf(name, sizeof(name), "n%u", i);
                ASSERT_EQ(dns_names_set(t, name, names, i + 1), 1);
        }
        version = dns_names_version(t);
        ASSERT_ERROR(dns_names_set(t, "more", (char *[]){ (char *) "more", NULL }, 7), E2BIG);
        ASSERT_EQ(dns_names_version(t), version);
}

KONTENA_TESTS(cmocka_unit_test(test_dns_names_of_reference),
                cmocka_unit_test(test_dns_names_tell_differences),
                cmocka_unit_test(test_dns_names_follow_an_address),
                cmocka_unit_test(test_dns_names_are_bounded))
