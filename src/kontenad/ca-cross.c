/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ca-internal.h"

#include "file-util.h"
#include "log.h"
#include "string-util.h"

#define CROSSES        "cross.pem"
#define CROSS_SIZE_MAX (64U * 1024U)
#define SHOWN_SEC      ((time_t) (2 * 24 * 3600)) /* at least, for what is shown is looked at once a day */

/* cross.pem: what authorities that were replaced said of those that came after them, the youngest first; each is signed by the key that
 * the next one is for. It is written before an authority takes its place, so that the first may be for one which has not come yet: it
 * is passed over, and those behind it count on. */

/* The first ones of the chain that lead back from the authority and are valid; their place in all that there are. */
static unsigned find_crosses(const X509Chain *all, gnutls_x509_crt_t authority, unsigned *ret_first) {
        unsigned first = 0, n = 0;
        time_t now = time(NULL);

        while (first < all->n && !certificate_has_key_of(all->certificates[first], authority))
                first++;
        for (unsigned i = first; i < all->n && n < CERTIFICATE_CROSSES_MAX; i++, n++) {
                gnutls_x509_crt_t c = all->certificates[i];

                if (gnutls_x509_crt_get_expiration_time(c) < now + SHOWN_SEC ||
                                (i > first && !certificate_is_issued_by(all->certificates[i - 1], c)))
                        break;
        }

        *ret_first = first;
        return n;
}

int ca_cross_load(Ca *ca, gnutls_x509_crt_t authority, X509Chain *ret, KError *reterr) {
        _cleanup_free_ char *path = NULL, *pem = NULL;
        _cleanup_(x509_chain_done) X509Chain all = {};
        unsigned first, n;
        X509Chain c = {};
        size_t size;
        int r;

        path = ca_path_of(ca, CROSSES);
        if (!path)
                return -ENOMEM;
        r = read_file(path, CROSS_SIZE_MAX, &pem, &size);
        if (r == -ENOENT) {
                *ret = (X509Chain){};
                return 0;
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be read: %m.", path);
        r = x509_chain_import(&all, pem, size);
        if (r == -EBADMSG) {
                log_warning("'%s' is of no use: clients that trust an authority which was replaced do not "
                            "follow.",
                                path);
                *ret = (X509Chain){};
                return 0;
        }
        if (r < 0)
                return r;

        n = find_crosses(&all, authority, &first);
        c.certificates = gnutls_calloc(MAX(n, 1U), sizeof(*c.certificates));
        if (!c.certificates)
                return -ENOMEM;
        for (; c.n < n; c.n++)
                c.certificates[c.n] = TAKE_PTR(all.certificates[first + c.n]);
        *ret = c;
        return 0;
}

int ca_cross_save(Ca *ca, gnutls_x509_crt_t next, gnutls_x509_privkey_t next_key, KError *reterr) {
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t current = NULL, cross = NULL;
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_chain_done) X509Chain before = {};
        _cleanup_free_ char *path = NULL, *text = NULL;
        int r;

        r = ca_load_key(ca, CA_KEY, CA_KEY, &key, reterr);
        if (r >= 0)
                r = ca_load_certificate(ca, CA_CERTIFICATE, &current, reterr);
        if (r >= 0)
                r = ca_cross_load(ca, current, &before, reterr);
        if (r < 0)
                return r;
        r = certificate_cross_new(next, next_key, current, key, &cross, reterr);
        if (r == -EOPNOTSUPP) {
                log_notice("The certificate authority cannot vouch for the next one: clients have to "
                           "confirm it.");
                return 0;
        }
        if (r < 0)
                return r;

        r = certificate_export_pem(cross, &text);
        for (unsigned i = 0; r >= 0 && i < before.n; i++) {
                _cleanup_free_ char *pem = NULL;
                char *joined;

                r = certificate_export_pem(before.certificates[i], &pem);
                if (r < 0)
                        break;
                joined = strjoin(text, pem);
                if (!joined)
                        return -ENOMEM;
                free(text);
                text = joined;
        }
        if (r < 0)
                return r;

        path = ca_path_of(ca, CROSSES);
        if (!path)
                return -ENOMEM;
        r = write_file_atomic(path, text, strlen(text), 0644);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m.", path);
        return 0;
}
