/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>

#include "bus-face.h"
#include "bus-tunnel.h"
#include "ca.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "listener.h"
#include "operation.h"
#include "settings.h"
#include "store.h"
#include "string-util.h"
#include "test-master.h"

/* A master that listens and has no bus; guests come through kontena-bridge. Who has the token "alice" sees grid a, "bob" b, "root" all. */

#define WAIT_USEC   (120U * USEC_PER_SEC)
#define STALLED_MAX (200U * USEC_PER_MSEC)
#define MASTER      "/io/kontena/Master1"
#define MANAGER     "io.kontena.Master1.Manager"

extern char **environ;
static const char *revoked = "";

typedef struct Bench {
        Master m;
        char *directory, *url;
        Caller *internal;
} Bench;

typedef struct Guest {
        pid_t pid;
        int fd, out;
        char said[4096]; /* what the bridge has said */
        size_t said_size;
        sd_bus *bus;
        unsigned answers, added, removed, events;
        sd_bus_message *reply;
        char last_event_grid[64];
} Guest;

#define BEGIN "\0AUTH ANONYMOUS 78\r\nBEGIN\r\n"

/* Callers */

typedef struct FakeCaller {
        Caller base;
        sd_event_source *defer;
        KError error;
        authorize_done_t done;
        void *userdata;
        sd_event *event;
} FakeCaller;

static int on_authorized(sd_event_source *s, void *userdata) {
        FakeCaller *c = userdata;

        c->defer = sd_event_source_disable_unref(c->defer);
        c->done(kerror_is_set(&c->error) ? &c->error : NULL, c->userdata);
        return 0;
}

static bool may(const char *name, const char *grid) {
        return streq(name, "root") || streq(name, streq_ptr(grid, "aaa")       ? "alice"
                                                      : streq_ptr(grid, "bbb") ? "bob"
                                                                               : "");
}

static int authorize(Caller *caller, const AuthorizationRequest *q, authorize_done_t done, void *userdata) {
        FakeCaller *c = (FakeCaller *) caller;

        c->done = done;
        c->userdata = userdata;
        kerror_done(&c->error);
        if (!may(caller->name, q->grid))
                (void) kerror_set(&c->error, K_ACCESS_DENIED, "Not yours.");
        return sd_event_add_defer(c->event, &c->defer, on_authorized, c);
}

static void fake_free(Caller *caller) {
        FakeCaller *c = (FakeCaller *) caller;

        sd_event_source_disable_unref(c->defer);
        kerror_done(&c->error);
}

static int fake_new(Master *m, const char *bearer, const char *address, const char *user_agent, Caller **ret,
                KError *reterr) {
        static const CallerVTable vtable = { .kind = "token", .authorize = authorize, .free = fake_free };
        FakeCaller *c;

        if (!STR_IN_SET(bearer, "alice", "bob", "root", "nobody") || streq(bearer, revoked))
                return kerror_set(reterr, K_ACCESS_DENIED, "Invalid token");
        ASSERT_STREQ(address, "127.0.0.1");
        ASSERT_TRUE(startswith(user_agent, "kontenactl/") != NULL);
        c = new0(FakeCaller, 1);
        c->base = (Caller){ .n_ref = 1, .vtable = &vtable, .uid = (uid_t) -1 };
        c->base.name = strdup(bearer);
        c->base.address = strdup(address);
        c->event = m->event;
        *ret = &c->base;
        return 0;
}

static const char *fake_user(const Caller *c) {
        return streq(c->name, "nobody") ? NULL : c->name;
}

static bool fake_sees(Master *m, const Caller *c, const char *grid_id) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;

        return streq(c->name, "root") ||
               (grid_id && store_get_grid(m->store, grid_id, &g) >= 0 && may(c->name, g->name));
}

static const BusTunnelAccess fake = {
        .new_caller = fake_new, .user = fake_user, .sees = fake_sees, .stalled_max_usec = STALLED_MAX
};

/* The master */

static void on_done(json_object *result, const KError *error, void *userdata) {
        if (error)
                fail_msg("%s", kerror_message(error));
}

