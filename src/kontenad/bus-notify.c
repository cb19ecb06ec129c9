/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <uthash.h>
#include <utlist.h>

#include "bus-internal.h"
#include "bus-json.h"
#include "json-util.h"
#include "log.h"
#include "node-tracker.h"
#include "parse-util.h"
#include "render.h"
#include "string-util.h"

/* Changes of the store as signals of the bus: InterfacesAdded and Removed, PropertiesChanged, Finished, Event. */

#define GRID_IFACE     "io.kontena.Master1.Grid"
#define NODE_IFACE     "io.kontena.Master1.Node"
#define SERVICE_IFACE  "io.kontena.Master1.Service"
#define INSTANCE_IFACE "io.kontena.Master1.Instance"
#define DEPLOY_IFACE   "io.kontena.Master1.Deploy"

/* Of objects whose path has names in it, for when their row is gone; of deploys that have not finished. */
struct Known {
        char *id, *path, *grid_id;
        char *shown; /* of a node, what its properties were */
        UT_hash_handle hh;
};

static Known *known_free(Known *k) {
        if (!k)
                return NULL;

        free(k->id);
        free(k->path);
        free(k->grid_id);
        free(k->shown);
        free(k);
        return NULL;
}

static Known *known_find(Known *table, const char *id) {
        Known *k;

        HASH_FIND_STR(table, id, k);
        return k;
}

static Known *known_add(Known **table, const char *id, const char *path, const char *grid_id) {
        Known *k;

        k = known_find(*table, id);
        if (k)
                return k;
        k = new0(Known, 1);
        if (!k)
                return NULL;
        k->id = strdup(id);
        k->path = strdup(path);
        k->grid_id = strdup(grid_id);
        if (!k->id || !k->path || !k->grid_id)
                return known_free(k);
        HASH_ADD_KEYPTR(hh, *table, k->id, strlen(k->id), k);
        return k->hh.tbl ? k : known_free(k);
}

static void known_remove(Known **table, Known *k) {
        HASH_DEL(*table, k);
        known_free(k);
}

static void known_clear(Known **table) {
        Known *k, *next;

        HASH_ITER(hh, *table, k, next)
                known_remove(table, k);
}

static int announce_to(BusLink *l, StoreChange change, const char *path, const char *interface,
                const char *const *properties) {
        switch (change) {
        case STORE_ADDED:
                return sd_bus_emit_interfaces_added(l->bus, path, interface, NULL);
        case STORE_CHANGED:
                return sd_bus_emit_properties_changed_strv(l->bus, path, interface, (char **) properties);
        default:
                return sd_bus_emit_interfaces_removed(l->bus, path, interface, NULL);
        }
}

/* What became of one link counts for it only: r is that of the system bus. */
static int told(BusLink *l, int r) {
        if (!l->guest)
                return r;
        if (r < 0)
                log_debug_errno(r, "A change cannot be told to a guest: %m");
        l->guest->sent(l->guest_userdata);
        return 0;
}

static int announce(BusFace *f, StoreChange change, const char *grid_id, const char *path,
                const char *interface, const char *const *properties) {
        int r = 0, k;
        BusLink *l;

        DL_FOREACH(f->links, l) {
                if (!bus_link_sees(l, grid_id))
                        continue;
                k = told(l, announce_to(l, change, path, interface, properties));
                r = k < 0 ? k : r;
        }

        return r;
}

/* What everybody sees. */
static int announce_manager(BusFace *f, const char *const *properties) {
        int r = 0, k;
        BusLink *l;

        DL_FOREACH(f->links, l) {
                k = told(l, announce_to(l, STORE_CHANGED, MASTER_PATH, MANAGER_IFACE, properties));
                r = k < 0 ? k : r;
        }

        return r;
}

#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static int grid_changed(BusFace *f, StoreChange change, const char *id) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_free_ char *path = NULL;
        Known *k = known_find(f->known, id);
        int r;

        if (change != STORE_REMOVED && store_get_grid(f->master->store, id, &g) >= 0) {
                r = bus_path_grid(g->name, &path);
                if (r < 0)
                        return r;
                if (!known_add(&f->known, id, path, id))
                        return -ENOMEM;
                return announce(f, change, id, path, GRID_IFACE, NAMES("TrustedSubnets", "DefaultAffinity"));
        }
        if (!k)
                return 0;
        r = announce(f, STORE_REMOVED, k->grid_id, k->path, GRID_IFACE, NULL);
        known_remove(&f->known, k);
        return r;
}

