/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <unistd.h>

#include "ca-internal.h"
#include "file-util.h"
#include "log.h"
#include "string-util.h"

/* An authority is replaced in two steps. ca_rotate() makes the next one, which nothing is signed with yet, so that nodes can be told to
 * trust both; ca_rotation_finish() puts it in the place of the old one. On disk the key goes before the certificate when they
 * are made, and behind it when they are renamed:
 *
 *   next-ca.key next-ca.pem
 *       -           -       nothing is under way
 *      yes          -       begun and nobody was told, or given up (it is not the key of ca.pem), or finished but for the key (it is)
 *      yes         yes      under way
 *       -          yes      somebody has removed the key */

static int remove_file(Ca *ca, const char *name, KError *reterr) {
        _cleanup_free_ char *path = ca_path_of(ca, name);

        if (!path)
                return -ENOMEM;
        if (unlink(path) < 0 && errno != ENOENT)
                return kerror_set_errno(reterr, -errno, "'%s' cannot be removed: %m.", path);
        return 0;
}

static int rename_file(Ca *ca, const char *from, const char *to, KError *reterr) {
        _cleanup_free_ char *a = ca_path_of(ca, from), *b = ca_path_of(ca, to);
        int r;

        if (!a || !b)
                return -ENOMEM;
        r = rename(a, b) < 0 ? -errno : fsync_directory_of(b);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot take the place of '%s': %m.", a, b);
        return 0;
}

static void forget_next(Ca *ca) {
        ca->next_pem = mfree(ca->next_pem);
        ca->next_fingerprint = mfree(ca->next_fingerprint);
}

static int take_next(Ca *ca, gnutls_x509_crt_t crt) {
        char *pem, *fingerprint;
        int r;

        r = ca_describe(crt, &pem, &fingerprint);
        if (r < 0)
                return r;
        forget_next(ca);
        ca->next_pem = pem;
        ca->next_fingerprint = fingerprint;
        return 0;
}

int ca_rotation_recover(Ca *ca, KError *reterr) {
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t current = NULL, next = NULL;
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        int r, q;

        forget_next(ca);
        r = ca_load_key(ca, NEXT_KEY, CA_KEY, &key, reterr);
        if (r < 0 && r != -ENOENT)
                return r;
        q = ca_load_certificate(ca, NEXT_CERTIFICATE, &next, reterr);
        if (q < 0 && q != -ENOENT)
                return q;
        if (key && next && certificate_is_for(next, key))
                return take_next(ca, next);

        if (key && !next) {
                r = ca_load_certificate(ca, CA_CERTIFICATE, &current, reterr);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (current && certificate_is_for(current, key))
                        return rename_file(ca, NEXT_KEY, CA_KEY, reterr);
        }
        if (next)
                log_warning("The next certificate authority has lost its key; its rotation has to be begun "
                            "again.");
        r = remove_file(ca, NEXT_CERTIFICATE, reterr);
        if (r >= 0)
                r = remove_file(ca, NEXT_KEY, reterr);
        return r;
}

int ca_rotate(Ca *ca, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r;

        if (ca->certificate)
                return kerror_set(reterr, K_CONFLICT,
                                "The master shows a certificate of yours, '%s'; put another there and "
                                "reload kontenad.",
                                ca->certificate);
        if (ca->next_pem)
                return 0;

        r = certificate_key_new(&key, reterr);
        if (r >= 0)
                r = certificate_authority_new(key, &crt, reterr);
        if (r >= 0)
                r = ca_save_key(ca, NEXT_KEY, CA_KEY, key, reterr);
        if (r >= 0)
                r = ca_save_certificate(ca, NEXT_CERTIFICATE, crt, reterr);
        if (r >= 0)
                r = ca_use(ca, reterr);
        return r;
}

int ca_rotation_finish(Ca *ca, KError *reterr) {
        int r;

        if (!ca->next_pem)
                return kerror_set(reterr, K_CONFLICT,
                                "No rotation of the certificate authority is under way.");

        r = rename_file(ca, NEXT_CERTIFICATE, CA_CERTIFICATE, reterr);
        if (r >= 0)
                r = rename_file(ca, NEXT_KEY, CA_KEY, reterr);
        if (r >= 0)
                r = ca_use(ca, reterr);
        return r;
}

int ca_rotation_abort(Ca *ca, KError *reterr) {
        int r;

        if (!ca->next_pem)
                return kerror_set(reterr, K_CONFLICT,
                                "No rotation of the certificate authority is under way.");

        r = remove_file(ca, NEXT_CERTIFICATE, reterr);
        if (r >= 0)
                r = remove_file(ca, NEXT_KEY, reterr);
        if (r >= 0)
                r = ca_use(ca, reterr);
        return r;
}

bool ca_is_own(const Ca *ca) {
        return !ca->certificate;
}

const char *ca_next_fingerprint(const Ca *ca) {
        return ca->next_fingerprint;
}

const char *ca_authorities_pem(const Ca *ca) {
        return ca->authorities;
}
