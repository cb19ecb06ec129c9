/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "container-exec.h"
#include "macro.h"
#include "service-spec.h"
#include "string-util.h"

typedef enum HealthState {
        HEALTH_UNKNOWN,
        HEALTH_HEALTHY,
        HEALTH_UNHEALTHY,
        _HEALTH_STATE_MAX,
        _HEALTH_STATE_INVALID = -EINVAL,
} HealthState;
DECLARE_STRING_TABLE_LOOKUP(health_state, HealthState);

/* What answers mean. Pure: the time comes in. Who has just started is asked often, and what it answers within initial_delay counts
 * only if it is well. After that a failure counts once in an interval, as later, so `retries` of them take as long. */
typedef struct HealthJudge {
        uint64_t patient_until, interval;
        uint64_t counted_at, pause;
        unsigned retries, failures;
        bool up; /* was well since its start */
        HealthState state;
} HealthJudge;

void health_judge_init(HealthJudge *j, const HealthCheck *c, uint64_t started_usec, bool up);
/* One answer; true when the state is another one now. */
bool health_judge_take(HealthJudge *j, bool well, uint64_t now);
/* Until the next question. */
uint64_t health_judge_pause(HealthJudge *j);

/* Asks one container whether it is well, again and again. */
typedef struct Health Health;

/* From the event loop: the state has changed, or, while it is not up, what was seen. May call health_stop(). */
typedef void (*health_news_t)(Health *h, void *userdata);
/* We cannot ask it, and why; NULL: we can again. Told when it changes. Must not call health_stop(). */
typedef void (*health_trouble_t)(Health *h, const char *text, void *userdata);
/* Starts a command in the container, as container_command_start(). -EOPNOTSUPP is an answer; other errors are ours, and say nothing
 * of the container. */
typedef int (*health_inside_t)(char *const *argv, uint64_t timeout_usec, container_command_done_t done,
                void *done_userdata, ContainerCommand **ret, KError *reterr, void *userdata);

typedef struct HealthOptions {
        sd_event *event;
        const HealthCheck *check;
        const char *address;   /* NULL: the host's network, where only commands can be asked */
        uint64_t started_usec; /* the container, CLOCK_MONOTONIC */
        bool up;               /* it was before; else it is asked every second until it is */
        health_news_t news;
        health_inside_t inside;
        health_trouble_t trouble; /* NULL: nobody wants to know */
        bool (*excused)(void *userdata); /* its silence is our doing: not asked then, and a failure does not count */
        void *userdata;
} HealthOptions;

/* What is in the options is copied. */
int health_start(const HealthOptions *o, Health **ret);
Health *health_stop(Health *h); /* NULL is fine; also a check that is under way ends */
DEFINE_TRIVIAL_CLEANUP_FUNC(Health *, health_stop);

bool health_is_about(const Health *h, const HealthCheck *check, const char *address);
HealthState health_state(const Health *h); /* of NULL: unknown */
/* What the last check has seen, a sentence, while it is not well; else NULL. */
const char *health_seen(const Health *h);
