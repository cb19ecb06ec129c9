/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rescheduler.h"

#include <uthash.h>

#include "deployer.h"
#include "ephemeral.h"
#include "events.h"
#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "log.h"
#include "node-tracker.h"
#include "notes.h"
#include "placement-cache.h"
#include "placement.h"
#include "reschedule-check.h"
#include "scheduler.h"
#include "string-util.h"

#define INTERVAL_USEC   (20 * USEC_PER_SEC)
#define NODE_DELAY_USEC (1 * USEC_PER_SEC)
/* Others wait for so long at most until something is left for the next turn of the loop. */
#define TURN_USEC       (5 * USEC_PER_MSEC)
/* Failed deploys in a row that make a difference. */
#define DEPLOYS_READ    8U

/* A grid that is looked at, service by service. */
typedef struct Task {
        char *grid_id;
        char **services; /* ids of those that are left, NULL: not begun */
        size_t next;
        bool again; /* something has changed since it was begun */
        UT_hash_handle hh;
} Task;

struct Rescheduler {
        Master *master;
        sd_event_source *timer, *soon, *work;
        Task *tasks;
        /* What was last seen of a node, or said of a service; grids in which something has happened. */
        Note *nodes, *complaints, *changed;
};

/* Instances whose node was removed: those that are terminated are gone, the others wait for a node. */
static int clean_up(Rescheduler *self, const char *grid_id) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        Store *s = self->master->store;
        int r;

        r = store_list_instances_nowhere(s, grid_id, &instances);
        if (r < 0)
                return r;

        FOREACH_ARRAY(i, instances.rows, instances.n) {
                InstanceRow *row = *i;

                if (row->desired != INSTANCE_TERMINATED && !row->address)
                        continue;

                r = store_begin_once(s, &t);
                if (r < 0)
                        return r;
                if (row->desired == INSTANCE_TERMINATED)
                        r = store_delete_instance(s, row->id);
                else {
                        row->address = mfree(row->address);
                        row->state = mfree(row->state);
                        r = store_put_instance(s, row);
                }
                if (r < 0)
                        return r;
        }

        if (!t)
                return 0;
        r = store_commit(s, NULL);
        if (r >= 0)
                t = NULL;
        return r;
}

/* On a drained node stateful instances stop, on an active one those of running services run. */
static int follow_availability(Rescheduler *self, const SchedulerSnapshot *snapshot,
                const ServiceRow *service, InstanceRowList *instances) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        Store *s = self->master->store;
        int r;

        if (service->state != SERVICE_RUNNING)
                return 0;

        FOREACH_ARRAY(i, instances->rows, instances->n) {
                const SchedulerNode *node = placement_find_node(
                                (SchedulerSnapshot *) snapshot, (*i)->node_id);
                InstanceDesired wanted;

                if (!node || (*i)->desired == INSTANCE_TERMINATED || (*i)->role != INSTANCE_CURRENT)
                        continue;
                wanted = node->active ? INSTANCE_RUNNING : INSTANCE_STOPPED;
                if (wanted == INSTANCE_RUNNING && deploy_find_leaving(instances, (*i)->number))
                        continue;
                if ((*i)->desired == wanted)
                        continue;

                r = store_begin_once(s, &t);
                if (r < 0)
                        return r;
                (*i)->desired = wanted;
                r = store_put_instance(s, *i);
                if (r < 0)
                        return r;
                (void) events_add(self->master,
                                &(EventInfo){ .severity = "info",
                                                .type = "scheduler",
                                                .grid_id = service->grid_id,
                                                .node_id = (*i)->node_id,
                                                .service_id = service->id,
                                                .instance = (*i)->number },
                                node->active ? "%s/%s-%u is started, node '%s' is active again."
                                             : "%s/%s-%u is stopped, its data is on node '%s', which is "
                                               "drained.",
                                service->stack, service->name, (*i)->number, node->name);
        }

        if (!t)
                return 0;
        r = store_commit(s, NULL);
        if (r >= 0)
                t = NULL;
        return r;
}

static int start_deploy(Rescheduler *self, const ServiceRow *service, bool force, const char *why) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Store *s = self->master->store;
        int r;

        r = store_begin(s, NULL);
        if (r < 0)
                return r;
        t = s;
        r = deploy_request(s, service, force ? DEPLOY_FORCE : 0, NULL, &error);
        if (r < 0)
                return r;
        (void) events_add(self->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "scheduler",
                                        .grid_id = service->grid_id,
                                        .service_id = service->id },
                        "%s/%s is deployed automatically: %s.", service->stack, service->name, why);
        r = store_commit(s, NULL);
        if (r >= 0)
                t = NULL;
        return r;
}

static void complain(Rescheduler *self, const ServiceRow *service, const char *why) {
        if (!note_is_news(&self->complaints, service->id, placement_seed(why, 0)))
                return;
        (void) events_add(self->master,
                        &(EventInfo){ .severity = "warning",
                                        .type = "scheduler",
                                        .grid_id = service->grid_id,
                                        .service_id = service->id },
                        "%s/%s cannot be placed as it should be: %s", service->stack, service->name, why);
}

