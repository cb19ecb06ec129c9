/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vault.h"

#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "string-util.h"

static char *context_of(const SecretRow *row) {
        return strjoin("secret:", row->id);
}

int vault_seal(Keyring *k, SecretRow *row, const char *value) {
        _cleanup_free_ char *context = context_of(row);
        void *sealed;
        size_t n;
        int r;

        if (!context)
                return -ENOMEM;
        r = keyring_seal(k, context, value, strlen(value), &sealed, &n);
        if (r < 0)
                return r;

        free(row->sealed);
        row->sealed = sealed;
        row->sealed_size = n;
        return 0;
}

int vault_open(Keyring *k, const SecretRow *row, char **ret) {
        _cleanup_free_ char *context = context_of(row);
        void *value;
        size_t n;
        int r;

        if (!context)
                return -ENOMEM;
        r = keyring_open(k, context, row->sealed, row->sealed_size, &value, &n);
        if (r < 0)
                return r;

        *ret = value;
        return 0;
}

int vault_check_spec(Store *s, const char *grid_id, const ServiceSpec *spec, KError *reterr) {
        FOREACH_ARRAY(u, spec->secrets, spec->n_secrets) {
                _cleanup_(secret_row_freep) SecretRow *row = NULL;
                int r;

                r = store_find_secret(s, grid_id, u->secret, &row);
                if (r == -ENOENT)
                        return kerror_set(reterr, K_NO_SUCH_SECRET,
                                        "No secret '%s' in the vault of this grid; write it with: "
                                        "kontenactl "
                                        "vault write %s",
                                        u->secret, u->secret);
                if (r < 0)
                        return r;
        }

        return 0;
}

bool vault_is_used_by(json_object *spec, const char *secret) {
        json_object *uses = NULL;

        if (!json_object_object_get_ex(spec, "secrets", &uses) ||
                        !json_object_is_type(uses, json_type_array))
                return false;
        FOREACH_JSON_ARRAY(u, uses) {
                const char *name = NULL;

                if (json_find_string(u, "secret", &name, NULL) > 0 && streq_ptr(name, secret))
                        return true;
        }
        return false;
}

/* Adds the value of one secret to those that have the same name in the container. */
static int append_value(
                Store *s, Keyring *k, const char *grid_id, const char *secret, bool first, char **value) {
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        _cleanup_erase_ char *one = NULL;
        char *joined;
        int r;

        r = store_find_secret(s, grid_id, secret, &row);
        if (r >= 0)
                r = vault_open(k, row, &one);
        if (r < 0 && r != -ENOENT)
                return r;

        joined = strjoin(strempty(*value), first ? "" : "\n", strempty(one));
        if (!joined)
                return -ENOMEM;
        erase_and_freep(value);
        *value = joined;
        return 0;
}

static bool same_target(json_object *a, json_object *b) {
        const char *x[2] = {}, *y[2] = {};

        (void) json_find_string(a, "name", &x[0], NULL);
        (void) json_find_string(b, "name", &y[0], NULL);
        (void) json_find_string(a, "type", &x[1], NULL);
        (void) json_find_string(b, "type", &y[1], NULL);
        return streq_ptr(x[0], y[0]) && streq(x[1] ?: "env", y[1] ?: "env");
}

static int add_target(Store *s, Keyring *k, const char *grid_id, json_object *report, const char *service_id,
                json_object *uses, size_t i, json_object *l) {
        json_object *use = json_object_array_get_idx(uses, i), *o;
        _cleanup_free_ char *context = NULL, *sealed = NULL;
        _cleanup_erase_ char *value = NULL;
        const char *name, *type = "env";
        bool first = true;
        int r;

        for (size_t j = 0; j < i; j++)
                if (same_target(json_object_array_get_idx(uses, j), use))
                        return 0;

        r = json_get_string(use, "name", &name, NULL);
        if (r >= 0)
                r = json_find_string(use, "type", &type, NULL);
        if (r < 0)
                return r;
        for (size_t j = i; j < json_object_array_length(uses); j++) {
                json_object *other = json_object_array_get_idx(uses, j);
                const char *secret;

                if (!same_target(use, other))
                        continue;
                r = json_get_string(other, "secret", &secret, NULL);
                if (r >= 0)
                        r = append_value(s, k, grid_id, secret, first, &value);
                if (r < 0)
                        return r;
                first = false;
        }

        context = strjoin("instance:", service_id, ":", type, ":", name);
        if (!context)
                return -ENOMEM;
        r = keyring_seal_for_report(k, report, context, value, strlen(value), &sealed);
        if (r < 0)
                return r;

        o = json_object_new_object();
        r = json_append(l, o);
        if (r >= 0)
                r = json_add_string(o, "name", name);
        if (r >= 0)
                r = json_add_string(o, "type", type);
        if (r >= 0)
                r = json_add_string(o, "sealed", sealed);
        return r;
}

int vault_add_to_instance(Store *s, Keyring *k, const char *grid_id, json_object *report,
                const InstanceRow *row, json_object *instance) {
        _cleanup_json_ json_object *l = NULL;
        json_object *uses = NULL;
        int r;

        if (!row->spec || row->desired == INSTANCE_TERMINATED ||
                        !json_object_object_get_ex(row->spec, "secrets", &uses) ||
                        !json_object_is_type(uses, json_type_array) || json_object_array_length(uses) == 0)
                return 0;

        l = json_object_new_array();
        if (!l)
                return -ENOMEM;
        for (size_t i = 0; i < json_object_array_length(uses); i++) {
                r = add_target(s, k, grid_id, report, row->service_id, uses, i, l);
                if (r < 0)
                        return r;
        }

        return json_add(instance, "secrets", TAKE_PTR(l));
}
