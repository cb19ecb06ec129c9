/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"
#include "kerror.h"
#include "master.h"

/* Callers with a token, whatever face they came by. */
typedef struct UserRow UserRow;

/* bearer NULL or "": an anonymous caller. K_INVALID_TOKEN, K_TOKEN_EXPIRED. */
int caller_new_token(Master *m, const char *bearer, bool allow_expired, const char *address,
                const char *user_agent, Caller **ret, KError *reterr);
const UserRow *caller_user(const Caller *c); /* NULL: not a user */
bool caller_has_scope(const Caller *c, const char *scope);
