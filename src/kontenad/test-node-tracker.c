/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdarg.h>

#include "kontena-limits.h"
#include "parse-util.h"
#include "registry.h"
#include "test-engine.h"

static int say(Engine *e, NodeSession *s, uint64_t id, const char *method, const char *format, ...)
                _printf_(5, 6);
static int say(Engine *e, NodeSession *s, uint64_t id, const char *method, const char *format, ...) {
        _cleanup_json_ json_object *params = NULL;
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = strvprintf(format, ap);
        va_end(ap);
        params = json_tokener_parse(text);
        if (!params)
                fail_msg("Not JSON: %s", text);
        return node_tracker_handler()->method(s, id, method, params, e->m.tracker);
}

static NodeSession *connect_node(Engine *e, const char *key, uint64_t id) {
        NodeIntroduction who = introduction(key);
        _cleanup_free_ char *node_id = NULL;
        NodeSession *s;

        who.name = key;
        ASSERT_EQ(admit(e, &who, &node_id, NULL), 0);
        s = session_new(node_id, id);
        node_tracker_handler()->opened(s, e->m.tracker);
        engine_settle(e); /* marked as connected */
        return s;
}

#define REPORT(address)                                                                                     \
        "{\"cpus\": 4, \"private_address\": \"" address                                                     \
        "\", \"mtu\": 1500, \"routes\": [\"0.0.0.0/0\", \"192.0.2.0/24\"], "                                \
        "\"addresses\": [\"" address "/24\"]}"

static void hello(Engine *e, NodeSession *s, const char *report, const char *instances) {
        ASSERT_OK(say(e, s, 1, "node.hello", "{\"report\": %s, \"epoch\": 0, \"instances\": %s}", report,
                        instances));
}

static void flush(Engine *e) {
        engine_settle(e);
        engine_wait(e, 70 * USEC_PER_MSEC);
        engine_settle(e);
}

/* One field of nested objects, as text; NULL: missing. */
static const char *field(json_object *o, const char *path) {
        char copy[128], *rest = copy;

        (void) snprintf(copy, sizeof(copy), "%s", path);
        for (const char *p = strsep(&rest, "|"); p; p = strsep(&rest, "|"))
                if (!json_object_object_get_ex(o, p, &o))
                        return NULL;
        return o ? json_object_get_string(o) : "null";
}

static void disconnect(Engine *e, NodeSession *s) {
        node_tracker_handler()->closed(s, 1006, "It is gone.", e->m.tracker);
}

