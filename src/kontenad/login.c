/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "login.h"

#include "file-util.h"
#include "http-fetch.h"
#include "json-util.h"
#include "log.h"
#include "string-util.h"
#include "uri.h"

/* Two questions, one after the other: the code for a token, the token for who it is. */

struct Login {
        Master *master;
        LoginConfig config;
        HttpFetch *request;
        login_done_t done;
        void *userdata;
};

Login *login_free(Login *l) {
        if (!l)
                return NULL;

        http_fetch_free(l->request);
        login_config_done(&l->config);
        free(l);
        return NULL;
}

/* The last thing that happens to l. What the provider said is not for whoever is at the door. */
static void fail(Login *l, const char *what, const char *reason) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        log_notice("A login failed: the provider's answer for %s: %s", what, reason);
        (void) kerror_set(&e, K_NOT_AUTHENTICATED,
                        "Authentication failed: the provider did not tell who you are.");
        l->done(NULL, &e, l->userdata);
}

static bool is_good(Login *l, const char *what, const HttpAnswer *a, const KError *error) {
        _cleanup_free_ char *status = NULL;

        if (kerror_is_set(error)) {
                fail(l, what, kerror_message(error));
                return false;
        }
        if (a->status < 200 || a->status > 299) {
                status = strprintf("HTTP status %li", a->status);
                fail(l, what, strempty(status));
                return false;
        }
        return true;
}

static void on_userinfo(const HttpAnswer *a, const KError *error, void *userdata) {
        _cleanup_(login_identity_done) LoginIdentity i = {};
        _cleanup_kerror_ KError e = KERROR_NULL;
        Login *l = userdata;

        if (!is_good(l, "the user", a, error))
                return;
        if (login_identity_parse(&l->config, a->body, a->size, &i, &e) < 0) {
                fail(l, "the user", kerror_message(&e));
                return;
        }
        l->done(&i, NULL, l->userdata);
}

/* ":access_token" in the path stands for the token, for providers that want it there. */
static int userinfo_url(const char *endpoint, const char *token, char **ret, bool *ret_inside) {
        const char *at = strstr(endpoint, ":access_token");
        _cleanup_erase_ char *encoded = NULL;

        *ret_inside = at;
        if (!at)
                *ret = strdup(endpoint);
        else {
                encoded = uri_escape(token);
                if (!encoded)
                        return -ENOMEM;
                *ret = strprintf("%.*s%s%s", (int) (at - endpoint), endpoint, encoded,
                                at + strlen(":access_token"));
        }
        return *ret ? 0 : -ENOMEM;
}

static int ask_userinfo(Login *l, const char *token, KError *reterr) {
        _cleanup_erase_ char *bearer = NULL, *url = NULL;
        const LoginConfig *c = &l->config;
        bool inside = false;
        int r;

        r = userinfo_url(c->userinfo_endpoint, token, &url, &inside);
        if (r < 0)
                return r;
        bearer = strjoin("Authorization: Bearer ", token);
        if (!bearer)
                return -ENOMEM;
        return http_fetch_new(l->master->event,
                        &(HttpQuery){ .url = url,
                                        .headers = (char *[]){ (char *) "Accept: application/json",
                                                        inside || c->userinfo_basic ? NULL : bearer, NULL },
                                        .user = c->userinfo_basic ? c->client_id : NULL,
                                        .password = c->client_secret,
                                        .insecure = c->insecure },
                        on_userinfo, l, &l->request, reterr);
}

static void on_token(const HttpAnswer *a, const KError *error, void *userdata) {
        _cleanup_(http_fetch_freep) _unused_ HttpFetch *answered = NULL;
        _cleanup_erase_ char *token = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        Login *l = userdata;
        int r;

        if (!is_good(l, "the code", a, error))
                return;
        r = login_token_parse(a->content_type, a->body, a->size, &token, &e);
        if (r >= 0) {
                answered = TAKE_PTR(l->request);
                r = ask_userinfo(l, token, &e);
        }
        if (r < 0)
                fail(l, "the code", kerror_message(&e));
}

typedef struct Pair {
        const char *key, *value; /* value NULL: left out */
} Pair;

static int to_json(const Pair *pairs, size_t n, char **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return -ENOMEM;
        FOREACH_ARRAY(p, pairs, n)
                if (p->value && json_add_string(o, p->key, p->value) < 0)
                        return -ENOMEM;
        *ret = strdup(strempty(json_text(o)));
        return *ret ? 0 : -ENOMEM;
}

static int to_form(const Pair *pairs, size_t n, char **ret) {
        int r;

        FOREACH_ARRAY(p, pairs, n) {
                if (!p->value)
                        continue;
                r = uri_append(ret, *ret ? "&" : "", p->key, p->value);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int ask_token(Login *l, const char *code, const char *verifier, KError *reterr) {
        const LoginConfig *c = &l->config;
        size_t root = strlen(c->root_url);
        _cleanup_free_ char *callback = NULL, *type = NULL;
        _cleanup_erase_ char *text = NULL, *url = NULL;
        bool get = streq(c->token_method, "get");
        int r;

        while (root > 0 && c->root_url[root - 1] == '/')
                root--;
        callback = strprintf("%.*s/cb", (int) root, c->root_url);
        type = strjoin("Content-Type: ", c->content_type);
        if (!callback || !type)
                return -ENOMEM;

        const Pair pairs[] = {
                { "grant_type", "authorization_code" },
                { "code", code },
                { "client_id", c->client_id },
                { "client_secret", c->code_basic ? NULL : c->client_secret },
                { "redirect_uri", callback },
                { "code_verifier", verifier },
        };

        r = !get && strstr(c->content_type, "json") ? to_json(pairs, ELEMENTSOF(pairs), &text)
                                                    : to_form(pairs, ELEMENTSOF(pairs), &text);
        if (r < 0)
                return r;
        url = get ? strjoin(c->token_endpoint, strchr(c->token_endpoint, '?') ? "&" : "?", text)
                  : strdup(c->token_endpoint);
        if (!url)
                return -ENOMEM;
        return http_fetch_new(l->master->event,
                        &(HttpQuery){ .url = url,
                                        .body = get ? NULL : text,
                                        .headers = (char *[]){ (char *) "Accept: application/json",
                                                        get ? NULL : type, NULL },
                                        .user = c->code_basic ? c->client_id : NULL,
                                        .password = c->client_secret,
                                        .insecure = c->insecure },
                        on_token, l, &l->request, reterr);
}

int login_new(Master *m, const char *code, const char *verifier, login_done_t done, void *userdata,
                Login **ret, KError *reterr) {
        _cleanup_(login_freep) Login *l = NULL;
        int r;

        l = new0(Login, 1);
        if (!l)
                return -ENOMEM;
        l->master = m;
        l->done = done;
        l->userdata = userdata;
        r = login_config_load(m, &l->config, reterr);
        if (r >= 0)
                r = ask_token(l, code, verifier, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}
