/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A unit test is test-MODULE.c beside its module: static functions (void **state), run by
 * KONTENA_TESTS(cmocka_unit_test(test_a), cmocka_unit_test(test_b)). */
#define ASSERT_OK(expr)                                                                                     \
        do {                                                                                                \
                int _r_ = (int) (expr);                                                                     \
                if (_r_ < 0)                                                                                \
                        fail_msg("%s:%i: %s: %s", __FILE__, __LINE__, #expr, strerror(-_r_));               \
        } while (false)
#define ASSERT_ERROR(expr, error)                                                                           \
        do {                                                                                                \
                int _r_ = (int) (expr);                                                                     \
                if (_r_ != -(error))                                                                        \
                        fail_msg("%s:%i: %s is %i (%s), not -%s", __FILE__, __LINE__, #expr, _r_,           \
                                        strerror(_r_ < 0 ? -_r_ : 0), #error);                              \
        } while (false)
#define ASSERT_TRUE(expr)                                                                                   \
        do {                                                                                                \
                if (!(expr))                                                                                \
                        fail_msg("%s:%i: %s is false", __FILE__, __LINE__, #expr);                          \
        } while (false)
#define ASSERT_FALSE(expr) ASSERT_TRUE(!(expr))
#define ASSERT_EQ(a, b)                                                                                     \
        do {                                                                                                \
                long long _a_ = (long long) (a), _b_ = (long long) (b);                                     \
                if (_a_ != _b_)                                                                             \
                        fail_msg("%s:%i: %s is %lli, not %lli", __FILE__, __LINE__, #a, _a_, _b_);          \
        } while (false)
#define ASSERT_STREQ(a, b)                                                                                  \
        do {                                                                                                \
                const char *_a_ = (a), *_b_ = (b);                                                          \
                if (!_a_ || !_b_ ? _a_ != _b_ : strcmp(_a_, _b_) != 0)                                      \
                        fail_msg("%s:%i: %s is '%s', not '%s'", __FILE__, __LINE__, #a,                     \
                                        _a_ ? _a_ : "(null)", _b_ ? _b_ : "(null)");                        \
        } while (false)

#define KONTENA_TESTS(...)                                                                                  \
        int main(void) {                                                                                    \
                const struct CMUnitTest tests[] = { __VA_ARGS__ };                                          \
                                                                                                            \
                return cmocka_run_group_tests(tests, NULL, NULL);                                           \
        }
