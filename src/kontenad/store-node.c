/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "store-internal.h"
#include "string-util.h"

static const char *const node_availability_table[_NODE_AVAILABILITY_MAX] = {
        [NODE_ACTIVE] = "active",
        [NODE_DRAIN] = "drain",
};
DEFINE_STRING_TABLE_LOOKUP(node_availability, NodeAvailability);

static const Column columns[] = {
        COLUMN(NodeRow, id, COLUMN_TEXT),
        COLUMN(NodeRow, grid_id, COLUMN_TEXT),
        COLUMN(NodeRow, name, COLUMN_TEXT),
        COLUMN(NodeRow, number, COLUMN_U32),
        COLUMN(NodeRow, node_key, COLUMN_TEXT),
        COLUMN(NodeRow, machine_id, COLUMN_TEXT),
        COLUMN(NodeRow, token_hash, COLUMN_HASH),
        { .name = "token_sealed",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(NodeRow, token_sealed),
                        .size_offset = offsetof(NodeRow, token_sealed_size) },
        COLUMN(NodeRow, labels, COLUMN_STRV),
        COLUMN_NAMES(NodeRow, availability, node_availability_table),
        COLUMN(NodeRow, connected, COLUMN_BOOL),
        COLUMN(NodeRow, connected_at, COLUMN_U64),
        COLUMN(NodeRow, disconnected_at, COLUMN_U64),
        COLUMN(NodeRow, last_seen_at, COLUMN_U64),
        COLUMN(NodeRow, created_at, COLUMN_U64),
        COLUMN(NodeRow, updated_at, COLUMN_U64),
        COLUMN(NodeRow, report, COLUMN_JSON),
        COLUMN(NodeRow, blocks, COLUMN_STRV),
};

const Table node_table = {
        .kind = STORE_NODE,
        .name = "nodes",
        .grid_scoped = true,
        .row_size = sizeof(NodeRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

STORE_DEFINE_ROW(NodeRow, node);

int store_put_node(Store *s, const NodeRow *row) {
        int r = store_put(s, &node_table, row);

        return MIN(r, 0);
}

int store_put_node_seen(
                Store *s, const char *id, const char *grid_id, json_object *report, uint64_t seen_at) {
        const char *text = report ? json_text(report) : NULL;
        int r;

        if (report && !text)
                return -ENOMEM;
        r = store_run(s,
                        "UPDATE nodes SET report = coalesce(?, report), last_seen_at = max(last_seen_at, ?) "
                        "WHERE id = ?",
                        "sus", text, seen_at, id);
        if (r < 0)
                return r;
        return r == 0 ? -ENOENT : store_note_silently(s, STORE_NODE, id, grid_id);
}

int store_delete_node(Store *s, const char *id) {
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        int r;

        r = store_get_node(s, id, &n);
        if (r < 0)
                return r;
        r = store_delete_volume_instances_of_node(s, id);
        if (r < 0)
                return r;
        return store_delete(s, &node_table, id, n->grid_id);
}

int store_find_node(Store *s, const char *grid_id, const char *name, NodeRow **ret) {
        return store_select_one(s, &node_table, (void **) ret, "WHERE grid_id = ? AND name = ?", "ss",
                        grid_id, name);
}

int store_get_node_name(Store *s, const char *id, char **ret) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        int r, rc;

        r = store_prepare(s, "SELECT name FROM nodes WHERE id = ?", &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);
        if (rc == SQLITE_DONE)
                return -ENOENT;
        if (rc != SQLITE_ROW)
                return store_error(s, rc);

        *ret = strdup(strempty((const char *) sqlite3_column_text(stmt, 0)));
        return *ret ? 0 : -ENOMEM;
}

int store_find_node_by_key(Store *s, const char *node_key, NodeRow **ret) {
        return store_select_one(s, &node_table, (void **) ret, "WHERE node_key = ?", "s", node_key);
}

int store_find_node_by_machine_id(Store *s, const char *grid_id, const char *machine_id, NodeRow **ret) {
        return store_select_one(s, &node_table, (void **) ret, "WHERE grid_id = ? AND machine_id = ?", "ss",
                        grid_id, machine_id);
}

int store_list_nodes(Store *s, const char *grid_id, NodeRowList *ret) {
        return STORE_LIST(s, &node_table, ret, "WHERE grid_id = ? ORDER BY number", "s", grid_id);
}

int store_list_node_ids(Store *s, const char *grid_id, char ***ret) {
        return store_select_ids(
                        s, ret, "SELECT id FROM nodes WHERE grid_id = ? ORDER BY name", "s", grid_id);
}

int store_list_nodes_not_trusting(Store *s, const char *digest, NodeRowList *ret) {
        return STORE_LIST(s, &node_table, ret,
                        "WHERE node_key IS NOT NULL AND json_extract(report, '$.authorities') IS NOT ? "
                        "ORDER BY grid_id, number",
                        "s", digest);
}

int store_list_nodes_away(Store *s, const char *grid_id, NodeRowList *ret) {
        return STORE_LIST(s, &node_table, ret, "WHERE grid_id = ? AND connected = 0 ORDER BY number", "s",
                        grid_id);
}

int store_next_node_number(Store *s, const char *grid_id, uint32_t *ret) {
        uint64_t n;
        int r;

        /* 1, or the number behind one that is taken. */
        r = store_number(s, &n,
                        "SELECT min(n) FROM (SELECT 1 AS n UNION SELECT number + 1 FROM nodes WHERE grid_id "
                        "= ?1) "
                        "WHERE n NOT IN (SELECT number FROM nodes WHERE grid_id = ?1)",
                        "s", grid_id);
        if (r < 0)
                return r;
        if (n > NODES_PER_GRID_MAX)
                return -E2BIG;

        *ret = (uint32_t) n;
        return 0;
}
