/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "keyring.h"

#include <sodium.h>

#include "file-util.h"
#include "json-util.h"
#include "key-file.h"
#include "string-util.h"

#define KEY_SIZE        KEY_FILE_SIZE
#define CREDENTIAL_NAME "kontena.key"
#define FILE_NAME       "/master.key"

struct Keyring {
        uint8_t *key; /* sodium_malloc(): guarded, locked, wiped */
};

/* Domain separation: the letters in front keep hashes of tokens and keys of places apart. */
#define PREFIX_TOKEN "token\0"
#define PREFIX_SEAL  "seal\0"
#define PREFIX_NODE  "node\0"
#define PREFIX_CHAIN "chain\0"

static void derive(Keyring *k, const char *prefix, size_t prefix_size, const char *text,
                uint8_t ret[static 32]) {
        crypto_generichash_state state;

        (void) crypto_generichash_init(&state, k->key, KEY_SIZE, 32);
        (void) crypto_generichash_update(&state, (const uint8_t *) prefix, prefix_size);
        (void) crypto_generichash_update(&state, (const uint8_t *) text, strlen(text));
        (void) crypto_generichash_final(&state, ret, 32);
        sodium_memzero(&state, sizeof(state));
}

int keyring_new(const char *state_directory, Keyring **ret, KError *reterr) {
        _cleanup_(keyring_freep) Keyring *k = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        assert(state_directory);
        assert(ret);

        k = new0(Keyring, 1);
        path = strjoin(state_directory, FILE_NAME);
        if (!k || !path)
                return -ENOMEM;
        r = key_file_get("master", CREDENTIAL_NAME, path, &k->key, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(k);
        return 0;
}

Keyring *keyring_free(Keyring *k) {
        if (!k)
                return NULL;

        sodium_free(k->key);
        free(k);
        return NULL;
}

int keyring_seal(Keyring *k, const char *context, const void *data, size_t size, void **ret,
                size_t *ret_size) {
        uint8_t key[crypto_secretbox_KEYBYTES];
        uint8_t *sealed;
        size_t n;

        assert(k);
        assert(context);
        assert(data || size == 0);
        assert(ret && ret_size);

        if (size > SIZE_MAX - crypto_secretbox_NONCEBYTES - crypto_secretbox_MACBYTES)
                return -E2BIG;
        n = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + size;
        sealed = malloc(n);
        if (!sealed)
                return -ENOMEM;

        randombytes_buf(sealed, crypto_secretbox_NONCEBYTES);
        derive(k, PREFIX_SEAL, sizeof(PREFIX_SEAL) - 1, context, key);
        (void) crypto_secretbox_easy(sealed + crypto_secretbox_NONCEBYTES, data ?: "", size, sealed, key);
        sodium_memzero(key, sizeof(key));

        *ret = sealed;
        *ret_size = n;
        return 0;
}

int keyring_open(Keyring *k, const char *context, const void *sealed, size_t size, void **ret,
                size_t *ret_size) {
        uint8_t key[crypto_secretbox_KEYBYTES];
        const uint8_t *p = sealed;
        uint8_t *data;
        size_t n;
        int r;

        assert(k);
        assert(context);
        assert(ret && ret_size);

        if (!p || size < crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES)
                return -EBADMSG;
        n = size - crypto_secretbox_NONCEBYTES - crypto_secretbox_MACBYTES;
        data = malloc(n + 1);
        if (!data)
                return -ENOMEM;

        derive(k, PREFIX_SEAL, sizeof(PREFIX_SEAL) - 1, context, key);
        r = crypto_secretbox_open_easy(
                        data, p + crypto_secretbox_NONCEBYTES, size - crypto_secretbox_NONCEBYTES, p, key);
        sodium_memzero(key, sizeof(key));
        if (r < 0) {
                free(data);
                return -EBADMSG;
        }
        data[n] = '\0';

        *ret = data;
        *ret_size = n;
        return 0;
}

/* crypto_box_seal() as its manual describes it, but that the ephemeral key is a keyed hash of all that goes in: two texts, or two
 * nodes, never share one. */
int keyring_seal_for_node(Keyring *k, const uint8_t node_key[static NODE_KEY_SIZE], const char *context,
                const void *data, size_t size, void **ret, size_t *ret_size) {
        uint8_t ephemeral[crypto_box_SECRETKEYBYTES], nonce[crypto_box_NONCEBYTES];
        crypto_generichash_state state;
        uint8_t *sealed;
        int r;

        assert(k);
        assert(context);
        assert(data || size == 0);
        assert(ret && ret_size);

        if (size > SIZE_MAX - crypto_box_SEALBYTES)
                return -E2BIG;
        sealed = malloc(crypto_box_SEALBYTES + size);
        if (!sealed)
                return -ENOMEM;

        (void) crypto_generichash_init(&state, k->key, KEY_SIZE, sizeof(ephemeral));
        (void) crypto_generichash_update(&state, (const uint8_t *) PREFIX_NODE, sizeof(PREFIX_NODE) - 1);
        (void) crypto_generichash_update(&state, node_key, NODE_KEY_SIZE);
        (void) crypto_generichash_update(&state, (const uint8_t *) context, strlen(context) + 1);
        (void) crypto_generichash_update(&state, data ?: "", size);
        (void) crypto_generichash_final(&state, ephemeral, sizeof(ephemeral));
        sodium_memzero(&state, sizeof(state));

        r = crypto_scalarmult_base(sealed, ephemeral);
        if (r >= 0) {
                (void) crypto_generichash_init(&state, NULL, 0, sizeof(nonce));
                (void) crypto_generichash_update(&state, sealed, crypto_box_PUBLICKEYBYTES);
                (void) crypto_generichash_update(&state, node_key, NODE_KEY_SIZE);
                (void) crypto_generichash_final(&state, nonce, sizeof(nonce));
                r = crypto_box_easy(sealed + crypto_box_PUBLICKEYBYTES, data ?: (const void *) "", size,
                                nonce, node_key, ephemeral);
        }
        sodium_memzero(ephemeral, sizeof(ephemeral));
        if (r < 0) { /* a key with which nothing can be kept secret */
                free(sealed);
                return -EKEYREJECTED;
        }

        *ret = sealed;
        *ret_size = crypto_box_SEALBYTES + size;
        return 0;
}

int keyring_seal_for_report(Keyring *k, json_object *report, const char *context, const void *data,
                size_t size, char **ret) {
        _cleanup_free_ void *sealed = NULL;
        uint8_t node_key[NODE_KEY_SIZE];
        const char *text = NULL;
        size_t n = 0, length;
        char *base64;
        int r;

        assert(ret);

        if (report)
                (void) json_find_string(report, "secret_key", &text, NULL);
        if (isempty(text) ||
                        sodium_base642bin(node_key, sizeof(node_key), text, strlen(text), NULL, &n, NULL,
                                        sodium_base64_VARIANT_ORIGINAL) < 0 ||
                        n != sizeof(node_key)) {
                *ret = NULL;
                return 0;
        }

        r = keyring_seal_for_node(k, node_key, context, data, size, &sealed, &n);
        if (r == -EKEYREJECTED) {
                *ret = NULL;
                return 0;
        }
        if (r < 0)
                return r;
        length = sodium_base64_encoded_len(n, sodium_base64_VARIANT_ORIGINAL);
        base64 = malloc(length);
        if (!base64)
                return -ENOMEM;
        (void) sodium_bin2base64(base64, length, sealed, n, sodium_base64_VARIANT_ORIGINAL);

        *ret = base64;
        return 0;
}

void keyring_hash_token(Keyring *k, const char *token, uint8_t ret[static TOKEN_HASH_SIZE]) {
        assert(k);
        assert(token);

        derive(k, PREFIX_TOKEN, sizeof(PREFIX_TOKEN) - 1, token, ret);
}

bool keyring_token_matches(Keyring *k, const char *token, const uint8_t hash[static TOKEN_HASH_SIZE]) {
        uint8_t computed[TOKEN_HASH_SIZE];
        bool same;

        if (!token)
                return false;

        keyring_hash_token(k, token, computed);
        same = sodium_memcmp(computed, hash, TOKEN_HASH_SIZE) == 0 && !sodium_is_zero(hash, TOKEN_HASH_SIZE);
        sodium_memzero(computed, sizeof(computed));
        return same;
}

void keyring_hash_parts(Keyring *k, const char *purpose, const struct iovec *parts, size_t n,
                uint8_t ret[static CHAIN_HASH_SIZE]) {
        crypto_generichash_state state;

        assert(k);
        assert(purpose);

        (void) crypto_generichash_init(&state, k->key, KEY_SIZE, CHAIN_HASH_SIZE);
        (void) crypto_generichash_update(&state, (const uint8_t *) PREFIX_CHAIN, sizeof(PREFIX_CHAIN) - 1);
        (void) crypto_generichash_update(&state, (const uint8_t *) purpose, strlen(purpose) + 1);
        for (size_t i = 0; i < n; i++)
                (void) crypto_generichash_update(&state, parts[i].iov_base, parts[i].iov_len);
        (void) crypto_generichash_final(&state, ret, CHAIN_HASH_SIZE);
        sodium_memzero(&state, sizeof(state));
}

bool keyring_hash_equal(const uint8_t a[static CHAIN_HASH_SIZE], const uint8_t b[static CHAIN_HASH_SIZE]) {
        return sodium_memcmp(a, b, CHAIN_HASH_SIZE) == 0;
}
