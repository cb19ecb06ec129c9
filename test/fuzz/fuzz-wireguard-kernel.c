/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "wireguard-kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Datagrams with a device's description, in memory that ends where it ends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(wg_device_done) WgDevice d = {};
        _cleanup_free_ void *copy = NULL;
        const struct nlmsghdr *h;
        const uint8_t *p;
        size_t left = size;

        if (size > 32768)
                return 0;
        copy = malloc(size > 0 ? size : 1);
        if (!copy)
                return 0;
        if (size > 0)
                memcpy(copy, data, size);

        p = copy;
        while ((h = netlink_next(&p, &left)))
                if (wg_kernel_parse(h, &d) < 0)
                        break;
        assert(d.n_peers <= WG_PEERS_MAX);
        if (wg_device_sort(&d) >= 0)
                FOREACH_ARRAY(peer, d.peers, d.n_peers)
                        FOREACH_ARRAY(a, peer->allowed, peer->n_allowed)
                                assert(a->length <= (a->family == AF_INET ? 32 : 128));
        return 0;
}
