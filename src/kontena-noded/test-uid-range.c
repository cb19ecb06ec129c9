/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "uid-range.h"

#include <fcntl.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static char directory[] = "/tmp/test-uid-range.XXXXXX";
static char *ranges;

static int setup(void **state) {
        ASSERT_TRUE(mkdtemp(directory));
        ranges = strjoin(directory, "/ranges");
        return ranges ? 0 : -1;
}

static int teardown(void **state) {
        free(ranges);
        return rm_rf_at(AT_FDCWD, directory);
}

static void test_each_has_its_own_and_keeps_it(void **state) {
        uint32_t a, b, again;

        ASSERT_OK(uid_range_release(ranges, "a")); /* not even a directory yet */
        ASSERT_OK(uid_range_claim(ranges, "a", &a, NULL));
        ASSERT_OK(uid_range_claim(ranges, "b", &b, NULL));
        ASSERT_OK(uid_range_claim(ranges, "a", &again, NULL));
        ASSERT_EQ(a, again);
        ASSERT_TRUE(a != b);
        ASSERT_TRUE(a >= UID_RANGE_FIRST && a % UID_RANGE_SIZE == 0);
        ASSERT_TRUE(b <= 1879048191U - UID_RANGE_SIZE + 1);
        ASSERT_OK(uid_range_release(ranges, "a"));
        ASSERT_OK(uid_range_release(ranges, "b"));
}

static void test_all_are_used_before_one_is_refused(void **state) {
        static bool taken[UID_RANGES];
        _cleanup_kerror_ KError e = KERROR_NULL;
        char id[16];
        uint32_t base;

        for (unsigned i = 0; i < UID_RANGES; i++) {
                _cleanup_free_ char *path = NULL, *number = strprintf("%u", i);

                (void) snprintf(id, sizeof(id), "i%u", i);
                if (i < UID_RANGES - 2) { /* quicker than as many searches */
                        path = strjoin(ranges, "/", number);
                        ASSERT_TRUE(symlink(id, path) >= 0);
                        taken[i] = true;
                        continue;
                }
                ASSERT_OK(uid_range_claim(ranges, id, &base, NULL));
                ASSERT_FALSE(taken[(base - UID_RANGE_FIRST) / UID_RANGE_SIZE]);
                taken[(base - UID_RANGE_FIRST) / UID_RANGE_SIZE] = true;
        }
        base = 7;
        ASSERT_TRUE(uid_range_claim(ranges, "one-more", &base, &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        ASSERT_EQ(base, 7);

        ASSERT_OK(uid_range_release(ranges, "i17"));
        ASSERT_OK(uid_range_claim(ranges, "one-more", &base, NULL));
        ASSERT_EQ(base, UID_RANGE_FIRST + 17 * UID_RANGE_SIZE);
}

static const struct CMUnitTest tests[] = { cmocka_unit_test(test_each_has_its_own_and_keeps_it),
        cmocka_unit_test(test_all_are_used_before_one_is_refused) };

int main(void) {
        return cmocka_run_group_tests(tests, setup, teardown);
}
