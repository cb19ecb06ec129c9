/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <syslog.h>
#include <unistd.h>

#include "conf-parser.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "parse-util.h"
#include "string-util.h"

#define REGISTRIES_CONFIGURED_MAX 256U
#define PASSWORD_SIZE_MAX         4096U
#define WIREGUARD_PORT            51820
#define IMAGE_KEEP_DEFAULT_USEC   (3600 * USEC_PER_SEC)

NodeConfig *node_config_free(NodeConfig *c) {
        if (!c)
                return NULL;

        free(c->name);
        strv_free(c->labels);
        free(c->state_directory);
        free(c->instances_directory);
        free(c->images_directory);
        free(c->volumes_directory);
        free(c->run_directory);
        free(c->runtime);
        free(c->underlay_interface);
        free(c->public_address);
        free(c->private_address);
        free(c->image_ca_file);
        FOREACH_ARRAY(r, c->registries, c->n_registries) {
                free(r->name);
                free(r->username);
                if (r->password)
                        erase_memory(r->password, strlen(r->password));
                free(r->password);
                free(r->password_file);
                free(r->ca_file);
                strv_free(r->mirrors);
        }
        free(c->registries);
        free(c);
        return NULL;
}

/* [Registry NAME]: each name is one entry, found or made by the section of the line. */
static int registry_of(const ConfSource *where, NodeConfig *c, RegistryConfig **ret) {
        const char *name = startswith(where->section, "Registry ");
        RegistryConfig *larger;

        if (isempty(name))
                return -EINVAL;
        FOREACH_ARRAY(r, c->registries, c->n_registries)
                if (streq(r->name, name)) {
                        *ret = r;
                        return 0;
                }

        if (c->n_registries == REGISTRIES_CONFIGURED_MAX)
                return -ERANGE;
        larger = reallocarray(c->registries, c->n_registries + 1, sizeof(RegistryConfig));
        if (!larger)
                return -ENOMEM;
        c->registries = larger;
        larger += c->n_registries;
        *larger = (RegistryConfig){ .name = strdup(name) };
        if (!larger->name)
                return -ENOMEM;
        c->n_registries++;

        *ret = larger;
        return 0;
}

static int set_registry(const ConfSource *where, const char *value, void *field) {
        RegistryConfig *registry;
        int r;

        r = registry_of(where, field, &registry);
        if (r < 0)
                return r;

        if (streq(where->key, "Username"))
                return conf_set_string(where, value, &registry->username);
        if (streq(where->key, "Password"))
                return conf_set_string(where, value, &registry->password);
        if (streq(where->key, "PasswordFile"))
                return conf_set_path(where, value, &registry->password_file);
        if (streq(where->key, "CertificateAuthority"))
                return conf_set_path(where, value, &registry->ca_file);
        if (streq(where->key, "Mirrors"))
                return conf_set_strv(where, value, &registry->mirrors);
        return conf_set_bool(where, value, &registry->insecure);
}

static int set_address(const ConfSource *where, const char *value, void *field) {
        uint32_t address;

        if (!isempty(value) && parse_ipv4(value, &address) < 0)
                return -EINVAL;
        return conf_set_string(where, value, field);
}

static int set_wireguard(const ConfSource *where, const char *value, void *field) {
        WireguardMode mode = isempty(value) ? WIREGUARD_AUTO : wireguard_mode_from_string(value);

        if (mode < 0)
                return mode;
        *(WireguardMode *) field = mode;
        return 0;
}

/* The next one is taken as well. */
static int set_wireguard_port(const ConfSource *where, const char *value, void *field) {
        uint16_t port;
        int r;

        r = parse_port(value, &port);
        if (r < 0)
                return r;
        if (port == UINT16_MAX)
                return -ERANGE;
        *(uint16_t *) field = port;
        return 0;
}

