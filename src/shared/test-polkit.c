/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "polkit.h"
#include "string-util.h"

/* A bus of our own, with a polkit of our own on it. Root is not asked about, so the caller is a child of another user. */

#define NOBODY 65534

typedef struct Bench {
        char *directory, *address;
        pid_t bus_pid;
        sd_event *event;
        sd_bus *server, *polkit;
        PolkitQuery *query;
        /* What the fake polkit is to say, and what it was asked */
        bool authorized, challenge, silent;
        char asked[512];
        bool interactive, cancelled;
        sd_bus_message *waiting;
        /* What came of it */
        unsigned answers;
        KErrorCode code;
        char sentence[256];
        PolkitPeer peer;
} Bench;

static sd_bus *connect_to(const char *address) {
        sd_bus *bus = NULL;

        for (unsigned i = 0; i < 200; i++) {
                ASSERT_OK(sd_bus_new(&bus));
                ASSERT_OK(sd_bus_set_address(bus, address));
                ASSERT_OK(sd_bus_set_bus_client(bus, true));
                if (sd_bus_start(bus) >= 0)
                        return bus;
                bus = sd_bus_unref(bus);
                usleep(10000);
        }
        fail_msg("no bus at %s", address);
        return NULL;
}

static int on_check(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Bench *b = userdata;
        const char *kind, *key, *value, *action, *id;
        uint32_t flags;

        ASSERT_OK(sd_bus_message_read(m, "(sa{sv})s", &kind, 1, &key, "s", &value, &action));
        snprintf(b->asked, sizeof(b->asked), "%s %s %s", kind, key, action);
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "{ss}"));
        while (sd_bus_message_read(m, "{ss}", &key, &value) > 0)
                snprintf(b->asked + strlen(b->asked), sizeof(b->asked) - strlen(b->asked), " %s=%s", key,
                                value);
        ASSERT_OK(sd_bus_message_exit_container(m));
        ASSERT_OK(sd_bus_message_read(m, "us", &flags, &id));
        ASSERT_TRUE(!isempty(id));
        b->interactive = flags & 1;

        if (b->silent) {
                b->waiting = sd_bus_message_ref(m);
                return 1;
        }
        return sd_bus_reply_method_return(m, "(bba{ss})", b->authorized, b->challenge, 0);
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ((Bench *) userdata)->cancelled = true;
        return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable polkit_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", on_check,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CancelCheckAuthorization", "s", NULL, on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static void start_polkit(Bench *b) {
        b->polkit = connect_to(b->address);
        ASSERT_OK(sd_bus_add_object_vtable(b->polkit, NULL, "/org/freedesktop/PolicyKit1/Authority",
                        "org.freedesktop.PolicyKit1.Authority", polkit_vtable, b));
        ASSERT_OK(sd_bus_request_name(b->polkit, "org.freedesktop.PolicyKit1", 0));
        ASSERT_OK(sd_bus_attach_event(b->polkit, b->event, 0));
}

static void on_done(const PolkitPeer *peer, const KError *error, void *userdata) {
        Bench *b = userdata;

        b->answers++;
        b->peer = *peer;
        b->code = error ? error->code : K_OK;
        snprintf(b->sentence, sizeof(b->sentence), "%s", error ? kerror_message(error) : "");
        b->query = polkit_query_free(b->query); /* allowed inside */
}

static int on_act(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Bench *b = userdata;
        const char *action;

        ASSERT_OK(sd_bus_message_read(m, "s", &action));
        ASSERT_OK((streq(sd_bus_message_get_member(m), "ActSilently") ? polkit_check_silently
                                                                      : polkit_check)(m,
                        empty_to_null(action),
                        (const char *const[]){
                                        "grid", "home", "node", NULL, "stack", "", "service", "web", NULL },
                        on_done, b, &b->query));
        return 1;
}

