/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include "json-util.h"
#include "parse-util.h"
#include "rest-exec-text.h"
#include "rest-render.h"
#include "string-util.h"

#define TIME 1501588800000000ULL /* 2017-08-01T12:00:00.000Z */

static json_object *json(const char *text) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 1024 * 1024, &o, NULL));
        return o;
}

/* That o has what expected has, of the same type: keys that nobody names here are looked at elsewhere. */
static void check_part(json_object *o, const char *expected) {
        _cleanup_json_ json_object *e = json(expected);

        json_object_object_foreach(e, key, value) {
                json_object *v = NULL;

                if (!json_object_object_get_ex(o, key, &v))
                        fail_msg("'%s' is missing in %s", key, json_text(o));
                if (!json_object_equal(v, value))
                        fail_msg("'%s' is %s, not %s", key, v ? json_text(v) : "null",
                                        value ? json_text(value) : "null");
        }
}

static bool has(json_object *o, const char *key) {
        return json_object_object_get_ex(o, key, NULL);
}

static char *no_list[] = { NULL };
static char *affinity[] = { (char *) "label==az=a", NULL };

static const GridRow grid = {
        .id = (char *) "GRID",
        .name = (char *) "g01",
        .subnet = (char *) "10.81.0.0/16",
        .supernet = (char *) "10.80.0.0/12",
        .initial_size = 1,
        .trusted_subnets = no_list,
        .default_affinity = affinity,
};

static void test_service_of_defaults(void **state) {
        _cleanup_json_ json_object *spec = json("{\"image\":\"nginx:latest\"}"), *o = NULL;
        ServiceRow s = { .stack = (char *) "null",
                .name = (char *) "web",
                .spec = spec,
                .revision = 1,
                .created_at = TIME };
        InstanceRowList none = {};

        ASSERT_OK(rest_render_service(&grid, &s, &none, &o));
        check_part(o, "{\"id\":\"g01/null/"
                      "web\",\"name\":\"web\",\"image\":\"nginx:latest\",\"stateful\":false,"
                      "\"read_only\":false,\"instances\":1,\"strategy\":\"ha\",\"state\":\"initialized\","
                      "\"revision\":1,\"stack_revision\":null,\"affinity\":[\"label==az=a\"],\"user\":null,"
                      "\"entrypoint\":null,\"log_driver\":null,\"pid\":null,\"stop_signal\":null,\"cmd\":"
                      "null,"
                      "\"net\":\"bridge\",\"dns\":\"web.g01.kontena.local\",\"ports\":[],\"env\":[],"
                      "\"secrets\":[],\"certificates\":[],\"memory\":null,\"memory_swap\":null,"
                      "\"shm_size\":null,\"cpu_shares\":null,\"cpus\":null,\"volumes\":[],"
                      "\"volumes_from\":[],\"cap_add\":[],\"cap_drop\":[],\"grid\":{\"id\":\"g01\"},"
                      "\"stack\":{\"id\":\"g01/null\",\"name\":\"null\"},\"links\":[],\"log_opts\":{},"
                      "\"deploy_opts\":{\"wait_for_port\":null,\"min_health\":0.8,\"interval\":null},"
                      "\"instance_counts\":{\"total\":0,\"running\":0},\"hooks\":[],\"stop_grace_period\":"
                      "10,"
                      "\"created_at\":\"2017-08-01T12:00:00.000Z\",\"updated_at\":\"2017-08-01T12:00:00."
                      "000Z\"}");
        ASSERT_FALSE(has(o, "health_check"));
        ASSERT_FALSE(has(o, "health_status"));
        ASSERT_FALSE(has(o, "privileged"));
}

