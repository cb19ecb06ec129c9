/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-token.h"

#include "string-util.h"

/* As long as there are no users, nobody has a token, and who has none may nothing. */

static int authorize(Caller *c, const AuthorizationRequest *q, authorize_done_t done, void *userdata) {
        return -EACCES;
}

static const CallerVTable vtable = {
        .kind = "token",
        .authorize = authorize,
};

int caller_new_token(Master *m, const char *bearer, bool allow_expired, const char *address,
                const char *user_agent, Caller **ret, KError *reterr) {
        _cleanup_(caller_unrefp) Caller *c = NULL;

        if (!isempty(bearer))
                return kerror_set(reterr, K_INVALID_TOKEN, "This token is nobody's.");

        c = new0(Caller, 1);
        if (!c)
                return -ENOMEM;
        *c = (Caller){ .n_ref = 1, .vtable = &vtable, .uid = (uid_t) -1 };
        c->name = strdup("anonymous");
        c->address = strdup(address);
        if (!c->name || !c->address)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

const UserRow *caller_user(const Caller *c) {
        return NULL;
}

bool caller_has_scope(const Caller *c, const char *scope) {
        return false;
}
