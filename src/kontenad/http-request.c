/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <strings.h>
#include <utlist.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "listener-internal.h"
#include "log.h"
#include "string-util.h"
#include "websocket-accept.h"
#include "websocket.h"

#define WEBSOCKET_KEY_LENGTH 24U
#define HEADERS_MAX          12U /* that an answer is given by its handler */

struct HttpRequest {
        Listener *listener;
        Peer *peer;
        struct MHD_Connection *connection;
        const Route *route;
        char *target, *method, *path;
        char **segments; /* of the path, decoded */
        HttpHeader headers[HEADERS_MAX];
        size_t n_headers;

        char *body;
        size_t body_size, body_allocated;

        struct MHD_Response *response; /* given, not yet handed to MHD */
        unsigned status;
        bool answered, in_handler, suspended, queued, large;
        http_opened_t opened; /* of a WebSocket */
        void *opened_userdata;
        void (*gone)(void *userdata);
        void *gone_userdata;
        struct HttpRequest *next, *previous; /* listener->suspended */
};

void route_done(Route *r) {
        free(r->method);
        strv_free(r->segments);
        free(r->subprotocol);
}

static int route_add(Listener *l, Route *consume) {
        Route *routes;

        if (l->n_routes >= LISTENER_ROUTES_MAX) {
                route_done(consume);
                return -ENOBUFS;
        }
        routes = reallocarray(l->routes, l->n_routes + 1, sizeof(Route));
        if (!routes) {
                route_done(consume);
                return -ENOMEM;
        }
        l->routes = routes;
        l->routes[l->n_routes++] = *consume;
        return 0;
}

int listener_add_route(Listener *l, const char *method, const char *pattern, http_handler_t handler,
                void *userdata) {
        Route route = { .handler = handler, .userdata = userdata };
        int r;

        assert(l);
        assert(method);
        assert(handler);

        r = strv_split(pattern, "/", &route.segments);
        if (r < 0)
                return r;
        route.method = strdup(method);
        if (!route.method) {
                route_done(&route);
                return -ENOMEM;
        }
        return route_add(l, &route);
}

int listener_add_websocket(Listener *l, const char *pattern, const char *subprotocol, http_accept_t accept,
                http_opened_t opened, void *userdata) {
        Route route = { .accept = accept, .opened = opened, .userdata = userdata };
        int r;

        assert(l);
        assert(subprotocol);
        assert(accept);
        assert(opened);

        r = strv_split(pattern, "/", &route.segments);
        if (r < 0)
                return r;
        route.subprotocol = strdup(subprotocol);
        if (!route.subprotocol) {
                route_done(&route);
                return -ENOMEM;
        }
        return route_add(l, &route);
}

static bool segments_match(char *const *pattern, char *const *path) {
        for (; pattern && *pattern; pattern++, path++)
                if (!path || !*path || ((*pattern)[0] != ':' && !streq(*pattern, *path)))
                        return false;
        return !path || !*path;
}

/* *ret_method_wrong: the path is known, the method is not. */
static const Route *route_find(
                Listener *l, const char *method, char *const *segments, bool *ret_method_wrong) {
        *ret_method_wrong = false;
        for (size_t i = 0; i < l->n_routes; i++) {
                const Route *route = &l->routes[i];

                if (!segments_match(route->segments, segments))
                        continue;
                if (streq(method, route->method ?: "GET"))
                        return route;
                *ret_method_wrong = true;
        }
        return NULL;
}

