/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keyring.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

typedef struct Place {
        char directory[64];
} Place;

static void place_init(Place *p) {
        (void) snprintf(p->directory, sizeof(p->directory), "/tmp/test-keyring.XXXXXX");
        ASSERT_TRUE(mkdtemp(p->directory));
        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
}

static void place_done(Place *p) {
        (void) rm_rf_at(AT_FDCWD, p->directory);
}
#define _cleanup_place_ _cleanup_(place_done)

static void test_key_is_made_once_and_private(void **state) {
        _cleanup_place_ Place p;
        _cleanup_free_ char *path = NULL, *first = NULL, *second = NULL;
        size_t n;
        struct stat st;

        place_init(&p);
        path = strjoin(p.directory, "/master.key");
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(keyring_freep) Keyring *k = NULL;

                ASSERT_OK(keyring_new(p.directory, &k, NULL));
                ASSERT_OK(read_file(path, 4096, i == 0 ? &first : &second, &n));
                ASSERT_EQ(n, 32);
        }
        ASSERT_EQ(memcmp(first, second, 32), 0);
        ASSERT_OK(stat(path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);
}

static void test_credential_goes_before_the_file(void **state) {
        _cleanup_place_ Place p, credentials;
        _cleanup_(keyring_freep) Keyring *a = NULL, *b = NULL, *c = NULL;
        _cleanup_free_ char *path = NULL;
        _cleanup_free_ void *sealed = NULL, *open = NULL;
        size_t n, m;

        place_init(&p);
        place_init(&credentials);
        ASSERT_OK(keyring_new(p.directory, &a, NULL));

        /* Not given: the file. Given: it, and the file is left alone. */
        ASSERT_OK(setenv("CREDENTIALS_DIRECTORY", credentials.directory, 1));
        ASSERT_OK(keyring_new(p.directory, &b, NULL));
        ASSERT_OK(keyring_seal(a, "x", "text", 4, &sealed, &n));
        ASSERT_OK(keyring_open(b, "x", sealed, n, &open, &m));

        path = strjoin(credentials.directory, "/kontena.key");
        ASSERT_OK(write_file_atomic(path, "0123456789abcdef0123456789abcdef", 32, 0600));
        ASSERT_OK(keyring_new(p.directory, &c, NULL));
        {
                _cleanup_free_ void *other = NULL;

                ASSERT_ERROR(keyring_open(c, "x", sealed, n, &other, &m), EBADMSG);
        }
        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
}

static void test_key_of_a_wrong_size_is_refused(void **state) {
        static const char *const table[] = { "", "short", "0123456789abcdef0123456789abcdefX" };

        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                _cleanup_place_ Place p;
                _cleanup_(keyring_freep) Keyring *k = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;
                _cleanup_free_ char *path = NULL, *after = NULL;
                size_t n;

                place_init(&p);
                path = strjoin(p.directory, "/master.key");
                ASSERT_OK(write_file_atomic(path, *s, strlen(*s), 0600));
                ASSERT_ERROR(keyring_new(p.directory, &k, &error), EINVAL);
                ASSERT_TRUE(strstr(kerror_message(&error), path));
                ASSERT_OK(read_file(path, 4096, &after, &n));
                ASSERT_STREQ(after, *s); /* never replaced: what it sealed would be lost */
        }
}

static void test_sealed_opens_only_whole_and_in_its_place(void **state) {
        _cleanup_place_ Place p;
        _cleanup_(keyring_freep) Keyring *k = NULL;
        _cleanup_free_ void *sealed = NULL, *again = NULL, *open = NULL;
        size_t n, m, size;

        place_init(&p);
        ASSERT_OK(keyring_new(p.directory, &k, NULL));
        ASSERT_OK(keyring_seal(k, "vault:a", "secret", 6, &sealed, &n));
        ASSERT_OK(keyring_seal(k, "vault:a", "secret", 6, &again, &m));
        ASSERT_EQ(n, m);
        ASSERT_TRUE(memcmp(sealed, again, n) != 0);
        ASSERT_TRUE(!memmem(sealed, n, "secret", 6));

        ASSERT_OK(keyring_open(k, "vault:a", sealed, n, &open, &size));
        ASSERT_EQ(size, 6);
        ASSERT_STREQ((char *) open, "secret");

        for (size_t i = 0; i <= n; i++) {
                _cleanup_free_ void *other = NULL;

                if (i < n)
                        ((uint8_t *) sealed)[i] ^= 1;
                ASSERT_ERROR(keyring_open(k, i == n ? "vault:b" : "vault:a", sealed, n, &other, &size),
                                EBADMSG);
                if (i < n)
                        ((uint8_t *) sealed)[i] ^= 1;
                ASSERT_ERROR(keyring_open(k, "vault:a", sealed, n == i ? 0 : i, &other, &size), EBADMSG);
        }
}

static void test_empty_can_be_sealed(void **state) {
        _cleanup_place_ Place p;
        _cleanup_(keyring_freep) Keyring *k = NULL;
        _cleanup_free_ void *sealed = NULL, *open = NULL;
        size_t n, size;

        place_init(&p);
        ASSERT_OK(keyring_new(p.directory, &k, NULL));
        ASSERT_OK(keyring_seal(k, "x", NULL, 0, &sealed, &n));
        ASSERT_OK(keyring_open(k, "x", sealed, n, &open, &size));
        ASSERT_EQ(size, 0);
        ASSERT_STREQ((char *) open, "");
}

static void test_tokens_are_compared_by_hash(void **state) {
        static const uint8_t none[TOKEN_HASH_SIZE] = {};
        _cleanup_place_ Place p, q;
        _cleanup_(keyring_freep) Keyring *k = NULL, *other = NULL;
        uint8_t hash[TOKEN_HASH_SIZE];

        place_init(&p);
        place_init(&q);
        ASSERT_OK(keyring_new(p.directory, &k, NULL));
        ASSERT_OK(keyring_new(q.directory, &other, NULL));
        keyring_hash_token(k, "token", hash);
        ASSERT_TRUE(keyring_token_matches(k, "token", hash));
        ASSERT_FALSE(keyring_token_matches(k, "tokem", hash));
        ASSERT_FALSE(keyring_token_matches(k, "", hash));
        ASSERT_FALSE(keyring_token_matches(k, NULL, hash));
        ASSERT_FALSE(keyring_token_matches(k, "token", none));
        ASSERT_FALSE(keyring_token_matches(other, "token", hash));
}

KONTENA_TESTS(cmocka_unit_test(test_key_is_made_once_and_private),
                cmocka_unit_test(test_credential_goes_before_the_file),
                cmocka_unit_test(test_key_of_a_wrong_size_is_refused),
                cmocka_unit_test(test_sealed_opens_only_whole_and_in_its_place),
                cmocka_unit_test(test_empty_can_be_sealed),
                cmocka_unit_test(test_tokens_are_compared_by_hash))
