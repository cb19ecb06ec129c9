/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kontena-limits.h"
#include "service-spec-internal.h"

/* What makes a service a job, and what can not be asked of one. */

static int refuse(const char *field, const char *why, KError *reterr) {
        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' cannot go with 'type' job: %s.", field, why);
}

static int check_schedule(const char *schedule, KError *reterr) {
        if (strlen(schedule) > SCHEDULE_LENGTH_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "'schedule' has more than %u bytes.",
                                SCHEDULE_LENGTH_MAX);
        if (!string_is_printable(schedule))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'schedule' has control characters.");
        return 0;
}

int spec_check_job(const ServiceSpec *s, KError *reterr) {
        if (!s->job) {
                if (s->retries > 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'retries' is for 'type' job; a service is restarted for ever.");
                if (s->schedule)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'schedule' is for 'type' job; 'interval' redeploys a service.");
                return 0;
        }

        if (s->stateful)
                return refuse("stateful", "its instances do not stay; a named volume keeps data", reterr);
        if (s->interval_sec > 0)
                return refuse("interval", "'schedule' says when it runs", reterr);
        if (s->wait_for_port > 0)
                return refuse("wait_for_port", "it is over when it has exited", reterr);
        if (s->notify)
                return refuse("notify", "it is over when it has exited", reterr);
        if (s->health_check.protocol != HEALTH_NONE)
                return refuse("health_check", "its exit status says how it went", reterr);
        if (s->n_hooks > 0)
                return refuse("hooks", "what is to be done before or after is part of the job", reterr);
        if (s->deploy_order != DEPLOY_ORDER_AUTO)
                return refuse("deploy_order", "it is not deployed", reterr);
        if (s->on_failure != ON_FAILURE_AUTO)
                return refuse("on_failure", "it is not deployed, 'retries' says how often it is tried again",
                                reterr);
        if (s->runtime != RUNTIME_OCI)
                return refuse("runtime", "an operating system does not exit", reterr);
        return s->schedule ? check_schedule(s->schedule, reterr) : 0;
}
