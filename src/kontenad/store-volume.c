/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"
#include "string-util.h"

static const char *const volume_scope_table[_VOLUME_SCOPE_MAX] = {
        [VOLUME_SCOPE_INSTANCE] = "instance",
        [VOLUME_SCOPE_STACK] = "stack",
        [VOLUME_SCOPE_GRID] = "grid",
};
DEFINE_STRING_TABLE_LOOKUP(volume_scope, VolumeScope);

static const Column volume_columns[] = {
        COLUMN(VolumeRow, id, COLUMN_TEXT),
        COLUMN(VolumeRow, grid_id, COLUMN_TEXT),
        COLUMN(VolumeRow, name, COLUMN_TEXT),
        COLUMN(VolumeRow, driver, COLUMN_TEXT),
        COLUMN_NAMES(VolumeRow, scope, volume_scope_table),
        COLUMN(VolumeRow, options, COLUMN_JSON),
        COLUMN(VolumeRow, size_max, COLUMN_U64),
        COLUMN(VolumeRow, removing, COLUMN_BOOL),
        COLUMN(VolumeRow, created_at, COLUMN_U64),
};

const Table volume_table = {
        .kind = STORE_VOLUME,
        .name = "volumes",
        .grid_scoped = true,
        .row_size = sizeof(VolumeRow),
        .columns = volume_columns,
        .n_columns = ELEMENTSOF(volume_columns),
};

STORE_DEFINE_ROW(VolumeRow, volume);

int store_put_volume(Store *s, const VolumeRow *row) {
        int r = store_put(s, &volume_table, row);

        return MIN(r, 0);
}

int store_delete_volume(Store *s, const char *id) {
        _cleanup_(volume_row_freep) VolumeRow *row = NULL;
        int r;

        r = store_get_volume(s, id, &row);
        if (r < 0)
                return r;
        return store_delete(s, &volume_table, id, row->grid_id);
}

int store_find_volume(Store *s, const char *grid_id, const char *name, VolumeRow **ret) {
        return store_select_one(s, &volume_table, (void **) ret, "WHERE grid_id = ? AND name = ?", "ss",
                        grid_id, name);
}

int store_list_volumes(Store *s, const char *grid_id, VolumeRowList *ret) {
        return STORE_LIST(s, &volume_table, ret, "WHERE grid_id = ? ORDER BY name", "s", grid_id);
}

static const Column volume_instance_columns[] = {
        COLUMN(VolumeInstanceRow, id, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, grid_id, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, volume_id, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, node_id, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, name, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, service_id, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, number, COLUMN_U32),
        COLUMN(VolumeInstanceRow, removing, COLUMN_BOOL),
        COLUMN(VolumeInstanceRow, state, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, error, COLUMN_TEXT),
        COLUMN(VolumeInstanceRow, used, COLUMN_U64),
        COLUMN(VolumeInstanceRow, created_at, COLUMN_U64),
};

const Table volume_instance_table = {
        .kind = STORE_VOLUME_INSTANCE,
        .name = "volume_instances",
        .grid_scoped = true,
        .row_size = sizeof(VolumeInstanceRow),
        .columns = volume_instance_columns,
        .n_columns = ELEMENTSOF(volume_instance_columns),
};

STORE_DEFINE_ROW(VolumeInstanceRow, volume_instance);

int store_put_volume_instance(Store *s, const VolumeInstanceRow *row) {
        int r = store_put(s, &volume_instance_table, row);

        return MIN(r, 0);
}

int store_delete_volume_instance(Store *s, const char *id) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        int r;

        r = store_get_volume_instance(s, id, &row);
        if (r < 0)
                return r;
        return store_delete(s, &volume_instance_table, id, row->grid_id);
}

int store_find_volume_instance(Store *s, const char *node_id, const char *name, VolumeInstanceRow **ret) {
        return store_select_one(s, &volume_instance_table, (void **) ret, "WHERE node_id = ? AND name = ?",
                        "ss", node_id, name);
}

int store_list_volume_instances_of_volume(Store *s, const char *volume_id, VolumeInstanceRowList *ret) {
        return STORE_LIST(s, &volume_instance_table, ret, "WHERE volume_id = ? ORDER BY name, node_id", "s",
                        volume_id);
}

int store_list_volume_instances_of_node(Store *s, const char *node_id, VolumeInstanceRowList *ret) {
        return STORE_LIST(s, &volume_instance_table, ret, "WHERE node_id = ? ORDER BY name", "s", node_id);
}

int store_delete_volume_instances_of_node(Store *s, const char *node_id) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList l = {};
        int r;

        r = store_list_volume_instances_of_node(s, node_id, &l);
        for (size_t i = 0; i < l.n && r >= 0; i++)
                r = store_delete(s, &volume_instance_table, l.rows[i]->id, l.rows[i]->grid_id);

        return r;
}
