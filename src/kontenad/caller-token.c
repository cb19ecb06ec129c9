/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-token.h"

#include <utlist.h>

#include "identity.h"
#include "string-util.h"

typedef struct TokenCaller TokenCaller;

/* A question that is answered from the loop. */
typedef struct Question {
        TokenCaller *caller;
        sd_event_source *source;
        char *role, *grid;
        authorize_done_t done;
        void *userdata;
        struct Question *prev, *next;
} Question;

struct TokenCaller {
        Caller base;
        Master *master;
        TokenRow *token; /* as it was at first; NULL: none */
        Question *questions;
};

static Question *question_free(Question *q) {
        if (!q)
                return NULL;

        if (q->caller)
                DL_DELETE(q->caller->questions, q);
        sd_event_source_disable_unref(q->source);
        free(q->role);
        free(q->grid);
        free(q);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Question *, question_free);

static int is_member(Store *s, const char *grid, const UserRow *user) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        if (isempty(grid))
                return 0;
        r = store_find_grid(s, grid, &g);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return store_is_grid_user(s, g->id, user->id);
}

/* What cannot be found out is not allowed. */
bool role_allows(Store *s, const UserRow *user, const char *role, const char *grid) {
        if (streq(role, "none"))
                return true;
        if (!user)
                return false;
        if (streq(role, "user") || user_has_role(user, ROLE_MASTER_ADMIN))
                return true;
        if (streq(role, ROLE_USER_ADMIN))
                return user_has_role(user, role);
        if (streq(role, "member"))
                return is_member(s, grid, user) > 0;
        if (streq(role, ROLE_GRID_ADMIN))
                return user_has_role(user, role) && is_member(s, grid, user) > 0;
        if (streq(role, "members_admin"))
                return (user_has_role(user, ROLE_GRID_ADMIN) || user_has_role(user, ROLE_USER_ADMIN)) &&
                       is_member(s, grid, user) > 0;
        return false;
}

static const char *needs(const char *role) {
        static const struct {
                const char *role, *sentence;
        } sentences[] = {
                { "user", "a login" },
                { "member", "a member of the grid" },
                { ROLE_GRID_ADMIN, "a member of the grid with the role grid_admin" },
                { "members_admin", "a member of the grid with the role grid_admin or user_admin" },
                { ROLE_USER_ADMIN, "the role user_admin" },
        };

        FOREACH_ARRAY(s, sentences, ELEMENTSOF(sentences))
                if (streq(s->role, role))
                        return s->sentence;
        return "the role master_admin";
}

/* Anew from the store: the token may be gone, its user as well. */
static int look_again(TokenCaller *c, TokenRow **ret) {
        _cleanup_(token_row_freep) TokenRow *token = NULL;
        UserRow *user = NULL;
        int r;

        r = store_get_token(c->master->store, c->token->id, &token);
        if (r >= 0)
                r = store_get_user(c->master->store, token->user_id, &user);
        if (r < 0) {
                (void) caller_set_user(&c->base, NULL);
                return r;
        }
        r = caller_set_user(&c->base, user);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(token);
        return 0;
}

static void decide(TokenCaller *c, const char *role, const char *grid, KError *reterr) {
        _cleanup_(token_row_freep) TokenRow *token = NULL;
        int r;

        if (streq(role, "none"))
                return;
        if (!c->token) {
                (void) kerror_set(reterr, K_ACCESS_DENIED, "This needs %s, and you have not logged in.",
                                needs(role));
                return;
        }
        r = look_again(c, &token);
        if (r == -ENOENT)
                (void) kerror_set(reterr, K_INVALID_TOKEN, "Invalid token");
        else if (r < 0)
                (void) kerror_set_errno(reterr, r, "The store cannot be read: %m.");
        else if (token_is_expired(token))
                (void) kerror_set(reterr, K_TOKEN_EXPIRED, "Token expired");
        else if (!strv_contains(token->scopes, SCOPE_USER))
                (void) kerror_set(reterr, K_ACCESS_DENIED, "This needs a token of scope '%s'.", SCOPE_USER);
        else if (!role_allows(c->master->store, c->base.row, role, grid))
                (void) kerror_set(reterr, K_ACCESS_DENIED, "This needs %s.", needs(role));
}

static int on_question(sd_event_source *source, void *userdata) {
        Question *q = userdata;
        _cleanup_kerror_ KError error = KERROR_NULL;
        authorize_done_t done = q->done;
        void *data = q->userdata;

        decide(q->caller, q->role, strempty(q->grid), &error);
        question_free(q);
        done(kerror_is_set(&error) ? &error : NULL, data);
        return 0;
}

