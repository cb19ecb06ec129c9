/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-tunnel.h"

#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <utlist.h>

#include "bus-framing.h"
#include "bus-internal.h"
#include "bus-pump.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "listener.h"
#include "log.h"
#include "store.h"
#include "string-util.h"
#include "websocket.h"

#define TUNNEL_PATH        "/v1/bus"
#define TUNNEL_SUBPROTOCOL "kontena-bus.v1"

#define CHECK_USEC         (10U * USEC_PER_SEC)
#define PATIENCE_USEC      (25U * USEC_PER_SEC) /* the answer to a ping stands behind a window of data */
#define QUEUE_SLOW         256U
#define SEND_BUFFER        32768 /* calls that sd-bus has not read yet: each may have a large answer */

#define CLOSE_GOING_AWAY   1001
#define CLOSE_TOKEN        4001
#define CLOSE_SLOW         4008
#define CLOSE_PROTOCOL     4050
#define CLOSE_INTERNAL     1011

typedef struct Tunnel {
        BusTunnels *tunnels;
        WebSocket *socket;
        sd_bus *bus;
        BusLink *link;
        BusPump *pump;
        BusFraming framing;

        char *bearer, *address, *user_agent;
        char *user; /* id */
        Caller *caller;
        char **seen; /* ids of grids, so that their end can be told */

        sd_event_source *end; /* outside of what sd-bus or the pump is in */
        int code;             /* with which it will end; 0: goes on */
        char *reason;
        struct Tunnel *prev, *next;
} Tunnel;

struct BusTunnels {
        Master *master;
        const BusTunnelAccess *access;
        Tunnel *all;
        unsigned n;
        sd_event_source *timer, *check;
};

/* All but the WebSocket: from here on nothing is heard or told. */
static void disconnect(Tunnel *t) {
        t->link = bus_link_close(t->link);
        if (t->bus)
                sd_bus_close(t->bus);
        t->bus = sd_bus_unref(t->bus);
        t->pump = bus_pump_free(t->pump);
}

static Tunnel *tunnel_free(Tunnel *t) {
        if (!t)
                return NULL;

        if (t->prev) {
                DL_DELETE(t->tunnels->all, t);
                t->tunnels->n--;
        }
        disconnect(t);
        sd_event_source_disable_unref(t->end);
        websocket_free(t->socket);
        caller_unref(t->caller);
        erase_and_freep(&t->bearer);
        free(t->address);
        free(t->user_agent);
        free(t->user);
        free(t->reason);
        strv_free(t->seen);
        free(t);
        return NULL;
}

static int on_end(sd_event_source *source, void *userdata) {
        Tunnel *t = userdata;

        if (t->pump)
                bus_pump_flush(t->pump); /* an answer that says why */
        disconnect(t);
        websocket_close(t->socket, t->code, t->reason);
        return 0;
}

static void tunnel_end(Tunnel *t, int code, const char *reason) {
        if (t->code != 0)
                return;

        t->code = code;
        t->reason = strdup(reason);
        (void) sd_event_source_set_enabled(t->end, SD_EVENT_ONESHOT);
}

/* Who is at the other end, as of now. */
static int tunnel_new_caller(Tunnel *t, Caller **ret, KError *reterr) {
        _cleanup_(caller_unrefp) Caller *c = NULL;
        BusTunnels *all = t->tunnels;
        const char *user;
        int r;

        r = all->access->new_caller(all->master, t->bearer, t->address, t->user_agent, &c, reterr);
        if (r < 0)
                return r;
        user = all->access->user(c);
        if (!user || (t->user && !streq(user, t->user)))
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The token is not a user's.");

        *ret = TAKE_PTR(c);
        return 0;
}

/* Who has a full window and takes nothing of it, with more waiting behind. */
static bool is_slow(Tunnel *t) {
        uint64_t limit = t->tunnels->access->stalled_max_usec ?: BUS_GUEST_STALLED_MAX_USEC, queued;

        if (sd_bus_get_n_queued_write(t->bus, &queued) < 0)
                return false;
        return queued > BUS_GUEST_QUEUE_MAX ||
               (queued > QUEUE_SLOW && bus_pump_stalled_usec(t->pump) > limit);
}

static void tunnel_check(Tunnel *t) {
        _cleanup_(caller_unrefp) Caller *c = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (t->code != 0)
                return;
        r = tunnel_new_caller(t, &c, &error);
        if (r == -ENOMEM || (r < 0 && !kerror_is_set(&error)))
                return; /* it is asked again */
        if (r < 0) {
                tunnel_end(t, CLOSE_TOKEN, kerror_message(&error));
                return;
        }
        caller_unref(t->caller);
        t->caller = TAKE_PTR(c);

        if (is_slow(t))
                tunnel_end(t, CLOSE_SLOW, "What is sent is not read.");
}

void bus_tunnels_check(BusTunnels *all) {
        Tunnel *t;

        DL_FOREACH(all->all, t)
                tunnel_check(t);
}

