/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-face.h"

#include <utlist.h>

#include "bus-internal.h"
#include "string-util.h"

BusLink *bus_link_ref(BusLink *l) {
        l->n_ref++;
        return l;
}

BusLink *bus_link_unref(BusLink *l) {
        if (!l || --l->n_ref > 0)
                return NULL;

        assert(!l->face);
        sd_bus_unref(l->bus);
        free(l);
        return NULL;
}

BusLink *bus_link_close(BusLink *l) {
        if (!l)
                return NULL;

        while (l->readers) {
                BusReader *r = l->readers;

                r->gone(r);
                if (l->readers == r) /* there was nothing to end */
                        DL_DELETE(l->readers, r);
        }
        for (size_t i = 0; i < l->n_slots; i++)
                sd_bus_slot_unref(l->slots[i]);
        l->n_slots = 0;
        FOREACH_ARRAY(found, l->found, ELEMENTSOF(l->found))
                bus_found_done(found);
        DL_DELETE(l->face->links, l);
        l->face = NULL;
        return bus_link_unref(l);
}

int bus_face_add(BusFace *f, sd_bus *bus, const BusGuest *guest, void *userdata, BusLink **ret) {
        _cleanup_(bus_link_closep) BusLink *l = NULL;
        int r;

        assert(f);
        assert(bus);

        l = new0(BusLink, 1);
        if (!l)
                return -ENOMEM;
        l->n_ref = 1;
        l->face = f;
        l->bus = sd_bus_ref(bus);
        l->guest = guest;
        l->guest_userdata = userdata;
        DL_APPEND(f->links, l);

        r = bus_objects_add(l);
        if (r < 0)
                return r;

        if (ret)
                *ret = l;
        TAKE_PTR(l);
        return 0;
}

bool bus_link_sees(BusLink *l, const char *grid_id) {
        return !l->guest || l->guest->sees(l->guest_userdata, grid_id);
}

int bus_link_send(BusLink *l, sd_bus_message *m) {
        int r;

        r = sd_bus_send(l->bus, m, NULL);
        if (r >= 0 && l->face && l->guest)
                l->guest->sent(l->guest_userdata);
        return r < 0 ? r : 0;
}

BusFace *bus_face_free(BusFace *f) {
        if (!f)
                return NULL;

        bus_calls_abort(f);
        bus_notify_done(f);
        while (f->links)
                bus_link_close(f->links);
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

        r = m->bus ? bus_face_add(f, m->bus, NULL, NULL, NULL) : 0;
        if (r >= 0)
                r = bus_notify_start(f);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Objects cannot be put on the bus: %m.");

        /* While starting; from here on nothing waits for the bus. */
        r = !m->bus ? 0 : sd_bus_request_name(m->bus, BUS_NAME, 0);
        if (r == -EEXIST)
                return kerror_set(reterr, K_CONFLICT, "Another kontenad has the bus name " BUS_NAME ".");
        if (r < 0)
                return kerror_set_errno(reterr, r, "The bus name " BUS_NAME " cannot be had: %m.");

        *ret = TAKE_PTR(f);
        return 0;
}