static void test_tracker_answers_hello_with_everything(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        row = get_node(&e, s->node_id);
        ASSERT_TRUE(row->connected);
        ASSERT_STREQ(node_state(row), "connecting");
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        row = node_row_free(row);
        row = get_node(&e, s->node_id);
        ASSERT_STREQ(node_state(row), "online");

        ASSERT_TRUE(s->reply);
        ASSERT_STREQ(field(s->reply, "desired|node|overlay_address"), "10.81.0.1");
        ASSERT_STREQ(field(s->reply, "desired|node|availability"), "active");
        ASSERT_STREQ(field(s->reply, "desired|grid|domain"), "grid.kontena.local");
        ASSERT_STREQ(field(s->reply, "desired|grid|trusted_subnets"), "[ \"192.0.2.0\\/24\" ]");
        ASSERT_STREQ(field(s->reply, "desired|peers"), "{ }");
        ASSERT_STREQ(field(s->reply, "desired|names"), "{ }");
        ASSERT_STREQ(field(s->reply, "desired|instances"), "{ }");
        ASSERT_TRUE(json_object_get_uint64(json_object_object_get(s->reply, "epoch")) < UINT64_C(1) << 53);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_introduces_peers(void **state) {
        NodeSession *s1, *s2, *s3;
        char path[128];
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s1 = connect_node(&e, "n1", 1);
        hello(&e, s1, REPORT("192.0.2.1"), "[]");
        s2 = connect_node(&e, "n2", 2);
        hello(&e, s2, REPORT("192.0.2.2"), "[]");
        s3 = connect_node(&e, "n3", 3);
        hello(&e, s3, REPORT("198.51.100.3"), "[]");
        flush(&e);

        (void) snprintf(path, sizeof(path), "desired|peers|%s|link", s1->node_id);
        ASSERT_STREQ(field(s2->reply, path), "vxlan"); /* both in the trusted subnet */
        ASSERT_STREQ(field(s3->reply, path), "wireguard");
        (void) snprintf(path, sizeof(path), "desired|peers|%s|overlay_address", s2->node_id);
        ASSERT_STREQ(field(s3->reply, path), "10.81.0.2");
        ASSERT_STREQ(s1->last_method, "desired.update");
        (void) snprintf(path, sizeof(path), "set|peers|%s|private_address", s3->node_id);
        ASSERT_STREQ(field(s1->last, path), "198.51.100.3");

        /* Removed: everybody forgets it, and it is told so. */
        remove_node(&e, s3->node_id);
        flush(&e);
        ASSERT_EQ(s3->close_code, 4040);
        (void) snprintf(path, sizeof(path), "[ \"%s\" ]", s3->node_id);
        ASSERT_STREQ(field(s1->last, "remove|peers"), path);
        session_free(s1);
        session_free(s2);
        session_free(s3);
        engine_remove(&e);
}

/* Trap 1: the close of the old connection, told after the open of the new one, changes nothing. */
static void test_tracker_ignores_the_close_of_a_replaced_session(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeSession *old, *new;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        old = connect_node(&e, "n1", 1);
        hello(&e, old, REPORT("192.0.2.1"), "[]");
        new = connect_node(&e, "n1", 2);
        hello(&e, new, REPORT("192.0.2.1"), "[]");
        disconnect(&e, old);
        row = get_node(&e, new->node_id);
        ASSERT_TRUE(row->connected);

        /* Nor does it speak for the node any more. */
        ASSERT_OK(say(&e, old, 0, "node.report", "{\"cpus\": 99}"));
        engine_wait(&e, 1200 * USEC_PER_MSEC);
        row = node_row_free(row);
        row = get_node(&e, new->node_id);
        ASSERT_STREQ(field(row->report, "cpus"), "4");

        disconnect(&e, new);
        row = node_row_free(row);
        row = get_node(&e, new->node_id);
        ASSERT_FALSE(row->connected);
        ASSERT_EQ(row->disconnected_at, fake_now);
        ASSERT_STREQ(node_state(row), "offline");
        session_free(old);
        session_free(new);
        engine_remove(&e);
}

/* Trap 18. */
static void test_tracker_refuses_colliding_routes(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, "{\"routes\": [\"0.0.0.0/0\", \"10.81.4.0/24\"]}", "[]");
        ASSERT_FALSE(s->reply);
        ASSERT_EQ(s->close_code, 4009);
        ASSERT_STREQ(s->error.message, "The machine has the route 10.81.4.0/24, which collides with the "
                                       "subnet 10.81.0.0/16 of grid 'grid'.");
        ASSERT_STREQ(s->close_reason, s->error.message);
        ASSERT_EQ(count_events("warning node:refused"), 1);
        disconnect(&e, s);
        row = get_node(&e, s->node_id); /* the node stays known, and may come when the route is gone */
        ASSERT_FALSE(row->report);
        session_free(s);
        s = connect_node(&e, "n1", 2);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        ASSERT_TRUE(s->reply);

        /* One that has joined keeps running. */
        session_free(s);
        s = connect_node(&e, "n1", 3);
        hello(&e, s, "{\"addresses\": [\"10.81.200.7/24\"]}", "[]");
        ASSERT_TRUE(s->reply);
        ASSERT_EQ(s->close_code, 0);
        ASSERT_EQ(count_events("warning node:network"), 1);
        session_free(s);
        engine_remove(&e);
}

/* Deploys "web" and returns the instance's row. */
static InstanceRow *deploy_web(Engine *e, const char *spec) {
        add_service(e, "grid", "web", spec);
        free(request_deploy(e, "s-web", false));
        flush(e);
        return get_instance(e, "s-web", 1);
}

static void tell(
                Engine *e, NodeSession *s, const InstanceRow *row, const char *st, unsigned epoch, int pid) {
        ASSERT_OK(say(e, s, 0, "instances.status",
                        "{\"instances\": [{\"id\": \"%s\", \"deploy_rev\": %" PRIu64
                        ", \"service_rev\": %" PRIu64 ", \"state\": \"%s\", \"epoch\": %u, \"pid\": %i, "
                        "\"error\": null, \"exit_status\": null}]}",
                        row->id, row->deploy_rev, row->service_rev, st, epoch, pid));
}

