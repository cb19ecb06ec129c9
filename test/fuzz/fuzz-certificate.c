/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "certificate.h"
#include "peer-check.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a master shows before it is known who it is. PEM, or after a NUL one certificate in DER, where a changed byte is a changed byte. */

static char *to_pem(const uint8_t *data, size_t size) {
        gnutls_datum_t der = { .data = (uint8_t *) (uintptr_t) data, .size = (unsigned) size }, pem = {};
        char *text;

        if (gnutls_pem_base64_encode2("CERTIFICATE", &der, &pem) < 0)
                return NULL;
        text = strndup((const char *) pem.data, pem.size);
        gnutls_free(pem.data);
        return text;
}

static void look_at(gnutls_x509_crt_t c) {
        _cleanup_free_ char *fingerprint = NULL, *again = NULL, *key = NULL, *pem = NULL;
        _cleanup_(x509_chain_done) X509Chain copy = {};
        _cleanup_strv_free_ char **names = NULL;

        if (certificate_list_names(c, &names) >= 0)
                STRV_FOREACH(name, names)
                        assert(strlen(*name) < 1024);
        (void) certificate_has_names(c, names);
        (void) certificate_expires_at(c);
        (void) certificate_key_fingerprint(c, &key);
        assert(!key || strlen(key) == 64);
        if (certificate_fingerprint(c, &fingerprint) < 0)
                return;
        assert(strlen(fingerprint) == 64);

        if (certificate_export_pem(c, &pem) < 0 || x509_chain_import(&copy, pem, strlen(pem)) < 0)
                return;
        assert(copy.n == 1 && certificate_fingerprint(copy.certificates[0], &again) == 0);
        assert(streq(fingerprint, again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(x509_chain_done) X509Chain chain = {}, trusted = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        static gnutls_x509_crt_t authority; /* not the one of any input */
        gnutls_x509_crt_t found;
        _cleanup_free_ char *pem = NULL;

        if (!authority && (certificate_key_new(&key, NULL) < 0 ||
                                          certificate_authority_new(key, &authority, NULL) < 0))
                return 0;
        pem = size > 0 && data[0] == 0 ? to_pem(data + 1, size - 1) : strndup((const char *) data, size);
        if (!pem || x509_chain_import(&chain, pem, strlen(pem)) < 0)
                return 0;
        assert(chain.n > 0);

        for (unsigned i = 0; i < chain.n; i++)
                look_at(chain.certificates[i]);
        trusted = (X509Chain){ .certificates = &authority, .n = 1 };
        assert(peer_check(&chain, &trusted, "localhost", 1764063000, "localhost:9292", &error) < 0);
        assert(kerror_is_set(&error) &&
                        utf8_is_valid(kerror_message(&error), strlen(kerror_message(&error))));
        trusted = (X509Chain){};
        (void) peer_check(&chain, &chain, "localhost", 1764063000, "localhost:9292", NULL);
        assert(peer_find_authority(&chain, "00", &found) < 0);
        return 0;
}
