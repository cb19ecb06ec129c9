/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Copies data from node to node, as tar streams through the master: both are connected to it by TLS wherever they are, while a
 * direct way between two hosts may not exist. What is under way is in memory only; asked again by a master that was started anew
 * it begins anew, which does no harm, as a node shows what it received when it has all of it. */
typedef struct DataCopies DataCopies;

int data_copies_new(Master *m, DataCopies **ret);
DataCopies *data_copies_free(DataCopies *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(DataCopies *, data_copies_free);

typedef struct DataCopyRequest {
        const char *deploy_id, *service_id;
        const char *from_node, *to_node;
        const char *from_instance,
                        *to_instance; /* volumes without a name go from one to the other; NULL: there are none */
        char *const *volumes;         /* by their name on both nodes */
} DataCopyRequest;

/* Begins, or says how far it is. 0: under way, the deployer is woken now and then; 1: all is there, until data_copy_forget(). Fails with
 * reterr set when it was given up. *ret_progress: "1.2 GB copied", or NULL; the caller's. */
int data_copy_run(DataCopies *l, const DataCopyRequest *q, char **ret_progress, KError *reterr);
/* Whoever asked does not care any more. */
void data_copy_forget(DataCopies *l, const char *deploy_id);
