/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "caller-token.h"
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "login.h"
#include "operation.h"
#include "store.h"
#include "string-util.h"
#include "test-master.h"

/* Logins at a provider that is a process of its own. */

extern char **environ;
static pid_t provider;
static char port[16];

typedef struct Bench {
        Master m;
        char *directory;
        Caller *root, *nobody;
        char *location; /* of the last answer */
        char *token;
        KError error;
        bool answered;
} Bench;

static int start_provider(void **state) {
        char *argv[] = { (char *) "python3", getenv("TEST_PROVIDER"), NULL };
        posix_spawn_file_actions_t actions;
        int pipe_fd[2];
        ssize_t n;

        ASSERT_TRUE(argv[1]);
        ASSERT_EQ(pipe2(pipe_fd, O_CLOEXEC), 0);
        ASSERT_EQ(posix_spawn_file_actions_init(&actions), 0);
        ASSERT_EQ(posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDOUT_FILENO), 0);
        ASSERT_EQ(posix_spawnp(&provider, "python3", &actions, NULL, argv, environ), 0);
        (void) posix_spawn_file_actions_destroy(&actions);
        safe_close(pipe_fd[1]);
        n = loop_read(pipe_fd[0], port, sizeof(port) - 1); /* it closes its end behind the line */
        safe_close(pipe_fd[0]);
        ASSERT_TRUE(n > 1);
        port[strcspn(port, "\n")] = '\0';
        return 0;
}

static int stop_provider(void **state) {
        ASSERT_EQ(kill(provider, SIGTERM), 0);
        ASSERT_EQ(waitpid(provider, NULL, 0), provider);
        return 0;
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        ASSERT_OK(identity_new(&b->m, &b->m.identity));
        ASSERT_OK(caller_new_internal("test", &b->root));
        ASSERT_OK(caller_new_token(&b->m, NULL, false, "192.0.2.7", "test/1", &b->nobody, NULL));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        ASSERT_EQ(b->m.n_logins, 0);
        free(b->location);
        free(b->token);
        kerror_done(&b->error);
        caller_unref(b->root);
        caller_unref(b->nobody);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;
        const char *s = NULL;

        b->answered = true;
        if (result && json_find_string(result, "location", &s, NULL) > 0)
                ASSERT_OK(free_and_strdup(&b->location, s));
        s = NULL;
        if (result && (json_find_string(result, "access_token", &s, NULL) > 0 ||
                                      json_find_string(result, "invite_code", &s, NULL) > 0))
                ASSERT_OK(free_and_strdup(&b->token, s));
        kerror_done(&b->error);
        if (error)
                (void) kerror_set(&b->error, error->code, "%s", kerror_message(error));
}

static void begin_call(Bench *b, Caller *caller, const char *name, json_object *params) {
        b->answered = false;
        operation_call(&b->m, caller, operation_find(name), params, /* interactive= */ false, on_done, b);
}

static KErrorCode call(Bench *b, Caller *caller, const char *name, const char *params) {
        json_object *p = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 1024 * 1024, &p, NULL));
        begin_call(b, caller, name, p);
        while (!b->answered)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
        return b->error.code;
}

#define CALL_OK(b, caller, name, params)                                                                    \
        do {                                                                                                \
                if (call((b), (caller), (name), (params)) != K_OK)                                          \
                        fail_msg("%s:%i: %s: %s", __FILE__, __LINE__, (name), kerror_message(&(b)->error)); \
        } while (false)

static void set(Bench *b, const char *key, const char *value) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *values = json_object_new_object();

        ASSERT_OK(json_add_string(values, key, value));
        ASSERT_OK(json_add(o, "values", values));
        CALL_OK(b, b->root, "config.set", json_text(o));
}

static void set_endpoint(Bench *b, const char *key, const char *path) {
        _cleanup_free_ char *url = strjoin("http://127.0.0.1:", port, path);

        set(b, key, url);
}

static void configure(Bench *b) {
        set(b, "server.root_url", "https://master.example:9292/");
        set(b, "server.name", "the master");
        set(b, "oauth2.client_id", "the-client");
        set(b, "oauth2.client_secret", "s3cret/+ &=%");
        set_endpoint(b, "oauth2.authorize_endpoint", "/authorize?x=1");
        set_endpoint(b, "oauth2.token_endpoint", "/token");
        set_endpoint(b, "oauth2.userinfo_endpoint", "/userinfo");
}

