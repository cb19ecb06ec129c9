/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "frame.h"
#include "kontena-limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says in what portions the rest comes. Whatever they are, the frames are the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        size_t step = size > 0 ? 1U + data[0] : 1, whole = 0, portions = 0;
        int last_whole = 0, last_portions = 0;

        if (size < 1)
                return 0;
        data++;
        size--;

        for (unsigned round = 0; round < 2; round++) {
                size_t *n = round == 0 ? &whole : &portions, width = round == 0 ? size : step;
                int *last = round == 0 ? &last_whole : &last_portions;
                FrameBuffer b = {};

                for (size_t i = 0; i < size && *last >= 0; i += width) {
                        size_t k = MIN(width, size - i);
                        uint8_t *p;

                        if (frame_buffer_reserve(&b, k, &p) < 0)
                                return 0;
                        memcpy(p, data + i, k);
                        frame_buffer_commit(&b, k);
                        for (;;) {
                                FrameType type;
                                const char *payload;
                                size_t payload_size;

                                *last = frame_buffer_take(&b, &type, &payload, &payload_size);
                                if (*last <= 0)
                                        break;
                                assert(type > 0 && type < _FRAME_TYPE_MAX);
                                assert(payload_size <= FRAME_SIZE_MAX && payload[payload_size] == '\0');
                                *n += 1 + payload_size;
                        }
                }
                frame_buffer_done(&b);
        }

        assert(whole == portions && last_whole == last_portions);
        return 0;
}
