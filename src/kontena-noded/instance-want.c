/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-want.h"

#include <ctype.h>

#include "file-util.h"
#include "image-reference.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "volume-directory.h"

#define ID_LENGTH_MAX 63U
#define SEARCH_MAX    6U /* what resolvers of old read */
#define DRAIN_MAX_SEC 3600U

static const char *const instance_goal_table[_INSTANCE_GOAL_MAX] = {
        [GOAL_RUNNING] = "running",
        [GOAL_STOPPED] = "stopped",
        [GOAL_TERMINATED] = "terminated",
};

DEFINE_STRING_TABLE_LOOKUP(instance_goal, InstanceGoal);

InstanceWant *instance_want_free(InstanceWant *w) {
        if (!w)
                return NULL;

        free(w->id);
        free(w->grid);
        free(w->stack);
        free(w->service);
        free(w->service_id);
        free(w->address);
        free(w->hostname);
        free(w->domain);
        strv_free(w->search);
        FOREACH_ARRAY(v, w->volumes, w->n_volumes) {
                free(v->spec_name);
                free(v->name);
        }
        free(w->volumes);
        FOREACH_ARRAY(s, w->secrets, w->n_secrets) {
                free(s->name);
                free(s->sealed);
        }
        free(w->secrets);
        free(w->slot);
        free(w->digest);
        free(w->rollback_digest);
        free(w->run);
        strv_free(w->hooks_done);
        service_spec_free(w->spec);
        free(w->unit);
        free(w->slice);
        free(w->name);
        free(w);
        return NULL;
}

int instance_id_validate(const char *id, KError *reterr) {
        if (isempty(id) || strlen(id) > ID_LENGTH_MAX || id[0] == '-')
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The id of an instance has 1 to %u characters.", ID_LENGTH_MAX);
        for (const char *p = id; *p; p++)
                if (!isascii(*p) || !(isalnum((unsigned char) *p) || *p == '-' || *p == '_'))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The id of an instance has letters and digits only.");

        return 0;
}

uint64_t instance_want_deploy_rev(json_object *o) {
        uint64_t v = 0;

        (void) json_find_u64(o, "deploy_rev", &v, NULL);
        return v;
}