/* The value of a parameter of the location, in hex or base64url, so that nothing needs decoding. */
static char *parameter(Bench *b, const char *key) {
        _cleanup_free_ char *start = strjoin(key, "=");
        const char *p = strstr(b->location, start);

        if (!p)
                return NULL;
        p += strlen(start);
        return strndup(p, strcspn(p, "&"));
}

static void begin(Bench *b, Caller *caller, const char *invite) {
        _cleanup_free_ char *params = strjoin(
                        "{\"redirect_uri\": \"http://localhost:1234/cb?x=y\", \"expires_in\": 100",
                        invite ? ", \"invite_code\": \"" : "", strempty(invite), invite ? "\"}" : "}");

        CALL_OK(b, caller, "login.begin", params);
}

static json_object *finish_params(const char *user, const char *challenge, const char *state) {
        _cleanup_free_ char *code = strjoin(user, ".", challenge ?: "-");
        json_object *o = json_object_new_object();

        ASSERT_OK(json_add_string(o, "code", code));
        ASSERT_OK(json_add_string(o, "state", state));
        return o;
}

/* As the provider would send the browser back; a code of it serves once, so each login has another. */
static KErrorCode finish(Bench *b, const char *user) {
        _cleanup_free_ char *state = parameter(b, "&state"), *challenge = parameter(b, "code_challenge");

        begin_call(b, b->nobody, "login.finish", finish_params(user, challenge, state));
        while (!b->answered)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
        return b->error.code;
}

static KErrorCode log_in(Bench *b, Caller *caller, const char *user) {
        begin(b, caller, NULL);
        return finish(b, user);
}

/* The code of the location for a token; whose it is. */
static char *exchange(Bench *b) {
        _cleanup_free_ char *code = parameter(b, "code"),
                            *params = strjoin("{\"code\": \"", strempty(code), "\"}");
        _cleanup_(caller_unrefp) Caller *c = NULL;

        ASSERT_TRUE(code && strlen(code) == 12);
        CALL_OK(b, b->nobody, "token.exchange", params);
        ASSERT_OK(caller_new_token(&b->m, b->token, false, NULL, NULL, &c, NULL));
        ASSERT_EQ(call(b, b->nobody, "token.exchange", params), K_NO_SUCH_TOKEN);
        return strdup(caller_user(c)->email);
}

static unsigned count_descriptors(void) {
        _cleanup_(closedirp) DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        ASSERT_TRUE(d);
        while (readdir(d))
                n++;
        return n;
}

static void set_pkce(Bench *b) {
        configure(b);
        set(b, "oauth2.pkce", "true");
}

static void test_invited_by_code(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *who = NULL, *invite = NULL, *again = NULL;
        _cleanup_(user_row_freep) UserRow *user = NULL;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"someone@example.org\"}");
        invite = strdup(b->token);
        begin(b, b->nobody, invite);
        ASSERT_TRUE(startswith(b->location, "http://127.0.0.1:") && strstr(b->location, "/authorize?x=1&") &&
                        strstr(b->location, "redirect_uri=https%3A%2F%2Fmaster.example%3A9292%2Fcb") &&
                        strstr(b->location, "scope=user%3Aemail") &&
                        strstr(b->location, "code_challenge_method=S256"));
        if (finish(b, "anna") != K_OK)
                fail_msg("%s", kerror_message(&b->error));
        ASSERT_TRUE(startswith(b->location, "http://localhost:1234/cb?x=y&code=") &&
                        strstr(b->location, "&server_name=the%20master"));
        who = exchange(b);
        ASSERT_STREQ(who, "someone@example.org");
        ASSERT_OK(store_find_user(b->m.store, "someone@example.org", &user));
        ASSERT_STREQ(user->external_id, "77");
        ASSERT_STREQ(user->name, "anna");

        /* The invitation is used up; the account is known from now on. */
        again = strjoin("{\"redirect_uri\": \"/code\", \"invite_code\": \"", invite, "\"}");
        ASSERT_EQ(call(b, b->nobody, "login.begin", again), K_ACCESS_DENIED);
        ASSERT_EQ(log_in(b, b->nobody, "anna"), K_OK);
        free(who);
        who = exchange(b);
        ASSERT_STREQ(who, "someone@example.org");
}

