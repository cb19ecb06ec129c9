/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ca.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>

#include "certificate.h"
#include "file-util.h"
#include "host-names.h"
#include "log.h"
#include "string-util.h"
#include "test.h"

#define DAY 86400

/* The disk, which fails at the given call, and from there on when it is broken. */
static struct {
        unsigned calls, fail_at; /* 0: never */
        bool broken;
} disk;

static bool disk_fails(void) {
        disk.calls++;
        if (disk.fail_at == 0 || disk.calls < disk.fail_at || (disk.calls > disk.fail_at && !disk.broken))
                return false;
        errno = EIO;
        return true;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_rename(const char *from, const char *to) {
        return disk_fails() ? -1 : __real_rename(from, to);
}

int __wrap_unlink(const char *path) {
        return disk_fails() ? -1 : __real_unlink(path);
}

int __wrap_fsync(int fd) {
        return disk_fails() ? -1 : __real_fsync(fd);
}

typedef struct Place {
        char directory[64];
        Keyring *keyring;
} Place;

static void place_init(Place *p) {
        (void) snprintf(p->directory, sizeof(p->directory), "/tmp/test-ca.XXXXXX");
        ASSERT_TRUE(mkdtemp(p->directory));
        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        ASSERT_OK(keyring_new(p->directory, &p->keyring, NULL));
}
static void place_done(Place *p) {
        keyring_free(p->keyring);
        (void) rm_rf_at(AT_FDCWD, p->directory);
}
#define _cleanup_place_ _cleanup_(place_done)

static char *file(Place *p, const char *name) {
        char *s = strjoin(p->directory, "/tls/", name);

        ASSERT_TRUE(s);
        return s;
}

static void load(const char *path, X509Chain *ret) {
        _cleanup_free_ char *pem = NULL;
        size_t n;

        ASSERT_OK(read_file(path, 65536, &pem, &n));
        ASSERT_OK(x509_chain_import(ret, pem, n));
}

static void test_made_once_and_the_key_is_sealed(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_free_ char *first = NULL, *key_path = NULL, *key = NULL;
        struct stat st;
        size_t n;

        place_init(&p);
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(ca_freep) Ca *ca = NULL;
                gnutls_pcert_st *chain;
                gnutls_privkey_t private;
                unsigned n_chain;

                ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &ca, NULL));
                ASSERT_EQ(strlen(ca_fingerprint(ca)), 64);
                if (!first)
                        first = strdup(ca_fingerprint(ca));
                ASSERT_STREQ(ca_fingerprint(ca), first);
                ASSERT_TRUE(startswith(ca_certificate_pem(ca), "-----BEGIN CERTIFICATE-----"));
                ASSERT_TRUE(ca_expires_at(ca) > now_realtime() + 89ULL * DAY * USEC_PER_SEC);
                ca_get_chain(ca, &chain, &n_chain, &private);
                ASSERT_EQ(n_chain, 2);
        }

        key_path = file(&p, "ca.key");
        ASSERT_OK(stat(key_path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);
        ASSERT_OK(read_file(key_path, 65536, &key, &n));
        ASSERT_TRUE(!memmem(key, n, "PRIVATE KEY", 11));
        /* The DER of a P-256 key names its curve. */
        ASSERT_TRUE(!memmem(key, n, "\x2a\x86\x48\xce\x3d\x03\x01\x07", 8));
}

static void test_another_master_key_is_not_a_new_authority(void **state) {
        _cleanup_place_ Place p = {}, q = {};
        _cleanup_(ca_freep) Ca *ca = NULL, *other = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;

        place_init(&p);
        place_init(&q);
        ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &ca, NULL));
        ASSERT_TRUE(ca_new(NULL, q.keyring, &(CaConfig){ .state_directory = p.directory }, &other, &error) <
                        0);
        ASSERT_TRUE(strstr(kerror_message(&error), "master.key"));
}

