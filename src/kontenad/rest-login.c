/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "json-util.h"
#include "parse-util.h"
#include "rest-internal.h"
#include "string-util.h"

/* What a browser sees of a login at an external provider. */

typedef struct Refusal {
        int status;
        const char *text;           /* what programs get, by the reference */
        const char *title, *advice; /* what a person in front of a browser gets */
} Refusal;

static int refuse(RestCall *c, const Refusal *f) {
        return rest_wants_page(c) ? rest_reply_page(c, f->status, f->title, f->advice)
                                  : rest_reply_string(c, f->status, f->text);
}

static void redirect(RestCall *c, json_object *result) {
        const char *location = NULL;

        (void) json_find_string(result, "location", &location, NULL);
        if (!location || rest_reply_redirect(c, location) < 0)
                (void) rest_reply_oauth_error(c, 500, "server_error", NULL);
}

/* The same for a login that does not begin, whose answers to programs are OAuth2's. */
static int refuse_begin(
                RestCall *c, int status, const char *code, const char *description, const char *advice) {
        return rest_wants_page(c) ? rest_reply_page(c, status, "The login cannot begin", advice)
                                  : rest_reply_oauth_error(c, status, code, description);
}

static int refuse_request(RestCall *c, const char *description) {
        return refuse_begin(c, 400, "invalid_request", description,
                        "The address that was opened is not one of a login. Copy the whole address that the "
                        "terminal shows, or begin the login again there.");
}

static void on_begun(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                redirect(c, result);
        else if (error->code == K_INVALID_ARGUMENT)
                (void) refuse_request(c, kerror_message(error));
        else if (error->code == K_ACCESS_DENIED || kerror_http_status(error->code) == 404)
                (void) refuse_begin(c, 403, "access_denied", "Invalid invite code",
                                "The code of the invitation is wrong, has served already, or is too old. "
                                "Ask "
                                "an administrator of this master for another invitation.");
        else if (kerror_http_status(error->code) == 501 && rest_wants_page(c))
                (void) rest_reply_page(c, 501, "The login cannot begin",
                                "This master has no authentication provider. Log in with a code "
                                "(kontenactl login --code, kontena master login --code) that an "
                                "administrator makes, who can also configure a provider.");
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_begin_login(RestCall *c, KError *reterr) {
        const char *uri = empty_to_null(rest_query(c, "redirect_uri")), *text = rest_query(c, "expires_in");
        _cleanup_json_ json_object *params = NULL;
        unsigned seconds = 0;
        int r;

        if (!uri)
                return refuse_request(c, "redirect_uri");
        if (!isempty(text) && safe_atou(text, &seconds) < 0)
                return refuse_request(c, "expires_in");
        params = rest_params("redirect_uri", uri, "invite_code", empty_to_null(rest_query(c, "invite_code")),
                        NULL);
        r = params ? 0 : -ENOMEM;
        if (r >= 0 && seconds > 0)
                r = json_add_u64(params, "expires_in", seconds);
        return r < 0 ? r : rest_call(c, "login.begin", TAKE_PTR(params), on_begun);
}

static const Refusal no_login = {
        400,
        "invalid_request",
        "This login is over",
        "It was begun more than an hour ago, or it has been used: this page was loaded a second time. If "
        "the "
        "terminal does not say that you are logged in, begin the login again there.",
};
static const Refusal stranger = {
        403,
        "Access denied",
        "This account has no access",
        "The account at the provider belongs to no user of this master. Log in at the provider with the "
        "account "
        "that was invited, or ask an administrator of the master for an invitation; then begin the login "
        "again "
        "in the terminal.",
};
static const Refusal failed = {
        400,
        "Authentication failed; see the master's log",
        "The login has failed",
        "The provider's answer could not be used; the journal of the master says why. Begin the login again "
        "in "
        "the terminal, and tell an administrator of the master if it fails again.",
};
static const Refusal refused = {
        502,
        "The authentication provider has refused the login",
        "The provider has refused the login",
        "Access was not granted there, or the provider has an error. Interrupt the command in the terminal, "
        "begin the login again, and let the provider grant access.",
};

static void on_finished(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                redirect(c, result);
        else if (error->code == K_INVALID_ARGUMENT)
                (void) refuse(c, &no_login);
        else if (error->code == K_ACCESS_DENIED)
                (void) refuse(c, &stranger);
        else if (error->code == K_LIMIT_EXCEEDED)
                (void) rest_reply_error(c, 429, "too_many_requests");
        else if ((error->code == K_INTERNAL || error->code == K_UNAVAILABLE) && !rest_wants_page(c))
                (void) rest_reply_kerror(c, error);
        else
                (void) refuse(c, &failed);
}

static int rest_finish_login(RestCall *c, KError *reterr) {
        const char *code = empty_to_null(rest_query(c, "code")),
                   *state = empty_to_null(rest_query(c, "state"));

        if (rest_query(c, "error")) /* of the provider's words nothing is repeated */
                return refuse(c, &refused);
        if (!code || !state)
                return refuse(c, &no_login);
        return rest_call(c, "login.finish", rest_params("code", code, "state", state, NULL), on_finished);
}

static const RestField begin_query[] = {
        { .name = "redirect_uri",
                        .type = REST_STRING,
                        .flags = REST_REQUIRED,
                        .summary = "http://localhost:PORT/PATH, or /code" },
        { .name = "invite_code", .type = REST_STRING },
        { .name = "expires_in",
                        .type = REST_INTEGER,
                        .summary = "Seconds that the token will be valid; 0: always" },
        {},
};
static const RestField finish_query[] = {
        { .name = "code", .type = REST_STRING, .summary = "Of the provider" },
        { .name = "state", .type = REST_STRING, .flags = REST_REQUIRED },
        { .name = "error", .type = REST_STRING },
        {},
};

#define ROUTE(m, p, o, s, h) .method = (m), .pattern = (p), .operation = (o), .summary = (s), .handler = (h)

const RestRoute login_routes[] = {
        { ROUTE("GET", "/authenticate", "login.begin", "Begin a login at the external provider",
                          rest_begin_login),
                        .flags = REST_ANY_TOKEN | REST_EXPIRED_TOKEN | REST_OAUTH | REST_LIMITED,
                        .query = begin_query, .status = 302 },
        { ROUTE("GET", "/cb", "login.finish", "Where the provider sends the browser to", rest_finish_login),
                        .flags = REST_OPEN | REST_OAUTH | REST_LIMITED, .query = finish_query,
                        .status = 302 },
};
const size_t n_login_routes = ELEMENTSOF(login_routes);