static void test_service_with_everything(void **state) {
        _cleanup_json_ json_object *o = NULL,
                                   *spec = json("{\"image\":\"a/"
                                                "b:1\",\"count\":3,\"stateful\":true,\"strategy\":"
                                                "\"daemon\",\"affinity\":"
                                                "[\"node==n1\"],\"min_health\":1.0,\"wait_for_port\":80,"
                                                "\"interval\":3600,\"cmd\":[\"run\","
                                                "\"it\"],\"entrypoint\":[\"/bin/"
                                                "sh\",\"-c\"],\"env\":[\"A=1\"],\"user\":\"app\",\"ports\":"
                                                "[{\"node_port\":8080,\"container_port\":80}],\"net\":"
                                                "\"host\",\"read_only\":true,"
                                                "\"cpus\":0.5,\"memory\":67108864,\"links\":[\"db\",\"shop/"
                                                "api\"],\"stop_grace_period\":90,"
                                                "\"stop_signal\":\"SIGINT\",\"secrets\":[{\"secret\":\"pw\","
                                                "\"name\":\"PW\"}],"
                                                "\"hooks\":{\"pre_start\":[{\"name\":\"m\",\"cmd\":\"./"
                                                "m\",\"instances\":\"*\","
                                                "\"oneshot\":true}]},\"health_check\":{\"protocol\":"
                                                "\"http\",\"port\":80}}");
        ServiceRow s = { .stack = (char *) "shop",
                .name = (char *) "web",
                .spec = spec,
                .state = SERVICE_RUNNING,
                .created_at = TIME,
                .updated_at = TIME + 1000 };
        InstanceRow healthy = { .state = (char *) "running",
                .node_id = (char *) "N",
                .health = (char *) "healthy" },
                    failed = { .state = (char *) "failed",
                            .node_id = (char *) "N",
                            .health = (char *) "unhealthy" },
                    pending = { .state = (char *) "pending", .node_id = (char *) "N" },
                    incoming = {
                            .state = (char *) "running", .node_id = (char *) "N", .role = INSTANCE_INCOMING
                    };
        InstanceRow *rows[] = { &healthy, &failed, &pending, &incoming };
        InstanceRowList l = { rows, ELEMENTSOF(rows) };

        ASSERT_OK(rest_render_service(&grid, &s, &l, &o));
        check_part(o, "{\"id\":\"g01/shop/web\",\"stack\":{\"id\":\"g01/shop\",\"name\":\"shop\"},"
                      "\"dns\":\"web.shop.g01.kontena.local\",\"instances\":3,\"state\":\"running\","
                      "\"affinity\":[\"node==n1\"],\"cmd\":[\"run\",\"it\"],\"entrypoint\":\"/bin/sh -c\","
                      "\"ports\":[{\"ip\":\"0.0.0.0\",\"protocol\":\"tcp\",\"node_port\":8080,"
                      "\"container_port\":80}],\"secrets\":[{\"secret\":\"pw\",\"name\":\"PW\",\"type\":"
                      "\"env\"}],"
                      "\"links\":[{\"id\":\"g01/shop/db\",\"alias\":\"db\",\"name\":\"db\"},"
                      "{\"id\":\"g01/shop/api\",\"alias\":\"api\",\"name\":\"shop/api\"}],"
                      "\"deploy_opts\":{\"wait_for_port\":80,\"min_health\":1.0,\"interval\":3600},"
                      "\"hooks\":[{\"name\":\"m\",\"type\":\"pre_start\",\"cmd\":\"./m\",\"oneshot\":true}],"
                      "\"health_check\":{\"protocol\":\"http\",\"uri\":\"/\",\"port\":80,\"timeout\":10,"
                      "\"initial_delay\":10,\"interval\":60},\"health_status\":{\"healthy\":1,\"unhealthy\":"
                      "1,"
                      "\"total\":2},\"instance_counts\":{\"total\":2,\"running\":1},\"memory\":67108864,"
                      "\"cpus\":0.5,\"stop_grace_period\":90,\"stop_signal\":\"SIGINT\","
                      "\"updated_at\":\"2017-08-01T12:00:00.001Z\"}");
}

