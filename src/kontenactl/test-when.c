/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <time.h>

#include "file-util.h"
#include "test.h"
#include "when.h"

#define NOW (UINT64_C(1764063000) * USEC_PER_SEC) /* 2025-11-25 09:30:00 UTC */

static void test_when_parse(void **state) {
        static const struct {
                const char *text;
                uint64_t sec;
        } table[] = {
                { "now", 1764063000 },
                { "10min", 1764063000 - 600 },
                { "10min ago", 1764063000 - 600 },
                { "-1h 30min", 1764063000 - 5400 },
                { "90", 1764063000 - 90 },
                { "today", 1764028800 },
                { "yesterday", 1764028800 - 86400 },
                { "08:30", 1764059400 },
                { "08:30:15", 1764059415 },
                { "2025-11-24", 1763942400 },
                { "2025-11-24 09:30", 1763976600 },
                { "2025-11-24T09:30:10Z", 1763976610 },
                { "2025-11-24T09:30:10.123456Z", 1763976610 },
                { "2025-11-24T09:30:10+02:00", 1763976610 - 7200 },
                { "2025-11-24T09:30:10-0100", 1763976610 + 3600 },
                { "@1764063001", 1764063001 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                uint64_t usec = 0;

                ASSERT_OK(when_parse(t->text, NOW, &usec, NULL));
                ASSERT_EQ(usec, t->sec * USEC_PER_SEC);
        }
}

static void test_when_parse_refuses(void **state) {
        static const char *const bad[] = { "", "soon", "2025-13-01", "2025-11-24 09:30 tomorrow", "@", "@x",
                "10 parsecs ago", "2025-11-24T09:30:10+99:00", " ago" };

        FOREACH_ARRAY(b, bad, ELEMENTSOF(bad)) {
                uint64_t usec = 7;

                ASSERT_ERROR(when_parse(*b, NOW, &usec, NULL), EINVAL);
                ASSERT_EQ(usec, 7);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_when_parse),
                cmocka_unit_test(test_when_parse_refuses) };

        (void) setenv("TZ", "UTC", 1);
        tzset();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
