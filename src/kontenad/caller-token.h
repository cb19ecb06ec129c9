/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"
#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Callers that come with a bearer token, or with none, over HTTPS. Their roles decide, polkit is not asked.
 *
 * An operation's role means:
 *   none           anybody
 *   user           whoever the token is of
 *   member         a member of the operation's grid
 *   grid_admin     a member of it who has this role
 *   members_admin  a member of it who is grid_admin or user_admin
 *   user_admin     who has this role
 *   master_admin   who has this role; they may all of the above, for every grid
 * Of an operation that names no grid, the roles which need one are left to master_admin; a grid that does not exist has no members.
 * All but "none" need a token of scope "user" that has not expired. Token, user, roles and membership are read anew for each question:
 * what was revoked is revoked at once. */

/* bearer NULL or "": anonymous. K_INVALID_TOKEN, K_TOKEN_EXPIRED. allow_expired: one that has expired makes a caller of whom
 * caller_user() knows who it was, and who may what anybody may. */
int caller_new_token(Master *m, const char *bearer, bool allow_expired, const char *address,
                const char *user_agent, Caller **ret, KError *reterr);

/* Of others than those with a token always true. */
bool caller_has_scope(const Caller *c, const char *scope);

/* The row of its token, to notice when that is revoked (STORE_TOKEN), and when it expires: 0 never. NULL: came with none. */
const char *caller_token_id(const Caller *c);
uint64_t caller_token_expires_at(const Caller *c);

/* Whether the answer would be the same now: for what goes on after it was allowed. Negative, with the refusal, when it is no. Of callers without
 * a token, and when the store cannot be read: 0. */
int caller_may_still(Caller *c, const char *role, const char *grid, KError *reterr);

/* The rule above by itself. error is set when the answer is no. */
bool role_allows(Store *s, const UserRow *user, const char *role, const char *grid);
