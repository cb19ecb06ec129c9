/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"
#include "string-util.h"

static const char *const service_state_table[_SERVICE_STATE_MAX] = {
        [SERVICE_INITIALIZED] = "initialized",
        [SERVICE_RUNNING] = "running",
        [SERVICE_STOPPED] = "stopped",
};
DEFINE_STRING_TABLE_LOOKUP(service_state, ServiceState);

static const Column columns[] = {
        COLUMN(ServiceRow, id, COLUMN_TEXT),
        COLUMN(ServiceRow, grid_id, COLUMN_TEXT),
        COLUMN(ServiceRow, stack, COLUMN_TEXT),
        COLUMN(ServiceRow, name, COLUMN_TEXT),
        COLUMN_NAMES(ServiceRow, state, service_state_table),
        COLUMN(ServiceRow, revision, COLUMN_U64),
        COLUMN(ServiceRow, revision_last, COLUMN_U64),
        COLUMN(ServiceRow, deploy_rev, COLUMN_U64),
        COLUMN(ServiceRow, spec, COLUMN_JSON),
        COLUMN(ServiceRow, created_at, COLUMN_U64),
        COLUMN(ServiceRow, updated_at, COLUMN_U64),
        COLUMN(ServiceRow, deployed_at, COLUMN_U64),
        COLUMN(ServiceRow, next_run_at, COLUMN_U64),
};

const Table service_table = {
        .kind = STORE_SERVICE,
        .name = "services",
        .grid_scoped = true,
        .row_size = sizeof(ServiceRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

STORE_DEFINE_ROW(ServiceRow, service);

int store_put_service(Store *s, const ServiceRow *row) {
        ServiceRow copy = *row;
        int r;

        copy.revision_last = MAX(row->revision_last, row->revision);
        r = store_put(s, &service_table, &copy);
        return MIN(r, 0);
}

int store_delete_service(Store *s, const char *id) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        uint64_t left;
        int r;

        r = store_get_service(s, id, &row);
        if (r < 0)
                return r;

        r = store_number(s, &left,
                        "SELECT count(*) FROM instances WHERE service_id = ? AND desired <> 'terminated'",
                        "s", id);
        if (r < 0)
                return r;
        if (left > 0)
                return -EBUSY;

        r = store_run(s, "DELETE FROM revisions WHERE service_id = ?", "s", id);
        if (r >= 0)
                r = store_run(s, "DELETE FROM runs WHERE service_id = ?", "s", id);
        if (r >= 0)
                r = store_run(s, "DELETE FROM hooks_done WHERE service_id = ?", "s", id);
        if (r < 0)
                return r;

        return store_delete(s, &service_table, id, row->grid_id);
}

int store_find_service(
                Store *s, const char *grid_id, const char *stack, const char *name, ServiceRow **ret) {
        return store_select_one(s, &service_table, (void **) ret,
                        "WHERE grid_id = ? AND stack = ? AND name = ?", "sss", grid_id, stack, name);
}

int store_list_service_ids(Store *s, const char *grid_id, const char *stack, char ***ret) {
        if (!stack)
                return store_select_ids(s, ret,
                                "SELECT id FROM services WHERE grid_id = ? ORDER BY created_at DESC, id "
                                "DESC",
                                "s", grid_id);

        return store_select_ids(s, ret,
                        "SELECT id FROM services WHERE grid_id = ? AND stack = ? ORDER BY created_at DESC, "
                        "id DESC",
                        "ss", grid_id, stack);
}

int store_list_services(Store *s, const char *grid_id, ServiceRowList *ret) {
        if (!grid_id)
                return STORE_LIST(s, &service_table, ret, "ORDER BY grid_id, stack, name", "");

        return STORE_LIST(s, &service_table, ret, "WHERE grid_id = ? ORDER BY stack, name", "s", grid_id);
}

int store_list_scheduled_services(Store *s, ServiceRowList *ret) {
        return STORE_LIST(s, &service_table, ret, "WHERE next_run_at > 0 ORDER BY next_run_at, id", "");
}

void service_summary_done(ServiceSummary *s) {
        free(s->error);
        free(s->waiting);
        *s = (ServiceSummary){};
}

int store_summarize_service(Store *s, const char *service_id, ServiceSummary *ret) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        uint64_t deploying;
        ServiceSummary summary = {};
        int r, rc;

        r = store_number(s, &deploying,
                        "SELECT EXISTS (SELECT 1 FROM deploys WHERE service_id = ? AND state IN ('created', "
                        "'ongoing'))",
                        "s", service_id);
        if (r < 0)
                return r;

        r = store_prepare(s,
                        /* What a node that is away had last said is no news of now. The old container serves while
                         * the image of the next is fetched. */
                        "SELECT i.number, n.connected AND "
                        "(i.state = 'running' OR (i.pid > 0 AND i.state IN ('pending', 'pulling'))), "
                        "i.error, i.restarts, CASE WHEN n.connected AND i.state = 'starting' THEN "
                        "i.progress END "
                        "FROM instances i LEFT JOIN nodes n ON n.id = i.node_id "
                        "WHERE i.service_id = ? AND i.desired <> 'terminated' AND i.role = 'current' "
                        "ORDER BY i.number",
                        &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, service_id, -1, SQLITE_TRANSIENT);
        while (rc == SQLITE_OK || rc == SQLITE_ROW) {
                const char *error, *waiting;

                rc = sqlite3_step(stmt);
                if (rc != SQLITE_ROW)
                        break;
                summary.instances++;
                if (sqlite3_column_int(stmt, 1))
                        summary.running++;
                error = (const char *) sqlite3_column_text(stmt, 2);
                if (error && !summary.error) {
                        summary.error = strdup(error);
                        summary.error_number = (uint32_t) sqlite3_column_int(stmt, 0);
                        summary.error_restarts = (uint64_t) sqlite3_column_int64(stmt, 3);
                }
                waiting = (const char *) sqlite3_column_text(stmt, 4);
                if (waiting && !summary.waiting) {
                        summary.waiting = strdup(waiting);
                        summary.waiting_number = (uint32_t) sqlite3_column_int(stmt, 0);
                }
        }
        if (rc != SQLITE_DONE) {
                service_summary_done(&summary);
                return store_error(s, rc);
        }

        summary.deploying = deploying;
        *ret = summary;
        return 0;
}
