/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* The first process of the machine that systemd-nspawn watches over in this control group ("/kontena.slice/..."), as this machine
 * numbers it. -ESRCH: there is none. */
int machine_leader_find(const char *cgroup, pid_t *ret);

/* "NSpid:\t4711\t1" in /proc/PID/status: is it the first of one namespace below ours? For tests. */
bool machine_status_is_leader(const char *status);
