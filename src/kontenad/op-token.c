/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-token.h"
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "string-util.h"

static int token_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *array = json_object_new_array();
        _cleanup_(token_row_list_done) TokenRowList l = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        int r;

        if (!array)
                return -ENOMEM;
        r = call_user(c, "user", &user, reterr);
        if (r >= 0)
                r = store_list_tokens(c->master->store, user->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(t, l.rows, l.n) {
                json_object *token;

                r = render_token(c->master, *t, user, NULL, &token);
                if (r >= 0)
                        r = json_append(array, token);
                if (r < 0)
                        return r;
        }
        return json_wrap("tokens", TAKE_PTR(array), ret);
}

/* By id, or by what it says. The audit has the id. */
static int find_token(OperationCall *c, TokenRow **ret, UserRow **ret_user, KError *reterr) {
        _cleanup_(token_row_freep) TokenRow *row = NULL;
        _cleanup_(user_row_freep) UserRow *user = NULL;
        const UserRow *caller = caller_user(c->caller);
        uint8_t hash[TOKEN_HASH_SIZE];
        const char *text;
        int r;

        r = call_string(c, "token", &text, reterr);
        if (r < 0)
                return r;
        r = store_get_token(c->master->store, text, &row);
        if (r == -ENOENT && !isempty(text)) {
                keyring_hash_token(c->master->keyring, text, hash);
                r = store_find_token(c->master->store, TOKEN_BEARER, hash, &row);
        }
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_TOKEN, "There is no such token.");
        if (r >= 0)
                r = store_get_user(c->master->store, row->user_id, &user);
        if (r >= 0)
                r = json_add_string(c->parameters, "id", row->id);
        if (r >= 0)
                r = json_add_string(c->parameters, "user", user->email);
        if (r < 0)
                return r;
        if (!call_is_admin(c) && (!caller || !streq(caller->id, user->id)))
                return kerror_set(reterr, K_ACCESS_DENIED, "This is another's token.");

        *ret = TAKE_PTR(row);
        *ret_user = TAKE_PTR(user);
        return 0;
}

static int token_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(token_row_freep) TokenRow *row = NULL;
        _cleanup_(user_row_freep) UserRow *user = NULL;
        int r;

        r = find_token(c, &row, &user, reterr);
        return r < 0 ? r : render_token(c->master, row, user, NULL, ret);
}

static int token_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(token_row_freep) TokenRow *row = NULL;
        _cleanup_(user_row_freep) UserRow *user = NULL;
        int r;

        r = find_token(c, &row, &user, reterr);
        return r < 0 ? r : store_delete_token(c->master->store, row->id);
}

static int read_scopes(OperationCall *c, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL, **scopes = NULL;
        int r;

        r = json_find_strv(c->parameters, "scopes", &l, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(s, l) {
                if (!STR_IN_SET(*s, SCOPE_USER, SCOPE_OWNER))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "There is no scope '%s'; there are '%s' and '%s'.", *s, SCOPE_USER,
                                        SCOPE_OWNER);
                if (!caller_has_scope(c->caller, *s))
                        return kerror_set(reterr, K_ACCESS_DENIED,
                                        "Your own token does not have the scope '%s'.", *s);
                if (!strv_contains(scopes, *s) && strv_extend(&scopes, *s) < 0)
                        return -ENOMEM;
        }
        if (!scopes)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A token needs a scope: '%s' or '%s'.",
                                SCOPE_USER, SCOPE_OWNER);

        *ret = TAKE_PTR(scopes);
        return 0;
}

