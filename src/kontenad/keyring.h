/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/uio.h>

#include "kerror.h"
#include "macro.h"

/* The master's own key. 32 random bytes which seal what the store must not show (vault, tokens, the CA's key) and
 * key the hashes of tokens. It is systemd's credential "kontena.key" where the unit is given one, otherwise
 * STATE_DIRECTORY/master.key, made on first start. Held in locked memory, erased on free. */
typedef struct Keyring Keyring;

#define TOKEN_HASH_SIZE 32U
#define NODE_KEY_SIZE   32U
#define CHAIN_HASH_SIZE 32U

int keyring_new(const char *state_directory, Keyring **ret, KError *reterr);
Keyring *keyring_free(Keyring *k);
DEFINE_TRIVIAL_CLEANUP_FUNC(Keyring *, keyring_free);

/* context names the place ("grid-token:ID"): what was sealed for one place cannot be opened at another. */
int keyring_seal(Keyring *k, const char *context, const void *data, size_t size, void **ret,
                size_t *ret_size);
/* *ret has a NUL behind it; erase_memory() it before freeing. -EBADMSG: another key, another place, or changed. */
int keyring_open(Keyring *k, const char *context, const void *sealed, size_t size, void **ret,
                size_t *ret_size);

/* For a node, whose X25519 key is node_key: libsodium's crypto_box_seal_open() opens it. Unlike crypto_box_seal() it gives the same
 * bytes for the same text, so that what a node is to have can be compared; who does not know the master's key learns no more. */
int keyring_seal_for_node(Keyring *k, const uint8_t node_key[static NODE_KEY_SIZE], const char *context,
                const void *data, size_t size, void **ret, size_t *ret_size);
/* The same for the key of a node's REPORT, and with base64 of the outcome. *ret is NULL where the node has told none. */
int keyring_seal_for_report(Keyring *k, json_object *report, const char *context, const void *data,
                size_t size, char **ret);

void keyring_hash_token(Keyring *k, const char *token, uint8_t ret[static TOKEN_HASH_SIZE]);
/* In constant time. An all-zero hash (no token) matches nothing. */
bool keyring_token_matches(Keyring *k, const char *token, const uint8_t hash[static TOKEN_HASH_SIZE]);

/* Of the parts, one behind the other, for a purpose ("audit"): who does not know the master's key can make none. */
void keyring_hash_parts(Keyring *k, const char *purpose, const struct iovec *parts, size_t n,
                uint8_t ret[static CHAIN_HASH_SIZE]);
/* In constant time. */
bool keyring_hash_equal(const uint8_t a[static CHAIN_HASH_SIZE], const uint8_t b[static CHAIN_HASH_SIZE]);
