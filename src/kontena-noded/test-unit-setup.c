/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-setup.h"

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "json-util.h"
#include "test.h"

/* A bus that is connected to nobody: messages can be made, sealed and read. */
static sd_bus *fake_bus(void) {
        int fds[2], r;
        sd_bus *bus;

        ASSERT_TRUE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) >= 0);
        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fds[0], fds[0]));
        r = sd_bus_start(bus);
        ASSERT_OK(r);
        return bus;
}

static InstanceWant *want(const char *spec) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        InstanceWant *w = NULL;

        text = strprintf("{\"number\":2,\"grid\":\"my-grid\",\"stack\":\"s\",\"service\":\"web\",\"service_"
                         "id\":\"i\",\"desired\":\"running\","
                         "\"deploy_rev\":7,\"service_rev\":3,\"address\":\"10.81.128.5\",\"hostname\":\"web-"
                         "2\",\"spec\":%s}",
                        spec);
        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        if (instance_want_parse("abc", o, &w, &e) < 0)
                fail_msg("%s", kerror_message(&e));
        return w;
}

/* The message as text, as `busctl monitor` shows it. */
static char *dump_setup(const UnitSetup *s) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(sd_bus_unrefp) sd_bus *bus = fake_bus();
        char *text = NULL;
        size_t size;
        FILE *f;

        ASSERT_OK(sd_bus_message_new_method_call(bus, &m, "a.b", "/", "a.b", "C"));
        ASSERT_OK(unit_setup_append(s, m));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        f = open_memstream(&text, &size);
        ASSERT_OK(sd_bus_message_dump(m, f, SD_BUS_MESSAGE_DUMP_SUBTREE_ONLY));
        fclose(f);
        return text;
}

static char *dump(const char *spec, char *const *devices) {
        _cleanup_(instance_want_freep) InstanceWant *w = want(spec);
        _cleanup_(unit_setup_done) UnitSetup s = UNIT_SETUP_NULL;

        ASSERT_OK(unit_setup_from_want(w, "nginx:1", "SIGQUIT", &s));
        ASSERT_OK(strv_extend(&s.create, "/usr/bin/crun"));
        ASSERT_OK(strv_extend(&s.create, "create"));
        ASSERT_OK(strv_extend(&s.start, "/usr/bin/crun"));
        ASSERT_OK(strv_extend(&s.delete, "/usr/bin/crun"));
        s.pid_file = strdup("/run/kontena/pid");
        s.devices = strv_copy(devices);
        return dump_setup(&s);
}

/* Value of a property of a basic type, as text behind its name; NULL when it is not set. */
static char *property(const char *text, const char *name) {
        _cleanup_free_ char *quoted = strprintf("STRING \"%s\";", name);
        const char *p = strstr(text, quoted), *value;

        if (!p)
                return NULL;
        p = strstr(p, "VARIANT");
        p = strchr(p, '{');
        value = p + 1 + strspn(p + 1, " \n");
        return strndup(value, strcspn(value, ";"));
}

#define ASSERT_PROPERTY(text, name, value)                                                                  \
        do {                                                                                                \
                _cleanup_free_ char *_v_ = property(text, name);                                            \
                                                                                                            \
                ASSERT_STREQ(_v_, value);                                                                   \
        } while (false)

static void test_what_every_unit_has(void **state) {
        _cleanup_free_ char *text = dump("{\"image\":\"nginx:1\"}", NULL);

        ASSERT_PROPERTY(text, "Type", "STRING \"forking\"");
        ASSERT_PROPERTY(text, "PIDFile", "STRING \"/run/kontena/pid\"");
        ASSERT_PROPERTY(text, "KillMode", "STRING \"mixed\"");
        ASSERT_PROPERTY(text, "Delegate", "BOOLEAN true");
        ASSERT_PROPERTY(text, "Restart", "STRING \"always\"");
        ASSERT_PROPERTY(text, "Slice", "STRING \"kontena-my\\x2dgrid.slice\"");
        ASSERT_PROPERTY(text, "SyslogIdentifier", "STRING \"web-2\"");
        ASSERT_PROPERTY(text, "LogRateLimitIntervalUSec", "UINT64 1000000");
        ASSERT_PROPERTY(text, "LogRateLimitBurst", "UINT32 50000000");
        ASSERT_PROPERTY(text, "StartLimitIntervalUSec", "UINT64 0");
        ASSERT_PROPERTY(text, "CollectMode", "STRING \"inactive-or-failed\"");
        ASSERT_PROPERTY(text, "OOMPolicy", "STRING \"kill\"");
        ASSERT_PROPERTY(text, "DevicePolicy", "STRING \"closed\"");
        ASSERT_PROPERTY(text, "TimeoutStopUSec", "UINT64 10000000");
        ASSERT_TRUE(strstr(text, "LogExtraFields"));
        ASSERT_TRUE(strstr(text, "\"ExecStartPre\"") && strstr(text, "\"ExecStopPost\""));
}

