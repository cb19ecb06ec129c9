/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-internal.h"

static const Column secret_columns[] = {
        COLUMN(SecretRow, id, COLUMN_TEXT),
        COLUMN(SecretRow, grid_id, COLUMN_TEXT),
        COLUMN(SecretRow, name, COLUMN_TEXT),
        { .name = "sealed",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(SecretRow, sealed),
                        .size_offset = offsetof(SecretRow, sealed_size) },
        COLUMN(SecretRow, revision, COLUMN_U64),
        COLUMN(SecretRow, created_at, COLUMN_U64),
        COLUMN(SecretRow, updated_at, COLUMN_U64),
};

const Table secret_table = {
        .kind = STORE_SECRET,
        .name = "secrets",
        .grid_scoped = true,
        .row_size = sizeof(SecretRow),
        .columns = secret_columns,
        .n_columns = ELEMENTSOF(secret_columns),
};

STORE_DEFINE_ROW(SecretRow, secret);

int store_put_secret(Store *s, const SecretRow *row) {
        int r = store_put(s, &secret_table, row);

        return MIN(r, 0);
}

int store_delete_secret(Store *s, const char *id) {
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        int r;

        r = store_get_secret(s, id, &row);
        if (r < 0)
                return r;
        return store_delete(s, &secret_table, id, row->grid_id);
}

int store_find_secret(Store *s, const char *grid_id, const char *name, SecretRow **ret) {
        return store_select_one(s, &secret_table, (void **) ret, "WHERE grid_id = ? AND name = ?", "ss",
                        grid_id, name);
}

int store_list_secrets(Store *s, const char *grid_id, SecretRowList *ret) {
        return STORE_LIST(s, &secret_table, ret, "WHERE grid_id = ? ORDER BY name", "s", grid_id);
}

static const Column registry_columns[] = {
        COLUMN(RegistryRow, id, COLUMN_TEXT),
        COLUMN(RegistryRow, grid_id, COLUMN_TEXT),
        COLUMN(RegistryRow, name, COLUMN_TEXT),
        COLUMN(RegistryRow, url, COLUMN_TEXT),
        COLUMN(RegistryRow, username, COLUMN_TEXT),
        COLUMN(RegistryRow, email, COLUMN_TEXT),
        { .name = "sealed",
                        .type = COLUMN_BLOB,
                        .offset = offsetof(RegistryRow, sealed),
                        .size_offset = offsetof(RegistryRow, sealed_size) },
        COLUMN(RegistryRow, created_at, COLUMN_U64),
        COLUMN(RegistryRow, updated_at, COLUMN_U64),
};

const Table registry_table = {
        .kind = STORE_REGISTRY,
        .name = "registries",
        .grid_scoped = true,
        .row_size = sizeof(RegistryRow),
        .columns = registry_columns,
        .n_columns = ELEMENTSOF(registry_columns),
};

STORE_DEFINE_ROW(RegistryRow, registry);

int store_put_registry(Store *s, const RegistryRow *row) {
        int r = store_put(s, &registry_table, row);

        return MIN(r, 0);
}

int store_delete_registry(Store *s, const char *id) {
        _cleanup_(registry_row_freep) RegistryRow *row = NULL;
        int r;

        r = store_get_registry(s, id, &row);
        if (r < 0)
                return r;
        return store_delete(s, &registry_table, id, row->grid_id);
}

int store_find_registry(Store *s, const char *grid_id, const char *name, RegistryRow **ret) {
        return store_select_one(s, &registry_table, (void **) ret, "WHERE grid_id = ? AND name = ?", "ss",
                        grid_id, name);
}

int store_list_registries(Store *s, const char *grid_id, RegistryRowList *ret) {
        return STORE_LIST(s, &registry_table, ret, "WHERE grid_id = ? ORDER BY name", "s", grid_id);
}
