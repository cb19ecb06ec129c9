/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "ca.h"
#include "kerror.h"
#include "macro.h"

/* The master's HTTPS port: TLS 1.2 or newer, client certificates asked for and not required, a table of routes. libmicrohttpd
 * without threads, its epoll on our loop. Perhaps plain HTTP on a second port, for a proxy in front. */
typedef struct Listener Listener;
typedef struct HttpRequest HttpRequest;
typedef struct HttpStream HttpStream;
typedef struct WebSocket WebSocket;

typedef struct ListenerConfig {
        const char *address;                  /* NULL: all, IPv6 and IPv4 */
        uint16_t port;                        /* 0: any free one */
        int fd;                               /* a listening socket, consumed; -EBADF: make one */
        const char *plain_address;            /* NULL: no plain HTTP */
        uint16_t plain_port;                  /* 0: any free one */
        unsigned connections_max;             /* 0: LISTENER_CONNECTIONS_MAX */
        unsigned connections_per_address_max; /* 0: LISTENER_CONNECTIONS_PER_ADDRESS_MAX */
} ListenerConfig;

int listener_new(sd_event *event, Ca *ca, const ListenerConfig *config, Listener **ret, KError *reterr);
Listener *listener_free(Listener *l); /* free NodeSessions first */
DEFINE_TRIVIAL_CLEANUP_FUNC(Listener *, listener_free);
uint16_t listener_port(const Listener *l);
uint16_t listener_plain_port(const Listener *l); /* 0: none */

/* pattern: "/v1/grids/:grid/nodes"; ":x" stands for one segment. The handler is called with the whole body and answers by
 * http_reply_*(), once, now or later; a negative return value answers 500 if nothing was answered yet. Routes added first win. */
typedef int (*http_handler_t)(HttpRequest *request, void *userdata);
int listener_add_route(Listener *l, const char *method, const char *pattern, http_handler_t handler,
                void *userdata);

/* A WebSocket on this path. accept sees the request's head and either answers it (http_reply_*(), returns 0) or returns 1:
 * 101 is sent and opened gets the socket, to be owned and freed by the callee. The request is valid in both. */
typedef int (*http_accept_t)(HttpRequest *request, void *userdata);
typedef void (*http_opened_t)(HttpRequest *request, WebSocket *socket, void *userdata);
int listener_add_websocket(Listener *l, const char *pattern, const char *subprotocol, http_accept_t accept,
                http_opened_t opened, void *userdata);

/* Whatever no route is for, any method. */
/* large (may be NULL) is called once, before the body of a request gets above LISTENER_BODY_SMALL: it may answer, then the rest is thrown
 * away. */
void listener_set_fallback(Listener *l, http_handler_t handler, http_handler_t large, void *userdata);

/* From a handler or later, instead of an answer: what opens a WebSocket. Answers 426 or 400 when the request is none. subprotocol NULL:
 * any, and none is agreed on. Returns 1 when 101 is on its way; opened is called unless the client is gone by then. */
int http_upgrade(HttpRequest *r, const char *subprotocol, http_opened_t opened, void *userdata);

/* All strings are valid until the answer is given. */
const char *http_request_method(HttpRequest *r);
const char *http_request_path(HttpRequest *r);
const char *http_request_target(HttpRequest *r); /* path and query as they came */
const char *http_request_segment(
                HttpRequest *r, const char *name); /* of the pattern, percent-decoded; without ':' */
const char *http_request_query(HttpRequest *r, const char *name);
const char *http_request_header(HttpRequest *r, const char *name);
/* What the Authorization header bears. 0: there is none; 1: *ret; -EBADMSG: of another scheme, or not one token. */
int http_request_bearer(HttpRequest *r, const char **ret);
int http_parse_bearer(const char *header, const char **ret); /* the same, of a header; NULL: none */
const char *http_request_body(HttpRequest *r, size_t *ret_size);
/* The client has ended what it sends: it has gone, or wants no more than its answer. */
bool http_request_ended(HttpRequest *r);
const char *http_request_address(HttpRequest *r); /* the peer's, without port */
/* 0: no TLS, 12, 13 */
unsigned http_request_tls(HttpRequest *r);
/* gone is called once, when the request is over or the client has left; an answer cannot be given any more. */
void http_request_set_gone(HttpRequest *r, void (*gone)(void *userdata), void *userdata);
/* SHA-256 of the public key of the certificate the peer has proved to own, in hex; NULL: it showed none. */
const char *http_request_peer_key(HttpRequest *r);

/* Of the answer that comes; one that is replied by itself has Content-Type, Cache-Control and what every answer has. */
int http_add_header(HttpRequest *r, const char *name, const char *value);
int http_reply(HttpRequest *r, int status, const char *content_type, const void *body, size_t size);
/* body is of malloc(), and not copied: for large ones. */
int http_reply_consume(HttpRequest *r, int status, const char *content_type, void *body, size_t size);
int http_reply_json(HttpRequest *r, int status, json_object *o); /* consumed */
int http_reply_error(HttpRequest *r, const KError *error);       /* status from kerror.c's table */

/* An answer of unknown length: each write is one chunk. closed is called once from the loop when the client is gone or has been cut
 * because more than HTTP_STREAM_QUEUE_MAX bytes waited for it; not after http_stream_end(). The stream is valid until one of
 * these. */
int http_reply_stream(HttpRequest *r, int status, const char *content_type, void (*closed)(void *userdata),
                void *userdata, HttpStream **ret);
int http_stream_write(
                HttpStream *s, const void *data, size_t size); /* -EPIPE: it ends; -ENOBUFS: it is cut now */
void http_stream_end(HttpStream *s, bool whole); /* false: the client sees that it was cut off */
