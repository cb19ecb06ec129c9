/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "ca.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "listener.h"
#include "log.h"
#include "node-session.h"
#include "parse-util.h"
#include "string-util.h"

/* The master's end of the channel alone, for tests: channel-test-server STATE-DIRECTORY [SERVER-NAME...]. Prints "ready PORT FINGERPRINT"
 * and then one line for each thing that happens. A node is known by its key. What a node's secret begins with says what is done with it:
 * "close" and four digits: not admitted, closed with that code; anything else is admitted.
 * Methods of the node: "echo" answers its params, "never" is not answered, "close" closes with params.code, "flood" sends params.count
 * notifications of params.size bytes, "call" calls the node's "echo". */

typedef struct Server {
        sd_event *event;
        NodeSessions *sessions;
        unsigned opened;
} Server;

static void say(const char *format, ...) _printf_(1, 2);
static void say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        (void) vprintf(format, ap);
        va_end(ap);
        (void) putchar('\n');
        (void) fflush(stdout);
}

static int on_admit(const NodeIntroduction *who, char **ret_node_id, KError *reterr, void *userdata) {
        const char *code = who->secret ? startswith(who->secret, "close") : NULL;
        unsigned n = 0;

        if (code) {
                for (size_t i = 0; i < 4 && code[i] >= 'a' && code[i] <= 'j'; i++)
                        n = n * 10 + (unsigned) (code[i] - 'a');
                (void) kerror_set(reterr, K_ACCESS_DENIED, "Refused with code %u.", n);
                say("refuse %u %s", n, who->name);
                return (int) n;
        }

        *ret_node_id = strndup(who->node_key, 16);
        say("admit %s %s secret=%s version=%s labels=%zu", *ret_node_id, who->name, strna(who->secret),
                        who->version, strv_length(who->labels));
        return *ret_node_id ? 0 : -ENOMEM;
}

static void on_opened(NodeSession *s, void *userdata) {
        Server *server = userdata;

        server->opened++;
        say("opened %s %llu n=%zu", session_node_id(s), (unsigned long long) session_id(s),
                        node_sessions_count(server->sessions));
}

static void on_seen(NodeSession *s, void *userdata) {
        say("seen %s", session_node_id(s));
}

static void on_closed(NodeSession *s, int code, const char *reason, void *userdata) {
        Server *server = userdata;

        say("closed %s %llu %i n=%zu %s", session_node_id(s), (unsigned long long) session_id(s), code,
                        node_sessions_count(server->sessions), reason);
}

static void on_echoed(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        say("answer %s %s", session_node_id(s), error ? kerror_message(error) : json_text(result));
}

static int flood(NodeSession *s, json_object *params) {
        _cleanup_free_ char *data = NULL;
        uint64_t count = 0, size = 0;
        int r;

        if (json_get_u64(params, "count", &count, NULL) < 0 || json_get_u64(params, "size", &size, NULL) < 0)
                return -EINVAL;
        data = malloc(size + 1);
        if (!data)
                return -ENOMEM;
        memset(data, 'x', size);
        data[size] = '\0';

        for (uint64_t i = 0; i < count; i++) {
                json_object *o = json_object_new_object();

                if (!o || json_add_string(o, "data", data) < 0)
                        return -ENOMEM;
                r = session_notify(s, "flooded", o);
                if (r < 0) {
                        say("flood %llu %s", (unsigned long long) i, strerror(-r));
                        return 0;
                }
        }
        return 0;
}

static int on_method(NodeSession *s, uint64_t id, const char *method, json_object *params, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint64_t code = 0;

        if (streq(method, "echo"))
                return id > 0 ? session_reply(s, id, json_object_get(params)) : 0;
        if (streq(method, "never"))
                return 0;
        if (streq(method, "close")) {
                if (json_get_u64(params, "code", &code, NULL) < 0)
                        return -EINVAL;
                session_close(s, (int) code, "As you wish.");
                return 0;
        }
        if (streq(method, "flood"))
                return flood(s, params);
        if (streq(method, "call"))
                return session_call(s, "echo", json_object_get(params), 0, on_echoed, NULL);
        if (streq(method, "break"))
                return -EPROTO;
        (void) kerror_set(&error, K_NO_SUCH_OPERATION, "No method '%s'.", method);
        return id > 0 ? session_reply_error(s, id, &error) : 0;
}

