/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pull.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "file-util.h"
#include "image-layout.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"
#include "worker.h"

#define HEX(c) c c c c c c c c
#define IMAGE  HEX("11111111")

/* In the place of worker.c: no unit; the test plays kontena-pull at the other end of the socket. */
struct Worker {
        worker_exit_t done;
        void *userdata;
        int fd;
        char request[8192];
        bool freed;
};

static Worker *workers[64];
static size_t n_workers;
static int start_error;

int worker_start(sd_bus *bus, sd_event *event, const WorkerOptions *o, worker_exit_t done, void *userdata,
                Worker **ret, int *ret_fd) {
        Worker *w;
        int fds[2];

        if (start_error < 0)
                return start_error;
        assert(n_workers < ELEMENTSOF(workers));
        assert(o->private_root && o->network && o->user && o->writable_paths);
        w = new0(Worker, 1);
        assert(w && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) >= 0);
        w->done = done;
        w->userdata = userdata;
        w->fd = fds[1];
        workers[n_workers++] = w;
        *ret = w;
        *ret_fd = fds[0];
        return 0;
}

Worker *worker_free(Worker *w) {
        if (w)
                w->freed = true;
        return NULL;
}

const char *worker_unit(const Worker *w) {
        return "kontena-pull-0.service";
}

typedef struct Result {
        int n_done;
        int result;
        char *digest;
        char *message;
        PullProgress progress;
        int n_progress;
        Pull *pull;
        Pull *cancel_in_progress;
} Result;

typedef struct Fixture {
        char path[32];
        sd_event *event;
        ImageStore *store;
        PullManager *manager;
        Result results[PULLS_WAITING_MAX + 1];
} Fixture;

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);

        memcpy(f->path, "/tmp/test-pull-XXXXXX", sizeof("/tmp/test-pull-XXXXXX"));
        ASSERT_TRUE(mkdtemp(f->path));
        ASSERT_OK(sd_event_new(&f->event));
        ASSERT_OK(image_store_new(f->path, &f->store));
        ASSERT_OK(pull_manager_new(f->event, NULL, f->store, &f->manager));
        start_error = 0;
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        pull_manager_free(f->manager);
        image_store_free(f->store);
        sd_event_unref(f->event);
        FOREACH_ARRAY(w, workers, n_workers) {
                ASSERT_TRUE((*w)->freed);
                safe_close((*w)->fd);
                free(*w);
        }
        n_workers = 0;
        FOREACH_ARRAY(r, f->results, ELEMENTSOF(f->results)) {
                free(r->digest);
                free(r->message);
        }
        (void) rm_rf_at(AT_FDCWD, f->path);
        free(f);
        return 0;
}

static void on_progress(Pull *p, const PullProgress *progress, void *userdata) {
        Result *r = userdata;

        r->progress = *progress;
        r->n_progress++;
        r->cancel_in_progress = pull_cancel(r->cancel_in_progress);
}

static void on_done(Pull *p, int result, Image *image, const KError *error, void *userdata) {
        Result *r = userdata;

        r->n_done++;
        r->result = result;
        r->digest = image ? strdup(image->digest) : NULL;
        r->message = error ? strdup(kerror_message(error)) : NULL;
        r->pull = NULL;
}

static void ask(Fixture *f, size_t i, const char *reference, const char *revision) {
        ASSERT_OK(pull_image(f->manager, reference, revision, on_progress, on_done, &f->results[i],
                        &f->results[i].pull, NULL));
        ASSERT_EQ(f->results[i].n_done, 0); /* never from inside */
}

/* All that can happen now. */
static void settle(Fixture *f) {
        int r;

        while ((r = sd_event_run(f->event, 0)) > 0)
                ;
        ASSERT_OK(r);
}

static const char *request_of(size_t i) {
        Worker *w = workers[i];

        if (w->request[0] == '\0')
                ASSERT_TRUE(read(w->fd, w->request, sizeof(w->request) - 1) > 0);
        return w->request;
}

static void say(size_t i, const char *text) {
        ASSERT_OK(loop_write(workers[i]->fd, text, strlen(text)));
}

static void leave(Fixture *f, size_t i, const KError *error) {
        workers[i]->done(workers[i], error, workers[i]->userdata);
        settle(f);
}

