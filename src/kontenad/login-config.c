/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <sodium.h>

#include "file-util.h"
#include "json-path.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "login.h"
#include "master-config.h"
#include "string-util.h"
#include "uri.h"

/* What is said to the provider and heard from it; nothing here asks anybody. */

static const struct {
        const char *key;
        size_t offset;
        bool required;
        const char *fallback;
} texts[] = {
#define TEXT(k, field, needed, value)                                                                       \
        { k, offsetof(LoginConfig, field), needed, value }
        TEXT("oauth2.client_id", client_id, true, NULL),
        TEXT("oauth2.client_secret", client_secret, true, NULL),
        TEXT("oauth2.authorize_endpoint", authorize_endpoint, true, NULL),
        TEXT("oauth2.token_endpoint", token_endpoint, true, NULL),
        TEXT("oauth2.userinfo_endpoint", userinfo_endpoint, true, NULL),
        TEXT("server.root_url", root_url, true, NULL),
        TEXT("oauth2.userinfo_scope", scope, false, "user:email"),
        TEXT("oauth2.token_method", token_method, false, "post"),
        TEXT("oauth2.token_post_content_type", content_type, false, "application/json"),
        TEXT("oauth2.userinfo_username_jsonpath", name_path, false, "$..username;$..login"),
        TEXT("oauth2.userinfo_email_jsonpath", email_path, false, "$..email;$..emails;$..primary_email"),
        TEXT("oauth2.userinfo_email_verified_jsonpath", verified_path, false, NULL),
        TEXT("oauth2.userinfo_user_id_jsonpath", id_path, false, "$..id;$..uid;$..userid,$..user_id"),
#undef TEXT
};

static const struct {
        const char *key;
        size_t offset;
} flags[] = {
        { "oauth2.code_requires_basic_auth", offsetof(LoginConfig, code_basic) },
        { "oauth2.userinfo_requires_basic_auth", offsetof(LoginConfig, userinfo_basic) },
        { "oauth2.ignore_invalid_ssl", offsetof(LoginConfig, insecure) },
        { "oauth2.pkce", offsetof(LoginConfig, pkce) },
};

void login_config_done(LoginConfig *c) {
        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts))
                erase_and_freep((char **) ((uint8_t *) c + t->offset));
        *c = (LoginConfig){};
}

/* Without TLS only to this machine itself. */
static bool is_endpoint(const char *url) {
        const char *rest;

        if (!string_is_printable(url) || strpbrk(url, " \"<>\\#"))
                return false;
        rest = startswith(url, "https://");
        if (rest)
                return *rest != '\0' && *rest != '/';
        rest = startswith(url, "http://");
        if (!rest)
                return false;
        rest = startswith(rest, "localhost") ?: startswith(rest, "127.0.0.1") ?: startswith(rest, "[::1]");
        return rest && (*rest == ':' || *rest == '/' || *rest == '\0') && !strchr(rest, '@');
}

static int check(const LoginConfig *c, KError *reterr) {
        const char *const urls[] = { c->authorize_endpoint, c->token_endpoint, c->userinfo_endpoint };

        FOREACH_ARRAY(u, urls, ELEMENTSOF(urls))
                if (!is_endpoint(*u))
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "The authentication provider's '%s' is no https:// address.", *u);
        if (!STR_IN_SET(c->token_method, "post", "get"))
                return kerror_set(reterr, K_NOT_SUPPORTED, "oauth2.token_method is neither post nor get.");
        return 0;
}

int login_config_load(Master *m, LoginConfig *ret, KError *reterr) {
        _cleanup_(login_config_done) LoginConfig c = {};
        int r;

        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts)) {
                char **field = (char **) ((uint8_t *) &c + t->offset);

                r = master_config_get(m, t->key, field);
                if (r < 0 && r != -ENOENT)
                        return kerror_set_errno(reterr, r, "The setting '%s' cannot be read: %m.", t->key);
                if (*field && (*field)[strspn(*field, " \t")] == '\0')
                        *field = mfree(*field);
                if (!*field && t->required)
                        return kerror_set(reterr, K_NOT_SUPPORTED, "Authentication provider not configured");
                if (!*field && t->fallback && !(*field = strdup(t->fallback)))
                        return -ENOMEM;
        }
        FOREACH_ARRAY(f, flags, ELEMENTSOF(flags)) {
                r = master_config_get_boolean(m, f->key, false);
                if (r < 0)
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "The setting '%s' is neither true nor false.", f->key);
                *(bool *) ((uint8_t *) &c + f->offset) = r > 0;
        }
        r = check(&c, reterr);
        if (r < 0)
                return r;

        *ret = c;
        c = (LoginConfig){};
        return 0;
}

/* Addresses */

int login_redirect_validate(const char *uri, KError *reterr) {
        const char *p;

        if (streq(uri, "/code"))
                return 0;
        p = startswith(uri, "http://localhost");
        if (p && *p == ':') {
                size_t digits = strspn(p + 1, "0123456789");

                p = digits > 0 && digits <= 5 ? p + 1 + digits : NULL;
        }
        if (!p || (*p != '/' && *p != '\0') || strpbrk(p, " \"'<>\\#@") || !string_is_printable(uri))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The redirect must go to http://localhost, or be /code.");
        return 0;
}

