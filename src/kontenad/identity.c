/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "identity.h"

#include <ctype.h>
#include <sodium.h>
#include <uthash.h>

#include "file-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define TOKEN_BYTES   32U
#define REFRESH_BYTES 64U
#define CODE_BYTES    6U
#define PRUNE_USEC    (600U * USEC_PER_SEC)
#define TOUCH_USEC    (60U * USEC_PER_SEC)
#define USES_USEC     USEC_PER_SEC
#define USES_MAX      256U
#define NO_SUCH_CODE  "There is no such code: it was used, has expired, or never was."
#define NO_SUCH_TOKEN "There is no such refresh token: it was used, has expired, or never was."

typedef struct Use {
        char *token_id;
        uint64_t at;
        UT_hash_handle hh;
} Use;

struct Identity {
        Master *master;
        sd_event_source *prune;
        sd_event_source *write_uses; /* armed while there are some */
        Use *uses;
        uint64_t credit; /* wrong codes that may still come, in millionths */
        uint64_t credited_at;
};

/* Names */

bool user_role_is_valid(const char *role) {
        return STR_IN_SET(strempty(role), ROLE_MASTER_ADMIN, ROLE_USER_ADMIN, ROLE_GRID_ADMIN);
}

bool user_has_role(const UserRow *row, const char *role) {
        if (!row)
                return false;
        return streq(row->email, EMAIL_ADMIN) || strv_contains(row->roles, ROLE_MASTER_ADMIN) ||
               strv_contains(row->roles, role);
}

int email_normalize(const char *s, char **ret, KError *reterr) {
        _cleanup_free_ char *lower = NULL;
        const char *at;

        lower = strdup(strempty(s));
        if (!lower)
                return -ENOMEM;
        for (char *p = lower; *p; p++)
                *p = (char) tolower((unsigned char) *p);

        if (!streq(lower, EMAIL_ADMIN)) {
                at = strrchr(lower, '@');
                if (!at || at == lower || !strchr(at, '.') || at[1] == '.' || endswith(lower, ".") ||
                                strlen(lower) > EMAIL_LENGTH_MAX || strpbrk(lower, " /\\\"<>,;") ||
                                !string_is_printable(lower))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an e-mail address.",
                                        strempty(s));
        }

        *ret = TAKE_PTR(lower);
        return 0;
}

int random_hex(size_t bytes, char **ret) {
        uint8_t random[REFRESH_BYTES];

        assert(bytes <= sizeof(random));
        randombytes_buf(random, bytes);
        *ret = hexmem(random, bytes);
        sodium_memzero(random, sizeof(random));
        return *ret ? 0 : -ENOMEM;
}

/* Tokens */

void issued_token_done(IssuedToken *t) {
        erase_and_freep(&t->token);
        erase_and_freep(&t->refresh);
        token_row_free(t->row);
        *t = (IssuedToken){};
}

/* Of something so short that four of its characters would be much of it, none are kept. */
static char *last_four(const char *s) {
        size_t n = strlen(s);

        return strdup(n >= 8 ? s + n - 4 : "");
}

bool token_is_expired(const TokenRow *row) {
        return row->expires_at > 0 && row->expires_at <= now_realtime();
}

static int fill_bearer(Master *m, IssuedToken *t) {
        TokenRow *row = t->row;
        int r;

        r = random_hex(TOKEN_BYTES, &t->token);
        if (r < 0)
                return r;
        if (row->expires_at == 0)
                return 0;

        row->ends_at = now_realtime() + TOKEN_REFRESH_USEC;
        row->ends_at = MAX(row->ends_at, row->expires_at);
        r = random_hex(REFRESH_BYTES, &t->refresh);
        if (r < 0)
                return r;
        keyring_hash_token(m->keyring, t->refresh, row->refresh_hash);
        row->refresh_last_four = last_four(t->refresh);
        return row->refresh_last_four ? 0 : -ENOMEM;
}

