/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "secrets.h"

#include <sodium.h>

#include "file-util.h"
#include "key-file.h"
#include "kontena-limits.h"
#include "string-util.h"

#define CREDENTIAL_NAME "kontena-node.key"
#define FILE_NAME       "/secret.key"

static_assert(KEY_FILE_SIZE == crypto_box_SECRETKEYBYTES, "a key file is a key of X25519");

struct Secrets {
        uint8_t *key; /* of key_file_get() */
        uint8_t public_key[crypto_box_PUBLICKEYBYTES];
        char text[sodium_base64_ENCODED_LEN(crypto_box_PUBLICKEYBYTES, sodium_base64_VARIANT_ORIGINAL)];
};

int secrets_new(const char *state_directory, Secrets **ret, KError *reterr) {
        _cleanup_(secrets_freep) Secrets *s = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        assert(state_directory);
        assert(ret);

        s = new0(Secrets, 1);
        path = strjoin(state_directory, FILE_NAME);
        if (!s || !path)
                return -ENOMEM;
        r = mkdir_p(state_directory, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The node's key '%s' cannot be written: %m.", path);
        r = key_file_get("node", CREDENTIAL_NAME, path, &s->key, reterr);
        if (r < 0)
                return r;
        if (crypto_scalarmult_base(s->public_key, s->key) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The node's key is no key.");
        (void) sodium_bin2base64(s->text, sizeof(s->text), s->public_key, sizeof(s->public_key),
                        sodium_base64_VARIANT_ORIGINAL);

        *ret = TAKE_PTR(s);
        return 0;
}

Secrets *secrets_free(Secrets *s) {
        if (!s)
                return NULL;

        sodium_free(s->key);
        free(s);
        return NULL;
}

const char *secrets_public_key(const Secrets *s) {
        return s->text;
}

int secrets_open(const Secrets *s, const char *sealed, char **ret, size_t *ret_size) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t n, length;
        char *text;

        assert(s);
        assert(sealed);
        assert(ret);

        length = strlen(sealed);
        if (length > SEALED_SIZE_MAX)
                return -E2BIG;
        bytes = malloc(length + 1);
        if (!bytes)
                return -ENOMEM;
        if (sodium_base642bin(bytes, length + 1, sealed, length, NULL, &n, NULL,
                            sodium_base64_VARIANT_ORIGINAL) < 0 ||
                        n < crypto_box_SEALBYTES)
                return -EBADMSG;

        n -= crypto_box_SEALBYTES;
        text = malloc(n + 1);
        if (!text)
                return -ENOMEM;
        if (crypto_box_seal_open((uint8_t *) text, bytes, n + crypto_box_SEALBYTES, s->public_key, s->key) <
                        0) {
                free(text);
                return -EBADMSG;
        }
        text[n] = '\0';

        *ret = text;
        if (ret_size)
                *ret_size = n;
        return 0;
}