static int get_name(json_object *o, const char *key, int (*validate)(const char *, KError *), char **ret,
                KError *reterr) {
        const char *s;
        int r;

        r = json_get_string(o, key, &s, reterr);
        if (r < 0)
                return r;
        r = validate ? validate(s, reterr) : name_validate(key, s, reterr);
        if (r < 0)
                return r;

        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

/* Lands in resolv.conf and hosts, one entry a line: no blanks, nothing that is not in a domain. */
static int find_domain(json_object *o, const char *key, char **ret, KError *reterr) {
        const char *s = NULL;
        int r;

        r = json_find_string(o, key, &s, reterr);
        if (r <= 0 || isempty(s))
                return MIN(r, 0);
        if (strlen(s) > 253 ||
                        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
                                        strlen(s))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a domain name.", key);

        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int parse_network(InstanceWant *w, json_object *o, KError *reterr) {
        const char *address = NULL;
        uint32_t ip;
        int r;

        r = find_domain(o, "hostname", &w->hostname, reterr);
        if (r >= 0)
                r = find_domain(o, "domain", &w->domain, reterr);
        if (r >= 0)
                r = json_find_strv(o, "search", &w->search, reterr);
        if (r >= 0)
                r = json_find_string(o, "address", &address, reterr);
        if (r < 0)
                return r;

        if (strv_length(w->search) > SEARCH_MAX)
                return kerror_set(
                                reterr, K_LIMIT_EXCEEDED, "'search' has more than %u entries.", SEARCH_MAX);
        STRV_FOREACH(s, w->search)
                if (isempty(*s) || strpbrk(*s, " \t\r\n") || !string_is_printable(*s))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'search' has an entry that is not a domain name.");

        if (w->spec->host_network)
                return 0;
        if (isempty(address) || parse_ipv4(address, &ip) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The instance has no valid address.");
        w->address = strdup(address);
        return w->address ? 0 : -ENOMEM;
}

static int parse_volumes(InstanceWant *w, json_object *o, KError *reterr) {
        json_object *volumes = NULL;
        int r;

        r = json_find_object(o, "volumes", &volumes, reterr);
        if (r <= 0)
                return r;
        if (json_object_object_length(volumes) > (int) LIST_ENTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "An instance has at most %u volumes.",
                                LIST_ENTRIES_MAX);
        w->volumes = new0(VolumeUse, (size_t) json_object_object_length(volumes) + 1);
        if (!w->volumes)
                return -ENOMEM;

        json_object_object_foreach(volumes, spec_name, volume) {
                VolumeUse *use = w->volumes + w->n_volumes;
                const char *name;

                r = json_get_string(volume, "name", &name, reterr);
                if (r >= 0)
                        r = volume_name_validate(name, reterr);
                if (r >= 0)
                        r = json_find_u64(volume, "size_max", &use->size_max, reterr);
                if (r < 0)
                        return r;
                w->n_volumes++;
                use->spec_name = strdup(spec_name);
                use->name = strdup(name);
                if (!use->spec_name || !use->name)
                        return -ENOMEM;
        }

        return 0;
}

/* Names become names of files: the spec's rules for them are the rules here. */
static int parse_secret(json_object *o, SealedSecret *secret, KError *reterr) {
        const char *name, *type, *sealed = NULL;
        int r;

        r = json_get_string(o, "name", &name, reterr);
        if (r >= 0)
                r = json_get_string(o, "type", &type, reterr);
        if (r >= 0)
                r = json_find_string(o, "sealed", &sealed, reterr);
        if (r < 0)
                return r;
        secret->type = secret_type_from_string(type);
        if ((int) secret->type < 0 || isempty(name) || strpbrk(name, "/=") || name[0] == '.' ||
                        !string_is_printable(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a name for a secret.", name);

        secret->name = strdup(name);
        if (sealed)
                secret->sealed = strdup(sealed);
        return !secret->name || (sealed && !secret->sealed) ? -ENOMEM : 0;
}

static int parse_secrets(InstanceWant *w, json_object *o, KError *reterr) {
        json_object *l = NULL;

        if (w->spec->n_secrets == 0 || w->goal == GOAL_TERMINATED)
                return 0;
        if (!json_object_object_get_ex(o, "secrets", &l) || !json_object_is_type(l, json_type_array))
                return kerror_set(reterr, K_NOT_SUPPORTED, "The master has not sent the service's secrets.");
        if (json_object_array_length(l) > w->spec->n_secrets)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are more secrets than the service uses.");

        w->secrets = new0(SealedSecret, json_object_array_length(l) + 1);
        if (!w->secrets)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(e, l) {
                int r = parse_secret(e, w->secrets + w->n_secrets++, reterr);

                if (r < 0)
                        return r;
        }
        return 0;
}

const VolumeUse *instance_want_volume(const InstanceWant *w, const char *spec_name) {
        FOREACH_ARRAY(v, w->volumes, w->n_volumes)
                if (streq(v->spec_name, spec_name))
                        return v;
        return NULL;
}

bool instance_want_uses_volume(const InstanceWant *w, const char *name) {
        STRV_FOREACH(s, w->spec->volumes) {
                _cleanup_(volume_mount_done) VolumeMount m = {};
                const VolumeUse *use;

                if (volume_mount_parse(*s, &m, NULL) < 0 || m.type != VOLUME_NAMED)
                        continue;
                use = instance_want_volume(w, m.source);
                if (streq(use ? use->name : m.source, name))
                        return true;
        }
        return false;
}

/* How it takes the place of another, or leaves its own. */
static int parse_deploy(InstanceWant *w, json_object *o, KError *reterr) {
        const char *slot = NULL, *digest = NULL, *rollback = NULL, *run = NULL;
        uint64_t drain = 0;
        int r;

        r = json_find_string(o, "slot", &slot, reterr);
        if (r >= 0)
                r = json_find_bool(o, "incoming", &w->incoming, reterr);
        if (r >= 0)
                r = json_find_u64(o, "drain", &drain, reterr);
        if (r >= 0)
                r = json_find_string(o, "digest", &digest, reterr);
        if (r >= 0)
                r = json_find_string(o, "rollback_digest", &rollback, reterr);
        if (r >= 0)
                r = json_find_strv(o, "hooks_done", &w->hooks_done, reterr);
        if (r >= 0)
                r = json_find_string(o, "run", &run, reterr);
        if (r < 0)
                return r;

        if (run && instance_id_validate(run, NULL) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'run' is not the id of a run.");
        if ((run != NULL) != w->spec->job)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A job has a run, and nothing else has.");
        if (!isempty(slot) && (slot[0] < 'b' || slot[0] > 'z' || slot[1]))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'slot' is neither empty nor a letter from b to z.");
        if ((digest && !digest_hex(digest)) || (rollback && !digest_hex(rollback)))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not the SHA-256 of an image.",
                                digest && !digest_hex(digest) ? "digest" : "rollback_digest");
        w->drain_usec = MIN(drain, (uint64_t) DRAIN_MAX_SEC) * USEC_PER_SEC;
        w->slot = strdup(strempty(slot));
        if (digest)
                w->digest = strdup(digest);
        if (rollback)
                w->rollback_digest = strdup(rollback);
        if (run)
                w->run = strdup(run);
        return !w->slot || (digest && !w->digest) || (rollback && !w->rollback_digest) || (run && !w->run)
                               ? -ENOMEM
                               : 0;
}

int instance_want_parse(const char *id, json_object *o, InstanceWant **ret, KError *reterr) {
        _cleanup_(instance_want_freep) InstanceWant *w = NULL;
        const char *goal, *service_id = NULL;
        json_object *spec;
        uint64_t number;
        int r;

        assert(id);
        assert(ret);

        r = instance_id_validate(id, reterr);
        if (r < 0)
                return r;

        w = new0(InstanceWant, 1);
        if (!w)
                return -ENOMEM;
        w->id = strdup(id);
        if (!w->id)
                return -ENOMEM;

        r = json_get_string(o, "desired", &goal, reterr);
        if (r < 0)
                return r;
        w->goal = instance_goal_from_string(goal);
        if ((int) w->goal < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'desired' is neither running nor stopped nor terminated.");

        r = json_get_u64(o, "number", &number, reterr);
        if (r < 0)
                return r;
        if (number == 0 || number > UINT32_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'number' is out of range.");
        w->number = (unsigned) number;

        r = get_name(o, "grid", grid_name_validate, &w->grid, reterr);
        if (r >= 0)
                r = get_name(o, "stack", NULL, &w->stack, reterr);
        if (r >= 0)
                r = get_name(o, "service", NULL, &w->service, reterr);
        if (r >= 0)
                r = json_find_string(o, "service_id", &service_id, reterr);
        if (r >= 0)
                r = json_get_u64(o, "deploy_rev", &w->deploy_rev, reterr);
        if (r >= 0)
                r = json_get_u64(o, "service_rev", &w->service_rev, reterr);
        if (r >= 0)
                r = json_find_bool(o, "force", &w->force, reterr);
        if (r >= 0)
                r = json_find_bool(o, "stateful", &w->stateful, reterr);
        if (r >= 0)
                r = json_get_object(o, "spec", &spec, reterr);
        if (r >= 0)
                r = service_spec_parse(spec, &w->spec, reterr);
        if (r >= 0)
                r = parse_network(w, o, reterr);
        if (r >= 0)
                r = parse_volumes(w, o, reterr);
        if (r >= 0)
                r = parse_secrets(w, o, reterr);
        if (r >= 0)
                r = parse_deploy(w, o, reterr);
        if (r < 0)
                return r;

        w->service_id = strdup(strempty(service_id));
        w->unit = instance_slot_unit_name(w->grid, w->stack, w->service, w->number, w->slot);
        w->slice = grid_slice_name(w->grid);
        w->name = instance_container_name(w->stack, w->service, w->number);
        if (!w->service_id || !w->unit || !w->slice || !w->name)
                return -ENOMEM;

        *ret = TAKE_PTR(w);
        return 0;
}
