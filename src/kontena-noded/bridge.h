/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "overlay.h"

/* The grid's bridge on this node: carries the node's overlay address, is gateway and resolver of its instances. */
int bridge_ensure(Netlink *nl, const Overlay *o, uint32_t mtu, const RtnlLink *links, size_t n_links,
                RtnlLink *ret, KError *reterr);
