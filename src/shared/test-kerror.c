/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kerror.h"
#include "string-util.h"
#include "test.h"

static void test_first_error_stays(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_ERROR(kerror_set(&e, K_NO_SUCH_GRID, "No grid '%s'.", "a"), ENOENT);
        ASSERT_ERROR(kerror_set(&e, K_TIMEOUT, "Too late."), ETIMEDOUT);
        kerror_prefix(&e, "While joining '%s'", "n1");
        ASSERT_STREQ(e.message, "While joining 'n1': No grid 'a'.");
        ASSERT_EQ(e.code, K_NO_SUCH_GRID);
}

static void test_errno_becomes_a_code(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        ASSERT_ERROR(kerror_set_errno(&e, -ENOSPC, "Cannot write: %m"), ENOSPC);
        ASSERT_EQ(e.code, K_UNAVAILABLE);
        ASSERT_STREQ(e.message, "Cannot write: No space left on device");
}

static void test_what_others_say_can_be_shown(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL, unknown = KERROR_NULL;
        char text[4096];

        ASSERT_ERROR(kerror_set_said(&e, "io.kontena.Error.NoSuchGrid", K_IMAGE, "a\nb\x1b[2J\x7f\xff"),
                        ENOENT);
        ASSERT_STREQ(e.message, "a?b?[2J??");
        ASSERT_ERROR(kerror_set_said(&e, NULL, K_IMAGE, "\n"), EBADMSG);
        ASSERT_STREQ(e.message, "a?b?[2J??"); /* the first one stays */

        memset(text, 'x', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        ASSERT_ERROR(kerror_set_said(&unknown, "io.kontena.Error.Nonsense", K_IMAGE, text), EBADMSG);
        ASSERT_EQ(unknown.code, K_IMAGE);
        ASSERT_EQ(strlen(unknown.message), 1024);
}

/* A code without a row would reach people as a NULL name. */
static void test_table_is_complete(void **state) {
        for (int c = K_OK + 1; c < _K_ERROR_CODE_MAX; c++) {
                assert_non_null(kerror_bus_name((KErrorCode) c));
                ASSERT_EQ(kerror_code_from_bus_name(kerror_bus_name((KErrorCode) c)), c);
                ASSERT_TRUE(kerror_http_status((KErrorCode) c) >= 400);
                ASSERT_TRUE(kerror_exit_status((KErrorCode) c) > 0);
                ASSERT_TRUE(kerror_errno((KErrorCode) c) < 0);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_first_error_stays), cmocka_unit_test(test_errno_becomes_a_code),
                cmocka_unit_test(test_what_others_say_can_be_shown),
                cmocka_unit_test(test_table_is_complete))
