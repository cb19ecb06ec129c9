/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/random.h>

#include <uthash.h>
#include <utlist.h>

#include "file-util.h"
#include "log.h"
#include "message-id.h"
#include "store-internal.h"
#include "string-util.h"

#define WATCHES_MAX      16U
#define CHANGES_PER_TURN 64U
#define PROBE_USEC       (2U * USEC_PER_SEC)
#define CACHE_KIB        "1024"
#define WAL_SIZE_LIMIT   "4194304"
#define WAL_PAGES        "500"
#define SLOW_COMMIT_USEC (50U * USEC_PER_MSEC)

typedef struct Statement {
        const void *key[2]; /* table or NULL; literal */
        sqlite3_stmt *stmt;
        UT_hash_handle hh;
} Statement;

typedef struct Change {
        char *key; /* kind and id */
        StoreKind kind;
        StoreChange change;
        bool silent; /* nobody is told after the commit */
        char *id, *grid_id;
        UT_hash_handle hh;
        struct Change *prev, *next;
} Change;

typedef struct Changes {
        Change *list, *table;
} Changes;

struct Store {
        sqlite3 *db;
        char *path;
        bool in_transaction;
        bool retold; /* commits do not wait for the disk */
        Statement *statements;
        Changes uncommitted, pending;
        struct {
                store_watch_t callback;
                void *userdata;
        } watches[WATCHES_MAX];
        size_t n_watches;
        store_watch_t at_once;
        void *at_once_userdata;
        sd_event *event;
        sd_event_source *deliver, *probe;
        char *read_only_reason;
        uint64_t probed_at;
};

static Change *change_free(Change *c) {
        if (!c)
                return NULL;

        free(c->key);
        free(c->id);
        free(c->grid_id);
        free(c);
        return NULL;
}

static Change *changes_remove(Changes *l, Change *c) {
        if (c->hh.tbl)
                HASH_DEL(l->table, c);
        DL_DELETE(l->list, c);
        return c;
}

static void changes_clear(Changes *l) {
        while (l->list)
                change_free(changes_remove(l, l->list));
}

/* Takes c. What happened to a row before it was told about is one change. */
static void changes_merge(Changes *l, Change *c) {
        Change *old;

        HASH_FIND_STR(l->table, c->key, old);
        if (old) {
                old->silent = old->silent && c->silent;
                if (old->change == STORE_ADDED && c->change == STORE_REMOVED)
                        change_free(changes_remove(l, old)); /* nobody knew of it */
                else if (old->change == STORE_REMOVED && c->change == STORE_ADDED)
                        old->change = STORE_CHANGED;
                else if (old->change != STORE_ADDED)
                        old->change = c->change;
                change_free(c);
                return;
        }

        c->hh = (UT_hash_handle){};
        HASH_ADD_KEYPTR(hh, l->table, c->key, strlen(c->key), c);
        DL_APPEND(l->list, c);
}

static int note(Store *s, StoreKind kind, StoreChange change, bool silent, const char *id,
                const char *grid_id) {
        Change *c;

        if (s->at_once)
                s->at_once(s, kind, change, id, grid_id, s->at_once_userdata);

        c = new0(Change, 1);
        if (!c)
                return -ENOMEM;
        *c = (Change){
                .kind = kind,
                .change = change,
                .silent = silent,
                .id = strdup(id),
                .grid_id = grid_id ? strdup(grid_id) : NULL,
                .key = strprintf("%i%s", (int) kind, id),
        };
        if (!c->id || !c->key || (grid_id && !c->grid_id)) {
                change_free(c);
                return -ENOMEM;
        }

        changes_merge(&s->uncommitted, c);
        return 0;
}

int store_note(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id) {
        return note(s, kind, change, false, id, grid_id);
}

int store_note_silently(Store *s, StoreKind kind, const char *id, const char *grid_id) {
        return note(s, kind, STORE_CHANGED, true, id, grid_id);
}

