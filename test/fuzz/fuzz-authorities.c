/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authorities.h"

#include "kontena-limits.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a master sends to be trusted from now on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *pem = malloc(size + 1);
        unsigned begins = 0, ends = 0;

        if (!pem)
                return 0;
        memcpy(pem, data, size);
        pem[size] = '\0';

        if (authorities_check(pem, size, &error) < 0) {
                assert(kerror_is_set(&error));
                return 0;
        }
        /* Nothing but certificates: no key, no text between them. */
        assert(size <= AUTHORITIES_SIZE_MAX && strlen(pem) == size);
        assert(startswith(pem, "-----BEGIN CERTIFICATE-----\n") &&
                        endswith(pem, "-----END CERTIFICATE-----\n"));
        for (const char *p = pem; (p = strstr(p, "-----BEGIN")); p++)
                begins++;
        for (const char *p = pem; (p = strstr(p, "-----END")); p++)
                ends++;
        assert(begins == ends && !strstr(pem, "PRIVATE KEY"));
        return 0;
}
