/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-rows.h"

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "rest-list.h"
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

bool rest_instance_is_shown(const InstanceRow *i) {
        return i->role == INSTANCE_CURRENT && i->desired != INSTANCE_TERMINATED;
}

/* What a list of rows needs all the while. */
typedef struct View {
        GridRow *grid;
        NodeRowList nodes;
        ServiceRow *service; /* of the last row */
        char *node_id;       /* only its containers */
        bool all;
} View;

static void view_free(void *userdata) {
        View *v = userdata;

        grid_row_free(v->grid);
        node_row_list_done(&v->nodes);
        service_row_free(v->service);
        free(v->node_id);
        free(v);
}

static int view_new(RestCall *c, const GridRow *g, View **ret) {
        Store *s = rest_master(c)->store;
        View *v;
        int r;

        v = new0(View, 1);
        if (!v)
                return -ENOMEM;
        rest_set_userdata(c, v, view_free);
        r = store_get_grid(s, g->id, &v->grid);
        if (r >= 0)
                r = store_list_nodes(s, g->id, &v->nodes);
        if (r < 0)
                return r;

        *ret = v;
        return 0;
}

/* A row that has gone since the list was begun is not in it. */
static int skip_gone(int r) {
        return r == -ENOENT ? 0 : r;
}

/* -ENOENT: it was removed, and its instances are being stopped. */
static int view_find_service(RestCall *c, const InstanceRow *i) {
        View *v = rest_userdata(c);

        if (v->service && streq(v->service->id, i->service_id))
                return 0;
        v->service = service_row_free(v->service);
        return store_get_service(rest_master(c)->store, i->service_id, &v->service);
}

static int container_row(RestCall *c, const char *id, json_object **ret) {
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        View *v = rest_userdata(c);
        int r;

        r = store_get_instance(rest_master(c)->store, id, &i);
        if (r < 0)
                return skip_gone(r);
        if (!rest_instance_is_container(i) || (v->node_id && !streq_ptr(v->node_id, i->node_id)) ||
                        (!v->all && !STR_IN_SET(i->state, "running", "starting", "stopping")))
                return 0;
        r = view_find_service(c, i);
        if (r < 0)
                return skip_gone(r);
        return rest_render_container(v->grid, v->service, i, rest_node_by_id(&v->nodes, i->node_id), ret);
}

static int list_containers(RestCall *c, const GridRow *g, const ServiceRow *s, const NodeRow *n, bool all,
                const char *key, uint32_t limit, rest_row_t row) {
        Store *store = rest_master(c)->store;
        char **ids = NULL;
        View *v;
        int r;

        r = view_new(c, g, &v);
        if (r < 0)
                return r;
        v->all = all;
        if (n) {
                v->node_id = strdup(n->id);
                if (!v->node_id)
                        return -ENOMEM;
        }
        r = s ? store_list_instance_ids_of_service(store, s->id, /* by_number= */ false, &ids)
              : store_list_instance_ids_of_grid(store, g->id, &ids);
        return r < 0 ? r : rest_reply_rows(c, key, ids, limit, row);
}

int rest_reply_containers(RestCall *c, const GridRow *g, const ServiceRow *s, bool all) {
        return list_containers(c, g, s, NULL, all, "containers", UINT32_MAX, container_row);
}

static int instance_row(RestCall *c, const char *id, json_object **ret) {
        _cleanup_(instance_row_freep) InstanceRow *i = NULL;
        View *v = rest_userdata(c);
        int r;

        r = store_get_instance(rest_master(c)->store, id, &i);
        if (r >= 0 && !rest_instance_is_shown(i))
                return 0;
        if (r >= 0)
                r = view_find_service(c, i);
        if (r < 0)
                return skip_gone(r);
        return rest_render_instance(v->grid, i, rest_node_by_id(&v->nodes, i->node_id), ret);
}

int rest_reply_instances(RestCall *c, const GridRow *g, const ServiceRow *s) {
        char **ids = NULL;
        View *v;
        int r;

        r = view_new(c, g, &v);
        if (r >= 0)
                r = store_list_instance_ids_of_service(
                                rest_master(c)->store, s->id, /* by_number= */ true, &ids);
        return r < 0 ? r : rest_reply_rows(c, "instances", ids, UINT32_MAX, instance_row);
}

static int node_row(RestCall *c, const char *id, json_object **ret) {
        _cleanup_(node_row_freep) NodeRow *n = NULL;
        View *v = rest_userdata(c);
        int r;

        r = store_get_node(rest_master(c)->store, id, &n);
        return r < 0 ? skip_gone(r) : rest_render_node(v->grid, n, &v->nodes, /* token= */ NULL, ret);
}

int rest_reply_nodes(RestCall *c, const GridRow *g) {
        char **ids = NULL;
        View *v;
        int r;

        r = view_new(c, g, &v);
        if (r >= 0)
                r = store_list_node_ids(rest_master(c)->store, g->id, &ids);
        return r < 0 ? r : rest_reply_rows(c, "nodes", ids, UINT32_MAX, node_row);
}

static int service_row(RestCall *c, const char *id, json_object **ret) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        View *v = rest_userdata(c);
        int r;

        r = store_get_service(rest_master(c)->store, id, &s);
        if (r < 0)
                return skip_gone(r);
        r = store_list_instances_of_service(rest_master(c)->store, id, &l);
        return r < 0 ? r : rest_render_service(v->grid, s, &l, ret);
}

int rest_reply_services(RestCall *c, const GridRow *g, const char *stack) {
        char **ids = NULL;
        View *v;
        int r;

        r = view_new(c, g, &v);
        if (r >= 0)
                r = store_list_service_ids(rest_master(c)->store, g->id, stack, &ids);
        if (r < 0)
                return r;
        if (!ids && stack && !streq(stack, STACK_NULL))
                return rest_reply_error(c, 404, "Stack not found");
        return rest_reply_rows(c, "services", ids, UINT32_MAX, service_row);
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

static int stats_row(RestCall *c, const char *id, json_object **ret) {
        static const char *const keys[] = { "cpu", "memory", "network" };
        _cleanup_json_ json_object *container = NULL, *o = NULL;
        int r;

        r = container_row(c, id, &container);
        if (r < 0 || !container)
                return r;
        o = json_object_new_object();
        r = o ? json_add_string(o, "container_id", rest_text(container, "name")) : -ENOMEM;
        FOREACH_ARRAY(key, keys, ELEMENTSOF(keys))
                REST_ADD(r, json_add_string(o, *key, NULL));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int rest_reply_stats(RestCall *c, const GridRow *g, const ServiceRow *s, const NodeRow *n) {
        return list_containers(c, g, s, n, /* all= */ false, "stats", rest_limit(c, UINT32_MAX, UINT32_MAX),
                        stats_row);
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
