/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "rest-field.h"
#include "rest-form.h"
#include "rest-internal.h"
#include "rest-limit.h"
#include "string-util.h"
#include "test.h"
#include "uri.h"

static const RestField statsd_fields[] = {
        { .name = "server", .type = REST_STRING, .flags = REST_REQUIRED },
        { .name = "port", .type = REST_INTEGER, .flags = REST_REQUIRED, .min = 1, .max = 65535 },
        {},
};
static const char *const forwarders[] = { "fluentd", "none", NULL };
static const RestField fields[] = {
        { .name = "name",
                        .type = REST_STRING,
                        .flags = REST_REQUIRED,
                        .min = 3,
                        .max = 8,
                        .pattern = "^[a-z]+$" },
        { .name = "initial_size", .type = REST_INTEGER, .min = 1, .max = 7 },
        { .name = "ratio", .type = REST_NUMBER, .min = 0, .max = 2 },
        { .name = "enabled", .type = REST_BOOLEAN },
        { .name = "env", .type = REST_ARRAY, .element = REST_STRING, .pattern = "^[A-Z]+=", .max = 3 },
        { .name = "hooks", .type = REST_ARRAY, .element = REST_OBJECT, .fields = statsd_fields },
        { .name = "statsd", .type = REST_OBJECT, .fields = statsd_fields },
        { .name = "opts", .type = REST_OBJECT },
        { .name = "forwarder", .type = REST_STRING, .options = forwarders },
        { .name = "value", .type = REST_STRING, .flags = REST_VERBATIM | REST_EMPTY },
        { .name = "owner", .type = REST_STRING, .flags = REST_NULLABLE },
        {},
};

static void check(const char *body, int expected, const char *result) {
        _cleanup_json_ json_object *o = NULL, *checked = NULL;
        int r;

        ASSERT_OK(json_parse(body, strlen(body), SIZE_MAX, &o, NULL));
        r = rest_fields_check(fields, o, &checked);
        ASSERT_OK(r);
        ASSERT_STREQ(json_text(checked), result);
        ASSERT_EQ(r, expected);
}

static void test_fields_take_what_fits(void **state) {
        check("{\"name\":\" web \",\"other\":1}", 0, "{\"name\":\"web\"}");
        check("{\"name\":\"web\",\"initial_size\":\"7\",\"ratio\":1,\"enabled\":\"1\"}", 0,
                        "{\"name\":\"web\",\"initial_size\":7,\"ratio\":1.0,\"enabled\":true}");
        check("{\"name\":\"web\",\"initial_size\":null,\"owner\":null,\"enabled\":\"false\"}", 0,
                        "{\"name\":\"web\",\"enabled\":false,\"owner\":null}");
        check("{\"name\":\"web\",\"env\":[\"A=1\",\"B=\"],\"opts\":{\"x\":{}},\"forwarder\":\"none\"}", 0,
                        "{\"name\":\"web\",\"env\":[\"A=1\",\"B=\"],\"opts\":{\"x\":{}},\"forwarder\":"
                        "\"none\"}");
        check("{\"name\":\"web\",\"value\":\" a\\n\",\"owner\":\"x\\u0001y\\u0000z\"}", 0,
                        "{\"name\":\"web\",\"value\":\" a\\n\",\"owner\":\"x y z\"}");
        check("{\"name\":\"web\\u0015\\u0015\",\"owner\":\"\\u0000 a\\u0001\\u0002\\tb \\u0003\"}", 0,
                        "{\"name\":\"web\",\"owner\":\"a \\tb\"}");
        check("{\"name\":\"web\",\"value\":\"\",\"hooks\":[]}", 0,
                        "{\"name\":\"web\",\"hooks\":[],\"value\":\"\"}");
        check("{\"name\":\"web\",\"value\":true}", 0, "{\"name\":\"web\",\"value\":\"true\"}");
}

