/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-engine.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "events.h"
#include "keyring.h"
#include "volume.h"

uint64_t fake_now = 1700000000 * USEC_PER_SEC;
int commits_left = -1;
bool die_after_commit, store_is_dead;
char *event_log;

/* Clock and store */

uint64_t __wrap_now_realtime(void);
int __real_store_begin(Store *s, KError *reterr);
int __wrap_store_begin(Store *s, KError *reterr);
int __real_store_begin_retold(Store *s, KError *reterr);
int __wrap_store_begin_retold(Store *s, KError *reterr);
int __real_store_commit(Store *s, KError *reterr);
int __wrap_store_commit(Store *s, KError *reterr);

uint64_t __wrap_now_realtime(void) {
        return fake_now;
}

int __wrap_store_begin(Store *s, KError *reterr) {
        if (store_is_dead)
                return kerror_set(reterr, K_UNAVAILABLE, "The test has killed the store.");
        return __real_store_begin(s, reterr);
}

int __wrap_store_begin_retold(Store *s, KError *reterr) {
        if (store_is_dead)
                return kerror_set(reterr, K_UNAVAILABLE, "The test has killed the store.");
        return __real_store_begin_retold(s, reterr);
}

int __wrap_store_commit(Store *s, KError *reterr) {
        int r;

        if (commits_left == 0) {
                store_is_dead = true;
                if (!die_after_commit) {
                        store_rollback(s);
                        return -EIO;
                }
                r = __real_store_commit(s, reterr);
                return r < 0 ? r : -EIO;
        }
        if (commits_left > 0)
                commits_left--;
        return __real_store_commit(s, reterr);
}

/* What the engine calls and the faces implement */

int events_add(Master *m, const EventInfo *info, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        char *longer;
        va_list ap;

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        ASSERT_TRUE(message);
        ASSERT_TRUE(STR_IN_SET(info->severity, "debug", "info", "warning", "error"));
        longer = strjoin(strempty(event_log), info->severity, " ", info->type, " ", message, "\n");
        ASSERT_TRUE(longer);
        free(event_log);
        event_log = longer;
        return 0;
}

int log_streams_data(Master *m, struct NodeSession *session, json_object *params) {
        return 0;
}

void log_streams_node_gone(Master *m, const char *node_id) {
}

int fake_copy_result = 1;
unsigned fake_copies;

int data_copy_run(DataCopies *l, const DataCopyRequest *q, char **ret_progress, KError *reterr) {
        fake_copies++;
        if (fake_copy_result < 0)
                return kerror_set(reterr, K_UNAVAILABLE, "The disk of the node is full.");
        return fake_copy_result;
}

void data_copy_forget(DataCopies *l, const char *deploy_id) {
}

NodeSession *session_new(const char *node_id, uint64_t id) {
        NodeSession *s = new0(NodeSession, 1);

        ASSERT_TRUE(s);
        s->node_id = strdup(node_id);
        s->id = id;
        return s;
}

void session_free(NodeSession *s) {
        free(s->node_id);
        free(s->last_method);
        free(s->close_reason);
        json_object_put(s->last);
        json_object_put(s->reply);
        kerror_done(&s->error);
        free(s);
}

const char *session_node_id(NodeSession *s) {
        return s->node_id;
}

uint64_t session_id(NodeSession *s) {
        return s->id;
}

const char *session_address(NodeSession *s) {
        return "192.0.2.7";
}

NodeSession *fake_session;
session_result_t fake_call_done;
void *fake_call_userdata;

NodeSession *node_sessions_find(NodeSessions *l, const char *node_id) {
        return fake_session;
}

int session_call(NodeSession *s, const char *method, json_object *params, uint64_t timeout_usec,
                session_result_t done, void *userdata) {
        json_object_put(s->last);
        s->last = params;
        (void) free_and_strdup(&s->last_method, method);
        fake_call_done = done;
        fake_call_userdata = userdata;
        return 0;
}

int session_notify(NodeSession *s, const char *method, json_object *params) {
        ASSERT_OK(free_and_strdup(&s->last_method, method));
        json_object_put(s->last);
        s->last = params;
        s->n_notified++;
        return 0;
}

int session_send_binary(NodeSession *s, const void *head, size_t head_size, const void *data, size_t size) {
        return 0;
}

int session_reply(NodeSession *s, uint64_t id, json_object *result) {
        json_object_put(s->reply);
        s->reply = result;
        return 0;
}

int session_reply_error(NodeSession *s, uint64_t id, const KError *error) {
        kerror_done(&s->error);
        (void) kerror_set(&s->error, error->code, "%s", kerror_message(error));
        return 0;
}

void session_close(NodeSession *s, int code, const char *reason) {
        s->close_code = code;
        ASSERT_OK(free_and_strdup(&s->close_reason, reason));
}

/* The master */

