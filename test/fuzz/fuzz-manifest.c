/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manifest.h"

#include "image-reference.h"
#include "kontena-limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const Platform platform = { "arm", "v7" };
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_descriptor_ Descriptor d = {};
        _cleanup_manifest_ Manifest m = {};
        int r;

        r = manifest_parse((const char *) data, size, "application/json", &platform, &m, &d, &e);
        if (r < 0)
                assert(r == -ENOMEM || kerror_is_set(&e));
        else if (r == 1)
                assert(digest_hex(d.digest));
        else {
                assert(digest_hex(m.config.digest) && m.n_layers <= IMAGE_LAYERS_MAX &&
                                m.size <= IMAGE_SIZE_MAX);
                for (size_t i = 0; i < m.n_layers; i++)
                        assert(digest_hex(m.layers[i].digest));
        }
        return 0;
}