/* Two logins by one invitation: the second to come back is too late. */
static void test_invitation_serves_once(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *invite = NULL, *first = NULL;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"someone@example.org\"}");
        invite = strdup(b->token);
        begin(b, b->nobody, invite);
        first = strdup(b->location);
        begin(b, b->nobody, invite);
        ASSERT_EQ(finish(b, "bert"), K_OK);
        ASSERT_OK(free_and_strdup(&b->location, first));
        ASSERT_EQ(finish(b, "thief"), K_ACCESS_DENIED);
}

static void test_state_serves_once(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *location = NULL, *other = NULL;

        configure(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"anna@example.org\"}");
        begin(b, b->nobody, NULL);
        location = strdup(b->location);
        ASSERT_EQ(finish(b, "anna"), K_OK);
        ASSERT_OK(free_and_strdup(&b->location, location));
        ASSERT_EQ(finish(b, "anna"), K_INVALID_ARGUMENT);
        ASSERT_EQ(call(b, b->nobody, "login.finish", "{\"code\": \"anna.-\", \"state\": \"\"}"),
                        K_INVALID_ARGUMENT);
        ASSERT_EQ(call(b, b->nobody, "login.finish", "{\"code\": \"anna.-\", \"state\": \"0000\"}"),
                        K_INVALID_ARGUMENT);

        /* Also when the provider said no, and while it is being asked. */
        begin(b, b->nobody, NULL);
        free(location);
        location = strdup(b->location);
        ASSERT_EQ(finish(b, "stranger"), K_NOT_AUTHENTICATED);
        ASSERT_OK(free_and_strdup(&b->location, location));
        ASSERT_EQ(finish(b, "anna"), K_INVALID_ARGUMENT);

        begin(b, b->nobody, NULL);
        other = parameter(b, "&state");
        begin_call(b, b->nobody, "login.finish", finish_params("bert", NULL, other));
        ASSERT_TRUE(!b->answered);
        begin_call(b, b->nobody, "login.finish", finish_params("bert", NULL, other));
        ASSERT_TRUE(b->answered);
        ASSERT_EQ(b->error.code, K_INVALID_ARGUMENT);
}

static void test_verifier_is_checked_by_the_provider(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *s = NULL;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        begin(b, b->nobody, NULL);
        s = parameter(b, "&state");
        begin_call(b, b->nobody, "login.finish", finish_params("bert", "anothers-challenge", s));
        while (!b->answered)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
        ASSERT_EQ(b->error.code, K_NOT_AUTHENTICATED);
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_OK);
}

static void test_basic_authentication_and_forms(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *who = NULL;

        set_pkce(b);
        set(b, "oauth2.code_requires_basic_auth", "true");
        set(b, "oauth2.token_post_content_type", "application/x-www-form-urlencoded");
        set_endpoint(b, "oauth2.token_endpoint", "/basic/token");
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        if (log_in(b, b->nobody, "bert") != K_OK)
                fail_msg("%s", kerror_message(&b->error));
        who = exchange(b);
        ASSERT_STREQ(who, "bert@example.org");
}

static void test_token_in_the_path(void **state) {
        Bench *b = *state;

        set_pkce(b);
        set_endpoint(b, "oauth2.userinfo_endpoint", "/path/:access_token");
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        if (log_in(b, b->nobody, "bert") != K_OK)
                fail_msg("%s", kerror_message(&b->error));
}

static void test_wrong_secret_is_no_login(void **state) {
        Bench *b = *state;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        set(b, "oauth2.client_secret", "wrong");
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_NOT_AUTHENTICATED);
        ASSERT_TRUE(!strstr(kerror_message(&b->error), "wrong") &&
                        !strstr(kerror_message(&b->error), "401"));
}

