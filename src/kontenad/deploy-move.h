/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "deploy-run-internal.h"
#include "kerror.h"
#include "store.h"

/* A deploy of the kind "move" takes one stateful instance, and its data, to another node:
 *
 *   waiting    the instance is stopped where it is (CURRENT), a fresh one stands on the other node (INCOMING, stopped)
 *   copying    both nodes have said that nothing runs: the data goes over, into places that nobody looks at before all is there
 *   starting   the fresh one is CURRENT and starts; the other is OUTGOING, stopped, its data untouched
 *   running    the OUTGOING one is removed, with the data that was its own
 *
 * Each arrow is one transaction. Whatever ends the deploy before the last undoes it: the instance is CURRENT again where it was,
 * what was brought to the other node is removed. */
#define DEPLOY_KIND_MOVE "move"

static inline bool deploy_is_move(const DeployRow *d) {
        return d->kind && strcmp(d->kind, DEPLOY_KIND_MOVE) == 0;
}

/* For the operation, in a transaction: queues the move. Fails where it is known already that it cannot be. */
int deploy_move_request(Store *s, const ServiceRow *service, uint32_t number, const NodeRow *to,
                uint64_t now, char **ret_id, KError *reterr);

/* What deploy_run() does with one. */
int deploy_move_run(DeployRun *run);

/* In a transaction; nothing when the move is over. d has its steps. */
int deploy_move_undo(Store *s, const DeployRow *d);