static void put_image(Fixture *f, const char *reference) {
        static const char content[] = "{\"version\":1,\"digest\":\"sha256:" IMAGE "\",\"layers\":[]}";
        _cleanup_free_ char *record = strjoin(f->path, "/images/" IMAGE ".json"),
                            *file = image_ref_file_name(reference), *ref = strjoin(f->path, "/refs/", file),
                            *text = strjoin("{\"version\":1,\"reference\":\"", reference,
                                            "\",\"digest\":\"sha256:" IMAGE "\"}");

        ASSERT_OK(write_file_atomic(record, content, strlen(content), 0600));
        ASSERT_OK(write_file_atomic(ref, text, strlen(text), 0600));
}
#define RESULT "{\"result\":{\"digest\":\"sha256:" IMAGE "\",\"layers\":[]}}\n"
#define ERROR                                                                                               \
        "{\"error\":{\"code\":\"io.kontena.Error.Image\",\"message\":\"Image 'x' cannot be pulled: "        \
        "no.\"}}\n"

static void test_pull_is_shared_by_all_who_ask(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web:1", "r1");
        ask(f, 1, "docker.io/library/web:1", "r2");
        settle(f);
        ask(f, 2, "index.docker.io/web:1", NULL);
        settle(f);
        ASSERT_EQ(n_workers, 1);
        ASSERT_TRUE(strstr(request_of(0), "\"reference\":\"docker.io/library/web:1\""));
        say(0, "{\"progress\":{\"bytes\":5,\"total\":9,\"phase\":\"unpa");
        settle(f);
        ASSERT_EQ(f->results[0].n_progress, 0);
        say(0, "cking\"}}\n");
        settle(f);
        ASSERT_EQ(f->results[1].progress.bytes, 5);
        ASSERT_TRUE(f->results[1].progress.unpacking && !f->results[1].progress.queued);
        put_image(f, "docker.io/library/web:1");
        say(0, RESULT);
        ASSERT_TRUE(pull_manager_is_busy(f->manager)); /* it is here, and nobody has taken it */
        settle(f);
        ASSERT_FALSE(pull_manager_is_busy(f->manager));
        for (size_t i = 0; i < 3; i++) {
                ASSERT_EQ(f->results[i].n_done, 1);
                ASSERT_EQ(f->results[i].result, 0);
                ASSERT_STREQ(f->results[i].digest, "sha256:" IMAGE);
        }
        leave(f, 0, NULL);

        /* The same revisions within ten minutes: from the store. Another one: from the registry. */
        ask(f, 3, "web:1", "r2");
        settle(f);
        ASSERT_EQ(f->results[3].n_done, 1);
        ASSERT_EQ(n_workers, 1);
        ask(f, 4, "web:1", "r3");
        ask(f, 5, "web:1", NULL);
        settle(f);
        ASSERT_EQ(n_workers, 2);
}

static void test_pull_runs_three_at_a_time_in_order(void **state) {
        static const char *const names[] = { "a", "b", "c", "d", "e" };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                ask(f, i, names[i], NULL);
        settle(f);
        ASSERT_EQ(n_workers, PULLS_RUNNING_MAX);
        say(1, ERROR);
        settle(f);
        ASSERT_EQ(f->results[1].n_done, 1);
        ASSERT_EQ(n_workers, PULLS_RUNNING_MAX); /* the unit is there still */
        leave(f, 1, NULL);
        ASSERT_EQ(n_workers, PULLS_RUNNING_MAX + 1);
        ASSERT_TRUE(strstr(request_of(3), "library/d:"));
        ASSERT_EQ(f->results[4].n_done, 0);
}

static void test_pull_falls_back_to_an_image_that_is_there(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web:1", "r1");
        settle(f);
        say(0, ERROR);
        settle(f);
        ASSERT_ERROR(f->results[0].result, EBADMSG);
        ASSERT_STREQ(f->results[0].message, "Image 'x' cannot be pulled: no.");
        leave(f, 0, NULL);

        put_image(f, "docker.io/library/web:1");
        ask(f, 1, "web:1", "r1");
        settle(f);
        say(1, ERROR);
        settle(f);
        ASSERT_EQ(f->results[1].result, 1);
        ASSERT_STREQ(f->results[1].digest, "sha256:" IMAGE);
        ASSERT_STREQ(f->results[1].message, "Image 'x' cannot be pulled: no.");
        leave(f, 1, NULL);

        /* That was no success: the next one asks again. */
        ask(f, 2, "web:1", "r1");
        settle(f);
        ASSERT_EQ(n_workers, 3);
}

