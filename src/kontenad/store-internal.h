/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sqlite3.h>

#include "store.h"

/* Between store.c, which knows SQLite, and store-*.c, which know one kind of row each. */

typedef enum ColumnType {
        COLUMN_TEXT, /* char * */
        COLUMN_U32,
        COLUMN_U64,
        COLUMN_I64,
        COLUMN_BOOL,
        COLUMN_ENUM, /* int, stored as its name */
        COLUMN_STRV, /* char **, stored as a JSON array */
        COLUMN_JSON, /* json_object * */
        COLUMN_HASH, /* uint8_t[32] */
        COLUMN_BLOB, /* void *, size_t at size_offset */
} ColumnType;

typedef struct Column {
        const char *name;
        ColumnType type;
        size_t offset, size_offset;
        const char *const *names; /* COLUMN_ENUM */
        size_t n_names;
} Column;

/* The first column is the id, a COLUMN_TEXT (but the event's), the second the grid's id where grid_scoped. */
typedef struct Table {
        StoreKind kind;
        const char *name;
        bool grid_scoped;
        size_t row_size;
        const Column *columns;
        size_t n_columns;
} Table;

#define COLUMN(Type, field, column_type)                                                                    \
        { .name = #field, .type = (column_type), .offset = offsetof(Type, field) }
#define COLUMN_NAMES(Type, field, table)                                                                    \
        {                                                                                                   \
                .name = #field, .type = COLUMN_ENUM, .offset = offsetof(Type, field), .names = (table),     \
                .n_names = ELEMENTSOF(table)                                                                \
        }

extern const Table grid_table, node_table, service_table, instance_table, deploy_table, deploy_step_table,
                event_table, revision_table, volume_table, volume_instance_table, secret_table,
                registry_table, run_table, audit_table, user_table, token_table, login_state_table,
                config_table;

/* Brings the file to the present schema. */
int store_schema_migrate(sqlite3 *db, KError *reterr);

/* arguments, one for each letter of types: s const char *, u uint64_t, i int64_t,
 * h uint8_t[32]. where is a literal: it is the key of the
 * statement's cache. */
int store_run(Store *s, const char *sql, const char *types, ...); /* returns changed rows */
int store_number(Store *s, uint64_t *ret, const char *sql, const char *types,
                ...); /* first column of the first row; -ENOENT */
int store_select_ids(Store *s, char ***ret, const char *sql, const char *types,
                ...); /* first column, a text; NULL: there is no row */
int store_select_one(Store *s, const Table *t, void **ret, const char *where, const char *types,
                ...); /* -ENOENT */
int store_select(Store *s, const Table *t, void ***ret, size_t *ret_n, const char *where, const char *types,
                ...);

int store_put(Store *s, const Table *t, const void *row);                        /* 1: is new */
int store_delete(Store *s, const Table *t, const char *id, const char *grid_id); /* -ENOENT */
int store_note(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id);
/* A change that only who remembers rows is told, with store_watch_now(). */
int store_note_silently(Store *s, StoreKind kind, const char *id, const char *grid_id);

int store_delete_volume_instances_of_node(Store *s, const char *node_id);

/* For statements that fit none of these. reset when done with. */
int store_prepare(Store *s, const char *sql, sqlite3_stmt **ret);
/* The same, with the text made by make(t, where) on first use. */
typedef char *(*store_sql_t)(const Table *t, const char *where);
int store_prepare_for(Store *s, const Table *t, const char *where, store_sql_t make, sqlite3_stmt **ret);
void statement_resetp(sqlite3_stmt **p);
#define _cleanup_statement_ _cleanup_(statement_resetp)
int store_error(Store *s, int rc); /* negative errno; notices a full or read-only disk */

void row_done(const Table *t, void *row); /* frees what the columns own */
void *row_free(const Table *t, void *row);
void row_list_done(const Table *t, void ***rows, size_t *n);

#define STORE_DEFINE_ROW(Type, name)                                                                        \
        Type *name##_row_free(Type *row) {                                                                  \
                return row_free(&name##_table, row);                                                        \
        }                                                                                                   \
        void name##_row_list_done(Type##List *l) {                                                          \
                row_list_done(&name##_table, (void ***) &l->rows, &l->n);                                   \
        }                                                                                                   \
        int store_get_##name(Store *s, const char *id, Type **ret) {                                        \
                return store_select_one(s, &name##_table, (void **) ret, "WHERE id = ?", "s", id);          \
        }                                                                                                   \
        struct UNIQUE(trivial_semicolon_)

#define STORE_LIST(s, t, ret, ...) store_select((s), (t), (void ***) &(ret)->rows, &(ret)->n, __VA_ARGS__)