static int fill_code(IssuedToken *t, const TokenOrder *order) {
        uint64_t end = now_realtime() + order->code_lifetime;

        t->row->ends_at = t->row->expires_at > 0 ? MIN(t->row->expires_at, end) : end;
        if (!order->code)
                return random_hex(CODE_BYTES, &t->token);
        t->token = strdup(order->code);
        return t->token ? 0 : -ENOMEM;
}

int identity_issue(
                Master *m, const UserRow *user, const TokenOrder *order, IssuedToken *ret, KError *reterr) {
        _cleanup_(issued_token_done) IssuedToken t = {};
        uint64_t n;
        int r;

        r = store_count_tokens(m->store, user->id, &n);
        if (r < 0)
                return r;
        if (n >= TOKENS_PER_USER_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "'%s' has %u tokens, more are not possible: remove some.", user->email,
                                TOKENS_PER_USER_MAX);

        t.row = new0(TokenRow, 1);
        if (!t.row)
                return -ENOMEM;
        t.row->id = store_new_id();
        t.row->user_id = strdup(user->id);
        t.row->kind = order->kind;
        t.row->scopes = strv_copy(order->scopes);
        t.row->description = isempty(order->description) ? NULL : strdup(order->description);
        t.row->expires_at = order->expires_at;
        t.row->created_at = now_realtime();
        if (!t.row->id || !t.row->user_id || !t.row->scopes ||
                        (!isempty(order->description) && !t.row->description))
                return -ENOMEM;

        r = order->kind == TOKEN_BEARER ? fill_bearer(m, &t) : fill_code(&t, order);
        if (r < 0)
                return r;
        keyring_hash_token(m->keyring, t.token, t.row->token_hash);
        t.row->last_four = last_four(t.token);
        if (!t.row->last_four)
                return -ENOMEM;
        r = store_put_token(m->store, t.row);
        if (r < 0)
                return r;

        *ret = t;
        t = (IssuedToken){};
        return 0;
}

/* Codes can be guessed, if slowly; tokens cannot. Whoever floods us with wrong codes keeps others from logging in, but not those
 * who have. */

static void refill(Identity *i) {
        uint64_t now = now_monotonic();

        i->credit += MIN(now - i->credited_at, 3600 * USEC_PER_SEC) * WRONG_CODES_PER_SECOND;
        i->credit = MIN(i->credit, WRONG_CODES_BURST * USEC_PER_SEC);
        i->credited_at = now;
}

static int check_credit(Identity *i, KError *reterr) {
        if (!i)
                return 0;
        refill(i);
        if (i->credit < USEC_PER_SEC)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Too many wrong codes have come; try again later.");
        return 0;
}

static void take_credit(Identity *i) {
        if (i)
                i->credit -= MIN(i->credit, USEC_PER_SEC);
}

/* The row is gone with the transaction that issues the other: whoever comes second finds none. */
static int exchange(Master *m, TokenRow *old, uint64_t expires_at, IssuedToken *ret, UserRow **ret_user,
                KError *reterr) {
        _cleanup_(user_row_freep) UserRow *user = NULL;
        int r;

        r = store_get_user(m->store, old->user_id, &user);
        if (r >= 0)
                r = store_delete_token(m->store, old->id);
        if (r >= 0)
                r = identity_issue(m, user,
                                &(TokenOrder){ .kind = TOKEN_BEARER,
                                                .scopes = old->scopes,
                                                .description = old->description,
                                                .expires_at = expires_at },
                                ret, reterr);
        if (r < 0)
                return r;

        *ret_user = TAKE_PTR(user);
        return 0;
}

int identity_exchange_code(
                Master *m, const char *code, IssuedToken *ret, UserRow **ret_user, KError *reterr) {
        _cleanup_(token_row_freep) TokenRow *old = NULL;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r;

        r = check_credit(m->identity, reterr);
        if (r < 0)
                return r;
        if (isempty(code) || strlen(code) > TOKEN_LENGTH_MAX)
                r = -ENOENT;
        else {
                keyring_hash_token(m->keyring, code, hash);
                r = store_find_token(m->store, TOKEN_CODE, hash, &old);
        }
        if (r >= 0 && (!keyring_hash_equal(hash, old->token_hash) || old->ends_at <= now_realtime()))
                r = -ENOENT;
        if (r == -ENOENT) {
                take_credit(m->identity);
                return kerror_set(reterr, K_NO_SUCH_TOKEN, "%s", NO_SUCH_CODE);
        }
        if (r < 0)
                return r;

        return exchange(m, old, old->expires_at, ret, ret_user, reterr);
}

