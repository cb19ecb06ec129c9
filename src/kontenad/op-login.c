/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-token.h"
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "log.h"
#include "login.h"
#include "master-config.h"
#include "operation.h"
#include "string-util.h"

/* Logins at an external provider. A state is used up before the provider is asked, whatever it answers. */

#define STATE_BYTES    32U
#define VERIFIER_BYTES 48U

struct LoginAttempt {
        OperationCall *call;
        LoginStateRow *state;
        Login *login;
        LoginIdentity identity;
};

LoginAttempt *login_attempt_free(LoginAttempt *a) {
        if (!a)
                return NULL;

        a->call->master->n_logins--;
        login_free(a->login);
        login_state_row_free(a->state);
        login_identity_done(&a->identity);
        free(a);
        return NULL;
}

/* login.begin */

static int bind_user(OperationCall *c, LoginStateRow *row, KError *reterr) {
        const UserRow *caller = caller_user(c->caller);
        _cleanup_(user_row_freep) UserRow *invited = NULL;
        uint64_t expires_at = caller_token_expires_at(c->caller);
        const char *invite;
        int r;

        r = call_string(c, "invite_code", &invite, reterr);
        if (r < 0)
                return r;
        if (!isempty(invite)) {
                r = identity_find_invited(c->master, invite, &invited, reterr);
                if (r < 0)
                        return r;
                row->invited = true;
                row->user_id = strdup(invited->id);
                return row->user_id ? 0 : -ENOMEM;
        }

        /* Whoever holds an old token of somebody's must not make an account of their own that somebody's. */
        if (!caller || streq(caller->email, EMAIL_ADMIN) || !caller_has_scope(c->caller, SCOPE_USER) ||
                        (expires_at > 0 && expires_at <= now_realtime() && !caller->external_id))
                return 0;
        row->user_id = strdup(caller->id);
        return row->user_id ? 0 : -ENOMEM;
}

static int seal_verifier(Master *m, LoginStateRow *row, const char *verifier) {
        _cleanup_free_ char *context = strjoin("login:", row->id);

        if (!context)
                return -ENOMEM;
        return keyring_seal(m->keyring, context, verifier, strlen(verifier), &row->verifier,
                        &row->verifier_size);
}

static int open_verifier(Master *m, const LoginStateRow *row, char **ret) {
        _cleanup_free_ char *context = strjoin("login:", row->id);
        void *verifier;
        size_t size;
        int r;

        if (!row->verifier)
                return 0;
        if (!context)
                return -ENOMEM;
        r = keyring_open(m->keyring, context, row->verifier, row->verifier_size, &verifier, &size);
        if (r < 0)
                return r;
        *ret = verifier;
        return 0;
}

/* Strangers make them: the oldest gives way. */
static int store_state(Master *m, const LoginStateRow *row, KError *reterr) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        uint64_t n = 0;
        int r;

        r = store_begin(m->store, reterr);
        if (r < 0)
                return r;
        t = m->store;
        r = store_count_login_states(t, &n);
        if (r >= 0 && n >= LOGIN_STATES_MAX)
                r = store_drop_oldest_login_state(t);
        if (r >= 0)
                r = store_put_login_state(t, row);
        if (r < 0)
                return r;
        return store_commit(TAKE_PTR(t), reterr);
}

