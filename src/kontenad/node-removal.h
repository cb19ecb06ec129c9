/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "store.h"

/* The data that would go with a node: stateful instances, which are pinned to it, and named volumes that it has. */
typedef struct NodeLoss {
        char **instances, **volumes; /* "shop/db-1"; names on the node */
        uint64_t *used;              /* bytes of each volume */
        uint64_t used_in_all;
} NodeLoss;

void node_loss_done(NodeLoss *l);
#define _cleanup_node_loss_ _cleanup_(node_loss_done)

int node_loss_read(Store *s, const char *node_id, NodeLoss *ret);
bool node_loss_is_empty(const NodeLoss *l) _pure_;
/* "the data of db-1, shop/db-2 and the volumes data (1.2M), shop.logs (0B)"; long lists are cut. NULL: no memory. */
char *node_loss_describe(const NodeLoss *l);
/* [{"kind": "instance"|"volume", "name", "used": bytes, of a volume}] */
int node_loss_render(const NodeLoss *l, json_object **ret);

/* Within a transaction: the node's row goes; its instances wait for another node, those on their way out are out, volumes are lost. */
int node_removal_perform(Store *s, const char *node_id);
