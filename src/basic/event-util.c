/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "event-util.h"

#include <inttypes.h>
#include <malloc.h>

#include "file-util.h"
#include "log.h"

int event_loop(sd_event *e) {
        int r, code = 0;

        while (sd_event_get_state(e) != SD_EVENT_FINISHED) {
                uint64_t started, took;

                r = sd_event_prepare(e);
                if (r == 0)
                        r = sd_event_wait(e, UINT64_MAX);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;

                started = now_monotonic();
                r = sd_event_dispatch(e);
                if (r < 0)
                        return r;
                took = now_monotonic() - started;
                if (took > EVENT_SLOW_TURN_MSEC * USEC_PER_MSEC) {
                        (void) malloc_trim(0); /* what takes long takes memory, too */
                        log_debug("A turn of the event loop took %" PRIu64 " ms.", took / USEC_PER_MSEC);
                }
        }

        r = sd_event_get_exit_code(e, &code);
        return r < 0 ? r : code;
}
