/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* What logs and events share. */
const char *short_time(uint64_t usec, char buffer[static 32]);
int lines_option(const Arguments *a, unsigned fallback, unsigned *ret, KError *reterr);
int since_option(const Arguments *a, uint64_t *ret, KError *reterr); /* leaves *ret alone when not given */