static void test_tracker_deploys_over_the_channel(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL, *after = NULL;
        NodeSession *s1, *s2;
        char path[128];
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s1 = connect_node(&e, "n1", 1);
        hello(&e, s1, REPORT("192.0.2.1"), "[]");
        flush(&e);
        row = deploy_web(&e, "{\"image\": \"web:1\"}");
        ASSERT_TRUE(row);

        /* The node's new block, and the instance, in one message. */
        ASSERT_STREQ(s1->last_method, "desired.update");
        ASSERT_STREQ(field(s1->last, "set|node|blocks"), "[ \"10.81.128.0\\/25\" ]");
        (void) snprintf(path, sizeof(path), "set|instances|%s|desired", row->id);
        ASSERT_STREQ(field(s1->last, path), "running");
        (void) snprintf(path, sizeof(path), "set|instances|%s|hostname", row->id);
        ASSERT_STREQ(field(s1->last, path), "web-1");
        (void) snprintf(path, sizeof(path), "set|instances|%s|search", row->id);
        ASSERT_STREQ(field(s1->last, path), "[ \"grid.kontena.local\", \"kontena.local\" ]");
        (void) snprintf(path, sizeof(path), "set|instances|%s|spec|image", row->id);
        ASSERT_STREQ(field(s1->last, path), "web:1");
        (void) snprintf(path, sizeof(path), "set|instances|%s|address", row->id);
        ASSERT_STREQ(field(s1->last, path), "10.81.128.2");
        ASSERT_FALSE(field(s1->last, "set|names")); /* it does not run yet */

        s2 = connect_node(&e, "n2", 2);
        hello(&e, s2, REPORT("192.0.2.2"), "[]");
        tell(&e, s1, row, "pulling", 0, 0);
        flush(&e);
        ASSERT_STREQ(field(s2->reply, "desired|names"), "{ }");
        tell(&e, s1, row, "running", 1, 77);
        flush(&e);
        ASSERT_STREQ(field(s2->last, "set|names|web.kontena.local"), "[ \"10.81.128.2\" ]");
        ASSERT_STREQ(field(s1->last, "set|names|web-1.grid.kontena.local"), "[ \"10.81.128.2\" ]");

        after = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(after->state, "running");
        ASSERT_EQ(after->pid, 77);
        ASSERT_EQ(deploy_is_running(e.m.store, "s-web"), 0);
        session_free(s1);
        session_free(s2);
        engine_remove(&e);
}

