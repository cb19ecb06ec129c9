/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pull-image.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "file-util.h"
#include "image-layout.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

static const char *arg_server;

typedef struct Server {
        pid_t pid;
        int input;
        unsigned ports[2];
} Server;

typedef struct Fixture {
        char directory[40];
        char *store;
        Server plain, tls;
        char *certificate;
        char *text; /* all that was reported by the last pull */
        json_object *result;
        KError error;
        uint64_t stall_sec, size_max, entries_max;
} Fixture;

static void run(char *const *argv) {
        pid_t pid = fork();
        int status;

        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                (void) close(STDERR_FILENO);
                (void) open("/dev/null", O_WRONLY);
                (void) execvp(argv[0], argv);
                _exit(127);
        }
        ASSERT_TRUE(waitpid(pid, &status, 0) == pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                fail_msg("%s failed", argv[0]);
}

static void server_start(Server *s, const char *certificate, const char *key) {
        char *argv[] = { (char *) "python3", (char *) arg_server, (char *) certificate, (char *) key, NULL };
        int in[2], out[2];
        FILE *f;

        ASSERT_OK(pipe2(in, O_CLOEXEC));
        ASSERT_OK(pipe2(out, O_CLOEXEC));
        s->pid = fork();
        ASSERT_TRUE(s->pid >= 0);
        if (s->pid == 0) {
                (void) dup2(in[0], STDIN_FILENO);
                (void) dup2(out[1], STDOUT_FILENO);
                (void) execvp(argv[0], argv);
                _exit(127);
        }
        (void) close(in[0]);
        (void) close(out[1]);
        s->input = in[1];
        f = fdopen(out[0], "r");
        if (!f || fscanf(f, "%u %u", &s->ports[0], &s->ports[1]) != 2)
                fail_msg("The registry does not start.");
        (void) fclose(f);
}

static void server_stop(Server *s) {
        s->input = safe_close(s->input);
        if (s->pid > 0)
                (void) waitpid(s->pid, NULL, 0);
}

static int setup(void **state) {
        static Fixture f;
        _cleanup_free_ char *key = NULL;

        f = (Fixture){ .directory = "/tmp/test-pull-image-XXXXXX" };
        ASSERT_TRUE(mkdtemp(f.directory));
        f.store = strjoin(f.directory, "/store");
        f.certificate = strjoin(f.directory, "/certificate");
        key = strjoin(f.directory, "/key");
        run((char *[]){ (char *) "openssl", (char *) "req", (char *) "-x509", (char *) "-newkey",
                        (char *) "ec", (char *) "-pkeyopt", (char *) "ec_paramgen_curve:P-256",
                        (char *) "-nodes", (char *) "-days", (char *) "2", (char *) "-subj",
                        (char *) "/CN=test", (char *) "-addext", (char *) "subjectAltName=IP:127.0.0.1",
                        (char *) "-keyout", key, (char *) "-out", f.certificate, NULL });
        server_start(&f.plain, NULL, NULL);
        server_start(&f.tls, f.certificate, key);
        *state = &f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        server_stop(&f->plain);
        server_stop(&f->tls);
        (void) rm_rf_at(AT_FDCWD, f->directory);
        free(f->store);
        free(f->certificate);
        return 0;
}

static int begin(void **state) {
        static const char *const directories[] = { IMAGE_LAYERS_DIR, IMAGE_RECORDS_DIR, IMAGE_REFS_DIR,
                IMAGE_STAGING_DIR };
        Fixture *f = *state;

        f->stall_sec = f->size_max = f->entries_max = 0;
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->store));
        FOREACH_ARRAY(d, directories, ELEMENTSOF(directories)) {
                _cleanup_free_ char *path = strjoin(f->store, "/", *d);

                ASSERT_OK(mkdir_p(path, 0700));
        }
        return 0;
}

static int end(void **state) {
        Fixture *f = *state;

        kerror_done(&f->error);
        json_object_put(TAKE_PTR(f->result));
        f->text = mfree(f->text);
        return 0;
}