static void test_a_lost_key_is_not_a_new_authority(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_(ca_freep) Ca *ca = NULL, *again = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *key = NULL;

        place_init(&p);
        ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &ca, NULL));
        key = file(&p, "ca.key");
        ASSERT_OK(unlink(key));
        ASSERT_TRUE(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &again, &error) <
                        0);
        ASSERT_TRUE(kerror_is_set(&error));
}

static void test_a_crash_between_key_and_certificate_is_survived(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_(ca_freep) Ca *ca = NULL, *again = NULL;
        _cleanup_free_ char *pem = NULL;

        place_init(&p);
        ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &ca, NULL));
        pem = file(&p, "ca.pem");
        ASSERT_OK(unlink(pem));
        ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &again, NULL));
}

static void test_server_certificate_is_for_this_machine_and_the_configured_names(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_(ca_freep) Ca *ca = NULL;
        _cleanup_(x509_chain_done) X509Chain authority = {}, server = {}, renamed = {};
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *ca_path = NULL, *server_path = NULL, *of_authority = NULL;
        char *configured[] = { (char *) "master.example", (char *) "192.0.2.7", NULL };

        place_init(&p);
        ASSERT_OK(ca_new(NULL, p.keyring,
                        &(CaConfig){ .state_directory = p.directory, .server_names = configured }, &ca,
                        NULL));
        ca_path = file(&p, "ca.pem");
        server_path = file(&p, "server.pem");
        load(ca_path, &authority);
        load(server_path, &server);
        ASSERT_TRUE(certificate_is_issued_by(server.certificates[0], authority.certificates[0]));
        ASSERT_FALSE(certificate_is_issued_by(authority.certificates[0], server.certificates[0]));
        ASSERT_OK(host_names(configured, &names));
        ASSERT_TRUE(strv_contains(names, "localhost"));
        ASSERT_TRUE(strv_contains(names, "127.0.0.1"));
        /* The kontena client expects the name of the certificate that it was given to trust. */
        ASSERT_OK(certificate_common_name(authority.certificates[0], &of_authority));
        ASSERT_TRUE(gnutls_x509_crt_check_hostname(server.certificates[0], of_authority));
        ASSERT_OK(strv_extend(&names, of_authority));
        ASSERT_TRUE(certificate_has_names(server.certificates[0], names));
        ASSERT_TRUE(gnutls_x509_crt_check_hostname(server.certificates[0], "master.example"));
        ASSERT_TRUE(gnutls_x509_crt_check_hostname(server.certificates[0], "192.0.2.7"));
        ASSERT_FALSE(gnutls_x509_crt_check_hostname(server.certificates[0], "other.example"));

        /* Nothing changed: the same one. Another name: a new one, of the same authority. */
        ASSERT_OK(ca_reload(ca, &(CaConfig){ .state_directory = p.directory, .server_names = configured },
                        NULL));
        load(server_path, &renamed);
        ASSERT_TRUE(gnutls_x509_crt_equals(server.certificates[0], renamed.certificates[0]));
        x509_chain_done(&renamed);
        configured[0] = (char *) "new.example";
        ASSERT_OK(ca_reload(ca, &(CaConfig){ .state_directory = p.directory, .server_names = configured },
                        NULL));
        load(server_path, &renamed);
        ASSERT_TRUE(gnutls_x509_crt_check_hostname(renamed.certificates[0], "new.example"));
        ASSERT_TRUE(certificate_is_issued_by(renamed.certificates[0], authority.certificates[0]));
}

