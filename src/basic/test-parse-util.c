/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "parse-util.h"
#include "test.h"

static void test_numbers_take_the_whole_string(void **state) {
        uint64_t u = 7;
        unsigned v;
        double d;

        ASSERT_OK(safe_atou64("18446744073709551615", &u));
        ASSERT_TRUE(u == UINT64_MAX);
        ASSERT_ERROR(safe_atou64("18446744073709551616", &u), ERANGE);
        ASSERT_ERROR(safe_atou64("", &u), EINVAL);
        ASSERT_ERROR(safe_atou64(" 1", &u), EINVAL);
        ASSERT_ERROR(safe_atou64("-1", &u), EINVAL);
        ASSERT_ERROR(safe_atou64("1x", &u), EINVAL);
        ASSERT_TRUE(u == UINT64_MAX); /* untouched by failures */
        ASSERT_ERROR(safe_atou("4294967296", &v), ERANGE);
        ASSERT_OK(safe_atod("0.8", &d));
        ASSERT_TRUE(d == 0.8);
        ASSERT_ERROR(safe_atod("1e999", &d), ERANGE);
        ASSERT_ERROR(safe_atod("nan", &d), EINVAL);
}

static void test_port_range(void **state) {
        uint16_t p;

        ASSERT_OK(parse_port("65535", &p));
        ASSERT_ERROR(parse_port("0", &p), ERANGE);
        ASSERT_ERROR(parse_port("65536", &p), ERANGE);
}

static void test_sizes(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t value;
        } table[] = {
                { "0", 0, 0 },
                { "64m", 0, 64 << 20 },
                { "1GB", 0, 1 << 30 },
                { "12b", 0, 12 },
                { "5k", 0, 5120 },
                { "1mm", -EINVAL, 0 },
                { "m", -EINVAL, 0 },
                { "-1m", -EINVAL, 0 },
                { "99999999999t", -ERANGE, 0 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                uint64_t v = 0;

                ASSERT_EQ(parse_size(t->text, &v), t->r);
                ASSERT_EQ(v, t->value);
        }
}

static void test_time_spans(void **state) {
        uint64_t v = 0;

        ASSERT_OK(parse_sec("90", &v));
        ASSERT_EQ(v, 90000000);
        ASSERT_OK(parse_sec("1h 30min", &v));
        ASSERT_EQ(v, 5400000000);
        ASSERT_OK(parse_sec("500ms", &v));
        ASSERT_EQ(v, 500000);
        ASSERT_ERROR(parse_sec("", &v), EINVAL);
        ASSERT_ERROR(parse_sec("5 parsecs", &v), EINVAL);
        ASSERT_ERROR(parse_sec("99999999999999d", &v), ERANGE);
}

static void test_prefix_refuses_host_bits(void **state) {
        Ipv4Prefix p;

        ASSERT_OK(parse_ipv4_prefix("10.81.0.0/16", &p));
        ASSERT_EQ(p.address, 0x0a510000);
        ASSERT_EQ(p.length, 16);
        ASSERT_ERROR(parse_ipv4_prefix("10.81.0.1/16", &p), EINVAL);
        ASSERT_ERROR(parse_ipv4_prefix("10.81.0.0/33", &p), ERANGE);
        ASSERT_ERROR(parse_ipv4_prefix("10.81.0.0", &p), EINVAL);
        ASSERT_ERROR(parse_ipv4_prefix("10.81.0/16", &p), EINVAL);
        ASSERT_OK(parse_ipv4_prefix("0.0.0.0/0", &p));
        ASSERT_TRUE(ipv4_prefix_contains(&p, 0xffffffff));
}

static void test_prefix_overlap_is_symmetric(void **state) {
        Ipv4Prefix a, b, c;

        ASSERT_OK(parse_ipv4_prefix("10.80.0.0/12", &a));
        ASSERT_OK(parse_ipv4_prefix("10.81.128.0/25", &b));
        ASSERT_OK(parse_ipv4_prefix("10.96.0.0/12", &c));
        ASSERT_TRUE(ipv4_prefix_overlaps(&a, &b) && ipv4_prefix_overlaps(&b, &a));
        ASSERT_FALSE(ipv4_prefix_overlaps(&a, &c) || ipv4_prefix_overlaps(&c, &b));
}

KONTENA_TESTS(cmocka_unit_test(test_numbers_take_the_whole_string), cmocka_unit_test(test_port_range),
                cmocka_unit_test(test_sizes), cmocka_unit_test(test_time_spans),
                cmocka_unit_test(test_prefix_refuses_host_bits),
                cmocka_unit_test(test_prefix_overlap_is_symmetric))