static void call(Bench *b, const char *name, const char *params) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 65536, &o, NULL));
        operation_call(&b->m, b->internal, operation_find(name), o, false, on_done, b);
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);
        KError e = KERROR_NULL;

        (void) signal(SIGPIPE, SIG_IGN);
        revoked = "";
        b->directory = test_master_open(&b->m);
        test_master_make_ca(&b->m, b->directory);
        ASSERT_OK(listener_new(b->m.event, b->m.ca,
                        &(ListenerConfig){ .fd = -EBADF, .address = "127.0.0.1" }, &b->m.listener, &e));
        ASSERT_OK(bus_face_new(&b->m, &b->m.bus_face, &e));
        ASSERT_OK(bus_tunnels_new(&b->m, &fake, &b->m.bus_tunnels));
        ASSERT_OK(caller_new_internal("test", &b->internal));
        b->url = strprintf("https://127.0.0.1:%u", listener_port(b->m.listener));
        call(b, "grid.create", "{\"name\":\"aaa\",\"settings\":{}}");
        call(b, "grid.create", "{\"name\":\"bbb\",\"settings\":{}}");
        call(b, "service.create",
                        "{\"grid\":\"aaa\",\"stack\":\"null\",\"name\":\"web\",\"spec\":{\"image\":"
                        "\"busybox\"}}");
        call(b, "service.create",
                        "{\"grid\":\"bbb\",\"stack\":\"null\",\"name\":\"web\",\"spec\":{\"image\":"
                        "\"nginx\"}"
                        "}");
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        b->m.bus_tunnels = bus_tunnels_free(b->m.bus_tunnels);
        operations_abort(&b->m);
        b->m.bus_face = bus_face_free(b->m.bus_face);
        listener_free(b->m.listener);
        caller_unref(b->internal);
        test_master_close(&b->m, b->directory);
        free(b->url);
        free(b);
        return 0;
}

#define WAIT(b, condition)                                                                                  \
        do {                                                                                                \
                uint64_t _end_ = now_monotonic() + WAIT_USEC;                                               \
                while (!(condition)) {                                                                      \
                        ASSERT_OK(sd_event_run((b)->m.event, 2000));                                        \
                        if (now_monotonic() > _end_)                                                        \
                                fail_msg("%s:%i: %s does not come true", __FILE__, __LINE__, #condition);   \
                }                                                                                           \
        } while (false)

/* Guests */

static bool hear(Guest *g) {
        ssize_t n = read(g->out, g->said + g->said_size, sizeof(g->said) - 1 - g->said_size);

        if (n > 0)
                g->said_size += (size_t) n;
        g->said[g->said_size] = '\0';
        return strchr(g->said, '\n');
}

static bool says(Guest *g, const char *text) {
        (void) hear(g);
        return strstr(g->said, text);
}

static void guest_start(Bench *b, Guest *g, const char *token) {
        const char *const argv[] = { KONTENA_BRIDGE, "--tunnel", NULL };
        _cleanup_json_ json_object *o = json_object_new_object();
        int in[2], out[2], bus[2];
        posix_spawn_file_actions_t actions;

        *g = (Guest){};
        ASSERT_OK(pipe2(in, O_CLOEXEC));
        ASSERT_OK(pipe2(out, O_CLOEXEC));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bus));
        /* Away from 3: dup2() onto itself would leave close-on-exec. */
        ASSERT_EQ(posix_spawn_file_actions_init(&actions), 0);
        (void) posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        (void) posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        {
                int high = fcntl(bus[1], F_DUPFD_CLOEXEC, 100);

                (void) posix_spawn_file_actions_adddup2(&actions, high, 3);
                ASSERT_EQ(posix_spawn(&g->pid, argv[0], &actions, NULL, (char *const *) argv, environ), 0);
                safe_close(high);
        }
        (void) posix_spawn_file_actions_destroy(&actions);
        safe_close(in[0]);
        safe_close(out[1]);
        safe_close(bus[1]);
        g->fd = bus[0];
        g->out = out[0];
        ASSERT_OK(fd_set_nonblock(g->out, true));
        ASSERT_OK(fd_set_nonblock(g->fd, true));
        ASSERT_OK(json_add_string(o, "url", b->url));
        ASSERT_OK(json_add_string(o, "ca", ca_certificate_pem(b->m.ca)));
        ASSERT_OK(json_add_string(o, "token", token));
        ASSERT_OK(loop_write(in[1], json_text(o), strlen(json_text(o))));
        safe_close(in[1]);
}

