/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service-options.h"

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "port-option.h"
#include "string-util.h"

const OptionDef service_spec_options[] = {
        { .name = "instances",
                        .letter = 'i',
                        .argument = "COUNT",
                        .help = "How many instances (daemon: on each node)" },
        { .name = "ports",
                        .letter = 'p',
                        .argument = "[IP:]NODE:CONTAINER[/PROTO]",
                        .help = "Publish a port on the node",
                        .repeat = true },
        { .name = "env",
                        .letter = 'e',
                        .argument = "KEY=VALUE",
                        .help = "Set an environment variable; KEY alone takes yours",
                        .repeat = true },
        { .name = "env-file",
                        .argument = "FILE",
                        .help = "Set environment variables from lines of a file",
                        .repeat = true,
                        .complete = COMPLETE_FILE },
        { .name = "volume",
                        .letter = 'v',
                        .argument = "NAME|PATH:PATH[:FLAGS]",
                        .help = "Mount a volume or a path of the host",
                        .repeat = true,
                        .alias = "volumes" },
        { .name = "link",
                        .letter = 'l',
                        .argument = "SERVICE",
                        .help = "Depend on another service",
                        .repeat = true,
                        .complete = COMPLETE_SERVICE },
        { .name = "label", .argument = "LABEL", .help = "Label of the instances", .repeat = true },
        { .name = "affinity",
                        .letter = 'a',
                        .argument = "RULE",
                        .help = "Where instances may run: node==n1, label!=~az=b",
                        .repeat = true },
        { .name = "memory", .letter = 'm', .argument = "BYTES", .help = "Memory limit: 512m" },
        { .name = "memory-swap", .argument = "BYTES", .help = "Limit of memory and swap together" },
        { .name = "shm-size", .argument = "BYTES", .help = "Size of /dev/shm" },
        { .name = "cpus", .argument = "NUMBER", .help = "CPU time limit: 1.5" },
        { .name = "cpu-shares",
                        .letter = 'c',
                        .argument = "WEIGHT",
                        .help = "CPU weight against others, up to 1024" },
        { .name = "pids-limit", .argument = "COUNT", .help = "Limit of processes" },
        { .name = "cmd", .argument = "COMMAND", .help = "Command instead of the image's", .repeat = true },
        { .name = "entrypoint",
                        .argument = "COMMAND",
                        .help = "Entry point instead of the image's",
                        .repeat = true },
        { .name = "user", .letter = 'u', .argument = "USER[:GROUP]", .help = "Run as this user" },
        { .name = "working-dir", .argument = "PATH", .help = "Working directory", .alias = "workdir" },
        { .name = "hostname", .argument = "NAME", .help = "Host name inside" },
        { .name = "privileged", .help = "All capabilities and devices" },
        { .name = "read-only", .help = "Read-only root" },
        { .name = "cap-add", .argument = "NAME", .help = "Add a capability: NET_ADMIN", .repeat = true },
        { .name = "cap-drop", .argument = "NAME", .help = "Drop a capability", .repeat = true },
        { .name = "device", .argument = "HOST[:INSIDE[:RWM]]", .help = "Give a device", .repeat = true },
        { .name = "net",
                        .argument = "MODE",
                        .help = "Network: bridge, host",
                        .complete = COMPLETE_WORDS,
                        .words = "bridge|host" },
        { .name = "pid",
                        .argument = "MODE",
                        .help = "Process namespace: host",
                        .complete = COMPLETE_WORDS,
                        .words = "host" },
        { .name = "stop-signal",
                        .argument = "SIGNAL",
                        .help = "Signal that stops it instead of the image's" },
        { .name = "stop-timeout", .argument = "TIME", .help = "Time to stop before it is killed (10s)" },
        { .name = "deploy-strategy",
                        .argument = "STRATEGY",
                        .help = "ha, daemon or random",
                        .complete = COMPLETE_WORDS,
                        .words = "ha|daemon|random",
                        .alias = "strategy" },
        { .name = "deploy-min-health",
                        .argument = "FRACTION",
                        .help = "How much must stay up in a deploy (0.8)",
                        .alias = "min-health" },
        { .name = "deploy-wait-for-port",
                        .argument = "PORT",
                        .help = "An instance runs when this port answers",
                        .alias = "wait-for-port" },
        { .name = "deploy-interval",
                        .argument = "TIME",
                        .help = "Redeploy that often",
                        .alias = "interval" },
        { .name = "deploy-order",
                        .argument = "ORDER",
                        .help = "start-first (where possible) or stop-first",
                        .complete = COMPLETE_WORDS,
                        .words = "start-first|stop-first" },
        { .name = "on-failure",
                        .argument = "WHAT",
                        .help = "Of a deploy: rollback, pause or continue",
                        .complete = COMPLETE_WORDS,
                        .words = "rollback|pause|continue" },
        { .name = "drain", .argument = "TIME", .help = "How long a replaced instance serves on (5s)" },
        { .name = "pull",
                        .argument = "WHEN",
                        .help = "Ask the registry: always, missing or never",
                        .complete = COMPLETE_WORDS,
                        .words = "always|missing|never" },
        { .name = "runtime",
                        .argument = "KIND",
                        .help = "oci, or nspawn: the image is a machine to boot",
                        .complete = COMPLETE_WORDS,
                        .words = "oci|nspawn" },
        { .name = "schedule",
                        .argument = "CALENDAR",
                        .help = "When a job runs by itself, as systemd says it: daily, *:0/15" },
        { .name = "retries", .argument = "COUNT", .help = "How often a job that failed is tried again (0)" },
        { .name = "notify", .help = "An instance runs when it says READY=1" },
        { .name = "health-check-protocol",
                        .argument = "PROTOCOL",
                        .help = "Check instances by http, tcp or exec",
                        .complete = COMPLETE_WORDS,
                        .words = "http|tcp|exec" },
        { .name = "health-check-port", .argument = "PORT", .help = "Port that must answer" },
        { .name = "health-check-uri", .argument = "PATH", .help = "What is got by http (/)" },
        { .name = "health-check-command",
                        .argument = "COMMAND",
                        .help = "Command in the container that must succeed",
                        .repeat = true },
        { .name = "health-check-timeout", .argument = "TIME", .help = "Time of one check (10s)" },
        { .name = "health-check-interval", .argument = "TIME", .help = "Time between checks (1min)" },
        { .name = "health-check-initial-delay",
                        .argument = "TIME",
                        .help = "Failures do not count so long (10s)" },
        { .name = "health-check-retries", .argument = "COUNT", .help = "Failures in a row that count (1)" },
        { .name = "hook",
                        .argument = "STAGE[,oneshot][,timeout=SECONDS][,NUMBER...]:NAME:COMMAND",
                        .help = "Run a command at pre_start, post_start or pre_stop",
                        .repeat = true },
        { .name = "secret",
                        .argument = "SECRET:NAME:env|file",
                        .help = "Give a secret of the vault",
                        .repeat = true },
        { .name = "systemd",
                        .argument = "PROPERTY=VALUE",
                        .help = "Property of the units: CPUWeight=200",
                        .repeat = true },
        {},
};

