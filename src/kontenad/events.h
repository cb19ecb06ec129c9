/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "master.h"

/* Something happened that an operator may want to know: a row in the store, an entry in the journal with KONTENA_* fields, a
 * signal on the bus (sent when the row is committed). May be called inside or outside of a transaction; a store that cannot be
 * written leaves the journal entry. Returns 0 or what the store said. */
typedef struct EventInfo {
        const char *severity;                       /* "debug" "info" "warning" "error" */
        const char *type;                           /* "service:deploy" */
        const char *grid_id, *node_id, *service_id; /* NULL: has none */
        int64_t instance;                           /* <= 0: none */
        uint64_t time;                              /* 0: now */
} EventInfo;

int events_add(Master *m, const EventInfo *e, const char *format, ...) _printf_(3, 4);
