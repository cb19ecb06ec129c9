/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <strings.h>

#include "json-util.h"
#include "log.h"
#include "rest-form.h"
#include "rest-internal.h"
#include "string-util.h"
#include "uri.h"

#define TYPE_JSON         "application/json"
#define SECRET_ANSWER_MAX 65536U /* larger ones are lists, which show no values */
#define TYPE_FORM         "application/x-www-form-urlencoded"

/* 0: there is nobody who waits for it. */
static int begin_answer(RestCall *c) {
        if (c->answered)
                return -EALREADY;

        c->answered = true;
        return c->http ? 1 : 0;
}

static int end_answer(int r) {
        if (r < 0)
                log_debug_errno(r, "A request is not answered: %m");
        return r;
}

static int reply_bytes(RestCall *c, int status, const char *type, const char *text, size_t size) {
        int r;

        r = begin_answer(c);
        return r > 0 ? end_answer(http_reply(c->http, status, type, text, size)) : r;
}

int rest_reply_consume(RestCall *c, char *text, size_t size) {
        int r;

        r = begin_answer(c);
        if (r > 0)
                return end_answer(http_reply_consume(c->http, 200, TYPE_JSON, text, size));
        free(text);
        return r;
}

bool rest_is_answered(const RestCall *c) {
        return c->answered;
}

int rest_reply(RestCall *c, int status, json_object *o) {
        _cleanup_json_ json_object *owned = o;
        const char *text = owned ? json_text(owned) : NULL;
        size_t size;
        int r;

        if (!text)
                return -ENOMEM;
        size = strlen(text);
        r = reply_bytes(c, status, TYPE_JSON, text, size);
        if (size <= SECRET_ANSWER_MAX) {
                erase_memory((char *) (uintptr_t) text, size);
                json_erase_strings(owned);
        }
        return r;
}

int rest_reply_empty(RestCall *c, int status) {
        return reply_bytes(c, status, TYPE_JSON, "", 0);
}

int rest_reply_text(RestCall *c, int status, const char *content_type, const char *text) {
        return reply_bytes(c, status, content_type, text, strlen(text));
}

int rest_reply_redirect(RestCall *c, const char *location) {
        int r;

        r = c->http && !c->answered ? http_add_header(c->http, "Location", location) : 0;
        return r < 0 ? r : reply_bytes(c, 302, TYPE_JSON, "", 0);
}

int rest_reply_error(RestCall *c, int status, const char *text) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "error", text) < 0)
                return -ENOMEM;
        return rest_reply(c, status, TAKE_PTR(o));
}

int rest_reply_string(RestCall *c, int status, const char *text) {
        return rest_reply(c, status, json_object_new_string(text));
}

int rest_reply_field_error(RestCall *c, const char *field, const char *text) {
        _cleanup_json_ json_object *o = json_object_new_object(), *map = json_object_new_object();

        if (!o || !map || json_add_string(map, field, text) < 0 || json_add(o, "error", TAKE_PTR(map)) < 0)
                return -ENOMEM;
        return rest_reply(c, 422, TAKE_PTR(o));
}

void rest_set_error_field(RestCall *c, const char *field) {
        c->error_field = field;
}

static int reply_internal(RestCall *c, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();

        log_warning("%s %s failed: %s", c->route ? strna(c->route->method) : "A request",
                        c->route ? c->route->pattern : "", kerror_message(error));
        if (!o || json_add_string(o, "message", "Internal server error") < 0)
                return -ENOMEM;
        return rest_reply(c, 500, TAKE_PTR(o));
}

/* What failed on a node */
static int reply_node_failure(RestCall *c, int status, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *backtrace = json_object_new_array();

        if (!o || json_add(o, "backtrace", backtrace) < 0 ||
                        json_add_u64(o, "code", (uint64_t) status) < 0 ||
                        json_add_string(o, "message", kerror_message(error)) < 0)
                return -ENOMEM;
        return rest_reply(c, status, TAKE_PTR(o));
}

