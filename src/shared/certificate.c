/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "certificate.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <sys/random.h>
#include <time.h>

#include "string-util.h"

#define DAY              ((time_t) (24 * 3600))
#define AUTHORITY_DAYS   3652
#define SERVER_DAYS      90
#define CROSS_DAYS       90
#define PATH_LENGTH      4               /* of authorities, so that more of them may be shown one day */
#define NODE_DAYS        36524           /* the key counts, not the date */
#define CLOCK_SKEW       ((time_t) 3600) /* of nodes that are a little behind */
#define CERTIFICATES_MAX 16U
#define NAMES_MAX        256U

static int gnutls_error(int e, const char *what, KError *reterr) {
        if (e == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        return kerror_set(reterr, K_INTERNAL, "%s: %s.", what, gnutls_strerror(e));
}

int x509_chain_import(X509Chain *ret, const char *pem, size_t size) {
        X509Chain c = {};
        int r;

        assert(ret);

        r = gnutls_x509_crt_list_import2(&c.certificates, &c.n,
                        &(gnutls_datum_t){ (unsigned char *) pem, (unsigned) size }, GNUTLS_X509_FMT_PEM, 0);
        if (r == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        if (r < 0)
                return -EBADMSG;
        if (c.n == 0 || c.n > CERTIFICATES_MAX) {
                x509_chain_done(&c);
                return -EBADMSG;
        }

        *ret = c;
        return 0;
}

void x509_chain_done(X509Chain *c) {
        for (unsigned i = 0; i < c->n; i++)
                gnutls_x509_crt_deinit(c->certificates[i]);
        gnutls_free(c->certificates);
        *c = (X509Chain){};
}

int certificate_key_new(gnutls_x509_privkey_t *ret, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        int r;

        assert(ret);

        r = gnutls_x509_privkey_init(&key);
        if (r >= 0)
                r = gnutls_x509_privkey_generate(
                                key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
        if (r < 0)
                return gnutls_error(r, "A private key cannot be made", reterr);

        *ret = TAKE_PTR(key);
        return 0;
}

static int set_serial(gnutls_x509_crt_t crt) {
        uint8_t serial[16];

        if (getrandom(serial, sizeof(serial), 0) != (ssize_t) sizeof(serial))
                return GNUTLS_E_RANDOM_FAILED;
        serial[0] = (uint8_t) ((serial[0] & 0x7f) | 0x40); /* positive and of one length */
        return gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
}

static int set_key_id(gnutls_x509_crt_t crt, gnutls_x509_crt_t authority) {
        uint8_t id[64];
        size_t n = sizeof(id);
        int r;

        r = gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, id, &n);
        if (r < 0)
                return r;
        r = gnutls_x509_crt_set_subject_key_id(crt, id, n);
        if (r < 0)
                return r;

        n = sizeof(id);
        r = gnutls_x509_crt_get_subject_key_id(authority, id, &n, NULL);
        if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                return 0;
        if (r < 0)
                return r;
        return gnutls_x509_crt_set_authority_key_id(crt, id, n);
}

typedef struct Template {
        const char *common_name;
        time_t activation, expiration;
        bool authority;
        int path_length; /* of an authority: how many others may stand between it and a server */
        unsigned usage;
        const char *purpose;
        char *const *names;
} Template;

static int set_names(gnutls_x509_crt_t crt, char *const *names) {
        int r;

        STRV_FOREACH(name, names) {
                struct in6_addr a;

                if (inet_pton(AF_INET, *name, &a) == 1)
                        r = gnutls_x509_crt_set_subject_alt_name(
                                        crt, GNUTLS_SAN_IPADDRESS, &a, 4, GNUTLS_FSAN_APPEND);
                else if (inet_pton(AF_INET6, *name, &a) == 1)
                        r = gnutls_x509_crt_set_subject_alt_name(
                                        crt, GNUTLS_SAN_IPADDRESS, &a, 16, GNUTLS_FSAN_APPEND);
                else
                        r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, *name,
                                        (unsigned) strlen(*name), GNUTLS_FSAN_APPEND);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Without an authority it is signed by itself. */
static int certificate_new(const Template *t, gnutls_x509_privkey_t key, gnutls_x509_crt_t authority,
                gnutls_x509_privkey_t authority_key, gnutls_x509_crt_t *ret, KError *reterr) {
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r;

        r = gnutls_x509_crt_init(&crt);
        if (r >= 0)
                r = gnutls_x509_crt_set_version(crt, 3);
        if (r >= 0)
                r = set_serial(crt);
        if (r >= 0)
                r = gnutls_x509_crt_set_activation_time(crt, t->activation);
        if (r >= 0)
                r = gnutls_x509_crt_set_expiration_time(crt, t->expiration);
        if (r >= 0)
                r = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, t->common_name,
                                (unsigned) strlen(t->common_name));
        if (r >= 0)
                r = gnutls_x509_crt_set_key(crt, key);
        if (r >= 0)
                r = t->authority ? gnutls_x509_crt_set_basic_constraints(crt, 1, t->path_length)
                                 : gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
        if (r >= 0)
                r = gnutls_x509_crt_set_key_usage(crt, t->usage);
        if (r >= 0 && t->purpose)
                r = gnutls_x509_crt_set_key_purpose_oid(crt, t->purpose, 0);
        if (r >= 0)
                r = set_names(crt, t->names);
        if (r >= 0)
                r = set_key_id(crt, authority ?: crt);
        if (r >= 0)
                r = gnutls_x509_crt_sign2(crt, authority ?: crt, authority_key ?: key, GNUTLS_DIG_SHA256, 0);
        if (r < 0)
                return gnutls_error(r, "A certificate cannot be made", reterr);

        *ret = TAKE_PTR(crt);
        return 0;
}

int certificate_authority_new(gnutls_x509_privkey_t key, gnutls_x509_crt_t *ret, KError *reterr) {
        _cleanup_free_ char *name = NULL, *id = NULL;
        time_t now = time(NULL);
        uint8_t key_id[64];
        size_t n = sizeof(key_id);
        int r;

        r = gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, key_id, &n);
        if (r < 0)
                return gnutls_error(r, "A certificate cannot be made", reterr);
        id = hexmem(key_id, 4);
        if (!id)
                return -ENOMEM;
        /* A host name by its form: see certificate_common_name(). */
        name = strjoin("kontena-ca-", id);
        if (!name)
                return -ENOMEM;

        return certificate_new(
                        &(Template){
                                        .common_name = name,
                                        .activation = now - DAY,
                                        .expiration = now + AUTHORITY_DAYS * DAY,
                                        .authority = true,
                                        .path_length = PATH_LENGTH,
                                        .usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN,
                        },
                        key, NULL, NULL, ret, reterr);
}

int certificate_cross_new(gnutls_x509_crt_t next, gnutls_x509_privkey_t next_key,
                gnutls_x509_crt_t authority, gnutls_x509_privkey_t authority_key, gnutls_x509_crt_t *ret,
                KError *reterr) {
        time_t now = time(NULL), end = gnutls_x509_crt_get_expiration_time(authority);
        _cleanup_free_ char *name = NULL;
        int r, length;

        r = gnutls_x509_crt_get_basic_constraints(authority, NULL, NULL, &length);
        if (r < 0)
                return gnutls_error(r, "The constraints of an authority cannot be read", reterr);
        if (length == 0)
                return -EOPNOTSUPP;
        r = certificate_common_name(next, &name);
        if (r < 0)
                return r;

        return certificate_new(
                        &(Template){
                                        .common_name = name,
                                        .activation = now - DAY,
                                        .expiration = MIN(now + CROSS_DAYS * DAY, end),
                                        .authority = true,
                                        .path_length = PATH_LENGTH - 1,
                                        .usage = GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN,
                        },
                        next_key, authority, authority_key, ret, reterr);
}

int certificate_server_new_full(gnutls_x509_privkey_t key, gnutls_x509_crt_t authority,
                gnutls_x509_privkey_t authority_key, char *const *names, time_t activation,
                time_t expiration, gnutls_x509_crt_t *ret, KError *reterr) {
        return certificate_new(
                        &(Template){
                                        .common_name = "kontenad",
                                        .activation = activation,
                                        .expiration = expiration,
                                        .usage = GNUTLS_KEY_DIGITAL_SIGNATURE,
                                        .purpose = GNUTLS_KP_TLS_WWW_SERVER,
                                        .names = names,
                        },
                        key, authority, authority_key, ret, reterr);
}

int certificate_server_new(gnutls_x509_privkey_t key, gnutls_x509_crt_t authority,
                gnutls_x509_privkey_t authority_key, char *const *names, gnutls_x509_crt_t *ret,
                KError *reterr) {
        time_t now = time(NULL);

        return certificate_server_new_full(key, authority, authority_key, names, now - CLOCK_SKEW,
                        now + SERVER_DAYS * DAY, ret, reterr);
}

int certificate_node_new(gnutls_x509_privkey_t key, gnutls_x509_crt_t *ret, KError *reterr) {
        time_t now = time(NULL);

        return certificate_new(
                        &(Template){
                                        .common_name = "kontena-noded",
                                        .activation = now - DAY,
                                        .expiration = now + NODE_DAYS * DAY,
                                        .usage = GNUTLS_KEY_DIGITAL_SIGNATURE,
                                        .purpose = GNUTLS_KP_TLS_WWW_CLIENT,
                        },
                        key, NULL, NULL, ret, reterr);
}

uint64_t certificate_expires_at(gnutls_x509_crt_t c) {
        time_t t = gnutls_x509_crt_get_expiration_time(c);

        return t == (time_t) -1 ? 0 : (uint64_t) t * 1000000U;
}

bool certificate_is_issued_by(gnutls_x509_crt_t c, gnutls_x509_crt_t issuer) {
        unsigned status = 0;

        return gnutls_x509_crt_check_issuer(c, issuer) > 0 &&
               gnutls_x509_crt_verify(c, &issuer, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status) >= 0 &&
               status == 0;
}

static int spki_of_certificate(gnutls_x509_crt_t c, gnutls_datum_t *ret) {
        gnutls_pubkey_t key;
        int r;

        r = gnutls_pubkey_init(&key);
        if (r < 0)
                return r;
        r = gnutls_pubkey_import_x509(key, c, 0);
        if (r >= 0)
                r = gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, ret);
        gnutls_pubkey_deinit(key);
        return r;
}

