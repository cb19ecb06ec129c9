/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "json-util.h"
#include "parse-util.h"
#include "rest-internal.h"
#include "string-util.h"

/* What a browser sees of a login at an external provider. */

static void redirect(RestCall *c, json_object *result) {
        const char *location = NULL;

        (void) json_find_string(result, "location", &location, NULL);
        if (!location || rest_reply_redirect(c, location) < 0)
                (void) rest_reply_oauth_error(c, 500, "server_error", NULL);
}

static void on_begun(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                redirect(c, result);
        else if (error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_oauth_error(c, 400, "invalid_request", kerror_message(error));
        else if (error->code == K_ACCESS_DENIED || kerror_http_status(error->code) == 404)
                (void) rest_reply_oauth_error(c, 403, "access_denied", "Invalid invite code");
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_begin_login(RestCall *c, KError *reterr) {
        const char *uri = empty_to_null(rest_query(c, "redirect_uri")), *text = rest_query(c, "expires_in");
        _cleanup_json_ json_object *params = NULL;
        unsigned seconds = 0;
        int r;

        if (!uri)
                return rest_reply_oauth_error(c, 400, "invalid_request", "redirect_uri");
        if (!isempty(text) && safe_atou(text, &seconds) < 0)
                return rest_reply_oauth_error(c, 400, "invalid_request", "expires_in");
        params = rest_params("redirect_uri", uri, "invite_code", empty_to_null(rest_query(c, "invite_code")),
                        NULL);
        r = params ? 0 : -ENOMEM;
        if (r >= 0 && seconds > 0)
                r = json_add_u64(params, "expires_in", seconds);
        return r < 0 ? r : rest_call(c, "login.begin", TAKE_PTR(params), on_begun);
}

static void on_finished(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                redirect(c, result);
        else if (error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_string(c, 400, "invalid_request");
        else if (error->code == K_ACCESS_DENIED)
                (void) rest_reply_string(c, 403, "Access denied");
        else if (error->code == K_LIMIT_EXCEEDED)
                (void) rest_reply_error(c, 429, "too_many_requests");
        else if (error->code == K_INTERNAL || error->code == K_UNAVAILABLE)
                (void) rest_reply_kerror(c, error);
        else
                (void) rest_reply_string(c, 400, "Authentication failed; see the master's log");
}

static int rest_finish_login(RestCall *c, KError *reterr) {
        const char *code = empty_to_null(rest_query(c, "code")),
                   *state = empty_to_null(rest_query(c, "state"));

        if (rest_query(c, "error")) /* of the provider's words nothing is repeated */
                return rest_reply_string(c, 502, "The authentication provider has refused the login");
        if (!code || !state)
                return rest_reply_string(c, 400, "invalid_request");
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
