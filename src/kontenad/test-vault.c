/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <sodium.h>

#include "audit.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "string-util.h"
#include "test-master.h"
#include "vault.h"

typedef struct Bench {
        Master m;
        char *directory;
        Caller *caller;
        json_object *result;
        char *value; /* of the result, which is erased afterwards */
        KErrorCode code;
} Bench;

static void on_done(json_object *result, const KError *error, void *userdata) {
        const char *value = NULL;
        Bench *b = userdata;

        json_object_put(b->result);
        b->result = json_object_get(result);
        b->code = error ? error->code : K_OK;
        b->value = mfree(b->value);
        if (result && json_find_string(result, "value", &value, NULL) > 0 && value)
                b->value = strdup(value);
}

static KErrorCode call(Bench *b, const char *name, const char *params) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 1024 * 1024, &o, NULL));
        operation_call(&b->m, b->caller, operation_find(name), o, true, on_done, b);
        return b->code;
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        ASSERT_OK(caller_new_internal("test", &b->caller));
        ASSERT_OK(store_begin(b->m.store, NULL));
        test_master_add_grid(&b->m, "g", "home", "10.81.0.0/16");
        ASSERT_OK(store_commit(b->m.store, NULL));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        json_object_put(b->result);
        free(b->value);
        caller_unref(b->caller);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

static void test_values_are_written_read_and_erased(void **state) {
        Bench *b = *state;
        const char *value;

        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"pw\",\"value\":\"a\\n\\tb\"}"),
                        K_OK);
        ASSERT_EQ(call(b, "vault.write",
                                  "{\"grid\":\"home\",\"name\":\"pw\",\"value\":\"c\",\"options\":{\"only\":"
                                  "\"new\"}}"),
                        K_ALREADY_EXISTS);
        ASSERT_EQ(call(b, "vault.write",
                                  "{\"grid\":\"home\",\"name\":\"xx\",\"value\":\"c\",\"options\":{\"only\":"
                                  "\"existing\"}}"),
                        K_NO_SUCH_SECRET);
        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"a/b\",\"value\":\"c\"}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"nul\",\"value\":\"a\\u0000b\"}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(call(b, "vault.read", "{\"grid\":\"home\",\"name\":\"pw\"}"), K_OK);
        ASSERT_STREQ(b->value, "a\n\tb");
        value = json_object_get_string(json_object_object_get(b->result, "value"));
        ASSERT_TRUE(memcmp(value, "\0\0\0\0\0", 5) == 0); /* what the caller was given is gone */
        ASSERT_EQ(call(b, "vault.list", "{\"grid\":\"home\"}"), K_OK);
        ASSERT_TRUE(strstr(json_text(b->result), "\"pw\"") && !strstr(json_text(b->result), "value"));
}

static void test_too_long_is_refused(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *value = calloc(1, SECRET_SIZE_MAX + 2), *params = NULL;

        memset(value, 'x', SECRET_SIZE_MAX + 1);
        params = strprintf("{\"grid\":\"home\",\"name\":\"long\",\"value\":\"%s\"}", value);
        ASSERT_EQ(call(b, "vault.write", params), K_LIMIT_EXCEEDED);
        value[SECRET_SIZE_MAX] = '\0';
        free(params);
        params = strprintf("{\"grid\":\"home\",\"name\":\"long\",\"value\":\"%s\"}", value);
        ASSERT_EQ(call(b, "vault.write", params), K_OK);
}

static void test_audit_has_no_value(void **state) {
        _cleanup_json_ json_object *record = NULL, *parameters = NULL;
        Bench *b = *state;
        OperationCall c = {
                .master = &b->m, .operation = operation_find("vault.write"), .caller = b->caller
        };

        parameters = json_tokener_parse("{\"grid\":\"home\",\"name\":\"pw\",\"value\":\"top\"}");
        c.parameters = parameters;
        record = audit_record(&c, NULL);
        ASSERT_TRUE(strstr(json_text(record), "\"pw\"") && !strstr(json_text(record), "top"));
        ASSERT_TRUE(strstr(json_text(parameters), "top") != NULL); /* the call still has it */
}

