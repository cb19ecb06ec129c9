/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdarg.h>

#include "deploy-move.h"
#include "deploy-run-internal.h"
#include "deployer.h"
#include "events.h"
#include "json-util.h"
#include "names.h"
#include "string-util.h"

/* Failed instances that are named in the reason of a deploy. */
#define FAILURES_NAMED_MAX 5U

char *deploy_run_describe_failures(DeployRun *run) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        FOREACH_ARRAY(s, run->deploy->steps, run->deploy->n_steps) {
                _cleanup_free_ char *name = NULL;
                const char *node = deploy_run_node_name(run, (*s)->node_id);
                char *longer;

                if (!streq((*s)->state, "error") || n++ >= FAILURES_NAMED_MAX)
                        continue;
                name = instance_container_name(run->service->stack, run->service->name, (*s)->number);
                if (!name)
                        return NULL;
                longer = strprintf("%s%s%s%s%s: %s",
                                text ?: "One or more instances failed: ", text ? " " : "", name,
                                node ? " on " : "", strempty(node), strna((*s)->error));
                if (!longer)
                        return NULL;
                free(text);
                text = longer;
        }
        if (n > FAILURES_NAMED_MAX) {
                char *longer = strprintf("%s And %zu more.", text, n - FAILURES_NAMED_MAX);

                free(text);
                text = longer;
        }
        return TAKE_PTR(text);
}

/* What this deploy ran has proved itself: it is what a later failure goes back to. */
static int remember_good(DeployRun *run) {
        _cleanup_(revision_row_freep) RevisionRow *revision = NULL;
        int r;

        if (deploy_is_move(run->deploy))
                return 0; /* runs what it ran */
        if (run->service->revision != run->deploy->service_rev)
                return 0; /* it was changed meanwhile, and the instances are of two kinds */
        r = store_find_revision(run->store, run->service->id, run->service->revision, &revision);
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        revision->good = true;
        revision->deployed_at = run->now;
        r = free_and_strdup(&revision->image_digest, run->deploy->image_digest);
        if (r < 0)
                return r;
        return store_put_revision(run->store, revision);
}

/* In a transaction. What stands beside an instance without having taken its place goes with the deploy that wanted it. */
static int end(DeployRun *run, DeployState state, const char *reason) {
        DeployRow *d = run->deploy;
        int r;

        d->state = state;
        d->finished_at = run->now;
        r = free_and_strdup(&d->reason, reason);
        if (r >= 0)
                r = store_put_deploy(run->store, d);
        if (r >= 0)
                r = deploy_undo_unfinished(run->store, d);
        if (r >= 0 && state == DEPLOY_SUCCESS)
                r = remember_good(run);
        if (r < 0)
                return r;

        (void) events_add(run->master,
                        &(EventInfo){ .severity = state == DEPLOY_ERROR ? "error" : "info",
                                        .type = state == DEPLOY_ERROR ? "service:deploy_failed"
                                                                      : "service:deploy",
                                        .grid_id = d->grid_id,
                                        .service_id = d->service_id },
                        "Deploy %" PRIu64 " of %s%s%s ended: %s%s%s", d->deploy_rev,
                        run->service ? run->service->stack : "a removed service", run->service ? "/" : "",
                        run->service ? run->service->name : "", deploy_state_to_string(state),
                        d->reason ? ". " : ".", strempty(d->reason));
        return 0;
}

static int end_and_commit(DeployRun *run, DeployState state, const char *reason, const RevisionRow *back) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        r = store_begin(run->store, NULL);
        if (r < 0)
                return r;
        t = run->store;
        r = end(run, state, reason);
        if (r >= 0 && back)
                r = deploy_rollback(run->store, run->service, back, run->deploy->id, NULL, NULL);
        if (r >= 0)
                r = store_commit(run->store, NULL);
        if (r < 0)
                return r;

        t = NULL;
        return 0;
}

int deploy_run_finish(DeployRun *run, DeployState state, const char *format, ...) {
        _cleanup_free_ char *reason = NULL;
        va_list ap;

        if (format) {
                va_start(ap, format);
                reason = strvprintf(format, ap);
                va_end(ap);
                if (!reason)
                        return -ENOMEM;
        }
        return end_and_commit(run, state, reason, NULL);
}

/* The revision to go back to. -ENOENT: there is none, or going back would change nothing for the better: the settings that failed
 * now have run before, somebody has changed them meanwhile, or this was a way back already. */
static int find_way_back(DeployRun *run, RevisionRow **ret) {
        _cleanup_(revision_row_freep) RevisionRow *current = NULL;
        int r;

        if (service_spec_on_failure(run->spec) != ON_FAILURE_ROLLBACK ||
                        streq_ptr(run->deploy->kind, "rollback") ||
                        run->service->revision != run->deploy->service_rev)
                return -ENOENT;

        r = store_find_revision(run->store, run->service->id, run->service->revision, &current);
        if (r < 0)
                return r;
        if (current->good)
                return -ENOENT;
        return store_find_good_revision(run->store, run->service->id, run->service->revision, ret);
}

int deploy_run_fail(DeployRun *run, const char *reason) {
        _cleanup_(revision_row_freep) RevisionRow *back = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = find_way_back(run, &back);
        if (r == -ENOENT)
                return end_and_commit(run, DEPLOY_ERROR, reason, NULL);
        if (r < 0)
                return r;

        text = strprintf("%s Going back to revision %" PRIu64 ".", reason, back->revision);
        return text ? end_and_commit(run, DEPLOY_ERROR, text, back) : -ENOMEM;
}
