/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "identity.h"
#include "json-util.h"
#include "operation.h"
#include "string-util.h"

/* What operations ask about who calls. */

static bool has_token(const OperationCall *c) {
        return streq(c->caller->vtable->kind, "token");
}

bool call_has_role(const OperationCall *c, const char *role) {
        return !has_token(c) || user_has_role(caller_user(c->caller), role);
}

bool call_is_admin(const OperationCall *c) {
        return call_has_role(c, ROLE_MASTER_ADMIN);
}

bool call_sees_grid(const OperationCall *c, const char *grid_id) {
        const UserRow *user = caller_user(c->caller);

        if (call_is_admin(c))
                return true;
        return user && store_is_grid_user(c->master->store, grid_id, user->id) > 0;
}

int call_user(OperationCall *c, const char *key, UserRow **ret, KError *reterr) {
        _cleanup_free_ char *email = NULL;
        const char *text;
        int r;

        r = call_string(c, key, &text, reterr);
        if (r < 0)
                return r;
        if (isempty(text)) {
                const UserRow *user = caller_user(c->caller);

                r = user ? store_get_user(c->master->store, user->id, ret) : -ENOENT;
                if (r == -ENOENT)
                        return kerror_set(reterr, K_NO_SUCH_USER,
                                        "You are no user of this master; say whom you mean.");
                return r;
        }

        r = email_normalize(text, &email, NULL);
        if (r >= 0)
                r = store_find_user(c->master->store, email, ret);
        if (r == -ENOENT || r == -EINVAL)
                return kerror_set(reterr, K_NO_SUCH_USER, "No user '%s'.", text);
        return r;
}

int call_becomes(OperationCall *c, const UserRow *user) {
        int r;

        if (!c->caller->user) {
                r = free_and_strdup(&c->caller->user, user->email);
                if (r >= 0)
                        r = free_and_strdup(&c->caller->name, user->email);
                if (r < 0)
                        return r;
        }
        return json_add_string(c->parameters, "user", user->email);
}
