/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "auth-challenge.h"

#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_auth_challenge_ AuthChallenge c = {};
        _cleanup_free_ char *text = strndup((const char *) data, size);
        int r;

        if (!text)
                return 0;
        r = auth_challenge_parse(text, &c);
        assert(r == 0 || r == -EINVAL);
        assert(c.scheme != AUTH_BEARER || c.realm);
        for (const char *p = strempty(c.realm); *p; p++)
                assert((unsigned char) *p >= ' '); /* it becomes a URL */
        return 0;
}