static void test_deploy_states(void **state) {
        static const struct {
                const char *ours, *state, *reason;
        } table[] = {
                { "created", "created", NULL },
                { "ongoing", "ongoing", NULL },
                { "success", "success", NULL },
                { "error", "error", "The deploy did not succeed." },
                { "superseded", "error", "The deploy did not succeed." },
                { "cancelled", "error", "The deploy did not succeed." },
        };

        FOREACH_ARRAY(row, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *deploy = json_object_new_object(), *o = NULL, *v = NULL;

                ASSERT_OK(json_add_string(deploy, "state", row->ours));
                ASSERT_OK(rest_render_deploy(deploy, &o));
                v = json_object_get(json_object_object_get(o, "state"));
                ASSERT_STREQ(json_object_get_string(v), row->state);
                ASSERT_STREQ(json_object_get_string(json_object_object_get(o, "reason")), row->reason);
        }
}

static void test_deploy(void **state) {
        _cleanup_json_ json_object
                        *o = NULL,
                        *deploy = json("{\"id\":\"D\",\"grid\":\"g01\",\"stack\":\"null\",\"service\":"
                                       "\"web\",\"state\":\"error\","
                                       "\"reason\":\"no\",\"created_at\":1501588800000000,\"started_at\":"
                                       "1501588801000000,"
                                       "\"finished_at\":0,\"instances\":[{\"number\":1,\"node\":\"n1\","
                                       "\"state\":\"running\","
                                       "\"error\":\"\"},{\"number\":2,\"node\":\"\",\"state\":\"error\","
                                       "\"error\":\"\"},"
                                       "{\"number\":3,\"node\":\"n1\",\"state\":\"waiting\",\"error\":\"\"},"
                                       "{\"number\":4,\"node\":\"n1\",\"state\":\"copying\",\"error\":\"\"}]"
                                       "}");

        ASSERT_OK(rest_render_deploy(deploy, &o));
        check_part(o, "{\"id\":\"D\",\"service_id\":\"g01/null/"
                      "web\",\"created_at\":\"2017-08-01T12:00:00.000Z\","
                      "\"queued_at\":\"2017-08-01T12:00:00.000Z\",\"started_at\":\"2017-08-01T12:00:01."
                      "000Z\","
                      "\"finished_at\":null,\"state\":\"error\",\"reason\":\"no\",\"instance_count\":4,"
                      "\"instance_deploys\":[{\"instance_number\":1,\"node\":\"n1\",\"state\":\"success\","
                      "\"error\":null},{\"instance_number\":2,\"node\":null,\"state\":\"error\",\"error\":"
                      "\"It was not "
                      "started.\"},{\"instance_number\":3,\"node\":\"n1\",\"state\":\"created\","
                      "\"error\":null},{\"instance_number\":4,\"node\":\"n1\",\"state\":\"ongoing\","
                      "\"error\":null}]}");
}

