/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "string-util.h"

/* The socket to whoever asked: one request comes in, lines of JSON go out. */
typedef enum ReportPhase {
        REPORT_FETCHING,
        REPORT_WAITING, /* another pull has the layer under work */
        REPORT_UNPACKING,
        _REPORT_PHASE_MAX,
        _REPORT_PHASE_INVALID = -EINVAL,
} ReportPhase;

typedef struct Report {
        int input_fd, output_fd; /* borrowed */
        uint64_t bytes, total;   /* of compressed layers */
        ReportPhase phase;

        uint64_t last_usec;
        ReportPhase last_phase;
        bool gone;
} Report;

DECLARE_STRING_TABLE_LOOKUP(report_phase, ReportPhase);

/* One line; the buffer is erased, as it may have a password in it. */
int report_read_request(Report *p, json_object **ret, KError *reterr);

/* Writes a line when something changed and the last was long enough ago. -ECANCELED once nobody listens. Cheap. */
int report_progress(Report *p);

/* Waits, but not for somebody who is gone: -ECANCELED. */
int report_sleep(Report *p, uint64_t usec);

int report_result(Report *p, json_object *result);
/* unreachable: the registry has not answered. */
int report_error(Report *p, const KError *error, bool unreachable);
