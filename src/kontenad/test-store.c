/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "store-internal.h"
#include "store.h"
#include "string-util.h"

typedef struct Bench {
        char *directory, *path;
        sd_event *event;
        Store *store;
} Bench;

static void bench_open(Bench *b) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (store_open(b->event, b->path, &b->store, &e) < 0)
                fail_msg("%s", kerror_message(&e));
}

static uint64_t synchronous(Store *s) {
        uint64_t level;

        ASSERT_OK(store_number(s, &level, "PRAGMA synchronous", ""));
        return level;
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);
        char template[] = "/var/tmp/kontena-store-XXXXXX";

        b->directory = strdup(mkdtemp(template));
        b->path = strjoin(b->directory, "/kontena.db");
        ASSERT_OK(sd_event_new(&b->event));
        bench_open(b);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        store_close(b->store);
        sd_event_unref(b->event);
        ASSERT_OK(rm_rf_at(AT_FDCWD, b->directory));
        free(b->directory);
        free(b->path);
        free(b);
        return 0;
}

static void put_grid(Store *s, const char *id, const char *name) {
        GridRow g = {
                .id = (char *) id,
                .name = (char *) name,
                .subnet = (char *) "10.81.0.0/16",
                .supernet = (char *) "10.80.0.0/12",
                .trusted_subnets = (char *[]){ (char *) "192.168.0.0/24", NULL },
                .initial_size = 1,
                .token_id = (char *) id,
                .token_sealed = (char *) "sealed",
                .token_sealed_size = 6,
                .revision = UINT64_C(1) << 60,
        };

        ASSERT_OK(store_put_grid(s, &g));
}

static int put_node(Store *s, const char *id, const char *grid, const char *name, uint32_t number) {
        NodeRow n = { .id = (char *) id, .grid_id = (char *) grid, .name = (char *) name, .number = number };

        return store_put_node(s, &n);
}

static int put_service(Store *s, const char *id, const char *grid, const char *name) {
        _cleanup_json_ json_object *spec = json_object_new_object();
        ServiceRow row = { .id = (char *) id,
                .grid_id = (char *) grid,
                .stack = (char *) "null",
                .name = (char *) name,
                .spec = spec };

        json_add_string(spec, "image", "nginx");
        return store_put_service(s, &row);
}

static int put_instance(Store *s, const char *id, const char *service, const char *node, uint32_t number,
                InstanceDesired desired, const char *address) {
        InstanceRow i = {
                .id = (char *) id,
                .grid_id = (char *) "g",
                .service_id = (char *) service,
                .node_id = (char *) node,
                .number = number,
                .desired = desired,
                .address = (char *) address,
                .exit_status = -1,
        };

        return store_put_instance(s, &i);
}

static int put_deploy(Store *s, const char *id, const char *service, DeployState state, uint64_t created) {
        DeployRow d = {
                .id = (char *) id,
                .grid_id = (char *) "g",
                .service_id = (char *) service,
                .state = state,
                .created_at = created,
                .finished_at = DEPLOY_STATE_IS_FINAL(state) ? created + 1 : 0,
        };

        return store_put_deploy(s, &d);
}

static void begin(Store *s) {
        ASSERT_OK(store_begin(s, NULL));
}

static void commit(Store *s) {
        ASSERT_OK(store_commit(s, NULL));
}

