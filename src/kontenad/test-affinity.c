/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "affinity.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static void test_affinity_splits_key_operator_and_value(void **state) {
        static const struct {
                const char *text;
                AffinityKey key;
                bool negate, soft, is_regex, qualified;
                const char *value;
        } table[] = {
                { "node==n1", AFFINITY_NODE, false, false, false, false, "n1" },
                { "node!=n1", AFFINITY_NODE, true, false, false, false, "n1" },
                { "label==az=b", AFFINITY_LABEL, false, false, false, false, "az=b" },
                { "label!=~az=b", AFFINITY_LABEL, true, true, false, false, "az=b" },
                { "service==~shop/db", AFFINITY_SERVICE, false, true, false, true, "shop/db" },
                { "container==web-%s", AFFINITY_CONTAINER, false, false, false, false, "web-7" },
                { "container==a%%b%x", AFFINITY_CONTAINER, false, false, false, false, "a%b%x" },
                { "node==/^n[12]$/", AFFINITY_NODE, false, false, true, false, "^n[12]$" },
                { "service==/shop\\/d/", AFFINITY_SERVICE, false, false, true, true, "shop\\/d" },
                { "label==/", AFFINITY_LABEL, false, false, false, true, "/" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_affinity_ Affinity a = {};
                _cleanup_kerror_ KError error = KERROR_NULL;

                ASSERT_OK(affinity_parse(t->text, 7, &a, &error));
                ASSERT_EQ(a.key, t->key);
                ASSERT_EQ(a.negate, t->negate);
                ASSERT_EQ(a.soft, t->soft);
                ASSERT_EQ(a.is_regex, t->is_regex);
                ASSERT_EQ(a.qualified, t->qualified);
                ASSERT_STREQ(a.value, t->value);
        }
}

static void test_affinity_refuses_nonsense_and_quotes_it(void **state) {
        static const struct {
                const char *text, *part;
        } table[] = {
                { "", "neither" }, { "node=n1", "neither" }, { "host==n1", "'host'" }, { "==n1", "''" },
                { "node==", "no value" }, { "node!=~", "no value" }, { "node==/[/", "node==/[/" },
                { "node==/(a)\\1/", "references" }, { "node==/((a{100}){100}){100}/", "repetitions" },
                { "node==/a++++++++++++/", "repetitions" }, /* doubles each time */
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_affinity_ Affinity a = {};
                _cleanup_kerror_ KError error = KERROR_NULL;

                ASSERT_ERROR(affinity_parse(t->text, 1, &a, &error), EINVAL);
                if (!strstr(kerror_message(&error), t->part))
                        fail_msg("'%s': %s", t->text, kerror_message(&error));
        }
}

static void test_affinity_refuses_too_long(void **state) {
        _cleanup_affinity_ Affinity a = {};
        char text[AFFINITY_LENGTH_MAX + 2];

        memset(text, 'x', sizeof(text));
        memcpy(text, "node==", 6);
        text[AFFINITY_LENGTH_MAX] = '\0';
        ASSERT_OK(affinity_parse(text, 1, &a, NULL));
        affinity_done(&a);
        text[AFFINITY_LENGTH_MAX] = 'x';
        text[AFFINITY_LENGTH_MAX + 1] = '\0';
        ASSERT_ERROR(affinity_parse(text, 1, &a, NULL), EINVAL);
}

static void test_affinity_matches_text(void **state) {
        static const struct {
                const char *rule, *text;
                bool matches;
        } table[] = {
                { "node==n1", "n1", true },
                { "node==n1", "n11", false },
                { "node==/n1/", "my-n11", true }, /* not anchored */
                { "node==/^n1$/", "n11", false },
                { "label==az=a", "az=a", true },
                { "label==az", "az=a", false }, /* the whole label */
                { "label==/^az=/", "az=a", true },
                { "container==/-\\d+$/", "web-12", true },
                { "container==/-\\d+$/", "web-x", false },
                { "container==/^[\\d]$/", "5", true },
                { "container==/^[]x]$/", "]", true },
                { "container==/^[[:digit:]]$/", "5", true },
                { "container==/web-%s$/", "web-3", true },
                { "container==/web|db/", "x-db", true },
                { "label==/a\\/b/", "a/b", true },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_affinity_ Affinity a = {};

                ASSERT_OK(affinity_parse(t->rule, 3, &a, NULL));
                if (affinity_matches(&a, t->text) != t->matches)
                        fail_msg("'%s' with '%s'", t->rule, t->text);
        }
}

static void test_affinity_puts_own_stack_in_front(void **state) {
        static const struct {
                const char *rule, *stack, *service;
                bool matches;
        } table[] = {
                { "service==db", "shop", "db", true },
                { "service==db", "null", "db", false },
                { "service==null/db", "null", "db", true },
                { "service==null/db", "shop", "db", false },
                { "service==/^d/", "shop", "db", true },
                { "service==/^d/", "other", "db", false },
                { "service==/^o.*\\/db$/", "other", "db", true },
                { "service==/shop\\/db/", "shop", "db", true },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_affinity_ Affinity a = {};

                ASSERT_OK(affinity_parse(t->rule, 1, &a, NULL));
                if (affinity_matches_service(&a, "shop", t->stack, t->service) != t->matches)
                        fail_msg("'%s' with '%s/%s'", t->rule, t->stack, t->service);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_affinity_splits_key_operator_and_value),
                cmocka_unit_test(test_affinity_refuses_nonsense_and_quotes_it),
                cmocka_unit_test(test_affinity_refuses_too_long),
                cmocka_unit_test(test_affinity_matches_text),
                cmocka_unit_test(test_affinity_puts_own_stack_in_front))
