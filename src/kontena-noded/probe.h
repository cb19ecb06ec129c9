/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Waits until something listens on a TCP port: a connection attempt each second (at first more often), each given a second. */
typedef struct Probe Probe;

/* Called once from the event loop; error NULL: it listens. The probe is freed after. */
typedef void (*probe_done_t)(Probe *p, const KError *error, void *userdata);

int probe_start(sd_event *event, const char *address, uint16_t port, uint64_t timeout_usec,
                probe_done_t done, void *userdata, Probe **ret);
Probe *probe_cancel(Probe *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Probe *, probe_cancel);
