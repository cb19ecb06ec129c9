/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-kernel.h"

#include <linux/genetlink.h>
#include <linux/wireguard.h>
#include <stdlib.h>

#include "file-util.h"
#include "string-util.h"

#define READ_TRIES          16U /* while somebody changes it */
#define ALLOWED_PER_MESSAGE 64U /* with a peer's other attributes they stay below a message of 4 KiB */

/* The family */

static int on_family(const struct nlmsghdr *h, void *userdata) {
        const struct nlattr *tb[CTRL_ATTR_MAX + 1] = {};
        int r;

        r = netlink_attributes(h, sizeof(struct genlmsghdr), tb, CTRL_ATTR_MAX);
        if (r < 0)
                return r;
        return netlink_get_u16(tb[CTRL_ATTR_FAMILY_ID], userdata) ? 0 : -EBADMSG;
}

static struct nlmsghdr *begin(Netlink *nl, uint16_t type, uint16_t flags, uint8_t command, uint8_t version) {
        struct nlmsghdr *h = netlink_begin(nl, type, flags);
        struct genlmsghdr *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

        g->cmd = command;
        g->version = version;
        return h;
}

int wg_kernel_family(Netlink *generic, uint16_t *ret, KError *reterr) {
        struct nlmsghdr *h = begin(generic, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint16_t family = 0;
        int r;

        mnl_attr_put_strz(h, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
        r = netlink_call(generic, on_family, &family, &error, "look for WireGuard in the kernel");
        if (r == -ENOENT)
                return -EOPNOTSUPP;
        if (r < 0) {
                if (reterr)
                        kerror_move(reterr, &error);
                return r;
        }
        if (family == 0)
                return -EOPNOTSUPP;

        *ret = family;
        return 0;
}

/* Reading */

static bool get_key(const struct nlattr *a, uint8_t ret[static WG_KEY_SIZE]) {
        if (!a || mnl_attr_get_payload_len(a) != WG_KEY_SIZE)
                return false;
        memcpy(ret, mnl_attr_get_payload(a), WG_KEY_SIZE);
        return true;
}

static int parse_allowed(const struct nlattr *nest, WgAllowed *ret) {
        const struct nlattr *tb[WGALLOWEDIP_A_MAX + 1] = {}, *address;
        WgAllowed a = {};
        uint16_t family;
        size_t size;
        int r;

        r = netlink_nested(nest, tb, WGALLOWEDIP_A_MAX);
        if (r < 0)
                return r;
        address = tb[WGALLOWEDIP_A_IPADDR];
        if (!netlink_get_u16(tb[WGALLOWEDIP_A_FAMILY], &family) ||
                        !netlink_get_u8(tb[WGALLOWEDIP_A_CIDR_MASK], &a.length) || !address ||
                        (family != AF_INET && family != AF_INET6))
                return -EBADMSG;
        size = family == AF_INET ? sizeof(a.address.in) : sizeof(a.address.in6);
        if (mnl_attr_get_payload_len(address) != size || a.length > size * 8)
                return -EBADMSG;

        a.family = family;
        memcpy(&a.address, mnl_attr_get_payload(address), size);
        *ret = a;
        return 0;
}

static int parse_allowed_list(const struct nlattr *list, WgPeer *p) {
        const struct nlattr *a = NULL;
        int r;

        for (;;) {
                r = netlink_list_next(list, a, &a);
                if (r < 0 || !a)
                        return r;
                if (p->n_allowed >= WG_ALLOWED_MAX)
                        return -E2BIG;
                if (!wg_make_room((void **) &p->allowed, p->n_allowed, sizeof(*p->allowed)))
                        return -ENOMEM;
                r = parse_allowed(a, p->allowed + p->n_allowed);
                if (r < 0)
                        return r;
                p->n_allowed++;
        }
}

static int parse_endpoint(const struct nlattr *a, WgEndpoint *ret) {
        size_t n = a ? mnl_attr_get_payload_len(a) : 0;
        WgEndpoint e = {};

        if (!a)
                return 0;
        if (n < sizeof(e.sa.sa_family) || n > sizeof(e))
                return -EBADMSG;
        memcpy(&e, mnl_attr_get_payload(a), n);
        if (!(e.sa.sa_family == AF_INET && n == sizeof(e.in)) &&
                        !(e.sa.sa_family == AF_INET6 && n == sizeof(e.in6)))
                return -EBADMSG;

        *ret = e;
        return 0;
}

static int parse_peer(const struct nlattr *nest, WgDevice *d) {
        const struct nlattr *tb[WGPEER_A_MAX + 1] = {};
        struct {
                int64_t sec, nsec;
        } handshake;
        uint8_t key[WG_KEY_SIZE];
        WgPeer *p;
        int r;

        r = netlink_nested(nest, tb, WGPEER_A_MAX);
        if (r < 0)
                return r;
        if (!get_key(tb[WGPEER_A_PUBLIC_KEY], key))
                return -EBADMSG;

        p = d->n_peers > 0 ? d->peers + d->n_peers - 1 : NULL;
        if (!p || memcmp(p->key, key, WG_KEY_SIZE) != 0) {
                if (d->n_peers >= WG_PEERS_MAX)
                        return -E2BIG;
                if (!wg_make_room((void **) &d->peers, d->n_peers, sizeof(*d->peers)))
                        return -ENOMEM;
                p = d->peers + d->n_peers++;
                *p = (WgPeer){};
                memcpy(p->key, key, WG_KEY_SIZE);
        }
        (void) get_key(tb[WGPEER_A_PRESHARED_KEY], p->preshared);
        (void) netlink_get_u16(tb[WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL], &p->keepalive_sec);
        (void) netlink_get_u64(tb[WGPEER_A_RX_BYTES], &p->rx);
        (void) netlink_get_u64(tb[WGPEER_A_TX_BYTES], &p->tx);
        if (tb[WGPEER_A_LAST_HANDSHAKE_TIME] &&
                        mnl_attr_get_payload_len(tb[WGPEER_A_LAST_HANDSHAKE_TIME]) == sizeof(handshake)) {
                memcpy(&handshake, mnl_attr_get_payload(tb[WGPEER_A_LAST_HANDSHAKE_TIME]),
                                sizeof(handshake));
                p->handshake = (uint64_t) handshake.sec * USEC_PER_SEC + (uint64_t) handshake.nsec / 1000;
        }
        r = parse_endpoint(tb[WGPEER_A_ENDPOINT], &p->endpoint);
        if (r >= 0 && tb[WGPEER_A_ALLOWEDIPS])
                r = parse_allowed_list(tb[WGPEER_A_ALLOWEDIPS], p);
        return r;
}

int wg_kernel_parse(const struct nlmsghdr *h, WgDevice *d) {
        const struct nlattr *tb[WGDEVICE_A_MAX + 1] = {}, *peer = NULL;
        int r;

        r = netlink_attributes(h, sizeof(struct genlmsghdr), tb, WGDEVICE_A_MAX);
        if (r < 0)
                return r;
        (void) get_key(tb[WGDEVICE_A_PRIVATE_KEY], d->private_key);
        (void) netlink_get_u16(tb[WGDEVICE_A_LISTEN_PORT], &d->port);
        if (!tb[WGDEVICE_A_PEERS])
                return 0;
        for (;;) {
                r = netlink_list_next(tb[WGDEVICE_A_PEERS], peer, &peer);
                if (r < 0 || !peer)
                        return r;
                r = parse_peer(peer, d);
                if (r < 0)
                        return r;
        }
}

static int on_device(const struct nlmsghdr *h, void *userdata) {
        return wg_kernel_parse(h, userdata);
}

int wg_kernel_read(Netlink *generic, uint16_t family, const char *name, WgDevice *ret, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        unsigned tries = 0;
        WgDevice d = {};
        int r;

        do {
                struct nlmsghdr *h = begin(generic, family, NLM_F_DUMP, WG_CMD_GET_DEVICE, WG_GENL_VERSION);

                wg_device_done(&d);
                kerror_done(&error);
                mnl_attr_put_strz(h, WGDEVICE_A_IFNAME, name);
                r = netlink_call(generic, on_device, &d, &error, "read WireGuard device '%s'", name);
        } while (r == -EINTR && ++tries < READ_TRIES);
        if (r >= 0)
                r = wg_device_sort(&d);
        if (r < 0) {
                wg_device_done(&d);
                if (r != -ENODEV && reterr)
                        kerror_move(reterr, &error);
                return r;
        }

        *ret = d;
        return 0;
}

/* Writing */

static struct nlmsghdr *begin_set(Netlink *nl, uint16_t family, const char *name) {
        struct nlmsghdr *h = begin(nl, family, 0, WG_CMD_SET_DEVICE, WG_GENL_VERSION);

        mnl_attr_put_strz(h, WGDEVICE_A_IFNAME, name);
        return h;
}

static int queue_device(Netlink *nl, uint16_t family, const char *name, const WgDevice *want) {
        struct nlmsghdr *h = begin_set(nl, family, name);

        mnl_attr_put(h, WGDEVICE_A_PRIVATE_KEY, WG_KEY_SIZE, want->private_key);
        mnl_attr_put_u16(h, WGDEVICE_A_LISTEN_PORT, want->port);
        return netlink_queue(nl, 0, "set key and port %u of WireGuard device '%s'", want->port, name);
}

static int queue_removal(Netlink *nl, uint16_t family, const char *name, const WgPeer *p) {
        struct nlmsghdr *h = begin_set(nl, family, name);
        struct nlattr *peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS), *peer = mnl_attr_nest_start(h, 0);
        char key[WG_KEY_STRING_SIZE];

        mnl_attr_put(h, WGPEER_A_PUBLIC_KEY, WG_KEY_SIZE, p->key);
        mnl_attr_put_u32(h, WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME);
        mnl_attr_nest_end(h, peer);
        mnl_attr_nest_end(h, peers);
        return netlink_queue(nl, 0, "remove peer %s from '%s'", wg_key_to_string(p->key, key), name);
}

static void put_allowed(struct nlmsghdr *h, const WgAllowed *a) {
        struct nlattr *nest = mnl_attr_nest_start(h, 0);

        mnl_attr_put_u16(h, WGALLOWEDIP_A_FAMILY, (uint16_t) a->family);
        mnl_attr_put(h, WGALLOWEDIP_A_IPADDR,
                        a->family == AF_INET ? sizeof(a->address.in) : sizeof(a->address.in6), &a->address);
        mnl_attr_put_u8(h, WGALLOWEDIP_A_CIDR_MASK, a->length);
        mnl_attr_nest_end(h, nest);
}

/* What is allowed may need several messages; the first one replaces. */
static int queue_peer(Netlink *nl, uint16_t family, const char *name, const WgPeer *p, bool with_endpoint) {
        char key[WG_KEY_STRING_SIZE];
        size_t i = 0;
        int r;

        do {
                struct nlmsghdr *h = begin_set(nl, family, name);
                struct nlattr *peers = mnl_attr_nest_start(h, WGDEVICE_A_PEERS),
                              *peer = mnl_attr_nest_start(h, 0), *allowed;

                mnl_attr_put(h, WGPEER_A_PUBLIC_KEY, WG_KEY_SIZE, p->key);
                if (i == 0) {
                        mnl_attr_put_u32(h, WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
                        mnl_attr_put(h, WGPEER_A_PRESHARED_KEY, WG_KEY_SIZE, p->preshared);
                        mnl_attr_put_u16(h, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, p->keepalive_sec);
                        if (with_endpoint)
                                mnl_attr_put(h, WGPEER_A_ENDPOINT,
                                                p->endpoint.sa.sa_family == AF_INET6
                                                                ? sizeof(p->endpoint.in6)
                                                                : sizeof(p->endpoint.in),
                                                &p->endpoint);
                }
                allowed = mnl_attr_nest_start(h, WGPEER_A_ALLOWEDIPS);
                for (size_t end = MIN(i + ALLOWED_PER_MESSAGE, p->n_allowed); i < end; i++)
                        put_allowed(h, p->allowed + i);
                mnl_attr_nest_end(h, allowed);
                mnl_attr_nest_end(h, peer);
                mnl_attr_nest_end(h, peers);
                r = netlink_queue(nl, 0, "set peer %s of '%s'", wg_key_to_string(p->key, key), name);
        } while (r >= 0 && i < p->n_allowed);
        return r;
}

int wg_kernel_change(Netlink *generic, uint16_t family, const char *name, const WgDevice *want,
                const WgChange *change, KError *reterr) {
        int r = 0;

        if (change->device)
                r = queue_device(generic, family, name, want);
        /* First away, then written: a prefix may go from one to the other. */
        for (size_t i = 0; i < change->n_remove && r >= 0; i++)
                r = queue_removal(generic, family, name, change->remove[i]);
        for (size_t i = 0; i < change->n_write && r >= 0; i++)
                r = queue_peer(generic, family, name, change->write[i], change->with_endpoint[i]);
        return r < 0 ? r : netlink_flush(generic, reterr);
}
