/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include "json-util.h"
#include "rest-service-body.h"
#include "service-spec.h"
#include "string-util.h"

static json_object *json(const char *text) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 1024 * 1024, &o, NULL));
        return o;
}

static void check(const char *body, bool create, const char *expected) {
        _cleanup_json_ json_object *b = json(body), *e = json(expected), *o = NULL, *refused = NULL;
        int r;

        r = rest_service_body_translate(b, create, &o, &refused);
        if (r != 0)
                fail_msg("%s is refused: %s", body, refused ? json_text(refused) : strerror(-r));
        if (!json_object_equal(o, e))
                fail_msg("%s becomes %s, not %s", body, json_text(o), expected);
}

static void check_refused(const char *body, const char *expected) {
        _cleanup_json_ json_object *b = json(body), *e = json(expected), *o = NULL, *refused = NULL;

        ASSERT_EQ(rest_service_body_translate(b, true, &o, &refused), 1);
        if (!json_object_equal(refused, e))
                fail_msg("%s is refused with %s, not %s", body, json_text(refused), expected);
}

static void test_create(void **state) {
        check("{\"name\":\"web\",\"image\":\"nginx:latest\",\"stateful\":false,\"secrets\":[],\"log_opts\":{"
              "},"
              "\"privileged\":false,\"read_only\":false}",
                        true,
                        "{\"image\":\"nginx:latest\",\"stateful\":false,\"secrets\":[],\"privileged\":false,"
                        "\"read_only\":false}");
        check("{\"image\":\"a\",\"container_count\":2,\"cmd\":[\"a b\"],\"entrypoint\":\"sh -c 'a b' "
              "\\\"c\\\\\\\"d\\\" "
              "e\\\\ f\",\"env\":[\"A=1\"]}",
                        true,
                        "{\"image\":\"a\",\"count\":2,\"cmd\":[\"a b\"],\"entrypoint\":[\"sh\",\"-c\",\"a "
                        "b\","
                        "\"c\\\"d\",\"e f\"],\"env\":[\"A=1\"]}");
        check("{\"instances\":3,\"container_count\":2}", true, "{\"count\":3}");
        check("{\"links\":[{\"name\":\"db\",\"alias\":\"db\"},{\"name\":\"shop/api\",\"alias\":\"api\"},"
              "{\"name\":\"shop/x\",\"alias\":\"shop/x\"}]}",
                        true, "{\"links\":[\"db\",\"shop/api\",\"shop/x\"]}");
        check("{\"secrets\":[{\"secret\":\"a\",\"name\":\"A\",\"type\":null},{\"secret\":\"b\",\"name\":"
              "\"b\","
              "\"type\":\"file\"}]}",
                        true,
                        "{\"secrets\":[{\"secret\":\"a\",\"name\":\"A\",\"type\":\"env\"},{\"secret\":\"b\","
                        "\"name\":\"b\",\"type\":\"file\"}]}");
        check("{\"deploy_opts\":{\"wait_for_port\":null,\"min_health\":0.5,\"interval\":60}}", true,
                        "{\"min_health\":0.5,\"interval\":60}");
        check("{\"health_check\":{\"port\":80,\"protocol\":\"tcp\",\"uri\":\"/x\",\"timeout\":5}}", true,
                        "{\"health_check\":{\"port\":80,\"protocol\":\"tcp\",\"timeout\":5}}");
        check("{\"health_check\":{\"port\":null,\"protocol\":null}}", true, "{}");
        check("{\"stop_grace_period\":\"1m30s\",\"stop_signal\":\"sigint\",\"net\":\"host\",\"pid\":"
              "\"host\"}",
                        true,
                        "{\"stop_grace_period\":90,\"stop_signal\":\"SIGINT\",\"net\":\"host\",\"pid\":"
                        "\"host\"}");
        /* null is as if it were not there; what nobody knows is left out */
        check("{\"image\":\"a\",\"env\":null,\"links\":null,\"volumes_from\":[],\"certificates\":[],\"log_"
              "driver\":null,"
              "\"wings\":2}",
                        true, "{\"image\":\"a\"}");
}

