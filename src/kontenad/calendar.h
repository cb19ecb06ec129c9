/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Calendar expressions of systemd.time(7). libsystemd has no function for them, so systemd-analyze is asked, in a child: what is
 * valid, and what time zones and daylight saving do, is systemd's to say. */
typedef struct CalendarQuery CalendarQuery;

/* Called once, from the event loop; the query is over then. next: the first point after the one asked for, in microseconds since
 * 1970 and whole seconds; USEC_INFINITY: there is none. error: K_INVALID_ARGUMENT with systemd's words, or why it could not be asked. */
typedef void (*calendar_done_t)(uint64_t next, const KError *error, void *userdata);

int calendar_ask(sd_event *event, const char *expression, uint64_t after, calendar_done_t done,
                void *userdata, CalendarQuery **ret);
CalendarQuery *calendar_query_free(CalendarQuery *q); /* done is not called any more */
DEFINE_TRIVIAL_CLEANUP_FUNC(CalendarQuery *, calendar_query_free);

/* What systemd-analyze wrote: 0 and the point, or -EBADMSG. For tests. */
int calendar_parse_answer(const char *text, uint64_t *ret);
