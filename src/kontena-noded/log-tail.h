/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

#define LOG_TAIL_LINES_MAX 10U
#define LOG_TAIL_SIZE_MAX  2000U

/* The last lines that an instance has written, for the reason of a failure. A child reads them: a journal of many files can be slow. */
typedef struct LogTail LogTail;

/* Called once from the event loop, after two seconds at the latest; text NULL: there are none. The call is over then. */
typedef void (*log_tail_done_t)(LogTail *t, const char *text, void *userdata);

/* directory: where the child may leave them for us. */
int log_tail_start(sd_event *event, const char *instance_id, uint64_t since_usec, const char *directory,
                log_tail_done_t done, void *userdata, LogTail **ret);
/* The same for what a unit of this name has written, not for what belongs to the instance beside it. */
int log_tail_start_unit(sd_event *event, const char *unit, uint64_t since_usec, const char *directory,
                log_tail_done_t done, void *userdata, LogTail **ret);
LogTail *log_tail_cancel(LogTail *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(LogTail *, log_tail_cancel);

/* As many of the lines, which come newest first, as are to be told, oldest first and printable. For tests. */
char *log_tail_join(char *const *newest_first);