static void test_node(void **state) {
        static char *labels[] = { (char *) "region=eu", NULL };
        static char *far_labels[] = { (char *) "region=us", NULL };
        _cleanup_json_ json_object
                        *o = NULL,
                        *new = NULL,
                        *report = json("{\"os\":\"Debian\",\"kernel\":\"6.1\",\"version\":\"1\",\"cpus\":2,"
                                       "\"memory\":{\"total\":100,\"free\":40,\"cached\":10,\"buffers\":5},"
                                       "\"disk\":{\"total\":1000,\"free\":300},\"load\":[0.5,1.0,2.0],"
                                       "\"volume_drivers\":[\"local\"],\"runtime\":{\"name\":\"crun\","
                                       "\"version\":\"1.8\"},\"private_address\":\"192.0.2.1\"}"),
                        *near_report = json("{\"private_address\":\"192.0.2.2\",\"public_address\":\"203.0."
                                            "113.2\"}"),
                        *far_report = json("{\"private_address\":\"192.0.2.3\",\"public_address\":\"203.0."
                                           "113.3\"}");
        NodeRow n = { .id = (char *) "N1",
                .name = (char *) "n1",
                .number = 1,
                .labels = labels,
                .connected = true,
                .report = report,
                .created_at = TIME,
                .connected_at = TIME,
                .last_seen_at = TIME,
                .node_key = (char *) "00443214c74254b635cf84653a56d7c675be77df00443214c74254b635cf8465",
                .machine_id = (char *) "m" };
        NodeRow near = { .id = (char *) "N2",
                .name = (char *) "n2",
                .number = 2,
                .labels = labels,
                .report = near_report },
                far = { .id = (char *) "N3",
                        .name = (char *) "n3",
                        .number = 3,
                        .labels = far_labels,
                        .report = far_report },
                fresh = { .id = (char *) "N4",
                        .name = (char *) "n4",
                        .number = 4,
                        .created_at = TIME,
                        .token_hash = { 1 } };
        NodeRow *rows[] = { &n, &near, &far, &fresh };
        NodeRowList all = { rows, ELEMENTSOF(rows) };

        ASSERT_OK(rest_render_node(&grid, &n, &all, "secret", &o));
        check_part(o, "{\"id\":\"g01/"
                      "n1\",\"node_id\":\"ABCD:EFGH:IJKL:MNOP:QRST:UVWX:YZ23:4567:ABCD:EFGH:IJKL:MNOP\","
                      "\"name\":\"n1\",\"node_number\":1,\"initial_member\":true,\"connected\":true,"
                      "\"updated\":true,\"status\":\"online\",\"availability\":\"active\",\"has_token\":"
                      "false,"
                      "\"labels\":[\"region=eu\"],\"overlay_ip\":\"10.81.0.1\","
                      "\"peer_ips\":[\"192.0.2.2\",\"203.0.113.3\"],\"mem_total\":100,\"mem_limit\":null,"
                      "\"cpus\":2,\"public_ip\":null,\"private_ip\":\"192.0.2.1\",\"driver\":\"crun\","
                      "\"docker_version\":\"1.8\",\"volume_drivers\":[{\"name\":\"local\",\"version\":null}]"
                      ","
                      "\"network_drivers\":[],\"engine_root_dir\":\"/var/lib/kontena\","
                      "\"grid\":{\"id\":\"g01\",\"name\":\"g01\",\"initial_size\":1,\"token\":\"secret\","
                      "\"stats\":{\"statsd\":null},\"trusted_subnets\":[],\"subnet\":\"10.81.0.0/16\","
                      "\"supernet\":\"10.80.0.0/"
                      "12\"},\"resource_usage\":{\"memory\":{\"total\":100,\"free\":40,"
                      "\"used\":60,\"active\":0,\"inactive\":0,\"cached\":10,\"buffers\":5},\"load\":{"
                      "\"1m\":0.5,"
                      "\"5m\":1.0,\"15m\":2.0},\"filesystem\":[{\"name\":\"/var/lib/kontena\",\"free\":300,"
                      "\"available\":300,\"used\":700,\"total\":1000}],\"usage\":{\"container_seconds\":0},"
                      "\"cpu\":{\"num_cores\":2,\"system\":0.0,\"user\":0.0,\"nice\":0.0,\"idle\":0.0}}}");

        /* One that has not joined yet */
        ASSERT_OK(rest_render_node(&grid, &fresh, &all, NULL, &new));
        check_part(new, "{\"node_id\":null,\"status\":\"created\",\"connected\":false,\"updated\":false,"
                        "\"initial_member\":false,\"has_token\":true,\"labels\":[],\"connected_at\":null,"
                        "\"os\":null,\"mem_total\":null,\"cpus\":null,\"engine_root_dir\":null}");
        ASSERT_FALSE(has(new, "resource_usage"));
}

