/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* "KT1-<fingerprint>-<secret>": SHA-256 of the master's CA certificate (64 hexadecimal digits), and 40 characters of
 * base32 of which the first 8 name the grid. doc/node-channel.md says what each is for. */
#define JOIN_FINGERPRINT_LENGTH 64U
#define JOIN_SECRET_LENGTH      40U
#define JOIN_TOKEN_ID_LENGTH    8U
#define JOIN_TOKEN_LENGTH       (4U + JOIN_FINGERPRINT_LENGTH + 1U + JOIN_SECRET_LENGTH)

typedef struct JoinToken {
        char fingerprint[JOIN_FINGERPRINT_LENGTH + 1];
        char token_id[JOIN_TOKEN_ID_LENGTH + 1];
        char secret[JOIN_SECRET_LENGTH + 1];
} JoinToken;

/* Upper case is accepted (tokens are read out on the phone) and made lower; white space around it too. */
int join_token_parse(const char *s, JoinToken *ret, KError *reterr);
void join_token_erase(JoinToken *t);
#define _cleanup_join_token_ _cleanup_(join_token_erase)

bool join_secret_is_valid(const char *s) _pure_; /* lower-case, whole */
/* A fresh secret for the grid with this token_id; NULL: a fresh token_id too. */
int join_secret_new(const char *token_id, char **ret);
/* The text for an administrator. Erase before freeing. */
char *join_token_format(const char *fingerprint, const char *secret);

/* What a node that has joined keeps in join.conf (mode 0600, INI):
 *   [Join]
 *   URL=wss://master:9292/v1/nodes/channel
 *   Secret=...      until the master has acknowledged the node's key */
typedef struct JoinConfig {
        char *url;
        char *secret; /* NULL: no longer needed */
} JoinConfig;

void join_config_done(JoinConfig *c);
#define _cleanup_join_config_ _cleanup_(join_config_done)
/* -ENOENT without a message when there is no such file. */
int join_config_load(const char *path, JoinConfig *ret, KError *reterr);
int join_config_save(const char *path, const JoinConfig *c, KError *reterr);

/* "master", "master:9292", "https://…", "wss://…/v1/nodes/channel" all give the whole URL. */
int join_url_normalize(const char *s, char **ret, KError *reterr);
#define JOIN_PORT_DEFAULT 9292
#define JOIN_CHANNEL_PATH "/v1/nodes/channel"

/* "https://master:9292" for "wss://master:9292/v1/nodes/channel": as people write it. NULL on lack of memory. */
char *master_address(const char *url);
