/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "listener.h"

#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>

#include "event-util.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "listener-internal.h"
#include "log.h"
#include "string-util.h"

/* Of TLS 1.2 only what has forward secrecy and authenticated encryption. Nodes speak 1.3: node-session.c sees to it. */
#define PRIORITIES                                                                                          \
        "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:"        \
        "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD:%SERVER_PRECEDENCE"
#define HTTP_TIMEOUT_SEC 60U /* of a connection that is kept alive */
#define SWEEP_USEC       USEC_PER_SEC
#define PRESSED_USEC     (2U * USEC_PER_SEC) /* time to say who one is, while others wait for that */
#define ACCEPTS_MAX      16U                 /* in one turn of the loop */
#define BACKLOG          4096
#define DEFER_SEC        3
#define LAST_ROUNDS      4U /* at the end: for answers that were just given */

static void timer_update(Listener *l) {
        MHD_UNSIGNED_LONG_LONG msec;

        if (MHD_get_timeout(l->daemon, &msec) != MHD_YES) {
                (void) sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time_relative(l->timer, (uint64_t) msec * USEC_PER_MSEC);
        (void) sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

/* Not from inside MHD_run(), which is where connections are upgraded. */
static void close_upgraded(Listener *l) {
        while (l->upgraded) {
                Peer *p = l->upgraded;

                l->upgraded = p->next_upgraded;
                (void) MHD_upgrade_action(p->upgrade, MHD_UPGRADE_ACTION_CLOSE);
                if (!p->socket)
                        peer_end(p, false);
                peer_unref(p);
        }
}

static void run(Listener *l) {
        l->running = true;
        (void) MHD_run(l->daemon);
        if (l->upgraded) {
                close_upgraded(l);
                (void) MHD_run(l->daemon); /* frees them */
        }
        l->running = false;
        timer_update(l);
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        run(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        run(userdata);
        return 0;
}

void listener_kick(Listener *l) {
        if (l->running)
                return; /* run() looks afterwards */

        (void) sd_event_source_set_time_relative(l->timer, 0);
        (void) sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

void listener_update(Listener *l) {
        int enabled = SD_EVENT_OFF, accept;

        if (!l->accept_io)
                return;

        /* Others wait in the kernel's queue: a thousand nodes that come back at once are served one after another. */
        accept = l->n_new < CHANNEL_UNAUTHENTICATED_MAX ? SD_EVENT_ON : SD_EVENT_OFF;
        (void) sd_event_source_set_enabled(l->accept_io, accept);
        if (l->plain_io)
                (void) sd_event_source_set_enabled(l->plain_io, accept);
        if ((l->n_new == 0 && l->n_http == 0) || sd_event_source_get_enabled(l->sweep, &enabled) < 0 ||
                        enabled != SD_EVENT_OFF)
                return;
        (void) sd_event_source_set_time_relative(l->sweep, SWEEP_USEC);
        (void) sd_event_source_set_enabled(l->sweep, SD_EVENT_ONESHOT);
}

/* MHD's own time-out starts anew with each byte, so a slow sender would hold its place for hours. */
static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata) {
        Listener *l = userdata;
        uint64_t now = now_monotonic(), patience;
        Peer *p, *next;

        patience = l->n_new >= CHANNEL_UNAUTHENTICATED_MAX ? PRESSED_USEC : LISTENER_HEAD_TIMEOUT_USEC;
        DL_FOREACH_SAFE(l->peers, p, next) {
                if (p->state == PEER_NEW && p->started_at + patience <= now)
                        log_debug("Connection from %s has not said who it is in time, cutting it.",
                                        p->address);
                else if (p->state == PEER_HTTP && p->since > 0 &&
                                p->since + (p->in_body ? LISTENER_BODY_TIMEOUT_USEC
                                                       : LISTENER_HEAD_TIMEOUT_USEC) <=
                                                now)
                        log_debug("A request from %s does not come to its end in time, cutting it.",
                                        p->address);
                else
                        continue;
                peer_end(p, false);
        }

        listener_update(l);
        return 0;
}

static bool address_has_too_many(Listener *l, const char *address) {
        unsigned n = 0;
        Peer *p;

        DL_FOREACH(l->peers, p)
                if (streq(p->address, address))
                        n++;
        return n >= l->peers_per_address_max;
}

static int accept_some(Listener *l, sd_event_source *source, int fd, bool plain) {

        for (unsigned i = 0; i < ACCEPTS_MAX && l->n_new < CHANNEL_UNAUTHENTICATED_MAX; i++) {
                char text[INET6_ADDRSTRLEN];
                _cleanup_close_ int c = -EBADF;
                PeerAddress address = {};
                socklen_t size = sizeof(address);
                int r;

                if (l->n_peers >= l->peers_max && !peer_make_room(l)) {
                        /* All are busy: the queue stays readable, so look again later. */
                        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                        return 0;
                }
                c = accept4(fd, &address.sa, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (c < 0) {
                        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
                                /* No descriptors or memory: the queue stays readable, so look again later. */
                                log_warning_errno(errno, "No connection can be accepted for now: %m");
                                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
                                (void) sd_event_source_set_time_relative(l->sweep, SWEEP_USEC);
                                (void) sd_event_source_set_enabled(l->sweep, SD_EVENT_ONESHOT);
                                return 0;
                        }
                        break;
                }
                address_to_string(&address, text);
                if (address_has_too_many(l, text)) {
                        log_debug("Refusing a connection from %s, which has %u already.", text,
                                        l->peers_per_address_max);
                        continue;
                }
                r = peer_new_consume(l, TAKE_FD(c), plain, &address, size);
                if (r < 0)
                        log_warning_errno(r, "A connection from %s cannot be served: %m", text);
        }

        listener_update(l);
        return 0;
}

static int on_accept(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        return accept_some(userdata, source, fd, false);
}

static int on_accept_plain(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        return accept_some(userdata, source, fd, true);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                enum MHD_ConnectionNotificationCode code) {
        Listener *l = cls;

        if (code == MHD_CONNECTION_NOTIFY_STARTED)
                *socket_context = l->adding ? peer_ref(l->adding) : NULL;
        else {
                peer_unref(*socket_context);
                *socket_context = NULL;
        }
}

static int on_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                gnutls_pcert_st **ret_chain, unsigned *ret_n, gnutls_ocsp_data_st **ret_ocsp,
                unsigned *ret_n_ocsp, gnutls_privkey_t *ret_key, unsigned *flags) {
        Peer *p = tls_userdata(gnutls_session_get_ptr(session));

        ca_get_chain(p->listener->ca, ret_chain, ret_n, ret_key);
        *ret_ocsp = NULL;
        *ret_n_ocsp = 0;
        *flags = 0; /* all remains the CA's */
        return 0;
}

static void on_log(void *cls, const char *format, va_list ap) _printf_(2, 0);
static void on_log(void *cls, const char *format, va_list ap) {
        _cleanup_free_ char *message = strvprintf(format, ap);

        if (message)
                log_debug("libmicrohttpd: %.*s", (int) strcspn(message, "\n"), message);
}

static int listen_on(const char *address, uint16_t port, KError *reterr) {
        const char *shown = address ?: "all addresses";
        _cleanup_close_ int fd = -EBADF;
        union {
                struct sockaddr sa;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } a = {};
        int one = 1, zero = 0;
        socklen_t size;

        if (address && inet_pton(AF_INET, address, &a.in.sin_addr) == 1) {
                a.in.sin_family = AF_INET;
                a.in.sin_port = htons(port);
                size = sizeof(a.in);
        } else {
                a.in6.sin6_family = AF_INET6;
                a.in6.sin6_port = htons(port);
                size = sizeof(a.in6);
                if (address && inet_pton(AF_INET6, address, &a.in6.sin6_addr) != 1)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an address to listen on.",
                                        address);
        }

        fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 && errno == EAFNOSUPPORT && !address) {
                a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
                size = sizeof(a.in);
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        }
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "No socket to listen on %s: %m.", shown);
        (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (a.sa.sa_family == AF_INET6)
                (void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, address ? &one : &zero, sizeof(int));
        if (bind(fd, &a.sa, size) < 0 || listen(fd, BACKLOG) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot listen on port %u of %s: %m.", port, shown);

        return TAKE_FD(fd);
}

/* Who connects and says nothing stays with the kernel: clients of TLS and HTTP speak first. */
static void defer_accept(int fd) {
        int seconds = DEFER_SEC;

        (void) setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

static int port_of(int fd, uint16_t *ret) {
        union {
                struct sockaddr sa;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } a = {};
        socklen_t size = sizeof(a);

        if (getsockname(fd, &a.sa, &size) < 0)
                return -errno;

        *ret = ntohs(a.sa.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
        return 0;
}

int listener_new(sd_event *event, Ca *ca, const ListenerConfig *config, Listener **ret, KError *reterr) {
        _cleanup_(listener_freep) Listener *l = NULL;
        const union MHD_DaemonInfo *info;
        _cleanup_close_ int fd = -EBADF;
        int r;

        assert(event);
        assert(ca);
        assert(config);
        assert(ret);

        fd = config->fd >= 0 ? config->fd : listen_on(config->address, config->port, reterr);
        if (fd < 0)
                return fd;

        l = new0(Listener, 1);
        if (!l)
                return -ENOMEM;
        l->fd = l->plain_fd = -EBADF;
        l->event = sd_event_ref(event);
        l->ca = ca;
        l->fd = TAKE_FD(fd);
        l->peers_max = config->connections_max > 0 ? config->connections_max : LISTENER_CONNECTIONS_MAX;
        l->peers_per_address_max = config->connections_per_address_max > 0
                                                   ? config->connections_per_address_max
                                                   : LISTENER_CONNECTIONS_PER_ADDRESS_MAX;
        defer_accept(l->fd);
        r = port_of(l->fd, &l->port);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The socket to listen on has no address: %m.");

        if (config->plain_address) {
                l->plain_fd = listen_on(config->plain_address, config->plain_port, reterr);
                if (l->plain_fd < 0)
                        return l->plain_fd;
                defer_accept(l->plain_fd);
                r = port_of(l->plain_fd, &l->plain_port);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The socket for plain HTTP has no address: %m.");
        }

        if (gnutls_certificate_allocate_credentials(&l->credentials) < 0 ||
                        gnutls_priority_init(&l->priority, PRIORITIES, NULL) < 0)
                return kerror_set(reterr, K_INTERNAL, "GnuTLS cannot be set up.");
        gnutls_certificate_set_retrieve_function3(l->credentials, on_certificate);

        r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &l->sweep, CLOCK_MONOTONIC, 0, 0, on_sweep, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->sweep, SD_EVENT_OFF);
        if (r < 0)
                return r;

        r = event_nest(event, &l->crowd, &l->crowd_io);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(l->crowd_io, "listener-crowd");

        /* Room for more than we let in: one that ended may not yet be cleaned up. */
        l->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_UPGRADE |
                                                     MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
                        0, NULL, NULL, http_request_handle, l, MHD_OPTION_EXTERNAL_LOGGER, on_log, l,
                        MHD_OPTION_NOTIFY_CONNECTION, on_connection, l, MHD_OPTION_NOTIFY_COMPLETED,
                        http_request_completed, l, MHD_OPTION_URI_LOG_CALLBACK, http_request_begin, l,
                        MHD_OPTION_CONNECTION_LIMIT, l->peers_max * 2, MHD_OPTION_CONNECTION_TIMEOUT,
                        HTTP_TIMEOUT_SEC, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                        (size_t) LISTENER_HEAD_SIZE_MAX, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
        if (!l->daemon)
                return kerror_set(reterr, K_INTERNAL, "libmicrohttpd cannot be started.");

        info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        if (!info)
                return kerror_set(reterr, K_INTERNAL, "libmicrohttpd gives no epoll descriptor.");
        r = sd_event_add_io(event, &l->io, info->epoll_fd, EPOLLIN, on_io, l);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &l->accept_io, l->fd, EPOLLIN, on_accept, l);
        if (r >= 0 && l->plain_fd >= 0)
                r = sd_event_add_io(event, &l->plain_io, l->plain_fd, EPOLLIN, on_accept_plain, l);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(l->io, "listener-http");
        (void) sd_event_source_set_description(l->accept_io, "listener-accept");
        timer_update(l);

        *ret = TAKE_PTR(l);
        return 0;
}

Listener *listener_free(Listener *l) {
        Peer *p, *next;

        if (!l)
                return NULL;

        l->accept_io = sd_event_source_disable_unref(l->accept_io);
        l->plain_io = sd_event_source_disable_unref(l->plain_io);
        safe_close(l->fd);
        safe_close(l->plain_fd);
        if (l->daemon) {
                http_requests_cancel(l);
                http_streams_cancel(l);
                for (unsigned i = 0; i < LAST_ROUNDS; i++) {
                        run(l);
                        DL_FOREACH_SAFE(l->peers, p, next)
                                peer_flush(p);
                }
                DL_FOREACH_SAFE(l->peers, p, next)
                        peer_end(p, true);
                MHD_stop_daemon(l->daemon);
        }
        sd_event_source_disable_unref(l->crowd_io);
        sd_event_unref(l->crowd);
        sd_event_source_disable_unref(l->io);
        sd_event_source_disable_unref(l->timer);
        sd_event_source_disable_unref(l->sweep);
        if (l->credentials)
                gnutls_certificate_free_credentials(l->credentials);
        if (l->priority)
                gnutls_priority_deinit(l->priority);
        for (size_t i = 0; i < l->n_routes; i++)
                route_done(&l->routes[i]);
        free(l->routes);
        sd_event_unref(l->event);
        free(l);
        return NULL;
}

uint16_t listener_port(const Listener *l) {
        return l->port;
}

uint16_t listener_plain_port(const Listener *l) {
        return l->plain_port;
}
