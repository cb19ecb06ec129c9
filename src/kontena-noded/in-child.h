/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* Runs function in a short-lived child process and waits for it: for what must not be done to this process (another
 * network namespace, a library that grows it). Result and error come back; -ETIMEDOUT when it takes too long, and the
 * child is killed. It dies with its parent. */
typedef int (*in_child_t)(void *userdata, KError *reterr);
int run_in_child(const char *name, in_child_t function, void *userdata, uint64_t timeout_usec,
                KError *reterr);
