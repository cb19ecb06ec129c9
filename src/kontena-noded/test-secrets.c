/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "secrets.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static int setup(void **state) {
        char *directory = strdup("/tmp/test-secrets.XXXXXX");

        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        *state = mkdtemp(directory);
        return *state ? 0 : -1;
}

static int teardown(void **state) {
        (void) rm_rf_at(AT_FDCWD, *state);
        free(*state);
        return 0;
}

static char *seal(const char *public_key, const char *text) {
        uint8_t key[32], sealed[256];
        size_t n, m = strlen(text);
        char *base64 = malloc(512);

        ASSERT_OK(sodium_base642bin(key, sizeof(key), public_key, strlen(public_key), NULL, &n, NULL,
                        sodium_base64_VARIANT_ORIGINAL));
        ASSERT_EQ(n, 32);
        ASSERT_OK(crypto_box_seal(sealed, (const uint8_t *) text, m, key));
        return sodium_bin2base64(
                        base64, 512, sealed, m + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
}

static void test_key_is_made_once_private_and_opens(void **state) {
        _cleanup_(secrets_freep) Secrets *s = NULL, *again = NULL;
        _cleanup_free_ char *path = strjoin(*state, "/node/secret.key"), *node = strjoin(*state, "/node"),
                            *sealed = NULL, *text = NULL;
        struct stat st;
        size_t n;

        ASSERT_OK(secrets_new(node, &s, NULL));
        ASSERT_OK(secrets_new(node, &again, NULL));
        ASSERT_STREQ(secrets_public_key(s), secrets_public_key(again));
        ASSERT_OK(stat(path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);
        ASSERT_EQ(st.st_size, 32);

        sealed = seal(secrets_public_key(s), "top secret");
        ASSERT_OK(secrets_open(again, sealed, &text, &n));
        ASSERT_EQ(n, 10);
        ASSERT_STREQ(text, "top secret");
}

static void test_changed_or_foreign_is_refused(void **state) {
        _cleanup_(secrets_freep) Secrets *s = NULL, *other = NULL;
        _cleanup_free_ char *elsewhere = strjoin(*state, "/other"), *sealed = NULL;
        char *text = NULL;

        ASSERT_OK(secrets_new(*state, &s, NULL));
        ASSERT_OK(secrets_new(elsewhere, &other, NULL));
        sealed = seal(secrets_public_key(s), "x");
        ASSERT_ERROR(secrets_open(other, sealed, &text, NULL), EBADMSG);
        sealed[50] = sealed[50] == 'A' ? 'B' : 'A';
        ASSERT_ERROR(secrets_open(s, sealed, &text, NULL), EBADMSG);
        ASSERT_ERROR(secrets_open(s, "", &text, NULL), EBADMSG);
        ASSERT_ERROR(secrets_open(s, "AAAA", &text, NULL), EBADMSG);
        ASSERT_ERROR(secrets_open(s, "no base64!", &text, NULL), EBADMSG);
}

static void test_credential_goes_before_the_file(void **state) {
        _cleanup_(secrets_freep) Secrets *file = NULL, *credential = NULL;
        _cleanup_free_ char *path = strjoin(*state, "/kontena-node.key");
        _cleanup_kerror_ KError error = KERROR_NULL;
        Secrets *bad;
        char key[33];

        ASSERT_OK(secrets_new(*state, &file, NULL));
        ASSERT_OK(setenv("CREDENTIALS_DIRECTORY", *state, 1));
        memset(key, 'k', sizeof(key));
        ASSERT_OK(write_file_atomic(path, key, 32, 0400));
        ASSERT_OK(secrets_new(*state, &credential, NULL));
        ASSERT_TRUE(!streq(secrets_public_key(file), secrets_public_key(credential)));
        ASSERT_OK(write_file_atomic(path, key, 33, 0400));
        ASSERT_TRUE(secrets_new(*state, &bad, &error) < 0);
        ASSERT_TRUE(strstr(kerror_message(&error), "exactly 32 bytes") != NULL);
        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_key_is_made_once_private_and_opens, setup, teardown),
                cmocka_unit_test_setup_teardown(test_changed_or_foreign_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_credential_goes_before_the_file, setup, teardown))
