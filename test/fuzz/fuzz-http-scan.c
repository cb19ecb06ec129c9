/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http-scan.h"
#include "kontena-limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* However the bytes come in pieces, the verdict is one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        HttpScan whole = {}, pieces = {};
        int a, b = 0;

        a = http_scan(&whole, data, size);
        for (size_t i = 0; i < size && b == 0; i++)
                b = http_scan(&pieces, data + i, 1);
        assert(a == b);
        assert(whole.n_requests == pieces.n_requests && whole.n_heads == pieces.n_heads);
        assert(a != 0 || (whole.state == pieces.state && whole.body_left == pieces.body_left));
        assert(whole.head_size <= LISTENER_HEAD_SIZE_MAX + 1);
        return 0;
}
