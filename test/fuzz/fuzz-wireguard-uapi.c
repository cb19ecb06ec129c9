/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "wireguard-uapi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A program's answer. What was understood is said again as a request, and asks for no change. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(wg_device_done) WgDevice d = {}, none = {};
        _cleanup_(wg_change_done) WgChange same = {}, all = {};
        _cleanup_free_ char *text = NULL;
        size_t n;

        if (size > 65536)
                return 0;
        (void) wg_uapi_parse_result((const char *) data, size);
        if (wg_uapi_parse_device((const char *) data, size, &d) < 0)
                return 0;

        if (wg_change_make(&d, &d, NULL, &same) < 0 || wg_change_make(&none, &d, NULL, &all) < 0 ||
                        wg_uapi_request(&d, &all, &text, &n) < 0)
                abort();
        assert(wg_change_is_empty(&same));
        assert(all.n_write == d.n_peers);
        assert(n == strlen(text) && n >= 2 && text[n - 1] == '\n' && text[n - 2] == '\n');
        return 0;
}