int rest_reply_kerror(RestCall *c, const KError *error) {
        KErrorCode code = kerror_is_set(error) ? error->code : K_INTERNAL;
        int status = kerror_http_status(code);

        if (code == K_INTERNAL)
                return reply_internal(c, error);
        if (c->route && (c->route->flags & REST_OAUTH)) {
                static const struct {
                        int status;
                        const char *code;
                } codes[] = {
                        { 403, "access_denied" },
                        { 404, "not_found" },
                        { 422, "invalid_request" },
                };

                FOREACH_ARRAY(e, codes, ELEMENTSOF(codes))
                        if (e->status == status)
                                return rest_reply_oauth_error(c, status == 422 ? 400 : status, e->code,
                                                kerror_message(error));
                return rest_reply_oauth_error(c, status, "server_error", kerror_message(error));
        }
        switch (status) {
        case 404:
                return rest_reply_error(c, 404, "Not found");
        case 403:
                return rest_reply_error(c, 403, "Access denied");
        case 422:
                return rest_reply_field_error(c, c->error_field ?: "base", kerror_message(error));
        case 500:
                return reply_node_failure(c, status, error);
        default:
                return rest_reply_error(c, status, kerror_message(error));
        }
}

/* Errors of the OAuth2 paths */

static bool accepts(RestCall *c, const char *type) {
        const char *accept = rest_header(c, "Accept");

        return accept && strcasestr(accept, type);
}

static char *html_escape(const char *text) {
        char *s = strdup("");

        for (; s && *text; text++) {
                char one[2] = { *text, '\0' };
                const char *part = *text == '<'   ? "&lt;"
                                   : *text == '>' ? "&gt;"
                                   : *text == '&' ? "&amp;"
                                   : *text == '"' ? "&quot;"
                                                  : one;
                char *longer = strjoin(s, part);

                free(s);
                s = longer;
        }
        return s;
}

bool rest_wants_page(RestCall *c) {
        return accepts(c, "text/html");
}

int rest_reply_page(RestCall *c, int status, const char *title, const char *text) {
        _cleanup_free_ char *a = html_escape(title), *b = html_escape(strempty(text)), *page = NULL;
        int r;

        page = a && b ? strjoin("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                                "<meta name=\"viewport\" content=\"width=device-width\"><title>",
                                        a, " - Kontena</title></head><body><h1>", a, "</h1><p>", b,
                                        "</p></body></html>\n")
                      : NULL;
        if (!page)
                return -ENOMEM;
        r = c->http ? http_add_header(c->http, "Content-Security-Policy",
                                      "default-src 'none'; base-uri 'none'; form-action 'none'; "
                                      "frame-ancestors 'none'")
                    : 0;
        return r < 0 ? r : rest_reply_text(c, status, "text/html; charset=utf-8", page);
}

int rest_reply_oauth_error(RestCall *c, int status, const char *code, const char *description) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL, *escaped = NULL;
        const char *type = rest_header(c, "Content-Type");

        if (!accepts(c, TYPE_JSON)) {
                if (accepts(c, TYPE_FORM)) {
                        escaped = uri_escape(strempty(description));
                        text = escaped ? strjoin("error=", code, description ? "&error_description=" : "",
                                                         escaped)
                                       : NULL;
                        return text ? rest_reply_text(c, status, TYPE_FORM, text) : -ENOMEM;
                }
                if (accepts(c, "text/plain")) {
                        text = strjoin("error:", code, ";error_description:", strempty(description));
                        return text ? rest_reply_text(c, status, "text/plain; charset=utf-8", text)
                                    : -ENOMEM;
                }
                if (!type || !strcasestr(type, TYPE_JSON))
                        return rest_reply_page(c, status, code, description);
        }

        o = json_object_new_object();
        if (!o || json_add_string(o, "error", code) < 0 ||
                        (description && json_add_string(o, "error_description", description) < 0))
                return -ENOMEM;
        return rest_reply(c, status, TAKE_PTR(o));
}