static void test_fields_say_what_is_wrong(void **state) {
        check("{}", 1, "{\"name\":\"Name is required\"}");
        check("{\"name\":\"\\u0001 \\u007f\"}", 1, "{\"name\":\"Name can't be blank\"}");
        check("{\"name\":null}", 1, "{\"name\":\"Name can't be nil\"}");
        check("{\"name\":\"  \"}", 1, "{\"name\":\"Name can't be blank\"}");
        check("{\"name\":{}}", 1, "{\"name\":\"Name isn't a string\"}");
        check("{\"name\":\"ab\"}", 1, "{\"name\":\"Name is too short\"}");
        check("{\"name\":\"abcdefghi\"}", 1, "{\"name\":\"Name is too long\"}");
        check("{\"name\":\"UPPER\"}", 1, "{\"name\":\"Name isn't in the right format\"}");
        check("{\"name\":\"web\",\"initial_size\":0}", 1,
                        "{\"initial_size\":\"Initial Size is too small\"}");
        check("{\"name\":\"web\",\"initial_size\":8}", 1, "{\"initial_size\":\"Initial Size is too big\"}");
        check("{\"name\":\"web\",\"initial_size\":1.5}", 1,
                        "{\"initial_size\":\"Initial Size isn't an integer\"}");
        check("{\"name\":\"web\",\"ratio\":\"x\"}", 1, "{\"ratio\":\"Ratio is invalid\"}");
        check("{\"name\":\"web\",\"enabled\":2}", 1, "{\"enabled\":\"Enabled isn't a boolean\"}");
        check("{\"name\":\"web\",\"env\":\"x\"}", 1, "{\"env\":\"Env isn't an array\"}");
        check("{\"name\":\"web\",\"env\":[\"A=\",\"b\",\"C=\"]}", 1,
                        "{\"env\":[null,\"Env[1] isn't in the right format\",null]}");
        check("{\"name\":\"web\",\"env\":[\"A=\",\"B=\",\"C=\",\"D=\"]}", 1,
                        "{\"env\":\"Env is too long\"}");
        check("{\"name\":\"web\",\"env\":[null]}", 1, "{\"env\":[\"Env[0] can't be nil\"]}");
        check("{\"name\":\"web\",\"hooks\":[{\"server\":\"a\",\"port\":1},{\"port\":0}]}", 1,
                        "{\"hooks\":[null,{\"server\":\"Server is required\",\"port\":\"Port is too "
                        "small\"}]}");
        check("{\"name\":\"web\",\"statsd\":{\"server\":\"a\"}}", 1,
                        "{\"statsd\":{\"port\":\"Port is required\"}}");
        check("{\"name\":\"web\",\"opts\":[]}", 1, "{\"opts\":\"Opts isn't a hash\"}");
        check("{\"name\":\"web\",\"forwarder\":\"syslog\"}", 1,
                        "{\"forwarder\":\"Forwarder isn't an option\"}");
        check("{\"name\":\"web\",\"value\":\"a\\u0000b\"}", 1, "{\"value\":\"Value is invalid\"}");
}

/* A list of a million wrong entries gets no answer of a hundred megabytes. */
static void test_field_errors_are_bounded(void **state) {
        static const RestField list[] = {
                { .name = "l", .type = REST_ARRAY, .element = REST_INTEGER },
                {},
        };
        _cleanup_json_ json_object *o = json_object_new_object(), *checked = NULL;
        json_object *l = json_object_new_array();

        for (unsigned i = 0; i < 100000; i++)
                ASSERT_OK(json_append_string(l, "x"));
        ASSERT_OK(json_add(o, "l", l));
        ASSERT_EQ(rest_fields_check(list, o, &checked), 1);
        ASSERT_TRUE(strlen(json_text(checked)) < 1024 * 1024);
}

static void form(const char *text, const char *result) {
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(rest_form_parse(text, strlen(text), &o, NULL));
        ASSERT_STREQ(json_text(o), result);
}

static void test_forms(void **state) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *many = NULL, *escaped = NULL;

        form("", "{}");
        form("a=1&b=two%20w+x&c&=&&d=%c3%a4",
                        "{\"a\":\"1\",\"b\":\"two w x\",\"c\":\"\",\"\":\"\",\"d\":\"ä\"}");
        form("a=1&a=2", "{\"a\":\"1\"}");
        ASSERT_ERROR(rest_form_parse("a=%", 3, &o, NULL), EINVAL);
        ASSERT_ERROR(rest_form_parse("a=%4", 4, &o, NULL), EINVAL);
        ASSERT_ERROR(rest_form_parse("a=%zz", 5, &o, NULL), EINVAL);
        ASSERT_ERROR(rest_form_parse("a=%00", 5, &o, NULL), EINVAL);
        ASSERT_ERROR(rest_form_parse("a=%ff", 5, &o, NULL), EINVAL);
        ASSERT_ERROR(rest_form_parse("a=%c0%af", 8, &o, NULL), EINVAL);

        many = malloc((REST_FORM_VALUES_MAX + 1) * 2 + 1);
        ASSERT_TRUE(many);
        for (unsigned i = 0; i <= REST_FORM_VALUES_MAX; i++)
                memcpy(many + i * 2, "a&", 3);
        ASSERT_ERROR(rest_form_parse(many, strlen(many), &o, NULL), E2BIG);

        escaped = uri_escape("a b/ä~");
        ASSERT_STREQ(escaped, "a%20b%2F%C3%A4~");
}

static void test_limit_counts_by_name(void **state) {
        _cleanup_(rest_limit_freep) RestLimit *l = NULL;
        uint64_t now = 1000 * USEC_PER_SEC;

        ASSERT_OK(rest_limit_new(3, &l));
        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(rest_limit_take(l, "a", now));
        ASSERT_ERROR(rest_limit_take(l, "a", now), EBUSY);
        ASSERT_OK(rest_limit_take(l, "b", now));
        ASSERT_ERROR(rest_limit_take(l, "a", now + 59 * USEC_PER_SEC), EBUSY);
        ASSERT_OK(rest_limit_take(l, "a", now + 60 * USEC_PER_SEC));
}