static void test_instance_and_container(void **state) {
        static char *labels[] = { (char *) "a", NULL };
        _cleanup_json_ json_object
                        *o = NULL,
                        *unplaced = NULL, *c = NULL,
                        *spec = json("{\"image\":\"nginx:1\",\"env\":[\"A=1\"],\"ports\":[{\"node_port\":"
                                     "8080,"
                                     "\"container_port\":80},{\"ip\":\"192.0.2.1\",\"node_port\":8081,"
                                     "\"container_port\":80}]}");
        NodeRow n = { .id = (char *) "N1", .name = (char *) "n1", .number = 1, .labels = labels };
        ServiceRow s = { .stack = (char *) "shop", .name = (char *) "web", .spec = spec };
        InstanceRow i = { .id = (char *) "I",
                .number = 2,
                .node_id = (char *) "N1",
                .deploy_rev = 7,
                .observed_deploy_rev = 6,
                .observed_service_rev = 3,
                .state = (char *) "running",
                .address = (char *) "10.81.128.5",
                .created_at = TIME,
                .started_at = TIME,
                .exit_status = -1,
                .pid = 42,
                .spec = spec,
                .health = (char *) "healthy",
                .status_at = TIME };

        ASSERT_OK(rest_render_instance(&grid, &i, &n, &o));
        check_part(o, "{\"id\":\"I\",\"instance_number\":2,\"desired_state\":\"running\",\"state\":"
                      "\"running\","
                      "\"deploy_rev\":\"7\",\"rev\":\"6\",\"error\":null,\"node\":{\"id\":\"g01/n1\","
                      "\"name\":\"n1\",\"public_ip\":null}}");
        ASSERT_OK(rest_render_instance(
                        &grid, &(InstanceRow){ .id = (char *) "I", .number = 1 }, NULL, &unplaced));
        check_part(unplaced, "{\"state\":\"initialized\",\"rev\":null,\"deploy_rev\":null}");
        ASSERT_FALSE(has(unplaced, "node"));

        ASSERT_TRUE(rest_instance_is_container(&i));
        ASSERT_OK(rest_render_container(&grid, &s, &i, &n, &c));
        check_part(c, "{\"id\":\"g01/n1/shop.web-2\",\"name\":\"shop.web-2\",\"container_id\":\"I\","
                      "\"grid_id\":\"g01\",\"service_id\":\"g01/shop/web\",\"status\":\"running\","
                      "\"state\":{\"error\":\"\",\"exit_code\":0,\"pid\":42,\"oom_killed\":false,"
                      "\"paused\":false,\"restarting\":false,\"dead\":false,\"running\":true},"
                      "\"deploy_rev\":\"6\",\"service_rev\":\"3\",\"instance_number\":2,\"image\":\"nginx:"
                      "1\","
                      "\"cmd\":null,\"env\":[\"A=1\"],\"volumes\":[],\"ip_address\":\"10.81.128.5\","
                      "\"hostname\":\"web-2\",\"domainname\":\"shop.g01.kontena.local\","
                      "\"started_at\":\"2017-08-01T12:00:00.000Z\",\"finished_at\":\"0001-01-01T00:00:00."
                      "000Z\","
                      "\"deleted_at\":null,\"network_settings\":{\"bridge\":\"\",\"gateway\":\"\","
                      "\"ip_address\":\"10.81.128.5\",\"ip_prefix_len\":16,\"mac_address\":\"\","
                      "\"port_mapping\":null,\"ports\":{\"80/tcp\":[{\"node_ip\":\"0.0.0.0\","
                      "\"node_port\":8080},{\"node_ip\":\"192.0.2.1\",\"node_port\":8081}]}},"
                      "\"health_status\":{\"status\":\"healthy\",\"updated_at\":\"2017-08-01T12:00:00."
                      "000Z\"}}");
}

static void test_container_status(void **state) {
        static const struct {
                const char *state;
                int64_t oom_kills;
                const char *status;
        } table[] = {
                { "running", 0, "running" },
                { "starting", 0, "running" },
                { "restarting", 1, "restarting" },
                { "failed", 0, "stopped" },
                { "failed", 1, "oom_killed" },
                { "stopped", 1, "stopped" },
                { "exited", 0, "stopped" },
        };
        _cleanup_json_ json_object *spec = json("{\"image\":\"a\"}");
        ServiceRow s = { .stack = (char *) "null", .name = (char *) "web", .spec = spec };

        FOREACH_ARRAY(row, table, ELEMENTSOF(table)) {
                InstanceRow i = { .id = (char *) "I",
                        .number = 1,
                        .node_id = (char *) "N",
                        .state = (char *) row->state,
                        .oom_kills = row->oom_kills,
                        .spec = spec };
                _cleanup_json_ json_object *o = NULL;

                ASSERT_TRUE(rest_instance_is_container(&i));
                ASSERT_OK(rest_render_container(&grid, &s, &i, NULL, &o));
                ASSERT_STREQ(json_object_get_string(json_object_object_get(o, "status")), row->status);
                ASSERT_STREQ(json_object_get_string(json_object_object_get(o, "id")), "web-1");
                ASSERT_FALSE(has(o, "node"));
        }
}