static const sd_bus_vtable server_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Act", "s", NULL, on_act, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ActSilently", "s", NULL, on_act, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int setup(void **state) {
        char template[] = "/tmp/kontena-polkit-XXXXXX";
        _cleanup_free_ char *config = NULL, *text = NULL, *option = NULL;
        Bench *b = new0(Bench, 1);

        b->directory = strdup(mkdtemp(template));
        ASSERT_EQ(chmod(b->directory, 0755), 0);
        b->address = strprintf("unix:path=%s/bus", b->directory);
        config = strjoin(b->directory, "/bus.conf");
        text = strprintf("<busconfig><type>system</type><listen>%s</listen><auth>EXTERNAL</auth><policy "
                         "context='default'>"
                         "<allow user='*'/><allow own='*'/><allow send_destination='*'/><allow "
                         "receive_sender='*'/></policy></busconfig>",
                        b->address);
        ASSERT_OK(write_file_atomic(config, text, strlen(text), 0644));
        option = strjoin("--config-file=", config);

        b->bus_pid = fork();
        if (b->bus_pid == 0) {
                int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

                (void) dup2(fd, STDERR_FILENO);
                execlp("dbus-daemon", "dbus-daemon", option, "--nofork", "--nopidfile", NULL);
                _exit(127);
        }
        ASSERT_OK(sd_event_new(&b->event));
        b->server = connect_to(b->address);
        ASSERT_OK(sd_bus_add_object_vtable(b->server, NULL, "/x", "test.X", server_vtable, b));
        ASSERT_OK(sd_bus_request_name(b->server, "test.Server", 0));
        ASSERT_OK(sd_bus_attach_event(b->server, b->event, 0));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        polkit_query_free(b->query);
        sd_bus_message_unref(b->waiting);
        sd_bus_flush_close_unref(b->polkit);
        sd_bus_flush_close_unref(b->server);
        sd_event_unref(b->event);
        kill(b->bus_pid, SIGTERM);
        ASSERT_EQ(waitpid(b->bus_pid, NULL, 0), b->bus_pid);
        ASSERT_OK(rm_rf_at(AT_FDCWD, b->directory));
        free(b->directory);
        free(b->address);
        free(b);
        return 0;
}

/* A process of another user that sends one call and stays until it is killed. */
static pid_t caller_start(Bench *b, const char *member, const char *action, bool interactive, uid_t uid) {
        sd_bus_message *m = NULL;
        sd_bus *bus = NULL;
        pid_t pid;

        pid = fork();
        if (pid != 0)
                return pid;

        if (uid != 0 && (setgid(uid) < 0 || setuid(uid) < 0))
                _exit(1);
        if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, b->address) < 0 ||
                        sd_bus_set_bus_client(bus, true) < 0 || sd_bus_start(bus) < 0 ||
                        sd_bus_message_new_method_call(bus, &m, "test.Server", "/x", "test.X", member) < 0 ||
                        sd_bus_message_append(m, "s", action) < 0 ||
                        sd_bus_message_set_allow_interactive_authorization(m, interactive) < 0 ||
                        sd_bus_send(bus, m, NULL) < 0 || sd_bus_flush(bus) < 0)
                _exit(2);
        for (;;)
                pause();
}

static void run_until(Bench *b, const bool *condition, unsigned answers) {
        uint64_t deadline = now_monotonic() + 120 * USEC_PER_SEC;

        while (b->answers < answers && !(condition && *condition)) {
                ASSERT_TRUE(now_monotonic() < deadline);
                ASSERT_OK(sd_event_run(b->event, 100000));
        }
}

