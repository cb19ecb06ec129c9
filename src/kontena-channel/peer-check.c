/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "peer-check.h"

#include <stdio.h>

#include "string-util.h"

int peer_find_authority(const X509Chain *chain, const char *fingerprint, gnutls_x509_crt_t *ret) {
        for (unsigned i = chain->n; i > 0; i--) {
                _cleanup_free_ char *f = NULL;
                int r;

                r = certificate_fingerprint(chain->certificates[i - 1], &f);
                if (r < 0)
                        return r;
                if (streq(f, fingerprint)) {
                        *ret = chain->certificates[i - 1];
                        return 0;
                }
        }

        return -ENOENT;
}

static bool is_trusted(const X509Chain *chain, const X509Chain *authorities) {
        gnutls_x509_trust_list_t list;
        unsigned status = ~0U;
        bool trusted;

        if (gnutls_x509_trust_list_init(&list, 0) < 0)
                return false;
        trusted = gnutls_x509_trust_list_add_cas(list, authorities->certificates, authorities->n, 0) >= 0 &&
                  gnutls_x509_trust_list_verify_crt(list, chain->certificates, chain->n,
                                  GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status, NULL) >= 0 &&
                  status == 0;
        gnutls_x509_trust_list_deinit(list, 0);
        return trusted;
}

static void format_time(time_t t, char *ret, size_t size) {
        struct tm tm;

        if (!gmtime_r(&t, &tm) || strftime(ret, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
                (void) snprintf(ret, size, "?");
}

int peer_check(const X509Chain *chain, const X509Chain *authorities, const char *host, time_t now,
                const char *where, KError *reterr) {
        char now_text[64], then_text[64];
        time_t activation, expiration;
        gnutls_x509_crt_t leaf;
        int r;

        if (chain->n == 0)
                return kerror_set(reterr, K_NOT_AUTHENTICATED, "The master at %s shows no certificate.",
                                where);
        leaf = chain->certificates[0];

        if (!is_trusted(chain, authorities)) {
                _cleanup_free_ char *theirs = NULL, *ours = NULL;

                r = certificate_fingerprint(chain->certificates[chain->n - 1], &theirs);
                if (r >= 0)
                        r = certificate_fingerprint(authorities->certificates[0], &ours);
                if (r < 0)
                        return r;
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The master at %s shows a certificate of another authority (fingerprint "
                                "%s), not of the one that this machine trusts (%s); was it installed anew, "
                                "was its authority replaced while this machine was away, or is it another "
                                "master?",
                                where, theirs, ours);
        }

        format_time(now, now_text, sizeof(now_text));
        for (unsigned i = 0; i < chain->n; i++) {
                activation = gnutls_x509_crt_get_activation_time(chain->certificates[i]);
                expiration = gnutls_x509_crt_get_expiration_time(chain->certificates[i]);
                if (now < activation) {
                        format_time(activation, then_text, sizeof(then_text));
                        return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                        "The certificate of the master at %s is valid only from %s, but "
                                        "this machine's clock says %s: the "
                                        "clock may be wrong.",
                                        where, then_text, now_text);
                }
                if (now > expiration) {
                        format_time(expiration, then_text, sizeof(then_text));
                        return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                        "The certificate of the master at %s expired at %s, and this "
                                        "machine's clock says %s: the clock may "
                                        "be wrong, or the master did not renew it.",
                                        where, then_text, now_text);
                }
        }

        if (!gnutls_x509_crt_check_hostname(leaf, host)) {
                _cleanup_strv_free_ char **names = NULL;
                _cleanup_free_ char *list = NULL;

                r = certificate_list_names(leaf, &names);
                if (r < 0)
                        return r;
                list = strv_join(names, ", ");
                if (!list)
                        return -ENOMEM;
                return kerror_set(reterr, K_NOT_AUTHENTICATED,
                                "The certificate of the master at %s is not for the name '%s' but for: %s. "
                                "Use one of these, or add the "
                                "name to ServerNames= in the master's configuration.",
                                where, host, list);
        }

        return 0;
}