static void test_a_certificate_near_its_end_is_renewed(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_(ca_freep) Ca *ca = NULL;
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL, ca_key = NULL;
        _cleanup_(x509_chain_done) X509Chain authority = {};
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t old = NULL;
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *key_path = NULL, *sealed = NULL, *pem = NULL, *server_path = NULL,
                            *ca_path = NULL;
        _cleanup_free_ void *der = NULL;
        size_t n, m;

        place_init(&p);
        ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &ca, NULL));

        /* One for the same key which ends in 29 days. */
        ca_path = file(&p, "ca.pem");
        load(ca_path, &authority);
        for (unsigned i = 0; i < 2; i++) {
                free(key_path);
                free(sealed);
                free(der);
                key_path = file(&p, i == 0 ? "ca.key" : "server.key");
                ASSERT_OK(read_file(key_path, 65536, &sealed, &n));
                ASSERT_OK(keyring_open(p.keyring, i == 0 ? "ca.key" : "server.key", sealed, n, &der, &m));
                ASSERT_OK(gnutls_x509_privkey_init(i == 0 ? &ca_key : &key));
                ASSERT_OK(gnutls_x509_privkey_import(i == 0 ? ca_key : key,
                                &(gnutls_datum_t){ der, (unsigned) m }, GNUTLS_X509_FMT_DER));
        }
        ASSERT_OK(host_names(NULL, &names));
        ASSERT_OK(certificate_server_new_full(key, authority.certificates[0], ca_key, names,
                        time(NULL) - 61 * DAY, time(NULL) + 29 * DAY, &old, NULL));
        ASSERT_OK(certificate_export_pem(old, &pem));
        server_path = file(&p, "server.pem");
        ASSERT_OK(write_file_atomic(server_path, pem, strlen(pem), 0644));

        ASSERT_OK(ca_reload(ca, &(CaConfig){ .state_directory = p.directory }, NULL));
        ASSERT_TRUE(ca_expires_at(ca) > now_realtime() + 89ULL * DAY * USEC_PER_SEC);
}

static void test_configured_certificate_is_shown(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_(ca_freep) Ca *ca = NULL;
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t key = NULL, other = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL;
        _cleanup_free_ char *pem = NULL, *fingerprint = NULL, *crt_path = NULL, *key_path = NULL,
                            *other_path = NULL, *before = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        gnutls_datum_t d;

        place_init(&p);
        ASSERT_OK(ca_new(NULL, p.keyring, &(CaConfig){ .state_directory = p.directory }, &ca, NULL));
        before = strdup(ca_fingerprint(ca));
        ASSERT_OK(certificate_key_new(&key, NULL));
        ASSERT_OK(certificate_key_new(&other, NULL));
        ASSERT_OK(certificate_node_new(key, &crt, NULL));
        ASSERT_OK(certificate_export_pem(crt, &pem));
        ASSERT_OK(certificate_fingerprint(crt, &fingerprint));
        crt_path = file(&p, "admin.pem");
        key_path = file(&p, "admin.key");
        other_path = file(&p, "other.key");
        ASSERT_OK(write_file_atomic(crt_path, pem, strlen(pem), 0644));
        ASSERT_OK(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &d));
        ASSERT_OK(write_file_atomic(key_path, d.data, d.size, 0600));
        gnutls_free(d.data);
        ASSERT_OK(gnutls_x509_privkey_export2(other, GNUTLS_X509_FMT_PEM, &d));
        ASSERT_OK(write_file_atomic(other_path, d.data, d.size, 0600));
        gnutls_free(d.data);

        /* What cannot be used leaves the old one in use. */
        ASSERT_ERROR(ca_reload(ca,
                                     &(CaConfig){ .state_directory = p.directory,
                                                     .certificate = crt_path,
                                                     .private_key = other_path },
                                     &error),
                        EINVAL);
        ASSERT_TRUE(strstr(kerror_message(&error), "does not belong"));
        ASSERT_TRUE(ca_is_own(ca));
        ASSERT_OK(ca_rotate(ca, NULL)); /* it works on as it was */
        ASSERT_OK(ca_rotation_abort(ca, NULL));
        ASSERT_STREQ(ca_fingerprint(ca), before);
        kerror_done(&error);
        ASSERT_ERROR(ca_reload(ca, &(CaConfig){ .state_directory = p.directory, .certificate = crt_path },
                                     &error),
                        EINVAL);

        ASSERT_OK(ca_reload(ca,
                        &(CaConfig){ .state_directory = p.directory,
                                        .certificate = crt_path,
                                        .private_key = key_path },
                        NULL));
        ASSERT_STREQ(ca_fingerprint(ca), fingerprint);
}

