/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "ca.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "node-session.h"
#include "operation.h"
#include "render.h"
#include "service-spec.h"
#include "store.h"
#include "string-util.h"
#include "test-master.h"
#include "test-session.h"

/* Operations on a real store, without bus and nodes: who calls, and which nodes answer, is the test's. */

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        TestAnswer answer;
} Bench;

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        test_master_make_ca(&b->m, b->directory);
        ASSERT_OK(caller_new_internal("test", &b->caller));
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

static json_object *json(const char *text) {
        json_object *o = NULL;

        if (json_parse(text, strlen(text), 1024 * 1024, &o, NULL) < 0)
                fail_msg("not JSON: %s", text);
        return o;
}

static void call_as(Bench *b, Caller *caller, const char *name, const char *params) {
        const Operation *o = operation_find(name);

        ASSERT_TRUE(o != NULL);
        b->answer.count = 0;
        operation_call(&b->m, caller, o, json(params), /* interactive= */ true, on_done, b);
}

static KErrorCode call(Bench *b, const char *name, const char *params) {
        call_as(b, b->caller, name, params);
        ASSERT_EQ(b->answer.count, 1);
        return b->answer.error.code;
}

#define CALL_OK(b, name, params)                                                                            \
        do {                                                                                                \
                if (call((b), (name), (params)) != K_OK)                                                    \
                        fail_msg("%s:%i: %s: %s", __FILE__, __LINE__, (name),                               \
                                        kerror_message(&(b)->answer.error));                                \
        } while (false)
#define CALL_FAILS(b, name, params, expected)                                                               \
        do {                                                                                                \
                KErrorCode _c_ = call((b), (name), (params));                                               \
                if (_c_ != (expected))                                                                      \
                        fail_msg("%s:%i: %s(%s) is %i: %s", __FILE__, __LINE__, (name), (params),           \
                                        (int) _c_, kerror_message(&(b)->answer.error));                     \
        } while (false)

static const char *text(Bench *b, const char *key) {
        const char *s = NULL;

        ASSERT_OK(json_get_string(b->answer.result, key, &s, NULL));
        return s;
}

static uint64_t number(Bench *b, const char *key) {
        uint64_t n = 0;

        ASSERT_OK(json_get_u64(b->answer.result, key, &n, NULL));
        return n;
}

/* An instance of home/null/web on the node, as a deploy leaves it. */
static void place(Bench *b, const char *id, const char *node, uint32_t n, const char *state) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *nr = NULL;
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        char address[32];

        snprintf(address, sizeof(address), "10.81.128.%u", n);
        ASSERT_OK(store_find_grid(b->m.store, "home", &g));
        ASSERT_OK(store_find_node(b->m.store, g->id, node, &nr));
        ASSERT_OK(store_find_service(b->m.store, g->id, "null", "web", &s));
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_instance(b->m.store, &(InstanceRow){ .id = (char *) id,
                                                                 .grid_id = g->id,
                                                                 .service_id = s->id,
                                                                 .node_id = nr->id,
                                                                 .number = n,
                                                                 .address = address,
                                                                 .spec = s->spec,
                                                                 .state = (char *) state,
                                                                 .exit_status = -1 }));
        ASSERT_OK(store_commit(b->m.store, NULL));
}

static void make_home(Bench *b) {
        CALL_OK(b, "grid.create", "{\"name\":\"home\"}");
        CALL_OK(b, "node.create", "{\"grid\":\"home\",\"name\":\"n1\"}");
        CALL_OK(b, "service.create",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"name\":\"web\",\"spec\":{\"image\":"
                        "\"nginx\",\"count\":2}}");
}

static void test_table_is_complete(void **state) {
        const Operation *o;

        for (size_t i = 0; (o = operation_by_index(i)); i++) {
                ASSERT_TRUE(o->perform && o->role && strchr(o->name, '.'));
                ASSERT_TRUE(o->action || (o->flags & OPERATION_OPEN));
                ASSERT_TRUE(operation_find(o->name) == o); /* no name twice */
                ASSERT_TRUE(!o->method || operation_find_by_method(o->method) == o);
                ASSERT_TRUE(!o->own == !o->own_action && !o->own == !o->own_role);
                /* What changes is audited. */
                ASSERT_TRUE(!(o->flags & OPERATION_CHANGES) || (o->flags & OPERATION_AUDITED));
                ASSERT_TRUE(!(o->flags & OPERATION_CHANGES) ||
                                !streq_ptr(o->action, "io.kontena.master1.read"));
                ASSERT_TRUE(!(o->flags & (OPERATION_NODE | OPERATION_SERVICE)) ||
                                (o->flags & OPERATION_GRID));
        }
        ASSERT_TRUE(operation_find("grid.destroy") == NULL);
}