/* One service. Returns 1 when a deploy was started. */
static int check_service(Rescheduler *self, const ServiceRow *service, uint64_t now) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        _cleanup_(service_spec_freep) ServiceSpec *spec = NULL;
        _cleanup_scheduler_volumes_ SchedulerVolumes volumes = {};
        _cleanup_snapshot_ SchedulerSnapshot snapshot = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *why = NULL;
        Store *s = self->master->store;
        int r;

        if (service->state != SERVICE_RUNNING || service_is_job(service))
                return 0;
        r = store_list_deploys(s, service->id, DEPLOYS_READ, &deploys);
        if (r < 0)
                return r;
        if (deploys.n > 0 && !DEPLOY_STATE_IS_FINAL(deploys.rows[0]->state))
                return 0;

        r = service_spec_parse(service->spec, &spec, &error);
        if (r < 0) {
                complain(self, service, kerror_message(&error));
                return 0;
        }
        r = store_list_instances_of_service(s, service->id, &instances);
        if (r < 0)
                return r;
        r = placement_get(self->master, service->grid_id, now, &snapshot);
        if (r < 0)
                return r;
        if (spec->stateful)
                return follow_availability(self, &snapshot, service, &instances);

        if (now < reschedule_not_before(&deploys))
                return 0;
        if (service->updated_at > service->deployed_at)
                r = start_deploy(self, service, false, "it was updated after its last deploy");
        else if (spec->interval_sec > 0 && now >= service->deployed_at + spec->interval_sec * USEC_PER_SEC)
                r = start_deploy(self, service, true, "its deploy interval has passed");
        else {
                r = placement_add_volumes(s, &snapshot, service, spec, &volumes);
                if (r < 0)
                        return r;
                r = reschedule_check_placement(&snapshot, service, spec, &volumes, &instances, &why);
                if (r == -ESRCH) {
                        complain(self, service, why);
                        return 0;
                }
                note_forget(&self->complaints, service->id);
                if (r > 0)
                        r = start_deploy(self, service, false, why);
                else if (r == 0)
                        return 0;
        }
        return r < 0 ? r : 1;
}

static int compare_updated(const void *a, const void *b) {
        const ServiceRow *x = *(ServiceRow *const *) a, *y = *(ServiceRow *const *) b;

        return x->updated_at < y->updated_at ? -1 : x->updated_at > y->updated_at;
}

static void task_free(Rescheduler *self, Task *t) {
        if (t->hh.tbl)
                HASH_DEL(self->tasks, t);
        strv_free(t->services);
        free(t->grid_id);
        free(t);
}

static void task_add(Rescheduler *self, const char *grid_id) {
        Task *t = NULL;

        HASH_FIND_STR(self->tasks, grid_id, t);
        if (t) {
                t->again = t->services;
                return;
        }
        t = new0(Task, 1);
        if (!t)
                return; /* it is looked at next time */
        t->grid_id = strdup(grid_id);
        if (t->grid_id)
                HASH_ADD_KEYPTR(hh, self->tasks, t->grid_id, strlen(t->grid_id), t);
        if (!t->hh.tbl)
                task_free(self, t);
}

/* To be looked at again, behind the others. */
static void task_end(Rescheduler *self, Task *t) {
        bool again = t->again;

        HASH_DEL(self->tasks, t);
        t->hh = (UT_hash_handle){};
        if (again)
                task_add(self, t->grid_id);
        task_free(self, t);
}

static void look_within(Rescheduler *self, const char *grid_id, uint64_t delay) {
        uint64_t at;
        int enabled, r;

        (void) note_is_news(&self->changed, grid_id, 0);
        if (sd_event_source_get_enabled(self->soon, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
                        sd_event_source_get_time(self->soon, &at) >= 0 && at <= now_monotonic() + delay)
                return;
        r = sd_event_source_set_time_relative(self->soon, delay);
        if (r >= 0)
                r = sd_event_source_set_enabled(self->soon, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning_errno(r, "What has changed is looked at later: %m");
}

/* While nodes come back after a start of the master it is not known who is there. */
static bool is_settled(Rescheduler *self, const char *grid_id, uint64_t now) {
        uint64_t until;

        if (!self->master->tracker || node_tracker_is_settled(self->master->tracker, grid_id, now, &until))
                return true;
        look_within(self, grid_id, until - now);
        return false;
}

/* What concerns the grid as a whole, and which services it has. Returns 0 when it is not looked at now. */
static int task_begin(Rescheduler *self, Task *t, uint64_t now) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_strv_free_ char **ids = NULL;
        Store *s = self->master->store;
        int r;

        if (!is_settled(self, t->grid_id, now))
                return 0;
        r = store_get_grid(s, t->grid_id, &grid);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        r = ephemeral_remove_stale(self->master, grid, now);
        if (r >= 0)
                r = clean_up(self, t->grid_id);
        if (r >= 0)
                r = store_list_services(s, t->grid_id, &services);
        if (r < 0)
                return r;

        if (services.n > 1)
                qsort(services.rows, services.n, sizeof(ServiceRow *), compare_updated);
        ids = new0(char *, services.n + 1);
        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < services.n; i++)
                ids[i] = TAKE_PTR(services.rows[i]->id);
        t->services = TAKE_PTR(ids);
        t->next = 0;
        return 1;
}

