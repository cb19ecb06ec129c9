/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service-spec.h"

#include <signal.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "test.h"

static json_object *object(const char *text) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 16 * 1024 * 1024, &o, NULL));
        return o;
}

static ServiceSpec *spec(const char *text) {
        _cleanup_json_ json_object *o = object(text);
        _cleanup_kerror_ KError e = KERROR_NULL;
        ServiceSpec *s = NULL;
        int r;

        r = service_spec_parse(o, &s, &e);
        if (r < 0)
                fail_msg("%s: %s", text, kerror_message(&e));
        return s;
}

static void refused(const char *text, const char *why) {
        _cleanup_json_ json_object *o = object(text);
        _cleanup_kerror_ KError e = KERROR_NULL;
        ServiceSpec *s = (ServiceSpec *) 1;

        if (service_spec_parse(o, &s, &e) >= 0)
                fail_msg("accepted: %.200s", text);
        ASSERT_TRUE(s == (ServiceSpec *) 1);
        if (!strstr(kerror_message(&e), why))
                fail_msg("%.200s: '%s' does not say '%s'", text, kerror_message(&e), why);
}

static void test_defaults(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec("{\"image\":\"nginx:1\"}");

        ASSERT_STREQ(s->image, "nginx:1");
        ASSERT_EQ(s->count, 1);
        ASSERT_EQ(s->strategy, STRATEGY_HA);
        ASSERT_FALSE(s->stateful);
        ASSERT_TRUE(s->min_health > 0.79 && s->min_health < 0.81);
        ASSERT_EQ(s->stop_grace_sec, 10);
        ASSERT_TRUE(!s->cmd && !s->entrypoint && !s->affinity && !s->stop_signal);
        ASSERT_EQ(s->memory, 0);
}

static void test_everything(void **state) {
        _cleanup_(service_spec_freep) ServiceSpec *s = spec(
                        "{\"image\":\"registry.test:5000/a/b:1.2\",\"count\":3,\"stateful\":true,"
                        "\"strategy\":\"daemon\",\"affinity\":[\"node==n1\",\"label!=~az=b\"],\"min_"
                        "health\":1,\"wait_for_port\":80,"
                        "\"interval\":60,\"cmd\":[],\"entrypoint\":[\"/bin/"
                        "sh\"],\"env\":[\"A=1\",\"B=\"],\"user\":\"www:33\","
                        "\"working_dir\":\"/"
                        "srv\",\"hostname\":\"h-1\",\"ports\":[{\"node_port\":80,\"container_port\":8080},"
                        "{\"ip\":\"192.0.2.1\",\"node_port\":53,\"container_port\":53,\"protocol\":\"udp\"}]"
                        ",\"net\":\"bridge\","
                        "\"pid\":\"host\",\"privileged\":true,\"read_only\":true,\"cap_add\":[\"CAP_net_"
                        "admin\"],\"cap_drop\":[\"ALL\"],"
                        "\"devices\":[\"/dev/fuse\"],\"volumes\":[\"/data\",\"x:/y:ro\",\"/h:/"
                        "i\"],\"cpus\":0.5,\"cpu_shares\":512,"
                        "\"memory\":67108864,\"memory_swap\":134217728,\"shm_size\":1048576,\"pids_limit\":"
                        "100,"
                        "\"stop_signal\":\"SIGQUIT\",\"stop_grace_period\":0,\"labels\":[\"a=b\"],\"links\":"
                        "[\"db\",\"s/db\"]}");

        ASSERT_EQ(s->strategy, STRATEGY_DAEMON);
        ASSERT_TRUE(s->cmd && !s->cmd[0]);
        ASSERT_STREQ(s->cap_add[0], "NET_ADMIN");
        ASSERT_EQ(s->n_ports, 2);
        ASSERT_TRUE(!s->ports[0].ip);
        ASSERT_STREQ(s->ports[1].ip, "192.0.2.1");
        ASSERT_EQ(s->ports[1].protocol, TRANSPORT_UDP);
        ASSERT_EQ(s->stop_grace_sec, 0);
        ASSERT_EQ(s->wait_for_port, 80);
}

