/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "unit-setup.h"

/* A container's standard output is a socket of the journal, without us in between. But many images open /dev/stdout or /dev/stderr by
 * name (links from /var/log/nginx/, say), and sockets cannot be opened. So these two names are a FIFO in the container, and it is
 * systemd's: a socket unit keeps it open, and starts a `cat` to the journal when somebody has written to it. No daemon of ours
 * is needed. Whoever never opens these names costs no process.
 *
 * The instance's unit wants the socket unit, which stops when it is not needed any more: the two come and go together, whatever
 * happens to us. cat reads on until all of the container has closed the FIFO, so the last words are not lost. */

#define OUTPUT_FIFO "output"

/* Makes the FIFO in the directory: then the container can start whatever happens to the socket unit. */
int output_make(const char *directory);

/* Fills in the names of the units and of the FIFO; id: of the container. */
int output_setup(const char *id, const char *directory, UnitSetup *setup);

/* What goes into the unit of the instance, and the a(sa(sv)) of units beside it. */
int output_append_dependencies(const UnitSetup *s, sd_bus_message *m);
int output_append_units(const UnitSetup *s, const char *instance_unit, sd_bus_message *m);
