/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <sqlite3.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "store.h"
#include "string-util.h"

/* The first schema as it was released. */
static const char schema_1[] =
                "CREATE TABLE grids ("
                "  id TEXT PRIMARY KEY,"
                "  name TEXT NOT NULL UNIQUE,"
                "  subnet TEXT NOT NULL,"
                "  supernet TEXT NOT NULL,"
                "  trusted_subnets TEXT NOT NULL,"
                "  default_affinity TEXT NOT NULL,"
                "  initial_size INTEGER NOT NULL CHECK (initial_size BETWEEN 1 AND 7),"
                "  token_id TEXT UNIQUE,"
                "  token_hash BLOB NOT NULL CHECK (length(token_hash) = 32),"
                "  token_sealed BLOB,"
                "  revision INTEGER NOT NULL,"
                "  created_at INTEGER NOT NULL,"
                "  updated_at INTEGER NOT NULL"
                ") STRICT;"
                "CREATE TABLE nodes ("
                "  id TEXT PRIMARY KEY,"
                "  grid_id TEXT NOT NULL REFERENCES grids (id),"
                "  name TEXT NOT NULL,"
                "  number INTEGER NOT NULL CHECK (number BETWEEN 1 AND 254),"
                "  node_key TEXT UNIQUE,"
                "  machine_id TEXT,"
                "  token_hash BLOB NOT NULL CHECK (length(token_hash) = 32),"
                "  labels TEXT NOT NULL,"
                "  availability TEXT NOT NULL CHECK (availability IN ('active', 'drain')),"
                "  connected INTEGER NOT NULL CHECK (connected IN (0, 1)),"
                "  connected_at INTEGER NOT NULL,"
                "  disconnected_at INTEGER NOT NULL,"
                "  last_seen_at INTEGER NOT NULL,"
                "  created_at INTEGER NOT NULL,"
                "  updated_at INTEGER NOT NULL,"
                "  report TEXT,"
                "  blocks TEXT NOT NULL,"
                "  UNIQUE (grid_id, name),"
                "  UNIQUE (grid_id, number)"
                ") STRICT;"
                "CREATE INDEX nodes_machine_id ON nodes (grid_id, machine_id);"
                "CREATE TABLE services ("
                "  id TEXT PRIMARY KEY,"
                "  grid_id TEXT NOT NULL REFERENCES grids (id),"
                "  stack TEXT NOT NULL,"
                "  name TEXT NOT NULL,"
                "  state TEXT NOT NULL CHECK (state IN ('initialized', 'running', 'stopped')),"
                "  revision INTEGER NOT NULL,"
                "  deploy_rev INTEGER NOT NULL,"
                "  spec TEXT NOT NULL,"
                "  created_at INTEGER NOT NULL,"
                "  updated_at INTEGER NOT NULL,"
                "  deployed_at INTEGER NOT NULL,"
                "  UNIQUE (grid_id, stack, name)"
                ") STRICT;"
                "CREATE TABLE instances ("
                "  id TEXT PRIMARY KEY,"
                "  grid_id TEXT NOT NULL REFERENCES grids (id),"
                "  service_id TEXT NOT NULL,"
                "  node_id TEXT REFERENCES nodes (id),"
                "  number INTEGER NOT NULL CHECK (number >= 1),"
                "  desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'terminated')),"
                "  deploy_rev INTEGER NOT NULL,"
                "  service_rev INTEGER NOT NULL,"
                "  force INTEGER NOT NULL CHECK (force IN (0, 1)),"
                "  address TEXT,"
                "  spec TEXT,"
                "  state TEXT, progress TEXT, error_code TEXT, error TEXT, unit TEXT, image_digest TEXT, "
                "health "
                "TEXT,"
                "  observed_deploy_rev INTEGER NOT NULL,"
                "  observed_service_rev INTEGER NOT NULL,"
                "  epoch INTEGER NOT NULL,"
                "  started_at INTEGER NOT NULL,"
                "  status_at INTEGER NOT NULL,"
                "  pid INTEGER NOT NULL,"
                "  exit_status INTEGER NOT NULL,"
                "  restarts INTEGER NOT NULL,"
                "  oom_kills INTEGER NOT NULL,"
                "  created_at INTEGER NOT NULL"
                ") STRICT;"
                "CREATE UNIQUE INDEX instances_number ON instances (service_id, number) WHERE desired <> "
                "'terminated';"
                "CREATE UNIQUE INDEX instances_address ON instances (grid_id, address) WHERE address IS NOT "
                "NULL;"
                "CREATE INDEX instances_service ON instances (service_id, number);"
                "CREATE INDEX instances_node ON instances (node_id);"
                "CREATE TABLE deploys ("
                "  id TEXT PRIMARY KEY,"
                "  grid_id TEXT NOT NULL REFERENCES grids (id),"
                "  service_id TEXT NOT NULL,"
                "  deploy_rev INTEGER NOT NULL,"
                "  service_rev INTEGER NOT NULL,"
                "  state TEXT NOT NULL CHECK (state IN ('created', 'ongoing', 'success', 'error', "
                "'superseded', "
                "'cancelled')),"
                "  reason TEXT,"
                "  force INTEGER NOT NULL CHECK (force IN (0, 1)),"
                "  created_at INTEGER NOT NULL,"
                "  started_at INTEGER NOT NULL,"
                "  finished_at INTEGER NOT NULL"
                ") STRICT;"
                "CREATE INDEX deploys_service ON deploys (service_id, created_at);"
                "CREATE INDEX deploys_unfinished ON deploys (created_at) WHERE state IN ('created', "
                "'ongoing');"
                "CREATE INDEX deploys_grid ON deploys (grid_id);"
                "CREATE TABLE deploy_steps ("
                "  deploy_id TEXT NOT NULL REFERENCES deploys (id) ON DELETE CASCADE,"
                "  instance_id TEXT NOT NULL,"
                "  node_id TEXT,"
                "  number INTEGER NOT NULL,"
                "  state TEXT NOT NULL,"
                "  error TEXT,"
                "  started_at INTEGER NOT NULL,"
                "  finished_at INTEGER NOT NULL,"
                "  PRIMARY KEY (deploy_id, number)"
                ") STRICT, WITHOUT ROWID;"
                "CREATE TABLE events ("
                "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                "  time INTEGER NOT NULL,"
                "  grid_id TEXT,"
                "  severity TEXT NOT NULL,"
                "  type TEXT NOT NULL,"
                "  message TEXT NOT NULL,"
                "  node_id TEXT,"
                "  service_id TEXT,"
                "  stack TEXT,"
                "  service TEXT,"
                "  instance INTEGER NOT NULL"
                ") STRICT;"
                "CREATE INDEX events_grid ON events (grid_id);"
                "CREATE INDEX events_node ON events (node_id) WHERE node_id IS NOT NULL;"
                "CREATE INDEX events_service ON events (service_id) WHERE service_id IS NOT NULL;"
                "CREATE TABLE audit ("
                "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                "  time INTEGER NOT NULL,"
                "  record TEXT NOT NULL"
                ") STRICT;"
                "CREATE TABLE key_values ("
                "  key TEXT PRIMARY KEY,"
                "  value BLOB NOT NULL"
                ") STRICT, WITHOUT ROWID;";

