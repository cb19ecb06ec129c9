/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "service-spec-internal.h"

/* How a service is deployed, and what kind of thing it is. */

#define DRAIN_SEC_DEFAULT 5U
#define DRAIN_SEC_MAX     3600U
#define RETRIES_MAX       100U

static const char *const deploy_order_table[_DEPLOY_ORDER_MAX] = {
        [DEPLOY_START_FIRST] = "start-first",
        [DEPLOY_STOP_FIRST] = "stop-first",
};
DEFINE_STRING_TABLE_LOOKUP(deploy_order, DeployOrder);

static const char *const on_failure_table[_ON_FAILURE_MAX] = {
        [ON_FAILURE_ROLLBACK] = "rollback",
        [ON_FAILURE_PAUSE] = "pause",
        [ON_FAILURE_CONTINUE] = "continue",
};
DEFINE_STRING_TABLE_LOOKUP(on_failure, OnFailure);

static const char *const pull_policy_table[_PULL_POLICY_MAX] = {
        [PULL_ALWAYS] = "always",
        [PULL_MISSING] = "missing",
        [PULL_NEVER] = "never",
};
DEFINE_STRING_TABLE_LOOKUP(pull_policy, PullPolicy);

static const char *const runtime_kind_table[_RUNTIME_KIND_MAX] = {
        [RUNTIME_OCI] = "oci",
        [RUNTIME_NSPAWN] = "nspawn",
};
DEFINE_STRING_TABLE_LOOKUP(runtime_kind, RuntimeKind);

bool service_spec_start_first(const ServiceSpec *s) {
        return s->deploy_order != DEPLOY_STOP_FIRST && !s->stateful && !s->job && !s->host_network;
}

OnFailure service_spec_on_failure(const ServiceSpec *s) {
        if (s->on_failure != ON_FAILURE_AUTO)
                return s->on_failure;
        return s->stateful ? ON_FAILURE_PAUSE : ON_FAILURE_ROLLBACK;
}

static int parse_kind(json_object *o, ServiceSpec *s, KError *reterr) {
        const char *type = NULL, *runtime = NULL;
        uint64_t retries = 0;
        int r;

        r = json_find_string(o, "type", &type, reterr);
        if (r >= 0)
                r = json_find_string(o, "runtime", &runtime, reterr);
        if (r >= 0)
                r = spec_find_number(o, "retries", 0, RETRIES_MAX, &retries, reterr);
        if (r >= 0)
                r = spec_find_copy(o, "schedule", &s->schedule, reterr);
        if (r < 0)
                return r;

        if (type && !STR_IN_SET(type, "service", "job"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'type' must be service or job, not '%.64s'.",
                                type);
        s->runtime = runtime ? runtime_kind_from_string(runtime) : RUNTIME_OCI;
        if ((int) s->runtime < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'runtime' must be oci or nspawn, not '%.64s'.", runtime);
        s->job = type && streq(type, "job");
        s->retries = (uint32_t) retries;
        return 0;
}

static int refuse_start_first(const ServiceSpec *s, KError *reterr) {
        if (s->deploy_order != DEPLOY_START_FIRST)
                return 0;
        if (s->stateful)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'deploy_order' start-first cannot go with 'stateful': two instances would "
                                "write the same data.");
        if (s->host_network)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'deploy_order' start-first cannot go with 'net' host: two instances would "
                                "use the same ports.");
        return 0;
}

int spec_parse_deploy(json_object *o, ServiceSpec *s, KError *reterr) {
        const char *order = NULL, *on_failure = NULL, *pull = NULL;
        uint64_t drain = DRAIN_SEC_DEFAULT;
        int r;

        r = json_find_string(o, "deploy_order", &order, reterr);
        if (r >= 0)
                r = json_find_string(o, "on_failure", &on_failure, reterr);
        if (r >= 0)
                r = json_find_string(o, "pull", &pull, reterr);
        if (r >= 0)
                r = spec_find_number(o, "drain", 0, DRAIN_SEC_MAX, &drain, reterr);
        if (r >= 0)
                r = json_find_bool(o, "notify", &s->notify, reterr);
        if (r < 0)
                return r;
        s->drain_sec = (uint32_t) drain;

        s->deploy_order = order ? deploy_order_from_string(order) : DEPLOY_ORDER_AUTO;
        if ((int) s->deploy_order < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'deploy_order' must be start-first or stop-first, not '%.64s'.", order);
        s->on_failure = on_failure ? on_failure_from_string(on_failure) : ON_FAILURE_AUTO;
        if ((int) s->on_failure < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'on_failure' must be rollback, pause or continue, not '%.64s'.",
                                on_failure);
        s->pull = pull ? pull_policy_from_string(pull) : PULL_ALWAYS;
        if ((int) s->pull < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'pull' must be always, missing or never, not '%.64s'.", pull);

        r = parse_kind(o, s, reterr);
        if (r < 0)
                return r;
        return refuse_start_first(s, reterr);
}
