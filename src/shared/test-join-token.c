/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "join-token.h"

#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

#define FINGERPRINT "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SECRET      "abcdefghijklmnopqrstuvwxyz234567abcdefgh"

static void test_token_is_read_and_written_alike(void **state) {
        _cleanup_free_ char *text = NULL;
        JoinToken t;

        ASSERT_OK(join_token_parse("KT1-" FINGERPRINT "-" SECRET, &t, NULL));
        ASSERT_STREQ(t.fingerprint, FINGERPRINT);
        ASSERT_STREQ(t.token_id, "abcdefgh");
        ASSERT_STREQ(t.secret, SECRET);

        text = join_token_format(t.fingerprint, t.secret);
        ASSERT_STREQ(text, "KT1-" FINGERPRINT "-" SECRET);
}

static void test_token_forgives_case_and_white_space(void **state) {
        JoinToken t;

        ASSERT_OK(join_token_parse(" kt1-0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef-"
                                   "ABCDEFGHijklmnopqrstuvwxyz234567abcdefgh\r\n",
                        &t, NULL));
        ASSERT_STREQ(t.fingerprint, FINGERPRINT);
        ASSERT_STREQ(t.secret, SECRET);
}

static void test_token_refuses_malformed(void **state) {
        static const char *const table[] = {
                "",
                "KT1-",
                "KT2-" FINGERPRINT "-" SECRET,
                "KT1-" FINGERPRINT "-" SECRET "a",
                "KT1-" FINGERPRINT "_" SECRET,
                "KT1-" FINGERPRINT "-abcdefghijklmnopqrstuvwxyz234567abcdefg1",
                "KT1-g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-" SECRET,
                "KT1-" FINGERPRINT "-abcdefghijklmnopqrstuvwxyz23456 abcdefgh",
        };

        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                JoinToken t;

                ASSERT_ERROR(join_token_parse(*s, &t, &error), EINVAL);
                ASSERT_EQ(error.code, K_INVALID_ARGUMENT);
                /* A secret must not come back in what people paste into reports. */
                ASSERT_TRUE(!strstr(kerror_message(&error), "abcdefghijkl"));
        }
}

static void test_secrets_differ_and_keep_their_token_id(void **state) {
        _cleanup_free_ char *a = NULL, *b = NULL;

        ASSERT_OK(join_secret_new(NULL, &a));
        ASSERT_OK(join_secret_new("abcd2345", &b));
        ASSERT_TRUE(join_secret_is_valid(a));
        ASSERT_TRUE(join_secret_is_valid(b));
        ASSERT_TRUE(!streq(a + JOIN_TOKEN_ID_LENGTH, b + JOIN_TOKEN_ID_LENGTH));
        ASSERT_TRUE(startswith(b, "abcd2345"));
}

static void test_url_is_completed(void **state) {
        static const struct {
                const char *in, *out;
        } table[] = {
                { "master", "wss://master:9292/v1/nodes/channel" },
                { "master:1", "wss://master:1/v1/nodes/channel" },
                { "https://master.example/", "wss://master.example:9292/v1/nodes/channel" },
                { "wss://192.0.2.1:9292/v1/nodes/channel", "wss://192.0.2.1:9292/v1/nodes/channel" },
                { "[2001:db8::1]", "wss://[2001:db8::1]:9292/v1/nodes/channel" },
                { "wss://[2001:db8::1]:443", "wss://[2001:db8::1]:443/v1/nodes/channel" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *url = NULL;

                ASSERT_OK(join_url_normalize(t->in, &url, NULL));
                ASSERT_STREQ(url, t->out);
        }
}

static void test_url_refuses_malformed(void **state) {
        static const char *const table[] = {
                "",
                "http://master",
                "ws://master",
                "master/path",
                "master:0",
                "master:65536",
                "master:",
                ":9292",
                "user@master",
                "2001:db8::1",
                "[2001:db8::1",
                "[2001:db8::1]x",
                "ma ster",
                "wss://",
                "master?x",
                "master\n",
        };

        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *url = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;

                ASSERT_ERROR(join_url_normalize(*s, &url, &error), EINVAL);
                ASSERT_TRUE(kerror_is_set(&error));
        }
}

/* What is made of it is an address, too. */
static void test_addresses_have_a_length(void **state) {
        _cleanup_free_ char *longest = strprintf("%0253d:65535", 0), *too_long = strprintf("%0254d", 0),
                            *url = NULL, *again = NULL;

        ASSERT_OK(join_url_normalize(longest, &url, NULL));
        ASSERT_OK(join_url_normalize(url, &again, NULL));
        ASSERT_STREQ(url, again);
        url = mfree(url);
        ASSERT_ERROR(join_url_normalize(too_long, &url, NULL), EINVAL);
}

static void test_config_survives_and_forgets_the_secret(void **state) {
        char directory[] = "/tmp/test-join-token.XXXXXX";
        _cleanup_free_ char *path = NULL;
        struct stat st;

        ASSERT_TRUE(mkdtemp(directory));
        path = strjoin(directory, "/join.conf");

        {
                _cleanup_join_config_ JoinConfig c = {};

                ASSERT_ERROR(join_config_load(path, &c, NULL), ENOENT);
                c.url = strdup("wss://master:9292/v1/nodes/channel");
                c.secret = strdup(SECRET);
                ASSERT_OK(join_config_save(path, &c, NULL));
        }
        ASSERT_OK(stat(path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);
        {
                _cleanup_join_config_ JoinConfig c = {};

                ASSERT_OK(join_config_load(path, &c, NULL));
                ASSERT_STREQ(c.url, "wss://master:9292/v1/nodes/channel");
                ASSERT_STREQ(c.secret, SECRET);
                erase_and_freep(&c.secret);
                c.secret = NULL;
                ASSERT_OK(join_config_save(path, &c, NULL));
        }
        {
                _cleanup_join_config_ JoinConfig c = {};
                _cleanup_free_ char *text = NULL;

                ASSERT_OK(join_config_load(path, &c, NULL));
                ASSERT_TRUE(!c.secret);
                ASSERT_OK(read_file(path, 4096, &text, NULL));
                ASSERT_TRUE(!strstr(text, SECRET));
        }

        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

KONTENA_TESTS(cmocka_unit_test(test_token_is_read_and_written_alike),
                cmocka_unit_test(test_token_forgives_case_and_white_space),
                cmocka_unit_test(test_token_refuses_malformed),
                cmocka_unit_test(test_secrets_differ_and_keep_their_token_id),
                cmocka_unit_test(test_url_is_completed), cmocka_unit_test(test_url_refuses_malformed),
                cmocka_unit_test(test_addresses_have_a_length),
                cmocka_unit_test(test_config_survives_and_forgets_the_secret))