static void check_next(Rescheduler *self, Task *t, uint64_t now) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        const char *id = t->services[t->next++];
        int r;

        r = store_get_service(self->master->store, id, &service);
        if (r >= 0)
                r = check_service(self, service, now);
        if (r < 0 && r != -ENOENT) /* removed meanwhile */
                log_warning_errno(r, "Placement of service '%s%s%s' cannot be checked now: %m",
                                service ? service->stack : "", service ? "/" : "",
                                service ? service->name : id);
}

/* One small piece of work. */
static void step(Rescheduler *self, uint64_t now) {
        Task *t = self->tasks;
        int r;

        if (t->services && t->services[t->next]) {
                check_next(self, t, now);
                return;
        }
        if (!t->services) {
                r = task_begin(self, t, now);
                if (r > 0)
                        return;
                if (r < 0)
                        log_warning_errno(r, "Grid '%s' cannot be checked now: %m", t->grid_id);
        }
        task_end(self, t);
}

static void go_on(Rescheduler *self) {
        int r;

        if (!self->tasks)
                return;
        r = sd_event_source_set_enabled(self->work, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Services are not rescheduled any more: %m");
}

static int on_work(sd_event_source *source, void *userdata) {
        Rescheduler *self = userdata;
        uint64_t now = now_realtime(), until = now_monotonic() + TURN_USEC;

        while (self->tasks && now_monotonic() < until)
                step(self, now);
        go_on(self);
        return 0;
}

static int on_soon(sd_event_source *source, uint64_t usec, void *userdata) {
        Rescheduler *self = userdata;
        char *grid_id;

        while ((grid_id = notes_take(&self->changed))) {
                task_add(self, grid_id);
                free(grid_id);
        }
        go_on(self);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        Rescheduler *self = userdata;
        int r;

        r = store_list_grids(self->master->store, &grids);
        if (r < 0)
                log_warning_errno(r, "Grids cannot be read, trying again later: %m");
        FOREACH_ARRAY(g, grids.rows, grids.n)
                task_add(self, (*g)->id);
        go_on(self);

        r = sd_event_source_set_time_relative(source, INTERVAL_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Services are not rescheduled any more: %m");
        return 0;
}

static void look_soon(Rescheduler *self, const char *grid_id) {
        if (grid_id)
                look_within(self, grid_id, NODE_DELAY_USEC);
}

/* A report changes a node's row each minute; only who can be scheduled on is of interest here. */
static void on_node(
                Rescheduler *self, Store *store, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        if (change == STORE_REMOVED) {
                note_forget(&self->nodes, id);
                look_soon(self, grid_id);
                return;
        }
        if (store_get_node(store, id, &row) < 0)
                return;
        if (note_is_news(&self->nodes, id, placement_node_hash(row)))
                look_soon(self, grid_id);
}

static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Rescheduler *self = userdata;

        if (kind == STORE_NODE)
                on_node(self, store, change, id, grid_id);
        else if (kind == STORE_GRID && change == STORE_CHANGED) /* default_affinity */
                look_soon(self, id);
        else if (kind == STORE_INSTANCE &&
                        change == STORE_REMOVED) /* another may have waited for it to be gone */
                look_soon(self, grid_id);
        else if (kind == STORE_SERVICE && change == STORE_REMOVED)
                note_forget(&self->complaints, id);
}

Rescheduler *rescheduler_free(Rescheduler *self) {
        Task *t, *next;

        if (!self)
                return NULL;

        sd_event_source_disable_unref(self->timer);
        sd_event_source_disable_unref(self->soon);
        sd_event_source_disable_unref(self->work);
        HASH_ITER(hh, self->tasks, t, next)
                task_free(self, t);
        notes_clear(&self->nodes);
        notes_clear(&self->complaints);
        notes_clear(&self->changed);
        return mfree(self);
}

int rescheduler_new(Master *m, Rescheduler **ret) {
        _cleanup_(rescheduler_freep) Rescheduler *n = NULL;
        int r;

        assert(m);
        assert(ret);

        n = new0(Rescheduler, 1);
        if (!n)
                return -ENOMEM;
        n->master = m;

        /* Nodes get this long to come back after the master started before anything is moved. */
        r = sd_event_add_time_relative(m->event, &n->timer, CLOCK_MONOTONIC, INTERVAL_USEC,
                        100 * USEC_PER_MSEC, on_timer, n);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(n->timer, "rescheduler");
        r = sd_event_add_time_relative(
                        m->event, &n->soon, CLOCK_MONOTONIC, 0, 100 * USEC_PER_MSEC, on_soon, n);
        if (r >= 0)
                r = sd_event_source_set_enabled(n->soon, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(n->soon, "rescheduler-soon");
        r = sd_event_add_defer(m->event, &n->work, on_work, n);
        if (r >= 0)
                r = sd_event_source_set_enabled(n->work, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(n->work, "rescheduler-work");
        r = store_watch(m->store, on_change, n);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(n);
        return 0;
}
