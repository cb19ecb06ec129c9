/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "certificate.h"
#include "channel-backoff.h"
#include "file-util.h"
#include "join-token.h"
#include "join.h"
#include "json-util.h"
#include "jsonrpc.h"
#include "kontena-limits.h"
#include "log.h"
#include "parse-util.h"
#include "string-util.h"
#include "upgrade.h"

/* Many nodes in one process, for ./lab bench --load: load-nodes ADDRESS PORT NAME COUNT, the grid's token on standard input. Each has a
 * key, a TLS connection and a WebSocket of its own and speaks as doc/node-channel.md says, but runs nothing: what is wanted to run is
 * told to run at once. Who loses its connection comes back as a node does. Prints a line of JSON whenever something changed. */

#define SUBPROTOCOL   "kontena.node.1"
#define HEAD_SIZE_MAX UPGRADE_HEAD_SIZE_MAX
#define REPORT_USEC   (60 * USEC_PER_SEC)
#define GIVE_UP_USEC  (30 * USEC_PER_SEC) /* connection, TLS and upgrade */
#define STABLE_USEC   (10 * USEC_PER_SEC)
#define PRINT_USEC    (20 * USEC_PER_MSEC)
#define HELLO_USEC    (60 * USEC_PER_SEC)

typedef enum Phase {
        PHASE_WAITING,
        PHASE_CONNECTING,
        PHASE_TLS,
        PHASE_UPGRADE,
        PHASE_OPEN,
        PHASE_READY
} Phase;

typedef struct Load Load;

typedef struct Node {
        Load *load;
        char *name, machine_id[33];
        unsigned index, attempt;
        gnutls_certificate_credentials_t credentials;
        bool known; /* the master knows the key: no token is sent */
        Phase phase;
        uint64_t ready_at;

        int fd;
        gnutls_session_t tls;
        sd_event_source *io, *timer, *end;
        wslay_event_context_ptr ws;
        JsonRpc *rpc;
        char *key, *request;
        size_t request_size, request_sent;
        char head[HEAD_SIZE_MAX];
        size_t head_size, head_used;

        json_object *statuses; /* by id of the instance */
        uint64_t epoch, seq;
} Node;

struct Load {
        sd_event *event;
        sd_event_source *print;
        gnutls_priority_t priority;
        struct sockaddr_in master;
        char *authority, *ca;
        JoinToken token;
        Node *nodes;
        unsigned n_nodes, n_ready, n_running;
        uint64_t n_refused, n_lost, n_bytes;
        char last[256]; /* why the last connection ended */
};

static void node_start(Node *n);

static int on_print(sd_event_source *source, uint64_t usec, void *userdata) {
        Load *l = userdata;

        (void) printf("{\"time\": %" PRIu64 ", \"ready\": %u, \"running\": %u, \"lost\": %" PRIu64
                      ", \"refused\": %" PRIu64 ", \"received\": %" PRIu64 "}\n",
                        now_realtime(), l->n_ready, l->n_running, l->n_lost, l->n_refused, l->n_bytes);
        (void) fflush(stdout);
        return 0;
}

static void changed(Load *l) {
        int enabled;

        if (sd_event_source_get_enabled(l->print, &enabled) >= 0 && enabled != SD_EVENT_OFF)
                return;
        (void) sd_event_source_set_time_relative(l->print, PRINT_USEC);
        (void) sd_event_source_set_enabled(l->print, SD_EVENT_ONESHOT);
}

static void arm(Node *n, uint64_t usec) {
        (void) sd_event_source_set_time_relative(n->timer, usec);
        (void) sd_event_source_set_enabled(n->timer, SD_EVENT_ONESHOT);
}

static uint64_t random_u64(void) {
        uint64_t x = 0;

        (void) getrandom(&x, sizeof(x), 0);
        return x;
}

/* The connection */

