/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "ca.h"
#include "caller-token.h"
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "store.h"
#include "string-util.h"
#include "test-master.h"

/* Users, tokens and codes by their operations, on a real store; time is the test's. */

typedef struct Bench {
        Master m;
        char *directory;
        Caller *root;
        json_object *result;
        KError error;
        bool answered;
} Bench;

static uint64_t ahead;
uint64_t __real_now_realtime(void);
uint64_t __wrap_now_realtime(void);

uint64_t __wrap_now_realtime(void) {
        return __real_now_realtime() + ahead;
}

static unsigned durable, retold; /* transactions */
int __real_store_begin(Store *s, KError *reterr);
int __wrap_store_begin(Store *s, KError *reterr);
int __real_store_begin_retold(Store *s, KError *reterr);
int __wrap_store_begin_retold(Store *s, KError *reterr);

int __wrap_store_begin(Store *s, KError *reterr) {
        durable++;
        return __real_store_begin(s, reterr);
}

int __wrap_store_begin_retold(Store *s, KError *reterr) {
        retold++;
        return __real_store_begin_retold(s, reterr);
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        ahead = 0;
        b->directory = test_master_open(&b->m);
        test_master_make_ca(&b->m, b->directory);
        ASSERT_OK(identity_new(&b->m, &b->m.identity));
        ASSERT_OK(caller_new_internal("test", &b->root));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        json_object_put(b->result);
        kerror_done(&b->error);
        caller_unref(b->root);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

/* What was secret in it is erased when this returns. */
static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        b->answered = true;
        json_object_put(b->result);
        b->result = NULL;
        if (result)
                ASSERT_OK(json_parse(json_text(result), strlen(json_text(result)), 1024 * 1024, &b->result,
                                NULL));
        kerror_done(&b->error);
        if (error)
                (void) kerror_set(&b->error, error->code, "%s", kerror_message(error));
}

static KErrorCode call_as(Bench *b, Caller *caller, const char *name, const char *params) {
        const Operation *o = operation_find(name);
        json_object *p = NULL;

        ASSERT_TRUE(o != NULL);
        ASSERT_OK(json_parse(params, strlen(params), 1024 * 1024, &p, NULL));
        b->answered = false;
        operation_call(&b->m, caller, o, p, /* interactive= */ false, on_done, b);
        while (!b->answered)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
        return b->error.code;
}

#define CALL_OK(b, caller, name, params)                                                                    \
        do {                                                                                                \
                if (call_as((b), (caller), (name), (params)) != K_OK)                                       \
                        fail_msg("%s:%i: %s: %s", __FILE__, __LINE__, (name), kerror_message(&(b)->error)); \
        } while (false)
#define CALL_FAILS(b, caller, name, params, expected)                                                       \
        do {                                                                                                \
                KErrorCode _c_ = call_as((b), (caller), (name), (params));                                  \
                if (_c_ != (expected))                                                                      \
                        fail_msg("%s:%i: %s(%s) is %i: %s", __FILE__, __LINE__, (name), (params),           \
                                        (int) _c_, kerror_message(&(b)->error));                            \
        } while (false)

static char *text(Bench *b, const char *key) {
        const char *s = NULL;

        ASSERT_OK(json_get_string(b->result, key, &s, NULL));
        return strdup(s);
}

static char *with(const char *format, const char *value) {
        char *s = NULL;

        ASSERT_TRUE(asprintf(&s, format, value) >= 0);
        return s;
}

/* A user with a token that lives that long (0: for ever); the token. */
static char *make_user(Bench *b, const char *email, const char *roles, unsigned expires_in) {
        _cleanup_free_ char *invite = NULL, *create = NULL;

        ASSERT_TRUE(asprintf(&invite, "{\"email\": \"%s\", \"roles\": [%s]}", email, roles) >= 0);
        ASSERT_TRUE(asprintf(&create, "{\"scopes\": [\"user\"], \"user\": \"%s\", \"expires_in\": %u}",
                                    email, expires_in) >= 0);
        CALL_OK(b, b->root, "user.invite", invite);
        CALL_OK(b, b->root, "token.create", create);
        return text(b, "access_token");
}

static Caller *come(Bench *b, const char *bearer) {
        Caller *c = NULL;

        ASSERT_OK(caller_new_token(&b->m, bearer, false, "192.0.2.7", "test/1", &c, NULL));
        return c;
}

static uint64_t count(Bench *b, const char *sql_kind) {
        _cleanup_(user_row_list_done) UserRowList users = {};
        uint64_t n = 0;

        ASSERT_OK(store_list_users(b->m.store, &users));
        FOREACH_ARRAY(u, users.rows, users.n) {
                _cleanup_(token_row_list_done) TokenRowList l = {};

                ASSERT_OK(store_list_tokens(b->m.store, (*u)->id, &l));
                FOREACH_ARRAY(t, l.rows, l.n)
                        n += streq(token_kind_to_string((*t)->kind), sql_kind);
        }
        return n;
}

