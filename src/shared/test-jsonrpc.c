/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jsonrpc.h"

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

typedef struct End {
        JsonRpc *rpc;
        char *sent; /* the last text */
        unsigned n_sent, methods, results, errors;
        uint64_t last_id;
        char method[64], error[128];
        KErrorCode error_code;
        int send_result, method_result;
        bool call_again;
} End;

static void on_done(void *userdata) {
        (*(unsigned *) userdata)++;
}

static int end_send(const char *text, size_t size, void *userdata) {
        End *e = userdata;

        if (e->send_result < 0)
                return e->send_result;
        free(e->sent);
        e->sent = strndup(text, size);
        e->n_sent++;
        return 0;
}
static int end_method(uint64_t id, const char *method, json_object *params, void *userdata) {
        End *e = userdata;

        e->methods++;
        e->last_id = id;
        (void) snprintf(e->method, sizeof(e->method), "%s", method);
        return e->method_result;
}
static void end_result(jsonrpc_callback_t done, void *done_userdata, json_object *result,
                const KError *error, void *userdata) {
        End *e = userdata;

        ((void (*)(void *)) done)(done_userdata);
        if (!error)
                e->results++;
        else {
                e->errors++;
                e->error_code = error->code;
                (void) snprintf(e->error, sizeof(e->error), "%s", kerror_message(error));
        }
        if (e->call_again) {
                e->call_again = false;
                (void) jsonrpc_call(e->rpc, "again", NULL, 0, (jsonrpc_callback_t) on_done, done_userdata);
        }
}
static const JsonRpcHandler handler = { .send = end_send, .method = end_method, .result = end_result };

static void end_done(End *e) {
        e->rpc = jsonrpc_free(e->rpc);
        e->sent = mfree(e->sent);
}
#define _cleanup_end_ _cleanup_(end_done)

static int call(End *e, uint64_t timeout, unsigned *done) {
        return jsonrpc_call(e->rpc, "m", NULL, timeout, (jsonrpc_callback_t) on_done, done);
}
static int receive(End *e, const char *text) {
        return jsonrpc_receive(e->rpc, text, strlen(text), NULL);
}

static void test_call_is_answered_once(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {}, b = {};
        unsigned done = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_OK(jsonrpc_new(event, &handler, &b, &b.rpc));

        ASSERT_OK(call(&a, 0, &done));
        ASSERT_OK(receive(&b, a.sent));
        ASSERT_EQ(b.methods, 1);
        ASSERT_STREQ(b.method, "m");
        ASSERT_TRUE(b.last_id > 0);
        ASSERT_OK(jsonrpc_reply(b.rpc, b.last_id, json_object_new_object()));
        ASSERT_ERROR(jsonrpc_reply(b.rpc, b.last_id, NULL), ENOENT);

        ASSERT_OK(receive(&a, b.sent));
        ASSERT_EQ(done, 1);
        ASSERT_EQ(a.results, 1);
        ASSERT_OK(receive(&a, b.sent)); /* a duplicate is ignored */
        ASSERT_EQ(done, 1);
        ASSERT_EQ(jsonrpc_calls(a.rpc), 0);
}

static void test_error_arrives_whole(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_end_ End a = {}, b = {};
        unsigned done = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_OK(jsonrpc_new(event, &handler, &b, &b.rpc));

        ASSERT_OK(call(&a, 0, &done));
        ASSERT_OK(receive(&b, a.sent));
        (void) kerror_set(&error, K_IMAGE, "No image '%s'.", "x");
        ASSERT_OK(jsonrpc_reply_error(b.rpc, b.last_id, &error));
        ASSERT_OK(receive(&a, b.sent));
        ASSERT_EQ(a.errors, 1);
        ASSERT_EQ(a.error_code, K_IMAGE);
        ASSERT_STREQ(a.error, "No image 'x'.");
}

static void test_unknown_error_code_is_internal(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {};
        unsigned done = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_OK(call(&a, 0, &done));
        ASSERT_OK(receive(&a,
                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,\"message\":\"a\\u0007b\","
                        "\"data\":{\"code\":\"io.kontena.Error.OfTheFuture\"}}}"));
        ASSERT_EQ(a.error_code, K_INTERNAL);
        ASSERT_STREQ(a.error, "a?b");
}