/* A service that was deployed, one that was changed since, one that never was; each with what a master of old left of it. */
static const char rows_1[] =
                "INSERT INTO grids VALUES ('g', 'home', '10.81.0.0/16', '10.80.0.0/12', "
                "'[\"192.168.0.0/24\"]', '[]', 1, "
                "  'token', zeroblob(32), x'0102', 7, 1, 2);"
                "INSERT INTO nodes VALUES ('n', 'g', 'one', 1, 'key', 'machine', zeroblob(32), '[\"a=b\"]', "
                "'active', 1, 1, 2, 3, "
                "  4, 5, NULL, '[\"10.81.128.0/25\"]');"
                "INSERT INTO services VALUES ('deployed', 'g', 'null', 'deployed', 'running', 3, 9, "
                "'{\"image\":\"a\"}', 10, 20, 30);"
                "INSERT INTO services VALUES ('changed', 'g', 'null', 'changed', 'running', 4, 1, "
                "'{\"image\":\"b\"}', 10, 40, 30);"
                "INSERT INTO services VALUES ('scaled', 'g', 'null', 'scaled', 'running', 2, 1, "
                "'{\"image\":\"d\"}', 10, 40, 30);"
                "INSERT INTO services VALUES ('fresh', 'g', 'shop', 'fresh', 'initialized', 1, 0, "
                "'{\"image\":\"c\"}', 10, 10, 0);"
                "INSERT INTO instances (id, grid_id, service_id, node_id, number, desired, deploy_rev, "
                "service_rev, force, "
                "  address, spec, state, image_digest, observed_deploy_rev, observed_service_rev, epoch, "
                "started_at, status_at, pid, "
                "  exit_status, restarts, oom_kills, created_at) VALUES "
                "  ('i1', 'g', 'deployed', 'n', 1, 'running', 9, 3, 0, '10.81.128.1', '{\"image\":\"a\"}', "
                "'running', 'sha256:x', "
                "  9, 3, 1, 1, 1, 77, -1, 0, 0, 5), "
                "  ('i2', 'g', 'deployed', 'n', 2, 'running', 9, 3, 0, '10.81.128.2', '{\"image\":\"a\"}', "
                "'running', 'sha256:x', "
                "  9, 3, 1, 1, 1, 78, -1, 0, 0, 5), "
                "  ('i0', 'g', 'deployed', 'n', 1, 'terminated', 8, 2, 0, '10.81.128.3', NULL, 'removed', "
                "'sha256:w', "
                "  8, 2, 1, 1, 1, 0, -1, 0, 0, 5);"
                "INSERT INTO deploys VALUES ('d', 'g', 'deployed', 9, 3, 'success', NULL, 0, 20, 25, 30);"
                "INSERT INTO deploys VALUES ('e', 'g', 'scaled', 1, 2, 'success', NULL, 0, 20, 25, 30);"
                "INSERT INTO deploy_steps VALUES ('d', 'i1', 'n', 1, 'running', NULL, 25, 30);"
                "INSERT INTO events VALUES (1, 5, 'g', 'info', 'test', 'kept', NULL, 'deployed', 'null', "
                "'deployed', -1);"
                "INSERT INTO audit VALUES (7, 5, '{\"operation\":\"service.scale\",\"status\":\"denied\","
                "\"uid\":1000,\"parameters\":{\"grid\":\"home\"}}');"
                "INSERT INTO audit VALUES (8, 6, '{\"operation\":\"grid.create\",\"status\":\"success\","
                "\"parameters\":{\"name\":\"other\"}}');"
                "INSERT INTO audit VALUES (9, 7, 'what is this');"
                "INSERT INTO key_values VALUES ('kept', x'796573');"
                "PRAGMA user_version = 1;";

