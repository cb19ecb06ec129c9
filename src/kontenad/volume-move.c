/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-move.h"

#include "deploy-move.h"
#include "string-util.h"
#include "volume.h"

typedef int (*each_t)(Store *s, const VolumeMove *m, const VolumeRow *v, const char *name, void *userdata);

static int for_each(Store *s, const VolumeMove *m, each_t each, void *userdata) {
        _cleanup_strv_free_ char **names = NULL;
        int r;

        r = volume_named_in_spec(m->spec, /* writable_only= */ false, &names);
        if (r < 0)
                return r;
        STRV_FOREACH(n, names) {
                _cleanup_(volume_row_freep) VolumeRow *v = NULL;
                _cleanup_free_ char *name = NULL;

                r = store_find_volume(s, m->grid_id, *n, &v);
                if (r == -ENOENT)
                        continue;
                if (r < 0)
                        return r;
                name = volume_name_on_node(v, m->stack, m->service, m->number);
                if (!name)
                        return -ENOMEM;
                r = each(s, m, v, name, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_name(Store *s, const VolumeMove *m, const VolumeRow *v, const char *name, void *userdata) {
        char ***l = userdata;

        return strv_extend(l, name);
}

int volume_move_names(Store *s, const VolumeMove *m, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        assert(s);
        assert(m);
        assert(ret);

        r = for_each(s, m, add_name, &l);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

typedef struct Check {
        const NodeRow *to;
        KError *reterr;
} Check;

static int check_one(Store *s, const VolumeMove *m, const VolumeRow *v, const char *name, void *userdata) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        const Check *c = userdata;
        int r;

        r = store_find_volume_instance(s, c->to->id, name, &row);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (row->removing)
                return kerror_set(c->reterr, K_CONFLICT,
                                "Node '%s' is still removing an earlier '%s'; try again in a moment.",
                                c->to->name, name);
        return kerror_set(c->reterr, K_CONFLICT,
                        "Node '%s' has a volume '%s' already, whose data would be lost.", c->to->name, name);
}

int volume_move_check(Store *s, const VolumeMove *m, const NodeRow *to, KError *reterr) {
        assert(s);
        assert(m);
        assert(to);

        return for_each(s, m, check_one, &(Check){ .to = to, .reterr = reterr });
}

typedef struct Drop {
        const char *node_id;
        bool keep_shared;
} Drop;

/* Does another instance there use it? */
static int is_shared(Store *s, const VolumeMove *m, const VolumeRow *v, const char *node_id) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        int r;

        r = store_list_instances_of_node(s, node_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                _cleanup_strv_free_ char **names = NULL;

                if ((*i)->desired == INSTANCE_TERMINATED ||
                                (streq((*i)->service_id, m->service_id) && (*i)->number == m->number))
                        continue;
                r = volume_named_in_spec((*i)->spec, /* writable_only= */ false, &names);
                if (r < 0)
                        return r;
                if (strv_contains(names, v->name))
                        return 1;
        }
        return 0;
}

static int drop_one(Store *s, const VolumeMove *m, const VolumeRow *v, const char *name, void *userdata) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        const Drop *d = userdata;
        int r;

        r = store_find_volume_instance(s, d->node_id, name, &row);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (v->scope != VOLUME_SCOPE_INSTANCE) {
                if (d->keep_shared)
                        return 0;
                r = is_shared(s, m, v, d->node_id);
                if (r != 0)
                        return MIN(r, 0);
        }
        row->removing = true;
        return store_put_volume_instance(s, row);
}

int volume_move_drop(Store *s, const VolumeMove *m, const char *node_id, bool keep_shared) {
        assert(s);
        assert(m);
        assert(node_id);

        return for_each(s, m, drop_one, &(Drop){ .node_id = node_id, .keep_shared = keep_shared });
}

/* Does the deploy, listed without its steps, move an instance that uses it? */
static int check_deploy(Store *s, const DeployRow *listed, const VolumeRow *v,
                const VolumeInstanceRow *place, KError *reterr) {
        _cleanup_(deploy_row_freep) DeployRow *d = NULL;
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        int r;

        if (listed->state != DEPLOY_ONGOING || !deploy_is_move(listed))
                return 0;
        r = store_get_deploy(s, listed->id, &d);
        if (r < 0)
                return r;
        if (d->n_steps != 1 || (place->service_id && (!streq(place->service_id, d->service_id) ||
                                                                     place->number != d->steps[0]->number)))
                return 0;
        r = store_get_service(s, d->service_id, &service);
        if (r >= 0)
                r = store_list_instances_of_service(s, d->service_id, &rows);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                _cleanup_strv_free_ char **names = NULL;

                if ((*i)->number != d->steps[0]->number || (*i)->desired == INSTANCE_TERMINATED)
                        continue;
                r = volume_named_in_spec((*i)->spec, /* writable_only= */ false, &names);
                if (r < 0)
                        return r;
                if (strv_contains(names, v->name))
                        return kerror_set(reterr, K_CONFLICT,
                                        "Instance %u of service '%s' is being moved, and volume '%s' with "
                                        "it; try again when that is over.",
                                        (*i)->number, service->name, v->name);
        }
        return 0;
}

int volume_move_check_idle(Store *s, const VolumeRow *v, const VolumeInstanceRow *place, KError *reterr) {
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        int r;

        assert(s);
        assert(v);
        assert(place);

        r = store_list_unfinished_deploys(s, &deploys);
        if (r < 0)
                return r;
        FOREACH_ARRAY(d, deploys.rows, deploys.n) {
                if (!streq((*d)->grid_id, v->grid_id))
                        continue;
                r = check_deploy(s, *d, v, place, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}
