/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "instance.h"
#include "kerror.h"
#include "macro.h"

/* The files of an instance: of one that runs what its first process sees, with its volumes; of one that does not its root alone, if it
 * is mounted, and the places of its volumes, which are hidden in it. */
typedef struct InstanceRoot {
        int *fds; /* the root first */
        size_t n_fds;
        uint32_t uid_base; /* of its user namespace */
} InstanceRoot;

void instance_root_done(InstanceRoot *r);
int instance_root_open(const Instance *i, InstanceRoot *ret, KError *reterr);
