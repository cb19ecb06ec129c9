/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>

#include "caller.h"
#include "file-util.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "log-streams.h"
#include "string-util.h"
#include "test-master.h"
#include "test-session.h"

typedef struct Bench {
        Master m;
        char *directory;
        GridRow grid;
        ServiceRow service;
        /* The reader */
        char shown[8192];
        unsigned batches;
        bool end, freed, congested, gone;
        unsigned dropped_at_least;
        char id[64];
} Bench;

static void on_opened(const char *stream, void *userdata) {
        Bench *b = userdata;

        snprintf(b->id, sizeof(b->id), "%s", stream);
}

static int on_entries(const char *stream, const LogEntry *entries, size_t n, bool end, void *userdata) {
        Bench *b = userdata;

        if (b->gone)
                return -ENOTCONN;
        ASSERT_STREQ(stream, b->id);
        ASSERT_FALSE(b->end); /* nothing behind the end */
        b->batches++;
        b->end = end;
        FOREACH_ARRAY(e, entries, n) {
                size_t used = strlen(b->shown);

                if (strstr(e->message, "were dropped"))
                        b->dropped_at_least = (unsigned) strtoul(e->message, NULL, 10);

                snprintf(b->shown + used, sizeof(b->shown) - used, "%s/%s/%s:%s ", e->node, e->instance,
                                e->stream, e->message);
        }
        return 0;
}

static bool is_congested(void *userdata) {
        return ((Bench *) userdata)->congested;
}

static void on_free(void *userdata) {
        ((Bench *) userdata)->freed = true;
}

static const LogSink sink = {
        .opened = on_opened, .entries = on_entries, .congested = is_congested, .free = on_free
};

static void put_instance(Bench *b, const char *id, const char *node, uint32_t number) {
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_instance(b->m.store, &(InstanceRow){ .id = (char *) id,
                                                                 .grid_id = b->grid.id,
                                                                 .service_id = b->service.id,
                                                                 .node_id = (char *) node,
                                                                 .number = number }));
        ASSERT_OK(store_commit(b->m.store, NULL));
}

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        b->directory = test_master_open(&b->m);
        ASSERT_OK(log_streams_new(&b->m, &b->m.log_streams));
        test_session_set_online(true);

        b->grid = (GridRow){ .id = (char *) "g",
                .name = (char *) "home",
                .subnet = (char *) "10.81.0.0/16",
                .supernet = (char *) "10.80.0.0/12",
                .initial_size = 1 };
        b->service = (ServiceRow){ .id = (char *) "s",
                .grid_id = (char *) "g",
                .stack = (char *) "null",
                .name = (char *) "web",
                .spec = json_object_new_object() };
        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_put_grid(b->m.store, &b->grid));
        ASSERT_OK(store_put_service(b->m.store, &b->service));
        for (unsigned i = 1; i <= 3; i++) {
                char id[8], name[8];

                snprintf(id, sizeof(id), "id%u", i);
                snprintf(name, sizeof(name), "n%u", i);
                ASSERT_OK(store_put_node(b->m.store,
                                &(NodeRow){ .id = id, .grid_id = (char *) "g", .name = name, .number = i }));
        }
        ASSERT_OK(store_commit(b->m.store, NULL));
        put_instance(b, "i1", "id1", 1);
        put_instance(b, "i2", "id2", 2);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        b->m.log_streams = log_streams_free(b->m.log_streams);
        while (test_session_n_open() > 0)
                test_session_answer(NULL);
        json_object_put(b->service.spec);
        test_master_close(&b->m, b->directory);
        free(b);
        return 0;
}

static void open_stream(Bench *b, const LogOptions *o) {
        const char *id;

        ASSERT_OK(log_streams_open(b->m.log_streams, &b->grid, &b->service, o, &sink, b, &id, NULL));
        ASSERT_STREQ(id, b->id);
        ASSERT_STREQ(b->shown, ""); /* never before the caller knows the id */
}

