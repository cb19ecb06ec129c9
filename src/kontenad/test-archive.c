/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "caller-stream.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "operation.h"
#include "streams.h"
#include "string-util.h"
#include "test-master.h"
#include "test-session.h"

/* What of archives reaches which node, for a caller that can have streams; the nodes' answers are the test's. */

typedef struct Bench {
        Master m;
        char *directory;
        Caller caller;
        TestAnswer answer;
        unsigned ended;
        json_object *asked; /* the parameters of the last call */
} Bench;

static Bench *bench; /* for the sink */

static int sink_data(const char *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        return 0;
}

static void sink_ended(const char *stream, int status, const KError *error, void *userdata) {
        bench->ended++;
}

static int stream_sink(Caller *c, const struct StreamSink **ret, void **ret_userdata) {
        static const StreamSink sink = { .data = sink_data, .ended = sink_ended };

        *ret = &sink;
        *ret_userdata = NULL;
        return 0;
}

static const CallerVTable vtable = { .kind = "internal", .stream_sink = stream_sink };

static void add_place(Bench *b, const char *volume, const char *node, const char *name, uint32_t number) {
        _cleanup_free_ char *id = strjoin(name, "@", node);

        ASSERT_OK(store_put_volume_instance(
                        b->m.store, &(VolumeInstanceRow){ .id = id,
                                                    .grid_id = (char *) "g",
                                                    .volume_id = (char *) volume,
                                                    .node_id = (char *) node,
                                                    .name = (char *) name,
                                                    .service_id = number > 0 ? (char *) "s" : NULL,
                                                    .number = number }));
}

static int setup(void **state) {
        _cleanup_json_ json_object *spec = json_tokener_parse("{\"image\":\"web\",\"count\":1}");
        Bench *b = new0(Bench, 1);

        bench = b;
        b->directory = test_master_open(&b->m);
        ASSERT_OK(streams_new(&b->m, &b->m.streams));
        b->caller = (Caller){
                .n_ref = 1, .vtable = &vtable, .name = (char *) "test", .uid = 0, .address = (char *) ":1"
        };
        ASSERT_OK(store_begin(b->m.store, NULL));
        test_master_add_grid(&b->m, "g", "home", "10.81.0.0/16");
        for (uint32_t i = 1; i <= 2; i++) {
                char id[] = "n0";

                id[1] = (char) ('0' + i);
                ASSERT_OK(store_put_node(b->m.store,
                                &(NodeRow){ .id = id, .grid_id = (char *) "g", .name = id, .number = i }));
        }
        ASSERT_OK(store_put_service(b->m.store, &(ServiceRow){ .id = (char *) "s",
                                                                .grid_id = (char *) "g",
                                                                .stack = (char *) "null",
                                                                .name = (char *) "web",
                                                                .spec = spec }));
        ASSERT_OK(store_put_instance(b->m.store, &(InstanceRow){ .id = (char *) "i1",
                                                                 .grid_id = (char *) "g",
                                                                 .service_id = (char *) "s",
                                                                 .node_id = (char *) "n1",
                                                                 .number = 1,
                                                                 .role = INSTANCE_CURRENT,
                                                                 .desired = INSTANCE_RUNNING,
                                                                 .exit_status = -1 }));
        FOREACH_ARRAY(v, ((const char *const[]){ "data", "unused" }), 2)
                ASSERT_OK(store_put_volume(b->m.store, &(VolumeRow){ .id = (char *) *v,
                                                                       .grid_id = (char *) "g",
                                                                       .name = (char *) *v,
                                                                       .driver = (char *) "local",
                                                                       .scope = VOLUME_SCOPE_INSTANCE }));
        add_place(b, "data", "n1", "web.data-1", 1);
        add_place(b, "data", "n2", "web.data-2", 2);
        ASSERT_OK(store_commit(b->m.store, NULL));
        test_session_set_online(true);
        test_session_set_offline(NULL);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        while (test_session_n_open() > 0)
                test_session_answer("over");
        operations_abort(&b->m);
        streams_free(b->m.streams);
        json_object_put(b->asked);
        test_answer_done(&b->answer);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        test_answer_set(&b->answer, result, error);
}

static void call(Bench *b, const char *name, const char *params) {
        b->answer.count = 0;
        json_object_put(b->asked);
        b->asked = json_tokener_parse(params);
        operation_call(&b->m, &b->caller, operation_find(name), json_object_get(b->asked), true, on_done, b);
}

static void assert_refused(Bench *b, const char *name, const char *params, KErrorCode code) {
        call(b, name, params);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, code);
        ASSERT_EQ(test_session_n_open(), 0);
}

/* The question to the node, and then the caller's answer. */
static void assert_asked(
                Bench *b, const char *name, const char *params, const char *key, const char *value) {
        const char *s = NULL;

        call(b, name, params);
        if (b->answer.count > 0)
                fail_msg("%s", kerror_message(&b->answer.error));
        ASSERT_EQ(test_session_n_open(), 1);
        ASSERT_STREQ(test_session_last_method(), "stream.open");
        ASSERT_OK(json_get_string(test_session_last_params(), key, &s, NULL));
        ASSERT_STREQ(s, value);
}

