/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "listener.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "listener-internal.h"
#include "log.h"
#include "string-util.h"

#define PRIORITIES        "NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define HTTP_TIMEOUT_SEC  60U   /* of a connection that is kept alive */
#define USER_TIMEOUT_MSEC 20000 /* unacknowledged data, a window that stays shut */
#define SWEEP_USEC        USEC_PER_SEC
#define BACKLOG           1024

static void timer_update(Listener *l) {
        MHD_UNSIGNED_LONG_LONG msec;

        if (MHD_get_timeout(l->daemon, &msec) != MHD_YES) {
                (void) sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time_relative(l->timer, (uint64_t) msec * USEC_PER_MSEC);
        (void) sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static void run(Listener *l) {
        l->running = true;
        (void) MHD_run(l->daemon);
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

void peer_set_state(Peer *p, PeerState state) {
        if (p->state == PEER_NEW && state != PEER_NEW)
                p->listener->n_new--;
        p->state = state;
}

void peer_set_deadline(Peer *p, uint64_t deadline) {
        int enabled;

        p->deadline = deadline;
        if (deadline == USEC_INFINITY)
                return;
        if (sd_event_source_get_enabled(p->listener->sweep, &enabled) >= 0 && enabled != SD_EVENT_OFF)
                return;
        (void) sd_event_source_set_time_relative(p->listener->sweep, SWEEP_USEC);
        (void) sd_event_source_set_enabled(p->listener->sweep, SD_EVENT_ONESHOT);
}

/* MHD's own time-out starts anew with each byte, so a slow sender would hold its place for hours; and of a connection that was
 * upgraded and whose peer does not read, MHD never tires. */
static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata) {
        Listener *l = userdata;
        uint64_t now = now_monotonic();
        bool again = false;
        Peer *p;

        DL_FOREACH(l->peers, p) {
                if (p->deadline == USEC_INFINITY)
                        continue;
                if (p->deadline > now) {
                        again = true;
                        continue;
                }
                log_debug("Cutting a connection that took too long.");
                p->deadline = USEC_INFINITY;
                (void) shutdown(p->fd, SHUT_RDWR);
        }

        if (again) {
                (void) sd_event_source_set_time_relative(source, SWEEP_USEC);
                (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }
        return 0;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                enum MHD_ConnectionNotificationCode code) {
        const union MHD_ConnectionInfo *info;
        Listener *l = cls;
        int timeout = USER_TIMEOUT_MSEC, one = 1;
        Peer *p = *socket_context;

        if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
                if (!p)
                        return;
                peer_set_state(p, PEER_RELEASED);
                DL_DELETE2(l->peers, p, previous, next);
                l->n_peers--;
                free(p);
                *socket_context = NULL;
                return;
        }

        info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (!info)
                return;
        (void) setsockopt(info->connect_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
        (void) setsockopt(info->connect_fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));

        p = new0(Peer, 1);
        if (!p) {
                (void) shutdown(info->connect_fd, SHUT_RDWR);
                return;
        }
        p->listener = l;
        p->connection = connection;
        p->fd = info->connect_fd;
        l->n_peers++;
        l->n_new++;
        DL_APPEND2(l->peers, p, previous, next);
        peer_set_deadline(p, now_monotonic() + LISTENER_HEAD_TIMEOUT_USEC);
        *socket_context = p;
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *address, socklen_t size) {
        Listener *l = cls;

        if (l->n_new < CHANNEL_UNAUTHENTICATED_MAX)
                return MHD_YES;

        log_debug("Refusing a connection: %u others have not yet said who they are.", l->n_new);
        return MHD_NO;
}

static int on_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                gnutls_pcert_st **ret_chain, unsigned *ret_n, gnutls_ocsp_data_st **ret_ocsp,
                unsigned *ret_n_ocsp, gnutls_privkey_t *ret_key, unsigned *flags) {
        const union MHD_ConnectionInfo *context;
        Peer *p;

        context = MHD_get_connection_info(
                        gnutls_session_get_ptr(session), MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        p = context ? context->socket_context : NULL;
        if (!p)
                return -1;

        /* Asked for here, because MHD asks only where it has a list of CAs: we take any certificate whose key the peer
         * proves to own, and know it by that key. */
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);

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

static int listen_on(const ListenerConfig *config, KError *reterr) {
        const char *shown = config->address ?: "all addresses";
        _cleanup_close_ int fd = -EBADF;
        union {
                struct sockaddr sa;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } a = {};
        int one = 1, zero = 0;
        socklen_t size;

        if (config->address && inet_pton(AF_INET, config->address, &a.in.sin_addr) == 1) {
                a.in.sin_family = AF_INET;
                a.in.sin_port = htons(config->port);
                size = sizeof(a.in);
        } else {
                a.in6.sin6_family = AF_INET6;
                a.in6.sin6_port = htons(config->port);
                size = sizeof(a.in6);
                if (config->address && inet_pton(AF_INET6, config->address, &a.in6.sin6_addr) != 1)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an address to listen on.",
                                        config->address);
        }

        fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 && errno == EAFNOSUPPORT && !config->address) {
                a.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(config->port) };
                size = sizeof(a.in);
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        }
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "No socket to listen on %s: %m.", shown);
        (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (a.sa.sa_family == AF_INET6)
                (void) setsockopt(
                                fd, IPPROTO_IPV6, IPV6_V6ONLY, config->address ? &one : &zero, sizeof(int));
        if (bind(fd, &a.sa, size) < 0 || listen(fd, BACKLOG) < 0)
                return kerror_set_errno(
                                reterr, -errno, "Cannot listen on port %u of %s: %m.", config->port, shown);

        return TAKE_FD(fd);
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

        fd = config->fd >= 0 ? config->fd : listen_on(config, reterr);
        if (fd < 0)
                return fd;

        l = new0(Listener, 1);
        if (!l)
                return -ENOMEM;
        l->event = sd_event_ref(event);
        l->ca = ca;
        r = port_of(fd, &l->port);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The socket to listen on has no address: %m.");

        r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(event, &l->sweep, CLOCK_MONOTONIC, 0, 0, on_sweep, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->sweep, SD_EVENT_OFF);
        if (r < 0)
                return r;

        l->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_TLS | MHD_ALLOW_UPGRADE |
                                                     MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
                        0, on_accept, l, http_request_handle, l, MHD_OPTION_EXTERNAL_LOGGER, on_log, l,
                        MHD_OPTION_LISTEN_SOCKET, (MHD_socket) fd, MHD_OPTION_HTTPS_CERT_CALLBACK2,
                        on_certificate, MHD_OPTION_HTTPS_PRIORITIES, PRIORITIES,
                        MHD_OPTION_NOTIFY_CONNECTION, on_connection, l, MHD_OPTION_NOTIFY_COMPLETED,
                        http_request_completed, l, MHD_OPTION_CONNECTION_LIMIT,
                        config->connections_max > 0 ? config->connections_max : LISTENER_CONNECTIONS_MAX,
                        MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                        config->connections_per_address_max > 0 ? config->connections_per_address_max
                                                                : LISTENER_CONNECTIONS_PER_ADDRESS_MAX,
                        MHD_OPTION_CONNECTION_TIMEOUT, HTTP_TIMEOUT_SEC, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                        (size_t) LISTENER_HEAD_SIZE_MAX, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
        if (!l->daemon)
                return kerror_set(
                                reterr, K_INTERNAL, "libmicrohttpd cannot be started on port %u.", l->port);
        (void) TAKE_FD(fd);

        info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        if (!info)
                return kerror_set(reterr, K_INTERNAL, "libmicrohttpd gives no epoll descriptor.");
        r = sd_event_add_io(event, &l->io, info->epoll_fd, EPOLLIN, on_io, l);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(l->io, "listener");
        timer_update(l);

        *ret = TAKE_PTR(l);
        return 0;
}

Listener *listener_free(Listener *l) {
        if (!l)
                return NULL;

        sd_event_source_disable_unref(l->io);
        sd_event_source_disable_unref(l->timer);
        sd_event_source_disable_unref(l->sweep);
        l->io = l->timer = l->sweep = NULL;
        if (l->daemon) {
                (void) MHD_run(l->daemon); /* last words of sessions that were closed just now */
                MHD_stop_daemon(l->daemon);
        }
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
