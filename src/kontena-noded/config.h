/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "wireguard-mode.h"

/* /etc/kontena/noded.conf and its drop-ins. */
typedef struct RegistryConfig {
        char *name; /* "registry:5000" */
        char *username, *password, *password_file;
        char *ca_file;
        char **mirrors;
        bool insecure;
} RegistryConfig;

typedef struct NodeConfig {
        char *name; /* NULL: the host name */
        char **labels;
        int log_level;
        char *state_directory; /* /var/lib/kontena/node */
        char *instances_directory, *images_directory, *volumes_directory;
        char *run_directory; /* /run/kontena */
        char *runtime;       /* NULL: the first that is installed */
        char *underlay_interface;
        char *public_address, *private_address;
        WireguardMode wireguard;
        uint16_t wireguard_port; /* and the next one */
        char *image_ca_file;
        uint64_t image_keep_usec; /* how long an unused image stays */
        RegistryConfig *registries;
        size_t n_registries;
} NodeConfig;

NodeConfig *node_config_free(NodeConfig *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(NodeConfig *, node_config_free);

/* Defaults, then the files. Odd lines are warned about. directories: see conf_read(); NULL: the usual ones. */
int node_config_load(const char *const *directories, NodeConfig **ret);
