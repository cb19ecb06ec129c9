/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-layout.h"

#include <sodium.h>

#include "string-util.h"

char *image_ref_file_name(const char *normalized) {
        unsigned char hash[crypto_hash_sha256_BYTES];
        _cleanup_free_ char *hex = NULL;

        (void) crypto_hash_sha256(hash, (const unsigned char *) normalized, strlen(normalized));
        hex = hexmem(hash, sizeof(hash));
        if (!hex)
                return NULL;

        return strjoin(hex, ".json");
}
