/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <microhttpd.h>

#include "listener.h"

/* Shared by listener.c (connections, TLS, the loop) and http-request.c (routes, requests, answers, upgrade). */

#define SEGMENTS_MAX 8U

typedef enum PeerState {
        PEER_NEW, /* has not yet sent a whole request head */
        PEER_HTTP,
        PEER_UPGRADED,
        PEER_RELEASED, /* the WebSocket is done with it, MHD not yet */
} PeerState;

typedef struct Peer { /* one TCP connection */
        Listener *listener;
        struct MHD_Connection *connection;
        struct MHD_UpgradeResponseHandle *upgrade;
        int fd; /* MHD's; valid until it says closed */
        PeerState state;
        uint64_t deadline; /* then it is cut; USEC_INFINITY: none */
        struct Peer *next, *previous;
} Peer;

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
        sd_event *event;
        sd_event_source *io, *timer, *sweep;
        struct MHD_Daemon *daemon;
        Ca *ca;
        uint16_t port;
        bool running; /* inside of MHD_run() */

        Route *routes;
        size_t n_routes;

        Peer *peers;
        unsigned n_peers, n_new;
};

/* listener.c */
void listener_kick(Listener *l); /* MHD has something to do that its epoll does not know of */
void peer_set_state(Peer *p, PeerState state);
void peer_set_deadline(Peer *p, uint64_t deadline);

/* http-request.c: called by MHD */
enum MHD_Result http_request_handle(void *cls, struct MHD_Connection *connection, const char *url,
                const char *method, const char *version, const char *upload_data, size_t *upload_data_size,
                void **con_cls);
void http_request_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                enum MHD_RequestTerminationCode code);
void route_done(Route *r);
