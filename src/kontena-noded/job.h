/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* Disk-heavy work in a child process of this daemon: removing trees, copying the first content of a volume. A job can be
 * done again from its beginning: the child dies with the daemon. */
typedef struct Job Job;

/* Runs in the child. Returns 0 or a negative errno; it must touch nothing but files. */
typedef int (*job_function_t)(void *arg);

/* Called once, from the event loop. r is what the function returned; -EIO if the child died. The job is freed after. */
typedef void (*job_done_t)(Job *j, int r, void *userdata);

/* arg is used only by the child's copy of the memory. */
int job_start(sd_event *event, const char *name, job_function_t function, void *arg, job_done_t done,
                void *userdata, Job **ret);

/* Kills the child; done is not called. */
Job *job_cancel(Job *j);
DEFINE_TRIVIAL_CLEANUP_FUNC(Job *, job_cancel);
