/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "channel-backoff.h"

#include <sys/random.h>

#include "kontena-limits.h"
#include "test.h"

static void test_window_doubles_and_is_capped(void **state) {
        static const uint64_t windows[] = { 1, 2, 4, 8, 16, 32, 64, 90, 90, 90 };

        for (unsigned i = 0; i < ELEMENTSOF(windows); i++) {
                ASSERT_EQ(channel_backoff(i, 0), 0);
                ASSERT_EQ(channel_backoff(i, UINT64_MAX), windows[i] * 1000000);
        }
        ASSERT_EQ(channel_backoff(UINT32_MAX, UINT64_MAX), CHANNEL_BACKOFF_MAX_USEC);
}

static void test_jitter_fills_the_window_evenly(void **state) {
        enum { N = 200000, BINS = 10 };

        for (unsigned attempt = 0; attempt < 9; attempt += 4) {
                uint64_t window = channel_backoff(attempt, UINT64_MAX);
                unsigned bins[BINS] = {};

                for (unsigned i = 0; i < N; i++) {
                        uint64_t random, wait;

                        ASSERT_EQ(getrandom(&random, sizeof(random), 0), sizeof(random));
                        wait = channel_backoff(attempt, random);
                        ASSERT_TRUE(wait <= window);
                        bins[MIN(wait * BINS / window, (uint64_t) BINS - 1)]++;
                }
                /* Six standard deviations of a binomial: sqrt(N * 0.1 * 0.9) is 134. */
                FOREACH_ARRAY(b, bins, BINS)
                        ASSERT_TRUE(*b > N / BINS - 805 && *b < N / BINS + 805);
        }
}

static void test_refusals_wait_long(void **state) {
        ASSERT_EQ(channel_backoff_final(0), CHANNEL_BACKOFF_MAX_USEC / 2);
        ASSERT_EQ(channel_backoff_final(UINT64_MAX), CHANNEL_BACKOFF_MAX_USEC);
}

static void test_codes_that_are_final(void **state) {
        static const int final[] = { 4001, 4002, 4003, 4004, 4006, 4007, 4008, 4040 };
        static const int passing[] = { 0, 1000, 1001, 1006, 4000, 4010, 4020, 4030, 4031, 4041, 4050 };

        FOREACH_ARRAY(c, final, ELEMENTSOF(final))
                ASSERT_TRUE(channel_code_is_final(*c));
        FOREACH_ARRAY(c, passing, ELEMENTSOF(passing))
                ASSERT_FALSE(channel_code_is_final(*c));
}

KONTENA_TESTS(cmocka_unit_test(test_window_doubles_and_is_capped),
                cmocka_unit_test(test_jitter_fills_the_window_evenly),
                cmocka_unit_test(test_refusals_wait_long), cmocka_unit_test(test_codes_that_are_final))