static void test_parameters_are_checked(void **state) {
        Bench *b = *state;

        CALL_FAILS(b, "grid.get", "{}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.get", "{\"grid\":7}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.get", "{\"grid\":\"a\\nb\"}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.get", "{\"grid\":\"home\",\"colour\":\"red\"}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.create", "{\"name\":\"home\",\"settings\":[]}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.create", "{\"name\":\"home\",\"settings\":{\"colour\":1}}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.get", "{\"grid\":\"home\"}", K_NO_SUCH_GRID);
}

static void test_grids_are_validated(void **state) {
        static const struct {
                const char *settings;
                KErrorCode expected;
        } table[] = {
                { "{\"subnet\":\"10.81.0.0\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"10.81.0.1/16\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"10.81.0.0/25\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"10.0.0.0/7\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"127.0.0.0/16\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"224.0.0.0/8\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"10.81.0.0/16\",\"supernet\":\"10.96.0.0/12\"}", K_INVALID_ARGUMENT },
                { "{\"subnet\":\"10.81.0.0/16\",\"supernet\":\"10.81.0.0/17\"}", K_INVALID_ARGUMENT },
                { "{\"trusted_subnets\":[\"192.168.0.0\"]}", K_INVALID_ARGUMENT },
                { "{\"trusted_subnets\":[\"10.81.3.0/24\"]}", K_INVALID_ARGUMENT },
                { "{\"default_affinity\":[\"zone==a\"]}", K_INVALID_ARGUMENT },
                { "{\"default_affinity\":\"label==a\"}", K_INVALID_ARGUMENT },
                { "{\"initial_size\":0}", K_INVALID_ARGUMENT },
                { "{\"initial_size\":8}", K_INVALID_ARGUMENT },
                { "{\"trusted_subnets\":[\"192.168.0.0/"
                  "16\"],\"default_affinity\":[\"label!=~az=b\"],\"initial_size\":7}",
                                K_OK },
        };
        Bench *b = *state;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *params = strprintf("{\"name\":\"home\",\"settings\":%s}", t->settings);

                CALL_FAILS(b, "grid.create", params, t->expected);
        }
        CALL_FAILS(b, "grid.create", "{\"name\":\"home\"}", K_ALREADY_EXISTS);
        CALL_FAILS(b, "grid.create", "{\"name\":\"ab\"}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "grid.create", "{\"name\":\"a b c\"}", K_INVALID_ARGUMENT);
        CALL_OK(b, "grid.create", "{}");
        ASSERT_TRUE(startswith(text(b, "name"), "grid-") != NULL);

        /* Outside of the usual supernet. */
        CALL_OK(b, "grid.create", "{\"name\":\"far\",\"settings\":{\"subnet\":\"172.20.0.0/16\"}}");
        ASSERT_STREQ(text(b, "supernet"), "172.20.0.0/16");

        CALL_FAILS(b, "grid.update", "{\"grid\":\"home\",\"settings\":{\"subnet\":\"10.82.0.0/16\"}}",
                        K_CONFLICT);
        CALL_OK(b, "grid.update", "{\"grid\":\"home\",\"settings\":{\"trusted_subnets\":[]}}");
        CALL_OK(b, "grid.list", "{}");
        CALL_OK(b, "grid.remove", "{\"grid\":\"home\"}");
        CALL_FAILS(b, "grid.get", "{\"grid\":\"home\"}", K_NO_SUCH_GRID);
}

static void test_grid_in_use_stays(void **state) {
        Bench *b = *state;

        make_home(b);
        CALL_FAILS(b, "grid.remove", "{\"grid\":\"home\"}", K_IN_USE);
        CALL_OK(b, "service.remove", "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\"}");
        CALL_FAILS(b, "grid.remove", "{\"grid\":\"home\"}", K_IN_USE);
        CALL_OK(b, "node.remove", "{\"grid\":\"home\",\"node\":\"n1\"}");
        CALL_OK(b, "grid.remove", "{\"grid\":\"home\"}");
}

