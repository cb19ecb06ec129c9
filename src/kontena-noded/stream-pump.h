/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"
#include "streams.h"

/* Moves bytes between a stream and up to three descriptors, within the stream's windows: what most providers need. A descriptor
 * is not read while there is no room for what it has, and not written while it does not take more. */
typedef struct StreamPump StreamPump;

typedef struct StreamPumpHandler {
        /* What the master wrote last is written, and it will write no more: close the descriptor, or do what means end of file there. */
        void (*input_over)(void *userdata);
        /* Channels 1 and 2 are at their end, and everything was sent. Once; it may free the pump. */
        void (*drained)(void *userdata);
} StreamPumpHandler;

/* fds[0] is written to, 1 and 2 are read from; -EBADF: there is none; 0 and 1 may be the same (a terminal, a socket). They are non-blocking
 * and stay the caller's, who closes them after the pump is gone, 0 from input_over() on. */
int stream_pump_new(sd_event *event, Stream *s, const int fds[static 3], const StreamPumpHandler *handler,
                void *userdata, StreamPump **ret);
StreamPump *stream_pump_free(StreamPump *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(StreamPump *, stream_pump_free);

/* As the functions of a StreamProvider. */
void stream_pump_write(StreamPump *p, const void *data, size_t size);
void stream_pump_end_input(StreamPump *p);
void stream_pump_ready(StreamPump *p);

/* The other side is gone: what its descriptors still hold is read to its end, however slowly it is taken; but once nothing came for
 * grace_usec and the stream has room, drained() is called though somebody may still hold the other end. */
void stream_pump_finish(StreamPump *p, uint64_t grace_usec);
bool stream_pump_is_drained(const StreamPump *p); /* drained() was called */
