/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "store-internal.h"
#include "string-util.h"

/* Rows and SQL from one description of the columns, so that reading, writing and freeing cannot differ. */

static void *field(const void *row, const Column *c) {
        return (uint8_t *) (uintptr_t) row + c->offset;
}

void row_done(const Table *t, void *row) {
        FOREACH_ARRAY(c, t->columns, t->n_columns) {
                void *f = field(row, c);

                switch (c->type) {
                case COLUMN_TEXT:
                        free(*(char **) f);
                        break;
                case COLUMN_STRV:
                        strv_free(*(char ***) f);
                        break;
                case COLUMN_JSON:
                        json_object_put(*(json_object **) f);
                        break;
                case COLUMN_BLOB:
                        free(*(void **) f);
                        break;
                default:
                        break;
                }
        }
}

void *row_free(const Table *t, void *row) {
        if (!row)
                return NULL;

        row_done(t, row);
        free(row);
        return NULL;
}

void row_list_done(const Table *t, void ***rows, size_t *n) {
        for (size_t i = 0; i < *n; i++)
                row_free(t, (*rows)[i]);
        *rows = mfree(*rows);
        *n = 0;
}

/* Copies, for the statement may be stepped after the row has changed. */
static int bind_json(sqlite3_stmt *stmt, int i, json_object *o) {
        const char *text;

        text = json_text(o);
        if (!text)
                return SQLITE_NOMEM;
        return sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
}

static int bind_strv(sqlite3_stmt *stmt, int i, char *const *l) {
        _cleanup_json_ json_object *array = NULL;

        array = json_object_new_array();
        if (!array)
                return SQLITE_NOMEM;
        STRV_FOREACH(s, l)
                if (json_append_string(array, *s) < 0)
                        return SQLITE_NOMEM;

        return bind_json(stmt, i, array);
}

static int bind_column(sqlite3_stmt *stmt, int i, const Column *c, const void *row) {
        const void *f = field(row, c);

        switch (c->type) {
        case COLUMN_TEXT:
                return sqlite3_bind_text(stmt, i, *(char *const *) f, -1, SQLITE_TRANSIENT);
        case COLUMN_U32:
                return sqlite3_bind_int64(stmt, i, *(const uint32_t *) f);
        case COLUMN_U64:
        case COLUMN_I64:
                return sqlite3_bind_int64(stmt, i, *(const int64_t *) f);
        case COLUMN_BOOL:
                return sqlite3_bind_int(stmt, i, *(const bool *) f);
        case COLUMN_ENUM: {
                int v = *(const int *) f;

                assert(v >= 0 && (size_t) v < c->n_names);
                return sqlite3_bind_text(stmt, i, c->names[v], -1, SQLITE_STATIC);
        }
        case COLUMN_STRV:
                return bind_strv(stmt, i, *(char **const *) f);
        case COLUMN_JSON:
                return *(json_object *const *) f ? bind_json(stmt, i, *(json_object *const *) f)
                                                 : sqlite3_bind_null(stmt, i);
        case COLUMN_HASH:
                return sqlite3_bind_blob(stmt, i, f, 32, SQLITE_TRANSIENT);
        case COLUMN_BLOB:
                return sqlite3_bind_blob(stmt, i, *(void *const *) f,
                                (int) *(const size_t *) ((const uint8_t *) row + c->size_offset),
                                SQLITE_TRANSIENT);
        }

        return SQLITE_MISUSE;
}

/* The last text that was parsed while a list is read. The instances of a service have the same settings, most of them one behind the
 * other: they share the object, which nobody changes. */
typedef struct JsonMemo {
        char *text;
        size_t size;
        json_object *object;
} JsonMemo;

static void json_memo_done(JsonMemo *m) {
        free(m->text);
        json_object_put(m->object);
}

