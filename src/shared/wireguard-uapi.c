/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-uapi.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

#define HEX_SIZE (2 * WG_KEY_SIZE + 1)

/* Requests */

static void write_key(FILE *f, const char *name, const uint8_t key[static WG_KEY_SIZE]) {
        char hex[HEX_SIZE];

        (void) fprintf(f, "%s=%s\n", name, sodium_bin2hex(hex, sizeof(hex), key, WG_KEY_SIZE));
        sodium_memzero(hex, sizeof(hex));
}

static void write_endpoint(FILE *f, const WgEndpoint *e) {
        char address[INET6_ADDRSTRLEN] = "";

        if (e->sa.sa_family == AF_INET6) {
                (void) inet_ntop(AF_INET6, &e->in6.sin6_addr, address, sizeof(address));
                (void) fprintf(f, "endpoint=[%s]:%u\n", address, ntohs(e->in6.sin6_port));
        } else {
                (void) inet_ntop(AF_INET, &e->in.sin_addr, address, sizeof(address));
                (void) fprintf(f, "endpoint=%s:%u\n", address, ntohs(e->in.sin_port));
        }
}

static void write_peer(FILE *f, const WgPeer *p, bool with_endpoint) {
        write_key(f, "public_key", p->key);
        write_key(f, "preshared_key", p->preshared);
        if (with_endpoint)
                write_endpoint(f, &p->endpoint);
        (void) fprintf(f, "persistent_keepalive_interval=%u\nreplace_allowed_ips=true\n", p->keepalive_sec);
        FOREACH_ARRAY(a, p->allowed, p->n_allowed) {
                char address[INET6_ADDRSTRLEN] = "";

                (void) inet_ntop(a->family, &a->address, address, sizeof(address));
                (void) fprintf(f, "allowed_ip=%s/%u\n", address, a->length);
        }
}

int wg_uapi_request(const WgDevice *want, const WgChange *change, char **ret, size_t *ret_size) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        (void) fputs("set=1\n", f);
        if (change->device) {
                write_key(f, "private_key", want->private_key);
                (void) fprintf(f, "listen_port=%u\n", want->port);
        }
        /* First away, then written: a prefix may go from one to the other. */
        for (size_t i = 0; i < change->n_remove; i++) {
                write_key(f, "public_key", change->remove[i]->key);
                (void) fputs("remove=true\n", f);
        }
        for (size_t i = 0; i < change->n_write; i++)
                write_peer(f, change->write[i], change->with_endpoint[i]);
        (void) fputc('\n', f);
        if (fclose(f) != 0)
                return -ENOMEM;

        *ret = TAKE_PTR(text);
        *ret_size = size;
        return 0;
}

/* Answers */

static int parse_hex_key(const char *s, uint8_t ret[static WG_KEY_SIZE]) {
        size_t n = 0;

        if (strlen(s) != HEX_SIZE - 1 ||
                        sodium_hex2bin(ret, WG_KEY_SIZE, s, HEX_SIZE - 1, NULL, &n, NULL) < 0 ||
                        n != WG_KEY_SIZE)
                return -EBADMSG;
        return 0;
}

static int parse_u16(const char *s, uint16_t *ret) {
        unsigned u;

        if (safe_atou(s, &u) < 0 || u > UINT16_MAX)
                return -EBADMSG;
        *ret = (uint16_t) u;
        return 0;
}