void engine_start(Engine *e, bool tracked) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        char path[128];
        int r;

        if (isempty(e->directory)) {
                (void) snprintf(e->directory, sizeof(e->directory), "/tmp/test-engine-XXXXXX");
                ASSERT_TRUE(mkdtemp(e->directory));
        }
        (void) snprintf(path, sizeof(path), "%s/store.db", e->directory);

        store_is_dead = false;
        commits_left = -1;
        e->tracked = tracked;
        ASSERT_OK(sd_event_new(&e->m.event));
        r = store_open(e->m.event, path, &e->m.store, &error);
        if (r < 0)
                fail_msg("%s", kerror_message(&error));
        ASSERT_OK(placement_cache_new(e->m.store, &e->m.placement));
        ASSERT_OK(deployer_new(&e->m, &e->m.deployer));
        ASSERT_OK(keyring_new(e->directory, &e->m.keyring, &error));
        if (tracked) {
                ASSERT_OK(node_tracker_new(&e->m, &e->m.tracker));
                ASSERT_OK(rescheduler_new(&e->m, &e->m.rescheduler));
        }
        event_log = mfree(event_log);
}

void engine_stop(Engine *e) {
        e->m.rescheduler = rescheduler_free(e->m.rescheduler);
        e->m.tracker = node_tracker_free(e->m.tracker);
        e->m.deployer = deployer_free(e->m.deployer);
        e->m.placement = placement_cache_free(e->m.placement);
        e->m.store = store_close(e->m.store);
        e->m.keyring = keyring_free(e->m.keyring);
        e->m.event = sd_event_unref(e->m.event);
        event_log = mfree(event_log);
}

void engine_remove(Engine *e) {
        engine_stop(e);
        ASSERT_OK(rm_rf_at(AT_FDCWD, e->directory));
        e->directory[0] = '\0';
}

void engine_settle(Engine *e) {
        for (unsigned i = 0; i < 10000; i++) {
                int r = sd_event_run(e->m.event, 0);

                ASSERT_OK(r);
                if (r == 0 || store_is_dead)
                        return;
        }
        fail_msg("The event loop does not come to rest.");
}

void engine_wait(Engine *e, uint64_t usec) {
        uint64_t end = now_monotonic() + usec;

        for (uint64_t now = now_monotonic(); now < end; now = now_monotonic())
                ASSERT_OK(sd_event_run(e->m.event, end - now));
        engine_settle(e); /* what was due by then, although this process had no turn meanwhile */
}

void engine_begin(Engine *e) {
        ASSERT_OK(__real_store_begin(e->m.store, NULL));
}

void engine_commit(Engine *e) {
        ASSERT_OK(__real_store_commit(e->m.store, NULL));
}

void add_grid(Engine *e, const char *id, const char *subnet) {
        engine_begin(e);
        ASSERT_OK(store_put_grid(e->m.store, &(GridRow){ .id = (char *) id,
                                                             .name = (char *) id,
                                                             .subnet = (char *) subnet,
                                                             .supernet = (char *) "10.80.0.0/12",
                                                             .token_id = (char *) id,
                                                             .initial_size = 1,
                                                             .revision = 1 }));
        engine_commit(e);
}

void add_node(Engine *e, const char *grid_id, uint32_t number) {
        _cleanup_json_ json_object *report = json_tokener_parse(
                        "{\"cpus\": 4, \"private_address\": \"192.0.2.1\", \"mtu\": 1500}");
        _cleanup_free_ char *id = strprintf("n%u", number);

        engine_begin(e);
        ASSERT_OK(store_put_node(e->m.store, &(NodeRow){ .id = id,
                                                             .grid_id = (char *) grid_id,
                                                             .name = id,
                                                             .number = number,
                                                             .node_key = id,
                                                             .connected = true,
                                                             .connected_at = fake_now,
                                                             .report = report }));
        engine_commit(e);
}

void set_connected(Engine *e, const char *node_id, bool connected) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        engine_begin(e);
        ASSERT_OK(store_get_node(e->m.store, node_id, &row));
        row->connected = connected;
        if (!connected)
                row->disconnected_at = fake_now;
        ASSERT_OK(store_put_node(e->m.store, row));
        engine_commit(e);
}

void remove_node(Engine *e, const char *node_id) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};

        engine_begin(e);
        ASSERT_OK(store_list_instances_of_node(e->m.store, node_id, &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                if ((*i)->desired == INSTANCE_TERMINATED || (*i)->role != INSTANCE_CURRENT) {
                        ASSERT_OK(store_delete_instance(e->m.store, (*i)->id));
                        continue;
                }
                (*i)->node_id = mfree((*i)->node_id);
                ASSERT_OK(store_put_instance(e->m.store, *i));
        }
        ASSERT_OK(volume_forget_node(e->m.store, node_id));
        ASSERT_OK(store_delete_node(e->m.store, node_id));
        engine_commit(e);
}

void add_service(Engine *e, const char *grid_id, const char *name, const char *spec) {
        _cleanup_json_ json_object *o = json_tokener_parse(spec);
        _cleanup_free_ char *id = strjoin("s-", name);

        ASSERT_TRUE(o);
        engine_begin(e);
        ASSERT_OK(store_put_service(e->m.store, &(ServiceRow){ .id = id,
                                                                .grid_id = (char *) grid_id,
                                                                .stack = (char *) "null",
                                                                .name = (char *) name,
                                                                .revision = 1,
                                                                .spec = o,
                                                                .created_at = fake_now,
                                                                .updated_at = fake_now }));
        engine_commit(e);
}

