/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-removal.h"

#include "json-util.h"
#include "names.h"
#include "string-util.h"
#include "table.h"
#include "volume.h"

/* Of each kind, in a sentence; the whole list is in the JSON. */
#define NAMED_MAX 20U

void node_loss_done(NodeLoss *l) {
        if (!l)
                return;

        strv_free(l->instances);
        strv_free(l->volumes);
        free(l->used);
        *l = (NodeLoss){};
}

static int add_instances(Store *s, const char *node_id, NodeLoss *l) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        int r;

        r = store_list_instances_of_node(s, node_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                _cleanup_(service_row_freep) ServiceRow *service = NULL;
                bool stateful = false;

                if ((*i)->desired == INSTANCE_TERMINATED || !(*i)->spec)
                        continue;
                (void) json_find_bool((*i)->spec, "stateful", &stateful, NULL);
                if (!stateful)
                        continue;
                r = store_get_service(s, (*i)->service_id, &service);
                if (r < 0)
                        return r;
                r = streq(service->stack, STACK_NULL)
                                    ? strv_extendf(&l->instances, "%s-%u", service->name, (*i)->number)
                                    : strv_extendf(&l->instances, "%s/%s-%u", service->stack, service->name,
                                                      (*i)->number);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What the node has not told of is not there, as far as anybody knows. */
static int add_volumes(Store *s, const char *node_id, NodeLoss *l) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        size_t n = 0;
        int r;

        r = store_list_volume_instances_of_node(s, node_id, &rows);
        if (r < 0)
                return r;
        l->used = new0(uint64_t, rows.n + 1);
        if (!l->used)
                return -ENOMEM;
        FOREACH_ARRAY(v, rows.rows, rows.n) {
                if ((*v)->removing || (!(*v)->state && (*v)->used == 0))
                        continue;
                r = strv_extend(&l->volumes, (*v)->name);
                if (r < 0)
                        return r;
                l->used[n++] = (*v)->used;
                l->used_in_all += (*v)->used;
        }
        return 0;
}

int node_loss_read(Store *s, const char *node_id, NodeLoss *ret) {
        _cleanup_node_loss_ NodeLoss l = {};
        int r;

        assert(s);
        assert(node_id);
        assert(ret);

        r = add_instances(s, node_id, &l);
        if (r >= 0)
                r = add_volumes(s, node_id, &l);
        if (r < 0)
                return r;

        *ret = TAKE_GENERIC(l, (NodeLoss){});
        return 0;
}

bool node_loss_is_empty(const NodeLoss *l) {
        return strv_length(l->instances) == 0 && strv_length(l->volumes) == 0;
}

/* used: NULL for what has no size. */
static char *join_some(char *const *names, const uint64_t *used) {
        _cleanup_strv_free_ char **some = NULL;
        size_t n = strv_length(names);
        char text[TIME_TEXT_MAX];

        for (size_t i = 0; i < MIN(n, (size_t) NAMED_MAX); i++)
                if ((used ? strv_extendf(&some, "%s (%s)", names[i], bytes_to_text(used[i], text))
                          : strv_extend(&some, names[i])) < 0)
                        return NULL;
        if (n > NAMED_MAX && strv_extendf(&some, "%zu more", n - NAMED_MAX) < 0)
                return NULL;
        return strv_join(some, ", ");
}

char *node_loss_describe(const NodeLoss *l) {
        _cleanup_free_ char *instances = NULL, *volumes = NULL;
        bool both;

        assert(l);

        instances = join_some(l->instances, NULL);
        volumes = join_some(l->volumes, l->used);
        if (!instances || !volumes)
                return NULL;
        both = !isempty(instances) && !isempty(volumes);
        return strprintf("%s%s%s%s%s", isempty(instances) ? "" : "the data of ", instances,
                        both ? " and " : "",
                        isempty(volumes)               ? ""
                        : strv_length(l->volumes) == 1 ? "the volume "
                                                       : "the volumes ",
                        volumes);
}

static int append_loss(json_object *array, const char *kind, const char *name, const uint64_t *used) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "kind", kind);
        if (r >= 0)
                r = json_add_string(o, "name", name);
        if (r >= 0 && used)
                r = json_add_u64(o, "used", *used);
        if (r >= 0)
                r = json_append(array, TAKE_PTR(o));
        return r;
}

int node_loss_render(const NodeLoss *l, json_object **ret) {
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        assert(l);
        assert(ret);

        if (!array)
                return -ENOMEM;
        STRV_FOREACH(i, l->instances) {
                r = append_loss(array, "instance", *i, NULL);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(v, l->volumes) {
                r = append_loss(array, "volume", *v, &l->used[v - l->volumes]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(array);
        return 0;
}

static int release_instance(Store *s, InstanceRow *i) {
        if (i->desired == INSTANCE_TERMINATED || i->role != INSTANCE_CURRENT)
                return store_delete_instance(s, i->id);

        i->node_id = mfree(i->node_id);
        i->address = mfree(i->address);
        i->state = mfree(i->state);
        i->progress = mfree(i->progress);
        i->error_code = mfree(i->error_code);
        i->error = mfree(i->error);
        i->unit = mfree(i->unit);
        i->health = mfree(i->health);
        i->observed_deploy_rev = i->observed_service_rev = i->epoch = i->started_at = 0;
        i->pid = i->restarts = i->oom_kills = 0;
        i->exit_status = -1;
        return store_put_instance(s, i);
}

int node_removal_perform(Store *s, const char *node_id) {
        _cleanup_(instance_row_list_done) InstanceRowList instances = {};
        int r;

        assert(s);
        assert(node_id);

        r = store_list_instances_of_node(s, node_id, &instances);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, instances.rows, instances.n) {
                r = release_instance(s, *i);
                if (r < 0)
                        return r;
        }
        r = volume_forget_node(s, node_id);
        if (r < 0)
                return r;
        return store_delete_node(s, node_id);
}
