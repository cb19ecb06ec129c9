/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>

#include "caller-stream.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "stream-bridge.h"
#include "stream-frame.h"
#include "streams.h"
#include "string-util.h"
#include "test-master.h"
#include "test-session.h"

/* Streams that callers open, from the operation down to what goes to the node. */

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        /* The last answer */
        TestAnswer answer;
        /* What the caller's sink was told last */
        char id[64];
        size_t bytes;
        unsigned channel_ends, ends, freed;
        int status;
        KErrorCode end_code;
        bool gone;
} Bench;

static Bench *bench; /* sinks are made by callers, which know none */

static void sink_opened(const char *stream, void *userdata) {
        snprintf(bench->id, sizeof(bench->id), "%s", stream);
}

static int sink_data(const char *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        ASSERT_STREQ(stream, bench->id);
        bench->bytes += size;
        bench->channel_ends += size == 0;
        return bench->gone ? -ENOTCONN : 0;
}

static void sink_ended(const char *stream, int status, const KError *error, void *userdata) {
        bench->ends++;
        bench->status = status;
        bench->end_code = kerror_is_set(error) ? error->code : K_OK;
}

static void sink_free(void *userdata) {
        bench->freed++;
}

static const StreamSink sink = {
        .opened = sink_opened, .data = sink_data, .ended = sink_ended, .free = sink_free
};

static int caller_sink(Caller *c, const StreamSink **ret, void **ret_userdata) {
        *ret = &sink;
        *ret_userdata = bench;
        return 0;
}

static Caller *caller_new(const char *name, const char *address) {
        static const CallerVTable vtable = { .kind = "test", .stream_sink = caller_sink };
        Caller *c = new0(Caller, 1);

        *c = (Caller){
                .n_ref = 1, .vtable = &vtable, .name = strdup(name), .address = strdup(address), .uid = 1000
        };
        return c;
}

static void put_instance(Bench *b, const char *id, const char *node, uint32_t number) {
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_node(b->m.store, &(NodeRow){ .id = (char *) node,
                                                             .grid_id = (char *) "g",
                                                             .name = (char *) node,
                                                             .number = number }));
        ASSERT_OK(store_put_instance(b->m.store, &(InstanceRow){ .id = (char *) id,
                                                                 .grid_id = (char *) "g",
                                                                 .service_id = (char *) "s",
                                                                 .node_id = (char *) node,
                                                                 .number = number }));
        ASSERT_OK(store_commit(b->m.store, NULL));
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);
        ServiceRow service = { .id = (char *) "s",
                .grid_id = (char *) "g",
                .stack = (char *) "null",
                .name = (char *) "web",
                .spec = json_object_new_object() };

        bench = b;
        b->directory = test_master_open(&b->m);
        ASSERT_OK(streams_new(&b->m, &b->m.streams));
        b->caller = caller_new("uid 1000", ":1.7");
        test_session_set_online(true);

        ASSERT_OK(store_begin(b->m.store, NULL));
        test_master_add_grid(&b->m, "g", "home", "10.81.0.0/16");
        ASSERT_OK(store_put_service(b->m.store, &service));
        ASSERT_OK(store_commit(b->m.store, NULL));
        put_instance(b, "i1", "n1", 1);
        json_object_put(service.spec);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        b->m.streams = streams_free(b->m.streams);
        assert_null(b->m.caller_streams);
        while (test_session_n_open() > 0)
                test_session_answer(NULL);
        operations_abort(&b->m);
        test_answer_done(&b->answer);
        caller_unref(b->caller);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        test_answer_set(&b->answer, result, error);
}

static void call(Bench *b, const char *name, json_object *params) {
        b->answer.count = 0;
        operation_call(&b->m, b->caller, operation_find(name), params, true, on_done, b);
}

static json_object *json(const char *text) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 1024 * 1024, &o, NULL));
        return o;
}

static json_object *of_stream(const Bench *b, const char *key, json_object *value) {
        json_object *o = json_object_new_object();

        ASSERT_OK(json_add_string(o, "stream", b->id));
        if (key)
                ASSERT_OK(json_add(o, key, value));
        return o;
}

#define WEB "\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"instance\":1"

static KErrorCode refused(Bench *b, const char *params) {
        call(b, "exec.open", json(params));
        ASSERT_EQ(b->answer.count, 1);
        return b->answer.error.code;
}

