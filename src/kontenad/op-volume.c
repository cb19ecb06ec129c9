/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "node-session.h"
#include "op-internal.h"
#include "operation.h"
#include "render.h"
#include "string-util.h"
#include "volume.h"

#define DRIVER_LOCAL "local"

static int find_volume(OperationCall *c, VolumeRow **ret, KError *reterr) {
        const char *name;
        int r;

        r = call_string(c, "volume", &name, reterr);
        if (r < 0)
                return r;
        r = store_find_volume(c->master->store, c->grid->id, name, ret);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "No volume '%s' in grid '%s'.", name,
                                c->grid->name);
        return r;
}

/* What the nodes say that they have, for the refusal of something else. */
static int check_driver(OperationCall *c, const char *driver, KError *reterr) {
        _cleanup_strv_free_ char **offered = NULL;
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_free_ char *joined = NULL;
        int r;

        if (streq(driver, DRIVER_LOCAL))
                return 0;

        r = store_list_nodes(c->master->store, c->grid->id, &nodes);
        if (r < 0)
                return r;
        FOREACH_ARRAY(n, nodes.rows, nodes.n) {
                _cleanup_strv_free_ char **l = NULL;

                if (!(*n)->report || json_find_strv((*n)->report, "volume_drivers", &l, NULL) <= 0)
                        continue;
                STRV_FOREACH(d, l)
                        if (!strv_contains(offered, *d) && strv_extend(&offered, *d) < 0)
                                return -ENOMEM;
        }
        joined = strv_join(offered, ", ");
        return kerror_set(reterr, K_NOT_SUPPORTED,
                        "There is no volume driver '%s'; nodes of grid '%s' offer: %s.", driver,
                        c->grid->name, isempty(joined) ? DRIVER_LOCAL : joined);
}

