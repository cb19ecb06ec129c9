/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Named volumes of a grid. A service names one in its spec; on each node where an instance of it runs there is one
 * directory, called by the scope:
 *
 *   instance  STACK.SERVICE.VOLUME-N (null stack: SERVICE.VOLUME-N)   one instance's own
 *   stack     STACK.VOLUME           (null stack: VOLUME)             what runs of one stack on that node
 *   grid      VOLUME                                                  what runs on that node
 */
char *volume_stem_on_node(const VolumeRow *v, const char *stack, const char *service); /* without "-N" */
char *volume_name_on_node(const VolumeRow *v, const char *stack, const char *service, uint32_t number);

/* Names of the named volumes among a spec's entries, each once. */
int volume_list_names(char *const *volumes, bool writable_only, char ***ret);
/* Names of the named volumes of a spec, each once. */
int volume_named_in_spec(json_object *spec, bool writable_only, char ***ret);

/* Every named volume of a spec is one of the grid, and stays one. volumes: as in the spec. */
int volume_check_spec(Store *s, const char *grid_id, char *const *volumes, KError *reterr);

/* Within a transaction: the node is told of the volumes that an instance needs there. */
int volume_attach(Store *s, const char *grid_id, const char *stack, const char *service,
                const char *service_id, uint32_t number, const char *node_id, json_object *spec,
                KError *reterr);

/* 1 when two instances with the same number, side by side during a start-first deploy, would write to one volume of scope instance. */
int volume_has_instance_scope_writer(Store *s, const char *grid_id, json_object *spec);

/* "volumes" of INSTANCE, where the spec names any. */
int volume_add_to_instance(Store *s, const char *grid_id, const char *stack, const char *service,
                const InstanceRow *row, json_object *instance);

/* One VOLUME of DESIRED. */
int volume_desired(Store *s, const VolumeInstanceRow *row, json_object **ret);

/* "volumes.status" and what hello says (complete: what is not in it is not there). */
int volume_status_take(Master *m, const char *node_id, json_object *volumes, bool complete, KError *reterr);

/* Within a transaction: what was on a node that is removed is lost. */
int volume_forget_node(Store *s, const char *node_id);

/* "web" or "shop/web" of each service whose spec names the volume. */
int volume_list_services(Store *s, const VolumeRow *v, char ***ret);

/* The same, and "web-2 until its next deploy" of each instance that is of a revision which names it, though the service does not any more. */
int volume_list_users(Store *s, const VolumeRow *v, char ***ret);

/* Volumes that services of an earlier version name without having made them: scope grid, the name they had on disk. */
int volume_upgrade(Master *m, KError *reterr);