static uint32_t ask(Bench *b) {
        uint64_t number;

        call(b, "exec.open",
                        json("{" WEB ",\"argv\":[\"psql\",\"secret1\",\"secret2\"],\"options\":{\"tty\":"
                             "true,\"rows\":24,"
                             "\"columns\":80,\"env\":[\"A=secret3\"],\"user\":\"app\"}}"));
        ASSERT_EQ(b->answer.count, 0);
        ASSERT_STREQ(test_session_last_method(), "stream.open");
        ASSERT_OK(json_get_u64(test_session_last_params(), "stream", &number, NULL));
        return (uint32_t) number;
}

static uint32_t open_exec(Bench *b) {
        uint32_t number = ask(b);

        test_session_answer(NULL);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_STREQ(json_object_get_string(json_object_object_get(b->answer.result, "stream")), b->id);
        return number;
}

static int from_node(Bench *b, uint32_t number, unsigned channel, size_t size) {
        _cleanup_free_ uint8_t *message = new0(uint8_t, STREAM_FRAME_HEAD_SIZE + size);

        stream_frame_head(message, number, channel);
        return streams_binary(&b->m, test_session("n1"), message, STREAM_FRAME_HEAD_SIZE + size);
}

static int node_says(Bench *b, const char *method, const char *format, uint32_t number) {
        _cleanup_free_ char *text = strprintf(format, number);
        _cleanup_json_ json_object *o = json(text);

        return streams_method(&b->m, test_session("n1"), method, o);
}

static void write_to(Bench *b, size_t size) {
        _cleanup_free_ char *data = new0(char, size + 1);

        call(b, "stream.write", of_stream(b, "data", json_object_new_string_len(data, (int) size)));
}

static void test_a_command_runs_and_ends(void **state) {
        _cleanup_(json_object_putp) json_object *params = NULL;
        Bench *b = *state;
        uint32_t number = ask(b);

        params = json_object_get(test_session_last_params());
        ASSERT_STREQ(json_text(json_object_object_get(params, "argv")),
                        "[\"psql\",\"secret1\",\"secret2\"]");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(params, "id")), "i1");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(params, "kind")), "exec");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(params, "user")), "app");
        test_session_answer(NULL);
        ASSERT_EQ(b->answer.count, 1);

        ASSERT_OK(from_node(b, number, 1, 1000));
        ASSERT_OK(from_node(b, number, 2, 10));
        ASSERT_OK(from_node(b, number, 2, 0));
        ASSERT_EQ(b->bytes, 1010);
        ASSERT_EQ(b->channel_ends, 1);
        call(b, "stream.credit", of_stream(b, "bytes", json_object_new_int(1010)));
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_STREQ(test_session_last_method(), "stream.credit");
        call(b, "stream.credit", of_stream(b, "bytes", json_object_new_int(1)));
        ASSERT_EQ(b->answer.error.code, K_INVALID_ARGUMENT);
        call(b, "stream.signal", of_stream(b, "signal", json_object_new_string("INT")));
        ASSERT_STREQ(test_session_last_method(), "stream.signal");
        call(b, "stream.signal", of_stream(b, "signal", json_object_new_string("SEGV")));
        ASSERT_EQ(b->answer.error.code, K_INVALID_ARGUMENT);

        ASSERT_EQ(node_says(b, "stream.end", "{\"stream\":%u,\"status\":3}", number), 1);
        ASSERT_EQ(b->ends, 1);
        ASSERT_EQ(b->status, 3);
        ASSERT_EQ(b->end_code, K_OK);
        ASSERT_EQ(b->freed, 1);
        write_to(b, 1);
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_OPERATION);
        ASSERT_OK(from_node(b, number, 1, 5)); /* late, and nobody's business */
}

static void test_secrets_of_a_command_are_in_no_audit(void **state) {
        _cleanup_free_ char *path = NULL, *content = NULL;
        Bench *b = *state;
        uint32_t number = open_exec(b);
        size_t size;

        ASSERT_EQ(node_says(b, "stream.end", "{\"stream\":%u,\"status\":3}", number), 1);
        store_close(b->m.store);
        b->m.store = NULL;
        path = strjoin(b->directory, "/kontena.db");
        ASSERT_OK(read_file(path, 16U * 1024U * 1024U, &content, &size));
        ASSERT_TRUE(memmem(content, size, "psql", 4) != NULL &&
                        memmem(content, size, "(2 more)", 8) != NULL);
        ASSERT_TRUE(memmem(content, size, "exec.open.end", 13) != NULL);
        for (unsigned i = 1; i <= 3; i++) {
                char text[16];

                snprintf(text, sizeof(text), "secret%u", i);
                ASSERT_TRUE(memmem(content, size, text, 7) == NULL);
        }
}

