/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlay-keys.h"

#include <sodium.h>

#include "json-util.h"
#include "string-util.h"
#include "test.h"

static const uint8_t pair_key[PAIR_KEY_SIZE] = { 1, 2, 3 };
static char n2[] = "n2", n3[] = "n3", n4[] = "n4";

static char *seal(uint8_t value, size_t size) {
        uint8_t sealed[128] = { 9 }, key[64];

        memset(key, value, sizeof(key));
        ASSERT_OK(crypto_secretbox_easy(sealed + crypto_secretbox_NONCEBYTES, key, size, sealed, pair_key));
        return sodium_bin2base64(malloc(256), 256, sealed,
                        crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + size,
                        sodium_base64_VARIANT_ORIGINAL);
}

static json_object *entry(const char *id, json_object *value) {
        json_object *o = json_object_new_object();

        ASSERT_OK(json_add(o, id, value));
        return o;
}

static void test_preshared_keys(void **state) {
        Peer peers[] = {
                { .id = n2, .name = n2, .n_keys = 2, .keys = { { .generation = 2 }, { .generation = 1 } } },
                { .id = n3, .name = n3, .n_keys = 1, .keys = { { .generation = 2 } } }
        };
        _cleanup_free_ char *sealed = seal(7, WG_KEY_SIZE), *other = seal(8, WG_KEY_SIZE);
        _cleanup_json_ json_object *one = entry("n2", json_object_new_string(sealed)),
                                   *two = entry("n2", entry("2", json_object_new_string(other)));
        const char *unreadable;

        ASSERT_TRUE(sodium_init() >= 0);
        /* One for all generations. */
        ASSERT_EQ(peers_set_preshared(peers, 2, pair_key, one, &unreadable), 1);
        ASSERT_TRUE(!unreadable);
        ASSERT_EQ(peers[0].keys[0].preshared[31], 7);
        ASSERT_EQ(peers[0].keys[1].preshared[31], 7);
        ASSERT_EQ(peers[1].keys[0].preshared[31], 0);
        ASSERT_EQ(peers_set_preshared(peers, 2, pair_key, one, &unreadable), 0);

        /* One for each. */
        ASSERT_EQ(peers_set_preshared(peers, 2, pair_key, two, &unreadable), 1);
        ASSERT_EQ(peers[0].keys[0].preshared[0], 8);
        ASSERT_EQ(peers[0].keys[1].preshared[0], 0);

        ASSERT_EQ(peers_set_preshared(peers, 2, NULL, two, &unreadable), 1);
        ASSERT_EQ(peers[0].keys[0].preshared[0], 0);
        ASSERT_TRUE(!unreadable);
}

static void test_what_does_not_open(void **state) {
        _cleanup_free_ char *sealed = seal(7, WG_KEY_SIZE), *shorter = seal(7, WG_KEY_SIZE - 1),
                            *longer = seal(7, WG_KEY_SIZE + 1);
        uint8_t another[PAIR_KEY_SIZE] = { 5 };
        json_object *const values[] = { json_object_new_string(shorter), json_object_new_string(longer),
                json_object_new_string(""), json_object_new_string("#"), json_object_new_int(5),
                json_object_new_array() };

        for (size_t i = 0; i <= ELEMENTSOF(values); i++) {
                Peer peer = { .id = n2, .name = n2, .n_keys = 1, .keys = { { .generation = 1 } } };
                _cleanup_json_ json_object *o = entry(
                                "n2", i < ELEMENTSOF(values) ? values[i] : json_object_new_string(sealed));
                const char *unreadable;

                ASSERT_EQ(peers_set_preshared(&peer, 1, i < ELEMENTSOF(values) ? pair_key : another, o,
                                          &unreadable),
                                0);
                ASSERT_STREQ(unreadable, "n2");
        }
}

static void test_relays(void **state) {
        static const struct {
                const char *relays, *n2, *n3;
        } table[] = {
                { "{\"n2\":\"n3\"}", "n3", NULL },
                { "{\"n2\":\"n2\"}", NULL, NULL },
                { "{\"n2\":\"n9\"}", NULL, NULL },
                { "{\"n2\":5}", NULL, NULL },
                { "{\"n2\":\"n3\",\"n3\":\"n4\"}", NULL, "n4" },
                { "{\"n2\":\"n3\",\"n3\":\"n2\"}", NULL, NULL },
                { "{}", NULL, NULL },
                { "[]", NULL, NULL },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                Peer peers[] = { { .id = n2 }, { .id = n3 }, { .id = n4 } };
                _cleanup_json_ json_object *o = NULL;

                ASSERT_OK(json_parse(t->relays, strlen(t->relays), 4096, &o, NULL));
                ASSERT_EQ(peers_set_relays(peers, 3, o), t->n2 || t->n3);
                ASSERT_EQ(peers_set_relays(peers, 3, o), 0);
                ASSERT_TRUE(streq_ptr(peers[0].relay, t->n2) && streq_ptr(peers[1].relay, t->n3));
                ASSERT_EQ(peers_set_relays(peers, 3, NULL), t->n2 || t->n3);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_preshared_keys), cmocka_unit_test(test_what_does_not_open),
                cmocka_unit_test(test_relays))