int login_redirect_location(const char *uri, const char *code, const char *server_name, char **ret) {
        _cleanup_erase_ char *l = strdup(uri);
        int r;

        if (!l)
                return -ENOMEM;
        r = uri_append(&l, streq(uri, "/code") ? "#" : strchr(uri, '?') ? "&" : "?", "code", code);
        if (r >= 0)
                r = uri_append(&l, "&", "server_name", server_name);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

/* base64url of SHA-256, as RFC 7636 has it. */
static int challenge(const char *verifier, char ret[static 64]) {
        uint8_t hash[crypto_hash_sha256_BYTES];

        (void) crypto_hash_sha256(hash, (const uint8_t *) verifier, strlen(verifier));
        return sodium_bin2base64(ret, 64, hash, sizeof(hash), sodium_base64_VARIANT_URLSAFE_NO_PADDING)
                               ? 0
                               : -ENOMEM;
}

int login_authorize_location(const LoginConfig *c, const char *state, const char *verifier, char **ret) {
        _cleanup_free_ char *l = strdup(c->authorize_endpoint), *callback = NULL;
        size_t n = strlen(c->root_url);
        char hash[64];
        int r;

        while (n > 0 && c->root_url[n - 1] == '/')
                n--;
        callback = strprintf("%.*s/cb", (int) n, c->root_url);
        if (!l || !callback)
                return -ENOMEM;
        r = uri_append(&l, strchr(l, '?') ? "&" : "?", "response_type", "code");
        if (r >= 0)
                r = uri_append(&l, "&", "client_id", c->client_id);
        if (r >= 0)
                r = uri_append(&l, "&", "scope", c->scope);
        if (r >= 0)
                r = uri_append(&l, "&", "state", state);
        if (r >= 0)
                r = uri_append(&l, "&", "redirect_uri", callback);
        if (r >= 0 && verifier) {
                r = challenge(verifier, hash);
                if (r >= 0)
                        r = uri_append(&l, "&", "code_challenge", hash);
                if (r >= 0)
                        r = uri_append(&l, "&", "code_challenge_method", "S256");
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

/* Answers */

static int form_value(const char *body, const char *key, char **ret) {
        size_t n = strlen(key);

        for (const char *p = body; *p;) {
                size_t length = strcspn(p, "&");

                if (strneq(p, key, n) && p[n] == '=')
                        return uri_unescape(p + n + 1, length - n - 1, true, ret);
                p += length + (p[length] == '&');
        }
        return -ENOENT;
}

/* Only what can stand in a header: it will. */
static bool is_token(const char *s) {
        size_t n = strlen(s);

        for (const char *p = s; *p; p++)
                if (*p <= ' ' || *p >= 127)
                        return false;
        return n > 0 && n <= 8192;
}

int login_token_parse(const char *content_type, const char *body, size_t size, char **ret, KError *reterr) {
        _cleanup_erase_ char *token = NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *s;
        int r;

        if (strlen(body) != size)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The answer has a NUL byte in it.");
        if (startswith(content_type, "application/x-www-form-urlencoded")) {
                r = form_value(body, "access_token", &token);
                if (r == -ENOMEM)
                        return r;
        } else {
                r = json_parse(body, size, LOGIN_ANSWER_MAX, &o, reterr);
                if (r >= 0 && !json_object_is_type(o, json_type_object))
                        return kerror_set(reterr, K_NOT_AUTHENTICATED, "The answer is no object.");
                if (r >= 0)
                        r = json_get_string(o, "access_token", &s, reterr);
                if (r < 0)
                        return r;
                token = strdup(s);
                if (!token)
                        return -ENOMEM;
        }
        if (!token || !is_token(token))
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "There is no token in the answer.");

        *ret = TAKE_PTR(token);
        return 0;
}

void login_identity_done(LoginIdentity *i) {
        free(i->id);
        free(i->email);
        free(i->name);
        *i = (LoginIdentity){};
}

/* Somebody could have written another's address there. */
static int is_verified(const LoginConfig *c, json_object *o, KError *reterr) {
        _cleanup_free_ char *verified = NULL;
        int r;

        r = json_path_find(o, c->verified_path ?: "$.email_verified", &verified, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                return !c->verified_path;
        return STR_IN_SET(verified, "true", "1");
}

static int find(json_object *o, const char *paths, size_t max, char **ret, KError *reterr) {
        int r = json_path_find(o, paths, ret, reterr);

        if (r > 0 && (strlen(*ret) > max || !string_is_printable(*ret)))
                *ret = mfree(*ret);
        return MIN(r, 0);
}

int login_identity_parse(
                const LoginConfig *c, const char *body, size_t size, LoginIdentity *ret, KError *reterr) {
        _cleanup_(login_identity_done) LoginIdentity i = {};
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = json_parse(body, size, LOGIN_ANSWER_MAX, &o, reterr);
        if (r >= 0)
                r = find(o, c->id_path, LABEL_LENGTH_MAX, &i.id, reterr);
        if (r >= 0)
                r = find(o, c->email_path, EMAIL_LENGTH_MAX, &i.email, reterr);
        if (r >= 0)
                r = find(o, c->name_path, LABEL_LENGTH_MAX, &i.name, reterr);
        if (r >= 0)
                r = is_verified(c, o, reterr);
        if (r < 0)
                return r;
        if (r == 0)
                i.email = mfree(i.email);

        *ret = i;
        i = (LoginIdentity){};
        return 0;
}
