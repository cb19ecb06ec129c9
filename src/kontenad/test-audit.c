/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "audit-chain.h"
#include "audit-verify.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "store.h"
#include "string-util.h"

/* The chain on a real store, and what becomes visible when somebody else writes to the file. */

typedef struct Bench {
        Master m;
        char *directory, *path;
        json_object *result;
        KError error;
        unsigned answers;
} Bench;

static void open_store(Bench *b) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (store_open(b->m.event, b->path, &b->m.store, &e) < 0)
                fail_msg("%s", kerror_message(&e));
}

static int setup(void **state) {
        char template[] = "/var/tmp/kontena-audit-XXXXXX";
        Bench *b = new0(Bench, 1);

        b->directory = strdup(mkdtemp(template));
        b->path = strjoin(b->directory, "/kontena.db");
        ASSERT_OK(sd_event_new(&b->m.event));
        open_store(b);
        ASSERT_OK(keyring_new(b->directory, &b->m.keyring, NULL));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        b->m.audit_verify = audit_verify_free(b->m.audit_verify);
        operations_abort(&b->m);
        json_object_put(b->result);
        kerror_done(&b->error);
        keyring_free(b->m.keyring);
        store_close(b->m.store);
        sd_event_unref(b->m.event);
        ASSERT_OK(rm_rf_at(AT_FDCWD, b->directory));
        free(b->directory);
        free(b->path);
        free(b);
        return 0;
}

static AuditMark append(Bench *b) {
        _cleanup_json_ json_object *record = json_tokener_parse(
                        "{\"operation\":\"service.scale\",\"status\":\"success\",\"grid\":\"home\",\"uid\":"
                        "1000,"
                        "\"parameters\":{\"grid\":\"home\",\"service\":\"web\"}}");
        AuditMark m;

        ASSERT_OK(audit_chain_append(b->m.store, b->m.keyring, record, &m));
        return m;
}

static AuditMark fill(Bench *b, unsigned n) {
        AuditMark m = {};

        ASSERT_OK(store_begin(b->m.store, NULL));
        for (unsigned i = 0; i < n; i++)
                m = append(b);
        ASSERT_OK(store_commit(b->m.store, NULL));
        return m;
}

/* Another program at the closed file. */
static void tamper(Bench *b, const char *sql) {
        char *message = NULL;
        sqlite3 *db;

        b->m.store = store_close(b->m.store);
        ASSERT_EQ(sqlite3_open(b->path, &db), SQLITE_OK);
        if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
                fail_msg("%s: %s", sql, message);
        ASSERT_EQ(sqlite3_close(db), SQLITE_OK);
        open_store(b);
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        b->answers++;
        json_object_put(b->result);
        b->result = json_object_get(result);
        kerror_done(&b->error);
        if (error)
                (void) kerror_set(&b->error, error->code, "%s", kerror_message(error));
}

static uint64_t verify_with(Bench *b, const char *anchors) {
        _cleanup_json_ json_object *l = json_tokener_parse(anchors);
        uint64_t broken = 0, longest = 0;

        b->answers = 0;
        ASSERT_OK(audit_verify_start(
                        b->m.event, b->m.store, b->m.keyring, l, on_done, b, &b->m.audit_verify, NULL));
        ASSERT_EQ(b->answers, 0);
        while (b->answers == 0) {
                uint64_t started = now_monotonic();

                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
                longest = MAX(longest, now_monotonic() - started);
        }
        b->m.audit_verify = audit_verify_free(b->m.audit_verify);
        ASSERT_TRUE(b->result != NULL);
        ASSERT_OK(json_get_u64(b->result, "broken", &broken, NULL));
        print_message("longest turn of the loop: %llu us\n", (unsigned long long) longest);
        return broken;
}

static uint64_t verify(Bench *b) {
        return verify_with(b, "[]");
}

static void assert_break(Bench *b, const char *kind, int64_t id) {
        json_object *breaks = json_object_object_get(b->result, "breaks");

        FOREACH_JSON_ARRAY(e, breaks)
                if (streq(json_object_get_string(json_object_object_get(e, "kind")), kind) &&
                                json_object_get_int64(json_object_object_get(e, "id")) == id)
                        return;
        fail_msg("no '%s' at %lld in %s", kind, (long long) id, json_text(b->result));
}

static void test_chain_is_whole(void **state) {
        Bench *b = *state;

        ASSERT_EQ(verify(b), 0); /* an empty one as well */
        ASSERT_EQ(fill(b, 3).id, 3);
        ASSERT_EQ(verify(b), 0);
        b->m.store = store_close(b->m.store);
        open_store(b);
        ASSERT_EQ(fill(b, 1).id, 4);
        ASSERT_EQ(verify(b), 0);
        ASSERT_EQ(json_object_get_int64(json_object_object_get(b->result, "rows")), 4);
}