const OptionDef service_create_options[] = {
        { .name = "stateful", .help = "Keep each instance on its node, with its data" },
        { .name = "type",
                        .argument = "TYPE",
                        .help = "service, or job: runs to its end",
                        .complete = COMPLETE_WORDS,
                        .words = "service|job" },
        {},
};

const OptionDef service_update_options[] = {
        { .name = "image", .argument = "IMAGE", .help = "Another image" },
        { .name = "no-privileged", .help = "Undo --privileged" },
        { .name = "no-read-only", .help = "Undo --read-only" },
        { .name = "no-notify", .help = "Undo --notify" },
        {},
};

static int bad_value(const char *option, const char *value, const char *wanted, KError *reterr) {
        return kerror_set(reterr, K_INVALID_ARGUMENT, "--%s=%s: %s.", option, value, wanted);
}

/* KEY alone stands for KEY=value of our own environment; unset there, it is left out. */
static int add_env(char ***l, const char *entry, KError *reterr) {
        const char *equal = strchr(entry, '='), *value;
        int r;

        if (equal == entry || isempty(entry))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is no environment variable: KEY=VALUE is.", entry);
        if (equal)
                r = strv_extend(l, entry);
        else {
                value = getenv(entry);
                r = value ? strv_extendf(l, "%s=%s", entry, value) : 0;
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "Out of memory.");
        return 0;
}

