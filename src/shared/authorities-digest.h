/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sodium.h>
#include <stddef.h>

/* SHA-256 in hex of the PEM text of the authorities that a node trusts: REPORT.authorities, by which the master sees whether it has told
 * the node. For programs that link libsodium. */
#define AUTHORITIES_DIGEST_SIZE (2U * crypto_hash_sha256_BYTES + 1U)

static inline void authorities_digest(
                const char *pem, size_t size, char ret[static AUTHORITIES_DIGEST_SIZE]) {
        unsigned char hash[crypto_hash_sha256_BYTES];

        (void) crypto_hash_sha256(hash, (const unsigned char *) pem, size);
        (void) sodium_bin2hex(ret, AUTHORITIES_DIGEST_SIZE, hash, sizeof(hash));
}