static void run(Bench *b, uint64_t usec) {
        uint64_t deadline = now_monotonic() + usec;

        while (now_monotonic() < deadline)
                ASSERT_OK(sd_event_run(b->m.event, 20000));
        for (unsigned i = 0; i < 1000 && sd_event_run(b->m.event, 0) > 0; i++) /* what was due by then */
                ;
}

static uint64_t stream_number(void) {
        uint64_t n;

        ASSERT_OK(json_get_u64(test_session_last_params(), "stream", &n, NULL));
        return n;
}

static int data(Bench *b, const char *node_id, uint64_t number, const char *entries, bool end) {
        _cleanup_free_ char *text = strprintf("{\"stream\":%llu,\"entries\":%s,\"end\":%s}",
                        (unsigned long long) number, entries, end ? "true" : "false");
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 1 << 24, &o, NULL));
        return log_streams_data(&b->m, test_session(node_id), o);
}

static void test_history_of_all_nodes_in_order(void **state) {
        Bench *b = *state;
        uint64_t n;

        open_stream(b, &(LogOptions){ .lines = 3 });
        n = stream_number();
        ASSERT_OK(data(b, "id1", n,
                        "[{\"time\":1,\"instance\":1,\"message\":\"a\"},{\"time\":30,\"instance\":1,"
                        "\"message\":\"c\"}]",
                        true));
        run(b, 50000);
        ASSERT_STREQ(b->shown, ""); /* n2 has not said its word */
        ASSERT_OK(data(b, "id2", n,
                        "[{\"time\":20,\"instance\":2,\"stream\":\"stderr\",\"message\":\"b\"},{\"time\":40,"
                        "\"instance\":2,\"message\":\"d\"}]",
                        true));
        run(b, 100000);
        ASSERT_STREQ(b->shown, "n2/web-2/stderr:b n1/web-1/stdout:c n2/web-2/stdout:d ");
        ASSERT_TRUE(b->end && b->freed);
        ASSERT_ERROR(log_streams_close(b->m.log_streams, b->id), ENOENT);
}

/* Its instances are gone, and the next one may run anywhere. */
static void test_all_nodes_are_asked_about_a_job(void **state) {
        Bench *b = *state;
        uint64_t n;

        ASSERT_OK(store_begin(b->m.store, NULL));
        ASSERT_OK(store_delete_instance(b->m.store, "i1"));
        ASSERT_OK(store_delete_instance(b->m.store, "i2"));
        ASSERT_OK(store_commit(b->m.store, NULL));
        ASSERT_OK(json_add_string(b->service.spec, "type", "job"));

        open_stream(b, &(LogOptions){ .lines = 3 });
        ASSERT_EQ(test_session_n_open(), 3);
        n = stream_number();
        for (unsigned i = 1; i <= 3; i++) {
                char id[8];

                snprintf(id, sizeof(id), "id%u", i);
                ASSERT_OK(data(b, id, n, i == 3 ? "[{\"time\":1,\"instance\":1,\"message\":\"a\"}]" : "[]",
                                true));
        }
        run(b, 100000);
        ASSERT_STREQ(b->shown, "n3/web-1/stdout:a ");
        ASSERT_TRUE(b->end);
}

static void test_offline_nodes_are_said_at_once(void **state) {
        Bench *b = *state;

        test_session_set_online(false);
        open_stream(b, &(LogOptions){ .lines = 10 });
        run(b, 100000);
        ASSERT_TRUE(strstr(b->shown, "n1//warning:Node 'n1' is offline, its lines are missing.") != NULL);
        ASSERT_TRUE(strstr(b->shown, "Node 'n2'") != NULL);
        ASSERT_TRUE(b->end);
}

