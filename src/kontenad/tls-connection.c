/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tls-connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "certificate.h"
#include "file-util.h"
#include "log.h"

struct TlsConnection {
        int fd;
        gnutls_session_t session; /* NULL: plain */
        sd_event_source *io,
                        *pending; /* pending: bytes that GnuTLS holds, of which the socket does not tell */
        const TlsHandler *handler;
        void *userdata;
        bool ready, want_in, want_out;
        bool more_in; /* the last tls_recv() took all it was asked for */
};

static void update(TlsConnection *c) {
        uint32_t events = 0;
        bool pending;

        if (!c->ready)
                events = gnutls_record_get_direction(c->session) == 0 ? EPOLLIN : EPOLLOUT;
        else {
                if (c->want_in)
                        events |= EPOLLIN;
                if (c->want_out)
                        events |= EPOLLOUT;
        }
        (void) sd_event_source_set_io_events(c->io, events);

        pending = c->session && c->ready && c->want_in && gnutls_record_check_pending(c->session) > 0;
        (void) sd_event_source_set_enabled(c->pending, pending ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void handshake(TlsConnection *c) {
        int r;

        r = gnutls_handshake(c->session);
        if (r == GNUTLS_E_SUCCESS) {
                c->ready = true;
                update(c);
                c->handler->ready(c, c->userdata); /* may free c */
                return;
        }
        if (!gnutls_error_is_fatal(r)) {
                update(c);
                return;
        }

        /* A word to the peer about what it did wrong, where there is one. */
        (void) gnutls_alert_send_appropriate(c->session, r);
        c->handler->failed(c, gnutls_strerror(r), c->userdata);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        TlsConnection *c = userdata;

        if (!c->ready)
                handshake(c);
        else
                c->handler->io(c, c->want_in && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)),
                                c->want_out && (revents & (EPOLLOUT | EPOLLERR)), c->userdata);
        return 0;
}

static int on_pending(sd_event_source *source, void *userdata) {
        TlsConnection *c = userdata;

        if (!c->ready) { /* a plain one, just made */
                c->ready = true;
                update(c);
                c->handler->ready(c, c->userdata);
                return 0;
        }
        c->handler->io(c, c->want_in, false, c->userdata);
        return 0;
}

static int session_new(TlsConnection *c, int fd, gnutls_certificate_credentials_t credentials,
                gnutls_priority_t priority) {
        int r;

        r = gnutls_init(&c->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
        if (r >= 0)
                r = gnutls_priority_set(c->session, priority);
        if (r >= 0)
                r = gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, credentials);
        if (r < 0) {
                log_debug("No TLS session: %s", gnutls_strerror(r));
                return -ENOMEM;
        }

        gnutls_session_set_ptr(c->session, c);
        gnutls_transport_set_int(c->session, fd);
        /* Any certificate will do, also none: the handshake proves that the peer owns the key, and the key is who it is.
         * Whether a key is wanted is for the routes to say. */
        gnutls_certificate_server_set_request(c->session, GNUTLS_CERT_REQUEST);
        return 0;
}

int tls_move(TlsConnection *c, sd_event *event) {
        sd_event_source *io;
        uint32_t events;
        int r;

        if (sd_event_source_get_event(c->io) == event)
                return 0;
        r = sd_event_source_get_io_events(c->io, &events);
        if (r >= 0)
                r = sd_event_add_io(event, &io, c->fd, events, on_io, c);
        if (r < 0)
                return r;

        sd_event_source_disable_unref(c->io);
        c->io = io;
        return 0;
}

int tls_new_consume(sd_event *event, int fd, gnutls_certificate_credentials_t credentials,
                gnutls_priority_t priority, const TlsHandler *handler, void *userdata, TlsConnection **ret) {
        TlsConnection *c;
        int r;

        assert(event);
        assert(handler);
        assert(ret);

        c = new0(TlsConnection, 1);
        if (!c) {
                safe_close(fd);
                return -ENOMEM;
        }
        c->fd = fd;
        c->handler = handler;
        c->userdata = userdata;

        r = credentials ? session_new(c, fd, credentials, priority) : 0;
        if (r >= 0)
                r = sd_event_add_io(event, &c->io, fd, credentials ? EPOLLIN : 0, on_io, c);
        if (r >= 0)
                r = sd_event_add_defer(event, &c->pending, on_pending, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->pending, credentials ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
        if (r < 0) {
                tls_free(c, false);
                return r;
        }

        *ret = c;
        return 0;
}

TlsConnection *tls_free(TlsConnection *c, bool goodbye) {
        if (!c)
                return NULL;

        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->pending);
        if (c->session) {
                if (goodbye && c->ready)
                        (void) gnutls_bye(c->session, GNUTLS_SHUT_WR);
                gnutls_deinit(c->session);
        }
        safe_close(c->fd);
        free(c);
        return NULL;
}

void tls_set_handler(TlsConnection *c, const TlsHandler *handler, void *userdata) {
        c->handler = handler;
        c->userdata = userdata;
}

void *tls_userdata(TlsConnection *c) {
        return c->userdata;
}

unsigned tls_version(TlsConnection *c) {
        if (!c->session)
                return 0;
        return gnutls_protocol_get_version(c->session) == GNUTLS_TLS1_3 ? 13 : 12;
}

void tls_want(TlsConnection *c, bool in, bool out) {
        c->want_in = in;
        c->want_out = out;
        update(c);
}

ssize_t tls_recv(TlsConnection *c, void *data, size_t size) {
        ssize_t n;

        if (!c->session) {
                n = recv(c->fd, data, size, MSG_DONTWAIT);
                if (n >= 0)
                        return n;
                return errno == EINTR ? -EAGAIN : -errno;
        }

        n = gnutls_record_recv(c->session, data, size);
        if (n >= 0)
                return n;
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
                return -EAGAIN;
        if (n == GNUTLS_E_PREMATURE_TERMINATION)
                return -ECONNRESET; /* killed: it had no time for an orderly end */
        return -EPROTO;             /* alerts, renegotiation, broken records */
}

ssize_t tls_send(TlsConnection *c, const void *data, size_t size) {
        ssize_t n;

        if (!c->session) {
                n = send(c->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n >= 0)
                        return n;
                return errno == EINTR ? -EAGAIN : -errno;
        }

        n = gnutls_record_send(c->session, data, size);
        if (n >= 0)
                return n;
        return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : -ECONNRESET;
}

int tls_peer_key(TlsConnection *c, char **ret) {
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        const gnutls_datum_t *der;
        unsigned n;

        if (!c->session)
                return -ENODATA;
        if (gnutls_certificate_type_get2(c->session, GNUTLS_CTYPE_CLIENT) != GNUTLS_CRT_X509)
                return -ENODATA;
        der = gnutls_certificate_get_peers(c->session, &n);
        if (!der || n == 0)
                return -ENODATA;
        if (gnutls_x509_crt_init(&crt) < 0)
                return -ENOMEM;
        if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) < 0)
                return -EBADMSG;
        return certificate_key_fingerprint(crt, ret);
}
