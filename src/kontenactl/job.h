/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* The second argument, where there is one; 0: the newest. */
int job_run_number(const Arguments *a, unsigned *ret, KError *reterr);