static void test_rows_come_back_whole(void **state) {
        Bench *b = *state;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        const char *image;

        begin(b->store);
        put_grid(b->store, "g", "home");
        ASSERT_OK(put_service(b->store, "s", "g", "web"));
        ASSERT_OK(put_instance(b->store, "i", "s", NULL, 1, INSTANCE_STOPPED, NULL));
        commit(b->store);

        b->store = store_close(b->store);
        bench_open(b);

        ASSERT_OK(store_find_grid(b->store, "home", &g));
        ASSERT_STREQ(g->id, "g");
        ASSERT_STREQ(g->trusted_subnets[0], "192.168.0.0/24");
        ASSERT_EQ(strv_length(g->default_affinity), 0);
        ASSERT_EQ(g->token_sealed_size, 6);
        ASSERT_TRUE(memcmp(g->token_sealed, "sealed", 6) == 0);
        ASSERT_TRUE(g->revision == UINT64_C(1) << 60);
        ASSERT_OK(store_find_service(b->store, "g", "null", "web", &service));
        ASSERT_OK(json_get_string(service->spec, "image", &image, NULL));
        ASSERT_STREQ(image, "nginx");
        ASSERT_OK(store_get_instance(b->store, "i", &i));
        ASSERT_EQ(i->desired, INSTANCE_STOPPED);
        ASSERT_EQ(i->exit_status, -1);
        ASSERT_TRUE(!i->node_id && !i->address && !i->spec);

        ASSERT_ERROR(store_find_grid(b->store, "other", &g), ENOENT);
}

static void test_uncommitted_is_gone(void **state) {
        Bench *b = *state;
        GridRow *g;

        begin(b->store);
        put_grid(b->store, "g", "home");
        store_rollback(b->store);
        ASSERT_ERROR(store_get_grid(b->store, "g", &g), ENOENT);
        store_rollback(b->store); /* outside of a transaction: nothing */
}

static void test_constraints_hold(void **state) {
        Bench *b = *state;
        Store *s = b->store;

        begin(s);
        put_grid(s, "g", "home");
        ASSERT_OK(put_node(s, "n1", "g", "one", 1));
        ASSERT_ERROR(put_node(s, "n2", "g", "one", 2), EEXIST);
        ASSERT_ERROR(put_node(s, "n2", "g", "two", 1), EEXIST);
        ASSERT_ERROR(put_node(s, "n2", "nowhere", "two", 2), EEXIST);
        ASSERT_OK(put_node(s, "n2", "g", "two", 2));
        ASSERT_OK(put_service(s, "s", "g", "web"));
        ASSERT_ERROR(put_service(s, "s2", "g", "web"), EEXIST);

        ASSERT_OK(put_instance(s, "i1", "s", "n1", 1, INSTANCE_RUNNING, "10.81.128.1"));
        ASSERT_ERROR(put_instance(s, "i2", "s", "n2", 1, INSTANCE_RUNNING, "10.81.128.2"), EEXIST);
        ASSERT_ERROR(put_instance(s, "i2", "s", "n2", 2, INSTANCE_RUNNING, "10.81.128.1"), EEXIST);
        /* The one that has moved away keeps its address until it is gone. */
        ASSERT_OK(put_instance(s, "i1", "s", "n1", 1, INSTANCE_TERMINATED, "10.81.128.1"));
        ASSERT_ERROR(put_instance(s, "i2", "s", "n2", 1, INSTANCE_RUNNING, "10.81.128.1"), EEXIST);
        ASSERT_OK(put_instance(s, "i2", "s", "n2", 1, INSTANCE_RUNNING, "10.81.128.2"));

        ASSERT_ERROR(store_delete_grid(s, "g"), EBUSY);
        ASSERT_ERROR(store_delete_node(s, "n1"), EBUSY);
        ASSERT_ERROR(store_delete_service(s, "s"), EBUSY);
        ASSERT_ERROR(store_delete_service(s, "x"), ENOENT);
        commit(s);

        begin(s);
        ASSERT_OK(store_delete_instance(s, "i2"));
        ASSERT_OK(store_delete_service(s, "s")); /* its terminated instance stays */
        ASSERT_OK(store_delete_instance(s, "i1"));
        ASSERT_OK(store_delete_node(s, "n1"));
        ASSERT_OK(store_delete_node(s, "n2"));
        ASSERT_OK(store_delete_grid(s, "g"));
        commit(s);
}

