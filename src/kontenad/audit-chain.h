/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "keyring.h"
#include "store.h"

/* Each row of the audit has a hash, keyed by the master's key, of itself and of the hash of the row before. Two marks in the store, keyed
 * likewise, say where the chain begins (what is older was pruned) and where it ends. Who can write to the database, but has not the key,
 * can make neither a row nor a mark; he can put back an old copy of all of it, which is seen by anchors that others keep. */

typedef struct AuditMark {
        uint64_t id;
        uint8_t hash[CHAIN_HASH_SIZE];
} AuditMark;

/* In a transaction. The columns of the row are taken from the record: grid, uid, operation, status. */
int audit_chain_append(Store *s, Keyring *k, json_object *record, AuditMark *ret);

/* The hash that a row must have behind that one. */
void audit_chain_hash(Keyring *k, const uint8_t before[static CHAIN_HASH_SIZE], const AuditRow *row,
                uint8_t ret[static CHAIN_HASH_SIZE]);

/* 1, 0: there is none, -EBADMSG: it is not from us. */
int audit_chain_get_base(Store *s, Keyring *k, AuditMark *ret);
int audit_chain_get_head(Store *s, Keyring *k, AuditMark *ret);

/* "CHAIN:ID:HASH", for others to keep. CHAIN tells one master's key from another's. */
char *audit_anchor_to_string(Keyring *k, const AuditMark *m);
/* 1, 0: of another chain, -EINVAL. */
int audit_anchor_from_string(Keyring *k, const char *s, AuditMark *ret);
