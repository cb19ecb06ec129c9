/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "ca.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "keyring.h"
#include "operation.h"
#include "string-util.h"
#include "test-master.h"

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        char *token; /* of the last answer; NULL: had none */
        KErrorCode code;
} Bench;

static void on_done(json_object *result, const KError *error, void *userdata) {
        const char *token = NULL;
        Bench *b = userdata;

        b->code = error ? error->code : K_OK;
        if (result)
                (void) json_find_string(result, "token", &token, NULL);
        ASSERT_OK(free_and_strdup(&b->token, token));
}

static KErrorCode call(Bench *b, const char *name, const char *params) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 1024, &o, NULL));
        operation_call(&b->m, b->caller, operation_find(name), o, false, on_done, b);
        return b->code;
}

static NodeRow *get_node(Bench *b, const char *name) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        NodeRow *n;

        ASSERT_OK(store_find_grid(b->m.store, "home", &g));
        ASSERT_OK(store_find_node(b->m.store, g->id, name, &n));
        return n;
}

static bool admits(Bench *b, const char *token, const NodeRow *n) {
        _cleanup_join_token_ JoinToken parsed = {};

        ASSERT_OK(join_token_parse(token, &parsed, NULL));
        return keyring_token_matches(b->m.keyring, parsed.secret, n->token_hash);
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        test_master_make_ca(&b->m, b->directory);
        ASSERT_OK(caller_new_internal("test", &b->caller));
        ASSERT_EQ(call(b, "grid.create", "{\"name\":\"home\"}"), K_OK);
        ASSERT_EQ(call(b, "node.create", "{\"grid\":\"home\",\"name\":\"n1\"}"), K_OK);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        free(b->token);
        caller_unref(b->caller);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

#define N1 "{\"grid\":\"home\",\"node\":\"n1\"}"

static void test_shown_again_as_it_was_made(void **state) {
        Bench *b = *state;
        _cleanup_(node_row_freep) NodeRow *n = get_node(b, "n1");
        _cleanup_free_ char *made = TAKE_PTR(b->token);

        ASSERT_TRUE(made && admits(b, made, n));
        ASSERT_EQ(call(b, "node.token", N1), K_OK);
        ASSERT_STREQ(b->token, made);
        ASSERT_TRUE(memmem(n->token_sealed, n->token_sealed_size, made + strlen(made) - 20, 20) == NULL);
}

static void test_reset_forgets_the_machine(void **state) {
        Bench *b = *state;
        _cleanup_(node_row_freep) NodeRow *joined = get_node(b, "n1"), *n = NULL;
        _cleanup_free_ char *made = TAKE_PTR(b->token);

        joined->node_key = strdup("00");
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_node(b->m.store, joined));
        ASSERT_OK(store_commit(b->m.store, NULL));

        ASSERT_EQ(call(b, "node.reset-token", N1), K_OK);
        n = get_node(b, "n1");
        ASSERT_TRUE(!n->node_key && n->number == joined->number && streq(n->id, joined->id));
        ASSERT_TRUE(!streq(b->token, made) && admits(b, b->token, n) && !admits(b, made, n));
}

static void test_cleared_there_is_none(void **state) {
        Bench *b = *state;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_free_ char *made = TAKE_PTR(b->token);

        ASSERT_EQ(call(b, "node.clear-token", N1), K_OK);
        n = get_node(b, "n1");
        ASSERT_TRUE(!n->token_sealed && !admits(b, made, n));
        ASSERT_EQ(call(b, "node.token", N1), K_NO_SUCH_TOKEN);
        ASSERT_EQ(call(b, "node.reset-token", N1), K_OK);
        ASSERT_EQ(call(b, "node.token", N1), K_OK);
}

/* The grid's new token has another id, by which those of nodes are found: theirs are void, and not shown. */
static void test_goes_with_the_grids_token(void **state) {
        Bench *b = *state;

        ASSERT_EQ(call(b, "grid.token", "{\"grid\":\"home\",\"regenerate\":true}"), K_OK);
        ASSERT_EQ(call(b, "node.token", N1), K_NO_SUCH_TOKEN);
}

/* Of a node that an earlier version has made there is the hash only. */
static void test_of_an_earlier_version(void **state) {
        Bench *b = *state;
        _cleanup_(node_row_freep) NodeRow *n = get_node(b, "n1");

        n->token_sealed = mfree(n->token_sealed);
        n->token_sealed_size = 0;
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_node(b->m.store, n));
        ASSERT_OK(store_commit(b->m.store, NULL));
        ASSERT_EQ(call(b, "node.token", N1), K_NO_SUCH_TOKEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
KONTENA_TESTS(TEST(test_shown_again_as_it_was_made), TEST(test_reset_forgets_the_machine),
                TEST(test_cleared_there_is_none), TEST(test_goes_with_the_grids_token),
                TEST(test_of_an_earlier_version))
