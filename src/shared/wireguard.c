/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

void wg_peer_done(WgPeer *p) {
        sodium_memzero(p->preshared, sizeof(p->preshared));
        free(p->allowed);
        *p = (WgPeer){};
}

void wg_device_done(WgDevice *d) {
        FOREACH_ARRAY(p, d->peers, d->n_peers)
                wg_peer_done(p);
        free(d->peers);
        sodium_memzero(d->private_key, sizeof(d->private_key));
        *d = (WgDevice){};
}

/* Whenever n is a power of two, or 0, the array is full. */
bool wg_make_room(void **array, size_t n, size_t element) {
        void *p;

        if ((n & (n - 1)) != 0)
                return true;
        p = reallocarray(*array, MAX(n * 2, 1U), element);
        if (!p)
                return false;
        *array = p;
        return true;
}

static size_t address_size(int family) {
        return family == AF_INET6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
}

int wg_allowed_compare(const void *a, const void *b) {
        const WgAllowed *x = a, *y = b;
        int r;

        if (x->family != y->family)
                return x->family < y->family ? -1 : 1;
        r = memcmp(&x->address, &y->address, address_size(x->family));
        if (r == 0 && x->length != y->length)
                r = x->length < y->length ? -1 : 1;
        return r;
}

int wg_peer_compare(const void *a, const void *b) {
        const WgPeer *x = a, *y = b;

        return memcmp(x->key, y->key, WG_KEY_SIZE);
}

static int refuse_shared_prefixes(const WgDevice *d) {
        _cleanup_free_ WgAllowed *all = NULL;
        size_t n = 0;

        FOREACH_ARRAY(p, d->peers, d->n_peers)
                n += p->n_allowed;
        all = new0(WgAllowed, n + 1);
        if (!all)
                return -ENOMEM;
        n = 0;
        FOREACH_ARRAY(p, d->peers, d->n_peers)
                FOREACH_ARRAY(a, p->allowed, p->n_allowed)
                        all[n++] = *a;
        qsort(all, n, sizeof(*all), wg_allowed_compare);
        for (size_t i = 1; i < n; i++)
                if (wg_allowed_compare(all + i - 1, all + i) == 0)
                        return -EINVAL;
        return 0;
}

int wg_device_sort(WgDevice *d) {
        if (d->n_peers > 1)
                qsort(d->peers, d->n_peers, sizeof(*d->peers), wg_peer_compare);
        FOREACH_ARRAY(p, d->peers, d->n_peers)
                if (p->n_allowed > 1)
                        qsort(p->allowed, p->n_allowed, sizeof(*p->allowed), wg_allowed_compare);
        for (size_t i = 1; i < d->n_peers; i++)
                if (wg_peer_compare(d->peers + i - 1, d->peers + i) == 0)
                        return -EINVAL;
        return refuse_shared_prefixes(d);
}

/* Keys */

void wg_key_generate(uint8_t ret[static WG_KEY_SIZE]) {
        randombytes_buf(ret, WG_KEY_SIZE);
        ret[0] &= 248;
        ret[31] = (uint8_t) ((ret[31] & 127) | 64);
}

int wg_key_public(const uint8_t private_key[static WG_KEY_SIZE], uint8_t ret[static WG_KEY_SIZE]) {
        return crypto_scalarmult_base(ret, private_key) < 0 ? -EINVAL : 0;
}

const char *wg_key_to_string(const uint8_t key[static WG_KEY_SIZE], char ret[static WG_KEY_STRING_SIZE]) {
        return sodium_bin2base64(ret, WG_KEY_STRING_SIZE, key, WG_KEY_SIZE, sodium_base64_VARIANT_ORIGINAL);
}

int wg_key_parse(const char *s, uint8_t ret[static WG_KEY_SIZE]) {
        uint8_t key[WG_KEY_SIZE];
        size_t n = 0;

        if (strlen(s) != WG_KEY_STRING_SIZE - 1 ||
                        sodium_base642bin(key, sizeof(key), s, strlen(s), NULL, &n, NULL,
                                        sodium_base64_VARIANT_ORIGINAL) < 0 ||
                        n != sizeof(key))
                return -EINVAL;
        memcpy(ret, key, sizeof(key));
        sodium_memzero(key, sizeof(key));
        return 0;
}

/* Differences */

static bool endpoint_equal(const WgEndpoint *a, const WgEndpoint *b) {
        if (a->sa.sa_family != b->sa.sa_family)
                return false;
        switch (a->sa.sa_family) {
        case AF_INET:
                return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
        case AF_INET6:
                return a->in6.sin6_port == b->in6.sin6_port &&
                       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
        default:
                return true;
        }
}

static bool peer_equal(const WgPeer *a, const WgPeer *b) {
        if (memcmp(a->preshared, b->preshared, WG_KEY_SIZE) != 0 || a->keepalive_sec != b->keepalive_sec ||
                        a->n_allowed != b->n_allowed)
                return false;
        for (size_t i = 0; i < a->n_allowed; i++)
                if (wg_allowed_compare(a->allowed + i, b->allowed + i) != 0)
                        return false;
        return true;
}

static const WgPeer *find_peer(const WgDevice *d, const WgPeer *like) {
        return d && d->n_peers > 0 ? bsearch(like, d->peers, d->n_peers, sizeof(*d->peers), wg_peer_compare)
                                   : NULL;
}

/* One that has none yet gets it in any case. */
static bool wants_endpoint(const WgPeer *is, const WgPeer *want, const WgPeer *told) {
        if (want->endpoint.sa.sa_family == AF_UNSPEC)
                return false;
        if (!is || is->endpoint.sa.sa_family == AF_UNSPEC)
                return true;
        if (told && endpoint_equal(&told->endpoint, &want->endpoint))
                return false;
        return !endpoint_equal(&is->endpoint, &want->endpoint);
}

int wg_change_make(const WgDevice *is, const WgDevice *want, const WgDevice *told, WgChange *ret) {
        _cleanup_(wg_change_done) WgChange c = {};

        c.write = new0(const WgPeer *, want->n_peers + 1);
        c.with_endpoint = new0(bool, want->n_peers + 1);
        c.remove = new0(const WgPeer *, is->n_peers + 1);
        if (!c.write || !c.with_endpoint || !c.remove)
                return -ENOMEM;

        c.device = is->port != want->port || memcmp(is->private_key, want->private_key, WG_KEY_SIZE) != 0;
        FOREACH_ARRAY(p, is->peers, is->n_peers)
                if (!find_peer(want, p))
                        c.remove[c.n_remove++] = p;
        FOREACH_ARRAY(p, want->peers, want->n_peers) {
                const WgPeer *now = find_peer(is, p);
                bool endpoint = wants_endpoint(now, p, find_peer(told, p));

                if (now && !endpoint && peer_equal(now, p))
                        continue;
                c.with_endpoint[c.n_write] = endpoint;
                c.write[c.n_write++] = p;
        }

        *ret = c;
        c = (WgChange){};
        return 0;
}

void wg_change_done(WgChange *c) {
        free(c->write);
        free(c->with_endpoint);
        free(c->remove);
        *c = (WgChange){};
}

bool wg_change_is_empty(const WgChange *c) {
        return !c->device && c->n_write == 0 && c->n_remove == 0;
}
