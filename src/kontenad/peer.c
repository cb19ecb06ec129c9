/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <uthash.h>
#include <utlist.h>

#include "file-util.h"
#include "listener-internal.h"
#include "log.h"
#include "string-util.h"
#include "websocket.h"

#define USER_TIMEOUT_MSEC 20000 /* unacknowledged data, a window that stays shut */
#define PUMP_ROUNDS       16U   /* in one turn of the loop */

void address_to_string(const PeerAddress *a, char ret[static INET6_ADDRSTRLEN]) {
        ret[0] = '\0';
        if (a->sa.sa_family == AF_INET)
                (void) inet_ntop(AF_INET, &a->in.sin_addr, ret, INET6_ADDRSTRLEN);
        else if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
                (void) inet_ntop(AF_INET, &a->in6.sin6_addr.s6_addr[12], ret, INET6_ADDRSTRLEN);
        else
                (void) inet_ntop(AF_INET6, &a->in6.sin6_addr, ret, INET6_ADDRSTRLEN);
}

Peer *peer_ref(Peer *p) {
        p->n_ref++;
        return p;
}

Peer *peer_unref(Peer *p) {
        if (!p || --p->n_ref > 0)
                return NULL;

        assert(!p->tls);
        free(p->key);
        free(p);
        return NULL;
}

void peer_set_state(Peer *p, PeerState state) {
        if (p->state == state)
                return;

        if (p->tls) {
                p->listener->n_new -= p->state == PEER_NEW;
                p->listener->n_http -= p->state == PEER_HTTP;
                p->listener->n_http += state == PEER_HTTP;
                listener_update(p->listener);
        }
        p->state = state;

        /* Nodes, and handshakes of whoever it is, together are one of those whom the loop serves in turn: when a thousand nodes come back at
         * once, who asks something does not wait for all of them. */
        if (p->tls && tls_move(p->tls, state == PEER_HTTP ? p->listener->event : p->listener->crowd) < 0)
                log_debug("Connection from %s is served out of its turn.", p->address);
}

static PeerBuffer *buffer_free(PeerBuffer *b) {
        if (b)
                erase_memory(b->data, sizeof(b->data));
        free(b);
        return NULL;
}

static void pair_close(Peer *p) {
        p->pair_io = sd_event_source_disable_unref(p->pair_io);
        p->pair = safe_close(p->pair);
        p->in = buffer_free(p->in);
}

void peer_end(Peer *p, bool goodbye) {
        Listener *l = p->listener;

        if (!p->tls)
                return;

        p->tls = tls_free(p->tls, goodbye);
        pair_close(p);
        p->out = buffer_free(p->out);
        DL_DELETE2(l->peers, p, previous, next);
        l->n_peers--;
        l->n_new -= p->state == PEER_NEW;
        l->n_http -= p->state == PEER_HTTP;
        listener_update(l);
        peer_unref(p);
}

/* Between TLS and libmicrohttpd. Each of these: 1 something moved, 0 nothing can, negative: it is over. */

/* Nothing of it is for libmicrohttpd when the scan refuses it. */
static int look_at(Peer *p, PeerBuffer *b) {
        uint64_t now = now_monotonic(), n_heads = p->scan.n_heads;
        bool was_inside = http_scan_is_inside(&p->scan), in_body;

        p->quiet_since = now;
        p->refused = http_scan(&p->scan, b->data + b->start, b->end - b->start);
        if (p->refused != 0) {
                b->start = b->end;
                return 0;
        }
        if (p->scan.n_heads > n_heads && p->state == PEER_NEW)
                peer_set_state(p, PEER_HTTP); /* has said what it wants */

        in_body = p->scan.state == HTTP_SCAN_BODY;
        if (!http_scan_is_inside(&p->scan))
                p->since = 0;
        else if (!was_inside || p->scan.n_heads > n_heads || p->since == 0)
                p->since = now;
        p->in_body = in_body;
        return 1;
}

static int pump_in(Peer *p) {
        PeerBuffer *b = p->in;
        ssize_t n;
        int r;

        if (b->start == b->end) {
                if (p->in_end || p->refused != 0)
                        return 0;
                n = tls_recv(p->tls, b->data, sizeof(b->data));
                if (n == -EAGAIN)
                        return 0;
                if (n < 0)
                        return (int) n;
                if (n == 0) {
                        p->in_end = true;
                        (void) shutdown(p->pair, SHUT_WR);
                        return 1;
                }
                b->start = 0;
                b->end = (size_t) n;
                r = look_at(p, b);
                if (r <= 0)
                        return r;
        }

        n = send(p->pair, b->data + b->start, b->end - b->start, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
                if (errno == EAGAIN || errno == EINTR)
                        return 0;
                b->start = b->end; /* not wanted any more; an answer may be on its way */
                p->in_end = true;
                return 1;
        }
        b->start += (size_t) n;
        return 1;
}

