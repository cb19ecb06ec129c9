/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "noded.h"

/* This machine leaves its grid: the channel ends, key and join are removed, then the instances with their units, roots and
 * namespaces, the network, and what was pulled. What has begun is in the state directory (file "leaving"), so that a daemon which is
 * killed meanwhile goes on where it was. */
typedef struct Leave Leave;

typedef enum LeaveFlags {
        LEAVE_FORCE = 1 << 0,   /* although there are instances: they are ended */
        LEAVE_VOLUMES = 1 << 1, /* named volumes and their content go as well */
} LeaveFlags;

/* error NULL: nothing is left. Otherwise it will be tried again, without telling anybody. Never called from inside
 * manager_leave(). */
typedef void (*manager_left_t)(const KError *error, void *userdata);

int manager_leave(Manager *m, LeaveFlags flags, manager_left_t done, void *userdata, KError *reterr);
/* 1 when an earlier daemon had begun and it is now gone on with; 0 when not. Call it when the instances are loaded. */
int manager_resume_leave(Manager *m);

/* One instance less. */
void leave_wake(Leave *l);
Leave *leave_free(Leave *l);