static void request_free(HttpRequest *q) {
        if (!q)
                return;

        if (q->gone)
                q->gone(q->gone_userdata);
        if (q->response)
                MHD_destroy_response(q->response);
        /* Passwords and tokens come in bodies and go in answers, codes in targets and in Location. */
        FOREACH_ARRAY(h, q->headers, q->n_headers) {
                free(h->name);
                erase_and_freep(&h->value);
        }
        strv_free(q->segments);
        erase_and_freep(&q->target);
        free(q->method);
        free(q->path);
        q->listener->body_bytes -= q->body_allocated;
        erase_memory(q->body, q->body_size);
        free(q->body);
        free(q);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(HttpRequest *, request_free);

/* Before MHD has taken the path apart; what is returned comes back as *con_cls. */
void *http_request_begin(void *cls, const char *uri, struct MHD_Connection *connection) {
        _cleanup_(request_freep) HttpRequest *q = NULL;
        const union MHD_ConnectionInfo *context;

        context = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        if (!context || !context->socket_context)
                return NULL;

        q = new0(HttpRequest, 1);
        if (!q)
                return NULL;
        q->listener = cls;
        q->peer = context->socket_context;
        q->connection = connection;
        q->target = strdup(uri);
        if (!q->target)
                return NULL;

        return TAKE_PTR(q);
}

static int request_set(HttpRequest *q, const char *url, const char *method) {
        q->method = strdup(method);
        q->path = strdup(url);
        if (!q->method || !q->path)
                return -ENOMEM;
        return strv_split(url, "/", &q->segments); /* MHD has decoded it; a %2F is a separator too */
}

/* Answers */

static const HttpHeader always[] = {
        { (char *) "X-Content-Type-Options", (char *) "nosniff" },
        { (char *) "Referrer-Policy", (char *) "no-referrer" },
        { (char *) "X-Frame-Options", (char *) "DENY" },
};

static bool add_headers(HttpRequest *q, struct MHD_Response *response) {
        FOREACH_ARRAY(h, q->headers, q->n_headers)
                if (MHD_add_response_header(response, h->name, h->value) != MHD_YES)
                        return false;
        FOREACH_ARRAY(h, always, ELEMENTSOF(always))
                if (MHD_add_response_header(response, h->name, h->value) != MHD_YES)
                        return false;
        if (http_request_tls(q) > 0 && MHD_add_response_header(response, "Strict-Transport-Security",
                                                       "max-age=31536000") != MHD_YES)
                return false;
        return MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES;
}

int http_request_answer(HttpRequest *q, unsigned status, struct MHD_Response *response) {
        if (q->answered) {
                MHD_destroy_response(response);
                return -EALREADY;
        }
        if (status != MHD_HTTP_SWITCHING_PROTOCOLS && !add_headers(q, response)) {
                MHD_destroy_response(response);
                return -ENOMEM;
        }

        q->response = response;
        q->status = status;
        q->answered = true;
        if (q->suspended) {
                q->suspended = false;
                DL_DELETE2(q->listener->suspended, q, previous, next);
                MHD_resume_connection(q->connection);
                listener_kick(q->listener);
        }
        return 0;
}

int http_add_header(HttpRequest *q, const char *name, const char *value) {
        HttpHeader h;

        if (q->n_headers >= HEADERS_MAX)
                return -ENOBUFS;

        h = (HttpHeader){ .name = strdup(name), .value = strdup(value) };
        if (!h.name || !h.value) {
                free(h.name);
                free(h.value);
                return -ENOMEM;
        }
        q->headers[q->n_headers++] = h;
        return 0;
}

typedef struct Answer {
        void *body;
        size_t size;
} Answer;

static void answer_free(void *cls) {
        Answer *a = cls;

        erase_memory(a->body, a->size);
        free(a->body);
        free(a);
}

int http_reply_consume(HttpRequest *q, int status, const char *content_type, void *body, size_t size) {
        struct MHD_Response *response;
        Answer *a;

        a = q->answered ? NULL : new0(Answer, 1);
        if (!a) {
                erase_memory(body, size);
                free(body);
                return q->answered ? -EALREADY : -ENOMEM;
        }
        *a = (Answer){ .body = body, .size = size };
        response = MHD_create_response_from_buffer_with_free_callback_cls(size, body, answer_free, a);
        if (!response) {
                answer_free(a);
                return -ENOMEM;
        }
        if (!isempty(content_type) && MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                                      content_type) != MHD_YES) {
                MHD_destroy_response(response);
                return -ENOMEM;
        }
        return http_request_answer(q, (unsigned) status, response);
}