static void test_update(void **state) {
        check("{\"name\":\"x\",\"stateful\":true,\"entrypoint\":\"a\",\"pid\":\"host\",\"image\":\"b\"}",
                        false, "{\"image\":\"b\"}");
        check("{\"deploy_opts\":{\"wait_for_port\":null}}", false, "{\"wait_for_port\":null}");
        check("{\"health_check\":{\"port\":null,\"protocol\":null}}", false, "{\"health_check\":null}");
        check("{\"links\":[]}", false, "{\"links\":[]}");
}

static void test_refusals(void **state) {
        check_refused("{\"net\":\"container:x\"}",
                        "{\"net\":\"Net is bridge or host; another container's is not supported\"}");
        check_refused("{\"certificates\":[{\"subject\":\"a.test\",\"name\":\"A\"}]}",
                        "{\"certificates\":[\"Certificate a.test does not exist\"]}");
        check_refused("{\"stateful\":true,\"volumes_from\":[\"x-1\"]}",
                        "{\"volumes_from\":\"Cannot combine stateful & volumes_from\"}");
        check_refused("{\"log_driver\":\"syslog\",\"log_opts\":{\"a\":\"b\"}}",
                        "{\"log_driver\":\"Log Driver is not supported: output goes to the journal of the "
                        "node\","
                        "\"log_opts\":\"Log Opts are not supported: output goes to the journal of the "
                        "node\"}");
        check_refused("{\"links\":[{\"name\":\"db\",\"alias\":\"mysql\"}]}",
                        "{\"links\":[\"Link db cannot have the alias mysql: services are found by their own "
                        "names\"]}");
        check_refused("{\"stop_grace_period\":\"10\"}",
                        "{\"stop_grace_period\":\"Stop Grace Period isn't in the right format\"}");
}

static void test_grace_periods(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t seconds;
        } table[] = {
                { "10s", 0, 10 },
                { "1m30s", 0, 90 },
                { "2h", 0, 7200 },
                { "1.5h", 0, 5400 },
                { "0.5s", 0, 1 },
                { "0s", 0, 0 },
                { "", -EINVAL, 0 },
                { "10", -EINVAL, 0 },
                { "s", -EINVAL, 0 },
                { "1d", -EINVAL, 0 },
                { "-1s", -EINVAL, 0 },
                { "1 m", -EINVAL, 0 },
                { "1.s", -EINVAL, 0 },
                { "1..5s", -EINVAL, 0 },
                { ".5s", 0, 1 },
                { "1m3", -EINVAL, 0 },
                { "99999999h", -ERANGE, 0 },
                { "9999h9999h", -ERANGE, 0 },
        };

        FOREACH_ARRAY(row, table, ELEMENTSOF(table)) {
                uint64_t seconds = 0;
                int r = rest_parse_grace_period(row->text, &seconds);

                if (r != row->r || seconds != row->seconds)
                        fail_msg("'%s' gives %i and %llu", row->text, r, (unsigned long long) seconds);
        }
}

