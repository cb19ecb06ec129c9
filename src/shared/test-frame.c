/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "frame.h"

#include <sys/socket.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static void feed(FrameBuffer *b, const void *data, size_t size) {
        uint8_t *p;

        ASSERT_OK(frame_buffer_reserve(b, size, &p));
        memcpy(p, data, size);
        frame_buffer_commit(b, size);
}

static void test_buffer_gives_frames_in_order_however_they_arrive(void **state) {
        static const char bytes[] = "\x02\x03\0\0\0abc\x03\0\0\0\0\x02\x01\0\0\0z";

        for (size_t step = 1; step < sizeof(bytes); step++) {
                FrameBuffer b = {};
                char got[64] = "";
                size_t n = 0;

                for (size_t i = 0; i < sizeof(bytes) - 1; i += step) {
                        feed(&b, bytes + i, MIN(step, sizeof(bytes) - 1 - i));
                        for (;;) {
                                FrameType type;
                                const char *data;
                                size_t size;
                                int r;

                                r = frame_buffer_take(&b, &type, &data, &size);
                                ASSERT_OK(r);
                                if (r == 0)
                                        break;
                                ASSERT_EQ(strlen(data), size);
                                n += (size_t) snprintf(got + n, sizeof(got) - n, "%i:%s ", type, data);
                        }
                }
                ASSERT_STREQ(got, "2:abc 3: 2:z ");
                frame_buffer_done(&b);
        }
}

static void test_buffer_refuses_unknown_type_and_large_size(void **state) {
        static const char *const table[] = { "\x07\0\0\0\0", "\0\0\0\0\0", "\x02\x01\0\0\x01",
                "\x02\xff\xff\xff\xff" };

        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                FrameBuffer b = {};
                FrameType type;
                const char *data;
                size_t size;

                feed(&b, *s, FRAME_HEAD_SIZE);
                ASSERT_ERROR(frame_buffer_take(&b, &type, &data, &size), EBADMSG);
                frame_buffer_done(&b);
        }
}

typedef struct Peer {
        unsigned frames, ends, drains;
        size_t bytes;
        int result;
        sd_event *event;
} Peer;

static void on_frame(FrameStream *s, FrameType type, const char *data, size_t size, void *userdata) {
        Peer *p = userdata;

        p->frames++;
        p->bytes += size;
}
static void on_end(FrameStream *s, int r, void *userdata) {
        Peer *p = userdata;

        p->ends++;
        p->result = r;
        (void) sd_event_exit(p->event, 0);
}
static void on_drained(FrameStream *s, void *userdata) {
        ((Peer *) userdata)->drains++;
}
static const FrameHandler handler = { .frame = on_frame, .end = on_end, .drained = on_drained };

static void test_stream_carries_the_largest_frame_and_no_larger(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(frame_stream_unrefp) FrameStream *a = NULL, *b = NULL;
        _cleanup_free_ char *large = calloc(1, FRAME_SIZE_MAX + 1);
        Peer pa = {}, pb = {};
        int fds[2];

        ASSERT_TRUE(large);
        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
        pa.event = pb.event = event;
        ASSERT_OK(frame_stream_new_consume(event, fds[0], &handler, &pa, &a));
        ASSERT_OK(frame_stream_new_consume(event, fds[1], &handler, &pb, &b));

        ASSERT_ERROR(frame_stream_send(a, FRAME_TEXT, large, FRAME_SIZE_MAX + 1), EMSGSIZE);
        ASSERT_OK(frame_stream_send(a, FRAME_TEXT, large, FRAME_SIZE_MAX));
        ASSERT_OK(frame_stream_send(a, FRAME_TEXT, "x", 1));
        ASSERT_OK(frame_stream_send(a, FRAME_TEXT, large, FRAME_SIZE_MAX));
        ASSERT_ERROR(frame_stream_send(a, FRAME_TEXT, large, FRAME_SIZE_MAX), ENOBUFS);

        while (pb.frames < 3)
                ASSERT_OK(sd_event_run(event, 5 * USEC_PER_SEC));
        ASSERT_EQ(pb.bytes, 2 * (size_t) FRAME_SIZE_MAX + 1);
        ASSERT_EQ(frame_stream_queued(a), 0);
        ASSERT_EQ(pa.drains, 1);

        /* The last frames are read although the peer has gone. */
        ASSERT_OK(frame_stream_send(a, FRAME_CLOSED, "bye", 3));
        a = frame_stream_unref(a);
        ASSERT_OK(sd_event_loop(event));
        ASSERT_EQ(pb.frames, 4);
        ASSERT_EQ(pb.ends, 1);
        ASSERT_EQ(pb.result, 0);
        ASSERT_ERROR(frame_stream_send(b, FRAME_TEXT, "x", 1), EPIPE);
}

static void test_stream_ends_at_garbage_and_at_a_cut_frame(void **state) {
        static const char *const table[] = { "GET / HTTP/1.1\r\n\r\n", "\x02\x05" };

        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                _cleanup_(sd_event_unrefp) sd_event *event = NULL;
                _cleanup_(frame_stream_unrefp) FrameStream *b = NULL;
                Peer p = {};
                int fds[2];

                ASSERT_OK(sd_event_new(&event));
                ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
                p.event = event;
                ASSERT_OK(frame_stream_new_consume(event, fds[1], &handler, &p, &b));
                ASSERT_OK(loop_write(fds[0], *s, strlen(*s)));
                safe_close(fds[0]);
                ASSERT_OK(sd_event_loop(event));
                ASSERT_EQ(p.frames, 0);
                ASSERT_EQ(p.ends, 1);
                ASSERT_EQ(p.result, -EBADMSG);
        }
}

static void test_paused_stream_reads_nothing(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(frame_stream_unrefp) FrameStream *a = NULL, *b = NULL;
        Peer pa = {}, pb = {};
        int fds[2];

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
        pa.event = pb.event = event;
        ASSERT_OK(frame_stream_new_consume(event, fds[0], &handler, &pa, &a));
        ASSERT_OK(frame_stream_new_consume(event, fds[1], &handler, &pb, &b));
        frame_stream_pause(b, true);
        ASSERT_OK(frame_stream_send(a, FRAME_TEXT, "x", 1));
        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(sd_event_run(event, 20 * USEC_PER_MSEC));
        ASSERT_EQ(pb.frames, 0);
        frame_stream_pause(b, false);
        while (pb.frames == 0)
                ASSERT_OK(sd_event_run(event, 5 * USEC_PER_SEC));
}

KONTENA_TESTS(cmocka_unit_test(test_buffer_gives_frames_in_order_however_they_arrive),
                cmocka_unit_test(test_buffer_refuses_unknown_type_and_large_size),
                cmocka_unit_test(test_stream_carries_the_largest_frame_and_no_larger),
                cmocka_unit_test(test_stream_ends_at_garbage_and_at_a_cut_frame),
                cmocka_unit_test(test_paused_stream_reads_nothing))