static void test_node_numbers_fill_gaps(void **state) {
        Bench *b = *state;
        char name[16], id[16];
        uint32_t n;

        begin(b->store);
        put_grid(b->store, "g", "home");
        ASSERT_OK(store_next_node_number(b->store, "g", &n));
        ASSERT_EQ(n, 1);
        for (uint32_t i = 1; i <= NODES_PER_GRID_MAX; i++) {
                if (i == 7)
                        continue;
                snprintf(name, sizeof(name), "node-%u", i);
                snprintf(id, sizeof(id), "id-%u", i);
                ASSERT_OK(put_node(b->store, id, "g", name, i));
        }
        ASSERT_OK(store_next_node_number(b->store, "g", &n));
        ASSERT_EQ(n, 7);
        ASSERT_OK(put_node(b->store, "id-7", "g", "node-7", 7));
        ASSERT_ERROR(store_next_node_number(b->store, "g", &n), E2BIG);
        ASSERT_ERROR(put_node(b->store, "id-255", "g", "node-255", 255), EEXIST);
        store_rollback(b->store);
}

typedef struct Seen {
        char text[512];
} Seen;

static void on_change(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Seen *seen = userdata;
        size_t n = strlen(seen->text);

        snprintf(seen->text + n, sizeof(seen->text) - n, "%c%s@%s ", "+~-"[change], id, strna(grid_id));
}

static void turn(Bench *b) {
        for (unsigned i = 0; i < 10; i++)
                ASSERT_OK(sd_event_run(b->event, 0));
}

static void test_watch_tells_each_row_once_in_order(void **state) {
        Bench *b = *state;
        Store *s = b->store;
        Seen seen = {};

        ASSERT_OK(store_watch(s, on_change, &seen));

        begin(s);
        put_grid(s, "g", "home");
        ASSERT_OK(put_node(s, "n1", "g", "one", 1));
        put_grid(s, "g", "home");
        ASSERT_OK(put_node(s, "n2", "g", "two", 2));
        ASSERT_OK(store_delete_node(s, "n2")); /* came and went: nobody needs to know */
        commit(s);
        ASSERT_STREQ(seen.text, ""); /* never from inside of commit */
        turn(b);
        ASSERT_STREQ(seen.text, "+g@g +n1@g ");

        seen = (Seen){};
        begin(s);
        ASSERT_OK(put_node(s, "n1", "g", "uno", 1));
        store_rollback(s);
        turn(b);
        ASSERT_STREQ(seen.text, "");

        /* Two commits before the loop comes round are one change. */
        begin(s);
        ASSERT_OK(put_node(s, "n1", "g", "uno", 1));
        commit(s);
        begin(s);
        ASSERT_OK(store_delete_node(s, "n1"));
        commit(s);
        turn(b);
        ASSERT_STREQ(seen.text, "-n1@g ");
}

static void test_deploys_are_pruned_and_steps_kept(void **state) {
        Bench *b = *state;
        Store *s = b->store;
        _cleanup_(deploy_row_list_done) DeployRowList l = {}, unfinished = {};
        _cleanup_(deploy_row_freep) DeployRow *open = NULL;
        DeployStepRow step = { .deploy_id = (char *) "open",
                .instance_id = (char *) "i",
                .number = 3,
                .state = (char *) "waiting" };
        char id[16];

        begin(s);
        put_grid(s, "g", "home");
        ASSERT_OK(put_service(s, "s", "g", "web"));
        ASSERT_OK(put_deploy(s, "open", "s", DEPLOY_ONGOING, 1));
        ASSERT_OK(store_put_deploy_step(s, &step));
        step.state = (char *) "running";
        ASSERT_OK(store_put_deploy_step(s, &step));
        for (unsigned i = 0; i < DEPLOYS_KEPT_PER_SERVICE + 20; i++) {
                snprintf(id, sizeof(id), "d%u", i);
                ASSERT_OK(put_deploy(s, id, "s", DEPLOY_SUCCESS, 10 + i));
        }
        ASSERT_OK(put_deploy(s, "orphan", "gone", DEPLOY_SUCCESS, 5));
        ASSERT_OK(put_deploy(s, "last", "s", DEPLOY_CREATED, 1000));
        commit(s);

        ASSERT_OK(store_list_deploys(s, "s", 1000, &l));
        ASSERT_EQ(l.n, DEPLOYS_KEPT_PER_SERVICE + 2); /* and the two that are not finished */
        ASSERT_STREQ(l.rows[0]->id, "last");
        ASSERT_STREQ(l.rows[l.n - 1]->id, "open");
        ASSERT_STREQ(l.rows[l.n - 2]->id, "d20");
        deploy_row_list_done(&l);
        ASSERT_OK(store_list_deploys(s, "gone", 1000, &l));
        ASSERT_EQ(l.n, 0);

        ASSERT_OK(store_list_unfinished_deploys(s, &unfinished));
        ASSERT_EQ(unfinished.n, 2);
        ASSERT_STREQ(unfinished.rows[0]->id, "open");
        ASSERT_OK(store_get_deploy(s, "open", &open));
        ASSERT_EQ(open->n_steps, 1);
        ASSERT_EQ(open->steps[0]->number, 3);
        ASSERT_STREQ(open->steps[0]->state, "running");
}