/* memo may be NULL. */
static int read_json(sqlite3_stmt *stmt, int i, JsonMemo *memo, json_object **ret) {
        const char *text = (const char *) sqlite3_column_text(stmt, i);
        size_t size;
        int r;

        if (!text)
                return sqlite3_column_type(stmt, i) == SQLITE_NULL ? 0 : -ENOMEM;
        size = (size_t) sqlite3_column_bytes(stmt, i);
        if (memo && memo->object && memo->size == size && memcmp(memo->text, text, size) == 0) {
                *ret = json_object_get(memo->object);
                return 0;
        }

        r = json_parse(text, size, FRAME_SIZE_MAX, ret, NULL);
        if (r < 0 || !memo)
                return r;
        json_memo_done(memo);
        *memo = (JsonMemo){ .text = strndup(text, size), .size = size };
        if (memo->text)
                memo->object = json_object_get(*ret);
        return 0;
}

static int read_strv(sqlite3_stmt *stmt, int i, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_json_ json_object *array = NULL;
        int r;

        r = read_json(stmt, i, NULL, &array);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(e, array) {
                r = strv_extend(&l, json_object_get_string(e));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

static int read_enum(sqlite3_stmt *stmt, int i, const Column *c, int *ret) {
        const char *text = (const char *) sqlite3_column_text(stmt, i);

        for (size_t v = 0; text && v < c->n_names; v++)
                if (streq(c->names[v], text)) {
                        *ret = (int) v;
                        return 0;
                }

        return -EUCLEAN;
}

static int read_column(sqlite3_stmt *stmt, int i, const Column *c, JsonMemo *memo, void *row) {
        void *f = field(row, c);
        const void *blob;
        size_t n;

        switch (c->type) {
        case COLUMN_TEXT: {
                const char *text = (const char *) sqlite3_column_text(stmt, i);

                if (!text)
                        return sqlite3_column_type(stmt, i) == SQLITE_NULL ? 0 : -ENOMEM;
                *(char **) f = strdup(text);
                return *(char **) f ? 0 : -ENOMEM;
        }
        case COLUMN_U32:
                *(uint32_t *) f = (uint32_t) sqlite3_column_int64(stmt, i);
                return 0;
        case COLUMN_U64:
        case COLUMN_I64:
                *(int64_t *) f = sqlite3_column_int64(stmt, i);
                return 0;
        case COLUMN_BOOL:
                *(bool *) f = sqlite3_column_int(stmt, i) != 0;
                return 0;
        case COLUMN_ENUM:
                return read_enum(stmt, i, c, f);
        case COLUMN_STRV:
                return read_strv(stmt, i, f);
        case COLUMN_JSON:
                return read_json(stmt, i, memo, f);
        case COLUMN_HASH:
                blob = sqlite3_column_blob(stmt, i);
                if (sqlite3_column_bytes(stmt, i) != 32 || !blob)
                        return -EUCLEAN;
                memcpy(f, blob, 32);
                return 0;
        case COLUMN_BLOB:
                blob = sqlite3_column_blob(stmt, i);
                n = (size_t) sqlite3_column_bytes(stmt, i);
                if (n == 0)
                        return 0;
                *(void **) f = malloc(n);
                if (!*(void **) f)
                        return -ENOMEM;
                memcpy(*(void **) f, blob, n);
                *(size_t *) ((uint8_t *) row + c->size_offset) = n;
                return 0;
        }

        return -EINVAL;
}

static int read_row(const Table *t, sqlite3_stmt *stmt, JsonMemo *memo, void **ret) {
        void *row;
        int r;

        row = calloc(1, t->row_size);
        if (!row)
                return -ENOMEM;

        for (size_t i = 0; i < t->n_columns; i++) {
                r = read_column(stmt, (int) i, t->columns + i, memo, row);
                if (r < 0) {
                        row_free(t, row);
                        return r;
                }
        }

        *ret = row;
        return 0;
}

static char *column_list(const Table *t, size_t from, const char *suffix) {
        _cleanup_free_ char *list = strdup("");

        for (size_t i = from; list && i < t->n_columns; i++) {
                char *longer = strjoin(list, i > from ? ", " : "", t->columns[i].name, suffix);

                free(list);
                list = longer;
        }

        return TAKE_PTR(list);
}

static char *select_sql(const Table *t, const char *where) {
        _cleanup_free_ char *list = column_list(t, 0, "");

        return list ? strprintf("SELECT %s FROM %s %s", list, t->name, where) : NULL;
}

static char *update_sql(const Table *t, const char *where) {
        _cleanup_free_ char *list = column_list(t, 1, " = ?");

        return list ? strprintf("UPDATE %s SET %s WHERE id = ?", t->name, list) : NULL;
}

static char *insert_sql(const Table *t, const char *where) {
        _cleanup_free_ char *list = column_list(t, 0, ""), *marks = strdup("?");

        for (size_t i = 1; marks && i < t->n_columns; i++) {
                char *longer = strjoin(marks, ", ?");

                free(marks);
                marks = longer;
        }

        return list && marks ? strprintf("INSERT INTO %s (%s) VALUES (%s)", t->name, list, marks) : NULL;
}

static int bind_arguments(sqlite3_stmt *stmt, const char *types, va_list ap) {
        int rc = SQLITE_OK;

        for (int i = 1; *types && rc == SQLITE_OK; types++, i++)
                switch (*types) {
                case 's':
                        rc = sqlite3_bind_text(stmt, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
                        break;
                case 'u':
                        rc = sqlite3_bind_int64(stmt, i, (sqlite3_int64) va_arg(ap, uint64_t));
                        break;
                case 'i':
                        rc = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
                        break;
                case 'h':
                        rc = sqlite3_bind_blob(stmt, i, va_arg(ap, const uint8_t *), 32, SQLITE_TRANSIENT);
                        break;
                default:
                        return SQLITE_MISUSE;
                }

        return rc;
}

static int prepare_bound(Store *s, const char *sql, const char *types, va_list ap, sqlite3_stmt **ret) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        int r, rc;

        r = store_prepare(s, sql, &stmt);
        if (r < 0)
                return r;
        rc = bind_arguments(stmt, types, ap);
        if (rc != SQLITE_OK)
                return store_error(s, rc);

        *ret = TAKE_PTR(stmt);
        return 0;
}

int store_run(Store *s, const char *sql, const char *types, ...) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        va_list ap;
        int r, rc;

        assert(store_in_transaction(s));

        va_start(ap, types);
        r = prepare_bound(s, sql, types, ap, &stmt);
        va_end(ap);
        if (r < 0)
                return r;

        rc = sqlite3_step(stmt);
        if (rc != SQLITE_DONE)
                return store_error(s, rc);

        return sqlite3_changes(sqlite3_db_handle(stmt));
}

int store_number(Store *s, uint64_t *ret, const char *sql, const char *types, ...) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        va_list ap;
        int r, rc;

        va_start(ap, types);
        r = prepare_bound(s, sql, types, ap, &stmt);
        va_end(ap);
        if (r < 0)
                return r;

        rc = sqlite3_step(stmt);
        if (rc == SQLITE_DONE)
                return -ENOENT;
        if (rc != SQLITE_ROW)
                return store_error(s, rc);

        *ret = (uint64_t) sqlite3_column_int64(stmt, 0);
        return 0;
}