static void test_tokens_name_the_grid_and_are_replaced(void **state) {
        Bench *b = *state;
        _cleanup_join_token_ JoinToken first = {}, again = {}, replaced = {}, of_node = {};
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;

        CALL_OK(b, "grid.create", "{\"name\":\"home\"}");
        CALL_OK(b, "grid.token", "{\"grid\":\"home\",\"regenerate\":false}");
        ASSERT_OK(join_token_parse(text(b, "token"), &first, NULL));
        CALL_OK(b, "grid.token", "{\"grid\":\"home\"}");
        ASSERT_OK(join_token_parse(text(b, "token"), &again, NULL));
        ASSERT_STREQ(first.secret, again.secret);
        ASSERT_STREQ(first.fingerprint, ca_fingerprint(b->m.ca));

        ASSERT_OK(store_find_grid_by_token_id(b->m.store, first.token_id, &g));
        ASSERT_TRUE(keyring_token_matches(b->m.keyring, first.secret, g->token_hash));
        ASSERT_TRUE(memmem(g->token_sealed, g->token_sealed_size, first.secret, 20) == NULL);

        CALL_OK(b, "node.create", "{\"grid\":\"home\",\"name\":\"n1\"}");
        ASSERT_OK(join_token_parse(text(b, "token"), &of_node, NULL));
        ASSERT_STREQ(of_node.token_id, first.token_id);
        ASSERT_OK(store_find_node(b->m.store, g->id, "n1", &n));
        ASSERT_TRUE(keyring_token_matches(b->m.keyring, of_node.secret, n->token_hash));

        g = grid_row_free(g);
        CALL_OK(b, "grid.token", "{\"grid\":\"home\",\"regenerate\":true}");
        ASSERT_OK(join_token_parse(text(b, "token"), &replaced, NULL));
        ASSERT_FALSE(streq(first.secret, replaced.secret));
        ASSERT_ERROR(store_find_grid_by_token_id(b->m.store, first.token_id, &g), ENOENT);
}

static void test_nodes_are_validated(void **state) {
        Bench *b = *state;

        make_home(b);
        CALL_FAILS(b, "node.create", "{\"grid\":\"home\",\"name\":\"n1\"}", K_ALREADY_EXISTS);
        CALL_FAILS(b, "node.create", "{\"grid\":\"home\",\"name\":\"-n\"}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "node.create",
                        "{\"grid\":\"home\",\"name\":\"n2\",\"settings\":{\"labels\":[\"a,b\"]}}",
                        K_INVALID_ARGUMENT);
        CALL_FAILS(b, "node.create", "{\"grid\":\"home\",\"name\":\"n2\",\"settings\":{\"labels\":[\"\"]}}",
                        K_INVALID_ARGUMENT);
        CALL_FAILS(b, "node.update",
                        "{\"grid\":\"home\",\"node\":\"n1\",\"settings\":{\"availability\":\"asleep\"}}",
                        K_INVALID_ARGUMENT);
        CALL_FAILS(b, "node.update", "{\"grid\":\"home\",\"node\":\"n9\",\"settings\":{}}", K_NO_SUCH_NODE);
        CALL_OK(b, "node.update",
                        "{\"grid\":\"home\",\"node\":\"n1\",\"settings\":{\"labels\":[\"az=a\",\"ssd\"],"
                        "\"availability\":\"drain\"}}");
        CALL_OK(b, "node.get", "{\"grid\":\"home\",\"node\":\"n1\"}");
        ASSERT_STREQ(text(b, "availability"), "drain");
        ASSERT_STREQ(text(b, "state"), "created");
        ASSERT_STREQ(text(b, "overlay_address"), "10.81.0.1");
}

static void test_too_many_labels_are_refused(void **state) {
        Bench *b = *state;
        _cleanup_json_ json_object *o = json("{\"grid\":\"home\",\"node\":\"n1\"}"),
                                   *settings = json_object_new_object(), *labels = json_object_new_array();
        _cleanup_free_ char *params = NULL;

        make_home(b);
        for (unsigned i = 0; i <= LABELS_MAX; i++)
                ASSERT_OK(json_append_string(labels, "x"));
        ASSERT_OK(json_add(settings, "labels", TAKE_PTR(labels)));
        ASSERT_OK(json_add(o, "settings", TAKE_PTR(settings)));
        params = strdup(json_text(o));
        CALL_FAILS(b, "node.update", params, K_LIMIT_EXCEEDED);
}