static int flush_out(Peer *p) {
        PeerBuffer *b = p->out;
        ssize_t n;

        n = tls_send(p->tls, b->data + b->start, b->end - b->start);
        if (n < 0)
                return n == -EAGAIN ? 0 : (int) n;
        b->start += (size_t) n;
        return 1;
}

static int pump_out(Peer *p) {
        PeerBuffer *b = p->out;
        ssize_t n;

        if (b->start == b->end) {
                if (p->out_end)
                        return 0;
                n = recv(p->pair, b->data, sizeof(b->data), MSG_DONTWAIT);
                if (n < 0)
                        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
                if (n == 0) {
                        p->out_end = true;
                        return 1;
                }
                b->start = 0;
                b->end = (size_t) n;
        }
        return flush_out(p);
}

/* Answers before are sent. */
static void refuse(Peer *p) {
        static const struct {
                int status;
                const char *phrase, *sentence;
        } table[] = {
                { 411, "Length Required", "A request says its length; chunks are not taken." },
                { 431, "Request Header Fields Too Large", "The head of the request is too large." },
                { 505, "HTTP Version Not Supported", "This is neither HTTP/1.1 nor HTTP/1.0." },
                { 400, "Bad Request", "The request is malformed." },
        };
        _cleanup_free_ char *text = NULL;
        size_t i = 0;

        log_debug("A request from %s is refused with %i before it is read.", p->address, p->refused);
        while (i + 1 < ELEMENTSOF(table) && table[i].status != p->refused)
                i++;
        if (p->n_answered >= p->scan.n_requests)
                text = strprintf(
                                "HTTP/1.1 %i %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                                "Connection: close\r\n\r\n{\"error\":\"%s\"}",
                                table[i].status, table[i].phrase, strlen(table[i].sentence) + 12,
                                table[i].sentence);
        if (text)
                (void) tls_send(p->tls, text, strlen(text));
        peer_end(p, true);
}

static void pump(Peer *p) {
        bool more = true;

        for (unsigned i = 0; i < PUMP_ROUNDS && more; i++) {
                int in, out;

                in = pump_in(p);
                out = in < 0 ? in : pump_out(p);
                if (in < 0 || out < 0) {
                        peer_end(p, false);
                        return;
                }
                more = in > 0 || out > 0;
        }
        if (p->out_end && p->out->start == p->out->end) {
                peer_end(p, true);
                return;
        }
        if (p->refused != 0 && !more && p->out->start == p->out->end) {
                refuse(p);
                return;
        }

        /* Level-triggered: what was not moved this time comes again. */
        tls_want(p->tls, p->in->start == p->in->end && !p->in_end, p->out->start < p->out->end);
        (void) sd_event_source_set_io_events(
                        p->pair_io, (p->out->start == p->out->end && !p->out_end ? (uint32_t) EPOLLIN : 0) |
                                                    (p->in->start < p->in->end ? (uint32_t) EPOLLOUT : 0));
}

void peer_flush(Peer *p) {
        if (p->tls && p->in && p->out)
                pump(p);
}

static int on_pair(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        pump(userdata);
        return 0;
}

static void on_tls_io(TlsConnection *c, bool in, bool out, void *userdata) {
        pump(userdata);
}

static void on_failed(TlsConnection *c, const char *why, void *userdata) {
        Peer *p = userdata;

        log_debug("TLS handshake with %s failed: %s", p->address, why);
        peer_end(p, false);
}

static int attach(Peer *p) {
        Listener *l = p->listener;
        int fds[2], r;

        r = tls_peer_key(p->tls, &p->key);
        if (r < 0 && r != -ENODATA)
                return r;

        p->in = new0(PeerBuffer, 1);
        p->out = new0(PeerBuffer, 1);
        if (!p->in || !p->out)
                return -ENOMEM;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return -errno;
        p->pair = fds[0];
        r = sd_event_add_io(l->event, &p->pair_io, p->pair, EPOLLIN, on_pair, p);
        if (r < 0) {
                safe_close(fds[1]);
                return r;
        }

        l->adding = p;
        r = MHD_add_connection(l->daemon, fds[1], &p->sockaddr.sa, p->sockaddr_size) == MHD_YES ? 0 : -EBUSY;
        l->adding = NULL; /* on_connection() in listener.c took its reference */
        if (r < 0)
                return r;
        listener_kick(l);
        return 0;
}

static void on_ready(TlsConnection *c, void *userdata) {
        Peer *p = userdata;
        int r;

        r = attach(p);
        if (r < 0) {
                log_debug_errno(r, "Connection from %s cannot be served: %m", p->address);
                peer_end(p, false);
                return;
        }
        tls_want(p->tls, true, false);
}

static const TlsHandler pump_handler = {
        .ready = on_ready,
        .io = on_tls_io,
        .failed = on_failed,
};

int peer_new_consume(Listener *l, int fd, bool plain, const PeerAddress *address, socklen_t size) {
        _cleanup_close_ int owned = fd;
        int timeout = USER_TIMEOUT_MSEC, one = 1, r;
        Peer *p;

        (void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));

        p = new0(Peer, 1);
        if (!p)
                return -ENOMEM;
        p->listener = l;
        p->n_ref = 1;
        p->pair = -EBADF;
        p->started_at = now_monotonic();
        p->quiet_since = p->started_at;
        p->sockaddr = *address;
        p->sockaddr_size = size;
        address_to_string(address, p->address);
        r = tls_new_consume(l->event, TAKE_FD(owned), plain ? NULL : l->credentials, l->priority,
                        &pump_handler, p, &p->tls);
        if (r >= 0)
                r = tls_move(p->tls, l->crowd);
        if (r < 0) {
                p->tls = tls_free(p->tls, false);
                peer_unref(p);
                return r;
        }

        l->n_peers++;
        l->n_new++;
        DL_APPEND2(l->peers, p, previous, next);
        return 0;
}

