/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "store.h"

/* GRID, NODE, PEER and INSTANCE of doc/node-channel.md, from rows of the store. */
int desired_grid_to_json(const GridRow *g, json_object **ret);
/* Every other node is told it. */
int desired_peer_to_json(
                const GridRow *g, const NodeRow *n, const char *region, const char *link, json_object **ret);
struct Keyring;
int desired_node_to_json(Store *s, struct Keyring *k, const GridRow *g, const NodeRow *n, json_object **ret);
int desired_instance_to_json(Store *s, struct Keyring *k, const GridRow *g,
                json_object *report /* the node's */, const char *stack, const char *service,
                const InstanceRow *row, json_object **ret);