static int spki_of_privkey(gnutls_privkey_t k, gnutls_datum_t *ret) {
        gnutls_pubkey_t key;
        int r;

        r = gnutls_pubkey_init(&key);
        if (r < 0)
                return r;
        r = gnutls_pubkey_import_privkey(key, k, 0, 0);
        if (r >= 0)
                r = gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, ret);
        gnutls_pubkey_deinit(key);
        return r;
}

bool certificate_is_for_privkey(gnutls_x509_crt_t c, gnutls_privkey_t key) {
        gnutls_datum_t a = {}, b = {};
        bool same;

        same = spki_of_certificate(c, &a) >= 0 && spki_of_privkey(key, &b) >= 0 && a.size == b.size &&
               memcmp(a.data, b.data, a.size) == 0;
        gnutls_free(a.data);
        gnutls_free(b.data);
        return same;
}

bool certificate_has_key_of(gnutls_x509_crt_t c, gnutls_x509_crt_t other) {
        gnutls_datum_t a = {}, b = {}, name_a = {}, name_b = {};
        bool same;

        same = spki_of_certificate(c, &a) >= 0 && spki_of_certificate(other, &b) >= 0 &&
               gnutls_x509_crt_get_raw_dn(c, &name_a) >= 0 &&
               gnutls_x509_crt_get_raw_dn(other, &name_b) >= 0 && a.size == b.size &&
               memcmp(a.data, b.data, a.size) == 0 && name_a.size == name_b.size &&
               memcmp(name_a.data, name_b.data, name_a.size) == 0;
        gnutls_free(a.data);
        gnutls_free(b.data);
        gnutls_free(name_a.data);
        gnutls_free(name_b.data);
        return same;
}