static void ask(Bench *b, const char *member, bool interactive, uid_t uid) {
        pid_t pid = caller_start(b, member, "io.kontena.test", interactive, uid);

        run_until(b, NULL, b->answers + 1);
        kill(pid, SIGKILL);
        ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

static void need_root(void) {
        if (getuid() != 0) {
                print_message("Skipped: only root can be two users.\n");
                skip();
        }
}

static void test_what_polkit_says_is_what_happens(void **state) {
        Bench *b = *state;

        need_root();
        start_polkit(b);

        b->authorized = true;
        ask(b, "Act", true, NOBODY);
        ASSERT_EQ(b->code, K_OK);
        ASSERT_EQ(b->peer.uid, NOBODY);
        ASSERT_TRUE(b->peer.pid > 0);
        ASSERT_TRUE(b->interactive);
        /* Pairs without a value are left out. */
        ASSERT_STREQ(b->asked, "system-bus-name name io.kontena.test grid=home service=web");

        ask(b, "Act", false, NOBODY);
        ASSERT_FALSE(b->interactive);
        ask(b, "ActSilently", true, NOBODY);
        ASSERT_FALSE(b->interactive);

        b->authorized = false;
        ask(b, "Act", true, NOBODY);
        ASSERT_EQ(b->code, K_ACCESS_DENIED);
        b->challenge = true;
        ask(b, "Act", false, NOBODY);
        ASSERT_EQ(b->code, K_INTERACTIVE_AUTHORIZATION_REQUIRED);
}

static void test_root_is_not_asked_about(void **state) {
        Bench *b = *state;

        need_root();
        start_polkit(b);
        ask(b, "Act", true, 0);
        ASSERT_EQ(b->code, K_OK);
        ASSERT_EQ(b->peer.uid, 0);
        ASSERT_STREQ(b->asked, "");
}

static void test_without_polkit_only_root_may(void **state) {
        Bench *b = *state;

        need_root();
        ask(b, "Act", true, NOBODY);
        ASSERT_EQ(b->code, K_ACCESS_DENIED);
        ASSERT_STREQ(b->sentence, "polkit is not running on this machine, so only root may do this.");
        ask(b, "Act", true, 0);
        ASSERT_EQ(b->code, K_OK);
}

static void test_peer_that_leaves_ends_the_question(void **state) {
        Bench *b = *state;
        bool asked = false;
        pid_t pid;

        need_root();
        start_polkit(b);
        b->silent = true; /* somebody looks for their password */
        pid = caller_start(b, "Act", "io.kontena.test", true, NOBODY);
        for (unsigned i = 0; i < 100 && !asked; i++) {
                ASSERT_OK(sd_event_run(b->event, 100000));
                asked = b->asked[0] != '\0';
        }
        ASSERT_TRUE(asked);
        ASSERT_EQ(b->answers, 0);

        kill(pid, SIGKILL);
        ASSERT_EQ(waitpid(pid, NULL, 0), pid);
        run_until(b, NULL, 1);
        ASSERT_EQ(b->code, K_NOT_AUTHENTICATED);
        b->answers = 0;
        run_until(b, &b->cancelled, 1); /* and the dialogue is closed */
        ASSERT_TRUE(b->cancelled);
        ASSERT_EQ(b->answers, 0);
}

static void test_freed_question_is_withdrawn(void **state) {
        Bench *b = *state;
        pid_t pid;

        need_root();
        start_polkit(b);
        b->silent = true;
        pid = caller_start(b, "Act", "io.kontena.test", true, NOBODY);
        for (unsigned i = 0; i < 100 && b->asked[0] == '\0'; i++)
                ASSERT_OK(sd_event_run(b->event, 100000));
        b->query = polkit_query_free(b->query);
        run_until(b, &b->cancelled, 1);
        ASSERT_EQ(b->answers, 0);
        kill(pid, SIGKILL);
        ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_what_polkit_says_is_what_happens, setup, teardown),
                cmocka_unit_test_setup_teardown(test_root_is_not_asked_about, setup, teardown),
                cmocka_unit_test_setup_teardown(test_without_polkit_only_root_may, setup, teardown),
                cmocka_unit_test_setup_teardown(test_peer_that_leaves_ends_the_question, setup, teardown),
                cmocka_unit_test_setup_teardown(test_freed_question_is_withdrawn, setup, teardown))