static void test_removing_a_node_frees_its_instances(void **state) {
        Bench *b = *state;
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;

        make_home(b);
        place(b, "i1", "n1", 1, "running");
        ASSERT_OK(store_find_grid(b->m.store, "home", &g));
        ASSERT_OK(store_find_node(b->m.store, g->id, "n1", &n));
        n->connected = true;
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_node(b->m.store, n));
        ASSERT_OK(store_commit(b->m.store, NULL));

        CALL_FAILS(b, "node.remove", "{\"grid\":\"home\",\"node\":\"n1\",\"force\":false}", K_CONFLICT);
        CALL_OK(b, "node.remove", "{\"grid\":\"home\",\"node\":\"n1\",\"force\":true}");
        ASSERT_OK(store_get_instance(b->m.store, "i1", &i));
        ASSERT_TRUE(!i->node_id && !i->address && !i->state);
        ASSERT_EQ(i->desired, INSTANCE_RUNNING);
}

static void test_node_with_data_is_not_removed_by_accident(void **state) {
        Bench *b = *state;

        CALL_OK(b, "grid.create", "{\"name\":\"home\"}");
        CALL_OK(b, "node.create", "{\"grid\":\"home\",\"name\":\"n1\"}");
        CALL_OK(b, "service.create",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"name\":\"web\",\"spec\":{\"image\":"
                        "\"redis\",\"stateful\":true,"
                        "\"volumes\":[\"/data\"]}}");
        place(b, "i1", "n1", 1, "running");
        CALL_FAILS(b, "node.remove", "{\"grid\":\"home\",\"node\":\"n1\"}", K_IN_USE);
        CALL_FAILS(b, "service.update",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"changes\":{\"volumes\":"
                        "[\"/data\",\"/more\"]}}",
                        K_INVALID_ARGUMENT);
        CALL_FAILS(b, "service.update",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"changes\":{\"volumes\":"
                        "[\"/data\",\"named:/more\"]}}",
                        K_NO_SUCH_VOLUME);
        CALL_OK(b, "volume.create", "{\"grid\":\"home\",\"name\":\"named\"}");
        CALL_OK(b, "service.update",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\",\"changes\":{\"volumes\":"
                        "[\"/data\",\"named:/more\"]}}");
        CALL_FAILS(b, "volume.remove", "{\"grid\":\"home\",\"volume\":\"named\"}", K_IN_USE);
        CALL_OK(b, "node.remove", "{\"grid\":\"home\",\"node\":\"n1\",\"force\":true}");
}

static void test_services_are_validated(void **state) {
        static const struct {
                const char *stack, *name, *spec;
                KErrorCode expected;
        } table[] = {
                { "null", "web", "{\"image\":\"nginx\"}", K_ALREADY_EXISTS },
                { "null", "a b", "{\"image\":\"nginx\"}", K_INVALID_ARGUMENT },
                { "-s", "db", "{\"image\":\"nginx\"}", K_INVALID_ARGUMENT },
                { "null", "db", "{}", K_INVALID_ARGUMENT },
                { "null", "db", "{\"image\":\"nginx\",\"colour\":1}", K_INVALID_ARGUMENT },
                { "null", "db", "{\"image\":\"nginx\",\"affinity\":[\"zone==x\"]}", K_INVALID_ARGUMENT },
                { "null", "db", "{\"image\":\"nginx\",\"links\":[\"nobody\"]}", K_NO_SUCH_SERVICE },
                { "null", "db", "{\"image\":\"nginx\",\"links\":[\"db\"]}", K_INVALID_ARGUMENT },
                { "null", "a-name-that-is-much-too-long-for-the-domain-of-it",
                                "{\"image\":\"nginx\",\"count\":1000}", K_INVALID_ARGUMENT },
                { "null", "db", "{\"image\":\"nginx\",\"links\":[\"web\"],\"cmd\":null}", K_OK },
                { "shop", "web", "{\"image\":\"nginx\",\"links\":[\"null/db\"]}", K_OK },
        };
        Bench *b = *state;

        make_home(b);
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *params = strprintf(
                                "{\"grid\":\"home\",\"stack\":\"%s\",\"name\":\"%s\",\"spec\":%s}", t->stack,
                                t->name, t->spec);

                CALL_FAILS(b, "service.create", params, t->expected);
        }

        /* What is linked to stays. */
        CALL_FAILS(b, "service.remove", "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\"}",
                        K_IN_USE);
        CALL_FAILS(b, "service.remove", "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"db\"}",
                        K_IN_USE);
        CALL_OK(b, "service.remove", "{\"grid\":\"home\",\"stack\":\"shop\",\"service\":\"web\"}");
        CALL_OK(b, "service.remove", "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"db\"}");
}

