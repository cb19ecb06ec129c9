/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service-spec.h"

#include <ctype.h>
#include <signal.h>

#include "image-reference.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "service-spec-internal.h"

/* Below this a container's own runtime does not get through exec(). */
#define MEMORY_MIN     (4U * 1024U * 1024U)
#define CPUS_MAX       8192.0
#define CPU_SHARES_MAX 1024U
#define GRACE_SEC_MAX  (24U * 3600U)
#define USER_MAX       256U
#define HOSTNAME_MAX   63U

static const char *const strategy_table[_STRATEGY_MAX] = {
        [STRATEGY_HA] = "ha",
        [STRATEGY_DAEMON] = "daemon",
        [STRATEGY_RANDOM] = "random",
};

DEFINE_STRING_TABLE_LOOKUP(strategy, Strategy);

/* Field names, for the refusal of others. */
static const char *const fields[] = {
        "image",
        "count",
        "stateful",
        "strategy",
        "affinity",
        "min_health",
        "wait_for_port",
        "interval",
        "cmd",
        "entrypoint",
        "env",
        "user",
        "working_dir",
        "hostname",
        "ports",
        "net",
        "pid",
        "privileged",
        "read_only",
        "cap_add",
        "cap_drop",
        "devices",
        "volumes",
        "volumes_from",
        "cpus",
        "cpu_shares",
        "memory",
        "memory_swap",
        "shm_size",
        "pids_limit",
        "stop_signal",
        "stop_grace_period",
        "labels",
        "links",
        "deploy_order",
        "on_failure",
        "drain",
        "notify",
        "health_check",
        "hooks",
        "secrets",
        "systemd",
        "type",
        "retries",
        "schedule",
        "runtime",
        "pull",
};

ServiceSpec *service_spec_free(ServiceSpec *s) {
        if (!s)
                return NULL;

        free(s->image);
        strv_free(s->affinity);
        strv_free(s->cmd);
        strv_free(s->entrypoint);
        strv_free(s->env);
        free(s->user);
        free(s->working_dir);
        free(s->hostname);
        FOREACH_ARRAY(p, s->ports, s->n_ports)
                free(p->ip);
        free(s->ports);
        strv_free(s->cap_add);
        strv_free(s->cap_drop);
        strv_free(s->devices);
        strv_free(s->volumes);
        strv_free(s->labels);
        strv_free(s->links);
        free(s->stop_signal);
        free(s->schedule);
        free(s->health_check.uri);
        strv_free(s->health_check.command);
        FOREACH_ARRAY(h, s->hooks, s->n_hooks) {
                free(h->name);
                free(h->cmd);
                free(h->instances);
        }
        free(s->hooks);
        FOREACH_ARRAY(u, s->secrets, s->n_secrets) {
                free(u->secret);
                free(u->name);
        }
        free(s->secrets);
        strv_free(s->systemd);
        free(s);
        return NULL;
}

static int image_validate(const char *image, KError *reterr) {
        _cleanup_image_reference_ ImageReference reference = {};
        int r;

        r = image_reference_parse(image, &reference, reterr);
        if (r < 0)
                kerror_prefix(reterr, "'image'");
        return r;
}

