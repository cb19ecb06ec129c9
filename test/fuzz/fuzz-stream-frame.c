/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "stream-frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is taken for a frame is made of the same bytes again, and lies within what was given. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint8_t head[STREAM_FRAME_HEAD_SIZE];
        StreamFrame f;

        if (stream_frame_parse(data, size, &f) <= 0)
                return 0;

        assert(f.channel < STREAM_CHANNELS && f.size <= STREAM_DATA_MAX);
        assert(f.data == data + STREAM_FRAME_HEAD_SIZE && f.size == size - STREAM_FRAME_HEAD_SIZE);
        stream_frame_head(head, f.stream, f.channel);
        assert(memcmp(head, data, sizeof(head)) == 0);
        return 0;
}