#define WEB "\"grid\":\"home\",\"stack\":\"null\",\"service\":\"web\""

static void test_only_a_change_is_a_new_revision(void **state) {
        Bench *b = *state;

        make_home(b);
        CALL_OK(b, "service.update", "{" WEB ",\"changes\":{\"image\":\"nginx\"}}");
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "revision"), 1);
        CALL_OK(b, "service.update", "{" WEB ",\"changes\":{\"count\":3}}");
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "revision"), 1);
        ASSERT_EQ(number(b, "count"), 3);
        CALL_OK(b, "service.update", "{" WEB ",\"changes\":{\"env\":[\"A=1\",\"B=2\"]}}");
        CALL_OK(b, "service.update", "{" WEB ",\"changes\":{\"env\":[\"A=\",\"B=3\"]}}");
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "revision"), 3);
        ASSERT_TRUE(strstr(json_text(b->answer.result), "\"env\":[\"A=1\",\"B=3\"]") != NULL);
        CALL_FAILS(b, "service.update", "{" WEB ",\"changes\":{\"stateful\":true}}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "service.scale", "{" WEB ",\"count\":0}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "service.scale", "{" WEB ",\"count\":1001}", K_INVALID_ARGUMENT);
}

static void test_deploys_are_queued_listed_cancelled(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *id = NULL, *params = NULL;

        make_home(b);
        CALL_OK(b, "service.deploy", "{" WEB ",\"options\":{\"force\":true}}");
        id = strdup(text(b, "deploy"));
        CALL_FAILS(b, "service.deploy", "{" WEB ",\"options\":{\"now\":true}}", K_INVALID_ARGUMENT);
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_STREQ(text(b, "state"), "running");
        ASSERT_TRUE(strstr(json_text(b->answer.result), "\"deploying\":true") != NULL);

        params = strprintf("{\"deploy\":\"%s\"}", id);
        CALL_OK(b, "deploy.get", params);
        ASSERT_STREQ(text(b, "state"), "created");
        ASSERT_STREQ(text(b, "service"), "web");
        CALL_OK(b, "deploy.cancel", params);
        CALL_FAILS(b, "deploy.cancel", params, K_CONFLICT);
        CALL_FAILS(b, "deploy.cancel", "{\"deploy\":\"nothing\"}", K_NO_SUCH_DEPLOY);

        CALL_OK(b, "service.scale", "{" WEB ",\"count\":5}");
        CALL_OK(b, "deploy.list", "{" WEB "}");
        ASSERT_TRUE(strstr(json_text(b->answer.result), "cancelled") != NULL);

        /* A deploy outlives its service for who watches it. */
        free(params);
        CALL_OK(b, "service.scale", "{" WEB ",\"count\":6}");
        params = strprintf("{\"deploy\":\"%s\"}", text(b, "deploy"));
        CALL_OK(b, "service.remove", "{" WEB "}");
        CALL_OK(b, "deploy.get", params);
        ASSERT_STREQ(text(b, "state"), "cancelled");
        ASSERT_STREQ(text(b, "reason"), "The service was removed.");
}

static InstanceDesired desired(Bench *b, const char *id) {
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;

        ASSERT_OK(store_get_instance(b->m.store, id, &i));
        return i->desired;
}

static void test_stop_start_and_remove_say_what_is_wanted(void **state) {
        Bench *b = *state;

        make_home(b);
        CALL_FAILS(b, "service.stop", "{" WEB "}", K_CONFLICT);
        CALL_OK(b, "service.deploy", "{" WEB "}");
        place(b, "i1", "n1", 1, "running");
        CALL_OK(b, "service.stop", "{" WEB "}");
        ASSERT_EQ(desired(b, "i1"), INSTANCE_STOPPED);
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_STREQ(text(b, "state"), "stopped");
        CALL_OK(b, "service.start", "{" WEB "}");
        ASSERT_EQ(desired(b, "i1"), INSTANCE_RUNNING);
        CALL_OK(b, "service.remove", "{" WEB "}");
        ASSERT_EQ(desired(b, "i1"), INSTANCE_TERMINATED);
        CALL_FAILS(b, "service.get", "{" WEB "}", K_NO_SUCH_SERVICE);
}

static void test_restart_asks_the_nodes(void **state) {
        Bench *b = *state;

        make_home(b);
        CALL_FAILS(b, "service.restart", "{" WEB "}", K_CONFLICT);
        place(b, "i1", "n1", 1, "running");
        place(b, "i2", "n1", 2, "running");

        test_session_set_online(false);
        CALL_FAILS(b, "service.restart", "{" WEB "}", K_NODE_OFFLINE);

        test_session_set_online(true);
        call_as(b, b->caller, "service.restart", "{" WEB "}");
        ASSERT_EQ(b->answer.count, 0); /* waits for both */
        ASSERT_STREQ(test_session_last_method(), "instance.restart");
        test_session_answer(NULL);
        ASSERT_EQ(b->answer.count, 0);
        test_session_answer(NULL);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_OK);

        call_as(b, b->caller, "service.restart", "{" WEB "}");
        test_session_answer(NULL);
        test_session_answer("It is being moved.");
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_STREQ(b->answer.error.message, "1 of 2 instances were not restarted: It is being moved.");
}

