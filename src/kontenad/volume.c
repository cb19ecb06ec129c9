/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume.h"

#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "service-spec.h"
#include "string-util.h"

char *volume_stem_on_node(const VolumeRow *v, const char *stack, const char *service) {
        const char *prefix = streq(stack, STACK_NULL) ? "" : stack, *dot = isempty(prefix) ? "" : ".";

        switch (v->scope) {
        case VOLUME_SCOPE_INSTANCE:
                return strprintf("%s%s%s.%s", prefix, dot, service, v->name);
        case VOLUME_SCOPE_STACK:
                return strprintf("%s%s%s", prefix, dot, v->name);
        default:
                return strdup(v->name);
        }
}

char *volume_name_on_node(const VolumeRow *v, const char *stack, const char *service, uint32_t number) {
        _cleanup_free_ char *stem = volume_stem_on_node(v, stack, service);

        if (!stem || v->scope != VOLUME_SCOPE_INSTANCE)
                return TAKE_PTR(stem);
        return strprintf("%s-%u", stem, number);
}

int volume_list_names(char *const *volumes, bool writable_only, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;

        STRV_FOREACH(s, volumes) {
                _cleanup_(volume_mount_done) VolumeMount m = {};
                int r;

                if (volume_mount_parse(*s, &m, NULL) < 0 || m.type != VOLUME_NAMED ||
                                strv_contains(l, m.source) || (writable_only && m.read_only))
                        continue;
                r = strv_extend(&l, m.source);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int volume_named_in_spec(json_object *spec, bool writable_only, char ***ret) {
        _cleanup_strv_free_ char **volumes = NULL;
        int r;

        r = spec ? json_find_strv(spec, "volumes", &volumes, NULL) : 0;
        if (r < 0)
                return r;
        return volume_list_names(volumes, writable_only, ret);
}

static int unknown_volume(const char *name, KError *reterr) {
        return kerror_set(reterr, K_NO_SUCH_VOLUME,
                        "No volume '%s' in this grid; create it with: kontenactl volume create %s", name,
                        name);
}

int volume_check_spec(Store *s, const char *grid_id, char *const *volumes, KError *reterr) {
        _cleanup_strv_free_ char **names = NULL;
        int r;

        assert(s);
        assert(grid_id);

        r = volume_list_names(volumes, false, &names);
        if (r < 0)
                return r;
        STRV_FOREACH(name, names) {
                _cleanup_(volume_row_freep) VolumeRow *v = NULL;

                r = store_find_volume(s, grid_id, *name, &v);
                if (r == -ENOENT)
                        return unknown_volume(*name, reterr);
                if (r < 0)
                        return r;
                if (v->removing)
                        return kerror_set(reterr, K_CONFLICT, "Volume '%s' is being removed.", *name);
        }
        return 0;
}

static int attach_one(Store *s, const VolumeRow *v, const char *name, const char *service_id,
                uint32_t number, const char *node_id, bool write, KError *reterr) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        bool own = v->scope == VOLUME_SCOPE_INSTANCE;
        int r;

        r = store_find_volume_instance(s, node_id, name, &row);
        if (r >= 0 && !streq(row->volume_id, v->id))
                return kerror_set(reterr, K_CONFLICT,
                                "Two volumes would be called '%s' on one node; name one otherwise.", name);
        if (r >= 0 && (!row->removing || !write))
                return 0;
        if (r >= 0) {
                /* Wanted again before the node has deleted it: it stays. */
                row->removing = false;
                return store_put_volume_instance(s, row);
        }
        if (r != -ENOENT)
                return r;
        if (!write)
                return 0;

        row = new0(VolumeInstanceRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->grid_id = strdup(v->grid_id);
        row->volume_id = strdup(v->id);
        row->node_id = strdup(node_id);
        row->name = strdup(name);
        row->service_id = own ? strdup(service_id) : NULL;
        row->number = own ? number : 0;
        row->created_at = now_realtime();
        if (!row->id || !row->grid_id || !row->volume_id || !row->node_id || !row->name ||
                        (own && !row->service_id))
                return -ENOMEM;
        return store_put_volume_instance(s, row);
}

static int attach_all(Store *s, const char *grid_id, const char *stack, const char *service,
                const char *service_id, uint32_t number, const char *node_id, char *const *names, bool write,
                KError *reterr) {
        int r;

        STRV_FOREACH(n, names) {
                _cleanup_(volume_row_freep) VolumeRow *v = NULL;
                _cleanup_free_ char *name = NULL;

                r = store_find_volume(s, grid_id, *n, &v);
                if (r == -ENOENT)
                        return unknown_volume(*n, reterr);
                if (r < 0)
                        return r;
                name = volume_name_on_node(v, stack, service, number);
                if (!name)
                        return -ENOMEM;
                r = attach_one(s, v, name, service_id, number, node_id, write, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int volume_attach(Store *s, const char *grid_id, const char *stack, const char *service,
                const char *service_id, uint32_t number, const char *node_id, json_object *spec,
                KError *reterr) {
        _cleanup_strv_free_ char **names = NULL;
        int r;

        assert(s);
        assert(node_id);

        r = volume_named_in_spec(spec, false, &names);
        if (r < 0)
                return r;

        /* Who is refused may commit what else there is in the transaction: nothing is written before all are known to be right. */
        r = attach_all(s, grid_id, stack, service, service_id, number, node_id, names, false, reterr);
        if (r < 0)
                return r;
        return attach_all(s, grid_id, stack, service, service_id, number, node_id, names, true, reterr);
}

int volume_has_instance_scope_writer(Store *s, const char *grid_id, json_object *spec) {
        _cleanup_strv_free_ char **names = NULL;
        int r;

        assert(s);

        r = volume_named_in_spec(spec, true, &names);
        if (r < 0)
                return r;
        STRV_FOREACH(n, names) {
                _cleanup_(volume_row_freep) VolumeRow *v = NULL;

                r = store_find_volume(s, grid_id, *n, &v);
                if (r >= 0 && v->scope == VOLUME_SCOPE_INSTANCE)
                        return 1;
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        return 0;
}

int volume_add_to_instance(Store *s, const char *grid_id, const char *stack, const char *service,
                const InstanceRow *row, json_object *instance) {
        _cleanup_json_ json_object *volumes = NULL;
        _cleanup_strv_free_ char **names = NULL;
        int r;

        r = volume_named_in_spec(row->spec, false, &names);
        if (r < 0 || !names)
                return r;
        volumes = json_object_new_object();
        if (!volumes)
                return -ENOMEM;
        STRV_FOREACH(n, names) {
                _cleanup_json_ json_object *o = json_object_new_object();
                _cleanup_(volume_row_freep) VolumeRow *v = NULL;
                _cleanup_free_ char *name = NULL;

                r = store_find_volume(s, grid_id, *n, &v);
                if (r == -ENOENT)
                        continue; /* of an instance that is on its way out */
                if (r < 0)
                        return r;
                name = volume_name_on_node(v, stack, service, row->number);
                if (!o || !name)
                        return -ENOMEM;
                r = json_add_string(o, "name", name);
                if (r >= 0)
                        r = json_add_string(o, "driver", v->driver);
                if (r >= 0)
                        r = json_add_u64(o, "size_max", v->size_max);
                if (r >= 0)
                        r = json_add(volumes, *n, TAKE_PTR(o));
                if (r < 0)
                        return r;
        }
        return json_add(instance, "volumes", TAKE_PTR(volumes));
}

int volume_desired(Store *s, const VolumeInstanceRow *row, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = store_get_volume(s, row->volume_id, &v);
        if (r < 0)
                return r;
        r = json_add_string(o, "driver", v->driver);
        if (r >= 0)
                r = json_add_u64(o, "size_max", v->size_max);
        if (r >= 0)
                r = json_add_string(o, "state", row->removing ? "removed" : "present");
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* The last place where it was is gone. */
static int remove_if_last(Store *s, const char *volume_id) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        int r;

        r = store_get_volume(s, volume_id, &v);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = store_list_volume_instances_of_volume(s, volume_id, &rows);
        if (r < 0)
                return r;
        return v->removing && rows.n == 0 ? store_delete_volume(s, volume_id) : 0;
}

static void tell_error(Master *m, const VolumeInstanceRow *row) {
        _cleanup_(node_row_freep) NodeRow *node = NULL;

        if (store_get_node(m->store, row->node_id, &node) < 0)
                return;
        (void) events_add(m,
                        &(EventInfo){ .severity = "error",
                                        .type = "volume:error",
                                        .grid_id = row->grid_id,
                                        .node_id = row->node_id },
                        "Volume '%s' on node '%s': %s", row->name, node->name, strna(row->error));
}

static int take_one(Master *m, VolumeInstanceRow *row, json_object *status) {
        const char *state = NULL, *message = NULL;
        uint64_t used = row->used;
        json_object *error = NULL;
        bool changed = false;
        int r;

        r = json_find_string(status, "state", &state, NULL);
        if (r >= 0)
                r = json_find_u64(status, "used", &used, NULL);
        if (r >= 0)
                r = json_find_object(status, "error", &error, NULL);
        if (r >= 0 && error)
                r = json_find_string(error, "message", &message, NULL);
        if (r < 0 || (state && !STR_IN_SET(state, "present", "removed", "error")) ||
                        strlen(strempty(message)) > STATUS_TEXT_MAX)
                return 0; /* nothing that we could keep */

        if (row->removing && state && streq(state, "removed")) {
                r = store_delete_volume_instance(m->store, row->id);
                return r < 0 ? r : remove_if_last(m->store, row->volume_id);
        }
        if (state && streq(state, "removed"))
                state = NULL; /* it is wanted again, and will be made again */

        r = free_and_strdup(&row->state, state);
        if (r < 0)
                return r;
        changed = r > 0;
        r = free_and_strdup(&row->error, message);
        if (r < 0)
                return r;
        if (r > 0 && message)
                tell_error(m, row);
        if (r == 0 && !changed && row->used == used)
                return 0;
        row->used = used;
        return store_put_volume_instance(m->store, row);
}

int volume_status_take(Master *m, const char *node_id, json_object *volumes, bool complete, KError *reterr) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        _cleanup_(store_rollbackp) Store *t = NULL;
        int r;

        if (!json_object_is_type(volumes, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The volumes are not an object.");

        r = store_begin(m->store, reterr);
        if (r < 0)
                return r;
        t = m->store;
        r = store_list_volume_instances_of_node(m->store, node_id, &rows);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The node's volumes cannot be read: %m");

        FOREACH_ARRAY(row, rows.rows, rows.n) {
                json_object *status = NULL;

                if (json_object_object_get_ex(volumes, (*row)->name, &status) &&
                                json_object_is_type(status, json_type_object))
                        r = take_one(m, *row, status);
                else if (complete && (*row)->state) {
                        (*row)->state = mfree((*row)->state);
                        (*row)->error = mfree((*row)->error);
                        r = store_put_volume_instance(m->store, *row);
                }
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The state of a volume cannot be stored: %m");
        }

        r = store_commit(m->store, reterr);
        if (r < 0)
                return r;
        t = NULL;
        return 0;
}

int volume_forget_node(Store *s, const char *node_id) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        int r;

        r = store_list_volume_instances_of_node(s, node_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, rows.rows, rows.n) {
                r = store_delete_volume_instance(s, (*row)->id);
                if (r >= 0)
                        r = remove_if_last(s, (*row)->volume_id);
                if (r < 0)
                        return r;
        }
        return 0;
}

int volume_list_services(Store *s, const VolumeRow *v, char ***ret) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = store_list_services(s, v->grid_id, &services);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, services.rows, services.n) {
                _cleanup_strv_free_ char **names = NULL;

                r = volume_named_in_spec((*row)->spec, false, &names);
                if (r >= 0 && strv_contains(names, v->name))
                        r = streq((*row)->stack, STACK_NULL)
                                            ? strv_extend(&l, (*row)->name)
                                            : strv_extendf(&l, "%s/%s", (*row)->stack, (*row)->name);
                if (r == -ENOMEM)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int volume_list_users(Store *s, const VolumeRow *v, char ***ret) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = volume_list_services(s, v, &l);
        if (r >= 0)
                r = store_list_instances_of_grid(s, v->grid_id, &instances);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, instances.rows, instances.n) {
                _cleanup_(service_row_freep) ServiceRow *service = NULL;
                _cleanup_strv_free_ char **names = NULL;
                _cleanup_free_ char *name = NULL;

                if ((*i)->desired == INSTANCE_TERMINATED) /* its node waits for its end */
                        continue;
                r = volume_named_in_spec((*i)->spec, false, &names);
                if (r == -ENOMEM)
                        return r;
                if (r < 0 || !strv_contains(names, v->name))
                        continue;
                r = store_get_service(s, (*i)->service_id, &service);
                if (r == -ENOENT)
                        continue;
                if (r < 0)
                        return r;
                name = streq(service->stack, STACK_NULL) ? strdup(service->name)
                                                         : strjoin(service->stack, "/", service->name);
                if (!name)
                        return -ENOMEM;
                if (strv_contains(l, name))
                        continue;
                r = strv_extendf(&l, "%s-%u until its next deploy", name, (*i)->number);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

static int upgrade_one(Master *m, const char *grid_id, const char *name) {
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        int r;

        r = store_find_volume(m->store, grid_id, name, &v);
        if (r != -ENOENT)
                return MIN(r, 0);
        v = new0(VolumeRow, 1);
        if (!v)
                return -ENOMEM;
        *v = (VolumeRow){
                .id = store_new_id(),
                .grid_id = strdup(grid_id),
                .name = strdup(name),
                .driver = strdup("local"),
                .scope = VOLUME_SCOPE_GRID,
                .options = json_object_new_object(),
                .created_at = now_realtime(),
        };
        if (!v->id || !v->grid_id || !v->name || !v->driver || !v->options)
                return -ENOMEM;
        r = store_put_volume(m->store, v);
        if (r < 0)
                return r;
        log_info("Volume '%s', which a service uses, is a volume of its grid now.", name);
        return 0;
}

int volume_upgrade(Master *m, KError *reterr) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        _cleanup_(store_rollbackp) Store *t = NULL;
        Store *s = m->store;
        int r;

        r = store_begin(s, reterr);
        if (r < 0)
                return r;
        t = s;
        r = store_list_services(s, NULL, &services);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, services.rows, services.n) {
                _cleanup_strv_free_ char **names = NULL;

                r = volume_named_in_spec((*row)->spec, false, &names);
                if (r == -ENOMEM)
                        return r;
                STRV_FOREACH(n, names) {
                        r = upgrade_one(m, (*row)->grid_id, *n);
                        if (r < 0)
                                return r;
                }
                if (!names)
                        continue;

                /* Where its instances are, there they are known, so that they can be seen and removed. */
                instance_row_list_done(&instances);
                r = store_list_instances_of_service(s, (*row)->id, &instances);
                if (r < 0)
                        return r;
                FOREACH_ARRAY(i, instances.rows, instances.n) {
                        if (!(*i)->node_id || (*i)->desired == INSTANCE_TERMINATED)
                                continue;
                        r = volume_attach(s, (*row)->grid_id, (*row)->stack, (*row)->name, (*row)->id,
                                        (*i)->number, (*i)->node_id, (*i)->spec, NULL);
                        if (r < 0 && r != -ENOENT)
                                return r;
                }
        }

        r = store_commit(s, reterr);
        if (r < 0)
                return r;
        t = NULL;
        return 0;
}
