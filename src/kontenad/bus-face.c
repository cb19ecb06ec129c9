/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-face.h"

#include "bus-internal.h"

BusFace *bus_face_free(BusFace *f) {
        if (!f)
                return NULL;

        bus_calls_abort(f);
        bus_notify_done(f);
        for (size_t i = 0; i < f->n_slots; i++)
                sd_bus_slot_unref(f->slots[i]);
        FOREACH_ARRAY(found, f->found, ELEMENTSOF(f->found))
                bus_found_done(found);
        free(f);
        return NULL;
}

int bus_face_new(Master *m, BusFace **ret, KError *reterr) {
        _cleanup_(bus_face_freep) BusFace *f = NULL;
        int r;

        assert(m);
        assert(ret);

        f = new0(BusFace, 1);
        if (!f)
                return -ENOMEM;
        f->master = m;

        r = bus_objects_add(f);
        if (r >= 0)
                r = bus_notify_start(f);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Objects cannot be put on the bus: %m.");

        /* While starting; from here on nothing waits for the bus. */
        r = sd_bus_request_name(m->bus, BUS_NAME, 0);
        if (r == -EEXIST)
                return kerror_set(reterr, K_CONFLICT, "Another kontenad has the bus name " BUS_NAME ".");
        if (r < 0)
                return kerror_set_errno(reterr, r, "The bus name " BUS_NAME " cannot be had: %m.");

        *ret = TAKE_PTR(f);
        return 0;
}
