/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* The other end of a stream of the master, between our own descriptors: bytes go both ways, none is lost or kept back, and no more is
 * held here than the stream's window. */
typedef struct CtlStreamOptions {
        int input, output,
                        error; /* -EBADF: there is none; an input that is none has ended. They stay the caller's. */
        bool close_on_signal; /* nobody there would take a signal: it ends the stream, and the status is 128 + its number */
        bool error_is_text; /* sentences for people: nothing in them drives a terminal */
        bool terminal; /* it has a terminal there: of ours, if input is one, keys go there as they are typed, and its size with them */
} CtlStreamOptions;

/* Sends the call, whose answer is the stream's id, and moves bytes until the stream ends. SIGINT, SIGTERM, SIGQUIT and SIGHUP go to the
 * other side. Returns its status, or fails with its error. */
int ctl_stream_run(Ctl *c, sd_bus_message *open, const CtlStreamOptions *o, KError *reterr);
