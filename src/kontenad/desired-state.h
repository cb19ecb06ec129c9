/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "desired-volumes.h"
#include "macro.h"
#include "store.h"

/* What the nodes of one grid are to do. The view keeps, once for the grid, what all its nodes are told (peers, names), with versions; of
 * what was sent to one node only numbers and hashes are kept: some tens of bytes for each instance there. */
typedef struct GridView GridView;

struct Keyring;
int grid_view_new(Store *s, struct Keyring *k, const char *grid_id, uint64_t now, GridView **ret);
GridView *grid_view_free(GridView *v);
DEFINE_TRIVIAL_CLEANUP_FUNC(GridView *, grid_view_free);

/* A row has changed or is gone. */
int grid_view_grid_changed(GridView *v);
int grid_view_node_changed(GridView *v, const char *node_id, uint64_t now);
/* Called for each node whose instances have to be compared. */
typedef void (*grid_view_affected_t)(const char *node_id, void *userdata);
int grid_view_instance_changed(GridView *v, const char *instance_id, uint64_t now,
                grid_view_affected_t affected, void *userdata);

/* Takes the names of instances on nodes that have been offline for longer than their strategy's grace. Returns when
 * this has to be done next. */
uint64_t grid_view_expire(GridView *v, uint64_t now);

typedef struct SentInstance SentInstance;
/* What one node has been told. All zero: nothing. */
typedef struct SentState {
        uint64_t names, peers;      /* versions */
        uint64_t node, grid, basis; /* hashes; basis: what the choice of links depends on */
        SentInstance *instances;
        SentVolume *volumes;
} SentState;
void sent_state_done(SentState *s);

/* DESIRED as a whole; sent is then what it says. */
int grid_view_desired(GridView *v, const char *node_id, SentState *sent, json_object **ret);
/* What has to be read from the store to be compared; peers, names and the grid need no reading. */
typedef enum GridViewCompare {
        GRID_VIEW_NODE = 1 << 0,
        GRID_VIEW_INSTANCES = 1 << 1,
        GRID_VIEW_VOLUMES = 1 << 2,
} GridViewCompare;
/* "set" and "remove" of desired.update. Returns 1 and at least one of them, or 0. */
int grid_view_differences(GridView *v, const char *node_id, unsigned compare, SentState *sent,
                json_object **ret_set, json_object **ret_removed);
/* Forgets what is removed and known to be by everyone. */
void grid_view_prune(GridView *v, uint64_t names);
