/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-settings.h"

#include <stdio.h>
#include <sys/socket.h>

#include "string-util.h"
#include "test.h"

/* A bus that is connected to nobody: messages can be made, sealed and read. */
static sd_bus *fake_bus(void) {
        int fds[2];
        sd_bus *bus;

        ASSERT_TRUE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) >= 0);
        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fds[0], fds[0]));
        ASSERT_OK(sd_bus_start(bus));
        return bus;
}

/* What is in the message of one setting, blanks and line ends left out. */
static char *dump(const char *setting) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(sd_bus_unrefp) sd_bus *bus = fake_bus();
        char *const settings[] = { (char *) setting, NULL };
        char *text = NULL, *to;
        size_t size;
        FILE *f;

        ASSERT_OK(sd_bus_message_new_method_call(bus, &m, "a.b", "/", "a.b", "C"));
        ASSERT_OK(sd_bus_message_open_container(m, 'a', "(sv)"));
        ASSERT_OK(unit_settings_append(settings, m));
        ASSERT_OK(sd_bus_message_close_container(m));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        f = open_memstream(&text, &size);
        ASSERT_OK(sd_bus_message_dump(m, f, SD_BUS_MESSAGE_DUMP_SUBTREE_ONLY));
        fclose(f);

        to = text;
        for (const char *p = text; *p; p++)
                if (*p != ' ' && *p != '\n')
                        *to++ = *p;
        *to = '\0';
        return text;
}

static void test_what_systemd_is_told(void **state) {
        static const struct {
                const char *property, *value, *wanted, *also;
        } table[] = {
                { "CPUWeight", "10000", "STRING\"CPUWeight\";VARIANT\"t\"{UINT6410000;", NULL },
                { "CPUQuota", "150%", "STRING\"CPUQuotaPerSecUSec\";VARIANT\"t\"{UINT641500000;", NULL },
                { "CPUQuotaPeriodSec", "10ms", "STRING\"CPUQuotaPeriodUSec\";VARIANT\"t\"{UINT6410000;",
                                NULL },
                { "MemoryHigh", "1M", "STRING\"MemoryHigh\";VARIANT\"t\"{UINT641048576;", NULL },
                { "MemorySwapMax", "0", "STRING\"MemorySwapMax\";VARIANT\"t\"{UINT640;", NULL },
                { "MemoryMax", "infinity", "UINT6418446744073709551615;", NULL },
                { "TasksMax", "infinity", "UINT6418446744073709551615;", NULL },
                { "AllowedCPUs", "0-1, 9", "VARIANT\"ay\"{ARRAY\"y\"{BYTE3;BYTE2;}", NULL },
                { "IOReadBandwidthMax", "/dev/sda 1K, /dev/sdb 2",
                                "STRUCT\"st\"{STRING\"/dev/sda\";UINT641024;",
                                "STRUCT\"st\"{STRING\"/dev/sdb\";UINT642;" },
                { "IODeviceWeight", "/dev/sda 5", "STRUCT\"st\"{STRING\"/dev/sda\";UINT645;", NULL },
                { "LimitNPROC", "10", "STRING\"LimitNPROC\";VARIANT\"t\"{UINT6410;",
                                "STRING\"LimitNPROCSoft\";VARIANT\"t\"{UINT6410;" },
                { "LimitCORE", "0:infinity", "STRING\"LimitCORE\";VARIANT\"t\"{UINT6418446744073709551615;",
                                "STRING\"LimitCORESoft\";VARIANT\"t\"{UINT640;" },
                { "Nice", "-20", "STRING\"Nice\";VARIANT\"i\"{INT32-20;", NULL },
                { "OOMScoreAdjust", "1000", "VARIANT\"i\"{INT321000;", NULL },
                { "ManagedOOMSwap", "kill", "VARIANT\"s\"{STRING\"kill\";", NULL },
                { "ManagedOOMMemoryPressureLimit", "100%", "VARIANT\"u\"{UINT324294967295;", NULL },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *setting = strjoin(t->property, "=", t->value), *text = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;

                if (unit_setting_validate(t->property, t->value, &e) < 0)
                        fail_msg("%s", kerror_message(&e));
                text = dump(setting);
                if (!strstr(text, t->wanted) || (t->also && !strstr(text, t->also)))
                        fail_msg("%s gives %s", setting, text);
        }
}

