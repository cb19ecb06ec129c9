/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

/* A turn of a daemon's loop that takes longer than this keeps others waiting. */
#define EVENT_SLOW_TURN_MSEC 50U

/* Of the turns of a loop since it began. */
typedef struct EventTurns {
        uint64_t longest_usec; /* with waiting for the disk, and for the processor where others have it */
        uint64_t longest_cpu_usec;
        uint64_t n_slow;
        uint64_t untrimmed_usec; /* of the processor since memory was last given back */
} EventTurns;

/* An inner loop: whatever number of its sources has something to do, together they are one source of the outer one, which serves its sources
 * in turn; and the inner ones have their turns among themselves. For sources of files alone (a deferred one would not be noticed). *ret_source
 * belongs to the outer loop and is to be freed first. */
int event_nest(sd_event *outer, sd_event **ret, sd_event_source **ret_source);

/* As sd_event_loop(), counts in turns (may be NULL), and tells at debug level of turns that were slow. */
int event_loop(sd_event *e, EventTurns *turns);
