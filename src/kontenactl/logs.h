/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* What logs and events share. */
const char *short_time(uint64_t usec, char buffer[static 32]);
int lines_option(const Arguments *a, unsigned fallback, unsigned *ret, KError *reterr);
/* The lines of a service from a moment on, printed as they come, in the loop of somebody else. */
struct LogView;
int log_view_start(Ctl *c, const ServiceName *service, uint64_t since, struct LogView **ret, KError *reterr);
int log_view_subscribe(struct LogView *v, KError *reterr); /* anew, on another connection */
int log_view_resume(struct LogView *v, KError *reterr);    /* the master is back */
struct LogView *log_view_free(struct LogView *v);
DEFINE_TRIVIAL_CLEANUP_FUNC(struct LogView *, log_view_free);

int since_option(const Arguments *a, uint64_t *ret, KError *reterr); /* leaves *ret alone when not given */