/* Trap 11: names follow the state at once, and what is older than the last start counts for nothing. */
static void test_tracker_names_follow_state_by_epoch(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL, *after = NULL;
        NodeSession *s;
        unsigned n;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        row = deploy_web(&e, "{\"image\": \"web:1\"}");
        tell(&e, s, row, "running", 5, 77);
        flush(&e);
        ASSERT_STREQ(field(s->last, "set|names|web-1.kontena.local"), "[ \"10.81.128.2\" ]");

        tell(&e, s, row, "restarting", 5, 0);
        flush(&e);
        ASSERT_TRUE(strstr(strempty(field(s->last, "remove|names")), "web-1.kontena.local"));
        n = s->n_notified;
        tell(&e, s, row, "running", 4, 77); /* from before the crash, delivered late */
        flush(&e);
        ASSERT_EQ(s->n_notified, n);
        tell(&e, s, row, "running", 6, 78);
        flush(&e);
        ASSERT_STREQ(field(s->last, "set|names|web-1.kontena.local"), "[ \"10.81.128.2\" ]");

        /* The old container serves while the next image is pulled. */
        n = s->n_notified;
        tell(&e, s, row, "pulling", 6, 78);
        flush(&e);
        ASSERT_EQ(s->n_notified, n);
        tell(&e, s, row, "stopping", 6, 78);
        flush(&e);
        ASSERT_TRUE(strstr(strempty(field(s->last, "remove|names")), "web-1.kontena.local"));

        /* A new connection says all anew, also with a lower epoch: the node may have lost its disk. */
        session_free(s);
        s = connect_node(&e, "n1", 2);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        after = get_instance(&e, "s-web", 1);
        ASSERT_STREQ(after->state, "pending");
        tell(&e, s, row, "running", 1, 5);
        flush(&e);
        ASSERT_STREQ(field(s->last, "set|names|web-1.kontena.local"), "[ \"10.81.128.2\" ]");
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_keeps_names_of_an_offline_node_for_the_grace(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        NodeSession *s1, *s2;
        unsigned n;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s1 = connect_node(&e, "n1", 1);
        hello(&e, s1, REPORT("192.0.2.1"), "[]");
        row = deploy_web(&e, "{\"image\": \"web:1\", \"strategy\": \"random\"}");
        tell(&e, s1, row, "running", 1, 7);
        flush(&e);
        s2 = connect_node(&e, "n2", 2);
        hello(&e, s2, REPORT("192.0.2.2"), "[]");
        ASSERT_STREQ(field(s2->reply, "desired|names|web.kontena.local"), "[ \"10.81.128.2\" ]");
        flush(&e);

        disconnect(&e, s1);
        n = s2->n_notified;
        flush(&e);
        ASSERT_EQ(s2->n_notified, n);
        fake_now += 30 * USEC_PER_SEC;
        ASSERT_OK(say(&e, s2, 0, "node.report", REPORT("192.0.2.2")));
        add_node(&e, "grid", 9); /* any change makes it look */
        flush(&e);
        ASSERT_TRUE(strstr(strempty(field(s2->last, "remove|names")), "web.kontena.local"));
        session_free(s1);
        session_free(s2);
        engine_remove(&e);
}

/* Trap 4: a node that was cut off comes back with what was moved away meanwhile. */
static void test_tracker_has_one_winner_after_a_partition(void **state) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(instance_row_freep) InstanceRow *old = NULL, *new = NULL;
        NodeSession *s1, *s2;
        char path[128];
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s1 = connect_node(&e, "n1", 1);
        hello(&e, s1, REPORT("192.0.2.1"), "[]");
        old = deploy_web(&e, "{\"image\": \"web:1\"}");
        tell(&e, s1, old, "running", 1, 7);
        flush(&e);
        disconnect(&e, s1);
        s2 = connect_node(&e, "n2", 2);
        hello(&e, s2, REPORT("192.0.2.2"), "[]");
        free(request_deploy(&e, "s-web", false));
        flush(&e);
        new = get_instance(&e, "s-web", 1);
        ASSERT_FALSE(streq(new->id, old->id));
        tell(&e, s2, new, "running", 1, 8);
        flush(&e);

        session_free(s1);
        s1 = connect_node(&e, "n1", 3);
        ASSERT_OK(say(&e, s1, 1, "node.hello",
                        "{\"report\": %s, \"epoch\": 0, \"instances\": [{\"id\": \"%s\", \"deploy_rev\": 1, "
                        "\"service_rev\": 1, \"state\": "
                        "\"running\", \"epoch\": 1}]}",
                        REPORT("192.0.2.1"), old->id));
        (void) snprintf(path, sizeof(path), "desired|instances|%s|desired", old->id);
        ASSERT_STREQ(field(s1->reply, path), "terminated");
        (void) snprintf(path, sizeof(path), "desired|instances|%s|desired", new->id);
        ASSERT_FALSE(field(s1->reply, path));
        ASSERT_STREQ(field(s1->reply, "desired|names|web.kontena.local"), "[ \"10.81.128.130\" ]");
        ASSERT_EQ(count_events("Node 'n1' came back with null/web-1 of deploy 1; 'n2' has it since deploy "
                               "2, "
                               "the older copy is removed."),
                        1);

        /* Gone for good, with its address, once the node says so. */
        tell(&e, s1, old, "removed", 0, 0);
        ASSERT_OK(store_list_instances_of_service(e.m.store, "s-web", &rows));
        ASSERT_EQ(rows.n, 1);
        ASSERT_STREQ(rows.rows[0]->id, new->id);
        session_free(s1);
        session_free(s2);
        engine_remove(&e);
}

