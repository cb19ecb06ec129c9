/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Runs function in a short-lived child process and waits for it: for what must not be done to this process (another
 * network namespace, a library that grows it). Result and error come back; -ETIMEDOUT when it takes too long, and the
 * child is killed. It dies with its parent. */
typedef int (*in_child_t)(void *userdata, KError *reterr);
int run_in_child(const char *name, in_child_t function, void *userdata, uint64_t timeout_usec,
                KError *reterr);

/* The same without waiting. The child works on a copy of what arg points to. done gets what run_in_child() would have
 * returned, from the loop; the call is over then, and its pointer void. SIGCHLD must be blocked. */
typedef struct ChildCall ChildCall;
typedef void (*child_done_t)(int r, const KError *error, void *userdata);
int child_call_start(sd_event *event, const char *name, in_child_t function, void *arg,
                uint64_t timeout_usec, child_done_t done, void *userdata, ChildCall **ret, KError *reterr);
ChildCall *child_call_cancel(ChildCall *c); /* kills the child; done is not called */
