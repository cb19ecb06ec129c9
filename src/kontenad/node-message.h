/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "store.h"

/* What nodes say, read and judged without a look at the store. */

/* Is a REPORT usable at all? */
/* A hash of what it says but for memory, disk and load, which are never the same twice; never 0. */
uint64_t node_report_gist(json_object *report);
int node_report_validate(json_object *report, KError *reterr);

/* Does the machine have a route or an address within the grid's subnet (trap 18)? K_NETWORK names it. */
int node_report_check_routes(const GridRow *grid, json_object *report, KError *reterr);

/* A STATUS, taken apart; strings are borrowed. */
typedef struct NodeStatus {
        const char *id, *state, *unit, *progress, *error_code, *error, *image_digest, *health, *log_tail;
        uint64_t deploy_rev, service_rev, epoch, started_at;
        int64_t pid, restarts, exit_status, oom_kills;
        json_object *hooks_done; /* NULL: none */
} NodeStatus;
int node_status_parse(json_object *o, NodeStatus *ret, KError *reterr);