typedef struct Bench {
        char *directory, *path;
        sd_event *event;
        Store *store;
} Bench;

static int setup(void **state) {
        char template[] = "/var/tmp/kontena-migration-XXXXXX";
        _cleanup_kerror_ KError e = KERROR_NULL;
        Bench *b = new0(Bench, 1);
        sqlite3 *db;

        b->directory = strdup(mkdtemp(template));
        b->path = strjoin(b->directory, "/kontena.db");
        ASSERT_EQ(sqlite3_open(b->path, &db), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(db, schema_1, NULL, NULL, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(db, rows_1, NULL, NULL, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_close(db), SQLITE_OK);

        ASSERT_OK(sd_event_new(&b->event));
        if (store_open(b->event, b->path, &b->store, &e) < 0)
                fail_msg("%s", kerror_message(&e));
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

static void test_rows_are_kept(void **state) {
        Bench *b = *state;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
        _cleanup_(event_row_freep) EventRow *e = NULL;
        _cleanup_free_ void *value = NULL;
        size_t size;

        ASSERT_OK(store_get_grid(b->store, "g", &g));
        ASSERT_EQ(g->token_sealed_size, 2);
        ASSERT_OK(store_find_node(b->store, "g", "one", &n));
        ASSERT_STREQ(n->blocks[0], "10.81.128.0/25");
        ASSERT_OK(store_find_service(b->store, "g", "null", "deployed", &s));
        ASSERT_EQ(s->revision, 3);
        ASSERT_EQ(s->revision_last, 3);
        ASSERT_EQ(s->next_run_at, 0);
        ASSERT_OK(store_get_instance(b->store, "i1", &i));
        ASSERT_EQ(i->role, INSTANCE_CURRENT);
        ASSERT_EQ(i->pid, 77);
        ASSERT_TRUE(!i->slot && !i->wanted_digest && !i->run_id && i->drain_sec == 0);
        ASSERT_OK(store_get_deploy(b->store, "d", &d));
        ASSERT_STREQ(d->kind, "deploy");
        ASSERT_EQ(d->n_steps, 1);
        ASSERT_STREQ(d->steps[0]->state, "running");
        ASSERT_TRUE(!d->steps[0]->log_tail && !d->accept_loss);
        ASSERT_OK(store_get_event(b->store, 1, &e));
        ASSERT_STREQ(e->message, "kept");
        ASSERT_OK(store_get_value(b->store, "kept", &value, &size));
        ASSERT_EQ(size, 3);
}

static void test_services_get_a_revision(void **state) {
        static const struct {
                const char *service, *digest;
                uint64_t revision;
                bool good;
        } table[] = {
                { "deployed", "sha256:x", 3, true },
                { "changed", NULL, 4, false }, /* these settings have not run yet */
                { "scaled", NULL, 2, true },   /* these have, only the count is another */
                { "fresh", NULL, 1, false },
        };
        Bench *b = *state;

        for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                _cleanup_(revision_row_list_done) RevisionRowList l = {};
                _cleanup_(service_row_freep) ServiceRow *s = NULL;

                ASSERT_OK(store_get_service(b->store, table[k].service, &s));
                ASSERT_OK(store_list_revisions(b->store, table[k].service, &l));
                ASSERT_EQ(l.n, 1);
                ASSERT_EQ(l.rows[0]->revision, table[k].revision);
                ASSERT_EQ(l.rows[0]->good, table[k].good);
                ASSERT_TRUE(json_object_equal(l.rows[0]->spec, s->spec));
                ASSERT_TRUE(streq_ptr(l.rows[0]->image_digest, table[k].digest));
        }
}

static void test_the_audit_can_be_searched(void **state) {
        Bench *b = *state;
        _cleanup_(audit_row_list_done) AuditRowList all = {}, denied = {}, other = {};

        ASSERT_OK(store_list_audit(b->store, &(AuditFilter){ .uid = -1, .limit = 10 }, &all));
        ASSERT_EQ(all.n, 3);
        ASSERT_EQ(all.rows[0]->id, 7);
        ASSERT_EQ(all.rows[0]->uid, 1000);
        ASSERT_EQ(all.rows[1]->uid, -1);
        ASSERT_STREQ(all.rows[2]->operation, "");
        ASSERT_STREQ(all.rows[2]->record, "what is this");
        ASSERT_TRUE(!all.rows[0]->hash);
        ASSERT_OK(store_list_audit(b->store,
                        &(AuditFilter){ .grid = "home",
                                        .uid = 1000,
                                        .operation = "service",
                                        .refused = true,
                                        .limit = 10 },
                        &denied));
        ASSERT_EQ(denied.n, 1);
        ASSERT_EQ(denied.rows[0]->id, 7);
        ASSERT_OK(store_list_audit(
                        b->store, &(AuditFilter){ .grid = "other", .uid = -1, .limit = 10 }, &other));
        ASSERT_EQ(other.n, 1);
        ASSERT_EQ(other.rows[0]->id, 8);
}

/* Nobody may log in yet; whoever comes goes with what they have. */
static void test_users_come_and_go(void **state) {
        Bench *b = *state;
        UserRow user = { .id = (char *) "u", .email = (char *) "anna@example.org" };
        TokenRow token = { .id = (char *) "t",
                .user_id = (char *) "u",
                .kind = TOKEN_CODE,
                .token_hash = { 1 },
                .last_four = (char *) "abcd" };
        _cleanup_(user_row_list_done) UserRowList l = {}, members = {};
        _cleanup_(user_row_freep) UserRow *by_uid = NULL, *gone = NULL;
        _cleanup_(token_row_freep) TokenRow *t = NULL;

        ASSERT_OK(store_list_users(b->store, &l));
        ASSERT_EQ(l.n, 0);
        ASSERT_OK(store_begin(b->store, NULL));
        ASSERT_OK(store_put_user(b->store, &user));
        ASSERT_EQ(store_add_grid_user(b->store, "g", "u"), 1);
        ASSERT_EQ(store_add_grid_user(b->store, "g", "u"), 0);
        ASSERT_OK(store_put_uid(b->store, 1000, "u"));
        ASSERT_OK(store_put_token(b->store, &token));
        ASSERT_OK(store_commit(b->store, NULL));
        ASSERT_OK(store_find_user_by_uid(b->store, 1000, &by_uid));
        ASSERT_STREQ(by_uid->email, "anna@example.org");
        ASSERT_OK(store_find_token(b->store, TOKEN_CODE, token.token_hash, &t));
        ASSERT_EQ(store_find_token(b->store, TOKEN_BEARER, token.token_hash, &t), -ENOENT);
        ASSERT_EQ(store_find_token_by_refresh(b->store, token.refresh_hash, &t), -ENOENT); /* none is none */
        ASSERT_EQ(store_find_user_by_invite(b->store, user.invite_hash, &gone), -ENOENT);

        ASSERT_OK(store_begin(b->store, NULL));
        ASSERT_OK(store_delete_user(b->store, "u"));
        ASSERT_OK(store_commit(b->store, NULL));
        ASSERT_EQ(store_find_user_by_uid(b->store, 1000, &gone), -ENOENT);
        ASSERT_OK(store_list_grid_users(b->store, "g", &members));
        ASSERT_EQ(members.n, 0);
        token_row_free(t);
        t = NULL;
        ASSERT_EQ(store_get_token(b->store, "t", &t), -ENOENT);
}

static int put_instance(Store *s, const char *id, uint32_t number, InstanceRole role) {
        return store_put_instance(s, &(InstanceRow){ .id = (char *) id,
                                                     .grid_id = (char *) "g",
                                                     .service_id = (char *) "deployed",
                                                     .number = number,
                                                     .role = role,
                                                     .exit_status = -1 });
}

static void test_two_of_a_number_need_two_roles(void **state) {
        Bench *b = *state;
        ServiceSummary summary;

        ASSERT_OK(store_begin(b->store, NULL));
        ASSERT_ERROR(put_instance(b->store, "x", 1, INSTANCE_CURRENT), EEXIST);
        ASSERT_OK(put_instance(b->store, "x", 1, INSTANCE_INCOMING));
        ASSERT_ERROR(put_instance(b->store, "y", 1, INSTANCE_INCOMING), EEXIST);
        ASSERT_OK(put_instance(b->store, "y", 1, INSTANCE_OUTGOING));
        ASSERT_OK(store_commit(b->store, NULL));
        ASSERT_OK(store_summarize_service(b->store, "deployed", &summary));
        ASSERT_EQ(summary.instances, 2);
        ASSERT_EQ(summary.running, 2);
        service_summary_done(&summary);
}

static int put_revision(Store *s, uint64_t number, bool good) {
        _cleanup_free_ char *id = strprintf("deployed/%u", (unsigned) number);
        _cleanup_json_ json_object *spec = json_object_new_object();

        return store_put_revision(s, &(RevisionRow){ .id = id,
                                                     .grid_id = (char *) "g",
                                                     .service_id = (char *) "deployed",
                                                     .revision = number,
                                                     .spec = spec,
                                                     .good = good });
}

static void test_revisions_are_pruned_but_for_those_needed(void **state) {
        Bench *b = *state;
        _cleanup_(revision_row_list_done) RevisionRowList l = {};
        _cleanup_(revision_row_freep) RevisionRow *good = NULL, *none = NULL;

        /* 3 is the service's own, and good; 5 is good as well. */
        ASSERT_OK(store_begin(b->store, NULL));
        for (uint64_t i = 4; i < 4 + REVISIONS_KEPT + 50; i++)
                ASSERT_OK(put_revision(b->store, i, i == 5));
        ASSERT_OK(store_commit(b->store, NULL));

        ASSERT_OK(store_list_revisions(b->store, "deployed", &l));
        ASSERT_TRUE(l.n <= REVISIONS_KEPT + 1);
        ASSERT_EQ(l.rows[0]->revision, 3 + REVISIONS_KEPT + 50);
        ASSERT_EQ(l.rows[l.n - 1]->revision, 3);
        ASSERT_EQ(l.rows[l.n - 2]->revision, 5);
        ASSERT_OK(store_find_good_revision(b->store, "deployed", 0, &good));
        ASSERT_EQ(good->revision, 5);
        good = revision_row_free(good);
        ASSERT_OK(store_find_good_revision(b->store, "deployed", 5, &good));
        ASSERT_EQ(good->revision, 3);
        ASSERT_ERROR(store_find_good_revision(b->store, "fresh", 0, &none), ENOENT);
}

static void test_what_belongs_to_something_goes_with_it(void **state) {
        Bench *b = *state;
        Store *s = b->store;
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList places = {};
        _cleanup_(revision_row_list_done) RevisionRowList revisions = {};
        _cleanup_strv_free_ char **hooks = NULL;
        SecretRow *secret = NULL;

        ASSERT_OK(store_begin(s, NULL));
        ASSERT_OK(store_put_hook_done(s, "fresh", 1, "pre_start/b"));
        ASSERT_OK(store_put_hook_done(s, "fresh", 1, "pre_start/a"));
        ASSERT_OK(store_put_hook_done(s, "fresh", 1, "pre_start/a"));
        ASSERT_OK(store_put_hook_done(s, "fresh", 2, "pre_start/c"));
        ASSERT_OK(store_put_hook_done(s, "gone", 1, "pre_start/a"));
        ASSERT_OK(store_list_hooks_done(s, "fresh", 1, &hooks));
        ASSERT_EQ(strv_length(hooks), 2);
        ASSERT_STREQ(hooks[0], "pre_start/a");
        ASSERT_OK(store_put_run(s, &(RunRow){ .id = (char *) "r",
                                                   .grid_id = (char *) "g",
                                                   .service_id = (char *) "fresh",
                                                   .number = 1,
                                                   .trigger = (char *) "schedule",
                                                   .scheduled_at = 5,
                                                   .state = (char *) "waiting",
                                                   .exit_status = -1 }));
        ASSERT_ERROR(store_put_run(s, &(RunRow){ .id = (char *) "r2",
                                                      .grid_id = (char *) "g",
                                                      .service_id = (char *) "fresh",
                                                      .number = 2,
                                                      .trigger = (char *) "schedule",
                                                      .scheduled_at = 5,
                                                      .state = (char *) "waiting",
                                                      .exit_status = -1 }),
                        EEXIST);
        ASSERT_OK(store_put_volume(s, &(VolumeRow){ .id = (char *) "v",
                                                      .grid_id = (char *) "g",
                                                      .name = (char *) "data",
                                                      .driver = (char *) "local" }));
        ASSERT_OK(store_put_volume_instance(s, &(VolumeInstanceRow){ .id = (char *) "vi",
                                                               .grid_id = (char *) "g",
                                                               .volume_id = (char *) "v",
                                                               .node_id = (char *) "n",
                                                               .name = (char *) "fresh.data-1",
                                                               .service_id = (char *) "fresh",
                                                               .number = 1 }));
        ASSERT_ERROR(store_delete_volume(s, "v"), EBUSY);
        ASSERT_OK(store_put_secret(s, &(SecretRow){ .id = (char *) "s",
                                                      .grid_id = (char *) "g",
                                                      .name = (char *) "password",
                                                      .sealed = (char *) "\0\1",
                                                      .sealed_size = 2 }));

        ASSERT_OK(store_delete_service(s, "fresh"));
        ASSERT_OK(store_list_revisions(s, "fresh", &revisions));
        ASSERT_EQ(revisions.n, 0);
        ASSERT_OK(store_list_volume_instances_of_volume(s, "v", &places));
        ASSERT_EQ(places.n, 1); /* data outlives the service */
        volume_instance_row_list_done(&places);

        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(store_delete_instance(s, ((const char *const[]){ "i0", "i1", "i2" })[i]));
        ASSERT_OK(store_delete_service(s, "deployed"));
        ASSERT_OK(store_delete_service(s, "changed"));
        ASSERT_OK(store_delete_service(s, "scaled"));
        ASSERT_OK(store_delete_node(s, "n"));
        ASSERT_OK(store_list_volume_instances_of_volume(s, "v", &places));
        ASSERT_EQ(places.n, 0);
        ASSERT_OK(store_find_secret(s, "g", "password", &secret));
        secret_row_free(secret);
        ASSERT_OK(store_delete_grid(s, "g"));
        ASSERT_ERROR(store_find_secret(s, "g", "password", &secret), ENOENT);
        ASSERT_OK(store_commit(s, NULL));
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_rows_are_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(test_services_get_a_revision, setup, teardown),
                cmocka_unit_test_setup_teardown(test_the_audit_can_be_searched, setup, teardown),
                cmocka_unit_test_setup_teardown(test_users_come_and_go, setup, teardown),
                cmocka_unit_test_setup_teardown(test_two_of_a_number_need_two_roles, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_revisions_are_pruned_but_for_those_needed, setup, teardown),
                cmocka_unit_test_setup_teardown(
                                test_what_belongs_to_something_goes_with_it, setup, teardown))