/* "192.0.2.1:51820", "[2001:db8::1]:51820", "[fe80::1%eth0]:51820" */
static int parse_endpoint(const char *s, WgEndpoint *ret) {
        char address[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
        const char *colon = strrchr(s, ':');
        bool six = s[0] == '[';
        WgEndpoint e = {};
        uint16_t port;
        size_t n;

        if (!colon || parse_u16(colon + 1, &port) < 0 || (six && (colon < s + 2 || colon[-1] != ']')))
                return -EBADMSG;
        n = (size_t) (colon - s) - (six ? 2 : 0);
        if (n == 0 || n >= sizeof(address))
                return -EBADMSG;
        memcpy(address, s + six, n);
        address[n] = '\0';

        if (six) {
                char *zone = strchr(address, '%');

                if (zone) {
                        *zone = '\0';
                        e.in6.sin6_scope_id = if_nametoindex(zone + 1);
                }
                e.in6.sin6_family = AF_INET6;
                e.in6.sin6_port = htons(port);
        } else {
                e.in.sin_family = AF_INET;
                e.in.sin_port = htons(port);
        }
        if (inet_pton(six ? AF_INET6 : AF_INET, address,
                            six ? (void *) &e.in6.sin6_addr : (void *) &e.in.sin_addr) != 1)
                return -EBADMSG;

        *ret = e;
        return 0;
}

static int add_allowed(const char *s, WgPeer *p) {
        char address[INET6_ADDRSTRLEN];
        const char *slash = strchr(s, '/');
        WgAllowed a = {};
        unsigned length;

        if (!slash || (size_t) (slash - s) >= sizeof(address) || safe_atou(slash + 1, &length) < 0)
                return -EBADMSG;
        memcpy(address, s, (size_t) (slash - s));
        address[slash - s] = '\0';
        a.family = strchr(address, ':') ? AF_INET6 : AF_INET;
        if (inet_pton(a.family, address, &a.address) != 1 || length > (a.family == AF_INET ? 32U : 128U))
                return -EBADMSG;
        a.length = (uint8_t) length;

        if (p->n_allowed >= WG_ALLOWED_MAX)
                return -E2BIG;
        if (!wg_make_room((void **) &p->allowed, p->n_allowed, sizeof(*p->allowed)))
                return -ENOMEM;
        p->allowed[p->n_allowed++] = a;
        return 0;
}

static int add_peer(const char *key, WgDevice *d) {
        WgPeer p = {};
        int r;

        r = parse_hex_key(key, p.key);
        if (r < 0)
                return r;
        if (d->n_peers >= WG_PEERS_MAX)
                return -E2BIG;
        if (!wg_make_room((void **) &d->peers, d->n_peers, sizeof(*d->peers)))
                return -ENOMEM;
        d->peers[d->n_peers++] = p;
        return 0;
}

static int parse_peer_field(const char *key, const char *value, WgPeer *p) {
        uint64_t n = 0;

        if (streq(key, "preshared_key"))
                return parse_hex_key(value, p->preshared);
        if (streq(key, "endpoint"))
                return parse_endpoint(value, &p->endpoint);
        if (streq(key, "persistent_keepalive_interval"))
                return parse_u16(value, &p->keepalive_sec);
        if (streq(key, "allowed_ip"))
                return add_allowed(value, p);

        if (!STR_IN_SET(key, "rx_bytes", "tx_bytes", "last_handshake_time_sec", "last_handshake_time_nsec"))
                return 0; /* what it will say one day */
        if (safe_atou64(value, &n) < 0)
                return -EBADMSG;
        if (streq(key, "rx_bytes"))
                p->rx = n;
        else if (streq(key, "tx_bytes"))
                p->tx = n;
        else if (streq(key, "last_handshake_time_nsec"))
                p->handshake += n / 1000 % USEC_PER_SEC;
        else if (n > UINT64_MAX / USEC_PER_SEC - 1)
                return -EBADMSG;
        else
                p->handshake += n * USEC_PER_SEC;
        return 0;
}

static int parse_field(const char *key, const char *value, WgDevice *d) {
        if (streq(key, "public_key"))
                return add_peer(value, d);
        if (d->n_peers > 0)
                return parse_peer_field(key, value, d->peers + d->n_peers - 1);
        if (streq(key, "private_key"))
                return parse_hex_key(value, d->private_key);
        if (streq(key, "listen_port"))
                return parse_u16(value, &d->port);
        return 0;
}

/* Up to the empty line, which is its end. d NULL: nothing but the result is expected. */
static int parse_answer(const char *text, size_t size, WgDevice *d) {
        _cleanup_free_ char *copy = strndup(text, size);
        char *line = copy;
        int64_t error = INT64_MAX;
        int r;

        if (!copy)
                return -ENOMEM;
        if (strlen(copy) != size || size < 2 || strcmp(copy + size - 2, "\n\n") != 0)
                return -EBADMSG;
        copy[size - 1] = '\0';
        while (*line != '\0') {
                char *end = strchr(line, '\n'), *value = memchr(line, '=', (size_t) (end - line));

                if (!value)
                        return -EBADMSG;
                *end = *value++ = '\0';
                if (streq(line, "errno"))
                        r = safe_atoi64(value, &error);
                else
                        r = d ? parse_field(line, value, d) : -EBADMSG;
                if (r < 0)
                        return r == -EINVAL || r == -ERANGE ? -EBADMSG : r;
                line = end + 1;
        }
        if (error == 0)
                return 0;
        /* wireguard-go tells its errors as negative numbers. */
        if (error < 0 && error >= -4095)
                return (int) error;
        return error > 0 && error <= 4095 ? (int) -error : -EBADMSG;
}

int wg_uapi_parse_device(const char *text, size_t size, WgDevice *ret) {
        WgDevice d = {};
        int r;

        r = parse_answer(text, size, &d);
        if (r >= 0)
                r = wg_device_sort(&d) == -EINVAL ? -EBADMSG : 0;
        if (r < 0) {
                wg_device_done(&d);
                return r;
        }

        *ret = d;
        return 0;
}

int wg_uapi_parse_result(const char *text, size_t size) {
        return parse_answer(text, size, NULL);
}
