/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "digest.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "string-util.h"

void digest_done(Digest *d) {
        if (d->handle)
                gnutls_hash_deinit(d->handle, NULL);
        d->handle = NULL;
}

int digest_init(Digest *d) {
        gnutls_hash_hd_t h;

        digest_done(d);
        if (gnutls_hash_init(&h, GNUTLS_DIG_SHA256) < 0)
                return -ENOMEM;

        d->handle = h;
        return 0;
}

int digest_add(Digest *d, const void *data, size_t n) {
        return gnutls_hash(d->handle, data, n) < 0 ? -EIO : 0;
}

static int to_string(const uint8_t *hash, char *ret) {
        _cleanup_free_ char *hex = NULL;

        hex = hexmem(hash, 32);
        if (!hex)
                return -ENOMEM;

        memcpy(ret, "sha256:", 7);
        memcpy(ret + 7, hex, 65);
        return 0;
}

int digest_finish(Digest *d, char ret[static DIGEST_STRING_SIZE]) {
        uint8_t hash[32];

        gnutls_hash_output(d->handle, hash);
        return to_string(hash, ret);
}

int digest_of(const void *data, size_t n, char ret[static DIGEST_STRING_SIZE]) {
        uint8_t hash[32];

        if (gnutls_hash_fast(GNUTLS_DIG_SHA256, data, n, hash) < 0)
                return -EIO;

        return to_string(hash, ret);
}
