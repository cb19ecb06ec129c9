/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deployer.h"

#include "deploy-move.h"
#include "deploy-run.h"
#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "log.h"
#include "names.h"
#include "notes.h"
#include "placement.h"
#include "string-util.h"

/* When the store cannot be written, say because its disk is full, deploys wait and are looked at again this often. */
#define RETRY_USEC (2 * USEC_PER_SEC)
/* Others wait for so long at most until what is left is done in the next turn of the loop. */
#define TURN_USEC  (5 * USEC_PER_MSEC)

/* An unfinished deploy as of the last look; the store has all else. */
typedef struct Active {
        char *deploy_id, *service_id, *grid_id;
        uint64_t next; /* realtime; 0: at once */
        bool newer;    /* there is a later one of the same service */
} Active;

struct Deployer {
        Master *master;
        sd_event_source *work, *timer;
        Active *active;
        size_t n_active;
        size_t turn; /* whose it is */
        Note *nodes; /* as last seen */
};

static void active_free(Active *l, size_t n) {
        FOREACH_ARRAY(a, l, n) {
                free(a->deploy_id);
                free(a->service_id);
                free(a->grid_id);
        }
        free(l);
}

static void schedule(Deployer *d) {
        int r;

        r = sd_event_source_set_enabled(d->work, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Deploys cannot be continued: %m");
}

static int arm_timer(Deployer *d, uint64_t when, uint64_t now) {
        int r;

        if (when == USEC_INFINITY)
                return sd_event_source_set_enabled(d->timer, SD_EVENT_OFF);
        if (when <= now) { /* at once, not within the timer's accuracy */
                schedule(d);
                return 0;
        }

        r = sd_event_source_set_time_relative(d->timer, when - now);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
}

static Active *find_active(Active *l, size_t n, const char *deploy_id) {
        FOREACH_ARRAY(a, l, n)
                if (streq(a->deploy_id, deploy_id))
                        return a;
        return NULL;
}

/* Rows come oldest first: does a later one speak of the same service? */
static bool has_newer(const DeployRowList *l, size_t i) {
        for (size_t j = i + 1; j < l->n; j++)
                if (streq(l->rows[i]->service_id, l->rows[j]->service_id))
                        return true;
        return false;
}

/* Which deploys there are now. What is known of those that were there stays. */
static int read_active(Deployer *d) {
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        Active *active;
        int r;

        r = store_list_unfinished_deploys(d->master->store, &deploys);
        if (r < 0)
                return r;
        active = new0(Active, deploys.n + 1);
        if (!active)
                return -ENOMEM;

        for (size_t i = 0; i < deploys.n; i++) {
                DeployRow *row = deploys.rows[i];
                const Active *before = find_active(d->active, d->n_active, row->id);

                active[i].newer = has_newer(&deploys, i);
                if (before && active[i].newer == before->newer)
                        active[i].next = before->next;
                active[i].deploy_id = TAKE_PTR(row->id);
                active[i].service_id = TAKE_PTR(row->service_id);
                active[i].grid_id = TAKE_PTR(row->grid_id);
        }

        active_free(d->active, d->n_active);
        d->active = active;
        d->n_active = deploys.n;
        return 0;
}

static void run_one(Deployer *d, Active *a, uint64_t now) {
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        uint64_t next = USEC_INFINITY;
        int r;

        a->next = USEC_INFINITY; /* until something happens, also while it runs */
        r = store_get_deploy(d->master->store, a->deploy_id, &row);
        if (r == -ENOENT || (r >= 0 && DEPLOY_STATE_IS_FINAL(row->state)))
                return; /* by what another one did */
        if (r >= 0)
                r = deploy_run(d->master, row, a->newer, now, &next);
        if (r < 0) {
                log_warning_errno(r, "Deploy of service '%s' cannot go on now, trying again: %m",
                                a->service_id);
                next = now + RETRY_USEC;
        }
        a->next = MIN(a->next, next);
}

/* One after another in turn, so that one of which there is always news does not keep the others waiting. */
static int on_work(sd_event_source *s, void *userdata) {
        Deployer *d = userdata;
        uint64_t now = now_realtime(), until = now_monotonic() + TURN_USEC, next = USEC_INFINITY;
        int r;

        r = read_active(d);
        if (r < 0) {
                log_error_errno(r, "Deploys cannot be read, trying again: %m");
                (void) arm_timer(d, now + RETRY_USEC, now);
                return 0;
        }

        for (size_t i = 0; i < d->n_active && now_monotonic() < until; i++) {
                Active *a = &d->active[d->turn++ % d->n_active];

                if (a->next <= now)
                        run_one(d, a, now);
        }
        FOREACH_ARRAY(a, d->active, d->n_active)
                next = MIN(next, a->next);

        r = arm_timer(d, next, now);
        if (r < 0)
                log_error_errno(r, "Time limits of deploys cannot be watched: %m");
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        schedule(userdata);
        return 0;
}

static void mark(Deployer *d, const char *service_id, const char *grid_id) {
        FOREACH_ARRAY(a, d->active, d->n_active)
                if ((service_id && streq(a->service_id, service_id)) ||
                                (grid_id && streq(a->grid_id, grid_id))) {
                        a->next = 0;
                        schedule(d);
                }
}

const InstanceRow *deploy_find_leaving(const InstanceRowList *instances, uint32_t number) {
        FOREACH_ARRAY(i, instances->rows, instances->n)
                if ((*i)->number == number && (*i)->desired == INSTANCE_TERMINATED && (*i)->node_id)
                        return *i;
        return NULL;
}

void deployer_wake(Deployer *d, const char *service_id) {
        mark(d, service_id, NULL);
}

/* Only what ends a step wakes: progress of a pull does not. */
static void on_instance(Deployer *d, Store *store, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;

        if (d->n_active == 0)
                return;
        if (change == STORE_REMOVED || store_get_instance(store, id, &row) < 0)
                mark(d, NULL, grid_id);
        else if (row->desired != INSTANCE_RUNNING ||
                        STR_IN_SET(strempty(row->state), "running", "failed", "removed", "stopped"))
                mark(d, row->service_id, NULL);
}

static void on_node(Deployer *d, Store *store, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        if (change == STORE_REMOVED || store_get_node(store, id, &row) < 0) {
                note_forget(&d->nodes, id);
                mark(d, NULL, grid_id);
        } else if (note_is_news(&d->nodes, id, placement_node_hash(row)))
                mark(d, NULL, grid_id);
}

static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Deployer *d = userdata;

        switch (kind) {
        case STORE_DEPLOY:
                if (change != STORE_REMOVED && !find_active(d->active, d->n_active, id))
                        schedule(d);
                break;
        case STORE_SERVICE:
                mark(d, id, NULL);
                break;
        case STORE_NODE:
                on_node(d, store, change, id, grid_id);
                break;
        case STORE_INSTANCE:
                on_instance(d, store, change, id, grid_id);
                break;
        default:
                break;
        }
}

