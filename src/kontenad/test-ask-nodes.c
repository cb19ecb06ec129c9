/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "string-util.h"
#include "test-master.h"
#include "test-session.h"

/* Operations that ask nodes and hand on what they say, on a real store; the nodes' answers are the test's. */

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        TestAnswer answer;
} Bench;

static void add_node(Bench *b, const char *id, uint32_t number) {
        ASSERT_OK(store_put_node(b->m.store, &(NodeRow){ .id = (char *) id,
                                                             .grid_id = (char *) "g",
                                                             .name = (char *) id,
                                                             .node_key = (char *) id,
                                                             .number = number }));
}

static void add_instance(Bench *b, const char *id, const char *node, uint32_t number, InstanceRole role,
                InstanceDesired desired) {
        ASSERT_OK(store_put_instance(b->m.store, &(InstanceRow){ .id = (char *) id,
                                                                 .grid_id = (char *) "g",
                                                                 .service_id = (char *) "s",
                                                                 .node_id = (char *) node,
                                                                 .number = number,
                                                                 .role = role,
                                                                 .desired = desired,
                                                                 .exit_status = -1 }));
}

static int setup(void **state) {
        _cleanup_json_ json_object *spec = json_tokener_parse("{\"image\":\"web\",\"count\":4}");
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        ASSERT_OK(caller_new_internal("test", &b->caller));
        ASSERT_OK(store_begin(b->m.store, NULL));
        test_master_add_grid(&b->m, "g", "home", "10.81.0.0/16");
        add_node(b, "n1", 1);
        add_node(b, "n2", 2);
        ASSERT_OK(store_put_node(
                        b->m.store, &(NodeRow){ .id = (char *) "n3", /* no machine has come for it yet */
                                                    .grid_id = (char *) "g",
                                                    .name = (char *) "n3",
                                                    .number = 3 }));
        ASSERT_OK(store_put_service(b->m.store, &(ServiceRow){ .id = (char *) "s",
                                                                .grid_id = (char *) "g",
                                                                .stack = (char *) "null",
                                                                .name = (char *) "web",
                                                                .spec = spec }));
        add_instance(b, "i1", "n1", 1, INSTANCE_CURRENT, INSTANCE_RUNNING);
        add_instance(b, "i2", NULL, 2, INSTANCE_CURRENT, INSTANCE_RUNNING);
        add_instance(b, "i3", "n1", 3, INSTANCE_CURRENT, INSTANCE_TERMINATED);
        add_instance(b, "i4", "n2", 4, INSTANCE_CURRENT, INSTANCE_RUNNING);
        add_instance(b, "i4b", "n1", 4, INSTANCE_INCOMING, INSTANCE_RUNNING);
        ASSERT_OK(store_commit(b->m.store, NULL));
        test_session_set_online(true);
        test_session_set_offline(NULL);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

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

static void call(Bench *b, const char *name, const char *params) {
        b->answer.count = 0;
        operation_call(&b->m, b->caller, operation_find(name), json_tokener_parse(params), true, on_done, b);
}

static KErrorCode code_of(Bench *b, const char *name, const char *params) {
        call(b, name, params);
        ASSERT_EQ(b->answer.count, 1);
        return b->answer.error.code;
}

#define WEB(number) "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"instance\":" #number "}"

static void test_an_instance_is_looked_for(void **state) {
        Bench *b = *state;

        ASSERT_EQ(code_of(b, "instance.top", WEB(5)), K_NO_SUCH_INSTANCE);
        ASSERT_EQ(code_of(b, "instance.top", WEB(0)), K_NO_SUCH_INSTANCE);
        ASSERT_EQ(code_of(b, "instance.top", WEB(3)), K_NO_SUCH_INSTANCE); /* it is being removed */
        ASSERT_EQ(code_of(b, "instance.inspect", WEB(2)), K_CONFLICT);
        ASSERT_STREQ(b->answer.error.message, "Instance 2 of service 'web' is on no node yet.");
        test_session_set_offline("n1");
        ASSERT_EQ(code_of(b, "instance.top", WEB(1)), K_NODE_OFFLINE);
        ASSERT_STREQ(b->answer.error.message, "Node 'n1' with instance 1 is offline.");
        ASSERT_EQ(test_session_n_open(), 0);
}

static void test_its_node_is_asked(void **state) {
        const char *id = NULL;
        Bench *b = *state;

        call(b, "instance.top", WEB(4));
        ASSERT_EQ(b->answer.count, 0);
        ASSERT_STREQ(test_session_last_method(), "instance.top");
        ASSERT_OK(json_get_string(test_session_last_params(), "id", &id, NULL));
        ASSERT_STREQ(id, "i4"); /* not the one that will take its place */
        test_session_answer("It does not run.");
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_STREQ(b->answer.error.message, "It does not run.");
}

static void test_of_processes_only_what_is_known_goes_on(void **state) {
        Bench *b = *state;

        call(b, "instance.top", WEB(1));
        test_session_answer_with(json_tokener_parse(
                        "{\"processes\":[{\"pid\":7,\"ppid\":1,\"user\":\"root\",\"state\":\"S\",\"cpu_"
                        "usec\":5,"
                        "\"memory\":4096,\"started_at\":9,\"command\":\"sh\",\"more\":{}},"
                        "{\"pid\":\"x\",\"user\":7,\"command\":[]},7,null,\"x\"]}"));
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_STREQ(json_text(b->answer.result),
                        "{\"processes\":[{\"pid\":7,\"ppid\":1,\"cpu_usec\":5,\"memory\":"
                        "4096,\"started_at\":9,"
                        "\"user\":\"root\",\"state\":\"S\",\"command\":\"sh\"},{}]}");

        call(b, "instance.top", WEB(1));
        test_session_answer_with(json_tokener_parse("{\"processes\":7}"));
        ASSERT_STREQ(json_text(b->answer.result), "{\"processes\":[]}");
}

static void test_processes_are_bounded(void **state) {
        _cleanup_json_ json_object *list = json_object_new_array();
        json_object *o = json_object_new_object(), *rows = NULL;
        Bench *b = *state;

        for (unsigned i = 0; i < PROCESSES_SHOWN_MAX + 10; i++)
                ASSERT_OK(json_append(list, json_object_new_object()));
        ASSERT_OK(json_add(o, "processes", TAKE_PTR(list)));
        call(b, "instance.top", WEB(1));
        test_session_answer_with(o);
        ASSERT_OK(json_get_array(b->answer.result, "processes", &rows, NULL));
        ASSERT_EQ(json_object_array_length(rows), PROCESSES_SHOWN_MAX);
}

static void test_a_description_goes_on_as_text(void **state) {
        const char *text = NULL;
        Bench *b = *state;

        call(b, "instance.inspect", WEB(1));
        ASSERT_STREQ(test_session_last_method(), "instance.inspect");
        test_session_answer_with(json_tokener_parse("{\"want\":{\"id\":\"i1\"},\"unit\":null}"));
        ASSERT_OK(json_get_string(b->answer.result, "description", &text, NULL));
        ASSERT_STREQ(text, "{\"want\":{\"id\":\"i1\"},\"unit\":null}");
}

#define GRID      "{\"grid\":\"home\"}"
#define DIGEST(c) "sha256:" c c c c c c c c
#define ONE       DIGEST("11111111")
#define TWO       DIGEST("22222222")

static const char *first_warning(Bench *b) {
        json_object *l = NULL;

        ASSERT_OK(json_get_array(b->answer.result, "warnings", &l, NULL));
        return json_object_array_length(l) > 0 ? json_object_get_string(json_object_array_get_idx(l, 0))
                                               : NULL;
}

static size_t n_images(Bench *b) {
        json_object *l = NULL;

        ASSERT_OK(json_get_array(b->answer.result, "images", &l, NULL));
        return json_object_array_length(l);
}

static void test_images_of_those_who_answer(void **state) {
        Bench *b = *state;

        call(b, "image.list", GRID);
        ASSERT_EQ(test_session_n_open(), 2);
        ASSERT_STREQ(test_session_last_method(), "image.list");
        test_session_answer_with(
                        json_tokener_parse("{\"images\":[{\"digest\":\"" ONE "\",\"index_digest\":\"" TWO
                                           "\",\"references\":[\"docker.io/library/"
                                           "web:1\"],\"size\":5,\"instances\":2,\"used_at\":9,"
                                           "\"more\":1},{\"digest\":\"x\"},7,{\"digest\":\"" TWO
                                           "\",\"references\":7,\"size\":\"x\"}]}"));
        ASSERT_EQ(b->answer.count, 0);
        test_session_answer("No time.");
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_STREQ(json_text(b->answer.result),
                        "{\"images\":[{\"node\":\"n1\",\"digest\":\"" TWO "\",\"manifest\":\"" ONE
                        "\",\"references\":[\"docker.io/library/"
                        "web:1\"],\"size\":5,\"instances\":2,\"used_at\":9},"
                        "{\"node\":\"n1\",\"digest\":\"" TWO "\",\"manifest\":\"" TWO
                        "\",\"references\":[],\"size\":0,\"instances\":0,\"used_at\":0}],"
                        "\"warnings\":[\"n2: No time.\"]}");

        test_session_set_offline("n1");
        call(b, "image.list", GRID);
        test_session_answer_with(json_tokener_parse("{\"images\":[]}"));
        ASSERT_EQ(n_images(b), 0);
        ASSERT_STREQ(first_warning(b), "n1: It is offline.");
}

static void test_nobody_answers(void **state) {
        Bench *b = *state;

        test_session_set_offline("n1");
        call(b, "image.prune", GRID);
        test_session_answer("An image is being pulled.");
        ASSERT_EQ(b->answer.error.code, K_NODE_OFFLINE);
        ASSERT_STREQ(b->answer.error.message, "Node 'n1': It is offline.");
        ASSERT_EQ(code_of(b, "image.list", "{\"grid\":\"home\",\"options\":{\"node\":\"n1\"}}"),
                        K_NODE_OFFLINE);
        ASSERT_EQ(code_of(b, "image.list", "{\"grid\":\"home\",\"options\":{\"node\":\"n9\"}}"),
                        K_NO_SUCH_NODE);
        ASSERT_EQ(code_of(b, "image.list", "{\"grid\":\"home\",\"options\":{\"all\":true}}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(test_session_n_open(), 0);
}

static void put_revision(Bench *b, const char *id, uint64_t revision, const char *digest, bool good) {
        _cleanup_json_ json_object *spec = json_tokener_parse("{\"image\":\"web\"}");

        ASSERT_OK(store_put_revision(b->m.store, &(RevisionRow){ .id = (char *) id,
                                                                 .grid_id = (char *) "g",
                                                                 .service_id = (char *) "s",
                                                                 .revision = revision,
                                                                 .spec = spec,
                                                                 .image_digest = (char *) digest,
                                                                 .good = good,
                                                                 .author = (char *) "test" }));
}

static void test_what_services_go_back_to_is_kept(void **state) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        Bench *b = *state;

        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_get_service(b->m.store, "s", &s));
        s->revision = s->revision_last = 4;
        ASSERT_OK(store_put_service(b->m.store, s));
        put_revision(b, "s/1", 1, DIGEST("aaaaaaaa"), true);
        put_revision(b, "s/2", 2, DIGEST("bbbbbbbb"), true);
        put_revision(b, "s/3", 3, DIGEST("cccccccc"), false);
        put_revision(b, "s/4", 4, DIGEST("dddddddd"), false);
        ASSERT_OK(store_put_deploy(
                        b->m.store, &(DeployRow){ .id = (char *) "d",
                                                    .grid_id = (char *) "g",
                                                    .service_id = (char *) "s",
                                                    .state = DEPLOY_ONGOING,
                                                    .kind = (char *) "deploy",
                                                    .image_digest = (char *) DIGEST("eeeeeeee") }));
        ASSERT_OK(store_commit(b->m.store, NULL));

        call(b, "image.prune", "{\"grid\":\"home\",\"options\":{\"node\":\"n2\",\"dry_run\":true}}");
        ASSERT_STREQ(test_session_last_method(), "image.prune");
        ASSERT_STREQ(json_text(test_session_last_params()),
                        "{\"dry_run\":true,\"keep\":[\"web\",\"" DIGEST("dddddddd") "\",\"" DIGEST(
                                        "bbbbbbbb") "\",\"" DIGEST("eeeeeeee") "\"]}");
        test_session_answer_with(json_tokener_parse("{\"images\":[{\"digest\":\"" ONE "\"}]}"));
        ASSERT_EQ(n_images(b), 1);

        call(b, "image.prune", "{\"grid\":\"home\",\"options\":{\"node\":\"n2\",\"all\":true}}");
        ASSERT_STREQ(json_text(test_session_last_params()), "{\"dry_run\":false}");
        test_session_answer_with(json_tokener_parse("{}"));
        ASSERT_EQ(b->answer.error.code, K_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
KONTENA_TESTS(TEST(test_an_instance_is_looked_for), TEST(test_its_node_is_asked),
                TEST(test_of_processes_only_what_is_known_goes_on), TEST(test_processes_are_bounded),
                TEST(test_a_description_goes_on_as_text), TEST(test_images_of_those_who_answer),
                TEST(test_nobody_answers), TEST(test_what_services_go_back_to_is_kept))
