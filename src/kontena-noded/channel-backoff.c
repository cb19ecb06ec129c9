/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "channel-backoff.h"

#include "kontena-limits.h"

#define FIRST_USEC 1000000U

/* Of the upper bits; the bias is below one millionth. */
static uint64_t below(uint64_t random, uint64_t bound) {
        return (uint64_t) (((__uint128_t) random * bound) >> 64);
}

uint64_t channel_backoff(unsigned attempt, uint64_t random) {
        uint64_t window = CHANNEL_BACKOFF_MAX_USEC;

        if (attempt < 7) /* 2^7 s is above the cap */
                window = MIN((uint64_t) FIRST_USEC << attempt, window);
        return below(random, window + 1);
}

uint64_t channel_backoff_final(uint64_t random) {
        return CHANNEL_BACKOFF_MAX_USEC / 2 + below(random, CHANNEL_BACKOFF_MAX_USEC / 2 + 1);
}

bool channel_code_is_final(int code) {
        return (code >= 4001 && code <= 4008) || code == 4040;
}
