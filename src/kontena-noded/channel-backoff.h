/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* How long the node waits before its next attempt to reach the master: full jitter, so that the nodes of a master that was
 * restarted come back spread out. attempt counts failures in a row from 0, random is any 64-bit number. */
uint64_t channel_backoff(unsigned attempt, uint64_t random) _const_;

/* After a refusal that will not mend by itself: between half of the longest wait and the whole. */
uint64_t channel_backoff_final(uint64_t random) _const_;

/* The master's close code says that trying again is of little use. */
bool channel_code_is_final(int code) _const_;