static void test_each_change_is_seen_where_it_is(void **state) {
        static const struct {
                const char *sql, *kind;
                int64_t id;
        } table[] = {
                { "UPDATE audit SET record = replace(record, 'web', 'wed') WHERE id = 5", "changed", 5 },
                { "UPDATE audit SET time = time + 1 WHERE id = 5", "changed", 5 },
                { "UPDATE audit SET uid = 0 WHERE id = 10", "changed", 10 },
                { "UPDATE audit SET grid = 'x' WHERE id = 1", "changed", 1 },
                { "UPDATE audit SET user = 'x' WHERE id = 5", "changed", 5 },
                { "UPDATE audit SET operation = 'x' WHERE id = 5", "changed", 5 },
                { "UPDATE audit SET status = 'denied' WHERE id = 5", "changed", 5 },
                { "UPDATE audit SET hash = zeroblob(32) WHERE id = 5", "changed", 5 },
                { "UPDATE audit SET hash = zeroblob(32) WHERE id = 10", "changed", 10 },
                { "UPDATE audit SET hash = NULL WHERE id = 5", "added", 5 },
                { "UPDATE audit SET hash = x'00' WHERE id = 5", "added", 5 },
                { "UPDATE audit SET record = 'no JSON', hash = (SELECT hash FROM audit WHERE id = 4) WHERE "
                  "id = 5",
                                "changed", 5 },
                { "UPDATE audit SET id = 11 WHERE id = 5", "removed", 6 },
                { "DELETE FROM audit WHERE id = 5", "removed", 6 },
                { "DELETE FROM audit WHERE id <= 4", "removed", 5 },
                { "DELETE FROM audit WHERE id = 10", "cut", 9 },
                { "DELETE FROM audit", "cut", 0 },
                { "DELETE FROM key_values WHERE key = 'audit-head'", "end", 10 },
                { "DELETE FROM key_values WHERE key = 'audit-base'", "beginning", 0 },
                { "DELETE FROM key_values WHERE key LIKE 'audit-%'", "beginning", 0 },
                { "UPDATE key_values SET value = zeroblob(72) WHERE key = 'audit-head'", "end", 10 },
                { "UPDATE key_values SET value = x'00' WHERE key = 'audit-base'", "beginning", 0 },
                /* One mark in the place of the other. */
                { "UPDATE key_values SET value = (SELECT value FROM key_values WHERE key = 'audit-head') "
                  "WHERE key = 'audit-base'",
                                "beginning", 0 },
                { "INSERT INTO audit SELECT 11, time, record, grid, uid, operation, status, hash, user FROM "
                  "audit "
                  "WHERE id = 10",
                                "changed", 11 },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                void *own = NULL;
                Bench *b;

                setup(&own);
                b = own;
                (void) fill(b, 10);
                tamper(b, table[i].sql);
                print_message("%s\n", table[i].sql);
                ASSERT_TRUE(verify(b) > 0);
                assert_break(b, table[i].kind, table[i].id);

                /* The master that goes on covers nothing up, and can go on. */
                (void) fill(b, 3);
                ASSERT_TRUE(verify(b) > 0);
                teardown(&own);
        }
}

static void test_old_copy_is_seen_by_an_anchor(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *old = NULL, *anchor = NULL, *list = NULL;
        AuditMark m;
        size_t size;

        (void) fill(b, 5);
        b->m.store = store_close(b->m.store);
        ASSERT_OK(read_file(b->path, 16U * 1024U * 1024U, &old, &size));
        open_store(b);
        m = fill(b, 3);
        anchor = audit_anchor_to_string(b->m.keyring, &m);
        list = strprintf("[\"%s\"]", anchor);
        ASSERT_EQ(verify_with(b, list), 0);

        b->m.store = store_close(b->m.store);
        ASSERT_OK(write_file_atomic(b->path, old, size, 0600));
        open_store(b);
        ASSERT_EQ(verify(b), 0); /* whole in itself */
        ASSERT_EQ(verify_with(b, list), 1);
        assert_break(b, "cut", 8);
        (void) fill(b, 10); /* grown over: another row has its number now */
        ASSERT_EQ(verify_with(b, list), 1);
        assert_break(b, "anchor", 8);
}