/* What watches over its container and says when that is up. */
static void test_unit_of_a_machine(void **state) {
        _cleanup_(instance_want_freep)
                        InstanceWant *w = want("{\"image\":\"a\",\"stop_signal\":\"SIGINT\"}");
        _cleanup_(unit_setup_done) UnitSetup s = UNIT_SETUP_NULL;
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(unit_setup_from_want(w, "a", NULL, &s));
        ASSERT_OK(strv_extend(&s.create, "/usr/bin/systemd-nspawn"));
        ASSERT_OK(strv_extend(&s.delete, "/usr/bin/busctl"));
        s.notify = true;
        s.network_namespace = strdup("/run/netns/kt-abc");
        ASSERT_OK(strv_extend(&s.environment, "SYSTEMD_SECCOMP=0"));
        s.start_timeout_usec = 7;
        text = dump_setup(&s);

        ASSERT_PROPERTY(text, "Type", "STRING \"notify\"");
        ASSERT_PROPERTY(text, "NotifyAccess", "STRING \"main\"");
        ASSERT_PROPERTY(text, "NetworkNamespacePath", "STRING \"/run/netns/kt-abc\"");
        ASSERT_PROPERTY(text, "KillSignal", "INT32 15"); /* nspawn has another one for the machine */
        ASSERT_PROPERTY(text, "KillMode", "STRING \"mixed\"");
        ASSERT_PROPERTY(text, "TimeoutStartUSec", "UINT64 7");
        ASSERT_PROPERTY(text, "PIDFile", NULL);
        ASSERT_PROPERTY(text, "ExecStartPost", NULL);
        ASSERT_TRUE(strstr(text, "\"ExecStartPre\"") && strstr(text, "\"ExecStopPost\""));
        ASSERT_TRUE(strstr(text, "SYSTEMD_SECCOMP=0"));
}

static void test_no_limit_is_not_set(void **state) {
        static const char *const names[] = { "MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec", "CPUWeight",
                "TasksMax" };
        _cleanup_free_ char *text = dump("{\"image\":\"nginx:1\"}", NULL);

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                ASSERT_PROPERTY(text, names[i], NULL);
}

static void test_limits_are_unit_properties(void **state) {
        _cleanup_free_ char *text = dump(
                        "{\"image\":\"a\",\"memory\":67108864,\"memory_swap\":134217728,\"cpus\":1.5,"
                        "\"cpu_shares\":1024,\"pids_limit\":99}",
                        NULL);

        ASSERT_PROPERTY(text, "MemoryMax", "UINT64 67108864");
        ASSERT_PROPERTY(text, "MemorySwapMax", "UINT64 67108864");
        ASSERT_PROPERTY(text, "CPUQuotaPerSecUSec", "UINT64 1500000");
        ASSERT_PROPERTY(text, "CPUWeight", "UINT64 100");
        ASSERT_PROPERTY(text, "TasksMax", "UINT64 99");
}

