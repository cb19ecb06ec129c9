/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kontena-limits.h"
#include "names.h"
#include "string-util.h"
#include "test.h"

static void test_names(void **state) {
        char longest[NAME_LENGTH_MAX + 2] = {};

        memset(longest, 'a', NAME_LENGTH_MAX);
        ASSERT_OK(name_validate("service", "web-1_x", NULL));
        ASSERT_OK(name_validate("service", longest, NULL));
        longest[NAME_LENGTH_MAX] = 'a';
        ASSERT_ERROR(name_validate("service", longest, NULL), EINVAL);
        ASSERT_ERROR(name_validate("service", "-web", NULL), EINVAL);
        ASSERT_ERROR(name_validate("service", "", NULL), EINVAL);
        ASSERT_ERROR(name_validate("service", "a.b", NULL), EINVAL);
        ASSERT_ERROR(name_validate("service", "\xc3\xa4", NULL), EINVAL);
        ASSERT_ERROR(name_validate("service", "a\nb", NULL), EINVAL);
        ASSERT_ERROR(grid_name_validate("ab", NULL), EINVAL);
        ASSERT_OK(grid_name_validate("abc", NULL));
}

static void test_full_name_has_64_characters(void **state) {
        /* "<service>-1.abc.kontena.local" */
        ASSERT_OK(service_name_fits(
                        "abc", STACK_NULL, "s2345678901234567890123456789012345678901234", 1, NULL));
        ASSERT_ERROR(service_name_fits("abc", STACK_NULL, "s2345678901234567890123456789012345678901234", 10,
                                     NULL),
                        EINVAL);
        ASSERT_ERROR(service_name_fits(
                                     "abc", "stack", "s234567890123456789012345678901234567890123", 1, NULL),
                        EINVAL);
}

static void test_references(void **state) {
        static const struct {
                const char *text, *grid, *stack, *service;
        } table[] = {
                { "web", NULL, NULL, "web" },
                { "app/web", NULL, "app", "web" },
                { "demo/app/web", "demo", "app", "web" },
                { "", NULL, NULL, NULL },
                { "/web", NULL, NULL, NULL },
                { "app/", NULL, NULL, NULL },
                { "a/b/c/d", NULL, NULL, NULL },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *grid = NULL, *stack = NULL, *service = NULL;
                int r = service_reference_parse(t->text, &grid, &stack, &service, NULL);

                ASSERT_EQ(r >= 0, t->service != NULL);
                ASSERT_STREQ(grid, t->grid);
                ASSERT_STREQ(stack, t->stack);
                ASSERT_STREQ(service, t->service);
        }
}

static void test_unit_and_slice_names(void **state) {
        _cleanup_free_ char *unit = instance_unit_name("my-grid", "app", "web", 3),
                            *slice = grid_slice_name("my-grid"),
                            *container = instance_container_name("app", "web", 3),
                            *plain = instance_container_name(STACK_NULL, "web", 3);

        ASSERT_STREQ(unit, "kontena-my-grid-app.web-3.service");
        /* A plain '-' would put the grid's slice below a slice of its own. */
        ASSERT_STREQ(slice, "kontena-my\\x2dgrid.slice");
        ASSERT_STREQ(container, "app.web-3");
        ASSERT_STREQ(plain, "web-3");
}

KONTENA_TESTS(cmocka_unit_test(test_names), cmocka_unit_test(test_full_name_has_64_characters),
                cmocka_unit_test(test_references), cmocka_unit_test(test_unit_and_slice_names))
