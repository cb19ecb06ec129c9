/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"

/* io.kontena.Master1 on the bus: methods of the Manager become operations, rows of the store objects. */
typedef struct BusFace BusFace;

/* Adds objects to m->bus and takes the name. */
int bus_face_new(Master *m, BusFace **ret, KError *reterr);
BusFace *bus_face_free(BusFace *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusFace *, bus_face_free);

/* ListenURL or CAFingerprint may have changed. */
void bus_face_reloaded(BusFace *f);