int identity_find_invited(Master *m, const char *code, UserRow **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r;

        r = check_credit(m->identity, reterr);
        if (r < 0)
                return r;
        if (isempty(code) || strlen(code) > TOKEN_LENGTH_MAX)
                r = -ENOENT;
        else {
                keyring_hash_token(m->keyring, code, hash);
                r = store_find_user_by_invite(m->store, hash, &row);
        }
        if (r >= 0 && (!keyring_hash_equal(hash, row->invite_hash) ||
                                      row->invite_expires_at <= now_realtime()))
                r = -ENOENT;
        if (r == -ENOENT) {
                take_credit(m->identity);
                return kerror_set(reterr, K_ACCESS_DENIED, "Invalid invite code");
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(row);
        return 0;
}

int identity_refresh(Master *m, const char *refresh, IssuedToken *ret, UserRow **ret_user, KError *reterr) {
        _cleanup_(token_row_freep) TokenRow *old = NULL;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r;

        if (isempty(refresh) || strlen(refresh) > TOKEN_LENGTH_MAX)
                r = -ENOENT;
        else {
                keyring_hash_token(m->keyring, refresh, hash);
                r = store_find_token_by_refresh(m->store, hash, &old);
        }
        if (r >= 0 && (!keyring_hash_equal(hash, old->refresh_hash) || old->ends_at <= now_realtime()))
                r = -ENOENT;
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_TOKEN, "%s", NO_SUCH_TOKEN);
        if (r < 0)
                return r;

        return exchange(m, old, now_realtime() + TOKEN_REFRESHED_SEC * USEC_PER_SEC, ret, ret_user, reterr);
}

int identity_find_bearer(Master *m, const char *bearer, TokenRow **ret) {
        _cleanup_(token_row_freep) TokenRow *row = NULL;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r;

        if (isempty(bearer) || strlen(bearer) > TOKEN_LENGTH_MAX)
                return -ENOENT;
        keyring_hash_token(m->keyring, bearer, hash);
        r = store_find_token(m->store, TOKEN_BEARER, hash, &row);
        if (r < 0)
                return r;
        if (!keyring_hash_equal(hash, row->token_hash) ||
                        (row->ends_at > 0 && row->ends_at <= now_realtime()))
                return -ENOENT;

        *ret = TAKE_PTR(row);
        return 0;
}

/* When tokens were last used. It is nothing that anybody waits for: uses are written together, without waiting for the disk, and nobody is
 * told. */

static void drop_uses(Identity *i) {
        Use *u, *next;

        HASH_ITER(hh, i->uses, u, next) {
                HASH_DEL(i->uses, u);
                free(u->token_id);
                free(u);
        }
}

/* What cannot be written is forgotten: the next use is seen again. */
static void write_uses(Identity *i) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        if (!i->uses)
                return;
        r = store_begin_retold(i->master->store, NULL);
        if (r >= 0) {
                t = i->master->store;
                for (Use *u = i->uses; u && r >= 0; u = u->hh.next)
                        r = store_note_token_use(t, u->token_id, u->at);
        }
        if (r >= 0)
                r = store_commit(TAKE_PTR(t), NULL);
        if (r < 0)
                log_debug_errno(r, "It is not noted when tokens were used: %m");
        drop_uses(i);
}

static int on_write_uses(sd_event_source *source, uint64_t usec, void *userdata) {
        write_uses(userdata);
        return 0;
}

