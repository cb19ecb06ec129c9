/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ca-internal.h"

#include "file-util.h"
#include "host-names.h"
#include "log.h"
#include "string-util.h"

#define CHECK_USEC        (24ULL * 3600ULL * USEC_PER_SEC)
#define RENEW_BEFORE_USEC (30ULL * 24ULL * 3600ULL * USEC_PER_SEC)
#define PEM_SIZE_MAX      (1024U * 1024U)

static void shown_done(Shown *s) {
        for (unsigned i = 0; i < s->n_chain; i++)
                gnutls_pcert_deinit(&s->chain[i]);
        free(s->chain);
        if (s->key)
                gnutls_privkey_deinit(s->key);
        *s = (Shown){};
}

int ca_gnutls_error(int e, const char *what, KError *reterr) {
        if (e == GNUTLS_E_MEMORY_ERROR)
                return -ENOMEM;
        return kerror_set(reterr, K_INTERNAL, "%s: %s.", what, gnutls_strerror(e));
}

char *ca_path_of(Ca *ca, const char *name) {
        return strjoin(ca->directory, "/", name);
}

int ca_save_key(Ca *ca, const char *name, const char *context, gnutls_x509_privkey_t key, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_free_ void *sealed = NULL;
        gnutls_datum_t der = {};
        size_t size;
        int r;

        path = ca_path_of(ca, name);
        if (!path)
                return -ENOMEM;
        r = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_DER, &der);
        if (r < 0)
                return ca_gnutls_error(r, "A private key cannot be exported", reterr);
        r = keyring_seal(ca->keyring, context, der.data, der.size, &sealed, &size);
        gnutls_memset(der.data, 0, der.size);
        gnutls_free(der.data);
        if (r < 0)
                return r;

        r = write_file_atomic(path, sealed, size, 0600);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m.", path);
        return 0;
}

int ca_load_key(Ca *ca, const char *name, const char *context, gnutls_x509_privkey_t *ret, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_free_ char *path = NULL, *sealed = NULL;
        gnutls_datum_t der;
        size_t size, n;
        void *data;
        int r;

        path = ca_path_of(ca, name);
        if (!path)
                return -ENOMEM;
        r = read_file(path, PEM_SIZE_MAX, &sealed, &size);
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be read: %m.", path);
        r = keyring_open(ca->keyring, context, sealed, size, &data, &n);
        if (r == -EBADMSG)
                return kerror_set(reterr, K_INTERNAL,
                                "'%s' was not sealed with this master's key: was 'master.key' replaced?",
                                path);
        if (r < 0)
                return r;

        der = (gnutls_datum_t){ .data = data, .size = (unsigned) n };
        r = gnutls_x509_privkey_init(&key);
        if (r >= 0)
                r = gnutls_x509_privkey_import(key, &der, GNUTLS_X509_FMT_DER);
        erase_memory(data, n);
        free(data);
        if (r < 0)
                return ca_gnutls_error(r, "A private key cannot be read", reterr);

        *ret = TAKE_PTR(key);
        return 0;
}

int ca_load_certificate(Ca *ca, const char *name, gnutls_x509_crt_t *ret, KError *reterr) {
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        _cleanup_free_ char *path = NULL, *pem = NULL;
        gnutls_datum_t d;
        size_t size;
        int r;

        path = ca_path_of(ca, name);
        if (!path)
                return -ENOMEM;
        r = read_file(path, PEM_SIZE_MAX, &pem, &size);
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be read: %m.", path);
        d = (gnutls_datum_t){ .data = (unsigned char *) pem, .size = (unsigned) size };
        r = gnutls_x509_crt_init(&crt);
        if (r >= 0)
                r = gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_PEM);
        if (r < 0)
                return ca_gnutls_error(r, path, reterr);

        *ret = TAKE_PTR(crt);
        return 0;
}

int ca_save_certificate(Ca *ca, const char *name, gnutls_x509_crt_t crt, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        gnutls_datum_t pem = {};
        int r;

        path = ca_path_of(ca, name);
        if (!path)
                return -ENOMEM;
        r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
        if (r < 0)
                return ca_gnutls_error(r, "A certificate cannot be exported", reterr);
        r = write_file_atomic(path, pem.data, pem.size, 0644);
        gnutls_free(pem.data);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m.", path);
        return 0;
}