static int caller_authorize(
                Caller *caller, const AuthorizationRequest *request, authorize_done_t done, void *userdata) {
        TokenCaller *c = (TokenCaller *) caller;
        _cleanup_(question_freep) Question *q = NULL;
        int r;

        q = new0(Question, 1);
        if (!q)
                return -ENOMEM;
        q->role = strdup(request->role);
        q->grid = strdup(strempty(request->grid));
        if (!q->role || !q->grid)
                return -ENOMEM;
        q->done = done;
        q->userdata = userdata;
        r = sd_event_add_defer(c->master->event, &q->source, on_question, q);
        if (r < 0)
                return r;
        q->caller = c;
        DL_APPEND(c->questions, q);
        TAKE_PTR(q);
        return 0;
}

static void caller_done(Caller *caller) {
        TokenCaller *c = (TokenCaller *) caller;

        while (c->questions)
                question_free(c->questions);
        token_row_free(c->token);
}

static const CallerVTable vtable = {
        .kind = "token",
        .authorize = caller_authorize,
        .free = caller_done,
};

static int identify(TokenCaller *c, const char *bearer, bool allow_expired, KError *reterr) {
        UserRow *user = NULL;
        int r;

        r = identity_find_bearer(c->master, bearer, &c->token);
        if (r >= 0)
                r = store_get_user(c->master->store, c->token->user_id, &user);
        if (r == -ENOENT)
                return kerror_set(reterr, K_INVALID_TOKEN, "Invalid token");
        if (r < 0)
                return kerror_set_errno(reterr, r, "The store cannot be read: %m.");

        r = caller_set_user(&c->base, user);
        if (r < 0)
                return r;
        r = free_and_strdup(&c->base.token, c->token->last_four);
        if (r >= 0)
                r = free_and_strdup(&c->base.name, user->email);
        if (r < 0)
                return r;

        if (!token_is_expired(c->token))
                identity_touch(c->master, c->token);
        else if (!allow_expired)
                return kerror_set(reterr, K_TOKEN_EXPIRED, "Token expired");

        return 0;
}

int caller_new_token(Master *m, const char *bearer, bool allow_expired, const char *address,
                const char *user_agent, Caller **ret, KError *reterr) {
        _cleanup_(caller_unrefp) Caller *caller = NULL;
        TokenCaller *c;
        int r;

        assert(m);
        assert(ret);

        c = new0(TokenCaller, 1);
        if (!c)
                return -ENOMEM;
        c->base = (Caller){ .n_ref = 1, .vtable = &vtable, .uid = (uid_t) -1 };
        c->master = m;
        caller = &c->base;

        caller->name = strdup("anonymous");
        caller->address = strdup(strempty(address));
        caller->user_agent = user_agent ? utf8_repair(strndup(user_agent, 256)) : NULL;
        for (char *p = caller->user_agent; p && *p; p++) /* it goes to the journal and to terminals */
                if ((unsigned char) *p < ' ' || *p == 127)
                        *p = '?';
        if (!caller->name || !caller->address || (user_agent && !caller->user_agent))
                return -ENOMEM;
        if (!isempty(bearer)) {
                r = identify(c, bearer, allow_expired, reterr);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(caller);
        return 0;
}

int caller_may_still(Caller *c, const char *role, const char *grid, KError *reterr) {
        _cleanup_kerror_ KError refusal = KERROR_NULL;
        TokenCaller *t = (TokenCaller *) c;

        if (c->vtable != &vtable || !t->token)
                return 0;
        decide(t, role, strempty(grid), &refusal);
        if (!kerror_is_set(&refusal) || refusal.code == K_INTERNAL)
                return 0;
        kerror_move(reterr, &refusal);
        return -EACCES;
}

bool caller_has_scope(const Caller *c, const char *scope) {
        const TokenCaller *t = (const TokenCaller *) c;

        return c->vtable != &vtable || (t->token && strv_contains(t->token->scopes, scope));
}

const char *caller_token_id(const Caller *c) {
        const TokenCaller *t = (const TokenCaller *) c;

        return c->vtable == &vtable && t->token ? t->token->id : NULL;
}

uint64_t caller_token_expires_at(const Caller *c) {
        const TokenCaller *t = (const TokenCaller *) c;

        return c->vtable == &vtable && t->token ? t->token->expires_at : 0;
}
