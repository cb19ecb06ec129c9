/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "overlay-keys.h"

#include <sodium.h>
#include <stdio.h>

#include "json-util.h"
#include "string-util.h"

#define SEALED_SIZE   (crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + WG_KEY_SIZE)
#define SEALED_BASE64 sodium_base64_ENCODED_LEN(SEALED_SIZE, sodium_base64_VARIANT_ORIGINAL)

static_assert(PAIR_KEY_SIZE == crypto_secretbox_KEYBYTES, "Pair keys are keys of crypto_secretbox");

static bool open_key(const uint8_t *pair_key, json_object *value, uint8_t ret[static WG_KEY_SIZE]) {
        uint8_t sealed[SEALED_SIZE];
        const char *text;
        size_t n = 0;

        if (!json_object_is_type(value, json_type_string))
                return false;
        text = json_object_get_string(value);
        if (strlen(text) != SEALED_BASE64 - 1 ||
                        sodium_base642bin(sealed, sizeof(sealed), text, strlen(text), NULL, &n, NULL,
                                        sodium_base64_VARIANT_ORIGINAL) < 0 ||
                        n != sizeof(sealed))
                return false;
        return crypto_secretbox_open_easy(ret, sealed + crypto_secretbox_NONCEBYTES,
                               n - crypto_secretbox_NONCEBYTES, sealed, pair_key) == 0;
}

/* NULL: there is none for that generation. */
static json_object *find_entry(json_object *preshared, const Peer *p, uint32_t generation) {
        json_object *entry = NULL;
        char key[11];

        if (!json_object_is_type(preshared, json_type_object) ||
                        !json_object_object_get_ex(preshared, p->id, &entry) ||
                        !json_object_is_type(entry, json_type_object))
                return entry;
        (void) snprintf(key, sizeof(key), "%u", generation);
        return json_object_object_get(entry, key);
}

int peers_set_preshared(Peer *peers, size_t n, const uint8_t *pair_key, json_object *preshared,
                const char **ret_unreadable) {
        const char *unreadable = NULL;
        int changed = 0;

        FOREACH_ARRAY(p, peers, n)
                FOREACH_ARRAY(k, p->keys, p->n_keys) {
                        json_object *entry = find_entry(preshared, p, k->generation);
                        uint8_t key[WG_KEY_SIZE] = {};

                        if (pair_key && entry && !open_key(pair_key, entry, key)) {
                                sodium_memzero(key, sizeof(key));
                                unreadable = unreadable ?: p->name;
                        }
                        if (memcmp(key, k->preshared, sizeof(key)) != 0)
                                changed = 1;
                        memcpy(k->preshared, key, sizeof(key));
                        sodium_memzero(key, sizeof(key));
                }

        *ret_unreadable = unreadable;
        return changed;
}

static const char *find_relay(const Peer *peers, size_t n, json_object *relays, const Peer *p) {
        const char *id = NULL;

        if (!json_object_is_type(relays, json_type_object) ||
                        json_find_string(relays, p->id, &id, NULL) <= 0 || streq(id, p->id) ||
                        !peers_find(peers, n, id))
                return NULL;
        /* Of a relay that is relayed nothing would arrive. */
        return json_object_object_get_ex(relays, id, NULL) ? NULL : id;
}

int peers_set_relays(Peer *peers, size_t n, json_object *relays) {
        int r, changed = 0;

        FOREACH_ARRAY(p, peers, n) {
                r = free_and_strdup(&p->relay, find_relay(peers, n, relays, p));
                if (r < 0)
                        return r;
                changed = changed || r > 0;
        }
        return changed;
}
