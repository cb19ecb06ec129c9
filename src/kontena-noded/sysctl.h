/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"

/* Settings below /proc/sys, of the network namespace that the caller is in. */

/* Writes value unless it is there already. 1 when it was changed; -ENOENT, without an error set, when the kernel has no
 * such setting. */
int sysctl_ensure(const char *path, const char *value, KError *reterr);
/* The same for net.ipv4.conf.DEVICE.KEY. */
int sysctl_ensure_device(const char *device, const char *key, const char *value, KError *reterr);