static void disconnect(Node *n) {
        n->io = sd_event_source_disable_unref(n->io);
        (void) sd_event_source_set_enabled(n->end, SD_EVENT_OFF);
        if (n->phase == PHASE_READY) {
                n->load->n_ready--;
                n->load->n_lost++;
                changed(n->load);
        }
        n->phase = PHASE_WAITING;
        n->rpc = jsonrpc_free(n->rpc);
        if (n->ws)
                wslay_event_context_free(n->ws);
        n->ws = NULL;
        if (n->tls)
                gnutls_deinit(n->tls);
        n->tls = NULL;
        n->fd = safe_close(n->fd);
        n->key = mfree(n->key);
        n->request = mfree(n->request);
        n->head_size = n->head_used = 0;
}

static void fail(Node *n, const char *why) {
        if (n->phase == PHASE_WAITING)
                return;
        if (n->phase == PHASE_READY && n->ready_at + STABLE_USEC < now_monotonic())
                n->attempt = 0;
        if (n->phase < PHASE_READY)
                n->load->n_refused++;
        (void) fprintf(stderr, "%s: %s\n", n->name, why);
        disconnect(n);
        arm(n, channel_backoff(n->attempt++, random_u64()));
}

/* Not from inside of a callback of wslay. */
static int on_end(sd_event_source *source, void *userdata) {
        fail(userdata, "the connection ended");
        return 0;
}

static void end_soon(Node *n) {
        (void) sd_event_source_set_enabled(n->end, SD_EVENT_ONESHOT);
}

static void update(Node *n) {
        uint32_t events = 0;

        if (wslay_event_want_read(n->ws))
                events |= EPOLLIN;
        if (wslay_event_want_write(n->ws))
                events |= EPOLLOUT;
        if (events == 0)
                end_soon(n);
        else
                (void) sd_event_source_set_io_events(n->io, events);
}

