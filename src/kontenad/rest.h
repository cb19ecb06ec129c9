/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "caller.h"
#include "kerror.h"
#include "macro.h"
#include "master.h"

/* The HTTP face: /v1/, /oauth2/ and the few paths beside them, over the table of operations. Each rest-*.c has one array of routes; what
 * is here checks tokens, paths and bodies, calls operations, and answers. Nothing behind it knows HTTP. */
typedef struct Rest Rest;
typedef struct RestCall
                RestCall; /* one request; freed after its answer, when the handler or on_result has returned */

typedef enum RestType {
        REST_STRING,  /* trimmed, control characters become spaces; numbers and booleans are taken too */
        REST_INTEGER, /* numeric strings are taken too */
        REST_NUMBER,
        REST_BOOLEAN, /* "true" "false" "1" "0" are taken too */
        REST_ARRAY,
        REST_OBJECT, /* without fields: whatever is in it */
        REST_ANY,
} RestType;

typedef enum RestFieldFlags {
        REST_REQUIRED = 1 << 0,
        REST_NULLABLE = 1 << 1, /* null stays null; otherwise an optional null is as if it were absent */
        REST_EMPTY = 1 << 2,    /* an empty string is fine */
        REST_VERBATIM = 1
                        << 3, /* a string is neither trimmed nor cleaned: values of secrets, of the environment */
} RestFieldFlags;

/* A field of a body or a query. Of arrays: element is the type of each, fields those of elements that are objects, and pattern, options
 * and REST_EMPTY are for elements. */
typedef struct RestField {
        const char *name; /* NULL: behind the last */
        RestType type;
        unsigned flags;
        int64_t min, max;    /* of numbers, of bytes of strings, of entries of arrays; max 0: no bound */
        const char *pattern; /* POSIX extended regular expression */
        const char *const *options; /* the only values */
        RestType element;
        const struct RestField *fields;
        const char *summary; /* for the description */
} RestField;

typedef enum RestRouteFlags {
        REST_OPEN = 1 << 0,          /* no token is looked at: the caller is anonymous */
        REST_ANY_TOKEN = 1 << 1,     /* a token is looked at but not demanded */
        REST_EXPIRED_TOKEN = 1 << 2, /* an expired one is taken too */
        REST_RAW_PATH = 1 << 3,      /* segments as they came; a last one "*key" is all of the rest */
        REST_WEBSOCKET = 1
                         << 4, /* the handler calls rest_websocket_accept(); GET without an upgrade is 426 */
        REST_STREAM = 1 << 5,  /* for the description: query follow=1 answers without end */
        REST_FORM = 1 << 6,    /* the body may be a form, and its values may be in the query */
        REST_OAUTH = 1 << 7,   /* errors are those of OAuth2, by what the client accepts */
        REST_LIMITED = 1 << 8, /* counts against the limit of requests on the login paths */
        REST_ANY_BODY = 1 << 9, /* rest_body() is whatever JSON came; the handler checks it */
} RestRouteFlags;

/* 0: answered, or will be. Negative: reterr, or what errno says, is answered. */
typedef int (*rest_handler_t)(RestCall *c, KError *reterr);

typedef struct RestRoute {
        const char *method;  /* NULL: any */
        const char *pattern; /* "/v1/grids/:grid"; a segment :grid must name a grid, or the answer is 404 */
        unsigned flags;
        const char *operation; /* for the description and the matrix: "grid.get"; NULL: none */
        const char *summary;
        const RestField *body, *query; /* of the query only the description is made */
        rest_handler_t handler;
        int status;                      /* of success; 0: 200 */
        const RestField *described_body; /* instead of body: for the description, the handler checks */
} RestRoute;

#define REST_DECLARE(name)                                                                                  \
        extern const RestRoute name##_routes[];                                                             \
        extern const size_t n_##name##_routes

int rest_new(Master *m, Rest **ret, KError *reterr);
/* Before what handlers speak to goes away: ends streams and WebSockets. */
void rest_stop(Rest *r);
Rest *rest_free(Rest *r); /* after operations_abort() */
DEFINE_TRIVIAL_CLEANUP_FUNC(Rest *, rest_free);

/* The tables; NULL behind the last. */
const RestRoute *rest_route_by_index(size_t i);

/* What was asked. Strings are valid as long as c. */
Master *rest_master(RestCall *c);
Caller *rest_caller(RestCall *c); /* never NULL: an anonymous one at least */
const RestRoute *rest_route(RestCall *c);
const char *rest_segment(RestCall *c,
                const char *name); /* ":grid" or "*key" of the pattern, without the sign; NULL: has none */
const char *rest_query(RestCall *c, const char *name);  /* decoded; NULL: absent */
json_object *rest_queries(RestCall *c);                 /* all of them, as strings */
json_object *rest_body(RestCall *c);                    /* checked by route->body; {} without one */
const char *rest_header(RestCall *c, const char *name); /* NULL once the client is gone */
const char *rest_address(RestCall *c);
/* ret: "https://name:port", as the client has called us. */
int rest_base_url(RestCall *c, char **ret);