int env_file_parse(const char *text, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        unsigned number = 0;
        int r;

        for (const char *p = text; *p;) {
                size_t n = strcspn(p, "\n");
                _cleanup_free_ char *line = strndup(p, n);

                number++;
                p += n + (p[n] == '\n');
                if (!line)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                n = strlen(line);
                if (n > 0 && line[n - 1] == '\r')
                        line[--n] = '\0';
                if (line[strspn(line, " \t")] == '\0' || line[strspn(line, " \t")] == '#')
                        continue;

                r = add_env(&l, line + strspn(line, " \t"), reterr);
                if (r < 0) {
                        kerror_prefix(reterr, "line %u", number);
                        return r;
                }
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int command_line_split(const char *s, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *word = NULL;
        size_t n = 0;
        bool open = false;
        char quote = '\0';
        int r;

        assert(s);
        assert(ret);

        word = malloc(strlen(s) + 1);
        if (!word)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        for (const char *p = s;; p++) {
                if (*p == '\0' && quote != '\0')
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has an open quote.", s);
                if (*p == '\0' || (quote == '\0' && strchr(" \t\n", *p))) {
                        word[n] = '\0';
                        if (open) {
                                r = strv_extend(&l, word);
                                if (r < 0)
                                        return kerror_set_errno(reterr, r, "Out of memory.");
                        }
                        n = 0;
                        open = false;
                        if (*p == '\0')
                                break;
                        continue;
                }

                open = true;
                if (quote == '\0' && (*p == '\'' || *p == '"'))
                        quote = *p;
                else if (quote != '\0' && *p == quote)
                        quote = '\0';
                else if (*p == '\\' && quote != '\'') {
                        if (p[1] == '\0')
                                return kerror_set(
                                                reterr, K_INVALID_ARGUMENT, "'%s' ends in a backslash.", s);
                        /* In double quotes only these lose their backslash. */
                        if (quote == '"' && !strchr("\"\\$`", p[1]))
                                word[n++] = '\\';
                        word[n++] = *++p;
                } else
                        word[n++] = *p;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

typedef int (*field_t)(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr);

static int field_string(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        return json_add_string(spec, field, arguments_get(a, option));
}

static int field_bytes(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        const char *v = arguments_get(a, option);
        uint64_t n;

        if (parse_size(v, &n) < 0)
                return bad_value(option, v, "a size is wanted, say 512m or 2g", reterr);
        return json_add_u64(spec, field, n);
}

static int field_number(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        const char *v = arguments_get(a, option);
        uint64_t n;

        if (safe_atou64(v, &n) < 0)
                return bad_value(option, v, "a whole number is wanted", reterr);
        return json_add_u64(spec, field, n);
}

static int field_fraction(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        const char *v = arguments_get(a, option);
        double d;

        if (safe_atod(v, &d) < 0 || d < 0)
                return bad_value(option, v, "a number is wanted, say 0.5", reterr);
        return json_add_double(spec, field, d);
}

static int field_seconds(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        const char *v = arguments_get(a, option);
        uint64_t usec;

        if (parse_sec(v, &usec) < 0 || usec == USEC_INFINITY)
                return bad_value(option, v, "a time is wanted, say 30s or 5min", reterr);
        if (usec % USEC_PER_SEC != 0)
                return bad_value(option, v, "whole seconds are wanted", reterr);
        return json_add_u64(spec, field, usec / USEC_PER_SEC);
}

static int field_list(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = arguments_get_all(a, option, &l, reterr);
        if (r < 0)
                return r;
        return json_add_strv(spec, field, l);
}

/* "--cmd='sleep 10'" and "--cmd=sleep --cmd=10" are the same. */
static int field_words(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        _cleanup_strv_free_ char **all = NULL;
        int r;

        FOREACH_ARRAY(g, a->given, a->n_given) {
                _cleanup_strv_free_ char **l = NULL;

                if (!streq(g->def->name, option))
                        continue;
                r = command_line_split(g->value, &l, reterr);
                if (r < 0) {
                        kerror_prefix(reterr, "--%s", option);
                        return r;
                }
                STRV_FOREACH(word, l) {
                        r = strv_extend(&all, *word);
                        if (r < 0)
                                return r;
                }
        }

        return json_add_strv(spec, field, all);
}

static int field_true(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        return json_add_bool(spec, field, true);
}

static int field_false(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        return json_add_bool(spec, field, false);
}

static int field_ports(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        _cleanup_json_ json_object *ports = json_object_new_array();
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = arguments_get_all(a, option, &l, reterr);
        if (r < 0)
                return r;
        STRV_FOREACH(s, l) {
                r = port_option_parse(*s, ports, reterr);
                if (r < 0)
                        return r;
        }
        return json_add(spec, field, TAKE_PTR(ports));
}

/* Files first, so that --env wins over them: the last of two entries for one key counts. */
static int add_environment(json_object *spec, const Arguments *a, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        if (!arguments_has(a, "env") && !arguments_has(a, "env-file"))
                return 0;
        if (arguments_has(a, "env") && isempty(arguments_get(a, "env")))
                return json_add(spec, "env", json_object_new_array());

        FOREACH_ARRAY(g, a->given, a->n_given) {
                _cleanup_strv_free_ char **entries = NULL;
                _cleanup_free_ char *text = NULL;

                if (!streq(g->def->name, "env-file"))
                        continue;
                r = read_file(g->value, SPEC_SIZE_MAX, &text, NULL);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot read the file '%s': %m", g->value);
                r = env_file_parse(text, &entries, reterr);
                if (r < 0) {
                        kerror_prefix(reterr, "%s", g->value);
                        return r;
                }
                STRV_FOREACH(e, entries) {
                        r = strv_extend(&l, *e);
                        if (r < 0)
                                return r;
                }
        }

        FOREACH_ARRAY(g, a->given, a->n_given) {
                if (!streq(g->def->name, "env"))
                        continue;
                r = add_env(&l, g->value, reterr);
                if (r < 0)
                        return r;
        }

        return json_add_strv(spec, "env", l);
}

static const struct {
        const char *option, *field;
        field_t add;
} field_table[] = {
        { "image", "image", field_string },
        { "instances", "count", field_number },
        { "ports", "ports", field_ports },
        { "volume", "volumes", field_list },
        { "link", "links", field_list },
        { "label", "labels", field_list },
        { "affinity", "affinity", field_list },
        { "memory", "memory", field_bytes },
        { "memory-swap", "memory_swap", field_bytes },
        { "shm-size", "shm_size", field_bytes },
        { "cpus", "cpus", field_fraction },
        { "cpu-shares", "cpu_shares", field_number },
        { "pids-limit", "pids_limit", field_number },
        { "cmd", "cmd", field_words },
        { "entrypoint", "entrypoint", field_words },
        { "user", "user", field_string },
        { "working-dir", "working_dir", field_string },
        { "hostname", "hostname", field_string },
        { "privileged", "privileged", field_true },
        { "no-privileged", "privileged", field_false },
        { "read-only", "read_only", field_true },
        { "no-read-only", "read_only", field_false },
        { "cap-add", "cap_add", field_list },
        { "cap-drop", "cap_drop", field_list },
        { "device", "devices", field_list },
        { "net", "net", field_string },
        { "pid", "pid", field_string },
        { "stop-signal", "stop_signal", field_string },
        { "stop-timeout", "stop_grace_period", field_seconds },
        { "deploy-strategy", "strategy", field_string },
        { "deploy-min-health", "min_health", field_fraction },
        { "deploy-wait-for-port", "wait_for_port", field_number },
        { "deploy-interval", "interval", field_seconds },
        { "stateful", "stateful", field_true },
        { "deploy-order", "deploy_order", field_string },
        { "on-failure", "on_failure", field_string },
        { "drain", "drain", field_seconds },
        { "pull", "pull", field_string },
        { "runtime", "runtime", field_string },
        { "type", "type", field_string },
        { "schedule", "schedule", field_string },
        { "retries", "retries", field_number },
        { "notify", "notify", field_true },
        { "no-notify", "notify", field_false },
        { "hook", "hooks", field_hooks },
        { "secret", "secrets", field_secrets },
        { "systemd", "systemd", field_systemd },
};

/* Several options make one object, which replaces the whole check. */
static const struct {
        const char *option, *field;
        field_t add;
} health_table[] = {
        { "health-check-port", "port", field_number },
        { "health-check-uri", "uri", field_string },
        { "health-check-command", "command", field_words },
        { "health-check-timeout", "timeout", field_seconds },
        { "health-check-interval", "interval", field_seconds },
        { "health-check-initial-delay", "initial_delay", field_seconds },
        { "health-check-retries", "retries", field_number },
};

static int add_health_check(json_object *spec, const Arguments *a, KError *reterr) {
        const char *protocol = arguments_get(a, "health-check-protocol");
        _cleanup_json_ json_object *check = NULL;
        int r;

        if (protocol && isempty(protocol))
                return json_add_string(spec, "health_check", NULL);

        check = json_object_new_object();
        if (!check)
                return -ENOMEM;
        r = protocol ? json_add_string(check, "protocol", protocol) : 0;
        FOREACH_ARRAY(f, health_table, ELEMENTSOF(health_table)) {
                if (r < 0)
                        return r;
                if (!arguments_has(a, f->option))
                        continue;
                if (!protocol)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--%s needs --health-check-protocol: a check is given as a whole.",
                                        f->option);
                if (!isempty(arguments_get(a, f->option)))
                        r = f->add(check, f->field, a, f->option, reterr);
        }
        if (r < 0 || !protocol)
                return r;
        return json_add(spec, "health_check", TAKE_PTR(check));
}

int service_options_to_spec(const Arguments *a, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *spec = json_object_new_object();
        int r;

        if (!spec)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        FOREACH_ARRAY(f, field_table, ELEMENTSOF(field_table)) {
                const char *v = arguments_get(a, f->option);

                if (!arguments_has(a, f->option))
                        continue;
                if (v && v[0] == '\0')
                        r = json_add_string(spec, f->field, NULL);
                else
                        r = f->add(spec, f->field, a, f->option, reterr);
                if (r < 0)
                        return kerror_is_set(reterr) ? r : kerror_set_errno(reterr, r, "Out of memory.");
        }

        r = add_environment(spec, a, reterr);
        if (r >= 0)
                r = add_health_check(spec, a, reterr);
        if (r < 0)
                return kerror_is_set(reterr) ? r : kerror_set_errno(reterr, r, "Out of memory.");

        if (a->rest && a->rest[0]) {
                if (arguments_has(a, "cmd"))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The command is given twice: by --cmd and behind '--'.");
                r = json_add_strv(spec, "cmd", a->rest);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Out of memory.");
        }

        *ret = TAKE_PTR(spec);
        return 0;
}