static void test_what_cannot_be_run_is_refused(void **state) {
        Bench *b = *state;
        _cleanup_json_ json_object *o = json("{" WEB ",\"argv\":[]}");
        _cleanup_free_ char *long_argv = NULL, *long_env = NULL;
        static char long_text[EXEC_ARGUMENTS_SIZE_MAX + 1];

        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[]}"), K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"\"]}"), K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[1]}"), K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":\"id\"}"), K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"],\"options\":{\"colour\":\"red\"}}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"],\"options\":{\"env\":[\"A\"]}}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"],\"options\":{\"env\":[\"=A\"]}}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"],\"options\":{\"env\":[1]}}"), K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"],\"options\":{\"rows\":70000}}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(refused(b, "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"instance\":2,"
                             "\"argv\":[\"id\"]}"),
                        K_NO_SUCH_INSTANCE);
        for (unsigned i = 0; i <= EXEC_ARGUMENTS_MAX; i++)
                ASSERT_OK(json_append_string(json_object_object_get(o, "argv"), "x"));
        ASSERT_EQ(refused(b, json_text(o)), K_LIMIT_EXCEEDED);
        memset(long_text, 'x', sizeof(long_text) - 1);
        long_argv = strprintf("{" WEB ",\"argv\":[\"%s\"]}", long_text);
        ASSERT_EQ(refused(b, long_argv), K_LIMIT_EXCEEDED);
        long_env = strprintf("{" WEB ",\"argv\":[\"id\"],\"options\":{\"env\":[\"A=%s\"]}}", long_text);
        ASSERT_EQ(refused(b, long_env), K_LIMIT_EXCEEDED);
        test_session_set_online(false);
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"]}"), K_NODE_OFFLINE);
        test_session_set_online(true);

        (void) ask(b);
        test_session_answer("It does not run.");
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_CONFLICT);
        ASSERT_EQ(b->ends, 0);
        ASSERT_EQ(b->freed, 1);
}

static void test_writes_wait_for_the_window(void **state) {
        Bench *b = *state;
        uint32_t number = open_exec(b);
        size_t before = test_session_bytes();

        for (size_t n = 0; n < STREAM_WINDOW; n += STREAM_DATA_MAX) {
                write_to(b, STREAM_DATA_MAX);
                ASSERT_EQ(b->answer.count, 1);
                ASSERT_EQ(b->answer.error.code, K_OK);
        }
        for (unsigned i = 0; i < 4; i++) {
                write_to(b, 100);
                ASSERT_EQ(b->answer.count, 0);
        }
        write_to(b, 100);
        ASSERT_EQ(b->answer.error.code, K_LIMIT_EXCEEDED);
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW);
        write_to(b, STREAM_DATA_MAX + 1);
        ASSERT_EQ(b->answer.error.code, K_LIMIT_EXCEEDED);

        b->answer.count = 0;
        ASSERT_EQ(node_says(b, "stream.credit", "{\"stream\":%u,\"bytes\":150}", number), 1);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW + 150);
        call(b, "stream.end-input", of_stream(b, NULL, NULL));
        ASSERT_EQ(b->answer.error.code, K_OK);
        write_to(b, 1);
        ASSERT_EQ(b->answer.error.code, K_CONFLICT);
        b->answer.count = 0;
        ASSERT_EQ(node_says(b, "stream.credit", "{\"stream\":%u,\"bytes\":200}", number), 1);
        ASSERT_EQ(b->answer.count, 2);
        /* The one that still waits learns of the end. */
        ASSERT_EQ(node_says(b, "stream.end", "{\"stream\":%u,\"status\":0}", number), 1);
        ASSERT_EQ(b->answer.count, 3);
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_OPERATION);
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW + 350);
}

static void answer_cost(unsigned cost) {
        _cleanup_free_ char *text = strprintf("{\"frame_cost\":%u}", cost);

        test_session_answer_with(json(text));
}

