/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"
#include "string-util.h"

static const Column user_columns[] = {
        COLUMN(UserRow, id, COLUMN_TEXT),
        COLUMN(UserRow, email, COLUMN_TEXT),
        COLUMN(UserRow, name, COLUMN_TEXT),
        COLUMN(UserRow, external_id, COLUMN_TEXT),
        COLUMN(UserRow, roles, COLUMN_STRV),
        COLUMN(UserRow, invite_hash, COLUMN_HASH),
        COLUMN(UserRow, invite_expires_at, COLUMN_U64),
        COLUMN(UserRow, created_at, COLUMN_U64),
        COLUMN(UserRow, updated_at, COLUMN_U64),
};

const Table user_table = {
        .kind = STORE_USER,
        .name = "users",
        .row_size = sizeof(UserRow),
        .columns = user_columns,
        .n_columns = ELEMENTSOF(user_columns),
};

STORE_DEFINE_ROW(UserRow, user);

int store_put_user(Store *s, const UserRow *row) {
        int r = store_put(s, &user_table, row);

        return MIN(r, 0);
}

/* The database would let the tokens go with it, but who holds one open is to hear of it. */
int store_delete_user(Store *s, const char *id) {
        _cleanup_(token_row_list_done) TokenRowList tokens = {};
        int r;

        r = store_list_tokens(s, id, &tokens);
        if (r < 0)
                return r;
        FOREACH_ARRAY(t, tokens.rows, tokens.n) {
                r = store_delete_token(s, (*t)->id);
                if (r < 0)
                        return r;
        }

        return store_delete(s, &user_table, id, id);
}

int store_find_user(Store *s, const char *email, UserRow **ret) {
        return store_select_one(s, &user_table, (void **) ret, "WHERE email = ?", "s", email);
}

int store_find_user_by_external_id(Store *s, const char *external_id, UserRow **ret) {
        return store_select_one(s, &user_table, (void **) ret, "WHERE external_id = ?", "s", external_id);
}

int store_find_user_by_invite(Store *s, const uint8_t hash[static 32], UserRow **ret) {
        return store_select_one(s, &user_table, (void **) ret,
                        "WHERE invite_hash = ? AND invite_hash <> zeroblob(32)", "h", hash);
}

int store_find_user_by_uid(Store *s, uid_t uid, UserRow **ret) {
        return store_select_one(s, &user_table, (void **) ret,
                        "WHERE id = (SELECT user_id FROM user_uids WHERE uid = ?)", "u", (uint64_t) uid);
}

int store_list_users(Store *s, UserRowList *ret) {
        return STORE_LIST(s, &user_table, ret, "ORDER BY email", "");
}

int store_count_users_with_role(Store *s, const char *role, const char *except_id, uint64_t *ret) {
        return store_number(s, ret,
                        "SELECT count(*) FROM users WHERE id <> ? AND EXISTS "
                        "(SELECT 1 FROM json_each(users.roles) WHERE value = ?)",
                        "ss", except_id, role);
}

int store_forget_external_ids(Store *s) {
        int r = store_run(s, "UPDATE users SET external_id = NULL WHERE external_id IS NOT NULL", "");

        return MIN(r, 0);
}

static int changed(Store *s, const char *user_id) {
        return store_note(s, STORE_USER, STORE_CHANGED, user_id, user_id);
}

int store_put_uid(Store *s, uid_t uid, const char *user_id) {
        uint64_t same = 0;
        int r;

        r = store_number(s, &same, "SELECT user_id = ? FROM user_uids WHERE uid = ?", "su", user_id,
                        (uint64_t) uid);
        if (r >= 0)
                return same ? 0 : -EEXIST;
        if (r != -ENOENT)
                return r;
        r = store_run(s, "INSERT INTO user_uids (uid, user_id) VALUES (?, ?)", "us", (uint64_t) uid,
                        user_id);
        return r < 0 ? r : changed(s, user_id);
}

int store_delete_uid(Store *s, uid_t uid, const char *user_id) {
        int r;

        r = store_run(s, "DELETE FROM user_uids WHERE uid = ? AND user_id = ?", "us", (uint64_t) uid,
                        user_id);
        if (r == 0)
                return -ENOENT;
        return r < 0 ? r : changed(s, user_id);
}

int store_list_uids(Store *s, const char *user_id, char ***ret) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        _cleanup_strv_free_ char **l = NULL;
        int r, rc;

        r = store_prepare(s, "SELECT uid FROM user_uids WHERE user_id = ? ORDER BY uid", &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, user_id, -1, SQLITE_TRANSIENT);
        if (rc != SQLITE_OK)
                return store_error(s, rc);
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
                r = strv_extend(&l, (const char *) sqlite3_column_text(stmt, 0));
                if (r < 0)
                        return r;
        }
        if (rc != SQLITE_DONE)
                return store_error(s, rc);

        *ret = TAKE_PTR(l);
        return 0;
}

int store_add_grid_user(Store *s, const char *grid_id, const char *user_id) {
        int r, n;

        n = store_run(s, "INSERT OR IGNORE INTO grid_users (grid_id, user_id) VALUES (?, ?)", "ss", grid_id,
                        user_id);
        if (n <= 0)
                return n;
        r = changed(s, user_id);
        return r < 0 ? r : 1;
}

int store_remove_grid_user(Store *s, const char *grid_id, const char *user_id) {
        int r;

        r = store_run(s, "DELETE FROM grid_users WHERE grid_id = ? AND user_id = ?", "ss", grid_id, user_id);
        if (r == 0)
                return -ENOENT;
        return r < 0 ? r : changed(s, user_id);
}

int store_is_grid_user(Store *s, const char *grid_id, const char *user_id) {
        uint64_t n = 0;
        int r;

        r = store_number(s, &n, "SELECT count(*) FROM grid_users WHERE grid_id = ? AND user_id = ?", "ss",
                        grid_id, user_id);
        return r < 0 ? r : n > 0;
}

int store_list_grid_users(Store *s, const char *grid_id, UserRowList *ret) {
        return STORE_LIST(s, &user_table, ret,
                        "WHERE id IN (SELECT user_id FROM grid_users WHERE grid_id = ?) ORDER BY email", "s",
                        grid_id);
}

int store_list_user_grids(Store *s, const char *user_id, GridRowList *ret) {
        return STORE_LIST(s, &grid_table, ret,
                        "WHERE id IN (SELECT grid_id FROM grid_users WHERE user_id = ?) ORDER BY name", "s",
                        user_id);
}

static const Column config_columns[] = {
        COLUMN(ConfigRow, id, COLUMN_TEXT),
        COLUMN(ConfigRow, value, COLUMN_TEXT),
        { .name = "sealed",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(ConfigRow, sealed),
                        .size_offset = offsetof(ConfigRow, sealed_size) },
        COLUMN(ConfigRow, updated_at, COLUMN_U64),
};

const Table config_table = {
        .kind = STORE_CONFIG,
        .name = "config",
        .row_size = sizeof(ConfigRow),
        .columns = config_columns,
        .n_columns = ELEMENTSOF(config_columns),
};

STORE_DEFINE_ROW(ConfigRow, config);

int store_put_config(Store *s, const ConfigRow *row) {
        int r = store_put(s, &config_table, row);

        return MIN(r, 0);
}

int store_delete_config(Store *s, const char *id) {
        return store_delete(s, &config_table, id, id);
}

int store_list_config(Store *s, ConfigRowList *ret) {
        return STORE_LIST(s, &config_table, ret, "ORDER BY id", "");
}
