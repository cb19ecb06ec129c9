/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "node-session.h"

/* Decides which node a connection is, and makes a new one where its token allows. Remembers refusals, so that a
 * machine which keeps trying with a wrong token fills neither the store nor the journal. */
typedef struct NodeAdmission NodeAdmission;

int node_admission_new(Master *m, NodeAdmission **ret);
NodeAdmission *node_admission_free(NodeAdmission *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(NodeAdmission *, node_admission_free);

/* 0 and the node's id, or a close code of doc/node-channel.md with the sentence in reterr. */
int node_admission_check(NodeAdmission *a, const NodeIntroduction *who, uint64_t now, char **ret_node_id,
                KError *reterr);

/* Says in the journal and, where the grid is known, in an event that a node was refused; the same refusal at most
 * once in ten minutes. */
void node_admission_refused(NodeAdmission *a, const NodeIntroduction *who, const char *grid_id, int code,
                const char *sentence, uint64_t now);