static void test_small_frames_fill_the_window(void **state) {
        Bench *b = *state;
        uint32_t number = ask(b);
        uint64_t bytes;
        size_t n, before;

        ASSERT_OK(json_get_u64(test_session_last_params(), "frame_cost", &bytes, NULL));
        ASSERT_EQ(bytes, STREAM_FRAME_COST);
        answer_cost(STREAM_FRAME_COST);
        ASSERT_EQ(b->answer.error.code, K_OK);
        for (n = 0; from_node(b, number, 1, 1) >= 0; n++)
                ;
        ASSERT_EQ(n, STREAM_WINDOW / (1 + STREAM_FRAME_COST));
        ASSERT_EQ(b->bytes, n);

        /* Who takes it counts bytes, and the node gets back what they were worth. */
        call(b, "stream.credit", of_stream(b, "bytes", json_object_new_int64((int64_t) n)));
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_STREQ(test_session_last_method(), "stream.credit");
        ASSERT_OK(json_get_u64(test_session_last_params(), "bytes", &bytes, NULL));
        ASSERT_EQ(bytes, n * (1 + STREAM_FRAME_COST));
        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(from_node(b, number, 1 + i % 2, STREAM_DATA_MAX));
        ASSERT_ERROR(from_node(b, number, 2, STREAM_DATA_MAX), EBADMSG);

        before = test_session_bytes();
        for (n = 0; n < 3; n++)
                write_to(b, STREAM_DATA_MAX);
        write_to(b, STREAM_DATA_MAX);
        ASSERT_EQ(b->answer.count, 0);
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW - 4 * STREAM_FRAME_COST);
        ASSERT_EQ(node_says(b, "stream.credit", "{\"stream\":%u,\"bytes\":511}", number), 1);
        ASSERT_EQ(b->answer.count, 0); /* a crumb */
        ASSERT_EQ(node_says(b, "stream.credit", "{\"stream\":%u,\"bytes\":65281}", number), 1);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(test_session_bytes() - before, 4 * STREAM_DATA_MAX);
}

static void test_an_older_node_sends_small_frames_within_reason(void **state) {
        Bench *b = *state;
        uint32_t number = open_exec(b);

        for (unsigned n = 0; n < STREAM_FRAMES_UNCOUNTED_MAX; n++)
                ASSERT_OK(from_node(b, number, 1, 1));
        call(b, "stream.credit", of_stream(b, "bytes", json_object_new_int(1)));
        ASSERT_OK(from_node(b, number, 1, 1));
        ASSERT_EQ(b->ends, 0);
        ASSERT_OK(from_node(b, number, 1, 1));
        ASSERT_EQ(b->ends, 1);
        ASSERT_EQ(b->end_code, K_INTERNAL);
        ASSERT_EQ(b->bytes, STREAM_FRAMES_UNCOUNTED_MAX + 1);
        ASSERT_STREQ(test_session_last_method(), "stream.close");

        number = ask(b);
        answer_cost(STREAM_FRAME_COST - 1); /* a rule that nobody asked for */
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_INTERNAL);
        ASSERT_STREQ(test_session_last_method(), "stream.close");
}

static void test_a_stream_is_its_openers(void **state) {
        Caller *other = caller_new("uid 1000", ":1.8"), *opener;
        Bench *b = *state;

        (void) open_exec(b);
        opener = b->caller;
        b->caller = other;
        write_to(b, 1);
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_OPERATION);
        call(b, "stream.close", of_stream(b, NULL, NULL));
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_OPERATION);
        b->caller = opener;
        call(b, "stream.close", of_stream(b, NULL, NULL));
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_STREQ(test_session_last_method(), "stream.close");
        ASSERT_EQ(b->freed, 1);
        caller_unref(other);
}

static void test_a_caller_that_goes_takes_its_streams_along(void **state) {
        Bench *b = *state;
        uint32_t number;

        (void) open_exec(b);
        ASSERT_OK(caller_stream_abandon(&b->m, b->id));
        ASSERT_STREQ(test_session_last_method(), "stream.close");
        ASSERT_EQ(b->freed, 1);
        ASSERT_ERROR(caller_stream_abandon(&b->m, b->id), ENOENT);

        (void) ask(b); /* before it is answered */
        ASSERT_OK(caller_stream_abandon(&b->m, b->id));
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_STREQ(test_session_last_method(), "stream.close");
        test_session_answer(NULL);
        ASSERT_EQ(b->answer.count, 1);

        number = open_exec(b); /* what cannot be handed on */
        b->gone = true;
        ASSERT_OK(from_node(b, number, 1, 5));
        ASSERT_STREQ(test_session_last_method(), "stream.close");
        ASSERT_EQ(b->freed, 3);
}