static void test_status_names_what_is_wrong(void **state) {
        Bench *b = *state;
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;

        make_home(b);
        CALL_OK(b, "status.get", "{\"grid\":\"home\"}");
        ASSERT_TRUE(strstr(json_text(b->answer.result), "Node 'n1' has not joined yet.") != NULL);

        CALL_OK(b, "service.deploy", "{" WEB "}");
        place(b, "i1", "n1", 1, "failed");
        ASSERT_OK(store_get_instance(b->m.store, "i1", &i));
        ASSERT_OK(free_and_strdup(&i->error, "No such image."));
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_instance(b->m.store, i));
        ASSERT_OK(store_commit(b->m.store, NULL));
        CALL_OK(b, "status.get", "{\"grid\":\"home\"}");
        ASSERT_TRUE(strstr(json_text(b->answer.result), "Service 'web': Instance 1: No such image.") !=
                        NULL);
}

static void change_instance(Bench *b, const char *id, const char *state, int64_t pid) {
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;

        ASSERT_OK(store_get_instance(b->m.store, id, &i));
        ASSERT_OK(free_and_strdup(&i->state, state));
        i->pid = pid;
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_instance(b->m.store, i));
        ASSERT_OK(store_commit(b->m.store, NULL));
}

static void test_only_what_serves_counts_as_running(void **state) {
        Bench *b = *state;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;

        make_home(b);
        place(b, "i1", "n1", 1, "running");
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "running"), 0u); /* the node is away */

        ASSERT_OK(store_find_grid(b->m.store, "home", &g));
        ASSERT_OK(store_find_node(b->m.store, g->id, "n1", &n));
        n->connected = true;
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_node(b->m.store, n));
        ASSERT_OK(store_commit(b->m.store, NULL));
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "running"), 1u);

        change_instance(b, "i1", "pulling", 0);
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "running"), 0u);
        change_instance(b, "i1", "pulling", 77); /* its previous container serves meanwhile */
        CALL_OK(b, "service.get", "{" WEB "}");
        ASSERT_EQ(number(b, "running"), 1u);
}

static void test_events_are_found_by_what_they_are_about(void **state) {
        Bench *b = *state;

        make_home(b);
        CALL_OK(b, "event.list", "{\"grid\":\"home\"}");
        ASSERT_TRUE(strstr(json_text(b->answer.result), "grid:create") &&
                        strstr(json_text(b->answer.result), "service:create"));
        CALL_OK(b, "event.list", "{\"grid\":\"home\",\"filter\":{\"service\":\"web\",\"limit\":10}}");
        ASSERT_TRUE(!strstr(json_text(b->answer.result), "grid:create") &&
                        strstr(json_text(b->answer.result), "service:create"));
        CALL_FAILS(b, "event.list", "{\"grid\":\"home\",\"filter\":{\"service\":\"nobody\"}}",
                        K_NO_SUCH_SERVICE);
        CALL_FAILS(b, "event.list", "{\"grid\":\"home\",\"filter\":{\"limit\":0}}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, "event.list", "{\"grid\":\"home\",\"filter\":{\"limit\":10001}}", K_INVALID_ARGUMENT);
}

/* A caller whose rights the test decides. */

typedef struct Guest {
        Caller base;
        authorize_done_t done;
        void *userdata;
        char asked[256];
} Guest;

static int guest_authorize(Caller *c, const AuthorizationRequest *q, authorize_done_t done, void *userdata) {
        Guest *g = (Guest *) c;

        g->done = done;
        g->userdata = userdata;
        snprintf(g->asked, sizeof(g->asked), "%s %s/%s/%s/%s %s", q->action + strlen("io.kontena.master1."),
                        strna(q->grid), strna(q->node), strna(q->stack), strna(q->service),
                        q->interactive ? "interactive" : "silent");
        return 0;
}

static Guest *guest_new(void) {
        static const CallerVTable vtable = { .kind = "guest", .authorize = guest_authorize };
        Guest *g = new0(Guest, 1);

        g->base = (Caller){ .n_ref = 1, .vtable = &vtable, .name = strdup("guest"), .uid = 1000 };
        return g;
}

static void decide(Guest *g, KErrorCode code) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (code != K_OK)
                (void) kerror_set(&e, code, "No.");
        g->done(code == K_OK ? NULL : &e, g->userdata);
}