/* The bus below it */

static int guest_new_caller(void *userdata, Caller **ret, KError *reterr) {
        Tunnel *t = userdata;
        int r;

        if (t->code != 0)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "%s", strempty(t->reason));
        r = tunnel_new_caller(t, ret, reterr);
        if (r < 0 && kerror_is_set(reterr))
                tunnel_end(t, CLOSE_TOKEN, kerror_message(reterr));
        return r;
}

static bool guest_sees(void *userdata, const char *grid_id) {
        Tunnel *t = userdata;
        Master *m = t->tunnels->master;
        _cleanup_(grid_row_freep) GridRow *g = NULL;

        if (t->code != 0)
                return false;
        if (t->tunnels->access->sees(m, t->caller, grid_id)) {
                if (grid_id && !strv_contains(t->seen, grid_id))
                        (void) strv_extend(&t->seen, grid_id);
                return true;
        }

        /* Of a grid that is gone nobody is a member, and who was is told that it is gone. */
        return grid_id && strv_contains(t->seen, grid_id) &&
               store_get_grid(m->store, grid_id, &g) == -ENOENT;
}

static void guest_sent(void *userdata) {
        Tunnel *t = userdata;
        uint64_t queued;

        if (t->code != 0 || sd_bus_get_n_queued_write(t->bus, &queued) < 0)
                return;
        bus_pump_hold(t->pump, queued > QUEUE_SLOW || bus_pump_stalled_usec(t->pump) > 0);
        if (is_slow(t))
                tunnel_end(t, CLOSE_SLOW, "What is sent is not read.");
}

static const BusGuest guest = {
        .new_caller = guest_new_caller,
        .sees = guest_sees,
        .sent = guest_sent,
};

static int pump_send(bool binary, const void *data, size_t size, void *userdata) {
        Tunnel *t = userdata;

        return binary ? websocket_send_binary(t->socket, data, size, NULL, 0)
                      : websocket_send_text(t->socket, data, size);
}

static void pump_ended(int r, void *userdata) {
        tunnel_end(userdata, CLOSE_PROTOCOL, "What came is not D-Bus.");
}

static void pump_moved(void *userdata) {
        guest_sent(userdata);
}

static const BusPumpHandler pump_handler = {
        .send = pump_send,
        .ended = pump_ended,
        .moved = pump_moved,
};

static int open_bus(Tunnel *t, int fd) {
        _cleanup_close_ int owned = fd;
        sd_event *event = t->tunnels->master->event;
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r >= 0)
                r = sd_bus_new(&t->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_fd(t->bus, owned, owned);
        if (r < 0)
                return r;
        TAKE_FD(owned);
        (void) sd_bus_set_description(t->bus, "tunnel");
        r = sd_bus_set_server(t->bus, true, id);
        if (r >= 0) /* who it is was said by the token */
                r = sd_bus_set_anonymous(t->bus, true);
        if (r >= 0)
                r = sd_bus_negotiate_fds(t->bus, false);
        if (r >= 0)
                r = sd_bus_set_sender(t->bus, BUS_NAME);
        if (r >= 0)
                r = bus_face_add(t->tunnels->master->bus_face, t->bus, &guest, t, &t->link);
        if (r >= 0)
                r = sd_bus_start(t->bus);
        if (r >= 0)
                r = sd_bus_attach_event(t->bus, event, SD_EVENT_PRIORITY_NORMAL);
        return r;
}

/* The WebSocket above it */

static void socket_message(WebSocket *w, bool binary, const char *data, size_t size, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Tunnel *t = userdata;
        int r = 0;

        if (t->code != 0 || !t->pump)
                return;
        if (binary)
                r = bus_framing_feed(&t->framing, data, size, &error);
        if (r >= 0)
                r = bus_pump_receive(t->pump, binary, data, size, &error);
        if (r < 0)
                tunnel_end(t, CLOSE_PROTOCOL,
                                kerror_is_set(&error) ? kerror_message(&error) : "What came is not D-Bus.");
}

static void socket_closed(WebSocket *w, int code, const char *reason, void *userdata) {
        Tunnel *t = userdata;

        log_debug("Tunnel from %s ended: %i %s", t->address, code, reason);
        tunnel_free(t);
}

static const WebSocketHandler socket_handler = {
        .message = socket_message,
        .closed = socket_closed,
};

static unsigned count_of_user(BusTunnels *all, const char *user) {
        unsigned n = 0;
        Tunnel *t;

        DL_FOREACH(all->all, t)
                if (streq_ptr(t->user, user))
                        n++;
        return n;
}

