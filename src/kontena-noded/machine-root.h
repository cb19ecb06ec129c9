/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "rootfs-mapped.h"

/* The root of a machine, mounted, with places for all that is mounted in it. nspawn would make these itself, but as user 0 of this
 * machine, who is nobody in that root. */
typedef struct MachineRoot {
        MappedRoot mapped; /* base 0: users are the host's */
        char **places;     /* directories, as seen inside */
} MachineRoot;

/* Of a MachineRoot, for child_call_start(). Repeatable; mounted already: only the places are looked at. */
int machine_root_make(void *machine_root, KError *reterr);