static int on_deliver(sd_event_source *source, void *userdata) {
        Store *s = userdata;

        /* In portions: thousands of changes must not hold up the loop. */
        for (unsigned i = 0; s->pending.list && i < CHANGES_PER_TURN; i++) {
                Change *c = changes_remove(&s->pending, s->pending.list);

                for (size_t w = 0; w < s->n_watches; w++)
                        s->watches[w].callback(
                                        s, c->kind, c->change, c->id, c->grid_id, s->watches[w].userdata);
                change_free(c);
        }

        if (!s->pending.list)
                (void) sd_event_source_set_enabled(s->deliver, SD_EVENT_OFF);
        return 0;
}

int store_watch(Store *s, store_watch_t callback, void *userdata) {
        assert(s);
        assert(callback);

        if (s->n_watches >= WATCHES_MAX)
                return -ENOSPC;

        s->watches[s->n_watches].callback = callback;
        s->watches[s->n_watches].userdata = userdata;
        s->n_watches++;
        return 0;
}

void store_watch_now(Store *s, store_watch_t callback, void *userdata) {
        assert(s);

        s->at_once = callback;
        s->at_once_userdata = userdata;
}

char *store_new_id(void) {
        uint8_t random[16];

        if (getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random))
                return NULL;
        return base32mem(random, sizeof(random));
}

const char *store_read_only_reason(Store *s) {
        return s->read_only_reason;
}

static void tell_read_only(Store *s) {
        if (store_note(s, STORE_KEY_VALUE, STORE_CHANGED, "read-only", NULL) < 0)
                return;

        /* Not part of any transaction: it is true whatever becomes of that. */
        for (Change *c = s->uncommitted.list, *next; c; c = next) {
                next = c->next;
                if (c->kind == STORE_KEY_VALUE && streq(c->id, "read-only"))
                        changes_merge(&s->pending, changes_remove(&s->uncommitted, c));
        }
        (void) sd_event_source_set_enabled(s->deliver, SD_EVENT_ON);
}

static void become_read_only(Store *s, int error) {
        _cleanup_free_ char *directory = NULL, *reason = NULL;
        char *slash;

        if (s->read_only_reason)
                return;

        directory = strdup(s->path);
        if (directory) {
                slash = strrchr(directory, '/');
                if (slash && slash > directory)
                        *slash = '\0';
        }
        reason = ERRNO_IS_DISK_SPACE(-error) ? strprintf("The disk with %s is full, changes are refused "
                                                         "until there is room.",
                                                               strnull(directory))
                                             : strprintf("%s cannot be written (%s), changes are refused.",
                                                               strnull(directory), strerror(error));
        s->read_only_reason = reason ? TAKE_PTR(reason) : NULL;
        if (!s->read_only_reason)
                return;

        log_struct(LOG_ERR, error, FIELDS(MESSAGE_STORE_READ_ONLY), "%s", s->read_only_reason);
        s->probed_at = now_monotonic();
        (void) sd_event_source_set_time_relative(s->probe, PROBE_USEC);
        (void) sd_event_source_set_enabled(s->probe, SD_EVENT_ONESHOT);
        tell_read_only(s);
}

static int error_from_sqlite(sqlite3 *db, int rc) {
        int error;

        switch (rc & 0xff) {
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_CONSTRAINT:
                return -EEXIST;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_MISMATCH:
                return -EUCLEAN;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
                error = db ? sqlite3_system_errno(db) : 0;
                return error > 0 ? -error : -EIO;
        default:
                return -EIO;
        }
}

int store_error(Store *s, int rc) {
        int r = error_from_sqlite(s->db, rc);

        if (ERRNO_IS_DISK_SPACE(r) || r == -EROFS)
                become_read_only(s, -r);
        else if (r != -EEXIST)
                log_debug("Store: %s.", sqlite3_errmsg(s->db));

        return r;
}

static int run_plain(Store *s, const char *sql) {
        return sqlite3_exec(s->db, sql, NULL, NULL, NULL);
}

