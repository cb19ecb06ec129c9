/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "overlay.h"

/* Preshared keys of pairs, and relays, as the master sends them beside the peers. No I/O. */

#define PAIR_KEY_SIZE 32U

/* DESIRED.preshared, {NODE-ID: base64, or {"GENERATION": base64}}: nonce and crypto_secretbox under the node's pair key. A peer that
 * has none, or whose entry does not open, has a zero key afterwards; of the latter *ret_unreadable names the first (borrowed from
 * peers), or is NULL. pair_key NULL: none at all. Returns 1 when something changed. */
int peers_set_preshared(Peer *peers, size_t n, const uint8_t *pair_key, json_object *preshared,
                const char **ret_unreadable);

/* DESIRED.relays, {NODE-ID: NODE-ID}. A relay that is no peer with a link of its own counts as none. Returns 1 when something
 * changed. */
int peers_set_relays(Peer *peers, size_t n, json_object *relays);
