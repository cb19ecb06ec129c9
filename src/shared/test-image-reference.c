/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-reference.h"

#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

#define TAG_MAX 128U
#define D       "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_image_reference_reads_every_form(void **state) {
        static const struct {
                const char *s, *registry, *repository, *tag, *digest, *normalized;
        } table[] = {
                { "redis", "docker.io", "library/redis", "latest", NULL, "docker.io/library/redis:latest" },
                { "redis:6", "docker.io", "library/redis", "6", NULL, "docker.io/library/redis:6" },
                { "docker.io/redis", "docker.io", "library/redis", "latest", NULL,
                                "docker.io/library/redis:latest" },
                { "index.docker.io/library/redis", "docker.io", "library/redis", "latest", NULL,
                                "docker.io/library/redis:latest" },
                { "bitnami/redis:6.2-a_b", "docker.io", "bitnami/redis", "6.2-a_b", NULL,
                                "docker.io/bitnami/redis:6.2-a_b" },
                { "registry:5000/nginx:1", "registry:5000", "nginx", "1", NULL, "registry:5000/nginx:1" },
                { "registry:5000", "docker.io", "library/registry", "5000", NULL,
                                "docker.io/library/registry:5000" },
                { "localhost/a/b/c", "localhost", "a/b/c", "latest", NULL, "localhost/a/b/c:latest" },
                { "Quay.IO/team/web", "quay.io", "team/web", "latest", NULL, "quay.io/team/web:latest" },
                { "[::1]:5000/web", "[::1]:5000", "web", "latest", NULL, "[::1]:5000/web:latest" },
                { "quay.io/web@" D, "quay.io", "web", NULL, D, "quay.io/web@" D },
                { "quay.io/web:1@" D, "quay.io", "web", "1", D, "quay.io/web@" D },
                { "a--b/c__d/e.f_g", "docker.io", "a--b/c__d/e.f_g", "latest", NULL,
                                "docker.io/a--b/c__d/e.f_g:latest" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_image_reference_ ImageReference r = {};
                _cleanup_free_ char *n = NULL;

                ASSERT_OK(image_reference_parse(t->s, &r, NULL));
                ASSERT_STREQ(r.registry, t->registry);
                ASSERT_STREQ(r.repository, t->repository);
                ASSERT_TRUE(streq_ptr(r.tag, t->tag));
                ASSERT_TRUE(streq_ptr(r.digest, t->digest));
                n = image_reference_normalized(&r);
                ASSERT_STREQ(n, t->normalized);
        }
}

static void test_image_reference_normalized_is_stable(void **state) {
        _cleanup_image_reference_ ImageReference a = {}, b = {};
        _cleanup_free_ char *n = NULL, *m = NULL;

        ASSERT_OK(image_reference_parse("index.docker.io/redis:6", &a, NULL));
        n = image_reference_normalized(&a);
        ASSERT_OK(image_reference_parse(n, &b, NULL));
        m = image_reference_normalized(&b);
        ASSERT_STREQ(n, m);
        ASSERT_STREQ(image_reference_host(&b), "registry-1.docker.io");
}