static void assert_signed_by(Ca *ca, const char *fingerprint) {
        gnutls_privkey_t private;
        gnutls_pcert_st *chain;
        unsigned n;

        ASSERT_STREQ(ca_fingerprint(ca), fingerprint);
        ca_get_chain(ca, &chain, &n, &private);
        ASSERT_TRUE(n >= 2 && n <= CERTIFICATE_CROSSES_MAX + 2);
        for (unsigned i = 0; i < n;
                        i += n - 1) { /* the server and its authority; crosses are between them */
                _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t crt = NULL, authority = NULL;
                _cleanup_free_ char *f = NULL;

                ASSERT_OK(gnutls_pcert_export_x509(&chain[i], &crt));
                ASSERT_OK(gnutls_pcert_export_x509(&chain[n - 1], &authority));
                ASSERT_TRUE(certificate_is_issued_by(crt, authority));
                ASSERT_OK(certificate_fingerprint(crt, &f));
                ASSERT_EQ(streq(f, fingerprint), i == n - 1);
        }
}

static Ca *open_ca(Place *p) {
        Ca *ca = NULL;

        ASSERT_OK(ca_new(NULL, p->keyring, &(CaConfig){ .state_directory = p->directory }, &ca, NULL));
        return ca;
}

static void reopen(Place *p, Ca **ca) {
        ca_free(*ca);
        *ca = open_ca(p);
}

static bool exists(const char *path) {
        return access(path, F_OK) >= 0;
}

static void test_the_authority_is_replaced_in_two_steps(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_free_ char *first = NULL, *next = NULL, *old_pem = NULL;
        _cleanup_(ca_freep) Ca *ca = NULL;

        place_init(&p);
        ca = open_ca(&p);
        first = strdup(ca_fingerprint(ca));
        old_pem = strdup(ca_certificate_pem(ca));
        ASSERT_TRUE(!ca_next_fingerprint(ca));
        ASSERT_STREQ(ca_authorities_pem(ca), old_pem);
        ASSERT_TRUE(ca_rotation_finish(ca, NULL) < 0);
        ASSERT_TRUE(ca_rotation_abort(ca, NULL) < 0);

        /* The old one is shown on, and both are to be trusted, over a restart too. */
        ASSERT_OK(ca_rotate(ca, NULL));
        next = strdup(ca_next_fingerprint(ca));
        ASSERT_TRUE(!streq(next, first));
        ASSERT_OK(ca_rotate(ca, NULL));
        for (unsigned i = 0; i < 2; i++) {
                ASSERT_STREQ(ca_next_fingerprint(ca), next);
                assert_signed_by(ca, first);
                ASSERT_TRUE(startswith(ca_authorities_pem(ca), old_pem));
                ASSERT_TRUE(strlen(ca_authorities_pem(ca)) > strlen(old_pem));
                reopen(&p, &ca);
        }

        ASSERT_OK(ca_rotation_finish(ca, NULL));
        for (unsigned i = 0; i < 2; i++) {
                assert_signed_by(ca, next);
                ASSERT_TRUE(!ca_next_fingerprint(ca));
                ASSERT_STREQ(ca_authorities_pem(ca), ca_certificate_pem(ca));
                reopen(&p, &ca);
        }

        ASSERT_OK(ca_rotate(ca, NULL));
        ASSERT_OK(ca_rotation_abort(ca, NULL));
        assert_signed_by(ca, next);
        ASSERT_TRUE(!ca_next_fingerprint(ca));
}