static void on_resolved(Pull *p, int result, const char *digest, const KError *error, void *userdata) {
        Result *r = userdata;

        r->n_done++;
        r->result = result;
        r->digest = digest ? strdup(digest) : NULL;
        r->message = error ? strdup(kerror_message(error)) : NULL;
}

static void ask_digest(Fixture *f, size_t i) {
        ASSERT_OK(pull_resolve(f->manager, "web:1", on_resolved, &f->results[i], &f->results[i].pull, NULL));
        settle(f);
}

#define UNREACHABLE                                                                                         \
        "{\"error\":{\"code\":\"io.kontena.Error.Image\",\"message\":\"away.\",\"unreachable\":true}}\n"

/* It has no part in a pull of the same image, and takes a refusal for an answer, but not silence. */
static void test_resolve_tells_the_digest(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web:1", "r1");
        ask_digest(f, 1);
        ASSERT_EQ(n_workers, 2);
        ASSERT_FALSE(strstr(request_of(0), "resolve"));
        ASSERT_TRUE(strstr(request_of(1), "\"resolve\":true"));
        say(1, RESULT);
        settle(f);
        ASSERT_EQ(f->results[1].result, 0);
        ASSERT_STREQ(f->results[1].digest, "sha256:" IMAGE);
        leave(f, 1, NULL);

        ask_digest(f, 2);
        say(2, UNREACHABLE);
        settle(f);
        ASSERT_ERROR(f->results[2].result, EBADMSG);
        leave(f, 2, NULL);

        put_image(f, "docker.io/library/web:1");
        ask_digest(f, 3);
        say(3, UNREACHABLE);
        settle(f);
        ASSERT_EQ(f->results[3].result, 1);
        ASSERT_STREQ(f->results[3].digest, "sha256:" IMAGE);
        ASSERT_STREQ(f->results[3].message, "away.");
        leave(f, 3, NULL);

        ask_digest(f, 4);
        say(4, ERROR);
        settle(f);
        ASSERT_ERROR(f->results[4].result, EBADMSG);
        leave(f, 4, NULL);
}

static void test_pull_starts_once_more_when_the_unit_dies(void **state) {
        const KError killed = { K_RUNTIME, (char *) "Unit was killed." };
        Fixture *f = *state;

        ask(f, 0, "web:1", NULL);
        settle(f);
        leave(f, 0, &killed);
        ASSERT_EQ(f->results[0].n_done, 0);
        ASSERT_EQ(n_workers, 2);
        leave(f, 1, &killed);
        ASSERT_EQ(n_workers, 2);
        ASSERT_STREQ(f->results[0].message,
                        "Image 'docker.io/library/web:1' cannot be pulled: Unit was killed.");
}

/* The last line and the end may be seen in any order. */
static void test_pull_reads_what_a_dead_unit_said(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web:1", NULL);
        settle(f);
        put_image(f, "docker.io/library/web:1");
        say(0, RESULT);
        leave(f, 0, NULL);
        ASSERT_EQ(f->results[0].n_done, 1);
        ASSERT_EQ(f->results[0].result, 0);
}

static void test_pull_refuses_nonsense(void **state) {
        static const char *const texts[] = { "hello\n", "{}\n", "{\"result\":{}}\n",
                "{\"error\":{\"code\":\"x\"}}\n", "\n" };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                ask(f, i, "web:1", NULL);
                settle(f);
                say(i, texts[i]);
                settle(f);
                ASSERT_EQ(f->results[i].n_done, 1);
                ASSERT_TRUE(strstr(f->results[i].message, "does not make sense"));
                ASSERT_TRUE(workers[i]->freed);
        }
}

static void test_pull_result_without_an_image_is_a_failure(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web:1", NULL);
        settle(f);
        say(0, RESULT);
        settle(f);
        ASSERT_TRUE(f->results[0].result < 0);
        ASSERT_TRUE(strstr(f->results[0].message, "not in the image store"));
        leave(f, 0, NULL);
}

