/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-internal.h"

int bus_path_grid(const char *grid, char **ret) {
        return sd_bus_path_encode(MASTER_PATH "/grid", grid, ret);
}

int bus_path_node(const char *grid, const char *node, char **ret) {
        return sd_bus_path_encode_many(ret, MASTER_PATH "/node/%/%", grid, node);
}

int bus_path_service(const char *grid, const char *stack, const char *service, char **ret) {
        return sd_bus_path_encode_many(ret, MASTER_PATH "/service/%/%/%", grid, stack, service);
}

int bus_path_id(const char *kind, const char *id, char **ret) {
        _cleanup_free_ char *prefix = NULL;
        int r;

        r = sd_bus_path_encode(MASTER_PATH, kind, &prefix);
        if (r < 0)
                return r;
        return sd_bus_path_encode(prefix, id, ret);
}