/* Each state that a death between two steps leaves on the disk. */
static void test_deaths_while_the_authority_is_replaced(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_free_ char *next_pem = NULL, *next_key = NULL, *pem = NULL, *key = NULL, *first = NULL;
        _cleanup_(ca_freep) Ca *ca = NULL;

        place_init(&p);
        next_pem = file(&p, "next-ca.pem");
        next_key = file(&p, "next-ca.key");
        pem = file(&p, "ca.pem");
        key = file(&p, "ca.key");
        ca = open_ca(&p);
        first = strdup(ca_fingerprint(ca));

        /* The key was made and its certificate was not; or it was given up, and the certificate was removed. */
        ASSERT_OK(ca_rotate(ca, NULL));
        ASSERT_OK(unlink(next_pem));
        reopen(&p, &ca);
        assert_signed_by(ca, first);
        ASSERT_TRUE(!ca_next_fingerprint(ca) && !exists(next_key));

        /* The certificate was renamed and the key was not; or both were, and the server's certificate is the old one. */
        for (unsigned both = 0; both < 2; both++) {
                _cleanup_free_ char *second = NULL;

                ASSERT_OK(ca_rotate(ca, NULL));
                second = strdup(ca_next_fingerprint(ca));
                ASSERT_OK(rename(next_pem, pem));
                if (both)
                        ASSERT_OK(rename(next_key, key));
                reopen(&p, &ca);
                assert_signed_by(ca, second);
                ASSERT_TRUE(!ca_next_fingerprint(ca) && !exists(next_key));
        }

        /* Somebody has removed the key. */
        free(first);
        first = strdup(ca_fingerprint(ca));
        ASSERT_OK(ca_rotate(ca, NULL));
        ASSERT_OK(unlink(next_key));
        reopen(&p, &ca);
        assert_signed_by(ca, first);
        ASSERT_TRUE(!ca_next_fingerprint(ca) && !exists(next_pem));
}

/* What is announced is what is to be trusted, and what is shown is of the authority that is said to be in use. */
static void assert_consistent(Ca *ca) {
        const char *pem = ca_certificate_pem(ca), *all = ca_authorities_pem(ca);

        assert_signed_by(ca, ca_fingerprint(ca));
        ASSERT_TRUE(startswith(all, pem));
        ASSERT_EQ(strlen(all) > strlen(pem), ca_next_fingerprint(ca) != NULL);
}

typedef enum After { AFTER_AGAIN, AFTER_REOPEN, AFTER_ABORT, _AFTER_MAX } After;

/* One step, on a disk that fails at its call number n, and what may come behind. Returns whether it has come so far. */
static bool fail_at(int (*step)(Ca *, KError *), bool begun, unsigned n, bool broken, After after) {
        _cleanup_place_ Place p = {};
        _cleanup_free_ char *first = NULL, *next = NULL;
        _cleanup_(ca_freep) Ca *ca = NULL;
        bool reached;
        int r;

        place_init(&p);
        ca = open_ca(&p);
        first = strdup(ca_fingerprint(ca));
        if (begun) {
                ASSERT_OK(ca_rotate(ca, NULL));
                next = strdup(ca_next_fingerprint(ca));
        }

        disk.calls = 0;
        disk.fail_at = n;
        disk.broken = broken;
        r = step(ca, NULL);
        reached = disk.calls >= n;
        disk.fail_at = 0;

        assert_consistent(ca);
        if (r < 0)
                ASSERT_STREQ(ca_fingerprint(ca), first);
        if (r < 0 && !begun)
                ASSERT_TRUE(!ca_next_fingerprint(ca));
        if (after == AFTER_REOPEN) {
                reopen(&p, &ca);
                assert_consistent(ca);
        }
        if (after == AFTER_ABORT && begun) {
                r = ca_rotation_abort(ca, NULL);
                assert_consistent(ca);
                ASSERT_TRUE(!ca_next_fingerprint(ca));
                ASSERT_STREQ(ca_fingerprint(ca), r >= 0 || step == ca_rotation_abort ? first : next);
        } else if (!begun || ca_next_fingerprint(ca)) {
                ASSERT_OK(step(ca, NULL));
                assert_consistent(ca);
                ASSERT_EQ(ca_next_fingerprint(ca) != NULL, !begun);
        }
        if (begun && after != AFTER_ABORT)
                ASSERT_STREQ(ca_fingerprint(ca), step == ca_rotation_abort ? first : next);

        /* And everything works behind it, for the one that comes next as well. */
        reopen(&p, &ca);
        assert_consistent(ca);
        ASSERT_OK(ca_rotate(ca, NULL));
        ASSERT_OK(ca_rotation_finish(ca, NULL));
        assert_consistent(ca);
        return reached;
}

