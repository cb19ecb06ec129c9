/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>

#include "http-scan.h"
#include "listener.h"
#include "tls-connection.h"

/* Shared by listener.c (accepting, limits, the loop), peer.c (one connection) and http-request.c (routes, requests, answers). */

typedef enum PeerState {
        PEER_NEW, /* in the handshake, or has not yet sent a whole request head */
        PEER_HTTP,
        PEER_UPGRADED,
} PeerState;

typedef union PeerAddress {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} PeerAddress;

#define PEER_BUFFER_SIZE 16384U

typedef struct PeerBuffer {
        size_t start, end;
        uint8_t data[PEER_BUFFER_SIZE];
} PeerBuffer;

/* One connection: TLS here, HTTP in libmicrohttpd behind a socket pair, until it is upgraded: then TLS belongs to the WebSocket and
 * the pair is gone. Held by the TLS side and by libmicrohttpd; freed when both are done. */
typedef struct Peer {
        Listener *listener;
        unsigned n_ref;
        PeerState state;
        uint64_t started_at;
        char address[INET6_ADDRSTRLEN];
        PeerAddress sockaddr;
        socklen_t sockaddr_size;

        TlsConnection *tls; /* NULL: ended */
        char *key;          /* hash of the peer's public key; NULL: none */

        int pair;
        sd_event_source *pair_io;
        PeerBuffer *in, *out; /* to libmicrohttpd, to the peer */
        bool in_end, out_end;
        HttpScan scan;
        int refused;         /* the status that says why nothing more is read; 0: it is */
        uint64_t n_answered; /* requests */
        uint64_t since; /* when the request that is not whole has begun, or its body; 0: there is none */
        uint64_t quiet_since;
        bool in_body; /* since is its body's */

        struct MHD_UpgradeResponseHandle *upgrade;
        WebSocket *socket;
        struct Peer *next, *previous; /* listener->peers, while tls is there */
        struct Peer *next_upgraded;
} Peer;

typedef struct HttpHeader {
        char *name, *value;
} HttpHeader;

typedef struct Route {
        char *method; /* NULL: a WebSocket */
        char **segments;
        char *subprotocol;
        http_handler_t handler;
        http_accept_t accept;
        http_opened_t opened;
        void *userdata;
} Route;

struct Listener {
        sd_event *event, *crowd; /* crowd: nested, for who comes and for those who stay */
        sd_event_source *crowd_io;
        sd_event_source *accept_io, *plain_io, *io, *timer, *sweep;
        struct MHD_Daemon *daemon;
        Ca *ca;
        gnutls_certificate_credentials_t credentials;
        gnutls_priority_t priority;
        int fd, plain_fd;
        uint16_t port, plain_port;
        unsigned peers_max, peers_per_address_max;
        bool running; /* inside of MHD_run() */

        Route *routes;
        size_t n_routes;
        http_handler_t fallback, fallback_large;
        void *fallback_userdata;
        size_t body_bytes; /* of all requests */

        Peer *peers, *adding, *upgraded;
        unsigned n_peers, n_new, n_http;
        HttpRequest *suspended;
        HttpStream *streams;
};

/* listener.c */
void listener_kick(Listener *l);   /* MHD has something to do that its epoll does not know of */
void listener_update(Listener *l); /* accept or not */

/* peer.c */
int peer_new_consume(Listener *l, int fd, bool plain, const PeerAddress *address, socklen_t size);
void peer_end(Peer *p, bool goodbye); /* the TLS side */
void peer_flush(Peer *p);             /* moves what can be moved; may end it */
/* Ends one that keeps its place without saying anything, of the address that has most of them. */
bool peer_make_room(Listener *l);
Peer *peer_ref(Peer *p);
Peer *peer_unref(Peer *p);
void peer_set_state(Peer *p, PeerState state);
/* Called by MHD when its 101 is in the pair: takes the connection away from it. */
int peer_upgrade(Peer *p, struct MHD_UpgradeResponseHandle *upgrade, WebSocket **ret);
void address_to_string(const PeerAddress *a, char ret[static INET6_ADDRSTRLEN]);

/* http-request.c: called by MHD */
void *http_request_begin(void *cls, const char *uri, struct MHD_Connection *connection);
enum MHD_Result http_request_handle(void *cls, struct MHD_Connection *connection, const char *url,
                const char *method, const char *version, const char *upload_data, size_t *upload_data_size,
                void **con_cls);
void http_request_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                enum MHD_RequestTerminationCode code);
void http_requests_cancel(Listener *l);
int http_request_answer(
                HttpRequest *q, unsigned status, struct MHD_Response *response); /* response is consumed */
struct MHD_Connection *http_request_connection(HttpRequest *q);
Listener *http_request_listener(HttpRequest *q);
Peer *http_request_peer(HttpRequest *q);
void http_streams_cancel(Listener *l); /* http-stream.c */
void route_done(Route *r);