static void test_container_names(void **state) {
        static const struct {
                const char *name, *stack, *service;
                uint32_t number;
        } good[] = {
                { "web-1", "null", "web", 1 },
                { "shop.web-12", "shop", "web", 12 },
                { "my-stack.my-web-3", "my-stack", "my-web", 3 },
                { "a-1-2", "null", "a-1", 2 },
        };
        static const char *const bad[] = { "", "web", "-1", "web-", "web-0", "web-x", "web-01", ".web-1",
                "shop.-1", "a.b", "web--", "web-4294967296" };
        char *stack, *service;
        uint32_t number;

        FOREACH_ARRAY(row, good, ELEMENTSOF(good)) {
                ASSERT_OK(rest_parse_container_name(row->name, &stack, &service, &number));
                ASSERT_STREQ(stack, row->stack);
                ASSERT_STREQ(service, row->service);
                ASSERT_EQ(number, row->number);
                free(stack);
                free(service);
        }
        FOREACH_ARRAY(name, bad, ELEMENTSOF(bad))
                ASSERT_ERROR(rest_parse_container_name(*name, &stack, &service, &number), EINVAL);
}

static void test_volume_secret_registry(void **state) {
        _cleanup_json_ json_object
                        *v = NULL,
                        *s = NULL, *shown = NULL, *r = NULL,
                        *volume = json("{\"name\":\"data\",\"scope\":\"instance\",\"driver\":\"local\","
                                       "\"created_at\":1501588800000000,\"services\":[\"db\",\"shop/db\"],"
                                       "\"instances\":[{\"node\":\"n1\",\"name\":\"db.data-1\",\"state\":"
                                       "\"present\"}]}"),
                        *secret = json("{\"name\":\"pw\",\"created_at\":1501588800000000,\"updated_at\":"
                                       "1501588801000000,\"revision\":2,\"services\":[\"shop/db\"]}");
        RegistryRow row = { .name = (char *) "docker.io",
                .username = (char *) "me",
                .sealed = (void *) "x",
                .sealed_size = 1 };

        ASSERT_OK(rest_render_volume(&grid, volume, &v));
        check_part(v, "{\"id\":\"g01/data\",\"name\":\"data\",\"scope\":\"instance\",\"driver\":\"local\","
                      "\"driver_opts\":{},\"created_at\":\"2017-08-01T12:00:00.000Z\","
                      "\"instances\":[{\"node\":\"n1\",\"name\":\"db.data-1\"}],"
                      "\"services\":[{\"id\":\"g01/null/db\"},{\"id\":\"g01/shop/db\"}]}");

        ASSERT_OK(rest_render_secret(&grid, secret, &s));
        check_part(s, "{\"id\":\"g01/pw\",\"name\":\"pw\",\"updated_at\":\"2017-08-01T12:00:01.000Z\","
                      "\"services\":[{\"id\":\"g01/shop/db\",\"name\":\"db\"}]}");
        ASSERT_FALSE(has(s, "value"));
        ASSERT_OK(json_add_string(secret, "value", "s3"));
        ASSERT_OK(rest_render_secret(&grid, secret, &shown));
        check_part(shown, "{\"value\":\"s3\"}");

        ASSERT_OK(rest_render_registry(&grid, &row, &r));
        ASSERT_STREQ(json_text(r),
                        "{\"id\":\"g01/docker.io\",\"name\":\"docker.io\",\"url\":\"https://docker.io\","
                        "\"username\":\"me\",\"email\":null}");
}