static char *admin_code(Bench *b) {
        _cleanup_(issued_token_done) IssuedToken t = {};
        char *code;

        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(identity_admin_code(&b->m, NULL, &t, NULL));
        ASSERT_OK(store_commit(b->m.store, NULL));
        code = strdup(t.token);
        return code;
}

static void test_code_gives_one_token(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *params = NULL, *token = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *admin = NULL;

        ASSERT_EQ(strlen(code), 12);
        params = with("{\"code\": \"%s\"}", code);
        CALL_OK(b, nobody, "token.exchange", params);
        token = text(b, "access_token");
        ASSERT_EQ(strlen(token), 64);
        ASSERT_TRUE(!json_object_object_get(b->result, "refresh_token")); /* does not expire */
        ASSERT_EQ(count(b, "code"), 0);

        CALL_FAILS(b, nobody, "token.exchange", params, K_NO_SUCH_TOKEN);
        ASSERT_EQ(count(b, "bearer"), 1);

        admin = come(b, token);
        ASSERT_STREQ(caller_user(admin)->email, "admin");
        ASSERT_STREQ(admin->token, token + 60);
        CALL_OK(b, admin, "user.list", "{}");
}

static void test_new_admin_code_voids_the_old(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *first = admin_code(b), *second = admin_code(b), *old = NULL, *new = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL);

        old = with("{\"code\": \"%s\"}", first);
        new = with("{\"code\": \"%s\"}", second);
        CALL_FAILS(b, nobody, "token.exchange", old, K_NO_SUCH_TOKEN);
        CALL_OK(b, nobody, "token.exchange", new);
}

static void test_code_expires(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *params = with("{\"code\": \"%s\"}", code);
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL);

        ahead = CODE_LIFETIME_USEC + USEC_PER_SEC;
        CALL_FAILS(b, nobody, "token.exchange", params, K_NO_SUCH_TOKEN);
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_prune_tokens(b->m.store, __wrap_now_realtime(), 10));
        ASSERT_OK(store_commit(b->m.store, NULL));
        ASSERT_EQ(count(b, "code"), 0);
}

/* A code is no token and a token is no code; neither is a refresh token. */
static void test_kinds_are_not_taken_for_each_other(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *token = make_user(b, "anna@example.org", "", 60),
                            *refresh = text(b, "refresh_token"), *params = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *c = NULL;

        ASSERT_EQ(caller_new_token(&b->m, code, false, NULL, NULL, &c, NULL), -EACCES);
        ASSERT_EQ(caller_new_token(&b->m, refresh, false, NULL, NULL, &c, NULL), -EACCES);
        params = with("{\"code\": \"%s\"}", token);
        CALL_FAILS(b, nobody, "token.exchange", params, K_NO_SUCH_TOKEN);
        free(params);
        params = with("{\"code\": \"%s\"}", refresh);
        CALL_FAILS(b, nobody, "token.exchange", params, K_NO_SUCH_TOKEN);
        free(params);
        params = with("{\"refresh_token\": \"%s\"}", token);
        CALL_FAILS(b, nobody, "token.refresh", params, K_NO_SUCH_TOKEN);
}

static void test_refresh_replaces_both(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "anna@example.org", "", 60),
                            *refresh = text(b, "refresh_token"), *params = NULL, *fresh = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *c = NULL, *late = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        uint64_t expires = 0;

        ASSERT_EQ(strlen(refresh), 128);
        ahead = 61 * USEC_PER_SEC;
        ASSERT_EQ(caller_new_token(&b->m, token, false, NULL, NULL, &c, &e), -EKEYEXPIRED);
        ASSERT_EQ(e.code, K_TOKEN_EXPIRED);
        ASSERT_OK(caller_new_token(&b->m, token, /* allow_expired= */ true, NULL, NULL, &late, NULL));
        ASSERT_STREQ(caller_user(late)->email, "anna@example.org");
        CALL_FAILS(b, late, "user.get", "{}", K_TOKEN_EXPIRED);

        params = with("{\"refresh_token\": \"%s\"}", refresh);
        CALL_OK(b, nobody, "token.refresh", params);
        fresh = text(b, "access_token");
        ASSERT_OK(json_get_u64(b->result, "expires_in", &expires, NULL));
        ASSERT_TRUE(expires > 7100 && expires <= 7200);
        CALL_FAILS(b, nobody, "token.refresh", params, K_NO_SUCH_TOKEN);
        ASSERT_EQ(caller_new_token(&b->m, token, true, NULL, NULL, &c, NULL), -EACCES);
        c = come(b, fresh);
        CALL_OK(b, c, "user.get", "{}");
}

