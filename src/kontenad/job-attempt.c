/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "file-util.h"
#include "ipam.h"
#include "job-run-internal.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "placement.h"
#include "string-util.h"
#include "volume.h"

/* What failed at once would fail at once again. */
#define RETRY_FIRST_USEC (2 * USEC_PER_SEC)
#define RETRY_MAX_USEC   (300 * USEC_PER_SEC)

bool job_run_is_last_attempt(const JobRun *run, const InstanceRow *row) {
        return row->deploy_rev > run->spec->retries;
}

/* When a next attempt may begin at the earliest. */
static uint64_t not_before(const InstanceRow *row) {
        uint64_t wait = 0;

        for (uint64_t n = 1; n < row->deploy_rev; n++)
                wait = MIN(wait > 0 ? wait * 2 : RETRY_FIRST_USEC, RETRY_MAX_USEC);
        return row->created_at + wait;
}

/* Nodes and the scheduler speak in sentences; here they become part of one. */
char *job_run_phrase(const char *sentence) {
        size_t n = strlen(sentence);

        return strndup(sentence, n > 0 && sentence[n - 1] == '.' ? n - 1 : n);
}

/* It has, or may have, a node's container. */
static int judge_placed(JobRun *run, const InstanceRow *row, Verdict *ret, char **ret_reason) {
        const SchedulerNode *node = placement_find_node(&run->snapshot, row->node_id);
        uint64_t grace = strategy_offline_grace(run->spec->strategy);
        bool reported = row->observed_deploy_rev == row->deploy_rev;
        Verdict verdict = VERDICT_FAILED;
        char *reason;

        if (!node)
                reason = strdup("lost: its node was removed from the grid");
        else if (reported && streq_ptr(row->state, "exited") && row->exit_status == 0) {
                reason = NULL;
                verdict = VERDICT_SUCCEEDED;
        } else if (reported && STR_IN_SET(strempty(row->state), "exited", "failed"))
                reason = job_run_phrase(row->error ?: "the node gave no reason");
        else if (!node->connected && node->offline_usec >= grace)
                reason = strprintf("lost: node '%s' is offline", node->name);
        else {
                if (!node->connected)
                        job_run_wake_at(run, run->now + grace - node->offline_usec);
                reason = NULL;
                verdict = VERDICT_NONE;
        }
        if (!reason && verdict == VERDICT_FAILED)
                return -ENOMEM;

        *ret = verdict;
        *ret_reason = reason;
        return 0;
}

int job_run_judge(JobRun *run, const InstanceRow *row, Verdict *ret, char **ret_reason) {
        uint64_t deadline = not_before(row) + RUN_PLACE_TIMEOUT_USEC;

        if (row->role == INSTANCE_CURRENT)
                return judge_placed(run, row, ret, ret_reason);

        *ret = VERDICT_NONE;
        *ret_reason = NULL;
        if (run->now < deadline) {
                job_run_wake_at(run, deadline);
                return 0;
        }
        if (!run->unplaced_reason) /* just placed */
                return 0;
        *ret = VERDICT_HOPELESS;
        *ret_reason = job_run_phrase(run->unplaced_reason);
        return *ret_reason ? 0 : -ENOMEM;
}

InstanceRow *job_run_new_instance(const JobRun *run, uint32_t number) {
        _cleanup_(instance_row_freep) InstanceRow *row = new0(InstanceRow, 1);

        if (!row)
                return NULL;
        row->id = store_new_id();
        row->grid_id = strdup(run->grid->id);
        row->service_id = strdup(run->service->id);
        row->run_id = strdup(run->run->id);
        if (!row->id || !row->grid_id || !row->service_id || !row->run_id)
                return NULL;
        row->number = number;
        row->role = INSTANCE_INCOMING;
        row->deploy_rev = 1;
        row->exit_status = -1;
        row->created_at = run->now;
        return TAKE_PTR(row);
}

static int try_again(JobRun *run, InstanceRow *old, const char *reason) {
        _cleanup_(instance_row_freep) InstanceRow *row = job_run_new_instance(run, old->number);
        int r;

        if (!row)
                return -ENOMEM;
        row->deploy_rev = old->deploy_rev + 1;
        row->service_rev = old->service_rev;
        row->spec = json_object_get(old->spec);
        r = free_and_strdup(&row->wanted_digest, old->wanted_digest);
        if (r >= 0)
                r = store_terminate_instance(run->store, old, 0);
        if (r >= 0)
                r = store_put_instance(run->store, row);
        if (r < 0)
                return r;
        return job_run_event(run, "warning", old, "%s; it is tried again, attempt %" PRIu64 " of %u", reason,
                        row->deploy_rev, run->spec->retries + 1);
}

