/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keyring.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "file-util.h"
#include "json-util.h"
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

static void test_what_is_sealed_for_a_node_opens_there_alone(void **state) {
        uint8_t public[2][crypto_box_PUBLICKEYBYTES], secret[2][crypto_box_SECRETKEYBYTES], zero[32] = {};
        _cleanup_free_ void *a = NULL, *again = NULL, *other_text = NULL, *other_node = NULL,
                            *elsewhere = NULL, *foreign = NULL, *bad = NULL;
        _cleanup_(keyring_freep) Keyring *k = NULL, *master = NULL;
        _cleanup_place_ Place p, q;
        size_t n, m;
        char open[6];

        place_init(&p);
        place_init(&q);
        ASSERT_OK(keyring_new(p.directory, &k, NULL));
        ASSERT_OK(keyring_new(q.directory, &master, NULL));
        for (unsigned i = 0; i < 2; i++)
                ASSERT_OK(crypto_box_keypair(public[i], secret[i]));

        ASSERT_OK(keyring_seal_for_node(k, public[0], "x", "secret", 6, &a, &n));
        ASSERT_EQ(n, 6 + crypto_box_SEALBYTES);
        ASSERT_OK(crypto_box_seal_open((uint8_t *) open, a, n, public[0], secret[0]));
        ASSERT_EQ(memcmp(open, "secret", 6), 0);
        ASSERT_TRUE(crypto_box_seal_open((uint8_t *) open, a, n, public[1], secret[1]) < 0);

        ASSERT_OK(keyring_seal_for_node(k, public[0], "x", "secret", 6, &again, &m));
        ASSERT_EQ(memcmp(a, again, n), 0);
        /* Whatever differs, nothing is shared: not even the ephemeral key. */
        ASSERT_OK(keyring_seal_for_node(k, public[0], "x", "secreT", 6, &other_text, &m));
        ASSERT_OK(keyring_seal_for_node(k, public[1], "x", "secret", 6, &other_node, &m));
        ASSERT_OK(keyring_seal_for_node(k, public[0], "y", "secret", 6, &elsewhere, &m));
        ASSERT_OK(keyring_seal_for_node(master, public[0], "x", "secret", 6, &foreign, &m));
        ASSERT_TRUE(memcmp(a, other_text, 32) != 0);
        ASSERT_TRUE(memcmp(a, other_node, 32) != 0);
        ASSERT_TRUE(memcmp(a, elsewhere, 32) != 0);
        ASSERT_TRUE(memcmp(a, foreign, 32) != 0);

        ASSERT_ERROR(keyring_seal_for_node(k, zero, "x", "secret", 6, &bad, &m), EKEYREJECTED);
}

static void test_report_without_a_key_gets_nothing(void **state) {
        static const char *const reports[] = { "{}", "{\"secret_key\": \"\"}", "{\"secret_key\": \"AAAA\"}",
                "{\"secret_key\": \"!\"}",
                "{\"secret_key\": \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}" };
        _cleanup_(keyring_freep) Keyring *k = NULL;
        _cleanup_place_ Place p;
        char *sealed;

        place_init(&p);
        ASSERT_OK(keyring_new(p.directory, &k, NULL));
        for (size_t i = 0; i < ELEMENTSOF(reports); i++) {
                _cleanup_json_ json_object *report = json_tokener_parse(reports[i]);

                sealed = (char *) "untouched";
                ASSERT_OK(keyring_seal_for_report(k, report, "x", "secret", 6, &sealed));
                ASSERT_TRUE(!sealed);
        }
        ASSERT_OK(keyring_seal_for_report(k, NULL, "x", "secret", 6, &sealed));
        ASSERT_TRUE(!sealed);
}

KONTENA_TESTS(cmocka_unit_test(test_what_is_sealed_for_a_node_opens_there_alone),
                cmocka_unit_test(test_report_without_a_key_gets_nothing),
                cmocka_unit_test(test_key_is_made_once_and_private),
                cmocka_unit_test(test_credential_goes_before_the_file),
                cmocka_unit_test(test_key_of_a_wrong_size_is_refused),
                cmocka_unit_test(test_sealed_opens_only_whole_and_in_its_place),
                cmocka_unit_test(test_empty_can_be_sealed),
                cmocka_unit_test(test_tokens_are_compared_by_hash))