typedef struct Options {
        const char *username, *password, *ca_file, *mirror;
        bool secure;
        bool strict; /* no insecure */
        bool patient;
        bool resolve;
} Options;

static json_object *make_request(Fixture *f, const char *image, const Options *o) {
        json_object *q = json_object_new_object();
        _cleanup_free_ char *reference = strprintf(
                        "127.0.0.1:%u/%s", o->secure ? f->tls.ports[0] : f->plain.ports[0], image);

        ASSERT_OK(json_add_string(q, "store", f->store));
        ASSERT_OK(json_add_string(q, "reference", reference));
        ASSERT_OK(json_add_string(q, "architecture", "amd64"));
        ASSERT_OK(json_add_string(q, "username", o->username));
        ASSERT_OK(json_add_string(q, "password", o->password));
        ASSERT_OK(json_add_string(q, "ca_file", o->ca_file));
        ASSERT_OK(json_add_u64(q, "attempts", o->patient ? 10 : 2));
        ASSERT_OK(json_add_bool(q, "insecure", !o->secure && !o->strict));
        ASSERT_OK(json_add_bool(q, "resolve", o->resolve));
        if (f->stall_sec > 0)
                ASSERT_OK(json_add_u64(q, "stall_sec", f->stall_sec));
        if (f->size_max > 0)
                ASSERT_OK(json_add_u64(q, "size_max", f->size_max));
        if (f->entries_max > 0)
                ASSERT_OK(json_add_u64(q, "entries_max", f->entries_max));
        if (o->mirror) {
                json_object *m = json_object_new_object(), *l = json_object_new_array();

                ASSERT_OK(json_add_string(m, "registry", o->mirror));
                ASSERT_OK(json_add_bool(m, "insecure", true));
                ASSERT_OK(json_append(l, m));
                ASSERT_OK(json_add(q, "mirrors", l));
        }
        return q;
}

static int pull_with(Fixture *f, const char *image, Options o) {
        _cleanup_json_ json_object *q = make_request(f, image, &o);
        _cleanup_request_ Request request = {};
        char text[8192] = {};
        int fds[2], r;

        end((void **) &f);
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
        ASSERT_OK(request_parse(q, &request, &f->error));
        r = pull_image(&request, &(Report){ .input_fd = fds[0], .output_fd = fds[0] }, &f->result,
                        &f->error);
        (void) close(fds[0]);
        ASSERT_TRUE(loop_read(fds[1], text, sizeof(text) - 1) >= 0);
        (void) close(fds[1]);
        f->text = strdup(text);
        return r;
}
#define PULL(f, image, ...) pull_with(f, image, (Options){ __VA_ARGS__ })

static void assert_failed(Fixture *f, int r, const char *part) {
        if (r >= 0)
                fail_msg("It was pulled.");
        if (!startswith(kerror_message(&f->error), "Image '127.0.0.1:") ||
                        !strstr(kerror_message(&f->error), part))
                fail_msg("'%s' does not speak of '%s'", kerror_message(&f->error), part);
}

static void assert_pulled(Fixture *f, int r) {
        if (r < 0)
                fail_msg("%s", kerror_message(&f->error));
        ASSERT_TRUE(json_object_object_get_ex(f->result, "digest", NULL));
}

static size_t count_names(Fixture *f, const char *directory) {
        _cleanup_free_ char *path = strjoin(f->store, "/", directory);
        _cleanup_(closedirp) DIR *d = opendir(path);
        struct dirent *de;
        size_t n = 0;

        ASSERT_TRUE(d);
        while ((de = readdir(d)))
                n += de->d_name[0] != '.';
        return n;
}

