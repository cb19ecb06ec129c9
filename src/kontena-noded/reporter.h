/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* What goes to the master by itself: states of instances, gathered for a moment so that a burst is one message, and events, kept
 * while there is no connection. */
#define REPORTER_DELAY_USEC (50ULL * 1000ULL)

typedef struct Reporter Reporter;

/* Sends one notification; params are consumed. Negative: it could not be sent now. */
typedef int (*reporter_send_t)(const char *method, json_object *params, void *userdata);
/* The present STATUS of an instance; -ENOENT when there is no such instance any more. */
typedef int (*reporter_status_t)(const char *id, json_object **ret, void *userdata);

int reporter_new(sd_event *event, reporter_send_t send, reporter_status_t status, void *userdata,
                Reporter **ret);
Reporter *reporter_free(Reporter *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(Reporter *, reporter_free);

/* Sends nothing until opened: hello tells all states, so those noted before are dropped; events are kept. */
void reporter_open(Reporter *r);
void reporter_close(Reporter *r);

void reporter_instance_changed(Reporter *r, const char *id);
/* An instance that is no more: the record is what is told of it. Consumed. */
void reporter_instance_removed(Reporter *r, const char *id, json_object *status);
/* EVENT without its time, which is set here. Consumed. */
void reporter_event(Reporter *r, json_object *event);

size_t reporter_events_queued(const Reporter *r);
uint64_t reporter_events_dropped(const Reporter *r);
