/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gnutls/gnutls.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* The server's end of one TLS connection on our loop. libmicrohttpd could do this; but 0.9.75 forwards what was upgraded through
 * whatever its memory pool has left, which were 8 bytes (4 kB/s measured), and hides the peer's end from whom it forwards to. */
typedef struct TlsConnection TlsConnection;

typedef struct TlsHandler {
        void (*ready)(TlsConnection *c, void *userdata);                   /* the handshake is done; once */
        void (*io)(TlsConnection *c, bool in, bool out, void *userdata);   /* after ready, as wanted */
        void (*failed)(TlsConnection *c, const char *why, void *userdata); /* in the handshake; free it */
} TlsHandler;

/* Takes over fd, also on failure. credentials NULL: no TLS at all, bytes as they are. None of the handlers is called from inside of a tls_*() function. */
int tls_new_consume(sd_event *event, int fd, gnutls_certificate_credentials_t credentials,
                gnutls_priority_t priority, const TlsHandler *handler, void *userdata, TlsConnection **ret);
/* goodbye: what was given to tls_send() is followed by an orderly end. Never waits. */
TlsConnection *tls_free(TlsConnection *c, bool goodbye);

/* Another loop tells of the socket: one that is nested in the first. */
int tls_move(TlsConnection *c, sd_event *event);
void tls_set_handler(TlsConnection *c, const TlsHandler *handler, void *userdata);
void *tls_userdata(TlsConnection *c);   /* for the certificate callback: gnutls_session_get_ptr() is c */
unsigned tls_version(TlsConnection *c); /* 12, 13; 0: none */
void tls_want(TlsConnection *c, bool in, bool out);

/* Bytes, 0 at an orderly end, -EAGAIN, other errors. After -EAGAIN tls_send() is to be called with the same bytes again. */
ssize_t tls_recv(TlsConnection *c, void *data, size_t size);
ssize_t tls_send(TlsConnection *c, const void *data, size_t size);

/* SHA-256 of the public key of the certificate whose key the peer has proved to own, in hex; -ENODATA: it showed none. */
int tls_peer_key(TlsConnection *c, char **ret);
