/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "desired-state.h"
#include "master.h"
#include "node-admit.h"
#include "node-session.h"
#include "node-tracker.h"
#include "store.h"

/* Between node-tracker.c, which listens to nodes, and node-desired.c, which tells them. */

/* The current connection of one node. */
typedef struct NodeLink {
        char *node_id, *grid_id;
        NodeSession *session;
        uint64_t session_id;
        bool ready;       /* hello was answered */
        unsigned compare; /* GridViewCompare */
        bool resend;      /* it gets everything anew */
        uint64_t epoch, seq;
        SentState sent;
        uint64_t seen, seen_stored;
        json_object *report; /* waits to be stored */
        uint64_t gist;       /* of the last report that was; 0: none was on this connection */
        uint64_t event_minute;
        unsigned events_in_minute, events_dropped;
        struct NodeLink *previous_to_mark, *next_to_mark; /* previous NULL: is marked as connected */
        UT_hash_handle hh;
} NodeLink;

typedef struct View {
        char *grid_id;
        GridView *view;
        UT_hash_handle hh;
} View;

/* A node that was connected when the last master ended. */
typedef struct AwaitedNode {
        char *node_id, *grid_id;
        UT_hash_handle hh;
} AwaitedNode;

struct NodeTracker {
        Master *master;
        NodeAdmission *admission;
        NodeLink *links;
        View *views;
        AwaitedNode *awaited;
        node_greeted_t greeted;
        void *greeted_userdata;
        uint64_t settled_at; /* nobody is waited for any longer */
        sd_event_source *flush_timer, *rows_timer, *mark;
        NodeLink *to_mark;
        uint64_t last_flush; /* monotonic */
        bool unmarked;       /* rows may not say who is connected */
};

#define TRACKER_RETRY_USEC UINT64_C(2000000)

static inline NodeLink *node_tracker_find_link(NodeTracker *t, const char *node_id) {
        NodeLink *l = NULL;

        HASH_FIND_STR(t->links, node_id, l);
        return l;
}

void node_tracker_arm_sooner(
                sd_event_source *s, uint64_t delay); /* sooner than armed is fine, later is not */

/* node-mark.c: who is connected, in the store, and who is waited for. What cannot be stored is tried again. */
int node_mark_start(NodeTracker *t);
void node_mark_done(NodeTracker *t);
int node_mark_all(
                NodeTracker *t, bool start); /* all rows agree with the links; at the start there are none */
void node_mark(NodeTracker *t, const char *node_id, bool connected, const char *reason);
void node_mark_soon(NodeTracker *t, NodeLink *l);
void node_mark_now(NodeTracker *t, NodeLink *l); /* if it still is to be */
void node_mark_forget(NodeTracker *t, NodeLink *l);
void node_tracker_stop_waiting(NodeTracker *t, const char *node_id);

/* {"epoch", "desired"}: everything, in a numbering of its own. */
int node_desired_whole(NodeTracker *t, NodeLink *l, json_object **ret);
int node_desired_on_flush(sd_event_source *s, uint64_t usec, void *userdata);
void node_desired_on_change(Store *store, StoreKind kind, StoreChange change, const char *id,
                const char *grid_id, void *userdata);
/* No node of this grid is connected any more. NULL: of no grid. */
void node_desired_forget(NodeTracker *t, const char *grid_id);
