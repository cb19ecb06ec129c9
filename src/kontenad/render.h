/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "master.h"
#include "store.h"

/* Rows as the JSON objects that operations answer with; the keys are documented in dbus/io.kontena.Master1.xml. There are no
 * nulls in them: what does not exist is "" or 0, so that every row of a table has the same keys. */
int render_grid(Master *m, const GridRow *g, json_object **ret);
int node_list_kept(const NodeRow *n, char ***ret); /* NULL: nothing; for people */
int render_node(Master *m, const GridRow *g, const NodeRow *n, json_object **ret);
int render_service(Master *m, const GridRow *g, const ServiceRow *s, json_object **ret);
/* service may be NULL: it was removed. */
int render_instance(Master *m, const GridRow *g, const ServiceRow *service, const InstanceRow *i,
                json_object **ret);
int render_deploy(Master *m, const GridRow *g, const ServiceRow *service, const DeployRow *d,
                json_object **ret);
int render_deploy_steps(Master *m, const DeployRow *d, json_object **ret);
int render_event(Master *m, const EventRow *e, json_object **ret);

/* What is wrong with a service in one sentence, or NULL. */
int service_problem(Master *m, const ServiceRow *s, const ServiceSummary *summary, char **ret);
int render_overlay_address(const GridRow *g, const NodeRow *n, char **ret); /* "10.81.0.7" */

/* Name of an instance's node, "" without one. */
char *node_name(Master *m, const char *node_id);
uint32_t spec_count(json_object *spec);
bool spec_is_stateful(json_object *spec);
