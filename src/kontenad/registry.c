/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry.h"

#include "json-util.h"
#include "keyring.h"
#include "string-util.h"

static char *context_of(const RegistryRow *row) {
        return strjoin("registry:", row->id);
}

int registry_seal(Keyring *k, RegistryRow *row, const char *password) {
        _cleanup_free_ char *context = context_of(row);
        void *sealed;
        size_t n;
        int r;

        if (!context)
                return -ENOMEM;
        r = keyring_seal(k, context, password, strlen(password), &sealed, &n);
        if (r < 0)
                return r;

        free(row->sealed);
        row->sealed = sealed;
        row->sealed_size = n;
        return 0;
}

static int seal_for_node(Keyring *k, const RegistryRow *row, json_object *report, char **ret) {
        _cleanup_free_ char *context = context_of(row);
        void *password = NULL;
        size_t n;
        int r;

        if (!context)
                return -ENOMEM;
        r = keyring_open(k, context, row->sealed, row->sealed_size, &password, &n);
        if (r == -EBADMSG) {
                *ret = NULL;
                return 0;
        }
        if (r < 0)
                return r;
        r = keyring_seal_for_report(k, report, context, password, n, ret);
        erase_memory(password, n);
        free(password);
        return r;
}

int registry_add_to_node(Store *s, Keyring *k, const NodeRow *node, json_object *o) {
        _cleanup_(registry_row_list_done) RegistryRowList rows = {};
        json_object *l = json_object_new_array();
        int r;

        r = json_add(o, "registries", l);
        if (r >= 0)
                r = store_list_registries(s, node->grid_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, rows.rows, rows.n) {
                json_object *one = json_object_new_object();
                _cleanup_free_ char *sealed = NULL;

                r = json_append(l, one);
                if (r >= 0)
                        r = seal_for_node(k, *row, node->report, &sealed);
                if (r >= 0)
                        r = json_add_string(one, "name", (*row)->name);
                if (r >= 0)
                        r = json_add_string(one, "username", (*row)->username);
                if (r >= 0)
                        r = json_add_string(one, "sealed", sealed);
                if (r < 0)
                        return r;
        }

        return 0;
}