static void test_tracker_terminated_instance_is_gone_when_the_node_does_not_have_it(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        InstanceRow *gone = NULL;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        row = deploy_web(&e, "{\"image\": \"web:1\"}");
        engine_begin(&e);
        row->desired = INSTANCE_TERMINATED;
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        session_free(s);
        s = connect_node(&e, "n1", 2);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        ASSERT_ERROR(store_get_instance(e.m.store, row->id, &gone), ENOENT);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_run_that_the_node_has_lost_is_not_run_again(void **state) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL, *after = NULL;
        _cleanup_free_ char *path = NULL;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        row = deploy_web(&e, "{\"image\": \"web:1\"}");
        engine_begin(&e);
        row->run_id = strdup("r");
        row->deploy_rev = row->observed_deploy_rev = 1;
        ASSERT_OK(free_and_strdup(&row->state, "running"));
        ASSERT_OK(store_put_instance(e.m.store, row));
        engine_commit(&e);
        engine_settle(&e);
        session_free(s);
        s = connect_node(&e, "n1", 2);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        ASSERT_OK(store_get_instance(e.m.store, row->id, &after));
        ASSERT_STREQ(after->state, "failed");
        ASSERT_STREQ(after->error, "lost: its node does not know of it any more");
        ASSERT_EQ(after->observed_deploy_rev, 1);
        ASSERT_EQ(after->desired, INSTANCE_STOPPED);
        path = strjoin("desired|instances|", row->id, "|desired");
        ASSERT_STREQ(field(s->reply, path), "stopped"); /* in the first that it hears */
        session_free(s);
        engine_remove(&e);
}

static void tell_hooks(Engine *e, NodeSession *s, const InstanceRow *row, const char *hooks) {
        ASSERT_OK(say(e, s, 0, "instances.status",
                        "{\"instances\": [{\"id\": \"%s\", \"deploy_rev\": 1, \"state\": \"starting\", "
                        "\"epoch\": 1, "
                        "\"hooks_done\": %s}]}",
                        row->id, hooks));
}

