/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manifest.h"

#include "image-reference.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte is the number of layers that the manifest has. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const Platform platform = { "amd64", NULL };
        _cleanup_image_config_ ImageConfig c = {};
        _cleanup_kerror_ KError e = KERROR_NULL;
        size_t n;

        if (size == 0)
                return 0;
        n = data[0] % 4;
        if (image_config_parse((const char *) data + 1, size - 1, n, &platform, &c, &e) < 0)
                return 0;

        assert(strv_length(c.diff_ids) == n);
        STRV_FOREACH(d, c.diff_ids)
                assert(digest_hex(*d));
        assert(!c.working_directory || c.working_directory[0] == '/');
        STRV_FOREACH(v, c.volumes)
                assert((*v)[0] == '/');
        return 0;
}