bool certificate_is_for(gnutls_x509_crt_t c, gnutls_x509_privkey_t key) {
        gnutls_privkey_t k;
        bool same;

        if (gnutls_privkey_init(&k) < 0)
                return false;
        same = gnutls_privkey_import_x509(k, key, 0) >= 0 && certificate_is_for_privkey(c, k);
        gnutls_privkey_deinit(k);
        return same;
}

int certificate_list_names(gnutls_x509_crt_t c, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        for (unsigned i = 0; i < NAMES_MAX; i++) {
                char buffer[512], text[INET6_ADDRSTRLEN];
                size_t n = sizeof(buffer) - 1;
                unsigned type;

                r = gnutls_x509_crt_get_subject_alt_name2(c, i, buffer, &n, &type, NULL);
                if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                        break;
                if (r == GNUTLS_E_SHORT_MEMORY_BUFFER)
                        continue;
                if (r < 0)
                        return -EBADMSG;
                if (type == GNUTLS_SAN_IPADDRESS && (n == 4 || n == 16)) {
                        if (!inet_ntop(n == 4 ? AF_INET : AF_INET6, buffer, text, sizeof(text)))
                                return -errno;
                        r = strv_extend(&l, text);
                } else if (type == GNUTLS_SAN_DNSNAME) {
                        buffer[n] = '\0';
                        r = strv_extend(&l, buffer);
                }
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

int certificate_common_name(gnutls_x509_crt_t c, char **ret) {
        char buffer[512];
        size_t n = sizeof(buffer);
        char *name;
        int r;

        r = gnutls_x509_crt_get_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0, 0, buffer, &n);
        if (r < 0)
                return r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? -ENODATA : -EBADMSG;
        name = strndup(buffer, n);
        if (!name)
                return -ENOMEM;

        *ret = name;
        return 0;
}

bool certificate_has_names(gnutls_x509_crt_t c, char *const *names) {
        _cleanup_strv_free_ char **l = NULL;

        if (certificate_list_names(c, &l) < 0 || strv_length(l) != strv_length(names))
                return false;
        STRV_FOREACH(name, names)
                if (!strv_contains(l, *name))
                        return false;
        return true;
}

static int sha256_hex(const gnutls_datum_t *d, char **ret) {
        uint8_t digest[32];
        char *hex;

        if (gnutls_hash_fast(GNUTLS_DIG_SHA256, d->data, d->size, digest) < 0)
                return -EIO;
        hex = hexmem(digest, sizeof(digest));
        if (!hex)
                return -ENOMEM;

        *ret = hex;
        return 0;
}

int certificate_fingerprint(gnutls_x509_crt_t c, char **ret) {
        gnutls_datum_t d = {};
        int r;

        if (gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_DER, &d) < 0)
                return -EBADMSG;
        r = sha256_hex(&d, ret);
        gnutls_free(d.data);
        return r;
}

int certificate_key_fingerprint(gnutls_x509_crt_t c, char **ret) {
        gnutls_datum_t d = {};
        int r;

        if (spki_of_certificate(c, &d) < 0)
                return -EBADMSG;
        r = sha256_hex(&d, ret);
        gnutls_free(d.data);
        return r;
}

int certificate_export_pem(gnutls_x509_crt_t c, char **ret) {
        gnutls_datum_t d = {};
        char *pem;

        if (gnutls_x509_crt_export2(c, GNUTLS_X509_FMT_PEM, &d) < 0)
                return -EBADMSG;
        pem = strndup((const char *) d.data, d.size);
        gnutls_free(d.data);
        if (!pem)
                return -ENOMEM;

        *ret = pem;
        return 0;
}