static void test_refresh_token_expires(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "anna@example.org", "", 60),
                            *refresh = text(b, "refresh_token"), *params = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *c = NULL;

        params = with("{\"refresh_token\": \"%s\"}", refresh);
        ahead = TOKEN_REFRESH_USEC + USEC_PER_SEC;
        CALL_FAILS(b, nobody, "token.refresh", params, K_NO_SUCH_TOKEN);
        ASSERT_EQ(caller_new_token(&b->m, token, true, NULL, NULL, &c, NULL), -EACCES);
}

static void test_revoked_at_once(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "anna@example.org", "\"user_admin\"", 0), *params = NULL;
        _cleanup_(caller_unrefp) Caller *c = come(b, token), *again = NULL;

        CALL_OK(b, c, "user.list", "{}");
        CALL_OK(b, b->root, "user.remove-role",
                        "{\"email\": \"anna@example.org\", \"role\": \"user_admin\"}");
        CALL_FAILS(b, c, "user.list", "{}", K_ACCESS_DENIED);
        CALL_OK(b, c, "user.get", "{}");

        params = with("{\"token\": \"%s\"}", token);
        CALL_OK(b, c, "token.remove", params); /* what logs out */
        CALL_FAILS(b, c, "user.get", "{}", K_INVALID_TOKEN);
        ASSERT_EQ(caller_new_token(&b->m, token, false, NULL, NULL, &again, NULL), -EACCES);
}

static void test_removed_user_has_nothing_left(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "anna@example.org", "", 0);
        _cleanup_(caller_unrefp) Caller *c = come(b, token);

        CALL_OK(b, b->root, "grid.create", "{\"name\": \"shop\"}");
        CALL_OK(b, b->root, "grid.add-user", "{\"grid\": \"shop\", \"email\": \"anna@example.org\"}");
        CALL_OK(b, b->root, "user.map-uid", "{\"email\": \"anna@example.org\", \"uid\": 1000}");
        CALL_OK(b, b->root, "user.remove", "{\"email\": \"ANNA@example.org\"}");
        CALL_FAILS(b, c, "user.get", "{}", K_INVALID_TOKEN);
        CALL_OK(b, b->root, "grid.list-users", "{\"grid\": \"shop\"}");
        ASSERT_STREQ(json_text(b->result), "{\"users\":[]}");
        ASSERT_EQ(count(b, "bearer"), 0);

        /* Another of the same name is another. */
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"anna@example.org\"}");
        CALL_FAILS(b, c, "user.get", "{}", K_INVALID_TOKEN);
        CALL_OK(b, b->root, "user.map-uid", "{\"email\": \"anna@example.org\", \"uid\": 1000}");
}

static void test_last_master_admin_stays(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *params = with("{\"code\": \"%s\"}", code), *token = NULL,
                            *anna = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *admin = NULL, *other = NULL;

        CALL_OK(b, nobody, "token.exchange", params);
        token = text(b, "access_token");
        admin = come(b, token);
        CALL_FAILS(b, b->root, "user.remove", "{\"email\": \"admin\"}", K_CONFLICT);
        CALL_FAILS(b, b->root, "user.remove-role", "{\"email\": \"admin\", \"role\": \"master_admin\"}",
                        K_CONFLICT);

        anna = make_user(b, "anna@example.org", "\"master_admin\"", 0);
        other = come(b, anna);
        CALL_FAILS(b, admin, "user.remove", "{\"email\": \"admin\"}", K_CONFLICT); /* oneself */
        CALL_OK(b, other, "user.remove", "{\"email\": \"admin\"}");
        CALL_FAILS(b, other, "user.remove-role",
                        "{\"email\": \"anna@example.org\", \"role\": \"master_admin\"}", K_CONFLICT);
        CALL_FAILS(b, b->root, "user.remove", "{\"email\": \"anna@example.org\"}", K_CONFLICT);
        CALL_FAILS(b, admin, "user.get", "{}", K_INVALID_TOKEN);
}

