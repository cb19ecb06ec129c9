/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* What nodes say, written to the store. */

/* STATUS records of one node. complete: it is the whole list, from node.hello: what is missing from it does not exist there, and
 * its epochs are taken as they are. Otherwise a record with a lower epoch than the last is old news and ignored (trap
 * 11). In one transaction of its own. K_INVALID_ARGUMENT: the array is not one. */
int node_status_take(Master *m, const char *node_id, json_object *statuses, bool complete, uint64_t now,
                KError *reterr);

/* EVENT of a node. */
int node_event_take(Master *m, const char *grid_id, const char *node_id, json_object *event, uint64_t now,
                KError *reterr);
