/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "join.h"

#include <systemd/sd-event.h>
#include <time.h>

#include "certificate.h"
#include "connector.h"
#include "file-util.h"
#include "peer-check.h"
#include "string-util.h"

#define CONNECT_TIMEOUT_USEC (20U * USEC_PER_SEC)
#define PEM_SIZE_MAX         65536U

typedef struct Fetch {
        sd_event *event;
        const char *fingerprint; /* NULL: any */
        char *pem, *found;
        KError error;
        int result;
} Fetch;

static int take_ca(Fetch *f, Connector *c) {
        _cleanup_(x509_chain_done) X509Chain chain = {};
        gnutls_x509_crt_t authority;
        int r;

        r = connector_peer_chain(c, &chain);
        if (r < 0)
                return kerror_set_errno(&f->error, r,
                                "The certificates of the master at %s cannot be read: %m.",
                                connector_authority(c));
        r = f->fingerprint ? peer_find_authority(&chain, f->fingerprint, &authority) : 0;
        if (!f->fingerprint)
                authority = chain.certificates[chain.n - 1];
        if (r == -ENOENT) {
                _cleanup_free_ char *theirs = NULL;

                r = certificate_fingerprint(chain.certificates[chain.n - 1], &theirs);
                if (r < 0)
                        return r;
                return kerror_set(&f->error, K_NOT_AUTHENTICATED,
                                "The master at %s shows a certificate of another authority (fingerprint "
                                "%s), not the one of the join token "
                                "(%s); is the token of another master?",
                                connector_authority(c), theirs, f->fingerprint);
        }
        if (r < 0)
                return r;
        r = peer_check(&chain, &(X509Chain){ &authority, 1 }, connector_host(c), time(NULL),
                        connector_authority(c), &f->error);
        if (r < 0)
                return r;

        r = certificate_fingerprint(authority, &f->found);
        return r < 0 ? r : certificate_export_pem(authority, &f->pem);
}

static void on_done(Connector *c, const KError *error, void *userdata) {
        Fetch *f = userdata;

        if (error)
                f->result = kerror_set(&f->error, error->code, "%s", kerror_message(error));
        else
                f->result = take_ca(f, c);
        (void) sd_event_exit(f->event, 0);
}

static const char *environment(const char *name, const char *other) {
        return empty_to_null(getenv(name)) ?: empty_to_null(getenv(other));
}

static int fetch(
                const char *url, const char *fingerprint, char **ret_pem, char **ret_found, KError *reterr) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(connector_freep) Connector *c = NULL;
        Fetch f = { .fingerprint = fingerprint };
        int r;

        assert(url);
        assert(ret_pem);

        r = sd_event_new(&event);
        if (r < 0)
                return r;
        f.event = event;
        r = connector_new(event,
                        &(ConnectorOptions){
                                        .url = url,
                                        .proxy = environment("https_proxy", "HTTPS_PROXY"),
                                        .no_proxy = environment("no_proxy", "NO_PROXY"),
                                        .timeout_usec = CONNECT_TIMEOUT_USEC,
                        },
                        NULL, on_done, &f, &c, reterr);
        if (r < 0)
                return r;
        r = sd_event_loop(event);
        if (r < 0)
                return r;

        if (f.result < 0) {
                if (reterr)
                        kerror_move(reterr, &f.error);
                kerror_done(&f.error);
                free(f.found);
                return f.result;
        }
        *ret_pem = f.pem;
        if (ret_found)
                *ret_found = f.found;
        else
                free(f.found);
        return 0;
}

int join_fetch_ca(const char *url, const char *fingerprint, char **ret_pem, KError *reterr) {
        assert(fingerprint);

        return fetch(url, fingerprint, ret_pem, NULL, reterr);
}

int join_show_ca(const char *url, char **ret_pem, char **ret_fingerprint, KError *reterr) {
        return fetch(url, NULL, ret_pem, ret_fingerprint, reterr);
}

/* 1: both are there and fit. */
static int key_exists(const char *key_path, const char *certificate_path) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_chain_done) X509Chain chain = {};
        _cleanup_erase_ char *key_pem = NULL;
        _cleanup_free_ char *pem = NULL;
        size_t size, key_size;
        int r;

        r = read_file(key_path, PEM_SIZE_MAX, &key_pem, &key_size);
        if (r >= 0)
                r = read_file(certificate_path, PEM_SIZE_MAX, &pem, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;

        if (gnutls_x509_privkey_init(&key) < 0)
                return -ENOMEM;
        if (gnutls_x509_privkey_import(key,
                            &(gnutls_datum_t){ (unsigned char *) key_pem, (unsigned) key_size },
                            GNUTLS_X509_FMT_PEM) < 0 ||
                        x509_chain_import(&chain, pem, size) < 0)
                return 0;
        return certificate_is_for(chain.certificates[0], key);
}

int join_make_key(const char *directory, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        _cleanup_free_ char *key_path = NULL, *certificate_path = NULL, *pem = NULL;
        gnutls_datum_t key_pem = {};
        int r;

        key_path = strjoin(directory, "/key.pem");
        certificate_path = strjoin(directory, "/certificate.pem");
        if (!key_path || !certificate_path)
                return -ENOMEM;
        r = key_exists(key_path, certificate_path);
        if (r < 0)
                return kerror_set_errno(reterr, r, "This node's key cannot be read: %m.");
        if (r > 0)
                return 0;

        r = certificate_key_new(&key, reterr);
        if (r < 0)
                return r;
        r = certificate_node_new(key, &crt, reterr);
        if (r < 0)
                return r;
        r = certificate_export_pem(crt, &pem);
        if (r < 0)
                return r;
        if (gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem) < 0)
                return -ENOMEM;
        r = write_file_atomic(key_path, key_pem.data, key_pem.size, 0600);
        gnutls_memset(key_pem.data, 0, key_pem.size);
        gnutls_free(key_pem.data);
        if (r >= 0)
                r = write_file_atomic(certificate_path, pem, strlen(pem), 0644);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "This node's key cannot be written to '%s': %m.", directory);
        return 0;
}

int join(const char *directory, const char *url, const JoinToken *token, KError *reterr) {
        _cleanup_free_ char *ca_path = NULL, *conf_path = NULL, *pem = NULL;
        int r;

        ca_path = strjoin(directory, "/ca.pem");
        conf_path = strjoin(directory, "/join.conf");
        if (!ca_path || !conf_path)
                return -ENOMEM;

        r = join_fetch_ca(url, token->fingerprint, &pem, reterr);
        if (r < 0)
                return r;
        r = mkdir_p(directory, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be made: %m.", directory);
        r = join_make_key(directory, reterr);
        if (r < 0)
                return r;
        r = write_file_atomic(ca_path, pem, strlen(pem), 0644);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m.", ca_path);
        /* Last: it is what makes the node daemon connect. */
        return join_config_save(conf_path,
                        &(JoinConfig){ .url = (char *) url, .secret = (char *) token->secret }, reterr);
}
