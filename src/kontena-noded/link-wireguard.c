/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>

#include "link.h"
#include "string-util.h"

/* A device without addresses: packets to a peer's block are routed to the device, which finds the peer by what is allowed to it. Of the
 * two devices one has the grid's current keys, the other the ones before while some peer is still without the new. */

/* From the kernel to a program, or back. */
static void remove_other_kind(const LinkContext *c, const char *name, const char *kind) {
        const RtnlLink *is = rtnl_link_find(c->links, c->n_links, name);

        if (!is || streq(is->kind, kind) || !STR_IN_SET(is->kind, "wireguard", "tun") ||
                        !streq(is->alias, c->overlay->alias))
                return;
        wireguard_stop(c->wireguard, name);
        (void) rtnl_delete_link(c->netlink, name);
        (void) netlink_flush(c->netlink, NULL);
}

static int ensure_userspace(const LinkContext *c, Device *want, RtnlLink *ret, KError *reterr) {
        want->kind = "tun";
        if (rtnl_link_find(c->links, c->n_links, want->name))
                return device_ensure(c->netlink, c->links, c->n_links, want, ret, reterr);
        ret->index = 0;
        return wireguard_start_unit(c->wireguard, (unsigned) c->type->wireguard_slot, want->name, reterr);
}

static int ensure(const LinkContext *c, RtnlLink *ret, KError *reterr) {
        WireguardMode mode = wireguard_mode(c->wireguard);
        _cleanup_kerror_ KError e = KERROR_NULL;
        char name[IFNAMSIZ];
        Device want = { .name = name, .kind = "wireguard", .alias = c->overlay->alias, .mtu = c->mtu };
        int r;

        overlay_device_name(c->type->device_prefix, c->overlay->grid_name, name);
        remove_other_kind(c, name, mode == WIREGUARD_KERNEL ? "wireguard" : "tun");
        if (mode == WIREGUARD_KERNEL) {
                r = device_ensure(c->netlink, c->links, c->n_links, &want, ret, &e);
                if (r != -EOPNOTSUPP) {
                        if (r < 0 && reterr)
                                kerror_move(reterr, &e);
                        return r;
                }
                mode = wireguard_kernel_refused(c->wireguard, reterr);
        }
        if (mode == WIREGUARD_USERSPACE)
                return ensure_userspace(c, &want, ret, reterr);
        ret->index = 0;
        return -EOPNOTSUPP;
}

static int allow(WgPeer *p, uint32_t address, uint8_t length) {
        if (!wg_make_room((void **) &p->allowed, p->n_allowed, sizeof(*p->allowed)))
                return -ENOMEM;
        p->allowed[p->n_allowed++] = (WgAllowed){
                .family = AF_INET, .address.in.s_addr = htonl(address), .length = length
        };
        return 0;
}

static int allow_all_of(WgPeer *p, const Peer *peer) {
        int r;

        r = allow(p, peer->address, 32);
        for (size_t i = 0; i < peer->n_blocks && r >= 0; i++)
                if (!(peer->blocks[i].length == 32 && peer->blocks[i].address == peer->address))
                        r = allow(p, peer->blocks[i].address, peer->blocks[i].length);
        return r;
}

/* What is its own, unless it is reached by way of another, and what is reached by way of it. */
static int add_peer(const LinkContext *c, const LinkPeer *l, WgDevice *d) {
        const Peer *peer = l->peer;
        WgPeer *p;
        int r = 0;

        if (!wg_make_room((void **) &d->peers, d->n_peers, sizeof(*d->peers)))
                return -ENOMEM;
        p = &d->peers[d->n_peers++];
        *p = (WgPeer){ .keepalive_sec = l->keepalive_sec };
        FOREACH_ARRAY(k, peer->keys, peer->n_keys) {
                if (k->generation != c->key->generation)
                        continue;
                memcpy(p->key, k->key, WG_KEY_SIZE);
                memcpy(p->preshared, k->preshared, WG_KEY_SIZE);
                if (l->address) {
                        p->endpoint = *l->address;
                        if (p->endpoint.sa.sa_family == AF_INET6)
                                p->endpoint.in6.sin6_port = htons(k->port);
                        else
                                p->endpoint.in.sin_port = htons(k->port);
                }
        }

        if (!peer->relay)
                r = allow_all_of(p, peer);
        for (size_t i = 0; i < c->n_peers && r >= 0; i++)
                if (streq_ptr(c->peers[i].relay, peer->id))
                        r = allow_all_of(p, &c->peers[i]);
        return r;
}

static int set_peers(const LinkContext *c, const RtnlLink *device, const LinkPeer *peers, size_t n,
                KError *reterr) {
        _cleanup_(wg_device_done) WgDevice d = { .port = c->port };
        int r;

        memcpy(d.private_key, c->key->private_key, WG_KEY_SIZE);
        for (size_t i = 0; i < n; i++) {
                r = add_peer(c, &peers[i], &d);
                if (r < 0)
                        return r;
        }
        return wireguard_apply(c->wireguard, (unsigned) c->type->wireguard_slot, device->name, &d, reterr);
}

const LinkType link_wireguard_odd = {
        .name = "wireguard",
        .device_prefix = "kt-wg-",
        .wireguard_slot = 0,
        .ensure = ensure,
        .set_peers = set_peers,
};

const LinkType link_wireguard_even = {
        .name = "wireguard",
        .device_prefix = "kt-wh-",
        .wireguard_slot = 1,
        .ensure = ensure,
        .set_peers = set_peers,
};