static void test_pull_makes_layers_and_records(void **state) {
        _cleanup_json_ json_object *record = NULL;
        _cleanup_free_ char *path = NULL, *text = NULL, *layer = NULL;
        const char *digest, *s;
        json_object *layers;
        Fixture *f = *state;
        size_t size;

        assert_pulled(f, PULL(f, "plain:1"));
        ASSERT_EQ(count_names(f, IMAGE_LAYERS_DIR), 2);
        ASSERT_EQ(count_names(f, IMAGE_STAGING_DIR), 0);
        ASSERT_EQ(count_names(f, IMAGE_REFS_DIR), 1);
        ASSERT_TRUE(strstr(f->text, "\"phase\":\"unpacking\""));
        ASSERT_OK(json_get_string(f->result, "digest", &digest, NULL));
        path = strjoin(f->store, "/images/", digest_hex(digest), ".json");
        ASSERT_OK(read_file(path, 100000, &text, &size));
        ASSERT_OK(json_parse(text, size, 100000, &record, NULL));
        ASSERT_OK(json_get_string(record, "stop_signal", &s, NULL));
        ASSERT_STREQ(s, "SIGQUIT");
        ASSERT_TRUE(strstr(text, "\"env\":[\"PATH=/bin\",\"A=b=c\"]"));
        ASSERT_TRUE(strstr(text, "\"exposed_ports\":[\"443/tcp\",\"80/tcp\"]"));
        ASSERT_TRUE(strstr(text, "\"volumes\":[\"/data\"]"));
        ASSERT_TRUE(strstr(text, "\"labels\":[\"l=v\"]"));
        ASSERT_OK(json_get_array(record, "layers", &layers, NULL));
        ASSERT_EQ(json_object_array_length(layers), 2);
        layer = strprintf("%s/layers/%s/a", f->store,
                        json_object_get_string(json_object_array_get_idx(layers, 0)));
        ASSERT_OK(access(layer, F_OK));

        /* Again: nothing is fetched. */
        assert_pulled(f, PULL(f, "plain:1"));
        ASSERT_FALSE(strstr(f->text, "unpacking"));
}

static void test_pull_authenticates(void **state) {
        Fixture *f = *state;

        assert_pulled(f, PULL(f, "token:1", .username = "user", .password = "s:ecret"));
        assert_pulled(f, PULL(f, "basic:1", .username = "user", .password = "s:ecret"));
        assert_failed(f, PULL(f, "token:1"), "wrong password");
        assert_failed(f, PULL(f, "basic:1"), "without a user and password");
        assert_failed(f, PULL(f, "basic:1", .username = "user", .password = "other"),
                        "does not know user 'user' with this password");
        ASSERT_FALSE(strstr(kerror_message(&f->error), "other"));
        assert_failed(f, PULL(f, "token:1", .username = "user", .password = "other"),
                        "does not know user 'user' with this password: wrong password");
}

/* The other port answers 400 to whoever brings credentials. */
static void test_pull_leaves_credentials_behind_at_a_redirect(void **state) {
        Fixture *f = *state;

        assert_pulled(f, PULL(f, "redirect:1", .username = "user", .password = "s:ecret"));
        assert_pulled(f, PULL(f, "redirect:1", .username = "user", .password = "s:ecret", .secure = true,
                                         .ca_file = f->certificate));
}

static void test_pull_trusts_whom_it_is_told(void **state) {
        Fixture *f = *state;

        assert_failed(f, PULL(f, "plain:1", .secure = true), "certificate is not trusted");
        assert_pulled(f, PULL(f, "plain:1", .secure = true, .ca_file = f->certificate));
        /* Without TLS nothing is asked of who may not do without. */
        assert_failed(f, PULL(f, "plain:1", .strict = true), "no TLS connection");
        assert_failed(f, PULL(f, "plain:1", .secure = true, .ca_file = "/nonexistent"),
                        "trusted certificates");
}

static void test_pull_goes_on_after_a_broken_connection(void **state) {
        Fixture *f = *state;

        assert_pulled(f, PULL(f, "resume:1"));
        assert_pulled(f, PULL(f, "norange:1"));
        assert_pulled(f, PULL(f, "flaky:1", .patient = true));
        assert_pulled(f, PULL(f, "busy:1"));
}

