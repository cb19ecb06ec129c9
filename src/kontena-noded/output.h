/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "fd-store.h"
#include "macro.h"

/* A container's standard output is a socket of the journal, without us in between. But many images open /dev/stdout or /dev/stderr by
 * name (links from /var/log/nginx/, say), and sockets cannot be opened. So these two names are FIFOs in the container, and what
 * is written there goes to the journal with the same fields, by us. Both ends are held open by us and, over our restarts, by
 * systemd: no writer sees a broken pipe, nothing is lost, a full pipe makes it wait. */
typedef struct Output Output;

/* Makes the FIFOs <directory>/stdout and <directory>/stderr. */
int output_make(const char *directory);

/* Begins to read. name is for the descriptor store; fields: "KONTENA_GRID=...", copied. */
int output_open(sd_event *event, FdStore *store, const char *directory, const char *name,
                const char *identifier, char *const *fields, Output **ret);
void output_set_pid(Output *o, uint32_t main_pid); /* so that journalctl -u finds the lines */
/* For good: the container is no more. */
Output *output_close(Output *o);
/* The daemon ends, the container does not. */
Output *output_leave(Output *o);
DEFINE_TRIVIAL_CLEANUP_FUNC(Output *, output_leave);
