/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "service-spec-internal.h"

#define TIMEOUT_SEC_DEFAULT       10U
#define TIMEOUT_SEC_MAX           3600U
#define INTERVAL_SEC_DEFAULT      60U
#define INTERVAL_SEC_MAX          86400U
#define INITIAL_DELAY_SEC_DEFAULT 10U
#define INITIAL_DELAY_SEC_MAX     86400U
#define RETRIES_DEFAULT           1U
#define RETRIES_MAX               100U
#define URI_LENGTH_MAX            2048U

static const char *const health_protocol_table[_HEALTH_PROTOCOL_MAX] = {
        [HEALTH_HTTP] = "http",
        [HEALTH_TCP] = "tcp",
        [HEALTH_EXEC] = "exec",
};
DEFINE_STRING_TABLE_LOOKUP(health_protocol, HealthProtocol);

static int parse_times(json_object *o, HealthCheck *h, KError *reterr) {
        uint64_t timeout = TIMEOUT_SEC_DEFAULT, interval = INTERVAL_SEC_DEFAULT,
                 delay = INITIAL_DELAY_SEC_DEFAULT, retries = RETRIES_DEFAULT;
        int r;

        r = spec_find_number(o, "timeout", 1, TIMEOUT_SEC_MAX, &timeout, reterr);
        if (r >= 0)
                r = spec_find_number(o, "interval", 1, INTERVAL_SEC_MAX, &interval, reterr);
        if (r >= 0)
                r = spec_find_number(o, "initial_delay", 0, INITIAL_DELAY_SEC_MAX, &delay, reterr);
        if (r >= 0)
                r = spec_find_number(o, "retries", 1, RETRIES_MAX, &retries, reterr);
        if (r < 0)
                return r;
        if (interval < timeout)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'interval' (%" PRIu64 " s) cannot be below 'timeout' (%" PRIu64 " s).",
                                interval, timeout);

        h->timeout_sec = (uint32_t) timeout;
        h->interval_sec = (uint32_t) interval;
        h->initial_delay_sec = (uint32_t) delay;
        h->retries = (uint32_t) retries;
        return 0;
}

static int parse_uri(HealthCheck *h, KError *reterr) {
        if (!h->uri) {
                h->uri = strdup("/");
                return h->uri ? 0 : -ENOMEM;
        }

        /* It goes into a request line as it is. */
        if (h->uri[0] != '/' || strlen(h->uri) > URI_LENGTH_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'uri' must begin with '/' and have at most %u characters.", URI_LENGTH_MAX);
        for (const char *p = h->uri; *p; p++)
                if (*p <= ' ' || *p >= 0x7f)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'uri' has a character that must be written as %%XX.");
        return 0;
}

/* On success and on failure alike h may hold memory, which is its owner's. */
static int parse_check(json_object *o, HealthCheck *h, bool host_network, KError *reterr) {
        static const char *const known[] = { "protocol", "port", "uri", "command", "timeout", "interval",
                "initial_delay", "retries" };
        const char *protocol;
        uint64_t port = 0;
        int r;

        r = spec_refuse_unknown(o, known, ELEMENTSOF(known), "A health check", reterr);
        if (r >= 0)
                r = json_get_string(o, "protocol", &protocol, reterr);
        if (r < 0)
                return r;
        h->protocol = health_protocol_from_string(protocol);
        if ((int) h->protocol < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'protocol' must be http, tcp or exec, not '%.64s'.", protocol);

        r = spec_find_number(o, "port", 1, UINT16_MAX, &port, reterr);
        if (r >= 0)
                r = spec_find_copy(o, "uri", &h->uri, reterr);
        if (r >= 0)
                r = spec_find_list(o, "command", ENV_ENTRIES_MAX, &h->command, reterr);
        if (r >= 0)
                r = parse_times(o, h, reterr);
        if (r < 0)
                return r;
        h->port = (uint16_t) port;

        if (h->uri && h->protocol != HEALTH_HTTP)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'uri' is only for the protocol http.");
        if (h->protocol == HEALTH_EXEC) {
                if (h->port > 0)
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "'port' is not for the protocol exec.");
                if (!h->command || isempty(h->command[0]))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "The protocol exec needs 'command'.");
                return 0;
        }

        if (h->command)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'command' is only for the protocol exec.");
        if (h->port == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The protocol %s needs 'port'.", protocol);
        /* What answers there on the host's addresses may be another service. */
        if (host_network)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The protocol %s needs the address that only 'net' bridge gives.", protocol);
        return h->protocol == HEALTH_HTTP ? parse_uri(h, reterr) : 0;
}

int spec_parse_health_check(json_object *o, ServiceSpec *s, KError *reterr) {
        json_object *check;
        int r;

        r = json_find_object(o, "health_check", &check, reterr);
        if (r <= 0)
                return r;

        r = parse_check(check, &s->health_check, s->host_network, reterr);
        if (r < 0)
                kerror_prefix(reterr, "'health_check'");
        return r;
}