static void test_tracker_remembers_oneshot_hooks(void **state) {
        _cleanup_strv_free_ char **done = NULL, **other = NULL;
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        _cleanup_free_ char *text = NULL, *many = strdup("\"x\"");
        NodeSession *s;
        char path[128];
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        row = deploy_web(&e, "{\"image\": \"web:1\", \"hooks\": {\"pre_start\": ["
                             "{\"name\": \"a\", \"cmd\": \"x\", \"oneshot\": true}, {\"name\": \"b\", "
                             "\"cmd\": \"x\"}]}}");
        (void) snprintf(path, sizeof(path), "set|instances|%s|hooks_done", row->id);
        ASSERT_STREQ(field(s->last, path), "[ ]");
        /* Neither one that is none of the service's, nor one that is to run each time. */
        tell_hooks(&e, s, row, "[\"pre_start/a\", \"pre_start/b\", \"pre_stop/a\", \"a\", \"/a\", 7, null]");
        ASSERT_OK(store_list_hooks_done(e.m.store, "s-web", 1, &done));
        text = strv_join(done, ",");
        ASSERT_STREQ(text, "pre_start/a");
        ASSERT_OK(store_list_hooks_done(e.m.store, "s-web", 2, &other));
        ASSERT_EQ(strv_length(other), 0);
        /* Whoever gets the instance next is told. */
        flush(&e);
        ASSERT_STREQ(field(s->last, path), "[ \"pre_start\\/a\" ]");

        /* Too many of them, and those of a service that is gone, are nobody's trouble. */
        for (unsigned i = 0; i < 3 * HOOKS_MAX; i++) {
                _cleanup_free_ char *before = TAKE_PTR(many);

                many = strjoin(before, ",\"x\"");
        }
        text = mfree(text);
        text = strjoin("[", many, "]");
        tell_hooks(&e, s, row, text);
        engine_begin(&e);
        ASSERT_OK(store_terminate_instance(e.m.store, row, 0));
        ASSERT_OK(store_delete_service(e.m.store, "s-web"));
        engine_commit(&e);
        tell_hooks(&e, s, row, "[\"pre_start/a\"]");
        ASSERT_EQ(s->close_code, 0);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_numbers_differences_and_starts_anew_when_asked(void **state) {
        uint64_t epoch, seq;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        epoch = json_object_get_uint64(json_object_object_get(s->reply, "epoch"));
        for (seq = 1; seq <= 3; seq++) {
                add_node(&e, "grid", 10 + (uint32_t) seq);
                flush(&e);
                ASSERT_STREQ(s->last_method, "desired.update");
                ASSERT_EQ(json_object_get_uint64(json_object_object_get(s->last, "epoch")), epoch);
                ASSERT_EQ(json_object_get_uint64(json_object_object_get(s->last, "seq")), seq);
        }
        ASSERT_OK(say(&e, s, 2, "desired.get", "{}"));
        ASSERT_FALSE(json_object_get_uint64(json_object_object_get(s->reply, "epoch")) == epoch);
        ASSERT_EQ(json_object_object_length(json_object_object_get(
                                  json_object_object_get(s->reply, "desired"), "peers")),
                        3);
        add_node(&e, "grid", 20);
        flush(&e);
        ASSERT_EQ(json_object_get_uint64(json_object_object_get(s->last, "seq")), 1);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_sends_nothing_when_nothing_changed(void **state) {
        NodeSession *s;
        unsigned n;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        flush(&e);
        n = s->n_notified;
        ASSERT_OK(say(&e, s, 0, "node.report", REPORT("192.0.2.1")));
        node_tracker_handler()->seen(s, e.m.tracker);
        engine_wait(&e, 1200 * USEC_PER_MSEC);
        ASSERT_EQ(s->n_notified, n);
        session_free(s);
        engine_remove(&e);
}

static void count_nodes(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        *(unsigned *) userdata += kind == STORE_NODE;
}

/* Each node reports each minute, and each watch would read its row again. */
static void test_tracker_tells_nobody_of_a_report_that_says_nothing_new(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        unsigned n = 0;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        flush(&e);
        ASSERT_OK(store_watch(e.m.store, count_nodes, &n));
        ASSERT_OK(say(&e, s, 0, "node.report",
                        "{\"load\": [7], \"memory\": {\"free\": 5}, \"cpus\": 4, \"private_address\": "
                        "\"192.0.2.1\", "
                        "\"mtu\": 1500, \"routes\": [\"0.0.0.0/0\", \"192.0.2.0/24\"], \"addresses\": "
                        "[\"192.0.2.1/24\"]}"));
        row = get_node(&e, s->node_id);
        for (unsigned i = 0; i < 50 && !field(row->report, "memory|free"); i++) {
                engine_wait(&e, 100 * USEC_PER_MSEC);
                node_row_free(row);
                row = get_node(&e, s->node_id);
        }
        ASSERT_STREQ(field(row->report, "memory|free"), "5"); /* it is there, */
        engine_settle(&e);
        ASSERT_EQ(n, 0); /* but was not told */

        ASSERT_OK(say(&e, s, 0, "node.report", REPORT("192.0.2.2")));
        for (unsigned i = 0; i < 50 && n == 0; i++)
                engine_wait(&e, 100 * USEC_PER_MSEC);
        ASSERT_EQ(n, 1);
        row = node_row_free(row);
        row = get_node(&e, s->node_id);
        ASSERT_STREQ(field(row->report, "private_address"), "192.0.2.2");
        session_free(s);
        engine_remove(&e);
}

static void add_registry(Engine *e, const char *username) {
        RegistryRow row = { .id = (char *) "r",
                .grid_id = (char *) "grid",
                .name = (char *) "registry:5000",
                .username = (char *) username };

        ASSERT_OK(registry_seal(e->m.keyring, &row, "secret"));
        engine_begin(e);
        ASSERT_OK(store_put_registry(e->m.store, &row));
        engine_commit(e);
        free(row.sealed);
        engine_settle(e);
}

static const char *first_user(json_object *node) {
        json_object *l = NULL;

        ASSERT_TRUE(json_object_object_get_ex(node, "registries", &l));
        return field(json_object_array_get_idx(l, 0), "username");
}

static void test_tracker_tells_new_credentials_before_a_question(void **state) {
        json_object *node = NULL;
        NodeSession *s;
        Engine e = {};
        unsigned n;

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        flush(&e);
        add_registry(&e, "anna");
        flush(&e);
        ASSERT_STREQ(s->last_method, "desired.update");
        ASSERT_TRUE(json_object_object_get_ex(json_object_object_get(s->last, "set"), "node", &node));
        ASSERT_STREQ(first_user(node), "anna");

        /* At once, though changes are collected for a moment, and once only. */
        n = s->n_notified;
        add_registry(&e, "bob");
        node_tracker_tell(e.m.tracker, s->node_id);
        ASSERT_EQ(s->n_notified, n + 1);
        ASSERT_TRUE(json_object_object_get_ex(json_object_object_get(s->last, "set"), "node", &node));
        ASSERT_STREQ(first_user(node), "bob");
        node_tracker_tell(e.m.tracker, s->node_id);
        flush(&e);
        ASSERT_EQ(s->n_notified, n + 1);
        node_tracker_tell(e.m.tracker, "nobody");
        node_tracker_tell(NULL, s->node_id);

        session_free(s);
        engine_remove(&e);
}

static void test_tracker_refuses_malformed_messages(void **state) {
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        ASSERT_ERROR(say(&e, s, 1, "desired.get", "{}"), EBADMSG); /* hello comes first */
        ASSERT_ERROR(say(&e, s, 1, "node.hello", "{}"), EBADMSG);
        ASSERT_ERROR(say(&e, s, 1, "node.hello", "{\"report\": {}, \"instances\": 7}"), EBADMSG);
        hello(&e, s, REPORT("192.0.2.1"), "[7, {}, {\"id\": \"x\", \"state\": \"dancing\"}]");
        ASSERT_TRUE(s->reply); /* records that cannot be read are left out */
        ASSERT_ERROR(say(&e, s, 0, "instances.status", "{\"instances\": {}}"), EBADMSG);
        ASSERT_ERROR(say(&e, s, 0, "node.report", "[]"), EBADMSG);
        ASSERT_OK(say(&e, s, 0, "something.newer", "{}"));
        ASSERT_OK(say(&e, s, 9, "something.newer", "{}"));
        ASSERT_EQ(s->error.code, K_NO_SUCH_OPERATION);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_bounds_events_of_a_node(void **state) {
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        for (unsigned i = 0; i < NODE_EVENTS_PER_MINUTE_MAX + 50; i++)
                ASSERT_OK(say(&e, s, 0, "event",
                                "{\"severity\": \"info\", \"type\": \"service:start_instance\", "
                                "\"message\": \"Started.\", \"service\": \"null/web\", "
                                "\"instance\": 1}"));
        ASSERT_EQ(count_events("service:start_instance"), NODE_EVENTS_PER_MINUTE_MAX);
        fake_now += 60 * USEC_PER_SEC;
        ASSERT_OK(say(&e, s, 0, "event", "{\"severity\": \"info\", \"type\": \"t\", \"message\": \"m\"}"));
        ASSERT_EQ(count_events("50 more events of the node"), 1);
        ASSERT_OK(say(&e, s, 0, "event", "{\"severity\": \"loud\", \"type\": \"t\", \"message\": \"m\"}"));
        ASSERT_EQ(count_events(" t m"), 1);
        /* Its service was removed meanwhile. */
        ASSERT_OK(say(&e, s, 0, "event",
                        "{\"severity\": \"info\", \"type\": \"t\", \"message\": \"m\", \"service\": "
                        "\"shop/web\", "
                        "\"instance\": 2}"));
        ASSERT_EQ(count_events(" t shop/web-2: m"), 1);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_marks_all_disconnected_at_start(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        engine_stop(&e);
        fake_now += 1000 * USEC_PER_SEC;
        engine_start(&e, true);
        row = get_node(&e, s->node_id);
        ASSERT_FALSE(row->connected);
        ASSERT_EQ(row->disconnected_at, fake_now); /* the grace counts from here */
        session_free(s);
        engine_remove(&e);
}

/* Killed in the middle of a deploy: the new master lets the nodes come back before it places anything, so the first of them does
 * not get everything. A node that does not come is waited for only so long. */
static void come_back(bool all) {
        _cleanup_(instance_row_list_done) InstanceRowList before = {}, after = {};
        NodeSession *s[3] = {};
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        for (unsigned i = 0; i < 3; i++) {
                s[i] = connect_node(&e, (const char *const[]){ "n1", "n2", "n3" }[i], i + 1);
                hello(&e, s[i], REPORT("192.0.2.1"), "[]");
        }
        add_service(&e, "grid", "web", "{\"image\": \"web:1\", \"count\": 2}");
        free(request_deploy(&e, "s-web", false));
        engine_stop(&e);

        engine_start(&e, true);
        for (unsigned i = 0; i < 2; i++) {
                session_free(s[i]);
                s[i] = connect_node(&e, (const char *const[]){ "n1", "n2" }[i], i + 10);
                hello(&e, s[i], REPORT("192.0.2.1"), "[]");
                flush(&e);
        }
        ASSERT_OK(store_list_instances_of_grid(e.m.store, "grid", &before));
        ASSERT_EQ(before.n, 0);

        session_free(s[2]);
        s[2] = NULL;
        if (all)
                s[2] = connect_node(&e, "n3", 13);
        else {
                fake_now += 30 * USEC_PER_SEC;
                add_node(&e, "grid", 99); /* any change makes it look */
                set_connected(&e, "n99", false);
        }
        flush(&e);
        ASSERT_OK(store_list_instances_of_grid(e.m.store, "grid", &after));
        ASSERT_EQ(after.n, 2);
        ASSERT_FALSE(streq(after.rows[0]->node_id, after.rows[1]->node_id));
        for (unsigned i = 0; i < 3; i++)
                if (s[i])
                        session_free(s[i]);
        engine_remove(&e);
}

static void test_tracker_lets_nodes_come_back_before_a_deploy_goes_on(void **state) {
        come_back(/* all= */ true);
        come_back(/* all= */ false);
}

/* A full disk: nodes are served, and marked when it can be written again. */
static void test_tracker_catches_up_when_the_store_can_be_written_again(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        s = connect_node(&e, "n1", 1);
        hello(&e, s, REPORT("192.0.2.1"), "[]");
        store_is_dead = true;
        disconnect(&e, s);
        row = get_node(&e, s->node_id);
        ASSERT_TRUE(row->connected);
        store_is_dead = false;
        engine_wait(&e, 2200 * USEC_PER_MSEC);
        row = node_row_free(row);
        row = get_node(&e, s->node_id);
        ASSERT_FALSE(row->connected);
        session_free(s);
        engine_remove(&e);
}

static void test_tracker_is_settled_only_with_its_nodes_marked(void **state) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeIntroduction who = introduction("n1");
        _cleanup_free_ char *node_id = NULL;
        uint64_t until;
        NodeSession *s;
        Engine e = {};

        make_joinable_grid(&e, "10.81.0.0/16");
        session_free(connect_node(&e, "n1", 1));
        engine_stop(&e);
        engine_start(&e, true);
        ASSERT_FALSE(node_tracker_is_settled(e.m.tracker, "grid", fake_now, &until));

        who.name = "n1";
        ASSERT_EQ(admit(&e, &who, &node_id, NULL), 0);
        s = session_new(node_id, 2);
        node_tracker_handler()->opened(s, e.m.tracker);
        row = get_node(&e, node_id);
        ASSERT_TRUE(row->connected || !node_tracker_is_settled(e.m.tracker, "grid", fake_now, &until));
        session_free(s);
        engine_remove(&e);
}

KONTENA_TESTS(cmocka_unit_test(test_tracker_is_settled_only_with_its_nodes_marked),
                cmocka_unit_test(test_tracker_answers_hello_with_everything),
                cmocka_unit_test(test_tracker_introduces_peers),
                cmocka_unit_test(test_tracker_ignores_the_close_of_a_replaced_session),
                cmocka_unit_test(test_tracker_refuses_colliding_routes),
                cmocka_unit_test(test_tracker_deploys_over_the_channel),
                cmocka_unit_test(test_tracker_names_follow_state_by_epoch),
                cmocka_unit_test(test_tracker_keeps_names_of_an_offline_node_for_the_grace),
                cmocka_unit_test(test_tracker_has_one_winner_after_a_partition),
                cmocka_unit_test(test_tracker_terminated_instance_is_gone_when_the_node_does_not_have_it),
                cmocka_unit_test(test_tracker_run_that_the_node_has_lost_is_not_run_again),
                cmocka_unit_test(test_tracker_remembers_oneshot_hooks),
                cmocka_unit_test(test_tracker_numbers_differences_and_starts_anew_when_asked),
                cmocka_unit_test(test_tracker_sends_nothing_when_nothing_changed),
                cmocka_unit_test(test_tracker_tells_nobody_of_a_report_that_says_nothing_new),
                cmocka_unit_test(test_tracker_tells_new_credentials_before_a_question),
                cmocka_unit_test(test_tracker_refuses_malformed_messages),
                cmocka_unit_test(test_tracker_bounds_events_of_a_node),
                cmocka_unit_test(test_tracker_marks_all_disconnected_at_start),
                cmocka_unit_test(test_tracker_lets_nodes_come_back_before_a_deploy_goes_on),
                cmocka_unit_test(test_tracker_catches_up_when_the_store_can_be_written_again))
