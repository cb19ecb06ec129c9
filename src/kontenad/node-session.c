/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-session.h"

#include <uthash.h>
#include <utlist.h>

#include "jsonrpc.h"
#include "kontena-limits.h"
#include "listener.h"
#include "log.h"
#include "parse-util.h"
#include "string-util.h"
#include "websocket.h"

#define CHANNEL_PATH        "/v1/nodes/channel"
#define CHANNEL_SUBPROTOCOL "kontena.node.1"

#define CLOSE_GOING_AWAY    1001
#define CLOSE_MALFORMED     4000
#define CLOSE_REPLACED      4041
#define CLOSE_PROTOCOL      4050
#define CLOSE_INTERNAL      1011

struct NodeSession {
        NodeSessions *sessions;
        uint64_t id;
        char *node_id; /* NULL: not admitted, only waits for its end */
        char *address;
        bool current; /* speaks for its node */
        WebSocket *socket;
        JsonRpc *rpc;
        struct NodeSession *next, *previous;
        UT_hash_handle hh; /* by node_id, while current */
};

struct NodeSessions {
        sd_event *event;
        const NodeSessionHandler *handler;
        void *userdata;
        NodeSession *all;
        NodeSession *by_node;
        uint64_t last_id;
};

static NodeSession *session_free(NodeSession *s) {
        if (!s)
                return NULL;

        if (s->current)
                HASH_DEL(s->sessions->by_node, s);
        s->current = false;
        s->rpc = jsonrpc_free(s->rpc); /* its callbacks may look at s */
        if (s->previous)
                DL_DELETE2(s->sessions->all, s, previous, next);
        websocket_free(s->socket);
        free(s->node_id);
        free(s->address);
        free(s);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(NodeSession *, session_free);

/* JSON-RPC below, WebSocket above */

static int check_sent(NodeSession *s, int r) {
        if (r == -ENOBUFS) {
                log_debug("Node '%s' does not read what it is sent, closing its channel.", s->node_id);
                websocket_close(s->socket, CLOSE_PROTOCOL, "The node does not read what it is sent.");
        }
        return r == -EPIPE ? -ENOTCONN : r;
}

static int rpc_send(const char *text, size_t size, void *userdata) {
        NodeSession *s = userdata;

        return check_sent(s, websocket_send_text(s->socket, text, size));
}

static int rpc_method(uint64_t id, const char *method, json_object *params, void *userdata) {
        NodeSession *s = userdata;

        return s->sessions->handler->method(s, id, method, params, s->sessions->userdata);
}

static void rpc_result(jsonrpc_callback_t done, void *done_userdata, json_object *result,
                const KError *error, void *userdata) {
        ((session_result_t) done)(userdata, result, error, done_userdata);
}

static const JsonRpcHandler rpc_handler = {
        .send = rpc_send,
        .method = rpc_method,
        .result = rpc_result,
};

static void socket_message(WebSocket *w, bool binary, const char *data, size_t size, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        NodeSession *s = userdata;
        int r;

        if (!s->current) /* replaced: it may no longer speak (trap 1) */
                return;
        if (binary) {
                r = s->sessions->handler->binary
                                    ? s->sessions->handler->binary(s, data, size, s->sessions->userdata)
                                    : -EBADMSG;
                if (r < 0)
                        session_close(s, CLOSE_PROTOCOL, "A binary message was not what it may be.");
                return;
        }

        r = jsonrpc_receive(s->rpc, data, size, &error);
        if (r < 0)
                session_close(s, CLOSE_PROTOCOL, kerror_message(&error));
}

static void socket_pong(WebSocket *w, void *userdata) {
        NodeSession *s = userdata;

        if (s->current && s->sessions->handler->seen)
                s->sessions->handler->seen(s, s->sessions->userdata);
}

static void say_gone(NodeSession *s) {
        if (s->sessions->handler->gone)
                s->sessions->handler->gone(s, s->sessions->userdata);
}

static void socket_closed(WebSocket *w, int code, const char *reason, void *userdata) {
        _cleanup_(session_freep) NodeSession *s = userdata;
        NodeSessions *l = s->sessions;

        if (!s->current)
                return;

        HASH_DEL(l->by_node, s);
        s->current = false;
        jsonrpc_reset(s->rpc, K_NODE_OFFLINE, "The node's channel was closed.");
        say_gone(s);
        l->handler->closed(s, code, reason, l->userdata);
}

static const WebSocketHandler socket_handler = {
        .message = socket_message,
        .pong = socket_pong,
        .closed = socket_closed,
};

/* Opening */

static int on_accept(HttpRequest *request, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (http_request_tls(request) < 13)
                (void) kerror_set(&error, K_NOT_SUPPORTED, "The node channel needs TLS 1.3.");
        else if (http_request_peer_key(request))
                return 1;

        (void) kerror_set(&error, K_NOT_AUTHENTICATED, "The node channel needs a client certificate.");
        return http_reply_error(request, &error);
}

static bool is_machine_id(const char *s) {
        return s && strlen(s) == 32 && strspn(s, "0123456789abcdef") == 32;
}

/* 0, or the code to close with. */
static int admit(NodeSessions *l, HttpRequest *request, char **ret_node_id, KError *reterr) {
        _cleanup_strv_free_ char **labels = NULL;
        const char *time, *list;
        NodeIntroduction who = {
                .node_key = http_request_peer_key(request),
                .machine_id = http_request_header(request, "Kontena-Node-Id"),
                .name = http_request_header(request, "Kontena-Node-Name"),
                .version = http_request_header(request, "Kontena-Version"),
                .address = http_request_address(request),
        };

        if (!is_machine_id(who.machine_id) || isempty(who.name) || strlen(who.name) > 255 ||
                        !string_is_printable(who.name) || isempty(who.version) || strlen(who.version) > 64 ||
                        !string_is_printable(who.version))
                goto malformed;

        if (http_request_bearer(request, &who.secret) < 0)
                goto malformed;
        time = http_request_header(request, "Kontena-Time");
        if (time && safe_atou64(time, &who.time) < 0)
                goto malformed;
        list = http_request_header(request, "Kontena-Node-Labels");
        if (list) {
                if (!string_is_printable(list))
                        goto malformed;
                if (strv_split(list, ",", &labels) < 0) {
                        (void) kerror_set(reterr, K_INTERNAL, "Out of memory.");
                        return CLOSE_INTERNAL;
                }
                if (strv_length(labels) > LABELS_MAX) {
                        (void) kerror_set(reterr, K_LIMIT_EXCEEDED, "A node has at most %u labels.",
                                        LABELS_MAX);
                        return CLOSE_MALFORMED;
                }
                who.labels = labels;
        }

        return l->handler->admit(&who, ret_node_id, reterr, l->userdata);

malformed:
        (void) kerror_set(reterr, K_INVALID_ARGUMENT, "The node's request is malformed.");
        return CLOSE_MALFORMED;
}

static int session_new_consume(
                NodeSessions *l, WebSocket *socket, const char *address, char *node_id, NodeSession **ret) {
        _cleanup_(session_freep) NodeSession *s = NULL;
        _cleanup_(websocket_freep) WebSocket *w = socket;
        _cleanup_free_ char *id = node_id;
        int r;

        s = new0(NodeSession, 1);
        if (!s)
                return -ENOMEM;
        s->sessions = l;
        s->socket = TAKE_PTR(w);
        s->node_id = TAKE_PTR(id);
        s->id = ++l->last_id;
        s->address = strdup(address);
        if (!s->address)
                return -ENOMEM;
        r = jsonrpc_new(l->event, &rpc_handler, s, &s->rpc);
        if (r < 0)
                return r;
        r = websocket_start(s->socket, &socket_handler, s);
        if (r < 0)
                return r;

        DL_APPEND2(l->all, s, previous, next);
        *ret = TAKE_PTR(s);
        return 0;
}

/* The newer connection of a node wins; what the older one still says or how it ends no longer matters. */
static void session_replace(NodeSession *s) {
        HASH_DEL(s->sessions->by_node, s);
        s->current = false;
        jsonrpc_reset(s->rpc, K_NODE_OFFLINE, "The node's channel was replaced by a newer one.");
        say_gone(s);
        websocket_close(s->socket, CLOSE_REPLACED, "Replaced by a newer connection of this node.");
}

static void on_opened(HttpRequest *request, WebSocket *socket, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *node_id = NULL;
        NodeSessions *l = userdata;
        NodeSession *s, *old;
        int code, r;

        code = admit(l, request, &node_id, &error);
        if (code < 0)
                code = CLOSE_INTERNAL;
        r = session_new_consume(
                        l, socket, http_request_address(request), code == 0 ? TAKE_PTR(node_id) : NULL, &s);
        if (r < 0) {
                log_debug_errno(r, "No session for a node: %m");
                return;
        }
        if (code != 0) {
                websocket_close(s->socket, code, kerror_message(&error));
                return;
        }

        old = node_sessions_find(l, s->node_id);
        if (old)
                session_replace(old);
        HASH_ADD_KEYPTR(hh, l->by_node, s->node_id, strlen(s->node_id), s);
        if (!s->hh.tbl) {
                websocket_close(s->socket, CLOSE_INTERNAL, "Out of memory.");
                return;
        }
        s->current = true;
        if (l->handler->opened)
                l->handler->opened(s, l->userdata);
}

int node_sessions_new(
                sd_event *event, const NodeSessionHandler *handler, void *userdata, NodeSessions **ret) {
        NodeSessions *l;

        assert(event);
        assert(handler);
        assert(ret);

        l = new0(NodeSessions, 1);
        if (!l)
                return -ENOMEM;
        l->event = sd_event_ref(event);
        l->handler = handler;
        l->userdata = userdata;

        *ret = l;
        return 0;
}

NodeSessions *node_sessions_free(NodeSessions *l) {
        NodeSession *s, *next;

        if (!l)
                return NULL;

        DL_FOREACH_SAFE(l->all, s, next) {
                websocket_close(s->socket, CLOSE_GOING_AWAY, "The master stops.");
                session_free(s);
        }
        sd_event_unref(l->event);
        free(l);
        return NULL;
}

int node_sessions_listen(NodeSessions *l, Listener *listener) {
        return listener_add_websocket(listener, CHANNEL_PATH, CHANNEL_SUBPROTOCOL, on_accept, on_opened, l);
}

size_t node_sessions_count(NodeSessions *l) {
        return HASH_COUNT(l->by_node);
}

NodeSession *node_sessions_find(NodeSessions *l, const char *node_id) {
        NodeSession *s;

        HASH_FIND_STR(l->by_node, node_id, s);
        return s;
}

/* One session */

const char *session_node_id(NodeSession *s) {
        return s->node_id;
}

uint64_t session_id(NodeSession *s) {
        return s->id;
}

const char *session_address(NodeSession *s) {
        return s->address;
}

int session_call(NodeSession *s, const char *method, json_object *params, uint64_t timeout_usec,
                session_result_t done, void *userdata) {
        if (!s->current) {
                json_object_put(params);
                return -ENOTCONN;
        }
        return jsonrpc_call(s->rpc, method, params, timeout_usec, (jsonrpc_callback_t) done, userdata);
}

int session_notify(NodeSession *s, const char *method, json_object *params) {
        if (!s->current) {
                json_object_put(params);
                return -ENOTCONN;
        }
        return jsonrpc_notify(s->rpc, method, params);
}

int session_send_binary(NodeSession *s, const void *head, size_t head_size, const void *data, size_t size) {
        if (!s->current)
                return -ENOTCONN;
        return check_sent(s, websocket_send_binary(s->socket, head, head_size, data, size));
}

int session_reply(NodeSession *s, uint64_t id, json_object *result) {
        if (!s->current) {
                json_object_put(result);
                return -ENOTCONN;
        }
        return jsonrpc_reply(s->rpc, id, result);
}

int session_reply_error(NodeSession *s, uint64_t id, const KError *error) {
        if (!s->current)
                return -ENOTCONN;
        return jsonrpc_reply_error(s->rpc, id, error);
}

void session_close(NodeSession *s, int code, const char *reason) {
        websocket_close(s->socket, code, reason);
}