/* A user_admin must not become more by way of those who are more. */
static void test_user_admin_stays_below(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *boss = make_user(b, "boss@example.org", "\"master_admin\"", 0),
                            *second = make_user(b, "second@example.org", "\"master_admin\"", 0),
                            *token = make_user(b, "ua@example.org", "\"user_admin\"", 0);
        _cleanup_(caller_unrefp) Caller *c = come(b, token);

        (void) boss;
        (void) second;
        CALL_FAILS(b, c, "user.invite", "{\"email\": \"boss@example.org\"}", K_ACCESS_DENIED);
        CALL_FAILS(b, c, "user.invite", "{\"email\": \"x@example.org\", \"roles\": [\"master_admin\"]}",
                        K_ACCESS_DENIED);
        CALL_FAILS(b, c, "user.invite", "{\"email\": \"admin\"}", K_CONFLICT);
        CALL_FAILS(b, c, "user.remove", "{\"email\": \"boss@example.org\"}", K_ACCESS_DENIED);
        CALL_FAILS(b, c, "user.add-role", "{\"email\": \"ua@example.org\", \"role\": \"master_admin\"}",
                        K_ACCESS_DENIED);
        CALL_FAILS(b, c, "token.create", "{\"scopes\": [\"user\"], \"user\": \"boss@example.org\"}",
                        K_ACCESS_DENIED);
        CALL_FAILS(b, c, "token.create", "{\"scopes\": [\"owner\"]}", K_ACCESS_DENIED);
        CALL_FAILS(b, c, "token.list", "{\"user\": \"boss@example.org\"}", K_ACCESS_DENIED);
        CALL_FAILS(b, c, "user.map-uid", "{\"email\": \"ua@example.org\", \"uid\": 0}", K_ACCESS_DENIED);
        CALL_OK(b, c, "user.invite", "{\"email\": \"New@example.org\", \"name\": \"New\"}");
        CALL_OK(b, c, "user.invite", "{\"email\": \"new@example.org\"}"); /* who has not come yet */
}

/* Who was invited and has not come yet may have been given something since. */
static void test_user_admin_does_not_come_in_anothers_place(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "ua@example.org", "\"user_admin\"", 0);
        _cleanup_(caller_unrefp) Caller *c = come(b, token);
        static const char again[] = "{\"email\": \"new@example.org\"}";

        CALL_OK(b, c, "user.invite", again);
        CALL_OK(b, b->root, "grid.create",
                        "{\"name\": \"theirs\", \"settings\": {\"subnet\": \"10.90.0.0/16\"}}");
        CALL_OK(b, b->root, "grid.add-user", "{\"grid\": \"theirs\", \"email\": \"new@example.org\"}");
        CALL_FAILS(b, c, "user.invite", again, K_ACCESS_DENIED);
        CALL_OK(b, b->root, "user.invite", again);
        CALL_OK(b, b->root, "grid.add-user", "{\"grid\": \"theirs\", \"email\": \"ua@example.org\"}");
        CALL_OK(b, c, "user.invite", again); /* they are both in it */
        CALL_OK(b, b->root, "user.map-uid", "{\"email\": \"new@example.org\", \"uid\": 1000}");
        CALL_FAILS(b, c, "user.invite", again, K_ACCESS_DENIED);
}

static void test_tokens_are_their_owners(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *anna = make_user(b, "anna@example.org", "", 0),
                            *bert = make_user(b, "bert@example.org", "\"user_admin\"", 0), *params = NULL;
        _cleanup_(caller_unrefp) Caller *c = come(b, bert);

        params = with("{\"token\": \"%s\"}", anna);
        CALL_FAILS(b, c, "token.get", params, K_ACCESS_DENIED);
        CALL_FAILS(b, c, "token.remove", params, K_ACCESS_DENIED);
        CALL_FAILS(b, c, "token.get", "{\"token\": \"nope\"}", K_NO_SUCH_TOKEN);
        CALL_OK(b, b->root, "token.get", params);
        ASSERT_TRUE(!json_object_object_get(b->result, "access_token"));
        CALL_OK(b, c, "token.list", "{}");
        ASSERT_TRUE(!strstr(json_text(b->result), bert));
        ASSERT_TRUE(strstr(json_text(b->result), bert + 60));
}

