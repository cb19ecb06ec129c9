/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"
#include "string-util.h"

static const char *const instance_desired_table[_INSTANCE_DESIRED_MAX] = {
        [INSTANCE_RUNNING] = "running",
        [INSTANCE_STOPPED] = "stopped",
        [INSTANCE_TERMINATED] = "terminated",
};
DEFINE_STRING_TABLE_LOOKUP(instance_desired, InstanceDesired);

static const char *const instance_role_table[_INSTANCE_ROLE_MAX] = {
        [INSTANCE_CURRENT] = "current",
        [INSTANCE_INCOMING] = "incoming",
        [INSTANCE_OUTGOING] = "outgoing",
};
DEFINE_STRING_TABLE_LOOKUP(instance_role, InstanceRole);

static const Column columns[] = {
        COLUMN(InstanceRow, id, COLUMN_TEXT),
        COLUMN(InstanceRow, grid_id, COLUMN_TEXT),
        COLUMN(InstanceRow, service_id, COLUMN_TEXT),
        COLUMN(InstanceRow, node_id, COLUMN_TEXT),
        COLUMN(InstanceRow, number, COLUMN_U32),
        COLUMN_NAMES(InstanceRow, desired, instance_desired_table),
        COLUMN(InstanceRow, deploy_rev, COLUMN_U64),
        COLUMN(InstanceRow, service_rev, COLUMN_U64),
        COLUMN(InstanceRow, force, COLUMN_BOOL),
        COLUMN(InstanceRow, address, COLUMN_TEXT),
        COLUMN(InstanceRow, spec, COLUMN_JSON),
        COLUMN_NAMES(InstanceRow, role, instance_role_table),
        COLUMN(InstanceRow, slot, COLUMN_TEXT),
        COLUMN(InstanceRow, wanted_digest, COLUMN_TEXT),
        COLUMN(InstanceRow, drain_sec, COLUMN_U32),
        COLUMN(InstanceRow, run_id, COLUMN_TEXT),
        COLUMN(InstanceRow, state, COLUMN_TEXT),
        COLUMN(InstanceRow, progress, COLUMN_TEXT),
        COLUMN(InstanceRow, error_code, COLUMN_TEXT),
        COLUMN(InstanceRow, error, COLUMN_TEXT),
        COLUMN(InstanceRow, unit, COLUMN_TEXT),
        COLUMN(InstanceRow, image_digest, COLUMN_TEXT),
        COLUMN(InstanceRow, health, COLUMN_TEXT),
        COLUMN(InstanceRow, observed_deploy_rev, COLUMN_U64),
        COLUMN(InstanceRow, observed_service_rev, COLUMN_U64),
        COLUMN(InstanceRow, epoch, COLUMN_U64),
        COLUMN(InstanceRow, started_at, COLUMN_U64),
        COLUMN(InstanceRow, status_at, COLUMN_U64),
        COLUMN(InstanceRow, pid, COLUMN_I64),
        COLUMN(InstanceRow, exit_status, COLUMN_I64),
        COLUMN(InstanceRow, restarts, COLUMN_I64),
        COLUMN(InstanceRow, oom_kills, COLUMN_I64),
        COLUMN(InstanceRow, log_tail, COLUMN_TEXT),
        COLUMN(InstanceRow, created_at, COLUMN_U64),
};

const Table instance_table = {
        .kind = STORE_INSTANCE,
        .name = "instances",
        .grid_scoped = true,
        .row_size = sizeof(InstanceRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

STORE_DEFINE_ROW(InstanceRow, instance);

int store_put_instance(Store *s, const InstanceRow *row) {
        int r = store_put(s, &instance_table, row);

        return MIN(r, 0);
}

int store_delete_instance(Store *s, const char *id) {
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        int r;

        r = store_get_instance(s, id, &i);
        if (r < 0)
                return r;
        return store_delete(s, &instance_table, id, i->grid_id);
}

int store_list_instances_of_grid(Store *s, const char *grid_id, InstanceRowList *ret) {
        return STORE_LIST(s, &instance_table, ret,
                        "WHERE grid_id = ? ORDER BY service_id, number, created_at", "s", grid_id);
}

int store_list_instance_ids_of_grid(Store *s, const char *grid_id, char ***ret) {
        return store_select_ids(s, ret, "SELECT id FROM instances WHERE grid_id = ? ORDER BY created_at, id",
                        "s", grid_id);
}

int store_list_instance_ids_of_service(Store *s, const char *service_id, bool by_number, char ***ret) {
        return store_select_ids(s, ret,
                        by_number ? "SELECT id FROM instances WHERE service_id = ? ORDER BY number, "
                                    "created_at"
                                  : "SELECT id FROM instances WHERE service_id = ? ORDER BY created_at, id",
                        "s", service_id);
}

int store_list_instances_of_service(Store *s, const char *service_id, InstanceRowList *ret) {
        return STORE_LIST(s, &instance_table, ret, "WHERE service_id = ? ORDER BY number, created_at", "s",
                        service_id);
}

int store_list_instances_nowhere(Store *s, const char *grid_id, InstanceRowList *ret) {
        return STORE_LIST(s, &instance_table, ret, "WHERE node_id IS NULL AND grid_id = ? ORDER BY id", "s",
                        grid_id);
}

int store_list_instances_of_node(Store *s, const char *node_id, InstanceRowList *ret) {
        return STORE_LIST(s, &instance_table, ret, "WHERE node_id = ? ORDER BY service_id, number", "s",
                        node_id);
}

int store_terminate_instance(Store *s, InstanceRow *row, uint32_t drain_sec) {
        if (!row->node_id)
                return store_delete_instance(s, row->id);

        row->desired = INSTANCE_TERMINATED;
        row->drain_sec = drain_sec;
        return store_put_instance(s, row);
}

int store_count_instances_of_node(Store *s, const char *node_id, uint32_t *ret) {
        uint64_t n;
        int r;

        r = store_number(s, &n,
                        "SELECT count(*) FROM instances WHERE node_id = ? AND desired <> 'terminated'", "s",
                        node_id);
        if (r < 0)
                return r;

        *ret = (uint32_t) n;
        return 0;
}