static void test_refusals(void **state) {
        static const struct {
                const char *text, *why;
        } table[] = {
                { "[]", "object" },
                { "{}", "'image' is missing" },
                { "{\"image\":\"\"}", "'image'" },
                { "{\"image\":\"a b\"}", "'image'" },
                { "{\"image\":\"a/../b\"}", "'image'" },
                { "{\"image\":\"a:\"}", "'image'" },
                { "{\"image\":\"a@sha256:12\"}", "'image'" },
                { "{\"image\":\"a\\u0000b\"}", "NUL" },
                { "{\"image\":1}", "'image' must be a string" },
                { "{\"image\":\"a\",\"iamge\":1}", "'iamge'" },
                { "{\"image\":\"a\",\"count\":0}", "'count'" },
                { "{\"image\":\"a\",\"count\":1001}", "'count'" },
                { "{\"image\":\"a\",\"count\":-1}", "'count'" },
                { "{\"image\":\"a\",\"count\":1.5}", "'count'" },
                { "{\"image\":\"a\",\"strategy\":\"x\"}", "'strategy'" },
                { "{\"image\":\"a\",\"affinity\":[\"node=n\"]}", "neither" },
                { "{\"image\":\"a\",\"affinity\":[\"host==n\"]}", "begin with" },
                { "{\"image\":\"a\",\"affinity\":[\"node==\"]}", "no value" },
                { "{\"image\":\"a\",\"affinity\":[\"node!=~\"]}", "no value" },
                { "{\"image\":\"a\",\"min_health\":1.1}", "'min_health'" },
                { "{\"image\":\"a\",\"wait_for_port\":65536}", "'wait_for_port'" },
                { "{\"image\":\"a\",\"env\":[\"A\"]}", "KEY=value" },
                { "{\"image\":\"a\",\"env\":[\"=1\"]}", "KEY=value" },
                { "{\"image\":\"a\",\"env\":[\"A B=1\"]}", "blank" },
                { "{\"image\":\"a\",\"env\":[1]}", "list of strings" },
                { "{\"image\":\"a\",\"cmd\":[\"a\\u0000\"]}", "NUL" },
                { "{\"image\":\"a\",\"user\":\"a b\"}", "'user'" },
                { "{\"image\":\"a\",\"working_dir\":\"srv\"}", "absolute" },
                { "{\"image\":\"a\",\"working_dir\":\"/srv/../etc\"}", "'..'" },
                { "{\"image\":\"a\",\"hostname\":\"-a\"}", "host name" },
                { "{\"image\":\"a\",\"hostname\":\"a_b!\"}", "host name" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":80}]}", "container_port" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":0,\"container_port\":1}]}", "'node_port'" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":1,\"container_port\":1,\"protocol\":\"dccp\"}]"
                  "}",
                                "protocol" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":1,\"container_port\":1,\"ip\":\"::1\"}]}",
                                "IPv4" },
                { "{\"image\":\"a\",\"ports\":[{\"node_port\":1,\"container_port\":1},{\"ip\":\"1.2.3.4\","
                  "\"node_port\":1,\"container_port\":2}]}",
                                "twice" },
                { "{\"image\":\"a\",\"net\":\"host\",\"ports\":[{\"node_port\":1,\"container_port\":1}]}",
                                "'net'" },
                { "{\"image\":\"a\",\"net\":\"host\",\"wait_for_port\":1}", "'wait_for_port'" },
                { "{\"image\":\"a\",\"net\":\"none\"}", "'net'" },
                { "{\"image\":\"a\",\"net\":\"container:x\"}", "by name on the overlay" },
                { "{\"image\":\"a\",\"volumes_from\":[\"db-%s\"]}", "container==db-%s" },
                { "{\"image\":\"a\",\"volumes_from\":\"db-1\"}", "volumes_from" },
                { "{\"image\":\"a\",\"pid\":\"1\"}", "'pid'" },
                { "{\"image\":\"a\",\"cap_add\":[\"FLY\"]}", "FLY" },
                { "{\"image\":\"a\",\"devices\":[\"fuse\"]}", "absolute" },
                { "{\"image\":\"a\",\"devices\":[\"/dev/fuse:/dev/x:rx\"]}", "access" },
                { "{\"image\":\"a\",\"volumes\":[\"/\"]}", "'/'" },
                { "{\"image\":\"a\",\"volumes\":[\"a\"]}", "absolute" },
                { "{\"image\":\"a\",\"volumes\":[\"a:/b:xx\"]}", "flag" },
                { "{\"image\":\"a\",\"volumes\":[\"a::/b\"]}", "Volume" },
                { "{\"image\":\"a\",\"volumes\":[\"a:/b:rshared\"]}", "flag" },
                { "{\"image\":\"a\",\"volumes\":[\"../x:/b\"]}", "volume" },
                { "{\"image\":\"a\",\"volumes\":[\"/b\",\"x:/b\"]}", "Two volumes" },
                { "{\"image\":\"a\",\"cpus\":-1}", "'cpus'" },
                { "{\"image\":\"a\",\"cpu_shares\":1025}", "'cpu_shares'" },
                { "{\"image\":\"a\",\"memory\":4096}", "'memory'" },
                { "{\"image\":\"a\",\"memory\":\"64m\"}", "'memory'" },
                { "{\"image\":\"a\",\"memory\":67108864,\"memory_swap\":33554432}", "'memory_swap'" },
                { "{\"image\":\"a\",\"stop_signal\":\"SIGFOO\"}", "SIGFOO" },
                { "{\"image\":\"a\",\"stop_grace_period\":100000}", "'stop_grace_period'" },
                { "{\"image\":\"a\",\"labels\":[\"\"]}", "label" },
                { "{\"image\":\"a\",\"links\":[\"g/s/x\"]}", "another grid" },
                { "{\"image\":\"a\",\"links\":[\"a b\"]}", "Link" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                refused(table[i].text, table[i].why);
}

/* {"image":"a",KEY:[ENTRY,...]} with n entries. */
static char *list_text(const char *key, const char *entry, size_t n) {
        char *text = strprintf("{\"image\":\"a\",\"%s\":[", key);

        for (size_t i = 0; i < n; i++) {
                char *longer = strprintf("%s%s%s", text, i > 0 ? "," : "", entry);

                free(text);
                text = longer;
        }

        char *closed = strjoin(text, "]}");
        free(text);
        return closed;
}

static void test_limits_refuse_one_more(void **state) {
        static const struct {
                const char *key, *entry;
                size_t max;
        } table[] = {
                { "env", "\"A=1\"", ENV_ENTRIES_MAX },
                { "cmd", "\"x\"", ENV_ENTRIES_MAX },
                { "affinity", "\"node!=x\"", LIST_ENTRIES_MAX },
                { "links", "\"x\"", LIST_ENTRIES_MAX },
                { "devices", "\"/dev/x\"", LIST_ENTRIES_MAX },
                { "labels", "\"x\"", LABELS_MAX },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *fits = list_text(table[i].key, table[i].entry, table[i].max);
                _cleanup_free_ char *over = list_text(table[i].key, table[i].entry, table[i].max + 1);
                _cleanup_(service_spec_freep) ServiceSpec *s = spec(fits);

                ASSERT_TRUE(s);
                refused(over, "at most");
        }
}

static void test_env_entry_size(void **state) {
        for (int over = 0; over <= 1; over++) {
                _cleanup_json_ json_object *o = json_object_new_object(), *l = NULL;
                _cleanup_(service_spec_freep) ServiceSpec *s = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;
                size_t n = ENV_ENTRY_SIZE_MAX + (size_t) over;
                _cleanup_free_ char *entry = malloc(n + 1);

                memset(entry, 'x', n);
                entry[1] = '=';
                entry[n] = '\0';
                ASSERT_OK(json_add_string(o, "image", "a"));
                l = json_object_new_array();
                ASSERT_OK(json_append_string(l, entry));
                ASSERT_OK(json_add(o, "env", json_object_get(l)));

                if (over) {
                        ASSERT_ERROR(service_spec_parse(o, &s, &e), E2BIG);
                        ASSERT_TRUE(strstr(kerror_message(&e), "131072"));
                } else
                        ASSERT_OK(service_spec_parse(o, &s, &e));
        }
}

static void test_spec_size(void **state) {
        _cleanup_json_ json_object *o = json_object_new_object(), *l = json_object_new_array();
        _cleanup_(service_spec_freep) ServiceSpec *s = NULL;
        _cleanup_free_ char *entry = malloc(100001);

        memset(entry, 'x', 100000);
        entry[100000] = '\0';
        for (int i = 0; i < 11; i++)
                ASSERT_OK(json_append_string(l, entry));
        ASSERT_OK(json_add_string(o, "image", "a"));
        ASSERT_OK(json_add(o, "cmd", json_object_get(l)));
        ASSERT_ERROR(service_spec_parse(o, &s, NULL), E2BIG);
}

static void test_volumes(void **state) {
        static const struct {
                const char *text;
                VolumeType type;
                const char *source, *path;
                bool read_only;
        } table[] = {
                { "/data", VOLUME_ANONYMOUS, NULL, "/data", false },
                { "db:/data", VOLUME_NAMED, "db", "/data", false },
                { "db:/data:ro", VOLUME_NAMED, "db", "/data", true },
                { "/h:/data:ro,rslave", VOLUME_BIND, "/h", "/data", true },
                { "/a..b:/data", VOLUME_BIND, "/a..b", "/data", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(volume_mount_done) VolumeMount v = {};

                ASSERT_OK(volume_mount_parse(table[i].text, &v, NULL));
                ASSERT_EQ(v.type, table[i].type);
                ASSERT_STREQ(v.source, table[i].source);
                ASSERT_STREQ(v.path, table[i].path);
                ASSERT_EQ(v.read_only, table[i].read_only);
        }
}

static void test_devices(void **state) {
        _cleanup_(device_mapping_done) DeviceMapping a = {}, b = {};

        ASSERT_OK(device_mapping_parse("/dev/fuse", &a, NULL));
        ASSERT_STREQ(a.inside, "/dev/fuse");
        ASSERT_STREQ(a.access, "rwm");
        ASSERT_OK(device_mapping_parse("/dev/a:/dev/b:r", &b, NULL));
        ASSERT_STREQ(b.inside, "/dev/b");
        ASSERT_STREQ(b.access, "r");
}

static void test_signals(void **state) {
        ASSERT_EQ(signal_from_string("SIGTERM"), SIGTERM);
        ASSERT_EQ(signal_from_string("usr1"), SIGUSR1);
        ASSERT_EQ(signal_from_string("15"), 15);
        ASSERT_EQ(signal_from_string("SIGRTMIN+3"), SIGRTMIN + 3);
        ASSERT_EQ(signal_from_string("RTMIN"), SIGRTMIN);
        ASSERT_ERROR(signal_from_string("SIGRTMIN+99"), EINVAL);
        ASSERT_ERROR(signal_from_string("0"), EINVAL);
        ASSERT_ERROR(signal_from_string("999"), EINVAL);
        ASSERT_ERROR(signal_from_string("SIG"), EINVAL);
        ASSERT_ERROR(signal_from_string(""), EINVAL);
}

static void test_update_lays_over(void **state) {
        _cleanup_json_ json_object *base = object(
                        "{\"image\":\"a\",\"count\":3,\"env\":[\"A=1\",\"B=2\"],\"user\":\"x\"}");
        _cleanup_json_ json_object *changes = object(
                        "{\"image\":\"b\",\"user\":null,\"env\":[\"A=\",\"C=\",\"D=4\"]}");
        _cleanup_json_ json_object *o = NULL;
        _cleanup_(service_spec_freep) ServiceSpec *s = NULL;

        ASSERT_OK(service_spec_update(base, changes, &o, NULL));
        ASSERT_OK(service_spec_parse(o, &s, NULL));
        ASSERT_STREQ(s->image, "b");
        ASSERT_EQ(s->count, 3);
        ASSERT_TRUE(!s->user);
        ASSERT_STREQ(s->env[0], "A=1"); /* empty keeps the present value */
        ASSERT_STREQ(s->env[1], "C=");  /* nothing to keep */
        ASSERT_STREQ(s->env[2], "D=4");
        ASSERT_TRUE(!s->env[3]);
        /* The base is as it was. */
        ASSERT_STREQ(json_object_get_string(json_object_object_get(base, "image")), "a");
}

static void test_update_refusals(void **state) {
        static const struct {
                const char *base, *changes, *why;
        } table[] = {
                { "{\"image\":\"a\"}", "{\"stateful\":true}", "'stateful'" },
                { "{\"image\":\"a\"}", "{\"image\":null}", "'image' is missing" },
                { "{\"image\":\"a\"}", "{\"x\":1}", "'x'" },
                { "{\"image\":\"a\",\"stateful\":true}", "{\"volumes\":[\"/new\"]}", "anonymous" },
                { "{\"image\":\"a\",\"stateful\":true}", "{\"stateful\":null}", "'stateful'" },
                { "{\"image\":\"a\"}", "[]", "object" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_json_ json_object *base = object(table[i].base),
                                           *changes = object(table[i].changes);
                _cleanup_kerror_ KError e = KERROR_NULL;
                json_object *o = NULL;

                ASSERT_TRUE(service_spec_update(base, changes, &o, &e) < 0);
                if (!strstr(kerror_message(&e), table[i].why))
                        fail_msg("'%s' does not say '%s'", kerror_message(&e), table[i].why);
        }
}

static void test_stateful_keeps_its_anonymous_volume(void **state) {
        _cleanup_json_ json_object *base = object(
                        "{\"image\":\"a\",\"stateful\":true,\"volumes\":[\"/data\"]}");
        _cleanup_json_ json_object *changes = object("{\"volumes\":[\"/data\",\"x:/y\"]}");
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(service_spec_update(base, changes, &o, NULL));
}

KONTENA_TESTS(cmocka_unit_test(test_defaults), cmocka_unit_test(test_everything),
                cmocka_unit_test(test_refusals), cmocka_unit_test(test_limits_refuse_one_more),
                cmocka_unit_test(test_env_entry_size), cmocka_unit_test(test_spec_size),
                cmocka_unit_test(test_volumes), cmocka_unit_test(test_devices),
                cmocka_unit_test(test_signals), cmocka_unit_test(test_update_lays_over),
                cmocka_unit_test(test_update_refusals),
                cmocka_unit_test(test_stateful_keeps_its_anonymous_volume))