static char *find_partial(Fixture *f) {
        _cleanup_free_ char *path = strjoin(f->store, "/staging");
        _cleanup_(closedirp) DIR *d = opendir(path);
        struct dirent *de;

        ASSERT_TRUE(d);
        while ((de = readdir(d)))
                if (startswith(de->d_name, IMAGE_BLOB_PREFIX))
                        return strjoin(path, "/", de->d_name);
        fail_msg("Nothing was kept.");
        return NULL;
}

/* A stalled registry is given up. What came stays, and the next pull goes on with it; when it is damaged, from the
 * start. */
static void test_pull_gives_up_on_a_stall_and_takes_up_later(void **state) {
        uint64_t start = now_monotonic();
        _cleanup_free_ char *partial = NULL, *garbage = calloc(1, 900);
        Fixture *f = *state;

        f->stall_sec = 1;
        assert_failed(f, PULL(f, "stall:1"), "stalled");
        ASSERT_TRUE(now_monotonic() - start < 900 * USEC_PER_SEC);
        partial = find_partial(f);
        assert_pulled(f, PULL(f, "stall:1")); /* gives the rest only */
        ASSERT_EQ(count_names(f, IMAGE_STAGING_DIR), 0);

        begin(state);
        ASSERT_OK(write_file_atomic(partial, garbage, 900, 0600));
        assert_pulled(f, PULL(f, "whole:1"));
}