static void test_only_known_people_come_in(void **state) {
        Bench *b = *state;

        set_pkce(b);
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_ACCESS_DENIED);
        ASSERT_EQ(log_in(b, b->nobody, "nobody"), K_ACCESS_DENIED);
        ASSERT_OK(identity_start(&b->m, NULL));
        ASSERT_EQ(log_in(b, b->nobody, "admin"), K_ACCESS_DENIED);

        /* anna's address, but not her account: before she has come, and after. */
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"anna@example.org\"}");
        ASSERT_EQ(log_in(b, b->nobody, "unverified"), K_ACCESS_DENIED);
        ASSERT_EQ(log_in(b, b->nobody, "anna"), K_OK);
        ASSERT_EQ(log_in(b, b->nobody, "thief"), K_ACCESS_DENIED);
        ASSERT_EQ(log_in(b, b->nobody, "anna"), K_OK);
        set(b, "oauth2.userinfo_email_verified_jsonpath", "$..email_verified");
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_ACCESS_DENIED);
}

/* With somebody else's token in hand one does not become them by an account of one's own. */
static void test_tokens_do_not_bind_accounts(void **state) {
        Bench *b = *state;
        _cleanup_(caller_unrefp) Caller *c = NULL;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"anna@example.org\"}");
        CALL_OK(b, b->root, "token.create", "{\"scopes\": [\"user\"], \"user\": \"anna@example.org\"}");
        ASSERT_EQ(log_in(b, b->nobody, "anna"), K_OK);
        ASSERT_OK(caller_new_token(&b->m, b->token, true, NULL, NULL, &c, NULL));
        ASSERT_EQ(log_in(b, c, "thief"), K_ACCESS_DENIED);
        ASSERT_EQ(log_in(b, c, "anna"), K_OK);
}

/* Nor with one that has expired, or is good for something else, before that somebody has an account. */
static void test_worn_tokens_bind_nothing(void **state) {
        static const char *const orders[] = {
                "{\"scopes\": [\"owner\"], \"user\": \"anna@example.org\"}",
                "{\"scopes\": [\"user\"], \"user\": \"anna@example.org\", \"expires_in\": 1}",
        };
        Bench *b = *state;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"anna@example.org\"}");
        FOREACH_ARRAY(order, orders, ELEMENTSOF(orders)) {
                _cleanup_(caller_unrefp) Caller *c = NULL;

                CALL_OK(b, b->root, "token.create", *order);
                ASSERT_OK(caller_new_token(&b->m, b->token, true, NULL, NULL, &c, NULL));
                if (caller_token_expires_at(c) > 0)
                        usleep(1100 * 1000);
                ASSERT_EQ(log_in(b, c, "bert"), K_ACCESS_DENIED);
        }
}

static void test_odd_answers_are_no_login(void **state) {
        static const char *const odd[] = { "large", "redirect", "html", "deep", "number", "line", "empty",
                "500", NULL };
        Bench *b = *state;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        for (const char *const *o = odd; *o; o++) {
                _cleanup_free_ char *path = strjoin("/odd/", *o);

                set_endpoint(b, "oauth2.token_endpoint", path);
                if (log_in(b, b->nobody, "bert") != K_NOT_AUTHENTICATED)
                        fail_msg("%s: %s", *o, kerror_message(&b->error));
        }
        set(b, "oauth2.token_endpoint", "http://127.0.0.1:1/token"); /* nobody listens there */
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_NOT_AUTHENTICATED);
}

/* Whoever goes on at the loop meanwhile is not kept waiting, and too many wait for no provider. */
static void test_slow_provider_keeps_nobody_else(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *path = NULL;
        unsigned n;

        (void) path;
        set_pkce(b);
        set_endpoint(b, "oauth2.token_endpoint", "/odd/slow");
        for (n = 0; n <= LOGINS_RUNNING_MAX; n++) {
                _cleanup_free_ char *s = NULL;

                begin(b, b->nobody, NULL);
                s = parameter(b, "&state");
                begin_call(b, b->nobody, "login.finish", finish_params("bert", NULL, s));
                if (b->answered)
                        break;
        }
        ASSERT_EQ(n, LOGINS_RUNNING_MAX);
        ASSERT_EQ(b->error.code, K_LIMIT_EXCEEDED);
        CALL_OK(b, b->root, "user.list", "{}");
}