static void guest_open(Bench *b, Guest *g, const char *token) {
        guest_start(b, g, token);
        WAIT(b, hear(g));
        if (!says(g, "\"open\":true"))
                fail_msg("The bridge says: %s", g->said);
}

static int on_added(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ((Guest *) userdata)->added++;
        return 0;
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ((Guest *) userdata)->removed++;
        return 0;
}

static int on_event(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Guest *g = userdata;
        const char *grid;

        ASSERT_OK(sd_bus_message_read(m, "s", &grid));
        snprintf(g->last_event_grid, sizeof(g->last_event_grid), "%s", grid);
        g->events++;
        return 0;
}

static void guest_bus(Bench *b, Guest *g, const char *token) {
        guest_open(b, g, token);
        ASSERT_OK(sd_bus_new(&g->bus));
        ASSERT_OK(sd_bus_set_fd(g->bus, g->fd, g->fd));
        g->fd = -EBADF;
        ASSERT_OK(sd_bus_set_anonymous(g->bus, true));
        ASSERT_OK(sd_bus_start(g->bus));
        ASSERT_OK(sd_bus_attach_event(g->bus, b->m.event, 0));
        /* As kontenactl asks for them: by the well-known name. */
        ASSERT_OK(sd_bus_match_signal(g->bus, NULL, "io.kontena.Master1", MASTER,
                        "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", on_added, g));
        ASSERT_OK(sd_bus_match_signal(g->bus, NULL, "io.kontena.Master1", MASTER,
                        "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", on_removed, g));
        ASSERT_OK(sd_bus_match_signal(
                        g->bus, NULL, "io.kontena.Master1", MASTER, MANAGER, "Event", on_event, g));
}

static void guest_end(Guest *g) {
        int status;

        sd_bus_message_unref(g->reply);
        sd_bus_close_unref(g->bus);
        safe_close(g->fd);
        safe_close(g->out);
        (void) kill(g->pid, SIGKILL);
        ASSERT_EQ(waitpid(g->pid, &status, 0), g->pid);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Guest *g = userdata;

        sd_bus_message_unref(g->reply);
        g->reply = sd_bus_message_ref(m);
        g->answers++;
        return 0;
}

static void ask(Bench *b, Guest *g, const char *path, const char *interface, const char *member,
                const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        unsigned before = g->answers;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_method_call(g->bus, &m, "io.kontena.Master1", path, interface, member));
        if (types) {
                va_start(ap, types);
                ASSERT_OK(sd_bus_message_appendv(m, types, ap));
                va_end(ap);
        }
        ASSERT_OK(sd_bus_call_async(g->bus, NULL, m, on_reply, g, WAIT_USEC));
        WAIT(b, g->answers > before);
}

static const char *error_name(Guest *g) {
        const sd_bus_error *e = sd_bus_message_get_error(g->reply);

        return e ? e->name : "";
}

/* What is in the reply, as text: good enough to look for names in. */
static char *dump(Guest *g) {
        char *text = NULL;
        FILE *f;
        size_t size = 0;

        ASSERT_OK(sd_bus_message_rewind(g->reply, true));
        f = open_memstream(&text, &size);
        ASSERT_OK(sd_bus_message_dump(g->reply, f, SD_BUS_MESSAGE_DUMP_SUBTREE_ONLY));
        ASSERT_EQ(fclose(f), 0);
        return text;
}

static void test_calls_and_signals_come_through(void **state) {
        _cleanup_free_ char *text = NULL;
        Bench *b = *state;
        Guest g;

        guest_bus(b, &g, "alice");
        ask(b, &g, MASTER, MANAGER, "GetService", "sss", "aaa", "null", "web");
        ASSERT_STREQ(error_name(&g), "");
        text = dump(&g);
        ASSERT_TRUE(strstr(text, "busybox") != NULL);

        call(b, "service.create",
                        "{\"grid\":\"aaa\",\"stack\":\"null\",\"name\":\"db\",\"spec\":{\"image\":\"redis\"}"
                        "}");
        WAIT(b, g.added == 1);
        ask(b, &g, MASTER, MANAGER, "NoSuchMethod", NULL);
        ASSERT_STREQ(error_name(&g), SD_BUS_ERROR_UNKNOWN_METHOD);
        ask(b, &g, MASTER, MANAGER, "GetService", "sss", "aaa", "null", "none");
        ASSERT_STREQ(error_name(&g), "io.kontena.Error.NoSuchService");
        guest_end(&g);
}