/* The CA itself. A certificate without its key, or the other way round, is not silently replaced: all nodes trust it. */
static int authority_get(
                Ca *ca, gnutls_x509_crt_t *ret_crt, gnutls_x509_privkey_t *ret_key, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        int r, q;

        r = ca_load_key(ca, CA_KEY, CA_KEY, &key, reterr);
        if (r < 0 && r != -ENOENT)
                return r;
        q = ca_load_certificate(ca, CA_CERTIFICATE, &crt, reterr);
        if (q < 0 && q != -ENOENT)
                return q;
        if (r == -ENOENT && q >= 0)
                return kerror_set(reterr, K_INTERNAL,
                                "'%s/ca.pem' is there and its key 'ca.key' is not; restore it, "
                                "or remove both and join all nodes again.",
                                ca->directory);

        if (q == -ENOENT) {
                /* Also after a crash between the two files: the key goes first. */
                if (r == -ENOENT) {
                        r = certificate_key_new(&key, reterr);
                        if (r < 0)
                                return r;
                        r = ca_save_key(ca, CA_KEY, CA_KEY, key, reterr);
                        if (r < 0)
                                return r;
                }
                r = certificate_authority_new(key, &crt, reterr);
                if (r < 0)
                        return r;
                r = ca_save_certificate(ca, CA_CERTIFICATE, crt, reterr);
                if (r < 0)
                        return r;
                log_info("Made a certificate authority for this master, valid for ten years.");
        }

        *ret_crt = TAKE_PTR(crt);
        *ret_key = TAKE_PTR(key);
        return 0;
}

/* What the server is called, and what the authority is called: the kontena client trusts ~/.kontena/certs/HOST.pem, and then
 * expects the server to have the name which the certificate there has. */
