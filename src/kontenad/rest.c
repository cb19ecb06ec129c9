/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest.h"

#include <strings.h>
#include <utlist.h>

#include "caller-token.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "parse-util.h"
#include "rest-field.h"
#include "rest-form.h"
#include "rest-internal.h"
#include "rest-limit.h"
#include "rest-list.h"
#include "rest-rows.h"
#include "settings.h"
#include "string-util.h"
#include "uri.h"

#define REALM      "kontena_master"
#define LOOPBACK_4 "127."
#define LOOPBACK_6 "::1"

static const struct {
        const RestRoute *routes;
        const size_t *n;
} tables[] = {
        { root_routes, &n_root_routes }, { grid_routes, &n_grid_routes }, { user_routes, &n_user_routes },
        { token_routes, &n_token_routes }, { login_routes, &n_login_routes },
        { config_routes, &n_config_routes }, { event_routes, &n_event_routes },
        { audit_routes, &n_audit_routes }, { service_routes, &n_service_routes },
        { instance_routes, &n_instance_routes }, { node_routes, &n_node_routes },
        { container_routes, &n_container_routes }, { log_routes, &n_log_routes },
        { exec_routes, &n_exec_routes }, { volume_routes, &n_volume_routes },
        { secret_routes, &n_secret_routes }, { registry_routes, &n_registry_routes },
        { later_routes, &n_later_routes }, /* last: what others have is theirs */
};

const RestRoute *rest_route_by_index(size_t i) {
        FOREACH_ARRAY(t, tables, ELEMENTSOF(tables)) {
                if (i < *t->n)
                        return t->routes + i;
                i -= *t->n;
        }

        return NULL;
}

/* Requests: their life */

static void call_free(RestCall *c) {
        RestOperation *o, *next;

        if (!c)
                return;

        if (c->http)
                http_request_set_gone(c->http, NULL, NULL);
        rest_list_free(c->list);
        if (c->destroy)
                c->destroy(c->userdata);
        DL_FOREACH_SAFE(c->operations, o, next)
                free(o);
        for (size_t i = 0; i < c->n_segments; i++)
                free(c->segments[i].value);
        DL_DELETE(c->rest->calls, c);
        c->rest->n_calls--;
        caller_unref(c->caller);
        json_erase_strings(c->query);
        json_object_put(c->query);
        json_object_put(c->body);
        free(c->address);
        free(c);
}

void rest_enter(RestCall *c) {
        c->busy++;
}

void rest_leave(RestCall *c) {
        assert(c->busy > 0);
        if (--c->busy == 0 && c->answered && !c->operations && !c->stream && !c->socket_handler &&
                        !c->socket)
                call_free(c);
}

static bool is_local(const char *address) {
        return startswith(address, LOOPBACK_4) || streq(address, LOOPBACK_6);
}

/* A proxy of this machine is believed whom it speaks for: it adds that last. Nobody else is, nor what came with the request before. */
static int client_address(HttpRequest *http, char **ret) {
        const char *peer = http_request_address(http), *list = http_request_header(http, "X-Forwarded-For"),
                   *last;
        int r = -EINVAL;

        if (list && http_request_tls(http) == 0 && is_local(peer)) {
                last = strrchr(list, ',') ? strrchr(list, ',') + 1 : list;
                last += strspn(last, " \t");
                r = rest_address_normalize(last, strcspn(last, " \t"), ret);
        }
        if (r != -EINVAL)
                return r;
        *ret = strdup(peer);
        return *ret ? 0 : -ENOMEM;
}

static void on_gone(void *userdata) {
        rest_call_http_gone(userdata);
}

static int call_new(Rest *r, HttpRequest *http, RestCall **ret) {
        RestCall *c;
        int k;

        c = new0(RestCall, 1);
        if (!c)
                return -ENOMEM;
        c->rest = r;
        DL_APPEND(r->calls, c);
        r->n_calls++;
        k = client_address(http, &c->address);
        if (k < 0) {
                call_free(c);
                return k;
        }
        c->http = http;
        http_request_set_gone(http, on_gone, c);

        *ret = c;
        return 0;
}

/* What was asked */

Master *rest_master(RestCall *c) {
        return c->rest->master;
}

Caller *rest_caller(RestCall *c) {
        return c->caller;
}

const RestRoute *rest_route(RestCall *c) {
        return c->route;
}

const char *rest_segment(RestCall *c, const char *name) {
        for (size_t i = 0; i < c->n_segments; i++)
                if (strlen(name) == c->segments[i].length &&
                                strneq(c->segments[i].name, name, c->segments[i].length))
                        return c->segments[i].value;
        return NULL;
}

