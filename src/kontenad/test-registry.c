/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <sodium.h>

#include "audit.h"
#include "desired-json.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "registry.h"
#include "string-util.h"
#include "test-master.h"

#define PASSWORD "correct horse battery staple"

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        json_object *result;
        KErrorCode code;
        uint8_t public[crypto_box_PUBLICKEYBYTES], secret[crypto_box_SECRETKEYBYTES];
        json_object *report;
} Bench;

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        json_object_put(b->result);
        b->result = json_object_get(result);
        b->code = error ? error->code : K_OK;
}

static KErrorCode call(Bench *b, const char *name, const char *params) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 1024 * 1024, &o, NULL));
        operation_call(&b->m, b->caller, operation_find(name), o, true, on_done, b);
        return b->code;
}

static KErrorCode add(Bench *b, const char *registry, const char *username, const char *password) {
        _cleanup_json_ json_object *o = json_object_new_object();

        ASSERT_OK(json_add_string(o, "grid", "home"));
        ASSERT_OK(json_add_string(o, "registry", registry));
        ASSERT_OK(json_add_string(o, "username", username));
        ASSERT_OK(json_add_string(o, "password", password));
        operation_call(&b->m, b->caller, operation_find("registry.add"), TAKE_PTR(o), true, on_done, b);
        return b->code;
}

static void add_grid(Bench *b, const char *id, const char *name, const char *subnet) {
        test_master_add_grid(&b->m, id, name, subnet);
}

