/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ca.h"

#include "certificate.h"

/* Shared by ca.c (what is shown) and ca-rotation.c (what comes next). Names are of files in Ca.directory. */

#define CA_KEY             "ca.key"
#define CA_CERTIFICATE     "ca.pem"
#define NEXT_KEY           "next-ca.key" /* sealed as CA_KEY, which it becomes */
#define NEXT_CERTIFICATE   "next-ca.pem"
#define SERVER_KEY         "server.key"
#define SERVER_CERTIFICATE "server.pem"

/* What is shown in handshakes. An older one may still be in use by a handshake that is half done. */
typedef struct Shown {
        gnutls_pcert_st *chain;
        unsigned n_chain;
        gnutls_privkey_t key;
} Shown;

struct Ca {
        sd_event_source *timer;
        Keyring *keyring;

        char *directory; /* STATE_DIRECTORY/tls */
        char **server_names;
        char *certificate, *private_key; /* the administrator's */

        Shown shown, previous;
        char *pem, *fingerprint;
        char *next_pem, *next_fingerprint; /* NULL: no rotation is under way */
        char *authorities;
        uint64_t expires_at;
};

/* ca.c */
int ca_gnutls_error(int e, const char *what, KError *reterr);
char *ca_path_of(Ca *ca, const char *name);
int ca_save_key(Ca *ca, const char *name, const char *context, gnutls_x509_privkey_t key, KError *reterr);
int ca_load_key(Ca *ca, const char *name, const char *context, gnutls_x509_privkey_t *ret,
                KError *reterr); /* -ENOENT */
int ca_save_certificate(Ca *ca, const char *name, gnutls_x509_crt_t crt, KError *reterr);
int ca_load_certificate(Ca *ca, const char *name, gnutls_x509_crt_t *ret, KError *reterr); /* -ENOENT */
int ca_describe(gnutls_x509_crt_t crt, char **ret_pem, char **ret_fingerprint);
int ca_use(Ca *ca, KError *reterr); /* reads and makes anew what is shown; on failure the old stays */

/* ca-cross.c: what authorities that were replaced say of the one in use, the youngest first; none is no failure. What the one in use says of
 * the next is added before it is replaced. */
int ca_cross_load(Ca *ca, gnutls_x509_crt_t authority, X509Chain *ret, KError *reterr);
int ca_cross_save(Ca *ca, gnutls_x509_crt_t next, gnutls_x509_privkey_t next_key, KError *reterr);

/* ca-rotation.c: completes what a death or a failure between two steps has left on the disk, and says what is under way there; NULL: nothing.
 * Nothing in ca changes. */
int ca_rotation_recover(Ca *ca, char **ret_next_pem, char **ret_next_fingerprint, KError *reterr);
