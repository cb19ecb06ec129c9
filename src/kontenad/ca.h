/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gnutls/abstract.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "keyring.h"
#include "macro.h"

/* The certificate the master shows. By default from a CA of its own, made on first start (STATE_DIRECTORY/tls/ca.pem, its
 * key sealed by the keyring in ca.key), which signs a server certificate for this machine's names and addresses; renewed by
 * itself before it expires and when names change. Or a certificate and key of the administrator's. */
typedef struct Ca Ca;

typedef struct CaConfig {
        const char *state_directory;           /* /var/lib/kontena/master */
        char *const *server_names;             /* ServerNames=: more host names and addresses, or NULL */
        const char *certificate, *private_key; /* PEM files, chain in order; both or neither */
} CaConfig;

int ca_new(sd_event *event, Keyring *keyring, const CaConfig *config, Ca **ret, KError *reterr);
Ca *ca_free(Ca *ca);
DEFINE_TRIVIAL_CLEANUP_FUNC(Ca *, ca_free);

/* With a new configuration (SIGHUP) or to look whether it is time to renew. On failure the old certificate stays. */
int ca_reload(Ca *ca, const CaConfig *config, KError *reterr);

/* What join tokens carry: SHA-256 in hex of the last certificate of the chain that the master shows (its CA). */
const char *ca_fingerprint(const Ca *ca);
const char *ca_certificate_pem(const Ca *ca); /* of that certificate */
uint64_t ca_expires_at(const Ca *ca);         /* of the server certificate, CLOCK_REALTIME */

/* Rotation of an authority of the master's own. From ca_rotate() on peers should trust two, from ca_rotation_finish() on the new one
 * alone, which then signs the server's certificate; connections that are open stay. It survives the death of the process at any point.
 * K_CONFLICT: the certificate is the administrator's, or nothing is under way. */
int ca_rotate(Ca *ca, KError *reterr); /* nothing when it is under way already */
int ca_rotation_finish(Ca *ca, KError *reterr);
int ca_rotation_abort(Ca *ca, KError *reterr);
const char *ca_next_fingerprint(const Ca *ca); /* NULL: no rotation is under way */
bool ca_is_own(const Ca *ca);                  /* not a certificate of the administrator's */
/* PEM of all that a peer should trust now. */
const char *ca_authorities_pem(const Ca *ca);

/* For the listener's handshakes: chain, leaf first, valid until the next ca_reload(). */
void ca_get_chain(const Ca *ca, gnutls_pcert_st **ret_chain, unsigned *ret_n, gnutls_privkey_t *ret_key);
