/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "service-spec-internal.h"

/* Commands around an instance's life, and the secrets it is given. */

static const char *const hook_stage_table[_HOOK_STAGE_MAX] = {
        [HOOK_PRE_START] = "pre_start",
        [HOOK_POST_START] = "post_start",
        [HOOK_PRE_STOP] = "pre_stop",
};
DEFINE_STRING_TABLE_LOOKUP(hook_stage, HookStage);

static const char *const secret_type_table[_SECRET_TYPE_MAX] = {
        [SECRET_ENV] = "env",
        [SECRET_FILE] = "file",
};
DEFINE_STRING_TABLE_LOOKUP(secret_type, SecretType);

bool hook_concerns(const Hook *h, uint32_t number) {
        if (!h->instances)
                return true;
        FOREACH_ARRAY(i, h->instances, h->n_instances)
                if (*i == number)
                        return true;
        return false;
}

const Hook *service_spec_next_hook(const ServiceSpec *s, HookStage stage, unsigned number, char *const *done,
                const Hook *after) {
        FOREACH_ARRAY(h, s->hooks, s->n_hooks) {
                _cleanup_free_ char *id = NULL;

                if (h->stage != stage || (after && h <= after) || !hook_concerns(h, number))
                        continue;
                if (!h->oneshot || !done)
                        return h;
                id = hook_id(h);
                if (!id || !strv_contains(done, id))
                        return h;
        }
        return NULL;
}

uint64_t service_spec_hooks_sec(const ServiceSpec *s) {
        uint64_t sum = 0;

        FOREACH_ARRAY(h, s->hooks, s->n_hooks)
                sum += h->timeout_sec;
        return sum;
}

char *hook_id(const Hook *h) {
        return strjoin(hook_stage_to_string(h->stage), "/", h->name);
}

/* "*" or "1,3". */
static int parse_instances(const char *text, Hook *h, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        if (isempty(text) || streq(text, "*"))
                return 0;

        r = strv_split(text, ", ", &l);
        if (r < 0)
                return r;
        if (strv_length(l) == 0 || strv_length(l) > LIST_ENTRIES_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'instances' names %zu instances, 1 to %u or '*' are possible.",
                                strv_length(l), LIST_ENTRIES_MAX);
        h->instances = new0(uint32_t, strv_length(l));
        if (!h->instances)
                return -ENOMEM;
        STRV_FOREACH(i, l) {
                unsigned n;

                if (safe_atou(*i, &n) < 0 || n == 0 || n > DEPLOYED_INSTANCES_MAX)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'instances' must be '*' or numbers from 1 with commas, not "
                                        "'%.64s'.",
                                        text);
                h->instances[h->n_instances++] = n;
        }

        return 0;
}

/* Fills h in as far as it gets; its memory is the caller's in any case. */
static int parse_hook(json_object *o, Hook *h, KError *reterr) {
        static const char *const known[] = { "name", "cmd", "instances", "oneshot", "timeout" };
        const char *name, *cmd, *instances = NULL;
        uint64_t timeout = HOOK_TIMEOUT_SEC_DEFAULT;
        int r;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A hook must be an object.");
        r = spec_refuse_unknown(o, known, ELEMENTSOF(known), "A hook", reterr);
        if (r >= 0)
                r = json_get_string(o, "name", &name, reterr);
        if (r >= 0)
                r = name_validate("hook", name, reterr);
        if (r >= 0)
                r = json_get_string(o, "cmd", &cmd, reterr);
        if (r >= 0)
                r = json_find_string(o, "instances", &instances, reterr);
        if (r >= 0)
                r = json_find_bool(o, "oneshot", &h->oneshot, reterr);
        if (r >= 0)
                r = json_find_u64(o, "timeout", &timeout, reterr);
        if (r < 0)
                return r;
        if (timeout == 0 || timeout > HOOK_TIMEOUT_SEC_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'timeout' of hook '%s' must be 1 to %u seconds.", name,
                                HOOK_TIMEOUT_SEC_MAX);
        h->timeout_sec = (uint32_t) timeout;
        if (isempty(cmd) || strlen(cmd) > ENV_ENTRY_SIZE_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'cmd' of hook '%s' must have 1 to %u bytes.",
                                name, ENV_ENTRY_SIZE_MAX);

        h->name = strdup(name);
        h->cmd = strdup(cmd);
        if (!h->name || !h->cmd)
                return -ENOMEM;
        return parse_instances(instances, h, reterr);
}