/* "from the 5th of May": what the reference calls a date-time, to microseconds since 1970; and back, with milliseconds. */
int rest_parse_time(const char *s, uint64_t *ret);
char *rest_format_time(uint64_t usec);
int rest_add_time(json_object *o, const char *key, uint64_t usec); /* 0: null */
/* The reference's "limit": missing, zero or no number gives fallback; capped at max. */
uint32_t rest_limit(RestCall *c, uint32_t fallback, uint32_t max);

/* {key: value, …} of strings; a NULL value is left out. NULL on lack of memory. */
json_object *rest_params(const char *key, ...) _sentinel_;
/* Those fields of an object that are there and no null. */
int rest_copy_fields(json_object *to, json_object *from, const char *const *names);

void *rest_userdata(RestCall *c);
/* destroy (may be NULL) is called when c is freed. */
void rest_set_userdata(RestCall *c, void *userdata, void (*destroy)(void *userdata));

/* Calls an operation on behalf of the caller. params are consumed; NULL: none. on_result NULL: the result is answered with the route's
 * status, errors as rest_reply_kerror() does. result is borrowed. Several may be under way; never called after c is gone. */
typedef void (*rest_result_t)(RestCall *c, json_object *result, const KError *error);
int rest_call(RestCall *c, const char *operation, json_object *params, rest_result_t on_result);
/* Asks whether the caller may read what an operation shows, which is not performed: then() looks itself, and answers. An error is answered as
 * rest_reply_kerror() does, and so is then()'s own failure. */
typedef int (*rest_then_t)(RestCall *c);
int rest_call_then(RestCall *c, const char *operation, json_object *params, rest_then_t then);

/* Answers; the first wins, later ones are dropped. JSON is consumed. */
int rest_reply(RestCall *c, int status, json_object *o);
int rest_reply_empty(RestCall *c, int status);
int rest_reply_text(RestCall *c, int status, const char *content_type, const char *text);
int rest_reply_redirect(RestCall *c, const char *location);
int rest_reply_error(RestCall *c, int status, const char *text);  /* {"error": text} */
int rest_reply_string(RestCall *c, int status, const char *text); /* a bare JSON string */
/* For people: whether who asks is a browser, and a page of a heading and a paragraph. */
bool rest_wants_page(RestCall *c);
int rest_reply_page(RestCall *c, int status, const char *title, const char *text);
int rest_reply_field_error(
                RestCall *c, const char *field, const char *text); /* 422 {"error": {field: text}} */
int rest_reply_oauth_error(RestCall *c, int status, const char *code,
                const char *description); /* description may be NULL */
/* Status of kerror.c's table; 404 "Not found", 403 "Access denied", 422 a map with the field named by rest_set_error_field(), which
 * at first is the first part of the operation's name. */
int rest_reply_kerror(RestCall *c, const KError *error);
void rest_set_error_field(RestCall *c, const char *field); /* a literal */
bool rest_is_answered(const RestCall *c);

/* An answer without end: each item is one HTTP chunk; a space is sent after 10 s of silence. closed is called once when the client is gone,
 * is too slow (more than HTTP_STREAM_QUEUE_MAX bytes wait), or the master stops, never from inside of rest_stream_*(), and not after
 * rest_stream_end(); c is freed behind it. */
int rest_stream_begin(RestCall *c, void (*closed)(RestCall *c));
int rest_stream_item(RestCall *c, json_object *o); /* consumed; -EPIPE: closed or about to be */
void rest_stream_end(RestCall *c);

/* A WebSocket with one JSON object in each text message, pinged each 30 s. The handler of a route with REST_WEBSOCKET calls
 * rest_websocket_accept(), at once or later, or answers something else. message: o is borrowed; NULL: it was no JSON object in a text
 * message. closed is called once, last, also after rest_websocket_close() and when it never came to opened. */
typedef struct RestSocketHandler {
        void (*opened)(RestCall *c);
        void (*message)(RestCall *c, json_object *o);
        void (*closed)(RestCall *c, int code, const char *reason);
} RestSocketHandler;
int rest_websocket_accept(RestCall *c, const RestSocketHandler *handler);
int rest_websocket_send(RestCall *c,
                json_object *o); /* consumed; -ENOBUFS: the client is too slow, -EPIPE: it is closing */
void rest_websocket_close(RestCall *c, int code, const char *reason);

REST_DECLARE(root);
REST_DECLARE(service);
REST_DECLARE(instance);
REST_DECLARE(node);
REST_DECLARE(container);
REST_DECLARE(log);
REST_DECLARE(exec);
REST_DECLARE(volume);
REST_DECLARE(secret);
REST_DECLARE(registry);
REST_DECLARE(grid);
REST_DECLARE(user);
REST_DECLARE(token);
REST_DECLARE(login);
REST_DECLARE(config);
REST_DECLARE(event);
REST_DECLARE(audit);
REST_DECLARE(later);