static void test_log_items(void **state) {
        _cleanup_json_ json_object *o = NULL, *null_stack = NULL;
        LogEntry e = { .time = TIME,
                .node = "n1",
                .instance = "web-1",
                .stream = "stdout",
                .message = "hi",
                .service = "shop/web" };
        _cleanup_free_ char *id = rest_log_id(TIME, 5), *later = rest_log_id(TIME + 1, 0);
        uint64_t time;
        uint32_t order;

        ASSERT_EQ(strlen(id), 24);
        ASSERT_TRUE(strcmp(id, later) < 0);
        ASSERT_OK(rest_parse_log_id(id, &time, &order));
        ASSERT_EQ(time, TIME);
        ASSERT_EQ(order, 5);
        ASSERT_ERROR(rest_parse_log_id("", &time, &order), EINVAL);
        ASSERT_ERROR(rest_parse_log_id("00055aeaf5b0c00000000zzz", &time, &order), EINVAL);
        ASSERT_ERROR(rest_parse_log_id("00055aeaf5b0c000000000050", &time, &order), EINVAL);

        ASSERT_OK(rest_render_log(&grid, &e, id, &o));
        check_part(o, "{\"name\":\"shop.web-1\",\"service\":{\"id\":\"g01/shop/web\",\"name\":\"web\"},"
                      "\"stack\":{\"id\":\"g01/"
                      "shop\",\"name\":\"shop\"},\"grid\":{\"id\":\"g01\",\"name\":\"g01\"},"
                      "\"node\":{\"name\":\"n1\"},\"created_at\":\"2017-08-01T12:00:00.000Z\",\"type\":"
                      "\"stdout\","
                      "\"data\":\"hi\"}");
        e.service = "null/web";
        e.stream = "stderr";
        ASSERT_OK(rest_render_log(&grid, &e, id, &null_stack));
        check_part(null_stack, "{\"name\":\"web-1\",\"type\":\"stderr\"}");
}

static void take(ExecText *t, const char *data, size_t size, bool end, const char *expected) {
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(exec_text_take(t, data, size, end, &o));
        ASSERT_STREQ(o ? json_object_get_string(o) : NULL, expected);
}

static void test_exec_text(void **state) {
        static const char all[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
        ExecText t = {};

        take(&t, "", 0, false, NULL);
        take(&t, "abc", 3, false, "abc");
        take(&t, "x\xe2\x82", 3, false, "x");
        take(&t, "\xac", 1, false, "\xe2\x82\xac");
        take(&t, "\xf0\x9f\x98", 3, false, NULL);
        take(&t, NULL, 0, true, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
        take(&t,
                        "\xff\xc0\x80"
                        "a\xed\xa0\x80",
                        7, true,
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                        "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
        ASSERT_EQ(t.n_tail, 0);

        /* Cut anywhere, the whole is the same. */
        for (size_t cut = 0; cut < sizeof(all); cut++) {
                _cleanup_json_ json_object *a = NULL, *b = NULL;
                _cleanup_free_ char *joined = NULL;

                ASSERT_OK(exec_text_take(&t, all, cut, false, &a));
                ASSERT_OK(exec_text_take(
                                &t, all + cut, sizeof(all) - 1 - MIN(cut, sizeof(all) - 1), true, &b));
                joined = strjoin(a ? json_object_get_string(a) : "", b ? json_object_get_string(b) : "");
                ASSERT_STREQ(joined, all);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_service_of_defaults), cmocka_unit_test(test_service_with_everything),
                cmocka_unit_test(test_deploy_states), cmocka_unit_test(test_deploy),
                cmocka_unit_test(test_node), cmocka_unit_test(test_instance_and_container),
                cmocka_unit_test(test_container_status), cmocka_unit_test(test_container_names),
                cmocka_unit_test(test_volume_secret_registry), cmocka_unit_test(test_log_items),
                cmocka_unit_test(test_exec_text))
