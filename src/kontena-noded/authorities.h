/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "kerror.h"

/* Whom this node takes for its master: STATE_DIRECTORY/ca.pem, read by each new connection. The master replaces it while its own
 * authority is replaced. */

/* The digest of the file (authorities-digest.h), malloc()ed; -ENOENT: the node has not joined. */
int authorities_read_digest(const char *state_directory, char **ret);

/* Replaces the file, if the text is a list of certificates and nothing else: with a broken one there is no way back to the master. */
int authorities_replace(const char *state_directory, const char *pem, KError *reterr);
int authorities_check(const char *pem, size_t size, KError *reterr);
