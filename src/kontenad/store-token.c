/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"
#include "string-util.h"

static const char *const token_kind_table[_TOKEN_KIND_MAX] = {
        [TOKEN_BEARER] = "bearer",
        [TOKEN_CODE] = "code",
};
DEFINE_STRING_TABLE_LOOKUP(token_kind, TokenKind);

static const Column token_columns[] = {
        COLUMN(TokenRow, id, COLUMN_TEXT),
        COLUMN(TokenRow, user_id, COLUMN_TEXT),
        COLUMN_NAMES(TokenRow, kind, token_kind_table),
        COLUMN(TokenRow, token_hash, COLUMN_HASH),
        COLUMN(TokenRow, refresh_hash, COLUMN_HASH),
        COLUMN(TokenRow, last_four, COLUMN_TEXT),
        COLUMN(TokenRow, refresh_last_four, COLUMN_TEXT),
        COLUMN(TokenRow, scopes, COLUMN_STRV),
        COLUMN(TokenRow, description, COLUMN_TEXT),
        COLUMN(TokenRow, expires_at, COLUMN_U64),
        COLUMN(TokenRow, ends_at, COLUMN_U64),
        COLUMN(TokenRow, created_at, COLUMN_U64),
        COLUMN(TokenRow, used_at, COLUMN_U64),
};

const Table token_table = {
        .kind = STORE_TOKEN,
        .name = "tokens",
        .row_size = sizeof(TokenRow),
        .columns = token_columns,
        .n_columns = ELEMENTSOF(token_columns),
};

STORE_DEFINE_ROW(TokenRow, token);

int store_put_token(Store *s, const TokenRow *row) {
        int r = store_put(s, &token_table, row);

        return MIN(r, 0);
}

int store_delete_token(Store *s, const char *id) {
        return store_delete(s, &token_table, id, id);
}

/* Nobody is told: whether a token is good does not depend on it. */
int store_note_token_use(Store *s, const char *id, uint64_t at) {
        int r = store_run(
                        s, "UPDATE tokens SET used_at = ? WHERE id = ? AND used_at < ?", "usu", at, id, at);

        return MIN(r, 0);
}

int store_find_token(Store *s, TokenKind kind, const uint8_t hash[static 32], TokenRow **ret) {
        return store_select_one(s, &token_table, (void **) ret, "WHERE token_hash = ? AND kind = ?", "hs",
                        hash, token_kind_to_string(kind));
}

int store_find_token_by_refresh(Store *s, const uint8_t hash[static 32], TokenRow **ret) {
        return store_select_one(s, &token_table, (void **) ret,
                        "WHERE refresh_hash = ? AND refresh_hash <> zeroblob(32)", "h", hash);
}

int store_list_tokens(Store *s, const char *user_id, TokenRowList *ret) {
        return STORE_LIST(s, &token_table, ret, "WHERE user_id = ? ORDER BY created_at, id", "s", user_id);
}

int store_count_tokens(Store *s, const char *user_id, uint64_t *ret) {
        return store_number(s, ret, "SELECT count(*) FROM tokens WHERE user_id = ?", "s", user_id);
}

static int delete_all(Store *s, const TokenRowList *l) {
        int r;

        FOREACH_ARRAY(t, l->rows, l->n) {
                r = store_delete_token(s, (*t)->id);
                if (r < 0)
                        return r;
        }
        return 0;
}

int store_delete_codes(Store *s, const char *user_id) {
        _cleanup_(token_row_list_done) TokenRowList l = {};
        int r;

        r = STORE_LIST(s, &token_table, &l, "WHERE user_id = ? AND kind = 'code'", "s", user_id);
        return r < 0 ? r : delete_all(s, &l);
}

int store_prune_tokens(Store *s, uint64_t now, uint32_t limit) {
        _cleanup_(token_row_list_done) TokenRowList l = {};
        int r;

        r = STORE_LIST(s, &token_table, &l, "WHERE ends_at > 0 AND ends_at <= ? LIMIT ?", "uu", now,
                        (uint64_t) limit);
        if (r >= 0)
                r = delete_all(s, &l);
        if (r >= 0)
                r = store_run(s, "DELETE FROM login_states WHERE expires_at <= ?", "u", now);
        return r < 0 ? r : (int) l.n;
}

static const Column login_state_columns[] = {
        COLUMN(LoginStateRow, id, COLUMN_TEXT),
        COLUMN(LoginStateRow, state_hash, COLUMN_HASH),
        COLUMN(LoginStateRow, user_id, COLUMN_TEXT),
        COLUMN(LoginStateRow, redirect_uri, COLUMN_TEXT),
        COLUMN(LoginStateRow, invited, COLUMN_BOOL),
        COLUMN(LoginStateRow, lifetime, COLUMN_U64),
        { .name = "verifier",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(LoginStateRow, verifier),
                        .size_offset = offsetof(LoginStateRow, verifier_size) },
        COLUMN(LoginStateRow, created_at, COLUMN_U64),
        COLUMN(LoginStateRow, expires_at, COLUMN_U64),
};

const Table login_state_table = {
        .kind = STORE_LOGIN_STATE,
        .name = "login_states",
        .row_size = sizeof(LoginStateRow),
        .columns = login_state_columns,
        .n_columns = ELEMENTSOF(login_state_columns),
};

STORE_DEFINE_ROW(LoginStateRow, login_state);

int store_put_login_state(Store *s, const LoginStateRow *row) {
        int r = store_put(s, &login_state_table, row);

        return MIN(r, 0);
}

int store_delete_login_state(Store *s, const char *id) {
        return store_delete(s, &login_state_table, id, id);
}

int store_find_login_state(Store *s, const uint8_t hash[static 32], LoginStateRow **ret) {
        return store_select_one(s, &login_state_table, (void **) ret, "WHERE state_hash = ?", "h", hash);
}

int store_count_login_states(Store *s, uint64_t *ret) {
        return store_number(s, ret, "SELECT count(*) FROM login_states", "");
}

int store_drop_oldest_login_state(Store *s) {
        int r = store_run(s,
                        "DELETE FROM login_states WHERE id = "
                        "(SELECT id FROM login_states ORDER BY created_at LIMIT 1)",
                        "");

        return MIN(r, 0);
}