Deployer *deployer_free(Deployer *d) {
        if (!d)
                return NULL;

        notes_clear(&d->nodes);
        sd_event_source_disable_unref(d->work);
        sd_event_source_disable_unref(d->timer);
        active_free(d->active, d->n_active);
        return mfree(d);
}

int deployer_new(Master *m, Deployer **ret) {
        _cleanup_(deployer_freep) Deployer *d = NULL;
        int r;

        assert(m);
        assert(ret);

        d = new0(Deployer, 1);
        if (!d)
                return -ENOMEM;
        d->master = m;

        r = sd_event_add_defer(m->event, &d->work, on_work, d);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(d->work, "deployer-work");
        r = sd_event_add_time_relative(
                        m->event, &d->timer, CLOCK_MONOTONIC, 0, 100 * USEC_PER_MSEC, on_timer, d);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(d->timer, "deployer-timer");
        r = sd_event_source_set_enabled(d->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = store_watch(m->store, on_change, d);
        if (r < 0)
                return r;

        schedule(d); /* what an earlier master left unfinished */
        *ret = TAKE_PTR(d);
        return 0;
}

static int queue(Store *s, ServiceRow *row, DeployRow *deploy, char **ret_id, KError *reterr) {
        _cleanup_free_ char *id = NULL;
        int r;

        id = store_new_id();
        if (!id)
                return -ENOMEM;
        deploy->id = id;
        deploy->grid_id = row->grid_id;
        deploy->service_id = row->id;
        deploy->service_rev = row->revision;
        deploy->state = DEPLOY_CREATED;
        deploy->created_at = now_realtime();
        r = store_put_deploy(s, deploy);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Deploy of '%s/%s' cannot be stored: %m", row->stack, row->name);

        if (ret_id)
                *ret_id = TAKE_PTR(id);
        return 0;
}

int deploy_request(Store *s, const ServiceRow *service, unsigned flags, char **ret_id, KError *reterr) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL;
        int r;

        assert(s);
        assert(service);

        r = store_get_service(s, service->id, &row);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_SERVICE, "No service '%s/%s'.", service->stack,
                                service->name);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Service '%s/%s' cannot be read: %m", service->stack,
                                service->name);

        if (service_is_job(row))
                return kerror_set(reterr, K_CONFLICT,
                                "'%s' is a job, there is nothing to deploy: its next run has the settings "
                                "of "
                                "now. To run it: kontenactl job run %s%s%s",
                                row->name, streq(row->stack, STACK_NULL) ? "" : row->stack,
                                streq(row->stack, STACK_NULL) ? "" : "/", row->name);
        if (row->state != SERVICE_RUNNING) {
                row->state = SERVICE_RUNNING;
                r = store_put_service(s, row);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Service '%s/%s' cannot be stored: %m",
                                        row->stack, row->name);
        }
        return queue(s, row,
                        &(DeployRow){ .force = flags & DEPLOY_FORCE,
                                        .accept_loss = flags & DEPLOY_ACCEPT_LOSS },
                        ret_id, reterr);
}