static void test_node_that_dies_does_not_hold_up_the_others(void **state) {
        Bench *b = *state;
        uint64_t n;

        open_stream(b, &(LogOptions){ .lines = 10 });
        n = stream_number();
        ASSERT_OK(data(b, "id1", n, "[{\"time\":1,\"instance\":1,\"message\":\"a\"}]", true));
        log_streams_node_gone(&b->m, "id2");
        run(b, 100000);
        ASSERT_STREQ(b->shown, "n1/web-1/stdout:a n2//warning:Node 'n2' has gone offline, its further lines "
                               "are missing. ");
        ASSERT_TRUE(b->end);
}

static void test_node_that_refuses_is_said(void **state) {
        Bench *b = *state;
        uint64_t n;

        open_stream(b, &(LogOptions){ .lines = 10 });
        n = stream_number();
        test_session_answer("The journal is damaged.");
        ASSERT_OK(data(b, "id2", n, "[]", true));
        run(b, 100000);
        ASSERT_STREQ(b->shown, "n1//warning:Node 'n1' cannot show its lines: The journal is damaged. ");
        ASSERT_TRUE(b->end);
}

static void test_follow_passes_on_and_finds_new_nodes(void **state) {
        Bench *b = *state;
        uint64_t n, since;
        unsigned open;

        open_stream(b, &(LogOptions){ .lines = 10, .follow = true });
        n = stream_number();
        ASSERT_OK(data(b, "id2", n, "[{\"time\":2,\"instance\":2,\"message\":\"b\"}]", false));
        ASSERT_OK(data(b, "id1", n, "[{\"time\":1,\"instance\":1,\"message\":\"a\"}]", false));
        run(b, 500000);
        ASSERT_STREQ(b->shown, "n1/web-1/stdout:a n2/web-2/stdout:b ");
        ASSERT_OK(data(b, "id1", n, "[{\"time\":9,\"instance\":1,\"message\":\"live\"}]", false));
        run(b, 50000);
        ASSERT_TRUE(strstr(b->shown, "live") != NULL);

        open = test_session_n_open();
        put_instance(b, "i3", "id3", 3); /* scaled up meanwhile */
        run(b, 500000);
        ASSERT_EQ(test_session_n_open(), open + 1);
        ASSERT_OK(json_get_u64(test_session_last_params(), "since", &since, NULL));
        ASSERT_TRUE(since > 9);
        ASSERT_OK(data(b, "id3", n, "[{\"time\":10,\"instance\":3,\"message\":\"third\"}]", false));
        run(b, 50000);
        ASSERT_TRUE(strstr(b->shown, "n3/web-3/stdout:third") != NULL);
        ASSERT_FALSE(b->end);

        ASSERT_OK(log_streams_close(b->m.log_streams, b->id));
        ASSERT_TRUE(b->freed);
        ASSERT_STREQ(test_session_last_method(), "logs.close");
        ASSERT_OK(data(b, "id1", n, "[{\"time\":11,\"instance\":1,\"message\":\"late\"}]", false));
}

/* What others said meanwhile is of no matter, and of many entries with one time some may have come. */
static void test_a_node_that_comes_back_goes_on_where_it_was(void **state) {
        Bench *b = *state;
        uint64_t n, since;
        unsigned open;

        open_stream(b, &(LogOptions){ .lines = 10, .follow = true });
        n = stream_number();
        ASSERT_OK(data(b, "id1", n,
                        "[{\"time\":4,\"instance\":1,\"message\":\"a\"},{\"time\":5,\"instance\":1,"
                        "\"message\":"
                        "\"b\"},{\"time\":5,\"instance\":1,\"message\":\"c\"}]",
                        false));
        run(b, 500000);
        ASSERT_OK(data(b, "id2", n, "[{\"time\":9,\"instance\":2,\"message\":\"x\"}]", false));
        log_streams_node_gone(&b->m, "id1");
        run(b, 500000);
        ASSERT_TRUE(strstr(b->shown, "x n1//warning:") != NULL);
        b->shown[0] = '\0';

        open = test_session_n_open();
        put_instance(b, "i1", "id1", 1); /* something of it changes */
        run(b, 500000);
        ASSERT_EQ(test_session_n_open(), open + 1);
        ASSERT_OK(json_get_u64(test_session_last_params(), "since", &since, NULL));
        ASSERT_EQ(since, 5);
        ASSERT_OK(data(b, "id1", n,
                        "[{\"time\":5,\"instance\":1,\"message\":\"b\"},{\"time\":5,\"instance\":1,"
                        "\"message\":"
                        "\"c\"},{\"time\":5,\"instance\":1,\"message\":\"d\"},{\"time\":6,\"instance\":1,"
                        "\"message\":\"e\"}]",
                        false));
        run(b, 500000);
        ASSERT_STREQ(b->shown, "n1/web-1/stdout:d n1/web-1/stdout:e ");
}

