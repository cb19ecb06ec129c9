/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* How long a crashed container waits: 0, 1, 4, 9, 16, 25, then 30 seconds each; staying up for 10 seconds begins anew. */
#define BACKOFF_STABLE_USEC (10ULL * 1000000ULL)

typedef struct Backoff {
        unsigned crashes; /* in a row */
} Backoff;

/* The delay after a crash that came after uptime_usec. */
uint64_t backoff_next(Backoff *b, uint64_t uptime_usec);