static int admit(BusTunnels *all, HttpRequest *request, Caller **ret, KError *reterr) {
        _cleanup_(caller_unrefp) Caller *c = NULL;
        const char *bearer, *user;
        int r;

        if (http_request_bearer(request, &bearer) <= 0)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "A token is needed.");
        r = all->access->new_caller(all->master, bearer, http_request_address(request),
                        http_request_header(request, "User-Agent"), &c, reterr);
        if (r < 0)
                return r;
        user = all->access->user(c);
        if (!user)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The token is not a user's.");
        if (all->n >= BUS_GUESTS_MAX || count_of_user(all, user) >= BUS_GUESTS_PER_USER_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are too many connections already.");

        *ret = TAKE_PTR(c);
        return 0;
}

static int on_accept(HttpRequest *request, void *userdata) {
        _cleanup_(caller_unrefp) Caller *c = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = admit(userdata, request, &c, &error);
        if (r >= 0)
                return 1;
        if (!kerror_is_set(&error))
                return r;
        (void) http_add_header(request, "WWW-Authenticate", "Bearer realm=\"kontena\"");
        return http_reply_error(request, &error);
}

static int tunnel_open(BusTunnels *all, HttpRequest *request, Tunnel *t, KError *reterr) {
        const char *user_agent = http_request_header(request, "User-Agent"), *bearer;
        int fds[2], buffer = SEND_BUFFER, r;

        r = admit(all, request, &t->caller, reterr);
        if (r < 0)
                return r;
        r = http_request_bearer(request, &bearer);
        if (r <= 0) /* admit() has read it */
                return r < 0 ? r : -EBADMSG;
        t->bearer = strdup(bearer);
        t->address = strdup(http_request_address(request));
        t->user = strdup(all->access->user(t->caller));
        if (!t->bearer || !t->address || !t->user || free_and_strdup(&t->user_agent, user_agent) < 0)
                return -ENOMEM;
        r = sd_event_add_defer(all->master->event, &t->end, on_end, t);
        if (r >= 0)
                r = sd_event_source_set_enabled(t->end, SD_EVENT_OFF);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return -errno;
        (void) setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
        r = bus_pump_new_consume(all->master->event, fds[1], &pump_handler, t, &t->pump);
        if (r < 0) {
                safe_close(fds[0]);
                return r;
        }
        return open_bus(t, fds[0]);
}

static void on_opened(HttpRequest *request, WebSocket *socket, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        BusTunnels *all = userdata;
        Tunnel *t;
        int r;

        t = new0(Tunnel, 1);
        if (!t) {
                websocket_free(socket);
                return;
        }
        t->tunnels = all;
        t->socket = socket;
        DL_APPEND(all->all, t);
        all->n++;
        r = tunnel_open(all, request, t, &error);
        if (r < 0) {
                log_debug("No tunnel for %s: %s", http_request_address(request),
                                kerror_is_set(&error) ? kerror_message(&error) : strerror(-r));
                t->code = kerror_is_set(&error) ? CLOSE_TOKEN : CLOSE_INTERNAL;
                disconnect(t);
        }
        websocket_set_patience(socket, PATIENCE_USEC);
        (void) websocket_start(socket, &socket_handler, t);
        if (r < 0)
                websocket_close(socket, t->code, kerror_is_set(&error) ? kerror_message(&error) : "");
}

/* All of them */

static int on_check(sd_event_source *source, void *userdata) {
        bus_tunnels_check(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        bus_tunnels_check(userdata);
        (void) sd_event_source_set_time_relative(source, CHECK_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* The store keeps its watches to its end, which is after ours. */
static void on_change(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Master *m = userdata;

        if (m->bus_tunnels && (kind == STORE_USER || kind == STORE_TOKEN))
                (void) sd_event_source_set_enabled(m->bus_tunnels->check, SD_EVENT_ONESHOT);
}

int bus_tunnels_new(Master *m, const BusTunnelAccess *access, BusTunnels **ret) {
        _cleanup_(bus_tunnels_freep) BusTunnels *all = NULL;
        int r;

        assert(m);
        assert(access);
        assert(ret);

        all = new0(BusTunnels, 1);
        if (!all)
                return -ENOMEM;
        all->master = m;
        all->access = access;
        r = sd_event_add_defer(m->event, &all->check, on_check, all);
        if (r >= 0)
                r = sd_event_source_set_enabled(all->check, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                m->event, &all->timer, CLOCK_MONOTONIC, CHECK_USEC, 0, on_timer, all);
        if (r >= 0)
                r = store_watch(m->store, on_change, m);
        if (r >= 0)
                r = listener_add_websocket(
                                m->listener, TUNNEL_PATH, TUNNEL_SUBPROTOCOL, on_accept, on_opened, all);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(all);
        return 0;
}

BusTunnels *bus_tunnels_free(BusTunnels *all) {
        if (!all)
                return NULL;

        while (all->all) {
                websocket_close(all->all->socket, CLOSE_GOING_AWAY, "The master stops.");
                tunnel_free(all->all);
        }
        sd_event_source_disable_unref(all->check);
        sd_event_source_disable_unref(all->timer);
        free(all);
        return NULL;
}