int deploy_rollback(Store *s, ServiceRow *service, const RevisionRow *to, const char *cause, char **ret_id,
                KError *reterr) {
        _cleanup_json_ json_object *spec = NULL;
        json_object *count = NULL;
        int r;

        assert(s);
        assert(service);
        assert(to);

        if (service_is_job(service))
                return kerror_set(reterr, K_CONFLICT, "'%s' is a job: it is changed by an update.",
                                service->name);
        if (json_copy(to->spec, &spec) < 0)
                return -ENOMEM;
        json_object_object_del(spec, "count");
        if (json_object_object_get_ex(service->spec, "count", &count) &&
                        json_add(spec, "count", json_object_get(count)) < 0)
                return -ENOMEM;

        json_object_put(service->spec);
        service->spec = TAKE_PTR(spec);
        service->revision = to->revision;
        service->state = SERVICE_RUNNING;
        service->updated_at = now_realtime();
        r = store_put_service(s, service);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Service '%s/%s' cannot be stored: %m", service->stack,
                                service->name);
        return queue(s, service,
                        &(DeployRow){ .kind = (char *) "rollback",
                                        .cause = (char *) cause,
                                        .image_digest = to->image_digest },
                        ret_id, reterr);
}

int deploy_undo_unfinished(Store *s, const DeployRow *deploy) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        int r;

        if (deploy_is_move(deploy))
                return deploy_move_undo(s, deploy);

        if (deploy->deploy_rev == 0) /* never began */
                return 0;
        r = store_list_instances_of_service(s, deploy->service_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                if ((*i)->role != INSTANCE_INCOMING || (*i)->deploy_rev != deploy->deploy_rev ||
                                (*i)->desired == INSTANCE_TERMINATED)
                        continue;
                r = store_terminate_instance(s, *i, 0);
                if (r < 0)
                        return r;
        }
        return 0;
}

int deploy_cancel(Store *s, const char *deploy_id, const char *reason, KError *reterr) {
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        int r;

        assert(s);
        assert(deploy_id);

        r = store_get_deploy(s, deploy_id, &row);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_DEPLOY, "No deploy '%s'.", deploy_id);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Deploy '%s' cannot be read: %m", deploy_id);
        if (DEPLOY_STATE_IS_FINAL(row->state))
                return kerror_set(reterr, K_CONFLICT, "The deploy has ended already: %s.",
                                deploy_state_to_string(row->state));

        row->state = DEPLOY_CANCELLED;
        row->finished_at = now_realtime();
        r = free_and_strdup(&row->reason, reason);
        if (r < 0)
                return r;
        r = store_put_deploy(s, row);
        if (r >= 0)
                r = deploy_undo_unfinished(s, row);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Deploy '%s' cannot be stored: %m", deploy_id);
        return 0;
}

int deploy_is_running(Store *s, const char *service_id) {
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        int r;

        r = store_list_deploys(s, service_id, 1, &deploys);
        if (r < 0)
                return r;
        return deploys.n > 0 && !DEPLOY_STATE_IS_FINAL(deploys.rows[0]->state);
}
