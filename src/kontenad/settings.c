/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "settings.h"

#include "conf-parser.h"
#include "join-token.h"
#include "log.h"
#include "string-util.h"

#define API_VERSION_DEFAULT "1.6.4"

static const ConfItem items[] = {
        { "Master", "ListenAddress", conf_set_string, offsetof(Config, listen_address) },
        { "Master", "Port", conf_set_port, offsetof(Config, port) },
        { "Master", "HttpListen", conf_set_string, offsetof(Config, http_listen) },
        { "Master", "ApiVersion", conf_set_string, offsetof(Config, api_version) },
        { "Master", "AdvertiseURL", conf_set_string, offsetof(Config, advertised_url) },
        { "Master", "ServerNames", conf_set_strv, offsetof(Config, server_names) },
        { "Master", "Certificate", conf_set_path, offsetof(Config, certificate) },
        { "Master", "PrivateKey", conf_set_path, offsetof(Config, private_key) },
        { "Master", "LogLevel", conf_set_log_level, offsetof(Config, log_level) },
};

static void warn(const ConfSource *where, int r, const char *message, void *userdata) {
        if (where->key)
                log_warning("%s:%u: %s: %s=", where->path, where->line, message, where->key);
        else
                log_warning("%s:%u: %s.", where->path, where->line, message);
}

Config *config_free(Config *c) {
        if (!c)
                return NULL;

        free(c->listen_address);
        strv_free(c->server_names);
        free(c->certificate);
        free(c->private_key);
        free(c->advertised_url);
        free(c->http_listen);
        free(c->api_version);
        free(c->state_directory);
        free(c);
        return NULL;
}

int config_load(Config **ret) {
        const char *const directories[] = {
                getenv("CONFIGURATION_DIRECTORY") ?: SYSCONFDIR "/kontena",
                "/run/kontena",
                "/usr/local/lib/kontena",
                "/usr/lib/kontena",
                NULL,
        };
        _cleanup_(config_freep) Config *c = NULL;
        int r;

        c = new0(Config, 1);
        if (!c)
                return -ENOMEM;
        c->port = JOIN_PORT_DEFAULT;
        c->log_level = log_level_from_string(getenv("KONTENA_LOG_LEVEL"));
        if (c->log_level < 0)
                c->log_level = LOG_INFO;
        c->state_directory = strdup(getenv("STATE_DIRECTORY") ?: STATEDIR "/master");
        if (!c->state_directory)
                return -ENOMEM;

        r = conf_read(directories, "kontenad.conf", items, ELEMENTSOF(items), c, warn, NULL);
        if (r < 0)
                return r;

        /* Clients compare it with their own; a header cannot have everything. */
        if (isempty(c->api_version) || strlen(c->api_version) > 32 ||
                        strspn(c->api_version, "0123456789.abcdefghijklmnopqrstuvwxyz-") !=
                                        strlen(c->api_version)) {
                if (!isempty(c->api_version))
                        log_warning("ApiVersion=%s is not a version, using " API_VERSION_DEFAULT ".",
                                        c->api_version);
                r = free_and_strdup(&c->api_version, API_VERSION_DEFAULT);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(c);
        return 0;
}
