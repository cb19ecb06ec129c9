/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* /etc/kontena/kontenad.conf and its drop-ins. (Not "config.h": that is the build's.) */
typedef struct Config {
        char *listen_address;            /* ListenAddress=; NULL: all */
        uint16_t port;                   /* Port= */
        char **server_names;             /* ServerNames= */
        char *certificate, *private_key; /* Certificate=, PrivateKey= */
        char *advertised_url;            /* AdvertiseURL=; NULL: from the host name */
        char *http_listen;               /* HttpListen=; NULL: no plain HTTP */
        char *api_version;     /* ApiVersion=: of the original, which its clients compare with theirs */
        int log_level;         /* LogLevel= */
        char *state_directory; /* $STATE_DIRECTORY, else /var/lib/kontena/master */
} Config;

/* From $CONFIGURATION_DIRECTORY, or /etc/kontena, and the other usual places. */
int config_load(Config **ret);
Config *config_free(Config *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Config *, config_free);