int http_reply(HttpRequest *q, int status, const char *content_type, const void *body, size_t size) {
        void *copy;

        if (q->answered)
                return -EALREADY;

        copy = malloc(MAX(size, (size_t) 1));
        if (!copy)
                return -ENOMEM;
        if (size > 0)
                memcpy(copy, body, size);
        return http_reply_consume(q, status, content_type, copy, size);
}

int http_reply_json(HttpRequest *q, int status, json_object *o) {
        _cleanup_json_ json_object *owned = o;
        const char *text = owned ? json_text(owned) : NULL;

        if (!text)
                return -ENOMEM;
        return http_reply(q, status, "application/json", text, strlen(text));
}

static int reply_sentence(HttpRequest *q, int status, const char *code, const char *message) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || (code && json_add_string(o, "code", code) < 0) || json_add_string(o, "error", message) < 0)
                return -ENOMEM;
        return http_reply_json(q, status, TAKE_PTR(o));
}

int http_reply_error(HttpRequest *q, const KError *error) {
        KErrorCode code = kerror_is_set(error) ? error->code : K_INTERNAL;

        return reply_sentence(q, kerror_http_status(code), kerror_bus_name(code), kerror_message(error));
}

/* What is known of the request */

const char *http_request_method(HttpRequest *q) {
        return q->method;
}

const char *http_request_path(HttpRequest *q) {
        return q->path;
}

const char *http_request_target(HttpRequest *q) {
        return q->target;
}

struct MHD_Connection *http_request_connection(HttpRequest *q) {
        return q->connection;
}

Peer *http_request_peer(HttpRequest *q) {
        return q->peer;
}

Listener *http_request_listener(HttpRequest *q) {
        return q->listener;
}

unsigned http_request_tls(HttpRequest *q) {
        return q->peer->tls ? tls_version(q->peer->tls) : 0;
}

void http_request_set_gone(HttpRequest *q, void (*gone)(void *userdata), void *userdata) {
        q->gone = gone;
        q->gone_userdata = userdata;
}

const char *http_request_segment(HttpRequest *q, const char *name) {
        char **s = q->segments;

        for (char **p = q->route ? q->route->segments : NULL; p && *p && s && *s; p++, s++)
                if ((*p)[0] == ':' && streq(*p + 1, name))
                        return *s;
        return NULL;
}