const char *rest_query(RestCall *c, const char *name) {
        const char *s = NULL;

        (void) json_find_string(c->query, name, &s, NULL);
        return s;
}

json_object *rest_queries(RestCall *c) {
        return c->query;
}

json_object *rest_body(RestCall *c) {
        return c->body;
}

const char *rest_header(RestCall *c, const char *name) {
        return c->http ? http_request_header(c->http, name) : NULL;
}

const char *rest_address(RestCall *c) {
        return c->address;
}

int rest_base_url(RestCall *c, char **ret) {
        const char *host = rest_header(c, "Host"), *proto = rest_header(c, "X-Forwarded-Proto");
        bool tls = c->http && http_request_tls(c->http) > 0;
        char *url;

        if (isempty(host) || strlen(host) > 255 ||
                        strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:["
                                     "]") != strlen(host))
                host = "localhost";
        if (!tls && c->http && is_local(http_request_address(c->http)))
                tls = streq_ptr(proto, "https"); /* the proxy's */
        url = strjoin(tls ? "https://" : "http://", host);
        if (!url)
                return -ENOMEM;
        *ret = url;
        return 0;
}

uint32_t rest_limit(RestCall *c, uint32_t fallback, uint32_t max) {
        const char *s = rest_query(c, "limit");
        unsigned n;

        if (!s || safe_atou(s, &n) < 0 || n == 0)
                return fallback;
        return MIN((uint32_t) n, max);
}

void *rest_userdata(RestCall *c) {
        return c->userdata;
}

void rest_set_userdata(RestCall *c, void *userdata, void (*destroy)(void *userdata)) {
        c->userdata = userdata;
        c->destroy = destroy;
}

/* Operations */

static void reply_result(RestCall *c, json_object *result, const KError *error) {
        int r;

        if (c->answered)
                return;
        if (kerror_is_set(error))
                r = rest_reply_kerror(c, error);
        else
                r = rest_reply(c, c->route->status ?: 200,
                                result ? json_object_get(result) : json_object_new_object());
        if (r < 0)
                log_debug_errno(r, "A request is not answered: %m");
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        RestOperation *o = userdata;
        RestCall *c = o->call;
        rest_result_t on_result = o->on_result;
        rest_then_t then = o->then;

        rest_enter(c);
        DL_DELETE(c->operations, o);
        free(o);
        if (!then)
                (on_result ?: reply_result)(c, result, error);
        else if (error)
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, then(c));
        rest_leave(c);
}

static int call_operation(RestCall *c, const char *operation, json_object *consume, rest_result_t on_result,
                rest_then_t then) {
        const Operation *o = operation_find(operation);
        RestOperation *pending;

        assert(o);
        if (!consume)
                consume = json_object_new_object();
        pending = consume ? new0(RestOperation, 1) : NULL;
        if (!pending) {
                json_object_put(consume);
                return -ENOMEM;
        }
        *pending = (RestOperation){ .call = c, .on_result = on_result, .then = then };
        DL_APPEND(c->operations, pending);
        if (!c->error_field)
                c->error_field = startswith(operation, "grid.")      ? "grid"
                                 : startswith(operation, "service.") ? "service"
                                 : startswith(operation, "node.")    ? "node"
                                 : startswith(operation, "user.")    ? "user"
                                 : startswith(operation, "volume.")  ? "volume"
                                 : startswith(operation, "vault.")   ? "name"
                                                                     : "base";

        rest_enter(c);
        if (then)
                operation_ask(c->rest->master, c->caller, o, consume, on_done, pending);
        else
                operation_call(c->rest->master, c->caller, o, consume, /* interactive= */ false, on_done,
                                pending);
        rest_leave(c);
        return 0;
}

int rest_call(RestCall *c, const char *operation, json_object *params, rest_result_t on_result) {
        return call_operation(c, operation, params, on_result, NULL);
}

int rest_call_then(RestCall *c, const char *operation, json_object *params, rest_then_t then) {
        return call_operation(c, operation, params, NULL, then);
}

/* Paths */

static void segments_clear(RestCall *c) {
        while (c->n_segments > 0)
                free(c->segments[--c->n_segments].value);
}

static int segment_add(RestCall *c, const char *name, size_t name_length, const char *text, size_t length,
                bool raw) {
        char *value = NULL;
        int r;

        if (c->n_segments >= REST_SEGMENTS_MAX)
                return -ENOBUFS;
        if (raw) {
                value = strndup(text, length);
                r = value ? 0 : -ENOMEM;
        } else
                r = uri_unescape(text, length, false, &value);
        if (r < 0)
                return r;
        if (!string_is_printable(value)) {
                free(value);
                return -EINVAL;
        }

        c->segments[c->n_segments].name = name;
        c->segments[c->n_segments].length = name_length;
        c->segments[c->n_segments++].value = value;
        return 0;
}

