/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-keys.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static int setup(void **state) {
        *state = mkdtemp(strdup("/tmp/test-wireguard-keys.XXXXXX"));
        return *state ? 0 : -1;
}

static int teardown(void **state) {
        (void) rm_rf_at(AT_FDCWD, *state);
        free(*state);
        return 0;
}

static void test_keys_outlive_the_daemon(void **state) {
        _cleanup_(wireguard_keys_freep) WireguardKeys *k = NULL, *again = NULL;
        _cleanup_free_ char *path = strjoin(*state, "/wireguard-keys");
        const WireguardKey *a, *b;
        struct stat st;

        ASSERT_OK(wireguard_keys_new(*state, &k, NULL));
        ASSERT_TRUE(access(path, F_OK) < 0); /* nothing is left on a machine that has no grid */
        ASSERT_EQ(wireguard_keys_ensure(k, "g1", 1, NULL), 1);
        ASSERT_EQ(wireguard_keys_ensure(k, "g1", 1, NULL), 0);
        ASSERT_OK(stat(path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);

        ASSERT_OK(wireguard_keys_new(*state, &again, NULL));
        ASSERT_EQ(wireguard_keys_ensure(again, "g1", 1, NULL), 0);
        ASSERT_EQ(wireguard_keys_list(k, &a), 1);
        ASSERT_EQ(wireguard_keys_list(again, &b), 1);
        ASSERT_EQ(memcmp(a, b, sizeof(*a)), 0);
        ASSERT_TRUE(memcmp(a->private_key, a->public_key, WG_KEY_SIZE) != 0);
}

static void test_generations(void **state) {
        _cleanup_(wireguard_keys_freep) WireguardKeys *k = NULL;
        uint8_t second[WG_KEY_SIZE];
        const WireguardKey *l;

        ASSERT_OK(wireguard_keys_new(*state, &k, NULL));
        ASSERT_EQ(wireguard_keys_ensure(k, "g1", 1, NULL), 1);
        ASSERT_EQ(wireguard_keys_ensure(k, "g1", 2, NULL), 1);
        ASSERT_EQ(wireguard_keys_list(k, &l), 2);
        ASSERT_TRUE(l[0].generation == 2 && l[1].generation == 1);
        ASSERT_TRUE(memcmp(l[0].public_key, l[1].public_key, WG_KEY_SIZE) != 0);
        memcpy(second, l[0].public_key, WG_KEY_SIZE);

        /* Never three. */
        ASSERT_EQ(wireguard_keys_ensure(k, "g1", 3, NULL), 1);
        ASSERT_EQ(wireguard_keys_list(k, &l), 2);
        ASSERT_TRUE(l[0].generation == 3 && l[1].generation == 2);
        ASSERT_EQ(memcmp(l[1].public_key, second, WG_KEY_SIZE), 0);
        ASSERT_TRUE(!wireguard_keys_find(k, 1) && wireguard_keys_find(k, 2));

        ASSERT_EQ(wireguard_keys_drop_before(k, 3, NULL), 1);
        ASSERT_EQ(wireguard_keys_drop_before(k, 3, NULL), 0);
        ASSERT_EQ(wireguard_keys_list(k, &l), 1);

        /* A master that was restored from a backup. */
        ASSERT_EQ(wireguard_keys_ensure(k, "g1", 2, NULL), 1);
        ASSERT_EQ(wireguard_keys_list(k, &l), 1);
        ASSERT_TRUE(memcmp(l[0].public_key, second, WG_KEY_SIZE) != 0);

        /* Another grid has nothing of this one's. */
        ASSERT_EQ(wireguard_keys_ensure(k, "g2", 3, NULL), 1);
        ASSERT_EQ(wireguard_keys_list(k, &l), 1);
        ASSERT_OK(wireguard_keys_clear(k, NULL));
        ASSERT_OK(wireguard_keys_clear(k, NULL));
        ASSERT_EQ(wireguard_keys_list(k, &l), 0);
}

static void test_damaged_files_are_put_aside(void **state) {
        static const char *const texts[] = {
                "",
                "\n",
                "grid \n",
                "grid g1",
                "grid g1\n1\n",
                "grid g1\n0 aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=\n",
                "grid g1\n1 aGVsbG8=\n",
                "grid g1\n1 aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=",
                "grid g1\n1 aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=\n2 "
                "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=\n",
                "grid g1\n4 aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=\n3 "
                "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=\n2 "
                "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28=\n",
        };
        _cleanup_free_ char *path = strjoin(*state, "/wireguard-keys"),
                            *aside = strjoin(*state, "/wireguard-keys.corrupt");

        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts)) {
                _cleanup_(wireguard_keys_freep) WireguardKeys *k = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;
                const WireguardKey *l;

                ASSERT_OK(write_file_atomic(path, *t, strlen(*t), 0600));
                ASSERT_OK(wireguard_keys_new(*state, &k, &e));
                if (!strstr(kerror_message(&e), "damaged"))
                        fail_msg("'%s' was taken", *t);
                ASSERT_EQ(wireguard_keys_list(k, &l), 0);
                ASSERT_OK(unlink(aside));
        }
}

static void test_what_cannot_be_written_is_not_told(void **state) {
        _cleanup_free_ char *missing = strjoin(*state, "/missing");
        _cleanup_(wireguard_keys_freep) WireguardKeys *k = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        const WireguardKey *l;

        ASSERT_OK(wireguard_keys_new(missing, &k, NULL));
        ASSERT_TRUE(wireguard_keys_ensure(k, "g1", 1, &e) < 0);
        ASSERT_TRUE(kerror_is_set(&e));
        ASSERT_EQ(wireguard_keys_list(k, &l), 0);
        ASSERT_TRUE(wireguard_keys_ensure(k, "g1\n1 x", 1, NULL) < 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

KONTENA_TESTS(TEST(test_keys_outlive_the_daemon), TEST(test_generations),
                TEST(test_damaged_files_are_put_aside), TEST(test_what_cannot_be_written_is_not_told))