static void test_code_gives_what_was_ordered(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "anna@example.org", "", 0), *code = NULL, *params = NULL;
        _cleanup_(caller_unrefp) Caller *c = come(b, token);
        uint64_t expires = 0;

        CALL_OK(b, c, "token.create",
                        "{\"scopes\": [\"user\"], \"kind\": \"code\", \"expires_in\": 100, \"description\": "
                        "\"laptop\"}");
        code = text(b, "code");
        params = with("{\"code\": \"%s\"}", code);
        CALL_OK(b, c, "token.exchange", params);
        ASSERT_OK(json_get_u64(b->result, "expires_in", &expires, NULL));
        ASSERT_TRUE(expires > 90 && expires <= 100);
        ASSERT_TRUE(strstr(json_text(b->result), "laptop") &&
                        json_object_object_get(b->result, "refresh_token"));
        CALL_FAILS(b, c, "token.create", "{\"scopes\": [\"root\"]}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, c, "token.create", "{\"scopes\": []}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, c, "token.create", "{\"scopes\": [\"user\"], \"kind\": \"x\"}", K_INVALID_ARGUMENT);
}

static void test_too_many_wrong_codes(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *params = with("{\"code\": \"%s\"}", code),
                            *token = make_user(b, "anna@example.org", "", 60),
                            *refresh = text(b, "refresh_token"), *more = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *anna = come(b, token);
        AuditFilter f = { .operation = "token.exchange", .uid = -1, .limit = 500 };
        _cleanup_(audit_row_list_done) AuditRowList rows = {};
        unsigned n = 0;

        while (call_as(b, nobody, "token.exchange", "{\"code\": \"000000000000\"}") == K_NO_SUCH_TOKEN)
                ASSERT_TRUE(n++ < 10 * WRONG_CODES_BURST);
        ASSERT_EQ(b->error.code, K_LIMIT_EXCEEDED);
        ASSERT_TRUE(n >= WRONG_CODES_BURST);
        CALL_FAILS(b, nobody, "token.exchange", params, K_LIMIT_EXCEEDED); /* also the right one */

        /* Who is logged in notices nothing, and the refused leave no trace. */
        more = with("{\"refresh_token\": \"%s\"}", refresh);
        CALL_OK(b, anna, "user.get", "{}");
        CALL_OK(b, nobody, "token.refresh", more);
        ASSERT_OK(store_list_audit(b->m.store, &f, &rows));
        ASSERT_EQ(rows.n, n);
        ASSERT_TRUE(n < f.limit);
}

static void test_nothing_secret_is_kept(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *params = with("{\"code\": \"%s\"}", code),
                            *bearer = NULL, *anna = NULL, *refresh = NULL, *invite = NULL, *all = NULL,
                            *wal = NULL;
        _cleanup_free_ char *path = strjoin(b->directory, "/kontena.db"),
                            *wal_path = strjoin(b->directory, "/kontena.db-wal");
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL);
        size_t size = 0, wal_size = 0;

        CALL_OK(b, nobody, "token.exchange", params);
        bearer = text(b, "access_token");
        anna = make_user(b, "anna@example.org", "", 60);
        refresh = text(b, "refresh_token");
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        invite = text(b, "invite_code");
        CALL_FAILS(b, nobody, "token.exchange", params, K_NO_SUCH_TOKEN);

        ASSERT_OK(read_file(path, 64 * 1024 * 1024, &all, &size));
        ASSERT_OK(read_file(wal_path, 64 * 1024 * 1024, &wal, &wal_size));
        ASSERT_TRUE(memmem(wal, wal_size, "anna@example.org", 16)); /* the search would find */
        for (const char *const *s = (const char *const[]){ code, bearer, anna, refresh, invite, NULL }; *s;
                        s++)
                ASSERT_TRUE(!memmem(all, size, *s, strlen(*s)) && !memmem(wal, wal_size, *s, strlen(*s)));
}

static void test_audit_says_who_came(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *code = admin_code(b), *params = with("{\"code\": \"%s\"}", code), *token = NULL;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL), *admin = NULL;
        _cleanup_(audit_row_freep) AuditRow *first = NULL, *second = NULL;

        CALL_OK(b, nobody, "token.exchange", params);
        token = text(b, "access_token");
        ASSERT_OK(store_last_audit(b->m.store, &first));
        ASSERT_TRUE(strstr(first->record, "\"user\":\"admin\"") && strstr(first->record, "192.0.2.7") &&
                        strstr(first->record, "test/1"));

        admin = come(b, token);
        CALL_OK(b, admin, "grid.create", "{\"name\": \"shop\"}");
        ASSERT_OK(store_last_audit(b->m.store, &second));
        ASSERT_TRUE(strstr(second->record, "\"user\":\"admin\"") &&
                        strstr(second->record, "\"caller\":\"token\""));
        ASSERT_TRUE(strstr(second->record, token + 60) && !strstr(second->record, token));
}