const char *http_request_query(HttpRequest *q, const char *name) {
        return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_request_header(HttpRequest *q, const char *name) {
        return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

/* The scheme's name is of any case, tokens are not. */
int http_parse_bearer(const char *header, const char **ret) {
        static const char scheme[] = "Bearer ";
        const char *token;

        if (!header)
                return 0;
        if (strncasecmp(header, scheme, strlen(scheme)) != 0)
                return -EBADMSG;
        token = header + strlen(scheme);
        token += strspn(token, " ");
        if (isempty(token) || strlen(token) > HTTP_BEARER_LENGTH_MAX ||
                        strcspn(token, " \t,") != strlen(token) || !string_is_printable(token))
                return -EBADMSG;

        *ret = token;
        return 1;
}

int http_request_bearer(HttpRequest *q, const char **ret) {
        return http_parse_bearer(http_request_header(q, "Authorization"), ret);
}

const char *http_request_body(HttpRequest *q, size_t *ret_size) {
        *ret_size = q->body_size;
        return strempty(q->body);
}

bool http_request_ended(HttpRequest *q) {
        return !q->peer->tls || q->peer->in_end;
}

const char *http_request_address(HttpRequest *q) {
        return q->peer->address;
}

const char *http_request_peer_key(HttpRequest *q) {
        return q->peer->key;
}

/* Upgrade */

static bool header_has_token(HttpRequest *q, const char *name, const char *token) {
        const char *p = http_request_header(q, name);
        size_t n = strlen(token);

        while (p && *p) {
                size_t length;

                p += strspn(p, " \t,");
                length = strcspn(p, " \t,");
                if (length == n && strncasecmp(p, token, n) == 0)
                        return true;
                p += length;
        }
        return false;
}

static void on_upgraded(void *cls, struct MHD_Connection *connection, void *con_cls, const char *extra,
                size_t extra_size, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle) {
        HttpRequest *q = cls;
        WebSocket *w;
        int r;

        r = peer_upgrade(q->peer, handle, &w);
        if (r < 0) {
                log_debug_errno(r, "A WebSocket cannot be opened: %m");
                return; /* it is ended with libmicrohttpd's part */
        }
        q->opened(q, w, q->opened_userdata);
}

/* 1: it asks for a WebSocket; 0: it was told that it does not, and *why (with status) is to be answered. */
static int upgrade_check(
                HttpRequest *q, const char *subprotocol, unsigned *ret_status, const char **ret_why) {
        const char *key = http_request_header(q, "Sec-WebSocket-Key");

        if (!header_has_token(q, "Upgrade", "websocket") || !header_has_token(q, "Connection", "upgrade")) {
                *ret_status = 426;
                *ret_why = "This path is a WebSocket.";
                return 0;
        }
        *ret_status = 400;
        if (!streq_ptr(http_request_header(q, "Sec-WebSocket-Version"), "13") || !key ||
                        strlen(key) != WEBSOCKET_KEY_LENGTH) {
                *ret_why = "The WebSocket request is malformed or not of version 13.";
                return 0;
        }
        if (subprotocol && !header_has_token(q, "Sec-WebSocket-Protocol", subprotocol)) {
                *ret_why = "The WebSocket's subprotocol is not one of this master.";
                return 0;
        }
        return 1;
}

static int switch_protocols(HttpRequest *q, const char *subprotocol) {
        _cleanup_free_ char *text = NULL;
        struct MHD_Response *response;
        int r;

        r = websocket_accept(http_request_header(q, "Sec-WebSocket-Key"), &text);
        if (r < 0)
                return r;
        response = MHD_create_response_for_upgrade(on_upgraded, q);
        if (!response)
                return -ENOMEM;
        if (MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, "websocket") != MHD_YES ||
                        MHD_add_response_header(response, "Sec-WebSocket-Accept", text) != MHD_YES ||
                        (subprotocol && MHD_add_response_header(response, "Sec-WebSocket-Protocol",
                                                        subprotocol) != MHD_YES)) {
                MHD_destroy_response(response);
                return -ENOMEM;
        }
        return http_request_answer(q, MHD_HTTP_SWITCHING_PROTOCOLS, response);
}

int http_upgrade(HttpRequest *q, const char *subprotocol, http_opened_t opened, void *userdata) {
        const char *why;
        unsigned status;
        int r;

        if (q->answered)
                return -EALREADY;
        r = upgrade_check(q, subprotocol, &status, &why);
        if (r == 0)
                return reply_sentence(q, (int) status, NULL, why);
        q->opened = opened;
        q->opened_userdata = userdata;
        r = switch_protocols(q, subprotocol);
        return r < 0 ? r : 1;
}

static int upgrade(HttpRequest *q) {
        const char *why;
        unsigned status;
        int r;

        r = upgrade_check(q, q->route->subprotocol, &status, &why);
        if (r == 0)
                return reply_sentence(q, (int) status, NULL, why);
        r = q->route->accept(q, q->route->userdata);
        if (r < 0 || q->answered)
                return r;
        q->opened = q->route->opened;
        q->opened_userdata = q->route->userdata;
        return switch_protocols(q, q->route->subprotocol);
}

/* MHD's side */

static enum MHD_Result queue(HttpRequest *q) {
        enum MHD_Result r;

        q->queued = true;
        if (q->status != MHD_HTTP_SWITCHING_PROTOCOLS && q->peer->state == PEER_NEW)
                peer_set_state(q->peer, PEER_HTTP);
        r = MHD_queue_response(q->connection, q->status, q->response);
        MHD_destroy_response(TAKE_PTR(q->response));
        return r;
}

static enum MHD_Result take_body(HttpRequest *q, const char *data, size_t *size) {
        size_t n = *size;

        *size = 0;
        if (q->answered)
                return MHD_YES; /* too large: the rest is thrown away */
        if (q->body_size + n > LISTENER_BODY_SIZE_MAX)
                return reply_sentence(q, 413, NULL, "The request is too large.") < 0 ? MHD_NO : MHD_YES;
        if (q->body_size + n > LISTENER_BODY_SMALL && !q->large) {
                q->large = true;
                if (q->listener->fallback_large &&
                                q->listener->fallback_large(q, q->listener->fallback_userdata) < 0)
                        return MHD_NO;
                if (q->answered)
                        return MHD_YES;
        }
        if (q->body_size + n + 1 > q->body_allocated) {
                size_t wanted = (q->body_size + n + 1) * 2;
                char *p;

                /* Many large ones at once do not take the room of small ones. */
                if (wanted > LISTENER_BODY_SMALL * 2 &&
                                q->listener->body_bytes + wanted > LISTENER_BODIES_SIZE_MAX)
                        return reply_sentence(q, 503, NULL, "Too many large requests at once.") < 0
                                               ? MHD_NO
                                               : MHD_YES;
                p = malloc(wanted); /* not realloc(), which would leave a copy behind */
                if (!p)
                        return MHD_NO;
                if (q->body)
                        memcpy(p, q->body, q->body_size);
                erase_memory(q->body, q->body_size);
                free(q->body);
                q->listener->body_bytes += wanted - q->body_allocated;
                q->body = p;
                q->body_allocated = wanted;
        }
        memcpy(q->body + q->body_size, data, n);
        q->body_size += n;
        q->body[q->body_size] = '\0';
        return MHD_YES;
}

static int dispatch(HttpRequest *q) {
        bool method_wrong;

        q->route = route_find(q->listener, q->method, q->segments, &method_wrong);
        if (!q->route && q->listener->fallback)
                return q->listener->fallback(q, q->listener->fallback_userdata);
        if (!q->route)
                return method_wrong ? reply_sentence(q, 405, NULL, "This path does not know the method.")
                                    : reply_sentence(q, 404, NULL, "There is nothing at this path.");
        if (!q->route->method)
                return upgrade(q);
        return q->route->handler(q, q->route->userdata);
}

enum MHD_Result http_request_handle(void *cls, struct MHD_Connection *connection, const char *url,
                const char *method, const char *version, const char *upload_data, size_t *upload_data_size,
                void **con_cls) {
        HttpRequest *q = *con_cls;
        int r;

        if (!q)
                return MHD_NO;
        if (!q->method)
                return request_set(q, url, method) < 0 ? MHD_NO : MHD_YES; /* again for the body */

        if (*upload_data_size > 0)
                return take_body(q, upload_data, upload_data_size);
        if (q->queued)
                return MHD_YES;
        if (!q->answered && !q->in_handler) {
                q->in_handler = true;
                r = dispatch(q);
                if (r < 0 && !q->answered) {
                        _cleanup_kerror_ KError error = KERROR_NULL;

                        (void) kerror_set_errno(&error, r, "The request could not be handled: %m.");
                        r = http_reply_error(q, &error);
                        if (r < 0)
                                return MHD_NO;
                }
        }
        if (!q->answered) {
                peer_set_state(q->peer, PEER_HTTP);
                q->suspended = true;
                DL_APPEND2(q->listener->suspended, q, previous, next);
                MHD_suspend_connection(connection);
                return MHD_YES;
        }
        return queue(q);
}

void listener_set_fallback(Listener *l, http_handler_t handler, http_handler_t large, void *userdata) {
        l->fallback = handler;
        l->fallback_large = large;
        l->fallback_userdata = userdata;
}

void http_requests_cancel(Listener *l) {
        HttpRequest *q, *next;

        DL_FOREACH_SAFE(l->suspended, q, next)
                if (reply_sentence(q, 503, NULL, "The master stops.") < 0)
                        log_debug("A request stays without an answer.");
}

void http_request_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                enum MHD_RequestTerminationCode code) {
        HttpRequest *q = *con_cls;

        if (q)
                q->peer->n_answered++;
        request_free(q);
        *con_cls = NULL;
}
