/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-window.h"

#include <errno.h>

void stream_window_open(StreamWindow *w, bool counts_frames) {
        *w = (StreamWindow){
                .frame_cost = counts_frames ? STREAM_FRAME_COST : 0,
                .room = STREAM_WINDOW,
        };
}

size_t stream_window_room(const StreamWindow *w) {
        size_t whole = STREAM_DATA_MAX + w->frame_cost, rest = w->room % whole;

        return w->room / whole * STREAM_DATA_MAX + (rest >= 2 * w->frame_cost ? rest - w->frame_cost : 0);
}

static size_t cost_of(const StreamWindow *w, size_t size) {
        return size == 0 ? 0 : size + w->frame_cost;
}

void stream_window_sent(StreamWindow *w, size_t size) {
        assert(size <= STREAM_DATA_MAX && cost_of(w, size) <= w->room);

        w->room -= cost_of(w, size);
}

int stream_window_refill(StreamWindow *w, uint64_t cost) {
        if (cost > STREAM_WINDOW - w->room)
                return -ERANGE;
        w->room += (size_t) cost;
        return 0;
}

int stream_window_receive(StreamWindow *w, size_t size) {
        if (cost_of(w, size) > STREAM_WINDOW - w->bytes - w->frames * w->frame_cost)
                return -ENOBUFS;
        w->bytes += size;
        w->frames += size > 0;
        return 0;
}

int stream_window_take(StreamWindow *w, size_t size, size_t *ret_cost) {
        size_t frames;

        if (size > w->bytes)
                return -ERANGE;
        if (size == 0) {
                *ret_cost = 0;
                return 0;
        }

        /* Frames go in the measure of their bytes, the last with the last byte. */
        frames = (size_t) ((uint64_t) w->frames * size / w->bytes);
        w->bytes -= size;
        w->frames -= frames;
        *ret_cost = size + frames * w->frame_cost;
        return 0;
}