static void test_users_get_a_revision_and_keep_it_from_removal(void **state) {
        Bench *b = *state;
        _cleanup_json_ json_object *spec = json_tokener_parse("{\"image\":\"a\",\"secrets\":[{\"secret\":"
                                                              "\"pw\",\"name\":\"PW\",\"type\":\"env\"}]}");
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(revision_row_freep) RevisionRow *revision = NULL;

        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_service(b->m.store, &(ServiceRow){ .id = (char *) "s",
                                                                .grid_id = (char *) "g",
                                                                .stack = (char *) "null",
                                                                .name = (char *) "web",
                                                                .revision = 3,
                                                                .revision_last = 5,
                                                                .spec = spec }));
        ASSERT_OK(store_commit(b->m.store, NULL));
        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"pw\",\"value\":\"a\"}"), K_OK);
        ASSERT_OK(store_get_service(b->m.store, "s", &s));
        ASSERT_EQ(s->revision, 6);
        ASSERT_OK(store_find_revision(b->m.store, "s", 6, &revision));
        ASSERT_STREQ(revision->author, "secret 'pw' changed");

        /* The same again is no change. */
        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"pw\",\"value\":\"a\"}"), K_OK);
        s = service_row_free(s);
        ASSERT_OK(store_get_service(b->m.store, "s", &s));
        ASSERT_EQ(s->revision, 6);

        ASSERT_EQ(call(b, "vault.remove", "{\"grid\":\"home\",\"name\":\"pw\"}"), K_IN_USE);
        ASSERT_EQ(call(b, "vault.remove", "{\"grid\":\"home\",\"name\":\"pw\",\"force\":true}"), K_OK);
        ASSERT_EQ(call(b, "vault.read", "{\"grid\":\"home\",\"name\":\"pw\"}"), K_NO_SUCH_SECRET);
}

/* What an instance gets under a name, opened with the node's key; NULL: it is not sealed. */
static char *opened(json_object *instance, const char *name, const uint8_t *public, const uint8_t *secret) {
        json_object *l = NULL;

        ASSERT_TRUE(json_object_object_get_ex(instance, "secrets", &l));
        FOREACH_JSON_ARRAY(e, l) {
                const char *n = NULL, *sealed = NULL;
                uint8_t bytes[512];
                char *value;
                size_t size;

                ASSERT_OK(json_get_string(e, "name", &n, NULL));
                if (!streq(n, name) || json_find_string(e, "sealed", &sealed, NULL) < 0 || !sealed)
                        continue;
                ASSERT_OK(sodium_base642bin(bytes, sizeof(bytes), sealed, strlen(sealed), NULL, &size, NULL,
                                sodium_base64_VARIANT_ORIGINAL));
                value = calloc(1, 512);
                ASSERT_OK(crypto_box_seal_open((uint8_t *) value, bytes, size, public, secret));
                return value;
        }
        return NULL;
}

static void test_instances_get_values_joined_and_sealed(void **state) {
        Bench *b = *state;
        _cleanup_json_ json_object *spec = json_tokener_parse(
                        "{\"secrets\":[{\"secret\":\"a\",\"name\":\"BOTH\",\"type\":\"env\"},"
                        "{\"secret\":\"gone\",\"name\":\"none\",\"type\":\"file\"},"
                        "{\"secret\":\"b\",\"name\":\"BOTH\",\"type\":\"env\"}]}");
        _cleanup_json_ json_object *first = json_object_new_object(), *again = json_object_new_object(),
                                   *keyless = json_object_new_object(), *report = json_object_new_object();
        uint8_t public[crypto_box_PUBLICKEYBYTES], secret[crypto_box_SECRETKEYBYTES];
        InstanceRow row = { .id = (char *) "i", .service_id = (char *) "s", .spec = spec };
        _cleanup_free_ char *both = NULL, *none = NULL;
        char key[64];

        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"a\",\"value\":\"one\"}"), K_OK);
        ASSERT_EQ(call(b, "vault.write", "{\"grid\":\"home\",\"name\":\"b\",\"value\":\"two\"}"), K_OK);
        ASSERT_OK(crypto_box_keypair(public, secret));
        (void) sodium_bin2base64(key, sizeof(key), public, sizeof(public), sodium_base64_VARIANT_ORIGINAL);
        ASSERT_OK(json_add_string(report, "secret_key", key));

        ASSERT_OK(vault_add_to_instance(b->m.store, b->m.keyring, "g", report, &row, first));
        both = opened(first, "BOTH", public, secret);
        none = opened(first, "none", public, secret);
        ASSERT_STREQ(both, "one\ntwo");
        ASSERT_STREQ(none, "");
        ASSERT_EQ(json_object_array_length(json_object_object_get(first, "secrets")), 2);

        ASSERT_OK(vault_add_to_instance(b->m.store, b->m.keyring, "g", report, &row, again));
        ASSERT_TRUE(json_object_equal(first, again)); /* compared by hash */
        ASSERT_OK(vault_add_to_instance(b->m.store, b->m.keyring, "g", NULL, &row, keyless));
        ASSERT_TRUE(!opened(keyless, "BOTH", public, secret));
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_values_are_written_read_and_erased, setup, teardown),
                cmocka_unit_test_setup_teardown(test_too_long_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_audit_has_no_value, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_users_get_a_revision_and_keep_it_from_removal, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_instances_get_values_joined_and_sealed, setup, teardown))