static void test_pull_cancel_stops_the_unit_for_the_last(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web:1", NULL);
        ask(f, 1, "web:1", NULL);
        settle(f);
        pull_cancel(f->results[0].pull);
        settle(f);
        ASSERT_FALSE(workers[0]->freed);
        pull_cancel(f->results[1].pull);
        settle(f);
        ASSERT_TRUE(workers[0]->freed);
        ASSERT_EQ(f->results[0].n_done + f->results[1].n_done, 0);

        /* From inside a callback, one's own and another's. */
        ask(f, 2, "web:1", NULL);
        ask(f, 3, "web:1", NULL);
        settle(f);
        f->results[2].cancel_in_progress = f->results[3].pull;
        say(1, "{\"progress\":{\"bytes\":1,\"total\":2}}\n");
        settle(f);
        ASSERT_EQ(f->results[3].n_progress, 0);
        f->results[2].cancel_in_progress = f->results[2].pull;
        say(1, "{\"progress\":{\"bytes\":2,\"total\":2}}\n");
        settle(f);
        ASSERT_TRUE(workers[1]->freed);
        ASSERT_EQ(f->results[2].n_done, 0);

        /* Before anything began, and what is given from the store. */
        ask(f, 4, "other", NULL);
        pull_cancel(f->results[4].pull);
        settle(f);
        ASSERT_EQ(n_workers, 2);
}

static void test_pull_says_when_no_unit_can_be_started(void **state) {
        Fixture *f = *state;

        start_error = -ENOMEM;
        ask(f, 0, "web:1", NULL);
        settle(f);
        ASSERT_EQ(f->results[0].n_done, 1);
        ASSERT_TRUE(strstr(f->results[0].message, "cannot be started: Cannot allocate memory"));
}

static void test_pull_sends_what_is_configured(void **state) {
        char *mirrors[] = { (char *) "mirror:5000", NULL };
        Fixture *f = *state;

        ASSERT_OK(pull_manager_set_ca_file(f->manager, "/etc/all.pem"));
        ASSERT_OK(pull_manager_set_registry(f->manager, &(RegistrySettings){ .registry = "index.docker.io",
                                                                        .username = "u",
                                                                        .password = "p",
                                                                        .mirrors = mirrors }));
        ASSERT_OK(pull_manager_set_registry(f->manager, &(RegistrySettings){ .registry = "mirror:5000",
                                                                        .insecure = true,
                                                                        .username = "m",
                                                                        .password = "n",
                                                                        .ca_file = "/m.pem" }));
        ask(f, 0, "web", NULL);
        settle(f);
        ASSERT_TRUE(strstr(request_of(0), "\"username\":\"u\",\"password\":\"p\",\"ca_file\":\"/etc/"
                                          "all.pem\",\"insecure\":false"));
        ASSERT_TRUE(strstr(request_of(0),
                        "\"mirrors\":[{\"registry\":\"mirror:5000\",\"username\":\"m\",\"password\":\"n\","
                        "\"ca_file\":\"/m.pem\",\"insecure\":true}]"));
        ASSERT_TRUE(endswith(request_of(0), "}\n"));

        /* A mirror without settings gets none. */
        pull_manager_clear_registries(f->manager);
        ask(f, 1, "quay.io/x", NULL);
        settle(f);
        ASSERT_FALSE(strstr(request_of(1), "password"));
        ASSERT_FALSE(strstr(request_of(1), "mirrors"));
}

/* What the grid has for Docker's registry and for the mirror; NULL: nothing. */
static struct {
        const char *password; /* "": cannot be opened */
        unsigned n_opened;
} grid_has;

static int open_credentials(const char *registry, char **ret_username, char **ret_password, KError *reterr,
                void *userdata) {
        if (!STR_IN_SET(registry, "docker.io", "mirror:5000") || !grid_has.password)
                return 0;
        if (streq(grid_has.password, ""))
                return kerror_set(reterr, K_IMAGE, "The credentials are sealed to another.");
        grid_has.n_opened++;
        *ret_username = strdup(registry);
        *ret_password = strdup(grid_has.password);
        return 1;
}

static int mark_credentials(const char *registry, char **ret, void *userdata) {
        *ret = grid_has.password ? strdup(grid_has.password) : NULL;
        return 0;
}

