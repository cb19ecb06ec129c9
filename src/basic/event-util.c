/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "event-util.h"

#include <inttypes.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <time.h>

#include "file-util.h"
#include "log.h"
#include "macro.h"

/* So much work, and what malloc() keeps of it goes back to the system. */
#define TRIM_USEC  (250 * USEC_PER_MSEC)

/* What an inner loop does in one turn of the outer one. */
#define INNER_USEC (3 * USEC_PER_MSEC)

static uint64_t now_cpu(void) {
        struct timespec t = {};

        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

static void count_turn(EventTurns *turns, uint64_t took, uint64_t cpu) {
        turns->longest_usec = MAX(turns->longest_usec, took);
        turns->longest_cpu_usec = MAX(turns->longest_cpu_usec, cpu);

        /* What takes long takes memory, too. */
        turns->untrimmed_usec += cpu;
        if (turns->untrimmed_usec > TRIM_USEC || took > EVENT_SLOW_TURN_MSEC * USEC_PER_MSEC) {
                turns->untrimmed_usec = 0;
                (void) malloc_trim(0);
        }
        if (took <= EVENT_SLOW_TURN_MSEC * USEC_PER_MSEC)
                return;
        turns->n_slow++;
        log_debug("A turn of the event loop took %" PRIu64 " ms, %" PRIu64 " ms of them on the processor.",
                        took / USEC_PER_MSEC, cpu / USEC_PER_MSEC);
}

static int on_inner(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        uint64_t until = now_monotonic() + INNER_USEC;
        int r;

        do {
                r = sd_event_run(userdata, 0);
                if (r < 0)
                        return r;
        } while (r > 0 && now_monotonic() < until);
        return 0;
}

int event_nest(sd_event *outer, sd_event **ret, sd_event_source **ret_source) {
        _cleanup_(sd_event_unrefp) sd_event *inner = NULL;
        int r;

        assert(outer);
        assert(ret);
        assert(ret_source);

        r = sd_event_new(&inner);
        if (r < 0)
                return r;
        r = sd_event_add_io(outer, ret_source, sd_event_get_fd(inner), EPOLLIN, on_inner, inner);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(inner);
        return 0;
}

int event_loop(sd_event *e, EventTurns *turns) {
        EventTurns own = {};
        int r, code = 0;

        assert(e);

        while (sd_event_get_state(e) != SD_EVENT_FINISHED) {
                uint64_t started, cpu;

                r = sd_event_prepare(e);
                if (r == 0)
                        r = sd_event_wait(e, UINT64_MAX);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;

                started = now_monotonic();
                cpu = now_cpu();
                r = sd_event_dispatch(e);
                if (r < 0)
                        return r;
                count_turn(turns ?: &own, now_monotonic() - started, now_cpu() - cpu);
        }

        r = sd_event_get_exit_code(e, &code);
        return r < 0 ? r : code;
}
