/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-property.h"

#include <string.h>

#include "file-util.h"
#include "string-util.h"

int unit_append_string(sd_bus_message *m, const char *name, const char *value) {
        return sd_bus_message_append(m, "(sv)", name, "s", value);
}

int unit_append_bool(sd_bus_message *m, const char *name, bool value) {
        return sd_bus_message_append(m, "(sv)", name, "b", (int) value);
}

int unit_append_u64(sd_bus_message *m, const char *name, uint64_t value) {
        return sd_bus_message_append(m, "(sv)", name, "t", value);
}

int unit_append_names(sd_bus_message *m, const char *name, const char *value) {
        return sd_bus_message_append(m, "(sv)", name, "as", 1, value);
}

int unit_append_command(sd_bus_message *m, const char *name, char *const *argv, bool ignore_failure) {
        int r;

        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'r', "sasb");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", argv[0]);
        if (r >= 0)
                r = sd_bus_message_append_strv(m, (char **) argv);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", (int) ignore_failure);
        for (int i = 0; i < 4 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

int unit_append_log_fields(sd_bus_message *m, char *const *fields) {
        int r;

        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "LogExtraFields");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "aay");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "ay");
        STRV_FOREACH(f, fields)
                if (r >= 0)
                        r = sd_bus_message_append_array(m, 'y', *f, strlen(*f));
        for (int i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

#define LOG_BURST_UNREACHED 50000000U

int unit_append_no_log_limit(sd_bus_message *m) {
        int r;

        r = unit_append_u64(m, "LogRateLimitIntervalUSec", USEC_PER_SEC);
        return r < 0 ? r : sd_bus_message_append(m, "(sv)", "LogRateLimitBurst", "u", LOG_BURST_UNREACHED);
}