static void test_nothing_happens_before_it_is_allowed(void **state) {
        Bench *b = *state;
        Guest *g = guest_new();

        CALL_OK(b, "grid.create", "{\"name\":\"home\"}");

        call_as(b, &g->base, "service.create",
                        "{\"grid\":\"home\",\"stack\":\"shop\",\"name\":\"web\",\"spec\":{\"image\":"
                        "\"nginx\"}}");
        ASSERT_EQ(b->answer.count, 0);
        ASSERT_STREQ(g->asked, "manage-services home/n/a/shop/web interactive");
        decide(g, K_ACCESS_DENIED);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_ACCESS_DENIED);
        CALL_FAILS(b, "service.get", "{\"grid\":\"home\",\"stack\":\"shop\",\"service\":\"web\"}",
                        K_NO_SUCH_SERVICE);

        call_as(b, &g->base, "service.create",
                        "{\"grid\":\"home\",\"stack\":\"shop\",\"name\":\"web\",\"spec\":{\"image\":"
                        "\"nginx\"}}");
        decide(g, K_OK);
        ASSERT_EQ(b->answer.error.code, K_OK);
        CALL_OK(b, "service.get", "{\"grid\":\"home\",\"stack\":\"shop\",\"service\":\"web\"}");
        caller_unref(&g->base);
}

static void test_every_operation_asks(void **state) {
        Bench *b = *state;
        Guest *g = guest_new();
        const Operation *o;

        make_home(b);
        CALL_OK(b, "service.deploy", "{" WEB "}");
        for (size_t i = 0; (o = operation_by_index(i)); i++) {
                _cleanup_json_ json_object *params = json_object_new_object();

                if (o->flags & OPERATION_OPEN)
                        continue;
                for (const OperationParameter *p = o->parameters; p->name; p++) {
                        if (!p->required)
                                continue;
                        if (p->type == PARAMETER_U32)
                                ASSERT_OK(json_add_u64(params, p->name, 1));
                        else if (p->type == PARAMETER_BOOL)
                                ASSERT_OK(json_add_bool(params, p->name, true));
                        else if (p->type == PARAMETER_STRINGS)
                                ASSERT_OK(json_add(params, p->name, json_object_new_array()));
                        else if (p->type == PARAMETER_OBJECT || p->type == PARAMETER_VALUES)
                                ASSERT_OK(json_add(params, p->name, json_object_new_object()));
                        else if (streq(p->name, "deploy")) {
                                CALL_OK(b, "service.deploy", "{" WEB "}");
                                ASSERT_OK(json_add_string(params, p->name, text(b, "deploy")));
                        } else
                                ASSERT_OK(json_add_string(params, p->name,
                                                streq(p->name, "grid")    ? "home"
                                                : streq(p->name, "node")  ? "n1"
                                                : streq(p->name, "stack") ? "null"
                                                                          : "web"));
                }

                g->asked[0] = '\0';
                call_as(b, &g->base, o->name, json_text(params));
                if (b->answer.count != 0)
                        fail_msg("%s was answered without authorization: %s", o->name,
                                        kerror_message(&b->answer.error));
                /* No test names a user: what can be one's own is. */
                ASSERT_TRUE(startswith(g->asked, (o->own && !json_object_object_get(params, o->own)
                                                                                 ? o->own_action
                                                                                 : o->action) +
                                                                 strlen("io.kontena.master1.")) != NULL);
                decide(g, K_ACCESS_DENIED);
                ASSERT_EQ(b->answer.count, 1);
                ASSERT_EQ(b->answer.error.code, K_ACCESS_DENIED);
        }
        caller_unref(&g->base);
}

