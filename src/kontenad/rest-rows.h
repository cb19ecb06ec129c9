/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "rest.h"
#include "store.h"

/* What many routes of what runs need. Rows are read only when an operation of the same request was allowed, which is what decides
 * who may see them; -ENOENT: gone meanwhile. */

int rest_find_grid(RestCall *c, GridRow **ret);
int rest_find_service(RestCall *c, GridRow **ret_grid, ServiceRow **ret_service);
int rest_has_stack(RestCall *c); /* 1: there is one as long as one of its services is there */
/* ":node" is a name, or with a colon in it an engine's id. */
int rest_find_node(RestCall *c, const GridRow *g, NodeRow **ret);
NodeRow *rest_node_by_id(const NodeRowList *l, const char *id); /* NULL: not there */

/* {"grid", "stack", "service"} and {"grid"} of the path. */
int rest_service_params(RestCall *c, json_object **ret);
int rest_grid_params(RestCall *c, json_object **ret);

const char *rest_body_string(RestCall *c, const char *key); /* of the body; "" when it has none */

/* {key: array}, with status 200. array is consumed. */
int rest_reply_list(RestCall *c, const char *key, json_object *array);
int rest_reply_nothing(RestCall *c, int status); /* {} */
/* {"error": {field: texts}}, consumed. */
int rest_reply_map(RestCall *c, json_object *map);

/* The end of an on_result: r negative is answered, unless something was. */
void rest_finish(RestCall *c, int r);
/* An operation's error; what the reference calls invalid is a map with that field. */
void rest_fail(RestCall *c, const KError *error, const char *field);

/* Lists, put together over several turns (rest-list.h); the call's userdata is theirs. Of a service, of a node, or with NULL of the grid. */
int rest_reply_services(RestCall *c, const GridRow *g, const char *stack); /* newest first */
int rest_reply_nodes(RestCall *c, const GridRow *g);
int rest_reply_instances(RestCall *c, const GridRow *g, const ServiceRow *s);
bool rest_instance_is_shown(const InstanceRow *i) _pure_; /* there */
/* That are there; all: whatever they do. Oldest first. */
int rest_reply_containers(RestCall *c, const GridRow *g, const ServiceRow *s, bool all);
/* {"stats": [..]}: which containers there are, and null for what is not measured. */
int rest_reply_stats(RestCall *c, const GridRow *g, const ServiceRow *s, const NodeRow *n);
/* ":node" and ":container" of the path as its rows; -ENOENT. */
typedef struct RestContainer {
        GridRow *grid;
        ServiceRow *service;
        InstanceRow *instance;
        NodeRow *node;
} RestContainer;
void rest_container_done(RestContainer *o);
int rest_find_container(RestCall *c, RestContainer *ret);
/* {"from", "to", "stats": []}. */
int rest_reply_metrics(RestCall *c);
