/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* One end of a D-Bus connection whose bytes go through messages (doc/bus-tunnel.md): kontenad has one between sd-bus and a WebSocket,
 * kontena-bridge the other. Binary messages are bytes, text messages a decimal number: so many bytes were taken by who they are for.
 * No more than BUS_PUMP_WINDOW bytes are on the way in one direction, so both ends can always read, pings are answered whatever the
 * program behind does, and neither end keeps more than that. */
typedef struct BusPump BusPump;

typedef struct BusPumpHandler {
        int (*send)(bool binary, const void *data, size_t size, void *userdata);
        /* Once, last; also from inside of bus_pump_receive(). r is 0: the program behind closed its end. */
        void (*ended)(int r, void *userdata);
        /* Something was sent that was not before, or the other end took something. NULL: nobody wants to know. */
        void (*moved)(void *userdata);
} BusPumpHandler;

/* fd: a stream socket; consumed, also on failure. */
int bus_pump_new_consume(
                sd_event *event, int fd, const BusPumpHandler *handler, void *userdata, BusPump **ret);
BusPump *bus_pump_free(BusPump *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusPump *, bus_pump_free);

/* A message of the other end's. -EBADMSG: it is not one, or more than the window allows. */
int bus_pump_receive(BusPump *p, bool binary, const char *data, size_t size, KError *reterr);

/* What came is kept and not passed on, so that the other end soon sends no more. */
void bus_pump_hold(BusPump *p, bool hold);
/* What was written by the program behind until now is sent, as far as the window lets it. */
void bus_pump_flush(BusPump *p);
/* For how long the other end has taken nothing of a full window; 0: there is room. */
uint64_t bus_pump_stalled_usec(const BusPump *p);

#define BUS_PUMP_WINDOW (512U * 1024U)