static void test_a_node_that_comes_while_the_history_is_shown_is_asked(void **state) {
        Bench *b = *state;
        uint64_t n;

        test_session_set_offline("id2");
        open_stream(b, &(LogOptions){ .lines = 10, .follow = true });
        n = stream_number();
        ASSERT_EQ(test_session_n_open(), 1);
        run(b, 50000);
        test_session_set_offline(NULL);
        put_instance(b, "i2", "id2", 2); /* something of it changes, and never again */
        run(b, 1000000);
        ASSERT_EQ(test_session_n_open(), 2);
        ASSERT_OK(data(b, "id2", n, "[{\"time\":9,\"instance\":2,\"message\":\"x\"}]", false));
        run(b, 500000);
        ASSERT_TRUE(strstr(b->shown, "n2/web-2/stdout:x") != NULL);
        test_session_set_offline(NULL);
}

static void test_each_node_is_asked_from_where_the_reader_was(void **state) {
        _cleanup_json_ json_object *after = json_object_new_object();
        Bench *b = *state;
        uint64_t since;

        ASSERT_OK(json_add_u64(after, "n2", 7));
        open_stream(b, &(LogOptions){ .lines = 1, .follow = true, .since = 3, .after = after });
        ASSERT_OK(json_get_u64(test_session_last_params(), "since", &since, NULL));
        ASSERT_EQ(since, 7); /* n2 was asked last */
        ASSERT_OK(data(b, "id2", stream_number(),
                        "[{\"time\":7,\"instance\":2,\"message\":\"a\"},{\"time\":8,\"instance\":2,"
                        "\"message\":"
                        "\"b\"}]",
                        false));
        run(b, 500000);
        ASSERT_STREQ(b->shown, "n2/web-2/stdout:a n2/web-2/stdout:b ");
}

static void test_data_of_strangers_is_ignored_and_junk_refused(void **state) {
        Bench *b = *state;
        uint64_t n;

        open_stream(b, &(LogOptions){ .lines = 10, .follow = true });
        n = stream_number();
        ASSERT_OK(data(b, "id3", n, "[{\"time\":1,\"instance\":1,\"message\":\"forged\"}]", false));
        ASSERT_OK(data(b, "id1", n + 100, "[{\"time\":1,\"instance\":1,\"message\":\"forged\"}]", false));
        ASSERT_ERROR(data(b, "id1", n, "[{\"message\":\"no time\"}]", false), EBADMSG);
        ASSERT_ERROR(data(b, "id1", n, "[7]", false), EBADMSG);
        ASSERT_ERROR(data(b, "id1", n, "\"text\"", false), EBADMSG);
        run(b, 500000);
        ASSERT_STREQ(b->shown, "");
}

