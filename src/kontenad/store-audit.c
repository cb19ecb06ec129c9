/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"

static const Column columns[] = {
        COLUMN(AuditRow, id, COLUMN_U64),
        COLUMN(AuditRow, time, COLUMN_U64),
        COLUMN(AuditRow, grid, COLUMN_TEXT),
        COLUMN(AuditRow, uid, COLUMN_I64),
        COLUMN(AuditRow, user, COLUMN_TEXT),
        COLUMN(AuditRow, operation, COLUMN_TEXT),
        COLUMN(AuditRow, status, COLUMN_TEXT),
        COLUMN(AuditRow, record, COLUMN_TEXT),
        { .name = "hash",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(AuditRow, hash),
                        .size_offset = offsetof(AuditRow, hash_size) },
};

const Table audit_table = {
        .kind = _STORE_KIND_MAX, /* nobody watches it */
        .name = "audit",
        .row_size = sizeof(AuditRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

AuditRow *audit_row_free(AuditRow *row) {
        return row_free(&audit_table, row);
}

void audit_row_list_done(AuditRowList *l) {
        row_list_done(&audit_table, (void ***) &l->rows, &l->n);
}

int store_add_audit(Store *s, const AuditRow *row) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        int r, rc;

        assert(store_in_transaction(s));

        r = store_prepare(s,
                        "INSERT INTO audit (id, time, grid, uid, operation, status, record, hash, user) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_int64(stmt, 1, (sqlite3_int64) row->id);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(stmt, 2, (sqlite3_int64) row->time);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(stmt, 3, row->grid, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(stmt, 4, row->uid);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(stmt, 5, row->operation, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(stmt, 6, row->status, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(stmt, 7, row->record, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_blob(stmt, 8, row->hash, (int) row->hash_size, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(stmt, 9, row->user, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);

        return rc == SQLITE_DONE ? 0 : store_error(s, rc);
}

int store_last_audit(Store *s, AuditRow **ret) {
        return store_select_one(s, &audit_table, (void **) ret, "ORDER BY id DESC LIMIT 1", "");
}

int store_find_audit(Store *s, uint64_t up_to, AuditRow **ret) {
        return store_select_one(s, &audit_table, (void **) ret, "WHERE id <= ? ORDER BY id DESC LIMIT 1",
                        "u", up_to);
}

/* A search is answered by the index alone; what came behind an id, which is not much, and the newest are looked at as they are. */
#define AUDIT(table)                                                                                        \
        "WHERE id IN (SELECT id FROM " table " WHERE (?1 IS NULL OR grid = ?1) AND (?2 < 0 OR uid = ?2) "   \
        "AND (?3 IS NULL OR operation = ?3 OR (operation > ?3 || '.' AND operation < ?3 || '/')) "          \
        "AND (?4 = 0 OR status = 'denied') AND time >= ?5 AND (?6 = 0 OR time < ?6) AND id > ?7 "           \
        "AND (?8 = 0 OR id < ?8) "

#define AUDIT_OF_USER AUDIT("audit INDEXED BY audit_user") "AND user = ?10 AND user != '' "

int store_list_audit(Store *s, const AuditFilter *f, AuditRowList *ret) {
        static const char *const by[] = {
                AUDIT("audit NOT INDEXED") "ORDER BY id DESC LIMIT ?9) ORDER BY id",
                AUDIT("audit INDEXED BY audit_search") "ORDER BY id DESC LIMIT ?9) ORDER BY id",
                AUDIT("audit NOT INDEXED") "ORDER BY id LIMIT ?9) ORDER BY id",
        };
        static const char *const by_user[] = {
                AUDIT_OF_USER "ORDER BY id DESC LIMIT ?9) ORDER BY id",
                AUDIT_OF_USER "ORDER BY id LIMIT ?9) ORDER BY id",
        };
        bool search = f->grid || f->operation || f->uid >= 0 || f->refused || f->since > 0 || f->until > 0;

        if (f->user)
                return STORE_LIST(s, &audit_table, ret, by_user[f->after_id > 0], "sisuuuuuus", f->grid,
                                f->uid, f->operation, (uint64_t) f->refused, f->since, f->until, f->after_id,
                                f->before_id, (uint64_t) f->limit, f->user);
        return STORE_LIST(s, &audit_table, ret, by[f->after_id > 0 ? 2 : search], "sisuuuuuu", f->grid,
                        f->uid, f->operation, (uint64_t) f->refused, f->since, f->until, f->after_id,
                        f->before_id, (uint64_t) f->limit);
}

int store_next_audit(Store *s, uint64_t after_id, uint32_t limit, AuditRowList *ret) {
        return STORE_LIST(s, &audit_table, ret, "WHERE id > ? ORDER BY id LIMIT ?", "uu", after_id,
                        (uint64_t) limit);
}

int store_prune_audit(Store *s, uint64_t up_to) {
        int r = store_run(s, "DELETE FROM audit WHERE id <= ?", "u", up_to);

        return MIN(r, 0);
}

int store_count_audit(Store *s, uint64_t up_to, uint64_t *ret) {
        return store_number(s, ret, "SELECT count(*) FROM audit WHERE id <= ?", "u", up_to);
}
