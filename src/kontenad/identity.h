/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Who may log in, and what they log in with. Of tokens, codes and invitations the store has keyed hashes and the last four
 * characters; what is plain lives in an IssuedToken until it was answered. Functions that change something want a transaction. */
typedef struct Identity Identity;

/* m->identity; removes what has expired from time to time. */
int identity_new(Master *m, Identity **ret);
Identity *identity_free(Identity *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(Identity *, identity_free);

/* The first administrator, when there is no user yet. */
int identity_start(Master *m, KError *reterr);

#define EMAIL_ADMIN       "admin" /* the one that is there from the start */
#define ROLE_MASTER_ADMIN "master_admin"
#define ROLE_USER_ADMIN   "user_admin"
#define ROLE_GRID_ADMIN   "grid_admin"
#define SCOPE_USER        "user"
#define SCOPE_OWNER       "owner"

bool user_role_is_valid(const char *role);
/* master_admin has all; row NULL: nobody, has none. */
bool user_has_role(const UserRow *row, const char *role);
/* In lower case, or K_INVALID_ARGUMENT. "admin" is one. */
int email_normalize(const char *s, char **ret, KError *reterr);

typedef struct TokenOrder {
        TokenKind kind;
        char *const *scopes;
        const char *description; /* NULL: none */
        uint64_t expires_at;     /* 0: never */
        uint64_t code_lifetime;  /* of a code: how long it can be exchanged */
        const char *code;        /* NULL: a random one */
} TokenOrder;

typedef struct IssuedToken {
        TokenRow *row;
        char *token;   /* or code */
        char *refresh; /* NULL: none */
} IssuedToken;
void issued_token_done(IssuedToken *t); /* erases */

int identity_issue(
                Master *m, const UserRow *user, const TokenOrder *order, IssuedToken *ret, KError *reterr);

/* Use up a code, or a refresh token with the token it is for. K_NO_SUCH_TOKEN says nothing about why; K_LIMIT_EXCEEDED: too many
 * wrong codes of late. Of two that come with the same one, the first gets the token. */
int identity_exchange_code(
                Master *m, const char *code, IssuedToken *ret, UserRow **ret_user, KError *reterr);
int identity_refresh(Master *m, const char *refresh, IssuedToken *ret, UserRow **ret_user, KError *reterr);

/* Whom a code invites. K_ACCESS_DENIED; K_LIMIT_EXCEEDED as above. */
int identity_find_invited(Master *m, const char *code, UserRow **ret, KError *reterr);

/* -ENOENT. One that has expired is found until its time to be refreshed is over. */
int identity_find_bearer(Master *m, const char *bearer, TokenRow **ret);
bool token_is_expired(const TokenRow *row);
/* Notes the use, at most once a minute, some time later. */
void identity_touch(Master *m, const TokenRow *row);

/* A code of six random bytes for "admin", which is made when it is not there and is master_admin again when it no longer was; the codes it
 * had before are void. code NULL: a random one. */
int identity_admin_code(Master *m, const char *code, IssuedToken *ret, KError *reterr);

int random_hex(size_t bytes, char **ret); /* erase it */

/* identity-render.c: as operations show them. plain NULL: without what is secret. */
int render_user(Master *m, const UserRow *row, json_object **ret);
int render_users(Master *m, const UserRowList *l, json_object **ret); /* {users: […]} */
int render_token(Master *m, const TokenRow *row, const UserRow *user, const IssuedToken *plain,
                json_object **ret);
