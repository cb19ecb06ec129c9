/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-stream.h"

#include "log-tail.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "runtime.h"
#include "string-util.h"
#include "test.h"

static int send_nothing(const char *method, json_object *params, void *userdata) {
        json_object_put(params);
        return 0;
}

static int call(LogStreams *l, int (*function)(LogStreams *, json_object *, KError *), const char *text) {
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 4096, &o, NULL));
        return function(l, o, NULL);
}

static void test_tail_is_short_and_in_order(void **state) {
        _cleanup_free_ char *few = NULL, *many = NULL, *none = NULL, *odd = NULL, *wide = NULL;
        char *lines[21] = {}, *long_lines[2] = {};
        char umlauts[3001];

        none = log_tail_join(NULL);
        ASSERT_STREQ(none, "");
        few = log_tail_join((char *const[]){ (char *) "last", (char *) "first", NULL });
        ASSERT_STREQ(few, "first\nlast");
        odd = log_tail_join((char *const[]){ (char *) "\x1b[31mred\ttext\n", NULL });
        ASSERT_STREQ(odd, "?[31mred text?");

        for (size_t i = 0; i < 20; i++)
                lines[i] = (char *) "0123456789";
        many = log_tail_join(lines);
        ASSERT_EQ(strlen(many), LOG_TAIL_LINES_MAX * 11 - 1);

        /* One that is too long is cut, not left out; a character is whole or not there. */
        for (size_t i = 0; i < 3000; i++)
                umlauts[i] = i == 0 ? 'x' : i % 2 ? '\xc3' : '\xbc';
        umlauts[3000] = '\0';
        long_lines[0] = umlauts;
        wide = log_tail_join(long_lines);
        ASSERT_TRUE(strlen(wide) < LOG_TAIL_SIZE_MAX && strlen(wide) > LOG_TAIL_SIZE_MAX - 4);
        ASSERT_TRUE(utf8_is_valid(wide, strlen(wide)));
}

static void test_any_bytes_become_text(void **state) {
        static const struct {
                const char *in;
                size_t size;
                const char *out;
        } table[] = {
                { "plain", 5, "plain" },
                { "", 0, "" },
                { "gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f" },
                { "a\xff\x62", 3, "a\xef\xbf\xbd\x62" },
                { "a\0b", 3, "a\xef\xbf\xbd\x62" },
                { "\xe2\x82", 2, "\xef\xbf\xbd\xef\xbf\xbd" },
                { "\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80" },
                { "\xc3(", 2, "\xef\xbf\xbd(" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *text = log_text_sanitize(table[i].in, table[i].size);

                ASSERT_STREQ(text, table[i].out);
                ASSERT_TRUE(utf8_is_valid(text, strlen(text)));
        }
}

static void test_parameters(void **state) {
        LogStreams *l = NULL;
        sd_event *e = NULL;

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(log_streams_new(e, send_nothing, NULL, &l));
        ASSERT_ERROR(call(l, log_streams_open, "{}"), EINVAL);
        ASSERT_ERROR(call(l, log_streams_open, "{\"stream\":1,\"lines\":10001}"), E2BIG);
        ASSERT_ERROR(call(l, log_streams_open, "{\"stream\":1,\"service\":\"a/b/c/d\"}"), EINVAL);
        ASSERT_EQ(log_streams_count(l), 0);
        ASSERT_OK(call(l, log_streams_open,
                        "{\"stream\":1,\"service\":\"null/web\",\"lines\":1,\"follow\":true}"));
        ASSERT_ERROR(call(l, log_streams_open, "{\"stream\":1}"), EEXIST);
        ASSERT_OK(call(l, log_streams_close, "{\"stream\":1}"));
        ASSERT_OK(call(l, log_streams_close, "{\"stream\":1}"));
        ASSERT_EQ(log_streams_count(l), 0);
        log_streams_free(l);
        sd_event_unref(e);
}

static void test_one_view_too_many(void **state) {
        LogStreams *l = NULL;
        sd_event *e = NULL;

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(log_streams_new(e, send_nothing, NULL, &l));
        for (unsigned i = 0; i <= LOG_STREAMS_MAX; i++) {
                _cleanup_free_ char *text = strprintf("{\"stream\":%u,\"service\":\"web\",\"lines\":0}", i);
                int r = call(l, log_streams_open, text);

                ASSERT_EQ(r, i < LOG_STREAMS_MAX ? 0 : -E2BIG);
        }
        log_streams_close_all(l);
        ASSERT_EQ(log_streams_count(l), 0);
        log_streams_free(l);
        sd_event_unref(e);
}

/* The runtime's log, where a failure's reason is. */
static void test_reason_of_the_runtime(void **state) {
        static const struct {
                const char *text, *message;
        } table[] = {
                { "", NULL },
                { "no json\n", NULL },
                { "{\"msg\":\"a\",\"level\":\"error\"}\n{\"msg\":\"b\",\"level\":\"error\"}\n", "b" },
                { "{\"msg\":\"a\",\"level\":\"error\"}\n{\"msg\":\"w\",\"level\":\"warning\"}", "a" },
                { "{\"msg\":\"a\\nb\"}\n{\"half", "a b" },
                { "[]\n{\"level\":\"error\"}", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *message = runtime_log_message(table[i].text, strlen(table[i].text));

                ASSERT_STREQ(message, table[i].message);
        }
}

static void test_version_of_the_runtime(void **state) {
        static const struct {
                const char *text, *version;
        } table[] = {
                { "crun version 1.8.1\ncommit: f8a0\n", "1.8.1" },
                { "runc version 1.1.5+ds1\n", "1.1.5+ds1" },
                { "something\nversion 1", NULL },
                { "", NULL },
                { "crun version ", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *version = runtime_version_parse(table[i].text);

                ASSERT_STREQ(version, table[i].version);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_tail_is_short_and_in_order),
                cmocka_unit_test(test_any_bytes_become_text), cmocka_unit_test(test_parameters),
                cmocka_unit_test(test_one_view_too_many), cmocka_unit_test(test_reason_of_the_runtime),
                cmocka_unit_test(test_version_of_the_runtime))
