/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "kontena-limits.h"
#include "store-internal.h"

static const Column revision_columns[] = {
        COLUMN(RevisionRow, id, COLUMN_TEXT),
        COLUMN(RevisionRow, grid_id, COLUMN_TEXT),
        COLUMN(RevisionRow, service_id, COLUMN_TEXT),
        COLUMN(RevisionRow, revision, COLUMN_U64),
        COLUMN(RevisionRow, spec, COLUMN_JSON),
        COLUMN(RevisionRow, image_digest, COLUMN_TEXT),
        COLUMN(RevisionRow, good, COLUMN_BOOL),
        COLUMN(RevisionRow, author, COLUMN_TEXT),
        COLUMN(RevisionRow, created_at, COLUMN_U64),
        COLUMN(RevisionRow, deployed_at, COLUMN_U64),
};

const Table revision_table = {
        .kind = STORE_REVISION,
        .name = "revisions",
        .grid_scoped = true,
        .row_size = sizeof(RevisionRow),
        .columns = revision_columns,
        .n_columns = ELEMENTSOF(revision_columns),
};

STORE_DEFINE_ROW(RevisionRow, revision);

/* The service's own one, and the one that a rollback would go to, stay however old they are. */
static int prune(Store *s, const char *service_id) {
        _cleanup_(revision_row_list_done) RevisionRowList old = {};
        int r;

        r = STORE_LIST(s, &revision_table, &old,
                        "WHERE service_id = ?1 "
                        "AND revision NOT IN (SELECT revision FROM services WHERE id = ?1) "
                        "AND revision IS NOT (SELECT max(revision) FROM revisions WHERE service_id = ?1 AND "
                        "good) "
                        "ORDER BY revision DESC LIMIT 1000 OFFSET ?2",
                        "su", service_id, (uint64_t) REVISIONS_KEPT - 1);
        for (size_t i = 0; i < old.n && r >= 0; i++)
                r = store_delete(s, &revision_table, old.rows[i]->id, old.rows[i]->grid_id);

        return r;
}

int store_put_revision(Store *s, const RevisionRow *row) {
        int r;

        r = store_put(s, &revision_table, row);
        if (r <= 0)
                return r;
        return prune(s, row->service_id);
}

int store_delete_revision(Store *s, const char *id) {
        _cleanup_(revision_row_freep) RevisionRow *row = NULL;
        int r;

        r = store_get_revision(s, id, &row);
        if (r < 0)
                return r;
        return store_delete(s, &revision_table, id, row->grid_id);
}

int store_find_revision(Store *s, const char *service_id, uint64_t revision, RevisionRow **ret) {
        return store_select_one(s, &revision_table, (void **) ret, "WHERE service_id = ? AND revision = ?",
                        "su", service_id, revision);
}

int store_find_good_revision(Store *s, const char *service_id, uint64_t except, RevisionRow **ret) {
        return store_select_one(s, &revision_table, (void **) ret,
                        "WHERE service_id = ? AND good AND revision <> ? ORDER BY revision DESC LIMIT 1",
                        "su", service_id, except);
}

int store_find_rollback_digest(Store *s, const char *service_id, uint64_t except, char **ret) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        const char *digest;
        int r, rc;

        r = store_prepare(s,
                        "SELECT image_digest FROM revisions WHERE service_id = ? AND good AND revision <> ? "
                        "ORDER BY revision DESC LIMIT 1",
                        &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, service_id, -1, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(stmt, 2, (sqlite3_int64) except);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);
        if (rc != SQLITE_DONE && rc != SQLITE_ROW)
                return store_error(s, rc);
        digest = rc == SQLITE_ROW ? (const char *) sqlite3_column_text(stmt, 0) : NULL;
        if (!digest)
                return 0;

        *ret = strdup(digest);
        return *ret ? 1 : -ENOMEM;
}

int store_list_revisions(Store *s, const char *service_id, RevisionRowList *ret) {
        return STORE_LIST(s, &revision_table, ret, "WHERE service_id = ? ORDER BY revision DESC", "s",
                        service_id);
}