static int parse_stage(json_object *hooks, HookStage stage, ServiceSpec *s, KError *reterr) {
        json_object *array;
        size_t first = s->n_hooks, n;
        Hook *l;
        int r;

        r = json_find_array(hooks, hook_stage_to_string(stage), &array, reterr);
        if (r <= 0)
                return r;
        n = json_object_array_length(array);
        if (n > HOOKS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are %zu hooks, at most %u are possible.",
                                n, HOOKS_MAX);

        l = reallocarray(s->hooks, s->n_hooks + n + 1, sizeof(Hook));
        if (!l)
                return -ENOMEM;
        s->hooks = l;

        FOREACH_JSON_ARRAY(e, array) {
                Hook *h = s->hooks + s->n_hooks++;

                *h = (Hook){ .stage = stage };
                r = parse_hook(e, h, reterr);
                if (r < 0)
                        return r;
                /* A oneshot hook that was done is remembered by its name. */
                FOREACH_ARRAY(other, s->hooks + first, s->n_hooks - first - 1)
                        if (streq(other->name, h->name))
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "There are two hooks with the name '%s'.", h->name);
        }

        return 0;
}

int spec_parse_hooks(json_object *o, ServiceSpec *s, KError *reterr) {
        json_object *hooks;
        int r;

        r = json_find_object(o, "hooks", &hooks, reterr);
        if (r <= 0)
                return r;
        r = spec_refuse_unknown(hooks, hook_stage_table, ELEMENTSOF(hook_stage_table), "'hooks'", reterr);
        if (r < 0)
                return r;

        for (HookStage stage = 0; stage < _HOOK_STAGE_MAX; stage++) {
                r = parse_stage(hooks, stage, s, reterr);
                if (r < 0) {
                        kerror_prefix(reterr, "'hooks' of %s", hook_stage_to_string(stage));
                        return r;
                }
        }

        return 0;
}

static bool variable_name_is_valid(const char *s) {
        for (const char *p = s; *p; p++)
                if (!isascii(*p) || !(isalnum((unsigned char) *p) || *p == '_'))
                        return false;
        return !isempty(s) && strlen(s) <= SECRET_NAME_MAX && !isdigit((unsigned char) s[0]);
}

static bool file_name_is_valid(const char *s) {
        return !isempty(s) && strlen(s) <= SECRET_NAME_MAX && string_is_printable(s) && !strchr(s, '/') &&
               s[0] != '.';
}

static int parse_secret(json_object *o, SecretUse *u, KError *reterr) {
        static const char *const known[] = { "secret", "name", "type" };
        const char *secret, *name, *type = NULL;
        int r;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'secrets' must be a list of objects.");
        r = spec_refuse_unknown(o, known, ELEMENTSOF(known), "A secret", reterr);
        if (r >= 0)
                r = json_get_string(o, "secret", &secret, reterr);
        if (r >= 0)
                r = json_get_string(o, "name", &name, reterr);
        if (r >= 0)
                r = json_find_string(o, "type", &type, reterr);
        if (r < 0)
                return r;

        if (!file_name_is_valid(secret))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'secret' is not the name of a secret.");
        u->type = type ? secret_type_from_string(type) : SECRET_ENV;
        if ((int) u->type < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'type' of secret '%s' must be env or file, not '%.64s'.", secret, type);
        if (u->type == SECRET_ENV && !variable_name_is_valid(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'name' of secret '%s' is not the name of a variable.", secret);
        if (u->type == SECRET_FILE && !file_name_is_valid(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'name' of secret '%s' is not the name of a file.", secret);

        u->secret = strdup(secret);
        u->name = strdup(name);
        return u->secret && u->name ? 0 : -ENOMEM;
}

int spec_parse_secrets(json_object *o, ServiceSpec *s, KError *reterr) {
        json_object *array;
        int r;

        r = json_find_array(o, "secrets", &array, reterr);
        if (r <= 0)
                return r;
        if (json_object_array_length(array) > LIST_ENTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "'secrets' has %zu entries, at most %u are possible.",
                                json_object_array_length(array), LIST_ENTRIES_MAX);
        s->secrets = new0(SecretUse, json_object_array_length(array) + 1);
        if (!s->secrets)
                return -ENOMEM;

        FOREACH_JSON_ARRAY(e, array) {
                SecretUse *u = s->secrets + s->n_secrets++;

                r = parse_secret(e, u, reterr);
                if (r < 0)
                        return r;
                FOREACH_ARRAY(other, s->secrets, s->n_secrets - 1)
                        if (other->type == u->type && streq(other->name, u->name) &&
                                        streq(other->secret, u->secret))
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "Secret '%s' is given twice as '%s'.", u->secret, u->name);
        }

        return 0;
}
