/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-service-body.h"

#include <ctype.h>

#include "json-util.h"
#include "rest-render.h"
#include "service-spec.h"
#include "string-util.h"

#define GRACE_SEC_LIMIT (365.0 * 24 * 3600)

/* Of the same name and meaning in both. */
static const char *const same[] = { "image", "strategy", "user", "cmd", "affinity", "cap_add", "cap_drop",
        "devices", "env", "cpus", "cpu_shares", "memory", "memory_swap", "shm_size", "privileged",
        "read_only", "volumes", "ports", "pid", "hooks" };

static const char *const deploy_opts[] = { "wait_for_port", "min_health", "interval" };

/* NULL: missing, or null. */
static json_object *field(json_object *o, const char *key) {
        json_object *v = NULL;

        if (json_object_is_type(o, json_type_object))
                (void) json_object_object_get_ex(o, key, &v);
        return v;
}

static const char *text(json_object *o, const char *key) {
        json_object *v = field(o, key);

        return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static bool has_entries(json_object *v) {
        return (json_object_is_type(v, json_type_array) && json_object_array_length(v) > 0) ||
               (json_object_is_type(v, json_type_object) && json_object_object_length(v) > 0);
}

static int copy(json_object *spec, const char *key, json_object *value) {
        return json_add(spec, key, json_object_get(value));
}

static int add_same(json_object *body, json_object *spec) {
        FOREACH_ARRAY(key, same, ELEMENTSOF(same)) {
                json_object *v = field(body, *key);
                int r = v ? copy(spec, *key, v) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

/* Words with quotes around them as in a shell, without anything that a shell would put in their place. */
static int split_words(const char *s, json_object **ret) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_free_ char *word = new0(char, strlen(s) + 1);
        size_t n = 0;
        bool in_word = false;
        char quote = 0;

        if (!l || !word)
                return -ENOMEM;
        for (; *s; s++) {
                if (quote ? *s == quote : (*s == '"' || *s == '\'')) {
                        quote = quote ? 0 : *s;
                        in_word = true;
                } else if (!quote && isspace((unsigned char) *s)) {
                        if (!in_word)
                                continue;
                        word[n] = '\0';
                        if (json_append_string(l, word) < 0)
                                return -ENOMEM;
                        n = 0;
                        in_word = false;
                } else {
                        if (*s == '\\' && s[1] && quote != '\'')
                                s++;
                        word[n++] = *s;
                        in_word = true;
                }
        }
        word[n] = '\0';
        if (in_word && json_append_string(l, word) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(l);
        return 0;
}

static int add_entrypoint(json_object *body, json_object *spec) {
        const char *s = text(body, "entrypoint");
        json_object *l;
        int r;

        if (!s)
                return 0;
        r = split_words(s, &l);
        return r < 0 ? r : json_add(spec, "entrypoint", l);
}

/* Both keys of the body; the newer one wins. */
static int add_count(json_object *body, json_object *spec) {
        json_object *v = field(body, "instances") ?: field(body, "container_count");

        return v ? copy(spec, "count", v) : 0;
}

static int refuse(json_object *refused, const char *key, const char *sentence) {
        return json_add_string(refused, key, sentence);
}

/* The alias is a name inside of the container; ours can only be the service's own. */
static int add_links(json_object *body, json_object *spec, json_object *refused) {
        _cleanup_json_ json_object *l = NULL, *errors = NULL;
        json_object *links = field(body, "links");
        int r = 0;

        if (!links)
                return 0;
        if (!json_object_is_type(links, json_type_array))
                return copy(spec, "links", links);
        l = json_object_new_array();
        errors = json_object_new_array();
        if (!l || !errors)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(link, links) {
                const char *name = text(link, "name"), *alias = text(link, "alias"), *slash;

                if (!name)
                        return refuse(refused, "links", "Links name is required");
                slash = strchr(name, '/');
                if (alias && !streq(alias, name) && !streq(alias, slash ? slash + 1 : name)) {
                        _cleanup_free_ char *sentence = strprintf(
                                        "Link %s cannot have the alias %s: services are found by their "
                                        "own names",
                                        name, alias);

                        r = sentence ? json_append_string(errors, sentence) : -ENOMEM;
                }
                REST_ADD(r, json_append_string(l, name));
                if (r < 0)
                        return r;
        }
        if (json_object_array_length(errors) > 0)
                return json_add(refused, "links", TAKE_PTR(errors));
        return json_add(spec, "links", TAKE_PTR(l));
}

static int add_secrets(json_object *body, json_object *spec) {
        _cleanup_json_ json_object *l = NULL;
        json_object *secrets = field(body, "secrets");

        if (!secrets)
                return 0;
        if (!json_object_is_type(secrets, json_type_array))
                return copy(spec, "secrets", secrets);
        l = json_object_new_array();
        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(s, secrets) {
                _cleanup_json_ json_object *row = json_object_new_object();
                const char *type = text(s, "type");
                int r = row ? 0 : -ENOMEM;

                if (field(s, "secret"))
                        REST_ADD(r, copy(row, "secret", field(s, "secret")));
                if (field(s, "name"))
                        REST_ADD(r, copy(row, "name", field(s, "name")));
                REST_ADD(r, json_add_string(row, "type", streq_ptr(type, "file") ? "file" : "env"));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(spec, "secrets", TAKE_PTR(l));
}

/* A null resets it. */
static int add_deploy_opts(json_object *body, json_object *spec, bool create) {
        json_object *opts = field(body, "deploy_opts");

        if (!json_object_is_type(opts, json_type_object))
                return 0;
        FOREACH_ARRAY(key, deploy_opts, ELEMENTSOF(deploy_opts)) {
                json_object *v = NULL;
                int r = 0;

                if (!json_object_object_get_ex(opts, *key, &v))
                        continue;
                if (v)
                        r = copy(spec, *key, v);
                else if (!create)
                        r = json_add_string(spec, *key, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_health_check(json_object *body, json_object *spec, bool create) {
        static const char *const keys[] = { "port", "protocol", "uri", "timeout", "interval",
                "initial_delay" };
        _cleanup_json_ json_object *o = NULL;
        json_object *check = field(body, "health_check");

        if (!check)
                return 0;
        if (!json_object_is_type(check, json_type_object))
                return copy(spec, "health_check", check);
        if (!field(check, "protocol"))
                return create ? 0 : json_add_string(spec, "health_check", NULL);
        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        FOREACH_ARRAY(key, keys, ELEMENTSOF(keys)) {
                json_object *v = field(check, *key);

                if (!v || (streq(*key, "uri") && !streq_ptr(text(check, "protocol"), "http")))
                        continue;
                if (copy(o, *key, v) < 0)
                        return -ENOMEM;
        }
        return json_add(spec, "health_check", TAKE_PTR(o));
}

int rest_parse_grace_period(const char *s, uint64_t *ret) {
        double seconds = 0;

        if (!*s)
                return -EINVAL;
        while (*s) {
                double n = 0, place = 1;
                bool digits = false, fraction = false;

                for (; isdigit((unsigned char) *s) || (*s == '.' && !fraction); s++) {
                        if (*s == '.') {
                                fraction = true;
                                continue;
                        }
                        digits = true;
                        if (fraction) {
                                place /= 10;
                                n += place * (*s - '0');
                        } else
                                n = n * 10 + (*s - '0');
                        if (n > GRACE_SEC_LIMIT)
                                return -ERANGE;
                }
                if (!digits || s[-1] == '.' || !*s || !strchr("hms", *s))
                        return -EINVAL;
                seconds += n * (*s == 'h' ? 3600 : *s == 'm' ? 60 : 1);
                if (seconds > GRACE_SEC_LIMIT)
                        return -ERANGE;
                s++;
        }

        *ret = (uint64_t) seconds;
        if ((double) *ret < seconds)
                (*ret)++;
        return 0;
}

static int add_stop(json_object *body, json_object *spec, json_object *refused) {
        const char *period = text(body, "stop_grace_period"), *name = text(body, "stop_signal");
        uint64_t seconds;
        int r = 0;

        if (period) {
                r = rest_parse_grace_period(period, &seconds);
                r = r < 0 ? refuse(refused, "stop_grace_period",
                                            "Stop Grace Period isn't in the right format")
                          : json_add_u64(spec, "stop_grace_period", seconds);
        } else if (field(body, "stop_grace_period"))
                r = copy(spec, "stop_grace_period", field(body, "stop_grace_period"));
        if (r >= 0 && name) {
                _cleanup_free_ char *upper = strdup(name);

                for (char *p = upper; p && *p; p++)
                        *p = (char) toupper((unsigned char) *p);
                r = upper ? json_add_string(spec, "stop_signal", upper) : -ENOMEM;
        }
        return r;
}

static int add_net(json_object *body, json_object *spec, json_object *refused) {
        const char *net = text(body, "net");

        if (!net)
                return 0;
        if (!STR_IN_SET(net, "bridge", "host"))
                return refuse(refused, "net", "Net is bridge or host; another container's is not supported");
        return json_add_string(spec, "net", net);
}

/* No certificate is kept here yet, so none exists. */
static int refuse_certificates(json_object *body, json_object *refused) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(c, field(body, "certificates")) {
                _cleanup_free_ char *sentence = strjoin(
                                "Certificate ", strempty(text(c, "subject")), " does not exist");

                if (!sentence || json_append_string(l, sentence) < 0)
                        return -ENOMEM;
        }
        return json_add(refused, "certificates", TAKE_PTR(l));
}

static int refuse_unsupported(json_object *body, json_object *refused) {
        int r = 0;

        if (json_object_is_type(field(body, "certificates"), json_type_array) &&
                        has_entries(field(body, "certificates")))
                REST_ADD(r, refuse_certificates(body, refused));
        if (has_entries(field(body, "volumes_from")))
                REST_ADD(r, refuse(refused, "volumes_from",
                                            json_object_get_boolean(field(body, "stateful"))
                                                            ? "Cannot combine stateful & volumes_from"
                                                            : "Volumes From is not supported: give both "
                                                              "services the same named volume"));
        if (!isempty(text(body, "log_driver")))
                REST_ADD(r, refuse(refused, "log_driver",
                                            "Log Driver is not supported: output goes to the journal of "
                                            "the node"));
        if (has_entries(field(body, "log_opts")))
                REST_ADD(r, refuse(refused, "log_opts",
                                            "Log Opts are not supported: output goes to the journal of "
                                            "the node"));
        return r;
}

int rest_service_body_translate(
                json_object *body, bool create, json_object **ret, json_object **ret_refused) {
        _cleanup_json_ json_object *spec = json_object_new_object(), *refused = json_object_new_object();
        int r = spec && refused ? 0 : -ENOMEM;

        REST_ADD(r, add_same(body, spec));
        if (create && field(body, "stateful"))
                REST_ADD(r, copy(spec, "stateful", field(body, "stateful")));
        if (!create) /* the reference does not let these change */
                json_object_object_del(spec, "pid");
        else
                REST_ADD(r, add_entrypoint(body, spec));
        REST_ADD(r, add_count(body, spec));
        REST_ADD(r, add_links(body, spec, refused));
        REST_ADD(r, add_secrets(body, spec));
        REST_ADD(r, add_deploy_opts(body, spec, create));
        REST_ADD(r, add_health_check(body, spec, create));
        REST_ADD(r, add_stop(body, spec, refused));
        REST_ADD(r, add_net(body, spec, refused));
        REST_ADD(r, refuse_unsupported(body, refused));
        if (r < 0)
                return r;

        if (json_object_object_length(refused) > 0) {
                *ret_refused = TAKE_PTR(refused);
                return 1;
        }
        *ret = TAKE_PTR(spec);
        return 0;
}

/* In order: a quoted name of a field, then a word that only sentences about it have. */
const char *rest_service_error_field(const KError *error) {
        static const struct {
                const char *sign, *field;
        } table[] = {
                { "'hooks'", "hooks" },
                { " of hook ", "hooks" },
                { "'secrets'", "secrets" },
                { " of secret ", "secrets" },
                { "'image'", "image" },
                { "'count'", "instances" },
                { "'stateful'", "stateful" },
                { "'strategy'", "strategy" },
                { "'wait_for_port'", "deploy_opts" },
                { "'min_health'", "deploy_opts" },
                { "'cmd'", "cmd" },
                { "'entrypoint'", "entrypoint" },
                { "'env'", "env" },
                { "'user'", "user" },
                { "'ports'", "ports" },
                { "'net'", "net" },
                { "'pid'", "pid" },
                { "'cap_add'", "cap_add" },
                { "'cap_drop'", "cap_drop" },
                { "'devices'", "devices" },
                { "'volumes'", "volumes" },
                { "'cpus'", "cpus" },
                { "'cpu_shares'", "cpu_shares" },
                { "'memory_swap'", "memory_swap" },
                { "'memory'", "memory" },
                { "'shm_size'", "shm_size" },
                { "'stop_signal'", "stop_signal" },
                { "'stop_grace_period'", "stop_grace_period" },
                { "'affinity'", "affinity" },
                { "'links'", "links" },
                { "'timeout'", "health_check" },
                { "'uri'", "health_check" },
                { "'protocol'", "health_check" },
                { "'port'", "health_check" },
                { "'interval'", "deploy_opts" },
                { "The protocol of port", "ports" },
                { "The protocol", "health_check" },
                { "environment entry", "env" },
                { "ffinity", "affinity" },
                { "hook", "hooks" },
                { "ecret", "secrets" },
                { "link", "links" },
                { "Link", "links" },
                { "mount", "volumes" },
                { "olume", "volumes" },
                { "evice", "devices" },
                { "Port", "ports" },
                { "port", "ports" },
                { "name", "name" },
        };
        const char *message = kerror_message(error);

        FOREACH_ARRAY(row, table, ELEMENTSOF(table))
                if (strstr(message, row->sign))
                        return row->field;
        return "service";
}
