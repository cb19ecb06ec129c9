/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <net/if.h>
#include <netinet/in.h>

#include "kerror.h"
#include "macro.h"

/* A WireGuard device as `wg show` has it, whoever runs it: the kernel (generic netlink, linux/wireguard.h) or a program such as
 * wireguard-go (the cross-platform user-space protocol of wireguard.com/xplatform over /run/wireguard/NAME.sock). */

#define WG_KEY_SIZE        32U
#define WG_KEY_STRING_SIZE 45U /* base64 and a NUL */
#define WG_PEERS_MAX       1024U
#define WG_ALLOWED_MAX     1024U /* of one peer */

typedef struct WgAllowed {
        int family; /* AF_INET, AF_INET6 */
        union {
                struct in_addr in;
                struct in6_addr in6;
        } address; /* network byte order, host bits 0 */
        uint8_t length;
} WgAllowed;

typedef union WgEndpoint {
        struct sockaddr sa; /* AF_UNSPEC: none */
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} WgEndpoint;

typedef struct WgPeer {
        uint8_t key[WG_KEY_SIZE];       /* public */
        uint8_t preshared[WG_KEY_SIZE]; /* zero: none */
        WgEndpoint endpoint;
        uint16_t keepalive_sec; /* 0: off */
        WgAllowed *allowed;     /* sorted by wg_allowed_compare() */
        size_t n_allowed;

        /* Only when read. */
        uint64_t handshake; /* usec since 1970, 0: never */
        uint64_t rx, tx;    /* bytes */
} WgPeer;

typedef struct WgDevice {
        uint8_t private_key[WG_KEY_SIZE]; /* zero: none */
        uint16_t port;                    /* UDP; 0: any */
        WgPeer *peers;                    /* sorted by key */
        size_t n_peers;
} WgDevice;

void wg_device_done(WgDevice *d); /* erases the keys */
void wg_peer_done(WgPeer *p);
/* For one more than n elements. */
bool wg_make_room(void **array, size_t n, size_t element);
int wg_allowed_compare(const void *a, const void *b);
int wg_peer_compare(const void *a, const void *b);
/* Sorts peers and what is allowed to each. -EINVAL: a key twice, or one prefix allowed to two. */
int wg_device_sort(WgDevice *d);

/* A fresh private key, clamped (RFC 7748, section 5); its public one. */
void wg_key_generate(uint8_t ret[static WG_KEY_SIZE]);
int wg_key_public(const uint8_t private_key[static WG_KEY_SIZE], uint8_t ret[static WG_KEY_SIZE]);
const char *wg_key_to_string(const uint8_t key[static WG_KEY_SIZE], char ret[static WG_KEY_STRING_SIZE]);
int wg_key_parse(const char *s, uint8_t ret[static WG_KEY_SIZE]); /* base64 to the letter; -EINVAL */

/* What has to be said to a device that is like `is` so that it becomes like `want`: peers to take away, and peers to write. A peer
 * that is only written anew keeps its session. An endpoint that is wanted is written only when `told` (what was wanted last time;
 * NULL: nothing) had another: where a peer roams to is its own business. */
typedef struct WgChange {
        bool device;          /* private key or port */
        const WgPeer **write; /* of want */
        size_t n_write;
        bool *with_endpoint;   /* for each of write */
        const WgPeer **remove; /* of is */
        size_t n_remove;
} WgChange;
int wg_change_make(const WgDevice *is, const WgDevice *want, const WgDevice *told, WgChange *ret);
void wg_change_done(WgChange *c);
bool wg_change_is_empty(const WgChange *c) _pure_;
