/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-settings.h"

#include <sys/socket.h>

#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sd_bus *fake_bus(void) {
        int fds[2];
        sd_bus *bus;

        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) >= 0);
        assert(sd_bus_new(&bus) >= 0);
        assert(sd_bus_set_fd(bus, fds[0], fds[0]) >= 0);
        assert(sd_bus_start(bus) >= 0);
        return bus;
}

/* "PROPERTY=value": what the master accepts, the node can put into a message. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static sd_bus *bus; /* costly to make */
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *setting = strndup((const char *) data, size), *property = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        char *equal;
        char *const settings[] = { setting, NULL };

        equal = strchr(setting, '=');
        if (!equal)
                return 0;
        property = strndup(setting, (size_t) (equal - setting));
        if (unit_setting_validate(property, equal + 1, &error) < 0) {
                assert(kerror_is_set(&error));
                return 0;
        }

        if (!bus)
                bus = fake_bus();
        assert(sd_bus_message_new_method_call(bus, &m, "a.b", "/", "a.b", "C") >= 0);
        assert(sd_bus_message_open_container(m, 'a', "(sv)") >= 0);
        assert(unit_settings_append(settings, m) >= 0);
        assert(sd_bus_message_close_container(m) >= 0);
        return 0;
}
