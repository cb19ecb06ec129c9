/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <strings.h>

#include "caller-token.h"
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "login.h"
#include "parse-util.h"
#include "rest-form.h"
#include "rest-internal.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "string-util.h"
#include "uri.h"

/* /oauth2: tokens, how they are had and what one has. */

static const char *text(json_object *o, const char *key) {
        return empty_to_null(json_string_or(o, key, NULL));
}

static int add_people(json_object *o, json_object *token) {
        json_object *user = NULL, *server = NULL;

        (void) json_find_object(token, "user", &user, NULL);
        (void) json_find_object(token, "server", &server, NULL);
        if (json_add(o, "user",
                            user ? rest_params("id", text(user, "id"), "email", text(user, "email"), "name",
                                                   strempty(text(user, "name")), NULL)
                                 : json_object_new_object()) < 0)
                return -ENOMEM;

        _cleanup_json_ json_object *s = json_object_new_object();
        if (!s || json_add_string(s, "name", server ? text(server, "name") : NULL) < 0)
                return -ENOMEM;
        return json_add(o, "server", TAKE_PTR(s));
}

static int add_lifetime(json_object *o, json_object *token) {
        int64_t seconds;
        int r;

        r = json_find_i64(token, "expires_in", &seconds, NULL);
        if (r > 0)
                return json_add_i64(o, "expires_in", seconds);
        return json_add_string(o, "expires_in", NULL);
}

static int render(json_object *token, json_object **ret) {
        static const char *const plain[] = { "access_token", "refresh_token", "access_token_last_four",
                "refresh_token_last_four" };
        _cleanup_json_ json_object *o = json_object_new_object();
        bool code = streq_ptr(text(token, "kind"), "code");
        int r;

        r = o ? json_add_string(o, "id", text(token, "id")) : -ENOMEM;
        if (r >= 0 && code)
                r = json_add_string(o, "grant_type", "authorization_code");
        if (r >= 0 && code)
                r = json_add_string(o, "code", text(token, "code"));
        if (r >= 0 && !code)
                r = json_add_string(o, "token_type", "bearer");
        for (size_t i = 0; i < ELEMENTSOF(plain) && !code && r >= 0; i++)
                r = json_add_string(o, plain[i], text(token, plain[i]));
        if (r >= 0 && !code)
                r = add_lifetime(o, token);
        if (r >= 0)
                r = rest_add_joined(o, token, "scopes", ",");
        if (r >= 0)
                r = json_add_string(o, "description", text(token, "description"));
        if (r >= 0)
                r = add_people(o, token);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static void reply_token(RestCall *c, json_object *result) {
        json_object *o;
        int r;

        r = render(result, &o);
        rest_finish(c, r < 0 ? r : rest_reply(c, rest_route(c)->status ?: 200, o));
}

/* /oauth2/token */

static bool wants_json(RestCall *c) {
        const char *accept = rest_header(c, "Accept"), *type = rest_header(c, "Content-Type");

        return (accept && strcasestr(accept, "application/json")) ||
               (type && strcasestr(type, "application/json"));
}

static int add_pair(char ***l, const char *key, const char *value) {
        _cleanup_free_ char *escaped = NULL;

        if (!value)
                return 0;
        escaped = uri_escape(value);
        return escaped ? strv_extendf(l, "%s=%s", key, escaped) : -ENOMEM;
}

static int reply_form(RestCall *c, json_object *token) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_erase_ char *joined = NULL;
        json_object *user = NULL, *server = NULL;
        const char *name = NULL;
        int64_t seconds;
        int r;

        (void) json_find_object(token, "user", &user, NULL);
        (void) json_find_object(token, "server", &server, NULL);
        if (user)
                name = text(user, "name") ?: text(user, "email");
        r = add_pair(&l, "state", text(rest_body(c), "state"));
        if (r >= 0)
                r = add_pair(&l, "access_token", text(token, "access_token"));
        if (r >= 0)
                r = add_pair(&l, "refresh_token", text(token, "refresh_token"));
        if (r >= 0 && json_find_i64(token, "expires_in", &seconds, NULL) > 0)
                r = strv_extendf(&l, "expires_in=%lld", (long long) seconds);
        if (r >= 0)
                r = add_pair(&l, "username", name);
        if (r >= 0 && server)
                r = add_pair(&l, "server_name", text(server, "name"));
        joined = r >= 0 ? strv_join(l, "&") : NULL;
        STRV_FOREACH(s, l)
                erase_memory(*s, strlen(*s));
        return joined ? rest_reply_text(c, 201, "application/x-www-form-urlencoded", joined) : -ENOMEM;
}