static void test_image_reference_refuses_and_says_why(void **state) {
        static const struct {
                const char *s, *part;
        } table[] = {
                { "", "needs a name" },
                { "Redis", "not a repository" },
                { "a//b", "not a repository" },
                { "/a", "not a repository" },
                { "a/", "not a repository" },
                { "a..b", "not a repository" },
                { "../b", "not a registry" },
                { "b/../a", "not a repository" },
                { "a___b", "not a repository" },
                { "-a", "not a repository" },
                { "a b", "not a repository" },
                { "a:", "not a tag" },
                { "a:b:c", "not a repository" },
                { "a:-b", "not a tag" },
                { "a:b/c", "not a registry" },
                { "http://registry/a", "not a registry" },
                { "registry:0/a", "not a registry" },
                { "registry:65536/a", "not a registry" },
                { "registry:5000:6/a", "not a registry" },
                { "a..b/c", "not a registry" },
                { "[]/c.d", "not a repository" },
                { "[.]x/c", "not a registry" },
                { "a@sha256:12", "digest" },
                { "a@md5:0123456789abcdef0123456789abcdef", "digest" },
                { "a@SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "digest" },
                { "a\nb", "control" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_image_reference_ ImageReference r = {};
                _cleanup_kerror_ KError e = KERROR_NULL;

                if (image_reference_parse(t->s, &r, &e) >= 0)
                        fail_msg("'%s' was accepted", t->s);
                ASSERT_EQ(e.code, K_INVALID_ARGUMENT);
                if (!strstr(kerror_message(&e), t->part))
                        fail_msg("'%s': '%s' does not speak of '%s'", t->s, kerror_message(&e), t->part);
        }
}

static void test_image_reference_has_a_length(void **state) {
        char s[IMAGE_REFERENCE_MAX + 2];
        ImageReference r;

        memset(s, 'a', sizeof(s));
        s[IMAGE_REFERENCE_MAX + 1] = '\0';
        ASSERT_ERROR(image_reference_parse(s, &r, NULL), EINVAL);
        s[IMAGE_REFERENCE_MAX] = '\0';
        ASSERT_OK(image_reference_parse(s, &r, NULL));
        image_reference_done(&r);

        memset(s + 1, 'b', TAG_MAX + 2);
        s[1] = ':';
        s[TAG_MAX + 3] = '\0';
        ASSERT_ERROR(image_reference_parse(s, &r, NULL), EINVAL);
        s[TAG_MAX + 2] = '\0';
        ASSERT_OK(image_reference_parse(s, &r, NULL));
        image_reference_done(&r);
}

static void test_registry_names(void **state) {
        static const struct {
                const char *s, *name;
        } table[] = {
                { "docker.io", "docker.io" },
                { "index.docker.io", "docker.io" },
                { "https://index.docker.io/v1/", "docker.io" },
                { "registry-1.docker.io", "docker.io" },
                { "Registry.Example.ORG", "registry.example.org" },
                { "https://registry:5000/", "registry:5000" },
                { "registry:5000/v2", "registry:5000" },
                { "localhost", "localhost" },
                { "[::1]:5000", "[::1]:5000" },
        };
        static const char *const bad[] = { "", "https://", "registry", "/", "http://registry:5000", "a b.c",
                "user@registry:5000", "user:password@registry.example", "registry:0", "registry:5000/team",
                "https://registry.example/v3/", "ftp://registry.example", "registry.example?x", "a\nb.c",
                "-.example" };
        char large[400];

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_image_reference_ ImageReference r = {};
                _cleanup_free_ char *name = NULL, *image = NULL;

                ASSERT_OK(registry_name_parse(t->s, &name, NULL));
                ASSERT_STREQ(name, t->name);
                /* An image of it is one of this registry. */
                image = strjoin(name, "/team/web");
                ASSERT_OK(image_reference_parse(image, &r, NULL));
                ASSERT_STREQ(r.registry, name);
        }
        FOREACH_ARRAY(s, bad, ELEMENTSOF(bad)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                char *name = NULL;

                if (registry_name_parse(*s, &name, &e) >= 0)
                        fail_msg("'%s' was accepted", *s);
                ASSERT_EQ(e.code, K_INVALID_ARGUMENT);
        }
        memset(large, 'a', sizeof(large));
        memcpy(large + sizeof(large) - 5, ".org", 5);
        ASSERT_ERROR(registry_name_parse(large, (char **) &(char *){ NULL }, NULL), EINVAL);
}

KONTENA_TESTS(cmocka_unit_test(test_image_reference_reads_every_form), cmocka_unit_test(test_registry_names),
                cmocka_unit_test(test_image_reference_normalized_is_stable),
                cmocka_unit_test(test_image_reference_refuses_and_says_why),
                cmocka_unit_test(test_image_reference_has_a_length))