static int login_begin(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(login_state_row_freep) LoginStateRow *row = NULL;
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(login_config_done) LoginConfig config = {};
        _cleanup_erase_ char *state = NULL, *verifier = NULL, *location = NULL;
        const char *redirect;
        int r;

        if (!o)
                return -ENOMEM;
        r = login_config_load(c->master, &config, reterr);
        if (r >= 0)
                r = call_string(c, "redirect_uri", &redirect, reterr);
        if (r >= 0)
                r = login_redirect_validate(redirect, reterr);
        if (r < 0)
                return r;

        row = new0(LoginStateRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->redirect_uri = strdup(redirect);
        row->created_at = now_realtime();
        row->expires_at = row->created_at + LOGIN_STATE_LIFETIME_USEC;
        if (!row->id || !row->redirect_uri)
                return -ENOMEM;
        r = json_find_u64(c->parameters, "expires_in", &row->lifetime, reterr);
        if (r >= 0)
                r = bind_user(c, row, reterr);
        if (r >= 0)
                r = random_hex(STATE_BYTES, &state);
        if (r >= 0 && config.pkce)
                r = random_hex(VERIFIER_BYTES, &verifier);
        if (r >= 0 && verifier)
                r = seal_verifier(c->master, row, verifier);
        if (r < 0)
                return r;
        keyring_hash_token(c->master->keyring, state, row->state_hash);
        r = store_state(c->master, row, reterr);
        if (r >= 0)
                r = login_authorize_location(&config, state, verifier, &location);
        if (r >= 0)
                r = json_add_string(o, "location", location);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* login.finish */

/* Gone when this returns, so that it serves once. */
static int take_state(Master *m, const char *text, LoginStateRow **ret, KError *reterr) {
        _cleanup_(login_state_row_freep) LoginStateRow *row = NULL;
        _cleanup_(store_rollbackp) Store *t = NULL;
        uint8_t hash[TOKEN_HASH_SIZE];
        int r;

        if (isempty(text) || strlen(text) > TOKEN_LENGTH_MAX)
                r = -ENOENT;
        else {
                keyring_hash_token(m->keyring, text, hash);
                r = store_find_login_state(m->store, hash, &row);
        }
        if (r >= 0 && (!keyring_hash_equal(hash, row->state_hash) || row->expires_at <= now_realtime()))
                r = -ENOENT;
        if (r == -ENOENT)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No such login is under way.");
        if (r < 0)
                return r;

        r = store_begin(m->store, reterr);
        if (r < 0)
                return r;
        t = m->store;
        r = store_delete_login_state(t, row->id);
        if (r < 0)
                return r;
        r = store_commit(TAKE_PTR(t), reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(row);
        return 0;
}

static void on_login(const LoginIdentity *identity, const KError *error, void *userdata) {
        LoginAttempt *a = userdata;
        _cleanup_(login_freep) _unused_ Login *answered = TAKE_PTR(a->login);
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (identity) {
                a->identity = (LoginIdentity){
                        .id = identity->id ? strdup(identity->id) : NULL,
                        .email = identity->email ? strdup(identity->email) : NULL,
                        .name = identity->name ? strdup(identity->name) : NULL,
                };
                if ((identity->id && !a->identity.id) || (identity->email && !a->identity.email))
                        (void) kerror_set_errno(&e, -ENOMEM, "The login failed: %m.");
        }
        operation_call_continue(a->call, kerror_is_set(error) ? error : &e);
}

static int prepare_finish(OperationCall *c, KError *reterr) {
        _cleanup_erase_ char *verifier = NULL;
        const char *code, *state;
        LoginAttempt *a;
        int r;

        r = call_string(c, "code", &code, reterr);
        if (r >= 0)
                r = call_string(c, "state", &state, reterr);
        if (r < 0)
                return r;
        if (c->master->n_logins >= LOGINS_RUNNING_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Too many logins wait for the provider; try again.");

        a = new0(LoginAttempt, 1);
        if (!a)
                return -ENOMEM;
        a->call = c;
        c->login = a; /* who frees it */
        c->master->n_logins++;
        r = take_state(c->master, state, &a->state, reterr);
        if (r >= 0)
                r = open_verifier(c->master, a->state, &verifier);
        if (r >= 0)
                r = login_new(c->master, code, verifier, on_login, a, &a->login, reterr);
        return r < 0 ? r : 1;
}

static int denied(KError *reterr) {
        return kerror_set(reterr, K_ACCESS_DENIED, "Access denied");
}

static int find_by_identity(Store *s, const LoginIdentity *i, UserRow **ret) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        _cleanup_free_ char *email = NULL;
        int r = -ENOENT;

        if (i->id)
                r = store_find_user_by_external_id(s, i->id, &row);
        if (r == -ENOENT && i->email && email_normalize(i->email, &email, NULL) >= 0) {
                r = store_find_user(s, email, &row);
                if (r >= 0 && row->external_id) /* is another's there */
                        return -ENOENT;
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(row);
        return 0;
}

/* -ENOENT: whoever it is, they may not. */
static int find_user(Store *s, const LoginAttempt *a, UserRow **ret) {
        _cleanup_(user_row_freep) UserRow *row = NULL, *other = NULL;
        static const uint8_t none[TOKEN_HASH_SIZE];
        const LoginIdentity *i = &a->identity;
        int r;

        if (!a->state->user_id)
                r = find_by_identity(s, i, &row);
        else
                r = store_get_user(s, a->state->user_id, &row);
        if (r < 0)
                return r;
        if (streq(row->email, EMAIL_ADMIN))
                return -ENOENT;
        if (a->state->invited) {
                if (keyring_hash_equal(row->invite_hash, none) || row->invite_expires_at <= now_realtime())
                        return -ENOENT; /* has been used meanwhile */
        } else if (a->state->user_id && row->external_id && !streq_ptr(row->external_id, i->id))
                return -ENOENT;
        if (i->id) {
                r = store_find_user_by_external_id(s, i->id, &other);
                if (r >= 0 && !streq(other->id, row->id))
                        return -ENOENT;
                if (r < 0 && r != -ENOENT)
                        return r;
        }

        *ret = TAKE_PTR(row);
        return 0;
}

static int login_finish(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const scopes[] = { SCOPE_USER, NULL };
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(issued_token_done) IssuedToken t = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        _cleanup_erase_ char *location = NULL;
        _cleanup_free_ char *server = NULL;
        LoginAttempt *a = c->login;
        uint64_t now = now_realtime();
        int r;

        if (!o)
                return -ENOMEM;
        r = find_user(c->master->store, a, &user);
        if (r == -ENOENT)
                return denied(reterr);
        if (r < 0)
                return r;
        r = call_becomes(c, user);
        if (r >= 0 && a->identity.id)
                r = free_and_strdup(&user->external_id, a->identity.id);
        if (r >= 0 && isempty(user->name) && a->identity.name)
                r = free_and_strdup(&user->name, a->identity.name);
        if (r < 0)
                return r;
        memset(user->invite_hash, 0, sizeof(user->invite_hash));
        user->invite_expires_at = 0;
        user->updated_at = now;
        r = store_put_user(c->master->store, user);
        if (r >= 0)
                r = identity_issue(c->master, user,
                                &(TokenOrder){ .kind = TOKEN_CODE,
                                                .scopes = (char *const *) scopes,
                                                .description = "login",
                                                .expires_at = a->state->lifetime > 0
                                                                              ? now + a->state->lifetime * USEC_PER_SEC
                                                                              : 0,
                                                .code_lifetime = LOGIN_CODE_LIFETIME_USEC },
                                &t, reterr);
        if (r < 0)
                return r;

        r = master_config_get(c->master, "server.name", &server);
        if (r < 0 && r != -ENOENT)
                return r;
        r = login_redirect_location(a->state->redirect_uri, t.token, strempty(server), &location);
        if (r >= 0)
                r = json_add_string(o, "location", location);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

const Operation login_operations[] = {
        {
                        .name = "login.begin",
                        .method = "BeginLogin",
                        .role = "none",
                        .flags = OPERATION_OPEN | OPERATION_SECRET,
                        .parameters = { { "redirect_uri", PARAMETER_PATH, true },
                                        { "invite_code", PARAMETER_SECRET, false },
                                        { "expires_in", PARAMETER_U32, false } },
                        .results = { "location" },
                        .perform = login_begin,
        },
        {
                        .name = "login.finish",
                        .method = "FinishLogin",
                        .role = "none",
                        .flags = OPERATION_OPEN | OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_SECRET,
                        .parameters = { { "code", PARAMETER_SECRET, true },
                                        { "state", PARAMETER_SECRET, true } },
                        .results = { "location" },
                        .prepare = prepare_finish,
                        .perform = login_finish,
        },
};
const size_t n_login_operations = ELEMENTSOF(login_operations);
