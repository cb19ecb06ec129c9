/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "rest-internal.h"
#include "settings.h"
#include "string-util.h"

#define PAGE_TYPE   "text/html; charset=utf-8"
/* base64 of SHA-256 of SCRIPT, which a test compares: nothing else may run on the page. */
#define SCRIPT_HASH "sha256-Z4JC1SOpomFkggzCt0k/0KBVr1R7rQhbzSFIKfxqORo="
#define SCRIPT                                                                                              \
        "var p=new URLSearchParams(location.hash.slice(1));"                                                \
        "document.getElementById('code').textContent=p.get('code')||"                                       \
        "'There is none here any more. Begin the login again in the terminal.';"                            \
        "history.replaceState(null,'',location.pathname);"

static int root(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "name", "Kontena Master") < 0 ||
                        json_add_string(o, "tagline", "The Container Platform") < 0 ||
                        json_add_string(o, "version", rest_master(c)->config->api_version) < 0)
                return -ENOMEM;
        return rest_reply(c, 200, TAKE_PTR(o));
}

static int ping(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(grid_row_list_done) GridRowList l = {};

        if (store_list_grids(rest_master(c)->store, &l) < 0)
                return rest_reply_error(c, 500, "Internal server error");
        if (!o || json_add_string(o, "message", "pong") < 0)
                return -ENOMEM;
        return rest_reply(c, 200, TAKE_PTR(o));
}

static int password_login(RestCall *c, KError *reterr) {
        return rest_reply_string(c, 403,
                        "This master has no login by user and password. Use a newer client: kontena master "
                        "login.");
}

static int code_page(RestCall *c, KError *reterr) {
        int r;

        r = http_add_header(c->http, "Content-Security-Policy",
                        "default-src 'none'; script-src '" SCRIPT_HASH
                        "'; style-src 'none'; base-uri 'none'; "
                        "form-action 'none'; frame-ancestors 'none'");
        if (r < 0)
                return r;
        return rest_reply_text(c, 200, PAGE_TYPE,
                        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta "
                        "charset=\"utf-8\"><title>Kontena</title></head>"
                        "<body><h1>Your code</h1><p>Give this to the command that asks for it:</p>"
                        "<pre id=\"code\"></pre><script>" SCRIPT "</script></body></html>\n");
}

static int openapi(RestCall *c, KError *reterr) {
        json_object *o;
        int r;

        r = rest_openapi(&o);
        return r < 0 ? r : rest_reply(c, 200, o);
}

const RestRoute root_routes[] = {
        { .method = "GET",
                        .pattern = "/",
                        .flags = REST_OPEN,
                        .summary = "Name and version of the master",
                        .handler = root },
        { .method = "GET",
                        .pattern = "/v1/ping",
                        .flags = REST_OPEN,
                        .summary = "Whether the master and its store answer",
                        .handler = ping },
        { .method = "POST",
                        .pattern = "/v1/auth",
                        .flags = REST_OPEN,
                        .summary = "Login by password, which there is not",
                        .handler = password_login,
                        .status = 403 },
        { .method = "GET",
                        .pattern = "/code",
                        .flags = REST_OPEN,
                        .summary = "A page that shows the code in its fragment",
                        .handler = code_page },
        { .method = "GET",
                        .pattern = "/v1/openapi.json",
                        .flags = REST_OPEN,
                        .summary = "This description",
                        .handler = openapi },
};
const size_t n_root_routes = ELEMENTSOF(root_routes);