static void test_creator_becomes_a_member(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *token = make_user(b, "boss@example.org", "\"master_admin\"", 0),
                            *anna = make_user(b, "anna@example.org", "", 0);
        _cleanup_(caller_unrefp) Caller *c = come(b, token), *a = come(b, anna);

        CALL_OK(b, c, "grid.create", "{\"name\": \"shop\"}");
        CALL_OK(b, b->root, "grid.create", "{\"name\": \"other\"}");
        CALL_OK(b, c, "grid.list-users", "{\"grid\": \"shop\"}");
        ASSERT_TRUE(strstr(json_text(b->result), "boss@example.org"));
        CALL_FAILS(b, c, "grid.remove-user", "{\"grid\": \"shop\", \"email\": \"boss@example.org\"}",
                        K_CONFLICT);
        CALL_FAILS(b, c, "grid.remove-user", "{\"grid\": \"shop\", \"email\": \"anna@example.org\"}",
                        K_NO_SUCH_USER);
        CALL_FAILS(b, c, "grid.add-user", "{\"grid\": \"shop\", \"email\": \"who@example.org\"}",
                        K_NO_SUCH_USER);

        /* A list of grids has only one's own. */
        CALL_OK(b, a, "grid.list", "{}");
        ASSERT_TRUE(!strstr(json_text(b->result), "shop"));
        CALL_FAILS(b, a, "grid.get", "{\"grid\": \"shop\"}", K_ACCESS_DENIED);
        CALL_FAILS(b, a, "grid.get", "{\"grid\": \"nowhere\"}", K_ACCESS_DENIED); /* no way to tell */
        CALL_OK(b, c, "grid.add-user", "{\"grid\": \"shop\", \"email\": \"anna@example.org\"}");
        CALL_OK(b, a, "grid.list", "{}");
        ASSERT_TRUE(strstr(json_text(b->result), "shop") && !strstr(json_text(b->result), "other"));
        CALL_OK(b, a, "grid.get", "{\"grid\": \"shop\"}");
        CALL_FAILS(b, a, "grid.add-user", "{\"grid\": \"shop\", \"email\": \"boss@example.org\"}",
                        K_ACCESS_DENIED);
        CALL_OK(b, c, "grid.remove-user", "{\"grid\": \"shop\", \"email\": \"anna@example.org\"}");
        CALL_FAILS(b, a, "grid.get", "{\"grid\": \"shop\"}", K_ACCESS_DENIED);
}