static void test_a_node_that_lies_is_caught(void **state) {
        Bench *b = *state;
        uint32_t number = ask(b);

        ASSERT_ERROR(from_node(b, number, 1, 1), EBADMSG); /* before it runs */
        ASSERT_ERROR(node_says(b, "stream.end", "{\"stream\":%u,\"status\":0}", number), EBADMSG);
        test_session_answer(NULL);
        ASSERT_ERROR(from_node(b, number, 0, 1), EBADMSG);
        ASSERT_ERROR(node_says(b, "stream.credit", "{\"stream\":%u,\"bytes\":1}", number), EBADMSG);
        ASSERT_ERROR(node_says(b, "stream.credit", "{\"stream\":%u,\"bytes\":\"x\"}", number), EBADMSG);
        ASSERT_ERROR(node_says(b, "stream.end", "{\"stream\":%u,\"error\":1}", number), EBADMSG);
        ASSERT_OK(from_node(b, number, 2, 0));
        ASSERT_ERROR(from_node(b, number, 2, 1), EBADMSG); /* after its end */
        for (size_t n = 0; n < STREAM_WINDOW; n += STREAM_DATA_MAX)
                ASSERT_OK(from_node(b, number, 1, STREAM_DATA_MAX));
        ASSERT_ERROR(from_node(b, number, 1, 1), EBADMSG);
        ASSERT_EQ(b->bytes, STREAM_WINDOW);
        ASSERT_OK(from_node(b, number + 7, 1, 1)); /* of a stream there is not */
        ASSERT_EQ(node_says(b, "logs.data", "{\"stream\":%u}", number), 0);

        streams_session_gone(&b->m, test_session("n1"));
        ASSERT_EQ(b->ends, 1);
        ASSERT_EQ(b->end_code, K_NODE_OFFLINE);
}

static void open_many(Bench *b, unsigned n, unsigned uid, const char *params) {
        Caller *opener = b->caller;
        char name[32];

        snprintf(name, sizeof(name), "uid %u", uid);
        b->caller = caller_new(name, ":1.9");
        for (unsigned i = 0; i < n; i++) {
                call(b, "exec.open", json(params));
                test_session_answer(NULL);
                ASSERT_EQ(b->answer.error.code, K_OK);
        }
        ASSERT_EQ(refused(b, params), K_LIMIT_EXCEEDED);
        caller_unref(b->caller);
        b->caller = opener;
}

static void test_streams_are_counted(void **state) {
        static const StreamHandler handler = {};
        const unsigned of_callers = STREAMS_PER_NODE_MAX - STREAMS_OF_MASTER;
        Stream *own[STREAMS_OF_MASTER], *more;
        Bench *b = *state;

        for (unsigned i = 0; i < 3; i++)
                open_many(b, STREAMS_PER_CALLER_ON_NODE_MAX, 2000 + i, "{" WEB ",\"argv\":[\"id\"]}");
        open_many(b, of_callers - 3 * STREAMS_PER_CALLER_ON_NODE_MAX, 2003,
                        "{" WEB ",\"argv\":[\"id\"]}"); /* of the node */
        for (unsigned i = 0; i < STREAMS_OF_MASTER; i++)
                ASSERT_OK(stream_open(b->m.streams, test_session("n1"), "volume-get",
                                json_object_new_object(), NULL, &handler, NULL, own + i, NULL));
        ASSERT_TRUE(stream_open(b->m.streams, test_session("n1"), "volume-get", json_object_new_object(),
                                    NULL, &handler, NULL, &more, NULL) < 0);
        for (unsigned i = 0; i < STREAMS_OF_MASTER; i++)
                stream_close(own[i]);
}

