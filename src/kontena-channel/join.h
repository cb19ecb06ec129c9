/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "join-token.h"
#include "kerror.h"
#include "macro.h"

/* What happens once, when a machine joins. */

/* Connects to the master and takes from the certificates it shows the one whose fingerprint the token has, after the others
 * were verified against it. The proxy is that of the environment. */
int join_fetch_ca(const char *url, const char *fingerprint, char **ret_pem, KError *reterr);

/* For who has no fingerprint yet and will ask a person: the last of the certificates that the master shows, after the others were verified
 * against it. */
int join_show_ca(const char *url, char **ret_pem, char **ret_fingerprint, KError *reterr);

/* key.pem (0600) and certificate.pem in the directory; kept if they are there and belong together. */
int join_make_key(const char *directory, KError *reterr);

/* All of it: ca.pem, key, join.conf. */
int join(const char *directory, const char *url, const JoinToken *token, KError *reterr);