static void test_config_keeps_secrets(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *all = NULL, *wal = NULL;
        _cleanup_free_ char *path = strjoin(b->directory, "/kontena.db"),
                            *wal_path = strjoin(b->directory, "/kontena.db-wal");
        _cleanup_(audit_row_freep) AuditRow *audit = NULL;
        size_t size = 0, wal_size = 0;

        CALL_OK(b, b->root, "config.set",
                        "{\"values\": {\"oauth2.client_secret\": \"hush-hush-1\", \"oauth2.client_id\": "
                        "\"abc\", "
                        "\"server.name\": \"m1\", \"n\": 5, \"b\": true}}");
        ASSERT_OK(store_last_audit(b->m.store, &audit));
        ASSERT_TRUE(strstr(audit->record, "oauth2.client_secret") && !strstr(audit->record, "abc") &&
                        !strstr(audit->record, "hush"));
        CALL_OK(b, b->root, "config.get", "{\"key\": \"oauth2.client_secret\"}");
        ASSERT_STREQ(json_text(b->result), "{\"key\":\"oauth2.client_secret\",\"value\":\"hush-hush-1\"}");
        CALL_OK(b, b->root, "config.list", "{\"filter\": \"oauth2.*\"}");
        ASSERT_STREQ(json_text(b->result),
                        "{\"values\":{\"oauth2.client_id\":\"abc\",\"oauth2.client_secret\":"
                        "\"hush-hush-1\"}}");
        CALL_OK(b, b->root, "config.list", "{\"filter\": \"name\"}");
        ASSERT_STREQ(json_text(b->result), "{\"values\":{\"server.name\":\"m1\"}}");
        CALL_OK(b, b->root, "config.get", "{\"key\": \"n\"}");
        ASSERT_STREQ(json_text(b->result), "{\"key\":\"n\",\"value\":\"5\"}");
        ASSERT_OK(read_file(path, 64 * 1024 * 1024, &all, &size));
        ASSERT_OK(read_file(wal_path, 64 * 1024 * 1024, &wal, &wal_size));
        ASSERT_TRUE(memmem(wal, wal_size, "oauth2.client_id", 16));
        ASSERT_TRUE(!memmem(all, size, "hush-hush-1", 11) && !memmem(wal, wal_size, "hush-hush-1", 11));

        CALL_FAILS(b, b->root, "config.set", "{\"values\": {\"server.salt\": \"x\"}}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, b->root, "config.set", "{\"values\": {\"a b\": \"x\"}}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, b->root, "config.set", "{\"values\": {\"a\": [\"x\"]}}", K_INVALID_ARGUMENT);
        CALL_FAILS(b, b->root, "config.get", "{\"key\": \"a\"}", K_NO_SUCH_KEY);
        CALL_OK(b, b->root, "config.unset", "{\"key\": \"n\"}");
        CALL_OK(b, b->root, "config.unset", "{\"key\": \"n\"}"); /* is so already */
        CALL_OK(b, b->root, "config.set", "{\"values\": {\"b\": null, \"c\": \"1\"}}");
        CALL_FAILS(b, b->root, "config.get", "{\"key\": \"b\"}", K_NO_SUCH_KEY);
        CALL_OK(b, b->root, "config.set", "{\"values\": {\"only\": \"1\"}, \"replace\": true}");
        CALL_OK(b, b->root, "config.list", "{}");
        ASSERT_STREQ(json_text(b->result), "{\"values\":{\"only\":\"1\"}}");
}

static void test_too_much_config_is_refused(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *large = calloc(1, CONFIG_VALUE_SIZE_MAX + 2), *params = NULL;
        _cleanup_json_ json_object *o = json_object_new_object(), *values = json_object_new_object();

        memset(large, 'x', CONFIG_VALUE_SIZE_MAX + 1);
        params = with("{\"values\": {\"large\": \"%s\"}}", large);
        CALL_FAILS(b, b->root, "config.set", params, K_LIMIT_EXCEEDED);
        for (unsigned i = 0; i <= CONFIG_KEYS_MAX; i++) {
                _cleanup_free_ char *key = strprintf("k%u", i);

                ASSERT_OK(json_add_string(values, key, "x"));
        }
        ASSERT_OK(json_add(o, "values", TAKE_PTR(values)));
        CALL_FAILS(b, b->root, "config.set", json_text(o), K_LIMIT_EXCEEDED);
        CALL_FAILS(b, b->root, "config.get", "{\"key\": \"k1\"}", K_NO_SUCH_KEY);
}

/* Who the provider calls x is another when the provider is. */
static void test_new_provider_knows_nobody(void **state) {
        Bench *b = *state;
        _cleanup_(user_row_freep) UserRow *before = NULL, *after = NULL;

        CALL_OK(b, b->root, "user.invite", "{\"email\": \"anna@example.org\", \"external_id\": \"77\"}");
        CALL_OK(b, b->root, "config.set", "{\"values\": {\"server.name\": \"m1\"}}");
        ASSERT_OK(store_find_user_by_external_id(b->m.store, "77", &before));
        CALL_OK(b, b->root, "config.set", "{\"values\": {\"oauth2.userinfo_endpoint\": \"https://x\"}}");
        ASSERT_EQ(store_find_user_by_external_id(b->m.store, "77", &after), -ENOENT);
}

static void test_first_administrator(void **state) {
        Bench *b = *state;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL);
        _cleanup_(user_row_freep) UserRow *admin = NULL;

        ASSERT_EQ(setenv("INITIAL_ADMIN_CODE", "short", 1), 0);
        ASSERT_OK(identity_start(&b->m, NULL)); /* the code is not taken */
        ASSERT_TRUE(!getenv("INITIAL_ADMIN_CODE"));
        ASSERT_OK(store_find_user(b->m.store, "admin", &admin));
        ASSERT_TRUE(user_has_role(admin, ROLE_MASTER_ADMIN));
        ASSERT_EQ(count(b, "code"), 0);
        CALL_FAILS(b, nobody, "token.exchange", "{\"code\": \"short\"}", K_NO_SUCH_TOKEN);
        CALL_FAILS(b, nobody, "master.admin-code", "{}", K_ACCESS_DENIED);
        CALL_OK(b, b->root, "master.admin-code", "{}");
        ASSERT_EQ(count(b, "code"), 1);

        /* Once there is somebody, what is in the environment opens nothing. */
        ASSERT_EQ(setenv("INITIAL_ADMIN_CODE", "long-enough-code", 1), 0);
        ASSERT_OK(identity_start(&b->m, NULL));
        CALL_FAILS(b, nobody, "token.exchange", "{\"code\": \"long-enough-code\"}", K_NO_SUCH_TOKEN);
}

static void test_first_administrators_code_is_given(void **state) {
        Bench *b = *state;
        _cleanup_(caller_unrefp) Caller *nobody = come(b, NULL);
        _cleanup_free_ char *path = strjoin(b->directory, "/kontena.admin-code");

        ASSERT_OK(write_file_atomic(path, "from-a-credential\n", 18, 0600));
        ASSERT_EQ(setenv("CREDENTIALS_DIRECTORY", b->directory, 1), 0);
        ASSERT_EQ(setenv("INITIAL_ADMIN_CODE", "from-the-environment", 1), 0);
        ASSERT_OK(identity_start(&b->m, NULL));
        ASSERT_EQ(unsetenv("CREDENTIALS_DIRECTORY"), 0);
        CALL_FAILS(b, nobody, "token.exchange", "{\"code\": \"from-the-environment\"}", K_NO_SUCH_TOKEN);
        CALL_OK(b, nobody, "token.exchange", "{\"code\": \"from-a-credential\"}");
        CALL_FAILS(b, nobody, "token.exchange", "{\"code\": \"from-a-credential\"}", K_NO_SUCH_TOKEN);
}

static void test_emails(void **state) {
        static const char *const good[] = { "a@b.c", "Anna.Smith+x@Example.ORG", "admin", NULL };
        static const char *const bad[] = { "", "a", "a@b", "@b.c", "a b@c.d", "a@.b", "a@b.", "a/b@c.d",
                "a@b.c\n", NULL };

        for (const char *const *s = good; *s; s++) {
                _cleanup_free_ char *l = NULL;

                ASSERT_OK(email_normalize(*s, &l, NULL));
        }
        for (const char *const *s = bad; *s; s++) {
                _cleanup_free_ char *l = NULL;

                ASSERT_EQ(email_normalize(*s, &l, NULL), -EINVAL);
        }
}

static unsigned told;
static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        told += kind == STORE_TOKEN;
}

