/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "bus-json.h"
#include "json-util.h"
#include "log.h"
#include "render.h"
#include "string-util.h"

static void add_slot(BusLink *l, sd_bus_slot *slot) {
        assert(l->n_slots < ELEMENTSOF(l->slots));

        l->slots[l->n_slots++] = slot;
}

void bus_found_done(Found *f) {
        BusLink *link = f->link;

        json_object_put(f->row);
        grid_row_free(f->grid);
        service_row_free(f->service);
        deploy_row_free(f->deploy);
        *f = (Found){ .link = link };
}

/* Which key of the row a property shows, and as what. */
static const struct {
        const char *property, *key, *type;
} properties[] = {
        { "Address", "address", "s" },
        { "Availability", "availability", "s" },
        { "Count", "count", "u" },
        { "DefaultAffinity", "default_affinity", "as" },
        { "Deploying", "deploying", "b" },
        { "Desired", "desired", "s" },
        { "Error", "error", "s" },
        { "Id", "id", "s" },
        { "Image", "image", "s" },
        { "InitialSize", "initial_size", "u" },
        { "Labels", "labels", "as" },
        { "LastSeenUSec", "last_seen", "t" },
        { "Name", "name", "s" },
        { "Node", "node", "s" },
        { "Number", "number", "u" },
        { "OverlayAddress", "overlay_address", "s" },
        { "PrivateAddress", "private_address", "s" },
        { "Progress", "progress", "s" },
        { "Reason", "reason", "s" },
        { "Restarts", "restarts", "u" },
        { "Revision", "revision", "t" },
        { "Running", "running", "u" },
        { "Stack", "stack", "s" },
        { "State", "state", "s" },
        { "Stateful", "stateful", "b" },
        { "Subnet", "subnet", "s" },
        { "Supernet", "supernet", "s" },
        { "TrustedSubnets", "trusted_subnets", "as" },
        { "Unit", "unit", "s" },
        { "Version", "version", "s" },
};

static int property_get(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Found *f = userdata;

        FOREACH_ARRAY(p, properties, ELEMENTSOF(properties))
                if (streq(p->property, property))
                        return bus_json_append(reply, p->type, json_object_object_get(f->row, p->key), NULL);

        return -EINVAL;
}

static int property_get_grid(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        _cleanup_free_ char *grid = NULL;
        Found *f = userdata;
        int r;

        r = bus_path_grid(f->grid->name, &grid);
        if (r < 0)
                return r;
        return sd_bus_message_append(reply, "o", grid);
}

/* "/" where the service is gone. */
static int property_get_service(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        _cleanup_free_ char *service = NULL;
        Found *f = userdata;
        int r;

        if (f->service) {
                r = bus_path_service(f->grid->name, f->service->stack, f->service->name, &service);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_append(reply, "o", service ?: "/");
}

static int property_get_instances(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        Found *f = userdata;
        int r;

        r = store_list_instances_of_service(f->link->face->master->store, f->service->id, &l);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "o");
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                _cleanup_free_ char *p = NULL;

                if ((*i)->desired == INSTANCE_TERMINATED)
                        continue;
                r = bus_path_id("instance", (*i)->id, &p);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "o", p);
                if (r < 0)
                        return r;
        }

        return sd_bus_message_close_container(reply);
}

static int property_get_steps(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        static const char *const texts[] = { "node", "state", "progress", "error" };
        Found *f = userdata;
        json_object *steps = NULL;
        int r;

        r = json_find_array(f->row, "instances", &steps, NULL);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ussss)");
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(s, steps) {
                r = sd_bus_message_open_container(reply, 'r', "ussss");
                if (r >= 0)
                        r = bus_json_append(reply, "u", json_object_object_get(s, "number"), NULL);
                for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                        r = bus_json_append(reply, "s", json_object_object_get(s, texts[i]), NULL);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
                if (r < 0)
                        return r;
        }

        return sd_bus_message_close_container(reply);
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_json_ json_object *params = json_object_new_object();
        Found *f = userdata;
        int r;

        if (!params)
                return -ENOMEM;
        r = json_add_string(params, "deploy", f->deploy->id);
        if (r < 0)
                return r;
        return bus_call_operation(f->link, m, operation_find("deploy.cancel"), TAKE_PTR(params), NULL);
}

