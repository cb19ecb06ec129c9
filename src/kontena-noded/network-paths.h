/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "string-util.h"

/* By which of its links this node sends to a peer, decided from what is wanted and what is there; and what each link has to do for
 * it. What is received is taken from any of them, so only sending is switched, and only when the new way works: nothing is
 * lost. No I/O, no clock. */

#define PATH_FRESH_USEC                                                                                     \
        (180 * UINT64_C(1000000)) /* a WireGuard session is dead without a handshake for so long */
/* VXLAN wanted instead of WireGuard: the peer has been told by then, and takes it. */
#define PATH_VXLAN_DELAY_USEC         (2 * UINT64_C(1000000))
/* VXLAN no longer wanted: for so long it may carry on where WireGuard does not work yet, */
#define PATH_VXLAN_GRACE_USEC         (15 * UINT64_C(1000000))
/* and for so long after its end it is taken from the peer, who may be slower. */
#define PATH_VXLAN_LINGER_USEC        (10 * UINT64_C(1000000))
/* Without a sign of life the next of the peer's addresses is tried, and after all it is "down". */
#define PATH_ATTEMPT_USEC             (10 * UINT64_C(1000000))
#define PATH_DOWN_USEC                (15 * UINT64_C(1000000))

#define PATH_KEEPALIVE_SEC            25U
#define PATH_KEEPALIVE_CONNECTING_SEC 5U /* also what a relayed peer is tried with */

#define PATH_SESSIONS_MAX             2U

/* A generation of keys that this node and the peer both have. */
typedef struct PathSession {
        uint32_t generation;
        bool ready;         /* there is a device, and the peer is on it */
        uint64_t handshake; /* usec since 1970, 0: never */
} PathSession;

typedef struct PathInput {
        uint64_t now;      /* monotonic */
        uint64_t realtime; /* usec since 1970 */
        bool vxlan;        /* wanted, otherwise WireGuard */
        bool vxlan_possible;
        bool relayed;                            /* sent by way of another peer: this one is only tried */
        PathSession sessions[PATH_SESSIONS_MAX]; /* the latest generation first */
        size_t n_sessions;
} PathInput;

typedef enum PathKind {
        PATH_NONE,
        PATH_VXLAN,
        PATH_WIREGUARD,
        _PATH_KIND_MAX,
        _PATH_KIND_INVALID = -EINVAL,
} PathKind;
DECLARE_STRING_TABLE_LOOKUP(path_kind, PathKind);

typedef enum PathHealth {
        PATH_DOWN,
        PATH_CONNECTING,
        PATH_UP,
        _PATH_HEALTH_MAX,
        _PATH_HEALTH_INVALID = -EINVAL,
} PathHealth;
DECLARE_STRING_TABLE_LOOKUP(path_health, PathHealth);

/* Of one peer, from one decision to the next; zero at first. */
typedef struct Path {
        PathKind kind;
        uint32_t generation; /* of PATH_WIREGUARD */
        PathHealth health;

        bool known;          /* decided once */
        bool vxlan;          /* what was wanted last time */
        uint64_t since;      /* monotonic: wanted so since then */
        uint64_t vxlan_left; /* monotonic: not sent by it, nor wanted, since; 0: is, or never was */
        uint64_t alive;      /* monotonic: last seen alive, or begun to be tried */
        unsigned attempt;    /* of the peer's addresses, modulo their number */
        uint64_t attempt_since;
} Path;

/* Returns true when something is under way that should be looked at again soon. */
bool path_decide(Path *p, const PathInput *in);

bool path_takes_vxlan(const Path *p, uint64_t now) _pure_;
/* Seconds, 0 none: for the session of that generation. */
uint16_t path_keepalive(const Path *p, const PathInput *in, uint32_t generation) _pure_;
/* A device of that generation is needed for this peer. */
bool path_needs(const Path *p, const PathInput *in, uint32_t generation, uint32_t current) _pure_;
bool path_session_is_fresh(const PathSession *s, uint64_t realtime) _pure_;
