/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "credentials.h"

#include "image-reference.h"
#include "json-util.h"
#include "string-util.h"

typedef struct Entry {
        const char *username, *sealed;
} Entry;

static bool find(json_object *registries, const char *registry, Entry *ret) {
        FOREACH_JSON_ARRAY(o, registries) {
                const char *name = NULL;
                Entry e = {};

                if (json_find_string(o, "name", &name, NULL) <= 0 ||
                                !streq(registry_canonical(name), registry_canonical(registry)))
                        continue;
                /* What cannot be read is as good as sealed to another key. */
                (void) json_find_string(o, "username", &e.username, NULL);
                (void) json_find_string(o, "sealed", &e.sealed, NULL);
                *ret = e;
                return true;
        }

        return false;
}

int credentials_open(json_object *registries, const Secrets *key, const char *registry, char **ret_username,
                char **ret_password, KError *reterr) {
        _cleanup_erase_ char *password = NULL;
        char *username;
        size_t n = 0;
        Entry e;
        int r;

        if (!find(registries, registry, &e))
                return 0;
        if (isempty(e.username) || !e.sealed || !key)
                r = -EBADMSG;
        else
                r = secrets_open(key, e.sealed, &password, &n);
        if (r >= 0 && strlen(password) != n)
                r = -EBADMSG;
        if (r == -EBADMSG)
                return kerror_set(reterr, K_IMAGE,
                                "The grid's credentials for registry '%s' are not sealed to this node's "
                                "key; add them again with: kontenactl registry add %s",
                                registry, registry);
        if (r < 0)
                return r;

        username = strdup(e.username);
        if (!username)
                return -ENOMEM;
        *ret_username = username;
        *ret_password = TAKE_PTR(password);
        return 1;
}

int credentials_mark(json_object *registries, const char *registry, char **ret) {
        Entry e;

        *ret = NULL;
        if (!find(registries, registry, &e))
                return 0;
        *ret = strjoin(strempty(e.username), "\n", strempty(e.sealed));
        return *ret ? 0 : -ENOMEM;
}