static void test_events_are_filtered_and_pruned(void **state) {
        Bench *b = *state;
        Store *s = b->store;
        _cleanup_(event_row_list_done) EventRowList l = {};
        EventRow e = {
                .severity = (char *) "info", .type = (char *) "test", .message = (char *) "m", .instance = -1
        };

        begin(s);
        for (uint64_t i = 1; i <= EVENTS_KEPT + 1000; i++) {
                e.time = i;
                e.grid_id = (char *) (i % 2 ? "a" : "b");
                ASSERT_OK(store_add_event(s, &e));
        }
        store_commit(s, NULL);

        ASSERT_OK(store_list_events(s, &(EventFilter){ .grid_id = "a", .limit = 3 }, &l));
        ASSERT_EQ(l.n, 3);
        ASSERT_EQ(l.rows[2]->time, EVENTS_KEPT + 999);
        ASSERT_EQ(l.rows[0]->time, EVENTS_KEPT + 995);
        event_row_list_done(&l);

        ASSERT_OK(store_list_events(s, &(EventFilter){ .after_id = 1, .limit = 1 }, &l));
        ASSERT_EQ(l.n, 1);
        ASSERT_TRUE(l.rows[0]->id > 1000 - 256); /* older ones are gone */
        event_row_list_done(&l);

        ASSERT_OK(store_list_events(s, &(EventFilter){ .since = EVENTS_KEPT + 998, .limit = 10 }, &l));
        ASSERT_EQ(l.n, 3);
}

static int try_open(Bench *b, char **ret_message) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_(store_closep) Store *s = NULL;
        int r;

        r = store_open(b->event, b->path, &s, &e);
        *ret_message = strdup(kerror_message(&e));
        return r;
}

static void test_damaged_file_is_said(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *message = NULL, *junk = calloc(1, 65536);

        b->store = store_close(b->store);
        memset(junk, 'x', 65536);
        ASSERT_OK(write_file_atomic(b->path, junk, 65536, 0600));
        ASSERT_TRUE(try_open(b, &message) < 0);
        ASSERT_TRUE(strstr(message, "damaged") && strstr(message, b->path));
}

static void test_damaged_page_is_said(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *message = NULL;
        char junk[4096];
        FILE *f;

        begin(b->store);
        put_grid(b->store, "g", "home");
        commit(b->store);
        b->store = store_close(b->store);

        memset(junk, 0xa5, sizeof(junk));
        f = fopen(b->path, "r+e");
        fseek(f, 4096, SEEK_SET);
        ASSERT_EQ(fwrite(junk, 1, sizeof(junk), f), sizeof(junk));
        fclose(f);
        ASSERT_TRUE(try_open(b, &message) < 0);
        ASSERT_TRUE(strstr(message, "damaged") != NULL);
}

