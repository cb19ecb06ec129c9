/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"
#include "json-util.h"
#include "string-util.h"

/* JSON goes on the bus as a variant and comes back as it was; the first byte chooses another type that it may not fit. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char *const types[] = { "v", "a{sv}", "aa{sv}", "as", "(sut)", "a(ussss)", "o", "y",
                "d" };
        static sd_bus *bus;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *o = NULL, *back = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        const char *type;
        int r;

        if (size < 1)
                return 0;
        type = types[data[0] % ELEMENTSOF(types)];
        if (json_parse((const char *) data + 1, size - 1, 65536, &o, NULL) < 0)
                return 0;

        if (!bus) {
                if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, "unix:path=/nowhere") < 0)
                        return 0;
                (void) sd_bus_start(bus);
        }
        if (sd_bus_message_new_signal(bus, &m, "/a", "b.c", "D") < 0)
                return 0;

        r = bus_json_append(m, type, o, &e);
        if (r < 0) {
                assert(kerror_is_set(&e) || r == -ENOMEM);
                return 0;
        }
        if (sd_bus_message_seal(m, 1, 0) < 0 || sd_bus_message_rewind(m, true) < 0)
                return 0;
        r = bus_json_read(m, &back, &e);
        assert(r >= 0 || kerror_is_set(&e));
        assert(r < 0 || streq(type, "d") || json_object_equal(o, back));
        return 0;
}