void identity_touch(Master *m, const TokenRow *row) {
        Identity *i = m->identity;
        uint64_t now = now_realtime();
        Use *u;

        if (!i || now - MIN(now, row->used_at) < TOUCH_USEC)
                return;
        HASH_FIND_STR(i->uses, row->id, u);
        if (u || HASH_COUNT(i->uses) >= USES_MAX) /* the next use will do */
                return;
        u = new0(Use, 1);
        if (!u)
                return;
        u->token_id = strdup(row->id);
        if (!u->token_id) {
                free(u);
                return;
        }
        u->at = now;
        if (HASH_COUNT(i->uses) == 0) {
                (void) sd_event_source_set_time_relative(i->write_uses, USES_USEC);
                (void) sd_event_source_set_enabled(i->write_uses, SD_EVENT_ONESHOT);
        }
        HASH_ADD_KEYPTR(hh, i->uses, u->token_id, strlen(u->token_id), u);
        if (!u->hh.tbl) {
                free(u->token_id);
                free(u);
        }
}

/* The first administrator */

static int get_admin(Master *m, UserRow **ret) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        int r;

        r = store_find_user(m->store, EMAIL_ADMIN, &row);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == -ENOENT) {
                row = new0(UserRow, 1);
                if (!row)
                        return -ENOMEM;
                row->id = store_new_id();
                row->email = strdup(EMAIL_ADMIN);
                row->name = strdup(EMAIL_ADMIN);
                row->created_at = now_realtime();
                if (!row->id || !row->email || !row->name)
                        return -ENOMEM;
        }
        if (!strv_contains(row->roles, ROLE_MASTER_ADMIN)) {
                r = strv_extend(&row->roles, ROLE_MASTER_ADMIN);
                if (r < 0)
                        return r;
                row->updated_at = now_realtime();
                r = store_put_user(m->store, row);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(row);
        return 0;
}

int identity_admin_code(Master *m, const char *code, IssuedToken *ret, KError *reterr) {
        static const char *const scopes[] = { SCOPE_USER, SCOPE_OWNER, NULL };
        _cleanup_(user_row_freep) UserRow *admin = NULL;
        int r;

        r = get_admin(m, &admin);
        if (r >= 0)
                r = store_delete_codes(m->store, admin->id);
        if (r < 0)
                return r;
        return identity_issue(m, admin,
                        &(TokenOrder){ .kind = TOKEN_CODE,
                                        .scopes = (char *const *) scopes,
                                        .description = "first login",
                                        .code_lifetime = CODE_LIFETIME_USEC,
                                        .code = code },
                        ret, reterr);
}

/* Pruning */

static int on_prune(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        Identity *i = userdata;
        int r, n = 0;

        r = store_begin(i->master->store, NULL);
        if (r >= 0) {
                t = i->master->store;
                r = n = store_prune_tokens(t, now_realtime(), TOKENS_PRUNED_AT_ONCE);
        }
        if (r >= 0)
                r = store_commit(TAKE_PTR(t), NULL);
        if (r < 0)
                log_debug_errno(r, "Expired tokens are not removed: %m");

        r = sd_event_source_set_time_relative(
                        source, n >= (int) TOKENS_PRUNED_AT_ONCE ? USEC_PER_SEC : PRUNE_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int identity_new(Master *m, Identity **ret) {
        _cleanup_(identity_freep) Identity *i = NULL;
        int r;

        i = new0(Identity, 1);
        if (!i)
                return -ENOMEM;
        i->master = m;
        i->credit = WRONG_CODES_BURST * USEC_PER_SEC;
        i->credited_at = now_monotonic();
        r = sd_event_add_time_relative(m->event, &i->prune, CLOCK_MONOTONIC, PRUNE_USEC, 0, on_prune, i);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                m->event, &i->write_uses, CLOCK_MONOTONIC, USES_USEC, 0, on_write_uses, i);
        if (r >= 0)
                r = sd_event_source_set_enabled(i->write_uses, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(i);
        return 0;
}

Identity *identity_free(Identity *i) {
        if (!i)
                return NULL;

        sd_event_source_disable_unref(i->prune);
        sd_event_source_disable_unref(i->write_uses);
        if (!store_in_transaction(i->master->store))
                write_uses(i);
        drop_uses(i);
        free(i);
        return NULL;
}