static void test_grids_are_seen_by_their_users_alone(void **state) {
        _cleanup_free_ char *of_alice = NULL, *of_root = NULL;
        Bench *b = *state;
        Guest alice, bob, root;

        guest_bus(b, &alice, "alice");
        guest_bus(b, &bob, "bob");
        guest_bus(b, &root, "root");

        ask(b, &alice, MASTER, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL);
        of_alice = dump(&alice);
        ASSERT_TRUE(strstr(of_alice, "service/aaa/null/web") && strstr(of_alice, "grid/aaa"));
        ASSERT_TRUE(strstr(of_alice, "busybox") && !strstr(of_alice, "nginx"));
        ASSERT_FALSE(strstr(of_alice, "service/bbb/") || strstr(of_alice, "grid/bbb"));
        ask(b, &root, MASTER, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL);
        of_root = dump(&root);
        ASSERT_TRUE(strstr(of_root, "service/aaa/null/web") && strstr(of_root, "service/bbb/null/web"));

        ask(b, &alice, MASTER "/service/bbb/null/web", "org.freedesktop.DBus.Properties", "GetAll", "s",
                        "io.kontena.Master1.Service");
        ASSERT_STREQ(error_name(&alice), SD_BUS_ERROR_UNKNOWN_OBJECT);
        ask(b, &alice, MASTER "/grid/bbb", "org.freedesktop.DBus.Properties", "Get", "ss",
                        "io.kontena.Master1.Grid", "Subnet");
        ASSERT_STREQ(error_name(&alice), SD_BUS_ERROR_UNKNOWN_OBJECT);
        ask(b, &alice, MASTER "/grid/aaa", "org.freedesktop.DBus.Properties", "Get", "ss",
                        "io.kontena.Master1.Grid", "Subnet");
        ASSERT_STREQ(error_name(&alice), "");
        ask(b, &alice, MASTER, MANAGER, "GetService", "sss", "bbb", "null", "web");
        ASSERT_STREQ(error_name(&alice), "io.kontena.Error.AccessDenied");
        ask(b, &alice, MASTER "/service", "org.freedesktop.DBus.Introspectable", "Introspect", NULL);
        free(of_alice);
        of_alice = dump(&alice);
        ASSERT_TRUE(strstr(of_alice, "name=\"aaa") && !strstr(of_alice, "name=\"bbb"));

        alice.added = bob.added = root.added = alice.events = bob.events = 0;
        call(b, "service.create",
                        "{\"grid\":\"bbb\",\"stack\":\"null\",\"name\":\"db\",\"spec\":{\"image\":\"redis\"}"
                        "}");
        WAIT(b, bob.added == 1 && root.added == 1);
        ASSERT_STREQ(bob.last_event_grid, bob.events > 0 ? "bbb" : "");
        call(b, "service.create",
                        "{\"grid\":\"aaa\",\"stack\":\"null\",\"name\":\"db\",\"spec\":{\"image\":\"redis\"}"
                        "}");
        WAIT(b, alice.added == 1 && root.added == 2);
        ASSERT_EQ(bob.added, 1);
        ASSERT_STREQ(alice.last_event_grid, alice.events > 0 ? "aaa" : "");

        /* The end of what was seen is told, also when nothing says any more whose it was. */
        alice.removed = bob.removed = 0;
        call(b, "service.remove", "{\"grid\":\"aaa\",\"stack\":\"null\",\"service\":\"db\"}");
        call(b, "service.remove", "{\"grid\":\"aaa\",\"stack\":\"null\",\"service\":\"web\"}");
        call(b, "grid.remove", "{\"grid\":\"aaa\"}");
        WAIT(b, alice.removed == 3);
        ASSERT_EQ(bob.removed, 0);

        guest_end(&alice);
        guest_end(&bob);
        guest_end(&root);
}

