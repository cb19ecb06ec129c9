/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Units of the machine the bus belongs to. */
int unit_enable(Ctl *c, const char *unit, KError *reterr);
int unit_disable(Ctl *c, const char *unit, KError *reterr);
/* verb: StartUnit, RestartUnit, StopUnit. Waits for the job's end; a failed one is an error that names the unit. */
int unit_run(Ctl *c, const char *verb, const char *unit, KError *reterr);
int unit_active_state(Ctl *c, const char *unit, char **ret, KError *reterr);
/* Names of loaded units that match a pattern and are not dead. */
int unit_list(Ctl *c, const char *pattern, char ***ret, KError *reterr);
