/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kontena-limits.h"
#include "macro.h"

/* What of one stream may be on the way, in both directions, as either side counts it (doc/node-channel.md, Streams): a frame costs its
 * data and frame_cost, one without data nothing. Who takes what came says so in bytes; what that is worth is computed here, by the
 * receiver alone, and all of it is given back with the last byte. */
typedef struct StreamWindow {
        size_t frame_cost;    /* STREAM_FRAME_COST; 0: the other side does not count frames yet */
        size_t room;          /* what may still be sent */
        size_t bytes, frames; /* that came, and are not given back */
} StreamWindow;

void stream_window_open(StreamWindow *w, bool counts_frames);

/* Data that may be sent now, in frames as large as they can be. 0 too where only crumbs would fit. */
size_t stream_window_room(const StreamWindow *w);
void stream_window_sent(StreamWindow *w, size_t size);    /* one frame, within the room */
int stream_window_refill(StreamWindow *w, uint64_t cost); /* -ERANGE: more than was sent */

int stream_window_receive(StreamWindow *w, size_t size); /* one frame. -ENOBUFS: it may not have been sent */
int stream_window_take(StreamWindow *w, size_t size, size_t *ret_cost); /* -ERANGE: more than came */