/* With NORMAL only a checkpoint waits for the disk; with FULL a commit does, and what is before it in the log goes along. */
static int set_retold(Store *s, bool retold) {
        int rc;

        if (s->retold == retold)
                return SQLITE_OK;
        rc = run_plain(s, retold ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL");
        if (rc == SQLITE_OK)
                s->retold = retold;
        return rc;
}

static void end_transaction(Store *s) {
        s->in_transaction = false;
        (void) set_retold(s, false); /* else the next one that has to wait for the disk does not begin */
}

static void roll_back(Store *s) {
        if (!sqlite3_get_autocommit(s->db)) /* else SQLite has done it by itself */
                (void) run_plain(s, "ROLLBACK");
        end_transaction(s);
        if (s->at_once)
                for (const Change *c = s->uncommitted.list; c; c = c->next)
                        s->at_once(s, c->kind, c->change, c->id, c->grid_id, s->at_once_userdata);
        changes_clear(&s->uncommitted);
}

/* One small write that goes all the way to the disk. */
static bool probe(Store *s) {
        int rc;

        if (!s->read_only_reason)
                return true;

        s->probed_at = now_monotonic();
        rc = run_plain(s, "BEGIN IMMEDIATE");
        if (rc == SQLITE_OK)
                rc = run_plain(s, "INSERT INTO key_values (key, value) VALUES ('probe', randomblob(8192)) "
                                  "ON CONFLICT (key) DO UPDATE SET value = excluded.value");
        if (rc == SQLITE_OK)
                rc = run_plain(s, "COMMIT");
        if (rc != SQLITE_OK) {
                if (!sqlite3_get_autocommit(s->db))
                        (void) run_plain(s, "ROLLBACK");
                return false;
        }

        s->read_only_reason = mfree(s->read_only_reason);
        (void) sd_event_source_set_enabled(s->probe, SD_EVENT_OFF);
        log_struct(LOG_NOTICE, 0, FIELDS(MESSAGE_STORE_WRITABLE), "The store can be written again.");
        tell_read_only(s);
        return true;
}

static int on_probe(sd_event_source *source, uint64_t usec, void *userdata) {
        Store *s = userdata;

        if (s->in_transaction || !probe(s)) {
                (void) sd_event_source_set_time_relative(source, PROBE_USEC);
                (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }

        return 0;
}

bool store_in_transaction(Store *s) {
        return s->in_transaction;
}

static int begin(Store *s, bool retold, KError *reterr) {
        int rc, r;

        assert(s);
        assert(!s->in_transaction);

        /* Who comes while the disk is full is answered at once; room is looked for a few times a minute. */
        if (s->read_only_reason && (now_monotonic() < s->probed_at + PROBE_USEC || !probe(s)))
                return kerror_set(reterr, K_UNAVAILABLE, "%s", s->read_only_reason);

        rc = set_retold(s, retold);
        if (rc == SQLITE_OK)
                rc = run_plain(s, "BEGIN IMMEDIATE");
        if (rc != SQLITE_OK) {
                r = store_error(s, rc);
                return kerror_set_errno(reterr, r, "The store cannot be changed now: %m.");
        }

        s->in_transaction = true;
        return 0;
}

int store_begin(Store *s, KError *reterr) {
        return begin(s, false, reterr);
}

int store_begin_retold(Store *s, KError *reterr) {
        return begin(s, true, reterr);
}

int store_commit(Store *s, KError *reterr) {
        uint64_t started, took;
        int rc, r;

        assert(s);
        assert(s->in_transaction);

        started = now_monotonic();
        rc = run_plain(s, "COMMIT");
        if (rc != SQLITE_OK) {
                r = store_error(s, rc);
                roll_back(s);
                if (s->read_only_reason)
                        return kerror_set(reterr, K_UNAVAILABLE, "%s", s->read_only_reason);
                return kerror_set_errno(reterr, r, "The change could not be stored: %m.");
        }
        end_transaction(s);

        took = now_monotonic() - started;
        if (took > SLOW_COMMIT_USEC)
                log_debug("The disk took %" PRIu64 " ms to store a change.", took / USEC_PER_MSEC);

        while (s->uncommitted.list) {
                Change *c = changes_remove(&s->uncommitted, s->uncommitted.list);

                if (c->silent)
                        change_free(c);
                else
                        changes_merge(&s->pending, c);
        }
        if (s->pending.list)
                (void) sd_event_source_set_enabled(s->deliver, SD_EVENT_ON);

        return 0;
}

void store_rollback(Store *s) {
        if (s->in_transaction)
                roll_back(s);
}

static int keep_statement(
                Store *s, const Table *t, const char *literal, const char *sql, sqlite3_stmt **ret) {
        Statement *p;
        int rc;

        p = new0(Statement, 1);
        if (!p)
                return -ENOMEM;
        p->key[0] = t;
        p->key[1] = literal;

        rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &p->stmt, NULL);
        if (rc != SQLITE_OK) {
                free(p);
                return store_error(s, rc);
        }

        HASH_ADD(hh, s->statements, key, sizeof(p->key), p);
        if (!p->hh.tbl) {
                (void) sqlite3_finalize(p->stmt);
                free(p);
                return -ENOMEM;
        }

        *ret = p->stmt;
        return 0;
}

static sqlite3_stmt *find_statement(Store *s, const Table *t, const char *literal) {
        const void *key[2] = { t, literal };
        Statement *p;

        HASH_FIND(hh, s->statements, key, sizeof(key), p);
        return p ? p->stmt : NULL;
}

int store_prepare(Store *s, const char *sql, sqlite3_stmt **ret) {
        *ret = find_statement(s, NULL, sql);
        return *ret ? 0 : keep_statement(s, NULL, sql, sql, ret);
}

int store_prepare_for(Store *s, const Table *t, const char *where, store_sql_t make, sqlite3_stmt **ret) {
        _cleanup_free_ char *sql = NULL;

        *ret = find_statement(s, t, where);
        if (*ret)
                return 0;

        sql = make(t, where);
        if (!sql)
                return -ENOMEM;
        return keep_statement(s, t, where, sql, ret);
}

void statement_resetp(sqlite3_stmt **p) {
        if (!*p)
                return;
        (void) sqlite3_reset(*p);
        (void) sqlite3_clear_bindings(*p);
}

Store *store_close(Store *s) {
        Statement *p, *next;

        if (!s)
                return NULL;

        store_rollback(s);
        changes_clear(&s->uncommitted);
        changes_clear(&s->pending);
        HASH_ITER(hh, s->statements, p, next) {
                HASH_DEL(s->statements, p);
                (void) sqlite3_finalize(p->stmt);
                free(p);
        }
        (void) sqlite3_close(s->db);
        sd_event_source_disable_unref(s->deliver);
        sd_event_source_disable_unref(s->probe);
        sd_event_unref(s->event);
        free(s->read_only_reason);
        free(s->path);
        free(s);
        return NULL;
}

/* One process alone holds the file (no shared memory file is needed then), what is committed is on the disk, and the log stays small. */
static int open_database(Store *s, KError *reterr) {
        static const char *const pragmas[] = {
                "PRAGMA locking_mode = EXCLUSIVE",
                "PRAGMA cache_size = -" CACHE_KIB,
                "PRAGMA mmap_size = 0",
                "PRAGMA trusted_schema = OFF",
                "PRAGMA cell_size_check = ON",
                "PRAGMA temp_store = MEMORY",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA wal_autocheckpoint = " WAL_PAGES,
                "PRAGMA journal_size_limit = " WAL_SIZE_LIMIT,
                "PRAGMA foreign_keys = ON",
        };
        int rc;

        rc = sqlite3_open_v2(s->path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                        SQLITE_OPEN_EXRESCODE,
                        NULL);
        for (size_t i = 0; i < ELEMENTSOF(pragmas) && rc == SQLITE_OK; i++)
                rc = run_plain(s, pragmas[i]);
        if (rc == SQLITE_OK)
                rc = store_schema_migrate(s->db, reterr);

        return rc;
}

/* Reads the whole file once: what is broken is said now, not in the middle of a deploy. */
static int check_integrity(Store *s, KError *reterr) {
        sqlite3_stmt *stmt = NULL;
        const char *said;
        int rc, r = 0;

        rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);
        said = rc == SQLITE_ROW ? (const char *) sqlite3_column_text(stmt, 0) : sqlite3_errmsg(s->db);
        if (!streq_ptr(said, "ok"))
                r = kerror_set(reterr, K_UNAVAILABLE, "It is damaged: %s. Restore it from a backup.",
                                strna(said));
        (void) sqlite3_finalize(stmt);

        return r;
}