static void test_streams_of_callers_are_counted(void **state) {
        Bench *b = *state;
        unsigned n = 0;

        for (unsigned node = 2; node < 7; node++) { /* of a caller */
                _cleanup_free_ char *id = strprintf("i%u", node), *name = strprintf("n%u", node);

                put_instance(b, id, name, node);
        }
        for (unsigned uid = 3000; n < STREAMS_OF_CALLERS_MAX; uid++, n += STREAMS_PER_CALLER_ON_NODE_MAX) {
                _cleanup_free_ char *params = strprintf(
                                "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"instance\":%u,"
                                "\"argv\":[\"id\"]}",
                                uid % 6 + 1);

                open_many(b, STREAMS_PER_CALLER_ON_NODE_MAX, uid, params);
        }
        ASSERT_EQ(refused(b, "{" WEB ",\"argv\":[\"id\"]}"), K_LIMIT_EXCEEDED);
        ASSERT_STREQ(kerror_message(&b->answer.error), "At most 256 streams can be open for callers.");
}

/* From node to node, within the master */

typedef struct Moved {
        unsigned n;
        uint64_t bytes;
        bool by_source;
        KError error;
} Moved;

static void on_moved(uint64_t bytes, bool by_source, const KError *error, void *userdata) {
        Moved *moved = userdata;

        moved->n++;
        moved->bytes = bytes;
        moved->by_source = by_source;
        if (error)
                (void) kerror_set(&moved->error, error->code, "%s", kerror_message(error));
}

static int node_of(Bench *b, const char *node, const char *method, const char *format, uint32_t number,
                size_t value) {
        _cleanup_free_ char *text = strprintf(format, number, value);
        _cleanup_json_ json_object *o = json(text);

        return streams_method(&b->m, test_session(node), method, o);
}

/* The numbers follow each other; the receiving side is opened first. */
static uint32_t build_bridge(Bench *b, Moved *moved, StreamBridge **ret) {
        uint64_t number;

        ASSERT_OK(stream_bridge_new(&b->m,
                        &(StreamBridgeEnd){ test_session("n1"), "volume-get", json_object_new_object() },
                        &(StreamBridgeEnd){ test_session("n2"), "volume-put", json_object_new_object() },
                        on_moved, moved, ret, NULL));
        ASSERT_OK(json_get_u64(test_session_last_params(), "stream", &number, NULL));
        return (uint32_t) number - 1;
}

static void test_a_bridge_hands_on_what_there_is_room_for(void **state) {
        size_t before = test_session_bytes();
        Bench *b = *state;
        StreamBridge *bridge;
        Moved moved = {};
        uint32_t to = build_bridge(b, &moved, &bridge), from = to + 1;

        test_session_answer(NULL);
        test_session_answer(NULL);
        for (unsigned i = 0; i < 4; i++)
                ASSERT_OK(from_node(b, from, 1, STREAM_DATA_MAX)); /* all goes on, and is given back */
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW);
        ASSERT_OK(from_node(b, from, 1, 5000)); /* which has no room there yet */
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW);
        ASSERT_EQ(node_of(b, "n2", "stream.credit", "{\"stream\":%u,\"bytes\":%zu}", to, 3000), 1);
        ASSERT_EQ(test_session_bytes() - before, STREAM_WINDOW + 3000);
        ASSERT_OK(from_node(b, from, 1, 0));
        ASSERT_EQ(node_of(b, "n1", "stream.end", "{\"stream\":%u,\"status\":0}", from, 0), 1);
        ASSERT_EQ(moved.n, 0);
        ASSERT_EQ(node_of(b, "n2", "stream.credit", "{\"stream\":%u,\"bytes\":%zu}", to, 2000), 1);
        ASSERT_EQ(stream_bridge_bytes(bridge), STREAM_WINDOW + 5000);
        ASSERT_EQ(node_of(b, "n2", "stream.end", "{\"stream\":%u,\"status\":0}", to, 0), 1);
        ASSERT_EQ(moved.n, 1);
        ASSERT_EQ(moved.bytes, STREAM_WINDOW + 5000);
        ASSERT_EQ(moved.error.code, K_OK);
}