static void on_granted(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error)) {
                if (wants_json(c))
                        reply_token(c, result);
                else
                        rest_finish(c, reply_form(c, result));
                return;
        }
        if (error->code == K_NO_SUCH_TOKEN || error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_oauth_error(c, 404, "invalid_request", text(rest_body(c), "grant_type"));
        else if (error->code == K_LIMIT_EXCEEDED)
                (void) rest_reply_error(c, 429, "too_many_requests");
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_grant_token(RestCall *c, KError *reterr) {
        static const struct {
                const char *grant, *parameter, *operation;
        } grants[] = {
                { "authorization_code", "code", "token.exchange" },
                { "refresh_token", "refresh_token", "token.refresh" },
        };
        const char *grant = text(rest_body(c), "grant_type");

        if (json_object_object_length(rest_body(c)) == 0)
                return rest_reply_oauth_error(c, 400, "invalid_request", NULL);
        FOREACH_ARRAY(g, grants, ELEMENTSOF(grants)) {
                const char *value = text(rest_body(c), g->parameter);

                if (!streq_ptr(grant, g->grant))
                        continue;
                if (!value)
                        return rest_reply_oauth_error(c, 400, "invalid_request", g->grant);
                return rest_call(c, g->operation, rest_params(g->parameter, value, NULL), on_granted);
        }
        return rest_reply_oauth_error(c, 400, "unsupported_grant_type", "grant_type");
}

/* /oauth2/authorize */

static void on_created(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                reply_token(c, result);
        else if (error->code == K_NO_SUCH_USER)
                (void) rest_reply_oauth_error(c, 404, "not_found", NULL);
        else if (error->code == K_ACCESS_DENIED)
                (void) rest_reply_oauth_error(c, 403, "access_denied",
                                text(rest_body(c), "user")
                                                ? "You do not have the permission to create invites"
                                                : NULL);
        else if (error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_oauth_error(c, 400, "invalid_scope", kerror_message(error));
        else
                (void) rest_reply_kerror(c, error);
}

/* "user, owner" */
static int read_scopes(const char *scope, json_object **ret) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_strv_free_ char **words = NULL;
        int r;

        r = l ? strv_split(scope, ", \t\r\n", &words) : -ENOMEM;
        STRV_FOREACH(w, words) {
                if (!STR_IN_SET(*w, SCOPE_USER, SCOPE_OWNER))
                        return -EINVAL;
                if (r >= 0)
                        r = json_append_string(l, *w);
        }
        if (r >= 0 && json_object_array_length(l) == 0)
                r = -EINVAL;
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

/* A number, or one in a string. */
static int read_seconds(json_object *body, uint64_t *ret) {
        const char *s = NULL;
        int r;

        r = json_find_string(body, "expires_in", &s, NULL);
        r = r > 0 ? safe_atou64(s, ret) : json_find_u64(body, "expires_in", ret, NULL);
        return r < 0 || *ret > UINT32_MAX ? -EINVAL : 0;
}

static int create_token(RestCall *c, bool code) {
        _cleanup_json_ json_object *params = NULL;
        json_object *body = rest_body(c), *scopes = NULL;
        uint64_t expires_in = 0;
        int r;

        if (!caller_user(rest_caller(c)) || !caller_has_scope(rest_caller(c), SCOPE_USER))
                return rest_reply_oauth_error(c, 403, "access_denied", NULL);
        r = text(body, "scope") ? read_scopes(text(body, "scope"), &scopes) : -EINVAL;
        if (r == -EINVAL)
                return rest_reply_oauth_error(c, 400, "invalid_scope", NULL);
        if (r < 0)
                return r;
        if (read_seconds(body, &expires_in) < 0) {
                json_object_put(scopes);
                return rest_reply_oauth_error(c, 400, "invalid_request", "expires_in");
        }

        params = rest_params("description", text(body, "description"), "user", text(body, "user"), "kind",
                        code ? "code" : "bearer", NULL);
        if (!params) {
                json_object_put(scopes);
                return -ENOMEM;
        }
        r = json_add(params, "scopes", scopes);
        if (r >= 0 && expires_in > 0)
                r = json_add_u64(params, "expires_in", expires_in);
        return r < 0 ? r : rest_call(c, "token.create", TAKE_PTR(params), on_created);
}

static bool provider_is_configured(Master *m) {
        _cleanup_(login_config_done) LoginConfig config = {};

        return login_config_load(m, &config, NULL) >= 0;
}

static void on_invited(RestCall *c, json_object *result, const KError *error) {
        _cleanup_free_ char *base = NULL, *link = NULL;
        json_object *o;
        int r;

        if (kerror_is_set(error)) {
                if (error->code == K_ACCESS_DENIED)
                        (void) rest_reply_oauth_error(c, 403, "access_denied", NULL);
                else
                        (void) rest_reply_kerror(c, error);
                return;
        }
        r = rest_base_url(c, &base);
        if (r < 0) {
                rest_finish(c, r);
                return;
        }
        link = strjoin(base, "/j/", strempty(text(result, "invite_code")));
        o = link ? rest_params("email", text(result, "email"), "invite_code", text(result, "invite_code"),
                                   "link", link, NULL)
                 : NULL;
        rest_finish(c, rest_reply(c, 201, o));
}

static int invite(RestCall *c) {
        json_object *body = rest_body(c);

        if (!caller_user(rest_caller(c)) || !role_allows(rest_master(c)->store, caller_user(rest_caller(c)),
                                                            ROLE_USER_ADMIN, NULL))
                return rest_reply_oauth_error(c, 403, "access_denied", NULL);
        if (!provider_is_configured(rest_master(c)))
                return rest_reply_oauth_error(
                                c, 501, "server_error", "Authentication provider not configured");
        if (!text(body, "email"))
                return rest_reply_oauth_error(c, 400, "invalid_request", "email");
        return rest_call(c, "user.invite",
                        rest_params("email", text(body, "email"), "name", text(body, "username"),
                                        "external_id", text(body, "external_id"), NULL),
                        on_invited);
}

static int rest_authorize(RestCall *c, KError *reterr) {
        const char *type = text(rest_body(c), "response_type");

        if (json_object_object_length(rest_body(c)) == 0)
                return rest_reply_oauth_error(c, 400, "invalid_request", NULL);
        if (streq_ptr(type, "code") || streq_ptr(type, "token"))
                return create_token(c, streq(type, "code"));
        if (streq_ptr(type, "invite"))
                return invite(c);
        return rest_reply_oauth_error(
                        c, 400, "unsupported_response_type", "Supported are code, token and invite");
}

/* /oauth2/tokens */

static void on_tokens(RestCall *c, json_object *result, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object(), *l = json_object_new_array();
        json_object *tokens = NULL;
        int r = o && l ? 0 : -ENOMEM;

        if (kerror_is_set(error)) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_array(result, "tokens", &tokens, NULL);
        FOREACH_JSON_ARRAY(token, tokens) {
                json_object *one;

                if (r >= 0)
                        r = render(token, &one);
                if (r >= 0)
                        r = json_append(l, one);
        }
        if (r >= 0)
                r = json_add(o, "tokens", TAKE_PTR(l));
        rest_finish(c, r < 0 ? r : rest_reply(c, 200, TAKE_PTR(o)));
}

static int rest_list_tokens(RestCall *c, KError *reterr) {
        return rest_call(c, "token.list", NULL, on_tokens);
}

static void on_token(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error)) {
                if (result)
                        reply_token(c, result);
                else
                        (void) rest_reply_empty(c, 201);
        } else if (error->code == K_NO_SUCH_TOKEN)
                (void) rest_reply_error(c, 404, "Not found");
        else if (error->code == K_ACCESS_DENIED)
                (void) rest_reply_error(c, 401, "Unauthorized");
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_get_token(RestCall *c, KError *reterr) {
        return rest_call(c, "token.get", rest_params("token", rest_segment(c, "token"), NULL), on_token);
}

static int rest_remove_token(RestCall *c, KError *reterr) {
        return rest_call(c, "token.remove", rest_params("token", rest_segment(c, "token"), NULL), on_token);
}

static const char *const grant_types[] = { "authorization_code", "refresh_token", NULL };
static const char *const response_types[] = { "code", "token", "invite", NULL };

/* Described here, checked by the handlers: OAuth2 has words of its own for what is wrong. */
static const RestField grant_description[] = {
        { .name = "grant_type", .type = REST_STRING, .flags = REST_REQUIRED, .options = grant_types },
        { .name = "code", .type = REST_STRING, .summary = "For authorization_code" },
        { .name = "refresh_token", .type = REST_STRING, .summary = "For refresh_token" },
        { .name = "client_id", .type = REST_STRING, .summary = "Not looked at" },
        { .name = "client_secret", .type = REST_STRING, .summary = "Not looked at" },
        { .name = "state", .type = REST_STRING },
        {},
};
static const RestField authorize_description[] = {
        { .name = "response_type", .type = REST_STRING, .flags = REST_REQUIRED, .options = response_types },
        { .name = "scope", .type = REST_STRING, .summary = "user, owner" },
        { .name = "expires_in", .type = REST_INTEGER, .summary = "Seconds; 0: never" },
        { .name = "description", .type = REST_STRING },
        { .name = "user", .type = REST_STRING, .summary = "Whose token, by e-mail" },
        { .name = "email", .type = REST_STRING, .summary = "Who is invited" },
        { .name = "username", .type = REST_STRING },
        { .name = "external_id", .type = REST_STRING },
        {},
};

#define ROUTE(m, p, o, s, h) .method = (m), .pattern = (p), .operation = (o), .summary = (s), .handler = (h)

const RestRoute token_routes[] = {
        { ROUTE(NULL, "/oauth2/token", "token.exchange", "A token for a code or a refresh token",
                          rest_grant_token),
                        .flags = REST_OPEN | REST_FORM | REST_OAUTH | REST_LIMITED,
                        .described_body = grant_description, .status = 201 },
        { ROUTE("POST", "/oauth2/authorize", "token.create", "Make a token, a code or an invitation",
                          rest_authorize),
                        .flags = REST_ANY_TOKEN | REST_FORM | REST_OAUTH | REST_LIMITED,
                        .described_body = authorize_description, .status = 201 },
        { ROUTE("GET", "/oauth2/tokens", "token.list", "The caller's tokens", rest_list_tokens) },
        { ROUTE("GET", "/oauth2/tokens/:token", "token.get", "One token", rest_get_token) },
        { ROUTE("DELETE", "/oauth2/tokens/:token", "token.remove", "Revoke a token", rest_remove_token),
                        .status = 201 },
};
const size_t n_token_routes = ELEMENTSOF(token_routes);