static int take_settings(OperationCall *c, VolumeRow *v, KError *reterr) {
        static const char *const allowed[] = { "driver", "scope", "size_max", "options", NULL };
        const char *driver = DRIVER_LOCAL, *scope = "instance";
        json_object *o, *options = NULL;
        int r;

        r = call_settings(c, "settings", allowed, &o, reterr);
        if (r >= 0)
                r = json_find_string(o, "driver", &driver, reterr);
        if (r >= 0)
                r = json_find_string(o, "scope", &scope, reterr);
        if (r >= 0)
                r = json_find_u64(o, "size_max", &v->size_max, reterr);
        if (r >= 0)
                r = json_find_object(o, "options", &options, reterr);
        if (r >= 0)
                r = check_driver(c, driver, reterr);
        if (r < 0)
                return r;

        v->scope = volume_scope_from_string(scope);
        if ((int) v->scope < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'scope' is 'instance', 'stack' or 'grid', not '%s'.", scope);
        if (v->size_max > INT64_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'size_max' is out of range.");
        if (options) {
                json_object_object_foreach(options, key, value) {
                        (void) value;
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The volume driver '" DRIVER_LOCAL "' has no option '%.64s'.", key);
                }
        }

        v->driver = strdup(driver);
        v->options = options ? json_object_get(options) : json_object_new_object();
        return v->driver && v->options ? 0 : -ENOMEM;
}

static int volume_create(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(volume_row_freep) VolumeRow *v = NULL, *other = NULL;
        _cleanup_(volume_row_list_done) VolumeRowList all = {};
        const char *name;
        int r;

        r = call_string(c, "name", &name, reterr);
        if (r >= 0)
                r = name_validate("volume", name, reterr);
        if (r < 0)
                return r;
        r = store_find_volume(c->master->store, c->grid->id, name, &other);
        if (r >= 0)
                return kerror_set(reterr, K_ALREADY_EXISTS, "There is a volume '%s' in grid '%s' already%s.",
                                name, c->grid->name, other->removing ? ", which is being removed" : "");
        if (r != -ENOENT)
                return r;
        r = store_list_volumes(c->master->store, c->grid->id, &all);
        if (r < 0)
                return r;
        if (all.n >= VOLUMES_PER_GRID_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Grid '%s' has %zu volumes, more are not possible.", c->grid->name, all.n);

        v = new0(VolumeRow, 1);
        if (!v)
                return -ENOMEM;
        v->id = store_new_id();
        v->grid_id = strdup(c->grid->id);
        v->name = strdup(name);
        v->created_at = now_realtime();
        if (!v->id || !v->grid_id || !v->name)
                return -ENOMEM;
        r = take_settings(c, v, reterr);
        if (r < 0)
                return r;
        r = store_put_volume(c->master->store, v);
        if (r < 0)
                return r;

        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info", .type = "volume:create", .grid_id = c->grid->id },
                        "Volume '%s' was created, one for each %s.", name,
                        v->scope == VOLUME_SCOPE_INSTANCE ? "instance"
                        : v->scope == VOLUME_SCOPE_STACK  ? "stack and node"
                                                          : "node");
        return 0;
}

static int volume_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_strv_free_ char **services = NULL, **offline = NULL;
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        Store *s = c->master->store;
        int r;

        if (!o)
                return -ENOMEM;
        r = find_volume(c, &v, reterr);
        if (r >= 0)
                r = volume_list_users(s, v, &services);
        if (r < 0)
                return r;
        if (services) {
                _cleanup_free_ char *joined = strv_join(services, ", ");

                return kerror_set(reterr, K_IN_USE, "Volume '%s' is used by: %s.", v->name, strna(joined));
        }

        r = store_list_volume_instances_of_volume(s, v->id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                _cleanup_(node_row_freep) NodeRow *node = NULL;

                (*i)->removing = true;
                r = store_put_volume_instance(s, *i);
                if (r >= 0)
                        r = store_get_node(s, (*i)->node_id, &node);
                if (r < 0)
                        return r;
                if (!node->connected && !strv_contains(offline, node->name)) {
                        r = strv_extend(&offline, node->name);
                        if (r < 0)
                                return r;
                }
        }
        if (rows.n == 0)
                r = store_delete_volume(s, v->id);
        else {
                v->removing = true;
                r = store_put_volume(s, v);
        }
        if (r >= 0)
                r = json_add_strv(o, "offline", offline);
        if (r < 0)
                return r;

        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info", .type = "volume:remove", .grid_id = c->grid->id },
                        rows.n == 0 ? "Volume '%s' was removed."
                                    : "Volume '%s' is being removed with what is in it.",
                        v->name);
        *ret = TAKE_PTR(o);
        return 0;
}

