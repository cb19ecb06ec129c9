/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "parse-util.h"
#include "service-options.h"
#include "service-spec.h"
#include "string-util.h"

/* Options whose values have parts: hooks, secrets, properties of units. */

int secret_option_parse(const char *s, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_strv_free_ char **parts = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = strv_split(s, ":", &parts);
        if (r < 0)
                return r;
        if (strv_length(parts) != 3 || strstr(s, "::") || s[0] == ':' || endswith(s, ":"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--secret=%s: SECRET:NAME:env or SECRET:NAME:file is wanted.", s);

        r = json_add_string(o, "secret", parts[0]);
        if (r >= 0)
                r = json_add_string(o, "name", parts[1]);
        if (r >= 0)
                r = json_add_string(o, "type", parts[2]);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int field_secrets(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        _cleanup_json_ json_object *l = json_object_new_array();
        int r;

        if (!l)
                return -ENOMEM;
        FOREACH_ARRAY(g, a->given, a->n_given) {
                json_object *o;

                if (!streq(g->def->name, option))
                        continue;
                r = secret_option_parse(g->value, &o, reterr);
                if (r >= 0)
                        r = json_append(l, o);
                if (r < 0)
                        return r;
        }

        return json_add(spec, field, TAKE_PTR(l));
}

/* "pre_start,oneshot,timeout=5,1,2:NAME:COMMAND"; the command is the rest, with its colons. */
int hook_option_parse(const char *s, HookStage *ret_stage, json_object **ret, KError *reterr) {
        static const char wanted[] = "STAGE[,oneshot][,timeout=SECONDS][,NUMBER...]:NAME:COMMAND is wanted, "
                                     "STAGE pre_start, post_start or pre_stop";
        _cleanup_free_ char *head = NULL, *name = NULL, *instances = NULL;
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_strv_free_ char **words = NULL, **numbers = NULL;
        const char *first = strchr(s, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        bool oneshot = false;
        uint64_t timeout = 0;
        HookStage stage;
        int r;

        if (!o)
                return -ENOMEM;
        if (!second || second == first + 1 || second[1] == '\0')
                return kerror_set(reterr, K_INVALID_ARGUMENT, "--hook=%s: %s.", s, wanted);
        head = strndup(s, (size_t) (first - s));
        name = strndup(first + 1, (size_t) (second - first - 1));
        if (!head || !name)
                return -ENOMEM;
        r = strv_split(head, ",", &words);
        if (r < 0)
                return r;
        stage = words && words[0] ? hook_stage_from_string(words[0]) : _HOOK_STAGE_INVALID;
        if ((int) stage < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "--hook=%s: %s.", s, wanted);
        STRV_FOREACH(w, words + 1) {
                const char *seconds = startswith(*w, "timeout=");

                if (streq(*w, "oneshot")) {
                        oneshot = true;
                        continue;
                }
                if (seconds) {
                        if (safe_atou64(seconds, &timeout) < 0 || timeout == 0)
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "--hook=%s: '%s' is not a number of seconds.", s, seconds);
                        continue;
                }
                r = strv_extend(&numbers, *w);
                if (r < 0)
                        return r;
        }
        if (numbers) {
                instances = strv_join(numbers, ",");
                if (!instances)
                        return -ENOMEM;
        }

        r = json_add_string(o, "name", name);
        if (r >= 0)
                r = json_add_string(o, "cmd", second + 1);
        if (r >= 0 && instances)
                r = json_add_string(o, "instances", instances);
        if (r >= 0 && oneshot)
                r = json_add_bool(o, "oneshot", true);
        if (r >= 0 && timeout > 0)
                r = json_add_u64(o, "timeout", timeout);
        if (r < 0)
                return r;

        *ret_stage = stage;
        *ret = TAKE_PTR(o);
        return 0;
}

int field_hooks(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        _cleanup_json_ json_object *hooks = json_object_new_object();
        int r;

        if (!hooks)
                return -ENOMEM;
        FOREACH_ARRAY(g, a->given, a->n_given) {
                _cleanup_json_ json_object *o = NULL;
                json_object *l = NULL;
                HookStage stage;

                if (!streq(g->def->name, option))
                        continue;
                r = hook_option_parse(g->value, &stage, &o, reterr);
                if (r < 0)
                        return r;
                if (!json_object_object_get_ex(hooks, hook_stage_to_string(stage), &l)) {
                        l = json_object_new_array();
                        r = json_add(hooks, hook_stage_to_string(stage), l);
                        if (r < 0)
                                return r;
                }
                r = json_append(l, TAKE_PTR(o));
                if (r < 0)
                        return r;
        }

        return json_add(spec, field, TAKE_PTR(hooks));
}

int field_systemd(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr) {
        _cleanup_json_ json_object *settings = json_object_new_object();
        int r;

        if (!settings)
                return -ENOMEM;
        FOREACH_ARRAY(g, a->given, a->n_given) {
                _cleanup_free_ char *property = NULL;
                const char *equal;

                if (!streq(g->def->name, option))
                        continue;
                equal = strchr(g->value, '=');
                if (!equal || equal == g->value)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--systemd=%s: PROPERTY=VALUE is wanted, say CPUWeight=200.",
                                        g->value);
                property = strndup(g->value, (size_t) (equal - g->value));
                if (!property)
                        return -ENOMEM;
                r = json_add_string(settings, property, equal + 1);
                if (r < 0)
                        return r;
        }

        return json_add(spec, field, TAKE_PTR(settings));
}

static const char *text_of(json_object *o, const char *key) {
        return strempty(json_object_get_string(json_object_object_get(o, key)));
}

static int hooks_to_list(json_object *hooks, char ***l) {
        int r;

        for (HookStage stage = 0; stage < _HOOK_STAGE_MAX; stage++)
                FOREACH_JSON_ARRAY(h, json_object_object_get(hooks, hook_stage_to_string(stage))) {
                        const char *instances = text_of(h, "instances");
                        bool all = isempty(instances) || streq(instances, "*");
                        const char *timeout = text_of(h, "timeout");

                        r = strv_extendf(l, "%s%s%s%s%s%s:%s:%s", hook_stage_to_string(stage),
                                        json_object_get_boolean(json_object_object_get(h, "oneshot"))
                                                        ? ",oneshot"
                                                        : "",
                                        isempty(timeout) ? "" : ",timeout=", timeout, all ? "" : ",",
                                        all ? "" : instances, text_of(h, "name"), text_of(h, "cmd"));
                        if (r < 0)
                                return r;
                }

        return 0;
}

int service_part_to_text(const char *field, json_object *value, char **ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r = 0;

        assert(field);
        assert(ret);

        if (streq(field, "hooks"))
                r = hooks_to_list(value, &l);
        else if (streq(field, "secrets")) {
                FOREACH_JSON_ARRAY(u, value)
                        if (r >= 0)
                                r = strv_extendf(&l, "%s:%s:%s", text_of(u, "secret"), text_of(u, "name"),
                                                empty_to_null(text_of(u, "type")) ?: "env");
        } else if (json_object_is_type(value, json_type_object)) {
                json_object_object_foreach(value, key, part)
                        if (r >= 0)
                                r = strv_extendf(&l, "%s=%s", key, strempty(json_object_get_string(part)));
        }
        if (r < 0)
                return r;
        if (!l) {
                *ret = NULL;
                return 0;
        }

        *ret = strv_join(l, ", ");
        return *ret ? 0 : -ENOMEM;
}
