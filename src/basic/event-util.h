/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

/* A turn of a daemon's loop that takes longer than this keeps others waiting. */
#define EVENT_SLOW_TURN_MSEC 50U

/* As sd_event_loop(), and tells at debug level of turns that were slow. */
int event_loop(sd_event *e);
