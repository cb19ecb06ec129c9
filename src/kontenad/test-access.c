/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "ca.h"
#include "caller-token.h"
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "keyring.h"
#include "operation.h"
#include "store.h"
#include "string-util.h"
#include "test-master.h"

/* Every operation by every kind of caller, against the table in doc/security.md. With $TEST_ACCESS_PRINT the table is printed as it is. */

#define MARK "<!-- access -->"
#define OWN  ", own"

typedef enum Kind {
        NOBODY,
        EXPIRED,
        NO_SCOPE,
        STRANGER,
        ELSEWHERE,
        MEMBER,
        GRID_ADMIN_ELSEWHERE,
        GRID_ADMIN,
        USER_ADMIN,
        USER_ADMIN_HERE,
        MASTER_ADMIN,
        INTERNAL,
        ROOT,
        OTHER,
        _KIND_MAX,
} Kind;

static const struct {
        const char *email, *role; /* of those with a token */
        const char *grid;
} kinds[_KIND_MAX] = {
        [EXPIRED] = { "expired@example.org", ROLE_MASTER_ADMIN, "home" },
        [NO_SCOPE] = { "scope@example.org", ROLE_MASTER_ADMIN, "home" },
        [STRANGER] = { "stranger@example.org", NULL, NULL },
        [ELSEWHERE] = { "elsewhere@example.org", NULL, "other" },
        [MEMBER] = { "member@example.org", NULL, "home" },
        [GRID_ADMIN_ELSEWHERE] = { "ga-elsewhere@example.org", ROLE_GRID_ADMIN, "other" },
        [GRID_ADMIN] = { "ga@example.org", ROLE_GRID_ADMIN, "home" },
        [USER_ADMIN] = { "ua@example.org", ROLE_USER_ADMIN, "other" },
        [USER_ADMIN_HERE] = { "ua-here@example.org", ROLE_USER_ADMIN, "home" },
        [MASTER_ADMIN] = { "ma@example.org", ROLE_MASTER_ADMIN, NULL },
};

/* On the bus, where polkit decides: asks for an action and is refused. */
typedef struct Guest {
        Caller base;
        sd_event *event;
        sd_event_source *source;
        bool root;
        char action[128];
        authorize_done_t done;
        void *userdata;
} Guest;

static int on_guest(sd_event_source *source, void *userdata) {
        _cleanup_kerror_ KError denied = KERROR_NULL;
        Guest *g = userdata;

        (void) kerror_set(&denied, K_ACCESS_DENIED, "Permission denied.");
        g->done(g->root ? NULL : &denied, g->userdata);
        return 0;
}

static int guest_authorize(Caller *c, const AuthorizationRequest *q, authorize_done_t done, void *userdata) {
        Guest *g = (Guest *) c;

        snprintf(g->action, sizeof(g->action), "%s", q->action + strlen("io.kontena.master1."));
        g->done = done;
        g->userdata = userdata;
        g->source = sd_event_source_disable_unref(g->source);
        return sd_event_add_defer(g->event, &g->source, on_guest, g);
}

static void guest_free(Caller *c) {
        sd_event_source_disable_unref(((Guest *) c)->source);
}

static const CallerVTable guest_vtable = {
        .kind = "dbus", .authorize = guest_authorize, .free = guest_free
};

typedef struct Bench {
        Master m;
        char *directory;
        Caller *callers[_KIND_MAX];
        bool answered;
        KErrorCode code;
} Bench;

static void on_done(json_object *result, const KError *error, void *userdata) {
        Bench *b = userdata;

        b->answered = true;
        b->code = error ? error->code : K_OK;
}

static void run(Bench *b, Caller *caller, const Operation *o, json_object *params) {
        b->answered = false;
        operation_call(&b->m, caller, o, params, /* interactive= */ false, on_done, b);
        while (!b->answered)
                ASSERT_OK(sd_event_run(b->m.event, UINT64_MAX));
}

