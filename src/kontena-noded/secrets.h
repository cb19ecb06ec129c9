/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* The node's key for secrets: X25519. It is "kontena-node.key" in $CREDENTIALS_DIRECTORY where there is one, otherwise
 * STATE_DIRECTORY/secret.key, made on first start. (LoadCredential= gives a unit a mount namespace, which this daemon must not have: its
 * unit asks for no credential.) What the master seals to it stays sealed on the disk, and is opened only when a
 * container is prepared. Held in locked memory, erased on free. */
typedef struct Secrets Secrets;

int secrets_new(const char *state_directory, Secrets **ret, KError *reterr);
Secrets *secrets_free(Secrets *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Secrets *, secrets_free);

/* In base64: REPORT.secret_key. */
const char *secrets_public_key(const Secrets *s);

/* sealed is base64. *ret has a NUL behind it; erase_memory() it before freeing. -EBADMSG: not sealed to this key, or changed. */
int secrets_open(const Secrets *s, const char *sealed, char **ret, size_t *ret_size);
