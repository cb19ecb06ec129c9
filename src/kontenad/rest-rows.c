/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-rows.h"

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "rest-render.h"
#include "string-util.h"

#define METRICS_USEC (3600U * USEC_PER_SEC)

int rest_find_grid(RestCall *c, GridRow **ret) {
        return store_find_grid(rest_master(c)->store, strempty(rest_segment(c, "grid")), ret);
}

int rest_find_service(RestCall *c, GridRow **ret_grid, ServiceRow **ret_service) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = store_find_service(rest_master(c)->store, g->id, strempty(rest_segment(c, "stack")),
                                strempty(rest_segment(c, "service")), ret_service);
        if (r < 0)
                return r;

        *ret_grid = TAKE_PTR(g);
        return 0;
}

int rest_has_stack(RestCall *c) {
        _cleanup_(service_row_list_done) ServiceRowList l = {};
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = store_list_services(rest_master(c)->store, g->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(s, l.rows, l.n)
                if (streq((*s)->stack, strempty(rest_segment(c, "stack"))))
                        return 1;
        return 0;
}

int rest_find_node(RestCall *c, const GridRow *g, NodeRow **ret) {
        const char *name = strempty(rest_segment(c, "node"));
        _cleanup_(node_row_list_done) NodeRowList l = {};
        int r;

        if (!strchr(name, ':'))
                return store_find_node(rest_master(c)->store, g->id, name, ret);
        r = store_list_nodes(rest_master(c)->store, g->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(n, l.rows, l.n) {
                _cleanup_free_ char *id = rest_engine_id(*n);

                if (!streq_ptr(id, name))
                        continue;
                *ret = TAKE_PTR(*n);
                return 0;
        }
        return -ENOENT;
}

NodeRow *rest_node_by_id(const NodeRowList *l, const char *id) {
        FOREACH_ARRAY(n, l->rows, l->n)
                if (*n && streq_ptr((*n)->id, id))
                        return *n;
        return NULL;
}

int rest_grid_params(RestCall *c, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? json_add_string(o, "grid", strempty(rest_segment(c, "grid"))) : -ENOMEM;

        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

int rest_service_params(RestCall *c, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = rest_grid_params(c, &o);
        REST_ADD(r, json_add_string(o, "stack", strempty(rest_segment(c, "stack"))));
        REST_ADD(r, json_add_string(o, "service", strempty(rest_segment(c, "service"))));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

const char *rest_body_string(RestCall *c, const char *key) {
        return json_string_or(rest_body(c), key, "");
}

int rest_reply_list(RestCall *c, const char *key, json_object *array) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o) {
                json_object_put(array);
                return -ENOMEM;
        }
        return json_add(o, key, array) < 0 ? -ENOMEM : rest_reply(c, 200, TAKE_PTR(o));
}

int rest_reply_nothing(RestCall *c, int status) {
        return rest_reply(c, status, json_object_new_object());
}

int rest_reply_map(RestCall *c, json_object *map) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o) {
                json_object_put(map);
                return -ENOMEM;
        }
        return json_add(o, "error", map) < 0 ? -ENOMEM : rest_reply(c, 422, TAKE_PTR(o));
}

void rest_finish(RestCall *c, int r) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (r >= 0 || rest_is_answered(c))
                return;
        if (r == -ENOENT) {
                (void) rest_reply_error(c, 404, "Not found");
                return;
        }
        (void) kerror_set_errno(&e, r, "A request cannot be answered: %m.");
        (void) rest_reply_kerror(c, &e);
}

void rest_fail(RestCall *c, const KError *error, const char *field) {
        int status = kerror_http_status(error->code);

        if (status == 409 || status == 422)
                (void) rest_reply_field_error(c, field, kerror_message(error));
        else
                (void) rest_reply_kerror(c, error);
}

static int compare_created(const void *a, const void *b) {
        const InstanceRow *x = *(InstanceRow *const *) a, *y = *(InstanceRow *const *) b;

        if (x->created_at != y->created_at)
                return x->created_at < y->created_at ? -1 : 1;
        return strcmp(x->id, y->id);
}