static const NodeSessionHandler handler = {
        .admit = on_admit,
        .opened = on_opened,
        .method = on_method,
        .seen = on_seen,
        .closed = on_closed,
};

static int on_ping(HttpRequest *request, void *userdata) {
        return http_reply(request, 200, "text/plain", "pong\n", 5);
}

static int on_echo(HttpRequest *request, void *userdata) {
        const char *body;
        size_t size;

        body = http_request_body(request, &size);
        return http_reply(request, 200, strempty(http_request_header(request, "Content-Type")), body, size);
}

static int on_segment(HttpRequest *request, void *userdata) {
        json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "a", http_request_segment(request, "a")) < 0 ||
                        json_add_string(o, "b", http_request_segment(request, "b")) < 0 ||
                        json_add_string(o, "q", http_request_query(request, "q")) < 0 ||
                        json_add_bool(o, "key", http_request_peer_key(request)) < 0)
                return -ENOMEM;
        return http_reply_json(request, 200, o);
}

static int on_later_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) http_reply(userdata, 200, "text/plain", "later\n", 6);
        sd_event_source_disable_unref(source);
        return 0;
}

static int on_later(HttpRequest *request, void *userdata) {
        Server *server = userdata;
        sd_event_source *timer;

        return sd_event_add_time_relative(server->event, &timer, CLOCK_MONOTONIC, 100 * USEC_PER_MSEC, 0,
                        on_later_timer, request);
}

static int on_forever(HttpRequest *request, void *userdata) {
        say("forever");
        return 0;
}

static int on_broken(HttpRequest *request, void *userdata) {
        return -EIO;
}

static int add_routes(Listener *l, Server *server) {
        static const struct {
                const char *method, *pattern;
                http_handler_t handler;
        } table[] = {
                { "GET", "/v1/ping", on_ping },
                { "POST", "/v1/echo", on_echo },
                { "GET", "/v1/a/:a/b/:b", on_segment },
                { "GET", "/v1/later", on_later },
                { "GET", "/v1/forever", on_forever },
                { "GET", "/v1/broken", on_broken },
        };
        int r;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                r = listener_add_route(l, t->method, t->pattern, t->handler, server);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int run(int argc, char *argv[], KError *reterr) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(keyring_freep) Keyring *keyring = NULL;
        _cleanup_(ca_freep) Ca *ca = NULL;
        _cleanup_(listener_freep) Listener *listener = NULL;
        _cleanup_(node_sessions_freep) NodeSessions *sessions = NULL;
        struct rlimit limit;
        Server server = {};
        sigset_t mask;
        int r;

        if (getrlimit(RLIMIT_NOFILE, &limit) >= 0) {
                limit.rlim_cur = limit.rlim_max;
                (void) setrlimit(RLIMIT_NOFILE, &limit);
        }
        r = sd_event_new(&event);
        if (r < 0)
                return r;
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
        r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r < 0)
                return r;

        r = keyring_new(argv[1], &keyring, reterr);
        if (r < 0)
                return r;
        r = ca_new(event, keyring,
                        &(CaConfig){
                                        .state_directory = argv[1],
                                        .server_names = argv + 2,
                                        .certificate = getenv("TEST_CERTIFICATE"),
                                        .private_key = getenv("TEST_PRIVATE_KEY"),
                        },
                        &ca, reterr);
        if (r < 0)
                return r;
        r = listener_new(event, ca, &(ListenerConfig){ .fd = -EBADF, .address = "127.0.0.1" }, &listener,
                        reterr);
        if (r < 0)
                return r;
        r = add_routes(listener, &server);
        if (r < 0)
                return r;
        r = node_sessions_new(event, &handler, &server, &sessions);
        if (r < 0)
                return r;
        server.event = event;
        server.sessions = sessions;
        r = node_sessions_listen(sessions, listener);
        if (r < 0)
                return r;

        say("ready %u %s", listener_port(listener), ca_fingerprint(ca));
        return sd_event_loop(event);
}

int main(int argc, char *argv[]) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        log_setup();
        if (argc < 2)
                return 2;
        r = run(argc, argv, &error);
        if (r < 0) {
                (void) fprintf(stderr, "%s: %s\n", kerror_message(&error), strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