/* Counts of a service are told once for many changes of its instances. */
static int service_is_stale(BusFace *f, const char *id) {
        Known *k = known_find(f->known, id);

        if (!k)
                return 0;
        if (!known_add(&f->stale, id, k->path, k->grid_id))
                return -ENOMEM;
        return sd_event_source_set_enabled(f->flush, SD_EVENT_ONESHOT);
}

/* What runs on a node counts while it is connected. */
static int services_on_node_are_stale(BusFace *f, const char *node_id) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        int r;

        r = store_list_instances_of_node(f->master->store, node_id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                r = service_is_stale(f, (*i)->service_id);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Pings change the row and nothing that was announced. */
static char *node_shown(const NodeRow *n) {
        _cleanup_free_ char *labels = strv_join(n->labels, ",");

        return strprintf("%s %s %s %s %s", node_state(n), node_availability_to_string(n->availability),
                        strempty(labels), json_string_or(n->report, "private_address", ""),
                        json_string_or(n->report, "version", ""));
}

static int node_changed(BusFace *f, StoreChange change, const char *id) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        _cleanup_free_ char *path = NULL, *shown = NULL;
        Known *k = known_find(f->known, id);
        int r;

        if (change != STORE_REMOVED && store_get_node(f->master->store, id, &n) >= 0 &&
                        store_get_grid(f->master->store, n->grid_id, &g) >= 0) {
                r = bus_path_node(g->name, n->name, &path);
                if (r < 0)
                        return r;
                k = known_add(&f->known, id, path, g->id);
                shown = node_shown(n);
                if (!k || !shown)
                        return -ENOMEM;
                if (!streq(k->path, path)) { /* renamed */
                        (void) announce(f, STORE_REMOVED, k->grid_id, k->path, NODE_IFACE, NULL);
                        free(k->path);
                        k->path = strdup(path);
                        if (!k->path)
                                return -ENOMEM;
                        change = STORE_ADDED;
                }
                if (change == STORE_CHANGED && streq_ptr(k->shown, shown))
                        return 0;
                free(k->shown);
                k->shown = TAKE_PTR(shown);
                r = services_on_node_are_stale(f, id);
                if (r < 0)
                        return r;
                return announce(f, change, g->id, path, NODE_IFACE,
                                NAMES("State", "Availability", "Labels", "PrivateAddress", "Version"));
        }
        if (!k)
                return 0;
        r = announce(f, STORE_REMOVED, k->grid_id, k->path, NODE_IFACE, NULL);
        known_remove(&f->known, k);
        return r;
}

static int service_changed(BusFace *f, StoreChange change, const char *id) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        _cleanup_free_ char *path = NULL, *deploy = NULL;
        Known *k = known_find(f->known, id);
        int r;

        if (change != STORE_REMOVED && store_get_service(f->master->store, id, &s) >= 0 &&
                        store_get_grid(f->master->store, s->grid_id, &g) >= 0) {
                r = bus_path_service(g->name, s->stack, s->name, &path);
                if (r < 0)
                        return r;
                if (!known_add(&f->known, id, path, g->id))
                        return -ENOMEM;
                return announce(f, change, g->id, path, SERVICE_IFACE,
                                NAMES("State", "Image", "Count", "Revision"));
        }

        if (store_list_deploys(f->master->store, id, 1, &deploys) >= 0 && deploys.n > 0 &&
                        bus_path_id("deploy", deploys.rows[0]->id, &deploy) >= 0)
                (void) announce(f, STORE_REMOVED, deploys.rows[0]->grid_id, deploy, DEPLOY_IFACE, NULL);
        if (!k)
                return 0;
        r = announce(f, STORE_REMOVED, k->grid_id, k->path, SERVICE_IFACE, NULL);
        known_remove(&f->known, k);
        return r;
}

static int on_flush(sd_event_source *source, void *userdata) {
        BusFace *f = userdata;
        Known *k, *next;
        int r;

        HASH_ITER(hh, f->stale, k, next) {
                if (known_find(f->known, k->id)) {
                        r = announce(f, STORE_CHANGED, k->grid_id, k->path, SERVICE_IFACE,
                                        NAMES("Running", "Deploying", "Instances"));
                        if (r < 0 && r != -ENOTCONN)
                                log_debug_errno(r, "Change of '%s' cannot be told: %m", k->path);
                }
                known_remove(&f->stale, k);
        }

        return 0;
}