static void must(Bench *b, const char *name, const char *params) {
        json_object *p = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 65536, &p, NULL));
        run(b, b->callers[INTERNAL], operation_find(name), p);
        if (b->code != K_OK)
                fail_msg("%s(%s) fails", name, params);
}

static void make_world(Bench *b) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(service_row_freep) ServiceRow *s = NULL;

        must(b, "grid.create", "{\"name\": \"home\"}");
        must(b, "grid.create", "{\"name\": \"other\"}");
        must(b, "node.create", "{\"grid\": \"home\", \"name\": \"n1\"}");
        must(b, "service.create",
                        "{\"grid\": \"home\", \"stack\": \"null\", \"name\": \"web\", \"spec\": {\"image\": "
                        "\"nginx\"}}");
        ASSERT_OK(store_find_grid(b->m.store, "home", &g));
        ASSERT_OK(store_find_service(b->m.store, g->id, "null", "web", &s));
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_deploy(b->m.store, &(DeployRow){ .id = (char *) "d1",
                                                               .grid_id = g->id,
                                                               .service_id = s->id,
                                                               .kind = (char *) "deploy" }));
        ASSERT_OK(store_commit(b->m.store, NULL));
}

static Caller *make_user(Bench *b, Kind k) {
        static const char *const good[] = { SCOPE_USER, NULL }, *const other[] = { SCOPE_OWNER, NULL };
        _cleanup_free_ char *invite = strprintf("{\"email\": \"%s\", \"roles\": [%s%s%s]}", kinds[k].email,
                        kinds[k].role ? "\"" : "", strempty(kinds[k].role), kinds[k].role ? "\"" : "");
        _cleanup_(issued_token_done) IssuedToken t = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        Caller *c = NULL;

        must(b, "user.invite", invite);
        if (kinds[k].grid) {
                _cleanup_free_ char *add = strprintf(
                                "{\"grid\": \"%s\", \"email\": \"%s\"}", kinds[k].grid, kinds[k].email);

                must(b, "grid.add-user", add);
        }
        ASSERT_OK(store_find_user(b->m.store, kinds[k].email, &user));
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(identity_issue(&b->m, user,
                        &(TokenOrder){ .kind = TOKEN_BEARER,
                                        .scopes = (char *const *) (k == NO_SCOPE ? other : good),
                                        .expires_at = k == EXPIRED ? now_realtime() - USEC_PER_SEC : 0 },
                        &t, NULL));
        ASSERT_OK(store_commit(b->m.store, NULL));
        ASSERT_OK(caller_new_token(
                        &b->m, t.token, /* allow_expired= */ k == EXPIRED, "192.0.2.1", NULL, &c, NULL));
        return c;
}

