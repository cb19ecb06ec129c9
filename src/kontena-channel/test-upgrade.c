/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "upgrade.h"

#include "json-util.h"
#include "string-util.h"
#include "test.h"

/* The example of RFC 6455 section 1.3. */
#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define GOOD                                                                                                \
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
        "Sec-WebSocket-Accept: " ACCEPT "\r\nSec-WebSocket-Protocol: kontena.node.1\r\n\r\n"

static int check(const char *text, size_t n, KError *error) {
        return upgrade_check_response(text, n, "kontena.node.1", KEY, error);
}

static void test_answer_is_found_whole_at_any_cut(void **state) {
        static const char text[] = GOOD "\x81\x00";
        size_t whole = sizeof(GOOD) - 1;

        for (size_t n = 0; n < sizeof(text); n++)
                ASSERT_EQ(check(text, n, NULL), n < whole ? 0 : (int) whole);
}

static void test_case_and_lists_are_as_http_has_them(void **state) {
        static const char
                        text[] = "HTTP/1.1 101\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, UPGRADE\r\n"
                                 "sec-websocket-accept:   " ACCEPT
                                 "  \r\nSec-websocket-protocol: kontena.node.1\r\nDate: x\r\n\r\n";

        ASSERT_EQ(check(text, sizeof(text) - 1, NULL), sizeof(text) - 1);
}

static void test_other_answers_are_errors_with_a_sentence(void **state) {
        static const char *const table[] = {
                "HTTP/1.0 101 x\r\nUpgrade: websocket\r\n\r\n",
                "HTTP/1.1 10\r\n\r\n",
                "HTTP/1.1 1010 x\r\n\r\n",
                "HTTP/1.1 200 OK\r\n\r\n",
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                "HTTP/1.1 101 x\r\n\r\n",
                "HTTP/1.1 101 x\r\nUpgrade websocket\r\n\r\n",
                "HTTP/1.1 101 x\r\n: websocket\r\n\r\n",
                "\r\n\r\n",
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                "AAAA\r\n\r\n",
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: "
                "Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
        };

        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (check(*s, strlen(*s), &error) >= 0 || !kerror_is_set(&error))
                        fail_msg("accepted: %s", *s);
        }
}

static void test_large_head_is_refused(void **state) {
        _cleanup_free_ char *text = malloc(UPGRADE_HEAD_SIZE_MAX);
        _cleanup_kerror_ KError error = KERROR_NULL;

        ASSERT_TRUE(text);
        memset(text, 'x', UPGRADE_HEAD_SIZE_MAX);
        ASSERT_EQ(check(text, UPGRADE_HEAD_SIZE_MAX - 1, NULL), 0);
        ASSERT_TRUE(check(text, UPGRADE_HEAD_SIZE_MAX, &error) < 0);
}

static void test_request_has_what_was_asked_and_no_smuggled_lines(void **state) {
        static const char *const bad[] = { "{\"A\":\"x\\r\\nB: y\"}", "{\"A:\":\"x\"}", "{\"\":\"x\"}",
                "{\"A\":1}", "{\"A B\":\"x\"}", "{\"A\":\"\\u0000\"}" };
        _cleanup_json_ json_object *headers = json_object_new_object();
        _cleanup_free_ char *text = NULL, *key = NULL;

        ASSERT_OK(json_add_string(headers, "Kontena-Node-Name", "a"));
        ASSERT_OK(upgrade_key_new(&key));
        ASSERT_EQ(strlen(key), 24);
        ASSERT_OK(upgrade_request("master:1", "/v1/x", "kontena.node.1", key, headers, &text, NULL));
        ASSERT_TRUE(startswith(text, "GET /v1/x HTTP/1.1\r\nHost: master:1\r\n"));
        ASSERT_TRUE(endswith(text, "\r\nKontena-Node-Name: a\r\n\r\n"));
        ASSERT_TRUE(strstr(text, key));

        FOREACH_ARRAY(s, bad, ELEMENTSOF(bad)) {
                _cleanup_json_ json_object *o = NULL;
                _cleanup_free_ char *other = NULL;

                ASSERT_OK(json_parse(*s, strlen(*s), 4096, &o, NULL));
                ASSERT_ERROR(upgrade_request("m", "/", "p", key, o, &other, NULL), EINVAL);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_answer_is_found_whole_at_any_cut),
                cmocka_unit_test(test_case_and_lists_are_as_http_has_them),
                cmocka_unit_test(test_other_answers_are_errors_with_a_sentence),
                cmocka_unit_test(test_large_head_is_refused),
                cmocka_unit_test(test_request_has_what_was_asked_and_no_smuggled_lines))
