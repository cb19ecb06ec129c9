/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "listener.h"
#include "operation.h"
#include "rest-limit.h"
#include "rest.h"
#include "websocket.h"

/* Shared by rest.c (who asks for what), rest-reply.c and rest-stream.c (answers). */

#define REST_SEGMENTS_MAX 8U

typedef struct RestOperation {
        RestCall *call;
        rest_result_t on_result;
        rest_then_t then; /* instead */
        struct RestOperation *prev, *next;
} RestOperation;

struct Rest {
        Master *master;
        RestLimit *logins;
        RestCall *calls;
        unsigned n_calls;
        uint64_t n_events; /* that were stored since the start */
};

struct RestCall {
        Rest *rest;
        HttpRequest *http; /* NULL: over */
        const RestRoute *route;
        Caller *caller;
        char *address;
        json_object *query, *body;
        struct {
                const char *name; /* points into the pattern, and is as long as the name */
                size_t length;
                char *value;
        } segments[REST_SEGMENTS_MAX];
        size_t n_segments;
        const char *error_field;
        void *userdata;
        void (*destroy)(void *userdata);

        RestOperation *operations; /* under way */
        struct RestList *list;     /* that is put together */
        unsigned busy;             /* handlers that have not returned */
        bool answered;

        HttpStream *stream;
        void (*stream_closed)(RestCall *c);
        sd_event_source *idle;

        const RestSocketHandler *socket_handler; /* set: wants to be a WebSocket, or is one */
        WebSocket *socket;

        RestCall *prev, *next;
};

void rest_enter(RestCall *c);
void rest_leave(RestCall *c); /* frees what is over */

/* rest-stream.c */
void rest_call_drop_live(RestCall *c); /* the master stops */
void rest_call_http_gone(RestCall *c);

/* rest-reply.c: JSON of malloc(), which is not copied. */
int rest_reply_consume(RestCall *c, char *text, size_t size);

/* rest-openapi.c */
int rest_openapi(json_object **ret);