static void test_anchors_are_read_strictly(void **state) {
        static const char *const wrong[] = { "", "x", "a:b:c", "::", "0123456789abcdef:1:00" };
        Bench *b = *state;
        _cleanup_free_ char *anchor = NULL, *foreign = NULL;
        AuditMark m = fill(b, 1), read;

        anchor = audit_anchor_to_string(b->m.keyring, &m);
        ASSERT_EQ(audit_anchor_from_string(b->m.keyring, anchor, &read), 1);
        ASSERT_TRUE(memcmp(&m, &read, sizeof(m)) == 0);
        foreign = strjoin(anchor[0] == 'a' ? "b" : "a", anchor + 1);
        ASSERT_EQ(audit_anchor_from_string(b->m.keyring, foreign, &read), 0);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                ASSERT_ERROR(audit_anchor_from_string(b->m.keyring, wrong[i], &read), EINVAL);
        anchor[strlen(anchor) - 1] = 'g';
        ASSERT_ERROR(audit_anchor_from_string(b->m.keyring, anchor, &read), EINVAL);
}

static void test_another_key_knows_nothing_of_it(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *key = strjoin(b->directory, "/master.key");

        (void) fill(b, 3);
        b->m.keyring = keyring_free(b->m.keyring);
        ASSERT_OK(unlink(key));
        ASSERT_OK(keyring_new(b->directory, &b->m.keyring, NULL));
        ASSERT_TRUE(verify(b) > 0);
        assert_break(b, "beginning", 0);
        assert_break(b, "end", 3);
}

static void test_rows_of_an_earlier_version_come_first(void **state) {
        Bench *b = *state;

        tamper(b, "INSERT INTO audit (id, time, record) VALUES (7, 1, '{}'), (9, 2, '{}')");
        ASSERT_EQ(fill(b, 2).id, 11);
        ASSERT_EQ(verify(b), 0);
        ASSERT_EQ(json_object_get_int64(json_object_object_get(b->result, "older")), 2);
        ASSERT_EQ(json_object_get_int64(json_object_object_get(b->result, "first")), 10);
        ASSERT_EQ(json_object_get_int64(json_object_object_get(b->result, "rows")), 2);
}

/* Killed before each commit and after: a row is there with its mark, or neither. */
static void test_chain_over_kills(void **state) {
        Bench *b = *state;

        for (unsigned i = 0; i < 12; i++) {
                int status;
                pid_t pid;

                b->m.store = store_close(b->m.store);
                pid = fork();
                ASSERT_TRUE(pid >= 0);
                if (pid == 0) {
                        ASSERT_OK(sd_event_new(&b->m.event)); /* that of before is the parent's */
                        open_store(b);
                        (void) fill(b, 1);
                        ASSERT_OK(store_begin(b->m.store, NULL));
                        (void) append(b);
                        if (i % 3 == 1)
                                (void) append(b);
                        if (i % 3 == 2)
                                ASSERT_OK(store_commit(b->m.store, NULL));
                        (void) kill(getpid(), SIGKILL);
                }
                ASSERT_EQ(waitpid(pid, &status, 0), pid);
                ASSERT_TRUE(WIFSIGNALED(status));
                open_store(b);
                ASSERT_EQ(verify(b), 0);
        }
        ASSERT_EQ(json_object_get_int64(json_object_object_get(b->result, "rows")), 12 + 4);
}

/* The time that this process had, which others on a busy machine cannot lengthen. */
static uint64_t used_usec(void) {
        struct timespec t;

        ASSERT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000U;
}

