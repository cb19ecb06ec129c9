/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "credentials.h"

#include <fcntl.h>
#include <sodium.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

typedef struct Fixture {
        char directory[40];
        Secrets *key;
        json_object *registries;
} Fixture;

static char *seal(const Secrets *key, const char *text, size_t n) {
        const char *public_key = secrets_public_key(key);
        uint8_t bytes[32], sealed[256];
        char *base64 = malloc(512);
        size_t size;

        ASSERT_OK(sodium_base642bin(bytes, sizeof(bytes), public_key, strlen(public_key), NULL, &size, NULL,
                        sodium_base64_VARIANT_ORIGINAL));
        ASSERT_OK(crypto_box_seal(sealed, (const uint8_t *) text, n, bytes));
        return sodium_bin2base64(
                        base64, 512, sealed, n + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
}

static void add(Fixture *f, const char *name, const char *username, const char *sealed) {
        json_object *o = json_object_new_object();

        ASSERT_OK(json_append(f->registries, o));
        ASSERT_OK(json_add_string(o, "name", name));
        ASSERT_OK(json_add_string(o, "username", username));
        ASSERT_OK(json_add_string(o, "sealed", sealed));
}

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);

        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        memcpy(f->directory, "/tmp/test-credentials-XXXXXX", sizeof("/tmp/test-credentials-XXXXXX"));
        ASSERT_TRUE(mkdtemp(f->directory));
        ASSERT_OK(secrets_new(f->directory, &f->key, NULL));
        f->registries = json_object_new_array();
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        secrets_free(f->key);
        json_object_put(f->registries);
        (void) rm_rf_at(AT_FDCWD, f->directory);
        free(f);
        return 0;
}

static int open_one(Fixture *f, const char *registry, char **username, char **password) {
        *username = *password = NULL;
        return credentials_open(f->registries, f->key, registry, username, password, NULL);
}

static void test_they_are_found_by_registry(void **state) {
        _cleanup_free_ char *sealed = NULL, *other = NULL, *username = NULL, *password = NULL, *u = NULL,
                            *p = NULL, *none = NULL, *nobody = NULL;
        Fixture *f = *state;

        sealed = seal(f->key, "top", 3);
        other = seal(f->key, "hat", 3);
        add(f, "registry:5000", "anna", sealed);
        add(f, "docker.io", "bob", other);
        ASSERT_EQ(open_one(f, "registry:5000", &username, &password), 1);
        ASSERT_STREQ(username, "anna");
        ASSERT_STREQ(password, "top");
        ASSERT_EQ(open_one(f, "registry-1.docker.io", &u, &p), 1);
        ASSERT_STREQ(u, "bob");
        ASSERT_STREQ(p, "hat");

        /* Another port, or none, is another registry. */
        ASSERT_EQ(open_one(f, "registry:5001", &nobody, &none), 0);
        ASSERT_EQ(open_one(f, "registry", &nobody, &none), 0);
        ASSERT_TRUE(!nobody && !none);
        ASSERT_EQ(credentials_open(NULL, f->key, "docker.io", &nobody, &none, NULL), 0);
}

static void test_what_cannot_be_opened_is_an_error(void **state) {
        _cleanup_free_ char *sealed = NULL, *nul = NULL, *username = NULL, *password = NULL;
        _cleanup_(secrets_freep) Secrets *foreign = NULL;
        _cleanup_free_ char *other = NULL;
        Fixture *f = *state;

        other = strjoin(f->directory, "/other");
        ASSERT_OK(secrets_new(other, &foreign, NULL));
        sealed = seal(foreign, "top", 3);
        nul = seal(f->key, "a\0b", 3);
        add(f, "foreign:1", "anna", sealed);
        add(f, "null:1", "anna", NULL);
        add(f, "garbage:1", "anna", "not base64");
        add(f, "nul:1", "anna", nul);
        add(f, "nobody:1", NULL, sealed);
        ASSERT_OK(json_append(f->registries, json_object_new_int(7)));
        ASSERT_OK(json_append(f->registries, json_tokener_parse("{\"name\":7}")));
        ASSERT_OK(json_append(f->registries, json_tokener_parse("{\"name\":\"odd:1\",\"sealed\":{}}")));

        FOREACH_JSON_ARRAY(o, f->registries) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                const char *name = NULL;

                if (json_find_string(o, "name", &name, NULL) <= 0)
                        continue;
                ASSERT_TRUE(credentials_open(f->registries, f->key, name, &username, &password, &e) < 0);
                ASSERT_EQ(e.code, K_IMAGE);
                ASSERT_TRUE(strstr(kerror_message(&e), name) != NULL);
                ASSERT_TRUE(!username && !password);
        }
        ASSERT_TRUE(credentials_open(f->registries, NULL, "nul:1", &username, &password, NULL) < 0);
}

static void test_a_mark_changes_with_them(void **state) {
        _cleanup_free_ char *sealed = NULL, *none = NULL, *a = NULL, *again = NULL, *b = NULL;
        Fixture *f = *state;

        sealed = seal(f->key, "top", 3);
        ASSERT_OK(credentials_mark(f->registries, "registry:5000", &none));
        ASSERT_TRUE(!none);
        add(f, "registry:5000", "anna", sealed);
        ASSERT_OK(credentials_mark(f->registries, "registry:5000", &a));
        ASSERT_OK(credentials_mark(f->registries, "registry:5000", &again));
        ASSERT_STREQ(a, again);
        ASSERT_FALSE(strstr(a, "top"));
        json_object_array_del_idx(f->registries, 0, 1);
        add(f, "registry:5000", "bob", sealed);
        ASSERT_OK(credentials_mark(f->registries, "registry:5000", &b));
        ASSERT_FALSE(streq(a, b));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
KONTENA_TESTS(TEST(test_they_are_found_by_registry), TEST(test_what_cannot_be_opened_is_an_error),
                TEST(test_a_mark_changes_with_them))
