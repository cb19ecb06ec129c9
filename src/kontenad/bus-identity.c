/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-identity.h"

#include "file-util.h"
#include "string-util.h"

/* The caller waits for it. */
#define TIMEOUT_USEC (500U * USEC_PER_MSEC)

#define UNITS        "/org/freedesktop/systemd1/unit"

struct BusIdentity {
        sd_bus_slot *slot;
        bus_identity_done_t done;
        void *userdata;
};

BusIdentity *bus_identity_free(BusIdentity *i) {
        if (!i)
                return NULL;

        sd_bus_slot_unref(i->slot);
        free(i);
        return NULL;
}

static int on_unit(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_free_ char *unit = NULL, *session = NULL;
        BusIdentity *i = userdata;
        const char *path = NULL, *end;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "o", &path) > 0 &&
                        sd_bus_path_decode(path, UNITS, &unit) > 0) {
                end = endswith(unit, ".scope");
                if (end && startswith(unit, "session-")) /* pam_systemd puts each session into one */
                        session = strndup(unit + strlen("session-"),
                                        (size_t) (end - unit) - strlen("session-"));
        }

        i->done(unit, session, i->userdata);
        return 0;
}

int bus_identity_ask(sd_bus *bus, pid_t pid, bus_identity_done_t done, void *userdata, BusIdentity **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        BusIdentity *i;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                        "org.freedesktop.systemd1.Manager", "GetUnitByPID");
        if (r >= 0)
                r = sd_bus_message_append(m, "u", (uint32_t) pid);
        if (r < 0)
                return r;
        i = new0(BusIdentity, 1);
        if (!i)
                return -ENOMEM;
        i->done = done;
        i->userdata = userdata;
        r = sd_bus_call_async(bus, &i->slot, m, on_unit, i, TIMEOUT_USEC);
        if (r < 0) {
                bus_identity_free(i);
                return r;
        }

        *ret = i;
        return 0;
}
