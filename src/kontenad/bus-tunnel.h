/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus-face.h"
#include "caller.h"
#include "macro.h"
#include "master.h"

/* The bus interface for people elsewhere: GET /v1/bus is a WebSocket that carries a D-Bus connection of which kontenad is the other end
 * (doc/bus-tunnel.md). Whoever is let in has a token of a user; calls are this user's, and objects and signals are of grids that the
 * user may see. It ends when the token does. */
typedef struct BusTunnels BusTunnels;

/* Who somebody is; a test has its own. */
typedef struct BusTunnelAccess {
        int (*new_caller)(Master *m, const char *bearer, const char *address, const char *user_agent,
                        Caller **ret, KError *reterr);
        const char *(*user)(const Caller *c); /* id; NULL: nobody, who is not let in */
        bool (*sees)(Master *m, const Caller *c, const char *grid_id);
        uint64_t stalled_max_usec; /* 0: BUS_GUEST_STALLED_MAX_USEC */
} BusTunnelAccess;

const BusTunnelAccess *bus_tunnel_token_access(void);

int bus_tunnels_new(Master *m, const BusTunnelAccess *access, BusTunnels **ret); /* on m->listener */
BusTunnels *bus_tunnels_free(BusTunnels *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusTunnels *, bus_tunnels_free);

/* Tokens, users or members of grids may have changed. */
void bus_tunnels_check(BusTunnels *t);
