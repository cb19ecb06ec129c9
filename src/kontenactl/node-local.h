/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* The node daemon of the machine the bus belongs to. */

#define NODE_STATE_DIRECTORY STATEDIR "/node"
#define NODE_UNIT            "kontena-noded.service"
#define MASTER_UNIT          "kontenad.service"

/* Properties of io.kontena.Node1.Manager. */
int node_local_properties(Ctl *c, json_object **ret, KError *reterr);
/* Instances as Node1 lists them; an empty array when there are none. */
int node_local_instances(Ctl *c, json_object **ret, KError *reterr);

/* Waits until the node's channel is ready. Fails with what the master or the network said, as soon as an attempt failed. */
int node_local_wait_ready(Ctl *c, uint64_t timeout_usec, KError *reterr);

/* io.kontena.Node1.Leave(): comes back when nothing is left. */
int node_local_leave(Ctl *c, bool force, bool volumes, KError *reterr);