static Caller *make_guest(Bench *b, bool root) {
        Guest *g = new0(Guest, 1);

        g->base = (Caller){ .n_ref = 1, .vtable = &guest_vtable, .uid = root ? 0 : 1000 };
        g->base.name = strdup("guest");
        g->event = b->m.event;
        g->root = root;
        return &g->base;
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        test_master_make_ca(&b->m, b->directory);
        ASSERT_OK(caller_new_internal("test", &b->callers[INTERNAL]));
        make_world(b);
        for (Kind k = 0; k < _KIND_MAX; k++)
                if (kinds[k].email)
                        b->callers[k] = make_user(b, k);
        ASSERT_OK(caller_new_token(&b->m, NULL, false, "192.0.2.1", NULL, &b->callers[NOBODY], NULL));
        b->callers[ROOT] = make_guest(b, true);
        b->callers[OTHER] = make_guest(b, false);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        operations_abort(&b->m);
        for (Kind k = 0; k < _KIND_MAX; k++)
                caller_unref(b->callers[k]);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

/* Whether it is allowed is asked, not what it does. */
static int nothing(OperationCall *c, json_object **ret, KError *reterr) {
        return 0;
}

static json_object *params_of(const Operation *o, bool own) {
        json_object *params = json_object_new_object();

        for (const OperationParameter *p = o->parameters; p->name; p++) {
                if (!p->required && !streq(p->name, "grid") && !(o->own && streq(p->name, o->own)))
                        continue;
                if (own && streq(p->name, o->own))
                        continue;
                if (p->type == PARAMETER_U32)
                        ASSERT_OK(json_add_u64(params, p->name, 1));
                else if (p->type == PARAMETER_BOOL)
                        ASSERT_OK(json_add_bool(params, p->name, true));
                else if (p->type == PARAMETER_STRINGS)
                        ASSERT_OK(json_add(params, p->name, json_object_new_array()));
                else if (p->type == PARAMETER_OBJECT || p->type == PARAMETER_VALUES)
                        ASSERT_OK(json_add(params, p->name, json_object_new_object()));
                else
                        ASSERT_OK(json_add_string(params, p->name,
                                        streq(p->name, "grid")     ? "home"
                                        : streq(p->name, "node")   ? "n1"
                                        : streq(p->name, "stack")  ? "null"
                                        : streq(p->name, "deploy") ? "d1"
                                                                   : "web"));
        }
        return params;
}

static char *cell(Bench *b, const Operation *o, bool own, Kind k) {
        Operation copy = *o;
        bool denied;

        copy.perform = nothing;
        copy.prepare = NULL;
        copy.flags &= ~(unsigned) (OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_VALUES);
        ((Guest *) b->callers[OTHER])->action[0] = '\0';
        run(b, b->callers[k], &copy, params_of(o, own));
        denied = b->code == K_ACCESS_DENIED || b->code == K_TOKEN_EXPIRED || b->code == K_INVALID_TOKEN;
        if (!denied && b->code != K_OK)
                fail_msg("%s by %i is answered with %i", o->name, (int) k, (int) b->code);
        if (k == OTHER && denied)
                return strdup(((Guest *) b->callers[OTHER])->action);
        return strdup(denied ? "-" : "yes");
}

static char *row(Bench *b, const Operation *o, bool own) {
        char *line = strprintf("| `%s`%s |", o->name, own ? OWN : "");

        for (Kind k = 0; k < _KIND_MAX; k++) {
                _cleanup_free_ char *c = cell(b, o, own, k), *old = line;

                line = strjoin(old, " ", c, " |");
        }
        return line;
}

static char **document(void) {
        const char *path = getenv("TEST_SECURITY_MD");
        _cleanup_free_ char *text = NULL;
        char **lines = NULL, *from, *end;

        ASSERT_TRUE(path);
        ASSERT_OK(read_file(path, 1024 * 1024, &text, NULL));
        from = strstr(text, MARK);
        ASSERT_TRUE(from);
        end = strstr(from + strlen(MARK), MARK);
        ASSERT_TRUE(end);
        *end = '\0';
        ASSERT_OK(strv_split(from + strlen(MARK), "\n", &lines));
        return lines;
}

static void test_every_operation_by_every_kind_of_caller(void **state) {
        Bench *b = *state;
        _cleanup_strv_free_ char **lines = document();
        size_t n = 0, wrong = 0;
        const Operation *o;

        for (size_t i = 0; (o = operation_by_index(i)); i++)
                for (unsigned own = 0; own < (o->own ? 2U : 1U); own++) {
                        _cleanup_free_ char *line = row(b, o, own);

                        n++;
                        if (getenv("TEST_ACCESS_PRINT"))
                                puts(line);
                        else if (!strv_contains(lines, line)) {
                                print_error("not in the document: %s\n", line);
                                wrong++;
                        }
                }
        if (getenv("TEST_ACCESS_PRINT"))
                return;
        ASSERT_EQ(wrong, 0);
        ASSERT_EQ(strv_length(lines), n + 2); /* nothing else, but the head */
        ASSERT_TRUE(n > 80);
        print_message("%zu operations by %i kinds of callers: %zu answers\n", n, _KIND_MAX, n * _KIND_MAX);
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_every_operation_by_every_kind_of_caller, setup, teardown))