static int token_create(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(issued_token_done) IssuedToken t = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        _cleanup_strv_free_ char **scopes = NULL;
        TokenOrder order = { .code_lifetime = CODE_LIFETIME_USEC };
        const char *kind = "";
        uint64_t expires_in = 0;
        int r;

        r = call_user(c, "user", &user, reterr);
        if (r >= 0)
                r = read_scopes(c, &scopes, reterr);
        if (r >= 0)
                r = json_find_u64(c->parameters, "expires_in", &expires_in, reterr);
        if (r >= 0)
                r = call_string(c, "description", &order.description, reterr);
        if (r >= 0)
                r = call_string(c, "kind", &kind, reterr);
        if (r < 0)
                return r;
        order.kind = isempty(kind) ? TOKEN_BEARER : token_kind_from_string(kind);
        if (order.kind < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'kind' is neither \"bearer\" nor \"code\".");
        order.scopes = scopes;
        order.expires_at = expires_in > 0 ? now_realtime() + expires_in * USEC_PER_SEC : 0;

        r = identity_issue(c->master, user, &order, &t, reterr);
        if (r >= 0)
                r = json_add_string(c->parameters, "id", t.row->id); /* for the audit */
        return r < 0 ? r : render_token(c->master, t.row, user, &t, ret);
}

static int render_login(OperationCall *c, const IssuedToken *t, const UserRow *user, json_object **ret) {
        int r;

        r = call_becomes(c, user);
        if (r >= 0)
                r = json_add_string(c->parameters, "id", t->row->id);
        return r < 0 ? r : render_token(c->master, t->row, user, t, ret);
}

static int token_exchange(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(issued_token_done) IssuedToken t = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        const char *code;
        int r;

        r = call_string(c, "code", &code, reterr);
        if (r >= 0)
                r = identity_exchange_code(c->master, code, &t, &user, reterr);
        return r < 0 ? r : render_login(c, &t, user, ret);
}

static int token_refresh(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(issued_token_done) IssuedToken t = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        const char *token;
        int r;

        r = call_string(c, "refresh_token", &token, reterr);
        if (r >= 0)
                r = identity_refresh(c->master, token, &t, &user, reterr);
        return r < 0 ? r : render_login(c, &t, user, ret);
}

const Operation token_operations[] = {
        {
                        .name = "token.list",
                        .method = "ListTokens",
                        .action = "io.kontena.master1.manage-users",
                        .role = "master_admin",
                        .own = "user",
                        .own_action = "io.kontena.master1.own-tokens",
                        .own_role = "user",
                        .parameters = { { "user", PARAMETER_STRING, false } },
                        .results = { "tokens" },
                        .perform = token_list,
        },
        {
                        .name = "token.get",
                        .method = "GetToken",
                        .action = "io.kontena.master1.manage-users",
                        .role = "user",
                        .parameters = { { "token", PARAMETER_SECRET, true } },
                        .results = { "" },
                        .perform = token_get,
        },
        {
                        .name = "token.remove",
                        .method = "RemoveToken",
                        .action = "io.kontena.master1.manage-users",
                        .role = "user",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED,
                        .parameters = { { "token", PARAMETER_SECRET, true } },
                        .perform = token_remove,
        },
        {
                        .name = "token.create",
                        .method = "CreateToken",
                        .action = "io.kontena.master1.manage-users",
                        .role = "master_admin",
                        .own = "user",
                        .own_action = "io.kontena.master1.own-tokens",
                        .own_role = "user",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_SECRET,
                        .parameters = { { "scopes", PARAMETER_STRINGS, true },
                                        { "expires_in", PARAMETER_U32, false },
                                        { "description", PARAMETER_STRING, false },
                                        { "user", PARAMETER_STRING, false },
                                        { "kind", PARAMETER_STRING, false } },
                        .results = { "" },
                        .perform = token_create,
        },
        {
                        .name = "token.exchange",
                        .method = "ExchangeCode",
                        .role = "none",
                        .flags = OPERATION_OPEN | OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_SECRET,
                        .parameters = { { "code", PARAMETER_SECRET, true } },
                        .results = { "" },
                        .perform = token_exchange,
        },
        {
                        .name = "token.refresh",
                        .method = "RefreshToken",
                        .role = "none",
                        .flags = OPERATION_OPEN | OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_SECRET,
                        .parameters = { { "refresh_token", PARAMETER_SECRET, true } },
                        .results = { "" },
                        .perform = token_refresh,
        },
};
const size_t n_token_operations = ELEMENTSOF(token_operations);