static void test_call_times_out_once_and_late_answer_is_ignored(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {};
        unsigned soon = 0, later = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_OK(call(&a, 60 * USEC_PER_SEC, &later));
        ASSERT_OK(call(&a, 20 * USEC_PER_MSEC, &soon));
        a.call_again = true; /* a new call from the callback is kept apart */
        while (soon == 0)
                ASSERT_OK(sd_event_run(event, USEC_PER_SEC));
        ASSERT_EQ(soon, 1);
        ASSERT_EQ(later, 0);
        ASSERT_EQ(a.error_code, K_TIMEOUT);
        ASSERT_EQ(jsonrpc_calls(a.rpc), 2);

        ASSERT_OK(receive(&a, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":null}"));
        ASSERT_EQ(soon, 1);
        ASSERT_OK(receive(&a, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}"));
        ASSERT_EQ(later, 1);
}

static void test_loss_of_connection_ends_every_call_once(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {};
        unsigned done = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        for (unsigned i = 0; i < 10; i++)
                ASSERT_OK(call(&a, 0, &done));
        a.call_again = true;
        jsonrpc_reset(a.rpc, K_NODE_OFFLINE, "gone");
        ASSERT_EQ(done, 10);
        ASSERT_EQ(jsonrpc_calls(a.rpc), 1);
        a.call_again = true;
        a.rpc = jsonrpc_free(a.rpc);
        ASSERT_EQ(done, 11);
}

static void test_too_many_calls_are_refused(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {}, b = {};
        unsigned done = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_OK(jsonrpc_new(event, &handler, &b, &b.rpc));
        for (unsigned i = 0; i < CHANNEL_CALLS_MAX; i++) {
                ASSERT_OK(call(&a, 0, &done));
                ASSERT_OK(receive(&b, a.sent));
        }
        ASSERT_ERROR(call(&a, 0, &done), ENOBUFS);
        ASSERT_EQ(done, 0);

        /* The same bound holds for what the peer asks of us; it is told. */
        ASSERT_EQ(b.n_sent, 0);
        ASSERT_OK(receive(&b, "{\"jsonrpc\":\"2.0\",\"id\":99999,\"method\":\"m\"}"));
        ASSERT_EQ(b.methods, CHANNEL_CALLS_MAX);
        ASSERT_TRUE(strstr(b.sent, "LimitExceeded"));
}

static void test_failed_send_calls_nobody(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = { .send_result = -ENOBUFS };
        unsigned done = 0;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_ERROR(call(&a, 0, &done), ENOBUFS);
        ASSERT_EQ(jsonrpc_calls(a.rpc), 0);
        ASSERT_EQ(done, 0);
}

static void test_malformed_messages_are_errors(void **state) {
        static const char *const table[] = {
                "",
                "null",
                "[]",
                "{",
                "{}",
                "1",
                "[{\"jsonrpc\":\"2.0\",\"method\":\"m\"}]",
                "{\"jsonrpc\":\"1.0\",\"method\":\"m\"}",
                "{\"method\":\"m\"}",
                "{\"jsonrpc\":\"2.0\",\"method\":1}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"\"}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"a\\nb\"}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1]}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":0}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":-1}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"1\"}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1.5}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":null}",
                "{\"jsonrpc\":\"2.0\",\"id\":1}",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{\"code\":1,\"message\":\"\"}}",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"x\"}",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":null}",
                "{\"jsonrpc\":\"2.0\",\"method\":\"m\"} x",
        };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {};

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        FOREACH_ARRAY(s, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (jsonrpc_receive(a.rpc, *s, strlen(*s), &error) >= 0 || !kerror_is_set(&error))
                        fail_msg("'%s' was accepted", *s);
        }
        ASSERT_EQ(a.methods, 0);
        ASSERT_EQ(a.n_sent, 0);

        /* Null for the id of an error: the peer could not read us. Nothing to be done. */
        ASSERT_OK(receive(&a, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":"
                              "\"parse\"}}"));
}

static void test_one_id_twice_is_an_error(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = {};

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_OK(receive(&a, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":7}"));
        ASSERT_ERROR(receive(&a, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":7}"), EINVAL);
        ASSERT_EQ(a.methods, 1);
        ASSERT_OK(jsonrpc_reply(a.rpc, 7, NULL));
        ASSERT_OK(receive(&a, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":7}"));
        ASSERT_EQ(a.methods, 2);
}

static void test_handler_can_end_the_connection(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_end_ End a = { .method_result = -EPROTO };

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(jsonrpc_new(event, &handler, &a, &a.rpc));
        ASSERT_ERROR(receive(&a, "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}"), EPROTO);
}

KONTENA_TESTS(cmocka_unit_test(test_call_is_answered_once), cmocka_unit_test(test_error_arrives_whole),
                cmocka_unit_test(test_unknown_error_code_is_internal),
                cmocka_unit_test(test_call_times_out_once_and_late_answer_is_ignored),
                cmocka_unit_test(test_loss_of_connection_ends_every_call_once),
                cmocka_unit_test(test_too_many_calls_are_refused),
                cmocka_unit_test(test_failed_send_calls_nobody),
                cmocka_unit_test(test_malformed_messages_are_errors),
                cmocka_unit_test(test_one_id_twice_is_an_error),
                cmocka_unit_test(test_handler_can_end_the_connection))