static int instance_changed(BusFace *f, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        if (change != STORE_REMOVED && store_get_instance(f->master->store, id, &i) < 0)
                return 0; /* its removal is told next */
        r = bus_path_id("instance", id, &path);
        if (r < 0)
                return r;
        if (i) {
                r = service_is_stale(f, i->service_id);
                if (r < 0)
                        return r;
        }

        return announce(f, change, grid_id, path, INSTANCE_IFACE,
                        NAMES("Node", "Desired", "State", "Progress", "Error", "Address", "Unit",
                                        "Restarts"));
}

static int finished(BusFace *f, const DeployRow *d, const char *path) {
        int r = 0, k;
        BusLink *l;

        DL_FOREACH(f->links, l) {
                if (!bus_link_sees(l, d->grid_id))
                        continue;
                k = told(l, sd_bus_emit_signal(l->bus, path, DEPLOY_IFACE, "Finished", "ss",
                                            deploy_state_to_string(d->state), strempty(d->reason)));
                r = k < 0 ? k : r;
        }

        return r;
}

/* Only the last of a service's finished deploys is an object that is listed. */
static void hide_previous(BusFace *f, const DeployRow *d) {
        _cleanup_(deploy_row_list_done) DeployRowList l = {};

        if (store_list_deploys(f->master->store, d->service_id, 2, &l) < 0)
                return;
        FOREACH_ARRAY(other, l.rows, l.n) {
                _cleanup_free_ char *path = NULL;

                if (streq((*other)->id, d->id) || !DEPLOY_STATE_IS_FINAL((*other)->state))
                        continue;
                if (bus_path_id("deploy", (*other)->id, &path) >= 0)
                        (void) announce(f, STORE_REMOVED, (*other)->grid_id, path, DEPLOY_IFACE, NULL);
        }
}

static int deploy_changed(BusFace *f, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
        _cleanup_free_ char *path = NULL;
        Known *k = known_find(f->known, id);
        int r;

        r = bus_path_id("deploy", id, &path);
        if (r < 0)
                return r;
        if (change == STORE_REMOVED || store_get_deploy(f->master->store, id, &d) < 0) {
                if (k)
                        known_remove(&f->known, k);
                return announce(f, STORE_REMOVED, grid_id, path, DEPLOY_IFACE, NULL);
        }

        if (change == STORE_ADDED) {
                hide_previous(f, d);
                k = known_add(&f->known, id, path, d->grid_id);
                if (!k)
                        return -ENOMEM;
        }
        r = service_is_stale(f, d->service_id);
        if (r >= 0)
                r = announce(f, change, d->grid_id, path, DEPLOY_IFACE,
                                NAMES("State", "Reason", "Revision", "Instances"));
        if (r >= 0 && k && DEPLOY_STATE_IS_FINAL(d->state)) {
                known_remove(&f->known, k);
                r = finished(f, d, path);
        }

        return r;
}

static int event_signal(BusLink *l, json_object *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(l->bus, &m, MASTER_PATH, MANAGER_IFACE, "Event");
        if (r >= 0)
                r = bus_json_append(m, "s", json_object_object_get(o, "grid"), NULL);
        if (r >= 0)
                r = bus_json_append(m, "a{sv}", o, NULL);
        return r < 0 ? r : sd_bus_send(l->bus, m, NULL);
}

static int event_added(BusFace *f, const char *id) {
        _cleanup_(event_row_freep) EventRow *e = NULL;
        _cleanup_json_ json_object *o = NULL;
        uint64_t number;
        BusLink *l;
        int r, k;

        r = safe_atou64(id, &number);
        if (r < 0)
                return r;
        r = store_get_event(f->master->store, number, &e);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        r = render_event(f->master, e, &o);
        if (r < 0)
                return r;

        DL_FOREACH(f->links, l) {
                if (!bus_link_sees(l, e->grid_id))
                        continue;
                k = told(l, event_signal(l, o));
                r = k < 0 ? k : r;
        }

        return r;
}

