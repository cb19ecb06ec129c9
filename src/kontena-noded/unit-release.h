/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

/* A transient unit of ours that was made with AddRef is let go, after it was stopped if so. Tried again for a minute where systemd cannot
 * be asked, as while it executes itself anew: a unit that is kept keeps what it is bound to. Nobody waits for it. */
void unit_release(sd_bus *bus, const char *name, bool stop);
