/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backoff.h"

#define BACKOFF_MAX_SEC 30U

uint64_t backoff_next(Backoff *b, uint64_t uptime_usec) {
        unsigned sec;

        if (uptime_usec >= BACKOFF_STABLE_USEC)
                b->crashes = 0;

        sec = b->crashes > 5 ? BACKOFF_MAX_SEC : MIN(b->crashes * b->crashes, BACKOFF_MAX_SEC);
        b->crashes = MIN(b->crashes + 1, 1000000U);
        return (uint64_t) sec * 1000000U;
}