static void test_each_step_can_fail_and_be_taken_again(void **state) {
        static const struct {
                int (*step)(Ca *, KError *);
                bool begun;
                unsigned calls; /* at least */
        } steps[] = {
                { ca_rotate, false, 6 },
                { ca_rotation_finish, true, 10 },
                { ca_rotation_abort, true, 2 },
        };

        log_set_max_level(LOG_CRIT);
        FOREACH_ARRAY(s, steps, ELEMENTSOF(steps))
                for (unsigned broken = 0; broken < 2; broken++)
                        for (After a = 0; a < _AFTER_MAX; a++) {
                                unsigned n = 1;

                                while (fail_at(s->step, s->begun, n, broken, a))
                                        n++;
                                ASSERT_TRUE(n > s->calls);
                        }
}

/* The next authority is known only with those that nodes are told to trust: else it would be put in place as if they had been. */
static void test_a_next_authority_that_cannot_be_used_is_not_announced(void **state) {
        _cleanup_place_ Place p = {};
        _cleanup_free_ char *key = NULL, *kept = NULL;
        _cleanup_(ca_freep) Ca *ca = NULL;

        place_init(&p);
        ca = open_ca(&p);
        key = file(&p, "ca.key");
        kept = file(&p, "kept");
        ASSERT_OK(rename(key, kept));
        ASSERT_TRUE(ca_rotate(ca, NULL) < 0);
        assert_consistent(ca);
        ASSERT_TRUE(!ca_next_fingerprint(ca));
        ASSERT_TRUE(ca_rotation_finish(ca, NULL) < 0);

        ASSERT_OK(rename(kept, key));
        ASSERT_OK(ca_rotate(ca, NULL));
        assert_consistent(ca);
        ASSERT_OK(ca_rotation_finish(ca, NULL));
        assert_consistent(ca);
}

/* As a client does which trusts one authority alone. */
static bool is_verified_by(Ca *ca, const char *pem) {
        gnutls_x509_crt_t chain[CERTIFICATE_CROSSES_MAX + 2];
        _cleanup_(x509_chain_done) X509Chain trusted = {};
        gnutls_x509_trust_list_t list;
        gnutls_privkey_t private;
        gnutls_pcert_st *shown;
        unsigned n, status = 0;

        ASSERT_OK(x509_chain_import(&trusted, pem, strlen(pem)));
        ca_get_chain(ca, &shown, &n, &private);
        ASSERT_TRUE(n <= ELEMENTSOF(chain));
        for (unsigned i = 0; i < n; i++)
                ASSERT_OK(gnutls_pcert_export_x509(&shown[i], &chain[i]));
        ASSERT_OK(gnutls_x509_trust_list_init(&list, 0));
        ASSERT_EQ(gnutls_x509_trust_list_add_cas(list, trusted.certificates, trusted.n, 0), 1);
        ASSERT_OK(gnutls_x509_trust_list_verify_crt(list, chain, n, 0, &status, NULL));
        gnutls_x509_trust_list_deinit(list, 0);
        for (unsigned i = 0; i < n; i++)
                gnutls_x509_crt_deinit(chain[i]);
        return status == 0;
}