#define WEB "\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"instance\":1"

static void test_what_is_malformed_reaches_no_node(void **state) {
        _cleanup_free_ char *path = malloc(5000), *params = NULL;
        Bench *b = *state;

        assert_refused(b, "archive.open", "{" WEB ",\"mode\":\"eat\",\"path\":\"/\"}", K_INVALID_ARGUMENT);
        assert_refused(b, "archive.open", "{" WEB ",\"mode\":\"get\",\"path\":\"\"}", K_INVALID_ARGUMENT);
        assert_refused(b, "archive.open", "{" WEB ",\"mode\":\"get\"}", K_INVALID_ARGUMENT);
        assert_refused(b, "archive.open", "{" WEB ",\"mode\":\"get\",\"path\":\"/a\\u0000b\"}",
                        K_LIMIT_EXCEEDED);
        assert_refused(b, "archive.open",
                        "{" WEB ",\"mode\":\"put\",\"path\":\"/\",\"options\":{\"name\":\"a/b\"}}",
                        K_INVALID_ARGUMENT);
        assert_refused(b, "archive.open",
                        "{" WEB ",\"mode\":\"put\",\"path\":\"/\",\"options\":{\"follow\":true}}",
                        K_INVALID_ARGUMENT);
        assert_refused(b, "archive.open",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"instance\":7,\"mode\":"
                        "\"get\",\"path\":\"/\"}",
                        K_NO_SUCH_INSTANCE);
        memset(path, 'x', 4999);
        path[4999] = '\0';
        params = strjoin("{" WEB ",\"mode\":\"get\",\"path\":\"", path, "\"}");
        assert_refused(b, "archive.open", params, K_LIMIT_EXCEEDED);
        test_session_set_offline("n1");
        assert_refused(b, "archive.open", "{" WEB ",\"mode\":\"get\",\"path\":\"/\"}", K_NODE_OFFLINE);
}

static void test_a_copy_is_asked_of_its_node(void **state) {
        Bench *b = *state;

        assert_asked(b, "archive.open", "{" WEB ",\"mode\":\"get\",\"path\":\"/etc/x y\"}", "kind",
                        "archive-get");
        test_session_answer("There is no '/etc/x y'.");
        while (b->answer.count == 0)
                ASSERT_OK(sd_event_run(b->m.event, 0));
        ASSERT_EQ(b->answer.error.code, K_CONFLICT);
        assert_asked(b, "archive.open",
                        "{" WEB ",\"mode\":\"put\",\"path\":\"/srv\",\"options\":{\"name\":\"f\"}}", "name",
                        "f");
        test_session_answer_with(json_object_new_object());
        while (b->answer.count == 0)
                ASSERT_OK(sd_event_run(b->m.event, 0));
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_TRUE(json_object_object_get(b->answer.result, "stream"));
}

static void test_one_place_of_a_volume_is_meant(void **state) {
        Bench *b = *state;

        assert_refused(b, "volume.export", "{\"grid\":\"home\",\"volume\":\"none\"}", K_NO_SUCH_VOLUME);
        assert_refused(b, "volume.export", "{\"grid\":\"home\",\"volume\":\"unused\"}", K_NO_SUCH_VOLUME);
        assert_refused(b, "volume.export", "{\"grid\":\"home\",\"volume\":\"data\"}", K_INVALID_ARGUMENT);
        ASSERT_TRUE(strstr(b->answer.error.message, "2 places"));
        assert_refused(b, "volume.import", "{\"grid\":\"home\",\"volume\":\"data\"}", K_INVALID_ARGUMENT);
        assert_refused(b, "volume.import",
                        "{\"grid\":\"home\",\"volume\":\"data\",\"options\":{\"instance\":1,\"snapshot\":"
                        "\"s\"}}",
                        K_INVALID_ARGUMENT);
        assert_asked(b, "volume.export",
                        "{\"grid\":\"home\",\"volume\":\"data\",\"options\":{\"instance\":2,\"snapshot\":"
                        "\"s\"}}",
                        "volume", "web.data-2");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(test_session_last_params(), "snapshot")),
                        "s");
        ASSERT_STREQ(json_text(json_object_object_get(b->asked, "options")),
                        "{\"instance\":2,\"snapshot\":\"s\"}"); /* for the audit */
        test_session_answer("busy");
        assert_asked(b, "volume.import",
                        "{\"grid\":\"home\",\"volume\":\"data\",\"options\":{\"node\":\"n1\"}}", "kind",
                        "volume-put");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

KONTENA_TESTS(TEST(test_what_is_malformed_reaches_no_node), TEST(test_a_copy_is_asked_of_its_node),
                TEST(test_one_place_of_a_volume_is_meant))