void set_spec(Engine *e, const char *service_id, const char *spec, bool is_update) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;

        engine_begin(e);
        ASSERT_OK(store_get_service(e->m.store, service_id, &row));
        json_object_put(row->spec);
        row->spec = json_tokener_parse(spec);
        ASSERT_TRUE(row->spec);
        if (is_update) {
                row->revision++;
                row->updated_at = fake_now;
        }
        ASSERT_OK(store_put_service(e->m.store, row));
        engine_commit(e);
}

char *request_deploy(Engine *e, const char *service_id, bool force) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        char *id = NULL;

        engine_begin(e);
        ASSERT_OK(store_get_service(e->m.store, service_id, &row));
        ASSERT_OK(deploy_request(e->m.store, row, force ? DEPLOY_FORCE : 0, &id, NULL));
        engine_commit(e);
        return id;
}

static bool work_on(Engine *e, InstanceRow *row) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        bool bad;

        if (!row->node_id || store_get_node(e->m.store, row->node_id, &node) < 0 || !node->connected)
                return false;
        if (row->desired == INSTANCE_TERMINATED) {
                ASSERT_OK(store_delete_instance(e->m.store, row->id));
                return true;
        }
        if (row->desired == INSTANCE_STOPPED) {
                if (streq_ptr(row->state, "stopped") && row->observed_deploy_rev == row->deploy_rev)
                        return false;
                row->observed_deploy_rev = row->deploy_rev;
                row->pid = 0;
                ASSERT_OK(free_and_strdup(&row->state, "stopped"));
                ASSERT_OK(store_put_instance(e->m.store, row));
                return true;
        }
        if (row->observed_deploy_rev == row->deploy_rev && !streq_ptr(row->state, "stopped"))
                return false;

        bad = streq(json_object_get_string(json_object_object_get(row->spec, "image")), "bad");
        row->observed_deploy_rev = row->deploy_rev;
        row->observed_service_rev = row->service_rev;
        ASSERT_OK(free_and_strdup(&row->state, bad ? "failed" : "running"));
        ASSERT_OK(free_and_strdup(&row->error, bad ? "Image 'bad' was not found." : NULL));
        row->pid = 1;
        row->epoch++;
        ASSERT_OK(store_put_instance(e->m.store, row));
        return true;
}

bool nodes_work(Engine *e, const char *grid_id) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        bool worked = false;

        ASSERT_OK(store_list_instances_of_grid(e->m.store, grid_id, &rows));
        engine_begin(e);
        FOREACH_ARRAY(i, rows.rows, rows.n)
                worked = work_on(e, *i) || worked;
        engine_commit(e);
        return worked;
}

DeployRow *get_deploy(Engine *e, const char *id) {
        DeployRow *row = NULL;

        ASSERT_OK(store_get_deploy(e->m.store, id, &row));
        return row;
}

InstanceRow *get_instance(Engine *e, const char *service_id, uint32_t number) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};

        ASSERT_OK(store_list_instances_of_service(e->m.store, service_id, &rows));
        FOREACH_ARRAY(i, rows.rows, rows.n)
                if ((*i)->number == number && (*i)->desired != INSTANCE_TERMINATED &&
                                (*i)->role == INSTANCE_CURRENT) {
                        InstanceRow *row = *i;

                        *i = rows.rows[--rows.n];
                        return row;
                }
        return NULL;
}

void make_joinable_grid(Engine *e, const char *subnet) {
        _cleanup_(grid_row_freep) GridRow *row = NULL;

        engine_start(e, /* tracked= */ true);
        add_grid(e, "grid", subnet);
        engine_begin(e);
        ASSERT_OK(store_get_grid(e->m.store, "grid", &row));
        ASSERT_OK(free_and_strdup(&row->token_id, "abcdefgh"));
        ASSERT_OK(strv_extend(&row->trusted_subnets, "192.0.2.0/24"));
        keyring_hash_token(e->m.keyring, GRID_SECRET, row->token_hash);
        ASSERT_OK(store_put_grid(e->m.store, row));
        engine_commit(e);
        engine_settle(e);
}

NodeIntroduction introduction(const char *key) {
        return (NodeIntroduction){ .node_key = key,
                .secret = GRID_SECRET,
                .machine_id = key,
                .name = "host",
                .version = KONTENA_VERSION,
                .time = fake_now,
                .address = "192.0.2.7" };
}

int admit(Engine *e, const NodeIntroduction *who, char **ret_id, KError *reterr) {
        return node_tracker_handler()->admit(who, ret_id, reterr, e->m.tracker);
}

NodeRow *get_node(Engine *e, const char *id) {
        NodeRow *row = NULL;

        ASSERT_OK(store_get_node(e->m.store, id, &row));
        return row;
}

unsigned count_events(const char *part) {
        unsigned n = 0;

        for (const char *p = strempty(event_log); (p = strstr(p, part)); p++)
                n++;
        return n;
}
