/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kontena-limits.h"
#include "macro.h"
#include "pull.h"

/* What the operator configured about registries, and the request to kontena-pull that is made of it. */
typedef struct Settings {
        char *registry;
        char *ca_file;
        char *username, *password;
        char **mirrors;
        bool insecure;
} Settings;

typedef struct PullConfig {
        char *program;
        char *ca_file;
        Settings registries[REGISTRIES_MAX];
        size_t n_registries;
        RegistryCredentials credentials;
} PullConfig;

typedef struct PullRequest {
        const char *store;
        const char *normalized;
        bool resolve; /* only what it means now */
} PullRequest;

int pull_config_init(PullConfig *c);
void pull_config_done(PullConfig *c);
int pull_config_set_registry(PullConfig *c, const RegistrySettings *s);
void pull_config_clear_registries(PullConfig *c);

/* All files of certificates that any request can name. */
int pull_config_ca_files(const PullConfig *c, char ***ret);

/* One line of JSON with its newline; has passwords in it. */
int pull_request_text(const PullConfig *c, const PullRequest *q, char **ret, KError *reterr);

/* What changes whenever the credentials for the registry of an image do; NULL: there are none. */
int pull_credentials_mark(const PullConfig *c, const char *normalized, char **ret);
