/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* A login at somebody else's: an OAuth2 authorization code, with PKCE where the provider has it, and what the provider says about who it
 * was. The provider is set by the keys oauth2.* of the master's configuration. */

typedef struct LoginConfig {
        char *client_id, *client_secret, *authorize_endpoint, *token_endpoint, *userinfo_endpoint, *scope;
        char *root_url, *token_method, *content_type;
        char *name_path, *email_path, *verified_path,
                        *id_path; /* JSON paths; verified_path NULL: see below */
        bool code_basic, userinfo_basic, insecure, pkce;
} LoginConfig;

/* K_NOT_SUPPORTED: there is no provider. */
int login_config_load(Master *m, LoginConfig *ret, KError *reterr);
void login_config_done(LoginConfig *c);

/* Where a code may be sent: to a program on the machine of whoever logs in, or to our own page. */
int login_redirect_validate(const char *uri, KError *reterr);
/* The redirect with the code in it. */
int login_redirect_location(const char *uri, const char *code, const char *server_name, char **ret);
/* Where to log in. verifier NULL: without PKCE. */
int login_authorize_location(const LoginConfig *c, const char *state, const char *verifier, char **ret);

/* Who the provider says it was. Of an e-mail that it says is not verified nothing is told. */
typedef struct LoginIdentity {
        char *id, *email, *name; /* NULL: not said */
} LoginIdentity;
void login_identity_done(LoginIdentity *i);
int login_identity_parse(
                const LoginConfig *c, const char *body, size_t size, LoginIdentity *ret, KError *reterr);
/* From JSON or a form, as the content type says. */
int login_token_parse(const char *content_type, const char *body, size_t size, char **ret, KError *reterr);

/* The questions to the provider. error: K_NOT_AUTHENTICATED, with a sentence for whoever logs in; the reason is in the log. */
typedef struct Login Login;
typedef void (*login_done_t)(const LoginIdentity *identity, const KError *error, void *userdata);
int login_new(Master *m, const char *code, const char *verifier, login_done_t done, void *userdata,
                Login **ret, KError *reterr);
Login *login_free(Login *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(Login *, login_free);