static ssize_t cb_recv(wslay_event_context_ptr ws, uint8_t *data, size_t size, int flags, void *userdata) {
        Node *n = userdata;
        ssize_t k;

        if (n->head_used < n->head_size) {
                k = (ssize_t) MIN(size, n->head_size - n->head_used);
                memcpy(data, n->head + n->head_used, (size_t) k);
                n->head_used += (size_t) k;
                return k;
        }
        k = gnutls_record_recv(n->tls, data, size);
        if (k > 0) {
                n->load->n_bytes += (uint64_t) k;
                return k;
        }
        wslay_event_set_error(ws, k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED
                                                  ? WSLAY_ERR_WOULDBLOCK
                                                  : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static ssize_t cb_send(
                wslay_event_context_ptr ws, const uint8_t *data, size_t size, int flags, void *userdata) {
        Node *n = userdata;
        ssize_t k;

        k = gnutls_record_send(n->tls, data, size);
        if (k >= 0)
                return k;
        wslay_event_set_error(ws, k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED
                                                  ? WSLAY_ERR_WOULDBLOCK
                                                  : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static int cb_mask(wslay_event_context_ptr ws, uint8_t *data, size_t size, void *userdata) {
        return getrandom(data, size, 0) == (ssize_t) size ? 0 : -1;
}

static void cb_message(
                wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *arg, void *userdata) {
        Node *n = userdata;

        if (arg->opcode == WSLAY_TEXT_FRAME && n->rpc) {
                if (jsonrpc_receive(n->rpc, (const char *) arg->msg, arg->msg_length, NULL) < 0)
                        end_soon(n);
        } else if (arg->opcode == WSLAY_CONNECTION_CLOSE) {
                (void) fprintf(stderr, "%s: closed with %u %.*s\n", n->name, arg->status_code,
                                arg->msg_length > 2 ? (int) arg->msg_length - 2 : 0,
                                (const char *) arg->msg + 2);
                end_soon(n);
        }
}

static const struct wslay_event_callbacks callbacks = {
        .recv_callback = cb_recv,
        .send_callback = cb_send,
        .genmask_callback = cb_mask,
        .on_msg_recv_callback = cb_message,
};

static int rpc_send(const char *text, size_t size, void *userdata) {
        struct wslay_event_msg m = {
                .opcode = WSLAY_TEXT_FRAME, .msg = (const uint8_t *) text, .msg_length = size
        };
        Node *n = userdata;

        if (wslay_event_queue_msg(n->ws, &m) != 0)
                return -ENOTCONN;
        (void) sd_event_source_set_io_events(n->io, EPOLLIN | EPOLLOUT);
        return 0;
}

/* What a node says */

static int make_report(const Node *n, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        uint64_t x = random_u64() % 1000;
        unsigned a = n->index / 250, b = n->index % 250 + 1;
        int r;

        text = strprintf("{\"os\": \"Debian GNU/Linux 12 (bookworm)\", \"kernel\": \"6.1.0-18-amd64\", "
                         "\"architecture\": \"x86-64\", "
                         "\"systemd\": \"252\", \"version\": \"" KONTENA_VERSION
                         "\", \"cpus\": 8, \"memory\": "
                         "{\"total\": 16777216000, \"free\": %" PRIu64
                         ", \"cached\": 2147483648, \"buffers\": 104857600, \"available\": 12884901888}, "
                         "\"disk\": {\"total\": "
                         "107374182400, \"free\": %" PRIu64
                         "}, \"load\": [0.%03u, 0.2, 0.1], \"private_address\": \"192.168.%u.%u\", "
                         "\"public_address\": "
                         "\"192.168.%u.%u\", \"mtu\": 1500, \"addresses\": [\"192.168.%u.%u/16\"], "
                         "\"routes\": [\"192.168.0.0/16\"], "
                         "\"runtime\": {\"name\": \"crun\", \"version\": \"1.8.1\"}, \"boot_id\": \"%s\", "
                         "\"volume_drivers\": "
                         "[\"local\"], \"runtimes\": [\"oci\"], \"wireguard\": \"none\"}",
                        4294967296 + x * 4096, 53687091200 + x * 4096, (unsigned) x, a, b, a, b, a, b,
                        n->machine_id);
        if (!text)
                return -ENOMEM;
        r = json_parse(text, strlen(text), REPORT_SIZE_MAX, &o, NULL);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static bool is_running(json_object *status) {
        const char *state = NULL;

        return json_find_string(status, "state", &state, NULL) > 0 && streq(state, "running");
}

static void forget(Node *n, const char *id) {
        json_object *old = NULL;

        if (!json_object_object_get_ex(n->statuses, id, &old))
                return;
        if (is_running(old))
                n->load->n_running--;
        json_object_object_del(n->statuses, id);
        changed(n->load);
}

/* Remembers and appends the status that follows from what is wanted, if it is another one than before. */
static int obey(Node *n, const char *id, json_object *instance, json_object *ret_changed) {
        _cleanup_json_ json_object *status = NULL;
        const char *desired, *state;
        uint64_t deploy_rev = 0, service_rev = 0, known_rev = 0;
        json_object *old = NULL;
        int r;

        r = json_get_string(instance, "desired", &desired, NULL);
        if (r < 0)
                return r;
        (void) json_find_u64(instance, "deploy_rev", &deploy_rev, NULL);
        (void) json_find_u64(instance, "service_rev", &service_rev, NULL);
        state = streq(desired, "running") ? "running" : streq(desired, "stopped") ? "stopped" : "removed";
        if (json_object_object_get_ex(n->statuses, id, &old) && is_running(old) == streq(state, "running") &&
                        json_find_u64(old, "deploy_rev", &known_rev, NULL) > 0 && known_rev == deploy_rev)
                return 0;

        forget(n, id);
        status = json_object_new_object();
        if (!status)
                return -ENOMEM;
        if ((r = json_add_string(status, "id", id)) < 0 ||
                        (r = json_add_u64(status, "deploy_rev", deploy_rev)) < 0 ||
                        (r = json_add_u64(status, "service_rev", service_rev)) < 0 ||
                        (r = json_add_string(status, "state", state)) < 0 ||
                        (r = json_add_string(status, "unit", "kontena-load-null.service")) < 0 ||
                        (r = json_add_u64(status, "pid", streq(state, "running") ? 4242 : 0)) < 0 ||
                        (r = json_add_u64(status, "restarts", 0)) < 0 ||
                        (r = json_add_u64(status, "oom_kills", 0)) < 0 ||
                        (r = json_add_u64(status, "started_at", now_realtime())) < 0 ||
                        (r = json_add_string(status, "health", "unknown")) < 0 ||
                        (r = json_add_u64(status, "epoch", 1)) < 0)
                return r;
        if (!streq(state, "removed")) {
                r = json_add(n->statuses, id, json_object_get(status));
                if (r < 0)
                        return r;
        }
        if (streq(state, "running"))
                n->load->n_running++;
        changed(n->load);
        return json_append(ret_changed, TAKE_PTR(status));
}

static int say_statuses(Node *n, json_object *statuses) {
        json_object *params;

        if (json_object_array_length(statuses) == 0)
                return 0;
        params = json_object_new_object();
        if (!params)
                return -ENOMEM;
        (void) json_add(params, "instances", json_object_get(statuses));
        return jsonrpc_notify(n->rpc, "instances.status", params);
}

static int take_instances(Node *n, json_object *instances) {
        _cleanup_json_ json_object *list = json_object_new_array();
        int r;

        if (!list)
                return -ENOMEM;
        if (instances) {
                json_object_object_foreach(instances, id, instance) {
                        r = obey(n, id, instance, list);
                        if (r < 0)
                                return r;
                }
        }
        return say_statuses(n, list);
}

/* What is not among them goes. */
static int take_whole(Node *n, json_object *answer) {
        _cleanup_json_ json_object *gone = json_object_new_array();
        json_object *desired, *instances;
        int r;

        if (!gone)
                return -ENOMEM;
        if ((r = json_get_object(answer, "desired", &desired, NULL)) < 0 ||
                        (r = json_get_object(desired, "instances", &instances, NULL)) < 0 ||
                        (r = json_get_u64(answer, "epoch", &n->epoch, NULL)) < 0)
                return r;
        n->seq = 0;
        json_object_object_foreach(n->statuses, id, status) {
                if (status && !json_object_object_get_ex(instances, id, NULL))
                        (void) json_append_string(gone, id);
        }
        FOREACH_JSON_ARRAY(e, gone)
                forget(n, json_object_get_string(e));
        return take_instances(n, instances);
}

static int take_update(Node *n, json_object *params) {
        json_object *set = NULL, *instances = NULL, *removed = NULL, *ids = NULL;
        uint64_t epoch, seq;
        int r;

        if ((r = json_get_u64(params, "epoch", &epoch, NULL)) < 0 ||
                        (r = json_get_u64(params, "seq", &seq, NULL)) < 0 ||
                        (r = json_find_object(params, "set", &set, NULL)) < 0 ||
                        (r = json_find_object(params, "remove", &removed, NULL)) < 0)
                return r;
        if (epoch != n->epoch)
                return 0;
        if (seq != ++n->seq)
                return -EBADMSG; /* on one connection no difference is lost */
        if (removed && json_find_array(removed, "instances", &ids, NULL) > 0)
                FOREACH_JSON_ARRAY(e, ids)
                        forget(n, json_object_get_string(e));
        if (set)
                (void) json_find_object(set, "instances", &instances, NULL);
        return take_instances(n, instances);
}

static int rpc_method(uint64_t id, const char *method, json_object *params, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Node *n = userdata;

        if (id == 0) {
                if (n->phase != PHASE_READY)
                        return 0;
                if (streq(method, "desired.replace"))
                        return take_whole(n, params);
                if (streq(method, "desired.update"))
                        return take_update(n, params);
                return 0;
        }
        if (streq(method, "image.resolve")) {
                json_object *o = json_object_new_object();

                if (!o)
                        return -ENOMEM;
                (void) json_add_string(o, "digest",
                                "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
                (void) json_add_bool(o, "stale", false);
                (void) json_add_string(o, "note", "");
                return jsonrpc_reply(n->rpc, id, o);
        }
        (void) kerror_set(&error, K_NOT_SUPPORTED, "A simulated node does nothing.");
        return jsonrpc_reply_error(n->rpc, id, &error);
}

static void rpc_result(jsonrpc_callback_t done, void *done_userdata, json_object *result,
                const KError *error, void *userdata) {
        Node *n = userdata;

        if (n->phase != PHASE_OPEN)
                return;
        if (error) {
                (void) fprintf(stderr, "%s: node.hello: %s\n", n->name, kerror_message(error));
                end_soon(n);
                return;
        }
        n->phase = PHASE_READY;
        n->known = true;
        n->ready_at = now_monotonic();
        n->load->n_ready++;
        changed(n->load);
        arm(n, random_u64() % REPORT_USEC);
        if (take_whole(n, result) < 0)
                end_soon(n);
}

static const JsonRpcHandler rpc_handler = {
        .send = rpc_send,
        .method = rpc_method,
        .result = rpc_result,
};

static void nothing_done(void) {
}

static int say_hello(Node *n) {
        json_object *params, *list = NULL, *report;
        int r;

        r = make_report(n, &report);
        if (r < 0)
                return r;
        params = json_object_new_object();
        if (params)
                list = json_object_new_array();
        if (!list)
                return -ENOMEM;
        json_object_object_foreach(n->statuses, id, status) {
                (void) id;
                (void) json_append(list, json_object_get(status));
        }
        (void) json_add(params, "report", report);
        (void) json_add_u64(params, "epoch", n->epoch);
        (void) json_add(params, "instances", list);
        (void) json_add(params, "volumes", json_object_new_object());
        return jsonrpc_call(n->rpc, "node.hello", params, HELLO_USEC, nothing_done, NULL);
}

/* Becoming a channel */

static int on_open(Node *n) {
        int r;

        if (wslay_event_context_client_init(&n->ws, &callbacks, n) != 0)
                return -ENOMEM;
        wslay_event_config_set_max_recv_msg_length(n->ws, FRAME_SIZE_MAX);
        r = jsonrpc_new(n->load->event, &rpc_handler, n, &n->rpc);
        if (r < 0)
                return r;
        n->phase = PHASE_OPEN;
        arm(n, HELLO_USEC);
        return say_hello(n);
}

static int make_request(Node *n) {
        _cleanup_json_ json_object *headers = json_object_new_object();
        _cleanup_free_ char *bearer = NULL, *time = NULL;
        int r;

        time = strprintf("%" PRIu64, now_realtime());
        bearer = strjoin("Bearer ", n->load->token.secret);
        if (!headers || !time || !bearer)
                return -ENOMEM;
        if ((!n->known && (r = json_add_string(headers, "Authorization", bearer)) < 0) ||
                        (r = json_add_string(headers, "Kontena-Node-Id", n->machine_id)) < 0 ||
                        (r = json_add_string(headers, "Kontena-Node-Name", n->name)) < 0 ||
                        (r = json_add_string(headers, "Kontena-Version", KONTENA_VERSION)) < 0 ||
                        (r = json_add_string(headers, "Kontena-Time", time)) < 0 ||
                        (r = upgrade_key_new(&n->key)) < 0)
                return r;
        r = upgrade_request(n->load->authority, JOIN_CHANNEL_PATH, SUBPROTOCOL, n->key, headers, &n->request,
                        NULL);
        if (r < 0)
                return r;
        n->request_size = strlen(n->request);
        n->request_sent = 0;
        return 0;
}

/* -EAGAIN: later; 0: the channel is open. */
static int step_upgrade(Node *n) {
        ssize_t k;
        int r;

        while (n->request_sent < n->request_size) {
                k = gnutls_record_send(
                                n->tls, n->request + n->request_sent, n->request_size - n->request_sent);
                if (k < 0)
                        return k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED ? -EAGAIN : -ECONNRESET;
                n->request_sent += (size_t) k;
        }
        (void) sd_event_source_set_io_events(n->io, EPOLLIN);
        for (;;) {
                k = gnutls_record_recv(n->tls, n->head + n->head_size, sizeof(n->head) - n->head_size);
                if (k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED)
                        return -EAGAIN;
                if (k <= 0)
                        return -ECONNRESET;
                n->head_size += (size_t) k;
                r = upgrade_check_response(n->head, n->head_size, SUBPROTOCOL, n->key, NULL);
                if (r < 0)
                        return r;
                if (r > 0) {
                        n->head_used = (size_t) r;
                        return on_open(n);
                }
        }
}

static int step_tls(Node *n) {
        int r;

        r = gnutls_handshake(n->tls);
        if (r == GNUTLS_E_SUCCESS) {
                n->phase = PHASE_UPGRADE;
                return make_request(n);
        }
        if (gnutls_error_is_fatal(r)) {
                (void) fprintf(stderr, "%s: %s\n", n->name, gnutls_strerror(r));
                return -ECONNRESET;
        }
        (void) sd_event_source_set_io_events(
                        n->io, gnutls_record_get_direction(n->tls) == 0 ? EPOLLIN : EPOLLOUT);
        return -EAGAIN;
}

static int step(Node *n, uint32_t revents) {
        int error = 0, r = 0;

        if (n->phase == PHASE_CONNECTING) {
                socklen_t size = sizeof(error);

                if (getsockopt(n->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)
                        return error != 0 ? -error : -EIO;
                n->phase = PHASE_TLS;
        }
        if (n->phase == PHASE_TLS)
                r = step_tls(n);
        if (r == 0 && n->phase == PHASE_UPGRADE)
                r = step_upgrade(n);
        if (r < 0)
                return r;

        if (wslay_event_want_write(n->ws) && wslay_event_send(n->ws) != 0)
                return -ECONNRESET;
        r = wslay_event_want_read(n->ws) ? wslay_event_recv(n->ws) : 0;
        if (r != 0)
                return -ECONNRESET;
        update(n);
        return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Node *n = userdata;
        int r;

        r = step(n, revents);
        if (r < 0 && r != -EAGAIN)
                fail(n, strerror(-r));
        return 0;
}

static int connect_node(Node *n) {
        int one = 1, r;

        n->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (n->fd < 0)
                return -errno;
        (void) setsockopt(n->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (connect(n->fd, (struct sockaddr *) &n->load->master, sizeof(n->load->master)) < 0 &&
                        errno != EINPROGRESS)
                return -errno;
        if (gnutls_init(&n->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0 ||
                        gnutls_priority_set(n->tls, n->load->priority) < 0 ||
                        gnutls_credentials_set(n->tls, GNUTLS_CRD_CERTIFICATE, n->credentials) < 0)
                return -ENOMEM;
        gnutls_session_set_verify_cert(n->tls, NULL, 0); /* by the CA of the token alone */
        gnutls_transport_set_int(n->tls, n->fd);
        r = sd_event_add_io(n->load->event, &n->io, n->fd, EPOLLOUT, on_io, n);
        if (r < 0)
                return r;
        return sd_event_source_set_description(n->io, n->name);
}

static void node_start(Node *n) {
        int r;

        n->phase = PHASE_CONNECTING;
        arm(n, GIVE_UP_USEC);
        r = connect_node(n);
        if (r < 0)
                fail(n, strerror(-r));
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Node *n = userdata;
        json_object *report;

        if (n->phase == PHASE_WAITING)
                node_start(n);
        else if (n->phase != PHASE_READY)
                fail(n, "no answer in time");
        else if (make_report(n, &report) >= 0) {
                if (n->ready_at + STABLE_USEC < now_monotonic())
                        n->attempt = 0;
                arm(n, REPORT_USEC);
                if (jsonrpc_notify(n->rpc, "node.report", report) < 0)
                        fail(n, "the report cannot be sent");
        }
        return 0;
}

static int node_init(Node *n, Load *l, unsigned index, const char *prefix) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t certificate = NULL;
        gnutls_datum_t ca = { (unsigned char *) l->ca, (unsigned) strlen(l->ca) };
        int r;

        n->load = l;
        n->index = index;
        n->fd = -EBADF;
        n->name = strprintf("%s-%u", prefix, index + 1);
        n->statuses = json_object_new_object();
        if (!n->name || !n->statuses)
                return -ENOMEM;
        (void) snprintf(n->machine_id, sizeof(n->machine_id), "%016" PRIx64 "%016" PRIx64, random_u64(),
                        random_u64());
        r = certificate_key_new(&key, NULL);
        if (r < 0)
                return r;
        r = certificate_node_new(key, &certificate, NULL);
        if (r < 0)
                return r;
        if (gnutls_certificate_allocate_credentials(&n->credentials) < 0 ||
                        gnutls_certificate_set_x509_key(n->credentials, &certificate, 1, key) < 0 ||
                        gnutls_certificate_set_x509_trust_mem(n->credentials, &ca, GNUTLS_X509_FMT_PEM) < 1)
                return -ENOMEM;

        r = sd_event_add_defer(l->event, &n->end, on_end, n);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(n->end, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(
                        l->event, &n->timer, CLOCK_MONOTONIC, index * USEC_PER_MSEC, 0, on_timer, n);
}

static int read_token(JoinToken *ret) {
        char text[JOIN_TOKEN_LENGTH + 3] = "";

        if (!fgets(text, sizeof(text), stdin))
                return -ENODATA;
        text[strcspn(text, "\n")] = '\0';
        return join_token_parse(text, ret, NULL);
}

static int run(Load *l, char *argv[]) {
        _cleanup_free_ char *url = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint16_t port;
        unsigned p;
        int r;

        if (safe_atou(argv[2], &p) < 0 || p > UINT16_MAX || safe_atou(argv[4], &l->n_nodes) < 0 ||
                        l->n_nodes == 0 || l->n_nodes > NODES_PER_GRID_MAX)
                return -EINVAL;
        port = (uint16_t) p;
        l->master = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
        if (inet_pton(AF_INET, argv[1], &l->master.sin_addr) != 1)
                return -EINVAL;
        r = read_token(&l->token);
        if (r < 0)
                return r;
        l->authority = strprintf("%s:%u", argv[1], port);
        url = strprintf("https://%s:%u", argv[1], port);
        if (!l->authority || !url)
                return -ENOMEM;
        r = join_fetch_ca(url, l->token.fingerprint, &l->ca, &error);
        if (r < 0) {
                (void) fprintf(stderr, "%s\n", kerror_message(&error));
                return r;
        }
        if (gnutls_priority_init(&l->priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL) < 0)
                return -ENOMEM;
        r = sd_event_new(&l->event);
        if (r >= 0)
                r = sd_event_add_time(l->event, &l->print, CLOCK_MONOTONIC, 0, 0, on_print, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->print, SD_EVENT_OFF);
        if (r < 0)
                return r;
        l->nodes = new0(Node, l->n_nodes);
        if (!l->nodes)
                return -ENOMEM;
        for (unsigned i = 0; i < l->n_nodes; i++) {
                r = node_init(&l->nodes[i], l, i, argv[3]);
                if (r < 0)
                        return r;
        }
        return sd_event_loop(l->event);
}

int main(int argc, char *argv[]) {
        struct rlimit limit;
        Load l = {};
        int r;

        log_setup();
        if (argc != 5) {
                (void) fprintf(stderr,
                                "load-nodes ADDRESS PORT NAME COUNT, a grid's token on standard input\n");
                return 2;
        }
        if (getrlimit(RLIMIT_NOFILE, &limit) >= 0) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit);
        }

        r = run(&l, argv);
        if (r < 0) {
                (void) fprintf(stderr, "load-nodes: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
