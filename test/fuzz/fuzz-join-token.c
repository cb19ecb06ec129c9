/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "join-token.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size), *url = NULL, *again = NULL;
        JoinToken token;

        if (!text)
                return 0;

        if (join_token_parse(text, &token, NULL) >= 0) {
                _cleanup_free_ char *formatted = join_token_format(token.fingerprint, token.secret);
                JoinToken other;

                assert(join_secret_is_valid(token.secret));
                assert(formatted && join_token_parse(formatted, &other, NULL) >= 0 &&
                                memcmp(&token, &other, sizeof(token)) == 0);
        }

        if (join_url_normalize(text, &url, NULL) >= 0) {
                assert(startswith(url, "wss://") && endswith(url, JOIN_CHANNEL_PATH));
                assert(join_url_normalize(url, &again, NULL) >= 0 && streq(url, again));
        }
        return 0;
}
