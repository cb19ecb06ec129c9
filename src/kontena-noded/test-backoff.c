/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backoff.h"

#include "test.h"

static void test_delays_grow_to_thirty_seconds(void **state) {
        static const uint64_t expected[] = { 0, 1, 4, 9, 16, 25, 30, 30, 30 };
        Backoff b = {};

        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                ASSERT_EQ(backoff_next(&b, 1000), expected[i] * 1000000);
}

static void test_ten_seconds_begin_anew(void **state) {
        Backoff b = { .crashes = 6 };

        ASSERT_EQ(backoff_next(&b, BACKOFF_STABLE_USEC - 1), 30 * 1000000);
        ASSERT_EQ(backoff_next(&b, BACKOFF_STABLE_USEC), 0);
        ASSERT_EQ(backoff_next(&b, 0), 1 * 1000000);
}

static void test_many_crashes_do_not_overflow(void **state) {
        Backoff b = { .crashes = UINT32_MAX - 1 };

        ASSERT_EQ(backoff_next(&b, 0), 30 * 1000000);
        ASSERT_EQ(backoff_next(&b, 0), 30 * 1000000);
}

KONTENA_TESTS(cmocka_unit_test(test_delays_grow_to_thirty_seconds),
                cmocka_unit_test(test_ten_seconds_begin_anew),
                cmocka_unit_test(test_many_crashes_do_not_overflow))
