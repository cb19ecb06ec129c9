/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-window.h"

#include <errno.h>
#include <stdlib.h>

#include "test.h"

static void test_frames_cost_more_than_their_bytes(void **state) {
        StreamWindow w;
        size_t n = 0, cost;

        stream_window_open(&w, true);
        while (stream_window_receive(&w, 1) >= 0)
                n++;
        ASSERT_EQ(n, STREAM_WINDOW / (1 + STREAM_FRAME_COST));
        ASSERT_ERROR(stream_window_receive(&w, 1), ENOBUFS);
        ASSERT_OK(stream_window_receive(&w, 0)); /* the end of a channel is always said */

        ASSERT_OK(stream_window_take(&w, 1, &cost));
        ASSERT_EQ(cost, 1 + STREAM_FRAME_COST);
        ASSERT_OK(stream_window_receive(&w, 1));
        ASSERT_ERROR(stream_window_take(&w, n + 1, &cost), ERANGE);
        ASSERT_OK(stream_window_take(&w, n, &cost));
        ASSERT_EQ(cost, n * (1 + STREAM_FRAME_COST));
}

static void test_who_does_not_count_frames_sends_bytes(void **state) {
        StreamWindow w;
        size_t cost;

        stream_window_open(&w, false);
        for (size_t n = 0; n < STREAM_WINDOW; n++)
                ASSERT_OK(stream_window_receive(&w, 1));
        ASSERT_ERROR(stream_window_receive(&w, 1), ENOBUFS);
        ASSERT_OK(stream_window_take(&w, 1000, &cost));
        ASSERT_EQ(cost, 1000);
        ASSERT_EQ(stream_window_room(&w), STREAM_WINDOW);
        stream_window_sent(&w, STREAM_DATA_MAX);
        ASSERT_EQ(stream_window_room(&w), STREAM_WINDOW - STREAM_DATA_MAX);
        ASSERT_ERROR(stream_window_refill(&w, STREAM_DATA_MAX + 1), ERANGE);
        ASSERT_OK(stream_window_refill(&w, STREAM_DATA_MAX));
}

static void test_no_crumbs_are_sent(void **state) {
        StreamWindow w;

        stream_window_open(&w, true);
        while (stream_window_room(&w) > 0)
                stream_window_sent(&w, MIN(stream_window_room(&w), (size_t) STREAM_DATA_MAX));
        ASSERT_OK(stream_window_refill(&w, 2 * STREAM_FRAME_COST - 1 - w.room));
        ASSERT_EQ(stream_window_room(&w), 0);
        ASSERT_OK(stream_window_refill(&w, 1));
        ASSERT_EQ(stream_window_room(&w), STREAM_FRAME_COST);
}

/* Whatever is sent and in whatever pieces it is taken: what the sender has of room and the receiver of debts is the window, and when
 * all was taken there is all the room again. */
static void test_both_sides_agree(void **state) {
        unsigned seed = 1;

        for (unsigned round = 0; round < 2000; round++) {
                StreamWindow from, to;
                size_t cost;

                stream_window_open(&from, round % 8 != 0);
                stream_window_open(&to, round % 8 != 0);
                for (unsigned step = 0; step < 200; step++) {
                        size_t room = stream_window_room(&from), n;

                        seed = seed * 1103515245U + 12345U;
                        if ((seed >> 16) % 3 != 0 && room > 0) {
                                n = MIN(room, (size_t) STREAM_DATA_MAX);
                                n = 1 + (seed >> 8) % (round % 2 ? MIN(n, (size_t) 20) : n);
                                stream_window_sent(&from, n);
                                ASSERT_OK(stream_window_receive(&to, n));
                        } else if (to.bytes > 0) {
                                n = 1 + (seed >> 8) % to.bytes;
                                ASSERT_OK(stream_window_take(&to, n, &cost));
                                ASSERT_OK(stream_window_refill(&from, cost));
                        }
                        ASSERT_EQ(from.room + to.bytes + to.frames * to.frame_cost, STREAM_WINDOW);
                        ASSERT_TRUE(to.frames <= to.bytes);
                }
                ASSERT_OK(stream_window_take(&to, to.bytes, &cost));
                ASSERT_OK(stream_window_refill(&from, cost));
                ASSERT_EQ(from.room, STREAM_WINDOW);
                ASSERT_EQ(to.frames, 0);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_frames_cost_more_than_their_bytes),
                cmocka_unit_test(test_who_does_not_count_frames_sends_bytes),
                cmocka_unit_test(test_no_crumbs_are_sent), cmocka_unit_test(test_both_sides_agree))