/* 1: it fits, the segments are set. */
static int pattern_match(RestCall *c, const char *pattern, const char *path, size_t size, bool raw) {
        const char *end = path + size;

        segments_clear(c);
        for (;;) {
                size_t length, n;
                int r;

                if (*pattern != '/' || path >= end || *path != '/')
                        return *pattern == '\0' && path == end;
                pattern++;
                path++;
                if (*pattern == '*') {
                        r = segment_add(c, pattern + 1, strlen(pattern + 1), path, (size_t) (end - path),
                                        true);
                        return r < 0 ? r : 1;
                }
                length = strcspn(pattern, "/");
                n = (size_t) ((const char *) (memchr(path, '/', (size_t) (end - path)) ?: end) - path);
                if (*pattern == ':') {
                        if (n == 0)
                                return 0;
                        r = segment_add(c, pattern + 1, length - 1, path, n, raw);
                        if (r < 0)
                                return r;
                } else if (n != length || !strneq(pattern, path, n))
                        return 0;
                pattern += length;
                path += n;
        }
}

static int find_route(RestCall *c, const char *target) {
        const char *method = http_request_method(c->http);
        size_t size = strcspn(target, "?");
        const RestRoute *route;
        int r;

        for (size_t i = 0; (route = rest_route_by_index(i)); i++) {
                if (route->method && !streq(route->method, method))
                        continue;
                r = pattern_match(c, route->pattern, target, size, route->flags & REST_RAW_PATH);
                if (r == -EINVAL)
                        continue; /* malformed: names nothing */
                if (r < 0)
                        return r;
                if (r > 0) {
                        c->route = route;
                        return 0;
                }
        }

        segments_clear(c);
        return 0;
}

/* Who asks */

static int refuse(RestCall *c, const char *code, const char *description) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *challenge = NULL;
        int r;

        challenge = strjoin("Bearer realm=\"" REALM "\", error=\"", code, "\", error_description=\"",
                        description, "\"");
        if (!o || !challenge)
                return -ENOMEM;
        r = http_add_header(c->http, "WWW-Authenticate", challenge);
        if (r >= 0)
                r = json_add_string(o, "error", code);
        if (r >= 0)
                r = json_add_string(o, "error_description", description);
        if (r >= 0)
                r = rest_reply(c, 403, TAKE_PTR(o));
        return r;
}

/* The caller, or the answer. */
static int identify(RestCall *c) {
        const char *token = NULL;
        unsigned flags = c->route ? c->route->flags : 0;
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *agent = http_request_header(c->http, "User-Agent");
        Master *m = c->rest->master;
        int r;

        (void) http_request_bearer(c->http, &token); /* one that is malformed is none */
        if (agent && !string_is_printable(agent))
                agent = NULL;

        if (!(flags & REST_OPEN) && token) {
                r = caller_new_token(
                                m, token, flags & REST_EXPIRED_TOKEN, c->address, agent, &c->caller, &error);
                if (r >= 0 || (flags & REST_ANY_TOKEN && error.code != K_TOKEN_EXPIRED &&
                                              error.code != K_INVALID_TOKEN))
                        return MIN(r, 0);
                if (!(flags & REST_ANY_TOKEN)) {
                        if (error.code == K_TOKEN_EXPIRED)
                                return refuse(c, "invalid_token", "Token expired");
                        if (error.code == K_INVALID_TOKEN)
                                return refuse(c, "invalid_token", "Invalid token");
                        log_warning("A token from %s cannot be checked: %s", c->address,
                                        kerror_message(&error));
                        return refuse(c, "server_error", "Server has encountered an error");
                }
        } else if (!(flags & (REST_OPEN | REST_ANY_TOKEN)))
                return refuse(c, "invalid_token", "Invalid token");

        kerror_done(&error);
        return caller_new_token(m, NULL, false, c->address, agent, &c->caller, &error);
}

static bool is_login_path(const char *target) {
        return startswith(target, "/oauth2/token") || startswith(target, "/oauth2/authorize") ||
               startswith(target, "/authenticate") || startswith(target, "/cb");
}

/* Before anything else is looked at. */
static int check_rate(RestCall *c, const char *target) {
        _cleanup_free_ char *name = NULL, *key = NULL;

        if (!is_login_path(target) || is_local(c->address))
                return 0;
        name = rest_limit_address(c->address);
        key = name ? strjoin("address:", name) : NULL;
        if (!key)
                return -ENOMEM;
        if (rest_limit_take(c->rest->logins, key, now_monotonic()) >= 0)
                return 0;
        return rest_reply_error(c, 429, "too_many_requests");
}