static int server_names(Ca *ca, gnutls_x509_crt_t authority, char ***ret) {
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *name = NULL;
        int r;

        r = host_names(ca->server_names, &names);
        if (r < 0)
                return r;
        r = certificate_common_name(authority, &name);
        if (r < 0 && r != -ENODATA)
                return r;
        if (name && !strchr(name, ' ')) {
                r = strv_extend(&names, name);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(names);
        return 0;
}

static int server_get(Ca *ca, gnutls_x509_crt_t authority, gnutls_x509_privkey_t authority_key,
                gnutls_x509_crt_t *ret_crt, gnutls_x509_privkey_t *ret_key, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_strv_free_ char **names = NULL;
        int r;

        r = server_names(ca, authority, &names);
        if (r < 0)
                return r;

        /* What is not as it should be is made anew: nobody pins the server's certificate. */
        r = ca_load_key(ca, SERVER_KEY, SERVER_KEY, &key, &error);
        if (r >= 0)
                r = ca_load_certificate(ca, SERVER_CERTIFICATE, &crt, &error);
        if (r < 0 && r != -ENOENT)
                log_warning("The server's certificate is made anew: %s", kerror_message(&error));
        if (r >= 0 && certificate_expires_at(crt) > now_realtime() + RENEW_BEFORE_USEC &&
                        certificate_is_issued_by(crt, authority) && certificate_is_for(crt, key) &&
                        certificate_has_names(crt, names)) {
                *ret_crt = TAKE_PTR(crt);
                *ret_key = TAKE_PTR(key);
                return 0;
        }

        if (crt)
                gnutls_x509_crt_deinit(TAKE_PTR(crt));
        if (key)
                gnutls_x509_privkey_deinit(TAKE_PTR(key));
        r = certificate_key_new(&key, reterr);
        if (r < 0)
                return r;
        r = certificate_server_new(key, authority, authority_key, names, &crt, reterr);
        if (r < 0)
                return r;
        r = ca_save_key(ca, SERVER_KEY, SERVER_KEY, key, reterr);
        if (r < 0)
                return r;
        r = ca_save_certificate(ca, SERVER_CERTIFICATE, crt, reterr);
        if (r < 0)
                return r;
        log_info("Made a new server certificate, valid for 90 days, for %zu names and addresses.",
                        strv_length(names));

        *ret_crt = TAKE_PTR(crt);
        *ret_key = TAKE_PTR(key);
        return 0;
}

static int shown_set(Shown *s, gnutls_x509_crt_t *chain, unsigned n, gnutls_privkey_t key, KError *reterr) {
        int r;

        s->key = key;
        s->chain = new0(gnutls_pcert_st, n);
        if (!s->chain)
                return -ENOMEM;
        for (unsigned i = 0; i < n; i++) {
                r = gnutls_pcert_import_x509(&s->chain[i], chain[i], 0);
                if (r < 0)
                        return ca_gnutls_error(r, "A certificate cannot be used", reterr);
                s->n_chain++;
        }

        return 0;
}

int ca_describe(gnutls_x509_crt_t crt, char **ret_pem, char **ret_fingerprint) {
        int r;

        r = certificate_export_pem(crt, ret_pem);
        if (r < 0)
                return r;

        return certificate_fingerprint(crt, ret_fingerprint);
}

static int use_own(Ca *ca, Shown *s, char **ret_pem, char **ret_fingerprint, char **ret_next_pem,
                char **ret_next_fingerprint, uint64_t *ret_expires, KError *reterr) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t authority_key = NULL, server_key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t authority = NULL, server = NULL;
        gnutls_x509_crt_t chain[CERTIFICATE_CROSSES_MAX + 2];
        _cleanup_(x509_chain_done) X509Chain crosses = {};
        gnutls_privkey_t key;
        unsigned n = 0;
        int r;

        r = mkdir_p(ca->directory, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be made: %m.", ca->directory);
        r = ca_rotation_recover(ca, ret_next_pem, ret_next_fingerprint, reterr);
        if (r < 0)
                return r;
        r = authority_get(ca, &authority, &authority_key, reterr);
        if (r < 0)
                return r;
        r = server_get(ca, authority, authority_key, &server, &server_key, reterr);
        if (r < 0)
                return r;
        r = ca_cross_load(ca, authority, &crosses, reterr);
        if (r < 0)
                return r;

        r = gnutls_privkey_init(&key);
        if (r < 0)
                return ca_gnutls_error(r, "The server's key cannot be used", reterr);
        r = gnutls_privkey_import_x509(key, server_key, GNUTLS_PRIVKEY_IMPORT_COPY);
        if (r < 0) {
                gnutls_privkey_deinit(key);
                return ca_gnutls_error(r, "The server's key cannot be used", reterr);
        }
        /* Crosses come before the authority: who verifies in the order of the chain would else stop at one that it does not know. */
        chain[n++] = server;
        for (unsigned i = 0; i < crosses.n; i++)
                chain[n++] = crosses.certificates[i];
        chain[n++] = authority;
        r = shown_set(s, chain, n, key, reterr);
        if (r < 0)
                return r;

        *ret_expires = certificate_expires_at(server);
        return ca_describe(authority, ret_pem, ret_fingerprint);
}

static int use_configured(Ca *ca, Shown *s, char **ret_pem, char **ret_fingerprint, uint64_t *ret_expires,
                KError *reterr) {
        _cleanup_(x509_chain_done) X509Chain chain = {};
        _cleanup_free_ char *pem = NULL;
        _cleanup_erase_ char *key_pem = NULL;
        gnutls_privkey_t key;
        size_t size, key_size;
        int r;

        r = read_file(ca->certificate, PEM_SIZE_MAX, &pem, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Certificate '%s' cannot be read: %m.", ca->certificate);
        r = read_file(ca->private_key, PEM_SIZE_MAX, &key_pem, &key_size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Private key '%s' cannot be read: %m.", ca->private_key);

        r = x509_chain_import(&chain, pem, size);
        if (r < 0 || chain.n == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has no certificates in PEM form.",
                                ca->certificate);
        r = gnutls_privkey_init(&key);
        if (r < 0)
                return ca_gnutls_error(r, "The server's key cannot be used", reterr);
        r = gnutls_privkey_import_x509_raw(key,
                        &(gnutls_datum_t){ (unsigned char *) key_pem, (unsigned) key_size },
                        GNUTLS_X509_FMT_PEM, NULL, 0);
        if (r < 0) {
                gnutls_privkey_deinit(key);
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a private key in PEM form: %s.",
                                ca->private_key, gnutls_strerror(r));
        }
        r = shown_set(s, chain.certificates, chain.n, key, reterr);
        if (r < 0)
                return r;
        if (!certificate_is_for_privkey(chain.certificates[0], key))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Private key '%s' does not belong to certificate '%s'.", ca->private_key,
                                ca->certificate);

        *ret_expires = certificate_expires_at(chain.certificates[0]);
        return ca_describe(chain.certificates[chain.n - 1], ret_pem, ret_fingerprint);
}

int ca_use(Ca *ca, KError *reterr) {
        _cleanup_free_ char *pem = NULL, *fingerprint = NULL, *authorities = NULL, *next_pem = NULL,
                            *next_fingerprint = NULL;
        _cleanup_(shown_done) Shown s = {};
        uint64_t expires = 0;
        int r;

        if (ca->certificate)
                r = use_configured(ca, &s, &pem, &fingerprint, &expires, reterr);
        else
                r = use_own(ca, &s, &pem, &fingerprint, &next_pem, &next_fingerprint, &expires, reterr);
        if (r < 0)
                return r;

        authorities = strjoin(pem, strempty(next_pem));
        if (!authorities)
                return -ENOMEM;

        /* All or nothing: a next authority that were not among those which nodes are told of would be put in place as if they trusted it. */
        shown_done(&ca->previous);
        ca->previous = ca->shown;
        ca->shown = s;
        s = (Shown){};
        free(ca->pem);
        ca->pem = TAKE_PTR(pem);
        free(ca->fingerprint);
        ca->fingerprint = TAKE_PTR(fingerprint);
        free(ca->next_pem);
        ca->next_pem = TAKE_PTR(next_pem);
        free(ca->next_fingerprint);
        ca->next_fingerprint = TAKE_PTR(next_fingerprint);
        free(ca->authorities);
        ca->authorities = TAKE_PTR(authorities);
        ca->expires_at = expires;
        return 0;
}

typedef struct Settings {
        char **server_names;
        char *certificate, *private_key;
} Settings;

static void settings_done(Settings *s) {
        strv_free(s->server_names);
        free(s->certificate);
        free(s->private_key);
}

static int settings_copy(const CaConfig *config, Settings *ret) {
        _cleanup_(settings_done) Settings s = {};

        s.server_names = strv_copy(config->server_names);
        if (!s.server_names && config->server_names)
                return -ENOMEM;
        if (config->certificate) {
                s.certificate = strdup(config->certificate);
                s.private_key = strdup(config->private_key);
                if (!s.certificate || !s.private_key)
                        return -ENOMEM;
        }

        *ret = s;
        s = (Settings){};
        return 0;
}

static void settings_swap(Ca *ca, Settings *s) {
        Settings before = { ca->server_names, ca->certificate, ca->private_key };

        ca->server_names = s->server_names;
        ca->certificate = s->certificate;
        ca->private_key = s->private_key;
        *s = before;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Ca *ca = userdata;
        int r;

        r = ca_use(ca, &error);
        if (r < 0)
                log_warning_errno(r, "The server's certificate cannot be renewed, keeping the old one: %s",
                                kerror_message(&error));

        (void) sd_event_source_set_time_relative(source, CHECK_USEC);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

int ca_new(sd_event *event, Keyring *keyring, const CaConfig *config, Ca **ret, KError *reterr) {
        _cleanup_(ca_freep) Ca *ca = NULL;
        int r;

        assert(keyring);
        assert(config);
        assert(ret);

        ca = new0(Ca, 1);
        if (!ca)
                return -ENOMEM;
        ca->keyring = keyring;
        ca->directory = strjoin(config->state_directory, "/tls");
        if (!ca->directory)
                return -ENOMEM;

        r = ca_reload(ca, config, reterr);
        if (r < 0)
                return r;
        if (event) {
                r = sd_event_add_time_relative(event, &ca->timer, CLOCK_BOOTTIME, CHECK_USEC,
                                60 * USEC_PER_SEC, on_timer, ca);
                if (r < 0)
                        return r;
                (void) sd_event_source_set_description(ca->timer, "ca-renew");
        }

        *ret = TAKE_PTR(ca);
        return 0;
}

Ca *ca_free(Ca *ca) {
        if (!ca)
                return NULL;

        sd_event_source_disable_unref(ca->timer);
        shown_done(&ca->shown);
        shown_done(&ca->previous);
        strv_free(ca->server_names);
        free(ca->certificate);
        free(ca->private_key);
        free(ca->directory);
        free(ca->pem);
        free(ca->fingerprint);
        free(ca->next_pem);
        free(ca->next_fingerprint);
        free(ca->authorities);
        free(ca);
        return NULL;
}

int ca_reload(Ca *ca, const CaConfig *config, KError *reterr) {
        _cleanup_(settings_done) Settings other = {};
        int r;

        if (!config->certificate != !config->private_key)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Certificate= and PrivateKey= belong together; only one is set.");
        r = settings_copy(config, &other);
        if (r < 0)
                return r;

        /* With those that cannot be used, the next look for renewal would fail as well, and a rotation be refused. */
        settings_swap(ca, &other);
        r = ca_use(ca, reterr);
        if (r < 0)
                settings_swap(ca, &other);
        return r;
}

const char *ca_fingerprint(const Ca *ca) {
        return ca->fingerprint;
}

const char *ca_certificate_pem(const Ca *ca) {
        return ca->pem;
}

uint64_t ca_expires_at(const Ca *ca) {
        return ca->expires_at;
}

void ca_get_chain(const Ca *ca, gnutls_pcert_st **ret_chain, unsigned *ret_n, gnutls_privkey_t *ret_key) {
        *ret_chain = ca->shown.chain;
        *ret_n = ca->shown.n_chain;
        *ret_key = ca->shown.key;
}
