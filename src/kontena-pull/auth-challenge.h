/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What a registry asks for in WWW-Authenticate. */
typedef enum AuthScheme {
        AUTH_NONE, /* nothing that we can do */
        AUTH_BASIC,
        AUTH_BEARER,
        _AUTH_SCHEME_MAX,
        _AUTH_SCHEME_INVALID = -EINVAL,
} AuthScheme;

typedef struct AuthChallenge {
        AuthScheme scheme;
        char *realm; /* bearer: the URL that hands out tokens */
        char *service;
        char *scope;
        char *error; /* "invalid_token", "insufficient_scope" */
} AuthChallenge;

void auth_challenge_done(AuthChallenge *c);
#define _cleanup_auth_challenge_ _cleanup_(auth_challenge_done)

/* Reads the value of one header field, which may hold several challenges; bearer is preferred. What is there in *c
 * already (of an earlier field) stays unless this one has better. -EINVAL for what is not a challenge; -ENOMEM. */
int auth_challenge_parse(const char *value, AuthChallenge *c);