/* Behind an address that many share, or from many addresses: what one account may. */
static int check_account_rate(RestCall *c, const char *target) {
        _cleanup_free_ char *key = NULL;

        if (!is_login_path(target) || !caller_user(c->caller) || isempty(c->caller->name))
                return 0;
        key = strjoin("account:", c->caller->name);
        if (!key)
                return -ENOMEM;
        if (rest_limit_take(c->rest->logins, key, now_monotonic()) >= 0)
                return 0;
        return rest_reply_error(c, 429, "too_many_requests");
}

/* The body */

static int drop_blank(json_object *o, json_object *more) {
        json_object_object_foreach(more, key, value) {
                const char *s = json_object_is_type(value, json_type_string) ? json_object_get_string(value)
                                                                             : NULL;

                if (!value || (s && strspn(s, " \t\r\n") == strlen(s)) ||
                                json_object_object_get_ex(o, key, NULL))
                        continue;
                if (json_add(o, key, json_object_get(value)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* A few bytes of text can be a hundred of memory each. */
static bool has_too_many_values(const char *text, size_t size) {
        size_t n = 0;
        bool quoted = false;

        for (size_t i = 0; i < size && n <= REST_JSON_VALUES_MAX; i++)
                if (text[i] == '"')
                        quoted = !quoted;
                else if (quoted && text[i] == '\\')
                        i++;
                else if (!quoted && strchr(",[{", text[i]))
                        n++;
        return n > REST_JSON_VALUES_MAX;
}

/* The error is the reference's; what is wrong with the text comes beside it. */
static int refuse_body(RestCall *c, const char *text, const KError *why) {
        _cleanup_json_ json_object *o = rest_params(
                        "error", text, "error_description", kerror_message(why), NULL);

        return o ? rest_reply(c, 400, TAKE_PTR(o)) : -ENOMEM;
}

static int parse_body(RestCall *c, json_object **ret) {
        _cleanup_json_ json_object *parsed = NULL, *merged = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *type = http_request_header(c->http, "Content-Type"), *text;
        size_t size;
        bool form = (c->route->flags & REST_FORM) && type &&
                    strncasecmp(type, "application/x-www-form-urlencoded", 33) == 0;
        int r;

        text = http_request_body(c->http, &size);
        if (form)
                r = rest_form_parse(text, size, &parsed, &error);
        else if (has_too_many_values(text, size))
                return rest_reply_error(c, 413, "The request is too large");
        else if (size == 0)
                r = (parsed = json_object_new_object()) ? 0 : -ENOMEM;
        else
                r = json_parse(text, size, LISTENER_BODY_SIZE_MAX, &parsed, &error);
        if (r == -ENOMEM)
                return r;
        if (r >= 0 && !(c->route->flags & REST_ANY_BODY) && !json_object_is_type(parsed, json_type_object))
                r = kerror_set(&error, K_INVALID_ARGUMENT, "The body is no JSON object.");
        if (r < 0)
                return refuse_body(c, form ? "Invalid form" : "Invalid json", &error);

        if (c->route->flags & REST_FORM) {
                merged = json_object_new_object();
                if (!merged || drop_blank(merged, parsed) < 0 || drop_blank(merged, c->query) < 0)
                        return -ENOMEM;
                *ret = TAKE_PTR(merged);
        } else
                *ret = TAKE_PTR(parsed);
        return 0;
}

static int read_body(RestCall *c) {
        _cleanup_json_ json_object *body = NULL, *checked = NULL, *o = NULL;
        int r;

        r = parse_body(c, &body);
        json_erase_strings(body);
        if (r < 0 || c->answered)
                return r;
        if (!c->route->body) {
                c->body = TAKE_PTR(body);
                return 0;
        }

        r = rest_fields_check(c->route->body, body, &checked);
        if (r < 0)
                return r;
        json_erase_strings(checked);
        if (r == 0) {
                c->body = TAKE_PTR(checked);
                return 0;
        }
        if (c->route->flags & REST_OAUTH)
                return rest_reply_oauth_error(c, 400, "invalid_request", NULL);
        o = json_object_new_object();
        if (!o || json_add(o, "error", TAKE_PTR(checked)) < 0)
                return -ENOMEM;
        return rest_reply(c, 422, TAKE_PTR(o));
}

/* A grid that is not there is told before it is asked who may see it: the reference's order. */
static int check_grid(RestCall *c) {
        const char *name = rest_segment(c, "grid");
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        if (!name)
                return 0;
        r = store_find_grid(c->rest->master->store, name, &g);
        return r == -ENOENT ? rest_reply_error(c, 404, "Not found") : r;
}

/* Everything in its order; stops at the first answer. */
static int handle(RestCall *c, KError *reterr) {
        const char *target = http_request_target(c->http), *query = strchr(target, '?');
        int r;

        r = check_rate(c, target);
        if (r < 0 || c->answered)
                return r;
        r = find_route(c, target);
        if (r < 0)
                return r;
        r = identify(c);
        if (r < 0 || c->answered)
                return r;
        r = http_add_header(c->http, "X-Kontena-Version", c->rest->master->config->api_version);
        if (r < 0)
                return r;
        if (!c->route)
                return rest_reply_empty(c, 404);
        r = check_account_rate(c, target);
        if (r < 0 || c->answered)
                return r;

        r = rest_form_parse(query ? query + 1 : "", query ? strlen(query + 1) : 0, &c->query, NULL);
        if (r == -EINVAL || r == -E2BIG)
                return rest_reply_error(c, 400, "Invalid query");
        if (r < 0)
                return r;
        r = check_grid(c);
        if (r < 0 || c->answered)
                return r;
        r = read_body(c);
        if (r < 0 || c->answered)
                return r;

        return c->route->handler(c, reterr);
}

static unsigned calls_of(Rest *rest, const char *address) {
        unsigned n = 0;
        RestCall *c;

        DL_FOREACH(rest->calls, c)
                if (streq_ptr(c->address, address))
                        n++;
        return n;
}

static int on_request(HttpRequest *http, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Rest *rest = userdata;
        RestCall *c;
        int r;

        r = call_new(rest, http, &c);
        if (r < 0)
                return r;
        if (rest->n_calls > REST_CALLS_MAX || calls_of(rest, c->address) > REST_CALLS_PER_ADDRESS_MAX) {
                call_free(c);
                (void) kerror_set(&error, K_UNAVAILABLE, "Too many requests wait for their answer.");
                return http_reply_error(http, &error);
        }

        rest_enter(c);
        r = handle(c, &error);
        if (r < 0 && !c->answered) {
                if (!kerror_is_set(&error))
                        (void) kerror_set_errno(&error, r, "The request could not be handled: %m.");
                r = rest_reply_kerror(c, &error);
                if (r < 0)
                        c->answered = true; /* the listener answers 500 */
        } else
                r = 0;
        rest_leave(c);
        return r;
}

static void on_change(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Rest *rest = userdata;

        if (kind == STORE_EVENT)
                rest->n_events++;
}

/* Large bodies are read for those only who may send any. */
static int on_large(HttpRequest *http, void *userdata) {
        Rest *rest = userdata;
        RestCall *c;
        int r;

        if (rest->n_calls >= REST_CALLS_MAX) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                (void) kerror_set(&error, K_UNAVAILABLE, "Too many requests wait for their answer.");
                return http_reply_error(http, &error);
        }
        r = call_new(rest, http, &c);
        if (r < 0)
                return r;
        rest_enter(c);
        r = find_route(c, http_request_target(http));
        if (r >= 0)
                r = identify(c);
        if (r >= 0 && !c->answered && !caller_user(c->caller))
                r = rest_reply_error(c, 413, "The request is too large");
        if (!c->answered) { /* it goes on, and is looked at again as a whole */
                call_free(c);
                return r;
        }
        rest_leave(c);
        return r;
}

int rest_new(Master *m, Rest **ret, KError *reterr) {
        _cleanup_(rest_freep) Rest *r = NULL;
        int k;

        assert(m);
        assert(ret);

        r = new0(Rest, 1);
        if (!r)
                return -ENOMEM;
        r->master = m;
        k = rest_limit_new(REST_LOGINS_PER_MINUTE_MAX, &r->logins);
        if (k >= 0)
                k = store_watch(m->store, on_change, r);
        if (k < 0)
                return k;
        listener_set_fallback(m->listener, on_request, on_large, r);

        *ret = TAKE_PTR(r);
        return 0;
}

static RestCall *find_live(Rest *rest) {
        RestCall *c;

        DL_FOREACH(rest->calls, c)
                if (c->stream || c->socket_handler || c->socket)
                        return c;
        return NULL;
}

void rest_stop(Rest *r) {
        RestCall *c;

        while (r && (c = find_live(r)))
                rest_call_drop_live(c);
}

Rest *rest_free(Rest *r) {
        if (!r)
                return NULL;

        while (r->calls)
                call_free(r->calls);
        rest_limit_free(r->logins);
        free(r);
        return NULL;
}
