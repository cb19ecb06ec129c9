/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "wireguard.h"

/* The WireGuard keys of this node in its grid, one for each generation: STATE_DIRECTORY/wireguard-keys, mode 0600. They never leave
 * this machine; a key is on the disk before anybody is told of it. Held in locked memory, erased on free. */
typedef struct WireguardKeys WireguardKeys;

#define WIREGUARD_KEYS_MAX 2U /* the grid's current generation, and the one before it while it is in use */

typedef struct WireguardKey {
        uint32_t generation; /* 1.. */
        uint8_t private_key[WG_KEY_SIZE], public_key[WG_KEY_SIZE];
} WireguardKey;

/* Reads what is there. A damaged file is put aside as .corrupt and counts as none; reterr then says so, and 0 is returned. */
int wireguard_keys_new(const char *state_directory, WireguardKeys **ret, KError *reterr);
WireguardKeys *wireguard_keys_free(WireguardKeys *k);
DEFINE_TRIVIAL_CLEANUP_FUNC(WireguardKeys *, wireguard_keys_free);

/* There is a key of that generation of that grid; those of other grids and of later generations go, of earlier ones the latest
 * stays. Returns 1 when something changed. */
int wireguard_keys_ensure(WireguardKeys *k, const char *grid_id, uint32_t generation, KError *reterr);
/* Keys of generations before that one go. Returns 1 when something changed. */
int wireguard_keys_drop_before(WireguardKeys *k, uint32_t generation, KError *reterr);
int wireguard_keys_clear(WireguardKeys *k, KError *reterr);

/* Borrowed, until something changes. The latest generation first. */
const WireguardKey *wireguard_keys_find(const WireguardKeys *k, uint32_t generation) _pure_;
size_t wireguard_keys_list(const WireguardKeys *k, const WireguardKey **ret);
