/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine-leader.h"

#include "test.h"

static void test_leader_is_first_in_a_namespace_below(void **state) {
        static const struct {
                const char *status;
                bool is;
        } table[] = {
                { "Name:\tsystemd\nNSpid:\t4711\t1\nNSpgid:\t4711\t1\n", true },
                { "Name:\tsystemd\nNSpid:\t20\t4711\t1\n", true },
                { "Name:\tsh\nNSpid:\t4711\t12\n", false },
                { "Name:\tsystemd\nNSpid:\t1\nX:\t1\n", false }, /* ours */
                { "Name:\tx\nNSpid:\t1 1", true },
                { "Name:\tx\n", false },
                { "", false },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                if (machine_status_is_leader(t->status) != t->is)
                        fail_msg("%s", t->status);
}

static void test_no_such_group(void **state) {
        pid_t pid = 7;

        ASSERT_ERROR(machine_leader_find("/kontena.slice/there-is-none", &pid), ESRCH);
        ASSERT_EQ(pid, 7);
}

KONTENA_TESTS(cmocka_unit_test(test_leader_is_first_in_a_namespace_below),
                cmocka_unit_test(test_no_such_group))