static int append_container(Master *m, const GridRow *g, const ServiceRow *s, const InstanceRow *i,
                const NodeRowList *nodes, json_object *array) {
        _cleanup_(service_row_freep) ServiceRow *found = NULL;
        json_object *o;
        int r;

        if (!s) {
                r = store_get_service(m->store, i->service_id, &found);
                if (r < 0)
                        return r == -ENOENT ? 0 : r; /* removed, and this is being stopped */
                s = found;
        }
        r = rest_render_container(g, s, i, rest_node_by_id(nodes, i->node_id), &o);
        return r < 0 ? r : json_append(array, o);
}

int rest_list_containers(Master *m, const GridRow *g, const ServiceRow *s, bool all, json_object **ret) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(node_row_list_done) NodeRowList nodes = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_nodes(m->store, g->id, &nodes);
        if (r >= 0)
                r = s ? store_list_instances_of_service(m->store, s->id, &l)
                      : store_list_instances_of_grid(m->store, g->id, &l);
        if (r < 0)
                return r;
        if (l.n > 1)
                qsort(l.rows, l.n, sizeof(InstanceRow *), compare_created);
        FOREACH_ARRAY(i, l.rows, l.n) {
                if (!rest_instance_is_container(*i) ||
                                (!all && !STR_IN_SET((*i)->state, "running", "starting", "stopping")))
                        continue;
                r = append_container(m, g, s, *i, &nodes, array);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(array);
        return 0;
}

void rest_container_done(RestContainer *o) {
        grid_row_free(o->grid);
        service_row_free(o->service);
        instance_row_free(o->instance);
        node_row_free(o->node);
        *o = (RestContainer){};
}

int rest_find_container(RestCall *c, RestContainer *ret) {
        _cleanup_(rest_container_done) RestContainer found = {};
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_free_ char *stack = NULL, *service = NULL;
        Store *store = rest_master(c)->store;
        uint32_t number;
        int r;

        r = rest_parse_container_name(strempty(rest_segment(c, "container")), &stack, &service, &number);
        if (r < 0)
                return r == -EINVAL ? -ENOENT : r;
        r = rest_find_grid(c, &found.grid);
        if (r >= 0)
                r = store_find_service(store, found.grid->id, stack, service, &found.service);
        if (r >= 0)
                r = rest_find_node(c, found.grid, &found.node);
        if (r >= 0)
                r = store_list_instances_of_service(store, found.service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                if ((*i)->number != number || !rest_instance_is_container(*i) ||
                                !streq_ptr((*i)->node_id, found.node->id))
                        continue;
                found.instance = TAKE_PTR(*i);
                *ret = found;
                found = (RestContainer){};
                return 0;
        }
        return -ENOENT;
}

int rest_reply_stats(RestCall *c, json_object *containers) {
        static const char *const keys[] = { "cpu", "memory", "network" };
        _cleanup_json_ json_object *owned = containers, *l = json_object_new_array();
        uint32_t limit = rest_limit(c, UINT32_MAX, UINT32_MAX);

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(container, owned) {
                _cleanup_json_ json_object *o = json_object_new_object();
                const char *name = "";
                int r;

                if (json_object_array_length(l) >= limit)
                        break;
                (void) json_find_string(container, "name", &name, NULL);
                r = o ? json_add_string(o, "container_id", name) : -ENOMEM;
                FOREACH_ARRAY(key, keys, ELEMENTSOF(keys))
                        REST_ADD(r, json_add_string(o, *key, NULL));
                REST_ADD(r, json_append(l, TAKE_PTR(o)));
                if (r < 0)
                        return r;
        }
        return rest_reply_list(c, "stats", TAKE_PTR(l));
}

int rest_reply_metrics(RestCall *c) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *from_text = rest_query(c, "from"), *to_text = rest_query(c, "to");
        uint64_t from, to = now_realtime();
        int r = o ? 0 : -ENOMEM;

        if (to_text && rest_parse_time(to_text, &to) < 0)
                return rest_reply_field_error(c, "to", "To is invalid");
        from = to - MIN(to, (uint64_t) METRICS_USEC);
        if (from_text && rest_parse_time(from_text, &from) < 0)
                return rest_reply_field_error(c, "from", "From is invalid");
        REST_ADD(r, rest_add_time(o, "from", from));
        REST_ADD(r, rest_add_time(o, "to", to));
        REST_ADD(r, json_add(o, "stats", json_object_new_array()));
        return r < 0 ? r : rest_reply(c, 200, TAKE_PTR(o));
}
