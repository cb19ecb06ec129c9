/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "auth-challenge.h"

#include "string-util.h"
#include "test.h"

static void test_auth_challenge_reads(void **state) {
        static const struct {
                const char *value;
                AuthScheme scheme;
                const char *realm, *service, *scope;
        } table[] = {
                { "Bearer "
                  "realm=\"https://auth.docker.io/"
                  "token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull\"",
                                AUTH_BEARER, "https://auth.docker.io/token", "registry.docker.io",
                                "repository:a/b:pull" },
                { "bearer  realm=https , service = x", AUTH_BEARER, "https", "x", NULL },
                { "Basic realm=\"Registry \\\"one\\\", and two\"", AUTH_BASIC, "Registry \"one\", and two",
                                NULL, NULL },
                { "Basic", AUTH_BASIC, NULL, NULL, NULL },
                { "Basic realm=\"a\", Bearer realm=\"b\", service=\"c\"", AUTH_BEARER, "b", "c", NULL },
                { "Bearer realm=\"b\",service=\"c\",Basic realm=\"a\"", AUTH_BEARER, "b", "c", NULL },
                { "Negotiate YWJj==, Basic realm=\"a\"", AUTH_BASIC, "a", NULL, NULL },
                { "Negotiate, Bearer realm=\"b\"", AUTH_BEARER, "b", NULL, NULL },
                { "Digest realm=\"x\", nonce=\"y\"", AUTH_NONE, NULL, NULL, NULL },
                { "Bearer service=\"without realm\"", AUTH_NONE, NULL, NULL, NULL },
                { "Bearer realm=\"a\", realm=\"b\"", AUTH_BEARER, "a", NULL, NULL },
                { ", ,Basic realm=\"a\",,", AUTH_BASIC, "a", NULL, NULL },
                { "", AUTH_NONE, NULL, NULL, NULL },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_auth_challenge_ AuthChallenge c = {};

                if (auth_challenge_parse(t->value, &c) < 0)
                        fail_msg("'%s' was refused", t->value);
                if (c.scheme != t->scheme || !streq_ptr(c.realm, t->realm) ||
                                !streq_ptr(c.service, t->service) || !streq_ptr(c.scope, t->scope))
                        fail_msg("'%s': %i %s %s %s", t->value, (int) c.scheme, strna(c.realm),
                                        strna(c.service), strna(c.scope));
        }
}

static void test_auth_challenge_refuses_malformed(void **state) {
        static const char *const table[] = { "Bearer realm=\"open", "Bearer realm=\"open\\", "=x",
                "Bearer realm=\"a\" service=\"b\"", "\"Bearer\"", "Bearer realm=\"a\nb\"",
                "Bearer/1 realm=\"a\"" };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_auth_challenge_ AuthChallenge c = {};

                if (auth_challenge_parse(*t, &c) != -EINVAL)
                        fail_msg("'%s' was accepted", *t);
        }
}

static void test_auth_challenge_keeps_the_better_of_two_fields(void **state) {
        _cleanup_auth_challenge_ AuthChallenge c = {};

        ASSERT_OK(auth_challenge_parse("Bearer realm=\"b\"", &c));
        ASSERT_OK(auth_challenge_parse("Basic realm=\"a\"", &c));
        ASSERT_EQ(c.scheme, AUTH_BEARER);
        ASSERT_STREQ(c.realm, "b");
}

KONTENA_TESTS(cmocka_unit_test(test_auth_challenge_reads),
                cmocka_unit_test(test_auth_challenge_refuses_malformed),
                cmocka_unit_test(test_auth_challenge_keeps_the_better_of_two_fields))