static void test_slow_reader_loses_lines_not_memory(void **state) {
        Bench *b = *state;
        _cleanup_json_ json_object *many = json_object_new_array();
        uint64_t n;

        open_stream(b, &(LogOptions){ .lines = 10, .follow = true });
        n = stream_number();
        run(b, 500000);
        b->congested = true;

        for (unsigned i = 0; i < 1000; i++) {
                json_object *e = json_object_new_object();

                ASSERT_OK(json_add_u64(e, "time", i + 1));
                ASSERT_OK(json_add_u64(e, "instance", 1));
                ASSERT_OK(json_add_string(e, "message", "x"));
                ASSERT_OK(json_append(many, e));
        }
        for (unsigned i = 0; i < 45; i++)
                ASSERT_OK(data(b, "id1", n, json_text(many), false));
        run(b, 400000);
        ASSERT_STREQ(b->shown, "");
        b->congested = false;
        run(b, 400000);
        /* What there was room for, and how much there was not. */
        ASSERT_TRUE(b->batches >= LOG_LINES_MAX * 4 / 200);
        ASSERT_EQ(b->dropped_at_least, 5000);
}

static void test_reader_that_is_gone_ends_the_stream(void **state) {
        Bench *b = *state;
        uint64_t n;

        open_stream(b, &(LogOptions){ .lines = 10, .follow = true });
        n = stream_number();
        run(b, 400000);
        b->gone = true;
        ASSERT_OK(data(b, "id1", n, "[{\"time\":1,\"instance\":1,\"message\":\"a\"}]", false));
        run(b, 100000);
        ASSERT_TRUE(b->freed);
}

static void test_number_of_streams_is_bounded(void **state) {
        Bench *b = *state;
        _cleanup_kerror_ KError e = KERROR_NULL;
        const char *id;

        test_session_set_online(false);
        for (unsigned i = 0; i < LOG_STREAMS_MAX; i++)
                ASSERT_OK(log_streams_open(b->m.log_streams, &b->grid, &b->service,
                                &(LogOptions){ .follow = true }, &sink, b, &id, NULL));
        b->freed = false;
        ASSERT_TRUE(log_streams_open(b->m.log_streams, &b->grid, &b->service, &(LogOptions){}, &sink, b, &id,
                                    &e) < 0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        ASSERT_TRUE(b->freed);
}

static void test_one_caller_leaves_streams_to_others(void **state) {
        _cleanup_(caller_unrefp) Caller *anna = NULL, *bob = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        LogOptions options = { .follow = true };
        Bench *b = *state;
        const char *id;

        test_session_set_online(false);
        ASSERT_OK(caller_new_internal("anna", &anna));
        ASSERT_OK(caller_new_internal("bob", &bob));
        options.caller = anna;
        for (unsigned i = 0; i < LOG_STREAMS_PER_CALLER_MAX; i++)
                ASSERT_OK(log_streams_open(
                                b->m.log_streams, &b->grid, &b->service, &options, &sink, b, &id, NULL));
        b->freed = false;
        ASSERT_TRUE(log_streams_open(b->m.log_streams, &b->grid, &b->service, &options, &sink, b, &id, &e) <
                        0);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
        ASSERT_TRUE(b->freed);

        options.caller = bob;
        ASSERT_OK(log_streams_open(b->m.log_streams, &b->grid, &b->service, &options, &sink, b, &id, NULL));
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(
                              test_a_node_that_comes_back_goes_on_where_it_was, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_each_node_is_asked_from_where_the_reader_was, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_a_node_that_comes_while_the_history_is_shown_is_asked, setup, teardown),
                cmocka_unit_test_setup_teardown(test_history_of_all_nodes_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_all_nodes_are_asked_about_a_job, setup, teardown),
                cmocka_unit_test_setup_teardown(test_offline_nodes_are_said_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_node_that_dies_does_not_hold_up_the_others, setup, teardown),
                cmocka_unit_test_setup_teardown(test_node_that_refuses_is_said, setup, teardown),
                cmocka_unit_test_setup_teardown(test_follow_passes_on_and_finds_new_nodes, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_data_of_strangers_is_ignored_and_junk_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_slow_reader_loses_lines_not_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reader_that_is_gone_ends_the_stream, setup, teardown),
                cmocka_unit_test_setup_teardown(test_number_of_streams_is_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_one_caller_leaves_streams_to_others, setup, teardown))
