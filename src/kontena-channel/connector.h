/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "certificate.h"
#include "kerror.h"
#include "macro.h"

/* Opens a TLS connection to the master, through a proxy if need be, by libcurl on our loop; afterwards bytes go through
 * connector_send() and connector_recv(). */
typedef struct Connector Connector;

typedef struct ConnectorOptions {
        const char *url;     /* wss:// or https:// */
        const char *ca_file; /* trusted, and nobody else; NULL: nothing is checked (to fetch the CA) */
        const char *certificate_file, *key_file; /* NULL: none */
        const char *proxy, *no_proxy;            /* NULL: none; the environment is not looked at */
        uint64_t timeout_usec;
} ConnectorOptions;

/* Phases, for the status: "resolving", "connecting", "tls". */
typedef void (*connector_phase_t)(Connector *c, const char *phase, void *userdata);
/* Once, from the loop. error NULL: connected. */
typedef void (*connector_done_t)(Connector *c, const KError *error, void *userdata);

int connector_new(sd_event *event, const ConnectorOptions *options, connector_phase_t on_phase,
                connector_done_t done, void *userdata, Connector **ret, KError *reterr);
Connector *connector_free(Connector *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Connector *, connector_free);

int connector_fd(Connector *c);
const char *connector_host(const Connector *c);      /* without brackets */
const char *connector_authority(const Connector *c); /* HOST:PORT as in the URL */
const char *connector_path(const Connector *c);
const char *connector_phase(const Connector *c);

/* As send() and recv(): bytes, 0 at the end, -EAGAIN. */
ssize_t connector_send(Connector *c, const void *data, size_t size);
ssize_t connector_recv(Connector *c, void *data, size_t size);

/* What the peer showed in the handshake, also in one that failed. */
int connector_peer_chain(Connector *c, X509Chain *ret);
