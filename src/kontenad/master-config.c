/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "master-config.h"

#include "file-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "store.h"
#include "string-util.h"

bool master_config_is_secret(const char *key) {
        return endswith(key, "_secret") || streq(key, "server.salt");
}

int master_config_key_validate(const char *key, KError *reterr) {
        if (isempty(key) || strlen(key) > CONFIG_KEY_LENGTH_MAX ||
                        strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
                                        strlen(key) ||
                        key[0] == '.')
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is not a key: letters, digits, '.', '_' and '-', at most %u of them.",
                                key, CONFIG_KEY_LENGTH_MAX);
        return 0;
}

int master_config_get(Master *m, const char *key, char **ret) {
        _cleanup_(config_row_freep) ConfigRow *row = NULL;
        _cleanup_free_ char *context = NULL;
        void *value;
        size_t size;
        int r;

        r = store_get_config(m->store, key, &row);
        if (r < 0)
                return r;
        if (row->value) {
                *ret = TAKE_PTR(row->value);
                return 0;
        }
        context = strjoin("config:", key);
        if (!context)
                return -ENOMEM;
        r = keyring_open(m->keyring, context, row->sealed, row->sealed_size, &value, &size);
        if (r < 0)
                return r;

        *ret = value;
        return 0;
}

int master_config_get_boolean(Master *m, const char *key, bool fallback) {
        _cleanup_free_ char *value = NULL;
        int r;

        r = master_config_get(m, key, &value);
        if (r == -ENOENT || (r >= 0 && isempty(value)))
                return fallback;
        return r < 0 ? r : parse_boolean(value);
}

int master_config_set(Master *m, const char *key, const char *value, KError *reterr) {
        _cleanup_(config_row_freep) ConfigRow *row = NULL;
        _cleanup_free_ char *context = NULL;
        int r;

        r = master_config_key_validate(key, reterr);
        if (r < 0)
                return r;
        if (strlen(value) > CONFIG_VALUE_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "The value of '%s' has more than %u bytes.", key,
                                CONFIG_VALUE_SIZE_MAX);

        row = new0(ConfigRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = strdup(key);
        row->updated_at = now_realtime();
        context = strjoin("config:", key);
        if (!row->id || !context)
                return -ENOMEM;
        if (master_config_is_secret(key))
                r = keyring_seal(m->keyring, context, value, strlen(value), &row->sealed, &row->sealed_size);
        else {
                row->value = strdup(value);
                r = row->value ? 0 : -ENOMEM;
        }

        return r < 0 ? r : store_put_config(m->store, row);
}