static int render_volume(
                OperationCall *c, const VolumeRow *v, const VolumeInstanceRowList *rows, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_strv_free_ char **services = NULL;
        const char *state = v->removing ? "removing" : "present";
        uint64_t used = 0;
        int r;

        if (!o)
                return -ENOMEM;
        r = volume_list_services(c->master->store, v, &services);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows->rows, rows->n) {
                used += (*i)->used;
                if (!v->removing && streq_ptr((*i)->state, "error"))
                        state = "error";
        }

        if ((r = json_add_string(o, "id", v->id)) < 0 ||
                        (r = json_add_string(o, "grid", c->grid->name)) < 0 ||
                        (r = json_add_string(o, "name", v->name)) < 0 ||
                        (r = json_add_string(o, "driver", v->driver)) < 0 ||
                        (r = json_add_string(o, "scope", volume_scope_to_string(v->scope))) < 0 ||
                        (r = json_add_string(o, "state", state)) < 0 ||
                        (r = json_add_u64(o, "size_max", v->size_max)) < 0 ||
                        (r = json_add_u64(o, "used", used)) < 0 ||
                        (r = json_add_u64(o, "places", rows->n)) < 0 ||
                        (r = json_add_strv(o, "services", services)) < 0 ||
                        (r = json_add_u64(o, "created_at", v->created_at)) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int volume_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *array = json_object_new_array();
        _cleanup_(volume_row_list_done) VolumeRowList l = {};
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_volumes(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(v, l.rows, l.n) {
                _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
                json_object *row;

                r = store_list_volume_instances_of_volume(c->master->store, (*v)->id, &rows);
                if (r >= 0)
                        r = render_volume(c, *v, &rows, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("volumes", TAKE_PTR(array), ret);
}

static int render_place(OperationCall *c, const VolumeInstanceRow *i, json_object **ret) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_free_ char *node = node_name(c->master, i->node_id);
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o || !node)
                return -ENOMEM;
        if (i->service_id) {
                r = store_get_service(c->master->store, i->service_id, &service);
                if (r < 0 && r != -ENOENT)
                        return r;
        }

        if ((r = json_add_string(o, "node", node)) < 0 || (r = json_add_string(o, "name", i->name)) < 0 ||
                        (r = json_add_string(o, "stack", service ? service->stack : "")) < 0 ||
                        (r = json_add_string(o, "service", service ? service->name : "")) < 0 ||
                        (r = json_add_u64(o, "number", i->number)) < 0 ||
                        (r = json_add_string(o, "state", i->removing ? "removing" : i->state ?: "expected")) < 0 ||
                        (r = json_add_string(o, "error", strempty(i->error))) < 0 ||
                        (r = json_add_u64(o, "used", i->used)) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int volume_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        _cleanup_json_ json_object *o = NULL, *array = json_object_new_array();
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        int r;

        if (!array)
                return -ENOMEM;
        r = find_volume(c, &v, reterr);
        if (r >= 0)
                r = store_list_volume_instances_of_volume(c->master->store, v->id, &rows);
        if (r >= 0)
                r = render_volume(c, v, &rows, &o);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                json_object *place;

                r = render_place(c, *i, &place);
                if (r >= 0)
                        r = json_append(array, place);
                if (r < 0)
                        return r;
        }
        r = json_add(o, "instances", TAKE_PTR(array));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

#define VOLUME_PARAMETERS                                                                                   \
        { "grid", PARAMETER_STRING, true }, {                                                               \
                "volume", PARAMETER_STRING, true                                                            \
        }
#define SNAPSHOT_PARAMETERS                                                                                 \
        VOLUME_PARAMETERS, { "snapshot", PARAMETER_STRING, true }, {                                        \
                "options", PARAMETER_OBJECT, false                                                          \
        }

const Operation volume_operations[] = {
        {
                        .name = "volume.create",
                        .method = "CreateVolume",
                        .action = "io.kontena.master1.manage-volumes",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "name", PARAMETER_STRING, true },
                                        { "settings", PARAMETER_OBJECT, false } },
                        .perform = volume_create,
        },
        {
                        .name = "volume.remove",
                        .method = "RemoveVolume",
                        .action = "io.kontena.master1.manage-volumes",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { VOLUME_PARAMETERS },
                        .results = { "offline" },
                        .perform = volume_remove,
        },
        {
                        .name = "volume.list",
                        .method = "ListVolumes",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "volumes" },
                        .perform = volume_list,
        },
        {
                        .name = "volume.get",
                        .method = "GetVolume",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { VOLUME_PARAMETERS },
                        .results = { "" },
                        .perform = volume_get,
        },
        {
                        .name = "volume.snapshot-list",
                        .method = "ListVolumeSnapshots",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { VOLUME_PARAMETERS, { "options", PARAMETER_OBJECT, false } },
                        .results = { "snapshots", "warnings" },
                        .perform = volume_snapshot,
        },
        {
                        .name = "volume.snapshot-create",
                        .method = "CreateVolumeSnapshot",
                        .action = "io.kontena.master1.manage-volumes",
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { SNAPSHOT_PARAMETERS },
                        .results = { "snapshots" },
                        .perform = volume_snapshot,
        },
        {
                        .name = "volume.snapshot-restore",
                        .method = "RestoreVolumeSnapshot",
                        .action = "io.kontena.master1.manage-volumes",
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { SNAPSHOT_PARAMETERS },
                        .perform = volume_snapshot,
        },
        {
                        .name = "volume.snapshot-remove",
                        .method = "RemoveVolumeSnapshot",
                        .action = "io.kontena.master1.manage-volumes",
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { SNAPSHOT_PARAMETERS },
                        .perform = volume_snapshot,
        },
};
const size_t n_volume_operations = ELEMENTSOF(volume_operations);
