/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"
#include "unit-setup.h"

/* Units of the system manager, over D-Bus, without blocking: their state is followed by signals, an operation ends when
 * its job does. */
typedef struct UnitManager UnitManager;
typedef struct Unit Unit;

typedef struct UnitState {
        bool known;       /* false until systemd was asked */
        char *load_state; /* "not-found" when there is no such unit */
        char *active_state, *sub_state, *result;
        uint32_t main_pid;
        int exec_main_code, exec_main_status; /* CLD_EXITED and the status, CLD_KILLED and the signal */
        char *control_group;
        uint32_t job; /* queued for it by anybody; 0: none */
} UnitState;

/* The state has changed (or was read for the first time). Called from the event loop only. */
typedef void (*unit_changed_t)(Unit *u, void *userdata);
/* The operation ended; error NULL: well. */
typedef void (*unit_done_t)(Unit *u, const KError *error, void *userdata);

int unit_manager_new(sd_event *event, sd_bus *bus, UnitManager **ret);
UnitManager *unit_manager_free(UnitManager *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(UnitManager *, unit_manager_free);
sd_bus *unit_manager_bus(const UnitManager *
                                m); /* borrowed; for units that are made in another way than unit_start() does */

/* Follows the unit, whether it exists or not. */
int unit_new(UnitManager *m, const char *name, unit_changed_t changed, void *userdata, Unit **ret);
Unit *unit_free(Unit *u); /* the unit itself is left alone */
DEFINE_TRIVIAL_CLEANUP_FUNC(Unit *, unit_free);

/* Asks anew, for when a signal may have been lost; changed() follows. */
int unit_read(Unit *u);

const char *unit_name(const Unit *u);
const UnitState *unit_state(const Unit *u);
bool unit_main_process_is_alive(
                const Unit *u);   /* of the machine, not of systemd, which may not have noticed */
bool unit_is_busy(const Unit *u); /* an operation is under way */

/* One operation at a time. done is never called from inside. timeout_usec bounds the whole. */
int unit_start(Unit *u, const UnitSetup *setup, uint64_t timeout_usec, unit_done_t done);
int unit_restart(Unit *u, uint64_t timeout_usec, unit_done_t done);
/* A unit that does not run or exist is fine. Afterwards a failed one is reset, so that its name is free again. */
int unit_stop(Unit *u, uint64_t timeout_usec, unit_done_t done);
/* A start that is under way ends, as failed. */
void unit_cancel_start(Unit *u);

/* A failed unit is forgotten. Nobody waits for it: what is asked of systemd later comes later. */
void unit_reset_failed(Unit *u);

/* Derived from the state. */
bool unit_state_is_running(const UnitState *s); /* the container's process is there */
bool unit_state_is_gone(const UnitState *s); /* nothing of it is loaded or active: it must be started anew */
bool unit_state_is_waiting(const UnitState *s); /* died, and systemd waits for RestartSec= */