#define PROPERTY_CONST(name, type) SD_BUS_PROPERTY(name, type, property_get, 0, SD_BUS_VTABLE_PROPERTY_CONST)
#define PROPERTY_CHANGE(name, type)                                                                         \
        SD_BUS_PROPERTY(name, type, property_get, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable grid_vtable[] = {
        SD_BUS_VTABLE_START(0),
        PROPERTY_CONST("Id", "s"),
        PROPERTY_CONST("Name", "s"),
        PROPERTY_CONST("Subnet", "s"),
        PROPERTY_CONST("Supernet", "s"),
        PROPERTY_CHANGE("TrustedSubnets", "as"),
        PROPERTY_CHANGE("DefaultAffinity", "as"),
        PROPERTY_CONST("InitialSize", "u"),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable node_vtable[] = {
        SD_BUS_VTABLE_START(0),
        PROPERTY_CONST("Id", "s"),
        PROPERTY_CONST("Name", "s"),
        SD_BUS_PROPERTY("Grid", "o", property_get_grid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY_CONST("Number", "u"),
        PROPERTY_CHANGE("State", "s"),
        PROPERTY_CHANGE("Availability", "s"),
        PROPERTY_CHANGE("Labels", "as"),
        PROPERTY_CONST("OverlayAddress", "s"),
        PROPERTY_CHANGE("PrivateAddress", "s"),
        PROPERTY_CHANGE("Version", "s"),
        /* Changes with each ping: read it when it matters. */
        SD_BUS_PROPERTY("LastSeenUSec", "t", property_get, 0, 0),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable service_vtable[] = {
        SD_BUS_VTABLE_START(0),
        PROPERTY_CONST("Id", "s"),
        PROPERTY_CONST("Name", "s"),
        PROPERTY_CONST("Stack", "s"),
        SD_BUS_PROPERTY("Grid", "o", property_get_grid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        PROPERTY_CHANGE("State", "s"),
        PROPERTY_CHANGE("Image", "s"),
        PROPERTY_CHANGE("Count", "u"),
        PROPERTY_CHANGE("Running", "u"),
        PROPERTY_CONST("Stateful", "b"),
        PROPERTY_CHANGE("Revision", "t"),
        PROPERTY_CHANGE("Deploying", "b"),
        SD_BUS_PROPERTY("Instances", "ao", property_get_instances, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable instance_vtable[] = {
        SD_BUS_VTABLE_START(0),
        PROPERTY_CONST("Id", "s"),
        SD_BUS_PROPERTY("Service", "o", property_get_service, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        PROPERTY_CONST("Number", "u"),
        PROPERTY_CHANGE("Node", "s"),
        PROPERTY_CHANGE("Desired", "s"),
        PROPERTY_CHANGE("State", "s"),
        PROPERTY_CHANGE("Progress", "s"),
        PROPERTY_CHANGE("Error", "s"),
        PROPERTY_CHANGE("Address", "s"),
        PROPERTY_CHANGE("Unit", "s"),
        PROPERTY_CHANGE("Restarts", "u"),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable deploy_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", NULL, NULL, method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Finished", SD_BUS_ARGS("s", state, "s", reason), 0),
        PROPERTY_CONST("Id", "s"),
        SD_BUS_PROPERTY("Service", "o", property_get_service, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        PROPERTY_CHANGE("State", "s"),
        PROPERTY_CHANGE("Reason", "s"),
        PROPERTY_CHANGE("Revision", "t"),
        SD_BUS_PROPERTY("Instances", "a(ussss)", property_get_steps, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

/* Paths to rows. 1: found, 0: there is none. */

static int found(Found *f, int r, void **ret) {
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        *ret = f;
        return 1;
}

/* What the peer may not see is not there. */
static int check_sight(Found *f) {
        return bus_link_sees(f->link, f->grid->id) ? 0 : -ENOENT;
}

static Found *look_anew(BusLink *link, StoreKind kind) {
        Found *f = link->found + kind;

        bus_found_done(f);
        return f;
}

static int find_grid(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        Found *f = look_anew(userdata, STORE_GRID);
        _cleanup_free_ char *name = NULL;
        int r;

        r = sd_bus_path_decode(path, MASTER_PATH "/grid", &name);
        if (r <= 0)
                return r;
        r = store_find_grid(f->link->face->master->store, name, &f->grid);
        if (r >= 0)
                r = check_sight(f);
        if (r >= 0)
                r = render_grid(f->link->face->master, f->grid, &f->row);
        return found(f, r, ret);
}

static int find_node(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        Found *f = look_anew(userdata, STORE_NODE);
        _cleanup_free_ char *grid = NULL, *name = NULL;
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        int r;

        r = sd_bus_path_decode_many(path, MASTER_PATH "/node/%/%", &grid, &name);
        if (r <= 0)
                return r;
        r = store_find_grid(f->link->face->master->store, grid, &f->grid);
        if (r >= 0)
                r = check_sight(f);
        if (r >= 0)
                r = store_find_node(f->link->face->master->store, f->grid->id, name, &n);
        if (r >= 0)
                r = render_node(f->link->face->master, f->grid, n, &f->row);
        return found(f, r, ret);
}

static int find_service(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        Found *f = look_anew(userdata, STORE_SERVICE);
        _cleanup_free_ char *grid = NULL, *stack = NULL, *name = NULL;
        int r;

        r = sd_bus_path_decode_many(path, MASTER_PATH "/service/%/%/%", &grid, &stack, &name);
        if (r <= 0)
                return r;
        r = store_find_grid(f->link->face->master->store, grid, &f->grid);
        if (r >= 0)
                r = check_sight(f);
        if (r >= 0)
                r = store_find_service(f->link->face->master->store, f->grid->id, stack, name, &f->service);
        if (r >= 0)
                r = render_service(f->link->face->master, f->grid, f->service, &f->row);
        return found(f, r, ret);
}

static int find_owner(Found *f, const char *grid_id, const char *service_id) {
        Store *s = f->link->face->master->store;
        uint64_t turn = 0;
        int r;

        (void) sd_event_get_iteration(f->link->face->master->event, &turn);
        if (turn != f->turn || !f->grid || !streq(f->grid->id, grid_id)) {
                f->grid = grid_row_free(f->grid);
                r = store_get_grid(s, grid_id, &f->grid);
                if (r < 0)
                        return r;
        }
        if (turn != f->turn || !f->service || !streq(f->service->id, service_id)) {
                f->service = service_row_free(f->service);
                r = store_get_service(s, service_id, &f->service);
                if (r < 0 && r != -ENOENT)
                        return r;
        }

        f->turn = turn;
        return 0;
}

/* Keeps the owners: find_owner() looks whether they are the right ones. */
static Found *look_for_part(BusLink *link, StoreKind kind) {
        Found *f = link->found + kind;

        json_object_put(TAKE_PTR(f->row));
        f->deploy = deploy_row_free(f->deploy);
        return f;
}

static int find_instance(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        Found *f = look_for_part(userdata, STORE_INSTANCE);
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        _cleanup_free_ char *id = NULL;
        int r;

        r = sd_bus_path_decode(path, MASTER_PATH "/instance", &id);
        if (r <= 0)
                return r;
        r = store_get_instance(f->link->face->master->store, id, &i);
        if (r >= 0)
                r = find_owner(f, i->grid_id, i->service_id);
        if (r >= 0)
                r = check_sight(f);
        if (r >= 0)
                r = render_instance(f->link->face->master, f->grid, f->service, i, &f->row);
        return found(f, r, ret);
}

static int find_deploy(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        Found *f = look_for_part(userdata, STORE_DEPLOY);
        _cleanup_free_ char *id = NULL;
        int r;

        r = sd_bus_path_decode(path, MASTER_PATH "/deploy", &id);
        if (r <= 0)
                return r;
        r = store_get_deploy(f->link->face->master->store, id, &f->deploy);
        if (r >= 0)
                r = find_owner(f, f->deploy->grid_id, f->deploy->service_id);
        if (r >= 0)
                r = check_sight(f);
        if (r >= 0)
                r = render_deploy(f->link->face->master, f->grid, f->service, f->deploy, &f->row);
        return found(f, r, ret);
}

/* All paths there are. */

static int add_path(char ***l, int r, char **path) {
        return r < 0 ? r : strv_consume(l, TAKE_PTR(*path));
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        _cleanup_strv_free_ char **l = NULL;
        Found *kind = userdata; /* prefix is of who asks, not of what is enumerated */
        BusLink *link = kind->link;
        Store *s = link->face->master->store;
        char *path = NULL;
        int r;

        r = store_list_grids(s, &grids);
        FOREACH_ARRAY(g, grids.rows, grids.n) {
                _cleanup_(node_row_list_done) NodeRowList nodes = {};
                _cleanup_(service_row_list_done) ServiceRowList services = {};
                _cleanup_(instance_row_list_done) InstanceRowList instances = {};

                if (r < 0)
                        return r;
                if (!bus_link_sees(link, (*g)->id))
                        continue;

                if (kind == link->found + STORE_GRID)
                        r = add_path(&l, bus_path_grid((*g)->name, &path), &path);
                else if (kind == link->found + STORE_NODE) {
                        r = store_list_nodes(s, (*g)->id, &nodes);
                        FOREACH_ARRAY(n, nodes.rows, nodes.n)
                                if (r >= 0)
                                        r = add_path(&l, bus_path_node((*g)->name, (*n)->name, &path),
                                                        &path);
                } else if (kind == link->found + STORE_INSTANCE) {
                        r = store_list_instances_of_grid(s, (*g)->id, &instances);
                        FOREACH_ARRAY(i, instances.rows, instances.n)
                                if (r >= 0)
                                        r = add_path(&l, bus_path_id("instance", (*i)->id, &path), &path);
                } else {
                        r = store_list_services(s, (*g)->id, &services);
                        FOREACH_ARRAY(v, services.rows, services.n)
                                if (r >= 0)
                                        r = add_path(&l,
                                                        bus_path_service((*g)->name, (*v)->stack, (*v)->name,
                                                                        &path),
                                                        &path);
                }
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

/* Of deploys those that go on, and the last of each service; older ones can be asked for by their path. */
static int enumerate_deploys(
                sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_(deploy_row_list_done) DeployRowList unfinished = {};
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_strv_free_ char **l = NULL;
        BusLink *link = ((Found *) userdata)->link;
        Store *store = link->face->master->store;
        char *path = NULL;
        int r;

        r = store_list_unfinished_deploys(store, &unfinished);
        FOREACH_ARRAY(d, unfinished.rows, unfinished.n)
                if (r >= 0 && bus_link_sees(link, (*d)->grid_id))
                        r = add_path(&l, bus_path_id("deploy", (*d)->id, &path), &path);
        if (r >= 0)
                r = store_list_services(store, NULL, &services);
        if (r < 0)
                return r;

        FOREACH_ARRAY(s, services.rows, services.n) {
                _cleanup_(deploy_row_list_done) DeployRowList last = {};

                if (!bus_link_sees(link, (*s)->grid_id))
                        continue;
                r = store_list_deploys(store, (*s)->id, 1, &last);
                if (r >= 0 && last.n > 0 && DEPLOY_STATE_IS_FINAL(last.rows[0]->state))
                        r = add_path(&l, bus_path_id("deploy", last.rows[0]->id, &path), &path);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int bus_objects_add(BusLink *l) {
        static const struct {
                StoreKind kind;
                const char *prefix, *interface;
                const sd_bus_vtable *vtable;
                sd_bus_object_find_t find;
                sd_bus_node_enumerator_t enumerate;
        } kinds[] = {
                { STORE_GRID, MASTER_PATH "/grid", "io.kontena.Master1.Grid", grid_vtable, find_grid,
                                enumerate },
                { STORE_NODE, MASTER_PATH "/node", "io.kontena.Master1.Node", node_vtable, find_node,
                                enumerate },
                { STORE_SERVICE, MASTER_PATH "/service", "io.kontena.Master1.Service", service_vtable,
                                find_service, enumerate },
                { STORE_INSTANCE, MASTER_PATH "/instance", "io.kontena.Master1.Instance", instance_vtable,
                                find_instance, enumerate },
                { STORE_DEPLOY, MASTER_PATH "/deploy", "io.kontena.Master1.Deploy", deploy_vtable,
                                find_deploy, enumerate_deploys },
        };
        sd_bus *bus = l->bus;
        sd_bus_slot *slot;
        int r;

        r = sd_bus_add_object_vtable(bus, &slot, MASTER_PATH, MANAGER_IFACE, bus_manager_vtable(), l);
        if (r < 0)
                return r;
        add_slot(l, slot);
        r = sd_bus_add_object_manager(bus, &slot, MASTER_PATH);
        if (r < 0)
                return r;
        add_slot(l, slot);

        FOREACH_ARRAY(k, kinds, ELEMENTSOF(kinds)) {
                l->found[k->kind].link = l;
                r = sd_bus_add_fallback_vtable(bus, &slot, k->prefix, k->interface, k->vtable, k->find, l);
                if (r < 0)
                        return r;
                add_slot(l, slot);
                r = sd_bus_add_node_enumerator(bus, &slot, k->prefix, k->enumerate, l->found + k->kind);
                if (r < 0)
                        return r;
                add_slot(l, slot);
        }

        return 0;
}