static void test_newer_schema_is_refused(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *message = NULL;
        sqlite3 *db;

        b->store = store_close(b->store);
        ASSERT_EQ(sqlite3_open(b->path, &db), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version = 1000", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        ASSERT_TRUE(try_open(b, &message) < 0);
        ASSERT_TRUE(strstr(message, "newer version") != NULL);
}

static void test_second_process_is_refused(void **state) {
        Bench *b = *state;
        pid_t pid;
        int status;

        pid = fork();
        if (pid == 0) {
                _cleanup_free_ char *message = NULL;
                Bench mine = { .path = b->path };

                (void) sd_event_new(&mine.event);
                _exit(try_open(&mine, &message) < 0 && strstr(message, "Another process") ? 0 : 1);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);
}

/* Writes rows until it is killed, and says through the pipe which ones were acknowledged. */
static void write_until_killed(const char *path, unsigned first, int fd) {
        sd_event *event = NULL;
        Store *s = NULL;
        char id[32];

        if (sd_event_new(&event) < 0 || store_open(event, path, &s, NULL) < 0)
                _exit(2);

        for (unsigned i = first;; i++) {
                if (store_begin(s, NULL) < 0)
                        _exit(3);
                snprintf(id, sizeof(id), "service-%u", i);
                if (put_service(s, id, "g", id) < 0 || put_deploy(s, id, id, DEPLOY_CREATED, i) < 0)
                        _exit(4);
                if (store_commit(s, NULL) < 0 || loop_write(fd, &i, sizeof(i)) < 0)
                        _exit(5);
        }
}

static void test_killed_writer_loses_nothing_acknowledged(void **state) {
        Bench *b = *state;
        unsigned next = 0, last, rounds = 40;

        begin(b->store);
        put_grid(b->store, "g", "home");
        commit(b->store);
        srandom(4711);

        for (unsigned round = 0; round < rounds; round++) {
                int fds[2], status;
                pid_t pid;

                b->store = store_close(b->store);
                ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
                pid = fork();
                if (pid == 0)
                        write_until_killed(b->path, next, fds[1]);
                close(fds[1]);
                /* Not before its first row: under a sanitizer, or with others on the machine, opening the store takes its time. */
                ASSERT_EQ(read(fds[0], &last, sizeof(last)), (ssize_t) sizeof(last));
                next = last + 1;
                usleep((useconds_t) (random() % 40000));
                ASSERT_EQ(kill(pid, SIGKILL), 0);
                ASSERT_EQ(waitpid(pid, &status, 0), pid);
                ASSERT_TRUE(WIFSIGNALED(status));

                while (read(fds[0], &last, sizeof(last)) == (ssize_t) sizeof(last))
                        next = last + 1;
                close(fds[0]);

                bench_open(b); /* checks the file's integrity */
                for (unsigned i = 0; i < next; i++) {
                        _cleanup_(service_row_freep) ServiceRow *row = NULL;
                        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
                        char id[32];

                        snprintf(id, sizeof(id), "service-%u", i);
                        ASSERT_OK(store_get_service(b->store, id, &row));
                        ASSERT_OK(store_get_deploy(b->store, id, &d));
                }
                /* One that was on the disk when the kill came, but not yet in the pipe. */
                for (;; next++) {
                        _cleanup_(service_row_freep) ServiceRow *row = NULL;
                        char id[32];

                        snprintf(id, sizeof(id), "service-%u", next);
                        if (store_get_service(b->store, id, &row) < 0)
                                break;
                }
        }

        ASSERT_TRUE(next >= rounds);
        print_message("%u killed writers, %u rows kept\n", rounds, next);
}

/* On a tmpfs of 1 MiB in a mount namespace of the child's own. */
static int fill_and_recover(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(store_closep) Store *s = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ char *big = calloc(1, 65536);
        Seen seen = {};
        unsigned before = 0;
        void *value;
        size_t size;
        int r, fd;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount("tmpfs", "/mnt", "tmpfs", 0, "size=1m") < 0)
                return 77;
        memset(big, 'a', 65535);

        if (sd_event_new(&event) < 0 || store_open(event, "/mnt/kontena.db", &s, &e) < 0 ||
                        store_watch(s, on_change, &seen) < 0)
                return 1;
        if (store_begin(s, NULL) < 0 || store_put_value(s, "kept", "yes", 3) < 0 ||
                        store_commit(s, NULL) < 0)
                return 2;

        fd = open("/mnt/ballast", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        while (write(fd, big, 4096) > 0)
                before++;

        /* Refused, now and the next time, with a sentence. */
        r = store_begin(s, &e);
        if (r >= 0)
                r = store_put_value(s, "big", big, 65536);
        if (r >= 0)
                r = store_commit(s, &e);
        store_rollback(s);
        if (r >= 0 || !store_read_only_reason(s))
                return 3;
        kerror_done(&e);
        if (store_begin(s, &e) >= 0 || e.code != K_UNAVAILABLE || !strstr(e.message, "/mnt is full"))
                return 4;
        if (store_get_value(s, "kept", &value, &size) < 0 || size != 3)
                return 5; /* what is there can be read */
        free(value);
        if (store_get_value(s, "big", &value, &size) != -ENOENT)
                return 6;

        /* Room again: found without being asked. */
        if (ftruncate(fd, 0) < 0)
                return 7;
        for (unsigned i = 0; i < 40 && store_read_only_reason(s); i++)
                (void) sd_event_run(event, 250000);
        if (store_read_only_reason(s))
                return 8;
        for (unsigned i = 0; i < 5; i++)
                (void) sd_event_run(event, 0);
        if (!strstr(seen.text, "~read-only@"))
                return 9;
        if (store_begin(s, NULL) < 0 || store_put_value(s, "kept", "again", 5) < 0 ||
                        store_commit(s, NULL) < 0)
                return 10;
        close(fd);
        return before > 0 ? 0 : 11;
}

static void test_full_disk_refuses_and_recovers(void **state) {
        int status;
        pid_t pid;

        pid = fork();
        if (pid == 0)
                _exit(fill_and_recover());
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
                print_message("Skipped: no mount namespace can be made here.\n");
                skip();
        }
        ASSERT_EQ(status, 0);
}