static void test_who_trusts_a_replaced_authority_follows(void **state) {
        char *pems[4] = {};
        _cleanup_place_ Place p = {}, stranger = {};
        _cleanup_(ca_freep) Ca *ca = NULL, *other = NULL;
        _cleanup_free_ char *path = NULL;

        place_init(&p);
        place_init(&stranger);
        ca = open_ca(&p);
        other = open_ca(&stranger);
        path = file(&p, "cross.pem");
        for (unsigned i = 0; i < ELEMENTSOF(pems); i++) {
                pems[i] = strdup(ca_certificate_pem(ca));
                for (unsigned j = 0; j <= i; j++)
                        ASSERT_EQ(is_verified_by(ca, pems[j]), i - j <= CERTIFICATE_CROSSES_MAX);
                ASSERT_TRUE(!is_verified_by(ca, ca_certificate_pem(other)));

                ASSERT_OK(ca_rotate(ca, NULL));
                ASSERT_TRUE(is_verified_by(ca, pems[i]));
                if (i == 1) { /* given up: nobody vouches for what did not come */
                        ASSERT_OK(ca_rotation_abort(ca, NULL));
                        ASSERT_TRUE(is_verified_by(ca, pems[0]));
                        ASSERT_OK(ca_rotate(ca, NULL));
                }
                ASSERT_OK(ca_rotation_finish(ca, NULL));
                reopen(&p, &ca);
        }

        /* What is no certificate, or vouches for another authority, is not shown. */
        ASSERT_OK(write_file_atomic(path, "no\n", 3, 0644));
        reopen(&p, &ca);
        ASSERT_TRUE(!is_verified_by(ca, pems[ELEMENTSOF(pems) - 1]));
        ASSERT_TRUE(is_verified_by(ca, ca_certificate_pem(ca)));
        ASSERT_OK(write_file_atomic(path, pems[0], strlen(pems[0]), 0644));
        reopen(&p, &ca);
        ASSERT_TRUE(!is_verified_by(ca, pems[0]));
        ASSERT_TRUE(is_verified_by(ca, ca_certificate_pem(ca)));
        FOREACH_ARRAY(pem, pems, ELEMENTSOF(pems))
                free(*pem);
}

static void test_what_a_cross_certificate_says(void **state) {
        _cleanup_(x509_privkey_deinitp) gnutls_x509_privkey_t old_key = NULL, key = NULL;
        _cleanup_(x509_crt_deinitp) gnutls_x509_crt_t old = NULL, next = NULL, cross = NULL;
        unsigned usage, is_ca;
        int length;

        ASSERT_OK(certificate_key_new(&old_key, NULL));
        ASSERT_OK(certificate_key_new(&key, NULL));
        ASSERT_OK(certificate_authority_new(old_key, &old, NULL));
        ASSERT_OK(certificate_authority_new(key, &next, NULL));
        ASSERT_OK(certificate_cross_new(next, key, old, old_key, &cross, NULL));
        ASSERT_TRUE(certificate_has_key_of(cross, next) && !certificate_has_key_of(cross, old));
        ASSERT_TRUE(certificate_is_issued_by(cross, old) && !certificate_is_issued_by(cross, next));
        ASSERT_OK(gnutls_x509_crt_get_basic_constraints(cross, NULL, &is_ca, &length));
        ASSERT_TRUE(is_ca && length > 0);
        ASSERT_OK(gnutls_x509_crt_get_key_usage(cross, &usage, NULL));
        ASSERT_EQ(usage, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
        ASSERT_TRUE(certificate_expires_at(cross) < now_realtime() + 91ULL * DAY * USEC_PER_SEC);
        ASSERT_TRUE(certificate_expires_at(cross) > now_realtime() + 89ULL * DAY * USEC_PER_SEC);
}

KONTENA_TESTS(cmocka_unit_test(test_made_once_and_the_key_is_sealed),
                cmocka_unit_test(test_another_master_key_is_not_a_new_authority),
                cmocka_unit_test(test_a_lost_key_is_not_a_new_authority),
                cmocka_unit_test(test_a_crash_between_key_and_certificate_is_survived),
                cmocka_unit_test(test_server_certificate_is_for_this_machine_and_the_configured_names),
                cmocka_unit_test(test_a_certificate_near_its_end_is_renewed),
                cmocka_unit_test(test_configured_certificate_is_shown),
                cmocka_unit_test(test_the_authority_is_replaced_in_two_steps),
                cmocka_unit_test(test_deaths_while_the_authority_is_replaced),
                cmocka_unit_test(test_each_step_can_fail_and_be_taken_again),
                cmocka_unit_test(test_a_next_authority_that_cannot_be_used_is_not_announced),
                cmocka_unit_test(test_who_trusts_a_replaced_authority_follows),
                cmocka_unit_test(test_what_a_cross_certificate_says))
