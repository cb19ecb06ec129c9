/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "store-internal.h"
#include "string-util.h"

/* Step n brings version n to n + 1. A released step never changes; a new one is added behind. */
static const char *const steps[] = {
        /* 0: the first schema. Times are microseconds since 1970, lists and settings JSON. */
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

        /* service_id is no foreign key: a terminated instance outlives its service. */
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
        "  state TEXT, progress TEXT, error_code TEXT, error TEXT, unit TEXT, image_digest TEXT, health "
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
        "CREATE UNIQUE INDEX instances_address ON instances (grid_id, address) WHERE address IS NOT NULL;"
        "CREATE INDEX instances_service ON instances (service_id, number);"
        "CREATE INDEX instances_node ON instances (node_id);"

        "CREATE TABLE deploys ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  service_id TEXT NOT NULL,"
        "  deploy_rev INTEGER NOT NULL,"
        "  service_rev INTEGER NOT NULL,"
        "  state TEXT NOT NULL CHECK (state IN ('created', 'ongoing', 'success', 'error', 'superseded', "
        "'cancelled')),"
        "  reason TEXT,"
        "  force INTEGER NOT NULL CHECK (force IN (0, 1)),"
        "  created_at INTEGER NOT NULL,"
        "  started_at INTEGER NOT NULL,"
        "  finished_at INTEGER NOT NULL"
        ") STRICT;"
        "CREATE INDEX deploys_service ON deploys (service_id, created_at);"
        "CREATE INDEX deploys_unfinished ON deploys (created_at) WHERE state IN ('created', 'ongoing');"
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

        /* No foreign keys: events outlive what they speak of. */
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
        ") STRICT, WITHOUT ROWID;",

        /* 1: what was there before, volumes, the vault, registries, jobs; two instances of one number side by side. */
        "ALTER TABLE services ADD COLUMN revision_last INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE services ADD COLUMN next_run_at INTEGER NOT NULL DEFAULT 0;"
        "UPDATE services SET revision_last = revision;"
        "CREATE INDEX services_next_run ON services (next_run_at) WHERE next_run_at > 0;"

        "ALTER TABLE instances ADD COLUMN role TEXT NOT NULL DEFAULT 'current' "
        "  CHECK (role IN ('current', 'incoming', 'outgoing'));"
        "ALTER TABLE instances ADD COLUMN slot TEXT;"
        "ALTER TABLE instances ADD COLUMN wanted_digest TEXT;"
        "ALTER TABLE instances ADD COLUMN drain_sec INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE instances ADD COLUMN run_id TEXT;"
        "ALTER TABLE instances ADD COLUMN log_tail TEXT;"
        "DROP INDEX instances_number;"
        "CREATE UNIQUE INDEX instances_number ON instances (service_id, number) "
        "  WHERE desired <> 'terminated' AND role = 'current';"
        "CREATE UNIQUE INDEX instances_incoming ON instances (service_id, number) "
        "  WHERE desired <> 'terminated' AND role = 'incoming';"

        "ALTER TABLE deploys ADD COLUMN kind TEXT NOT NULL DEFAULT 'deploy';"
        "ALTER TABLE deploys ADD COLUMN cause TEXT;"
        "ALTER TABLE deploys ADD COLUMN image_digest TEXT;"
        "ALTER TABLE deploys ADD COLUMN accept_loss INTEGER NOT NULL DEFAULT 0 CHECK (accept_loss IN (0, "
        "1));"
        "ALTER TABLE deploy_steps ADD COLUMN log_tail TEXT;"

        "CREATE TABLE revisions ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  service_id TEXT NOT NULL REFERENCES services (id),"
        "  revision INTEGER NOT NULL,"
        "  spec TEXT NOT NULL,"
        "  image_digest TEXT,"
        "  good INTEGER NOT NULL CHECK (good IN (0, 1)),"
        "  author TEXT,"
        "  created_at INTEGER NOT NULL,"
        "  deployed_at INTEGER NOT NULL,"
        "  UNIQUE (service_id, revision)"
        ") STRICT;"
        "CREATE INDEX revisions_grid ON revisions (grid_id);"
        /* Whether the present settings have ever run whole is known from the deploys; with what bytes, if all the
         * instances that run them agree. */
        "INSERT INTO revisions (id, grid_id, service_id, revision, spec, image_digest, good, created_at, "
        "  deployed_at) "
        "SELECT s.id || '/' || s.revision, s.grid_id, s.id, s.revision, s.spec, "
        "  (SELECT min(i.image_digest) FROM instances i WHERE i.service_id = s.id "
        "   AND i.desired <> 'terminated' AND i.observed_service_rev = s.revision AND s.deployed_at > 0 "
        "   HAVING count(DISTINCT i.image_digest) = 1), "
        "  s.deployed_at > 0 AND (s.deployed_at >= s.updated_at OR EXISTS (SELECT 1 FROM deploys d "
        "   WHERE d.service_id = s.id AND d.service_rev = s.revision AND d.state = 'success')), "
        "  s.updated_at, s.deployed_at FROM services s;"

        "CREATE TABLE volumes ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  name TEXT NOT NULL,"
        "  driver TEXT NOT NULL,"
        "  scope TEXT NOT NULL CHECK (scope IN ('instance', 'stack', 'grid')),"
        "  options TEXT,"
        "  size_max INTEGER NOT NULL,"
        "  removing INTEGER NOT NULL CHECK (removing IN (0, 1)),"
        "  created_at INTEGER NOT NULL,"
        "  UNIQUE (grid_id, name)"
        ") STRICT;"

        /* service_id is no foreign key: the data outlives the service. */
        "CREATE TABLE volume_instances ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  volume_id TEXT NOT NULL REFERENCES volumes (id),"
        "  node_id TEXT NOT NULL REFERENCES nodes (id),"
        "  name TEXT NOT NULL,"
        "  service_id TEXT,"
        "  number INTEGER NOT NULL,"
        "  removing INTEGER NOT NULL CHECK (removing IN (0, 1)),"
        "  state TEXT,"
        "  error TEXT,"
        "  used INTEGER NOT NULL,"
        "  created_at INTEGER NOT NULL,"
        "  UNIQUE (node_id, name)"
        ") STRICT;"
        "CREATE INDEX volume_instances_volume ON volume_instances (volume_id);"
        "CREATE INDEX volume_instances_grid ON volume_instances (grid_id);"

        "CREATE TABLE secrets ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  name TEXT NOT NULL,"
        "  sealed BLOB,"
        "  revision INTEGER NOT NULL,"
        "  created_at INTEGER NOT NULL,"
        "  updated_at INTEGER NOT NULL,"
        "  UNIQUE (grid_id, name)"
        ") STRICT;"

        "CREATE TABLE registries ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  name TEXT NOT NULL,"
        "  url TEXT,"
        "  username TEXT,"
        "  email TEXT,"
        "  sealed BLOB,"
        "  created_at INTEGER NOT NULL,"
        "  updated_at INTEGER NOT NULL,"
        "  UNIQUE (grid_id, name)"
        ") STRICT;"

        "CREATE TABLE runs ("
        "  id TEXT PRIMARY KEY,"
        "  grid_id TEXT NOT NULL REFERENCES grids (id),"
        "  service_id TEXT NOT NULL REFERENCES services (id),"
        "  number INTEGER NOT NULL,"
        "  trigger TEXT NOT NULL,"
        "  scheduled_at INTEGER NOT NULL,"
        "  state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),"
        "  reason TEXT,"
        "  attempts INTEGER NOT NULL,"
        "  node_id TEXT,"
        "  instance_id TEXT,"
        "  exit_status INTEGER NOT NULL,"
        "  log_tail TEXT,"
        "  created_at INTEGER NOT NULL,"
        "  started_at INTEGER NOT NULL,"
        "  finished_at INTEGER NOT NULL,"
        "  UNIQUE (service_id, number)"
        ") STRICT;"
        "CREATE UNIQUE INDEX runs_scheduled ON runs (service_id, scheduled_at) WHERE scheduled_at > 0;"
        "CREATE INDEX runs_unfinished ON runs (created_at) WHERE state IN ('waiting', 'running');"
        "CREATE INDEX runs_grid ON runs (grid_id);"

        "CREATE TABLE hooks_done ("
        "  service_id TEXT NOT NULL REFERENCES services (id),"
        "  number INTEGER NOT NULL,"
        "  hook TEXT NOT NULL,"
        "  PRIMARY KEY (service_id, number, hook)"
        ") STRICT, WITHOUT ROWID;",

        /* 2: the audit can be searched, and each row holds on to the one before. uid -1: unknown. hash NULL: of an earlier version. */
        "ALTER TABLE audit ADD COLUMN grid TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE audit ADD COLUMN uid INTEGER NOT NULL DEFAULT -1;"
        "ALTER TABLE audit ADD COLUMN operation TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE audit ADD COLUMN status TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE audit ADD COLUMN hash BLOB;"
        "UPDATE audit SET "
        "  grid = coalesce(CAST(json_extract(record, '$.parameters.grid') AS TEXT), "
        "   CASE WHEN json_extract(record, '$.operation') LIKE 'grid.%' "
        "   THEN CAST(json_extract(record, '$.parameters.name') AS TEXT) END, ''), "
        "  uid = coalesce(CAST(json_extract(record, '$.uid') AS INTEGER), -1), "
        "  operation = coalesce(CAST(json_extract(record, '$.operation') AS TEXT), ''), "
        "  status = coalesce(CAST(json_extract(record, '$.status') AS TEXT), '') "
        "WHERE json_valid(record);"
        /* All that is asked for, so that a search need not read the rows. */
        "CREATE INDEX audit_search ON audit (grid, uid, operation, status, time);",

        /* 3: who may log in, what they hold, what the master is set to. A hash of zeros: there is none. */
        "CREATE TABLE users ("
        "  id TEXT PRIMARY KEY,"
        "  email TEXT NOT NULL UNIQUE,"
        "  name TEXT,"
        "  external_id TEXT UNIQUE,"
        "  roles TEXT NOT NULL,"
        "  invite_hash BLOB NOT NULL CHECK (length(invite_hash) = 32),"
        "  invite_expires_at INTEGER NOT NULL,"
        "  created_at INTEGER NOT NULL,"
        "  updated_at INTEGER NOT NULL"
        ") STRICT;"
        "CREATE UNIQUE INDEX users_invite ON users (invite_hash) WHERE invite_hash <> zeroblob(32);"

        "CREATE TABLE grid_users ("
        "  grid_id TEXT NOT NULL REFERENCES grids (id) ON DELETE CASCADE,"
        "  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
        "  PRIMARY KEY (grid_id, user_id)"
        ") STRICT, WITHOUT ROWID;"
        "CREATE INDEX grid_users_user ON grid_users (user_id);"

        "CREATE TABLE user_uids ("
        "  uid INTEGER PRIMARY KEY,"
        "  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE"
        ") STRICT;"
        "CREATE INDEX user_uids_user ON user_uids (user_id);"

        "CREATE TABLE tokens ("
        "  id TEXT PRIMARY KEY,"
        "  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,"
        "  kind TEXT NOT NULL CHECK (kind IN ('bearer', 'code')),"
        "  token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),"
        "  refresh_hash BLOB NOT NULL CHECK (length(refresh_hash) = 32),"
        "  last_four TEXT NOT NULL,"
        "  refresh_last_four TEXT,"
        "  scopes TEXT NOT NULL,"
        "  description TEXT,"
        "  expires_at INTEGER NOT NULL,"
        "  ends_at INTEGER NOT NULL,"
        "  created_at INTEGER NOT NULL,"
        "  used_at INTEGER NOT NULL"
        ") STRICT;"
        "CREATE UNIQUE INDEX tokens_refresh ON tokens (refresh_hash) WHERE refresh_hash <> zeroblob(32);"
        "CREATE INDEX tokens_user ON tokens (user_id, created_at);"
        "CREATE INDEX tokens_ends ON tokens (ends_at) WHERE ends_at > 0;"

        "CREATE TABLE login_states ("
        "  id TEXT PRIMARY KEY,"
        "  state_hash BLOB NOT NULL UNIQUE CHECK (length(state_hash) = 32),"
        "  user_id TEXT REFERENCES users (id) ON DELETE CASCADE,"
        "  redirect_uri TEXT NOT NULL,"
        "  invited INTEGER NOT NULL CHECK (invited IN (0, 1)),"
        "  lifetime INTEGER NOT NULL,"
        "  verifier BLOB,"
        "  created_at INTEGER NOT NULL,"
        "  expires_at INTEGER NOT NULL"
        ") STRICT;"
        "CREATE INDEX login_states_expires ON login_states (expires_at);"
        "CREATE INDEX login_states_user ON login_states (user_id);"

        "CREATE TABLE config ("
        "  id TEXT PRIMARY KEY,"
        "  value TEXT,"
        "  sealed BLOB,"
        "  updated_at INTEGER NOT NULL"
        ") STRICT;",

        /* 4: the instances of a grid are looked for often, and there are many of other grids. */
        "CREATE INDEX instances_grid ON instances (grid_id, service_id, number, created_at);",

        /* 5: a node's own token can be shown again, as its grid's can. */
        "ALTER TABLE nodes ADD COLUMN token_sealed BLOB;",

        /* 6: what a user who logs in did is looked for as what one of the machine did. Rows of before keep their hashes, and so none. */
        ("ALTER TABLE audit ADD COLUMN user TEXT NOT NULL DEFAULT '';"
         "CREATE INDEX audit_user ON audit (user, time) WHERE user != '';"),
};

