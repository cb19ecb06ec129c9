/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "parse-util.h"
#include "store.h"

/* Addresses of instances. The upper half of a grid's subnet is cut into blocks (/25; smaller ones where the subnet is so small that
 * there would be fewer than 256), which nodes own in the order they need them. An address belongs to the row that has it,
 * so none can leak; a pointer that goes round makes sure that one is used again as late as possible. */

/* Inside of a transaction. Gives the node its first or one more block when it needs one: then node->blocks has changed
 * and is stored. K_LIMIT_EXCEEDED when the grid has no block left. *ret is in host byte order. */
int ipam_take_address(Store *s, const GridRow *grid, NodeRow *node, uint32_t *ret, KError *reterr);

uint8_t ipam_block_length(const Ipv4Prefix *subnet) _pure_;
/* Node numbers which have an address in the lower half: 254, or fewer in a small subnet. */
uint32_t ipam_node_number_max(const Ipv4Prefix *subnet) _pure_;
