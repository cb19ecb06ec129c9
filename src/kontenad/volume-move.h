/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "store.h"

/* The named volumes that go with an instance to another node. */
typedef struct VolumeMove {
        const char *grid_id, *stack, *service, *service_id;
        uint32_t number;
        json_object *spec; /* of the instance */
} VolumeMove;

/* How they are called on a node. */
int volume_move_names(Store *s, const VolumeMove *m, char ***ret);

/* K_CONFLICT when the node has one of them: it holds data that nobody asked to replace. */
int volume_move_check(Store *s, const VolumeMove *m, const NodeRow *to, KError *reterr);

/* K_CONFLICT while a move takes it along, or may yet take it back: what is changed in one of its copies meanwhile is lost with that copy. */
int volume_move_check_idle(Store *s, const VolumeRow *v, const VolumeInstanceRow *place, KError *reterr);

/* Within a transaction: the move is over, or undone, and the node need not keep what it has of them. Volumes that instances
 * share stay where another one is to use them, and where all is well: keep_shared. */
int volume_move_drop(Store *s, const VolumeMove *m, const char *node_id, bool keep_shared);