static int get_version(sqlite3 *db, int *ret) {
        sqlite3_stmt *stmt = NULL;
        int rc;

        rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL);
        if (rc == SQLITE_OK) {
                rc = sqlite3_step(stmt);
                if (rc == SQLITE_ROW)
                        *ret = sqlite3_column_int(stmt, 0);
        }
        (void) sqlite3_finalize(stmt);

        return rc;
}

int store_schema_migrate(sqlite3 *db, KError *reterr) {
        int version = 0, rc;

        rc = get_version(db, &version);
        if (rc != SQLITE_ROW)
                return rc;

        if (version < 0 || version > (int) ELEMENTSOF(steps)) {
                kerror_set(reterr, K_UNAVAILABLE,
                                "It was written by a newer version of kontenad (schema %i, this one knows "
                                "up to %zu); "
                                "install that version again.",
                                version, ELEMENTSOF(steps));
                return SQLITE_MISMATCH;
        }

        for (; version < (int) ELEMENTSOF(steps); version++) {
                _cleanup_free_ char *sql = NULL;

                sql = strprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %i; COMMIT;", steps[version],
                                version + 1);
                if (!sql)
                        return SQLITE_NOMEM;
                rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
                if (rc != SQLITE_OK) {
                        kerror_set(reterr, K_UNAVAILABLE, "Step %i of its schema failed: %s", version + 1,
                                        sqlite3_errmsg(db));
                        (void) sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
                        return rc;
                }
        }

        return SQLITE_OK;
}