/* As many as are kept, and more: pruned, whole, and quick enough for everybody else. */
static void test_many_rows(void **state) {
        Bench *b = *state;
        _cleanup_(audit_row_list_done) AuditRowList l = {};
        _cleanup_free_ char *anchor = NULL, *list = NULL;
        _cleanup_json_ json_object *anchors = NULL;
        uint64_t started, took, longest = 0, work = 0;
        AuditMark first;
        size_t turns = 0;

        first = fill(b, 10);
        (void) fill(b, AUDIT_KEPT - 10);
        for (unsigned i = 0; i < 8; i++)
                (void) fill(b, 100);
        anchor = audit_anchor_to_string(b->m.keyring, &first);
        list = strprintf("[\"%s\"]", anchor);
        anchors = json_tokener_parse(list);

        started = now_monotonic();
        b->answers = 0;
        ASSERT_OK(audit_verify_start(b->m.event, b->m.store, b->m.keyring, anchors, on_done, b,
                        &b->m.audit_verify, NULL));
        for (; b->answers == 0; turns++) {
                uint64_t t = now_monotonic(), used = used_usec();

                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
                longest = MAX(longest, now_monotonic() - t);
                work = MAX(work, used_usec() - used);
                if (turns == 3) /* it goes on meanwhile, and is pruned */
                        (void) fill(b, 600);
        }
        b->m.audit_verify = audit_verify_free(b->m.audit_verify);
        took = now_monotonic() - started;
        print_message("%s\n%zu turns, the longest %llu us, all %llu us\n", json_text(b->result), turns,
                        (unsigned long long) longest, (unsigned long long) took);
        ASSERT_TRUE(json_object_get_boolean(json_object_object_get(b->result, "ok")));
        ASSERT_TRUE(json_object_get_int64(json_object_object_get(b->result, "rows")) >= AUDIT_KEPT);
        ASSERT_EQ(json_object_get_int64(json_object_object_get(b->result, "last")), AUDIT_KEPT + 1400);
        ASSERT_TRUE(turns > 5);
        ASSERT_TRUE(work < 50 * USEC_PER_MSEC);

        started = now_monotonic();
        ASSERT_OK(store_list_audit(b->m.store,
                        &(AuditFilter){ .grid = "nowhere",
                                        .uid = 1000,
                                        .operation = "service",
                                        .limit = 500 },
                        &l));
        ASSERT_EQ(l.n, 0);
        ASSERT_OK(store_list_audit(
                        b->m.store, &(AuditFilter){ .uid = -1, .refused = true, .limit = 500 }, &l));
        ASSERT_EQ(l.n, 0);
        ASSERT_OK(store_list_audit(
                        b->m.store, &(AuditFilter){ .uid = 1000, .until = UINT32_MAX, .limit = 500 }, &l));
        ASSERT_EQ(l.n, 0);
        took = now_monotonic() - started;
        print_message("three searches that find nothing: %llu us\n", (unsigned long long) took);

        started = now_monotonic();
        ASSERT_OK(store_list_audit(b->m.store, &(AuditFilter){ .uid = 1000, .limit = 500 }, &l));
        ASSERT_EQ(l.n, 500);
        ASSERT_EQ(l.rows[499]->id, AUDIT_KEPT + 1400);
        took = now_monotonic() - started;
        print_message("one that finds all: %llu us\n", (unsigned long long) took);

        tamper(b, "DELETE FROM audit WHERE id <= (SELECT min(id) FROM audit) + 10");
        ASSERT_EQ(verify(b), 1);
}

static void call(Bench *b, const char *name, const char *params) {
        Caller *caller = NULL;

        ASSERT_OK(caller_new_internal("test", &caller));
        b->answers = 0;
        operation_call(&b->m, caller, operation_find(name), json_tokener_parse(params), false, on_done, b);
        caller_unref(caller);
}

static size_t count_of_user(Bench *b, AuditFilter f, const char *user) {
        _cleanup_(audit_row_list_done) AuditRowList l = {};

        f.user = user;
        f.uid = -1;
        f.limit = 3;
        ASSERT_OK(store_list_audit(b->m.store, &f, &l));
        for (size_t i = 1; i < l.n; i++)
                ASSERT_TRUE(l.rows[i]->id > l.rows[i - 1]->id);
        return l.n;
}

static void test_rows_of_a_user_who_logs_in(void **state) {
        Bench *b = *state;

        ASSERT_OK(store_begin(b->m.store, NULL));
        for (unsigned i = 0; i < 5; i++) {
                _cleanup_json_ json_object *record = json_tokener_parse(
                                "{\"operation\":\"grid.list\",\"status\":\"success\",\"user\":\"ann@example."
                                "org\"}");
                AuditMark m;

                ASSERT_OK(audit_chain_append(b->m.store, b->m.keyring, record, &m));
                (void) append(b);
        }
        ASSERT_OK(store_commit(b->m.store, NULL));

        ASSERT_EQ(count_of_user(b, (AuditFilter){}, "ann@example.org"), 3);
        ASSERT_EQ(count_of_user(b, (AuditFilter){ .after_id = 7 }, "ann@example.org"), 1);
        ASSERT_EQ(count_of_user(b, (AuditFilter){ .before_id = 4 }, "ann@example.org"), 2);
        ASSERT_EQ(count_of_user(b, (AuditFilter){ .operation = "service" }, "ann@example.org"), 0);
        ASSERT_EQ(count_of_user(b, (AuditFilter){}, "ann"), 0);

        call(b, "audit.list", "{\"grid\":\"\",\"filter\":{\"user\":\"ann@example.org\",\"limit\":2}}");
        ASSERT_EQ(json_object_array_length(json_object_object_get(b->result, "rows")), 2);
}