int store_select_ids(Store *s, char ***ret, const char *sql, const char *types, ...) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        _cleanup_strv_free_ char **l = NULL;
        size_t n = 0, allocated = 0;
        va_list ap;
        int r, rc;

        va_start(ap, types);
        r = prepare_bound(s, sql, types, ap, &stmt);
        va_end(ap);
        if (r < 0)
                return r;

        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
                const char *id = (const char *) sqlite3_column_text(stmt, 0);

                if (allocated - n < 2) {
                        char **more = reallocarray(l, allocated ? allocated * 2 : 8, sizeof(char *));

                        if (!more)
                                return -ENOMEM;
                        l = more;
                        allocated = allocated ? allocated * 2 : 8;
                }
                l[n + 1] = NULL;
                l[n] = id ? strdup(id) : NULL;
                if (!l[n++])
                        return -ENOMEM;
        }
        if (rc != SQLITE_DONE)
                return store_error(s, rc);

        *ret = TAKE_PTR(l);
        return 0;
}

static int select_rows(Store *s, const Table *t, void ***ret, size_t *ret_n, size_t max, const char *where,
                const char *types, va_list ap) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        _cleanup_(json_memo_done) JsonMemo memo = {};
        size_t n = 0, allocated = 0;
        void **rows = NULL;
        int r, rc;

        r = store_prepare_for(s, t, where, select_sql, &stmt);
        if (r < 0)
                return r;

        rc = bind_arguments(stmt, types, ap);
        if (rc != SQLITE_OK)
                return store_error(s, rc);

        while (n < max && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
                if (n == allocated) {
                        void **more = reallocarray(rows, allocated ? allocated * 2 : 4, sizeof(void *));

                        if (!more) {
                                r = -ENOMEM;
                                break;
                        }
                        rows = more;
                        allocated = allocated ? allocated * 2 : 4;
                }
                r = read_row(t, stmt, max > 1 ? &memo : NULL, rows + n);
                if (r < 0)
                        break;
                n++;
        }
        if (r >= 0 && n < max && rc != SQLITE_DONE)
                r = store_error(s, rc);
        if (r < 0) {
                row_list_done(t, &rows, &n);
                return r;
        }

        *ret = rows;
        *ret_n = n;
        return 0;
}

