/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "node-session.h"
#include "store.h"

/* Admits nodes, writes to the store what they report, and sends each its desired state and the differences to it. */
typedef struct NodeTracker NodeTracker;

/* Marks all nodes disconnected as of now: an earlier master's connections are gone, and the grace of the strategies
 * counts from here. */
int node_tracker_new(Master *m, NodeTracker **ret);
NodeTracker *node_tracker_free(NodeTracker *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(NodeTracker *, node_tracker_free);

/* For node_sessions_new(m->event, node_tracker_handler(), m->tracker, &m->sessions). */
const NodeSessionHandler *node_tracker_handler(void);

/* Called behind the answer to each node's greeting. */
typedef void (*node_greeted_t)(NodeSession *s, json_object *report, void *userdata);
void node_tracker_on_greeting(NodeTracker *t, node_greeted_t greeted, void *userdata);

/* After a start of the master: have all nodes of this grid come back that were connected before, or had they time enough to?
 * False: *ret_until is when they had. */
bool node_tracker_is_settled(NodeTracker *t, const char *grid_id, uint64_t now, uint64_t *ret_until);

/* What has changed reaches the node now, before whatever is sent to it next. t may be NULL. */
void node_tracker_tell(NodeTracker *t, const char *node_id);

/* "created" "connecting" "online" "drain" "offline" */
const char *node_state(const NodeRow *n) _pure_;
/* 0 when the grid's subnet is malformed. */
uint32_t node_overlay_address(const GridRow *g, uint32_t number);