static void test_swap_counts_memory_and_swap(void **state) {
        static const struct {
                const char *spec, *memory, *swap;
        } table[] = {
                { "{\"image\":\"a\",\"memory\":10000000}", "UINT64 10000000", "UINT64 10000000" },
                { "{\"image\":\"a\",\"memory\":10000000,\"memory_swap\":10000000}", "UINT64 10000000",
                                "UINT64 0" },
                { "{\"image\":\"a\",\"memory_swap\":10000000}", "UINT64 10000000", "UINT64 0" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *text = dump(table[i].spec, NULL);

                ASSERT_PROPERTY(text, "MemoryMax", table[i].memory);
                ASSERT_PROPERTY(text, "MemorySwapMax", table[i].swap);
        }
}

static void test_devices(void **state) {
        char *const devices[] = { (char *) "/dev/fuse rw", NULL };
        _cleanup_free_ char *text = dump("{\"image\":\"a\"}", devices),
                            *all = dump("{\"image\":\"a\",\"privileged\":true}", NULL);
        const char *p = strstr(text, "DeviceAllow");

        ASSERT_TRUE(p && strstr(p, "\"/dev/fuse\"") && strstr(p, "\"rw\""));
        ASSERT_TRUE(!strstr(all, "DevicePolicy") && !strstr(all, "DeviceAllow"));
}

static void test_stop(void **state) {
        _cleanup_free_ char *image = dump("{\"image\":\"a\"}", NULL),
                            *own = dump("{\"image\":\"a\",\"stop_signal\":\"USR1\",\"stop_grace_period\":0}",
                                            NULL);
        char number[32];

        snprintf(number, sizeof(number), "INT32 %i", SIGQUIT);
        ASSERT_PROPERTY(image, "KillSignal", number);
        snprintf(number, sizeof(number), "INT32 %i", SIGUSR1);
        ASSERT_PROPERTY(own, "KillSignal", number);
        ASSERT_PROPERTY(own, "TimeoutStopUSec", "UINT64 1000"); /* 0 would mean: for ever */
}

static size_t count(const char *text, const char *name) {
        _cleanup_free_ char *quoted = strprintf("STRING \"%s\";", name);
        size_t n = 0;

        for (const char *p = text; (p = strstr(p, quoted)); p++)
                n++;
        return n;
}

static void test_settings_of_the_service_win_and_nothing_is_set_twice(void **state) {
        static const char *const once[] = { "CPUWeight", "MemoryMax", "CPUQuotaPerSecUSec", "TasksMax",
                "LimitNOFILE", "LimitNOFILESoft", "IOWeight" };
        _cleanup_free_ char *text = dump(
                        "{\"image\":\"a\",\"memory\":67108864,\"cpus\":1.5,\"cpu_shares\":1024,\"pids_"
                        "limit\":99,"
                        "\"systemd\":{\"CPUWeight\":\"200\",\"MemoryMax\":\"100M\",\"CPUQuota\":\"50%\","
                        "\"TasksMax\":\"infinity\",\"LimitNOFILE\":\"10:20\",\"IOWeight\":\"50\"}}",
                        NULL);

        ASSERT_PROPERTY(text, "CPUWeight", "UINT64 200");
        ASSERT_PROPERTY(text, "MemoryMax", "UINT64 104857600");
        ASSERT_PROPERTY(text, "MemorySwapMax", "UINT64 67108864");
        ASSERT_PROPERTY(text, "CPUQuotaPerSecUSec", "UINT64 500000");
        ASSERT_PROPERTY(text, "TasksMax", "UINT64 18446744073709551615");
        ASSERT_PROPERTY(text, "LimitNOFILE", "UINT64 20");
        ASSERT_PROPERTY(text, "LimitNOFILESoft", "UINT64 10");
        ASSERT_PROPERTY(text, "IOWeight", "UINT64 50");
        FOREACH_ARRAY(name, once, ELEMENTSOF(once))
                ASSERT_EQ(count(text, *name), 1);
}

static void test_weight_meets_both_ends_and_the_default(void **state) {
        uint64_t before = 0;

        ASSERT_EQ(cpu_shares_to_weight(0), 1);
        ASSERT_EQ(cpu_shares_to_weight(2), 1);
        ASSERT_EQ(cpu_shares_to_weight(1024), 100);
        ASSERT_EQ(cpu_shares_to_weight(262144), 10000);
        ASSERT_EQ(cpu_shares_to_weight(UINT64_MAX), 10000);
        for (uint64_t s = 2; s <= 4096; s++) {
                ASSERT_TRUE(cpu_shares_to_weight(s) >= before);
                before = cpu_shares_to_weight(s);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_what_every_unit_has), cmocka_unit_test(test_unit_of_a_machine),
                cmocka_unit_test(test_no_limit_is_not_set),
                cmocka_unit_test(test_limits_are_unit_properties),
                cmocka_unit_test(test_swap_counts_memory_and_swap), cmocka_unit_test(test_devices),
                cmocka_unit_test(test_stop),
                cmocka_unit_test(test_settings_of_the_service_win_and_nothing_is_set_twice),
                cmocka_unit_test(test_weight_meets_both_ends_and_the_default))
