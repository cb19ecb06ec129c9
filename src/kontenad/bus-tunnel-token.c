/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-tunnel.h"
#include "caller-token.h"
#include "identity.h"
#include "store.h"

/* Who comes through a tunnel is whose token it is. */

static int new_caller(Master *m, const char *bearer, const char *address, const char *user_agent,
                Caller **ret, KError *reterr) {
        return caller_new_token(m, bearer, /* allow_expired= */ false, address, user_agent, ret, reterr);
}

static const char *user(const Caller *c) {
        const UserRow *row = caller_user(c);

        return row && caller_has_scope(c, SCOPE_USER) ? row->id : NULL;
}

static bool sees(Master *m, const Caller *c, const char *grid_id) {
        const UserRow *row = caller_user(c);

        if (!row)
                return false;
        return user_has_role(row, ROLE_MASTER_ADMIN) ||
               (grid_id && store_is_grid_user(m->store, grid_id, row->id) > 0);
}

const BusTunnelAccess *bus_tunnel_token_access(void) {
        static const BusTunnelAccess access = { .new_caller = new_caller, .user = user, .sees = sees };

        return &access;
}
