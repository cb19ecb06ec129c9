/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authorities.h"

#include <fcntl.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

/* SEQUENCE { INTEGER 1 } */
#define GOOD "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"

static void test_what_is_no_list_of_certificates_is_refused(void **state) {
        static const char *const bad[] = {
                "",
                "\n",
                "-----BEGIN CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n",
                "-----BEGIN CERTIFICATE-----\nMAMCAQ==\n-----END "
                "CERTIFICATE-----\n", /* cut */
                "-----BEGIN CERTIFICATE-----\nMAMCAQEA\n-----END "
                "CERTIFICATE-----\n", /* longer than it says */
                "-----BEGIN CERTIFICATE-----\n*AMCAQE=\n-----END "
                "CERTIFICATE-----\n",
                "-----BEGIN PRIVATE KEY-----\nMAMCAQE=\n-----END PRIVATE "
                "KEY-----\n",
                GOOD "x",
                GOOD "\n" GOOD,
        };

        ASSERT_OK(authorities_check(GOOD, strlen(GOOD), NULL));
        ASSERT_OK(authorities_check(GOOD GOOD, strlen(GOOD GOOD), NULL));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                ASSERT_ERROR(authorities_check(bad[i], strlen(bad[i]), &error), EINVAL);
                ASSERT_TRUE(kerror_is_set(&error));
        }
        ASSERT_ERROR(authorities_check(GOOD "\0", strlen(GOOD) + 1, NULL), EINVAL);
}

static void test_the_file_is_replaced_whole_or_not_at_all(void **state) {
        char directory[] = "/tmp/test-authorities.XXXXXX";
        _cleanup_free_ char *first = NULL, *second = NULL, *none = NULL, *path = NULL, *text = NULL;

        ASSERT_TRUE(mkdtemp(directory));
        ASSERT_ERROR(authorities_read_digest(directory, &none), ENOENT);
        ASSERT_OK(authorities_replace(directory, GOOD, NULL));
        ASSERT_OK(authorities_read_digest(directory, &first));
        ASSERT_EQ(strlen(first), 64);

        ASSERT_ERROR(authorities_replace(directory, "nonsense", NULL), EINVAL);
        path = strjoin(directory, "/ca.pem");
        ASSERT_TRUE(path);
        ASSERT_OK(read_file(path, 4096, &text, NULL));
        ASSERT_STREQ(text, GOOD);

        ASSERT_OK(authorities_replace(directory, GOOD GOOD, NULL));
        ASSERT_OK(authorities_read_digest(directory, &second));
        ASSERT_TRUE(!streq(first, second));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

KONTENA_TESTS(cmocka_unit_test(test_what_is_no_list_of_certificates_is_refused),
                cmocka_unit_test(test_the_file_is_replaced_whole_or_not_at_all))
