/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kontena-limits.h"
#include "macro.h"

/* Binary messages of the node channel that carry data of a stream (doc/node-channel.md, Streams): the kind, the stream's number
 * as 32 bits little-endian, the channel, the data. No data: the channel has ended. */
#define STREAM_FRAME_KIND      1
#define STREAM_FRAME_HEAD_SIZE 6U

/* 0 goes to the node, as standard input; 1 and 2 come from it, as standard output and error. */
#define STREAM_CHANNELS        3U

typedef struct StreamFrame {
        uint32_t stream;
        unsigned channel;
        const uint8_t *data; /* into what was parsed */
        size_t size;
} StreamFrame;

/* 1: a frame of a stream; 0: another kind of message, of a later version; -EBADMSG: malformed, too large. */
int stream_frame_parse(const void *message, size_t size, StreamFrame *ret);
void stream_frame_head(uint8_t ret[static STREAM_FRAME_HEAD_SIZE], uint32_t stream, unsigned channel);

/* A name as in SIGNAL(7) without SIG, of those that one may want to send: "INT", "TERM", "WINCH"; 0: there is none. */
int stream_signal_from_name(const char *name);
const char *stream_signal_to_name(int signal); /* NULL likewise */
