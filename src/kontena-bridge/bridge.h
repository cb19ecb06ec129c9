/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* The client's end of a tunnel (doc/bus-tunnel.md): fd, where a D-Bus client speaks, through TLS and a WebSocket to the master. When it is
 * over the event loop is told to exit. */
typedef struct Bridge Bridge;

typedef struct BridgeOptions {
        const char *url; /* https://HOST:PORT */
        const char *ca_file;
        const char *token;
        const char *user_agent;
        const char *proxy, *no_proxy; /* NULL: none */
} BridgeOptions;

/* Once: the tunnel is there, fd is served. */
typedef void (*bridge_opened_t)(void *userdata);
/* Once, last. error NULL: the program behind fd has closed it. */
typedef void (*bridge_closed_t)(const KError *error, void *userdata);

/* fd is consumed, also on failure. */
int bridge_new_consume(sd_event *event, int fd, const BridgeOptions *options, bridge_opened_t opened,
                bridge_closed_t closed, void *userdata, Bridge **ret);
Bridge *bridge_free(Bridge *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(Bridge *, bridge_free);