static int run_changed(BusFace *f, const char *id) {
        _cleanup_(run_row_freep) RunRow *run = NULL;
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        BusLink *l;
        int r, k;

        r = store_get_run(f->master->store, id, &run);
        if (r >= 0)
                r = store_get_service(f->master->store, run->service_id, &s);
        if (r >= 0)
                r = store_get_grid(f->master->store, s->grid_id, &g);
        if (r < 0) /* pruned, or gone with its service */
                return r == -ENOENT ? 0 : r;
        DL_FOREACH(f->links, l) {
                if (!bus_link_sees(l, g->id))
                        continue;
                k = told(l, sd_bus_emit_signal(l->bus, MASTER_PATH, MANAGER_IFACE, "RunChanged", "sssus",
                                            g->name, s->stack, s->name, (uint32_t) run->number, run->state));
                r = k < 0 ? k : r;
        }

        return r;
}

static void on_change(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        BusFace *f = userdata;
        int r;

        switch (kind) {
        case STORE_GRID:
                r = grid_changed(f, change, id);
                break;
        case STORE_NODE:
                r = node_changed(f, change, id);
                break;
        case STORE_SERVICE:
                r = service_changed(f, change, id);
                break;
        case STORE_INSTANCE:
                r = instance_changed(f, change, id, grid_id);
                break;
        case STORE_DEPLOY:
                r = deploy_changed(f, change, id, grid_id);
                break;
        case STORE_EVENT:
                r = event_added(f, id);
                break;
        case STORE_RUN:
                r = run_changed(f, id);
                break;
        default:
                r = streq(id, "read-only") ? announce_manager(f, NAMES("ReadOnlyReason")) : 0;
        }

        /* -ENOENT: the row has gone since, which is told next. */
        if (r < 0 && r != -ENOENT && r != -ENOTCONN)
                log_warning_errno(r, "A change cannot be told on the bus: %m");
}

void bus_face_reloaded(BusFace *f) {
        (void) announce_manager(f, NAMES("ListenURL", "CAFingerprint"));
}

/* Who is there already. */
static int learn(BusFace *f) {
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        Store *s = f->master->store;
        int r;

        r = store_list_grids(s, &grids);
        if (r < 0)
                return r;
        FOREACH_ARRAY(g, grids.rows, grids.n) {
                _cleanup_(node_row_list_done) NodeRowList nodes = {};
                _cleanup_(service_row_list_done) ServiceRowList services = {};
                _cleanup_free_ char *path = NULL;

                r = bus_path_grid((*g)->name, &path);
                if (r >= 0 && !known_add(&f->known, (*g)->id, path, (*g)->id))
                        r = -ENOMEM;
                if (r >= 0)
                        r = store_list_nodes(s, (*g)->id, &nodes);
                if (r >= 0)
                        r = store_list_services(s, (*g)->id, &services);
                if (r < 0)
                        return r;
                FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                        _cleanup_free_ char *p = NULL;

                        r = bus_path_node((*g)->name, (*n)->name, &p);
                        if (r < 0 || !known_add(&f->known, (*n)->id, p, (*g)->id))
                                return r < 0 ? r : -ENOMEM;
                }
                FOREACH_ARRAY(v, services.rows, services.n) {
                        _cleanup_free_ char *p = NULL;

                        r = bus_path_service((*g)->name, (*v)->stack, (*v)->name, &p);
                        if (r < 0 || !known_add(&f->known, (*v)->id, p, (*g)->id))
                                return r < 0 ? r : -ENOMEM;
                }
        }

        r = store_list_unfinished_deploys(s, &deploys);
        if (r < 0)
                return r;
        FOREACH_ARRAY(d, deploys.rows, deploys.n)
                if (!known_add(&f->known, (*d)->id, "", (*d)->grid_id))
                        return -ENOMEM;

        return 0;
}

int bus_notify_start(BusFace *f) {
        int r;

        r = learn(f);
        if (r < 0)
                return r;
        r = sd_event_add_defer(f->master->event, &f->flush, on_flush, f);
        if (r >= 0)
                r = sd_event_source_set_enabled(f->flush, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(f->flush, SD_EVENT_PRIORITY_IDLE);
        if (r < 0)
                return r;
        return store_watch(f->master->store, on_change, f);
}

void bus_notify_done(BusFace *f) {
        sd_event_source_disable_unref(f->flush);
        known_clear(&f->known);
        known_clear(&f->stale);
}