static int affinity_validate(const char *s, KError *reterr) {
        const char *op = NULL;
        _cleanup_free_ char *key = NULL;
        const char *value;

        /* Text splits at the last operator. */
        for (const char *p = s; p[0] != '\0' && p[1] != '\0'; p++)
                if ((p[0] == '=' || p[0] == '!') && p[1] == '=')
                        op = p;
        if (!op)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Affinity '%s' has neither '==' nor '!='.", s);

        key = strndup(s, (size_t) (op - s));
        if (!key)
                return -ENOMEM;
        if (!STR_IN_SET(key, "node", "service", "container", "label"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Affinity '%s' must begin with node, service, container or label.", s);

        value = op + 2;
        if (*value == '~')
                value++;
        if (isempty(value) || !string_is_printable(value))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Affinity '%s' has no value.", s);

        return 0;
}

static int env_validate(const char *s, KError *reterr) {
        const char *eq = strchr(s, '=');

        if (!eq || eq == s)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The environment entry '%.64s' is not KEY=value.", s);
        for (const char *p = s; p < eq; p++)
                if ((unsigned char) *p <= ' ' || *p == 0x7f)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The name of environment entry '%.64s' has a blank or control "
                                        "character.",
                                        s);
        if (strlen(s) > ENV_ENTRY_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "The environment entry '%.*s' has %zu bytes, at most %u are possible.",
                                (int) MIN(eq - s, (ptrdiff_t) 64), s, strlen(s), ENV_ENTRY_SIZE_MAX);

        return 0;
}

/* Any case, with or without CAP_, in; upper case without, out. */
static int capabilities_normalize(const char *key, char **l, KError *reterr) {
        STRV_FOREACH(i, l) {
                char *s = *i;
                bool known;

                for (char *p = s; *p; p++)
                        *p = (char) toupper((unsigned char) *p);
                if (startswith(s, "CAP_"))
                        memmove(s, s + 4, strlen(s + 4) + 1);

                known = streq(s, "ALL");
                for (unsigned k = 0; capability_to_name(k) && !known; k++)
                        known = streq(capability_to_name(k), s);
                if (!known)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' names the unknown capability '%.64s'.", key, s);
        }

        return 0;
}

static int hostname_validate(const char *s, KError *reterr) {
        bool label_start = true;

        if (strlen(s) > HOSTNAME_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'hostname' has more than %u characters.",
                                HOSTNAME_MAX);
        for (const char *p = s; *p; p++) {
                bool separator = *p == '.' || *p == '-';

                if (!isascii(*p) || !(isalnum((unsigned char) *p) || *p == '_' || separator) ||
                                (separator && (label_start || p[1] == '\0')))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a host name.", s);
                label_start = *p == '.';
        }

        return 0;
}

static int port_parse(json_object *o, PortMapping *ret, KError *reterr) {
        static const char *const known[] = { "ip", "node_port", "container_port", "protocol" };
        const char *ip = NULL, *protocol = NULL;
        uint64_t node_port = 0, container_port = 0;
        uint32_t address = 0;
        int r;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'ports' must be a list of objects.");
        r = spec_refuse_unknown(o, known, ELEMENTSOF(known), "A port", reterr);
        if (r < 0)
                return r;
        r = json_find_string(o, "ip", &ip, reterr);
        if (r >= 0)
                r = json_find_string(o, "protocol", &protocol, reterr);
        if (r >= 0)
                r = spec_find_number(o, "node_port", 1, UINT16_MAX, &node_port, reterr);
        if (r >= 0)
                r = spec_find_number(o, "container_port", 1, UINT16_MAX, &container_port, reterr);
        if (r < 0)
                return r;
        if (node_port == 0 || container_port == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A port needs 'node_port' and 'container_port'.");
        if (protocol && transport_protocol_from_string(protocol) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The protocol of port %" PRIu64 " must be tcp, udp or sctp.", node_port);
        if (!isempty(ip) && parse_ipv4(ip, &address) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%.64s' of port %" PRIu64 " is not an IPv4 address.", ip, node_port);

        *ret = (PortMapping){
                .node_port = (uint16_t) node_port,
                .container_port = (uint16_t) container_port,
                .protocol = protocol ? transport_protocol_from_string(protocol) : TRANSPORT_TCP,
        };
        if (address != 0) {
                ret->ip = strdup(ip);
                if (!ret->ip)
                        return -ENOMEM;
        }
        return 0;
}

static int ports_parse(json_object *o, ServiceSpec *s, KError *reterr) {
        json_object *array;
        int r;

        r = json_find_array(o, "ports", &array, reterr);
        if (r <= 0)
                return r;
        if (json_object_array_length(array) > PORTS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "'ports' has %zu entries, at most %u are possible.",
                                json_object_array_length(array), PORTS_MAX);

        s->ports = new0(PortMapping, json_object_array_length(array) + 1);
        if (!s->ports)
                return -ENOMEM;

        FOREACH_JSON_ARRAY(e, array) {
                PortMapping *p = s->ports + s->n_ports;

                r = port_parse(e, p, reterr);
                if (r < 0)
                        return r;
                s->n_ports++;

                FOREACH_ARRAY(other, s->ports, s->n_ports - 1)
                        if (other->node_port == p->node_port && other->protocol == p->protocol &&
                                        (!other->ip || !p->ip || streq(other->ip, p->ip)))
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "Port %u/%s is published twice.", p->node_port,
                                                transport_protocol_to_string(p->protocol));
        }

        return 0;
}

static int parse_placement(json_object *o, ServiceSpec *s, KError *reterr) {
        const char *strategy = NULL;
        uint64_t v;
        int r;

        v = 1;
        r = spec_find_number(o, "count", 1, INSTANCES_PER_SERVICE_MAX, &v, reterr);
        if (r < 0)
                return r;
        s->count = (uint32_t) v;

        r = json_find_bool(o, "stateful", &s->stateful, reterr);
        if (r < 0)
                return r;

        r = json_find_string(o, "strategy", &strategy, reterr);
        if (r < 0)
                return r;
        s->strategy = strategy ? strategy_from_string(strategy) : STRATEGY_HA;
        if ((int) s->strategy < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'strategy' must be ha, daemon or random, not '%.64s'.", strategy);

        r = spec_find_entries(o, "affinity", &s->affinity, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(a, s->affinity) {
                r = affinity_validate(*a, reterr);
                if (r < 0)
                        return r;
        }

        s->min_health = 0.8;
        r = json_find_double(o, "min_health", &s->min_health, reterr);
        if (r < 0)
                return r;
        if (!(s->min_health >= 0.0 && s->min_health <= 1.0))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'min_health' must be between 0 and 1.");

        v = 0;
        r = spec_find_number(o, "wait_for_port", 0, UINT16_MAX, &v, reterr);
        if (r < 0)
                return r;
        s->wait_for_port = (uint16_t) v;

        return spec_find_number(o, "interval", 0, UINT32_MAX, &s->interval_sec, reterr);
}

static int parse_process(json_object *o, ServiceSpec *s, KError *reterr) {
        int r;

        r = spec_find_list(o, "cmd", ENV_ENTRIES_MAX, &s->cmd, reterr);
        if (r >= 0)
                r = spec_find_list(o, "entrypoint", ENV_ENTRIES_MAX, &s->entrypoint, reterr);
        if (r >= 0)
                r = spec_find_list(o, "env", ENV_ENTRIES_MAX, &s->env, reterr);
        if (r >= 0)
                r = spec_find_copy(o, "user", &s->user, reterr);
        if (r >= 0)
                r = spec_find_copy(o, "working_dir", &s->working_dir, reterr);
        if (r >= 0)
                r = spec_find_copy(o, "hostname", &s->hostname, reterr);
        if (r >= 0)
                r = spec_find_copy(o, "stop_signal", &s->stop_signal, reterr);
        if (r < 0)
                return r;

        STRV_FOREACH(e, s->env) {
                r = env_validate(*e, reterr);
                if (r < 0)
                        return r;
        }
        if (s->user && (strlen(s->user) > USER_MAX || !string_is_printable(s->user) ||
                                       strpbrk(s->user, " /") || s->user[0] == ':'))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'user' is not USER or USER:GROUP.");
        if (s->working_dir) {
                r = spec_path_validate("The working directory", s->working_dir, reterr);
                if (r < 0)
                        return r;
        }
        if (s->hostname) {
                r = hostname_validate(s->hostname, reterr);
                if (r < 0)
                        return r;
        }
        if (s->stop_signal && signal_from_string(s->stop_signal) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'stop_signal' names the unknown signal '%.64s'.", s->stop_signal);

        s->stop_grace_sec = 10;
        return spec_find_number(o, "stop_grace_period", 0, GRACE_SEC_MAX, &s->stop_grace_sec, reterr);
}

static int parse_isolation(json_object *o, ServiceSpec *s, KError *reterr) {
        const char *net = NULL, *pid = NULL;
        int r;

        r = json_find_string(o, "net", &net, reterr);
        if (r >= 0)
                r = json_find_string(o, "pid", &pid, reterr);
        if (r >= 0)
                r = spec_refuse_shared(o, net, reterr);
        if (r < 0)
                return r;
        if (!isempty(net) && !STR_IN_SET(net, "bridge", "host"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'net' must be bridge or host, not '%.64s'.",
                                net);
        if (!isempty(pid) && !streq(pid, "host"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'pid' must be empty or host, not '%.64s'.",
                                pid);
        s->host_network = net && streq(net, "host");
        s->host_pid = pid && streq(pid, "host");

        r = json_find_bool(o, "privileged", &s->privileged, reterr);
        if (r >= 0)
                r = json_find_bool(o, "read_only", &s->read_only, reterr);
        if (r >= 0)
                r = spec_find_entries(o, "cap_add", &s->cap_add, reterr);
        if (r >= 0)
                r = spec_find_entries(o, "cap_drop", &s->cap_drop, reterr);
        if (r >= 0)
                r = spec_find_entries(o, "devices", &s->devices, reterr);
        if (r >= 0)
                r = capabilities_normalize("cap_add", s->cap_add, reterr);
        if (r >= 0)
                r = capabilities_normalize("cap_drop", s->cap_drop, reterr);
        if (r < 0)
                return r;

        STRV_FOREACH(d, s->devices) {
                _cleanup_(device_mapping_done) DeviceMapping parsed = {};

                r = device_mapping_parse(*d, &parsed, reterr);
                if (r < 0)
                        return r;
        }

        r = ports_parse(o, s, reterr);
        if (r < 0)
                return r;
        if (s->host_network && s->n_ports > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Ports can be published only with 'net' bridge.");
        if (s->host_network && s->hostname)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'hostname' cannot be set with 'net' host.");

        return 0;
}

static int parse_volumes(json_object *o, ServiceSpec *s, KError *reterr) {
        _cleanup_strv_free_ char **paths = NULL;
        int r;

        r = spec_find_entries(o, "volumes", &s->volumes, reterr);
        if (r < 0)
                return r;

        STRV_FOREACH(v, s->volumes) {
                _cleanup_(volume_mount_done) VolumeMount parsed = {};

                r = volume_mount_parse(*v, &parsed, reterr);
                if (r < 0)
                        return r;
                if (strv_contains(paths, parsed.path))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "Two volumes are mounted at '%s'.",
                                        parsed.path);
                r = strv_extend(&paths, parsed.path);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int parse_limits(json_object *o, ServiceSpec *s, KError *reterr) {
        uint64_t shares = 0;
        int r;

        r = json_find_double(o, "cpus", &s->cpus, reterr);
        if (r < 0)
                return r;
        if (s->cpus != 0.0 && !(s->cpus >= 0.01 && s->cpus <= CPUS_MAX))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'cpus' must be 0 (no limit) or between 0.01 and %.0f.", CPUS_MAX);

        r = spec_find_number(o, "cpu_shares", 0, CPU_SHARES_MAX, &shares, reterr);
        if (r < 0)
                return r;
        s->cpu_shares = (uint32_t) shares;

        r = spec_find_number(o, "memory", 0, INT64_MAX, &s->memory, reterr);
        if (r >= 0)
                r = spec_find_number(o, "memory_swap", 0, INT64_MAX, &s->memory_swap, reterr);
        if (r >= 0)
                r = spec_find_number(o, "shm_size", 0, INT64_MAX, &s->shm_size, reterr);
        if (r >= 0)
                r = spec_find_number(o, "pids_limit", 0, 4194304, &s->pids_limit, reterr);
        if (r < 0)
                return r;
        if ((s->memory > 0 && s->memory < MEMORY_MIN) || (s->memory_swap > 0 && s->memory_swap < MEMORY_MIN))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'memory' must be 0 (no limit) or at least %u bytes.", MEMORY_MIN);
        if (s->memory_swap > 0 && s->memory_swap < s->memory)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'memory_swap' counts memory and swap, so it cannot be smaller than "
                                "'memory'.");

        return 0;
}

static int parse_labels_and_links(json_object *o, ServiceSpec *s, KError *reterr) {
        int r;

        r = spec_find_list(o, "labels", LABELS_MAX, &s->labels, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(l, s->labels)
                if (isempty(*l) || strlen(*l) > LABEL_LENGTH_MAX || !string_is_printable(*l))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "A label has 1 to %u printable characters.", LABEL_LENGTH_MAX);

        r = spec_find_entries(o, "links", &s->links, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(l, s->links) {
                _cleanup_free_ char *grid = NULL, *stack = NULL, *service = NULL;

                r = service_reference_parse(*l, &grid, &stack, &service, reterr);
                if (r < 0) {
                        kerror_prefix(reterr, "Link '%.128s'", *l);
                        return r;
                }
                if (grid)
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "Link '%s' leads to another grid.", *l);
        }

        return 0;
}

int service_spec_parse(json_object *o, ServiceSpec **ret, KError *reterr) {
        _cleanup_(service_spec_freep) ServiceSpec *s = NULL;
        const char *image, *text;
        int r;

        assert(ret);

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "The settings of a service must be an object.");
        text = json_text(o);
        if (!text)
                return -ENOMEM;
        if (strlen(text) > SPEC_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "The settings of a service have %zu bytes, at most %u are possible.",
                                strlen(text), SPEC_SIZE_MAX);
        r = spec_refuse_unknown(o, fields, ELEMENTSOF(fields), "A service", reterr);
        if (r < 0)
                return r;

        s = new0(ServiceSpec, 1);
        if (!s)
                return -ENOMEM;

        r = json_get_string(o, "image", &image, reterr);
        if (r < 0)
                return r;
        r = image_validate(image, reterr);
        if (r < 0)
                return r;
        s->image = strdup(image);
        if (!s->image)
                return -ENOMEM;

        r = parse_placement(o, s, reterr);
        if (r >= 0)
                r = parse_process(o, s, reterr);
        if (r >= 0)
                r = parse_isolation(o, s, reterr);
        if (r >= 0)
                r = parse_volumes(o, s, reterr);
        if (r >= 0)
                r = parse_limits(o, s, reterr);
        if (r >= 0)
                r = parse_labels_and_links(o, s, reterr);
        if (r >= 0)
                r = spec_parse_deploy(o, s, reterr);
        if (r >= 0)
                r = spec_parse_health_check(o, s, reterr);
        if (r >= 0)
                r = spec_parse_hooks(o, s, reterr);
        if (r >= 0)
                r = spec_parse_secrets(o, s, reterr);
        if (r >= 0)
                r = spec_parse_systemd(o, s, reterr);
        if (r >= 0)
                r = spec_check_job(s, reterr);
        if (r >= 0)
                r = spec_refuse_for_machine(s, reterr);
        if (r < 0)
                return r;
        if (s->host_network && s->wait_for_port > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'wait_for_port' needs the address that only 'net' bridge gives.");

        *ret = TAKE_PTR(s);
        return 0;
}

/* The entry of env with the same name as entry ("KEY=..."); NULL when there is none. */
static const char *env_find(json_object *env, const char *entry) {
        size_t n = strcspn(entry, "=") + 1;

        if (!json_object_is_type(env, json_type_array))
                return NULL;
        FOREACH_JSON_ARRAY(e, env)
                if (json_object_is_type(e, json_type_string) && strneq(json_object_get_string(e), entry, n))
                        return json_object_get_string(e);

        return NULL;
}

/* The new list of the environment, where "KEY=" means: as it was. */
static int env_update(json_object *before, json_object *changed, json_object **ret) {
        _cleanup_json_ json_object *l = NULL;
        int r;

        l = json_object_new_array();
        if (!l)
                return -ENOMEM;

        FOREACH_JSON_ARRAY(e, changed) {
                const char *kept = NULL;

                if (json_object_is_type(e, json_type_string) && endswith(json_object_get_string(e), "=") &&
                                strcspn(json_object_get_string(e), "=") ==
                                                strlen(json_object_get_string(e)) - 1)
                        kept = env_find(before, json_object_get_string(e));
                r = kept ? json_append_string(l, kept) : json_append(l, json_object_get(e));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

/* What a stateful instance keeps over its life is decided when it is made. */
static int refuse_new_anonymous_volume(const ServiceSpec *before, const ServiceSpec *after, KError *reterr) {
        int r;

        STRV_FOREACH(v, after->volumes) {
                _cleanup_(volume_mount_done) VolumeMount m = {};

                r = volume_mount_parse(*v, &m, reterr);
                if (r < 0)
                        return r;
                if (m.type == VOLUME_ANONYMOUS && !strv_contains(before->volumes, *v))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "A stateful service cannot gain the anonymous volume '%s'.", *v);
        }

        return 0;
}

int service_spec_update(json_object *base, json_object *changes, json_object **ret, KError *reterr) {
        _cleanup_(service_spec_freep) ServiceSpec *before = NULL, *after = NULL;
        _cleanup_json_ json_object *o = NULL;
        int r;

        assert(ret);

        if (!json_object_is_type(changes, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The changes to a service must be an object.");
        r = service_spec_parse(base, &before, reterr);
        if (r < 0)
                return r;
        if (json_copy(base, &o) < 0)
                return -ENOMEM;

        json_object_object_foreach(changes, key, value) {
                if (!value) {
                        json_object_object_del(o, key);
                        continue;
                }
                if (streq(key, "env") && json_object_is_type(value, json_type_array)) {
                        json_object *env = NULL;

                        r = env_update(json_object_object_get(base, "env"), value, &env);
                        if (r >= 0)
                                r = json_add(o, key, env);
                } else {
                        json_object *copy = NULL;

                        if (json_copy(value, &copy) < 0)
                                return -ENOMEM;
                        r = json_add(o, key, copy);
                }
                if (r < 0)
                        return r;
        }

        r = service_spec_parse(o, &after, reterr);
        if (r < 0)
                return r;
        if (before->stateful != after->stateful)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'stateful' cannot change after a service was created.");
        if (before->job != after->job)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'type' cannot change after a service was created.");
        if (after->stateful) {
                r = refuse_new_anonymous_volume(before, after, reterr);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(o);
        return 0;
}
