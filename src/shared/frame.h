/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* What kontena-noded and kontena-channel say to each other over a stream socket: frames of one type byte, the size of
 * the payload as 32 bits little-endian, and the payload of at most FRAME_SIZE_MAX bytes. */
typedef enum FrameType {
        FRAME_CONFIG = 1, /* to the worker, first and once: JSON */
        FRAME_TEXT,       /* both ways: one text message of the WebSocket */
        FRAME_BINARY,     /* both ways: one binary message */
        FRAME_CLOSE,      /* to the worker: {"code", "reason"}: close and end */
        FRAME_STATUS,     /* from the worker: {"phase"} */
        FRAME_CLOSED,     /* from the worker, last: {"code", "phase", "reason"} */
        _FRAME_TYPE_MAX,
        _FRAME_TYPE_INVALID = -EINVAL,
} FrameType;

#define FRAME_HEAD_SIZE 5U

typedef struct FrameStream FrameStream;

typedef struct FrameHandler {
        /* One whole frame. data has a NUL behind it and is gone after the call. Free the stream only by
         * frame_stream_unref(), also from here. */
        void (*frame)(FrameStream *s, FrameType type, const char *data, size_t size, void *userdata);
        /* Once, last: r is 0 at an orderly end of file, -EBADMSG after a malformed frame, else what the socket said. */
        void (*end)(FrameStream *s, int r, void *userdata);
        void (*drained)(FrameStream *s, void *userdata); /* the queue became empty; may be NULL */
} FrameHandler;

/* A non-blocking stream socket; the fd is consumed, also on failure. */
int frame_stream_new_consume(
                sd_event *event, int fd, const FrameHandler *handler, void *userdata, FrameStream **ret);
FrameStream *frame_stream_ref(FrameStream *s);
FrameStream *frame_stream_unref(
                FrameStream *s); /* at the last one: closed at once, what is queued is lost */
DEFINE_TRIVIAL_CLEANUP_FUNC(FrameStream *, frame_stream_unref);
/* No handler is called any more. */
void frame_stream_detach(FrameStream *s);

/* Queues one frame. -EMSGSIZE over FRAME_SIZE_MAX, -ENOBUFS when more than CHANNEL_QUEUE_BYTES_MAX wait, -EPIPE after the end. */
int frame_stream_send(FrameStream *s, FrameType type, const void *data, size_t size);
/* The same for a payload in two parts. */
int frame_stream_send_parts(FrameStream *s, FrameType type, const void *head, size_t head_size,
                const void *data, size_t data_size);
size_t frame_stream_queued(const FrameStream *s);    /* bytes */
void frame_stream_pause(FrameStream *s, bool pause); /* stop reading: back pressure */
/* Writes what is queued before returning, waiting at most timeout_usec: for a last word before the process ends. */
int frame_stream_flush(FrameStream *s, uint64_t timeout_usec);

/* The parser alone, for the stream and the fuzzer. Feed bytes, take frames. */
typedef struct FrameBuffer {
        uint8_t *data;
        size_t start, end, allocated;
        bool terminated; /* data[start] was overwritten by the NUL of the last frame */
        uint8_t overwritten;
} FrameBuffer;

void frame_buffer_done(FrameBuffer *b);
/* Room for at least n more bytes; *ret points to it. */
int frame_buffer_reserve(FrameBuffer *b, size_t n, uint8_t **ret);
void frame_buffer_commit(FrameBuffer *b, size_t n);
/* 1: one frame, valid until the next call on b, with a NUL behind it; 0: more bytes are needed; -EBADMSG: unknown type or
 * too large. */
int frame_buffer_take(FrameBuffer *b, FrameType *ret_type, const char **ret_data, size_t *ret_size);
/* The bytes that were committed and not taken, and dropping n of them: for use as a queue. */
static inline size_t frame_buffer_size(const FrameBuffer *b) {
        return b->end - b->start;
}
void frame_buffer_drop(FrameBuffer *b, size_t n);
