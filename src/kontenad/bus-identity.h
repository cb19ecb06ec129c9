/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "macro.h"

/* To which unit a process belongs, and to which session of logind: systemd knows, of processes that our sandbox hides from us. Both NULL:
 * unknown. Called once, not from inside bus_identity_ask(), unless freed before; may free it. */
typedef struct BusIdentity BusIdentity;
typedef void (*bus_identity_done_t)(const char *unit, const char *session, void *userdata);

int bus_identity_ask(sd_bus *bus, pid_t pid, bus_identity_done_t done, void *userdata, BusIdentity **ret);
BusIdentity *bus_identity_free(BusIdentity *i);