/* Sockets, pipes of the resolver, what was refused and what was cut off: all closed. */
static void test_descriptors_are_closed(void **state) {
        Bench *b = *state;
        unsigned before;

        set_pkce(b);
        CALL_OK(b, b->root, "user.invite", "{\"email\": \"bert@example.org\"}");
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_OK);
        before = count_descriptors();
        for (unsigned i = 0; i < 20; i++)
                ASSERT_EQ(log_in(b, b->nobody, i % 2 ? "stranger" : "bert"),
                                i % 2 ? K_NOT_AUTHENTICATED : K_OK);
        set_endpoint(b, "oauth2.token_endpoint", "/odd/large");
        ASSERT_EQ(log_in(b, b->nobody, "bert"), K_NOT_AUTHENTICATED);
        ASSERT_EQ(count_descriptors(), before);
}

static void test_without_provider(void **state) {
        Bench *b = *state;

        ASSERT_EQ(call(b, b->nobody, "login.begin", "{\"redirect_uri\": \"/code\"}"), K_NOT_SUPPORTED);
        configure(b);
        CALL_OK(b, b->nobody, "login.begin", "{\"redirect_uri\": \"/code\"}");
        set(b, "oauth2.token_endpoint",
                        "http://provider.example/token"); /* in the clear, over the network */
        ASSERT_EQ(call(b, b->nobody, "login.begin", "{\"redirect_uri\": \"/code\"}"), K_NOT_SUPPORTED);
        set(b, "oauth2.token_endpoint", " ");
        ASSERT_EQ(call(b, b->nobody, "login.begin", "{\"redirect_uri\": \"/code\"}"), K_NOT_SUPPORTED);
}

static void test_states_are_bounded(void **state) {
        Bench *b = *state;
        uint64_t n = 0;

        configure(b);
        ASSERT_OK(store_begin(b->m.store, NULL));
        for (unsigned i = 0; i < LOGIN_STATES_MAX; i++) {
                _cleanup_free_ char *id = store_new_id();
                LoginStateRow row = { .id = id,
                        .redirect_uri = (char *) "/code",
                        .created_at = i,
                        .expires_at = UINT64_C(1) << 60 };

                memcpy(row.state_hash, &i, sizeof(i));
                row.state_hash[31] = 1;
                ASSERT_OK(store_put_login_state(b->m.store, &row));
        }
        ASSERT_OK(store_commit(b->m.store, NULL));
        begin(b, b->nobody, NULL);
        ASSERT_OK(store_count_login_states(b->m.store, &n));
        ASSERT_EQ(n, LOGIN_STATES_MAX);
}

static void test_redirects(void **state) {
        static const char *const good[] = { "/code", "http://localhost/cb", "http://localhost:1234/cb",
                "http://localhost:1234", "http://localhost", "http://localhost:9/cb?a=b&c=d", NULL };
        static const char *const bad[] = { "", "/", "/codes", "//code", "code", "https://evil.example/cb",
                "http://localhost.evil.example/", "http://localhost@evil.example/",
                "http://localhost:1@evil.example/", "http://localhost:123456/", "http://localhost:x/",
                "http://localhost:/cb", "http://localhost:1/#x", "http://localhost:1/a b",
                "http://localhost:1/\\evil", "javascript:alert(1)", "http://localhost:1/\n",
                "HTTP://LOCALHOST/", NULL };

        for (const char *const *s = good; *s; s++)
                ASSERT_OK(login_redirect_validate(*s, NULL));
        for (const char *const *s = bad; *s; s++)
                if (login_redirect_validate(*s, NULL) != -EINVAL)
                        fail_msg("%s is allowed", *s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_invited_by_code),
                TEST(test_invitation_serves_once),
                TEST(test_state_serves_once),
                TEST(test_verifier_is_checked_by_the_provider),
                TEST(test_basic_authentication_and_forms),
                TEST(test_token_in_the_path),
                TEST(test_wrong_secret_is_no_login),
                TEST(test_only_known_people_come_in),
                TEST(test_tokens_do_not_bind_accounts),
                TEST(test_worn_tokens_bind_nothing),
                TEST(test_odd_answers_are_no_login),
                TEST(test_slow_provider_keeps_nobody_else),
                TEST(test_descriptors_are_closed),
                TEST(test_without_provider),
                TEST(test_states_are_bounded),
                cmocka_unit_test(test_redirects),
        };

        return cmocka_run_group_tests(tests, start_provider, stop_provider);
}