int job_run_retry(JobRun *run) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n) {
                _cleanup_free_ char *reason = NULL;
                Verdict verdict;

                if (!job_run_owns(run, *i))
                        continue;
                r = job_run_judge(run, *i, &verdict, &reason);
                if (r < 0)
                        return r;
                if (verdict != VERDICT_FAILED || job_run_is_last_attempt(run, *i))
                        continue;

                r = store_begin_once(run->store, &t);
                if (r < 0)
                        return r;
                r = try_again(run, *i, reason);
                if (r < 0)
                        return r;
        }

        if (!t)
                return 0;
        r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return 1;
}

/* What an earlier attempt or run of this instance has left is away, or on a node that is given up: never two at once where that can be
 * known. */
static bool is_alone(JobRun *run, const InstanceRow *row) {
        uint64_t grace = strategy_offline_grace(run->spec->strategy);

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n) {
                const SchedulerNode *node;

                if ((*i)->number != row->number || (*i)->desired != INSTANCE_TERMINATED)
                        continue;
                node = placement_find_node(&run->snapshot, (*i)->node_id);
                if (!node || (!node->connected && node->offline_usec >= grace))
                        continue;
                if (!node->connected)
                        job_run_wake_at(run, run->now + grace - node->offline_usec);
                return false;
        }
        return true;
}

/* Names of units: one that is given up may still be there when its node comes back. */
static int choose_slot(const JobRun *run, InstanceRow *row, const char *node_id) {
        char slot[2] = "";

        for (char c = 'a'; c <= 'z'; c++) {
                bool taken = false;

                slot[0] = c == 'a' ? '\0' : c;
                FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                        taken = taken || ((*i)->number == row->number && streq_ptr((*i)->node_id, node_id) &&
                                                         streq(strempty((*i)->slot), slot));
                if (!taken)
                        return free_and_strdup(&row->slot, empty_to_null(slot));
        }
        return -EBUSY;
}

static int assign(JobRun *run, InstanceRow *row, const SchedulerNode *node, KError *reterr) {
        _cleanup_(node_row_freep) NodeRow *node_row = NULL;
        uint32_t address;
        int r;

        r = choose_slot(run, row, node->id);
        if (r >= 0)
                r = free_and_strdup(&row->node_id, node->id);
        if (r < 0)
                return r;
        if (!run->spec->host_network) {
                r = store_get_node(run->store, node->id, &node_row);
                if (r < 0)
                        return r;
                r = ipam_take_address(run->store, run->grid, node_row, &address, reterr);
                if (r < 0)
                        return r;
                r = free_and_strdup(&row->address, IPV4_TO_STRING(address));
                if (r < 0)
                        return r;
        }

        /* The row last: what fails before leaves it without a node. */
        r = volume_attach(run->store, run->grid->id, run->service->stack, run->service->name,
                        run->service->id, row->number, node->id, row->spec, reterr);
        if (r < 0)
                return r;
        row->role = INSTANCE_CURRENT;
        return store_put_instance(run->store, row);
}

static uint32_t count_instances(const JobRun *run) {
        uint32_t n = 0;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n)
                n += job_run_owns(run, *i);
        return n;
}

/* What is a reason to wait for better times, and not a failure of the master's store. */
static bool is_verdict(const KError *e) {
        return kerror_is_set(e) && e->code != K_UNAVAILABLE && e->code != K_INTERNAL;
}

/* Returns 1 when it has a node now. */
static int place_one(JobRun *run, InstanceRow *row, KError *reterr) {
        SchedulerRequest q = {
                .service_id = run->service->id,
                .stack = run->service->stack,
                .service = run->service->name,
                .spec = run->spec,
                .volumes = &run->volumes,
                .number = row->number,
                .wanted = count_instances(run),
                .seed = placement_seed(run->run->id, row->deploy_rev),
        };
        size_t node;
        int r;

        if (!is_alone(run, row))
                return kerror_set(reterr, K_CONFLICT, "an earlier one is still being stopped");
        r = scheduler_place(&run->snapshot, &q, &node, reterr);
        if (r >= 0)
                r = assign(run, row, &run->snapshot.nodes[node], reterr);
        if (r < 0)
                return r;

        run->run->attempts++;
        r = store_put_run(run->store, run->run);
        if (r >= 0)
                r = scheduler_assign(&run->snapshot, &q, node);
        return r < 0 ? r : 1;
}

/* Places what can be placed now, in one transaction. */
int job_run_place(JobRun *run) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        bool placed = false;
        int r;

        FOREACH_ARRAY(i, run->instances.rows, run->instances.n) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (!job_run_owns(run, *i) || (*i)->role != INSTANCE_INCOMING)
                        continue;
                if (run->now < not_before(*i)) {
                        job_run_wake_at(run, not_before(*i));
                        continue;
                }

                r = store_begin_once(run->store, &t);
                if (r < 0)
                        return r;
                r = place_one(run, *i, &error);
                if (r < 0 && !is_verdict(&error))
                        return r;
                if (r < 0) {
                        r = free_and_strdup(&run->unplaced_reason, kerror_message(&error));
                        if (r < 0)
                                return r;
                        break;
                }
                placed = true;
        }

        if (!placed)
                return 0;
        r = store_commit(run->store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return 1;
}