static void test_what_is_missing_is_told_to_readers_only(void **state) {
        Bench *b = *state;
        Guest *g = guest_new();

        /* No password for a typing error, and no answer for who may not read. */
        call_as(b, &g->base, "grid.remove", "{\"grid\":\"secret\"}");
        ASSERT_STREQ(g->asked, "read secret/n/a/n/a/n/a silent");
        decide(g, K_ACCESS_DENIED);
        ASSERT_EQ(b->answer.error.code, K_ACCESS_DENIED);
        call_as(b, &g->base, "grid.remove", "{\"grid\":\"secret\"}");
        decide(g, K_OK);
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_GRID);
        caller_unref(&g->base);
}

static void test_values_of_the_environment_are_shown_to_who_may_change_them(void **state) {
        static const char get[] = "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"db\"}";
        Bench *b = *state;
        Guest *g = guest_new();

        CALL_OK(b, "grid.create", "{\"name\":\"home\"}");
        CALL_OK(b, "service.create",
                        "{\"grid\":\"home\",\"stack\":\"null\",\"name\":\"db\",\"spec\":{\"image\":"
                        "\"postgres\","
                        "\"env\":[\"PASSWORD=hunter2\"]}}");

        call_as(b, &g->base, "service.get", get);
        ASSERT_STREQ(g->asked, "read home/n/a/null/db interactive");
        decide(g, K_OK);
        ASSERT_EQ(b->answer.count, 0);
        ASSERT_STREQ(g->asked, "manage-services home/n/a/null/db silent");
        decide(g, K_INTERACTIVE_AUTHORIZATION_REQUIRED);
        ASSERT_EQ(b->answer.count, 1);
        ASSERT_EQ(b->answer.error.code, K_OK);
        ASSERT_TRUE(strstr(json_text(b->answer.result), "hunter2") == NULL);
        ASSERT_TRUE(strstr(json_text(b->answer.result), "PASSWORD") != NULL);

        call_as(b, &g->base, "service.get", get);
        decide(g, K_OK);
        decide(g, K_OK);
        ASSERT_TRUE(strstr(json_text(b->answer.result), "PASSWORD=hunter2") != NULL);

        CALL_OK(b, "service.get", get);
        ASSERT_TRUE(strstr(json_text(b->answer.result), "PASSWORD=hunter2") != NULL);
        caller_unref(&g->base);
}

static void test_names_are_looked_up_again_after_the_password(void **state) {
        Bench *b = *state;
        Guest *g = guest_new();

        CALL_OK(b, "grid.create", "{\"name\":\"home\"}");
        call_as(b, &g->base, "grid.update", "{\"grid\":\"home\",\"settings\":{}}");
        {
                Bench other = { .m = b->m };

                other.m.calls = NULL;
                other.caller = b->caller;
                CALL_OK((&other), "grid.remove", "{\"grid\":\"home\"}");
                test_answer_done(&other.answer);
        }
        decide(g, K_OK);
        ASSERT_EQ(b->answer.error.code, K_NO_SUCH_GRID);
        caller_unref(&g->base);
}

KONTENA_TESTS(cmocka_unit_test(test_table_is_complete),
                cmocka_unit_test_setup_teardown(test_parameters_are_checked, setup, teardown),
                cmocka_unit_test_setup_teardown(test_grids_are_validated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_grid_in_use_stays, setup, teardown),
                cmocka_unit_test_setup_teardown(test_tokens_name_the_grid_and_are_replaced, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nodes_are_validated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_too_many_labels_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_removing_a_node_frees_its_instances, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_node_with_data_is_not_removed_by_accident, setup, teardown),
                cmocka_unit_test_setup_teardown(test_services_are_validated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_only_a_change_is_a_new_revision, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deploys_are_queued_listed_cancelled, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_stop_start_and_remove_say_what_is_wanted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_restart_asks_the_nodes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_status_names_what_is_wrong, setup, teardown),
                cmocka_unit_test_setup_teardown(test_only_what_serves_counts_as_running, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_events_are_found_by_what_they_are_about, setup, teardown),
                cmocka_unit_test_setup_teardown(test_nothing_happens_before_it_is_allowed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_operation_asks, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_what_is_missing_is_told_to_readers_only, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_values_of_the_environment_are_shown_to_who_may_change_them, setup,
                                teardown),
                cmocka_unit_test_setup_teardown(
                                test_names_are_looked_up_again_after_the_password, setup, teardown))
