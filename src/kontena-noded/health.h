/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "runtime.h"
#include "string-util.h"
#include "unit.h"

/* Asks one container whether it is well: spec->health_check. */
typedef struct Health Health;

typedef enum HealthState {
        HEALTH_UNKNOWN,
        HEALTH_HEALTHY,
        HEALTH_UNHEALTHY,
        _HEALTH_STATE_MAX,
        _HEALTH_STATE_INVALID = -EINVAL,
} HealthState;
DECLARE_STRING_TABLE_LOOKUP(health_state, HealthState);

typedef struct HealthOptions {
        sd_event *event;
        UnitManager *units; /* the rest is for checks in the container */
        Runtime *runtime;
        const InstanceWant *want; /* must live as long */
        const char *image;
        const char *container_id; /* "<instance>-<generation>" */
        const char *directory;    /* the container's, below /run */
        bool starting;            /* it was not up yet since its start: asked every second until it is */
} HealthOptions;

/* From the event loop, when the state has changed: healthy (the first time: it is up), or unhealthy with what was seen
 * ("GET http://10.81.128.5:80/up answered 503"), after which no more is asked. May call health_stop(). */
typedef void (*health_changed_t)(Health *h, HealthState state, const KError *error, void *userdata);

static inline bool health_is_wanted(const InstanceWant *w) {
        return w->spec->health_check.protocol != HEALTH_NONE;
}

int health_start(const HealthOptions *o, health_changed_t changed, void *userdata, Health **ret);
Health *health_stop(Health *h); /* NULL is fine; also a check that is under way ends */
DEFINE_TRIVIAL_CLEANUP_FUNC(Health *, health_stop);
HealthState health_state(const Health *h); /* of NULL: unknown */
/* What the last check has seen, while it is not healthy; else NULL. */
const char *health_seen(const Health *h);
