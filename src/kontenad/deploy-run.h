/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"
#include "store.h"

/* One look at one unfinished deploy: everything that can be done now is done, in transactions of which each leaves a state that
 * can be continued from. deploy is as the store has it, with its steps. newer: a later deploy of the same service waits. Returns 0
 * and when to look again although nothing changed (USEC_INFINITY: deploy has ended), or what the store said. */
int deploy_run(Master *m, DeployRow *deploy, bool newer, uint64_t now, uint64_t *ret_next);
