/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "noded.h"

/* io.kontena.Node1 on the system bus; see dbus/io.kontena.Node1.xml. */
int bus_face_new(Manager *m, BusFace **ret);
BusFace *bus_face_free(BusFace *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusFace *, bus_face_free);

/* Signals. f may be NULL: the bus is not up yet. */
void bus_face_instance_added(BusFace *f, Instance *i);
void bus_face_instance_removed(BusFace *f, Instance *i);
void bus_face_instance_changed(BusFace *f, Instance *i);
void bus_face_node_changed(BusFace *f);