/* What the settings refuse is told at the field that the reference has for it. */
static void test_error_fields(void **state) {
        static const struct {
                const char *body, *field;
        } table[] = {
                { "{\"image\":\"UPPER\"}", "image" },
                { "{\"image\":\"a\",\"env\":[\"=x\"]}", "env" },
                { "{\"image\":\"a\",\"affinity\":[\"what\"]}", "affinity" },
                { "{\"image\":\"a\",\"volumes\":[\"x\"]}", "volumes" },
                { "{\"image\":\"a\",\"volumes\":[\"/a:b\"]}", "volumes" },
                { "{\"image\":\"a\",\"cap_add\":[\"FLY\"]}", "cap_add" },
                { "{\"image\":\"a\",\"instances\":100000}", "instances" },
                { "{\"image\":\"a\",\"stop_signal\":\"SIGWHAT\"}", "stop_signal" },
                { "{\"image\":\"a\",\"memory\":1}", "memory" },
                { "{\"image\":\"a\",\"memory\":67108864,\"memory_swap\":8388608}", "memory_swap" },
                { "{\"image\":\"a\",\"cpus\":-1}", "cpus" },
                { "{\"image\":\"a\",\"pid\":\"x\"}", "pid" },
                { "{\"image\":\"a\",\"links\":[{\"name\":\"a/b/c\",\"alias\":\"a/b/c\"}]}", "links" },
                { "{\"image\":\"a\",\"devices\":[\"x\"]}", "devices" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":80,\"container_port\":80},{\"node_port\":80,"
                  "\"container_port\":81}]}",
                                "ports" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":80,\"container_port\":80,\"protocol\":"
                  "\"dccp\"}]}",
                                "ports" },
                { "{\"image\":\"a\",\"secrets\":[{\"secret\":\"x\",\"name\":\"1=\"}]}", "secrets" },
                { "{\"image\":\"a\",\"hooks\":{\"pre_start\":[{\"name\":\"a\",\"cmd\":\"\",\"instances\":\"*"
                  "\"}]}}",
                                "hooks" },
                { "{\"image\":\"a\",\"health_check\":{\"protocol\":\"http\",\"port\":80,\"interval\":1,"
                  "\"timeout\":5}}",
                                "health_check" },
                { "{\"image\":\"a\",\"health_check\":{\"protocol\":\"http\",\"port\":80,\"uri\":\"x\"}}",
                                "health_check" },
                { "{\"image\":\"a\",\"deploy_opts\":{\"min_health\":2}}", "deploy_opts" },
        };

        FOREACH_ARRAY(row, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *body = json(row->body), *spec = NULL, *refused = NULL;
                _cleanup_(service_spec_freep) ServiceSpec *parsed = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;

                ASSERT_EQ(rest_service_body_translate(body, true, &spec, &refused), 0);
                if (service_spec_parse(spec, &parsed, &error) >= 0)
                        fail_msg("%s is taken", row->body);
                if (!streq(rest_service_error_field(&error), row->field))
                        fail_msg("%s: '%s' is about '%s', not '%s'", row->body, kerror_message(&error),
                                        rest_service_error_field(&error), row->field);
        }
}

/* Any JSON at any field is translated or refused, and what comes out is an object. */
static void test_wrong_types(void **state) {
        static const char *const fields[] = { "image", "links", "secrets", "deploy_opts", "health_check",
                "env", "entrypoint", "stop_grace_period", "stop_signal", "net", "certificates",
                "volumes_from", "log_driver", "log_opts", "instances", "hooks", "ports" };
        static const char *const values[] = { "1", "true", "\"x\"", "[]", "{}", "[1]", "[null]", "[{}]",
                "[[]]", "{\"a\":1}", "null", "-1.5" };

        FOREACH_ARRAY(field, fields, ELEMENTSOF(fields))
                FOREACH_ARRAY(value, values, ELEMENTSOF(values))
                        for (int create = 0; create < 2; create++) {
                                _cleanup_free_ char *text = strjoin("{\"", *field, "\":", *value, "}");
                                _cleanup_json_ json_object *body = json(text), *o = NULL, *refused = NULL;
                                int r;

                                r = rest_service_body_translate(body, create, &o, &refused);
                                ASSERT_TRUE(r == 0 || r == 1);
                                ASSERT_TRUE(json_object_is_type(r == 0 ? o : refused, json_type_object));
                        }
}

KONTENA_TESTS(cmocka_unit_test(test_create), cmocka_unit_test(test_update), cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_grace_periods), cmocka_unit_test(test_error_fields),
                cmocka_unit_test(test_wrong_types))
