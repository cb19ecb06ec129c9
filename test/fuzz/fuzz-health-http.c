/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "health-http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a container answers to a health check, whole and in every state of having come. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        unsigned status = 0, before = 0;

        for (size_t n = 0; n <= size && n <= 512; n++) {
                int r = http_status_parse((const char *) data, n, &status);

                assert(r <= 0 || (status >= 101 && status <= 999));
                /* More of it never changes what was said. */
                assert(before == 0 || (r == 1 && status == before));
                if (r == 1)
                        before = status;
        }
        (void) http_status_parse((const char *) data, size, &status);

        return 0;
}
