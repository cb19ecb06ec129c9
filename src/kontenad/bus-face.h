/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"
#include "kerror.h"
#include "macro.h"
#include "master.h"

/* io.kontena.Master1 on the bus: methods of the Manager become operations, rows of the store objects. */
typedef struct BusFace BusFace;

/* Adds objects to m->bus and takes the name; of a test's master that has no bus, neither. */
int bus_face_new(Master *m, BusFace **ret, KError *reterr);
BusFace *bus_face_free(BusFace *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusFace *, bus_face_free);

/* The objects on one more connection, which is not a bus: at its other end is one peer, whose calls are made by callers of the
 * guest's, and who sees objects, properties and signals only of grids the guest sees. */
typedef struct BusLink BusLink;
typedef struct BusGuest {
        int (*new_caller)(void *userdata, Caller **ret, KError *reterr);
        bool (*sees)(void *userdata, const char *grid_id); /* NULL: what belongs to no grid */
        void (*sent)(void *userdata); /* more waits in the connection; from here nothing may be freed */
} BusGuest;

int bus_face_add(BusFace *f, sd_bus *bus, const BusGuest *guest, void *userdata, BusLink **ret);
/* The peer is gone: its streams end, answers to it are lost. */
BusLink *bus_link_close(BusLink *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusLink *, bus_link_close);

/* ListenURL or CAFingerprint may have changed. */
void bus_face_reloaded(BusFace *f);