static void test_bad_values_are_refused_with_what_is_expected(void **state) {
        static const struct {
                const char *property, *value, *why;
        } table[] = {
                { "CPUWeight", "0", "between 1 and 10000" },
                { "CPUWeight", "10001", "between 1 and 10000" },
                { "CPUWeight", "", "between 1 and 10000" },
                { "CPUWeight", "1 ", "between 1 and 10000" },
                { "CPUWeight", "infinity", "between 1 and 10000" },
                { "CPUQuota", "150", "per cent of one CPU" },
                { "CPUQuota", "0%", "per cent of one CPU" },
                { "CPUQuota", "%", "per cent of one CPU" },
                { "CPUQuotaPeriodSec", "2s", "between 1ms and 1s" },
                { "MemoryHigh", "-1", "bytes" },
                { "MemoryMax", "0", "bytes" },
                { "IOReadBandwidthMax", "/dev/sda 0", "a device and bytes" },
                { "IOReadBandwidthMax", "/dev/%n 1", "a device and bytes" },
                { "IOReadBandwidthMax", "/dev/sda\nExecStart=/x 1", "a device and bytes" },
                { "MemoryHigh", "1X", "bytes" },
                { "TasksMax", "0", "or infinity" },
                { "AllowedCPUs", "", "ranges" },
                { "AllowedCPUs", "3-1", "ranges" },
                { "AllowedCPUs", "0-8192", "ranges" },
                { "AllowedCPUs", "a", "ranges" },
                { "IOReadBandwidthMax", "sda 1", "a device and bytes" },
                { "IOReadBandwidthMax", "/dev/sda", "a device and bytes" },
                { "IOReadBandwidthMax", "/dev/../etc 1", "a device and bytes" },
                { "IOReadBandwidthMax", "/dev/sda 1,", NULL },
                { "IOReadIOPSMax", "/dev/sda 0", "operations" },
                { "IODeviceWeight", "/dev/sda 10001", "between 1 and 10000" },
                { "LimitNOFILE", "20:10", "SOFT:HARD" },
                { "LimitNOFILE", "1:2:3", "SOFT:HARD" },
                { "Nice", "20", "between -20 and 19" },
                { "ManagedOOMSwap", "", "auto|kill" },
                { "ManagedOOMSwap", "auto|kill", "auto|kill" },
                { "ManagedOOMMemoryPressureLimit", "101%", "per cent" },
                { "ExecStart", "/bin/sh", "no property 'ExecStart'" },
                { "", "1", "no property" },
                { "CPU", "1", "no property 'CPU'" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                int r = unit_setting_validate(t->property, t->value, &e);

                if (!t->why) { /* an empty entry at the end is none */
                        ASSERT_OK(r);
                        continue;
                }
                if (r >= 0)
                        fail_msg("accepted: %s=%s", t->property, t->value);
                ASSERT_EQ(e.code, K_INVALID_ARGUMENT);
                if (!strstr(kerror_message(&e), t->why))
                        fail_msg("'%s' does not say '%s'", kerror_message(&e), t->why);
        }
}

static void test_have_knows_the_names_of_the_bus(void **state) {
        char *const settings[] = { (char *) "CPUQuota=50%", (char *) "LimitNOFILE=10", NULL };

        ASSERT_TRUE(unit_settings_have(settings, "CPUQuotaPerSecUSec"));
        ASSERT_TRUE(unit_settings_have(settings, "LimitNOFILE"));
        ASSERT_TRUE(unit_settings_have(settings, "LimitNOFILESoft"));
        ASSERT_FALSE(unit_settings_have(settings, "CPUQuota"));
        ASSERT_FALSE(unit_settings_have(settings, "LimitNOFILESofter"));
        ASSERT_FALSE(unit_settings_have(settings, "LimitNPROC"));
        ASSERT_FALSE(unit_settings_have(NULL, "CPUWeight"));
}

KONTENA_TESTS(cmocka_unit_test(test_what_systemd_is_told),
                cmocka_unit_test(test_bad_values_are_refused_with_what_is_expected),
                cmocka_unit_test(test_have_knows_the_names_of_the_bus))