static void test_pull_refuses_what_is_not_what_it_says(void **state) {
        static const struct {
                const char *image, *part;
        } table[] = {
                { "corrupt:1", "is corrupt: its content has the digest sha256:" },
                { "short:1", "is corrupt: the registry has only" },
                { "longer:1", "is corrupt: there is more of it" },
                { "wrongdiff:1", "is corrupt: unpacked it has the digest" },
                { "mismatch@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                                "manifest is corrupt" },
                { "evil:1", "unsafe path '../../evil'" },
                { "fewer:1", "it names 2 layers, the manifest 1" },
                { "old:1", "schema 1" },
                { "huge:1", "more than 4194304 bytes" },
                { "many:1", "128 layers are more than 127" },
                { "foreign:1", "may not be handed out" },
                { "sha512:1", "not a digest that is supported" },
                { "arm:1", "no manifest for linux/amd64, only for linux/arm64" },
                { "onlyarm:1", "no manifest for linux/amd64, only for linux/arm/v7" },
                { "nosuch:1", "has no such image: manifest unknown (404)" },
                { "plain:nosuch", "has no such image" },
        };
        Fixture *f = *state;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                assert_failed(f, PULL(f, t->image), t->part);
        ASSERT_EQ(count_names(f, IMAGE_LAYERS_DIR), 0);
        ASSERT_EQ(count_names(f, IMAGE_RECORDS_DIR), 0);
        ASSERT_EQ(count_names(f, IMAGE_REFS_DIR), 0);
        ASSERT_EQ(count_names(f, IMAGE_STAGING_DIR), 0);
}

static void test_pull_says_which_registry_cannot_be_reached(void **state) {
        _cleanup_json_ json_object *q = json_object_new_object();
        _cleanup_request_ Request request = {};
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        Fixture *f = *state;

        ASSERT_OK(json_add_string(q, "store", f->store));
        ASSERT_OK(json_add_string(q, "reference", "no-such-host.invalid/web:1"));
        ASSERT_OK(json_add_u64(q, "attempts", 2));
        ASSERT_OK(request_parse(q, &request, NULL));
        ASSERT_TRUE(pull_image(&request, &(Report){ .input_fd = null, .output_fd = null }, &f->result,
                                    &f->error) < 0);
        ASSERT_TRUE(strstr(
                        kerror_message(&f->error), "'no-such-host.invalid': its name cannot be resolved"));
}

static void test_pull_keeps_to_limits(void **state) {
        Fixture *f = *state;

        f->size_max = 1024 * 1024;
        assert_failed(f, PULL(f, "bomb:1"), "larger than 1048576 bytes when unpacked");
        ASSERT_EQ(f->error.code, K_LIMIT_EXCEEDED);
        f->size_max = 1000;
        assert_failed(f, PULL(f, "plain:1"), "its layers have");
        f->size_max = 0;
        f->entries_max = 2; /* of both layers, which have three */
        assert_failed(f, PULL(f, "plain:1"), "more than 0 entries");
        ASSERT_EQ(count_names(f, IMAGE_STAGING_DIR), 0);
}

static void test_pull_chooses_from_an_index(void **state) {
        const char *index;
        Fixture *f = *state;

        assert_pulled(f, PULL(f, "multi:1"));
        ASSERT_OK(json_get_string(f->result, "index", &index, NULL));
        ASSERT_EQ(count_names(f, IMAGE_LAYERS_DIR), 1);
        assert_pulled(f, PULL(f, "wrongtype:1"));
}

static void test_resolve_fetches_nothing(void **state) {
        _cleanup_free_ char *index = NULL, *first = NULL;
        const char *digest;
        Fixture *f = *state;

        assert_pulled(f, PULL(f, "multi:1"));
        ASSERT_OK(json_get_string(f->result, "index", &digest, NULL));
        index = strdup(digest);
        assert_pulled(f, PULL(f, "plain:1"));
        ASSERT_OK(json_get_string(f->result, "digest", &digest, NULL));
        first = strdup(digest);
        ASSERT_OK(begin(state));

        assert_pulled(f, PULL(f, "multi:1", .resolve = true));
        ASSERT_OK(json_get_string(f->result, "digest", &digest, NULL));
        ASSERT_STREQ(digest, index); /* machines of all kinds know it by that */
        assert_pulled(f, PULL(f, "plain:1", .resolve = true));
        ASSERT_OK(json_get_string(f->result, "digest", &digest, NULL));
        ASSERT_STREQ(digest, first);
        ASSERT_EQ(count_names(f, IMAGE_RECORDS_DIR), 0);
        ASSERT_EQ(count_names(f, IMAGE_LAYERS_DIR), 0);
        assert_failed(f, PULL(f, "plain:nosuch", .resolve = true), "has no such image");
}

static void test_pull_has_each_layer_once(void **state) {
        _cleanup_strv_free_ char **layers = NULL;
        Fixture *f = *state;

        assert_pulled(f, PULL(f, "twice:1"));
        ASSERT_OK(json_find_strv(f->result, "layers", &layers, NULL));
        ASSERT_EQ(strv_length(layers), 2);
        ASSERT_FALSE(streq(layers[0], layers[1]));
        ASSERT_EQ(count_names(f, IMAGE_LAYERS_DIR), 2);
}

static void test_pull_asks_mirrors_first(void **state) {
        _cleanup_free_ char *mirror = strprintf("127.0.0.1:%u", ((Fixture *) *state)->plain.ports[0]);
        Fixture *f = *state;

        /* The registry itself is not trusted here: what comes can only be from the mirror. */
        assert_pulled(f, PULL(f, "plain:1", .secure = true, .mirror = mirror));
        /* A mirror that is away or has it not is no failure, and gets no password. */
        assert_pulled(f, PULL(f, "basic:1", .mirror = "127.0.0.1:1", .username = "user",
                                         .password = "s:ecret"));
        assert_pulled(f, PULL(f, "token:1", .secure = true, .ca_file = f->certificate, .mirror = mirror,
                                         .username = "user", .password = "s:ecret"));
}

static void test_pull_stops_when_nobody_waits(void **state) {
        _cleanup_json_ json_object *q = NULL;
        _cleanup_request_ Request request = {};
        Fixture *f = *state;
        int fds[2];

        q = make_request(f, "slow:1", &(Options){});
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
        ASSERT_OK(request_parse(q, &request, &f->error));
        (void) close(fds[1]);
        ASSERT_ERROR(pull_image(&request, &(Report){ .input_fd = fds[0], .output_fd = fds[0] }, &f->result,
                                     &f->error),
                        ECANCELED);
        (void) close(fds[0]);
        ASSERT_EQ(count_names(f, IMAGE_RECORDS_DIR), 0);
}

/* Two processes, one layer: the second waits and then finds it. */
static void test_pull_fetches_a_shared_layer_once(void **state) {
        Fixture *f = *state;
        int status;
        pid_t pid;

        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0)
                _exit(PULL(f, "slow:1") < 0);
        while (count_names(f, IMAGE_STAGING_DIR) == 0)
                (void) poll(NULL, 0, 10);
        assert_pulled(f, PULL(f, "plain:1"));
        ASSERT_TRUE(strstr(f->text, "\"phase\":\"waiting\""));
        ASSERT_TRUE(waitpid(pid, &status, 0) == pid);
        ASSERT_EQ(status, 0);
        ASSERT_EQ(count_names(f, IMAGE_LAYERS_DIR), 2);
        ASSERT_EQ(count_names(f, IMAGE_STAGING_DIR), 0);
}