static const ConfItem items[] = {
        { "Node", "Name", conf_set_string, offsetof(NodeConfig, name) },
        { "Node", "Labels", conf_set_strv, offsetof(NodeConfig, labels) },
        { "Node", "LogLevel", conf_set_log_level, offsetof(NodeConfig, log_level) },
        { "Node", "Runtime", conf_set_string, offsetof(NodeConfig, runtime) },
        { "Node", "StateDirectory", conf_set_path, offsetof(NodeConfig, state_directory) },
        { "Node", "InstancesDirectory", conf_set_path, offsetof(NodeConfig, instances_directory) },
        { "Node", "VolumesDirectory", conf_set_path, offsetof(NodeConfig, volumes_directory) },
        { "Network", "Interface", conf_set_string, offsetof(NodeConfig, underlay_interface) },
        { "Network", "PublicAddress", set_address, offsetof(NodeConfig, public_address) },
        { "Network", "PrivateAddress", set_address, offsetof(NodeConfig, private_address) },
        { "Network", "WireGuard", set_wireguard, offsetof(NodeConfig, wireguard) },
        { "Network", "WireGuardPort", set_wireguard_port, offsetof(NodeConfig, wireguard_port) },
        { "Images", "Directory", conf_set_path, offsetof(NodeConfig, images_directory) },
        { "Images", "RegistryCA", conf_set_path, offsetof(NodeConfig, image_ca_file) },
        { "Images", "KeepUnusedSec", conf_set_sec, offsetof(NodeConfig, image_keep_usec) },
        { "Registry *", "Username", set_registry, 0 },
        { "Registry *", "Password", set_registry, 0 },
        { "Registry *", "PasswordFile", set_registry, 0 },
        { "Registry *", "CertificateAuthority", set_registry, 0 },
        { "Registry *", "Mirrors", set_registry, 0 },
        { "Registry *", "Insecure", set_registry, 0 },
};

static void on_odd_line(const ConfSource *where, int r, const char *message, void *userdata) {
        log_warning("%s:%u: %s%s%s%s%s: %s", where->path, where->line, where->section ? "[" : "",
                        strempty(where->section), where->section ? "] " : "", strempty(where->key),
                        where->key ? "=" : "", message);
}

static int set_default(char **field, const char *value) {
        if (*field)
                return 0;
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

static int set_defaults(NodeConfig *c) {
        char name[NAME_LENGTH_MAX + 1] = "localhost";
        int r;

        if (gethostname(name, sizeof(name)) < 0)
                log_warning_errno(-errno, "Cannot read the host name, using '%s': %m", name);
        name[sizeof(name) - 1] = '\0';
        name[strcspn(name, ".")] = '\0';

        r = set_default(&c->name, name);
        if (r >= 0)
                r = set_default(&c->state_directory, STATEDIR "/node");
        if (r >= 0)
                r = set_default(&c->instances_directory, STATEDIR "/instances");
        if (r >= 0)
                r = set_default(&c->images_directory, STATEDIR "/images");
        if (r >= 0)
                r = set_default(&c->volumes_directory, STATEDIR "/volumes");
        if (r >= 0)
                r = set_default(&c->run_directory, "/run/kontena");
        return r;
}

static void read_passwords(NodeConfig *c) {
        FOREACH_ARRAY(registry, c->registries, c->n_registries) {
                _cleanup_erase_ char *text = NULL;
                int r;

                if (registry->password || !registry->password_file)
                        continue;
                r = read_file(registry->password_file, PASSWORD_SIZE_MAX, &text, NULL);
                if (r < 0) {
                        log_warning_errno(r, "Cannot read '%s', using registry '%s' without a password: %m",
                                        registry->password_file, registry->name);
                        continue;
                }
                text[strcspn(text, "\r\n")] = '\0';
                registry->password = TAKE_PTR(text);
        }
}

int node_config_load(const char *const *directories, NodeConfig **ret) {
        _cleanup_(node_config_freep) NodeConfig *c = NULL;
        int r;

        c = new0(NodeConfig, 1);
        if (!c)
                return -ENOMEM;
        c->log_level = log_level_from_string(getenv("KONTENA_LOG_LEVEL"));
        if (c->log_level < 0)
                c->log_level = LOG_INFO;
        c->wireguard = WIREGUARD_AUTO;
        c->wireguard_port = WIREGUARD_PORT;
        c->image_keep_usec = IMAGE_KEEP_DEFAULT_USEC;

        r = conf_read(directories ?: CONF_DIRECTORIES, "noded.conf", items, ELEMENTSOF(items), c,
                        on_odd_line, NULL);
        if (r >= 0)
                r = set_defaults(c);
        if (r < 0)
                return r;
        read_passwords(c);

        *ret = TAKE_PTR(c);
        return 0;
}
