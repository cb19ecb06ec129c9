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
#include "placement.h"
#include "reschedule-check.h"
#include "scheduler.h"
#include "string-util.h"

#define INTERVAL_USEC   (20 * USEC_PER_SEC)
#define NODE_DELAY_USEC (1 * USEC_PER_SEC)
/* Failed deploys in a row that make a difference. */
#define DEPLOYS_READ    8U

/* What was last seen of a node, or said of a service, so that the same thing is not news twice. */
typedef struct Note {
        char *id;
        uint64_t hash;
        UT_hash_handle hh;
} Note;

struct Rescheduler {
        Master *master;
        sd_event_source *timer;
        Note *nodes, *complaints;
};

static void notes_free(Note **table) {
        Note *n, *next;

        HASH_ITER(hh, *table, n, next) {
                HASH_DEL(*table, n);
                free(n->id);
                free(n);
        }
}

static void note_forget(Note **table, const char *id) {
        Note *n = NULL;

        HASH_FIND_STR(*table, id, n);
        if (!n)
                return;
        HASH_DEL(*table, n);
        free(n->id);
        free(n);
}

/* Is this something else than last time? */
static bool note_is_news(Note **table, const char *id, uint64_t hash) {
        Note *n = NULL;

        HASH_FIND_STR(*table, id, n);
        if (n && n->hash == hash)
                return false;
        if (!n) {
                n = new0(Note, 1);
                if (!n)
                        return true;
                n->id = strdup(id);
                if (!n->id) {
                        free(n);
                        return true;
                }
                HASH_ADD_KEYPTR(hh, *table, n->id, strlen(n->id), n);
                if (!n->hh.tbl) {
                        free(n->id);
                        free(n);
                        return true;
                }
        }
        n->hash = hash;
        return true;
}

/* Instances whose node was removed: those that are terminated are gone, the others wait for a node. */
static int clean_up(Rescheduler *self, const char *grid_id) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        Store *s = self->master->store;
        int r;

        r = store_list_nodes(s, grid_id, &nodes);
        if (r < 0)
                return r;
        r = store_list_instances_of_grid(s, grid_id, &instances);
        if (r < 0)
                return r;

        FOREACH_ARRAY(i, instances.rows, instances.n) {
                InstanceRow *row = *i;
                bool exists = false;

                FOREACH_ARRAY(n, nodes.rows, nodes.n)
                        exists = exists || streq_ptr((*n)->id, row->node_id);
                if (exists || (!row->node_id && row->desired != INSTANCE_TERMINATED && !row->address))
                        continue;

                if (!t) {
                        r = store_begin(s, NULL);
                        if (r < 0)
                                return r;
                        t = s;
                }
                if (row->desired == INSTANCE_TERMINATED)
                        r = store_delete_instance(s, row->id);
                else {
                        row->node_id = mfree(row->node_id);
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

                if (!t) {
                        r = store_begin(s, NULL);
                        if (r < 0)
                                return r;
                        t = s;
                }
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
        r = placement_snapshot(s, service->grid_id, now, &snapshot);
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

static int check_grid(Rescheduler *self, const GridRow *grid, uint64_t now) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        int r;

        r = ephemeral_remove_stale(self->master, grid, now);
        if (r < 0)
                return r;
        r = clean_up(self, grid->id);
        if (r < 0)
                return r;
        r = store_list_services(self->master->store, grid->id, &services);
        if (r < 0)
                return r;
        if (services.n > 1)
                qsort(services.rows, services.n, sizeof(ServiceRow *), compare_updated);

        FOREACH_ARRAY(service, services.rows, services.n) {
                r = check_service(self, *service, now);
                if (r < 0)
                        log_warning_errno(r, "Placement of service '%s/%s' cannot be checked now: %m",
                                        (*service)->stack, (*service)->name);
        }
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        Rescheduler *self = userdata;
        uint64_t now = now_realtime();
        int r;

        r = store_list_grids(self->master->store, &grids);
        if (r < 0)
                log_warning_errno(r, "Grids cannot be read, trying again later: %m");
        else
                FOREACH_ARRAY(g, grids.rows, grids.n) {
                        r = check_grid(self, *g, now);
                        if (r < 0)
                                log_warning_errno(r, "Grid '%s' cannot be checked now: %m", (*g)->name);
                }

        r = sd_event_source_set_time_relative(source, INTERVAL_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Services are not rescheduled any more: %m");
        return 0;
}

static void look_soon(Rescheduler *self) {
        uint64_t at;

        if (sd_event_source_get_time(self->timer, &at) >= 0 && at > now_monotonic() + NODE_DELAY_USEC)
                (void) sd_event_source_set_time_relative(self->timer, NODE_DELAY_USEC);
}

/* A report changes a node's row each minute; only who can be scheduled on is of interest here. */
static void on_node(Rescheduler *self, Store *store, StoreChange change, const char *id) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        uint64_t hash;

        if (change == STORE_REMOVED) {
                note_forget(&self->nodes, id);
                look_soon(self);
                return;
        }
        if (store_get_node(store, id, &row) < 0)
                return;
        hash = placement_seed(row->connected ? "1" : "0", (uint64_t) row->availability);
        STRV_FOREACH(l, row->labels)
                hash = placement_seed(*l, hash);
        if (note_is_news(&self->nodes, id, hash))
                look_soon(self);
}

static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Rescheduler *self = userdata;

        if (kind == STORE_NODE)
                on_node(self, store, change, id);
        else if (kind == STORE_GRID && change == STORE_CHANGED) /* default_affinity */
                look_soon(self);
        else if (kind == STORE_INSTANCE &&
                        change == STORE_REMOVED) /* another may have waited for it to be gone */
                look_soon(self);
        else if (kind == STORE_SERVICE && change == STORE_REMOVED)
                note_forget(&self->complaints, id);
}

Rescheduler *rescheduler_free(Rescheduler *self) {
        if (!self)
                return NULL;

        sd_event_source_disable_unref(self->timer);
        notes_free(&self->nodes);
        notes_free(&self->complaints);
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
        r = store_watch(m->store, on_change, n);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(n);
        return 0;
}