static int no_sandbox(void) {
        return 0;
}

static void test_serve_answers_in_lines(void **state) {
        _cleanup_free_ char *line = NULL;
        _cleanup_json_ json_object *q = NULL;
        char answer[8192] = {};
        Fixture *f = *state;
        int in[2], out[2];

        q = make_request(f, "plain:nosuch", &(Options){});
        line = strjoin(json_text(q), "\n");
        ASSERT_OK(pipe2(in, O_CLOEXEC));
        ASSERT_OK(pipe2(out, O_CLOEXEC));
        ASSERT_OK(loop_write(in[1], line, strlen(line)));
        ASSERT_EQ(pull_serve(in[0], out[1], no_sandbox), EXIT_FAILURE);
        ASSERT_OK(loop_write(in[1], "{}\n", 3));
        ASSERT_EQ(pull_serve(in[0], out[1], no_sandbox), EXIT_FAILURE);
        (void) close(out[1]);
        ASSERT_TRUE(loop_read(out[0], answer, sizeof(answer) - 1) > 0);
        ASSERT_TRUE(strstr(answer,
                        "\n{\"error\":{\"code\":\"io.kontena.Error.Image\",\"message\":\"Image '127"));
        ASSERT_TRUE(strstr(answer, "\n{\"error\":{\"code\":\"io.kontena.Error.InvalidArgument\",\"message\":"
                                   "\"'store' must be"));
        (void) close(out[0]);
        (void) close(in[0]);
        (void) close(in[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                TEST(test_pull_makes_layers_and_records),
                TEST(test_pull_authenticates),
                TEST(test_pull_leaves_credentials_behind_at_a_redirect),
                TEST(test_pull_trusts_whom_it_is_told),
                TEST(test_pull_goes_on_after_a_broken_connection),
                TEST(test_pull_gives_up_on_a_stall_and_takes_up_later),
                TEST(test_pull_refuses_what_is_not_what_it_says),
                TEST(test_pull_says_which_registry_cannot_be_reached),
                TEST(test_pull_keeps_to_limits),
                TEST(test_pull_chooses_from_an_index),
                TEST(test_resolve_fetches_nothing),
                TEST(test_pull_has_each_layer_once),
                TEST(test_pull_asks_mirrors_first),
                TEST(test_pull_stops_when_nobody_waits),
                TEST(test_pull_fetches_a_shared_layer_once),
                TEST(test_serve_answers_in_lines),
        };

        if (argc != 2 || geteuid() != 0) {
                print_message("Needs root, to give files away, and the path of test-registry.py.\n");
                return 77;
        }
        arg_server = argv[1];
        (void) setlocale(LC_CTYPE, "C.UTF-8");
        (void) signal(SIGPIPE, SIG_IGN);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return EXIT_FAILURE;

        return cmocka_run_group_tests(tests, setup, teardown);
}
