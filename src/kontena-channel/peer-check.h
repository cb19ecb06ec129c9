/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <time.h>

#include "certificate.h"
#include "kerror.h"
#include "macro.h"

/* Says why the certificates that a master shows are refused: another authority than those trusted (at least one), not yet or no longer valid (with both clocks),
 * another name. 0 if nothing is wrong with them. where is the master's HOST:PORT for the sentence. */
int peer_check(const X509Chain *chain, const X509Chain *authorities, const char *host, time_t now,
                const char *where, KError *reterr);

/* The certificate of the chain that has the fingerprint; -ENOENT. */
int peer_find_authority(const X509Chain *chain, const char *fingerprint, gnutls_x509_crt_t *ret);