/* Making room */

typedef struct Tally {
        const char *address;
        unsigned n;
        Peer *quietest;
        UT_hash_handle hh;
} Tally;

static bool is_idle(const Peer *p) {
        return p->state == PEER_HTTP && p->since == 0 && p->n_answered >= p->scan.n_requests;
}

bool peer_make_room(Listener *l) {
        Tally *all = NULL, *t, *most = NULL, *next;
        Peer *p;

        DL_FOREACH(l->peers, p) {
                if (!is_idle(p))
                        continue;
                HASH_FIND_STR(all, p->address, t);
                if (!t) {
                        t = new0(Tally, 1);
                        if (!t)
                                break;
                        t->address = p->address;
                        HASH_ADD_KEYPTR(hh, all, t->address, strlen(t->address), t);
                        if (!t->hh.tbl) {
                                free(t);
                                break;
                        }
                }
                t->n++;
                if (!t->quietest || p->quiet_since < t->quietest->quiet_since)
                        t->quietest = p;
                if (!most || t->n > most->n)
                        most = t;
        }

        p = most ? most->quietest : NULL;
        HASH_ITER(hh, all, t, next) {
                HASH_DEL(all, t);
                free(t);
        }
        if (!p)
                return false;
        log_debug("A connection from %s that asks for nothing makes room for another.", p->address);
        peer_end(p, true);
        return true;
}

/* As a WebSocket's transport. The answer to the upgrade goes first. */

static int flush_head(Peer *p) {
        while (p->out) {
                int r;

                if (p->out->start == p->out->end) {
                        p->out = buffer_free(p->out);
                        break;
                }
                r = flush_out(p);
                if (r <= 0)
                        return r == 0 ? -EAGAIN : r;
        }
        return 0;
}

static ssize_t transport_recv(void *data, size_t size, void *userdata) {
        Peer *p = userdata;

        return tls_recv(p->tls, data, size);
}

static ssize_t transport_send(const void *data, size_t size, void *userdata) {
        Peer *p = userdata;
        int r;

        r = flush_head(p);
        if (r < 0)
                return r;
        return tls_send(p->tls, data, size);
}

static void transport_want(bool in, bool out, void *userdata) {
        Peer *p = userdata;

        tls_want(p->tls, in, out || p->out);
}

static void transport_release(bool goodbye, void *userdata) {
        Peer *p = userdata;

        p->socket = NULL;
        peer_end(p, goodbye);
}

static void on_socket_io(TlsConnection *c, bool in, bool out, void *userdata) {
        Peer *p = userdata;

        if (p->out && flush_head(p) < 0)
                out = false;
        websocket_io(p->socket, in, out);
}

static const TlsHandler socket_handler = {
        .io = on_socket_io,
};

int peer_upgrade(Peer *p, struct MHD_UpgradeResponseHandle *upgrade, WebSocket **ret) {
        Listener *l = p->listener;
        int r;

        /* MHD is told after it has returned from its run. */
        p->upgrade = upgrade;
        p->next_upgraded = l->upgraded;
        l->upgraded = peer_ref(p);
        if (!p->tls)
                return -ECONNRESET;
        peer_set_state(p, PEER_UPGRADED);

        for (;;) {
                PeerBuffer *b = p->out;
                ssize_t n;

                if (b->start == b->end)
                        b->start = b->end = 0;
                if (b->end == sizeof(b->data))
                        return -ENOBUFS;
                n = recv(p->pair, b->data + b->end, sizeof(b->data) - b->end, MSG_DONTWAIT);
                if (n <= 0)
                        break;
                b->end += (size_t) n;
        }
        if (p->in->start < p->in->end)
                return -EBADMSG; /* frames before the answer */
        pair_close(p);

        r = flush_head(p);
        if (r < 0 && r != -EAGAIN)
                return r;
        r = websocket_new(l->event,
                        &(WebSocketTransport){
                                        .recv = transport_recv,
                                        .send = transport_send,
                                        .want = transport_want,
                                        .release = transport_release,
                                        .userdata = p,
                        },
                        &p->socket);
        if (r < 0)
                return r;
        tls_set_handler(p->tls, &socket_handler, p);
        tls_want(p->tls, false, p->out);

        *ret = p->socket;
        return 0;
}
