/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Views of the journal that the master has opened: each reads what instances wrote, in bounded batches, and waits while the channel
 * is full. */
typedef struct LogStreams LogStreams;

/* Sends one notification; params are consumed. Negative: not now, it is tried again. */
typedef int (*log_send_t)(const char *method, json_object *params, void *userdata);

int log_streams_new(sd_event *event, log_send_t send, void *userdata, LogStreams **ret);
LogStreams *log_streams_free(LogStreams *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(LogStreams *, log_streams_free);

/* Parameters of logs.open and logs.close. */
int log_streams_open(LogStreams *l, json_object *params, KError *reterr);
int log_streams_close(LogStreams *l, json_object *params, KError *reterr);
void log_streams_close_all(LogStreams *l);
size_t log_streams_count(const LogStreams *l);

/* Text of the journal, which may be any bytes, as valid UTF-8. NULL on lack of memory. */
char *log_text_sanitize(const char *data, size_t size);