static int setup(void **state) {
        char key[64];
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        ASSERT_OK(caller_new_internal("test", &b->caller));
        ASSERT_OK(crypto_box_keypair(b->public, b->secret));
        (void) sodium_bin2base64(
                        key, sizeof(key), b->public, sizeof(b->public), sodium_base64_VARIANT_ORIGINAL);
        b->report = json_object_new_object();
        ASSERT_OK(json_add_string(b->report, "secret_key", key));
        ASSERT_OK(store_begin(b->m.store, NULL));
        add_grid(b, "g", "home", "10.81.0.0/16");
        add_grid(b, "h", "far", "10.82.0.0/16");
        ASSERT_OK(store_commit(b->m.store, NULL));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        json_object_put(b->result);
        json_object_put(b->report);
        caller_unref(b->caller);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

/* What a node of the grid is told. */
static json_object *told(Bench *b, const char *grid_id, json_object *report) {
        NodeRow node = {
                .id = (char *) "n", .grid_id = (char *) grid_id, .name = (char *) "n", .report = report
        };
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *o = NULL;

        ASSERT_OK(store_get_grid(b->m.store, grid_id, &g));
        ASSERT_OK(desired_node_to_json(b->m.store, b->m.keyring, g, &node, &o));
        return o;
}

/* The password a node gets for a registry; NULL: none that it could open. */
static char *opened(Bench *b, json_object *node, const char *registry) {
        json_object *l = NULL;

        ASSERT_TRUE(json_object_object_get_ex(node, "registries", &l));
        FOREACH_JSON_ARRAY(e, l) {
                const char *name = NULL, *sealed = NULL;
                uint8_t bytes[512];
                char *value;
                size_t size;

                ASSERT_OK(json_get_string(e, "name", &name, NULL));
                if (!streq(name, registry) || json_find_string(e, "sealed", &sealed, NULL) < 0 || !sealed)
                        continue;
                ASSERT_OK(sodium_base642bin(bytes, sizeof(bytes), sealed, strlen(sealed), NULL, &size, NULL,
                                sodium_base64_VARIANT_ORIGINAL));
                value = calloc(1, 512);
                ASSERT_OK(crypto_box_seal_open((uint8_t *) value, bytes, size, b->public, b->secret));
                return value;
        }
        return NULL;
}

static size_t n_registries(json_object *o) {
        return json_object_array_length(json_object_object_get(o, "registries"));
}

static void test_nodes_of_the_grid_get_it_sealed(void **state) {
        _cleanup_json_ json_object *mine = NULL, *again = NULL, *theirs = NULL, *keyless = NULL;
        _cleanup_free_ char *password = NULL, *other = NULL;
        Bench *b = *state;

        ASSERT_EQ(add(b, "https://Registry:5000/v2/", "anna", PASSWORD), K_OK);
        ASSERT_STREQ(json_text(b->result), "{\"name\":\"registry:5000\",\"replaced\":false}");
        ASSERT_EQ(add(b, "index.docker.io", "anna", "another"), K_OK);

        mine = told(b, "g", b->report);
        ASSERT_EQ(n_registries(mine), 2);
        password = opened(b, mine, "registry:5000");
        other = opened(b, mine, "docker.io");
        ASSERT_STREQ(password, PASSWORD);
        ASSERT_STREQ(other, "another");
        again = told(b, "g", b->report);
        ASSERT_TRUE(json_object_equal(mine, again)); /* compared by hash */

        theirs = told(b, "h", b->report);
        ASSERT_EQ(n_registries(theirs), 0);
        keyless = told(b, "g", NULL);
        ASSERT_EQ(n_registries(keyless), 2);
        ASSERT_TRUE(!opened(b, keyless, "registry:5000"));
}

static void test_what_is_there_is_replaced(void **state) {
        _cleanup_json_ json_object *before = NULL, *after = NULL;
        _cleanup_free_ char *password = NULL;
        Bench *b = *state;

        ASSERT_EQ(add(b, "registry:5000", "anna", "old"), K_OK);
        before = told(b, "g", b->report);
        ASSERT_EQ(add(b, "registry:5000", "bob", "new"), K_OK);
        ASSERT_STREQ(json_text(b->result), "{\"name\":\"registry:5000\",\"replaced\":true}");
        after = told(b, "g", b->report);
        ASSERT_EQ(n_registries(after), 1);
        ASSERT_FALSE(json_object_equal(before, after));
        password = opened(b, after, "registry:5000");
        ASSERT_STREQ(password, "new");

        ASSERT_EQ(call(b, "registry.remove", "{\"grid\":\"far\",\"registry\":\"registry:5000\"}"),
                        K_NO_SUCH_REGISTRY);
        ASSERT_EQ(call(b, "registry.remove", "{\"grid\":\"home\",\"registry\":\"REGISTRY:5000\"}"), K_OK);
        ASSERT_EQ(call(b, "registry.remove", "{\"grid\":\"home\",\"registry\":\"registry:5000\"}"),
                        K_NO_SUCH_REGISTRY);
        ASSERT_EQ(call(b, "registry.list", "{\"grid\":\"home\"}"), K_OK);
        ASSERT_EQ(n_registries(b->result), 0);
}

static void test_nobody_is_shown_a_password(void **state) {
        static const char *const files[] = { "/kontena.db", "/kontena.db-wal" };
        _cleanup_json_ json_object *record = NULL, *parameters = NULL;
        Bench *b = *state;
        OperationCall c = {
                .master = &b->m, .operation = operation_find("registry.add"), .caller = b->caller
        };

        ASSERT_EQ(add(b, "registry:5000", "anna", PASSWORD), K_OK);
        ASSERT_EQ(call(b, "registry.list", "{\"grid\":\"home\"}"), K_OK);
        ASSERT_TRUE(strstr(json_text(b->result), "anna") && !strstr(json_text(b->result), "horse"));
        ASSERT_FALSE(strstr(json_text(b->result), "sealed"));

        parameters = json_tokener_parse("{\"grid\":\"home\",\"registry\":\"r:1\",\"username\":\"anna\","
                                        "\"password\":\"" PASSWORD "\"}");
        c.parameters = parameters;
        record = audit_record(&c, NULL);
        ASSERT_TRUE(strstr(json_text(record), "anna") && !strstr(json_text(record), "horse"));

        FOREACH_ARRAY(f, files, ELEMENTSOF(files)) {
                _cleanup_free_ char *path = strjoin(b->directory, *f), *text = NULL;
                size_t size = 0;

                ASSERT_OK(read_file(path, 64 * 1024 * 1024, &text, &size));
                ASSERT_TRUE(size > 0 || streq(*f, "/kontena.db"));
                ASSERT_FALSE(memmem(text, size, "horse", 5));
        }
}

static void test_what_cannot_be_is_refused(void **state) {
        _cleanup_free_ char *large = calloc(1, REGISTRY_PASSWORD_MAX + 2);
        Bench *b = *state;

        ASSERT_EQ(add(b, "registry", "anna", "x"), K_INVALID_ARGUMENT);
        ASSERT_EQ(add(b, "http://registry:5000", "anna", "x"), K_INVALID_ARGUMENT);
        ASSERT_EQ(add(b, "registry:5000", "", "x"), K_INVALID_ARGUMENT);
        ASSERT_EQ(add(b, "registry:5000", "a:b", "x"), K_INVALID_ARGUMENT);
        ASSERT_EQ(add(b, "registry:5000", "a\nb", "x"), K_INVALID_ARGUMENT);
        ASSERT_EQ(add(b, "registry:5000", "anna", ""), K_INVALID_ARGUMENT);

        memset(large, 'x', REGISTRY_PASSWORD_MAX + 1);
        ASSERT_EQ(add(b, "registry:5000", "anna", large), K_LIMIT_EXCEEDED);
        large[REGISTRY_PASSWORD_MAX] = '\0';
        ASSERT_EQ(add(b, "registry:5000", "anna", large), K_OK);
        large[LABEL_LENGTH_MAX + 1] = '\0';
        ASSERT_EQ(add(b, "registry:5000", large, "x"), K_INVALID_ARGUMENT);
}

static void test_a_grid_has_so_many(void **state) {
        Bench *b = *state;
        char name[32];

        for (unsigned i = 0; i < REGISTRIES_PER_GRID_MAX; i++) {
                snprintf(name, sizeof(name), "r%u.example", i);
                ASSERT_EQ(add(b, name, "anna", "x"), K_OK);
        }
        ASSERT_EQ(add(b, "more.example", "anna", "x"), K_LIMIT_EXCEEDED);
        ASSERT_EQ(add(b, "r0.example", "anna", "y"), K_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
KONTENA_TESTS(TEST(test_nodes_of_the_grid_get_it_sealed), TEST(test_what_is_there_is_replaced),
                TEST(test_nobody_is_shown_a_password), TEST(test_what_cannot_be_is_refused),
                TEST(test_a_grid_has_so_many))