static void test_log_does_not_grow(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *wal = strjoin(b->path, "-wal"), *value = calloc(1, 32768);
        struct stat st;

        for (unsigned i = 0; i < 600; i++) {
                begin(b->store);
                ASSERT_OK(store_put_value(b->store, "same", value, 32768));
                commit(b->store);
        }
        ASSERT_EQ(stat(wal, &st), 0);
        ASSERT_TRUE(st.st_size <= 4194304); /* 600 times 32 KiB were written */
}

/* Not to be lost by our end, and not in the way of those that are to survive a power loss. */
static void test_what_is_said_again_does_not_wait_for_the_disk(void **state) {
        Bench *b = *state;
        void *value;
        size_t size;

        ASSERT_OK(store_begin_retold(b->store, NULL));
        ASSERT_OK(store_put_value(b->store, "a", "1", 1));
        ASSERT_EQ(synchronous(b->store), 1);
        ASSERT_OK(store_commit(b->store, NULL));
        ASSERT_EQ(synchronous(b->store), 2);

        ASSERT_OK(store_begin_retold(b->store, NULL));
        ASSERT_OK(store_put_value(b->store, "a", "2", 1));
        store_rollback(b->store);
        ASSERT_EQ(synchronous(b->store), 2);
        ASSERT_OK(store_begin(b->store, NULL));
        ASSERT_EQ(synchronous(b->store), 2);
        ASSERT_OK(store_commit(b->store, NULL));

        b->store = store_close(b->store);
        bench_open(b);
        ASSERT_OK(store_get_value(b->store, "a", &value, &size));
        ASSERT_EQ(size, 1);
        ASSERT_STREQ(value, "1");
        free(value);
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_rows_come_back_whole, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_what_is_said_again_does_not_wait_for_the_disk, setup, teardown),
                cmocka_unit_test_setup_teardown(test_uncommitted_is_gone, setup, teardown),
                cmocka_unit_test_setup_teardown(test_constraints_hold, setup, teardown),
                cmocka_unit_test_setup_teardown(test_node_numbers_fill_gaps, setup, teardown),
                cmocka_unit_test_setup_teardown(test_watch_tells_each_row_once_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_deploys_are_pruned_and_steps_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_events_are_filtered_and_pruned, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damaged_file_is_said, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damaged_page_is_said, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_second_process_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_killed_writer_loses_nothing_acknowledged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_full_disk_refuses_and_recovers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_log_does_not_grow, setup, teardown))