int store_select_one(Store *s, const Table *t, void **ret, const char *where, const char *types, ...) {
        _cleanup_free_ void **rows = NULL;
        size_t n;
        va_list ap;
        int r;

        va_start(ap, types);
        r = select_rows(s, t, &rows, &n, 1, where, types, ap);
        va_end(ap);
        if (r < 0)
                return r;
        if (n == 0)
                return -ENOENT;

        *ret = rows[0];
        return 0;
}

int store_select(Store *s, const Table *t, void ***ret, size_t *ret_n, const char *where, const char *types,
                ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = select_rows(s, t, ret, ret_n, SIZE_MAX, where, types, ap);
        va_end(ap);

        return r;
}

static const char *text_of(const Table *t, size_t column, const void *row) {
        return *(char *const *) field(row, t->columns + column);
}

int store_put(Store *s, const Table *t, const void *row) {
        _cleanup_statement_ sqlite3_stmt *update = NULL, *insert = NULL;
        const char *grid_id;
        int r, rc = SQLITE_OK;
        bool added = false;

        assert(store_in_transaction(s));
        assert(text_of(t, 0, row));

        /* The first column last: it is in the WHERE clause. */
        r = store_prepare_for(s, t, "UPDATE", update_sql, &update);
        if (r < 0)
                return r;
        for (size_t i = 1; i < t->n_columns && rc == SQLITE_OK; i++)
                rc = bind_column(update, (int) i, t->columns + i, row);
        if (rc == SQLITE_OK)
                rc = bind_column(update, (int) t->n_columns, t->columns, row);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(update);
        if (rc != SQLITE_DONE)
                return store_error(s, rc);

        if (sqlite3_changes(sqlite3_db_handle(update)) == 0) {
                r = store_prepare_for(s, t, "INSERT", insert_sql, &insert);
                if (r < 0)
                        return r;
                rc = SQLITE_OK;
                for (size_t i = 0; i < t->n_columns && rc == SQLITE_OK; i++)
                        rc = bind_column(insert, (int) i + 1, t->columns + i, row);
                if (rc == SQLITE_OK)
                        rc = sqlite3_step(insert);
                if (rc != SQLITE_DONE)
                        return store_error(s, rc);
                added = true;
        }

        grid_id = t->grid_scoped ? text_of(t, 1, row) : text_of(t, 0, row);
        r = store_note(s, t->kind, added ? STORE_ADDED : STORE_CHANGED, text_of(t, 0, row), grid_id);
        if (r < 0)
                return r;

        return added;
}

static char *delete_sql(const Table *t, const char *where) {
        return strprintf("DELETE FROM %s WHERE id = ?", t->name);
}

int store_delete(Store *s, const Table *t, const char *id, const char *grid_id) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        int r, rc;

        assert(store_in_transaction(s));

        r = store_prepare_for(s, t, "DELETE", delete_sql, &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);
        if (rc != SQLITE_DONE)
                return rc == SQLITE_CONSTRAINT || rc == SQLITE_CONSTRAINT_FOREIGNKEY ? -EBUSY
                                                                                     : store_error(s, rc);
        if (sqlite3_changes(sqlite3_db_handle(stmt)) == 0)
                return -ENOENT;

        return store_note(s, t->kind, STORE_REMOVED, id, grid_id);
}