static void test_limit_memory_is_bounded(void **state) {
        _cleanup_(rest_limit_freep) RestLimit *l = NULL;
        uint64_t now = 1000 * USEC_PER_SEC;
        unsigned refused = 0;

        ASSERT_OK(rest_limit_new(2, &l));
        ASSERT_OK(rest_limit_take(l, "known", now));
        for (unsigned i = 0; i < REST_LOGINS_REMEMBERED_MAX + 100; i++) {
                _cleanup_free_ char *name = strprintf("address %u", i);

                refused += rest_limit_take(l, name, now) < 0;
        }
        /* Strangers share one count, the known keep theirs; later all is as before. */
        ASSERT_EQ(refused, 101 - 2);
        ASSERT_OK(rest_limit_take(l, "known", now));
        ASSERT_OK(rest_limit_take(l, "stranger", now + 61 * USEC_PER_SEC));
}

static void test_limit_takes_ipv6_customers_together(void **state) {
        _cleanup_free_ char *a = rest_limit_address("2001:db8::1:2:3:4"),
                            *b = rest_limit_address("192.0.2.1");

        ASSERT_STREQ(a, "2001:db8::/64");
        ASSERT_STREQ(b, "192.0.2.1");
}

/* Else all of IPv4 were one customer of IPv6, and one address several. */
static void test_addresses_have_one_form(void **state) {
        static const char *const good[][2] = {
                { "192.0.2.1", "192.0.2.1" },
                { "::ffff:192.0.2.1", "192.0.2.1" },
                { "::FFFF:c000:201", "192.0.2.1" },
                { "0:0:0:0:0:ffff:c000:0201", "192.0.2.1" },
                { "2001:DB8:0::0001", "2001:db8::1" },
        };
        static const char *const bad[] = { "", "192.0.2", "192.0.2.1:80", "[2001:db8::1]", "fe80::1%eth0",
                "unknown", "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000" };

        FOREACH_ARRAY(g, good, ELEMENTSOF(good)) {
                _cleanup_free_ char *s = NULL;

                ASSERT_OK(rest_address_normalize((*g)[0], strlen((*g)[0]), &s));
                ASSERT_STREQ(s, (*g)[1]);
        }
        FOREACH_ARRAY(b, bad, ELEMENTSOF(bad)) {
                char *s = NULL;

                ASSERT_ERROR(rest_address_normalize(*b, strlen(*b), &s), EINVAL);
        }
}

static void test_times(void **state) {
        static const struct {
                const char *text;
                uint64_t usec;
        } good[] = {
                { "2017-08-01T12:00:00.000Z", 1501588800000000 },
                { "2017-08-01T12:00:00Z", 1501588800000000 },
                { "2017-08-01 12:00:00 UTC", 0 },
                { "2017-08-01T14:00:00.25+02:00", 1501588800250000 },
                { "2017-08-01T07:30:00-0430", 1501588800000000 },
                { "2017-08-01", 1501545600000000 },
                { "2017-08-01T12:00", 1501588800000000 },
        };
        static const char *const bad[] = { "", "x", "2017", "2017-13-01", "2017-08-32", "2017-08-01T",
                "2017-08-01T25:00", "2017-08-01T12:00:00.Z", "2017-08-01T12:00:00Zx", "2017-08-01T12:00:00+",
                "1969-01-01" };
        uint64_t usec;

        FOREACH_ARRAY(t, good, ELEMENTSOF(good)) {
                if (t->usec == 0) {
                        ASSERT_ERROR(rest_parse_time(t->text, &usec), EINVAL);
                        continue;
                }
                ASSERT_OK(rest_parse_time(t->text, &usec));
                ASSERT_EQ(usec, t->usec);
        }
        FOREACH_ARRAY(t, bad, ELEMENTSOF(bad))
                ASSERT_ERROR(rest_parse_time(*t, &usec), EINVAL);

        _cleanup_free_ char *text = rest_format_time(1501588800123456);
        ASSERT_STREQ(text, "2017-08-01T12:00:00.123Z");
}

/* Each operation that a route names exists, each pattern is one, each route can be reached. */
static void test_routes_are_sound(void **state) {
        const RestRoute *a, *b;

        for (size_t i = 0; (a = rest_route_by_index(i)); i++) {
                ASSERT_TRUE(a->handler && a->summary && a->pattern[0] == '/');
                if (a->operation && !operation_find(a->operation))
                        fail_msg("%s names the operation %s, which there is not", a->pattern, a->operation);
                for (size_t k = 0; k < i; k++) {
                        b = rest_route_by_index(k);
                        ASSERT_FALSE(streq(a->pattern, b->pattern) && streq_ptr(a->method, b->method));
                }
        }
}

KONTENA_TESTS(cmocka_unit_test(test_fields_take_what_fits), cmocka_unit_test(test_fields_say_what_is_wrong),
                cmocka_unit_test(test_field_errors_are_bounded), cmocka_unit_test(test_forms),
                cmocka_unit_test(test_limit_counts_by_name), cmocka_unit_test(test_limit_memory_is_bounded),
                cmocka_unit_test(test_limit_takes_ipv6_customers_together),
                cmocka_unit_test(test_addresses_have_one_form), cmocka_unit_test(test_times),
                cmocka_unit_test(test_routes_are_sound))