static void test_credentials_of_the_grid_win_and_are_opened_late(void **state) {
        char *mirrors[] = { (char *) "mirror:5000", NULL };
        Fixture *f = *state;

        grid_has.password = "early";
        grid_has.n_opened = 0;
        pull_manager_set_credentials(
                        f->manager, &(RegistryCredentials){ open_credentials, mark_credentials, NULL });
        ASSERT_OK(pull_manager_set_registry(f->manager, &(RegistrySettings){ .registry = "docker.io",
                                                                        .username = "u",
                                                                        .password = "p",
                                                                        .mirrors = mirrors }));
        ask(f, 0, "web", NULL);
        ASSERT_FALSE(pull_manager_is_busy(f->manager)); /* it waits */
        ASSERT_EQ(grid_has.n_opened, 0);
        grid_has.password = "mine";
        settle(f);
        ASSERT_TRUE(pull_manager_is_busy(f->manager));
        ASSERT_TRUE(strstr(request_of(0), "\"username\":\"docker.io\",\"password\":\"mine\""));
        ASSERT_TRUE(strstr(request_of(0), "\"username\":\"mirror:5000\",\"password\":\"mine\""));
        ASSERT_FALSE(strstr(request_of(0), "\"p\""));

        /* The same again joins; with others it is another pull, whatever comes of the first. */
        ask(f, 1, "web", NULL);
        settle(f);
        ASSERT_EQ(n_workers, 1);
        grid_has.password = "new";
        ask(f, 2, "web", NULL);
        settle(f);
        ASSERT_EQ(n_workers, 2);
        ASSERT_TRUE(strstr(request_of(1), "\"password\":\"new\""));

        /* Where the grid has none, the configuration's are used. */
        grid_has.password = NULL;
        ask(f, 3, "web", NULL);
        settle(f);
        ASSERT_TRUE(strstr(request_of(2), "\"username\":\"u\",\"password\":\"p\""));
}

static void test_credentials_that_cannot_be_opened_are_said(void **state) {
        Fixture *f = *state;

        grid_has.password = "";
        pull_manager_set_credentials(
                        f->manager, &(RegistryCredentials){ open_credentials, mark_credentials, NULL });
        ask(f, 0, "web", NULL);
        settle(f);
        ASSERT_EQ(f->results[0].n_done, 1);
        ASSERT_STREQ(f->results[0].message,
                        "Image 'docker.io/library/web:latest' cannot be pulled: The credentials are sealed "
                        "to another.");
        ask(f, 1, "quay.io/web", NULL);
        settle(f);
        ASSERT_EQ(f->results[1].n_done, 0);
        ASSERT_FALSE(strstr(request_of(1), "password"));
}

static void test_pull_has_limits(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Fixture *f = *state;
        char name[32];
        Pull *p;

        for (size_t i = 0; i < PULLS_WAITING_MAX; i++) {
                snprintf(name, sizeof(name), "image%zu", i);
                ask(f, i, name, NULL);
        }
        ASSERT_ERROR(pull_image(f->manager, "another", NULL, NULL, on_done, NULL, &p, &e), E2BIG);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        for (size_t i = 0; i < REGISTRIES_MAX; i++) {
                snprintf(name, sizeof(name), "registry%zu:1", i);
                ASSERT_OK(pull_manager_set_registry(f->manager, &(RegistrySettings){ .registry = name }));
        }
        ASSERT_OK(pull_manager_set_registry(f->manager, &(RegistrySettings){ .registry = name }));
        ASSERT_ERROR(pull_manager_set_registry(f->manager, &(RegistrySettings){ .registry = "more" }),
                        E2BIG);
        ASSERT_ERROR(pull_image(f->manager, "No Name", NULL, NULL, on_done, NULL, &p, NULL), EINVAL);
}

static void test_pull_manager_ends_with_pulls_under_way(void **state) {
        Fixture *f = *state;

        ask(f, 0, "web", NULL);
        ask(f, 1, "other", NULL);
        settle(f);
        say(0, "{\"progress\":");
        f->manager = pull_manager_free(f->manager);
        ASSERT_TRUE(workers[0]->freed && workers[1]->freed);
        ASSERT_EQ(f->results[0].n_done, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

KONTENA_TESTS(TEST(test_pull_is_shared_by_all_who_ask), TEST(test_pull_runs_three_at_a_time_in_order),
                TEST(test_pull_falls_back_to_an_image_that_is_there), TEST(test_resolve_tells_the_digest),
                TEST(test_pull_starts_once_more_when_the_unit_dies),
                TEST(test_pull_reads_what_a_dead_unit_said), TEST(test_pull_refuses_nonsense),
                TEST(test_pull_result_without_an_image_is_a_failure),
                TEST(test_pull_cancel_stops_the_unit_for_the_last),
                TEST(test_pull_says_when_no_unit_can_be_started), TEST(test_pull_sends_what_is_configured),
                TEST(test_credentials_of_the_grid_win_and_are_opened_late),
                TEST(test_credentials_that_cannot_be_opened_are_said), TEST(test_pull_has_limits),
                TEST(test_pull_manager_ends_with_pulls_under_way))
