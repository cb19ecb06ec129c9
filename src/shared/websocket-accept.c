/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "websocket-accept.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "string-util.h"

#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

int websocket_accept(const char *key, char **ret) {
        _cleanup_free_ char *joined = strjoin(key, WEBSOCKET_GUID);
        gnutls_datum_t out = {};
        uint8_t digest[20];
        char *s;

        if (!joined)
                return -ENOMEM;
        if (gnutls_hash_fast(GNUTLS_DIG_SHA1, joined, strlen(joined), digest) < 0 ||
                        gnutls_base64_encode2(&(gnutls_datum_t){ digest, sizeof(digest) }, &out) < 0)
                return -ENOMEM;
        s = strndup((const char *) out.data, out.size);
        gnutls_free(out.data);
        if (!s)
                return -ENOMEM;

        *ret = s;
        return 0;
}
