/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include "kerror.h"
#include "macro.h"

/* X.509 for the node channel: what the master's CA makes, what a node makes, and how both are recognised. ECDSA over P-256
 * with SHA-256 throughout. A library of its own (libcertificate), for kontena-noded does not link GnuTLS. */

static inline void x509_crt_deinitp(gnutls_x509_crt_t *c) {
        if (*c)
                gnutls_x509_crt_deinit(*c);
}
static inline void x509_privkey_deinitp(gnutls_x509_privkey_t *k) {
        if (*k)
                gnutls_x509_privkey_deinit(*k);
}

typedef struct X509Chain {
        gnutls_x509_crt_t *certificates;
        unsigned n;
} X509Chain;

/* All certificates of a PEM text, in order. -EBADMSG when it has none. */
int x509_chain_import(X509Chain *ret, const char *pem, size_t size);
void x509_chain_done(X509Chain *c);

int certificate_key_new(gnutls_x509_privkey_t *ret, KError *reterr);

/* Authorities that were replaced, through which the one that is in use can still be verified. Not more: GnuTLS follows a chain as far as it
 * goes, and then looks for what it trusts at its end only, so that who trusts the youngest authority would not see it in front of two. */
#define CERTIFICATE_CROSSES_MAX 1U

/* A CA for ten years, named after its key. */
int certificate_authority_new(gnutls_x509_privkey_t key, gnutls_x509_crt_t *ret, KError *reterr);
/* What an authority says of the next one, whose certificate and key are given (RFC 4210 4.4: new with old): for 90 days, but not longer
 * than the authority itself. -EOPNOTSUPP: its certificate allows no other authority below it. */
int certificate_cross_new(gnutls_x509_crt_t next, gnutls_x509_privkey_t next_key,
                gnutls_x509_crt_t authority, gnutls_x509_privkey_t authority_key, gnutls_x509_crt_t *ret,
                KError *reterr);
/* A server's for 90 days; names are host names and addresses. */
int certificate_server_new(gnutls_x509_privkey_t key, gnutls_x509_crt_t authority,
                gnutls_x509_privkey_t authority_key, char *const *names, gnutls_x509_crt_t *ret,
                KError *reterr);
/* A node's, signed by itself: only its key is looked at. */
int certificate_node_new(gnutls_x509_privkey_t key, gnutls_x509_crt_t *ret, KError *reterr);

/* For tests of what must be refused: a server's certificate with times of one's choosing (seconds since 1970). */
int certificate_server_new_full(gnutls_x509_privkey_t key, gnutls_x509_crt_t authority,
                gnutls_x509_privkey_t authority_key, char *const *names, time_t activation,
                time_t expiration, gnutls_x509_crt_t *ret, KError *reterr);

uint64_t certificate_expires_at(gnutls_x509_crt_t c); /* microseconds since 1970; 0: unknown */
bool certificate_is_issued_by(gnutls_x509_crt_t c, gnutls_x509_crt_t issuer); /* the signature is checked */
bool certificate_is_for(gnutls_x509_crt_t c, gnutls_x509_privkey_t key);
bool certificate_has_key_of(gnutls_x509_crt_t c, gnutls_x509_crt_t other); /* subject and key are equal */
bool certificate_is_for_privkey(gnutls_x509_crt_t c, gnutls_privkey_t key);
/* True if the certificate is for all of the names and no others. */
bool certificate_has_names(gnutls_x509_crt_t c, char *const *names);
int certificate_list_names(gnutls_x509_crt_t c, char ***ret);
int certificate_common_name(gnutls_x509_crt_t c, char **ret); /* -ENODATA: none */

/* SHA-256 in hex, of the certificate and of its public key (SubjectPublicKeyInfo). */
int certificate_fingerprint(gnutls_x509_crt_t c, char **ret);
int certificate_key_fingerprint(gnutls_x509_crt_t c, char **ret);
int certificate_export_pem(gnutls_x509_crt_t c, char **ret);
