/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "netlink-route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A datagram as a socket would deliver it, in memory that ends where it ends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
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
        while ((h = netlink_next(&p, &left))) {
                const char *text = NULL;
                RtnlNeighbor neighbor;
                RtnlAddress address;
                RtnlRoute route;
                RtnlLink link;
                int error = 0;

                if (netlink_ack_parse(h, &error, &text) >= 0) {
                        assert(error >= 0 && error <= 4095);
                        assert(!text || strlen(text) < size);
                }
                if (rtnl_link_parse(h, &link) > 0)
                        assert(strlen(link.name) < sizeof(link.name) &&
                                        strlen(link.alias) < sizeof(link.alias));
                if (rtnl_address_parse(h, &address) > 0)
                        assert(address.length <= 32);
                if (rtnl_route_parse(h, &route) > 0)
                        assert(route.length <= 32);
                (void) rtnl_neighbor_parse(h, &neighbor);
        }
        return 0;
}
