/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"

static const Column columns[] = {
        COLUMN(GridRow, id, COLUMN_TEXT),
        COLUMN(GridRow, name, COLUMN_TEXT),
        COLUMN(GridRow, subnet, COLUMN_TEXT),
        COLUMN(GridRow, supernet, COLUMN_TEXT),
        COLUMN(GridRow, trusted_subnets, COLUMN_STRV),
        COLUMN(GridRow, default_affinity, COLUMN_STRV),
        COLUMN(GridRow, initial_size, COLUMN_U32),
        COLUMN(GridRow, token_id, COLUMN_TEXT),
        COLUMN(GridRow, token_hash, COLUMN_HASH),
        { .name = "token_sealed",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(GridRow, token_sealed),
                        .size_offset = offsetof(GridRow, token_sealed_size) },
        COLUMN(GridRow, revision, COLUMN_U64),
        COLUMN(GridRow, created_at, COLUMN_U64),
        COLUMN(GridRow, updated_at, COLUMN_U64),
};

const Table grid_table = {
        .kind = STORE_GRID,
        .name = "grids",
        .row_size = sizeof(GridRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

STORE_DEFINE_ROW(GridRow, grid);

int store_put_grid(Store *s, const GridRow *row) {
        int r = store_put(s, &grid_table, row);

        return MIN(r, 0);
}

int store_delete_grid(Store *s, const char *id) {
        uint64_t left;
        int r;

        r = store_number(s, &left,
                        "SELECT EXISTS (SELECT 1 FROM nodes WHERE grid_id = ?1) OR "
                        "EXISTS (SELECT 1 FROM services WHERE grid_id = ?1)",
                        "s", id);
        if (r < 0)
                return r;
        if (left > 0)
                return -EBUSY;

        /* What is left of services and nodes that are gone. Events and audit stay. */
        r = store_run(s,
                        "DELETE FROM deploys WHERE grid_id = ?1 AND service_id NOT IN (SELECT id FROM "
                        "services)",
                        "s", id);
        if (r < 0)
                return r;
        r = store_run(s,
                        "DELETE FROM instances WHERE grid_id = ? AND desired = 'terminated' AND node_id IS "
                        "NULL",
                        "s", id);
        if (r >= 0)
                r = store_run(s, "DELETE FROM volumes WHERE grid_id = ?", "s", id);
        if (r >= 0)
                r = store_run(s, "DELETE FROM secrets WHERE grid_id = ?", "s", id);
        if (r >= 0)
                r = store_run(s, "DELETE FROM registries WHERE grid_id = ?", "s", id);
        if (r < 0)
                return r;

        return store_delete(s, &grid_table, id, id);
}

int store_find_grid(Store *s, const char *name, GridRow **ret) {
        return store_select_one(s, &grid_table, (void **) ret, "WHERE name = ?", "s", name);
}

int store_find_grid_by_token_id(Store *s, const char *token_id, GridRow **ret) {
        return store_select_one(s, &grid_table, (void **) ret, "WHERE token_id = ?", "s", token_id);
}

int store_list_grids(Store *s, GridRowList *ret) {
        return STORE_LIST(s, &grid_table, ret, "ORDER BY name", "");
}

int store_summarize_grid(Store *s, const char *grid_id, GridSummary *ret) {
        uint64_t nodes, online, services;
        int r;

        r = store_number(s, &nodes, "SELECT count(*) FROM nodes WHERE grid_id = ?", "s", grid_id);
        if (r < 0)
                return r;
        r = store_number(s, &online,
                        "SELECT count(*) FROM nodes WHERE grid_id = ? AND connected AND report IS NOT NULL",
                        "s", grid_id);
        if (r < 0)
                return r;
        r = store_number(s, &services, "SELECT count(*) FROM services WHERE grid_id = ?", "s", grid_id);
        if (r < 0)
                return r;

        *ret = (GridSummary){ (uint32_t) nodes, (uint32_t) online, (uint32_t) services };
        return 0;
}
