/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "kontena-limits.h"
#include "store-internal.h"
#include "string-util.h"

/* How long deploys of services that are gone can still be looked at. */
#define ORPHANS_KEPT_USEC (3600U * USEC_PER_SEC)

static const char *const deploy_state_table[_DEPLOY_STATE_MAX] = {
        [DEPLOY_CREATED] = "created",
        [DEPLOY_ONGOING] = "ongoing",
        [DEPLOY_SUCCESS] = "success",
        [DEPLOY_ERROR] = "error",
        [DEPLOY_SUPERSEDED] = "superseded",
        [DEPLOY_CANCELLED] = "cancelled",
};
DEFINE_STRING_TABLE_LOOKUP(deploy_state, DeployState);

static const Column columns[] = {
        COLUMN(DeployRow, id, COLUMN_TEXT),
        COLUMN(DeployRow, grid_id, COLUMN_TEXT),
        COLUMN(DeployRow, service_id, COLUMN_TEXT),
        COLUMN(DeployRow, deploy_rev, COLUMN_U64),
        COLUMN(DeployRow, service_rev, COLUMN_U64),
        COLUMN_NAMES(DeployRow, state, deploy_state_table),
        COLUMN(DeployRow, reason, COLUMN_TEXT),
        COLUMN(DeployRow, force, COLUMN_BOOL),
        COLUMN(DeployRow, kind, COLUMN_TEXT),
        COLUMN(DeployRow, cause, COLUMN_TEXT),
        COLUMN(DeployRow, image_digest, COLUMN_TEXT),
        COLUMN(DeployRow, accept_loss, COLUMN_BOOL),
        COLUMN(DeployRow, created_at, COLUMN_U64),
        COLUMN(DeployRow, started_at, COLUMN_U64),
        COLUMN(DeployRow, finished_at, COLUMN_U64),
};

const Table deploy_table = {
        .kind = STORE_DEPLOY,
        .name = "deploys",
        .grid_scoped = true,
        .row_size = sizeof(DeployRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

static const Column step_columns[] = {
        COLUMN(DeployStepRow, deploy_id, COLUMN_TEXT),
        COLUMN(DeployStepRow, instance_id, COLUMN_TEXT),
        COLUMN(DeployStepRow, node_id, COLUMN_TEXT),
        COLUMN(DeployStepRow, number, COLUMN_U32),
        COLUMN(DeployStepRow, state, COLUMN_TEXT),
        COLUMN(DeployStepRow, error, COLUMN_TEXT),
        COLUMN(DeployStepRow, log_tail, COLUMN_TEXT),
        COLUMN(DeployStepRow, started_at, COLUMN_U64),
        COLUMN(DeployStepRow, finished_at, COLUMN_U64),
};

const Table deploy_step_table = {
        .kind = STORE_DEPLOY,
        .name = "deploy_steps",
        .row_size = sizeof(DeployStepRow),
        .columns = step_columns,
        .n_columns = ELEMENTSOF(step_columns),
};

DeployStepRow *deploy_step_row_free(DeployStepRow *row) {
        return row_free(&deploy_step_table, row);
}

DeployRow *deploy_row_free(DeployRow *row) {
        if (row)
                row_list_done(&deploy_step_table, (void ***) &row->steps, &row->n_steps);
        return row_free(&deploy_table, row);
}

void deploy_row_list_done(DeployRowList *l) {
        for (size_t i = 0; i < l->n; i++)
                deploy_row_free(l->rows[i]);
        l->rows = mfree(l->rows);
        l->n = 0;
}

static int load_steps(Store *s, DeployRow *d) {
        return store_select(s, &deploy_step_table, (void ***) &d->steps, &d->n_steps,
                        "WHERE deploy_id = ? ORDER BY number", "s", d->id);
}

int store_get_deploy(Store *s, const char *id, DeployRow **ret) {
        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
        int r;

        r = store_select_one(s, &deploy_table, (void **) &d, "WHERE id = ?", "s", id);
        if (r < 0)
                return r;
        r = load_steps(s, d);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(d);
        return 0;
}

int store_list_deploys(Store *s, const char *service_id, uint32_t limit, DeployRowList *ret) {
        return STORE_LIST(s, &deploy_table, ret,
                        "WHERE service_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?", "su",
                        service_id, (uint64_t) limit);
}

int store_list_unfinished_deploys(Store *s, DeployRowList *ret) {
        return STORE_LIST(s, &deploy_table, ret,
                        "WHERE state IN ('created', 'ongoing') ORDER BY created_at, rowid", "");
}

static int delete_listed(Store *s, DeployRowList *l) {
        for (size_t i = 0; i < l->n; i++) {
                int r = store_delete(s, &deploy_table, l->rows[i]->id, l->rows[i]->grid_id);

                if (r < 0)
                        return r;
        }

        return 0;
}

/* History is bounded: so many finished ones for each service, and none for long of services that are gone. */
static int prune(Store *s, const char *service_id) {
        _cleanup_(deploy_row_list_done) DeployRowList old = {}, orphans = {};
        int r;

        r = STORE_LIST(s, &deploy_table, &old,
                        "WHERE service_id = ? AND state NOT IN ('created', 'ongoing') "
                        "ORDER BY created_at DESC, rowid DESC LIMIT 1000 OFFSET ?",
                        "su", service_id, (uint64_t) DEPLOYS_KEPT_PER_SERVICE);
        if (r >= 0)
                r = delete_listed(s, &old);
        if (r >= 0)
                r = STORE_LIST(s, &deploy_table, &orphans,
                                "WHERE state NOT IN ('created', 'ongoing') AND finished_at < ? "
                                "AND service_id NOT IN (SELECT id FROM services) LIMIT 1000",
                                "u", now_realtime() - ORPHANS_KEPT_USEC);
        if (r >= 0)
                r = delete_listed(s, &orphans);

        return r;
}

int store_put_deploy(Store *s, const DeployRow *row) {
        DeployRow copy = *row;
        int r;

        if (!copy.kind)
                copy.kind = (char *) "deploy";
        r = store_put(s, &deploy_table, &copy);
        if (r <= 0)
                return r;
        return prune(s, row->service_id);
}

int store_delete_deploy(Store *s, const char *id) {
        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
        int r;

        r = store_get_deploy(s, id, &d);
        if (r < 0)
                return r;
        return store_delete(s, &deploy_table, id, d->grid_id);
}

int store_put_deploy_step(Store *s, const DeployStepRow *step) {
        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
        int r;

        r = store_select_one(s, &deploy_table, (void **) &d, "WHERE id = ?", "s", step->deploy_id);
        if (r < 0)
                return r;

        r = store_run(s,
                        "INSERT INTO deploy_steps (deploy_id, instance_id, node_id, number, state, error, "
                        "log_tail, started_at, finished_at) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (deploy_id, number) DO UPDATE SET "
                        "instance_id = excluded.instance_id, node_id = excluded.node_id, state = "
                        "excluded.state, error = excluded.error, log_tail = excluded.log_tail, "
                        "started_at = excluded.started_at, finished_at = excluded.finished_at",
                        "sssusssuu", step->deploy_id, step->instance_id, step->node_id,
                        (uint64_t) step->number, step->state, step->error, step->log_tail, step->started_at,
                        step->finished_at);
        if (r < 0)
                return r;

        return store_note(s, STORE_DEPLOY, STORE_CHANGED, d->id, d->grid_id);
}
