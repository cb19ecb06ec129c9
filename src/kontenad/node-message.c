/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-message.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "placement.h"
#include "service-spec.h"
#include "string-util.h"

uint64_t node_report_gist(json_object *report) {
        uint64_t hash = 0;

        json_object_object_foreach(report, key, value) {
                if (STR_IN_SET(key, "memory", "disk", "load"))
                        continue;
                hash = placement_seed(key, hash);
                hash = placement_seed(strempty(json_text(value)), hash);
        }
        return hash ?: 1;
}

int node_report_validate(json_object *report, KError *reterr) {
        const char *text;

        if (!json_object_is_type(report, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The report of the node is not an object.");
        text = json_text(report);
        if (!text)
                return -ENOMEM;
        if (strlen(text) > REPORT_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "The report of the node has %zu bytes, at most %u are possible.",
                                strlen(text), REPORT_SIZE_MAX);
        return 0;
}

/* "192.0.2.1/24" as well as "192.0.2.0/24" or a lone address. */
static int parse_interface_address(const char *s, Ipv4Prefix *ret) {
        _cleanup_free_ char *address = NULL;
        const char *slash = strchr(s, '/');
        unsigned length = 32;
        uint32_t a;
        int r;

        address = slash ? strndup(s, (size_t) (slash - s)) : strdup(s);
        if (!address)
                return -ENOMEM;
        r = parse_ipv4(address, &a);
        if (r < 0)
                return r;
        if (slash) {
                r = safe_atou(slash + 1, &length);
                if (r < 0)
                        return r;
                if (length > 32)
                        return -ERANGE;
        }

        *ret = (Ipv4Prefix){ .address = a & ipv4_prefix_mask((uint8_t) length), .length = (uint8_t) length };
        return 0;
}

static int check_list(const GridRow *grid, const Ipv4Prefix *subnet, json_object *report, const char *key,
                const char *noun, KError *reterr) {
        json_object *list = NULL;

        if (json_find_array(report, key, &list, NULL) <= 0)
                return 0;

        FOREACH_JSON_ARRAY(e, list) {
                const char *text = json_object_get_string(e);
                Ipv4Prefix p;

                /* The default route leads everywhere and is in nobody's way. */
                if (!text || parse_interface_address(text, &p) < 0 || p.length == 0)
                        continue;
                if (ipv4_prefix_overlaps(&p, subnet))
                        return kerror_set(reterr, K_NETWORK,
                                        "The machine has the %s %s, which collides with the subnet %s of "
                                        "grid '%s'.",
                                        noun, text, grid->subnet, grid->name);
        }
        return 0;
}

int node_report_check_routes(const GridRow *grid, json_object *report, KError *reterr) {
        Ipv4Prefix subnet;
        int r;

        r = parse_ipv4_prefix(grid->subnet, &subnet);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Subnet '%s' of grid '%s' cannot be read: %m",
                                grid->subnet, grid->name);
        r = check_list(grid, &subnet, report, "routes", "route", reterr);
        if (r < 0)
                return r;
        return check_list(grid, &subnet, report, "addresses", "address", reterr);
}

static bool state_is_valid(const char *s) {
        return STR_IN_SET(s, "pending", "pulling", "creating", "starting", "running", "restarting",
                        "stopping", "stopped", "failed", "exited", "removed");
}

int node_status_parse(json_object *o, NodeStatus *ret, KError *reterr) {
        NodeStatus s = { .exit_status = -1 };
        json_object *error = NULL;
        int r;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A status is not an object.");

        if ((r = json_get_string(o, "id", &s.id, reterr)) < 0 ||
                        (r = json_get_string(o, "state", &s.state, reterr)) < 0 ||
                        (r = json_find_u64(o, "deploy_rev", &s.deploy_rev, reterr)) < 0 ||
                        (r = json_find_u64(o, "service_rev", &s.service_rev, reterr)) < 0 ||
                        (r = json_find_u64(o, "epoch", &s.epoch, reterr)) < 0 ||
                        (r = json_find_u64(o, "started_at", &s.started_at, reterr)) < 0 ||
                        (r = json_find_string(o, "unit", &s.unit, reterr)) < 0 ||
                        (r = json_find_string(o, "progress", &s.progress, reterr)) < 0 ||
                        (r = json_find_string(o, "image_digest", &s.image_digest, reterr)) < 0 ||
                        (r = json_find_string(o, "health", &s.health, reterr)) < 0 ||
                        (r = json_find_string(o, "log_tail", &s.log_tail, reterr)) < 0 ||
                        (r = json_find_i64(o, "pid", &s.pid, reterr)) < 0 ||
                        (r = json_find_i64(o, "restarts", &s.restarts, reterr)) < 0 ||
                        (r = json_find_i64(o, "exit_status", &s.exit_status, reterr)) < 0 ||
                        (r = json_find_i64(o, "oom_kills", &s.oom_kills, reterr)) < 0 ||
                        (r = json_find_array(o, "hooks_done", &s.hooks_done, reterr)) < 0 ||
                        (r = json_find_object(o, "error", &error, reterr)) < 0)
                return r;
        if (s.hooks_done && json_object_array_length(s.hooks_done) > HOOKS_MAX * _HOOK_STAGE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "%zu hooks are done, at most %u are possible.",
                                json_object_array_length(s.hooks_done), HOOKS_MAX * _HOOK_STAGE_MAX);
        if (error && ((r = json_find_string(error, "code", &s.error_code, reterr)) < 0 ||
                                     (r = json_find_string(error, "message", &s.error, reterr)) < 0))
                return r;
        if (!state_is_valid(s.state))
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "'%s' is not a state of an instance.", s.state);

        *ret = s;
        return 0;
}
