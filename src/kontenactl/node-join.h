/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Makes the machine we run on a node: writes what a node that has joined keeps, starts the node daemon, and waits until the master
 * has taken it. url may be short ("master"). */
int node_join(Ctl *c, const char *url, const char *token, uint64_t timeout_usec, KError *reterr);

/* Root, and not through --host. */
int require_local_root(Ctl *c, const char *what, KError *reterr);
