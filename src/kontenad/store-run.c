/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kontena-limits.h"
#include "store-internal.h"
#include "string-util.h"

static const Column run_columns[] = {
        COLUMN(RunRow, id, COLUMN_TEXT),
        COLUMN(RunRow, grid_id, COLUMN_TEXT),
        COLUMN(RunRow, service_id, COLUMN_TEXT),
        COLUMN(RunRow, number, COLUMN_U64),
        COLUMN(RunRow, trigger, COLUMN_TEXT),
        COLUMN(RunRow, scheduled_at, COLUMN_U64),
        COLUMN(RunRow, state, COLUMN_TEXT),
        COLUMN(RunRow, reason, COLUMN_TEXT),
        COLUMN(RunRow, attempts, COLUMN_U32),
        COLUMN(RunRow, node_id, COLUMN_TEXT),
        COLUMN(RunRow, instance_id, COLUMN_TEXT),
        COLUMN(RunRow, exit_status, COLUMN_I64),
        COLUMN(RunRow, log_tail, COLUMN_TEXT),
        COLUMN(RunRow, created_at, COLUMN_U64),
        COLUMN(RunRow, started_at, COLUMN_U64),
        COLUMN(RunRow, finished_at, COLUMN_U64),
};

const Table run_table = {
        .kind = STORE_RUN,
        .name = "runs",
        .grid_scoped = true,
        .row_size = sizeof(RunRow),
        .columns = run_columns,
        .n_columns = ELEMENTSOF(run_columns),
};

STORE_DEFINE_ROW(RunRow, run);

static int prune(Store *s, const char *service_id) {
        _cleanup_(run_row_list_done) RunRowList old = {};
        int r;

        r = STORE_LIST(s, &run_table, &old,
                        "WHERE service_id = ? AND state NOT IN ('waiting', 'running') "
                        "ORDER BY number DESC LIMIT 1000 OFFSET ?",
                        "su", service_id, (uint64_t) RUNS_KEPT_PER_SERVICE);
        for (size_t i = 0; i < old.n && r >= 0; i++)
                r = store_delete(s, &run_table, old.rows[i]->id, old.rows[i]->grid_id);

        return r;
}

int store_put_run(Store *s, const RunRow *row) {
        int r;

        r = store_put(s, &run_table, row);
        if (r <= 0)
                return r;
        return prune(s, row->service_id);
}

int store_delete_run(Store *s, const char *id) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        int r;

        r = store_get_run(s, id, &row);
        if (r < 0)
                return r;
        return store_delete(s, &run_table, id, row->grid_id);
}

int store_find_run_at(Store *s, const char *service_id, uint64_t scheduled_at, RunRow **ret) {
        return store_select_one(s, &run_table, (void **) ret, "WHERE service_id = ? AND scheduled_at = ?",
                        "su", service_id, scheduled_at);
}

int store_list_runs(Store *s, const char *service_id, uint32_t limit, RunRowList *ret) {
        return STORE_LIST(s, &run_table, ret, "WHERE service_id = ? ORDER BY number DESC LIMIT ?", "su",
                        service_id, (uint64_t) limit);
}

int store_list_unfinished_runs(Store *s, RunRowList *ret) {
        return STORE_LIST(s, &run_table, ret,
                        "WHERE state IN ('waiting', 'running') ORDER BY created_at, rowid", "");
}

int store_put_hook_done(Store *s, const char *service_id, uint32_t number, const char *hook) {
        int r;

        r = store_run(s,
                        "INSERT INTO hooks_done (service_id, number, hook) "
                        "SELECT id, ?2, ?3 FROM services WHERE id = ?1 ON CONFLICT DO NOTHING",
                        "sus", service_id, (uint64_t) number, hook);
        return MIN(r, 0);
}

int store_list_hooks_done(Store *s, const char *service_id, uint32_t number, char ***ret) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        _cleanup_strv_free_ char **l = NULL;
        int r, rc;

        r = store_prepare(s, "SELECT hook FROM hooks_done WHERE service_id = ? AND number = ? ORDER BY hook",
                        &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, service_id, -1, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_int64(stmt, 2, number);
        if (rc != SQLITE_OK)
                return store_error(s, rc);

        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
                const char *hook = (const char *) sqlite3_column_text(stmt, 0);

                r = hook ? strv_extend(&l, hook) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        if (rc != SQLITE_DONE)
                return store_error(s, rc);

        *ret = TAKE_PTR(l);
        return 0;
}