int store_open(sd_event *event, const char *path, Store **ret, KError *reterr) {
        _cleanup_(store_closep) Store *s = NULL;
        int rc, r;

        assert(event);
        assert(path);
        assert(ret);

        s = new0(Store, 1);
        if (!s)
                return -ENOMEM;
        s->event = sd_event_ref(event);
        s->path = strdup(path);
        if (!s->path)
                return -ENOMEM;

        r = sd_event_add_defer(event, &s->deliver, on_deliver, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->deliver, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                event, &s->probe, CLOCK_MONOTONIC, PROBE_USEC, 0, on_probe, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->probe, SD_EVENT_OFF);
        if (r < 0)
                return r;

        rc = open_database(s, reterr);
        if (rc != SQLITE_OK) {
                r = error_from_sqlite(s->db, rc);
                if (r == -EUCLEAN)
                        (void) kerror_set(reterr, K_UNAVAILABLE,
                                        "It is damaged or no database: %s. Restore it from a backup.",
                                        s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
                else if (r == -EBUSY)
                        (void) kerror_set(reterr, K_UNAVAILABLE, "Another process has it open.");
                else
                        (void) kerror_set_errno(reterr, r, "%m.");
        } else
                r = check_integrity(s, reterr);
        if (r < 0) {
                kerror_prefix(reterr, "The store '%s' cannot be used", path);
                return r;
        }

        *ret = TAKE_PTR(s);
        return 0;
}

int store_get_value(Store *s, const char *key, void **ret, size_t *ret_size) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        _cleanup_free_ uint8_t *value = NULL;
        size_t n;
        int r, rc;

        r = store_prepare(s, "SELECT value FROM key_values WHERE key = ?", &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, key, -1, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);
        if (rc == SQLITE_DONE)
                return -ENOENT;
        if (rc != SQLITE_ROW)
                return store_error(s, rc);

        n = (size_t) sqlite3_column_bytes(stmt, 0);
        value = malloc(n + 1); /* a NUL behind, for text */
        if (!value)
                return -ENOMEM;
        if (n > 0)
                memcpy(value, sqlite3_column_blob(stmt, 0), n);
        value[n] = '\0';

        *ret = TAKE_PTR(value);
        *ret_size = n;
        return 0;
}

int store_put_value(Store *s, const char *key, const void *value, size_t size) {
        _cleanup_statement_ sqlite3_stmt *stmt = NULL;
        int r, rc;

        assert(s->in_transaction);

        r = store_prepare(s,
                        "INSERT INTO key_values (key, value) VALUES (?, ?) "
                        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                        &stmt);
        if (r < 0)
                return r;
        rc = sqlite3_bind_text(stmt, 1, key, -1, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_bind_blob(stmt, 2, value ?: "", (int) size, SQLITE_TRANSIENT);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(stmt);
        if (rc != SQLITE_DONE)
                return store_error(s, rc);

        return store_note(s, STORE_KEY_VALUE, STORE_CHANGED, key, NULL);
}
