/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

static void test_nothing(void **state) {
}

KONTENA_TESTS(cmocka_unit_test(test_nothing))