static void test_long_parameters_are_shortened(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *label = NULL, *params = NULL, *labels = NULL;
        json_object *rows, *p;

        label = strprintf("\"%0200d\"", 1);
        for (unsigned i = 0; i < 100; i++) {
                char *l = labels ? strjoin(labels, ",", label) : strdup(label);

                free(labels);
                labels = l;
        }
        params = strprintf("{\"name\":\"home\",\"settings\":{\"trusted_subnets\":[%s]}}", labels);
        call(b, "grid.create", params);
        ASSERT_TRUE(kerror_is_set(&b->error));
        call(b, "audit.list", "{\"grid\":\"home\"}");
        rows = json_object_object_get(b->result, "rows");
        ASSERT_EQ(json_object_array_length(rows), 1);
        p = json_object_object_get(json_object_array_get_idx(rows, 0), "parameters");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(p, "name")), "home");
        ASSERT_TRUE(json_object_get_boolean(json_object_object_get(p, "shortened")));
        ASSERT_TRUE(!json_object_object_get(p, "settings"));
}

static void test_operations(void **state) {
        Bench *b = *state;
        json_object *rows, *row;

        call(b, "grid.create", "{\"name\":\"home\"}");
        ASSERT_EQ(b->answers, 1);
        call(b, "grid.create", "{\"name\":\"home\"}"); /* is there */
        call(b, "service.remove", "{\"grid\":\"home\",\"stack\":\"null\",\"service\":\"none\"}");
        call(b, "audit.list", "{\"grid\":\"\"}");
        ASSERT_EQ(b->answers, 1);
        rows = json_object_object_get(b->result, "rows");
        ASSERT_EQ(json_object_array_length(rows), 3);
        row = json_object_array_get_idx(rows, 0);
        ASSERT_STREQ(json_object_get_string(json_object_object_get(row, "operation")), "grid.create");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(row, "grid")), "home");
        ASSERT_STREQ(json_object_get_string(json_object_object_get(row, "status")), "success");
        ASSERT_TRUE(json_object_object_get(row, "duration") != NULL);
        row = json_object_array_get_idx(rows, 2);
        ASSERT_STREQ(json_object_get_string(json_object_object_get(row, "status")), "error");
        ASSERT_TRUE(json_object_object_get(row, "error") != NULL);

        call(b, "audit.list", "{\"grid\":\"home\",\"filter\":{\"after\":1,\"limit\":1}}");
        rows = json_object_object_get(b->result, "rows");
        ASSERT_EQ(json_object_array_length(rows), 1);
        ASSERT_EQ(json_object_get_int64(json_object_object_get(json_object_array_get_idx(rows, 0), "id")),
                        2);
        call(b, "audit.list", "{\"filter\":{\"before\":3,\"limit\":1}}");
        rows = json_object_object_get(b->result, "rows");
        ASSERT_EQ(json_object_get_int64(json_object_object_get(json_object_array_get_idx(rows, 0), "id")),
                        2);
        call(b, "audit.list", "{\"filter\":{\"limit\":501}}");
        ASSERT_EQ(b->error.code, K_INVALID_ARGUMENT);
        call(b, "audit.list", "{\"filter\":{\"colour\":1}}");
        ASSERT_EQ(b->error.code, K_INVALID_ARGUMENT);

        call(b, "audit.verify", "{\"options\":{\"anchors\":[\"nonsense\"]}}");
        ASSERT_EQ(b->error.code, K_INVALID_ARGUMENT);
        call(b, "audit.verify", "{}");
        ASSERT_EQ(b->answers, 0);
        call(b, "audit.verify", "{}"); /* one at a time */
        ASSERT_EQ(b->answers, 1);
        ASSERT_EQ(b->error.code, K_UNAVAILABLE);
        b->answers = 0;
        while (b->answers == 0)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
        ASSERT_TRUE(json_object_get_boolean(json_object_object_get(b->result, "ok")));
        ASSERT_TRUE(!b->m.audit_verify);
        call(b, "audit.verify", "{}"); /* is given up with the master */
}

#define AUDIT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
KONTENA_TESTS(AUDIT_TEST(test_chain_is_whole), cmocka_unit_test(test_each_change_is_seen_where_it_is),
                AUDIT_TEST(test_old_copy_is_seen_by_an_anchor), AUDIT_TEST(test_anchors_are_read_strictly),
                AUDIT_TEST(test_another_key_knows_nothing_of_it),
                AUDIT_TEST(test_rows_of_an_earlier_version_come_first), AUDIT_TEST(test_chain_over_kills),
                AUDIT_TEST(test_many_rows), AUDIT_TEST(test_rows_of_a_user_who_logs_in),
                AUDIT_TEST(test_long_parameters_are_shortened), AUDIT_TEST(test_operations))
