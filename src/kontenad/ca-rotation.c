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

static int remove_next(Ca *ca, KError *reterr) {
        int r;

        r = remove_file(ca, NEXT_CERTIFICATE, reterr);
        if (r >= 0)
                r = remove_file(ca, NEXT_KEY, reterr);
        return r;
}

int ca_rotation_recover(Ca *ca, char **ret_next_pem, char **ret_next_fingerprint, KError *reterr) {
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t current = NULL, next = NULL;
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        int r, q;

        r = ca_load_key(ca, NEXT_KEY, CA_KEY, &key, reterr);
        if (r < 0 && r != -ENOENT)
                return r;
        q = ca_load_certificate(ca, NEXT_CERTIFICATE, &next, reterr);
        if (q < 0 && q != -ENOENT)
                return q;
        if (key && next && certificate_is_for(next, key))
                return ca_describe(next, ret_next_pem, ret_next_fingerprint);

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
        return remove_next(ca, reterr);
}

static int make_next(Ca *ca, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r;

        r = certificate_key_new(&key, reterr);
        if (r >= 0)
                r = certificate_authority_new(key, &crt, reterr);
        if (r >= 0)
                r = ca_save_key(ca, NEXT_KEY, CA_KEY, key, reterr);
        if (r >= 0)
                r = ca_save_certificate(ca, NEXT_CERTIFICATE, crt, reterr);
        return r;
}

int ca_rotate(Ca *ca, KError *reterr) {
        _cleanup_free_ char *pem = NULL, *fingerprint = NULL;
        bool made = false;
        int r;

        if (ca->certificate)
                return kerror_set(reterr, K_CONFLICT,
                                "The master shows a certificate of yours, '%s'; put another there and "
                                "reload kontenad.",
                                ca->certificate);
        if (ca->next_pem)
                return 0;

        r = ca_rotation_recover(ca, &pem, &fingerprint, reterr);
        if (r >= 0 && !fingerprint) {
                made = true;
                r = make_next(ca, reterr);
        }
        if (r >= 0)
                r = ca_use(ca, reterr);
        if (r < 0 && made)
                (void) remove_next(ca, NULL);
        return r;
}

/* Before the end of a rotation, of either kind: an attempt before may have failed between two steps. ret_there: the authority that was
 * announced is on the disk, and not in its place yet. */
static int begin_end(Ca *ca, char **ret_announced, bool *ret_there, KError *reterr) {
        _cleanup_free_ char *announced = NULL, *pem = NULL, *fingerprint = NULL;
        int r;

        if (!ca->next_fingerprint)
                return kerror_set(reterr, K_CONFLICT,
                                "No rotation of the certificate authority is under way.");
        announced = strdup(ca->next_fingerprint);
        if (!announced)
                return -ENOMEM;
        r = ca_rotation_recover(ca, &pem, &fingerprint, reterr);
        if (r < 0)
                return r;

        *ret_there = fingerprint && streq(fingerprint, announced);
        *ret_announced = TAKE_PTR(announced);
        return 0;
}

static int vouch_for_next(Ca *ca, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r;

        r = ca_load_key(ca, NEXT_KEY, CA_KEY, &key, reterr);
        if (r >= 0)
                r = ca_load_certificate(ca, NEXT_CERTIFICATE, &crt, reterr);
        if (r >= 0)
                r = ca_cross_save(ca, crt, key, reterr);
        return r;
}

int ca_rotation_finish(Ca *ca, KError *reterr) {
        _cleanup_free_ char *announced = NULL;
        bool there;
        int r;

        r = begin_end(ca, &announced, &there, reterr);
        if (r >= 0 && there) {
                r = vouch_for_next(ca, reterr);
                if (r >= 0)
                        r = rename_file(ca, NEXT_CERTIFICATE, CA_CERTIFICATE, reterr);
                if (r >= 0)
                        r = rename_file(ca, NEXT_KEY, CA_KEY, reterr);
        }
        if (r >= 0)
                r = ca_use(ca, reterr);
        if (r < 0)
                return r;
        if (!streq(ca->fingerprint, announced))
                return kerror_set(reterr, K_CONFLICT,
                                "The next certificate authority was removed from '%s'; its rotation has to "
                                "be begun again.",
                                ca->directory);
        return 0;
}

int ca_rotation_abort(Ca *ca, KError *reterr) {
        _cleanup_free_ char *announced = NULL;
        bool there;
        int r;

        r = begin_end(ca, &announced, &there, reterr);
        if (r >= 0 && there)
                r = remove_next(ca, reterr);
        if (r >= 0)
                r = ca_use(ca, reterr);
        if (r < 0)
                return r;
        if (streq(ca->fingerprint, announced)) /* the end had begun, and failed on the way */
                return kerror_set(reterr, K_CONFLICT, "The certificate authority is replaced already.");
        return 0;
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