static void hand_over(Bench *b) {
        for (unsigned i = 0; i < 8; i++)
                ASSERT_OK(sd_event_run(b->m.event, 0));
}

/* A thousand that come at once, as after a restart, are one write that waits for no disk, and nobody looks at each tunnel for it. */
static void test_uses_are_written_together(void **state) {
        Bench *b = *state;
        Caller *callers[4];
        char *tokens[4];
        uint64_t before;

        ASSERT_OK(store_watch(b->m.store, on_change, NULL));
        for (unsigned i = 0; i < ELEMENTSOF(tokens); i++) {
                _cleanup_free_ char *email = NULL;

                ASSERT_TRUE(asprintf(&email, "u%u@example.org", i) >= 0);
                tokens[i] = make_user(b, email, "", 0);
        }
        hand_over(b);
        ASSERT_EQ(told, ELEMENTSOF(tokens));
        told = durable = retold = 0;

        ahead = 2ULL * 60 * USEC_PER_SEC;
        for (unsigned i = 0; i < ELEMENTSOF(tokens); i++) {
                callers[i] = come(b, tokens[i]);
                caller_unref(come(b, tokens[i]));
        }
        ASSERT_EQ(durable + retold, 0);
        before = __wrap_now_realtime();
        while (retold == 0)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
        hand_over(b);
        ASSERT_EQ(retold, 1);
        ASSERT_EQ(durable, 0);
        ASSERT_EQ(told, 0);

        for (unsigned i = 0; i < ELEMENTSOF(tokens); i++) {
                _cleanup_(token_row_freep) TokenRow *row = NULL;

                ASSERT_OK(store_get_token(b->m.store, caller_token_id(callers[i]), &row));
                ASSERT_TRUE(row->used_at > ahead && row->used_at <= before);
                caller_unref(callers[i]);
                /* Within the minute nothing is written. */
                caller_unref(come(b, tokens[i]));
                free(tokens[i]);
        }
        b->m.identity = identity_free(b->m.identity);
        ASSERT_EQ(retold, 1);
}

static void test_uses_are_kept_by_the_end(void **state) {
        Bench *b = *state;
        _cleanup_(token_row_freep) TokenRow *row = NULL;
        _cleanup_(caller_unrefp) Caller *c = NULL;
        _cleanup_free_ char *token = NULL;

        token = make_user(b, "u@example.org", "", 0);
        c = come(b, token);
        b->m.identity = identity_free(b->m.identity);
        ASSERT_OK(store_get_token(b->m.store, caller_token_id(c), &row));
        ASSERT_TRUE(row->used_at > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
KONTENA_TESTS(TEST(test_code_gives_one_token), TEST(test_new_admin_code_voids_the_old),
                TEST(test_code_expires), TEST(test_kinds_are_not_taken_for_each_other),
                TEST(test_refresh_replaces_both), TEST(test_refresh_token_expires),
                TEST(test_revoked_at_once), TEST(test_removed_user_has_nothing_left),
                TEST(test_last_master_admin_stays), TEST(test_user_admin_stays_below),
                TEST(test_user_admin_does_not_come_in_anothers_place), TEST(test_tokens_are_their_owners),
                TEST(test_code_gives_what_was_ordered), TEST(test_too_many_wrong_codes),
                TEST(test_nothing_secret_is_kept), TEST(test_audit_says_who_came),
                TEST(test_creator_becomes_a_member), TEST(test_config_keeps_secrets),
                TEST(test_too_much_config_is_refused), TEST(test_new_provider_knows_nobody),
                TEST(test_first_administrator), TEST(test_first_administrators_code_is_given),
                TEST(test_emails), TEST(test_uses_are_written_together), TEST(test_uses_are_kept_by_the_end))
