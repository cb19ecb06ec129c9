/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "dns.h"
#include "json-util.h"
#include "overlay-keys.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the master says of the network: nothing of it may reach a file of dnsmasq's but names and addresses. */
static void check_names(json_object *names) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ char *text = NULL;
        size_t size = 0;

        if (dns_hosts_text(names, &text, &size, &e) < 0)
                return;
        assert(strlen(text) == size);
        assert(strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_. \n") == size);
        for (const char *p = text; *p; p = strchr(p, '\n') + 1)
                assert(*p >= '0' && *p <= '9' && strchr(p, '\n'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        json_object *node = NULL, *grid = NULL, *peers = NULL, *names = NULL, *preshared = NULL,
                    *relays = NULL;
        static const uint8_t pair_key[PAIR_KEY_SIZE] = { 1 };
        const char *unreadable;
        _cleanup_(overlay_freep) Overlay *overlay = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        Peer *l;
        size_t n;

        if (json_parse((const char *) data, size, 65536, &o, NULL) < 0 ||
                        !json_object_is_type(o, json_type_object))
                return 0;
        (void) json_find_object(o, "node", &node, NULL);
        (void) json_find_object(o, "grid", &grid, NULL);
        (void) json_find_object(o, "peers", &peers, NULL);
        (void) json_find_object(o, "names", &names, NULL);
        (void) json_object_object_get_ex(o, "preshared", &preshared);
        (void) json_object_object_get_ex(o, "relays", &relays);

        check_names(names);
        if (!node || !grid)
                return 0;
        if (overlay_parse(node, grid, &overlay, &e) < 0) {
                assert(kerror_is_set(&e));
                return 0;
        }
        assert(strlen(overlay->bridge) < IFNAMSIZ &&
                        ipv4_prefix_contains(&overlay->subnet, overlay->address));
        if (peers_parse(overlay, peers, &l, &n, &e) >= 0) {
                FOREACH_ARRAY(p, l, n)
                        assert(p->number != overlay->number &&
                                        ipv4_prefix_contains(&overlay->subnet, p->address));
                if (peers_set_preshared(l, n, pair_key, preshared, &unreadable) >= 0)
                        assert(peers_set_preshared(l, n, pair_key, preshared, &unreadable) == 0);
                if (peers_set_relays(l, n, relays) >= 0)
                        FOREACH_ARRAY(p, l, n)
                                assert(!p->relay || (peers_find(l, n, p->relay) &&
                                                                    !peers_find(l, n, p->relay)->relay));
                peers_free(l, n);
        }
        return 0;
}