/* Crumbs from one side, which is given back all that they cost there when the other has room again: none waits for the other. */
static void test_a_bridge_takes_small_frames(void **state) {
        Bench *b = *state;
        StreamBridge *bridge;
        uint64_t bytes;
        Moved moved = {};
        uint32_t to = build_bridge(b, &moved, &bridge), from = to + 1;
        size_t n, sent;

        answer_cost(STREAM_FRAME_COST);
        answer_cost(STREAM_FRAME_COST);
        for (sent = 0; stream_bridge_bytes(bridge) == sent; sent++)
                ASSERT_OK(from_node(b, from, 1, 1));
        for (n = 1; from_node(b, from, 1, 1) >= 0; n++)
                sent++;
        ASSERT_EQ(n, STREAM_WINDOW / (1 + STREAM_FRAME_COST));
        ASSERT_EQ(stream_bridge_bytes(bridge), sent - n);
        ASSERT_EQ(node_of(b, "n2", "stream.credit", "{\"stream\":%u,\"bytes\":%zu}", to,
                                  (sent - n) * (1 + STREAM_FRAME_COST)),
                        1);
        ASSERT_STREQ(test_session_last_method(), "stream.credit");
        ASSERT_OK(json_get_u64(test_session_last_params(), "bytes", &bytes, NULL));
        ASSERT_EQ(bytes, n * (1 + STREAM_FRAME_COST));
        ASSERT_EQ(stream_bridge_bytes(bridge), sent);
        stream_bridge_free(bridge);
}

static void test_a_bridge_that_breaks_says_so(void **state) {
        Bench *b = *state;
        StreamBridge *bridge;
        Moved early = {}, status = {}, lost = {}, refusal = {}, none = {};
        uint32_t to = build_bridge(b, &early, &bridge);

        test_session_answer(NULL);
        test_session_answer(NULL);
        ASSERT_OK(from_node(b, to + 1, 1, 10));
        ASSERT_EQ(node_of(b, "n2", "stream.end", "{\"stream\":%u,\"status\":0}", to, 0), 1);
        ASSERT_EQ(early.n, 1);
        ASSERT_TRUE(early.error.code != K_OK); /* though it says that all is well */
        ASSERT_FALSE(early.by_source);
        ASSERT_STREQ(test_session_last_method(), "stream.close");

        to = build_bridge(b, &status, &bridge);
        test_session_answer(NULL);
        test_session_answer(NULL);
        ASSERT_EQ(node_of(b, "n1", "stream.end", "{\"stream\":%u,\"status\":2}", to + 1, 0), 1);
        ASSERT_STREQ(kerror_message(&status.error), "The sending side ended with status 2.");
        ASSERT_TRUE(status.by_source);

        (void) build_bridge(b, &lost, &bridge);
        test_session_answer(NULL);
        test_session_answer(NULL);
        streams_session_gone(&b->m, test_session("n1"));
        ASSERT_EQ(lost.n, 1);
        ASSERT_EQ(lost.error.code, K_NODE_OFFLINE);

        (void) build_bridge(b, &refusal, &bridge);
        test_session_answer("No such volume.");
        ASSERT_EQ(refusal.n, 1);
        ASSERT_FALSE(refusal.by_source); /* the receiving side is asked first */
        test_session_answer(NULL);
        ASSERT_EQ(refusal.n, 1);

        (void) build_bridge(b, &none, &bridge);
        stream_bridge_free(bridge);
        test_session_answer(NULL);
        test_session_answer(NULL);
        ASSERT_EQ(none.n, 0);
        kerror_done(&early.error);
        kerror_done(&status.error);
        kerror_done(&lost.error);
        kerror_done(&refusal.error);
}

#define STREAMS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

KONTENA_TESTS(STREAMS_TEST(test_a_command_runs_and_ends),
                STREAMS_TEST(test_secrets_of_a_command_are_in_no_audit),
                STREAMS_TEST(test_what_cannot_be_run_is_refused),
                STREAMS_TEST(test_writes_wait_for_the_window),
                STREAMS_TEST(test_small_frames_fill_the_window),
                STREAMS_TEST(test_an_older_node_sends_small_frames_within_reason),
                STREAMS_TEST(test_a_stream_is_its_openers),
                STREAMS_TEST(test_a_caller_that_goes_takes_its_streams_along),
                STREAMS_TEST(test_a_node_that_lies_is_caught), STREAMS_TEST(test_streams_are_counted),
                STREAMS_TEST(test_streams_of_callers_are_counted),
                STREAMS_TEST(test_a_bridge_hands_on_what_there_is_room_for),
                STREAMS_TEST(test_a_bridge_takes_small_frames),
                STREAMS_TEST(test_a_bridge_that_breaks_says_so))