static void test_wrong_tokens_do_not_get_in(void **state) {
        static const char *const wrong[] = { "", "mallory", "nobody", "alice bob" };
        Bench *b = *state;

        FOREACH_ARRAY(w, wrong, ELEMENTSOF(wrong)) {
                Guest g;

                guest_start(b, &g, *w);
                WAIT(b, hear(&g));
                if (!says(&g, "io.kontena.Error.AccessDenied"))
                        fail_msg("With '%s' the bridge says: %s", *w, g.said);
                guest_end(&g);
        }
}

static void test_what_is_no_bus_is_cut(void **state) {
        static const struct {
                const char *data;
                size_t size;
        } wrong[] = {
#define WRONG(s) { s, sizeof(s) - 1 }
                WRONG("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                WRONG("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
                WRONG("\0AUTH WHATEVER\r\n\xff\xff\xff\xff"),
                WRONG(BEGIN "this is not a message at all"),
                /* 64 MiB to come */
                WRONG(BEGIN "l\1\0\1\0\0\0\4\1\0\0\0\0\0\0\0"),
        };
        Bench *b = *state;

        FOREACH_ARRAY(w, wrong, ELEMENTSOF(wrong)) {
                Guest g;

                guest_open(b, &g, "alice");
                ASSERT_OK(loop_write(g.fd, w->data, w->size));
                WAIT(b, says(&g, "\"error\""));
                if (!says(&g, "D-Bus") && !says(&g, "too large"))
                        fail_msg("%zu: the bridge says: %s", (size_t) (w - wrong), g.said);
                guest_end(&g);
        }

        /* And the master serves others. */
        Guest g;
        guest_bus(b, &g, "alice");
        ask(b, &g, MASTER, "org.freedesktop.DBus.Peer", "Ping", NULL);
        ASSERT_STREQ(error_name(&g), "");
        guest_end(&g);
}

static void test_broken_messages_are_dropped(void **state) {
        static const char broken[] =
                        /* no fields, which a call needs */
                        "l\1\0\1\0\0\0\0\1\0\0\0\0\0\0\0"
                        /* a call of Ping on /, with one descriptor: field 9 is UNIX_FDS */
                        "l\1\0\1\0\0\0\0\2\0\0\0\50\0\0\0"
                        "\1\1o\0\1\0\0\0/\0\0\0\0\0\0\0"
                        "\3\1s\0\4\0\0\0Ping\0\0\0\0"
                        "\11\1u\0\1\0\0\0"
                        /* the same without */
                        "l\1\0\1\0\0\0\0\3\0\0\0\35\0\0\0"
                        "\1\1o\0\1\0\0\0/\0\0\0\0\0\0\0"
                        "\3\1s\0\4\0\0\0Ping\0\0\0\0";
        static const char answered[] = "\5\1u\0\3\0\0\0"; /* REPLY_SERIAL */
        Bench *b = *state;
        char answer[4096];
        size_t n = 0;
        Guest g;

        guest_open(b, &g, "alice");
        ASSERT_OK(loop_write(g.fd, BEGIN, sizeof(BEGIN) - 1));
        WAIT(b, read(g.fd, answer, sizeof(answer)) > 0); /* OK */
        ASSERT_OK(loop_write(g.fd, broken, sizeof(broken) - 1));
        WAIT(b, ({
                ssize_t k = read(g.fd, answer + n, sizeof(answer) - n);

                n += k > 0 ? (size_t) k : 0;
                memmem(answer, n, answered, sizeof(answered) - 1);
        }));
        ASSERT_TRUE(memmem(answer, n, "\5\1u\0\1\0\0\0", 8) == NULL);
        ASSERT_TRUE(memmem(answer, n, "\5\1u\0\2\0\0\0", 8) == NULL);
        guest_end(&g);
}

static void test_descriptors_are_not_agreed_upon(void **state) {
        char answer[512] = "";
        Bench *b = *state;
        size_t n = 0;
        Guest g;

        guest_open(b, &g, "alice");
        ASSERT_OK(loop_write(g.fd, "\0AUTH ANONYMOUS 78\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", 46));
        WAIT(b, ({
                ssize_t k = read(g.fd, answer + n, sizeof(answer) - 1 - n);

                n += k > 0 ? (size_t) k : 0;
                memmem(answer, n, "ERROR", 5) || memmem(answer, n, "AGREE", 5);
        }));
        ASSERT_TRUE(strstr(answer, "OK ") != NULL);
        ASSERT_TRUE(strstr(answer, "AGREE") == NULL);
        guest_end(&g);
}

static void test_who_does_not_read_is_cut(void **state) {
        char url[4096];
        Config config = { .advertised_url = url };
        Bench *b = *state;
        Guest g, other;

        memset(url, 'x', sizeof(url) - 1);
        url[sizeof(url) - 1] = '\0';
        b->m.config = &config;
        guest_open(b, &g, "root");
        ASSERT_OK(loop_write(g.fd, BEGIN, sizeof(BEGIN) - 1));
        guest_bus(b, &other, "root");

        /* A signal of 4 KiB each time; nobody takes any from the first guest. */
        for (unsigned i = 0; !says(&g, "\"error\""); i++) {
                bus_face_reloaded(b->m.bus_face);
                for (unsigned k = 0; k < 4; k++)
                        ASSERT_OK(sd_event_run(b->m.event, i % 64 == 0 ? 1000 : 0));
                if (i > 100000)
                        fail_msg("It is never cut.");
        }
        ASSERT_TRUE(says(&g, "not read"));

        ask(b, &other, MASTER, "org.freedesktop.DBus.Peer", "Ping", NULL);
        ASSERT_STREQ(error_name(&other), "");
        guest_end(&g);
        guest_end(&other);
        b->m.config = NULL;
}

static void test_it_ends_with_the_token(void **state) {
        Bench *b = *state;
        Guest g, other;

        guest_bus(b, &g, "alice");
        guest_bus(b, &other, "bob");
        ask(b, &g, MASTER, MANAGER, "GetService", "sss", "aaa", "null", "web");
        ASSERT_STREQ(error_name(&g), "");

        revoked = "alice";
        bus_tunnels_check(b->m.bus_tunnels);
        WAIT(b, says(&g, "Invalid token"));
        ASSERT_TRUE(says(&g, "io.kontena.Error.AccessDenied"));
        WAIT(b, sd_bus_is_open(g.bus) <= 0);
        ask(b, &other, MASTER, "org.freedesktop.DBus.Peer", "Ping", NULL);
        ASSERT_STREQ(error_name(&other), "");

        /* A call finds it out too, and is answered. */
        revoked = "bob";
        ask(b, &other, MASTER, MANAGER, "GetService", "sss", "bbb", "null", "web");
        ASSERT_STREQ(error_name(&other), "io.kontena.Error.AccessDenied");
        WAIT(b, says(&other, "Invalid token"));
        guest_end(&g);
        guest_end(&other);
}

static void test_one_user_has_so_many_and_no_more(void **state) {
        static Guest g[BUS_GUESTS_PER_USER_MAX + 1], other;
        Bench *b = *state;

        for (unsigned i = 0; i < BUS_GUESTS_PER_USER_MAX; i++)
                guest_open(b, g + i, "alice");
        guest_start(b, g + BUS_GUESTS_PER_USER_MAX, "alice");
        WAIT(b, hear(g + BUS_GUESTS_PER_USER_MAX));
        ASSERT_TRUE(says(g + BUS_GUESTS_PER_USER_MAX, "\"error\""));
        guest_open(b, &other, "bob");
        for (unsigned i = 0; i <= BUS_GUESTS_PER_USER_MAX; i++)
                guest_end(g + i);
        guest_end(&other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

KONTENA_TESTS(TEST(test_calls_and_signals_come_through), TEST(test_grids_are_seen_by_their_users_alone),
                TEST(test_wrong_tokens_do_not_get_in), TEST(test_what_is_no_bus_is_cut),
                TEST(test_broken_messages_are_dropped), TEST(test_descriptors_are_not_agreed_upon),
                TEST(test_who_does_not_read_is_cut), TEST(test_it_ends_with_the_token),
                TEST(test_one_user_has_so_many_and_no_more))
